#include "tensor.h"

#include "../runtime/base/half.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t tensor_type_size(const char *type_name, tensor_type *type)
{
    static const struct {
        const char *name;
        tensor_type type;
        size_t size;
    } types[] = {
        {"F32", TENSOR_F32, 4},   {"F16", TENSOR_F16, 2},       {"BF16", TENSOR_BF16, 2},
        {"F64", TENSOR_F64, 8},   {"BOOL", TENSOR_OTHER, 1},    {"U8", TENSOR_OTHER, 1},
        {"I8", TENSOR_OTHER, 1},  {"F8_E4M3", TENSOR_OTHER, 1}, {"F8_E5M2", TENSOR_OTHER, 1},
        {"I16", TENSOR_OTHER, 2}, {"U16", TENSOR_OTHER, 2},     {"I32", TENSOR_OTHER, 4},
        {"U32", TENSOR_OTHER, 4}, {"I64", TENSOR_OTHER, 8},     {"U64", TENSOR_OTHER, 8},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, type_name) == 0) {
            *type = types[i].type;
            return types[i].size;
        }
    return 0;
}

size_t tensor_count(const tensor *t)
{
    size_t count = 1;
    for (int i = 0; i < t->rank; i++)
        count *= (size_t)t->shape[i];
    return count;
}

/* Prints a shape such as "[3, 64]"; -1 prints as "any". */
static void print_shape(char *text, size_t size, int rank, const int64_t *shape)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && used < size; i++) {
        const char *comma = i ? ", " : "";
        used += (size_t)(shape[i] < 0
                             ? snprintf(text + used, size - used, "%sany", comma)
                             : snprintf(text + used, size - used, "%s%lld", comma, (long long)shape[i]));
    }
    if (used < size)
        snprintf(text + used, size - used, "]");
}

xq_status tensor_expect_shape(const tensor *t, int rank, const int64_t *shape, error *err)
{
    int same = t->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = shape[i] < 0 || t->shape[i] == shape[i];
    if (same)
        return XQ_OK;
    char found[160], needed[160];
    print_shape(found, sizeof found, t->rank, t->shape);
    print_shape(needed, sizeof needed, rank, shape);
    error_set(err, XQ_ERROR_FORMAT, "file", "%s: tensor %s has shape %s, needs %s", t->file ? t->file : "?",
              t->name, found, needed);
    error_at(err, t->file ? t->file : "", 0);
    return error_field(err, t->name);
}

static float value_at(const tensor *t, size_t i)
{
    const uint8_t *bytes = t->data;
    uint16_t half;
    float single;
    double precise;
    switch (t->type) {
    case TENSOR_F32:
        memcpy(&single, bytes + 4 * i, sizeof single);
        return single;
    case TENSOR_F64:
        memcpy(&precise, bytes + 8 * i, sizeof precise);
        return (float)precise;
    default:
        memcpy(&half, bytes + 2 * i, sizeof half);
        return t->type == TENSOR_F16 ? half_to_float(half) : half_from_bfloat(half);
    }
}

/* Refuses a value that is not finite. A finite F64 may be beyond the range of F32. */
static void refuse_value(const tensor *t, size_t index, float value, error *err)
{
    const char *file = t->file ? t->file : "?";
    double precise = value;
    if (t->type == TENSOR_F64)
        memcpy(&precise, (const uint8_t *)t->data + 8 * index, sizeof precise);
    if (isfinite(precise))
        error_set(
            err, XQ_ERROR_FORMAT, "file",
            "%s: tensor %s holds %.6g at index %zu, beyond the range of F32; valid: values up to %.6g",
            file, t->name, precise, index, (double)FLT_MAX);
    else
        error_set(err, XQ_ERROR_FORMAT, "file",
                  "%s: tensor %s holds %s at index %zu; every value must be finite", file, t->name,
                  isnan(value) ? "NaN" : "an infinity", index);
}

xq_status tensor_to_floats(const tensor *t, int finite, float **out, error *err)
{
    const char *file = t->file ? t->file : "?";
    if (t->type == TENSOR_OTHER)
        error_set(err, XQ_ERROR_FORMAT, "file", "%s: tensor %s has type %s, needs F32, F16, BF16 or F64",
                  file, t->name, t->type_name);
    size_t count = tensor_count(t);
    float *values = err->status == XQ_OK ? malloc(sizeof *values * (count + 1)) : NULL;
    if (err->status == XQ_OK && !values)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory for tensor %s", file, t->name);
    for (size_t i = 0; values && i < count; i++) {
        values[i] = value_at(t, i);
        if (finite && !isfinite(values[i])) {
            refuse_value(t, i, values[i], err);
            break;
        }
    }
    if (err->status == XQ_OK) {
        *out = values;
        return XQ_OK;
    }
    free(values);
    error_at(err, file, 0);
    return error_field(err, t->name);
}
