/* The reference's side of a verification case: what append should have cached, and what attend should have
 * returned, in double precision. */
#include "../runtime/half.h"
#include "quantizer.h"
#include "verify_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t *page_of(const verifier *v, const verify_run *r, int implementation, int sequence,
                              int position)
{
    int entry = r->shape->indptr[sequence] + position / v->spec.page;
    return r->pages + (size_t)r->shape->indices[entry] * v->info[implementation].page_bytes;
}

/* Method x stores the quantized input itself: every code, scale and offset must be the host's. */
static int quantizer_mismatches(const verifier *v, const verify_run *r, int t)
{
    const case_shape *shape = r->shape;
    const int width = v->spec.hidden, group = v->codec->group;
    size_t groups = quantizer_groups((size_t)width, (size_t)group);
    uint8_t expected[8192], got[8192];
    uint16_t params[4][512];
    int position = shape->token_position[t], mismatches = 0;
    const uint8_t *page = page_of(v, r, XQ_FUSED, shape->token_sequence[t], position);
    quantizer_encode(&v->codec->stream[0].format, shape->x + (size_t)t * (size_t)width, (size_t)width,
                     expected, params[0], params[1]);
    page_codec_read(v->codec, 0, page, position % v->spec.page, got, params[2], params[3]);
    for (int c = 0; c < width; c++)
        mismatches += expected[c] != got[c];
    for (size_t g = 0; g < groups; g++)
        mismatches +=
            params[0][g] != params[2][g] || half_to_float(params[1][g]) != half_to_float(params[3][g]);
    return mismatches;
}

/* Latents: the projection's own rounding keeps codes from being predictable bit for bit. The largest
 * distance between the cached and the exact value, in quantization steps, beyond what rounding of the
 * latent to f16 explains; 0.5 is a perfect quantizer. */
static double latent_error(const verifier *v, const verify_run *r, int stream, int t)
{
    const case_shape *shape = r->shape;
    const int width = v->codec->stream[stream].width, position = shape->token_position[t];
    const float *u = stream ? v->weights.uv : v->weights.uk;
    const uint16_t *x = shape->x + (size_t)t * (size_t)v->spec.hidden;
    uint8_t codes[8192];
    uint16_t scale[512], offset[512];
    double worst = 0;
    page_codec_read(v->codec, stream, page_of(v, r, XQ_FUSED, shape->token_sequence[t], position),
                    position % v->spec.page, codes, scale, offset);
    for (int c = 0; c < width; c++) {
        double exact = 0, magnitude = 0, s = half_to_float(scale[c / v->codec->group]);
        for (int i = 0; i < v->spec.hidden; i++) {
            double term = (double)half_to_float(x[i]) * (double)u[(size_t)i * (size_t)width + (size_t)c];
            exact += term;
            magnitude += fabs(term);
        }
        double cached = s * codes[c] + half_to_float(offset[c / v->codec->group]);
        double rounding = fabs(exact) * 0x1p-10 + magnitude * 0x1p-20 + 255 * s * 0x1p-10;
        double steps = (fabs(cached - exact) - rounding) / (s > 0 ? s : 0x1p-14);
        if (!(steps <= worst)) /* a NaN is the worst of all */
            worst = steps;
    }
    return worst;
}

static void check_append(const verifier *v, const verify_run *r, verify_result *result)
{
    for (int t = 0; t < r->shape->tokens; t++) {
        if (!v->spec.latent) {
            result->quantizer_mismatches += quantizer_mismatches(v, r, t);
        } else if (t % 29 == 0) { /* a projection in double precision is slow: some tokens only */
            for (int stream = 0; stream < 2; stream++) {
                double steps = latent_error(v, r, stream, t);
                if (!(steps <= result->append_error))
                    result->append_error = steps;
            }
        }
    }
}

/* Rows of one sequence as cached: x̂ (or L̂k) and L̂v. */
static void read_sequence(const verifier *v, const verify_run *r, int sequence, double *xk, double *xv)
{
    for (int t = 0; t < r->shape->lengths[sequence]; t++) {
        const uint8_t *page = page_of(v, r, XQ_FUSED, sequence, t);
        page_codec_dequantize(v->codec, 0, page, t % v->spec.page,
                              xk + (size_t)t * (size_t)v->codec->stream[0].width);
        if (v->spec.latent)
            page_codec_dequantize(v->codec, 1, page, t % v->spec.page,
                                  xv + (size_t)t * (size_t)v->codec->stream[1].width);
    }
}

/* Keys (rotated) and values of one sequence from fp16 KV pages [2, page, Hkv, dh]. */
static void read_kv_sequence(const verifier *v, const verify_run *r, int sequence, double *k, double *value)
{
    const size_t row = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim;
    for (int t = 0; t < r->shape->lengths[sequence]; t++) {
        const uint16_t *page = (const uint16_t *)page_of(v, r, XQ_FP16_KV, sequence, t);
        half_to_doubles(k + (size_t)t * row, page + (size_t)(t % v->spec.page) * row, row);
        half_to_doubles(value + (size_t)t * row, page + (size_t)(v->spec.page + t % v->spec.page) * row,
                        row);
    }
}

static double *to_doubles(const float *m, size_t count)
{
    double *d = malloc(count * sizeof *d);
    for (size_t i = 0; d && i < count; i++)
        d[i] = m[i];
    return d;
}

/* Compares one sequence of a run; NaN or a wrong infinity counts as an infinite error. */
static void compare_sequence(const verifier *v, const verify_run *r, int implementation, int sequence,
                             const double *out, const double *lse, verify_result *result)
{
    size_t heads = (size_t)v->spec.heads, values = heads * (size_t)v->spec.head_dim;
    double e = reference_error(out, r->out + (size_t)sequence * values, values);
    if (!(e <= result->out_error[implementation]))
        result->out_error[implementation] = e;
    for (size_t h = 0; h < heads; h++) {
        double got = r->lse[(size_t)sequence * heads + h];
        double difference = got == lse[h] ? 0 : fabs(got - lse[h]); /* -inf for an empty sequence */
        if (!(difference <= result->lse_error[implementation]))
            result->lse_error[implementation] = difference;
    }
}

/* Working memory of the comparison, for the longest sequence of a case. */
typedef struct scratch {
    double *xk, *xv, *wk, *wv, *q, *out, *lse;
} scratch;

static void scratch_free(scratch *s)
{
    free(s->xk);
    free(s->xv);
    free(s->wk);
    free(s->wv);
    free(s->q);
    free(s->out);
    free(s->lse);
}

static xq_status scratch_create(const verifier *v, const case_shape *shape, scratch *s, error *err)
{
    const case_spec *spec = &v->spec;
    const int dkv = spec->kv_heads * spec->head_dim;
    const int inner_k = spec->latent ? spec->rank_k : spec->hidden,
              inner_v = spec->latent ? spec->rank_v : spec->hidden;
    const int widest = spec->hidden > dkv ? spec->hidden : dkv;
    size_t rows = (size_t)shape->longest + 1, values = (size_t)spec->heads * (size_t)spec->head_dim;
    s->xk = malloc(rows * (size_t)widest * sizeof(double));
    s->xv = malloc(rows * (size_t)widest * sizeof(double));
    s->wk = to_doubles(spec->latent ? v->weights.ak : v->weights.wk, (size_t)inner_k * (size_t)dkv);
    s->wv = to_doubles(spec->latent ? v->weights.av : v->weights.wv, (size_t)inner_v * (size_t)dkv);
    s->q = malloc(values * sizeof(double));
    s->out = malloc(values * sizeof(double));
    s->lse = malloc((size_t)spec->heads * sizeof(double));
    if (s->xk && s->xv && s->wk && s->wv && s->q && s->out && s->lse)
        return XQ_OK;
    scratch_free(s);
    return verify_out_of_memory(err);
}

static void load_query(const verifier *v, const case_shape *shape, int sequence, double *q)
{
    size_t values = (size_t)v->spec.heads * (size_t)v->spec.head_dim;
    half_to_doubles(q, shape->q + (size_t)sequence * values, values);
}

/* Both quantized implementations against the reference on the cache that append filled. */
static xq_status compare_quantized(const verifier *v, const verify_run *fused, const verify_run *unfused,
                                   scratch *s, verify_result *result, error *err)
{
    const case_spec *spec = &v->spec;
    reference_factors factors = {s->xk,
                                 spec->latent ? s->xv : s->xk,
                                 s->wk,
                                 s->wv,
                                 spec->latent ? spec->rank_k : spec->hidden,
                                 spec->latent ? spec->rank_v : spec->hidden};
    for (int i = 0; i < fused->shape->batch; i++) {
        read_sequence(v, fused, i, s->xk, s->xv);
        load_query(v, fused->shape, i, s->q);
        if (reference_attend_factors(&v->model, fused->shape->lengths[i], &factors, s->q, s->out, s->lse,
                                     err) != XQ_OK)
            return err->status;
        compare_sequence(v, fused, XQ_FUSED, i, s->out, s->lse, result);
        compare_sequence(v, unfused, XQ_UNFUSED, i, s->out, s->lse, result);
    }
    return XQ_OK;
}

/* Keys and values that the fp16 cache should hold: x * Wk rotated, x * Wv. */
static void check_kv_append(const verifier *v, const verify_run *r, int sequence, const double *k,
                            const double *value, verify_result *result)
{
    const case_shape *shape = r->shape;
    const int hidden = v->spec.hidden;
    const size_t row = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim;
    double *expected = malloc(2 * row * sizeof *expected);
    for (int t = 0; expected && t < shape->tokens; t += 41) {
        if (shape->token_sequence[t] != sequence)
            continue;
        const uint16_t *x = shape->x + (size_t)t * (size_t)hidden;
        memset(expected, 0, 2 * row * sizeof *expected);
        for (int i = 0; i < hidden; i++) {
            for (size_t c = 0; c < row; c++) {
                expected[c] += (double)half_to_float(x[i]) * (double)v->weights.wk[(size_t)i * row + c];
                expected[row + c] +=
                    (double)half_to_float(x[i]) * (double)v->weights.wv[(size_t)i * row + c];
            }
        }
        int position = shape->token_position[t];
        reference_rotate(&v->model, expected, 1, v->spec.kv_heads, position);
        double ek = reference_error(expected, k + (size_t)position * row, row);
        double ev = reference_error(expected + row, value + (size_t)position * row, row);
        double e = ek > ev || isnan(ek) ? ek : ev;
        if (!(e <= result->kv_append_error))
            result->kv_append_error = e;
    }
    if (!expected)
        result->kv_append_error = INFINITY;
    free(expected);
}

static xq_status compare_kv(const verifier *v, const verify_run *kv, scratch *s, verify_result *result,
                            error *err)
{
    for (int i = 0; i < kv->shape->batch; i++) {
        int length = kv->shape->lengths[i];
        read_kv_sequence(v, kv, i, s->xk, s->xv);
        check_kv_append(v, kv, i, s->xk, s->xv, result);
        load_query(v, kv->shape, i, s->q);
        reference_rotate(&v->model, s->q, 1, v->spec.heads, length - 1);
        if (reference_attend(&v->model, length, s->xk, s->xv, s->q, s->out, s->lse, err) != XQ_OK)
            return err->status;
        compare_sequence(v, kv, XQ_FP16_KV, i, s->out, s->lse, result);
    }
    return XQ_OK;
}

xq_status verify_compare(const verifier *v, const verify_run runs[IMPLEMENTATIONS], verify_result *result,
                         error *err)
{
    scratch s = {0};
    if (scratch_create(v, runs[XQ_FUSED].shape, &s, err) != XQ_OK)
        return err->status;
    check_append(v, &runs[XQ_FUSED], result);
    if (compare_quantized(v, &runs[XQ_FUSED], &runs[XQ_UNFUSED], &s, result, err) == XQ_OK)
        compare_kv(v, &runs[XQ_FP16_KV], &s, result, err);
    scratch_free(&s);
    return err->status;
}
