#include "layer_factor.h"

#include "calibration.h"
#include "factor.h"

#include <stdlib.h>

static float *matrix(int rows, int cols)
{
    return malloc(sizeof(float) * (size_t)rows * (size_t)cols);
}

static xq_status make_latent(const layer_shape *s, const float *w, int groups, int rank, float **u,
                             float **a, double *lost, error *err)
{
    const factor_shape shape = {s->hidden_size, s->kv_width, groups, rank, s->rotation};
    if (*u)
        return XQ_OK;
    *u = matrix(s->hidden_size, rank);
    *a = matrix(rank / groups, s->kv_width);
    if (!*u || !*a)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for factors");
    return factor_latent(&shape, w, *u, *a, lost, err);
}

static xq_status make_joint(const layer_shape *s, layer_weights *w, double *lost, error *err)
{
    const factor_shape shape = {s->hidden_size, s->kv_width, 1, s->rank_k, s->rotation};
    if (w->ukv)
        return XQ_OK;
    if (!(w->ukv = matrix(s->hidden_size, s->rank_k)))
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for factors");
    return factor_joint(&shape, w->wk, w->wv, w->ukv, lost, err);
}

/* Nothing is known about the cost of errors in keys, so all dimensions cost the same. */
static xq_status make_cost(const layer_shape *s, layer_weights *w, error *err)
{
    if (!s->feedback || w->k_cost)
        return XQ_OK;
    const size_t dh = (size_t)s->head_dim, count = (size_t)s->kv_width * dh;
    if (!(w->k_cost = matrix(s->kv_width, s->head_dim)))
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for factors");
    for (size_t i = 0; i < count; i++)
        w->k_cost[i] = i % dh == i / dh % dh;
    return XQ_OK;
}

xq_status layer_factor(const layer_shape *s, layer_weights *w, double lost[2], error *err)
{
    double unused[2], *l = lost ? lost : unused;
    l[0] = l[1] = 0;
    if (s->method == LAYER_LATENT && make_cost(s, w, err) == XQ_OK &&
        make_latent(s, w->wk, s->groups_k, s->rank_k, &w->uk, &w->ak, &l[0], err) == XQ_OK)
        make_latent(s, w->wv, s->groups_v, s->rank_v, &w->uv, &w->av, &l[1], err);
    if (layer_is_rotated_x(s) && !w->uk)
        calibration_factor(NULL, 0, s, w, l, err);
    if (s->method == LAYER_LATENT_CL && make_joint(s, w, &l[0], err) == XQ_OK)
        l[1] = l[0];
    return err->status;
}
