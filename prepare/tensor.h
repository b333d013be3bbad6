/* Tensors in host memory, as files hold them: a name, a type, a shape, and the values in row-major
 * order. */
#ifndef PREPARE_TENSOR_H
#define PREPARE_TENSOR_H

#include "../runtime/base/error.h"

#include <stddef.h>
#include <stdint.h>

#define TENSOR_MAX_RANK 8

typedef enum tensor_type {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_F64,
    TENSOR_OTHER /* integers, booleans, 8-bit floats, unknown types: not used here */
} tensor_type;

typedef struct tensor {
    const char *name;
    tensor_type type;
    const char *type_name; /* as in the file, e.g. "BF16" */
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
    const void *data; /* may be unaligned */
    size_t bytes;
    const char *file; /* file that it came from, for messages; may be NULL */
} tensor;

/* Returns the element size in bytes of a safetensors type name, and sets its type; returns 0 for an unknown
 * name. */
size_t tensor_type_size(const char *type_name, tensor_type *type);

size_t tensor_count(const tensor *t);

/* Checks that the tensor's shape is the `rank` numbers of `shape`, in which -1 matches any number. Errors:
 * XQ_ERROR_FORMAT naming the file, the tensor, the shape found and the shape needed. */
xq_status tensor_expect_shape(const tensor *t, int rank, const int64_t *shape, error *err);

/* Converts all values to f32 (f64 is rounded); caller frees *values. With `finite`, a NaN or an infinity is
 * refused with its index. Errors: XQ_ERROR_FORMAT, XQ_ERROR_MEMORY. */
xq_status tensor_to_floats(const tensor *t, int finite, float **values, error *err);

#endif
