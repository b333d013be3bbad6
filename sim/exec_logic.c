/* Executes arithmetic with modifiers (rounding, flushing, clamping), bfi, carries and clocks. */
#include "exec.h"
#include "warp.h"

#include <fenv.h>

typedef __attribute__((aligned(64))) uint8_t vector[256];

static void run(const sim_warp *warp, enum sim_lane lane, void *d, const void *a)
{
    warp->block->launch->lanes->fn[lane](d, a, a, a, 0);
}

/* For each format, the lane functions that flush, saturate, and clamp negative values to zero; -1 for
 * none. */
static const struct {
    int flush, saturate, relu;
} lanes[] = {
    [SIM_FORMAT_NONE] = {-1, -1, -1},
    [SIM_FORMAT_F32] = {LANE_flush_f32, LANE_saturate_f32, -1},
    [SIM_FORMAT_F64] = {-1, LANE_saturate_f64, -1},
    [SIM_FORMAT_F16] = {LANE_flush_f16, LANE_saturate_f16, LANE_relu_f16},
    [SIM_FORMAT_F16X2] = {LANE_flush_f16x2, LANE_saturate_f16x2, LANE_relu_f16x2},
    [SIM_FORMAT_BF16] = {-1, LANE_saturate_bf16, LANE_relu_bf16},
    [SIM_FORMAT_BF16X2] = {-1, LANE_saturate_bf16x2, LANE_relu_bf16x2},
};

static int host_rounding(int rounding)
{
    static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    return modes[rounding];
}

enum sim_outcome sim_exec_modified(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    enum sim_format format = in->x[0];
    vector sources[3], d = {0};
    const void *s[3] = {sim_at(warp, in->a), sim_at(warp, in->b), sim_at(warp, in->c)};
    const int after[] = {in->x[2] ? lanes[format].flush : -1, in->x[3] ? lanes[format].saturate : -1,
                         in->x[4] ? lanes[format].relu : -1};
    if (after[0] >= 0)
        for (int i = 0; i < 3; i++) {
            run(warp, (enum sim_lane)after[0], sources[i], s[i]);
            s[i] = sources[i];
        }
    sim_lane_fn *lane = warp->block->launch->lanes->fn[in->target];
    if (in->x[1])
        fesetround(host_rounding(in->x[1]));
    lane(d, s[0], s[1], s[2], in->immediate);
    if (in->x[1])
        fesetround(FE_TONEAREST);
    for (int i = 0; i < 3; i++)
        if (after[i] >= 0)
            run(warp, (enum sim_lane)after[i], d, d);
    if (format == SIM_FORMAT_F64)
        sim_write_64(warp, in->d, (const uint64_t *)(const void *)d, mask);
    else
        sim_write_32(warp, in->d, (const uint32_t *)(const void *)d, mask);
    return SIM_NEXT;
}

enum sim_outcome sim_exec_insert(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    vector d;
    const void *length = sim_at(warp, sim_listed(warp, in, 0));
    warp->block->launch->lanes->fn[in->target](d, sim_at(warp, in->a), sim_at(warp, in->b),
                                               sim_at(warp, in->c), (uint64_t)(uintptr_t)length);
    if (in->x[0])
        sim_write_64(warp, in->d, (const uint64_t *)(const void *)d, mask);
    else
        sim_write_32(warp, in->d, (const uint32_t *)(const void *)d, mask);
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- carries */

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

/* Computes one lane. *carry is read and written; in a subtraction it is the borrow. */
static uint64_t carry_one(const sim_instruction *in, uint64_t a, uint64_t b, uint64_t c, uint32_t *carry)
{
    int bits = in->x[3] ? 64 : 32;
    uint64_t all = in->x[3] ? ~0ull : 0xffffffffull;
    u128 first = a, second = b;
    uint32_t have = in->x[1] ? *carry : 0;
    switch ((enum sim_carry)in->x[0]) {
    case SIM_CARRY_ADD:
        break;
    case SIM_CARRY_SUB: {
        u128 r = (u128)a - b - have;
        *carry = (uint32_t)(r >> bits & 1);
        return (uint64_t)r & all;
    }
    case SIM_CARRY_MAD_LO:
        first = (uint64_t)(a * b) & all;
        second = c;
        break;
    case SIM_CARRY_MAD_HI:
        if (in->x[4])
            first = in->x[3] ? (uint64_t)((u128)((s128)(int64_t)a * (int64_t)b) >> 64)
                             : (uint32_t)((uint64_t)((int64_t)(int32_t)a * (int32_t)b) >> 32);
        else
            first = (uint64_t)((u128)a * b >> bits);
        second = c;
        break;
    }
    u128 sum = first + second + have;
    *carry = (uint32_t)(sum >> bits & 1);
    return (uint64_t)sum & all;
}

enum sim_outcome sim_exec_carry(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    bool wide = in->x[3];
    const void *a = sim_at(warp, in->a), *b = sim_at(warp, in->b), *c = sim_at(warp, in->c);
    uint64_t d[32];
    uint32_t narrow[32], carries = 0;
    for (int i = 0; i < 32; i++) {
        uint32_t carry = warp->carry >> i & 1;
        d[i] = wide ? carry_one(in, ((const uint64_t *)a)[i], ((const uint64_t *)b)[i],
                                ((const uint64_t *)c)[i], &carry)
                    : carry_one(in, ((const uint32_t *)a)[i], ((const uint32_t *)b)[i],
                                ((const uint32_t *)c)[i], &carry);
        narrow[i] = (uint32_t)d[i];
        carries |= carry << i;
    }
    if (in->x[2])
        warp->carry = (warp->carry & ~mask) | (carries & mask);
    if (wide)
        sim_write_64(warp, in->d, d, mask);
    else
        sim_write_32(warp, in->d, narrow, mask);
    return SIM_NEXT;
}

/* The clock is the number of warp instructions that the worker has executed. Differences within a block are
 * the same in every run. The value at the start of a block depends on the blocks that the worker ran
 * before. */
enum sim_outcome sim_exec_clock(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint64_t now = 0, wide[32];
    uint32_t narrow[32];
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        now += warp->block->worker->instructions[i];
    for (int i = 0; i < 32; i++) {
        wide[i] = now;
        narrow[i] = (uint32_t)now;
    }
    if (in->x[0])
        sim_write_64(warp, in->d, wide, mask);
    else
        sim_write_32(warp, in->d, narrow, mask);
    return SIM_NEXT;
}
