/* State of execution: a worker runs blocks, and a block runs its warps. */
#ifndef SIM_WARP_H
#define SIM_WARP_H

#include "memory.h"
#include "profile.h"

#include <pthread.h>
#include <string.h>

enum { SIM_BLOCK_WARPS = 32, SIM_BARRIERS = 16, SIM_STACK = 256 };

/* An entry of a warp's divergence stack. */
typedef struct sim_frame {
    int32_t pc, join; /* the frame ends when pc reaches join */
    uint32_t mask;
} sim_frame;

/* One cp.async: the lanes of `mask` wrote `bytes` at `address` and have not waited for them yet. */
typedef struct sim_copy {
    uint32_t mask, bytes;
    uint32_t committed; /* lanes that have committed the copy, so that `group` is known */
    uint32_t group[32];
    uint32_t address[32];
} sim_copy;

enum sim_warp_state { SIM_WARP_READY, SIM_WARP_AT_BARRIER, SIM_WARP_EXITED };

typedef struct sim_warp {
    uint8_t *base[2]; /* registers and constants; an operand's lowest bit is the index */
    struct sim_block *block;
    const sim_program *program;
    int32_t pc;
    uint32_t mask;  /* lanes at pc */
    uint32_t live;  /* lanes that have not exited */
    uint32_t carry; /* CC.CF of each lane */
    int index;      /* index of the warp in the block */
    int depth;
    enum sim_warp_state state;
    int barrier;     /* index of the barrier in state SIM_WARP_AT_BARRIER */
    uint64_t budget; /* instructions left */
    uint64_t slice;  /* instructions until other warps get a turn */
    int copy_first, copy_count, copy_capacity;
    sim_copy *copies;                 /* copies not waited for yet: from copy_first to copy_count - 1 */
    uint32_t groups[32];              /* cp.async groups that each lane has committed */
    uint16_t synced[SIM_BLOCK_WARPS]; /* accesses of warp w stamped before synced[w] precede this warp's */
    uint16_t synced_least;            /* the least synced[w] of the other warps */
    sim_frame stack[SIM_STACK];
} sim_warp;

typedef struct sim_barrier {
    uint32_t arrived;                 /* warps that arrived, one bit each */
    uint32_t left;                    /* those of them that did not wait (bar.arrive) */
    uint16_t stamps[SIM_BLOCK_WARPS]; /* for `left`: accesses with lower stamps precede the barrier */
    int threads;                      /* threads that arrived */
    int expected;
    bool active, whole; /* whole: it waits for every thread of the block that has not exited */
    int popc;           /* barrier.red: true predicates so far */
    bool all, any;
    const sim_instruction *in;
} sim_barrier;

typedef struct sim_block {
    struct sim_launch *launch;
    struct sim_worker *worker;
    uint32_t id[3];
    int threads, warp_count;
    sim_warp *warps;
    sim_barrier barriers[SIM_BARRIERS];
    uint8_t *shared;
    uint32_t shared_bytes;
    /* shadow of shared memory (shared_shadow.h), by row, by word and by byte */
    uint32_t *row_written, *row_read, *written, *read, *written_bytes, *read_bytes;
    /* indices of the instructions that last wrote and read, by row and by word */
    uint32_t *row_written_at, *row_read_at, *written_at, *read_at;
    uint16_t now;   /* time of the shadow (shared_shadow.h); begins at 1 */
    uint8_t *local; /* local memory, by warp, lane and byte */
} sim_block;

typedef struct sim_launch {
    struct sim_memory *memory;
    const sim_program *program;
    const struct sim_lanes *lanes;
    const uint8_t *constants; /* the program's constants with this launch's parameters */
    const uint8_t *params;
    uint32_t grid[3], block[3], shared_bytes;
    uint64_t budget;
    uint64_t blocks;
    _Atomic uint64_t next_block;
    _Atomic int stop;
    uint64_t fault_block; /* index of the block whose fault is in `err` */
    error *err;           /* guarded by lock */
    sim_tally *profile;   /* one tally for each instruction of the program; NULL: no profile */
    pthread_mutex_t lock;
} sim_launch;

typedef struct sim_worker {
    sim_launch *launch;
    device_counters counters;                       /* all but the instructions */
    uint64_t instructions[INSTRUCTION_CLASSES + 1]; /* by class; the last entry is SIM_UNCOUNTED */
    sim_tally *profile;                             /* one tally for each instruction, or NULL */
    sim_allocation *recent;                         /* the allocation of the last device access */
    sim_block block;
    uint8_t *registers;
    uint8_t scratch[256] __attribute__((aligned(64)));
} sim_worker;

static inline void *sim_at(const sim_warp *warp, sim_operand o)
{
    return warp->base[o & 1] + (o & ~1);
}

static inline uint32_t sim_predicate(const sim_warp *warp, sim_operand o)
{
    uint32_t bits;
    memcpy(&bits, sim_at(warp, o), 4);
    return bits;
}

static inline sim_operand sim_listed(const sim_warp *warp, const sim_instruction *in, int i)
{
    return warp->program->list[in->list + i];
}

/* Writes the results of the lanes of `mask`; values[i] is the result of lane i, in a 32-bit slot. */
static inline void sim_write_32(const sim_warp *warp, sim_operand o, const uint32_t *values, uint32_t mask)
{
    uint32_t *d = sim_at(warp, o);
    if (mask == 0xffffffffu)
        memcpy(d, values, 128);
    else
        for (int i = 0; i < 32; i++)
            d[i] = mask >> i & 1 ? values[i] : d[i];
}

static inline void sim_write_64(const sim_warp *warp, sim_operand o, const uint64_t *values, uint32_t mask)
{
    uint64_t *d = sim_at(warp, o);
    if (mask == 0xffffffffu)
        memcpy(d, values, 256);
    else
        for (int i = 0; i < 32; i++)
            d[i] = mask >> i & 1 ? values[i] : d[i];
}

static inline void sim_write_predicate(const sim_warp *warp, sim_operand o, uint32_t bits, uint32_t mask)
{
    uint32_t *d = sim_at(warp, o);
    *d = (*d & ~mask) | (bits & mask);
}

/* Reports a fault of the lowest lane of `mask` at the warp's pc; returns SIM_FAULT. */
enum sim_outcome sim_fault(sim_warp *warp, uint32_t mask, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Runs the warp until it blocks, exits, faults, or has used up its slice (SIM_NEXT). */
enum sim_outcome sim_warp_run(sim_warp *warp);

/* Runs one block. Returns false if the block faulted, or if it stopped because an earlier block did. */
bool sim_block_run(sim_block *block);

#endif
