#include "layer.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ shape */

static const char *const methods[] = {"x", "latent", "x-cl", "latent-cl"};

const char *layer_method_name(layer_method method)
{
    return methods[method];
}

bool layer_is_cross(const layer_shape *shape)
{
    return shape->method == LAYER_X_CL || shape->method == LAYER_LATENT_CL;
}

bool layer_is_rotated_x(const layer_shape *shape)
{
    return shape->method == LAYER_X && shape->rotation;
}

bool layer_is_factored(const layer_shape *shape)
{
    return shape->method == LAYER_LATENT || layer_is_rotated_x(shape);
}

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= 1e9
               ? (int)item->valuedouble
               : 0;
}

static bool is_true(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static int read_method(const cJSON *cache)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cache, "method"));
    int method = LAYER_LATENT_CL;
    while (method >= 0 && (!name || strcmp(methods[method], name) != 0))
        method--;
    return method;
}

xq_status layer_shape_read(const char *completed_json, layer_shape *out, error *err)
{
    cJSON *spec = cJSON_Parse(completed_json);
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const char *norm = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(m, "qk_norm"));
    const cJSON *rope = cJSON_GetObjectItemCaseSensitive(m, "rope");
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(rope, "type"));
    int method = read_method(c);
    layer_shape s = {
        .method = method < 0 ? LAYER_X : (layer_method)method,
        .hidden_size = integer(m, "hidden_size"),
        .heads = integer(m, "num_attention_heads"),
        .kv_heads = integer(m, "num_key_value_heads"),
        .head_dim = integer(m, "head_dim"),
        .rank_k = integer(c, "rank_k"),
        .rank_v = integer(c, "rank_v"),
        .groups = integer(c, "groups"),
        .quantization_group = integer(c, "group"),
        .rotary_dim = integer(rope, "rotary_dim"),
        .rotary_interleaved = kind && strcmp(kind, "interleaved") == 0,
        .rotation = is_true(c, "rotation"),
        .feedback = is_true(c, "feedback"),
        .bias = is_true(m, "attention_bias"),
        .sinks = is_true(m, "attention_sinks"),
    };
    if (__builtin_mul_overflow(s.kv_heads, s.head_dim, &s.kv_width))
        s.kv_width = 0;
    s.k_norm = !norm ? 0 : strcmp(norm, "row") == 0 ? s.kv_width : s.head_dim;
    cJSON_Delete(spec);
    if (method < 0 || s.hidden_size < 1 || s.heads < 1 || s.kv_width < 1 || s.groups < 1 || s.rank_k < 1 ||
        s.rank_k % s.groups || s.rank_v % s.groups || s.kv_heads % s.groups ||
        (s.method == LAYER_LATENT && s.rank_v < 1))
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "not a completed spec");
    *out = s;
    return XQ_OK;
}

/* ------------------------------------------------------------------ parts */

static void add(layer_part *parts, int *count, bool there, const char *name, int rows, int cols,
                size_t member)
{
    if (there)
        parts[(*count)++] = (layer_part){name, rows, cols, member, false};
}

static void add_vector(layer_part *parts, int *count, bool there, const char *name, int length,
                       size_t member)
{
    if (there)
        parts[(*count)++] = (layer_part){name, 1, length, member, true};
}

static void add_vectors(const layer_shape *s, layer_part *parts, int *count)
{
    add_vector(parts, count, s->bias, "bk", s->kv_width, offsetof(layer_weights, bk));
    add_vector(parts, count, s->bias, "bv", s->kv_width, offsetof(layer_weights, bv));
    add_vector(parts, count, s->k_norm > 0, "k_norm", s->k_norm, offsetof(layer_weights, k_norm));
    add_vector(parts, count, s->sinks, "sinks", s->heads, offsetof(layer_weights, sinks));
}

int layer_parts(const layer_shape *s, layer_part parts[LAYER_MOST_PARTS])
{
    int count = 0, d = s->hidden_size, rk = s->rank_k / s->groups;
    bool latent = s->method == LAYER_LATENT, factored = layer_is_factored(s);
    int rv = latent ? s->rank_v / s->groups : rk;
    add(parts, &count, !factored, "wk", d, s->kv_width, offsetof(layer_weights, wk));
    add(parts, &count, !factored, "wv", d, s->kv_width, offsetof(layer_weights, wv));
    add(parts, &count, factored, "uk", d, s->rank_k, offsetof(layer_weights, uk));
    add(parts, &count, factored, "ak", rk, s->kv_width, offsetof(layer_weights, ak));
    add(parts, &count, latent, "uv", d, s->rank_v, offsetof(layer_weights, uv));
    add(parts, &count, factored, "av", rv, s->kv_width, offsetof(layer_weights, av));
    add(parts, &count, s->method == LAYER_LATENT_CL, "ukv", d, s->rank_k, offsetof(layer_weights, ukv));
    add_vector(parts, &count, latent && s->feedback, "k_cost", s->kv_width,
               offsetof(layer_weights, k_cost));
    add_vectors(s, parts, &count);
    return count;
}

int layer_given(const layer_shape *s, layer_part parts[LAYER_MOST_PARTS])
{
    int count = 0;
    add(parts, &count, true, "wk", s->hidden_size, s->kv_width, offsetof(layer_weights, wk));
    add(parts, &count, true, "wv", s->hidden_size, s->kv_width, offsetof(layer_weights, wv));
    add_vectors(s, parts, &count);
    return count;
}

float **layer_member(layer_weights *w, const layer_part *part)
{
    return (float **)((char *)w + part->member);
}

/* ------------------------------------------------------------------- ends */

xq_weights layer_api_weights(const layer_weights *w)
{
    xq_weights all = XQ_WEIGHTS_INIT;
    all.wk = w->wk;
    all.wv = w->wv;
    all.uk = w->uk;
    all.ak = w->ak;
    all.uv = w->uv;
    all.av = w->av;
    all.ukv = w->ukv;
    all.bk = w->bk;
    all.bv = w->bv;
    all.k_norm = w->k_norm;
    all.sinks = w->sinks;
    all.k_cost = w->k_cost;
    return all;
}

void layer_weights_free(layer_weights *w)
{
    float *all[] = {w->wk,  w->wv, w->uk, w->ak,     w->uv,     w->av,
                    w->ukv, w->bk, w->bv, w->k_cost, w->k_norm, w->sinks};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    *w = (layer_weights){0};
}
