/* Writes a safetensors file. The file appears under its name when the writer is closed and all tensors are
 * complete. If the program exits before that, the unfinished file is removed. Only one file can be written
 * at a time. */
#ifndef LLAMA_TENSOR_WRITER_H
#define LLAMA_TENSOR_WRITER_H

#include <cjson/cJSON.h>

#include <stdint.h>

typedef struct tensor_shape {
    const char *name, *type; /* F32 or I32 */
    int64_t rows, cols;
} tensor_shape;

typedef struct tensor_writer tensor_writer;

/* `notes` becomes the file's `__metadata__`: an object of strings, or NULL for none. */
tensor_writer *tensor_writer_open(const char *path, const cJSON *notes, const tensor_shape *shapes,
                                  int count);

/* Adds the next `count` elements. The tensors follow one another in the order of `shapes`. */
void tensor_writer_add(tensor_writer *w, const void *values, int64_t count);

void tensor_writer_close(tensor_writer *w);

#endif
