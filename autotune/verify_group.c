#include "verify_group.h"

#include "../runtime/half.h"

#include <math.h>

double verify_group_bound(const quantizer *format)
{
    return format->integer_zero ? 1.01 : 0.51;
}

/* Whether the scale is that of the range, within rounding. */
static bool scale_fits(const verify_group *g, double scale)
{
    double lo = g->format->integer_zero ? 0 : INFINITY, hi = g->format->integer_zero ? 0 : -INFINITY,
           slack = 0;
    double top = (1 << g->format->bits) - 1;
    for (size_t i = 0; i < g->count; i++) {
        lo = fmin(lo, g->exact[i * g->stride]);
        hi = fmax(hi, g->exact[i * g->stride]);
        slack = fmax(slack, g->rounding[i * g->stride]);
    }
    double expected = (hi - lo) / top;
    return fabs(scale - expected) <= 2 * slack / top + expected * 0x1p-10 + 0x1p-24;
}

double verify_group_steps(const verify_group *g)
{
    double scale = (double)half_to_float(g->scale), top = (1 << g->format->bits) - 1, worst = 0;
    if (!scale_fits(g, scale))
        return INFINITY;
    for (size_t i = 0; i < g->count; i++) {
        double exact = g->exact[i * g->stride];
        double cached = quantizer_value(g->format, g->codes[i * g->stride], g->scale, g->zero);
        /* the scale's own rounding leaves the end of the range short */
        double slack = g->rounding[i * g->stride] + fabs(exact) * 0x1p-10 + top * scale * 0x1p-10;
        double steps = (fabs(cached - exact) - slack) / (scale > 0 ? scale : 0x1p-14);
        if (!(steps <= worst)) /* a NaN is the worst of all */
            worst = isnan(steps) ? INFINITY : steps;
    }
    return worst;
}
