/* The simulation (xq_simulate_...): computes without a device the values that a cache, or packed weights,
 * hold for given numbers, and the matrices for feedback. */

/* The loops below run over millions of numbers. They are written to vectorize, which gcc does not do at
 * -O2. */
#if !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif

#include "../base/check.h"
#include "../base/half.h"
#include "../launch/last_error.h"
#include "feedback.h"
#include "quantizer.h"
#include "simulate_check.h"

#include "xq/xq.h"

#include <math.h>
#include <stdlib.h>

#define CHUNK 64 /* channels whose groups of tokens are handled together */

/* ---------------------------------------------------------------- extremes */

/* Inverts all bits but the sign of a negative number. */
static inline uint32_t turned(uint32_t bits)
{
    return bits ^ (0u - (bits >> 31)) >> 1;
}

/* Orders f32 numbers as integers: -0 is below 0, and a NaN is beyond both infinities. Integers are used
 * because the minimum of floats does not vectorize where there may be a NaN. */
static inline int32_t ordered(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (int32_t)turned(bits);
}

static inline float from_ordered(int32_t order)
{
    uint32_t bits = turned((uint32_t)order);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Returns the levels of a group whose least and greatest values are `low` and `high`. */
static quantizer_levels levels_between(const quantizer *q, int32_t low, int32_t high)
{
    float lo = from_ordered(low), hi = from_ordered(high);
    return quantizer_find_levels(q, lo, hi, true, isnan(lo) || isnan(hi));
}

/* ---------------------------------------------------------------- groups of channels */

static quantizer_levels levels_of_values(const quantizer *q, const float *x, size_t count)
{
    int32_t low = INT32_MAX, high = INT32_MIN;
    for (size_t i = 0; i < count; i++) {
        int32_t value = ordered(x[i]);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    return levels_between(q, low, high);
}

static void simulate_group(const quantizer *q, float *x, size_t count)
{
    const quantizer_levels l = levels_of_values(q, x, count);
    for (size_t i = 0; i < count; i++)
        x[i] = quantizer_level_value(&l, quantizer_level(&l, x[i]));
}

/* The same with feedback, for the group that begins with stored channel `begin`; x [count] holds those of
 * its channels that have data. */
static void simulate_with_feedback(const quantizer *q, size_t begin, float *x, size_t count)
{
    const quantizer_levels l = levels_of_values(q, x, count);
    const float *feedback = q->feedback + quantizer_group_of(q, begin) * q->group * q->group;
    const float inverse = 1 / l.divisor;
    float t[FEEDBACK_MOST_CHANNELS] = {0};
    size_t end = 0; /* after the last channel with data */
    for (size_t i = 0, taken = 0; taken < count; i++)
        if (quantizer_is_data(q, begin + i)) {
            t[i] = x[taken++];
            end = i + 1;
        }
    for (size_t i = 0; i < end; i++) {
        if (!quantizer_is_data(q, begin + i))
            continue;
        float level = quantizer_level_by(&l, inverse, t[i]);
        quantizer_feed(feedback + i * q->group, quantizer_error(&l, level, *x), i + 1, end, t);
        *x++ = quantizer_level_value(&l, level);
    }
}

/* The place of column c of a stored row in the compact row, which has no padding. */
static size_t compact(const quantizer *q, size_t c)
{
    size_t within = c % q->latent_width;
    return c / q->latent_width * q->rank + (within < q->rank ? within : q->rank);
}

/* Groups are those of the stored row. In the compact row, the data of one group is contiguous. */
static void simulate_row(const quantizer *q, size_t stored_width, float *x)
{
    for (size_t c = 0, end; c < stored_width; c = end) {
        end = quantizer_group_end(q, c, stored_width);
        size_t first = compact(q, c), count = compact(q, end) - first;
        if (count > 0 && q->feedback)
            simulate_with_feedback(q, c, x + first, count);
        else if (count > 0)
            simulate_group(q, x + first, count);
    }
}

/* ---------------------------------------------------------------- groups of tokens */

/* The levels of CHUNK channels, one array for each member, as vectors need them. */
typedef struct chunk_levels {
    float scale[CHUNK], offset[CHUNK], divisor[CHUNK], least[CHUNK], most[CHUNK];
} chunk_levels;

static void find_chunk_levels(const quantizer *q, const float *x, size_t width, size_t count,
                              chunk_levels *levels)
{
    int32_t low[CHUNK], high[CHUNK];
    for (size_t c = 0; c < count; c++) {
        low[c] = INT32_MAX;
        high[c] = INT32_MIN;
    }
    for (size_t t = 0; t < q->group; t++)
        for (size_t c = 0; c < count; c++) {
            int32_t value = ordered(x[t * width + c]);
            low[c] = value < low[c] ? value : low[c];
            high[c] = value > high[c] ? value : high[c];
        }
    for (size_t c = 0; c < count; c++) {
        const quantizer_levels l = levels_between(q, low[c], high[c]);
        levels->scale[c] = l.scale;
        levels->offset[c] = l.offset;
        levels->divisor[c] = l.divisor;
        levels->least[c] = l.least;
        levels->most[c] = l.most;
    }
}

/* Simulates `count` channels, at most CHUNK, of q->group rows that are `width` apart. */
static void simulate_channels(const quantizer *q, float *x, size_t width, size_t count)
{
    chunk_levels levels;
    find_chunk_levels(q, x, width, count, &levels);
    for (size_t t = 0; t < q->group; t++) {
        float *row = x + t * width;
        for (size_t c = 0; c < count; c++) {
            const quantizer_levels l = {levels.scale[c], levels.offset[c], levels.divisor[c],
                                        levels.least[c], levels.most[c]};
            row[c] = quantizer_level_value(&l, quantizer_level(&l, row[c]));
        }
    }
}

/* ---------------------------------------------------------------- cache */

/* Describes rows of `width` values as a stream. If there are several latents, no group is larger than one
 * of them. */
static feedback_stream stream_of(const xq_quantizer *q, int64_t width)
{
    const int32_t latents = q->latents > 0 ? q->latents : 1, rank = (int32_t)width / latents;
    const int32_t latent_width = (rank + 63) / 64 * 64;
    const bool whole = q->group == 0 || (!q->by_channel && latents > 1 && q->group > latent_width);
    return (feedback_stream){latents, rank, latent_width, whole ? latent_width : q->group};
}

/* Rounds values to f16, saturating. */
static void round_values(const float *x, size_t count, float *rounded)
{
    for (size_t i = 0; i < count; i++) {
        float value = x[i] < 65504.0f ? x[i] : x[i] >= 65504.0f ? 65504.0f : x[i]; /* a NaN stays */
        rounded[i] = quantizer_half(value > -65504.0f ? value : value <= -65504.0f ? -65504.0f : value);
    }
}

xq_status xq_simulate_cache(const xq_quantizer *quantized, int64_t rows, int64_t width, const float *x,
                            float *x_hat)
{
    xq_quantizer s;
    error err = ERROR_INIT;
    if (!simulate_check_quantizer(quantized, width, &s, &err) ||
        !check_range("rows", rows, 0, INT64_MAX, &err) || (rows > 0 && !check_not_null("x", x, &err)) ||
        (rows > 0 && !check_not_null("x_hat", x_hat, &err)))
        return last_error_keep(&err);
    const feedback_stream stream = stream_of(&s, width);
    size_t w = (size_t)width, n = (size_t)rows;
    size_t stored_width = (size_t)stream.latents * (size_t)stream.latent_width;
    quantizer q = {.bits = s.bits,
                   .integer_zero = s.integer_zero != 0,
                   .clip = s.clip,
                   .rank = (size_t)stream.rank,
                   .latent_width = (size_t)stream.latent_width,
                   .feedback = s.feedback};
    q.group = (size_t)stream.group;
    round_values(x, n * w, x_hat);
    if (s.bits == 16)
        return XQ_OK;
    if (!s.by_channel) {
        for (size_t t = 0; t < n; t++)
            simulate_row(&q, stored_width, x_hat + t * w);
        return XQ_OK;
    }
    for (size_t t = 0; t + q.group <= n; t += q.group)
        for (size_t c = 0; c < w; c += CHUNK)
            simulate_channels(&q, x_hat + t * w + c, w, w - c < CHUNK ? w - c : CHUNK);
    return XQ_OK;
}

/* ---------------------------------------------------------------- feedback */

xq_status xq_simulate_feedback(const xq_quantizer *quantized, int64_t width, int64_t cols, const float *a,
                               int64_t block, const float *cost, float *feedback)
{
    xq_quantizer q;
    error err = ERROR_INIT;
    if (!simulate_check_quantizer(quantized, width, &q, &err) ||
        !simulate_check_feedback(&q, cols, a, block, cost, &err) ||
        !check_not_null("feedback", feedback, &err))
        return last_error_keep(&err);
    const feedback_stream stream = stream_of(&q, width);
    const feedback_source source = {a, cost, (int32_t)cols, (int32_t)block};
    if (!simulate_check_values("a", a, stream.rank, cols, INFINITY, &err))
        return last_error_keep(&err);
    if (!feedback_make(&stream, &source, 1, feedback))
        error_set(&err, XQ_ERROR_MEMORY, "argument", "out of memory");
    return err.status == XQ_OK ? XQ_OK : last_error_keep(&err);
}

/* ---------------------------------------------------------------- weights */

/* Rounds `count` columns, at most WEIGHT_COLUMNS, of a matrix whose rows are `cols` apart. `columns` and
 * codes are memory for [rows, WEIGHT_COLUMNS]. */
static void round_columns(enum weight_type type, size_t rows, size_t cols, size_t count, const float *w,
                          float *rounded, float *columns, uint16_t *codes)
{
    float scales[WEIGHT_COLUMNS];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < WEIGHT_COLUMNS; c++)
            columns[r * WEIGHT_COLUMNS + c] = c < count ? w[r * cols + c] : 0;
    weight_encode_columns(type, (int64_t)rows, columns, scales, codes);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < count; c++)
            rounded[r * cols + c] = weight_decode(type, codes[r * WEIGHT_COLUMNS + c], scales[c]);
}

xq_status xq_simulate_weights(const char *type, int64_t rows, int64_t cols, const float *w, float *rounded)
{
    enum weight_type t;
    error err = ERROR_INIT;
    if (!simulate_check_weights(type, rows, cols, &t, &err) ||
        (rows * cols > 0 && (!check_not_null("w", w, &err) || !check_not_null("rounded", rounded, &err) ||
                             !simulate_check_values("w", w, rows, cols, weight_limit(t), &err))))
        return last_error_keep(&err);
    if (rows == 0 || cols == 0)
        return XQ_OK;
    size_t m = (size_t)rows, n = (size_t)cols;
    float *columns = (float *)malloc(m * WEIGHT_COLUMNS * sizeof *columns);
    uint16_t *codes = (uint16_t *)malloc(m * WEIGHT_COLUMNS * sizeof *codes);
    for (size_t c = 0; columns && codes && c < n; c += WEIGHT_COLUMNS)
        round_columns(t, m, n, n - c < WEIGHT_COLUMNS ? n - c : WEIGHT_COLUMNS, w + c, rounded + c, columns,
                      codes);
    if (!columns || !codes)
        error_set(&err, XQ_ERROR_MEMORY, "argument", "out of memory");
    free(codes);
    free(columns);
    return err.status == XQ_OK ? XQ_OK : last_error_keep(&err);
}
