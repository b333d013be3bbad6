/* Matrix instructions. Fragments are laid out as in the figures of PTX ISA 9.7.14.5 (mma), 9.7.14.5.15
 * (ldmatrix) and 9.7.14.5.17 (movmatrix). The reference gathers whole matrices from the registers of the
 * lanes, element by element. */
#include "ptx_harness.h"

#include <math.h>
#include <string.h>

#define WARP(identifier)                                                                                   \
    static void identifier(const struct ptx_case *self, uint64_t a[][PTX_LANES], uint64_t d[][PTX_LANES])

enum element { F16, BF16, E4M3, E5M2, S8, U8 };

struct shape {
    int n, k; /* m is 16 */
    enum element a, b;
    bool f16_accumulate, saturate;
};

static int element_bits(enum element type)
{
    return type == F16 || type == BF16 ? 16 : 8;
}

static double element_value(uint32_t bits, enum element type)
{
    switch (type) {
    case F16:
        return ptx_decode(bits, &ptx_f16);
    case BF16:
        return ptx_decode(bits, &ptx_bf16);
    case E4M3:
        return ptx_decode(bits, &ptx_e4m3);
    case E5M2:
        return ptx_decode(bits, &ptx_e5m2);
    case S8:
        return (int8_t)bits;
    default:
        return (uint8_t)bits;
    }
}

/* A 32-bit register holds `per` elements: consecutive k of one row of A, or of one column of B. For A,
 * registers 0 and 1 hold rows lane / 4 and lane / 4 + 8; the next two registers hold the same rows, 4 * per
 * further along k. */
static double a_element(const struct shape *shape, uint64_t a[][PTX_LANES], int row, int k)
{
    int bits = element_bits(shape->a), per = 32 / bits;
    int lane = row % 8 * 4 + k % (4 * per) / per;
    int reg = row / 8 + 2 * (k / (4 * per));
    return element_value((uint32_t)(a[reg][lane] >> k % per * bits) & ((1u << bits) - 1), shape->a);
}

static int a_registers(const struct shape *shape)
{
    return shape->k * element_bits(shape->a) / 64;
}

static int b_registers(const struct shape *shape)
{
    return a_registers(shape) / 2;
}

static double b_element(const struct shape *shape, uint64_t a[][PTX_LANES], int k, int column)
{
    int bits = element_bits(shape->b), per = 32 / bits;
    int lane = column * 4 + k % (4 * per) / per;
    int reg = a_registers(shape) + k / (4 * per);
    return element_value((uint32_t)(a[reg][lane] >> k % per * bits) & ((1u << bits) - 1), shape->b);
}

/* Accumulators c0 and c1 are in row lane / 4, columns lane % 4 * 2 + {0, 1}; c2 and c3 are eight rows
 * below. */
static void accumulate_lane(const struct shape *shape, uint64_t a[][PTX_LANES], uint64_t d[][PTX_LANES],
                            int lane)
{
    int first = a_registers(shape) + b_registers(shape);
    bool integer = shape->a == S8 || shape->a == U8;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        double c;
        if (integer)
            c = (int32_t)a[first + i][lane];
        else if (shape->f16_accumulate)
            c = ptx_decode((uint32_t)(a[first + i / 2][lane] >> i % 2 * 16) & 0xffff, &ptx_f16);
        else
            c = ptx_decode((uint32_t)a[first + i][lane], &ptx_f32);
        for (int k = 0; k < shape->k; k++)
            c += a_element(shape, a, row, k) * b_element(shape, a, k, column);
        if (integer)
            d[i][lane] = shape->saturate ? (uint32_t)(int32_t)fmin(fmax(c, INT32_MIN), INT32_MAX)
                                         : (uint32_t)(int64_t)c;
        else if (shape->f16_accumulate)
            d[i / 2][lane] |= (uint64_t)ptx_encode(c, &ptx_f16, RN) << i % 2 * 16;
        else
            d[i][lane] = ptx_encode(c, &ptx_f32, RN);
    }
}

WARP(multiply)
{
    for (int lane = 0; lane < PTX_LANES; lane++)
        accumulate_lane(self->context, a, d, lane);
}

/* Two products with the same A, a[0 .. 3], which the device may compute together. Their B are a[4, 5] and
 * a[6, 7]. Both are added to a[8 .. 11]; if `chained`, the second is added to the result of the first. */
struct two {
    const struct shape *shape;
    bool chained;
};

WARP(multiply_two)
{
    const struct two *two = self->context;
    uint64_t first[10][PTX_LANES], second[10][PTX_LANES];
    memcpy(first, a, 6 * sizeof *a);
    memcpy(first + 6, a + 8, 4 * sizeof *a);
    memcpy(second, first, sizeof first);
    memcpy(second + 4, a + 6, 2 * sizeof *a);
    for (int lane = 0; lane < PTX_LANES; lane++)
        accumulate_lane(two->shape, first, d, lane);
    if (two->chained)
        memcpy(second + 6, d, 4 * sizeof *d);
    for (int lane = 0; lane < PTX_LANES; lane++)
        accumulate_lane(two->shape, second, d + 4, lane);
}

#define SHAPE(identifier, n_, k_, a_, b_, f16_, saturate_)                                                 \
    static const struct shape identifier = {n_, k_, a_, b_, f16_, saturate_}
SHAPE(f16_k16, 8, 16, F16, F16, false, false);
SHAPE(f16_k8, 8, 8, F16, F16, false, false);
SHAPE(f16_k16_f16, 8, 16, F16, F16, true, false);
SHAPE(f16_k8_f16, 8, 8, F16, F16, true, false);
SHAPE(bf16_k16, 8, 16, BF16, BF16, false, false);
SHAPE(bf16_k8, 8, 8, BF16, BF16, false, false);
SHAPE(e4m3_k32, 8, 32, E4M3, E4M3, false, false);
SHAPE(e5m2_k32, 8, 32, E5M2, E5M2, false, false);
SHAPE(s8_k32, 8, 32, S8, S8, false, false);
SHAPE(s8_k16, 8, 16, S8, S8, false, false);
SHAPE(u8_k32, 8, 32, U8, U8, false, false);
SHAPE(u8_k16, 8, 16, U8, U8, false, false);
SHAPE(u8_s8_k32, 8, 32, U8, S8, false, false);
SHAPE(s8_u8_k32, 8, 32, S8, U8, false, false);
SHAPE(s8_k32_saturate, 8, 32, S8, S8, false, true);

#define MMA4_2 " {%d0,%d1,%d2,%d3}, {%a0,%a1,%a2,%a3}, {%a4,%a5}, {%a6,%a7,%a8,%a9};"
#define MMA2_1 " {%d0,%d1,%d2,%d3}, {%a0,%a1}, {%a2}, {%a3,%a4,%a5,%a6};"

/* For ldmatrix each lane first stores 16 bytes to its own row of shared memory. Lanes 8i .. 8i+7 hold the
 * rows of matrix i. */
static uint32_t half_at(uint64_t a[][PTX_LANES], int row, int column)
{
    return (uint32_t)(a[column / 2][row] >> column % 2 * 16) & 0xffff;
}

static void load_matrices(uint64_t a[][PTX_LANES], uint64_t d[][PTX_LANES], int count, bool transpose)
{
    for (int matrix = 0; matrix < count; matrix++)
        for (int lane = 0; lane < PTX_LANES; lane++) {
            int row = lane / 4, column = lane % 4 * 2, base = matrix * 8;
            uint32_t low = transpose ? half_at(a, base + column, row) : half_at(a, base + row, column);
            uint32_t high =
                transpose ? half_at(a, base + column + 1, row) : half_at(a, base + row, column + 1);
            d[matrix][lane] = low | high << 16;
        }
}

WARP(load_1)
{
    (void)self;
    load_matrices(a, d, 1, false);
}

WARP(load_2_transposed)
{
    (void)self;
    load_matrices(a, d, 2, true);
}

WARP(load_4)
{
    (void)self;
    load_matrices(a, d, 4, false);
}

WARP(load_4_transposed)
{
    (void)self;
    load_matrices(a, d, 4, true);
}

/* stmatrix stores row r of matrix m to the 16 bytes of lane 8m + r, which that lane then loads. Elements 2i
 * and 2i+1 of the row come from lane 4r + i. */
WARP(store_4)
{
    (void)self;
    for (int lane = 0; lane < PTX_LANES; lane++)
        for (int i = 0; i < 4; i++)
            d[i][lane] = a[lane / 8][lane % 8 * 4 + i];
}

WARP(same_4)
{
    (void)self;
    for (int i = 0; i < 4; i++)
        memcpy(d[i], a[i], sizeof d[i]);
}

WARP(transpose)
{
    (void)self;
    for (int lane = 0; lane < PTX_LANES; lane++)
        for (int half = 0; half < 2; half++) {
            int row = lane % 4 * 2 + half, column = lane / 4; /* place in the source */
            uint64_t bits = a[0][row * 4 + column / 2] >> column % 2 * 16 & 0xffff;
            d[0][lane] |= bits << half * 16;
        }
}

#define STORE_ROW "st.shared.v4.b32 [%lane_shared], {%a0,%a1,%a2,%a3}; bar.warp.sync -1; "

// clang-format off
CASE_WARP_FULL(mma_f16_exact, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" MMA4_2, "mmmmmmiiii", "rrrr", 0, 0,
     NULL, &f16_k16, multiply)
CASE_WARP_FULL(mma_f16_small, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" MMA4_2, "mmmmmmvvvv", "ffff", 0x1p-18, 0x1p-12,
     NULL, &f16_k16, multiply)
CASE_WARP_FULL(mma_f16_random, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" MMA4_2, "MMMMMMvvvv", "ffff", 0, 0x1p-11,
     NULL, &f16_k16, multiply)
CASE_WARP_FULL(mma_f16_k8, "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32" MMA2_1, "MMMvvvv", "ffff", 0, 0x1p-12,
     NULL, &f16_k8, multiply)
CASE_WARP_FULL(mma_f16_f16, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%d0,%d1}, {%a0,%a1,%a2,%a3}, {%a4,%a5}, {%a6,%a7};",
     "mmmmmmmm", "PP", 0, 0, NULL, &f16_k16_f16, multiply)
CASE_WARP_FULL(mma_f16_f16_random, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%d0,%d1}, {%a0,%a1,%a2,%a3}, {%a4,%a5}, {%a6,%a7};",
     "MMMMMMMM", "PP", 0x1p-8, 0x1p-3, NULL, &f16_k16_f16, multiply)
CASE_WARP_FULL(mma_f16_f16_k8, "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%d0,%d1}, {%a0,%a1}, {%a2}, {%a3,%a4};",
     "mmmmm", "PP", 0, 0, NULL, &f16_k8_f16, multiply)
CASE_WARP_FULL(mma_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" MMA4_2, "wwwwwwvvvv", "ffff", 0x1p-18, 0x1p-12,
     NULL, &bf16_k16, multiply)
CASE_WARP_FULL(mma_bf16_k8, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32" MMA2_1, "wwwvvvv", "ffff", 0x1p-18, 0x1p-12,
     NULL, &bf16_k8, multiply)
CASE_WARP_FULL(mma_f16_special, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" MMA4_2, "PPPPmmffff", "ffff", 0x1p-14, 32,
     NULL, &f16_k16, multiply)
CASE_WARP_FULL(mma_bf16_special, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" MMA4_2, "wwwwwwffff", "ffff", 0x1p-18, 0x1p-12,
     NULL, &bf16_k16, multiply)
#define MMA_TWO(instruction, c)                                                                            \
    instruction " {%d0,%d1,%d2,%d3}, {%a0,%a1,%a2,%a3}, {%a4,%a5}, {%a8,%a9,%a10,%a11};\n    " instruction    \
                " {%d4,%d5,%d6,%d7}, {%a0,%a1,%a2,%a3}, {%a6,%a7}, " c ";"
static const struct two f16_apart = {&f16_k16, false}, f16_chained = {&f16_k16, true}, bf16_apart = {&bf16_k16, false};
CASE_WARP_FULL(mma_f16_two, MMA_TWO("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "{%a8,%a9,%a10,%a11}"),
               "mmmmmmmmiiii", "rrrrrrrr", 0, 0, NULL, &f16_apart, multiply_two)
CASE_WARP_FULL(mma_f16_two_chained, MMA_TWO("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "{%d0,%d1,%d2,%d3}"),
               "mmmmmmmmiiii", "rrrrrrrr", 0, 0, NULL, &f16_chained, multiply_two)
CASE_WARP_FULL(mma_bf16_two, MMA_TWO("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "{%a8,%a9,%a10,%a11}"),
               "wwwwwwwwvvvv", "ffffffff", 0x1p-18, 0x1p-12, NULL, &bf16_apart, multiply_two)
CASE_WARP_FULL(mma_s8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32" MMA4_2, "rrrrrrrrrr", "rrrr", 0, 0, NULL, &s8_k32, multiply)
CASE_WARP_FULL(mma_s8_k16, "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32" MMA2_1, "rrrrrrr", "rrrr", 0, 0, NULL, &s8_k16, multiply)
CASE_WARP_FULL(mma_u8, "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32" MMA4_2, "rrrrrrrrrr", "rrrr", 0, 0, NULL, &u8_k32, multiply)
CASE_WARP_FULL(mma_u8_k16, "mma.sync.aligned.m16n8k16.row.col.s32.u8.u8.s32" MMA2_1, "rrrrrrr", "rrrr", 0, 0, NULL, &u8_k16, multiply)
CASE_WARP_FULL(mma_u8_s8, "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32" MMA4_2, "rrrrrrrrrr", "rrrr", 0, 0, NULL, &u8_s8_k32, multiply)
CASE_WARP_FULL(mma_s8_u8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32" MMA4_2, "rrrrrrrrrr", "rrrr", 0, 0, NULL, &s8_u8_k32, multiply)
CASE_WARP_FULL(mma_s8_satfinite, "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32" MMA4_2, "rrrrrrrrrr", "rrrr", 0, 0,
     NULL, &s8_k32_saturate, multiply)
CASE_WARP_FULL(mma_e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32" MMA4_2, "EEEEEEvvvv", "ffff", 0x1p-12, 0x1p-6,
     "sm_89", &e4m3_k32, multiply)
CASE_WARP(ldmatrix_x1, STORE_ROW "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%d0}, [%lane_shared];", "rrrr", "r", load_1)
CASE_WARP(ldmatrix_x2_trans, STORE_ROW "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%d0,%d1}, [%lane_shared];", "rrrr", "rr",
     load_2_transposed)
CASE_WARP(ldmatrix_x4, STORE_ROW "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0,%d1,%d2,%d3}, [%lane_shared];", "rrrr", "rrrr", load_4)
CASE_WARP(ldmatrix_x4_trans, STORE_ROW "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%d0,%d1,%d2,%d3}, [%lane_shared];", "rrrr",
     "rrrr", load_4_transposed)
CASE_WARP(ldmatrix_offset, STORE_ROW "sub.u32 %t0, %lane_shared, 32; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0,%d1,%d2,%d3}, [%t0+32];",
     "rrrr", "rrrr", load_4)
CASE_WARP(movmatrix, "movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;", "r", "r", transpose)
CASE_WARP_FULL(mma_e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32" MMA4_2, "555555vvvv", "ffff", 0x1p-12, 0x1p-6,
     "sm_89", &e5m2_k32, multiply)
CASE_WARP_FULL(stmatrix_x4, "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%lane_shared], {%a0,%a1,%a2,%a3}; bar.warp.sync -1;"
     "ld.shared.v4.b32 {%d0,%d1,%d2,%d3}, [%lane_shared];", "rrrr", "rrrr", 0, 0, "sm_90", NULL, store_4)
CASE_WARP_FULL(stmatrix_x4_trans, "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%lane_shared], {%a0,%a1,%a2,%a3}; bar.warp.sync -1;"
     "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%d0,%d1,%d2,%d3}, [%lane_shared];", "rrrr", "rrrr", 0, 0, "sm_90", NULL, same_4)
// clang-format on
