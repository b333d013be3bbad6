/* Checks of accesses to shared memory; part of exec_body.h. Kernels mostly access whole rows of 16 bytes,
 * so these are checked here first, a vector of shadows at a time. Accesses that do not pass go through the
 * exact rules, word by word. */
#include "shared_shadow.h"

/* ---------------------------------------------------------------- vectors of shadows */

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define SHARED_AVX512 1
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(SHARED_AVX512)
enum { WIDE = 16 }; /* shadows per vector */
#elif defined(__AVX2__)
enum { WIDE = 8 };
#else
enum { WIDE = 4 };
#endif
typedef uint32_t words4 __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(4 * WIDE)));
typedef int32_t flags __attribute__((vector_size(4 * WIDE))); /* comparisons: each is all ones or zero */
#define PICK __builtin_shufflevector

static inline words all_of(uint32_t value)
{
    return (words){0} + value;
}

static inline bool all_set(flags f)
{
#if defined(SHARED_AVX512)
    return _mm512_movepi32_mask((__m512i)f) == 0xffff;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)f) == -1;
#else
    uint64_t halves[2];
    memcpy(halves, &f, 16);
    return (halves[0] & halves[1]) == ~0ull;
#endif
}

/* The shadows of rows row[0 .. WIDE - 1]. */
static inline words gather(const uint32_t *shadow, const uint32_t *row)
{
    words w;
#if defined(SHARED_AVX512)
    w = (words)_mm512_i32gather_epi32(_mm512_loadu_si512(row), shadow, 4);
#elif defined(__AVX2__)
    w = (words)_mm256_i32gather_epi32((const int *)shadow, _mm256_loadu_si256((const void *)row), 4);
#else
    for (int i = 0; i < WIDE; i++)
        w[i] = shadow[row[i]];
#endif
    return w;
}

/* ---------------------------------------------------------------- the rules */

/* The values that shadows are compared with. */
struct moment {
    words me, mine, now; /* the warp; the warp with the time; the time */
    flags least;
};

static inline struct moment moment_of(const sim_warp *warp)
{
    const uint32_t me = (uint32_t)warp->index << WARP_SHIFT, now = warp->block->now;
    return (struct moment){all_of(me), all_of(me | now), all_of(now), (flags)all_of(warp->synced_least)};
}

/* A row may be read at once if it is whole, initialized and not pending, and was written before a barrier,
 * or by this warp without cp.async. */
static inline flags readable(words w, const struct moment *m)
{
    const flags whole = (w & (INITIALIZED | PENDING | SPLIT)) == all_of(INITIALIZED);
    const flags old = (flags)(w & STAMP) < m->least, own = (w & (WARP_BITS | COPIED)) == m->me;
    return whole & (old | own);
}

static inline bool one_readable(const sim_warp *warp, uint32_t w)
{
    return (w & (INITIALIZED | PENDING | SPLIT)) == INITIALIZED &&
           ((w & STAMP) < warp->synced_least || (w & (WARP_BITS | COPIED)) == (uint32_t)warp->index
                                                                                  << WARP_SHIFT);
}

/* A row may be written at once if it is whole and not pending, and was last accessed by this warp alone or
 * before a barrier. */
static inline flags writable(words w, words r, const struct moment *m)
{
    const flags whole = (w & (PENDING | SPLIT)) == all_of(0);
    const flags w_old = (flags)(w & STAMP) < m->least, w_own = (w & WARP_BITS) == m->me;
    const flags r_old = (flags)(r & STAMP) < m->least, r_own = (r & (WARP_BITS | MANY)) == m->me;
    return whole & (w_old | w_own) & (r_old | r_own);
}

static inline bool one_writable(const sim_warp *warp, uint32_t w, uint32_t r)
{
    const uint32_t me = (uint32_t)warp->index << WARP_SHIFT;
    return !(w & (PENDING | SPLIT)) && ((w & STAMP) < warp->synced_least || (w & WARP_BITS) == me) &&
           ((r & STAMP) < warp->synced_least || (r & (WARP_BITS | MANY)) == me);
}

/* ---------------------------------------------------------------- rows at once */

/* Rows that a warp accesses in one instruction. Lane `first` + i * `step` accesses row i. With EACH, that
 * lane and the next three access its four words. */
struct rows {
    int count;
    uint32_t first, step, each; /* each: EACH or 0 */
    uint32_t row[32];           /* from `count` to the next multiple of WIDE: row[0] again */
};

static inline void fill_up(struct rows *a)
{
    for (int i = a->count; i % WIDE; i++)
        a->row[i] = a->row[0];
}

static inline void mark_reads(sim_warp *warp, const struct rows *a, int from, const struct moment *m)
{
    sim_block *b = warp->block;
    words r = gather(b->row_read, a->row + from);
    const flags kept = (r & ~(uint32_t)MANY) == m->mine;
    if (all_set(kept))
        return;
    const int left = a->count - from, count = left < WIDE ? left : WIDE;
    if (!all_set(~kept)) {
        for (int i = from; i < from + count; i++)
            shadow_read(warp, &b->row_read[a->row[i]], &b->row_read_at[a->row[i]]);
        return;
    }
    const words same_time = (words)((r & STAMP) == m->now);
    uint32_t marks[WIDE] __attribute__((aligned(64)));
    r = (same_time & (r | MANY)) | (~same_time & m->mine);
    memcpy(marks, &r, sizeof marks);
    for (int i = 0; i < count; i++) {
        b->row_read[a->row[from + i]] = marks[i];
        b->row_read_at[a->row[from + i]] = (uint32_t)warp->pc;
    }
}

static inline bool read_at_once(sim_warp *warp, const struct rows *a)
{
    const struct moment m = moment_of(warp);
    flags good = ~(flags){0};
    for (int i = 0; i < a->count; i += WIDE)
        good &= readable(gather(warp->block->row_written, a->row + i), &m);
    if (!all_set(good))
        return false;
    for (int i = 0; i < a->count; i += WIDE)
        mark_reads(warp, a, i, &m);
    return true;
}

/* `state` is PENDING or 0. */
static inline bool write_at_once(sim_warp *warp, const struct rows *a, uint32_t state)
{
    const sim_block *b = warp->block;
    const struct moment m = moment_of(warp);
    flags good = ~(flags){0};
    for (int i = 0; i < a->count; i += WIDE)
        good &= writable(gather(b->row_written, a->row + i), gather(b->row_read, a->row + i), &m);
    if (!all_set(good))
        return false;
    uint32_t mark = shadow_write(warp, a->first, state) | a->each;
    for (int i = 0; i < a->count; i++, mark += a->step << LANE_SHIFT) {
        b->row_written[a->row[i]] = mark;
        b->row_written_at[a->row[i]] = (uint32_t)warp->pc;
    }
    return true;
}

static inline bool at_once(sim_warp *warp, const struct rows *a, enum sim_access access)
{
    return access == SIM_READ    ? read_at_once(warp, a)
           : access == SIM_WRITE ? write_at_once(warp, a, 0)
                                 : false;
}

/* ---------------------------------------------------------------- one row, word or part */

/* Checks and records an access of one lane to `count` words of a row. */
static inline enum sim_outcome access_words(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t count,
                                            enum sim_access access)
{
    sim_block *b = warp->block;
    sim_shared_split(b, word >> 2);
    for (uint32_t i = word; i < word + count; i++) {
        if (access == SIM_READ && one_readable(warp, b->written[i]))
            shadow_read(warp, &b->read[i], &b->read_at[i]);
        else if (access == SIM_WRITE && one_writable(warp, b->written[i], b->read[i])) {
            b->written[i] = shadow_write(warp, lane, 0);
            b->written_at[i] = (uint32_t)warp->pc;
        } else if (sim_shared_word(warp, lane, i, 15, access) == SIM_FAULT)
            return SIM_FAULT;
    }
    return SIM_NEXT;
}

static inline bool words_writable(const sim_warp *warp, uint32_t word)
{
    const sim_block *b = warp->block;
    bool good = true;
    for (uint32_t i = word; i < word + 4; i++)
        good &= one_writable(warp, b->written[i], b->read[i]);
    return good;
}

/* Checks and records an access to a whole row by one lane, or, if `each` is EACH, to its four words by four
 * lanes. A split row that is written becomes whole. It no longer matters who read it before, because
 * everything that is ordered after this write is also ordered after those reads. */
static enum sim_outcome access_row(sim_warp *warp, uint32_t lane, uint32_t row, uint32_t each,
                                   enum sim_access access)
{
    sim_block *b = warp->block;
    const uint32_t w = b->row_written[row];
    if (access == SIM_READ && one_readable(warp, w)) {
        shadow_read(warp, &b->row_read[row], &b->row_read_at[row]);
        return SIM_NEXT;
    }
    if (access == SIM_WRITE &&
        (w & SPLIT ? words_writable(warp, row * 4) : one_writable(warp, w, b->row_read[row]))) {
        b->row_read[row] = w & SPLIT ? 0 : b->row_read[row];
        b->row_written[row] = shadow_write(warp, lane, 0) | each;
        b->row_written_at[row] = (uint32_t)warp->pc;
        return SIM_NEXT;
    }
    if (!each)
        return access_words(warp, lane, row * 4, 4, access);
    for (uint32_t i = 0; i < 4; i++)
        if (access_words(warp, lane + i, row * 4 + i, 1, access) == SIM_FAULT)
            return SIM_FAULT;
    return SIM_NEXT;
}

/* Checks and records an access to the bytes of `cover` in a word. */
static enum sim_outcome access_part(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t cover,
                                    enum sim_access access)
{
    if (cover == 15)
        return access_words(warp, lane, word, 1, access);
    sim_shared_split(warp->block, word >> 2);
    return sim_shared_word(warp, lane, word, cover, access);
}

/* Checks and records accesses that are narrower than a word. Neighbouring lanes that access one word are
 * taken together. */
static enum sim_outcome access_parts(sim_warp *warp, uint32_t mask, const uint32_t *address, uint32_t bytes,
                                     enum sim_access access)
{
    uint32_t word = ~0u, cover = 0, first = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest);
        uint32_t at = address[lane] >> 2, bits = ((1u << bytes) - 1) << (address[lane] & 3);
        if (at != word) {
            if (cover && access_part(warp, first, word, cover, access) == SIM_FAULT)
                return SIM_FAULT;
            word = at;
            cover = 0;
            first = lane;
        }
        cover |= bits;
    }
    return access_part(warp, first, word, cover, access);
}

/* ---------------------------------------------------------------- accesses of lanes */

/* Whether all 32 lanes access consecutive addresses. */
static inline bool consecutive(uint32_t mask, const uint32_t *address, uint32_t bytes)
{
    uint32_t off = ~mask;
    for (uint32_t i = 0; i < 32; i++)
        off |= address[i] ^ (address[0] + i * bytes);
    return !off;
}

/* Whether each group of `together` lanes fills a row, in order. If so, `a` receives the rows. */
static inline bool find_rows(const uint32_t *address, uint32_t bytes, uint32_t together, struct rows *a)
{
    uint32_t off = 0;
    for (uint32_t i = 0; i < 32; i++)
        off |= address[i] ^ ((address[i & ~(together - 1)] & ~15u) + (i & (together - 1)) * bytes);
    if (off)
        return false;
    a->count = (int)(32 / together);
    a->first = 0;
    a->step = together;
    a->each = together == 4 ? EACH : 0;
    for (uint32_t i = 0; i < 32 / together; i++)
        a->row[i] = address[i * together] >> 4;
    fill_up(a);
    return true;
}

static inline bool whole_rows(uint32_t mask, const uint32_t *address, uint32_t bytes, struct rows *a)
{
    return mask == ~0u && (bytes == 16  ? find_rows(address, 16, 1, a)
                           : bytes == 4 ? find_rows(address, 4, 4, a)
                           : bytes == 8 ? find_rows(address, 8, 2, a)
                                        : find_rows(address, bytes, 16 / bytes, a));
}

/* Checks and records each row by itself, after the rows did not pass together. */
static enum sim_outcome access_rows(sim_warp *warp, const struct rows *a, enum sim_access access)
{
    for (uint32_t i = 0; i < (uint32_t)a->count; i++)
        if (access_row(warp, a->first + i * a->step, a->row[i], a->each, access) == SIM_FAULT)
            return SIM_FAULT;
    return SIM_NEXT;
}

/* Counts, checks and records an access to `bytes` at address[lane] by each lane of `mask`. */
static enum sim_outcome shared_access(sim_warp *warp, uint32_t mask, const uint32_t address[32],
                                      uint32_t bytes, enum sim_access access)
{
    device_counters *c = &warp->block->worker->counters;
    struct rows a;
    c->shared_requests++;
    if (consecutive(mask, address, bytes))
        c->shared_passes += bytes < 4 ? 1 : bytes / 4;
    else
        sim_shared_count(c, mask, address, bytes);
    if (whole_rows(mask, address, bytes, &a) && (bytes != 8 || access == SIM_READ)) {
        if (at_once(warp, &a, access))
            return SIM_NEXT;
        if (bytes == 4 || bytes == 16)
            return access_rows(warp, &a, access);
    }
    if (bytes < 4)
        return access_parts(warp, mask, address, bytes, access);
    uint32_t last = ~0u;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest);
        if (access == SIM_READ && address[lane] == last)
            continue;
        last = address[lane];
        if ((bytes == 16 ? access_row(warp, lane, last >> 4, 0, access)
                         : access_words(warp, lane, last >> 2, bytes >> 2, access)) == SIM_FAULT)
            return SIM_FAULT;
    }
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- rows of matrices */

/* Counts, checks and records an access of the whole warp to 16 bytes at each of `count` addresses. */
static enum sim_outcome shared_rows(sim_warp *warp, int count, const uint32_t address[32],
                                    enum sim_access access)
{
    device_counters *c = &warp->block->worker->counters;
    struct rows a = {.count = count, .first = 32, .step = 1}; /* 32: the whole warp, not a single lane */
    c->shared_requests++;
    uint32_t banks = 0; /* bit 8 * phase + bank; banks of 16 bytes, phases of eight rows */
    for (int i = 0; i < count; i++)
        banks |= 1u << ((address[i] >> 4 & 7) + ((uint32_t)i & 24));
    if (banks == ~0u >> (32 - count))
        c->shared_passes += (uint64_t)count / 8;
    else
        for (int i = 0; i < count; i += 8)
            sim_shared_count(c, 0xff, address + i, 16);
    for (int i = 0; i < count; i++)
        a.row[i] = address[i] >> 4;
    fill_up(&a);
    return at_once(warp, &a, access) ? SIM_NEXT : access_rows(warp, &a, access);
}

/* ---------------------------------------------------------------- cp.async */

/* Whether the 16 bytes of each of 32 lanes fill 512 bytes without a gap, in any order, as most copies of
 * tiles do. Then no two lanes write to the same place. */
static inline bool fill_a_range(const struct rows *a)
{
    uint32_t least = a->row[0], seen = 0;
    for (int i = 0; i < 32; i++)
        least = a->row[i] < least ? a->row[i] : least;
    for (int i = 0; i < 32; i++)
        seen |= a->row[i] - least < 32 ? 1u << ((a->row[i] - least) & 31) : 0;
    return seen == ~0u;
}

/* Records that cp.async wrote the bytes but nobody may touch them yet. shared_done then records that their
 * lane may. */
static enum sim_outcome shared_pending(sim_warp *warp, uint32_t mask, const uint32_t address[32],
                                       uint32_t bytes)
{
    sim_block *b = warp->block;
    struct rows a;
    if (bytes == 16 && whole_rows(mask, address, 16, &a) && fill_a_range(&a) &&
        write_at_once(warp, &a, PENDING))
        return SIM_NEXT;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest), word = address[lane] >> 2, count = bytes >> 2;
        if ((count == 4 ? access_row(warp, lane, word >> 2, 0, SIM_WRITE)
                        : access_words(warp, lane, word, count, SIM_WRITE)) == SIM_FAULT)
            return SIM_FAULT;
        if (!(b->row_written[word >> 2] & SPLIT)) {
            b->row_written[word >> 2] |= PENDING;
            continue;
        }
        for (uint32_t i = 0; i < count; i++)
            b->written[word + i] |= PENDING;
    }
    return SIM_NEXT;
}

/* Pending words cannot have been touched since shared_pending: their row is as it was left there, or
 * split. */
static void shared_done(sim_warp *warp, uint32_t mask, const uint32_t address[32], uint32_t bytes)
{
    sim_block *b = warp->block;
    const uint32_t mark = shadow_write(warp, 0, COPIED);
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest), word = address[lane] >> 2;
        uint32_t *row = &b->row_written[word >> 2];
        if (!(*row & SPLIT)) {
            *row = mark + (lane << LANE_SHIFT);
            continue;
        }
        for (uint32_t i = 0; i < bytes >> 2; i++)
            b->written[word + i] = mark + (lane << LANE_SHIFT);
    }
}
