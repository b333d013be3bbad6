/* How far the predictions of a cache are from those of another one, token by token. */
#ifndef LLAMA_DIVERGENCE_H
#define LLAMA_DIVERGENCE_H

#include <stdint.h>

typedef struct divergence {
    double *each; /* KL divergence of each token, in nats */
    int64_t count, room_for;
    int64_t agreed; /* tokens whose most likely successor is the same in both */
} divergence;

typedef struct divergence_summary {
    int64_t tokens;
    double mean;
    double p99;  /* nearest rank: the smallest value that 99 % of the tokens do not exceed */
    double top1; /* share of the tokens for which both have the same most likely successor */
} divergence_summary;

/* For up to `tokens` tokens. The caller frees `each`. */
divergence divergence_make(int64_t tokens);

/* Adds `rows` tokens: logits [rows, vocabulary] of the reference and of what is compared with it. A row's
 * divergence is the sum over the vocabulary of p (log p - log q), p being the reference's probabilities;
 * rounding below 0 counts as 0. NaN where a logit is. Of equal logits the first is the most likely one. */
void divergence_add(divergence *d, const float *reference, const float *compared, int rows, int vocabulary);

/* Sorts `each`. */
divergence_summary divergence_summarize(divergence *d);

#endif
