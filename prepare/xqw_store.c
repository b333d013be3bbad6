/* A layer's matrices as the bytes that a file keeps. */
#include "../runtime/base/half.h"
#include "../runtime/pack.h"
#include "xqw_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct storage {
    const char *name, *most;
    size_t element;
};

static struct storage storage_of(tensor_type type)
{
    switch (type) {
    case TENSOR_F16:
        return (struct storage){"F16", " up to 65504 in size", 2};
    case TENSOR_BF16:
        return (struct storage){"BF16", "", 2};
    default:
        return (struct storage){"F32", "", 4};
    }
}

const char *xqw_type_name(tensor_type type)
{
    return type == TENSOR_OTHER ? NULL : storage_of(type).name;
}

/* ---------------------------------------------------------------- rounding */

/* One value in the file's type, and *value what that holds; false if it does not hold it. */
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

/* Where the types' rounding and a check of the values come together: `rounded` gets what the blob holds. */
static xq_status convert(const char *path, int layer, tensor_type type, const float *values, float *rounded,
                         xqw_blob *blob, error *err)
{
    struct storage storage = storage_of(type);
    size_t count = (size_t)blob->rows * (size_t)blob->cols;
    blob->type = storage.name;
    blob->bytes = count * storage.element;
    blob->data = malloc(blob->bytes);
    if (!blob->data)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    for (size_t i = 0; i < count; i++) {
        rounded[i] = values[i];
        if (!store(type, &rounded[i], (char *)blob->data + i * storage.element))
            return error_set(err, XQ_ERROR_ARGUMENT, "file",
                             "%s: layer %d: %s holds %g at index %zu; valid are finite values%s", path,
                             layer, blob->name, (double)values[i], i, storage.most);
    }
    return XQ_OK;
}

/* Blobs of all parts, and `rounded` (empty) what they hold. */
static xq_status convert_all(const char *path, int layer, const layer_shape *shape, tensor_type type,
                             const layer_weights *given, layer_weights *rounded, xqw_blob *blobs,
                             int *count, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    layer_weights all = *given;
    int most = layer_parts(shape, parts);
    for (int i = 0; i < most && err->status == XQ_OK; i++) {
        const float *values = *layer_member(&all, &parts[i]);
        float **out = layer_member(rounded, &parts[i]);
        blobs[i] = (xqw_blob){.name = parts[i].name, .rows = parts[i].rows, .cols = parts[i].cols};
        *count = i + 1;
        *out = malloc(sizeof **out * (size_t)parts[i].rows * (size_t)parts[i].cols);
        if (!values)
            error_set(err, XQ_ERROR_ARGUMENT, "file", "%s: layer %d: %s is missing", path, layer,
                      parts[i].name);
        else if (!*out)
            error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
        else /* vectors are small, and used in f32 */
            convert(path, layer, parts[i].rows == 1 ? TENSOR_F32 : type, values, *out, &blobs[i], err);
    }
    return err->status;
}

/* ----------------------------------------------------------------- packing */

static xq_status pack(const char *path, int layer, const struct shape *packing,
                      const layer_weights *rounded, xqw_blob *blob, error *err)
{
    error why = ERROR_INIT;
    xq_weights weights = layer_api_weights(rounded);
    *blob = (xqw_blob){.bytes = packing->weights[XQ_FUSED].bytes};
    blob->data = malloc(blob->bytes);
    if (!blob->data)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    if (pack_weights(packing, XQ_FUSED, &weights, blob->data, &why) != XQ_OK)
        error_set(err, why.status, "file", "%s: layer %d: %.900s", path, layer, why.message);
    error_clear(&why);
    return err->status;
}

xq_status xqw_encode(const char *path, int layer, const layer_shape *shape, tensor_type type,
                     const struct shape *packing, const layer_weights *given,
                     xqw_blob blobs[XQW_MOST_BLOBS], int *count, error *err)
{
    layer_weights rounded = {0};
    *count = 0;
    if (convert_all(path, layer, shape, type, given, &rounded, blobs, count, err) == XQ_OK &&
        type == TENSOR_OTHER) {
        xqw_blobs_free(blobs, *count); /* they were made to be checked */
        *count = 0;
    }
    if (err->status == XQ_OK && packing)
        pack(path, layer, packing, &rounded, &blobs[(*count)++], err);
    for (int i = 0; i < *count && err->status == XQ_OK; i++)
        blobs[i].hash = XXH3_64bits(blobs[i].data, blobs[i].bytes);
    layer_weights_free(&rounded);
    return err->status;
}

void xqw_blobs_free(xqw_blob *blobs, int count)
{
    for (int i = 0; i < count; i++)
        free(blobs[i].data);
}
