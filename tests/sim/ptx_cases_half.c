/* fp16 and bf16 arithmetic, scalar and packed: PTX ISA 9.7.4, 9.7.7. */
#include "ptx_harness.h"

#include <math.h>

static double minus(double x, double y)
{
    return ptx_add(x, -y);
}

#define FMA      ptx_fma(X, Y, Z)
#define SAT      ptx_saturate
#define MIN(nan) ptx_min(X, Y, nan)
#define MAX(nan) ptx_max(X, Y, nan)

/* Result of a comparison of two pairs: 0xffff in each half where it holds, else 0. */
static uint32_t mask_pair(bool low, bool high)
{
    return (low ? 0xffff : 0) | (high ? 0xffff0000 : 0);
}
#define HIGH(i)  ptx_decode((uint32_t)a[i] >> 16, &ptx_f16)
#define HIGHB(i) ptx_decode((uint32_t)a[i] >> 16, &ptx_bf16)

// clang-format off
CASE(add_f16, "add.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(ptx_add(H(0), H(1)), RN))
CASE(add_rn_f16, "add.rn.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(ptx_add(H(0), H(1)), RN))
CASE(add_sat_f16, "add.sat.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(SAT(ptx_add(H(0), H(1))), RN))
CASE(add_f16x2, "add.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, ptx_add(X, Y)))
CASE(add_rn_f16x2, "add.rn.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, ptx_add(X, Y)))
CASE(sub_f16, "sub.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(minus(H(0), H(1)), RN))
CASE(sub_rn_f16x2, "sub.rn.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, minus(X, Y)))
CASE(sub_sat_f16x2, "sub.sat.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, SAT(minus(X, Y))))
CASE(mul_f16, "mul.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(H(0) * H(1), RN))
CASE(mul_rn_f16x2, "mul.rn.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, X * Y))
CASE(mul_f16x2, "mul.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, X * Y))
CASE(fma_rn_f16, "fma.rn.f16 %d0, %a0, %a1, %a2;", "HHH", "H", TO_F16(ptx_fma(H(0), H(1), H(2)), RN))
CASE(fma_rn_f16x2, "fma.rn.f16x2 %d0, %a0, %a1, %a2;", "PPP", "P", PAIR(ptx_f16, FMA))
CASE(fma_sat_f16x2, "fma.rn.sat.f16x2 %d0, %a0, %a1, %a2;", "PPP", "P", PAIR(ptx_f16, SAT(FMA)))
CASE(fma_relu_f16x2, "fma.rn.relu.f16x2 %d0, %a0, %a1, %a2;", "PPP", "P", PAIR(ptx_f16, ptx_relu(FMA)))
CASE(fma_relu_f16, "fma.rn.relu.f16 %d0, %a0, %a1, %a2;", "HHH", "H", TO_F16(ptx_relu(ptx_fma(H(0), H(1), H(2))), RN))
CASE(fma_rn_bf16, "fma.rn.bf16 %d0, %a0, %a1, %a2;", "BBB", "B", TO_BF16(ptx_fma(B(0), B(1), B(2)), RN))
CASE(fma_rn_bf16x2, "fma.rn.bf16x2 %d0, %a0, %a1, %a2;", "QQQ", "Q", PAIR(ptx_bf16, FMA))
CASE(fma_relu_bf16x2, "fma.rn.relu.bf16x2 %d0, %a0, %a1, %a2;", "QQQ", "Q", PAIR(ptx_bf16, ptx_relu(FMA)))
CASE_SM90(add_bf16, "add.rn.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(ptx_add(B(0), B(1)), RN))
CASE_SM90(sub_bf16x2, "sub.rn.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, minus(X, Y)))
CASE_SM90(mul_bf16x2, "mul.rn.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, X * Y))
CASE(neg_f16, "neg.f16 %d0, %a0;", "H", "N", TO_F16(-H(0), RN))
CASE(neg_f16x2, "neg.f16x2 %d0, %a0;", "P", "M", PAIR(ptx_f16, -X))
CASE(neg_bf16x2, "neg.bf16x2 %d0, %a0;", "m", "r", R(U(0) ^ 0x80008000))
CASE(abs_f16, "abs.f16 %d0, %a0;", "H", "N", TO_F16(fabs(H(0)), RN))
CASE(abs_f16x2, "abs.f16x2 %d0, %a0;", "P", "M", PAIR(ptx_f16, fabs(X)))
CASE(abs_bf16x2, "abs.bf16x2 %d0, %a0;", "m", "r", R(U(0) & 0x7fff7fff))
CASE(min_f16, "min.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(ptx_min(H(0), H(1), false), RN))
CASE(max_f16, "max.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(ptx_max(H(0), H(1), false), RN))
CASE(min_nan_f16, "min.NaN.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(ptx_min(H(0), H(1), true), RN))
CASE(max_nan_f16, "max.NaN.f16 %d0, %a0, %a1;", "HH", "H", TO_F16(ptx_max(H(0), H(1), true), RN))
CASE(min_f16x2, "min.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, MIN(false)))
CASE(max_f16x2, "max.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, MAX(false)))
CASE(min_nan_f16x2, "min.NaN.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, MIN(true)))
CASE(max_nan_f16x2, "max.NaN.f16x2 %d0, %a0, %a1;", "PP", "P", PAIR(ptx_f16, MAX(true)))
CASE(min_bf16, "min.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(ptx_min(B(0), B(1), false), RN))
CASE(max_bf16x2, "max.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, MAX(false)))
CASE(max_nan_bf16x2, "max.NaN.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, MAX(true)))
CASE_NEAR(ex2_approx_f16, "ex2.approx.f16 %d0, %a0;", "H", "H", 0x1p-9, 0x1p-24, TO_F16(exp2(H(0)), RN))
CASE_NEAR(ex2_approx_f16x2, "ex2.approx.f16x2 %d0, %a0;", "P", "P", 0x1p-9, 0x1p-24, PAIR(ptx_f16, exp2(X)))
CASE_NEAR(tanh_approx_f16, "tanh.approx.f16 %d0, %a0;", "H", "H", 0, 0x1p-10, TO_F16(tanh(H(0)), RN))
CASE_NEAR(tanh_approx_f16x2, "tanh.approx.f16x2 %d0, %a0;", "P", "P", 0, 0x1p-10, PAIR(ptx_f16, tanh(X)))
CASE(setp_f16, "setp.lt.f16 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "HH", "r", R(H(0) < H(1)))
CASE(setp_f16_unordered, "setp.neu.f16 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "HH", "r", R(!(H(0) == H(1))))
CASE(setp_f16x2, "setp.le.f16x2 %p0|%p1, %a0, %a1; selp.b32 %d0, 1, 0, %p0; selp.b32 %d1, 1, 0, %p1;", "PP", "rr",
     d[0] = H(0) <= H(1); d[1] = HIGH(0) <= HIGH(1))
CASE(set_f16x2, "set.gt.f16x2.f16x2 %d0, %a0, %a1;", "PP", "r",
     R((H(0) > H(1) ? 0x3c00 : 0) | (HIGH(0) > HIGH(1) ? 0x3c000000 : 0)))
CASE(set_u32_f16x2, "set.ge.u32.f16x2 %d0, %a0, %a1;", "PP", "r", R(mask_pair(H(0) >= H(1), HIGH(0) >= HIGH(1))))
CASE(set_f16, "set.eq.f16.f16 %d0, %a0, %a1;", "HH", "h", R16(H(0) == H(1) ? 0x3c00 : 0))
CASE_FULL(setp_bf16, "setp.gt.bf16 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "BB", "r", 0, 0, "sm_90", R(B(0) > B(1)))
CASE_FULL(setp_bf16x2, "setp.gt.bf16x2 %p0|%p1, %a0, %a1; selp.b32 %d0, 1, 0, %p0; selp.b32 %d1, 1, 0, %p1;", "QQ", "rr",
     0, 0, "sm_90", d[0] = B(0) > B(1); d[1] = HIGHB(0) > HIGHB(1))
CASE_SM90(add_bf16x2, "add.rn.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, ptx_add(X, Y)))
CASE_SM90(sub_bf16, "sub.rn.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(minus(B(0), B(1)), RN))
CASE_SM90(mul_bf16, "mul.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(B(0) * B(1), RN))
CASE(neg_bf16, "neg.bf16 %d0, %a0;", "B", "b", TO_BF16(-B(0), RN))
CASE(abs_bf16, "abs.bf16 %d0, %a0;", "B", "b", TO_BF16(fabs(B(0)), RN))
CASE(min_bf16x2, "min.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, MIN(false)))
CASE(max_bf16, "max.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(ptx_max(B(0), B(1), false), RN))
CASE(min_nan_bf16, "min.NaN.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(ptx_min(B(0), B(1), true), RN))
CASE(min_nan_bf16x2, "min.NaN.bf16x2 %d0, %a0, %a1;", "QQ", "Q", PAIR(ptx_bf16, MIN(true)))
CASE(max_nan_bf16, "max.NaN.bf16 %d0, %a0, %a1;", "BB", "B", TO_BF16(ptx_max(B(0), B(1), true), RN))
CASE_FULL(ex2_approx_bf16, "ex2.approx.ftz.bf16 %d0, %a0;", "B", "B", 0x1p-7, 0x1p-126, "sm_90", TO_BF16(exp2(B(0)), RN))
CASE_FULL(ex2_approx_bf16x2, "ex2.approx.ftz.bf16x2 %d0, %a0;", "Q", "Q", 0x1p-7, 0x1p-126, "sm_90", PAIR(ptx_bf16, exp2(X)))
CASE_FULL(tanh_approx_bf16, "tanh.approx.bf16 %d0, %a0;", "B", "B", 0x1p-7, 0x1p-126, "sm_90", TO_BF16(tanh(B(0)), RN))
CASE_FULL(tanh_approx_bf16x2, "tanh.approx.bf16x2 %d0, %a0;", "Q", "Q", 0x1p-7, 0x1p-126, "sm_90", PAIR(ptx_bf16, tanh(X)))
// clang-format on
