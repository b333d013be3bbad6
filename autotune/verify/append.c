/* Checks the values that append cached. Activations and deltas that are cached as they are must equal the
 * host quantizer's result bit for bit. Latents and rotated activations are products, which kernels may
 * round in another order, so they must be within half a step. */
#include "../../runtime/base/half.h"
#include "../../runtime/host/feedback.h"
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 29 }; /* every 29th token's projection is computed, because that is slow */

/* ---------------------------------------------------------------- bit for bit */

static bool same_value(uint16_t a, uint16_t b)
{
    float x = half_to_float(a), y = half_to_float(b);
    return a == b || x == y || (isnan(x) && isnan(y)); /* -0 equals 0 */
}

static int64_t differences(const quantizer *q, size_t count, const uint8_t *codes, const uint8_t *got_codes,
                           size_t params, const uint16_t *scale, const uint16_t *got_scale,
                           const uint16_t *zero, const uint16_t *got_zero)
{
    int64_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += codes[i] != got_codes[i];
    for (size_t i = 0; i < params; i++)
        found += !same_value(scale[i], got_scale[i]) +
                 (q->integer_zero ? zero[i] != got_zero[i] : !same_value(zero[i], got_zero[i]));
    return found;
}

static void room_free(verify_room *r)
{
    free(r->x);
    free(r->params);
    free(r->codes);
    free(r->values);
}

static xq_status room_create(const verify_check *k, verify_room *r, error *err)
{
    size_t width = (size_t)k->s->width, hidden = (size_t)k->v->spec.hidden,
           widest = width > hidden ? width : hidden;
    size_t group = (size_t)(k->s->by_channel ? k->v->codec->group : 1);
    memset(r, 0, sizeof *r);
    r->x = malloc(group * widest * sizeof *r->x);
    r->params = malloc(4 * width * sizeof *r->params);
    r->codes = malloc(2 * group * width);
    r->values = malloc((3 * group * width + 2 * group * hidden) * sizeof *r->values);
    if (r->x && r->params && r->codes && r->values)
        return XQ_OK;
    room_free(r);
    return verify_out_of_memory(err);
}

static void exact_token(const verify_check *k, int t, verify_room *r)
{
    size_t width = (size_t)k->s->width, groups = (size_t)k->s->groups;
    uint16_t *p = r->params;
    verify_delta(k, t, r->x);
    quantizer_encode(&k->s->format, r->x, width, r->codes, p, p + width);
    page_codec_read(k->v->codec, k->stream, verify_page_of(k, t), t % k->v->spec.page, r->codes + width,
                    p + 2 * width, p + 3 * width);
    k->result->mismatches += differences(&k->s->format, width, r->codes, r->codes + width, groups, p,
                                         p + 2 * width, p + width, p + 3 * width);
}

static void exact_group(const verify_check *k, int g, verify_room *r)
{
    size_t width = (size_t)k->s->width, group = (size_t)k->v->codec->group;
    uint16_t *p = r->params;
    for (size_t i = 0; i < group; i++)
        verify_delta(k, g * (int)group + (int)i, r->x + i * width);
    quantizer_encode_channels(&k->s->format, r->x, width, r->codes, p, p + width);
    page_codec_read_group(k->v->codec, k->stream, &k->now, g, r->codes + group * width, p + 2 * width,
                          p + 3 * width);
    k->result->mismatches += differences(&k->s->format, group * width, r->codes, r->codes + group * width,
                                         width, p, p + 2 * width, p + width, p + 3 * width);
}

/* Tails hold activations as they are, even for cross-layer methods: their deltas are computed when a group
 * fills up. */
static void exact_tail(const verify_check *k, int t, verify_room *r)
{
    const uint16_t *row = page_codec_tail_row(k->v->codec, k->stream, &k->now, t);
    verify_activation_f16(k, t, r->x);
    for (int c = 0; c < k->s->tail_width; c++)
        k->result->mismatches += !same_value(row[c], r->x[c]);
}

/* ---------------------------------------------------------------- a round */

static void check_tokens(const verify_check *k, verify_room *r)
{
    for (int t = k->begin; t < k->end; t++) {
        if (!k->u)
            exact_token(k, t, r);
        else if (t % SAMPLE == 0 || t == k->end - 1)
            verify_latent_token(k, t, r);
    }
}

static void check_groups(const verify_check *k, verify_room *r)
{
    int group = k->v->codec->group;
    bool tail_of_activations = !k->u || k->v->spec.cross_layer;
    for (int g = k->begin / group; g < k->end / group; g++) {
        if (!k->u)
            exact_group(k, g, r);
        else if (g == k->begin / group)
            verify_latent_group(k, g, r);
    }
    for (int t = k->end / group * group; t < k->end; t++) {
        if (tail_of_activations)
            exact_tail(k, t, r);
        else if (t % 7 == 0 || t == k->end - 1)
            verify_latent_tail(k, t, r);
    }
}

/* U [hidden, width] as kernels have it: 16 bits, columns padded; then its magnitudes. NULL when memory runs
 * out. */
static double *make_projection(const verify_state *v, int layer, int stream)
{
    const page_stream *s = &v->codec->stream[stream];
    const case_weights *w = &v->weights[layer];
    const float *u = v->spec.latent_cross ? w->ukv : stream ? w->uv : w->uk;
    size_t hidden = (size_t)v->spec.hidden, width = (size_t)s->width, rank = (size_t)s->rank;
    double *m = calloc(2 * hidden * width, sizeof *m);
    for (size_t i = 0; m && i < hidden; i++)
        for (size_t c = 0; c < width; c++) {
            if (!quantizer_is_data(&s->format, c))
                continue;
            double value = (double)u[i * rank * (size_t)s->latents + c / (size_t)s->latent_width * rank +
                                     c % (size_t)s->latent_width];
            value = v->spec.weights == ROUNDING_BF16 ? rounding_bfloat(value) : rounding_half(value);
            m[i * width + c] = value;
            m[(hidden + i) * width + c] = fabs(value);
        }
    return m;
}

/* Makes the stream's feedback, if the spec feeds errors back. */
static xq_status make_feedback(verify_check *k, error *err)
{
    const case_spec *spec = &k->v->spec;
    const case_weights *w = &k->v->weights[k->layer];
    if (!verify_axis_applies(AXIS_FEEDBACK, &spec->choice) ||
        verify_chosen(&spec->choice, AXIS_FEEDBACK, "no"))
        return XQ_OK;
    const int dkv = spec->kv_heads * spec->head_dim;
    const feedback_stream s = {k->s->latents, k->s->rank, k->s->latent_width, (int32_t)k->s->format.group};
    const feedback_source of_k = {w->ak, w->k_cost, dkv, spec->head_dim}, of_v = {.a = w->av, .cols = dkv};
    const feedback_source sources[] = {k->stream ? of_v : of_k, of_v};
    const size_t group = k->s->format.group;
    k->feedback = malloc(sizeof *k->feedback * (size_t)feedback_groups(&s) * group * group);
    if (!k->feedback || !feedback_make(&s, sources, spec->rotated ? 2 : 1, k->feedback))
        return verify_out_of_memory(err);
    return XQ_OK;
}

static xq_status check_stream(verify_check *k, error *err)
{
    verify_room r = {0};
    double *u = NULL;
    const case_shape *shape = k->shape;
    const verify_snapshot *after = k->after;
    const case_spec *spec = &k->v->spec;
    if (room_create(k, &r, err) != XQ_OK)
        return err->status;
    if (spec->latent || spec->latent_cross || spec->rotated) {
        k->u = u = make_projection(k->v, k->layer, k->stream);
        k->magnitude_u = u ? u + (size_t)k->v->spec.hidden * (size_t)k->s->width : NULL;
        if (!u)
            verify_out_of_memory(err);
        else
            make_feedback(k, err);
    }
    for (k->sequence = 0; k->sequence < shape->sequences && err->status == XQ_OK; k->sequence++) {
        k->begin = k->round.begin[k->sequence];
        k->end = k->round.end[k->sequence];
        k->now = verify_snapshot_sequence(k->v, shape, after, k->sequence, k->end);
        (k->s->by_channel ? check_groups : check_tokens)(k, &r);
    }
    free(u);
    free(k->feedback);
    room_free(&r);
    return err->status;
}

xq_status verify_check_append(const verify_state *v, const case_shape *shape, int layer, int round,
                              const verify_snapshot *after, const verify_snapshot *before,
                              verify_result *result, error *err)
{
    for (int stream = 0; stream < v->codec->streams && err->status == XQ_OK; stream++) {
        verify_check k = {.v = v,
                          .shape = shape,
                          .layer = layer,
                          .round = case_round_of(shape, round),
                          .stream = stream,
                          .s = &v->codec->stream[stream],
                          .after = after,
                          .before = before,
                          .result = result};
        check_stream(&k, err);
    }
    return err->status;
}
