#include "simulate_check.h"
#include "../base/check.h"
#include "../base/descriptor.h"
#include "cost.h"
#include "feedback.h"

#include <math.h>

static bool refuse_quantizer(const char *field, error *err)
{
    error_field(err, field);
    return false;
}

static bool check_bits(int32_t bits, error *err)
{
    if (bits == 2 || bits == 3 || bits == 4 || bits == 8 || bits == 16)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "quantizer.bits is %d; valid: 2, 3, 4, 8, 16", (int)bits);
    return refuse_quantizer("quantizer.bits", err);
}

static bool check_latents(int32_t latents, int64_t width, error *err)
{
    if (!check_range("quantizer.latents", latents, 0, INT32_MAX, err))
        return false;
    if (latents == 0 || width % latents == 0)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "quantizer.latents is %d; valid: divisors of width, %lld",
              (int)latents, (long long)width);
    return refuse_quantizer("quantizer.latents", err);
}

/* A group of channels may be a whole row (0); a group of tokens must have a number of tokens. */
static bool check_group(const xq_quantizer *q, error *err)
{
    if (q->feedback) {
        if (!check_range("quantizer.group", q->group, 1, FEEDBACK_MOST_CHANNELS, err))
            return false;
        return check_unused("quantizer.feedback", q->by_channel, "quantizer.by_channel is 1", err);
    }
    return check_range("quantizer.group", q->group, q->by_channel && q->bits != 16, INT32_MAX, err);
}

static bool check_clip(float clip, error *err)
{
    if (clip >= 0 && clip <= 1)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "quantizer.clip is %g; valid: 0 to 1", (double)clip);
    return refuse_quantizer("quantizer.clip", err);
}

bool simulate_check_quantizer(const xq_quantizer *given, int64_t width, xq_quantizer *q, error *err)
{
    *q = (xq_quantizer)XQ_QUANTIZER_INIT;
    return descriptor_read(q, sizeof *q, DESCRIPTOR_UP_TO(xq_quantizer, feedback), given, "quantizer",
                           err) == XQ_OK &&
           check_range("width", width, 1, INT32_MAX, err) && check_bits(q->bits, err) &&
           check_range("quantizer.by_channel", q->by_channel, 0, 1, err) &&
           check_range("quantizer.integer_zero", q->integer_zero, 0, 1, err) && check_group(q, err) &&
           check_latents(q->latents, width, err) && check_clip(q->clip, err);
}

static bool check_block(const xq_quantizer *q, int64_t cols, int64_t block, error *err)
{
    const int64_t most = q->latents > 0 ? cols / q->latents : cols;
    if (!check_range("block", block, 1, most, err))
        return false;
    if (most % block == 0)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "block is %lld; valid: divisors of the columns of a latent, %lld", (long long)block,
              (long long)most);
    return refuse_quantizer("block", err);
}

bool simulate_check_feedback(const xq_quantizer *q, int64_t cols, const float *a, int64_t block,
                             const float *cost, error *err)
{
    if (!check_range("quantizer.group", q->group, 1, FEEDBACK_MOST_CHANNELS, err) ||
        !check_range("cols", cols, 1, INT32_MAX, err) || !check_not_null("a", a, err))
        return false;
    if (q->latents > 0 && cols % q->latents) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "cols is %lld; valid: multiples of quantizer.latents, %d", (long long)cols,
                  (int)q->latents);
        return refuse_quantizer("cols", err);
    }
    return !cost || (check_block(q, cols, block, err) && cost_check("cost", cost, cols, block, err));
}

bool simulate_check_values(const char *field, const float *values, int64_t rows, int64_t cols, float limit,
                           error *err)
{
    for (int64_t i = 0; i < rows * cols; i++)
        if (!(fabsf(values[i]) < limit)) {
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "%s[%lld, %lld] is %g; valid: magnitudes below %g", field, (long long)(i / cols),
                      (long long)(i % cols), (double)values[i], (double)limit);
            return refuse_quantizer(field, err);
        }
    return true;
}

bool simulate_check_weights(const char *type, int64_t rows, int64_t cols, enum weight_type *t, error *err)
{
    if (!check_not_null("type", type, err))
        return false;
    if (!weight_type_find(type, t)) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "type is '%.32s'; valid: f16, bf16, int8, e4m3",
                  type);
        return refuse_quantizer("type", err);
    }
    return check_range("rows", rows, 0, INT32_MAX, err) && check_range("cols", cols, 0, INT32_MAX, err);
}
