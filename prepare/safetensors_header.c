#include "safetensors_header.h"

#include "../gen/json.h"
#include "../runtime/base/lfs_pointer.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file is a little-endian u64 with the header's size, the JSON header, and the tensors' bytes. The size
 * limit is the format's own. */
#define PREFIX_BYTES 8
#define HEADER_LIMIT 100000000u

static xq_status bad(const char *path, const char *tensor_name, error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static xq_status bad(const char *path, const char *tensor_name, error *err, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (tensor_name)
        error_set(err, XQ_ERROR_FORMAT, "file", "%s: tensor %.80s %s", path, tensor_name, what);
    else
        error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s", path, what);
    error_at(err, path, 0);
    return tensor_name ? error_field(err, tensor_name) : err->status;
}

/* Reads a JSON number that is a whole number from 0 to 2^53. */
static bool whole(const cJSON *item, uint64_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > 9007199254740992.0 ||
        item->valuedouble != (double)(uint64_t)item->valuedouble)
        return false;
    *out = (uint64_t)item->valuedouble;
    return true;
}

static xq_status read_shape(const char *path, const cJSON *shape, tensor *t, uint64_t limit,
                            uint64_t *count, error *err)
{
    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) > TENSOR_MAX_RANK)
        return bad(path, t->name, err, "needs a \"shape\" of at most %d numbers", TENSOR_MAX_RANK);
    *count = 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, shape)
    {
        uint64_t n;
        if (!whole(item, &n))
            return bad(path, t->name, err, "has a \"shape\" with something other than whole numbers");
        if (__builtin_mul_overflow(*count, n, count) || (*count > limit && n > 0))
            return bad(path, t->name, err, "has a \"shape\" larger than its file");
        t->shape[t->rank++] = (int64_t)n;
    }
    return XQ_OK;
}

static xq_status read_tensor(const char *path, const cJSON *entry, const uint8_t *data, uint64_t size,
                             tensor *t, error *err)
{
    uint64_t count = 0, begin = 0, end = 0;
    *t = (tensor){.name = entry->string, .file = path};
    if (!cJSON_IsObject(entry))
        return bad(path, t->name, err, "is not described by an object");
    t->type_name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "dtype"));
    if (!t->type_name)
        return bad(path, t->name, err, "needs a \"dtype\", a text");
    /* A tensor of unknown type matters only if it is read; tensor_to_floats then refuses it. */
    size_t element = tensor_type_size(t->type_name, &t->type);
    if (!element)
        t->type = TENSOR_OTHER;
    uint64_t most = element ? size : UINT64_MAX; /* several values of an unknown type may share a byte */
    if (read_shape(path, cJSON_GetObjectItemCaseSensitive(entry, "shape"), t, most, &count, err) != XQ_OK)
        return err->status;
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole(cJSON_GetArrayItem(offsets, 0), &begin) || !whole(cJSON_GetArrayItem(offsets, 1), &end) ||
        end < begin)
        return bad(path, t->name, err, "needs \"data_offsets\": [begin, end] with begin <= end");
    if (end > size)
        return bad(path, t->name, err, "ends at byte %llu of %llu: the file is truncated or damaged",
                   (unsigned long long)end, (unsigned long long)size);
    if (element && end - begin != count * element)
        return bad(path, t->name, err, "has %llu bytes, its type and shape need %llu",
                   (unsigned long long)(end - begin), (unsigned long long)(count * element));
    t->data = data + begin;
    t->bytes = (size_t)(end - begin);
    return XQ_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const tensor *x = a, *y = b;
    const uint8_t *p = x->data, *q = y->data;
    return p < q ? -1 : p > q ? 1 : x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The format requires that tensors cover the data exactly, without gap or overlap. */
static xq_status check_cover(const char *path, tensor *tensors, int count, const uint8_t *data,
                             uint64_t size, error *err)
{
    const uint8_t *end = data;
    qsort(tensors, (size_t)count, sizeof *tensors, by_place);
    for (int i = 0; i < count; i++) {
        const uint8_t *begin = tensors[i].data;
        if (begin < end)
            return bad(path, tensors[i].name, err, "overlaps tensor %.80s", tensors[i - 1].name);
        if (begin > end)
            return bad(path, tensors[i].name, err, "begins at byte %llu, after a gap",
                       (unsigned long long)(begin - data));
        end = begin + tensors[i].bytes;
    }
    if (end != data + size)
        return bad(path, NULL, err, "%llu bytes follow the last tensor",
                   (unsigned long long)(data + size - end));
    qsort(tensors, (size_t)count, sizeof *tensors, by_name);
    return XQ_OK;
}

/* The format allows only strings in __metadata__. */
static xq_status check_metadata(const char *path, const cJSON *header, error *err)
{
    const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(header, "__metadata__"), *value;
    if (metadata && !cJSON_IsObject(metadata))
        return bad(path, NULL, err, "__metadata__ is not an object");
    cJSON_ArrayForEach(value, metadata)
    {
        if (!cJSON_IsString(value))
            return bad(path, NULL, err, "__metadata__ has a value that is not a text: %.80s",
                       value->string);
    }
    return XQ_OK;
}

xq_status safetensors_read_header(const char *path, const mapping *file, cJSON **out, uint64_t *data_at,
                                  error *err)
{
    if (lfs_pointer_refuse(path, file->data, file->size, err) != XQ_OK)
        return err->status;
    if (file->size < PREFIX_BYTES)
        return bad(path, NULL, err, "truncated: %zu bytes are no safetensors file", file->size);
    uint64_t size = 0;
    for (int i = PREFIX_BYTES; i-- > 0;)
        size = size << 8 | file->data[i];
    if (size > HEADER_LIMIT)
        return bad(path, NULL, err,
                   "the header has %llu bytes, and at most %u are allowed; is this a safetensors file?",
                   (unsigned long long)size, HEADER_LIMIT);
    if (size > file->size - PREFIX_BYTES)
        return bad(path, NULL, err, "truncated: the header has %llu bytes, and the file has %zu",
                   (unsigned long long)size, file->size);
    const char *text = (const char *)file->data + PREFIX_BYTES;
    if (size > 0 && *text != '{')
        return bad(path, NULL, err,
                   "the header does not begin with '{', as the header of a safetensors file does");
    cJSON *header = json_parse(text, (size_t)size, path, JSON_STRICT, XQ_ERROR_FORMAT, err);
    if (!header || check_metadata(path, header, err) != XQ_OK) {
        cJSON_Delete(header);
        return err->status;
    }
    *out = header;
    *data_at = PREFIX_BYTES + size;
    return XQ_OK;
}

xq_status safetensors_read_tensors(const char *path, const mapping *file, const cJSON *header,
                                   uint64_t data_at, tensor **out, int *count, error *err)
{
    const uint8_t *data = file->data + data_at;
    uint64_t size = file->size - data_at;
    tensor *tensors = calloc((size_t)cJSON_GetArraySize(header) + 1, sizeof *tensors);
    const cJSON *entry;
    if (!tensors)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    *count = 0;
    cJSON_ArrayForEach(entry, header)
    {
        if (err->status == XQ_OK && strcmp(entry->string, "__metadata__") != 0 &&
            read_tensor(path, entry, data, size, &tensors[*count], err) == XQ_OK)
            ++*count;
    }
    if (err->status == XQ_OK && check_cover(path, tensors, *count, data, size, err) == XQ_OK)
        *out = tensors;
    else
        free(tensors);
    return err->status;
}

xq_status safetensors_parse(const char *path, const mapping *file, cJSON **header, tensor **tensors,
                            int *count, error *err)
{
    uint64_t data_at = 0;
    *header = NULL;
    if (safetensors_read_header(path, file, header, &data_at, err) == XQ_OK &&
        safetensors_read_tensors(path, file, *header, data_at, tensors, count, err) != XQ_OK) {
        cJSON_Delete(*header);
        *header = NULL;
    }
    return err->status;
}
