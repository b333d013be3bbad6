/* Calls whose arrays are in memory of the software device, so that a test can put one wrong number into
 * them. There are three sequences, and the second is empty. */
#ifndef TESTS_CHECKED_CALL_H
#define TESTS_CHECKED_CALL_H

#include "../../support/plan_fixture.h"

enum { CHECKED_BATCH = 3, CHECKED_PAGES = 4, CHECKED_TOKENS = 5, CHECKED_QUERIES = 4, CHECKED_POOL = 6 };

/* The arrays of the calls. checked_arrays holds correct ones: sequences of 40, 0 and 33 tokens, in pages of
 * 32. */
struct checked_arrays {
    int32_t indptr[CHECKED_BATCH + 1], indices[CHECKED_PAGES], last_page_len[CHECKED_BATCH];
    int32_t token_sequence[CHECKED_TOKENS], token_position[CHECKED_TOKENS], rotary_position[CHECKED_TOKENS];
    int32_t append_indptr[CHECKED_BATCH + 1], slots[CHECKED_BATCH];
    int32_t query_indptr[CHECKED_BATCH + 1], query_position[CHECKED_QUERIES], token_offset[CHECKED_BATCH];
    uint32_t tree_mask[CHECKED_QUERIES];
};
extern const struct checked_arrays checked_arrays;

/* Device memory for the calls of one plan, and the arguments of the calls. */
struct checked_call {
    xq_plan *plan;
    uint64_t arrays, workspace, memory;
    size_t workspace_bytes;
    xq_append_args append;
    xq_accumulate_args accumulate;
    xq_attend_args attend;
    xq_dequantize_args dequantize;
};

/* Options of a plan for these calls: at most 96 tokens and 4 queries in a sequence, and 5 pages in a
 * table. */
xq_plan_options checked_options(const char *spec, xq_implementation implementation);

/* Makes correct calls, and a workspace of zeros. `memory` serves for everything else: q, out, pages,
 * weights. */
void checked_open(struct checked_call *c, xq_plan *plan);
void checked_write(const struct checked_call *c, const struct checked_arrays *arrays);

enum checked_kind { CHECKED_APPEND, CHECKED_ACCUMULATE, CHECKED_ATTEND, CHECKED_DEQUANTIZE };

xq_status checked_run(const struct checked_call *c, enum checked_kind kind);

#endif
