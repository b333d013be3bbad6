#include "loss.h"
#include "arithmetic.h"

int logits_rows(const model *m)
{
    int rows = (128 << 20) / (m->config.vocabulary * (int)sizeof(float));
    return rows > 0 ? rows : 1;
}

int32_t greatest_of(const float *logits, int vocabulary)
{
    int32_t best = 0;
    for (int32_t i = 1; i < vocabulary; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Returns Σ exp(row[i] - greatest). Short runs are summed in f32, which vectorizes. Their sums are added up
 * in double precision, so that the many small terms of a large vocabulary are not lost. */
static double sum_of_exp(const float *row, int count, float greatest)
{
    enum { LANES = 16, RUN = 64 * LANES };
    double sum = 0;
    for (int begin = 0; begin < count; begin += RUN) {
        const int end = begin + RUN < count ? begin + RUN : count;
        float part[LANES] = {0};
        int i = begin;
        for (; i + LANES <= end; i += LANES)
            for (int j = 0; j < LANES; j++)
                part[j] += exp_of(row[i + j] - greatest);
        for (; i < end; i++)
            part[0] += exp_of(row[i] - greatest);
        for (int j = 0; j < LANES; j++)
            sum += (double)part[j];
    }
    return sum;
}

static double log_sum_exp(const float *row, int count)
{
    float greatest = -INFINITY;
    for (int i = 0; i < count; i++)
        greatest = row[i] > greatest ? row[i] : greatest;
    return (double)greatest + log(sum_of_exp(row, count, greatest));
}

double loss_of(const float *logits, const int32_t *targets, int rows, int vocabulary)
{
    double sum = 0;
    for (int r = 0; r < rows; r++, logits += vocabulary)
        sum += log_sum_exp(logits, vocabulary) - (double)logits[targets[r]];
    return sum;
}
