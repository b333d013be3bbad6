#include "divergence.h"
#include "arithmetic.h"
#include "fail.h"

#include <stdlib.h>

enum { LANES = 16, RUN = 64 * LANES };

divergence divergence_make(int64_t tokens)
{
    return (divergence){.each = room((size_t)tokens, sizeof(double)), .room_for = tokens};
}

static float greatest_in(const float *row, int count)
{
    float part[LANES], greatest = -INFINITY;
    int i = 0;
    for (int j = 0; j < LANES; j++)
        part[j] = -INFINITY;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            part[j] = row[i + j] > part[j] ? row[i + j] : part[j];
    for (; i < count; i++)
        greatest = row[i] > greatest ? row[i] : greatest;
    for (int j = 0; j < LANES; j++)
        greatest = part[j] > greatest ? part[j] : greatest;
    return greatest;
}

static int place_of(const float *row, int count, float value)
{
    int i = 0;
    while (i < count && row[i] != value)
        i++;
    return i;
}

/* Sums over the vocabulary. x is a logit of the reference's row less the greatest logit of that row; y is
 * the same for the compared row. */
typedef struct sums {
    double reference, compared; /* sums of e^x and of e^y */
    double apart;               /* sum of e^x (x - y) */
} sums;

typedef struct lanes {
    float reference[LANES], compared[LANES], apart[LANES];
} lanes;

static inline void add_lane(lanes *l, int lane, float x, float y)
{
    const float weight = exp_of(x);
    l->reference[lane] += weight;
    l->compared[lane] += exp_of(y);
    l->apart[lane] += weight * (x - y);
}

/* Sums short runs in f32, which vectorizes, and adds the runs up in double precision; loss.c says why. */
static sums sums_of(const float *p, float p_greatest, const float *q, float q_greatest, int count)
{
    sums all = {0};
    for (int begin = 0; begin < count; begin += RUN) {
        const int end = begin + RUN < count ? begin + RUN : count;
        lanes part = {0};
        int i = begin;
        for (; i + LANES <= end; i += LANES)
            for (int j = 0; j < LANES; j++)
                add_lane(&part, j, p[i + j] - p_greatest, q[i + j] - q_greatest);
        for (; i < end; i++)
            add_lane(&part, 0, p[i] - p_greatest, q[i] - q_greatest);
        for (int j = 0; j < LANES; j++) {
            all.reference += (double)part.reference[j];
            all.compared += (double)part.compared[j];
            all.apart += (double)part.apart[j];
        }
    }
    return all;
}

void divergence_add(divergence *d, const float *reference, const float *compared, int rows, int vocabulary)
{
    for (int r = 0; r < rows && d->count < d->room_for; r++) {
        const float p = greatest_in(reference, vocabulary), q = greatest_in(compared, vocabulary);
        const sums s = sums_of(reference, p, compared, q, vocabulary);
        /* log p_i = x_i - log Σ e^x, and p_i = e^x_i / Σ e^x */
        const double kl = s.apart / s.reference - log(s.reference) + log(s.compared);
        d->each[d->count++] = kl < 0 ? 0 : kl;
        d->agreed += place_of(reference, vocabulary, p) == place_of(compared, vocabulary, q);
        reference += vocabulary;
        compared += vocabulary;
    }
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

divergence_summary divergence_summarize(divergence *d)
{
    double sum = 0;
    if (d->count == 0)
        return (divergence_summary){0};
    for (int64_t i = 0; i < d->count; i++)
        sum += d->each[i];
    qsort(d->each, (size_t)d->count, sizeof *d->each, by_size);
    const int64_t rank = (99 * d->count + 99) / 100; /* counted from 1 */
    return (divergence_summary){.tokens = d->count,
                                .mean = sum / (double)d->count,
                                .p99 = d->each[rank - 1],
                                .top1 = (double)d->agreed / (double)d->count};
}
