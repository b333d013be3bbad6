/* Writing safetensors files. */
#include "../runtime/base/publish.h"
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static const char *type_name(tensor_type type)
{
    static const char *const names[] = {"F32", "F16", "BF16", "F64"};
    return type < TENSOR_OTHER ? names[type] : NULL;
}

static cJSON *describe(const tensor *t, uint64_t *end)
{
    cJSON *entry = cJSON_CreateObject(), *shape = cJSON_AddArrayToObject(entry, "shape");
    cJSON_AddStringToObject(entry, "dtype", type_name(t->type));
    for (int i = 0; i < t->rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[i]));
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*end));
    *end += t->bytes;
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*end));
    return entry;
}

/* The header's text, or NULL without memory. Caller frees. */
static char *header_text(const tensor *tensors, int count, const char *const *metadata)
{
    cJSON *header = cJSON_CreateObject();
    uint64_t end = 0;
    if (metadata) {
        cJSON *pairs = cJSON_AddObjectToObject(header, "__metadata__");
        for (; metadata[0]; metadata += 2)
            cJSON_AddStringToObject(pairs, metadata[0], metadata[1]);
    }
    for (int i = 0; i < count; i++)
        cJSON_AddItemToObject(header, tensors[i].name, describe(&tensors[i], &end));
    char *text = cJSON_PrintUnformatted(header);
    cJSON_Delete(header);
    return text;
}

static xq_status check(const char *path, const tensor *tensors, int count, error *err)
{
    for (int i = 0; i < count; i++) {
        tensor_type type;
        const tensor *t = &tensors[i];
        const char *name = type_name(t->type);
        if (!name || t->bytes != tensor_count(t) * tensor_type_size(name, &type))
            return error_set(err, XQ_ERROR_ARGUMENT, "file",
                             "%s: tensor %s: bytes, type and shape do not agree", path, t->name);
    }
    return XQ_OK;
}

xq_status safetensors_write_to(publication *file, const tensor *tensors, int count,
                               const char *const *metadata, error *err)
{
    const char *path = publish_path(file);
    if (check(path, tensors, count, err) != XQ_OK)
        return err->status;
    char *text = header_text(tensors, count, metadata);
    if (!text)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    /* Spaces after the JSON align the data to 64 bytes. */
    size_t length = strlen(text), padded = (length + 8 + 63) / 64 * 64 - 8;
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    publish_write(file, prefix, sizeof prefix, err);
    publish_write(file, text, length, err);
    while (length++ < padded)
        publish_write(file, " ", 1, err);
    for (int i = 0; i < count; i++)
        publish_write(file, tensors[i].data, tensors[i].bytes, err);
    free(text);
    return err->status;
}

xq_status safetensors_write(const char *path, const tensor *tensors, int count, const char *const *metadata,
                            error *err)
{
    publication *file;
    if (publish_begin(path, &file, err) != XQ_OK)
        return err->status;
    if (safetensors_write_to(file, tensors, count, metadata, err) == XQ_OK)
        publish_commit(file, err);
    else
        publish_abandon(file);
    return err->status;
}
