/* Drives attention layers on a device as a serving engine does, through the public API alone. It holds
 * plans, packed weights, a pool of cache pages (and tails) for each layer, the accumulator that cross-layer
 * methods share, page tables, and the arrays of a call. The subcommands run and compare use it, and so do
 * tests.
 *
 * As in an engine, a page table serves all layers: page number p of a sequence is page p of every layer's
 * pool, and of the accumulator. Pages are handed out in a shuffled order, and all memory is poisoned first.
 * A kernel that reads a slot which no token has written, or that bypasses the page table, therefore gives
 * wrong results.
 *
 * Functions return an API status; the detail is the context's last error. */
#ifndef AUTOTUNE_ENGINE_DRIVER_H
#define AUTOTUNE_ENGINE_DRIVER_H

#include "xq/xq.h"

#include <stdbool.h>

typedef struct driver_size {
    int max_batch;
    int64_t max_tokens;  /* tokens of one sequence, at most */
    int64_t max_append;  /* tokens of one append, at most */
    int64_t max_queries; /* queries of one sequence in one attend, at most; 0: 1 */
    int64_t pool_pages;
    int tables;
} driver_size;

/* A page table on the device, and the slots of its sequences in the tail pool. */
typedef struct driver_table {
    xq_page_table device;
    uint64_t slots;
    int64_t entries; /* table entries of all sequences together */
    int64_t longest; /* tokens of the longest sequence */
} driver_table;

/* A plan serves every layer of its spec. */
typedef struct driver_plan {
    char *spec; /* the spec's JSON, as given */
    xq_implementation implementation;
    xq_plan *plan;
} driver_plan;

typedef struct driver_layer {
    xq_plan *plan;
    xq_plan_info info;
    uint64_t pages, tails, weights;
} driver_layer;

typedef struct driver {
    xq_context *context;
    driver_size size;
    int32_t *order; /* the pool's pages in the order they are handed out */
    driver_table *tables;
    driver_plan *plans;
    driver_layer *layers;
    int plan_count, layer_count;
    uint64_t accumulator, workspace;
    size_t workspace_bytes;
    uint64_t x, sequence, position, append_indptr;      /* arrays of append */
    uint64_t q, out, lse, query_indptr, query_position; /* arrays of attend */
    int64_t appended;                                   /* tokens of the last append */
    int64_t rows;                                       /* rows of q */
    int64_t most_queries; /* the most queries of one sequence; 0: one query each */
    bool positions;       /* query_position is set */
    size_t heads, head_dim;
    void *stream; /* stream of append, accumulate and attend; NULL: the default stream */
} driver;

/* Allocates nothing on the device before the first layer. `seed` determines the order of the pages. */
xq_status driver_open(xq_context *context, const driver_size *size, uint64_t seed, driver *out);
void driver_close(driver *d);

/* Compiles the plan (or reuses that of an earlier layer with the same spec and implementation), packs and
 * uploads the weights, and allocates the layer's pages and tails. Layers are numbered from 0. All layers'
 * specs must agree in the model's sizes and in the page size. */
xq_status driver_add_layer(driver *d, const char *spec_json, xq_implementation implementation,
                           const xq_weights *weights);

/* Gives a layer another implementation over the tokens that are cached already: fused and unfused share the
 * layout of pages and tails. The layer's plan and weights are replaced. */
xq_status driver_change_layer(driver *d, int layer, const char *spec_json, xq_implementation implementation,
                              const xq_weights *weights);

/* Sequence i has lengths[i] tokens, in the pages that were handed out as number first[i], first[i] + 1,
 * ... */
xq_status driver_set_table(driver *d, int table, int batch, const int64_t *lengths, const int64_t *first);

/* Appends tokens, and waits. x is [count, hidden_size] of the spec's dtype; sequence and position are
 * [count]. The table's lengths must be those after the call. Layers with per-channel groups need the tokens
 * sorted by sequence and position. */
xq_status driver_append(driver *d, int layer, int table, int64_t count, const uint16_t *x,
                        const int32_t *sequence, const int32_t *position);

/* Launches the last append once more, to the same places of this layer and table. Does not wait. */
xq_status driver_append_again(driver *d, int layer, int table);

/* Adds the layer's deltas to the accumulator: cross-layer methods call it between append and attend. Does
 * not wait. */
xq_status driver_accumulate(driver *d, int layer, int table);

/* The queries of one call. Zero-initialize; xq_attend_args describes the arrays. */
typedef struct driver_queries {
    int64_t count;           /* rows of q */
    const uint16_t *q;       /* [count, H, dh] of the spec's dtype */
    const int32_t *indptr;   /* [batch + 1]; NULL: one query each */
    const int32_t *position; /* [count]; NULL: the last positions of each sequence */
} driver_queries;

/* Sets the queries of the next attend, and poisons the results. */
xq_status driver_set_queries(driver *d, int batch, const driver_queries *queries);

/* Launches attend. Does not wait. */
xq_status driver_attend(driver *d, int layer, int table);

/* Waits, and reads the results: out [queries, H, dh] of the spec's dtype, lse [queries, H]. */
xq_status driver_results(driver *d, uint16_t *out, float *lse);

/* Reads the values that kernels see of a table's tokens. Row e * page_tokens + t is token t of table entry
 * e. k and v are as xq_plan_dequantize gives them; v is NULL where it gives none. */
xq_status driver_dequantize(driver *d, int layer, int table, uint16_t *k, uint16_t *v);

/* These read page number `number`, in the order of handing out, of a layer (info.page_bytes) or of the
 * accumulator; and the tail of one sequence. */
xq_status driver_read_page(driver *d, int layer, int64_t number, void *page);
xq_status driver_read_accumulator(driver *d, int layer, int64_t number, void *page);
xq_status driver_read_tail(driver *d, int layer, int table, int sequence, void *tail);

#endif
