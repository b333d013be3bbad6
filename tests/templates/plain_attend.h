/* One layer on the software device, through the public interface: it appends tokens and answers queries. It
 * serves tests of single numbers that treat all implementations alike. */
#ifndef TESTS_PLAIN_ATTEND_H
#define TESTS_PLAIN_ATTEND_H

#include "xq/xq.h"

#include <stdbool.h>
#include <stdint.h>

enum { PLAIN_MAX_BATCH = 16, PLAIN_MAX_QUERIES = 160 };

/* The caller owns the arrays. */
struct plain_attend {
    const char *spec;
    bool bf16; /* whether the spec's dtype is bf16 */
    bool many; /* queries have indptr and position; else each sequence has one query, at its last token */
    xq_weights weights;
    int batch, queries;              /* queries of all sequences together */
    int tokens[PLAIN_MAX_BATCH];     /* tokens of each sequence */
    int32_t offset[PLAIN_MAX_BATCH]; /* position of each sequence's first token */
    int32_t indptr[PLAIN_MAX_BATCH + 1];
    int32_t position[PLAIN_MAX_QUERIES];
    const uint32_t *tree_mask; /* [queries, mask_words], or NULL */
    int mask_words;
    const float *x; /* [tokens of all sequences, hidden_size], rounded to the dtype */
    const float *q; /* [queries, heads, head_dim], rounded likewise */
};

/* Makes a seed from a case's name, so that cases differ. */
uint64_t plain_seed(const char *name);

/* Computes out [queries, heads, head_dim] and lse [queries, heads]. */
void plain_attend(const struct plain_attend *a, xq_implementation implementation, float *out, float *lse);

#endif
