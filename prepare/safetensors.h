/* safetensors files (https://huggingface.co/docs/safetensors): reading, memory-mapped, and writing.
 *
 * The reader is strict: it accepts exactly what the format allows, and names file and tensor otherwise, and
 * in the header line and column (gen/json.h). A mapped file must not be changed while it is open. */
#ifndef PREPARE_SAFETENSORS_H
#define PREPARE_SAFETENSORS_H

#include "../runtime/base/publish.h"
#include "tensor.h"

typedef struct safetensors safetensors;

/* Opens a file; or a directory: the shards that its model.safetensors.index.json lists, or without an index
 * its model.safetensors. A model.safetensors that the index does not list is refused. Errors: XQ_ERROR_IO,
 * XQ_ERROR_FORMAT, XQ_ERROR_MEMORY. */
xq_status safetensors_open(const char *path, safetensors **out, error *err);
void safetensors_close(safetensors *s);

/* Tensors in order of their names. Everything belongs to `s`. */
int safetensors_count(const safetensors *s);
const tensor *safetensors_at(const safetensors *s, int index);

/* NULL when there is none of that name. */
const tensor *safetensors_find(const safetensors *s, const char *name);

/* The same, missing being an error that names file and tensor. */
xq_status safetensors_need(const safetensors *s, const char *name, const tensor **out, error *err);

/* Publishes a file of `count` tensors (types F32, F16, BF16, F64). Errors: XQ_ERROR_IO,
 * XQ_ERROR_ARGUMENT, XQ_ERROR_MEMORY. */
xq_status safetensors_write(const char *path, const tensor *tensors, int count, error *err);
/* The same into a file that is begun; the caller commits or abandons it. */
xq_status safetensors_write_to(publication *file, const tensor *tensors, int count, error *err);

#endif
