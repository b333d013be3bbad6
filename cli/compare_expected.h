/* Keeps the results of a reference over the contents of a cache for the next implementation. A reference
 * takes seconds, and fused and unfused have the same results where they see the same cache and the same
 * weights. */
#ifndef CLI_COMPARE_EXPECTED_H
#define CLI_COMPARE_EXPECTED_H

#include "../autotune/engine/page_codec.h"
#include "xq/xq.h"

enum { COMPARE_MOST_DISTINCT = 4 }; /* texts of a batch, each of which is checked against a reference */

struct compare_expected {
    char *spec; /* completed spec of the plan, without its tuning; NULL: nothing is kept */
    xq_implementation implementation;
    struct {
        page_sequence cache;
        double *out, *lse;
    } of[COMPARE_MOST_DISTINCT];
};

/* A copy of the cache of one sequence, its sizes in bytes, and the numbers of its outputs and log-sum-exps.
 */
struct compare_cached {
    page_sequence cache;
    size_t pages_bytes, tail_bytes, outs, lses;
};

/* Whether the results of sequence b over this very cache, bit for bit, are known. If so, they are
 * copied. */
bool compare_expected_find(const struct compare_expected *e, const xq_plan *plan, int b,
                           const struct compare_cached *cached, double *out, double *lse);

/* Keeps the results of sequence b. Takes the copy of the cache, and clears it in `cached`. When out of
 * memory, nothing is kept. */
void compare_expected_keep(struct compare_expected *e, const xq_plan *plan, int b,
                           struct compare_cached *cached, const double *out, const double *lse);

void compare_expected_free(struct compare_expected *e);

#endif
