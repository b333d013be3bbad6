/* State of execution: a worker runs blocks, a block its warps. */
#ifndef SIM_WARP_H
#define SIM_WARP_H

#include "memory.h"
#include "profile.h"

#include <pthread.h>
#include <string.h>

enum { SIM_BLOCK_WARPS = 32, SIM_BARRIERS = 16, SIM_STACK = 256 };

typedef struct sim_frame {
    int32_t pc, join; /* the frame ends where pc reaches join */
    uint32_t mask;
} sim_frame;

/* A cp.async of one instruction: lanes of `mask` wrote `bytes` at `address`. */
typedef struct sim_copy {
    uint32_t mask, bytes;
    uint32_t committed; /* lanes whose group is known */
    uint32_t group[32];
    uint32_t address[32];
} sim_copy;

enum sim_warp_state { SIM_WARP_READY, SIM_WARP_AT_BARRIER, SIM_WARP_EXITED };

typedef struct sim_warp {
    uint8_t *base[2]; /* registers, constants: indexed by an operand's lowest bit */
    struct sim_block *block;
    const sim_program *program;
    int32_t pc;
    uint32_t mask;  /* lanes at pc */
    uint32_t live;  /* lanes that have not exited */
    uint32_t carry; /* CC.CF of each lane */
    int index;      /* in the block */
    int depth;
    enum sim_warp_state state;
    int barrier;     /* SIM_WARP_AT_BARRIER: which */
    uint64_t budget; /* instructions left */
    uint64_t slice;  /* instructions until other warps get a turn */
    int copy_first, copy_count, copy_capacity;
    sim_copy *copies;                 /* those not waited for: copy_first to copy_count */
    uint32_t groups[32];              /* cp.async groups committed, by lane */
    uint16_t synced[SIM_BLOCK_WARPS]; /* accesses of warp w stamped before synced[w] precede ours */
    uint16_t synced_least;
    sim_frame stack[SIM_STACK];
} sim_warp;

typedef struct sim_barrier {
    uint32_t arrived;                 /* warps */
    uint32_t left;                    /* of these, the ones that did not wait (bar.arrive) */
    uint16_t stamps[SIM_BLOCK_WARPS]; /* of `left`: accesses stamped before this precede the barrier */
    int threads;                      /* arrived */
    int expected;
    bool active, whole; /* whole: for every thread of the block that has not exited */
    int popc;           /* barrier.red: predicates so far */
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
    /* shadow of shared memory, see shared_shadow.h: of its rows, its words and its bytes */
    uint32_t *row_written, *row_read, *written, *read, *written_bytes, *read_bytes;
    /* instructions that last did, by row and by word */
    uint32_t *row_written_at, *row_read_at, *written_at, *read_at;
    uint16_t now;   /* barriers completed, plus 1 */
    uint8_t *local; /* warp, lane, bytes */
} sim_block;

typedef struct sim_launch {
    struct sim_memory *memory;
    const sim_program *program;
    const struct sim_lanes *lanes;
    const uint8_t *constants; /* the program's with this launch's parameters */
    const uint8_t *params;
    uint32_t grid[3], block[3], shared_bytes;
    uint64_t budget;
    uint64_t blocks;
    _Atomic uint64_t next_block;
    _Atomic int stop;
    uint64_t fault_block; /* of `err` */
    error *err;           /* guarded by lock */
    sim_tally *profile;   /* what is counted of each instruction of the program; NULL: nothing is */
    pthread_mutex_t lock;
} sim_launch;

typedef struct sim_worker {
    sim_launch *launch;
    device_counters counters;                       /* but for the instructions */
    uint64_t instructions[INSTRUCTION_CLASSES + 1]; /* and the uncounted ones */
    sim_tally *profile;                             /* this worker's part of the launch's; or NULL */
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

/* Writes 32 results (32-bit slots) into the lanes of `mask`. */
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

/* Runs until the warp blocks, exits, faults, or used up its slice (SIM_NEXT). */
enum sim_outcome sim_warp_run(sim_warp *warp);

/* Runs one block. False if it faulted. */
bool sim_block_run(sim_block *block);

#endif
