/* Executes exchanges between the lanes of a warp. */
#include "exec.h"
#include "shared.h"

/* Runs `one` for each group of lanes that give the same member mask. All lanes of the mask that have not
 * exited must be here. Lanes may give different masks at once, as parts of a warp that cooperate separately
 * do. */
static enum sim_outcome by_members(sim_warp *warp, const sim_instruction *in, sim_operand members,
                                   uint32_t mask, sim_handler *one)
{
    uint32_t given[32], group;
    memcpy(given, sim_at(warp, members), sizeof given); /* `one` may overwrite them */
    for (uint32_t rest = mask; rest; rest &= ~group) {
        uint32_t first = given[__builtin_ctz(rest)];
        group = 0;
        for (uint32_t lanes = rest; lanes; lanes &= lanes - 1)
            group |= given[__builtin_ctz(lanes)] == first ? lanes & -lanes : 0;
        if (group & ~first)
            return sim_fault(warp, group & ~first, "the lane is not in its own member mask 0x%08x", first);
        /* Exited lanes count as arrived (PTX ISA: "all non-exited threads"). */
        uint32_t missing = first & warp->live & ~group;
        if (missing)
            return sim_fault(warp, group,
                             "diverged: lanes 0x%08x of the member mask 0x%08x are not here with it",
                             missing, first);
        if (one(warp, in, group) == SIM_FAULT)
            return SIM_FAULT;
    }
    return SIM_NEXT;
}

static enum sim_outcome shuffle(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint32_t values[32], found = 0;
    const uint32_t *a = sim_at(warp, in->a), *b = sim_at(warp, in->b), *c = sim_at(warp, in->c);
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t step = b[lane] & 31, clamp = c[lane] & 31, segment = c[lane] >> 8 & 31;
        uint32_t most = (lane & segment) | (clamp & ~segment), least = lane & segment, from = lane;
        bool ok = true;
        switch ((enum sim_shuffle)in->x[0]) {
        case SIM_SHUFFLE_UP:
            from = lane - step;
            ok = (int32_t)from >= (int32_t)most;
            break;
        case SIM_SHUFFLE_DOWN:
            from = lane + step;
            ok = from <= most;
            break;
        case SIM_SHUFFLE_BFLY:
            from = lane ^ step;
            ok = from <= most;
            break;
        case SIM_SHUFFLE_IDX:
            from = least | (step & ~segment);
            ok = from <= most;
            break;
        }
        from = ok ? from : lane;
        if (mask >> lane & 1 && !(mask >> from & 1))
            return sim_fault(warp, 1u << lane, "shuffle reads lane %u, which does not take part", from);
        values[lane] = a[from];
        found |= (uint32_t)ok << lane;
    }
    sim_write_32(warp, in->d, values, mask);
    sim_write_predicate(warp, sim_listed(warp, in, 0), found, mask);
    return SIM_NEXT;
}

enum sim_outcome sim_exec_shuffle(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    return by_members(warp, in, sim_listed(warp, in, 1), mask, shuffle);
}

static void write_same(const sim_warp *warp, sim_operand d, uint32_t value, uint32_t mask)
{
    uint32_t values[32];
    for (int i = 0; i < 32; i++)
        values[i] = value;
    sim_write_32(warp, d, values, mask);
}

static enum sim_outcome vote(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint32_t p = sim_predicate(warp, in->a) & mask;
    switch ((enum sim_vote)in->x[0]) {
    case SIM_VOTE_BALLOT:
        write_same(warp, in->d, p, mask);
        break;
    case SIM_VOTE_ALL:
        sim_write_predicate(warp, in->d, p == mask ? ~0u : 0, mask);
        break;
    case SIM_VOTE_ANY:
        sim_write_predicate(warp, in->d, p ? ~0u : 0, mask);
        break;
    case SIM_VOTE_UNI:
        sim_write_predicate(warp, in->d, p == mask || !p ? ~0u : 0, mask);
        break;
    }
    return SIM_NEXT;
}

enum sim_outcome sim_exec_vote(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    return by_members(warp, in, in->b, mask, vote);
}

static enum sim_outcome match(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint32_t values[32];
    const void *a = sim_at(warp, in->a);
    for (int i = 0; i < 32; i++) {
        values[i] = 0;
        for (int k = 0; k < 32; k++) {
            bool same = in->x[1] ? ((const uint64_t *)a)[i] == ((const uint64_t *)a)[k]
                                 : ((const uint32_t *)a)[i] == ((const uint32_t *)a)[k];
            values[i] |= (uint32_t)(same && mask >> k & 1) << k;
        }
    }
    if (in->x[0]) {
        bool all = values[__builtin_ctz(mask)] == mask;
        write_same(warp, in->d, all ? mask : 0, mask);
        sim_write_predicate(warp, sim_listed(warp, in, 0), all ? ~0u : 0, mask);
    } else
        sim_write_32(warp, in->d, values, mask);
    return SIM_NEXT;
}

enum sim_outcome sim_exec_match(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    return by_members(warp, in, in->b, mask, match);
}

static uint32_t combine(enum sim_atomic op, bool is_signed, uint32_t x, uint32_t y)
{
    switch (op) {
    case SIM_ATOMIC_AND:
        return x & y;
    case SIM_ATOMIC_OR:
        return x | y;
    case SIM_ATOMIC_XOR:
        return x ^ y;
    case SIM_ATOMIC_ADD:
        return x + y;
    case SIM_ATOMIC_MIN:
        return (is_signed ? (int32_t)y < (int32_t)x : y < x) ? y : x;
    default:
        return (is_signed ? (int32_t)y > (int32_t)x : y > x) ? y : x;
    }
}

static enum sim_outcome reduce(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    const uint32_t *a = sim_at(warp, in->a);
    uint32_t r = a[__builtin_ctz(mask)];
    for (uint32_t rest = mask & (mask - 1); rest; rest &= rest - 1)
        r = combine(in->x[0], in->x[1], r, a[__builtin_ctz(rest)]);
    write_same(warp, in->d, r, mask);
    return SIM_NEXT;
}

enum sim_outcome sim_exec_reduce(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    return by_members(warp, in, in->b, mask, reduce);
}

static enum sim_outcome elect(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    write_same(warp, in->d, (uint32_t)__builtin_ctz(mask), mask);
    sim_write_predicate(warp, sim_listed(warp, in, 0), mask & -mask, mask);
    return SIM_NEXT;
}

enum sim_outcome sim_exec_elect(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    return by_members(warp, in, in->b, mask, elect);
}

enum sim_outcome sim_exec_activemask(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    write_same(warp, in->d, mask, mask);
    return SIM_NEXT;
}

static enum sim_outcome warp_sync(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)in;
    (void)mask;
    sim_shared_warp_sync(warp);
    return SIM_NEXT;
}

enum sim_outcome sim_exec_warp_sync(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    return by_members(warp, in, in->b, mask, warp_sync);
}

enum sim_outcome sim_exec_fence(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)warp;
    (void)in;
    (void)mask;
    atomic_thread_fence(memory_order_seq_cst);
    return SIM_NEXT;
}
