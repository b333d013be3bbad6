/* Checks the accumulator after a layer's deltas were added: bit for bit where deltas are added as they are
 * cached, within rounding errors where they are projected back first. */
#include "../../runtime/base/half.h"
#include "checks.h"
#include "group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The check of one layer's accumulation, with room for a row. */
typedef struct sums {
    const verify_state *v;
    const case_shape *shape;
    const page_stream *s, *a; /* stream of the deltas, and stream of the accumulator */
    int layer;
    double *ukvt; /* latent-cl: Ukvᵀ [width of s, hidden], rounded; then its magnitudes */
    double *delta, *exact, *rounding;
    verify_result *result;
} sums;

static double *transposed_projection(const verify_state *v, int layer)
{
    const page_stream *s = &v->codec->stream[0];
    size_t hidden = (size_t)v->spec.hidden, width = (size_t)s->width, rank = (size_t)s->rank;
    double *m = calloc(2 * hidden * width, sizeof *m);
    for (size_t i = 0; m && i < hidden; i++)
        for (size_t c = 0; c < rank; c++) {
            double value = (double)v->weights[layer].ukv[i * rank + c];
            value = v->spec.weights == ROUNDING_BF16 ? rounding_bfloat(value) : rounding_half(value);
            m[c * hidden + i] = value;
            m[(width + c) * hidden + i] = fabs(value);
        }
    return m;
}

/* Reads the delta of token t as kernels see it: the f16 values of its codes. */
static void delta_values(const sums *k, const page_sequence *cache, int t)
{
    double *row = k->delta;
    page_codec_dequantize_token(k->v->codec, 0, cache, t, row);
    for (int c = 0; c < k->s->width; c++) {
        row[c] = rounding_half(row[c]);
        if (k->ukvt && k->v->spec.weights == ROUNDING_BF16)
            row[c] = rounding_bfloat(row[c]);
    }
}

/* Computes exact [hidden], the value of the accumulator before it is stored, and the rounding error that it
 * may have: 0 where it must be right bit for bit. */
static void expected_row(const sums *k, const page_sequence *cache, const page_sequence *before, int t)
{
    size_t hidden = (size_t)k->v->spec.hidden, width = (size_t)k->s->width;
    uint16_t seen[4096];
    memset(k->rounding, 0, hidden * sizeof *k->rounding);
    if (t >= page_codec_tail_begin(k->v->codec, 0, cache)) { /* the tail holds the activation itself */
        const uint16_t *row = page_codec_tail_row(k->v->codec, 0, cache, t);
        half_to_doubles(k->exact, row, hidden);
        return;
    }
    delta_values(k, cache, t);
    if (k->ukvt) {
        double *magnitude = k->delta + width;
        for (size_t c = 0; c < width; c++)
            magnitude[c] = fabs(k->delta[c]);
        reference_multiply(k->delta, k->ukvt, k->exact, 1, (int)width, (int)hidden);
        reference_multiply(magnitude, k->ukvt + width * hidden, k->rounding, 1, (int)width, (int)hidden);
    } else {
        memcpy(k->exact, k->delta, hidden * sizeof *k->exact);
    }
    if (k->layer > 0)
        verify_accumulator_row(k->v, before, t, seen);
    for (size_t i = 0; i < hidden; i++) {
        double sum = k->exact[i] + (k->layer > 0 ? (double)half_to_float(seen[i]) : 0);
        k->rounding[i] = k->ukvt ? k->rounding[i] * 0x1p-20 + fmax(fabs(sum) * 0x1p-11, 0x1p-25) : 0;
        k->exact[i] = k->ukvt ? sum : rounding_half(rounding_saturated((double)(float)sum));
    }
}

/* Compares bit for bit, f16 values or requantized codes. */
static void compare_exact(const sums *k, const uint8_t *page, int slot)
{
    enum { MOST = 4096 };
    uint16_t x[MOST], got[MOST], params[4][256];
    uint8_t codes[2][MOST];
    const page_stream *a = k->a;
    for (int i = 0; i < a->width; i++)
        x[i] = rounding_to_half(k->exact[i]);
    if (a->format.bits == 16) {
        page_codec_read_halves(k->v->accumulator, 0, page, slot, got);
        for (int i = 0; i < a->width; i++)
            k->result->mismatches += half_to_float(got[i]) != half_to_float(x[i]);
        return;
    }
    quantizer_encode(&a->format, x, (size_t)a->width, codes[0], params[0], params[1]);
    page_codec_read(k->v->accumulator, 0, page, slot, codes[1], params[2], params[3]);
    for (int i = 0; i < a->width; i++)
        k->result->mismatches += codes[0][i] != codes[1][i];
    for (int g = 0; g < a->groups; g++)
        k->result->mismatches += half_to_float(params[0][g]) != half_to_float(params[2][g]) ||
                                 half_to_float(params[1][g]) != half_to_float(params[3][g]);
}

static void add_steps(const sums *k, double steps, double bound)
{
    steps *= 0.51 / bound;
    if (!(steps <= k->result->append_error))
        k->result->append_error = steps;
}

static void compare_near(const sums *k, const uint8_t *page, int slot)
{
    const page_stream *a = k->a;
    size_t width = (size_t)a->width;
    if (a->format.bits == 16) {
        uint16_t got[4096];
        page_codec_read_halves(k->v->accumulator, 0, page, slot, got);
        for (size_t i = 0; i < width; i++) {
            double e = fabs((double)half_to_float(got[i]) - k->exact[i]);
            k->result->mismatches += !(e <= k->rounding[i] + fabs(k->exact[i]) * 0x1p-11 + 0x1p-24);
        }
        return;
    }
    uint8_t codes[4096];
    uint16_t scale[256], zero[256];
    page_codec_read(k->v->accumulator, 0, page, slot, codes, scale, zero);
    for (size_t g = 0, c = 0, end; c < width; g++, c = end) {
        end = quantizer_group_end(&a->format, c, width);
        size_t count = end - c;
        verify_group found = {.format = &a->format,
                              .count = count,
                              .stride = 1,
                              .exact = k->exact + c,
                              .rounding = k->rounding + c,
                              .codes = codes + c,
                              .scale = scale[g],
                              .zero = zero[g]};
        add_steps(k, verify_group_steps(&found), verify_group_bound(&a->format));
    }
}

static void check_sequence(const sums *k, int sequence, int length, const verify_snapshot *after,
                           const verify_snapshot *before)
{
    page_sequence cache = verify_snapshot_sequence(k->v, k->shape, after, sequence, length);
    page_sequence found = verify_snapshot_accumulator(k->shape, after, sequence, length);
    page_sequence was = verify_snapshot_accumulator(k->shape, before, sequence, length);
    for (int t = 0; t < length; t += k->ukvt && t + 5 < length ? 5 : 1) {
        int page = t / k->v->spec.page, slot = t % k->v->spec.page;
        const uint8_t *bytes = found.pool + (size_t)found.pages[page] * k->v->accumulator->page_bytes;
        bool in_tail = t >= page_codec_tail_begin(k->v->codec, 0, &cache);
        expected_row(k, &cache, &was, t);
        (k->ukvt && !in_tail ? compare_near : compare_exact)(k, bytes, slot);
    }
}

xq_status verify_check_accumulate(const verify_state *v, const case_shape *shape, int layer, int round,
                                  const verify_snapshot *after, const verify_snapshot *before,
                                  verify_result *result, error *err)
{
    size_t hidden = (size_t)v->spec.hidden, width = (size_t)v->codec->stream[0].width;
    case_round r = case_round_of(shape, round);
    sums k = {.v = v,
              .shape = shape,
              .s = &v->codec->stream[0],
              .a = &v->accumulator->stream[0],
              .layer = layer,
              .result = result};
    k.delta = malloc((2 * width + 2 * hidden) * sizeof *k.delta);
    if (v->spec.latent_cross)
        k.ukvt = transposed_projection(v, layer);
    if (!k.delta || (v->spec.latent_cross && !k.ukvt)) {
        verify_out_of_memory(err);
    } else {
        k.exact = k.delta + 2 * width;
        k.rounding = k.exact + hidden;
        for (int i = 0; i < shape->sequences; i++)
            check_sequence(&k, i, r.end[i], after, before);
    }
    free(k.delta);
    free(k.ukvt);
    return err->status;
}
