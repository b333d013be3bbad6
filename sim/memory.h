/* Device memory: allocations at virtual addresses, whose exact bounds every access is checked against. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include "../runtime/device/device.h"

#include <stdatomic.h>

typedef struct sim_allocation {
    uint64_t address; /* virtual */
    uint64_t bytes;
    uint8_t *data;    /* NULL once freed */
    const char *name; /* name of the module variable that lies here, or NULL */
    bool read_only;
    /* One bit for each 32-byte sector that this launch touched; allocated when it is first needed. */
    _Atomic(_Atomic uint64_t *) sectors[2]; /* read, written */
} sim_allocation;

typedef struct sim_memory {
    sim_allocation **list; /* by window; freed ones stay, so that messages can say what they were */
    uint64_t count, capacity;
    uint64_t bytes_in_use, bytes_max;
} sim_memory;

xq_status sim_memory_alloc(sim_memory *memory, uint64_t bytes, const char *name, sim_allocation **out,
                           error *err);
xq_status sim_memory_free(sim_memory *memory, uint64_t address, error *err);
void sim_memory_destroy(sim_memory *memory);

/* The allocation whose window holds `address`, or NULL. The allocation may be freed, and the address may
 * lie outside its bytes. */
sim_allocation *sim_memory_find(const sim_memory *memory, uint64_t address);

/* Host pointer to the bytes [address, address + bytes), or NULL with a one-line reason in `why`. */
uint8_t *sim_memory_host(const sim_memory *memory, uint64_t address, uint64_t bytes, char why[256]);

/* Forgets which sectors were touched. This is done before each launch. */
void sim_memory_clear_sectors(sim_memory *memory);

/* Marks `count` sectors from `first` as read or written; returns how many were not marked before. */
uint64_t sim_memory_touch(sim_allocation *allocation, int written, uint64_t first, uint64_t count);

#endif
