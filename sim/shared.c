/* Shared memory: the exact rules of its shadow, the count of passes over its banks, the shadow's time. */
#include "shared_shadow.h"

#include <stdlib.h>

static inline uint32_t warp_of(uint32_t shadow)
{
    return shadow >> WARP_SHIFT & 31;
}

static bool ordered(const sim_warp *warp, uint32_t shadow)
{
    return (shadow & STAMP) < warp->synced[warp_of(shadow)];
}

/* ---------------------------------------------------------------- exact checks */

/* Reports a race. The fault is placed at the access that is further down the program, since the barrier is
 * missing before that one. */
static enum sim_outcome race(sim_warp *warp, uint32_t lane, uint32_t address, bool writes, uint32_t with,
                             bool with_write)
{
    const sim_block *b = warp->block;
    int32_t other = (int32_t)(with_write ? b->written_at : b->read_at)[address >> 2];
    uint32_t other_warp = warp_of(with);
    const char *here = writes ? "write" : "read", *there = with_write ? "write" : "read";
    const sim_origin *origins = warp->program->origins;
    if (other <= warp->pc)
        return sim_fault(warp, 1u << (lane & 31),
                         "shared-memory race at shared address %u (0x%x): this %s and the %s of PTX line "
                         "%d by warp %u have no barrier in between",
                         address, address, here, there, origins[other].line, other_warp);
    sim_warp *blamed = &warp->block->warps[other_warp];
    int32_t pc = warp->pc;
    int line = origins[pc].line;
    blamed->pc = other; /* the message is to point there */
    return sim_fault(blamed, with_write ? 1u << (with >> LANE_SHIFT & 31) : 1,
                     "shared-memory race at shared address %u (0x%x): this %s and the %s of PTX line %d by "
                     "warp %d have no barrier in between",
                     address, address, there, here, line, warp->index);
}

static enum sim_outcome check_pending(sim_warp *warp, uint32_t lane, uint32_t address, uint32_t w)
{
    if (w & PENDING)
        return sim_fault(
            warp, 1u << (lane & 31),
            "shared address %u (0x%x) is the destination of a cp.async%s that was not waited for", address,
            address, warp_of(w) == (uint32_t)warp->index ? "" : " of another warp");
    return SIM_NEXT;
}

/* Checks a read against one shadow, of a word or of a byte. */
static enum sim_outcome check_read(sim_warp *warp, uint32_t lane, uint32_t address, uint32_t w, bool strong)
{
    if (check_pending(warp, lane, address, w) == SIM_FAULT)
        return SIM_FAULT;
    if (!(w & INITIALIZED))
        return sim_fault(warp, 1u << (lane & 31),
                         "read of uninitialized shared memory at shared address %u (0x%x)", address,
                         address);
    if (ordered(warp, w) || (strong && w & STRONG))
        return SIM_NEXT;
    if (warp_of(w) != (uint32_t)warp->index)
        return race(warp, lane, address, false, w, true);
    if (w & COPIED && (w >> LANE_SHIFT & 31) != lane)
        return sim_fault(warp, 1u << (lane & 31),
                         "shared address %u (0x%x) was copied by cp.async of lane %u: other lanes need a "
                         "barrier or __syncwarp before reading it",
                         address, address, w >> LANE_SHIFT & 31);
    return SIM_NEXT;
}

static enum sim_outcome check_write(sim_warp *warp, uint32_t lane, uint32_t address, uint32_t w, uint32_t r,
                                    bool strong, bool atomic)
{
    if (check_pending(warp, lane, address, w) == SIM_FAULT)
        return SIM_FAULT;
    if (atomic && !(w & INITIALIZED))
        return sim_fault(warp, 1u << (lane & 31),
                         "atomic on uninitialized shared memory at shared address %u (0x%x)", address,
                         address);
    bool same_writer = warp_of(w) == (uint32_t)warp->index;
    if (w & INITIALIZED && !same_writer && !ordered(warp, w) && !(strong && w & STRONG))
        return race(warp, lane, address, true, w, true);
    bool same_reader = warp_of(r) == (uint32_t)warp->index && !(r & MANY);
    if (r && !same_reader && (r & STAMP) >= warp->synced[warp_of(r)])
        return race(warp, lane, address, true, r, false);
    if (r & MANY && (r & STAMP) >= warp->synced_least)
        return race(warp, lane, address, true, r, false);
    return SIM_NEXT;
}

void sim_shared_split(sim_block *b, uint32_t row)
{
    const uint32_t w = b->row_written[row], step = w & EACH ? 1u << LANE_SHIFT : 0;
    if (w & SPLIT)
        return;
    for (uint32_t i = 0, word = row * 4; i < 4; i++, word++) {
        b->written[word] = (w & ~EACH) + i * step;
        b->read[word] = b->row_read[row];
        b->written_at[word] = b->row_written_at[row];
        b->read_at[word] = b->row_read_at[row];
    }
    b->row_written[row] = SPLIT;
}

static enum sim_outcome split_word(sim_warp *warp, uint32_t word)
{
    sim_block *b = warp->block;
    if (!b->written_bytes) {
        b->written_bytes = calloc((size_t)b->shared_bytes + 4, 4);
        b->read_bytes = calloc((size_t)b->shared_bytes + 4, 4);
    }
    if (!b->written_bytes || !b->read_bytes)
        return sim_fault(warp, warp->mask, "out of host memory");
    for (int i = 0; i < 4; i++) {
        b->written_bytes[word * 4 + i] = b->written[word];
        b->read_bytes[word * 4 + i] = b->read[word];
    }
    b->written[word] = SPLIT;
    b->read[word] = 0;
    return SIM_NEXT;
}

enum sim_outcome sim_shared_word(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t cover,
                                 enum sim_access access)
{
    sim_block *b = warp->block;
    bool strong = access >= SIM_STRONG_READ,
         writes = access == SIM_WRITE || access == SIM_STRONG_WRITE || access == SIM_ATOMIC;
    uint32_t flags = strong ? STRONG : 0;
    if (!(b->written[word] & SPLIT)) {
        enum sim_outcome o = writes ? check_write(warp, lane, word * 4, b->written[word], b->read[word],
                                                  strong, access == SIM_ATOMIC)
                                    : check_read(warp, lane, word * 4, b->written[word], strong);
        if (cover == 15) {
            if (o != SIM_FAULT && writes) {
                b->written[word] = shadow_write(warp, lane, flags);
                b->written_at[word] = (uint32_t)warp->pc;
            } else if (o != SIM_FAULT && !strong)
                shadow_read(warp, &b->read[word], &b->read_at[word]);
            return o;
        }
        if (o == SIM_FAULT)
            return o;
        uint32_t mine = b->now | (uint32_t)warp->index << WARP_SHIFT;
        if (!writes && (strong || b->read[word] == mine || b->read[word] == (mine | MANY)))
            return SIM_NEXT;
        if (split_word(warp, word) == SIM_FAULT)
            return SIM_FAULT;
    }
    uint32_t *w = b->written_bytes + word * 4, *r = b->read_bytes + word * 4;
    for (uint32_t i = 0; i < 4; i++) {
        if (!(cover >> i & 1))
            continue;
        enum sim_outcome o =
            writes ? check_write(warp, lane, word * 4 + i, w[i], r[i], strong, access == SIM_ATOMIC)
                   : check_read(warp, lane, word * 4 + i, w[i], strong);
        if (o == SIM_FAULT)
            return o;
        if (writes)
            w[i] = shadow_write(warp, lane, flags);
        else if (!strong)
            shadow_read(warp, &r[i], &b->read_at[word]);
    }
    if (writes)
        b->written_at[word] = (uint32_t)warp->pc;
    if (writes && cover == 15) { /* the word is whole again */
        b->written[word] = w[0];
        b->read[word] = 0;
        for (int i = 0; i < 4; i++)
            b->read[word] = b->read[word] == r[i] || !b->read[word] ? r[i]
                            : r[i]                                  ? r[i] | MANY
                                                                    : b->read[word];
    }
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- banks */

/* The largest number of different words in any of the 32 banks, among the words that the lanes of `mask`
 * touch. */
static uint32_t ways(uint32_t mask, const uint32_t *address, uint32_t words)
{
    uint32_t seen[32][32], count[32] = {0}, most = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t word = address[__builtin_ctz(rest)] >> 2;
        for (uint32_t k = 0; k < words; k++, word++) {
            uint32_t bank = word & 31, i = 0;
            while (i < count[bank] && seen[bank][i] != word)
                i++;
            if (i == count[bank]) {
                seen[bank][count[bank]++] = word;
                most = count[bank] > most ? count[bank] : most;
            }
        }
    }
    return most;
}

void sim_shared_count(device_counters *c, uint32_t mask, const uint32_t address[32], uint32_t bytes)
{
    /* Accesses of 8 bytes a lane are made by half warps, and those of 16 bytes by quarters, so each of
     * these phases can touch every bank once. */
    uint32_t words = bytes < 4 ? 1 : bytes >> 2, lanes = 32 / words;
    uint32_t shift = 2 + (uint32_t)__builtin_ctz(words);
    for (uint32_t from = 0; from < 32; from += lanes) {
        uint32_t phase = mask >> from & (lanes == 32 ? ~0u : (1u << lanes) - 1);
        if (!phase)
            continue;
        uint32_t banks = 0, count = 0, first = address[from + (uint32_t)__builtin_ctz(phase)], same = 1;
        for (uint32_t rest = phase; rest; rest &= rest - 1) {
            uint32_t a = address[from + (uint32_t)__builtin_ctz(rest)];
            banks |= 1u << (a >> shift & (lanes - 1));
            same &= a == first;
            count++;
        }
        uint32_t passes = 1;
        if (!same && (uint32_t)__builtin_popcount(banks) != count)
            passes = ways(phase, address + from, words);
        c->shared_passes += passes;
        c->shared_conflicts += passes - 1;
    }
}

/* ---------------------------------------------------------------- time */

void sim_shared_reset(sim_block *block)
{
    size_t rows = (block->shared_bytes + 15) / 16;
    memset(block->row_written, 0, rows * 4);
    memset(block->row_read, 0, rows * 4);
    memset(block->shared, 0xff, block->shared_bytes);
    block->now = 1;
    for (int v = 0; v < block->warp_count; v++) {
        for (int w = 0; w < SIM_BLOCK_WARPS; w++)
            block->warps[v].synced[w] = 1;
        block->warps[v].synced_least = 1;
    }
}

/* Restarts time, because stamps would overflow. All accesses so far count as ordered. */
static void restart_time(sim_block *block)
{
    for (uint32_t i = 0; i < (block->shared_bytes + 15) / 16; i++) {
        block->row_written[i] &= ~(uint32_t)STAMP;
        block->row_read[i] = 0;
    }
    for (uint32_t i = 0; i < (block->shared_bytes + 3) / 4; i++) {
        block->written[i] &= ~(uint32_t)STAMP;
        block->read[i] = 0;
        for (int k = 0; block->written_bytes && k < 4; k++) {
            block->written_bytes[i * 4 + (uint32_t)k] &= ~(uint32_t)STAMP;
            block->read_bytes[i * 4 + (uint32_t)k] = 0;
        }
    }
    block->now = 1;
    for (int v = 0; v < block->warp_count; v++) {
        for (int w = 0; w < SIM_BLOCK_WARPS; w++)
            block->warps[v].synced[w] = 1;
        block->warps[v].synced_least = 1;
    }
    for (int i = 0; i < SIM_BARRIERS; i++)
        for (int w = 0; w < SIM_BLOCK_WARPS; w++)
            block->barriers[i].stamps[w] = 1;
}

static void find_least(sim_warp *warp)
{
    uint16_t least = 0xffff;
    for (int w = 0; w < warp->block->warp_count; w++)
        if (w != warp->index && warp->synced[w] < least)
            least = warp->synced[w];
    warp->synced_least = least;
}

/* Advances time, so that later accesses of the warp get a higher stamp than those that the barrier will
 * order. */
void sim_shared_arrive(sim_warp *warp, sim_barrier *barrier)
{
    sim_block *b = warp->block;
    barrier->left |= 1u << warp->index;
    barrier->stamps[warp->index] = ++b->now;
}

void sim_shared_barrier(sim_block *block, const sim_barrier *barrier, uint32_t waiting)
{
    if (block->now >= STAMPS_END) {
        restart_time(block);
        return;
    }
    uint16_t joined[SIM_BLOCK_WARPS] = {0};
    for (int u = 0; u < block->warp_count; u++)
        for (int w = 0; barrier->arrived >> u & 1 && w < block->warp_count; w++) {
            uint16_t own = barrier->left >> u & 1 ? barrier->stamps[u] : (uint16_t)(block->now + 1);
            uint16_t at = w == u ? own : block->warps[u].synced[w];
            joined[w] = at > joined[w] ? at : joined[w];
        }
    block->now++;
    for (int v = 0; v < block->warp_count; v++)
        if (waiting >> v & 1) {
            memcpy(block->warps[v].synced, joined, sizeof joined);
            find_least(&block->warps[v]);
        }
}

void sim_shared_warp_sync(sim_warp *warp)
{
    warp->synced[warp->index] = (uint16_t)(warp->block->now + 1);
}
