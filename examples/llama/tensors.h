/* Tensors of a Hugging Face model directory: model.safetensors, or the shards that
 * model.safetensors.index.json names; f32, f16 and bf16. Every fault ends the program with a line. */
#ifndef LLAMA_TENSORS_H
#define LLAMA_TENSORS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tensors tensors;

tensors *tensors_open(const char *directory);
void tensors_close(tensors *t);

/* Its values as f32; the caller frees. The shape must be [rows, cols], or [cols] where rows is 0. */
float *tensors_read(const tensors *t, const char *name, int64_t rows, int64_t cols);

/* A safetensors file that holds one f32 tensor of `rows` rows. Rows are added in order; the file appears
 * under its name when it is closed with all of them. */
typedef struct tensor_writer tensor_writer;
tensor_writer *tensor_writer_open(const char *path, const char *name, int64_t rows, int64_t cols);
void tensor_writer_add(tensor_writer *w, const float *values, int64_t rows);
void tensor_writer_close(tensor_writer *w);

#endif
