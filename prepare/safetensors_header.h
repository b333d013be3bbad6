/* The header of one safetensors file: checks it, and turns it into tensors. */
#ifndef PREPARE_SAFETENSORS_HEADER_H
#define PREPARE_SAFETENSORS_HEADER_H

#include "mapping.h"
#include "tensor.h"

#include <cjson/cJSON.h>

/* Reads the JSON object at the beginning of a file (caller deletes it), and the offset where the tensors'
 * bytes begin. */
xq_status safetensors_read_header(const char *path, const mapping *file, cJSON **header, uint64_t *data_at,
                                  error *err);

/* Reads the tensors that a header describes, sorted by name; caller frees the array. They point into
 * `file`, `header` and `path`. */
xq_status safetensors_read_tensors(const char *path, const mapping *file, const cJSON *header,
                                   uint64_t data_at, tensor **tensors, int *count, error *err);

/* Reads the header and its tensors. Caller deletes *header, after it has freed *tensors. */
xq_status safetensors_parse(const char *path, const mapping *file, cJSON **header, tensor **tensors,
                            int *count, error *err);

/* Makes the beginning of a file that holds these tensors one after the other (`data` is not read): the
 * size, the JSON, and spaces up to a multiple of `align`, where the tensors' bytes begin. `metadata` is an
 * object of strings, or NULL. Caller frees; NULL when memory runs out. (safetensors_write.c) */
char *safetensors_make_header(const tensor *tensors, int count, const cJSON *metadata, size_t align,
                              size_t *bytes);

#endif
