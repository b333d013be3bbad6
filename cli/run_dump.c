/* xq run --dump-cache: adds the cache and the matrices to the results. */
#include "../autotune/reference/reference.h"
#include "../autotune/reference/seen.h"
#include "../prepare/factor.h"
#include "../runtime/base/half.h"
#include "../runtime/launch/last_error.h"
#include "run.h"

#include <stdlib.h>
#include <string.h>

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
}

/* Removes the padding of rows that consist of `latents` matrices side by side, each stored `stored` columns
 * wide. */
static uint16_t *unpadded(const uint16_t *rows, int64_t count, int latents, int stored, int rank)
{
    size_t from = (size_t)latents * (size_t)stored, to = (size_t)latents * (size_t)rank;
    uint16_t *out = malloc(2 * (size_t)count * to + 1);
    for (int64_t t = 0; out && t < count; t++)
        for (int g = 0; g < latents; g++)
            memcpy(out + (size_t)t * to + (size_t)(g * rank),
                   rows + (size_t)t * from + (size_t)g * (size_t)stored, 2 * (size_t)rank);
    return out;
}

/* ---------------------------------------------------------------- the cache */

static xq_status add_stream(struct run_layer *l, const char *name, const uint16_t *rows, int stored,
                            int rank, int latents, error *err)
{
    const int64_t shape[2] = {l->tokens, rank};
    uint16_t *values = unpadded(rows, l->tokens, latents, stored / latents, rank / latents);
    if (!values)
        return no_memory(err);
    run_add(l, name, l->traits.bfloat ? TENSOR_BF16 : TENSOR_F16, 2, shape, values);
    return XQ_OK;
}

/* Adds x_hat in the model's own coordinates. The cache holds x·U. */
static xq_status add_turned_back(struct run_layer *l, const uint16_t *rows, error *err)
{
    const int d = l->traits.shape.hidden_size;
    const int64_t shape[2] = {l->tokens, d};
    size_t count = (size_t)l->tokens * (size_t)d;
    double *x = malloc(sizeof *x * count);
    float *data = malloc(sizeof *data * count);
    for (size_t i = 0; x && i < count; i++)
        x[i] = (double)(l->traits.bfloat ? half_from_bfloat(rows[i]) : half_to_float(rows[i]));
    if (!x || !data)
        no_memory(err);
    else
        factor_turn_back(l->weights.uk, d, l->tokens, x, err);
    for (size_t i = 0; err->status == XQ_OK && i < count; i++)
        data[i] = (float)x[i];
    free(x);
    if (err->status == XQ_OK)
        run_add(l, "x_hat", TENSOR_F32, 2, shape, data);
    else
        free(data);
    return err->status;
}

static xq_status add_cache(struct run *r, struct run_layer *l, int index, error *err)
{
    const layer_shape *s = &l->traits.shape;
    bool latent = s->method == LAYER_LATENT;
    size_t rows =
        (size_t)((l->tokens + l->info.page_tokens - 1) / l->info.page_tokens) * (size_t)l->info.page_tokens;
    int stored_k = layer_is_cross(s) ? s->hidden_size : l->info.rank_k;
    int rank_k = latent ? s->rank_k : s->hidden_size;
    uint16_t *k = malloc(2 * rows * (size_t)stored_k);
    uint16_t *v = latent ? malloc(2 * rows * (size_t)l->info.rank_v) : NULL;
    if (!k || (latent && !v)) {
        no_memory(err);
    } else {
        xq_status status = driver_dequantize(&r->driver, index, 0, k, v);
        if (status != XQ_OK)
            last_error_read(r->context, status, err);
        else if (layer_is_rotated_x(s))
            add_turned_back(l, k, err);
        else if (add_stream(l, latent ? "lk_hat" : "x_hat", k, stored_k, rank_k, s->groups_k, err) ==
                     XQ_OK &&
                 latent)
            add_stream(l, "lv_hat", v, l->info.rank_v, s->rank_v, s->groups_v, err);
    }
    free(k);
    free(v);
    return err->status;
}

/* ---------------------------------------------------------------- weights */

/* Adds a matrix as the kernels see it. Its values fit into its type where that has 16 bits. With 8-bit
 * types the scales need f32. */
static xq_status add_matrix(struct run *r, struct run_layer *l, int index, const char *name, const float *w,
                            int rows, int cols, error *err)
{
    const int64_t shape[2] = {rows, cols};
    const xq_plan *plan = r->driver.layers[index].plan;
    size_t count = (size_t)rows * (size_t)cols;
    double *seen = malloc(sizeof *seen * count);
    float *data = malloc(sizeof *data * count);
    uint16_t *halves = (void *)data; /* for 16-bit types, which use half of the memory */
    rounding_type type;
    if (!seen || !data)
        no_memory(err);
    else
        seen_matrix(xq_plan_spec(plan), r->o->unfused ? XQ_UNFUSED : XQ_FUSED, name, w, (size_t)rows,
                    (size_t)cols, seen, &type, err);
    for (size_t i = 0; err->status == XQ_OK && i < count; i++) {
        if (type == ROUNDING_F16)
            halves[i] = rounding_to_half(seen[i]);
        else if (type == ROUNDING_BF16)
            halves[i] = rounding_to_bfloat(seen[i]);
        else
            data[i] = (float)seen[i];
    }
    free(seen);
    if (err->status != XQ_OK)
        free(data);
    else
        run_add(l, name,
                type == ROUNDING_F16    ? TENSOR_F16
                : type == ROUNDING_BF16 ? TENSOR_BF16
                                        : TENSOR_F32,
                2, shape, data);
    return err->status;
}

/* Adds U times a factor as the kernels see it. The product is the matrix that x_hat is multiplied by, and
 * has the model's name for it. */
static xq_status add_unrotated(struct run *r, struct run_layer *l, int index, const char *name,
                               const char *source, const float *a, error *err)
{
    const int d = l->traits.shape.hidden_size, dkv = l->traits.shape.kv_width;
    const int64_t shape[2] = {d, dkv};
    size_t rows = (size_t)d, cols = (size_t)dkv;
    double *u = malloc(sizeof *u * rows * rows), *seen = malloc(sizeof *seen * 2 * rows * cols);
    float *data = malloc(sizeof *data * rows * cols);
    double *product = seen ? seen + rows * cols : NULL;
    if (!u || !seen || !data)
        no_memory(err);
    else
        seen_matrix(xq_plan_spec(r->driver.layers[index].plan), r->o->unfused ? XQ_UNFUSED : XQ_FUSED,
                    source, a, rows, cols, seen, NULL, err);
    for (size_t i = 0; err->status == XQ_OK && i < rows * rows; i++)
        u[i] = (double)l->weights.uk[i];
    if (err->status == XQ_OK)
        reference_multiply(u, seen, product, d, d, dkv);
    for (size_t i = 0; err->status == XQ_OK && i < rows * cols; i++)
        data[i] = (float)product[i];
    free(u);
    free(seen);
    if (err->status == XQ_OK)
        run_add(l, name, TENSOR_F32, 2, shape, data);
    else
        free(data);
    return err->status;
}

xq_status run_dump(struct run *r, struct run_layer *l, int index, error *err)
{
    const layer_shape *s = &l->traits.shape;
    const layer_weights *w = &l->weights;
    if (add_cache(r, l, index, err) != XQ_OK)
        return err->status;
    if (s->method == LAYER_LATENT) {
        if (add_matrix(r, l, index, "ak", w->ak, s->rank_k / s->groups_k, s->kv_width, err) == XQ_OK)
            add_matrix(r, l, index, "av", w->av, s->rank_v / s->groups_v, s->kv_width, err);
    } else if (layer_is_rotated_x(s)) {
        if (add_unrotated(r, l, index, "wk", "ak", w->ak, err) == XQ_OK)
            add_unrotated(r, l, index, "wv", "av", w->av, err);
    } else if (add_matrix(r, l, index, "wk", w->wk, s->hidden_size, s->kv_width, err) == XQ_OK) {
        add_matrix(r, l, index, "wv", w->wv, s->hidden_size, s->kv_width, err);
    }
    return err->status;
}
