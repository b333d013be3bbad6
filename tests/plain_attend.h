/* One layer on the software device, through the public interface: tokens appended, queries answered. For
 * tests of single numbers, of all implementations alike. */
#ifndef TESTS_PLAIN_ATTEND_H
#define TESTS_PLAIN_ATTEND_H

#include "xq/xq.h"

#include <stdbool.h>
#include <stdint.h>

enum { PLAIN_MAX_BATCH = 16, PLAIN_MAX_QUERIES = 160 };

/* Arrays are the caller's. */
struct plain_attend {
    const char *spec;
    bool bf16; /* of the spec */
    bool many; /* queries by indptr and position; else each sequence has one, at its last token */
    xq_weights weights;
    int batch, queries;              /* queries of all sequences together */
    int tokens[PLAIN_MAX_BATCH];     /* of each sequence */
    int32_t offset[PLAIN_MAX_BATCH]; /* position of its first token */
    int32_t indptr[PLAIN_MAX_BATCH + 1];
    int32_t position[PLAIN_MAX_QUERIES];
    const uint32_t *tree_mask; /* [queries, mask_words], or NULL */
    int mask_words;
    const float *x; /* [tokens of all sequences, hidden_size], rounded to the dtype */
    const float *q; /* [queries, heads, head_dim] likewise */
};

/* A seed that is a case's own: of its name. */
uint64_t plain_seed(const char *name);

/* out [queries, heads, head_dim], lse [queries, heads]. */
void plain_attend(const struct plain_attend *a, xq_implementation implementation, float *out, float *lse);

#endif
