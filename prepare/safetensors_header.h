/* The header of one safetensors file: checked, and turned into tensors. */
#ifndef PREPARE_SAFETENSORS_HEADER_H
#define PREPARE_SAFETENSORS_HEADER_H

#include "mapping.h"
#include "tensor.h"

#include <cjson/cJSON.h>

/* The JSON object at the beginning of a file (caller deletes), and where the tensors' bytes begin. */
xq_status safetensors_read_header(const char *path, const mapping *file, cJSON **header, uint64_t *data_at,
                                  error *err);

/* The tensors that a header describes, sorted by name; caller frees. They point into `file`, `header` and
 * `path`. */
xq_status safetensors_read_tensors(const char *path, const mapping *file, const cJSON *header,
                                   uint64_t data_at, tensor **tensors, int *count, error *err);

/* Both. *header is the caller's to delete, after *tensors. */
xq_status safetensors_parse(const char *path, const mapping *file, cJSON **header, tensor **tensors,
                            int *count, error *err);

/* The beginning of a file of these tensors, one behind another (`data` does not matter): the size, the
 * JSON, and spaces up to a multiple of `align`, where the tensors' bytes begin. `metadata`: an object of
 * strings, or NULL. Caller frees; NULL when memory runs out. (safetensors_write.c) */
char *safetensors_make_header(const tensor *tensors, int count, const cJSON *metadata, size_t align,
                              size_t *bytes);

#endif
