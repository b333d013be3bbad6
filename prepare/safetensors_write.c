/* Writes safetensors files. */
#include "../runtime/base/publish.h"
#include "safetensors.h"
#include "safetensors_header.h"

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
    cJSON_AddStringToObject(entry, "dtype", t->type == TENSOR_OTHER ? t->type_name : type_name(t->type));
    for (int i = 0; i < t->rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[i]));
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*end));
    *end += t->bytes;
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*end));
    return entry;
}

char *safetensors_make_header(const tensor *tensors, int count, const cJSON *metadata, size_t align,
                              size_t *bytes)
{
    cJSON *header = cJSON_CreateObject();
    uint64_t end = 0;
    if (metadata)
        cJSON_AddItemReferenceToObject(header, "__metadata__", (cJSON *)metadata);
    for (int i = 0; i < count; i++)
        cJSON_AddItemToObject(header, tensors[i].name, describe(&tensors[i], &end));
    char *text = cJSON_PrintUnformatted(header), *all = NULL;
    cJSON_Delete(header);
    size_t length = text ? strlen(text) : 0;
    *bytes = (8 + length + align - 1) / align * align;
    if (text && (all = malloc(*bytes + 1))) {
        for (int i = 0; i < 8; i++)
            all[i] = (char)((uint64_t)(*bytes - 8) >> 8 * i);
        memcpy(all + 8, text, length);
        memset(all + 8 + length, ' ', *bytes - 8 - length);
        all[*bytes] = 0;
    }
    free(text);
    return all;
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

xq_status safetensors_write_to(publication *file, const tensor *tensors, int count, error *err)
{
    const char *path = publish_path(file);
    if (check(path, tensors, count, err) != XQ_OK)
        return err->status;
    size_t bytes;
    char *header = safetensors_make_header(tensors, count, NULL, 64, &bytes);
    if (!header)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    publish_write(file, header, bytes, err);
    for (int i = 0; i < count; i++)
        publish_write(file, tensors[i].data, tensors[i].bytes, err);
    free(header);
    return err->status;
}

xq_status safetensors_write(const char *path, const tensor *tensors, int count, error *err)
{
    publication *file;
    if (publish_begin(path, &file, err) != XQ_OK)
        return err->status;
    if (safetensors_write_to(file, tensors, count, err) == XQ_OK)
        publish_commit(file, err);
    else
        publish_abandon(file);
    return err->status;
}
