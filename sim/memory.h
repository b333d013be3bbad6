/* Device memory: allocations at virtual addresses, checked exactly. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include "../runtime/device/device.h"

#include <stdatomic.h>

typedef struct sim_allocation {
    uint64_t address; /* virtual */
    uint64_t bytes;
    uint8_t *data;    /* NULL once freed */
    const char *name; /* of a module variable, else NULL */
    bool read_only;
    /* A bit for each 32-byte sector touched by this launch; made when first needed. */
    _Atomic(_Atomic uint64_t *) sectors[2]; /* read, written */
} sim_allocation;

typedef struct sim_memory {
    sim_allocation **list; /* by window; freed ones stay, to name what a stale pointer was */
    uint64_t count, capacity;
    uint64_t bytes_in_use, bytes_max;
} sim_memory;

xq_status sim_memory_alloc(sim_memory *memory, uint64_t bytes, const char *name, sim_allocation **out,
                           error *err);
xq_status sim_memory_free(sim_memory *memory, uint64_t address, error *err);
void sim_memory_destroy(sim_memory *memory);

/* The allocation whose window holds `address`, or NULL; it may be freed, and the address outside. */
sim_allocation *sim_memory_find(const sim_memory *memory, uint64_t address);

/* Host memory of [address, address + bytes), or NULL with a one-line reason in `why`. */
uint8_t *sim_memory_host(const sim_memory *memory, uint64_t address, uint64_t bytes, char why[256]);

/* Forgets the sectors touched, before a launch. */
void sim_memory_clear_sectors(sim_memory *memory);

/* Marks `count` sectors from `first` as read or written; returns how many were not before. */
uint64_t sim_memory_touch(sim_allocation *allocation, int written, uint64_t first, uint64_t count);

#endif
