/* Compares the predictions of a model with two caches, token by token. */
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
    double p99;  /* by nearest rank: the smallest value that 99 % of the tokens do not exceed */
    double top1; /* share of tokens whose most likely successor is the same in both */
} divergence_summary;

/* Makes room for up to `tokens` tokens. The caller frees `each`. */
divergence divergence_make(int64_t tokens);

/* Adds `rows` tokens, given the logits [rows, vocabulary] of the reference and of the compared cache. The
 * divergence of a row is the sum over the vocabulary of p (log p - log q), where p are the probabilities of
 * the reference. A result that rounding brings below 0 counts as 0. The divergence is NaN if a logit is
 * NaN. Among equal greatest logits the first one is the most likely token. */
void divergence_add(divergence *d, const float *reference, const float *compared, int rows, int vocabulary);

/* Sorts `each` in place. */
divergence_summary divergence_summarize(divergence *d);

#endif
