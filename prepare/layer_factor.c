#include "layer_factor.h"

#include "factor.h"

#include <stdlib.h>

static float *matrix(int rows, int cols)
{
    return malloc(sizeof(float) * (size_t)rows * (size_t)cols);
}

static xq_status make_latent(const layer_shape *s, const float *w, int rank, float **u, float **a,
                             double *lost, error *err)
{
    const factor_shape shape = {s->hidden_size, s->kv_width, s->groups, rank, s->rotation};
    if (*u)
        return XQ_OK;
    *u = matrix(s->hidden_size, rank);
    *a = matrix(rank / s->groups, s->kv_width);
    if (!*u || !*a)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for factors");
    return factor_latent(&shape, w, *u, *a, lost, err);
}

/* One rotation serves K and V: what is cached is one matrix. */
static xq_status make_rotated(const layer_shape *s, layer_weights *w, error *err)
{
    const int d = s->hidden_size, dkv = s->kv_width;
    if (w->uk)
        return XQ_OK;
    w->uk = matrix(d, d);
    w->ak = matrix(d, dkv);
    w->av = matrix(d, dkv);
    if (!w->uk || !w->ak || !w->av)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for factors");
    if (factor_rotation(d, w->uk, err) == XQ_OK && factor_rotated(d, dkv, w->wk, w->ak, err) == XQ_OK)
        factor_rotated(d, dkv, w->wv, w->av, err);
    return err->status;
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

xq_status layer_factor(const layer_shape *s, layer_weights *w, double lost[2], error *err)
{
    double unused[2], *l = lost ? lost : unused;
    l[0] = l[1] = 0;
    if (s->method == LAYER_LATENT && make_latent(s, w->wk, s->rank_k, &w->uk, &w->ak, &l[0], err) == XQ_OK)
        make_latent(s, w->wv, s->rank_v, &w->uv, &w->av, &l[1], err);
    if (layer_is_rotated_x(s))
        make_rotated(s, w, err);
    if (s->method == LAYER_LATENT_CL && make_joint(s, w, &l[0], err) == XQ_OK)
        l[1] = l[0];
    return err->status;
}
