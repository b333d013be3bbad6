#include "share.h"

#include <stdbool.h>
#include <stdlib.h>

static const double negligible = 0.01;

/* Whether a time is like the best one, which is no greater. */
static bool is_like(struct share_time time, struct share_time best)
{
    return time.seconds > 0 && (time.seconds < best.seconds * (1 + negligible) ||
                                time.seconds - time.spread / 2 <= best.seconds + best.spread / 2);
}

static struct share_time best_of(const struct share_time *times, int kernels)
{
    struct share_time best = times[0];
    for (int k = 1; k < kernels; k++)
        if (times[k].seconds > 0 && times[k].seconds < best.seconds)
            best = times[k];
    return best;
}

xq_status share_kernels(const struct share_time *times, int sizes, int kernels, int *chosen, error *err)
{
    bool *fits = calloc((size_t)sizes * (size_t)kernels + 1, sizeof *fits);
    if (!fits)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    int left = 0;
    for (int s = 0; s < sizes; s++) {
        const struct share_time *row = &times[(size_t)s * (size_t)kernels], best = best_of(row, kernels);
        for (int k = 0; k < kernels; k++)
            fits[s * kernels + k] = is_like(row[k], best);
        chosen[s] = fits[s * kernels] ? 0 : -1;
        left += chosen[s] < 0;
    }
    while (left) {
        int most = 0, which = 0;
        for (int k = 0; k < kernels; k++) {
            int count = 0;
            for (int s = 0; s < sizes; s++)
                count += chosen[s] < 0 && fits[s * kernels + k];
            if (count > most) {
                most = count;
                which = k;
            }
        }
        for (int s = 0; s < sizes; s++)
            if (chosen[s] < 0 && fits[s * kernels + which]) {
                chosen[s] = which;
                left--;
            }
    }
    free(fits);
    return XQ_OK;
}
