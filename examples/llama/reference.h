/* A reference: the predictions of a model with an fp16 cache, kept in a file, so that other caches can be
 * compared with them.
 *
 * A file of logits would take gigabytes. The reference stores hidden states instead, after the final norm,
 * for each token that predicts another one. One product with the model's output layer turns them into
 * logits. The file is a safetensors file:
 *
 *     tokens  I32 [windows, window]              the text that was predicted
 *     hidden  F32 [windows * (window - 1), d]
 *
 * Its `__metadata__` has the format, a checksum of the model, windows, window and bos. A file for another
 * model, window, BOS or text is refused. The file does not say how many tokens were appended at a time: an
 * fp16 cache holds the same rows whatever that number is, so one file serves every --chunk. */
#ifndef LLAMA_REFERENCE_H
#define LLAMA_REFERENCE_H

#include "model.h"
#include "tensor_writer.h"

/* A text cut into windows. Each window is a sequence of its own. */
typedef struct token_windows {
    int32_t *ids; /* [count, size] */
    int count, size;
    int bos; /* the token that each window begins with; -1: windows have no BOS */
} token_windows;

/* Begins a file for the first `count` windows. The caller then adds the rows [window - 1, d] of each window
 * in order. */
tensor_writer *reference_create(const char *path, const char *directory, const model *m,
                                const token_windows *text, int count);

typedef struct reference reference;

/* Ends the program if the file is not a reference, or not one of this model and this text. The text may
 * have more or fewer windows than the file. */
reference *reference_open(const char *path, const char *directory, const model *m,
                          const token_windows *text);
void reference_close(reference *r);

int reference_windows(const reference *r);

/* Reads hidden [rows, d], from row `row` on. Rows are counted over all windows. */
void reference_read(const reference *r, int64_t row, int rows, float *hidden);

#endif
