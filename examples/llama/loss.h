/* Logits and losses. Callers compute the logits of a few rows at a time, because those of a whole window
 * would take hundreds of megabytes. */
#ifndef LLAMA_LOSS_H
#define LLAMA_LOSS_H

#include "model.h"

/* The number of rows of logits that fit in 128 MiB, at least 1. */
int logits_rows(const model *m);

/* The sum over rows of -log of the probability of targets[row], from logits [rows, vocabulary]. It is NaN
 * if a logit is NaN. */
double loss_of(const float *logits, const int32_t *targets, int rows, int vocabulary);

int32_t greatest_of(const float *logits, int vocabulary);

#endif
