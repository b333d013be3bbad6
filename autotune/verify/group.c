#include "group.h"

#include "../../runtime/base/half.h"
#include "../reference/rounding.h"

#include <math.h>

double verify_group_bound(const quantizer *format)
{
    return format->integer_zero ? 1.01 : 0.51;
}

/* From this magnitude on, a level may round to a number beyond f16. */
static const double LIMIT = 43000;

/* Whether the scale and the zero are those of the group's range, within rounding errors. */
static bool parameters_fit(const verify_group *g, double scale)
{
    const quantizer *q = g->format;
    double lo = q->integer_zero ? 0 : INFINITY, hi = q->integer_zero ? 0 : -INFINITY, slack = 0;
    double top = (1 << q->bits) - 1, clip = q->clip > 0 ? (double)q->clip : 1;
    for (size_t i = 0; i < g->count; i++) {
        lo = fmin(lo, g->exact[i * g->stride]);
        hi = fmax(hi, g->exact[i * g->stride]);
        slack = fmax(slack, g->rounding[i * g->stride]);
    }
    double expected = (hi - lo) * clip / top, least = expected * (1 - 0x1p-10),
           most = expected * (1 + 0x1p-10);
    if (fmax(-lo, hi) > LIMIT) /* the quantizer uses fewer levels if the others would be beyond f16 */
        most = 2 * expected;
    if (!(scale >= least - 2 * slack / top - 0x1p-24 && scale <= most + 2 * slack / top + 0x1p-24))
        return false;
    if (q->integer_zero) {
        double zero = scale > 0 ? fmin(-lo * clip / scale, top) : 0;
        return fabs(g->zero - zero) <= 0.51 + (scale > 0 ? (slack + zero * scale * 0x1p-9) / scale : 0);
    }
    double zero = lo + (hi - lo) * (1 - clip) / 2;
    return fabs((double)half_to_float(g->zero) - zero) <=
           2 * slack + (fabs(zero) + (hi - lo)) * 0x1p-10 + 0x1p-24;
}

/* Limits a value to the range that codes can represent, where values beyond that range are cut off. */
static double reachable(const verify_group *g, double exact)
{
    double first = quantizer_value(g->format, 0, g->scale, g->zero);
    double last =
        rounding_saturated(quantizer_value(g->format, (1 << g->format->bits) - 1, g->scale, g->zero));
    bool cut = g->moved || (g->format->clip > 0 && g->format->clip < 1);
    return cut ? fmax(first, fmin(exact, last)) : exact;
}

double verify_group_steps(const verify_group *g)
{
    double scale = (double)half_to_float(g->scale), top = (1 << g->format->bits) - 1, worst = 0;
    if (!parameters_fit(g, scale))
        return INFINITY;
    for (size_t i = 0; i < g->count; i++) {
        double exact = reachable(g, (g->moved ? g->moved : g->exact)[i * g->stride]);
        double cached = quantizer_value(g->format, g->codes[i * g->stride], g->scale, g->zero);
        /* the scale's own rounding may leave the end of the range out of reach */
        double slack = (g->moved ? g->spread : g->rounding)[i * g->stride] + fabs(exact) * 0x1p-10 +
                       fmax(top * scale * 0x1p-10, top * 0x1p-25) + 0x1p-25; /* f16's subnormal steps */
        double steps = (fabs(cached - exact) - slack) / (scale > 0 ? scale : 0x1p-14);
        if (!(steps <= worst)) /* a NaN counts as the worst of all */
            worst = isnan(steps) ? INFINITY : steps;
    }
    return worst;
}
