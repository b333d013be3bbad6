/* Decode steps of one attention layer on a device, through the public API: a plan, its weights, a pool of
 * cache pages, page tables, and the arrays of a step. Used by run and compare.
 *
 * Pages are handed out in a shuffled order and poisoned first, so that a kernel that reads what no token
 * has written, or goes around the page table, shows it. Functions return an API status; the detail is
 * the context's last error. */
#ifndef CLI_STEP_H
#define CLI_STEP_H

#include "layers.h"

#include <stdint.h>

/* A page table on the device. */
struct step_table {
    xq_page_table device;
    int64_t entries; /* over all sequences */
    int64_t longest; /* tokens of the longest sequence */
};

typedef struct step {
    xq_context *context;
    xq_plan *plan;
    xq_plan_info info;
    int32_t *order; /* the pool's pages in the order they are handed out */
    struct step_table *tables;
    int table_count;
    uint64_t pages, weights, workspace;
    uint64_t sequence, position, x; /* of append */
    uint64_t q, out, lse;           /* of attend */
} step;

struct step_size {
    int max_batch;
    int64_t max_tokens; /* of a sequence */
    int64_t max_append; /* tokens of one append */
    int64_t pool_pages;
    int tables;
};

/* Compiles, packs the weights (rounding to f16) and uploads them. Weights as cli_weights_factor leaves
 * them. */
xq_status step_open(xq_context *context, const char *spec_json, xq_implementation implementation,
                    const struct step_size *size, const struct cli_weights *weights, uint64_t seed,
                    step *out);
void step_close(step *s);

/* Sequence i has lengths[i] tokens, in the handed-out pages first[i], first[i] + 1, ... */
xq_status step_set_table(step *s, int table, int batch, const int64_t *lengths, const int64_t *first);

/* Appends tokens: x [count, hidden_size] f16 bits, sequence and position [count]. Waits. */
xq_status step_append(step *s, int table, int64_t count, const uint16_t *x, const int32_t *sequence,
                      const int32_t *position);

/* q [batch, H, dh] f16 bits. Poisons the results. */
xq_status step_set_queries(step *s, int batch, const uint16_t *q);

/* Launches; does not wait. */
xq_status step_attend(step *s, int table);

/* Waits; out [batch, H, dh] f16 bits, lse [batch, H]. */
xq_status step_results(step *s, int batch, uint16_t *out, float *lse);

/* The handed-out page `number`: info.page_bytes bytes. */
xq_status step_read_page(step *s, int64_t number, void *page);

#endif
