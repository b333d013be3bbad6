/* Draws the weights of verification cases. */
#include "case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Draws entries of standard deviation 1/sqrt(rows), so that products keep the size of their input. */
static float *draw_matrix(random_stream *r, int rows, int cols)
{
    size_t count = (size_t)rows * (size_t)cols;
    float *m = malloc(count * sizeof *m);
    for (size_t i = 0; m && i < count; i++)
        m[i] = random_normal(r) / sqrtf((float)rows);
    return m;
}

static float *draw_vector(random_stream *r, int count, float mean, float deviation)
{
    float *v = malloc((size_t)count * sizeof *v);
    for (int i = 0; v && i < count; i++)
        v[i] = mean + deviation * random_normal(r);
    return v;
}

/* Draws blocks [dkv, head_dim] of costs: a diagonal, and a few directions that cost more. Each block is
 * positive semidefinite. */
static float *draw_costs(random_stream *r, int dkv, int head_dim)
{
    enum { DIRECTIONS = 4 };
    float *m = draw_vector(r, dkv * head_dim, 0, 0), *directions = draw_vector(r, DIRECTIONS * dkv, 0, 1);
    for (int i = 0; m && directions && i < dkv; i++) {
        const int head = i / head_dim * head_dim;
        for (int d = 0; d < DIRECTIONS; d++)
            for (int j = 0; j < head_dim; j++)
                m[i * head_dim + j] += directions[d * dkv + i] * directions[d * dkv + head + j];
        m[i * head_dim + i % head_dim] += exp2f(random_normal(r));
    }
    if (!directions) {
        free(m);
        m = NULL;
    }
    free(directions);
    return m;
}

/* Makes the columns orthonormal, by Gram and Schmidt's method, twice because of rounding errors. */
static void make_orthonormal(float *m, int rows, int cols)
{
    for (int c = 0; c < cols; c++)
        for (int pass = 0; pass < 2; pass++) {
            for (int other = 0; other < c; other++) {
                double dot = 0;
                for (int i = 0; i < rows; i++)
                    dot += (double)m[i * cols + c] * (double)m[i * cols + other];
                for (int i = 0; i < rows; i++)
                    m[i * cols + c] -= (float)dot * m[i * cols + other];
            }
            double norm = 0;
            for (int i = 0; i < rows; i++)
                norm += (double)m[i * cols + c] * (double)m[i * cols + c];
            for (int i = 0; i < rows; i++)
                m[i * cols + c] /= (float)sqrt(norm);
        }
}

/* Draws an orthogonal matrix and scales its columns, as calibration may do. */
static float *draw_invertible(random_stream *r, int size)
{
    float *m = draw_matrix(r, size, size);
    if (!m)
        return NULL;
    make_orthonormal(m, size, size);
    for (int c = 0; c < size; c++) {
        float scale = exp2f(random_normal(r) / 2);
        for (int i = 0; i < size; i++)
            m[i * size + c] *= scale;
    }
    return m;
}

static void scale_row(float *m, int row, int cols, float factor)
{
    for (int c = 0; m && c < cols; c++)
        m[row * cols + c] *= factor;
}

/* limit_channel reaches only the first channel of each latent, times 4, so that at its limit the latent is
 * beyond f16. That channel's row of `a` is small. */
static void reach_limit(const case_spec *spec, float *u, int rank, int latents, float *a, int dkv)
{
    if (!u)
        return;
    scale_row(u, spec->limit_channel, rank, 0);
    for (int c = 0; c < rank; c += rank / latents)
        u[spec->limit_channel * rank + c] = 4;
    scale_row(a, 0, dkv, CASE_LIMIT_WEIGHT);
}

/* For latent-cl, before its columns are made orthonormal: the first latent channel is limit_channel alone,
 * and the other latent channels have none of it. */
static void set_limit_apart(const case_spec *spec, float *u)
{
    if (spec->limit_channel < 0)
        return;
    for (int i = 0; i < spec->hidden; i++)
        u[i * spec->rank_k] = 0;
    scale_row(u, spec->limit_channel, spec->rank_k, 0);
    u[spec->limit_channel * spec->rank_k] = 1;
}

static void weaken_limits(const case_spec *spec, case_weights *w, int dkv)
{
    if (spec->limit_channel < 0)
        return;
    scale_row(w->wk, spec->limit_channel, dkv, CASE_LIMIT_WEIGHT);
    scale_row(w->wv, spec->limit_channel, dkv, CASE_LIMIT_WEIGHT);
    reach_limit(spec, w->uk, spec->rotated ? spec->hidden : spec->rank_k, spec->groups_k, w->ak, dkv);
    if (spec->rotated)
        scale_row(w->av, 0, dkv, CASE_LIMIT_WEIGHT);
    else
        reach_limit(spec, w->uv, spec->rank_v, spec->groups_v, w->av, dkv);
}

/* Scales the matrices that make keys and values, so that these do not depend on the size of activations. */
static void fit_to_size(const case_spec *spec, case_weights *w, int dkv)
{
    float *matrix[] = {w->wk, w->wv, w->ak, w->av};
    int inner_k = spec->latent ? spec->rank_k / spec->groups_k : spec->hidden,
        inner_v = spec->latent ? spec->rank_v / spec->groups_v : spec->hidden;
    int rows[] = {spec->hidden, spec->hidden, inner_k, inner_v};
    for (int m = 0; m < 4; m++)
        for (size_t i = 0; matrix[m] && i < (size_t)rows[m] * (size_t)dkv; i++)
            matrix[m][i] = ldexpf(matrix[m][i], -spec->size);
}

xq_status case_weights_draw(random_stream *r, const case_spec *spec, case_weights *w, error *err)
{
    int dkv = spec->kv_heads * spec->head_dim;
    memset(w, 0, sizeof *w);
    w->wk = draw_matrix(r, spec->hidden, dkv);
    w->wv = draw_matrix(r, spec->hidden, dkv);
    bool complete = w->wk && w->wv;
    if (spec->latent) {
        w->uk = draw_matrix(r, spec->hidden, spec->rank_k);
        w->ak = draw_matrix(r, spec->rank_k / spec->groups_k, dkv);
        w->uv = draw_matrix(r, spec->hidden, spec->rank_v);
        w->av = draw_matrix(r, spec->rank_v / spec->groups_v, dkv);
        complete = complete && w->uk && w->ak && w->uv && w->av;
    }
    if (spec->latent && !verify_chosen(&spec->choice, AXIS_FEEDBACK, "no")) {
        w->k_cost = draw_costs(r, dkv, spec->head_dim);
        complete = complete && w->k_cost;
    }
    if (spec->rotated) {
        w->uk = draw_invertible(r, spec->hidden);
        w->ak = draw_matrix(r, spec->hidden, dkv);
        w->av = draw_matrix(r, spec->hidden, dkv);
        complete = complete && w->uk && w->ak && w->av;
    }
    if (spec->latent_cross) {
        w->ukv = draw_matrix(r, spec->hidden, spec->rank_k);
        complete = complete && w->ukv;
        if (w->ukv)
            set_limit_apart(spec, w->ukv);
        if (w->ukv)
            make_orthonormal(w->ukv, spec->hidden, spec->rank_k);
    }
    if (!verify_chosen(&spec->choice, AXIS_BIAS, "no")) {
        w->bk = draw_vector(r, dkv, 0, 0.5f);
        w->bv = draw_vector(r, dkv, 0, 0.5f);
        complete = complete && w->bk && w->bv;
    }
    if (!verify_chosen(&spec->choice, AXIS_NORM, "no")) {
        w->k_norm =
            draw_vector(r, verify_chosen(&spec->choice, AXIS_NORM, "row") ? dkv : spec->head_dim, 1, 0.2f);
        complete = complete && w->k_norm;
    }
    if (!verify_chosen(&spec->choice, AXIS_SINKS, "no")) {
        w->sinks = draw_vector(r, spec->heads, 0.5f, 1.5f);
        complete = complete && w->sinks;
    }
    if (complete) {
        weaken_limits(spec, w, dkv);
        fit_to_size(spec, w, dkv);
        return XQ_OK;
    }
    case_weights_free(w);
    return error_set(err, XQ_ERROR_MEMORY, "argument",
                     "out of memory for the weights of a verification case");
}

void case_weights_free(case_weights *w)
{
    free(w->wk);
    free(w->wv);
    free(w->uk);
    free(w->ak);
    free(w->uv);
    free(w->av);
    free(w->k_cost);
    free(w->ukv);
    free(w->bk);
    free(w->bv);
    free(w->k_norm);
    free(w->sinks);
    memset(w, 0, sizeof *w);
}
