#include "reference.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void reference_rotate(const reference_model *model, double *data, int64_t rows, int heads, int64_t first)
{
    int half = model->head_dim / 2;
    for (int64_t r = 0; r < rows; r++) {
        for (int i = 0; i < model->pairs; i++) {
            double angle = (double)(first + r) * model->frequencies[i];
            double c = cos(angle), s = sin(angle);
            for (int h = 0; h < heads; h++) {
                double *head = data + ((size_t)r * (size_t)heads + (size_t)h) * (size_t)model->head_dim;
                double a = head[i], b = head[i + half];
                head[i] = a * c - b * s;
                head[i + half] = b * c + a * s;
            }
        }
    }
}

void reference_multiply(const double *x, const double *w, double *y, int64_t rows, int inner, int cols)
{
    if (rows > 0)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, cols, inner, 1.0, x, inner, w,
                    cols, 0.0, y, cols);
}

static double dot(const double *a, const double *b, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* scores [tokens] is scratch; head h reads KV head h / (heads / kv_heads). */
static void attend_head(const reference_model *m, int64_t tokens, const double *k, const double *v,
                        const double *q, double *scores, double *out, double *lse)
{
    size_t stride = (size_t)m->kv_heads * (size_t)m->head_dim;
    double most = -INFINITY, sum = 0;
    for (int64_t t = 0; t < tokens; t++) {
        scores[t] = m->scale * dot(q, k + (size_t)t * stride, m->head_dim);
        most = scores[t] > most || isnan(scores[t]) ? scores[t] : most;
    }
    memset(out, 0, sizeof *out * (size_t)m->head_dim);
    for (int64_t t = 0; t < tokens; t++) {
        double weight = exp(scores[t] - most);
        sum += weight;
        for (int i = 0; i < m->head_dim; i++)
            out[i] += weight * v[(size_t)t * stride + (size_t)i];
    }
    for (int i = 0; i < m->head_dim && tokens > 0; i++)
        out[i] /= sum;
    *lse = tokens > 0 ? most + log(sum) : -INFINITY;
}

xq_status reference_attend(const reference_model *model, int64_t tokens, const double *k, const double *v,
                           const double *q, double *out, double *lse, error *err)
{
    double *scores = malloc(sizeof *scores * (size_t)(tokens + 1));
    if (!scores)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a reference attention");
    int per_kv = model->heads / model->kv_heads, dh = model->head_dim;
    for (int h = 0; h < model->heads; h++) {
        size_t kv = (size_t)(h / per_kv) * (size_t)dh, at = (size_t)h * (size_t)dh;
        attend_head(model, tokens, k + kv, v + kv, q + at, scores, out + at, lse + h);
    }
    free(scores);
    return XQ_OK;
}

xq_status reference_attend_factors(const reference_model *model, int64_t tokens, const reference_factors *f,
                                   const double *q, double *out, double *lse, error *err)
{
    int dkv = model->kv_heads * model->head_dim;
    size_t kv_count = (size_t)tokens * (size_t)dkv,
           q_count = (size_t)model->heads * (size_t)model->head_dim;
    double *k = malloc(sizeof *k * (2 * kv_count + q_count + 1));
    if (!k)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a reference attention");
    double *v = k + kv_count, *rotated = v + kv_count;
    reference_multiply(f->xk, f->wk, k, tokens, f->inner_k, dkv);
    reference_multiply(f->xv, f->wv, v, tokens, f->inner_v, dkv);
    memcpy(rotated, q, sizeof *q * q_count);
    reference_rotate(model, k, tokens, model->kv_heads, 0);
    reference_rotate(model, rotated, 1, model->heads, tokens - 1);
    xq_status status = reference_attend(model, tokens, k, v, rotated, out, lse, err);
    free(k);
    return status;
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
