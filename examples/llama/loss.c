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

static double log_sum_exp(const float *row, int count)
{
    float greatest = -INFINITY, part[16] = {0};
    double sum = 0;
    int i = 0;
    for (i = 0; i < count; i++)
        greatest = row[i] > greatest ? row[i] : greatest;
    for (i = 0; i + 16 <= count; i += 16)
        for (int j = 0; j < 16; j++)
            part[j] += exp_of(row[i + j] - greatest);
    for (; i < count; i++)
        sum += (double)exp_of(row[i] - greatest);
    for (int j = 0; j < 16; j++)
        sum += (double)part[j];
    return (double)greatest + log(sum);
}

double loss_of(const float *logits, const int32_t *targets, int rows, int vocabulary)
{
    double sum = 0;
    for (int r = 0; r < rows; r++, logits += vocabulary)
        sum += log_sum_exp(logits, vocabulary) - (double)logits[targets[r]];
    return sum;
}
