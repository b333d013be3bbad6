#include "shape_read.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------- JSON values */

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

/* A text, or "" where there is none. */
static const char *text(const cJSON *parent, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(parent, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bool has_text(const cJSON *parent, const char *key, const char *wanted)
{
    return strcmp(text(parent, key), wanted) == 0;
}

static bool has_true(const cJSON *parent, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(parent, key));
}

/* --------------------------------------------------------- model and cache */

static void read_model(const cJSON *model, struct shape *s, error *err)
{
    s->hidden_size = integer(model, "hidden_size", err);
    s->heads = integer(model, "num_attention_heads", err);
    s->kv_heads = integer(model, "num_key_value_heads", err);
    s->head_dim = integer(model, "head_dim", err);
    s->kv_width = s->kv_heads * s->head_dim;
    s->rotary = !has_text(object(model, "rope", err), "type", "none");
    s->key_norm_row = has_text(model, "qk_norm", "row");
    s->key_norm = s->key_norm_row || has_text(model, "qk_norm", "head");
    s->sinks = has_true(model, "attention_sinks");
}

static void read_stream(const cJSON *item, struct shape *s, error *err)
{
    if (s->stream_count == SHAPE_STREAMS) {
        error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has too many streams");
        return;
    }
    struct shape_stream *stream = &s->streams[s->stream_count++];
    *stream = (struct shape_stream){
        .width = integer(item, "width", err),
        .latents = integer(item, "latents", err),
        .rank = integer(item, "rank", err),
        .latent_width = integer(item, "latent_width", err),
        .by_channel = has_text(item, "axis", "channel"),
    };
    s->by_channel |= stream->by_channel;
    s->by_token |= !stream->by_channel;
}

static void read_layout(const cJSON *cache, const cJSON *layout, struct shape *s, error *err)
{
    s->page = integer(cache, "page", err);
    s->latent = has_text(cache, "method", "latent");
    s->cross_layer = has_text(cache, "method", "x-cl") || has_text(cache, "method", "latent-cl");
    s->base = has_true(cache, "base");
    s->page_bytes = (size_t)number(layout, "page_bytes", err);
    s->kv_page_bytes = (size_t)number(layout, "kv_page_bytes", err);
    s->tail_bytes = (size_t)number(layout, "tail_bytes", err);
    s->bytes_per_token = number(layout, "bytes_per_token", err);
    const cJSON *item;
    cJSON_ArrayForEach(item, object(layout, "streams", err))
    {
        read_stream(item, s, err);
    }
    s->rank_k = s->streams[0].width;
    s->rank_v = s->streams[1].width;
    if (s->page < 16 || s->page % 16 != 0 || s->rank_k < 1)
        error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec's cache layout is malformed");
}

static void read_accumulator(const cJSON *accumulator, struct shape *s, error *err)
{
    s->accumulator_page_bytes = (size_t)number(accumulator, "page_bytes", err);
    s->accumulator_bytes_per_token = number(accumulator, "bytes_per_token", err);
}

/* ----------------------------------------------------------------- weights */

static int32_t read_columns(const cJSON *list, int16_t *columns, int32_t head_dim, error *err)
{
    int32_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        double dimension = cJSON_IsNumber(item) ? item->valuedouble : -2;
        if (count == SHAPE_KEY_COLUMNS || dimension != floor(dimension) || dimension < -1 ||
            dimension >= head_dim) {
            error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec's columns of keys are malformed");
            return count;
        }
        columns[count++] = (int16_t)dimension;
    }
    return count;
}

static void read_keys(const cJSON *item, struct shape *s, error *err)
{
    struct shape_keys *keys = &s->keys;
    keys->columns =
        read_columns(object(item, "rematerialized", err), keys->rematerialized, s->head_dim, err);
    keys->absorbed_columns = read_columns(object(item, "absorbed", err), keys->absorbed, s->head_dim, err);
}

static enum shape_columns read_order(const cJSON *item, error *err)
{
    static const char *const names[] = {[SHAPE_ALL] = "all",
                                        [SHAPE_KEYS] = "keys",
                                        [SHAPE_ABSORBED] = "absorbed",
                                        [SHAPE_TRANSPOSED] = "transposed",
                                        [SHAPE_FEEDBACK] = "feedback"};
    for (int i = SHAPE_ALL; i <= SHAPE_FEEDBACK; i++)
        if (has_text(item, "columns", names[i]))
            return (enum shape_columns)i;
    error_set(err, XQ_ERROR_INTERNAL, "spec", "columns '%s' of the completed spec are not known",
              text(item, "columns"));
    return SHAPE_ALL;
}

static void read_matrix(const cJSON *item, struct shape_matrix *m, error *err)
{
    snprintf(m->name, sizeof m->name, "%s", text(item, "name"));
    snprintf(m->source, sizeof m->source, "%s", text(item, "source"));
    m->columns = read_order(item, err);
    if (!weight_type_find(text(item, "type"), &m->type))
        error_set(err, XQ_ERROR_INTERNAL, "spec", "weight type '%s' of the completed spec is not known",
                  text(item, "type"));
    m->rows = integer(item, "rows", err);
    m->cols = integer(item, "cols", err);
    m->offset = (size_t)number(item, "offset", err);
    if (weight_bytes(m->type) == 1)
        m->scale_offset = (size_t)number(item, "scale_offset", err);
}

static void read_vector(const cJSON *item, struct shape_vector *v, error *err)
{
    snprintf(v->name, sizeof v->name, "%s", text(item, "name"));
    snprintf(v->source, sizeof v->source, "%s", text(item, "source"));
    v->columns = read_order(item, err);
    v->count = integer(item, "count", err);
    v->offset = (size_t)number(item, "offset", err);
}

static void read_weights(const cJSON *layout, struct shape_weights *w, error *err)
{
    const cJSON *item;
    w->bytes = (size_t)number(layout, "bytes", err);
    cJSON_ArrayForEach(item, object(layout, "matrices", err))
    {
        if (w->matrix_count < SHAPE_MATRICES)
            read_matrix(item, &w->matrices[w->matrix_count++], err);
        else
            error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has too many matrices");
    }
    cJSON_ArrayForEach(item, object(layout, "vectors", err))
    {
        if (w->vector_count < SHAPE_VECTORS)
            read_vector(item, &w->vectors[w->vector_count++], err);
        else
            error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has too many vectors");
    }
}

xq_status shape_read(const char *completed_json, struct shape *out, error *err)
{
    struct shape s = {0};
    cJSON *root = cJSON_Parse(completed_json);
    if (!root)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec is no JSON");
    snprintf(s.arch, sizeof s.arch, "%s", text(root, "arch"));
    if (!s.arch[0])
        error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has no 'arch'");
    s.many = has_text(root, "queries", "many");
    s.checked = has_true(root, "checked");
    read_model(object(root, "model", err), &s, err);
    read_layout(object(root, "cache", err), object(root, "layout", err), &s, err);
    if (s.cross_layer)
        read_accumulator(object(root, "accumulator", err), &s, err);
    read_keys(object(root, "keys", err), &s, err);
    read_weights(object(root, "weights_layout", err), &s.weights[XQ_FUSED], err);
    read_weights(object(root, "unfused_weights_layout", err), &s.weights[XQ_UNFUSED], err);
    read_weights(object(root, "kv_weights_layout", err), &s.weights[XQ_FP16_KV], err);
    cJSON_Delete(root);
    if (err->status == XQ_OK)
        *out = s;
    return err->status;
}
