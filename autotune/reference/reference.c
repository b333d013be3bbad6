#include "reference.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>

static xq_status out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a reference attention");
}

/* ---------------------------------------------------------------- RoPE */

static void rotate_row(const reference_model *model, double *row, int heads, int64_t position)
{
    for (int i = 0; i < model->pairs; i++) {
        /* In double precision an angle of 2^31 rad would be off by 2e-7, and by more because its frequency
         * is rounded too. */
        long double angle = (long double)position * model->frequencies[i];
        double c = (double)cosl(angle), s = (double)sinl(angle);
        int first = model->interleaved ? 2 * i : i,
            second = model->interleaved ? 2 * i + 1 : i + model->pairs;
        for (int h = 0; h < heads; h++) {
            double *head = row + (size_t)h * (size_t)model->head_dim;
            double a = head[first], b = head[second];
            head[first] = a * c - b * s;
            head[second] = b * c + a * s;
        }
    }
}

void reference_rotate(const reference_model *model, double *data, int64_t rows, int heads, int64_t first)
{
    for (int64_t r = 0; r < rows; r++)
        rotate_row(model, data + (size_t)r * (size_t)heads * (size_t)model->head_dim, heads, first + r);
}

/* Applies RoPE in place: row r is at positions[r]. */
static void rotate_at(const reference_model *model, double *data, int64_t rows, int heads,
                      const int64_t *positions)
{
    for (int64_t r = 0; r < rows; r++)
        rotate_row(model, data + (size_t)r * (size_t)heads * (size_t)model->head_dim, heads, positions[r]);
}

/* ---------------------------------------------------------------- keys and values */

void reference_multiply(const double *x, const double *w, double *y, int64_t rows, int inner, int cols)
{
    if (rows > 0)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, cols, inner, 1.0, x, inner, w,
                    cols, 0.0, y, cols);
}

/* y [tokens, dkv]: the heads of each group are projected from that group's latent, a part of each row of
 * x. */
static void project(const reference_model *model, int64_t tokens, const double *x, const double *w,
                    int inner, int latents, const double *bias, double *y)
{
    int dkv = model->kv_heads * model->head_dim, cols = dkv / latents;
    for (int l = 0; l < latents && tokens > 0; l++)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)tokens, cols, inner, 1.0,
                    x + (size_t)l * (size_t)inner, latents * inner, w + (size_t)l * (size_t)cols, dkv, 0.0,
                    y + (size_t)l * (size_t)cols, dkv);
    for (int64_t i = 0; bias && i < tokens * dkv; i++)
        y[i] += bias[i % dkv];
}

/* RMS normalization of `count` values, with a factor for each. */
static void normalize(double *values, const double *factors, int count, double epsilon)
{
    double squares = 0;
    for (int i = 0; i < count; i++)
        squares += values[i] * values[i];
    double inverse = 1 / sqrt(squares / count + epsilon);
    for (int i = 0; i < count; i++)
        values[i] *= inverse * factors[i];
}

xq_status reference_keys(const reference_model *model, const reference_layer *layer, int64_t tokens,
                         const double *xk, const int64_t *positions, double *k, error *err)
{
    int dkv = model->kv_heads * model->head_dim,
        span = model->norm == REFERENCE_NORM_ROW ? dkv : model->head_dim;
    if ((model->bias && !layer->bk) || (model->norm && !layer->k_norm))
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "the reference lacks bk or k_norm");
    project(model, tokens, xk, layer->wk, layer->inner_k, layer->latents_k, model->bias ? layer->bk : NULL,
            k);
    for (int64_t i = 0; model->norm && i < tokens * dkv; i += span)
        normalize(k + i, layer->k_norm, span, model->norm_epsilon);
    rotate_at(model, k, tokens, model->kv_heads, positions);
    return XQ_OK;
}

xq_status reference_values(const reference_model *model, const reference_layer *layer, int64_t tokens,
                           const double *xv, double *v, error *err)
{
    if (model->bias && !layer->bv)
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "the reference lacks bv");
    project(model, tokens, xv, layer->wv, layer->inner_v, layer->latents_v, model->bias ? layer->bv : NULL,
            v);
    return XQ_OK;
}

/* ---------------------------------------------------------------- whole layers */

xq_status reference_attend_layer(const reference_model *model, const reference_layer *layer, int64_t tokens,
                                 const double *xk, const double *xv, const reference_queries *queries,
                                 double *out, double *lse, error *err)
{
    size_t count = (size_t)tokens * (size_t)model->kv_heads * (size_t)model->head_dim;
    double *k = malloc((2 * count + 1) * sizeof *k);
    int64_t *positions = malloc(((size_t)tokens + 1) * sizeof *positions);
    if (!k || !positions) {
        out_of_memory(err);
    } else {
        reference_token_positions(queries, tokens, positions);
        if (reference_keys(model, layer, tokens, xk, positions, k, err) == XQ_OK &&
            reference_values(model, layer, tokens, xv, k + count, err) == XQ_OK)
            reference_attend_queries(model, layer, tokens, k, k + count, queries, out, lse, err);
    }
    free(k);
    free(positions);
    return err->status;
}

double reference_error(const double *expected, const double *got, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        double d = got[i] - expected[i];
        if (!isfinite(got[i]) || !isfinite(expected[i]))
            return INFINITY;
        difference += d * d;
        norm += expected[i] * expected[i];
    }
    if (norm == 0)
        return difference == 0 ? 0 : INFINITY;
    return sqrt(difference / norm);
}
