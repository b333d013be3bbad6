#include "xqw.h"

#include "mapping.h"
#include "xqw_format.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct xqw {
    char *path, *spec;
    mapping file;
    cJSON *index;
    layer_shape shape;
    uint64_t index_at;
    int *layers;
    int layer_count;
};

static xq_status bad(const xqw *x, error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static xq_status bad(const xqw *x, error *err, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s", x->path, what);
    return error_at(err, x->path, 0);
}

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

/* ---------------------------------------------------------------- opening */

static xq_status read_index(xqw *x, error *err)
{
    const uint8_t *prefix = x->file.data;
    if (x->file.size < 8 || memcmp(prefix, XQW_MAGIC, 8) != 0)
        return bad(x, err, "not an .xqw file; `xq prepare` writes them");
    if (x->file.size < XQW_PREFIX_BYTES)
        return bad(x, err, "truncated: %zu bytes", x->file.size);
    unsigned version = (unsigned)get(prefix + XQW_AT_VERSION, 4);
    if (version != XQW_VERSION)
        return bad(x, err, "version %u; this xq reads version %d: run `xq prepare` again", version,
                   XQW_VERSION);
    uint64_t size = get(prefix + XQW_AT_INDEX_BYTES, 8);
    x->index_at = get(prefix + XQW_AT_INDEX, 8);
    if (x->index_at < XQW_PREFIX_BYTES || x->index_at > x->file.size || size != x->file.size - x->index_at)
        return bad(x, err, "truncated or damaged: the index is not at its end");
    const char *text = (const char *)prefix + x->index_at;
    if (XXH3_64bits(text, (size_t)size) != get(prefix + XQW_AT_INDEX_HASH, 8))
        return bad(x, err, "damaged: the checksum of the index does not match");
    x->index = cJSON_ParseWithLength(text, (size_t)size);
    const cJSON *spec = cJSON_GetObjectItemCaseSensitive(x->index, "spec");
    if (!cJSON_IsObject(spec) || !(x->spec = cJSON_PrintUnformatted(spec)))
        return bad(x, err, "the index holds no spec");
    error unusable = ERROR_INIT;
    if (layer_shape_read(x->spec, &x->shape, &unusable) != XQ_OK)
        return bad(x, err, "the index holds no usable spec");
    return XQ_OK;
}

static bool whole(const cJSON *entry, const char *name, uint64_t *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > 9007199254740992.0 ||
        item->valuedouble != (double)(uint64_t)item->valuedouble)
        return false;
    *value = (uint64_t)item->valuedouble;
    return true;
}

struct place {
    uint64_t layer, rows, cols, offset, bytes;
    const char *name, *type, *checksum;
};

/* An entry of "matrices", every field checked; false if any is wrong. */
static bool read_place(const xqw *x, const cJSON *entry, struct place *p)
{
    tensor_type type;
    p->name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "name"));
    p->type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "type"));
    p->checksum = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "xxh3"));
    if (!p->name || !p->type || !p->checksum || !whole(entry, "layer", &p->layer) ||
        !whole(entry, "rows", &p->rows) || !whole(entry, "cols", &p->cols) ||
        !whole(entry, "offset", &p->offset))
        return false;
    size_t element = tensor_type_size(p->type, &type);
    if (!element || type == TENSOR_OTHER || p->layer > INT32_MAX || p->rows > INT32_MAX ||
        p->cols > INT32_MAX || p->offset % XQW_ALIGN || p->offset < XQW_PREFIX_BYTES ||
        p->offset > x->index_at)
        return false;
    p->bytes = p->rows * p->cols; /* below 2^62 */
    if (p->bytes > x->index_at)
        return false;
    p->bytes *= element;
    return p->bytes <= x->index_at - p->offset;
}

static int by_number(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

/* Every layer has every part once, of its shape, and there is nothing else. */
static xq_status check_complete(xqw *x, int entries, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    int count = layer_parts(&x->shape, parts);
    for (int i = 0; i < x->layer_count; i++) {
        for (int p = 0; p < count; p++) {
            const cJSON *entry;
            int found = 0;
            cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(x->index, "matrices"))
            {
                struct place at;
                if (!read_place(x, entry, &at) || (int)at.layer != x->layers[i] ||
                    strcmp(at.name, parts[p].name) != 0)
                    continue;
                if (at.rows != (uint64_t)parts[p].rows || at.cols != (uint64_t)parts[p].cols)
                    return bad(x, err, "layer %d's %s is [%llu, %llu], needs [%d, %d]", x->layers[i],
                               at.name, (unsigned long long)at.rows, (unsigned long long)at.cols,
                               parts[p].rows, parts[p].cols);
                found++;
            }
            if (found != 1)
                return bad(x, err, "layer %d holds %s %d times, needs it once", x->layers[i], parts[p].name,
                           found);
        }
    }
    if (entries != x->layer_count * count)
        return bad(x, err, "holds matrices that method %s has no use for",
                   layer_method_name(x->shape.method));
    return XQ_OK;
}

static xq_status read_layers(xqw *x, error *err)
{
    const cJSON *matrices = cJSON_GetObjectItemCaseSensitive(x->index, "matrices"), *entry;
    int count = 0;
    x->layers = malloc(sizeof *x->layers * ((size_t)cJSON_GetArraySize(matrices) + 1));
    if (!x->layers)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", x->path);
    if (!cJSON_IsArray(matrices))
        return bad(x, err, "the index lists no matrices");
    cJSON_ArrayForEach(entry, matrices)
    {
        struct place p;
        if (!read_place(x, entry, &p))
            return bad(x, err, "damaged: matrix %d of the index is not within the file", count);
        x->layers[count++] = (int)p.layer;
    }
    qsort(x->layers, (size_t)count, sizeof *x->layers, by_number);
    for (int i = 0; i < count; i++)
        if (i == 0 || x->layers[i] != x->layers[i - 1])
            x->layers[x->layer_count++] = x->layers[i];
    return check_complete(x, count, err);
}

xq_status xqw_open(const char *path, xqw **out, error *err)
{
    xqw *x = calloc(1, sizeof *x);
    if (!x || !(x->path = strdup(path)))
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    else if (mapping_open(path, &x->file, err) == XQ_OK && read_index(x, err) == XQ_OK)
        read_layers(x, err);
    if (err->status == XQ_OK)
        *out = x;
    else
        xqw_close(x);
    return err->status;
}

void xqw_close(xqw *x)
{
    if (!x)
        return;
    mapping_close(&x->file);
    cJSON_Delete(x->index);
    free(x->spec);
    free(x->layers);
    free(x->path);
    free(x);
}

/* ---------------------------------------------------------------- reading */

const char *xqw_spec(const xqw *x)
{
    return x->spec;
}

const char *xqw_path(const xqw *x)
{
    return x->path;
}

int xqw_model_layers(const xqw *x)
{
    const cJSON *spec = cJSON_GetObjectItemCaseSensitive(x->index, "spec");
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(model, "num_hidden_layers");
    return cJSON_IsNumber(layers) && layers->valuedouble >= 1 ? layers->valueint
                                                              : x->layers[x->layer_count - 1] + 1;
}

int xqw_layers(const xqw *x, const int **layers)
{
    *layers = x->layers;
    return x->layer_count;
}

const layer_shape *xqw_shape(const xqw *x)
{
    return &x->shape;
}

xq_status xqw_expect_shape(const xqw *x, const layer_shape *needed, error *err)
{
    const layer_shape *s = &x->shape, *n = needed;
    const struct {
        const char *name;
        int found, needed;
    } sizes[] = {
        {"hidden_size", s->hidden_size, n->hidden_size},
        {"num_attention_heads", s->heads, n->heads},
        {"num_key_value_heads", s->kv_heads, n->kv_heads},
        {"head_dim", s->head_dim, n->head_dim},
        {"groups", s->groups, n->groups},
        {"rank_k", s->rank_k, n->rank_k},
        {"rank_v", s->rank_v, n->rank_v},
        {"rotation", s->rotation, n->rotation},
        {"attention_bias", s->bias, n->bias},
        {"qk_norm factors", s->k_norm, n->k_norm},
        {"attention_sinks", s->sinks, n->sinks},
    };
    if (s->method != n->method)
        return bad(x, err, "prepared for method %s, not %s; run `xq prepare` for it",
                   layer_method_name(s->method), layer_method_name(n->method));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].found != sizes[i].needed)
            return bad(x, err, "prepared for %s %d, not %d; run `xq prepare` for it", sizes[i].name,
                       sizes[i].found, sizes[i].needed);
    return XQ_OK;
}

/* The matrix of that layer and name, which check_complete has found. */
static xq_status read_matrix(const xqw *x, int layer, const layer_part *part, float **values, error *err)
{
    const cJSON *entry;
    struct place p = {0};
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(
                                  x->index, "matrices")) if (read_place(x, entry, &p) &&
                                                             (int)p.layer == layer &&
                                                             strcmp(p.name, part->name) == 0) break;
    tensor t = {.name = p.name,
                .type_name = p.type,
                .rank = 2,
                .shape = {(int64_t)p.rows, (int64_t)p.cols},
                .data = x->file.data + p.offset,
                .bytes = (size_t)p.bytes,
                .file = x->path};
    char checksum[20];
    tensor_type_size(p.type, &t.type);
    snprintf(checksum, sizeof checksum, "%016llx", (unsigned long long)XXH3_64bits(t.data, t.bytes));
    if (strcmp(checksum, p.checksum) != 0)
        return bad(x, err, "damaged: the checksum of layer %d's %s does not match", layer, part->name);
    return tensor_to_floats(&t, 1, values, err);
}

xq_status xqw_layer(const xqw *x, int layer, layer_weights *out, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    int count = layer_parts(&x->shape, parts);
    layer_weights all = {0};
    bool there = false;
    for (int i = 0; i < x->layer_count; i++)
        there |= x->layers[i] == layer;
    if (!there)
        return bad(x, err, "holds no layer %d; it has %d layers (`xq prepare --layers` chooses)", layer,
                   x->layer_count);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        read_matrix(x, layer, &parts[i], layer_member(&all, &parts[i]), err);
    if (err->status == XQ_OK)
        *out = all;
    else
        layer_weights_free(&all);
    return err->status;
}
