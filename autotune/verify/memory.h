/* Device memory of a verification case, and host copies of it. */
#ifndef AUTOTUNE_VERIFY_MEMORY_H
#define AUTOTUNE_VERIFY_MEMORY_H

#include "state.h"

/* Device memory of a case, filled with NaN: pages (and tails) of each layer, the accumulator of all. */
typedef struct verify_memory {
    verify_state *v;
    const case_shape *shape;
    int layers;
    bool kv; /* KV pages */
    size_t page_bytes, tail_bytes, accumulator_bytes;
    uint64_t pages[CASE_MAX_LAYERS], tails[CASE_MAX_LAYERS], accumulator;
    uint64_t pointers[256]; /* all of the above, and what calls need: freed together */
    int count;
} verify_memory;

/* `implementation` says what pages are like. */
xq_status verify_memory_create(verify_state *v, int implementation, const case_shape *shape,
                               verify_memory *m, error *err);
void verify_memory_free(verify_memory *m);

/* Device memory that lives as long as `m`: a copy of `data`, or NaN where that is NULL. 0 after a failure.
 */
uint64_t verify_memory_upload(verify_memory *m, const void *data, size_t bytes, error *err);

/* Host copies of a layer's cache. */
typedef struct verify_snapshot {
    uint8_t *pages, *tails, *accumulator; /* NULL where there are none */
} verify_snapshot;
xq_status verify_snapshot_take(verify_memory *m, int layer, verify_snapshot *s, error *err);
void verify_snapshot_free(verify_snapshot *s);

/* Sequence `sequence` of a snapshot as the page codec sees it, with `length` tokens. */
page_sequence verify_snapshot_sequence(const verify_state *v, const case_shape *shape,
                                       const verify_snapshot *s, int sequence, int length);
page_sequence verify_snapshot_accumulator(const case_shape *shape, const verify_snapshot *s, int sequence,
                                          int length);

/* Pages and tails that nobody owns hold what they were filled with. */
bool verify_snapshot_untouched(const verify_memory *m, const verify_snapshot *s);

/* A row [hidden] of the accumulator as kernels see it. */
void verify_accumulator_row(const verify_state *v, const page_sequence *accumulator, int t, uint16_t *row);

#endif
