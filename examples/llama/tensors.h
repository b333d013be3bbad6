/* Tensors of a Hugging Face model directory. They are in model.safetensors, or in the shards that
 * model.safetensors.index.json names, as f32, f16 or bf16. Every error ends the program with a message. */
#ifndef LLAMA_TENSORS_H
#define LLAMA_TENSORS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tensors tensors;

tensors *tensors_open(const char *directory);
tensors *tensors_open_file(const char *path); /* a single safetensors file */
void tensors_close(tensors *t);

/* Reads the values of a tensor as f32; the caller frees them. The tensor's shape must be [rows, cols], or
 * [cols] if rows is 0. */
float *tensors_read(const tensors *t, const char *name, int64_t rows, int64_t cols);

/* The bytes of a tensor [rows, cols] of 4-byte elements (`type` F32 or I32), mapped from the file. They may
 * be unaligned, and are valid until tensors_close. */
const void *tensors_view(const tensors *t, const char *name, const char *type, int64_t rows, int64_t cols);

/* A string of the first file's `__metadata__`, or NULL if there is none of this name. */
const char *tensors_note(const tensors *t, const char *name);

/* A checksum of all bytes of the files. It tells models apart, but is not a cryptographic hash. */
uint64_t tensors_checksum(const tensors *t);

#endif
