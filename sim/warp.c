/* The interpreter's loop, divergence, exits, faults. */
#include "exec.h"
#include "launch.h"

#include <stdarg.h>
#include <stdio.h>

/* Number of instructions until other warps of the block get a turn, in case this warp waits for them in a
 * loop. */
enum { SLICE = 1 << 14 };

/* ---------------------------------------------------------------- faults */

enum sim_outcome sim_fault(sim_warp *warp, uint32_t mask, const char *format, ...)
{
    const sim_block *b = warp->block;
    sim_launch *launch = b->launch;
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    uint32_t thread = (uint32_t)warp->index * 32 + (uint32_t)__builtin_ctz(mask | 1u << 31);
    const sim_origin *at =
        &warp->program->origins[warp->pc < warp->program->count ? warp->pc : warp->program->count - 1];
    sim_launch_lock(launch);
    /* The fault of the first block is kept, so that the message does not depend on timing. */
    if (launch->err->status == XQ_OK || sim_block_number(b) < launch->fault_block) {
        error_clear(launch->err);
        launch->fault_block = sim_block_number(b);
        error_set(launch->err, XQ_ERROR_DEVICE, "device",
                  "kernel %s, block (%u, %u, %u), thread (%u, %u, %u), PTX line %d `%s`: %s",
                  warp->program->name, b->id[0], b->id[1], b->id[2], thread % launch->block[0],
                  thread / launch->block[0] % launch->block[1],
                  thread / (launch->block[0] * launch->block[1]), at->line, at->text, what);
        error_at(launch->err, at->file, at->source_line);
    }
    sim_launch_unlock(launch);
    atomic_store(&launch->stop, 1);
    return SIM_FAULT;
}

/* ---------------------------------------------------------------- divergence */

/* Continues with the innermost frame that still has lanes to run. Returns SIM_DONE if there is none. */
static enum sim_outcome resume(sim_warp *warp)
{
    while (warp->depth) {
        const sim_frame *top = &warp->stack[warp->depth - 1];
        if (top->mask && top->pc != top->join) {
            warp->pc = top->pc;
            warp->mask = top->mask;
            return SIM_JUMPED;
        }
        warp->depth--;
    }
    warp->mask = 0;
    return SIM_DONE;
}

/* Makes the lanes of `mask` exit, and continues with the innermost frame that still has lanes. */
static enum sim_outcome leave(sim_warp *warp, uint32_t mask)
{
    warp->live &= ~mask;
    for (int i = 0; i < warp->depth; i++)
        warp->stack[i].mask &= ~mask;
    warp->stack[warp->depth - 1].pc = warp->pc + 1;
    return resume(warp);
}

static enum sim_outcome push(sim_warp *warp, int32_t pc, int32_t join, uint32_t mask)
{
    if (pc == join || !mask)
        return SIM_NEXT; /* these lanes wait in the frame below */
    if (warp->depth == SIM_STACK)
        return sim_fault(warp, mask, "divergence nested deeper than %d", SIM_STACK);
    warp->stack[warp->depth++] = (sim_frame){pc, join, mask};
    return SIM_NEXT;
}

/* The lanes of the current frame go on at `join`, once the frames that are pushed above it have reached
 * `join`. */
static void wait_at(sim_warp *warp, int32_t join)
{
    warp->stack[warp->depth - 1].pc = join;
}

static enum sim_outcome diverge(sim_warp *warp, const sim_instruction *in, uint32_t taken)
{
    uint32_t others = warp->mask & ~taken;
    int32_t next = warp->pc + 1;
    wait_at(warp, in->join);
    if (push(warp, next, in->join, others) == SIM_FAULT ||
        push(warp, in->target, in->join, taken) == SIM_FAULT)
        return SIM_FAULT;
    return resume(warp);
}

/* brx.idx: pushes a frame for each group of lanes with the same target, in the order of the groups' lowest
 * lanes. The last group runs first. */
enum sim_outcome sim_exec_switch(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    const uint32_t *index = sim_at(warp, in->a);
    uint32_t left = mask;
    for (uint32_t rest = mask; rest; rest &= rest - 1)
        if (index[__builtin_ctz(rest)] >= in->immediate)
            return sim_fault(warp, rest & -rest, "branch index %u of %u targets",
                             index[__builtin_ctz(rest)], (uint32_t)in->immediate);
    wait_at(warp, in->join);
    while (left) {
        uint32_t of = index[__builtin_ctz(left)], group = 0;
        for (int i = 0; i < 32; i++)
            group |= (uint32_t)((left >> i & 1) && index[i] == of) << i;
        if (group == mask) { /* all lanes have the same target */
            warp->pc = sim_listed(warp, in, (int)of);
            wait_at(warp, warp->pc);
            return SIM_JUMPED;
        }
        if (push(warp, sim_listed(warp, in, (int)of), in->join, group) == SIM_FAULT)
            return SIM_FAULT;
        left &= ~group;
    }
    return resume(warp);
}

enum sim_outcome sim_exec_exit(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)in;
    for (int i = warp->copy_first; i < warp->copy_count; i++)
        if (warp->copies[i].mask & mask)
            return sim_fault(warp, warp->copies[i].mask & mask,
                             "exits with a cp.async that was not waited for");
    return leave(warp, mask);
}

enum sim_outcome sim_exec_trap(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)in;
    return sim_fault(warp, mask, "trap");
}

/* nanosleep: ends the slice, so that other warps get a turn at the next branch. */
enum sim_outcome sim_exec_sleep(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)in;
    (void)mask;
    warp->slice = 0;
    return SIM_NEXT;
}

enum sim_outcome sim_exec_nothing(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)warp;
    (void)in;
    (void)mask;
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- the loop */

static inline void run_lanes(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    const void *a = sim_at(warp, in->a), *b = sim_at(warp, in->b), *c = sim_at(warp, in->c);
    void *d = sim_at(warp, in->d);
    if (mask == warp->live) {
        in->lane(d, a, b, c, in->immediate);
        return;
    }
    sim_worker *worker = warp->block->worker;
    in->lane(worker->scratch, a, b, c, in->immediate);
    worker->launch->lanes->fn[in->kind == SIM_LANES_64 ? LANE_blend_64 : LANE_blend_32](d, worker->scratch,
                                                                                        NULL, NULL, mask);
}

static inline void run_predicate(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint32_t bits;
    in->lane(&bits, sim_at(warp, in->a), sim_at(warp, in->b), sim_at(warp, in->c), in->immediate);
    sim_write_predicate(warp, in->d, bits, mask);
}

/* Charges a back edge with the number of instructions from its target to the branch. */
static inline enum sim_outcome spend(sim_warp *warp, const sim_instruction *in)
{
    uint64_t cost = in->target <= warp->pc ? (uint64_t)(warp->pc - in->target + 1) : 1;
    if (warp->budget <= cost)
        return sim_fault(warp, warp->mask, "endless loop: the warp executed %llu instructions",
                         (unsigned long long)warp->block->launch->budget);
    warp->budget -= cost;
    warp->slice = warp->slice > cost ? warp->slice - cost : 0;
    return SIM_NEXT;
}

static inline enum sim_outcome run_branch(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    if (!mask) {
        warp->pc++;
        return SIM_NEXT;
    }
    if (in->target <= warp->pc && spend(warp, in) == SIM_FAULT)
        return SIM_FAULT;
    if (mask == warp->mask)
        warp->pc = in->target;
    else if (diverge(warp, in, mask) == SIM_FAULT)
        return SIM_FAULT;
    return SIM_NEXT;
}

static enum sim_outcome run_handler(sim_warp *warp, const sim_instruction *in, uint32_t mask,
                                    sim_tally *tally)
{
    const int32_t at = warp->pc;
    const device_counters *counters = &warp->block->worker->counters, before = *counters;
    enum sim_outcome outcome = in->handler(warp, in, mask);
    sim_tally_difference(tally, &before, counters);
    if (outcome == SIM_NEXT && warp->pc > at)
        tally[1].issued++; /* mma_pair has executed the next instruction as well */
    return outcome;
}

/* The loop is compiled twice, so that without a profile it is as fast as if there were none. */
static inline __attribute__((always_inline)) enum sim_outcome run(sim_warp *warp, sim_tally *profile)
{
    const sim_instruction *code = warp->program->code;
    uint64_t *counts = warp->block->worker->instructions;
    enum sim_outcome outcome = SIM_NEXT;
    warp->slice = SLICE;
    for (;;) {
        const sim_instruction *in = &code[warp->pc];
        uint32_t mask = warp->mask;
        counts[in->class]++;
        if (profile)
            profile[warp->pc].issued++;
        if (in->guard >= 0) {
            uint32_t p = sim_predicate(warp, in->guard);
            mask &= in->guard_negated ? ~p : p;
            if (!mask && in->kind != SIM_BRANCH) {
                warp->pc++;
                continue;
            }
        }
        switch (in->kind) {
        case SIM_LANES_32:
        case SIM_LANES_64:
            run_lanes(warp, in, mask);
            warp->pc++;
            continue;
        case SIM_LANES_PRED:
            run_predicate(warp, in, mask);
            warp->pc++;
            continue;
        case SIM_BRANCH:
            if (run_branch(warp, in, mask) == SIM_FAULT)
                return SIM_FAULT;
            if (!warp->slice)
                return SIM_NEXT; /* other warps get a turn, since this one may wait for them */
            continue;
        case SIM_MEET:
            if (warp->stack[warp->depth - 1].join == warp->pc) {
                warp->stack[warp->depth - 1].pc = warp->pc;
                if (resume(warp) == SIM_DONE)
                    return SIM_DONE;
            } else
                warp->pc++;
            continue;
        default:
            outcome =
                profile ? run_handler(warp, in, mask, &profile[warp->pc]) : in->handler(warp, in, mask);
            if (outcome == SIM_NEXT)
                warp->pc++;
            else if (outcome != SIM_JUMPED)
                return outcome;
        }
    }
}

enum sim_outcome sim_warp_run(sim_warp *warp)
{
    sim_tally *profile = warp->block->worker->profile;
    return profile ? run(warp, profile) : run(warp, NULL);
}
