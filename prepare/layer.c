#include "layer.h"

#include <stdlib.h>

/* ------------------------------------------------------------------ shape */

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

/* ------------------------------------------------------------------ parts */

static void add(layer_part *parts, int *count, bool there, const char *name, int rows, int cols,
                size_t member)
{
    if (there)
        parts[(*count)++] = (layer_part){name, rows, cols, member, false, false};
}

static void add_vector(layer_part *parts, int *count, bool there, const char *name, int length,
                       size_t member)
{
    if (there)
        parts[(*count)++] = (layer_part){name, 1, length, member, true, true};
}

/* Costs stay f32, because rounding to a shorter type could make some errors have a negative cost. */
static void add_costs(const layer_shape *s, layer_part *parts, int *count)
{
    parts[(*count)++] =
        (layer_part){"k_cost", s->kv_width, s->head_dim, offsetof(layer_weights, k_cost), false, true};
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
    int count = 0, d = s->hidden_size, rk = s->rank_k / s->groups_k;
    bool latent = s->method == LAYER_LATENT, factored = layer_is_factored(s);
    int rv = latent ? s->rank_v / s->groups_v : rk;
    add(parts, &count, !factored, "wk", d, s->kv_width, offsetof(layer_weights, wk));
    add(parts, &count, !factored, "wv", d, s->kv_width, offsetof(layer_weights, wv));
    add(parts, &count, factored, "uk", d, s->rank_k, offsetof(layer_weights, uk));
    add(parts, &count, factored, "ak", rk, s->kv_width, offsetof(layer_weights, ak));
    add(parts, &count, latent, "uv", d, s->rank_v, offsetof(layer_weights, uv));
    add(parts, &count, factored, "av", rv, s->kv_width, offsetof(layer_weights, av));
    add(parts, &count, s->method == LAYER_LATENT_CL, "ukv", d, s->rank_k, offsetof(layer_weights, ukv));
    if (latent && s->feedback)
        add_costs(s, parts, &count);
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
