/* Runs one block: its warps take turns, and each runs until it waits or has used up its slice. Barriers are
 * here too. */
#include "exec.h"
#include "launch.h"
#include "shared.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- barriers */

static int threads_of(const sim_block *b, int warp)
{
    int left = b->threads - warp * 32;
    return left < 32 ? left : 32;
}

static void complete(sim_block *b, int index)
{
    sim_barrier *barrier = &b->barriers[index];
    uint32_t waiting = 0;
    for (int w = 0; w < b->warp_count; w++) {
        sim_warp *warp = &b->warps[w];
        if (warp->state != SIM_WARP_AT_BARRIER || warp->barrier != index)
            continue;
        waiting |= 1u << w;
        warp->state = SIM_WARP_READY;
        const sim_instruction *in = &warp->program->code[warp->pc - 1];
        if (in->x[0] == SIM_BARRIER_POPC) {
            uint32_t values[32];
            for (int i = 0; i < 32; i++)
                values[i] = (uint32_t)barrier->popc;
            sim_write_32(warp, in->d, values, warp->mask);
        } else if (in->x[0] == SIM_BARRIER_AND || in->x[0] == SIM_BARRIER_OR)
            sim_write_predicate(warp, in->d,
                                (in->x[0] == SIM_BARRIER_AND ? barrier->all : barrier->any) ? ~0u : 0,
                                warp->mask);
    }
    sim_shared_barrier(b, barrier, waiting);
    b->worker->counters.barriers++;
    *barrier = (sim_barrier){0};
}

static void arrive(sim_warp *warp, const sim_instruction *in, sim_barrier *barrier)
{
    uint32_t p = in->x[0] >= SIM_BARRIER_POPC ? sim_predicate(warp, in->c) & warp->mask : 0;
    if (!barrier->active)
        barrier->all = true;
    barrier->active = true;
    barrier->popc += __builtin_popcount(p);
    barrier->all &= p == warp->mask;
    barrier->any |= p != 0;
    barrier->arrived |= 1u << warp->index;
    /* A partial warp counts as 32 threads at a barrier with a thread count, as on hardware. */
    barrier->threads += barrier->whole ? threads_of(warp->block, warp->index) : 32;
}

/* Warps that exited do not hold up a barrier of the whole block (CUDA C++ Programming Guide, Volta's
 * independent thread scheduling: "all non-exited threads"). */
static bool is_complete(const sim_block *b, const sim_barrier *barrier)
{
    if (!barrier->whole)
        return barrier->threads >= barrier->expected;
    for (int w = 0; w < b->warp_count; w++)
        if (b->warps[w].state != SIM_WARP_EXITED && !(barrier->arrived >> w & 1))
            return false;
    return true;
}

static void exit_warp(sim_warp *warp)
{
    sim_block *b = warp->block;
    warp->state = SIM_WARP_EXITED;
    for (int i = 0; i < SIM_BARRIERS; i++)
        if (b->barriers[i].active && b->barriers[i].whole && is_complete(b, &b->barriers[i]))
            complete(b, i);
}

enum sim_outcome sim_exec_barrier(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    sim_block *b = warp->block;
    const uint32_t *indices = sim_at(warp, in->a), *counts = sim_at(warp, in->b);
    int lane = __builtin_ctz(mask);
    uint32_t index = indices[lane], count = in->x[1] ? counts[lane] : 0;
    if (mask != warp->live)
        return sim_fault(warp, mask, "diverged barrier: lanes 0x%08x of the warp's 0x%08x are here", mask,
                         warp->live);
    if (index >= SIM_BARRIERS)
        return sim_fault(warp, mask, "barrier %u does not exist (0 to 15 do)", index);
    if (in->x[1] && (count == 0 || count % 32 || count > (uint32_t)(b->warp_count * 32)))
        return sim_fault(warp, mask, "barrier of %u threads in a block of %d", count, b->threads);
    sim_barrier *barrier = &b->barriers[index];
    int expected = in->x[1] ? (int)count : b->threads;
    if (barrier->active && barrier->expected != expected)
        return sim_fault(warp, mask, "barrier %u of %d threads is waited at as one of %d", index,
                         barrier->expected, expected);
    if (barrier->arrived >> warp->index & 1)
        return sim_fault(warp, mask, "the warp arrives at barrier %u a second time before it completed",
                         index);
    barrier->expected = expected;
    if (!barrier->active)
        barrier->whole = !in->x[1];
    arrive(warp, in, barrier);
    warp->pc++;
    if (in->x[0] != SIM_BARRIER_ARRIVE) {
        warp->state = SIM_WARP_AT_BARRIER;
        warp->barrier = (int)index;
    } else
        sim_shared_arrive(warp, barrier);
    if (is_complete(b, barrier))
        complete(b, (int)index);
    return warp->state == SIM_WARP_READY ? SIM_JUMPED : SIM_BLOCKED;
}

/* ---------------------------------------------------------------- scheduling */

static enum sim_outcome deadlock(sim_block *b)
{
    for (int w = 0; w < b->warp_count; w++) {
        sim_warp *warp = &b->warps[w];
        if (warp->state != SIM_WARP_AT_BARRIER)
            continue;
        const sim_barrier *barrier = &b->barriers[warp->barrier];
        int exited = 0;
        for (int k = 0; k < b->warp_count; k++)
            exited += b->warps[k].state == SIM_WARP_EXITED;
        warp->pc--; /* back to the barrier, for the message */
        return sim_fault(warp, warp->mask,
                         "deadlock: %d of %d threads arrived at barrier %d, and no other thread will (%d "
                         "of %d warps exited)",
                         barrier->threads, barrier->expected, warp->barrier, exited, b->warp_count);
    }
    return SIM_FAULT;
}

static void start_warp(sim_warp *warp)
{
    int threads = threads_of(warp->block, warp->index);
    warp->mask = warp->live = threads == 32 ? ~0u : (1u << threads) - 1;
    warp->pc = 0;
    warp->carry = 0;
    warp->state = SIM_WARP_READY;
    warp->budget = warp->block->launch->budget;
    warp->depth = 1;
    warp->copy_first = warp->copy_count = 0;
    memset(warp->groups, 0, sizeof warp->groups);
    warp->stack[0] = (sim_frame){0, warp->program->count, warp->mask};
}

static uint32_t special_value(const sim_warp *warp, enum sim_special s, uint32_t lane)
{
    const sim_block *b = warp->block;
    const uint32_t *size = b->launch->block, *grid = b->launch->grid;
    uint32_t thread = (uint32_t)warp->index * 32 + lane;
    switch (s) {
    case SIM_TID_X:
        return thread % size[0];
    case SIM_TID_Y:
        return thread / size[0] % size[1];
    case SIM_TID_Z:
        return thread / (size[0] * size[1]);
    case SIM_NTID_X:
    case SIM_NTID_Y:
    case SIM_NTID_Z:
        return size[s - SIM_NTID_X];
    case SIM_CTAID_X:
    case SIM_CTAID_Y:
    case SIM_CTAID_Z:
        return b->id[s - SIM_CTAID_X];
    case SIM_NCTAID_X:
    case SIM_NCTAID_Y:
    case SIM_NCTAID_Z:
        return grid[s - SIM_NCTAID_X];
    case SIM_LANEID:
        return lane;
    case SIM_WARPID:
        return (uint32_t)warp->index;
    case SIM_NWARPID:
        return (uint32_t)b->warp_count;
    case SIM_SMID:
    case SIM_GRIDID:
        return 0;
    case SIM_NSMID:
        return 1;
    case SIM_LANEMASK_EQ:
        return 1u << lane;
    case SIM_LANEMASK_LE:
        return (2u << lane) - 1;
    case SIM_LANEMASK_LT:
        return (1u << lane) - 1;
    case SIM_LANEMASK_GE:
        return ~((1u << lane) - 1);
    case SIM_LANEMASK_GT:
        return ~((2u << lane) - 1);
    case SIM_DYNAMIC_SMEM_SIZE:
        return b->launch->shared_bytes;
    default:
        return b->shared_bytes;
    }
}

static void set_specials(sim_warp *warp)
{
    const sim_program *p = warp->program;
    for (int s = 0; s < SIM_SPECIALS; s++) {
        if (p->special[s] < 0)
            continue;
        uint32_t *d = sim_at(warp, p->special[s]);
        for (uint32_t lane = 0; lane < 32; lane++)
            d[lane] = special_value(warp, (enum sim_special)s, lane);
    }
}

/* Fills registers and local memory with 0xff bytes. Values that were never written are then NaN, and they
 * do not depend on the block that ran here before. */
static void poison(sim_block *b)
{
    const sim_program *p = b->launch->program;
    for (int w = 0; w < b->warp_count; w++)
        memset(b->warps[w].base[0], 0xff, p->register_bytes);
    memset(b->local, 0xff, (size_t)b->warp_count * 32 * p->local_bytes);
}

bool sim_block_run(sim_block *b)
{
    memset(b->barriers, 0, sizeof b->barriers);
    poison(b);
    sim_shared_reset(b);
    for (int w = 0; w < b->warp_count; w++) {
        start_warp(&b->warps[w]);
        set_specials(&b->warps[w]);
    }
    for (int exited = 0; exited < b->warp_count;) {
        bool progress = false;
        for (int w = 0; w < b->warp_count; w++) {
            sim_warp *warp = &b->warps[w];
            if (warp->state != SIM_WARP_READY)
                continue;
            progress = true;
            enum sim_outcome outcome = sim_warp_run(warp);
            if (outcome == SIM_FAULT)
                return false;
            if (outcome == SIM_DONE) {
                exit_warp(warp);
                exited++;
            }
            if (sim_launch_stopped(b))
                return false;
        }
        if (!progress && exited < b->warp_count) {
            deadlock(b);
            return false;
        }
    }
    return true;
}
