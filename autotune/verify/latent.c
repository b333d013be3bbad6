/* Compares the latents that append cached with exact projections. */
#include "../../runtime/base/half.h"
#include "../../runtime/host/feedback.h"
#include "check.h"
#include "group.h"

#include <math.h>
#include <stdlib.h>

/* Whether the kernel multiplies activations directly, without converting them to f16, which loses precision
 * in small numbers. It does so if activations and U are bf16, nothing is subtracted, and no f16 tail lies
 * between. */
static bool takes_as_given(const verify_check *k)
{
    const case_spec *spec = &k->v->spec;
    return spec->bf16 && spec->weights == ROUNDING_BF16 && !k->before &&
           !(spec->cross_layer && k->s->by_channel);
}

/* For tokens first .. first + rows - 1, computes exact [rows, width], the projected values times U, and the
 * error that rounding may cause in each. */
static void project(const verify_check *k, int first, int rows, verify_room *r, double **exact,
                    double **rounding)
{
    size_t width = (size_t)k->s->width, hidden = (size_t)k->v->spec.hidden;
    double *x = r->values, *magnitude = x + (size_t)rows * hidden;
    *exact = magnitude + (size_t)rows * hidden;
    *rounding = *exact + (size_t)rows * width;
    const bool as_given = takes_as_given(k);
    for (int i = 0; i < rows; i++) {
        const uint16_t *given = verify_activation(k, first + i);
        if (!as_given)
            verify_delta(k, first + i, r->x);
        for (size_t c = 0; c < hidden; c++) {
            double value = (double)(as_given ? half_from_bfloat(given[c]) : half_to_float(r->x[c]));
            if (k->v->spec.weights == ROUNDING_BF16)
                value = rounding_bfloat(value); /* as the matrix instruction takes it */
            x[(size_t)i * hidden + c] = value;
            magnitude[(size_t)i * hidden + c] = fabs(value);
        }
    }
    reference_multiply(x, k->u, *exact, rows, (int)hidden, (int)width);
    reference_multiply(magnitude, k->magnitude_u, *rounding, rows, (int)hidden, (int)width);
    for (size_t i = 0; i < (size_t)rows * width; i++) {
        (*rounding)[i] = (*rounding)[i] * 0x1p-20 + fmax(fabs((*exact)[i]) * 0x1p-11, 0x1p-25);
        (*exact)[i] = rounding_saturated((*exact)[i]);
    }
}

/* Whether a group has a NaN. Its scale must then be NaN, and its codes mean nothing. */
static bool is_nan(const verify_check *k, const verify_group *g)
{
    bool nan = false;
    for (size_t i = 0; i < g->count; i++)
        nan = nan || isnan(g->exact[i * g->stride]);
    k->result->mismatches += nan && !isnan(half_to_float(g->scale));
    return nan;
}

static void add_steps(const verify_check *k, double steps)
{
    steps /= verify_group_bound(&k->s->format) / 0.51; /* in units of what is allowed */
    if (!(steps <= k->result->append_error))
        k->result->append_error = steps;
}

/* Gathers those of `count` channels from `first` on that hold data, and returns their number. The other
 * channels' codes must be zero. The arrays are rewritten. */
static size_t gather_data(const verify_check *k, size_t first, size_t count, double *exact,
                          double *rounding, uint8_t *codes)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!quantizer_is_data(&k->s->format, first + i)) {
            k->result->mismatches += codes[i] != 0;
            continue;
        }
        exact[used] = exact[i];
        rounding[used] = rounding[i];
        codes[used++] = codes[i];
    }
    return used;
}

/* Computes, for one group of channels and its codes, the values that are quantized after feedback, and a
 * bound on the uncertainty of each: that of the exact values before it, and the f16 rounding of their
 * errors. `first` is the group's first stored channel. */
static void move(const verify_check *k, const verify_group *g, size_t first, double *moved, double *spread)
{
    const quantizer *q = &k->s->format;
    const float *feedback = k->feedback + quantizer_group_of(q, first) * q->group * q->group;
    size_t place[FEEDBACK_MOST_CHANNELS], used = 0; /* index in the group of each channel with data */
    for (size_t i = 0; used < g->count; i++)
        if (quantizer_is_data(q, first + i))
            place[used++] = i;
    for (size_t i = 0; i < g->count; i++) {
        moved[i] = g->exact[i];
        spread[i] = g->rounding[i];
        for (size_t j = 0; j < i; j++) {
            double weight = (double)feedback[place[j] * q->group + place[i]];
            double e = quantizer_value(q, g->codes[j], g->scale, g->zero) - g->exact[j];
            moved[i] += weight * e;
            spread[i] += fabs(weight) * (g->rounding[j] + fabs(e) * 0x1p-10 + 0x1p-24);
        }
        spread[i] += fabs(moved[i]) * 0x1p-18; /* rounding of sums in f32 */
    }
}

void verify_latent_token(const verify_check *k, int t, verify_room *r)
{
    size_t width = (size_t)k->s->width;
    double *exact, *rounding;
    project(k, t, 1, r, &exact, &rounding);
    page_codec_read(k->v->codec, k->stream, verify_page_of(k, t), t % k->v->spec.page, r->codes, r->params,
                    r->params + width);
    for (size_t g = 0, c = 0, end; c < width; g++, c = end) {
        end = quantizer_group_end(&k->s->format, c, width);
        size_t count = end - c;
        uint16_t scale = r->params[g], zero = r->params[width + g];
        count = gather_data(k, c, count, exact + c, rounding + c, r->codes + c);
        verify_group found = {.format = &k->s->format,
                              .count = count,
                              .stride = 1,
                              .exact = exact + c,
                              .rounding = rounding + c,
                              .codes = r->codes + c,
                              .scale = scale,
                              .zero = zero};
        double moved[FEEDBACK_MOST_CHANNELS], spread[FEEDBACK_MOST_CHANNELS];
        if (k->feedback) {
            move(k, &found, c, moved, spread);
            found.moved = moved;
            found.spread = spread;
        }
        if (count && !is_nan(k, &found))
            add_steps(k, verify_group_steps(&found));
        else if (!count) /* the group is padding only */
            k->result->mismatches += (scale & 0x7fff) != 0 || (zero & 0x7fff) != 0;
    }
}

void verify_latent_group(const verify_check *k, int g, verify_room *r)
{
    size_t width = (size_t)k->s->width, group = (size_t)k->v->codec->group;
    double *exact, *rounding;
    project(k, g * (int)group, (int)group, r, &exact, &rounding);
    page_codec_read_group(k->v->codec, k->stream, &k->now, g, r->codes, r->params, r->params + width);
    for (size_t c = 0; c < width; c++) {
        uint16_t scale = r->params[c], zero = r->params[width + c];
        verify_group found = {.format = &k->s->format,
                              .count = group,
                              .stride = width,
                              .exact = exact + c,
                              .rounding = rounding + c,
                              .codes = r->codes + c,
                              .scale = scale,
                              .zero = zero};
        bool data = quantizer_is_data(&k->s->format, c);
        if (data && !is_nan(k, &found))
            add_steps(k, verify_group_steps(&found));
        else if (!data)
            k->result->mismatches += (scale & 0x7fff) != 0 || (zero & 0x7fff) != 0;
    }
}

void verify_latent_tail(const verify_check *k, int t, verify_room *r)
{
    const uint16_t *row = page_codec_tail_row(k->v->codec, k->stream, &k->now, t);
    double *exact, *rounding;
    project(k, t, 1, r, &exact, &rounding);
    for (int c = 0; c < k->s->width; c++)
        if (quantizer_is_data(&k->s->format, (size_t)c))
            k->result->mismatches += isnan(exact[c]) ? !isnan(half_to_float(row[c]))
                                                     : !(fabs((double)half_to_float(row[c]) - exact[c]) <=
                                                         rounding[c] + fabs(exact[c]) * 0x1p-10);
}
