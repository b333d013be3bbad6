/* Records of .xqw files: read, and checked against what the head promises. */
#include "../runtime/base/lfs_pointer.h"
#include "packing.h"
#include "xqw_format.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

uint64_t xqw_align(uint64_t position)
{
    return (position + XQW_ALIGN - 1) / XQW_ALIGN * XQW_ALIGN;
}

xq_status xqw_bad(const xqw_source *s, error *err, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s", s->path, what);
    return error_at(err, s->path, 0);
}

static xq_status no_memory(const xqw_source *s, error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", s->path);
}

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

xq_status xqw_read_prefix(const xqw_source *s, uint64_t *bytes, error *err)
{
    const uint8_t *prefix = s->file.data;
    if (lfs_pointer_refuse(s->path, s->file.data, s->file.size, err) != XQ_OK)
        return err->status;
    if (s->file.size < 8 || memcmp(prefix, XQW_MAGIC, 8) != 0)
        return xqw_bad(s, err, "not an .xqw file; `xq prepare` writes them");
    if (s->file.size < XQW_PREFIX_BYTES)
        return xqw_bad(s, err, "truncated: %zu bytes", s->file.size);
    unsigned version = (unsigned)get(prefix + XQW_AT_VERSION, 4);
    if (version != XQW_VERSION)
        return xqw_bad(s, err, "version %u; this xq reads version %d: run `xq prepare` again", version,
                       XQW_VERSION);
    if (XXH3_64bits(prefix, XQW_AT_HASH) != get(prefix + XQW_AT_HASH, 8))
        return xqw_bad(s, err, "damaged: the checksum of its beginning does not match");
    *bytes = get(prefix + XQW_AT_BYTES, 8);
    return XQ_OK;
}

/* ---------------------------------------------------------------- records */

xq_status xqw_read_record(const xqw_source *s, uint64_t at, const char *what, xqw_record *out, error *err)
{
    const uint8_t *data = s->file.data;
    if (at > s->file.size || s->file.size - at < XQW_RECORD_BYTES)
        return xqw_bad(s, err, "truncated: %s is not there", what);
    uint64_t size = get(data + at, 8), room = s->file.size - at - XQW_RECORD_BYTES;
    if (size > room)
        return xqw_bad(s, err, "truncated or damaged: %s is not whole", what);
    xqw_record r = {.text = (const char *)data + at + XQW_RECORD_BYTES, .size = (size_t)size};
    if (XXH3_64bits(r.text, r.size) != get(data + at + 8, 8))
        return xqw_bad(s, err, "damaged: the checksum of %s does not match", what);
    r.blobs = xqw_align(at + XQW_RECORD_BYTES + size);
    r.json = cJSON_ParseWithLength(r.text, r.size);
    if (!cJSON_IsObject(r.json)) {
        cJSON_Delete(r.json);
        return xqw_bad(s, err, "damaged: %s is no JSON object", what);
    }
    *out = r;
    return XQ_OK;
}

static bool whole(const cJSON *object, const char *name, uint64_t *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > 9007199254740992.0 ||
        item->valuedouble != (double)(uint64_t)item->valuedouble)
        return false;
    *value = (uint64_t)item->valuedouble;
    return true;
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* ------------------------------------------------------------------- head */

static xq_status read_method(const xqw_source *s, xqw_head *h, const cJSON *entry, error *err)
{
    xqw_method *m = &h->methods[h->method_count];
    const cJSON *packing = cJSON_GetObjectItemCaseSensitive(entry, "packing");
    const cJSON *layout = cJSON_GetObjectItemCaseSensitive(packing, "weights_layout");
    const char *weights = text_of(packing, "weights");
    uint64_t bytes = 0;
    cJSON *spec = cJSON_CreateObject();
    cJSON_AddItemReferenceToObject(spec, "model", cJSON_GetObjectItemCaseSensitive(h->json, "model"));
    cJSON_AddItemReferenceToObject(spec, "cache", cJSON_GetObjectItemCaseSensitive(entry, "cache"));
    m->spec = cJSON_PrintUnformatted(spec);
    cJSON_Delete(spec);
    if (!m->spec)
        return no_memory(s, err);
    h->method_count++;
    error unusable = ERROR_INIT;
    if (layer_shape_read(m->spec, &m->shape, &unusable) != XQ_OK ||
        (packing && (!weights || !whole(layout, "bytes", &bytes))))
        return xqw_bad(s, err, "the head holds no usable spec");
    m->entry = entry;
    m->packed_bytes = (size_t)bytes;
    h->weights = weights;
    return XQ_OK;
}

static xq_status read_numbers(const xqw_source *s, xqw_head *h, error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(h->json, "layers"), *item;
    uint64_t number, all = 0;
    h->layers = malloc(sizeof *h->layers * ((size_t)cJSON_GetArraySize(list) + 1));
    if (!h->layers)
        return no_memory(s, err);
    cJSON_ArrayForEach(item, list)
    {
        number = cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < INT32_MAX
                     ? (uint64_t)item->valuedouble
                     : INT32_MAX;
        if (number == INT32_MAX || (h->layer_count && (int)number <= h->layers[h->layer_count - 1]))
            return xqw_bad(s, err, "the head lists no ascending layers");
        h->layers[h->layer_count++] = (int)number;
    }
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(h->json, "model");
    if (h->layer_count == 0)
        return xqw_bad(s, err, "the head lists no layers");
    if (!whole(model, "num_hidden_layers", &all) || all <= (uint64_t)h->layers[h->layer_count - 1] ||
        all > INT32_MAX)
        all = (uint64_t)h->layers[h->layer_count - 1] + 1;
    h->model_layers = (int)all;
    return XQ_OK;
}

xq_status xqw_head_read(const xqw_source *s, cJSON *json, xqw_head *out, error *err)
{
    xqw_head h = {.json = json};
    const cJSON *methods = cJSON_GetObjectItemCaseSensitive(json, "methods"), *entry;
    uint64_t base = 0;
    int count = cJSON_GetArraySize(methods);
    if (!cJSON_IsArray(methods) || count < 1 || count > XQW_MOST_METHODS ||
        (count == 2) != whole(json, "base_layer", &base))
        xqw_bad(s, err, "the head holds no usable spec");
    else
        read_numbers(s, &h, err);
    cJSON_ArrayForEach(entry, methods)
    {
        if (err->status == XQ_OK)
            read_method(s, &h, entry, err);
    }
    h.matrices = text_of(json, "store") != NULL;
    h.base_layer = base < INT32_MAX ? (int)base : INT32_MAX;
    if (err->status == XQ_OK && !h.matrices && !h.weights)
        xqw_bad(s, err, "the head promises neither matrices nor packed weights");
    if (err->status == XQ_OK)
        *out = h;
    else
        xqw_head_free(&h);
    return err->status;
}

void xqw_head_free(xqw_head *h)
{
    for (int i = 0; i < XQW_MOST_METHODS; i++)
        free(h->methods[i].spec);
    cJSON_Delete(h->json);
    free(h->layers);
    *h = (xqw_head){0};
}

const xqw_method *xqw_method_of(const xqw_head *h, int layer)
{
    return &h->methods[h->method_count == 2 && layer < h->base_layer ? 1 : 0];
}

/* ----------------------------------------------------------------- layers */

/* Offset and checksum of a blob of `bytes`, within [from, end). */
static bool read_place(const cJSON *item, uint64_t from, uint64_t end, uint64_t bytes, xqw_place *p)
{
    const char *checksum = text_of(item, "xxh3");
    char *stop = NULL;
    if (!checksum || strlen(checksum) != 16 || strspn(checksum, "0123456789abcdef") != 16 ||
        !whole(item, "offset", &p->offset) || p->offset % XQW_ALIGN || p->offset < from ||
        p->offset > end || bytes > end - p->offset)
        return false;
    p->bytes = bytes;
    p->hash = strtoull(checksum, &stop, 16);
    return true;
}

/* What is wrong with a layer's record, found while reading it. */
struct reading {
    const xqw_source *s;
    int layer;
    uint64_t from, end;
};

static xq_status read_part(const struct reading *r, const layer_part *part, const cJSON *matrices,
                           xqw_place *out, error *err)
{
    const cJSON *item, *match = NULL;
    uint64_t rows = 0, cols = 0;
    tensor_type type = TENSOR_OTHER;
    int found = 0;
    cJSON_ArrayForEach(item, matrices)
    {
        const char *name = text_of(item, "name");
        if (name && strcmp(name, part->name) == 0) {
            match = item;
            found++;
        }
    }
    if (found != 1)
        return xqw_bad(r->s, err, "layer %d holds %s %d times, needs it once", r->layer, part->name, found);
    if (!whole(match, "rows", &rows) || !whole(match, "cols", &cols) || rows != (uint64_t)part->rows ||
        cols != (uint64_t)part->cols)
        return xqw_bad(r->s, err, "layer %d's %s is [%llu, %llu], needs [%d, %d]", r->layer, part->name,
                       (unsigned long long)rows, (unsigned long long)cols, part->rows, part->cols);
    out->type = text_of(match, "type");
    size_t element = out->type ? tensor_type_size(out->type, &type) : 0;
    if (!element || type == TENSOR_OTHER || !read_place(match, r->from, r->end, rows * cols * element, out))
        return xqw_bad(r->s, err, "damaged: layer %d's %s is not within the file", r->layer, part->name);
    return XQ_OK;
}

static xq_status read_parts(const struct reading *r, const xqw_head *h, xqw_entry *e, error *err)
{
    const xqw_method *m = xqw_method_of(h, r->layer);
    const cJSON *matrices = cJSON_GetObjectItemCaseSensitive(e->json, "matrices");
    const cJSON *packed = cJSON_GetObjectItemCaseSensitive(e->json, "packed");
    layer_part parts[LAYER_MOST_PARTS];
    int count = h->matrices ? layer_parts(&m->shape, parts) : 0;
    for (int i = 0; i < count; i++)
        if (read_part(r, &parts[i], matrices, &e->parts[i], err) != XQ_OK)
            return err->status;
    if (cJSON_GetArraySize(matrices) != count)
        return xqw_bad(r->s, err, "layer %d holds matrices that method %s has no use for", r->layer,
                       layer_method_name(m->shape.method));
    if (m->packed_bytes && !read_place(packed, r->from, r->end, m->packed_bytes, &e->packed))
        return xqw_bad(r->s, err, "damaged: layer %d's packed weights are not within the file", r->layer);
    return XQ_OK;
}

xq_status xqw_entry_read(const xqw_source *s, const xqw_head *head, int layer, uint64_t at, xqw_entry *out,
                         error *err)
{
    char what[32];
    uint64_t number = 0;
    xqw_record record;
    snprintf(what, sizeof what, "layer %d", layer);
    if (xqw_read_record(s, at, what, &record, err) != XQ_OK)
        return err->status;
    xqw_entry e = {.json = record.json, .text_end = at + XQW_RECORD_BYTES + record.size};
    const cJSON *lost_k = cJSON_GetObjectItemCaseSensitive(e.json, "lost_k");
    const cJSON *lost_v = cJSON_GetObjectItemCaseSensitive(e.json, "lost_v");
    if (!whole(e.json, "layer", &number) || number != (uint64_t)layer || !whole(e.json, "end", &e.end) ||
        !cJSON_IsNumber(lost_k) || !cJSON_IsNumber(lost_v))
        xqw_bad(s, err, "damaged: what stands where layer %d should be is another record", layer);
    else if (e.end > s->file.size)
        xqw_bad(s, err, "truncated: layer %d is not whole", layer);
    else {
        const struct reading r = {s, layer, record.blobs, e.end};
        e.lost[0] = lost_k->valuedouble;
        e.lost[1] = lost_v->valuedouble;
        read_parts(&r, head, &e, err);
    }
    if (err->status == XQ_OK)
        *out = e;
    else
        cJSON_Delete(e.json);
    return err->status;
}

void xqw_entry_free(xqw_entry *entry)
{
    cJSON_Delete(entry->json);
    entry->json = NULL;
}

xq_status xqw_verify(const xqw_source *s, const xqw_place *p, int layer, const char *what, error *err)
{
    if (XXH3_64bits(s->file.data + p->offset, (size_t)p->bytes) == p->hash)
        return XQ_OK;
    return xqw_bad(s, err, "damaged: the checksum of layer %d's %s does not match", layer, what);
}
