/* The header of one safetensors file: checked, and turned into tensors. */
#ifndef PREPARE_SAFETENSORS_HEADER_H
#define PREPARE_SAFETENSORS_HEADER_H

#include "mapping.h"
#include "tensor.h"

#include <cjson/cJSON.h>

/* *tensors (sorted by name; caller frees) point into `file`, *header (caller deletes) and `path`. */
xq_status safetensors_parse(const char *path, const mapping *file, cJSON **header, tensor **tensors,
                            int *count, error *err);

#endif
