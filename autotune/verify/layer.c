/* A layer's projections as each implementation has them: rounded to the type of weights, and padded as
 * latents are. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

void verify_layer_free(verify_layer *l)
{
    free(l->wk);
    free(l->wv);
    free(l->vectors);
    memset(l, 0, sizeof *l);
}

/* Rounds w [rows, cols], and adds rows of zeros up to `padded` rows. */
static double *rounded(rounding_type type, const float *w, int rows, int padded, int cols)
{
    double *m = calloc((size_t)padded * (size_t)cols + 1, sizeof *m);
    if (m)
        rounding_matrix(type, w, (size_t)rows, (size_t)cols, 0, m);
    return m;
}

/* The fused kernel does not compute the columns of K that are neither rotated nor normalized: it multiplies
 * queries by their weights. So 8-bit weights of these columns have a scale for each row (a channel of the
 * latent), over all heads. Each head's columns are padded with zeros to a multiple of 16. */
static xq_status round_absorbed(const verify_state *v, const float *w, int rows, double *m, error *err)
{
    const reference_model *model = &v->model;
    int dh = model->head_dim, turning = 2 * model->pairs, still = dh - turning, dkv = model->kv_heads * dh;
    size_t padded = ((size_t)still + 15) / 16 * 16, cols = (size_t)model->kv_heads * padded;
    if (model->norm != REFERENCE_NO_NORM || still == 0)
        return XQ_OK;
    float *part = calloc((size_t)rows * cols, sizeof *part);
    double *exact = malloc((size_t)rows * cols * sizeof *exact);
    if (!part || !exact) {
        free(part);
        free(exact);
        return verify_out_of_memory(err);
    }
    for (int pass = 0; pass < 2; pass++) { /* pass 0 gathers the columns, pass 1 writes them back */
        for (size_t i = 0; i < (size_t)rows * cols; i++) {
            size_t row = i / cols, head = i % cols / padded, c = i % padded;
            size_t at = row * (size_t)dkv + head * (size_t)dh + (size_t)turning + c;
            if (c >= (size_t)still)
                continue;
            if (pass)
                m[at] = exact[i];
            else
                part[i] = w[at];
        }
        if (!pass)
            rounding_matrix(v->spec.weights, part, (size_t)rows, cols, 1, exact);
    }
    free(part);
    free(exact);
    return XQ_OK;
}

/* Stores the vectors one after the other, exact: bk, bv, k_norm, sinks. */
static xq_status read_vectors(const verify_state *v, const case_weights *w, verify_layer *out, error *err)
{
    const reference_model *m = &v->model;
    size_t dkv = (size_t)m->kv_heads * (size_t)m->head_dim, heads = (size_t)m->heads;
    size_t norm = m->norm == REFERENCE_NORM_ROW ? dkv : (size_t)m->head_dim;
    const float *const source[] = {w->bk, w->bv, w->k_norm, w->sinks};
    const size_t count[] = {dkv, dkv, norm, heads};
    const double **const target[] = {&out->layer.bk, &out->layer.bv, &out->layer.k_norm, &out->layer.sinks};
    double *next = out->vectors = malloc((3 * dkv + norm + heads) * sizeof *next);
    if (!next)
        return verify_out_of_memory(err);
    for (int i = 0; i < 4; i++) {
        if (!source[i])
            continue;
        for (size_t j = 0; j < count[i]; j++)
            next[j] = (double)source[i][j];
        *target[i] = next;
        next += count[i];
    }
    return XQ_OK;
}

xq_status verify_layer_create(const verify_state *v, int implementation, int layer, verify_layer *out,
                              error *err)
{
    const case_weights *w = &v->weights[layer];
    const case_spec *s = &v->spec;
    bool kv = verify_is_kv(implementation), latent = s->latent && !kv,
         factored = latent || (s->rotated && !kv);
    /* The projections of KV caches have 16 bits whatever the type of the other weights is. */
    rounding_type type = kv && s->weights != ROUNDING_BF16 ? ROUNDING_F16 : s->weights;
    int dkv = s->kv_heads * s->head_dim;
    int rows_k = latent ? s->rank_k / s->groups_k : s->hidden,
        rows_v = latent ? s->rank_v / s->groups_v : s->hidden;
    memset(out, 0, sizeof *out);
    out->layer.inner_k = latent ? v->codec->stream[0].latent_width : s->hidden;
    out->layer.inner_v = latent ? v->codec->stream[1].latent_width : s->hidden;
    out->layer.latents_k = latent ? s->groups_k : 1;
    out->layer.latents_v = latent ? s->groups_v : 1;
    const float *source_k = factored ? w->ak : w->wk, *source_v = factored ? w->av : w->wv;
    out->wk = rounded(type, source_k, rows_k, out->layer.inner_k, dkv);
    out->wv = rounded(type, source_v, rows_v, out->layer.inner_v, dkv);
    out->layer.wk = out->wk;
    out->layer.wv = out->wv;
    if (!out->wk || !out->wv)
        verify_out_of_memory(err);
    else if (read_vectors(v, w, out, err) == XQ_OK && implementation == XQ_FUSED)
        round_absorbed(v, source_k, rows_k, out->wk, err);
    if (err->status != XQ_OK)
        verify_layer_free(out);
    return err->status;
}
