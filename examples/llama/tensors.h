/* Tensors of a Hugging Face model directory: model.safetensors, or the shards that
 * model.safetensors.index.json names; f32, f16 and bf16. Every fault ends the program with a line. */
#ifndef LLAMA_TENSORS_H
#define LLAMA_TENSORS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tensors tensors;

tensors *tensors_open(const char *directory);
tensors *tensors_open_file(const char *path); /* one safetensors file by itself */
void tensors_close(tensors *t);

/* Its values as f32; the caller frees. The shape must be [rows, cols], or [cols] where rows is 0. */
float *tensors_read(const tensors *t, const char *name, int64_t rows, int64_t cols);

/* The bytes of a tensor [rows, cols] of 4-byte elements as they lie in the file, at any alignment, until it
 * is closed. `type`: F32, I32. */
const void *tensors_view(const tensors *t, const char *name, const char *type, int64_t rows, int64_t cols);

/* A string of the first file's `__metadata__`; NULL where there is none. */
const char *tensors_note(const tensors *t, const char *name);

/* A checksum of all bytes of the files. It tells models apart, and is no cryptographic hash. */
uint64_t tensors_checksum(const tensors *t);

#endif
