#include "shape.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const cJSON *object(const cJSON *parent, const char *key, error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(parent, key);
    if (!item)
        error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has no '%s'", key);
    return item;
}

static double number(const cJSON *parent, const char *key, error *err)
{
    const cJSON *item = object(parent, key, err);
    if (item && (!cJSON_IsNumber(item) || !(item->valuedouble >= 0)))
        error_set(err, XQ_ERROR_INTERNAL, "spec", "'%s' of the completed spec is no number", key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static int32_t integer(const cJSON *parent, const char *key, error *err)
{
    double value = number(parent, key, err);
    if (value != floor(value) || value > INT32_MAX)
        error_set(err, XQ_ERROR_INTERNAL, "spec", "'%s' of the completed spec is no integer", key);
    return err->status == XQ_OK ? (int32_t)value : 0;
}

static bool has_text(const cJSON *parent, const char *key, const char *text)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(parent, key);
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

static void read_model(const cJSON *model, struct shape *s, error *err)
{
    s->hidden_size = integer(model, "hidden_size", err);
    s->heads = integer(model, "num_attention_heads", err);
    s->kv_heads = integer(model, "num_key_value_heads", err);
    s->head_dim = integer(model, "head_dim", err);
    s->kv_width = s->kv_heads * s->head_dim;
    s->rotary = !has_text(object(model, "rope", err), "type", "none");
}

static void read_layout(const cJSON *cache, const cJSON *layout, struct shape *s, error *err)
{
    s->page = integer(cache, "page", err);
    s->latent = has_text(cache, "method", "latent");
    s->page_bytes = (size_t)number(layout, "page_bytes", err);
    s->kv_page_bytes = (size_t)number(layout, "kv_page_bytes", err);
    s->bytes_per_token = number(layout, "bytes_per_token", err);
    const cJSON *streams = object(layout, "streams", err);
    s->rank_k = integer(cJSON_GetArrayItem(streams, 0), "width", err);
    s->rank_v = cJSON_GetArraySize(streams) > 1 ? integer(cJSON_GetArrayItem(streams, 1), "width", err) : 0;
    if (s->page < 16 || s->page % 16 != 0)
        error_set(err, XQ_ERROR_INTERNAL, "spec", "'page' of the completed spec is no multiple of 16");
}

static void read_weights(const cJSON *layout, struct shape_matrix *matrices, int most, int *count,
                         size_t *bytes, error *err)
{
    *bytes = (size_t)number(layout, "bytes", err);
    const cJSON *list = object(layout, "matrices", err), *item;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *name = object(item, "name", err);
        if (*count == most || !cJSON_IsString(name)) {
            error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec's matrices are malformed");
            return;
        }
        struct shape_matrix *m = &matrices[(*count)++];
        const cJSON *source = object(item, "source", err);
        snprintf(m->name, sizeof m->name, "%s", name->valuestring);
        snprintf(m->source, sizeof m->source, "%s", cJSON_IsString(source) ? source->valuestring : "");
        m->rows = integer(item, "rows", err);
        m->cols = integer(item, "cols", err);
        m->offset = (size_t)number(item, "offset", err);
    }
}

xq_status shape_read(const char *completed_json, struct shape *out, error *err)
{
    struct shape s = {0};
    cJSON *root = cJSON_Parse(completed_json);
    if (!root)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec is no JSON");
    read_model(object(root, "model", err), &s, err);
    read_layout(object(root, "cache", err), object(root, "layout", err), &s, err);
    read_weights(object(root, "weights_layout", err), s.matrices, 8, &s.matrix_count, &s.weights_bytes,
                 err);
    read_weights(object(root, "unfused_weights_layout", err), s.unfused_matrices, 8,
                 &s.unfused_matrix_count, &s.unfused_weights_bytes, err);
    read_weights(object(root, "kv_weights_layout", err), s.kv_matrices, 2, &s.kv_matrix_count,
                 &s.kv_weights_bytes, err);
    cJSON_Delete(root);
    if (err->status == XQ_OK)
        *out = s;
    return err->status;
}

const struct shape_matrix *shape_find(const struct shape_matrix *matrices, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(matrices[i].name, name) == 0)
            return &matrices[i];
    return NULL;
}
