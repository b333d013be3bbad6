/* Device memory of a verification case, and host copies of it. */
#ifndef AUTOTUNE_VERIFY_MEMORY_H
#define AUTOTUNE_VERIFY_MEMORY_H

#include "state.h"

/* Device memory of a case, filled with NaN: pages (and tails) of each layer, and the accumulator that the
 * layers share. */
typedef struct verify_memory {
    verify_state *v;
    const case_shape *shape;
    int layers;
    bool kv; /* the pages are those of an fp16 KV cache */
    size_t page_bytes, tail_bytes, accumulator_bytes;
    uint64_t pages[CASE_MAX_LAYERS], tails[CASE_MAX_LAYERS], accumulator;
    uint64_t pointers[256]; /* all of the above, and the buffers of calls: freed together */
    int count;
} verify_memory;

/* Allocates memory for pages as `implementation` lays them out. */
xq_status verify_memory_create(verify_state *v, int implementation, const case_shape *shape,
                               verify_memory *m, error *err);
void verify_memory_free(verify_memory *m);

/* Allocates device memory that lives as long as `m`, and fills it with a copy of `data`, or with NaN where
 * `data` is NULL. Returns 0 after a failure. */
uint64_t verify_memory_upload(verify_memory *m, const void *data, size_t bytes, error *err);

/* Host copies of a layer's cache. */
typedef struct verify_snapshot {
    uint8_t *pages, *tails, *accumulator; /* NULL where there are none */
} verify_snapshot;
xq_status verify_snapshot_take(verify_memory *m, int layer, verify_snapshot *s, error *err);
void verify_snapshot_free(verify_snapshot *s);

/* The first `length` tokens of sequence `sequence` in a snapshot, as the page codec reads them: from the
 * layer's pages and tail, or from the accumulator. */
page_sequence verify_snapshot_sequence(const verify_state *v, const case_shape *shape,
                                       const verify_snapshot *s, int sequence, int length);
page_sequence verify_snapshot_accumulator(const case_shape *shape, const verify_snapshot *s, int sequence,
                                          int length);

/* Whether the pages and tails that no sequence owns still hold NaN. */
bool verify_snapshot_untouched(const verify_memory *m, const verify_snapshot *s);

/* Reads row t [hidden] of the accumulator as kernels see it. */
void verify_accumulator_row(const verify_state *v, const page_sequence *accumulator, int t, uint16_t *row);

#endif
