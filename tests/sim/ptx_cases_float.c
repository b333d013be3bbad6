/* fp32 and fp64 arithmetic, special functions and comparisons: PTX ISA 9.7.3, 9.7.6. Bounds of the .approx
 * instructions are the ISA's. */
#include "ptx_harness.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static double copy_sign_xor(double magnitude, double x, double y)
{
    return !signbit(x) == !signbit(y) ? fabs(magnitude) : -fabs(magnitude);
}

static bool subnormal(uint32_t bits)
{
    return (bits & 0x7f800000) == 0 && (bits & 0x7fffff) != 0;
}

static double flushed(double x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysign(0, x) : x;
}

static double log2_of(double x)
{
    return x == 0 ? -INFINITY : log2(x);
}

#define COMPARE_F32(operator, test)                                                                        \
    CASE(setp_##operator##_f32, "setp." #operator".f32 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "ff",     \
         "r", double x = F(0);                                                                             \
         double y = F(1); bool nan = isnan(x) || isnan(y); (void)nan; R(test))

#define COMPARE_INT(operator, type, X, test)                                                               \
    CASE(setp_##operator##_##type, "setp." #operator"." #type " %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;",  \
         "rr", "r", R(X(0) test X(1)))

#define XORSIGN(operation, function)                                                                       \
    CASE_FULL(operation##_xorsign_f32, #operation ".xorsign.abs.f32 %d0, %a0, %a1;", "uu", "f", 0, 0,      \
              "sm_86", TO_F32(copy_sign_xor(function(fabs(F(0)), fabs(F(1))), F(0), F(1)), RN))            \
    CASE_FULL(operation##_nan_xorsign_f32, #operation ".NaN.xorsign.abs.f32 %d0, %a0, %a1;", "ff", "f", 0, \
              0, "sm_86",                                                                                  \
              TO_F32(isnan(F(0)) || isnan(F(1))                                                            \
                         ? NAN                                                                             \
                         : copy_sign_xor(function(fabs(F(0)), fabs(F(1))), F(0), F(1)),                    \
                     RN))

// clang-format off
CASE(add_f32, "add.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_add(F(0), F(1)), RN))
CASE(add_rn_f32, "add.rn.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_add(F(0), F(1)), RN))
CASE(add_rz_f32, "add.rz.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_add(F(0), F(1)), RZ))
CASE(add_rm_f32, "add.rm.f32 %d0, %a0, %a1;", "uu", "f", TO_F32(ptx_add(F(0), F(1)), RM))
CASE(add_rp_f32, "add.rp.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_add(F(0), F(1)), RP))
CASE(add_ftz_f32, "add.ftz.f32 %d0, %a0, %a1;", "ff", "f", TO_FTZ(ptx_add(FZ(0), FZ(1)), RN))
CASE(add_sat_f32, "add.sat.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_saturate(ptx_add(F(0), F(1))), RN))
CASE(add_immediate_f32, "add.f32 %d0, %a0, 0fBF800000;", "f", "f", TO_F32(ptx_add(F(0), -1), RN))
CASE(sub_f32, "sub.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_add(F(0), -F(1)), RN))
CASE(sub_rz_f32, "sub.rz.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_add(F(0), -F(1)), RZ))
CASE(sub_rp_f32, "sub.rp.f32 %d0, %a0, %a1;", "uu", "f", TO_F32(ptx_add(F(0), -F(1)), RP))
CASE(sub_ftz_f32, "sub.ftz.f32 %d0, %a0, %a1;", "ff", "f", TO_FTZ(ptx_add(FZ(0), -FZ(1)), RN))
CASE(mul_f32, "mul.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(F(0) * F(1), RN))
CASE(mul_rz_f32, "mul.rz.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(F(0) * F(1), RZ))
CASE(mul_rm_f32, "mul.rm.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(F(0) * F(1), RM))
CASE(mul_rp_f32, "mul.rp.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(F(0) * F(1), RP))
CASE(mul_ftz_f32, "mul.ftz.f32 %d0, %a0, %a1;", "ff", "f", TO_FTZ(FZ(0) * FZ(1), RN))
CASE(mul_sat_f32, "mul.sat.f32 %d0, %a0, %a1;", "uu", "f", TO_F32(ptx_saturate(F(0) * F(1)), RN))
CASE(fma_rn_f32, "fma.rn.f32 %d0, %a0, %a1, %a2;", "fff", "f", TO_F32(ptx_fma(F(0), F(1), F(2)), RN))
CASE(fma_rn_f32_near, "fma.rn.f32 %d0, %a0, %a1, %a2;", "uuu", "f", TO_F32(ptx_fma(F(0), F(1), F(2)), RN))
CASE(fma_rz_f32, "fma.rz.f32 %d0, %a0, %a1, %a2;", "fff", "f", TO_F32(ptx_fma(F(0), F(1), F(2)), RZ))
CASE(fma_rm_f32, "fma.rm.f32 %d0, %a0, %a1, %a2;", "uuu", "f", TO_F32(ptx_fma(F(0), F(1), F(2)), RM))
CASE(fma_rp_f32, "fma.rp.f32 %d0, %a0, %a1, %a2;", "fff", "f", TO_F32(ptx_fma(F(0), F(1), F(2)), RP))
CASE(fma_ftz_f32, "fma.rn.ftz.f32 %d0, %a0, %a1, %a2;", "fff", "f", TO_FTZ(ptx_fma(FZ(0), FZ(1), FZ(2)), RN))
CASE(fma_sat_f32, "fma.rn.sat.f32 %d0, %a0, %a1, %a2;", "uuu", "f", TO_F32(ptx_saturate(ptx_fma(F(0), F(1), F(2))), RN))
CASE(mad_rn_f32, "mad.rn.f32 %d0, %a0, %a1, %a2;", "fff", "f", TO_F32(ptx_fma(F(0), F(1), F(2)), RN))
CASE(div_rn_f32, "div.rn.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_divide(F(0), F(1)), RN))
CASE(div_rn_f32_near, "div.rn.f32 %d0, %a0, %a1;", "uu", "f", TO_F32(ptx_divide(F(0), F(1)), RN))
CASE(div_rz_f32, "div.rz.f32 %d0, %a0, %a1;", "uu", "f", TO_F32(ptx_divide(F(0), F(1)), RZ))
CASE(div_ftz_f32, "div.rn.ftz.f32 %d0, %a0, %a1;", "ff", "f", TO_FTZ(ptx_divide(FZ(0), FZ(1)), RN))
CASE_NEAR(div_full_f32, "div.full.f32 %d0, %a0, %a1;", "uu", "f", 0x1p-22, 0, TO_F32(F(0) / F(1), RN))
CASE_NEAR(div_full_ftz_f32, "div.full.ftz.f32 %d0, %a0, %a1;", "uu", "f", 0x1p-22, 0, TO_F32(F(0) / F(1), RN))
CASE_NEAR(div_approx_f32, "div.approx.f32 %d0, %a0, %a1;", "uu", "f", 0x1p-22, 0, TO_F32(F(0) / F(1), RN))
CASE_NEAR(div_approx_ftz_f32, "div.approx.ftz.f32 %d0, %a0, %a1;", "uu", "f", 0x1p-22, 0, TO_F32(F(0) / F(1), RN))
CASE(rcp_rn_f32, "rcp.rn.f32 %d0, %a0;", "f", "f", TO_F32(ptx_divide(1, F(0)), RN))
CASE_NEAR(rcp_approx_f32, "rcp.approx.f32 %d0, %a0;", "u", "f", 0x1p-23, 0, TO_F32(1 / F(0), RN))
CASE_NEAR(rcp_approx_ftz_f32, "rcp.approx.ftz.f32 %d0, %a0;", "f", "f", 0x1p-23, 0x1p-126, TO_FTZ(1 / FZ(0), RN))
CASE(sqrt_rn_f32, "sqrt.rn.f32 %d0, %a0;", "f", "f", TO_F32(ptx_square_root(F(0)), RN))
CASE(sqrt_rn_ftz_f32, "sqrt.rn.ftz.f32 %d0, %a0;", "f", "f", TO_FTZ(ptx_square_root(FZ(0)), RN))
CASE_NEAR(sqrt_approx_f32, "sqrt.approx.f32 %d0, %a0;", "f", "f", 0x1p-22, 0, TO_F32(sqrt(F(0)), RN))
CASE_NEAR(sqrt_approx_ftz_f32, "sqrt.approx.ftz.f32 %d0, %a0;", "f", "f", 0x1p-22, 0, TO_FTZ(sqrt(FZ(0)), RN))
CASE_NEAR(rsqrt_approx_f32, "rsqrt.approx.f32 %d0, %a0;", "f", "f", 0x1p-22, 0, TO_F32(1 / sqrt(F(0)), RN))
CASE_NEAR(rsqrt_approx_ftz_f32, "rsqrt.approx.ftz.f32 %d0, %a0;", "f", "f", 0x1p-22, 0, TO_FTZ(1 / sqrt(FZ(0)), RN))
CASE_NEAR(ex2_approx_f32, "ex2.approx.f32 %d0, %a0;", "f", "f", 0x1p-22, 0x1p-149, TO_F32(exp2(F(0)), RN))
CASE_NEAR(ex2_approx_near, "ex2.approx.f32 %d0, %a0;", "v", "f", 0x1p-22, 0, TO_F32(exp2(F(0)), RN))
CASE_NEAR(ex2_approx_ftz_f32, "ex2.approx.ftz.f32 %d0, %a0;", "f", "f", 0x1p-22, 0x1p-126, TO_FTZ(exp2(FZ(0)), RN))
CASE_NEAR(ex2_approx_ftz_near, "ex2.approx.ftz.f32 %d0, %a0;", "v", "f", 0x1p-22, 0, TO_FTZ(exp2(FZ(0)), RN))
CASE_NEAR(lg2_approx_f32, "lg2.approx.f32 %d0, %a0;", "f", "f", 0x1p-22, 0x1p-22, TO_F32(log2_of(F(0)), RN))
CASE_NEAR(lg2_approx_ftz_f32, "lg2.approx.ftz.f32 %d0, %a0;", "f", "f", 0x1p-22, 0x1p-22, TO_F32(log2_of(FZ(0)), RN))
CASE_NEAR(sin_approx_f32, "sin.approx.f32 %d0, %a0;", "v", "f", 0, 0x1p-14, TO_F32(sin(F(0)), RN))
CASE_NEAR(cos_approx_f32, "cos.approx.f32 %d0, %a0;", "v", "f", 0, 0x1p-14, TO_F32(cos(F(0)), RN))
CASE_NEAR(sin_approx_small, "and.b32 %t0, %a0, 0xbfffffff; sin.approx.ftz.f32 %d0, %t0;", "v", "f", 0, 0x1p-20,
          double x = ptx_decode(U(0) & 0xbfffffff, &ptx_f32); TO_F32(sin(x < -pi ? -x : x), RN))
CASE_NEAR(tanh_approx_f32, "tanh.approx.f32 %d0, %a0;", "f", "f", 0x1p-11, 0x1p-126, TO_F32(tanh(F(0)), RN))
CASE(abs_f32, "abs.f32 %d0, %a0;", "f", "n", TO_F32(fabs(F(0)), RN))
CASE(abs_ftz_f32, "abs.ftz.f32 %d0, %a0;", "f", "n", TO_F32(fabs(FZ(0)), RN))
CASE(neg_f32, "neg.f32 %d0, %a0;", "f", "n", TO_F32(-F(0), RN))
CASE(neg_ftz_f32, "neg.ftz.f32 %d0, %a0;", "f", "n", TO_F32(-FZ(0), RN))
CASE(min_f32, "min.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_min(F(0), F(1), false), RN))
CASE(max_f32, "max.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_max(F(0), F(1), false), RN))
CASE(min_ftz_f32, "min.ftz.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_min(FZ(0), FZ(1), false), RN))
CASE(max_ftz_f32, "max.ftz.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_max(FZ(0), FZ(1), false), RN))
CASE(min_nan_f32, "min.NaN.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_min(F(0), F(1), true), RN))
CASE(max_nan_f32, "max.NaN.f32 %d0, %a0, %a1;", "ff", "f", TO_F32(ptx_max(F(0), F(1), true), RN))
XORSIGN(min, fmin)
XORSIGN(max, fmax)
CASE(copysign_f32, "copysign.f32 %d0, %a0, %a1;", "rr", "r", R((U(1) & 0x7fffffff) | (U(0) & 0x80000000)))
CASE(testp_f32, "testp.finite.f32 %p0, %a0; testp.infinite.f32 %p1, %a0; testp.number.f32 %p2, %a0;"
     "testp.notanumber.f32 %p3, %a0; testp.normal.f32 %p4, %a0; testp.subnormal.f32 %p5, %a0; selp.b32 %d0, 1, 0, %p0;"
     "selp.b32 %d1, 1, 0, %p1; selp.b32 %d2, 1, 0, %p2; selp.b32 %d3, 1, 0, %p3; selp.b32 %d4, 1, 0, %p4;"
     "selp.b32 %d5, 1, 0, %p5;", "f", "rrrrrr",
     d[0] = isfinite(F(0)) != 0; d[1] = isinf(F(0)) != 0; d[2] = !isnan(F(0)); d[3] = isnan(F(0)) != 0;
     d[4] = isfinite(F(0)) && (U(0) & 0x7f800000); d[5] = subnormal(U(0)))

COMPARE_F32(eq, x == y)
COMPARE_F32(ne, !nan && x != y)
COMPARE_F32(lt, x < y)
COMPARE_F32(le, x <= y)
COMPARE_F32(gt, x > y)
COMPARE_F32(ge, x >= y)
COMPARE_F32(equ, nan || x == y)
COMPARE_F32(neu, nan || x != y)
COMPARE_F32(ltu, nan || x < y)
COMPARE_F32(leu, nan || x <= y)
COMPARE_F32(gtu, nan || x > y)
COMPARE_F32(geu, nan || x >= y)
COMPARE_F32(num, !nan)
COMPARE_F32(nan, nan)
CASE(setp_ftz_f32, "setp.gt.ftz.f32 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "ff", "r", R(FZ(0) > FZ(1)))
COMPARE_INT(eq, s32, I, ==)
COMPARE_INT(ne, s32, I, !=)
COMPARE_INT(lt, s32, I, <)
COMPARE_INT(le, s32, I, <=)
COMPARE_INT(gt, s32, I, >)
COMPARE_INT(ge, s32, I, >=)
COMPARE_INT(lt, u32, U, <)
COMPARE_INT(le, u32, U, <=)
COMPARE_INT(gt, u32, U, >)
COMPARE_INT(ge, u32, U, >=)
COMPARE_INT(lo, u32, U, <)
COMPARE_INT(ls, u32, U, <=)
COMPARE_INT(hi, u32, U, >)
COMPARE_INT(hs, u32, U, >=)
COMPARE_INT(eq, b32, U, ==)
CASE(setp_s64, "setp.lt.s64 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "ll", "r", R(S(0) < S(1)))
CASE(setp_u64, "setp.gt.u64 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "ll", "r", R(L(0) > L(1)))
CASE(setp_b64, "setp.ne.b64 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "ll", "r", R(L(0) != L(1)))
CASE(setp_s16, "setp.le.s16 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "hh", "r", R(I16(0) <= I16(1)))
CASE(setp_u16, "setp.ge.u16 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "hh", "r", R(U16(0) >= U16(1)))
CASE(setp_b16, "setp.eq.b16 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "hh", "r", R(U16(0) == U16(1)))
CASE(setp_f64, "setp.geu.f64 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "dd", "r", R(!(D(0) < D(1))))
CASE(setp_f64_ordered, "setp.lt.f64 %p0, %a0, %a1; selp.b32 %d0, 1, 0, %p0;", "dd", "r", R(D(0) < D(1)))

CASE(add_f64, "add.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(D(0) + D(1)))
CASE(add_rn_f64, "add.rn.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(D(0) + D(1)))
CASE(sub_f64, "sub.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(D(0) - D(1)))
CASE(mul_f64, "mul.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(D(0) * D(1)))
CASE(mul_rn_f64, "mul.rn.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(D(0) * D(1)))
CASE(fma_rn_f64, "fma.rn.f64 %d0, %a0, %a1, %a2;", "ddd", "d", TO_F64(fma(D(0), D(1), D(2))))
CASE(mad_rn_f64, "mad.rn.f64 %d0, %a0, %a1, %a2;", "ddd", "d", TO_F64(fma(D(0), D(1), D(2))))
CASE(div_rn_f64, "div.rn.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(D(0) / D(1)))
CASE(rcp_rn_f64, "rcp.rn.f64 %d0, %a0;", "d", "d", TO_F64(1 / D(0)))
CASE(sqrt_rn_f64, "sqrt.rn.f64 %d0, %a0;", "d", "d", TO_F64(sqrt(D(0))))
CASE(abs_f64, "abs.f64 %d0, %a0;", "d", "d", TO_F64(fabs(D(0))))
CASE(neg_f64, "neg.f64 %d0, %a0;", "d", "d", TO_F64(-D(0)))
CASE(min_f64, "min.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(ptx_min(D(0), D(1), false)))
CASE(max_f64, "max.f64 %d0, %a0, %a1;", "dd", "d", TO_F64(ptx_max(D(0), D(1), false)))
CASE(copysign_f64, "copysign.f64 %d0, %a0, %a1;", "ll", "l", R64((L(1) & INT64_MAX) | (L(0) & ~(uint64_t)INT64_MAX)))
CASE_NEAR(rsqrt_approx_f64, "rsqrt.approx.f64 %d0, %a0;", "d", "d", 0x1p-50, 0, TO_F64(1 / sqrt(D(0))))
CASE_NEAR(rcp_approx_ftz_f64, "rcp.approx.ftz.f64 %d0, %a0;", "d", "d", 0x1p-19, 0x1p-1022, TO_F64(1 / flushed(D(0))))
CASE_NEAR(rsqrt_approx_ftz_f64, "rsqrt.approx.ftz.f64 %d0, %a0;", "d", "d", 0x1p-19, 0, TO_F64(1 / sqrt(flushed(D(0)))))
CASE(testp_f64, "testp.finite.f64 %p0, %a0; testp.infinite.f64 %p1, %a0; testp.number.f64 %p2, %a0;"
     "testp.notanumber.f64 %p3, %a0; testp.normal.f64 %p4, %a0; testp.subnormal.f64 %p5, %a0; selp.b32 %d0, 1, 0, %p0;"
     "selp.b32 %d1, 1, 0, %p1; selp.b32 %d2, 1, 0, %p2; selp.b32 %d3, 1, 0, %p3; selp.b32 %d4, 1, 0, %p4;"
     "selp.b32 %d5, 1, 0, %p5;", "d", "rrrrrr",
     d[0] = isfinite(D(0)) != 0; d[1] = isinf(D(0)) != 0; d[2] = !isnan(D(0)); d[3] = isnan(D(0)) != 0; d[4] = isnormal(D(0)) != 0;
     d[5] = fpclassify(D(0)) == FP_SUBNORMAL)
// clang-format on
