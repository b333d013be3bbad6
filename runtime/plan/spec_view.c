#include "spec_view.h"

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

/* Returns a text, or "" if there is none. */
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

/* Returns a number that a spec may lack; 0 if it does. */
static double optional(const cJSON *parent, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(parent, key);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? item->valuedouble : 0;
}

static int32_t optional_integer(const cJSON *parent, const char *key)
{
    double value = optional(parent, key);
    return value <= INT32_MAX ? (int32_t)value : 0;
}

#define COPY_TEXT(to, parent, key) snprintf(to, sizeof(to), "%s", text(parent, key))

/* -------------------------------------- properties that prepared weights depend on */

static const char *const methods[] = {"x", "latent", "x-cl", "latent-cl"};

const char *layer_method_name(layer_method method)
{
    return methods[method];
}

static int find_method(const char *name)
{
    int method = LAYER_LATENT_CL;
    while (method >= 0 && strcmp(methods[method], name) != 0)
        method--;
    return method;
}

static bool is_whole(const layer_shape *s)
{
    return s->hidden_size >= 1 && s->heads >= 1 && s->kv_width >= 1 && s->groups_k >= 1 &&
           s->groups_v >= 1 && s->rank_k >= 1 && s->rank_k % s->groups_k == 0 &&
           s->rank_v % s->groups_v == 0 && s->kv_heads % s->groups_k == 0 &&
           s->kv_heads % s->groups_v == 0 && (s->method != LAYER_LATENT || s->rank_v >= 1);
}

static xq_status read_layer(const cJSON *spec, layer_shape *out, error *err)
{
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const cJSON *rope = cJSON_GetObjectItemCaseSensitive(m, "rope");
    const char *norm = text(m, "qk_norm");
    int method = find_method(text(c, "method"));
    layer_shape s = {
        .method = method < 0 ? LAYER_X : (layer_method)method,
        .hidden_size = optional_integer(m, "hidden_size"),
        .heads = optional_integer(m, "num_attention_heads"),
        .kv_heads = optional_integer(m, "num_key_value_heads"),
        .head_dim = optional_integer(m, "head_dim"),
        .rank_k = optional_integer(c, "rank_k"),
        .rank_v = optional_integer(c, "rank_v"),
        .groups_k = optional_integer(c, "groups_k"),
        .groups_v = optional_integer(c, "groups_v"),
        .quantization_group = optional_integer(c, "group"),
        .rotary_dim = optional_integer(rope, "rotary_dim"),
        .rotary_interleaved = has_text(rope, "type", "interleaved"),
        .rotation = has_true(c, "rotation"),
        .feedback = has_true(c, "feedback"),
        .bias = has_true(m, "attention_bias"),
        .sinks = has_true(m, "attention_sinks"),
    };
    if (__builtin_mul_overflow(s.kv_heads, s.head_dim, &s.kv_width))
        s.kv_width = 0;
    s.k_norm = !*norm ? 0 : strcmp(norm, "row") == 0 ? s.kv_width : s.head_dim;
    if (method < 0 || !is_whole(&s))
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "the spec is not a completed spec");
    *out = s;
    return XQ_OK;
}

xq_status layer_shape_read(const char *spec_json, layer_shape *out, error *err)
{
    cJSON *spec = cJSON_Parse(spec_json);
    read_layer(spec, out, err);
    cJSON_Delete(spec);
    return err->status;
}

/* ----------------------------------------------------------------- layouts */

static void read_stream(const cJSON *item, struct spec_stream *s, error *err)
{
    *s = (struct spec_stream){
        .width = integer(item, "width", err),
        .latents = integer(item, "latents", err),
        .rank = integer(item, "rank", err),
        .latent_width = integer(item, "latent_width", err),
        .bits = integer(item, "bits", err),
        .by_channel = has_text(item, "axis", "channel"),
        .group = integer(item, "group", err),
        .groups = optional_integer(item, "groups"),
        .codes_offset = (size_t)optional(item, "codes_offset"),
        .params_offset = (size_t)optional(item, "params_offset"),
        .zeros_offset = (size_t)optional(item, "zeros_offset"),
        .slots_offset = (size_t)optional(item, "slots_offset"),
        .slot_bytes = (size_t)optional(item, "slot_bytes"),
        .chunk_pages = optional_integer(item, "chunk_pages"),
        .page_groups = optional_integer(item, "page_groups"),
        .page_chunks = optional_integer(item, "page_chunks"),
        .tail_offset = (size_t)optional(item, "tail_offset"),
        .tail_width = optional_integer(item, "tail_width"),
    };
    COPY_TEXT(s->name, item, "name");
    COPY_TEXT(s->order, item, "order");
}

static void read_layout(const cJSON *json, struct spec_layout *l, error *err)
{
    const cJSON *item;
    l->tile_tokens = integer(json, "tile_tokens", err);
    l->unit_channels = integer(json, "unit_channels", err);
    l->tile_bytes = (size_t)number(json, "tile_bytes", err);
    l->page_bytes = (size_t)number(json, "page_bytes", err);
    l->tail_bytes = (size_t)optional(json, "tail_bytes");
    l->bytes_per_token = number(json, "bytes_per_token", err);
    cJSON_ArrayForEach(item, object(json, "streams", err))
    {
        if (l->stream_count < SHAPE_STREAMS)
            read_stream(item, &l->streams[l->stream_count++], err);
        else
            error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has too many streams");
    }
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
    if (cJSON_HasObjectItem(item, "sum_rows")) {
        m->sum_rows = integer(item, "sum_rows", err);
        m->sum_offset = (size_t)number(item, "sum_offset", err);
    }
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

/* -------------------------------------------------------------- for launches */

static void set_streams(const struct spec_layout *l, struct shape *s)
{
    s->stream_count = l->stream_count;
    for (int i = 0; i < l->stream_count; i++) {
        const struct spec_stream *from = &l->streams[i];
        s->streams[i] = (struct shape_stream){from->width,        from->latents, from->rank,
                                              from->latent_width, from->group,   from->by_channel};
        s->by_channel |= from->by_channel;
        s->by_token |= !from->by_channel;
    }
    s->rank_k = s->streams[0].width;
    s->rank_v = s->streams[1].width;
}

/* Copies what other parts of the view say into the struct for launches. */
static void set_shape(const struct spec_view *v, struct shape *s)
{
    const layer_shape *l = &v->layer;
    s->hidden_size = l->hidden_size;
    s->heads = l->heads;
    s->kv_heads = l->kv_heads;
    s->head_dim = l->head_dim;
    s->kv_width = l->kv_width;
    s->key_norm = l->k_norm > 0;
    s->sinks = l->sinks;
    s->latent = l->method == LAYER_LATENT;
    s->cross_layer = l->method == LAYER_X_CL || l->method == LAYER_LATENT_CL;
    s->page_bytes = v->layout.page_bytes;
    s->tail_bytes = v->layout.tail_bytes;
    s->bytes_per_token = v->layout.bytes_per_token;
    s->accumulator_page_bytes = v->accumulator.page_bytes;
    s->accumulator_bytes_per_token = v->accumulator.bytes_per_token;
    set_streams(&v->layout, s);
}

static void read_shape(const cJSON *spec, struct spec_view *v, error *err)
{
    struct shape *s = &v->shape;
    const cJSON *model = object(spec, "model", err), *cache = object(spec, "cache", err);
    set_shape(v, s);
    COPY_TEXT(s->arch, spec, "arch");
    if (!s->arch[0])
        error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec has no 'arch'");
    s->many = has_text(spec, "queries", "many");
    s->checked = has_true(spec, "checked");
    s->rotary = !has_text(object(model, "rope", err), "type", "none");
    s->key_norm_row = has_text(model, "qk_norm", "row");
    s->base = has_true(cache, "base");
    s->page = integer(cache, "page", err);
    s->kv_page_bytes = (size_t)number(object(spec, "layout", err), "kv_page_bytes", err);
    s->kv_e4m3_page_bytes = (size_t)number(object(spec, "layout", err), "kv_e4m3_page_bytes", err);
    if (s->page < 16 || s->page % 16 != 0 || s->rank_k < 1)
        error_set(err, XQ_ERROR_INTERNAL, "spec", "the completed spec's cache layout is malformed");
    read_keys(object(spec, "keys", err), s, err);
    read_weights(object(spec, "weights_layout", err), &s->weights[XQ_FUSED], err);
    read_weights(object(spec, "unfused_weights_layout", err), &s->weights[XQ_UNFUSED], err);
    read_weights(object(spec, "kv_weights_layout", err), &s->weights[XQ_FP16_KV], err);
    read_weights(object(spec, "kv_e4m3_weights_layout", err), &s->weights[XQ_FP8_KV], err);
}

/* -------------------------------------------------------------------- view */

static void read_choices(const cJSON *spec, struct spec_view *v, error *err)
{
    const cJSON *model = object(spec, "model", err), *cache = object(spec, "cache", err);
    COPY_TEXT(v->model_name, model, "name");
    COPY_TEXT(v->model_type, model, "model_type");
    COPY_TEXT(v->weights, spec, "weights");
    v->bf16 = has_text(spec, "dtype", "bf16");
    v->layers = optional_integer(model, "num_hidden_layers");
    v->window = (int64_t)optional(model, "sliding_window");
    v->rotated = 2 * integer(object(spec, "keys", err), "pairs", err);
    v->bits = integer(cache, "bits", err);
    v->group = integer(cache, "group", err);
    v->clip = (float)number(cache, "clip", err);
    v->integer_zero = has_text(cache, "zero_point", "integer");
}

xq_status spec_view_read(const char *completed_json, struct spec_view *out, error *err)
{
    struct spec_view v = {.bits = 0};
    cJSON *spec = cJSON_Parse(completed_json);
    if (read_layer(spec, &v.layer, err) == XQ_OK) {
        read_choices(spec, &v, err);
        read_layout(object(spec, "layout", err), &v.layout, err);
        const cJSON *accumulator = cJSON_GetObjectItemCaseSensitive(spec, "accumulator");
        if (accumulator)
            read_layout(accumulator, &v.accumulator, err);
        read_shape(spec, &v, err);
    }
    cJSON_Delete(spec);
    if (err->status == XQ_OK)
        *out = v;
    return err->status;
}
