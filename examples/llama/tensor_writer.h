/* Writes a safetensors file. It appears under its name when it is closed with all of its tensors; where the
 * program ends before, nothing is left of it. One file at a time. */
#ifndef LLAMA_TENSOR_WRITER_H
#define LLAMA_TENSOR_WRITER_H

#include <cjson/cJSON.h>

#include <stdint.h>

typedef struct tensor_shape {
    const char *name, *type; /* F32 or I32 */
    int64_t rows, cols;
} tensor_shape;

typedef struct tensor_writer tensor_writer;

/* `notes`: strings by name, the file's `__metadata__`; NULL for none. */
tensor_writer *tensor_writer_open(const char *path, const cJSON *notes, const tensor_shape *shapes,
                                  int count);

/* The next `count` elements. The tensors follow one another in the order of `shapes`. */
void tensor_writer_add(tensor_writer *w, const void *values, int64_t count);

void tensor_writer_close(tensor_writer *w);

#endif
