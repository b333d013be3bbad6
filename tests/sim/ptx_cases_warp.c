/* Instructions that exchange values between the lanes of a warp: PTX ISA 9.7.9.6 (shfl), 9.7.13.9 -
 * 9.7.13.12 (vote, match, activemask, redux). */
#include "ptx_harness.h"

#define WARP(identifier)                                                                                   \
    static void identifier(const struct ptx_case *self, uint64_t a[][PTX_LANES], uint64_t d[][PTX_LANES])

/* One lane of shfl, from the pseudocode of the ISA. b is the source lane or offset; c is segment mask << 8
 * | clamp. */
enum { SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BUTTERFLY, SHUFFLE_INDEX };

static void shuffle_lane(int mode, int lane, uint32_t b, uint32_t c, uint64_t a[][PTX_LANES],
                         uint64_t d[][PTX_LANES])
{
    int source = (int)(b & 31), limit = (int)(c & 31), mask = (int)(c >> 8 & 31);
    int highest = (lane & mask) | (limit & ~mask), lowest = lane & mask;
    int j = 0;
    bool in_range = false;
    switch (mode) {
    case SHUFFLE_UP:
        j = lane - source;
        in_range = j >= highest;
        break;
    case SHUFFLE_DOWN:
        j = lane + source;
        in_range = j <= highest;
        break;
    case SHUFFLE_BUTTERFLY:
        j = lane ^ source;
        in_range = j <= highest;
        break;
    case SHUFFLE_INDEX:
        j = lowest | (source & ~mask);
        in_range = j <= highest;
        break;
    }
    d[0][lane] = a[0][in_range ? j : lane];
    d[1][lane] = in_range;
}

struct shuffle {
    int mode;
    uint32_t b, c; /* b: 0xffffffff stands for input 1 of the lane */
};

WARP(shuffle)
{
    const struct shuffle *how = self->context;
    for (int lane = 0; lane < PTX_LANES; lane++)
        shuffle_lane(how->mode, lane, how->b == 0xffffffff ? (uint32_t)a[1][lane] : how->b, how->c, a, d);
}

#define SHUFFLE(identifier, text, inputs, mode_, b_, c_)                                                   \
    static const struct shuffle how_##identifier = {mode_, b_, c_};                                        \
    CASE_WARP_FULL(identifier, text " selp.b32 %d1, 1, 0, %p0;", inputs, "rr", 0, 0, NULL,                 \
                   &how_##identifier, shuffle)

static uint32_t ballot(const uint64_t values[PTX_LANES])
{
    uint32_t mask = 0;
    for (int lane = 0; lane < PTX_LANES; lane++)
        mask |= (uint32_t)(values[lane] != 0) << lane;
    return mask;
}

WARP(votes)
{
    (void)self;
    uint32_t mask = ballot(a[0]);
    for (int lane = 0; lane < PTX_LANES; lane++) {
        d[0][lane] = mask == 0xffffffff;
        d[1][lane] = mask != 0;
        d[2][lane] = mask == 0xffffffff || mask == 0;
        d[3][lane] = mask;
        d[4][lane] = (uint32_t)~mask;
    }
}

WARP(half_ballot)
{
    (void)self;
    uint32_t mask = ballot(a[0]);
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = lane < 16 ? mask & 0xffff : mask & 0xffff0000;
}

WARP(match_any)
{
    (void)self;
    for (int lane = 0; lane < PTX_LANES; lane++)
        for (int other = 0; other < PTX_LANES; other++)
            d[0][lane] |= (uint64_t)(a[0][lane] == a[0][other]) << other;
}

WARP(match_all)
{
    (void)self;
    bool all = true;
    for (int lane = 1; lane < PTX_LANES; lane++)
        all = all && a[0][lane] == a[0][0];
    for (int lane = 0; lane < PTX_LANES; lane++) {
        d[0][lane] = all ? 0xffffffff : 0;
        d[1][lane] = all;
        d[2][lane] = 0xffffffff; /* all lanes have the constant 5 */
        d[3][lane] = 1;
    }
}

WARP(reduce)
{
    const char *operation = self->context;
    uint32_t result = (uint32_t)a[0][0];
    for (int lane = 1; lane < PTX_LANES; lane++) {
        uint32_t x = (uint32_t)a[0][lane];
        switch (*operation) {
        case '+':
            result += x;
            break;
        case '&':
            result &= x;
            break;
        case '|':
            result |= x;
            break;
        case '^':
            result ^= x;
            break;
        case '<':
            result = x < result ? x : result;
            break;
        case '>':
            result = x > result ? x : result;
            break;
        case 's':
            result = (int32_t)x < (int32_t)result ? x : result;
            break;
        case 'S':
            result = (int32_t)x > (int32_t)result ? x : result;
            break;
        }
    }
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = result;
}

WARP(reduce_halves)
{
    (void)self;
    uint32_t sums[2] = {0, 0};
    for (int lane = 0; lane < PTX_LANES; lane++)
        sums[lane / 16] += (uint32_t)a[0][lane];
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = sums[lane / 16];
}

WARP(diverged_mask)
{
    (void)self;
    uint32_t odd = ballot(a[0]);
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = a[0][lane] ? odd : (uint32_t)~odd;
}

/* elect.sync elects one lane, and all lanes get its number. */
WARP(elected)
{
    (void)self, (void)a;
    for (int lane = 0; lane < PTX_LANES; lane++) {
        d[0][lane] = 1; /* number of elected lanes */
        d[1][lane] = 1; /* number of elected lanes whose own number was returned */
    }
}

#define REDUX(identifier, operation, type, symbol)                                                         \
    CASE_WARP_FULL(identifier, "redux.sync." operation "." type " %d0, %a0, 0xffffffff;", "r", "r", 0, 0,  \
                   NULL, symbol, reduce)

// clang-format off
SHUFFLE(shfl_idx, "shfl.sync.idx.b32 %d0|%p0, %a0, %a1, 31, -1;", "rs", SHUFFLE_INDEX, 0xffffffff, 31)
SHUFFLE(shfl_idx_immediate, "shfl.sync.idx.b32 %d0|%p0, %a0, 5, 0x1f, 0xffffffff;", "r", SHUFFLE_INDEX, 5, 31)
SHUFFLE(shfl_idx_segments, "shfl.sync.idx.b32 %d0|%p0, %a0, %a1, 0x181f, -1;", "rs", SHUFFLE_INDEX, 0xffffffff, 0x181f)
SHUFFLE(shfl_idx_clamp, "shfl.sync.idx.b32 %d0|%p0, %a0, %a1, 13, -1;", "rs", SHUFFLE_INDEX, 0xffffffff, 13)
SHUFFLE(shfl_up, "shfl.sync.up.b32 %d0|%p0, %a0, 3, 0, -1;", "r", SHUFFLE_UP, 3, 0)
SHUFFLE(shfl_up_lanes, "shfl.sync.up.b32 %d0|%p0, %a0, %a1, 0, -1;", "rs", SHUFFLE_UP, 0xffffffff, 0)
SHUFFLE(shfl_up_segments, "shfl.sync.up.b32 %d0|%p0, %a0, %a1, 0x1800, -1;", "r2", SHUFFLE_UP, 0xffffffff, 0x1800)
SHUFFLE(shfl_down, "shfl.sync.down.b32 %d0|%p0, %a0, 16, 31, -1;", "r", SHUFFLE_DOWN, 16, 31)
SHUFFLE(shfl_down_segments, "shfl.sync.down.b32 %d0|%p0, %a0, %a1, 0x1c1f, -1;", "rs", SHUFFLE_DOWN, 0xffffffff, 0x1c1f)
SHUFFLE(shfl_bfly, "shfl.sync.bfly.b32 %d0|%p0, %a0, 16, 31, -1;", "r", SHUFFLE_BUTTERFLY, 16, 31)
SHUFFLE(shfl_bfly_1, "shfl.sync.bfly.b32 %d0|%p0, %a0, 1, 31, -1;", "f", SHUFFLE_BUTTERFLY, 1, 31)
SHUFFLE(shfl_bfly_segments, "shfl.sync.bfly.b32 %d0|%p0, %a0, 9, 0x181f, -1;", "r", SHUFFLE_BUTTERFLY, 9, 0x181f)
CASE_WARP(vote_all_lanes_random, "setp.ne.u32 %p0, %a0, 0; vote.sync.all.pred %p1, %p0, -1; vote.sync.any.pred %p2, %p0, -1;"
     "vote.sync.uni.pred %p3, %p0, -1; vote.sync.ballot.b32 %d3, %p0, 0xffffffff; vote.sync.ballot.b32 %d4, !%p0, -1;"
     "selp.b32 %d0, 1, 0, %p1; selp.b32 %d1, 1, 0, %p2; selp.b32 %d2, 1, 0, %p3;", "1", "rrrrr", votes)
CASE_WARP(vote_mostly_set, "setp.ne.u32 %p0, %a0, 0; vote.sync.all.pred %p1, %p0, -1; vote.sync.any.pred %p2, %p0, -1;"
     "vote.sync.uni.pred %p3, %p0, -1; vote.sync.ballot.b32 %d3, %p0, 0xffffffff; vote.sync.ballot.b32 %d4, !%p0, -1;"
     "selp.b32 %d0, 1, 0, %p1; selp.b32 %d1, 1, 0, %p2; selp.b32 %d2, 1, 0, %p3;", "i", "rrrrr", votes)
CASE_WARP(vote_all_set, "setp.ne.u32 %p0, %a0, 0; vote.sync.all.pred %p1, %p0, -1; vote.sync.any.pred %p2, %p0, -1;"
     "vote.sync.uni.pred %p3, %p0, -1; vote.sync.ballot.b32 %d3, %p0, 0xffffffff; vote.sync.ballot.b32 %d4, !%p0, -1;"
     "selp.b32 %d0, 1, 0, %p1; selp.b32 %d1, 1, 0, %p2; selp.b32 %d2, 1, 0, %p3;", "z", "rrrrr", votes)
CASE_WARP(vote_halves, "setp.ne.u32 %p0, %a0, 0; setp.lt.u32 %p1, %lane, 16; mov.u32 %t0, 0xffff0000; @%p1 mov.u32 %t0, 0xffff;"
     "@%p1 vote.sync.ballot.b32 %d0, %p0, %t0; @!%p1 vote.sync.ballot.b32 %d0, %p0, %t0;", "1", "r", half_ballot)
CASE_WARP(match_any_b32, "match.any.sync.b32 %d0, %a0, -1;", "2", "r", match_any)
CASE_WARP(match_any_b64, "match.any.sync.b64 %d0, %a0, 0xffffffff;", "l", "r", match_any)
CASE_WARP(match_all_b32, "mov.u32 %t0, 5; match.all.sync.b32 %d0|%p0, %a0, -1; selp.b32 %d1, 1, 0, %p0;"
     "match.all.sync.b32 %d2|%p1, %t0, -1; selp.b32 %d3, 1, 0, %p1;", "2", "rrrr", match_all)
CASE_WARP(match_all_b64, "mov.u64 %l0, 5; match.all.sync.b64 %d0|%p0, %a0, -1; selp.b32 %d1, 1, 0, %p0;"
     "match.all.sync.b64 %d2|%p1, %l0, -1; selp.b32 %d3, 1, 0, %p1;", "l", "rrrr", match_all)
REDUX(redux_add_s32, "add", "s32", "+")
REDUX(redux_add_u32, "add", "u32", "+")
REDUX(redux_min_u32, "min", "u32", "<")
REDUX(redux_max_u32, "max", "u32", ">")
REDUX(redux_min_s32, "min", "s32", "s")
REDUX(redux_max_s32, "max", "s32", "S")
REDUX(redux_and_b32, "and", "b32", "&")
REDUX(redux_or_b32, "or", "b32", "|")
REDUX(redux_xor_b32, "xor", "b32", "^")
CASE_WARP(redux_halves, "setp.lt.u32 %p1, %lane, 16; @%p1 bra LOW; redux.sync.add.u32 %d0, %a0, 0xffff0000; bra.uni DONE;"
     "LOW: redux.sync.add.u32 %d0, %a0, 0x0000ffff; DONE:", "r", "r", reduce_halves)
CASE_WARP(activemask, "setp.ne.u32 %p0, %a0, 0; @%p0 bra ODD; activemask.b32 %d0; bra.uni DONE; ODD: activemask.b32 %d0; DONE:"
     "bar.warp.sync 0xffffffff;", "1", "r", diverged_mask)
CASE_WARP_FULL(elect_sync, "elect.sync %t0|%p0, 0xffffffff; selp.b32 %t1, 1, 0, %p0; redux.sync.add.u32 %d0, %t1, 0xffffffff;"
     "setp.eq.and.u32 %p1, %t0, %lane, %p0; selp.b32 %t1, 1, 0, %p1; redux.sync.add.u32 %d1, %t1, 0xffffffff;", "", "rr",
     0, 0, "sm_90", NULL, elected)
CASE_WARP(redux_halves_at_once, "setp.lt.u32 %p1, %lane, 16; selp.b32 %t0, 0xffff, 0xffff0000, %p1; redux.sync.add.u32 %d0, %a0, %t0;", "r", "r", reduce_halves)
CASE_WARP(vote_halves_at_once, "setp.ne.u32 %p0, %a0, 0; setp.lt.u32 %p1, %lane, 16; selp.b32 %t0, 0xffff, 0xffff0000, %p1;"
     "vote.sync.ballot.b32 %d0, %p0, %t0; bar.warp.sync %t0;", "1", "r", half_ballot)
SHUFFLE(shfl_own_mask, "shr.u32 %t0, %lane, 3; shl.b32 %t0, %t0, 3; shl.b32 %t1, 0xff, %t0; shfl.sync.idx.b32 %d0|%p0, %a0, %a1, 0x181f, %t1;",
     "rs", SHUFFLE_INDEX, 0xffffffff, 0x181f)
// clang-format on
