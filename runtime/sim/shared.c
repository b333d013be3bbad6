/* The shadow of shared memory: for each 4-byte word who wrote it last and who read it since, and when.
 *
 * Time is counted in barriers completed in the block (`now`). Accesses of warp w stamped before
 * warp->synced[w] happened before what the warp does now; any other access of another warp is concurrent,
 * and two concurrent accesses, one a write, are a race. A word accessed in parts has a shadow for each of
 * its bytes instead (SPLIT), until it is written whole again.
 *
 * written: stamp 0-15, warp 16-20, lane 21-25, flags. 0: never written.
 * read: stamp 0-15, warp 16-20, MANY where several warps read at that stamp. Only the latest stamp is kept:
 * older readers were ordered by the barriers in between, unless those were of other warps only. */
#if !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#include "shared.h"

#include <stdlib.h>

enum {
    STAMP = 0xffff,
    STAMPS_END = 0xf000, /* time starts anew; between barriers, every warp may arrive at 16 more */
    WARP_SHIFT = 16,
    LANE_SHIFT = 21,
    INITIALIZED = 1 << 26,
    PENDING = 1 << 27, /* by a cp.async that was not waited for */
    SPLIT = 1 << 28,
    COPIED = 1 << 29, /* by a cp.async that its lane waited for */
    STRONG = 1 << 30, /* by an atomic, volatile or ordered access */
    MANY = 1 << 21
};

static inline uint32_t warp_of(uint32_t shadow)
{
    return shadow >> WARP_SHIFT & 31;
}

static bool ordered(const sim_warp *warp, uint32_t shadow)
{
    return (shadow & STAMP) < warp->synced[warp_of(shadow)];
}

/* ---------------------------------------------------------------- exact checks */

/* Of the two accesses of a race, the one further down the program is reported: it lacks the barrier. */
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
    blamed->pc = other; /* where the message is to point */
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

/* One shadow, of a word or a byte, for a read. */
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

static inline void mark_read(const sim_warp *warp, uint32_t *r, uint32_t word)
{
    uint32_t now = warp->block->now, mine = now | (uint32_t)warp->index << WARP_SHIFT;
    if ((*r & ~(uint32_t)MANY) == mine)
        return;
    *r = (*r & STAMP) == now ? *r | MANY : mine;
    warp->block->read_at[word] = (uint32_t)warp->pc;
}

static inline uint32_t stamp_write(const sim_warp *warp, uint32_t lane, uint32_t flags)
{
    return warp->block->now | (uint32_t)warp->index << WARP_SHIFT | (lane & 31) << LANE_SHIFT |
           INITIALIZED | flags;
}

static enum sim_outcome split(sim_warp *warp, uint32_t word)
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

/* Exact, for the bytes of `cover` (4 bits) of a word. */
static enum sim_outcome access_word(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t cover,
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
                b->written[word] = stamp_write(warp, lane, flags);
                b->written_at[word] = (uint32_t)warp->pc;
            } else if (o != SIM_FAULT && !strong)
                mark_read(warp, &b->read[word], word);
            return o;
        }
        if (o == SIM_FAULT)
            return o;
        uint32_t mine = b->now | (uint32_t)warp->index << WARP_SHIFT;
        if (!writes && (strong || b->read[word] == mine || b->read[word] == (mine | MANY)))
            return SIM_NEXT;
        if (split(warp, word) == SIM_FAULT)
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
            w[i] = stamp_write(warp, lane, flags);
        else if (!strong)
            mark_read(warp, &r[i], word);
    }
    if (writes)
        b->written_at[word] = (uint32_t)warp->pc;
    if (writes && cover == 15) { /* whole again */
        b->written[word] = w[0];
        b->read[word] = 0;
        for (int i = 0; i < 4; i++)
            b->read[word] = b->read[word] == r[i] || !b->read[word] ? r[i]
                            : r[i]                                  ? r[i] | MANY
                                                                    : b->read[word];
    }
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- the common case */

/* Four words, as a vector: the common accesses are of 4 words, or of a multiple of them. Comparisons give
 * all ones or zero in each. */
typedef uint32_t words4 __attribute__((vector_size(16)));
typedef int32_t flags4 __attribute__((vector_size(16)));

static inline bool all_set(flags4 f)
{
    uint64_t halves[2];
    memcpy(halves, &f, 16);
    return (halves[0] & halves[1]) == ~0ull;
}

/* Whether a word may be read at once: whole, initialized, and written by this warp or before a barrier. */
static inline bool read_passes(const sim_warp *warp, uint32_t w)
{
    return (w & (INITIALIZED | PENDING | SPLIT)) == INITIALIZED &&
           ((w & STAMP) < warp->synced_least || (warp_of(w) == (uint32_t)warp->index && !(w & COPIED)));
}

static inline bool write_passes(const sim_warp *warp, uint32_t w, uint32_t r)
{
    return !(w & (PENDING | SPLIT)) &&
           ((w & STAMP) < warp->synced_least || warp_of(w) == (uint32_t)warp->index) &&
           ((r & STAMP) < warp->synced_least || (warp_of(r) == (uint32_t)warp->index && !(r & MANY)));
}

static inline bool reads_pass(const sim_warp *warp, const uint32_t *written, uint32_t count)
{
    int32_t least = warp->synced_least;
    uint32_t me = (uint32_t)warp->index << WARP_SHIFT;
    flags4 good = ~(flags4){0};
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        words4 w;
        memcpy(&w, written + i, 16);
        flags4 whole = (w & (INITIALIZED | PENDING | SPLIT)) == (words4){0} + INITIALIZED;
        flags4 old = (flags4)(w & STAMP) < (flags4){0} + least;
        flags4 mine = (w & (31u << WARP_SHIFT | COPIED)) == (words4){0} + me;
        good &= whole & (old | mine);
    }
    bool rest = true;
    for (; i < count; i++)
        rest &= read_passes(warp, written[i]);
    return rest && all_set(good);
}

static inline bool writes_pass(const sim_warp *warp, const uint32_t *written, const uint32_t *read,
                               uint32_t count)
{
    int32_t least = warp->synced_least;
    uint32_t me = (uint32_t)warp->index << WARP_SHIFT;
    flags4 good = ~(flags4){0};
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        words4 w, r;
        memcpy(&w, written + i, 16);
        memcpy(&r, read + i, 16);
        flags4 free = (w & (PENDING | SPLIT)) == (words4){0};
        flags4 w_old = (flags4)(w & STAMP) < (flags4){0} + least;
        flags4 w_mine = (w & 31u << WARP_SHIFT) == (words4){0} + me;
        flags4 r_old = (flags4)(r & STAMP) < (flags4){0} + least;
        flags4 r_mine = (r & (31u << WARP_SHIFT | MANY)) == (words4){0} + me;
        good &= free & (w_old | w_mine) & (r_old | r_mine);
    }
    bool rest = true;
    for (; i < count; i++)
        rest &= write_passes(warp, written[i], read[i]);
    return rest && all_set(good);
}

/* mark_read of four words. */
static inline void mark_four(uint32_t *read, uint32_t *read_at, words4 now, words4 mine, words4 pc)
{
    words4 r, at;
    memcpy(&r, read, 16);
    words4 kept = (words4)((r & ~(uint32_t)MANY) == mine), same_time = (words4)((r & STAMP) == now);
    if (all_set((flags4)kept))
        return;
    memcpy(&at, read_at, 16);
    r = (kept & r) | (~kept & ((same_time & (r | MANY)) | (~same_time & mine)));
    at = (kept & at) | (~kept & pc);
    memcpy(read, &r, 16);
    memcpy(read_at, &at, 16);
}

static inline words4 four(uint32_t value)
{
    return (words4){0} + value;
}

static inline void mark_reads(const sim_warp *warp, uint32_t word, uint32_t count)
{
    const sim_block *b = warp->block;
    const words4 now = (words4){0} + b->now, mine = now | (uint32_t)warp->index << WARP_SHIFT;
    uint32_t *read = b->read + word, *read_at = b->read_at + word, i = 0;
    for (; i + 4 <= count; i += 4)
        mark_four(read + i, read_at + i, now, mine, four((uint32_t)warp->pc));
    for (; i < count; i++)
        mark_read(warp, &read[i], word + i);
}

/* `lane` wrote the first words, the next lane the next, `each` words a lane; one lane all of them: 0. */
static inline void mark_writes(const sim_warp *warp, uint32_t lane, uint32_t word, uint32_t count,
                               uint32_t each)
{
    const sim_block *b = warp->block;
    uint32_t mark = stamp_write(warp, lane, 0), pc = (uint32_t)warp->pc;
    for (uint32_t i = 0; i < count; i++) {
        b->written[word + i] = mark + (each ? i / each << LANE_SHIFT : 0);
        b->written_at[word + i] = pc;
    }
}

static inline bool access_at_once(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t count,
                                  uint32_t each, enum sim_access access)
{
    const sim_block *b = warp->block;
    if (access == SIM_READ && reads_pass(warp, b->written + word, count)) {
        mark_reads(warp, word, count);
        return true;
    }
    if (access == SIM_WRITE && writes_pass(warp, b->written + word, b->read + word, count)) {
        mark_writes(warp, lane, word, count, each);
        return true;
    }
    return false;
}

/* `count` words (1, 2 or 4) from `word` on by one lane. */
static inline enum sim_outcome access_words(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t count,
                                            enum sim_access access)
{
    if (count == 4   ? access_at_once(warp, lane, word, 4, 0, access)
        : count == 2 ? access_at_once(warp, lane, word, 2, 0, access)
                     : access_at_once(warp, lane, word, 1, 0, access))
        return SIM_NEXT;
    for (uint32_t i = word; i < word + count; i++)
        if (access_word(warp, lane, i, 15, access) == SIM_FAULT)
            return SIM_FAULT;
    return SIM_NEXT;
}

/* Whether all 32 lanes access consecutive places. */
static bool consecutive(uint32_t mask, const uint32_t *address, uint32_t bytes)
{
    uint32_t off = ~mask;
    for (uint32_t i = 0; i < 32; i++)
        off |= address[i] ^ (address[0] + i * bytes);
    return !off;
}

/* Accesses narrower than a word: neighbouring lanes that fall into one word are taken together. */
static enum sim_outcome access_parts(sim_warp *warp, uint32_t mask, const uint32_t *address, uint32_t bytes,
                                     enum sim_access access)
{
    uint32_t word = ~0u, cover = 0, first = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest);
        uint32_t at = address[lane] >> 2, bits = ((1u << bytes) - 1) << (address[lane] & 3);
        if (at != word) {
            if (cover && (cover == 15 ? access_words(warp, first, word, 1, access)
                                      : access_word(warp, first, word, cover, access)) == SIM_FAULT)
                return SIM_FAULT;
            word = at;
            cover = 0;
            first = lane;
        }
        cover |= bits;
    }
    return cover == 15 ? access_words(warp, first, word, 1, access)
                       : access_word(warp, first, word, cover, access);
}

enum sim_outcome sim_shared_access(sim_warp *warp, uint32_t mask, const uint32_t address[32],
                                   uint32_t bytes, enum sim_access access)
{
    device_counters *c = &warp->block->worker->counters;
    c->shared_requests++;
    if (consecutive(mask, address, bytes)) {
        c->shared_passes += bytes < 4 ? 1 : bytes / 4;
        if (!(address[0] & 3) &&
            access_at_once(warp, 0, address[0] >> 2, bytes * 8, bytes < 4 ? 0 : bytes / 4, access))
            return SIM_NEXT;
    } else
        sim_shared_count(c, mask, address, bytes);
    if (bytes < 4)
        return access_parts(warp, mask, address, bytes, access);
    uint32_t last = ~0u;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest);
        if (access == SIM_READ && address[lane] == last)
            continue;
        last = address[lane];
        if (access_words(warp, lane, last >> 2, bytes >> 2, access) == SIM_FAULT)
            return SIM_FAULT;
    }
    return SIM_NEXT;
}

/* Rows of four words each, read by ldmatrix: most of what matrix kernels do in shared memory. */
static inline bool read_rows(sim_warp *warp, int rows, const uint32_t address[32])
{
    const sim_block *b = warp->block;
    const uint32_t *written = b->written;
    const flags4 least = (flags4){0} + warp->synced_least;
    const words4 me = (words4){0} + ((uint32_t)warp->index << WARP_SHIFT), now = (words4){0} + b->now;
    const words4 pc = four((uint32_t)warp->pc);
    flags4 good = ~(flags4){0};
    for (int i = 0; i < rows; i++) {
        words4 w;
        memcpy(&w, written + (address[i] >> 2), 16);
        flags4 whole = (w & (INITIALIZED | PENDING | SPLIT)) == (words4){0} + INITIALIZED;
        flags4 old = (flags4)(w & STAMP) < least;
        flags4 mine = (w & (31u << WARP_SHIFT | COPIED)) == me;
        good &= whole & (old | mine);
    }
    if (!all_set(good))
        return false;
    uint32_t *read = b->read, *read_at = b->read_at;
    for (int i = 0; i < rows; i++)
        mark_four(read + (address[i] >> 2), read_at + (address[i] >> 2), now, now | me, pc);
    return true;
}

enum sim_outcome sim_shared_rows(sim_warp *warp, int rows, const uint32_t address[32],
                                 enum sim_access access)
{
    device_counters *c = &warp->block->worker->counters;
    c->shared_requests++;
    for (int i = 0; i < rows; i += 8) {
        uint32_t banks = 0; /* of 16 bytes */
        for (int r = i; r < i + 8; r++)
            banks |= 1u << (address[r] >> 4 & 7);
        if (banks == 0xff)
            c->shared_passes++;
        else
            sim_shared_count(c, 0xff, address + i, 16);
    }
    if (access == SIM_READ && read_rows(warp, rows, address))
        return SIM_NEXT;
    for (int i = 0; i < rows; i++)
        if (access_words(warp, (uint32_t)i | 32, address[i] >> 2, 4, access) == SIM_FAULT)
            return SIM_FAULT;
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- cp.async */

enum sim_outcome sim_shared_pending(sim_warp *warp, uint32_t mask, const uint32_t address[32],
                                    uint32_t bytes)
{
    sim_block *b = warp->block;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest), word = address[lane] >> 2, count = bytes >> 2;
        if (count == 4 && writes_pass(warp, b->written + word, b->read + word, 4)) {
            const words4 mark = (words4){0} + stamp_write(warp, lane, PENDING);
            const words4 pc = four((uint32_t)warp->pc);
            memcpy(b->written + word, &mark, 16);
            memcpy(b->written_at + word, &pc, 16);
            continue;
        }
        if (access_words(warp, lane, word, count, SIM_WRITE) == SIM_FAULT)
            return SIM_FAULT;
        for (uint32_t i = 0; i < count; i++)
            b->written[word + i] |= PENDING;
    }
    return SIM_NEXT;
}

void sim_shared_done(sim_warp *warp, uint32_t mask, const uint32_t address[32], uint32_t bytes)
{
    sim_block *b = warp->block;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest), mark = stamp_write(warp, lane, COPIED);
        uint32_t *written = b->written + (address[lane] >> 2);
        if (bytes == 16) {
            const words4 marks = (words4){0} + mark;
            memcpy(written, &marks, 16);
        } else
            for (uint32_t i = 0; i < bytes >> 2; i++)
                written[i] = mark;
    }
}

/* ---------------------------------------------------------------- banks */

/* The most different words in one of 32 banks, of the words the lanes in `mask` touch. */
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
    /* 8 bytes a lane go by half warps, 16 by quarters: each phase can touch every bank once. */
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
    size_t words = (block->shared_bytes + 3) / 4;
    memset(block->written, 0, words * 4);
    memset(block->read, 0, words * 4);
    memset(block->shared, 0xff, block->shared_bytes);
    block->now = 1;
    for (int v = 0; v < block->warp_count; v++) {
        for (int w = 0; w < SIM_BLOCK_WARPS; w++)
            block->warps[v].synced[w] = 1;
        block->warps[v].synced_least = 1;
    }
}

/* Stamps would overflow: everything so far becomes ordered. */
static void restart_time(sim_block *block)
{
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

/* What the warp does from now on is stamped later than what the barrier will order. */
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
