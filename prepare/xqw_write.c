/* Writing .xqw files. */
#include "../runtime/half.h"
#include "publish.h"
#include "xqw.h"
#include "xqw_format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct xqw_writer {
    publication *file;
    cJSON *index, *matrices;
    layer_shape shape;
    tensor_type type;
    char *path;
};

void xqw_abandon(xqw_writer *w)
{
    if (!w)
        return;
    publish_abandon(w->file);
    cJSON_Delete(w->index);
    free(w->path);
    free(w);
}

/* Of a completed spec only what the matrices depend on: tuning and page layout may change under them. */
static bool keep_spec(cJSON *index, const char *spec_json)
{
    static const char *const kept[] = {"method", "groups", "rank_k", "rank_v", "rotation"};
    cJSON *spec = cJSON_Parse(spec_json), *out = cJSON_AddObjectToObject(index, "spec");
    cJSON *model = cJSON_DetachItemFromObjectCaseSensitive(spec, "model");
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    bool ok = cJSON_AddItemToObject(out, "model", model);
    cJSON *cache_out = cJSON_AddObjectToObject(out, "cache");
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(cache, kept[i]);
        if (item)
            cJSON_AddItemToObject(cache_out, kept[i], cJSON_Duplicate(item, 1));
    }
    cJSON_Delete(spec);
    return ok;
}

xq_status xqw_create(const char *path, const char *spec_json, tensor_type type, xqw_writer **out,
                     error *err)
{
    static const uint8_t prefix[XQW_PREFIX_BYTES];
    xqw_writer *w = calloc(1, sizeof *w);
    if (w) {
        w->type = type;
        w->path = strdup(path);
        w->index = cJSON_CreateObject();
    }
    if (!w || !w->path || !keep_spec(w->index, spec_json) ||
        !(w->matrices = cJSON_AddArrayToObject(w->index, "matrices"))) {
        xqw_abandon(w);
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    }
    if (layer_shape_read(spec_json, &w->shape, err) != XQ_OK ||
        publish_begin(path, &w->file, err) != XQ_OK ||
        publish_write(w->file, prefix, sizeof prefix, err) != XQ_OK) {
        xqw_abandon(w);
        return err->status;
    }
    *out = w;
    return XQ_OK;
}

struct storage {
    const char *name, *most;
    size_t element;
};

static struct storage storage_of(tensor_type type)
{
    if (type == TENSOR_F16)
        return (struct storage){"F16", " up to 65504 in size", 2};
    return type == TENSOR_BF16 ? (struct storage){"BF16", "", 2} : (struct storage){"F32", "", 4};
}

/* One value into the file's type; false if that does not hold it. */
static bool store(tensor_type type, float value, char *at)
{
    if (type == TENSOR_F32) {
        memcpy(at, &value, sizeof value);
        return isfinite(value);
    }
    uint16_t bits = type == TENSOR_F16 ? half_from_float(value) : half_to_bfloat(value);
    uint16_t exponent = type == TENSOR_F16 ? 0x7c00 : 0x7f80;
    memcpy(at, &bits, sizeof bits);
    return isfinite(value) && (bits & exponent) != exponent;
}

/* The values as they are stored, or NULL with an error. Caller frees. */
static char *converted(const xqw_writer *w, tensor_type type, int layer, const char *name, size_t count,
                       const float *values, error *err)
{
    struct storage storage = storage_of(type);
    char *data = malloc(count * storage.element + 1);
    if (!data)
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", w->path);
    for (size_t i = 0; data && i < count; i++) {
        if (store(type, values[i], data + i * storage.element))
            continue;
        error_set(err, XQ_ERROR_ARGUMENT, "file",
                  "%s: layer %d: %s holds %g at index %zu; valid are finite values%s", w->path, layer, name,
                  (double)values[i], i, storage.most);
        free(data);
        return NULL;
    }
    return data;
}

static xq_status add(xqw_writer *w, int layer, const layer_part *part, const float *values, error *err)
{
    tensor_type type = part->rows == 1 ? TENSOR_F32 : w->type; /* vectors are small, and used in f32 */
    struct storage storage = storage_of(type);
    size_t count = (size_t)part->rows * (size_t)part->cols, bytes = count * storage.element;
    char *data = converted(w, type, layer, part->name, count, values, err), checksum[20];
    if (!data)
        return err->status;
    uint64_t position = (publish_position(w->file) + XQW_ALIGN - 1) / XQW_ALIGN * XQW_ALIGN;
    snprintf(checksum, sizeof checksum, "%016llx", (unsigned long long)XXH3_64bits(data, bytes));
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddNumberToObject(entry, "layer", layer);
    cJSON_AddStringToObject(entry, "name", part->name);
    cJSON_AddNumberToObject(entry, "rows", part->rows);
    cJSON_AddNumberToObject(entry, "cols", part->cols);
    cJSON_AddStringToObject(entry, "type", storage.name);
    cJSON_AddNumberToObject(entry, "offset", (double)position);
    cJSON_AddStringToObject(entry, "xxh3", checksum);
    cJSON_AddItemToArray(w->matrices, entry);
    publish_pad(w->file, position, err);
    if (err->status == XQ_OK)
        publish_write(w->file, data, bytes, err);
    free(data);
    return err->status;
}

xq_status xqw_add_layer(xqw_writer *w, int layer, const layer_weights *given, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    int count = layer_parts(&w->shape, parts);
    layer_weights all = *given;
    for (int i = 0; i < count && err->status == XQ_OK; i++) {
        const float *values = *layer_member(&all, &parts[i]);
        if (!values)
            error_set(err, XQ_ERROR_ARGUMENT, "file", "%s: layer %d: %s is missing", w->path, layer,
                      parts[i].name);
        else
            add(w, layer, &parts[i], values, err);
    }
    return err->status;
}

static void put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

xq_status xqw_commit(xqw_writer *w, error *err)
{
    uint8_t prefix[XQW_PREFIX_BYTES] = XQW_MAGIC;
    char *text = cJSON_PrintUnformatted(w->index);
    if (!text) {
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", w->path);
    } else {
        size_t size = strlen(text);
        put(prefix + XQW_AT_VERSION, XQW_VERSION, 4);
        put(prefix + XQW_AT_INDEX, publish_position(w->file), 8);
        put(prefix + XQW_AT_INDEX_BYTES, size, 8);
        put(prefix + XQW_AT_INDEX_HASH, XXH3_64bits(text, size), 8);
        if (publish_write(w->file, text, size, err) == XQ_OK)
            publish_patch(w->file, 0, prefix, sizeof prefix, err);
    }
    free(text);
    if (err->status == XQ_OK) {
        publish_commit(w->file, err);
        w->file = NULL;
    }
    xqw_abandon(w);
    return err->status;
}
