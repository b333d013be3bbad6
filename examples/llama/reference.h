/* The predictions of a model with an fp16 cache, kept in a file, for caches to be compared with.
 *
 * A file of logits would take gigabytes. This one has what they are computed from by one product with the
 * model's output layer: the hidden state of each token that predicts another one, after the final norm. It
 * is a safetensors file:
 *
 *     tokens  I32 [windows, window]              what was predicted
 *     hidden  F32 [windows * (window - 1), d]
 *
 * Its `__metadata__` has the format, a checksum of the model, windows, window and bos. A file of another
 * model, window, BOS or text is refused. How many tokens were appended at a time is not in it: an fp16
 * cache has the same rows whatever that number is, so one file serves every --chunk. */
#ifndef LLAMA_REFERENCE_H
#define LLAMA_REFERENCE_H

#include "model.h"
#include "tensor_writer.h"

/* A text cut into windows, each a sequence of its own. */
typedef struct token_windows {
    int32_t *ids; /* [count, size] */
    int count, size;
    int bos; /* what each window begins with; -1: nothing of its own */
} token_windows;

/* Begins a file for the first `count` windows. Rows [window - 1, d] of each are added in order. */
tensor_writer *reference_create(const char *path, const char *directory, const model *m,
                                const token_windows *text, int count);

typedef struct reference reference;

/* Ends the program where the file is none, or not of this model and this text. The text may have more or
 * fewer windows than the file. */
reference *reference_open(const char *path, const char *directory, const model *m,
                          const token_windows *text);
void reference_close(reference *r);

int reference_windows(const reference *r);

/* Rows from `row`, counted over all windows: hidden [rows, d]. */
void reference_read(const reference *r, int64_t row, int rows, float *hidden);

#endif
