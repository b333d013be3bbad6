/* Rows of hidden states to logits, a few at a time: all of a window's would take hundreds of megabytes. */
#ifndef LLAMA_LOSS_H
#define LLAMA_LOSS_H

#include "model.h"

/* Rows of logits that fit 128 MiB, at least 1. */
int logits_rows(const model *m);

/* The sum over rows of -log of the probability of targets[row], from logits [rows, vocabulary]. NaN where
 * one is. */
double loss_of(const float *logits, const int32_t *targets, int rows, int vocabulary);

int32_t greatest_of(const float *logits, int vocabulary);

#endif
