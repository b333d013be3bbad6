/* Encodes a layer's tensors as the bytes that a file stores. */
#include "../runtime/base/half.h"
#include "../runtime/host/pack.h"
#include "prepared_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t size_of(tensor_type type)
{
    return type == TENSOR_F16 || type == TENSOR_BF16 ? 2 : 4;
}

/* ---------------------------------------------------------------- rounding */

/* Stores one value in the file's type, and sets *value to the stored value; false if the type cannot hold
 * it. */
static bool store(tensor_type type, float *value, char *at)
{
    if (type == TENSOR_F16 || type == TENSOR_BF16) {
        uint16_t bits = type == TENSOR_F16 ? half_from_float(*value) : half_to_bfloat(*value);
        *value = type == TENSOR_F16 ? half_to_float(bits) : half_from_bfloat(bits);
        memcpy(at, &bits, sizeof bits);
    } else {
        memcpy(at, value, sizeof *value);
    }
    return isfinite(*value);
}

/* Rounds values to the file's type, and checks that the type can hold them. *rounded gets the values that
 * *bytes holds. */
static xq_status convert(const char *path, int layer, const layer_part *part, tensor_type type,
                         const float *values, float **rounded, void **bytes, error *err)
{
    size_t count = (size_t)part->rows * (size_t)part->cols, size = size_of(type);
    float *exact = *rounded = malloc(sizeof *exact * count);
    char *at = *bytes = malloc(size * count);
    if (!exact || !at)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    for (size_t i = 0; i < count; i++, at += size) {
        exact[i] = values[i];
        if (!store(type, &exact[i], at))
            return error_set(err, XQ_ERROR_ARGUMENT, "file",
                             "%s: layer %d: %s holds %g at index %zu; valid: finite values%s", path, layer,
                             part->name, (double)values[i], i,
                             type == TENSOR_F16 ? " up to 65504 in size" : "");
    }
    return XQ_OK;
}

/* Converts all parts; `rounded`, which is empty before, gets the values that their bytes hold. */
static xq_status convert_all(const char *path, int layer, const layer_shape *shape, tensor_type type,
                             const layer_weights *given, layer_weights *rounded, void **data, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    layer_weights all = *given;
    int count = layer_parts(shape, parts);
    for (int i = 0; i < count && err->status == XQ_OK; i++) {
        const float *values = *layer_member(&all, &parts[i]);
        if (!values)
            return error_set(err, XQ_ERROR_ARGUMENT, "file", "%s: layer %d: %s is missing", path, layer,
                             parts[i].name);
        convert(path, layer, &parts[i], parts[i].keep_f32 ? TENSOR_F32 : type, values,
                layer_member(rounded, &parts[i]), &data[i], err);
        if (type == TENSOR_OTHER) { /* the bytes were made only to check the values */
            free(data[i]);
            data[i] = NULL;
        }
    }
    return err->status;
}

/* ----------------------------------------------------------------- packing */

static xq_status pack(const char *path, int layer, const struct shape *packing,
                      const layer_weights *rounded, void **data, error *err)
{
    error why = ERROR_INIT;
    xq_weights weights = layer_api_weights(rounded);
    if (!(*data = malloc(packing->weights[XQ_FUSED].bytes)))
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    if (pack_weights(packing, XQ_FUSED, &weights, *data, &why) != XQ_OK)
        error_set(err, why.status, "file", "%s: layer %d: %.900s", path, layer, why.message);
    error_clear(&why);
    return err->status;
}

xq_status prepared_encode(const char *path, int layer, const layer_shape *shape, tensor_type type,
                          const struct shape *packing, const layer_weights *given, const double lost[2],
                          void *data[PREPARED_MOST_TENSORS], error *err)
{
    layer_weights rounded = {0};
    if (convert_all(path, layer, shape, type, given, &rounded, data, err) == XQ_OK && packing)
        pack(path, layer, packing, &rounded, &data[PREPARED_PACKED], err);
    layer_weights_free(&rounded);
    if (err->status == XQ_OK && !(data[PREPARED_LOST] = malloc(2 * sizeof *lost)))
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    if (err->status == XQ_OK)
        memcpy(data[PREPARED_LOST], lost, 2 * sizeof *lost);
    return err->status;
}
