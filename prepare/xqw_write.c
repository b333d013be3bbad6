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
    static const char *const kept[] = {"method", "groups", "rank_k", "rank_v"};
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
    if (publish_begin(path, &w->file, err) != XQ_OK ||
        publish_write(w->file, prefix, sizeof prefix, err) != XQ_OK) {
        xqw_abandon(w);
        return err->status;
    }
    *out = w;
    return XQ_OK;
}

/* The values in the file's type, or NULL with an error. Caller frees. */
static void *converted(const xqw_writer *w, int layer, const char *name, size_t count, const float *values,
                       error *err)
{
    size_t element = w->type == TENSOR_F16 ? 2 : 4;
    void *data = malloc(count * element + 1);
    if (!data)
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", w->path);
    for (size_t i = 0; data && i < count; i++) {
        uint16_t half = half_from_float(values[i]);
        bool fits = w->type == TENSOR_F16 ? (half & 0x7c00) != 0x7c00 : isfinite(values[i]) != 0;
        if (!fits) {
            error_set(err, XQ_ERROR_ARGUMENT, "file",
                      "%s: layer %d: %s holds %g at index %zu; valid are finite values%s", w->path, layer,
                      name, (double)values[i], i, w->type == TENSOR_F16 ? " up to 65504 in size" : "");
            free(data);
            return NULL;
        }
        if (w->type == TENSOR_F16)
            memcpy((char *)data + 2 * i, &half, 2);
        else
            memcpy((char *)data + 4 * i, &values[i], 4);
    }
    return data;
}

xq_status xqw_add(xqw_writer *w, int layer, const char *name, int rows, int cols, const float *values,
                  error *err)
{
    size_t count = (size_t)rows * (size_t)cols, bytes = count * (w->type == TENSOR_F16 ? 2 : 4);
    void *data = converted(w, layer, name, count, values, err);
    if (!data)
        return err->status;
    uint64_t position = (publish_position(w->file) + XQW_ALIGN - 1) / XQW_ALIGN * XQW_ALIGN;
    char checksum[20];
    snprintf(checksum, sizeof checksum, "%016llx", (unsigned long long)XXH3_64bits(data, bytes));
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddNumberToObject(entry, "layer", layer);
    cJSON_AddStringToObject(entry, "name", name);
    cJSON_AddNumberToObject(entry, "rows", rows);
    cJSON_AddNumberToObject(entry, "cols", cols);
    cJSON_AddStringToObject(entry, "type", w->type == TENSOR_F16 ? "F16" : "F32");
    cJSON_AddNumberToObject(entry, "offset", (double)position);
    cJSON_AddStringToObject(entry, "xxh3", checksum);
    cJSON_AddItemToArray(w->matrices, entry);
    publish_pad(w->file, position, err);
    if (err->status == XQ_OK)
        publish_write(w->file, data, bytes, err);
    free(data);
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
