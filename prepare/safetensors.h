/* Reads safetensors files (https://huggingface.co/docs/safetensors), memory-mapped, and writes them.
 *
 * The reader is strict: it accepts exactly what the format allows. Its errors name file and tensor, and for
 * the header line and column (gen/json.h). A mapped file must not be changed while it is open. */
#ifndef PREPARE_SAFETENSORS_H
#define PREPARE_SAFETENSORS_H

#include "../runtime/base/publish.h"
#include "tensor.h"

typedef struct safetensors safetensors;

/* Opens a file, or a directory: either the shards that its model.safetensors.index.json lists, or without
 * an index its model.safetensors. A directory is refused if it has a model.safetensors that its index
 * does not list. Errors: XQ_ERROR_IO, XQ_ERROR_FORMAT, XQ_ERROR_MEMORY. */
xq_status safetensors_open(const char *path, safetensors **out, error *err);
void safetensors_close(safetensors *s);

/* The tensors in the order of their names. They belong to `s`. */
int safetensors_count(const safetensors *s);
const tensor *safetensors_at(const safetensors *s, int index);

/* NULL if no tensor has that name. */
const tensor *safetensors_find(const safetensors *s, const char *name);

/* Finds a tensor by name; a missing tensor is an error that names file and tensor. */
xq_status safetensors_need(const safetensors *s, const char *name, const tensor **out, error *err);

/* Publishes a file of `count` tensors (types F32, F16, BF16, F64). Errors: XQ_ERROR_IO,
 * XQ_ERROR_ARGUMENT, XQ_ERROR_MEMORY. */
xq_status safetensors_write(const char *path, const tensor *tensors, int count, error *err);
/* Writes the same into a file that has been begun; the caller commits or abandons it. */
xq_status safetensors_write_to(publication *file, const tensor *tensors, int count, error *err);

#endif
