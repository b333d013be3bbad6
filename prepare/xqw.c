#include "xqw.h"

#include "packing.h"
#include "xqw_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct xqw {
    char *path;
    xqw_source source;
    xqw_head head;
    xqw_entry *entries; /* of head.layers */
};

/* ---------------------------------------------------------------- opening */

static xq_status read_head(xqw *x, uint64_t *next, error *err)
{
    uint64_t bytes;
    xqw_record record;
    if (xqw_read_prefix(&x->source, &bytes, err) != XQ_OK)
        return err->status;
    if (bytes == 0)
        return xqw_bad(&x->source, err, "unfinished: the same `xq prepare` command goes on with it");
    if (bytes > x->source.file.size)
        return xqw_bad(&x->source, err, "truncated: %zu bytes of %llu", x->source.file.size,
                       (unsigned long long)bytes);
    if (bytes < x->source.file.size)
        return xqw_bad(&x->source, err, "damaged: %zu bytes, more than its %llu", x->source.file.size,
                       (unsigned long long)bytes);
    if (xqw_read_record(&x->source, xqw_align(XQW_PREFIX_BYTES), "the head", &record, err) != XQ_OK)
        return err->status;
    *next = record.blobs;
    return xqw_head_read(&x->source, record.json, &x->head, err);
}

static xq_status read_entries(xqw *x, uint64_t at, error *err)
{
    int count = x->head.layer_count;
    x->entries = calloc((size_t)count, sizeof *x->entries);
    if (!x->entries)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", x->path);
    for (int i = 0; i < count; i++) {
        if (xqw_entry_read(&x->source, &x->head, x->head.layers[i], at, &x->entries[i], err) != XQ_OK)
            return err->status;
        at = xqw_align(x->entries[i].end);
    }
    if (x->entries[count - 1].end != x->source.file.size)
        return xqw_bad(&x->source, err, "damaged: it goes on behind its last layer");
    return XQ_OK;
}

xq_status xqw_open(const char *path, xqw **out, error *err)
{
    xqw *x = calloc(1, sizeof *x);
    uint64_t next = 0;
    if (!x || !(x->path = strdup(path))) {
        free(x);
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    }
    x->source.path = x->path;
    if (mapping_open(path, &x->source.file, err) == XQ_OK && read_head(x, &next, err) == XQ_OK)
        read_entries(x, next, err);
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
    for (int i = 0; x->entries && i < x->head.layer_count; i++)
        xqw_entry_free(&x->entries[i]);
    xqw_head_free(&x->head);
    mapping_close(&x->source.file);
    free(x->entries);
    free(x->path);
    free(x);
}

/* -------------------------------------------------------------- questions */

const char *xqw_path(const xqw *x)
{
    return x->path;
}

const char *xqw_spec(const xqw *x)
{
    return x->head.methods[0].spec;
}

const char *xqw_layer_spec(const xqw *x, int layer)
{
    return xqw_method_of(&x->head, layer)->spec;
}

const char *xqw_weights(const xqw *x)
{
    return x->head.weights;
}

int xqw_base_layer(const xqw *x)
{
    return x->head.base_layer;
}

int xqw_model_layers(const xqw *x)
{
    return x->head.model_layers;
}

int xqw_layers(const xqw *x, const int **layers)
{
    *layers = x->head.layers;
    return x->head.layer_count;
}

int xqw_place_of(const xqw *x, int layer, error *err)
{
    int count = x->head.layer_count;
    for (int i = 0; i < count; i++)
        if (x->head.layers[i] == layer)
            return i;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "%s: holds no layer %d; it has %d layer%s of %d (`xq prepare --layers`)", x->path, layer,
              count, count == 1 ? "" : "s", x->head.model_layers);
    error_field(err, "layer");
    return -1;
}

xq_status xqw_expect(const xqw *x, int layer, const layer_shape *needed, error *err)
{
    if (xqw_place_of(x, layer, err) < 0)
        return err->status;
    const layer_shape *s = &xqw_method_of(&x->head, layer)->shape, *n = needed;
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
        {"feedback", s->feedback, n->feedback},
        {"attention_bias", s->bias, n->bias},
        {"qk_norm factors", s->k_norm, n->k_norm},
        {"attention_sinks", s->sinks, n->sinks},
    };
    if (s->method != n->method)
        return xqw_bad(&x->source, err,
                       "layer %d is prepared for method %s, not %s; run `xq prepare` for it", layer,
                       layer_method_name(s->method), layer_method_name(n->method));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].found != sizes[i].needed)
            return xqw_bad(&x->source, err,
                           "layer %d is prepared for %s %d, not %d; run `xq prepare` for it", layer,
                           sizes[i].name, sizes[i].found, sizes[i].needed);
    return XQ_OK;
}

/* ---------------------------------------------------------------- weights */

static xq_status read_matrix(const xqw *x, int layer, const layer_part *part, const xqw_place *place,
                             float **values, error *err)
{
    tensor t = {.name = part->name,
                .type_name = place->type,
                .rank = 2,
                .shape = {part->rows, part->cols},
                .data = x->source.file.data + place->offset,
                .bytes = (size_t)place->bytes,
                .file = x->path};
    tensor_type_size(place->type, &t.type);
    if (xqw_verify(&x->source, place, layer, part->name, err) != XQ_OK)
        return err->status;
    return tensor_to_floats(&t, 1, values, err);
}

xq_status xqw_layer(const xqw *x, int layer, layer_weights *out, error *err)
{
    int place = xqw_place_of(x, layer, err);
    layer_part parts[LAYER_MOST_PARTS];
    layer_weights all = {0};
    if (place < 0)
        return err->status;
    if (!x->head.matrices)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "%s: holds packed weights alone, no matrices (`xq prepare --store` chooses)",
                         x->path);
    int count = layer_parts(&xqw_method_of(&x->head, layer)->shape, parts);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        read_matrix(x, layer, &parts[i], &x->entries[place].parts[i], layer_member(&all, &parts[i]), err);
    if (err->status == XQ_OK)
        *out = all;
    else
        layer_weights_free(&all);
    return err->status;
}

xq_status xqw_packed(const xqw *x, int layer, const char *completed_json, bool verify, const void **data,
                     size_t *bytes, error *err)
{
    int place = xqw_place_of(x, layer, err);
    if (place < 0)
        return err->status;
    const xqw_place *packed = &x->entries[place].packed;
    if (!x->head.weights)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "%s: holds no packed weights (`xq prepare --pack` adds them)", x->path);
    if (packing_expect(x->path, xqw_method_of(&x->head, layer)->entry, completed_json, err) != XQ_OK ||
        (verify && xqw_verify(&x->source, packed, layer, "packed weights", err) != XQ_OK))
        return err->status;
    *data = x->source.file.data + packed->offset;
    *bytes = (size_t)packed->bytes;
    return XQ_OK;
}
