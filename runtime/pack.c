#include "pack.h"
#include "check.h"
#include "half.h"
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* f16 rounds larger values to infinity: 65504 and half a unit in its last place, a tie that goes up. */
static const float first_infinite = 65520.0f;

static xq_status check_finite(const float *source, int32_t rows, int32_t cols, const char *name, error *err)
{
    for (int64_t i = 0; i < (int64_t)rows * cols; i++)
        if (!(fabsf(source[i]) < first_infinite)) {
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "%s[%lld, %lld] is %g; weights must be finite, and below 65520 for f16", name,
                      (long long)(i / cols), (long long)(i % cols), (double)source[i]);
            return error_field(err, name);
        }
    return XQ_OK;
}

/* One tile of 16 rows and 16 columns: lane l holds 4 registers of 2 halves. Registers 0 and 1 are the B
 * fragment of columns 0-7 (mma.m16n8k16: row k = (l % 4) * 2 + {0, 1}, and 8 more; column n = l / 4),
 * registers 2 and 3 that of columns 8-15. */
static uint16_t *pack_tile(uint16_t *out, const float *tile, int32_t cols)
{
    for (int lane = 0; lane < 32; lane++)
        for (int reg = 0; reg < 4; reg++)
            for (int half = 0; half < 2; half++) {
                int n = (reg >= 2 ? 8 : 0) + lane / 4;
                int k = (reg & 1 ? 8 : 0) + lane % 4 * 2 + half;
                *out++ = half_from_float(tile[(int64_t)k * cols + n]);
            }
    return out;
}

xq_status pack_matrix(uint16_t *destination, const float *source, int32_t rows, int32_t cols,
                      const char *name, error *err)
{
    if (check_finite(source, rows, cols, name, err) != XQ_OK)
        return err->status;
    for (int32_t tile = 0; tile < cols; tile += 16)
        for (int32_t step = 0; step < rows; step += 16)
            destination = pack_tile(destination, source + (int64_t)step * cols + tile, cols);
    return XQ_OK;
}

static const float *given(const xq_weights *w, const char *name)
{
    const struct {
        const char *name;
        const float *matrix;
    } all[] = {{"wk", w->wk}, {"wv", w->wv}, {"uk", w->uk}, {"ak", w->ak}, {"uv", w->uv}, {"av", w->av}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].matrix;
    return NULL;
}

static xq_status pack_weights(const xq_plan *plan, const xq_weights *weights, void *destination,
                              size_t bytes, error *err)
{
    if (!check_not_null("destination", destination, err))
        return err->status;
    if (bytes < plan->weights_bytes) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "destination_bytes is %zu; the plan's weights need %zu", bytes, plan->weights_bytes);
        return error_field(err, "destination_bytes");
    }
    char field[32];
    for (int i = 0; i < plan->matrix_count; i++) { /* all are checked before any is written */
        const struct shape_matrix *m = &plan->matrices[i];
        const float *source = given(weights, m->source);
        snprintf(field, sizeof field, "weights.%s", m->source);
        if (!check_not_null(field, source, err) ||
            check_finite(source, m->rows, m->cols, field, err) != XQ_OK)
            return err->status;
    }
    memset(destination, 0, plan->weights_bytes); /* padding between the matrices */
    for (int i = 0; i < plan->matrix_count; i++) {
        const struct shape_matrix *m = &plan->matrices[i];
        pack_matrix((uint16_t *)((char *)destination + m->offset), given(weights, m->source), m->rows,
                    m->cols, m->source, err);
    }
    return err->status;
}

xq_status xq_plan_pack_weights(const xq_plan *plan, const xq_weights *weights, void *destination,
                               size_t destination_bytes)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_weights w = XQ_WEIGHTS_INIT;
    if (plan_read_args(&w, sizeof w, weights, "weights", &err) == XQ_OK)
        pack_weights(plan, &w, destination, destination_bytes, &err);
    return plan_result(plan, &err);
}
