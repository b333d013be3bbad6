/* cvt, cvta, isspacep: PTX ISA 9.7.9.20 - 9.7.9.22. */
#include "ptx_harness.h"

#include <math.h>

/* Converts a float to an integer: rounds and clamps it. NaN gives 0, or 1 << (width - 1) where one of the
 * types has 64 bits. */
static uint64_t to_integer(double x, enum ptx_rounding rounding, unsigned width, bool is_signed, bool wide)
{
    uint64_t top = 1ull << (width - 1);
    if (isnan(x))
        return wide ? top : 0;
    x = ptx_round_integer(x, rounding);
    double high = is_signed ? ldexp(1, (int)width - 1) : ldexp(1, (int)width);
    double low = is_signed ? -high : 0;
    if (x >= high)
        return is_signed ? top - 1 : top - 1 + top;
    if (x <= low)
        return is_signed ? top : 0;
    return x < 0 ? (uint64_t)(int64_t)x : (uint64_t)x;
}

/* A 64-bit integer may not fit a double, so this rounds it to odd at 53 bits first. */
static double from_unsigned(uint64_t x)
{
    if (x >> 53 == 0)
        return (double)x;
    return (double)((x >> 11) | ((x & 0x7ff) != 0)) * 0x1p11;
}

static double from_signed(int64_t x)
{
    return x < 0 ? -from_unsigned(-(uint64_t)x) : from_unsigned((uint64_t)x);
}

/* Converts a double to a narrower format. The double is exact, so the result is rounded once. */
static uint32_t narrow(double x, const struct ptx_format *format, enum ptx_rounding rounding)
{
    return ptx_encode(x, format, rounding);
}

static uint32_t saturated(double x, const struct ptx_format *format)
{
    double largest = ptx_largest(format);
    if (fabs(x) > largest)
        x = copysign(largest, x);
    return ptx_encode(x, format, RN);
}

static int64_t clamped(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

#define TO_S32(mode)  d[0] = (uint32_t)to_integer(F(0), mode, 32, true, false)
#define TO_U32(mode)  d[0] = (uint32_t)to_integer(F(0), mode, 32, false, false)
#define E4M3(i, half) ptx_decode((uint32_t)a[i] >> (half)*8 & 0xff, &ptx_e4m3)
#define E5M2(i, half) ptx_decode((uint32_t)a[i] >> (half)*8 & 0xff, &ptx_e5m2)
#define HIGH(i)       ptx_decode((uint32_t)a[i] >> 16, &ptx_f16)

// clang-format off
CASE(cvt_f16_f32, "cvt.rn.f16.f32 %d0, %a0;", "f", "H", TO_F16(F(0), RN))
CASE(cvt_f16_f32_rz, "cvt.rz.f16.f32 %d0, %a0;", "f", "H", TO_F16(F(0), RZ))
CASE(cvt_f16_f32_rm, "cvt.rm.f16.f32 %d0, %a0;", "f", "H", TO_F16(F(0), RM))
CASE(cvt_f16_f32_rp, "cvt.rp.f16.f32 %d0, %a0;", "f", "H", TO_F16(F(0), RP))
CASE(cvt_f16_f32_sat, "cvt.rn.sat.f16.f32 %d0, %a0;", "f", "H", TO_F16(ptx_saturate(F(0)), RN))
CASE(cvt_f16_f32_ftz, "cvt.rn.ftz.f16.f32 %d0, %a0;", "f", "H", TO_F16(FZ(0), RN))
CASE(cvt_f16_f32_relu, "cvt.rn.relu.f16.f32 %d0, %a0;", "f", "H", TO_F16(ptx_relu(F(0)), RN))
CASE(cvt_f32_f16, "cvt.f32.f16 %d0, %a0;", "H", "n", TO_F32(H(0), RN))
CASE(cvt_f32_f16_sat, "cvt.sat.f32.f16 %d0, %a0;", "H", "f", TO_F32(ptx_saturate(H(0)), RN))
CASE(cvt_f16x2_f32, "cvt.rn.f16x2.f32 %d0, %a0, %a1;", "ff", "P",
     R(narrow(F(1), &ptx_f16, RN) | narrow(F(0), &ptx_f16, RN) << 16))
CASE(cvt_f16x2_f32_rz, "cvt.rz.f16x2.f32 %d0, %a0, %a1;", "ff", "P",
     R(narrow(F(1), &ptx_f16, RZ) | narrow(F(0), &ptx_f16, RZ) << 16))
CASE(cvt_f16x2_f32_relu, "cvt.rn.relu.f16x2.f32 %d0, %a0, %a1;", "ff", "P",
     R(narrow(ptx_relu(F(1)), &ptx_f16, RN) | narrow(ptx_relu(F(0)), &ptx_f16, RN) << 16))
CASE(cvt_bf16_f32, "cvt.rn.bf16.f32 %d0, %a0;", "f", "B", TO_BF16(F(0), RN))
CASE(cvt_bf16_f32_rz, "cvt.rz.bf16.f32 %d0, %a0;", "f", "B", TO_BF16(F(0), RZ))
CASE(cvt_bf16_f32_relu, "cvt.rn.relu.bf16.f32 %d0, %a0;", "f", "B", TO_BF16(ptx_relu(F(0)), RN))
CASE(cvt_bf16x2_f32, "cvt.rn.bf16x2.f32 %d0, %a0, %a1;", "ff", "Q",
     R(narrow(F(1), &ptx_bf16, RN) | narrow(F(0), &ptx_bf16, RN) << 16))
CASE_FULL(cvt_f32_bf16, "cvt.f32.bf16 %d0, %a0;", "B", "n", 0, 0, "sm_90", TO_F32(B(0), RN))
CASE(cvt_f32_bf16_by_shift, "{.reg .b32 %x; cvt.u32.u16 %x, %a0; shl.b32 %d0, %x, 16;}", "B", "r", R(U(0) << 16))
CASE(cvt_f32_f64, "cvt.rn.f32.f64 %d0, %a0;", "d", "f", TO_F32(D(0), RN))
CASE(cvt_f32_f64_rz, "cvt.rz.f32.f64 %d0, %a0;", "d", "f", TO_F32(D(0), RZ))
CASE(cvt_f32_f64_rp, "cvt.rp.f32.f64 %d0, %a0;", "d", "f", TO_F32(D(0), RP))
CASE(cvt_f64_f32, "cvt.f64.f32 %d0, %a0;", "f", "d", TO_F64(F(0)))
CASE(cvt_f64_f32_ftz, "cvt.ftz.f64.f32 %d0, %a0;", "f", "d", TO_F64(FZ(0)))
CASE(cvt_f64_f16, "cvt.f64.f16 %d0, %a0;", "H", "d", TO_F64(H(0)))
CASE(cvt_f16_f64, "cvt.rn.f16.f64 %d0, %a0;", "d", "H", TO_F16(D(0), RN))
CASE(cvt_f32_f32_rni, "cvt.rni.f32.f32 %d0, %a0;", "f", "n", TO_F32(ptx_round_integer(F(0), RN), RN))
CASE(cvt_f32_f32_rzi, "cvt.rzi.f32.f32 %d0, %a0;", "f", "n", TO_F32(ptx_round_integer(F(0), RZ), RN))
CASE(cvt_f32_f32_rmi, "cvt.rmi.f32.f32 %d0, %a0;", "f", "n", TO_F32(ptx_round_integer(F(0), RM), RN))
CASE(cvt_f32_f32_rpi, "cvt.rpi.f32.f32 %d0, %a0;", "f", "n", TO_F32(ptx_round_integer(F(0), RP), RN))
CASE(cvt_f32_f32_sat, "cvt.sat.f32.f32 %d0, %a0;", "f", "f", TO_F32(ptx_saturate(F(0)), RN))
CASE(cvt_f16_f16_rni, "cvt.rni.f16.f16 %d0, %a0;", "H", "N", TO_F16(ptx_round_integer(H(0), RN), RN))
CASE(cvt_f64_f64_rmi, "cvt.rmi.f64.f64 %d0, %a0;", "d", "d", TO_F64(ptx_round_integer(D(0), RM)))
CASE(cvt_s32_f32_rni, "cvt.rni.s32.f32 %d0, %a0;", "f", "r", TO_S32(RN))
CASE(cvt_s32_f32_rzi, "cvt.rzi.s32.f32 %d0, %a0;", "f", "r", TO_S32(RZ))
CASE(cvt_s32_f32_rmi, "cvt.rmi.s32.f32 %d0, %a0;", "f", "r", TO_S32(RM))
CASE(cvt_s32_f32_rpi, "cvt.rpi.s32.f32 %d0, %a0;", "f", "r", TO_S32(RP))
CASE(cvt_s32_f32_ftz, "cvt.rpi.ftz.s32.f32 %d0, %a0;", "f", "r", R(to_integer(FZ(0), RP, 32, true, false)))
CASE(cvt_u32_f32_rni, "cvt.rni.u32.f32 %d0, %a0;", "f", "r", TO_U32(RN))
CASE(cvt_u32_f32_rzi, "cvt.rzi.u32.f32 %d0, %a0;", "f", "r", TO_U32(RZ))
CASE(cvt_u32_f32_rpi, "cvt.rpi.u32.f32 %d0, %a0;", "f", "r", TO_U32(RP))
CASE(cvt_s64_f32, "cvt.rzi.s64.f32 %d0, %a0;", "f", "l", R64(to_integer(F(0), RZ, 64, true, true)))
CASE(cvt_u64_f32, "cvt.rzi.u64.f32 %d0, %a0;", "f", "l", R64(to_integer(F(0), RZ, 64, false, true)))
CASE(cvt_s64_f64, "cvt.rni.s64.f64 %d0, %a0;", "d", "l", R64(to_integer(D(0), RN, 64, true, true)))
CASE(cvt_u64_f64, "cvt.rzi.u64.f64 %d0, %a0;", "d", "l", R64(to_integer(D(0), RZ, 64, false, true)))
CASE(cvt_s32_f64, "cvt.rzi.s32.f64 %d0, %a0;", "d", "r", R(to_integer(D(0), RZ, 32, true, true)))
CASE(cvt_u32_f64, "cvt.rzi.u32.f64 %d0, %a0;", "d", "r", R(to_integer(D(0), RZ, 32, false, true)))
CASE(cvt_s32_f16, "cvt.rni.s32.f16 %d0, %a0;", "H", "r", R(to_integer(H(0), RN, 32, true, false)))
CASE(cvt_u16_f16, "cvt.rzi.u16.f16 %d0, %a0;", "H", "h", R16(to_integer(H(0), RZ, 16, false, false)))
CASE(cvt_s16_f16, "cvt.rmi.s16.f16 %d0, %a0;", "H", "h", R16(to_integer(H(0), RM, 16, true, false)))
CASE(cvt_u8_f32, "cvt.rni.u8.f32 %d0, %a0;", "f", "r", R(to_integer(F(0), RN, 8, false, false)))
CASE(cvt_s8_f32, "cvt.rni.s8.f32 %d0, %a0;", "f", "r", R((int8_t)to_integer(F(0), RN, 8, true, false)))
CASE(cvt_s8_sat_f32, "cvt.rni.sat.s8.f32 %d0, %a0;", "f", "r", R((int8_t)to_integer(F(0), RN, 8, true, false)))
CASE(cvt_f32_s32, "cvt.rn.f32.s32 %d0, %a0;", "r", "f", TO_F32(from_signed(I(0)), RN))
CASE(cvt_f32_s32_rz, "cvt.rz.f32.s32 %d0, %a0;", "r", "f", TO_F32(from_signed(I(0)), RZ))
CASE(cvt_f32_s32_rm, "cvt.rm.f32.s32 %d0, %a0;", "r", "f", TO_F32(from_signed(I(0)), RM))
CASE(cvt_f32_u32, "cvt.rn.f32.u32 %d0, %a0;", "r", "f", TO_F32(from_unsigned(U(0)), RN))
CASE(cvt_f32_u32_rp, "cvt.rp.f32.u32 %d0, %a0;", "r", "f", TO_F32(from_unsigned(U(0)), RP))
CASE(cvt_f32_s64, "cvt.rn.f32.s64 %d0, %a0;", "l", "f", TO_F32(from_signed(S(0)), RN))
CASE(cvt_f32_u64, "cvt.rn.f32.u64 %d0, %a0;", "l", "f", TO_F32(from_unsigned(L(0)), RN))
CASE(cvt_f32_u16, "cvt.rn.f32.u16 %d0, %a0;", "h", "f", TO_F32(U16(0), RN))
CASE(cvt_f32_s16, "cvt.rn.f32.s16 %d0, %a0;", "h", "f", TO_F32(I16(0), RN))
CASE(cvt_f32_u8, "cvt.rn.f32.u8 %d0, %a0;", "r", "f", TO_F32(U(0) & 0xff, RN))
CASE(cvt_f32_s8, "cvt.rn.f32.s8 %d0, %a0;", "r", "f", TO_F32((int8_t)U(0), RN))
CASE(cvt_f16_s32, "cvt.rn.f16.s32 %d0, %a0;", "r", "H", TO_F16(from_signed(I(0)), RN))
CASE(cvt_f16_u16, "cvt.rn.f16.u16 %d0, %a0;", "h", "H", TO_F16(U16(0), RN))
CASE(cvt_f16_s16_rz, "cvt.rz.f16.s16 %d0, %a0;", "h", "H", TO_F16(I16(0), RZ))
CASE(cvt_f16_u8, "cvt.rn.f16.u8 %d0, %a0;", "r", "H", TO_F16(U(0) & 0xff, RN))
CASE(cvt_f64_s32, "cvt.rn.f64.s32 %d0, %a0;", "r", "d", TO_F64(I(0)))
CASE(cvt_f64_u64, "cvt.rn.f64.u64 %d0, %a0;", "l", "d", TO_F64((double)L(0)))
CASE(cvt_u32_u16, "cvt.u32.u16 %d0, %a0;", "h", "r", R(U16(0)))
CASE(cvt_s32_s16, "cvt.s32.s16 %d0, %a0;", "h", "r", R(I16(0)))
CASE(cvt_s32_s8, "cvt.s32.s8 %d0, %a0;", "r", "r", R((int8_t)U(0)))
CASE(cvt_u32_u8, "cvt.u32.u8 %d0, %a0;", "r", "r", R(U(0) & 0xff))
CASE(cvt_u16_u32, "cvt.u16.u32 %d0, %a0;", "r", "h", R16(U(0)))
CASE(cvt_u8_u32, "cvt.u8.u32 %d0, %a0;", "r", "r", R(U(0) & 0xff))
CASE(cvt_s8_s32, "cvt.s8.s32 %d0, %a0;", "r", "r", R((int8_t)U(0)))
CASE(cvt_u64_u32, "cvt.u64.u32 %d0, %a0;", "r", "l", R64(U(0)))
CASE(cvt_s64_s32, "cvt.s64.s32 %d0, %a0;", "r", "l", R64((int64_t)I(0)))
CASE(cvt_u32_u64, "cvt.u32.u64 %d0, %a0;", "l", "r", R(L(0)))
CASE(cvt_s64_s16, "cvt.s64.s16 %d0, %a0;", "h", "l", R64((int64_t)I16(0)))
CASE(cvt_u16_u8, "cvt.u16.u8 %d0, %a0;", "h", "h", R16(U(0) & 0xff))
CASE(cvt_s16_s8, "cvt.s16.s8 %d0, %a0;", "h", "h", R16((int8_t)U(0)))
CASE(cvt_sat_s8_s32, "cvt.sat.s8.s32 %d0, %a0;", "r", "r", R(clamped(I(0), -128, 127)))
CASE(cvt_sat_u8_s32, "cvt.sat.u8.s32 %d0, %a0;", "r", "r", R(clamped(I(0), 0, 255)))
CASE(cvt_sat_u16_s32, "cvt.sat.u16.s32 %d0, %a0;", "r", "h", R16(clamped(I(0), 0, 65535)))
CASE(cvt_sat_s16_s32, "cvt.sat.s16.s32 %d0, %a0;", "r", "h", R16(clamped(I(0), -32768, 32767)))
CASE(cvt_sat_s32_s64, "cvt.sat.s32.s64 %d0, %a0;", "l", "r", R(clamped(S(0), INT32_MIN, INT32_MAX)))
CASE(cvt_sat_u32_s32, "cvt.sat.u32.s32 %d0, %a0;", "r", "r", R(I(0) < 0 ? 0 : I(0)))
CASE(cvt_sat_s32_u32, "cvt.sat.s32.u32 %d0, %a0;", "r", "r", R(U(0) > INT32_MAX ? (uint32_t)INT32_MAX : U(0)))
CASE_SM89(cvt_e4m3x2_f32_sm89, "cvt.rn.satfinite.e4m3x2.f32 %d0, %a0, %a1;", "ff", "h",
     R16(saturated(F(1), &ptx_e4m3) | saturated(F(0), &ptx_e4m3) << 8))
CASE_SM89(cvt_e4m3x2_f32_relu, "cvt.rn.satfinite.relu.e4m3x2.f32 %d0, %a0, %a1;", "ff", "h",
     R16(saturated(ptx_relu(F(1)), &ptx_e4m3) | saturated(ptx_relu(F(0)), &ptx_e4m3) << 8))
CASE_SM89(cvt_e4m3x2_f16x2, "cvt.rn.satfinite.e4m3x2.f16x2 %d0, %a0;", "P", "h",
     R16(saturated(H(0), &ptx_e4m3) | saturated(HIGH(0), &ptx_e4m3) << 8))
CASE_SM89(cvt_f16x2_e4m3x2, "cvt.rn.f16x2.e4m3x2 %d0, %a0;", "e", "P",
     R(narrow(E4M3(0, 0), &ptx_f16, RN) | narrow(E4M3(0, 1), &ptx_f16, RN) << 16))
CASE_SM89(cvt_e5m2x2_f32, "cvt.rn.satfinite.e5m2x2.f32 %d0, %a0, %a1;", "ff", "h",
     R16(saturated(F(1), &ptx_e5m2) | saturated(F(0), &ptx_e5m2) << 8))
CASE_SM89(cvt_f16x2_e5m2x2, "cvt.rn.f16x2.e5m2x2 %d0, %a0;", "e", "P",
     R(narrow(E5M2(0, 0), &ptx_f16, RN) | narrow(E5M2(0, 1), &ptx_f16, RN) << 16))
CASE(cvta_shared, "cvt.u64.u32 %l0, %lane_shared; cvta.shared.u64 %l1, %l0; cvta.to.shared.u64 %l2, %l1; cvt.u32.u64 %d0, %l2;"
     "sub.u32 %d0, %d0, %lane_shared; isspacep.shared %p0, %l1; isspacep.global %p1, %l1; selp.b32 %d1, 1, 0, %p0;"
     "selp.b32 %d2, 1, 0, %p1;", "", "rrr", d[0] = 0; d[1] = 1; d[2] = 0)
CASE(cvta_global, "cvta.to.global.u64 %l0, %lane_scratch; cvta.global.u64 %l1, %l0; sub.s64 %d0, %l1, %lane_scratch;"
     "isspacep.global %p0, %l1; isspacep.local %p1, %l1; selp.b32 %d1, 1, 0, %p0; selp.b32 %d2, 1, 0, %p1;", "", "lrr",
     d[0] = 0; d[1] = 1; d[2] = 0)
CASE(cvta_local, "isspacep.local %p0, %lane_local; isspacep.shared %p1, %lane_local; selp.b32 %d0, 1, 0, %p0;"
     "selp.b32 %d1, 1, 0, %p1;", "", "rr", d[0] = 1; d[1] = 0)
CASE(cvt_rna_tf32_f32, "cvt.rna.tf32.f32 %d0, %a0;", "u", "r", R((U(0) + 0x1000) & 0xffffe000))
CASE(cvt_f32_s32_sat, "cvt.rn.sat.f32.s32 %d0, %a0;", "r", "f", TO_F32(ptx_saturate(I(0)), RN))
CASE(cvt_u16_s8, "cvt.u16.s8 %d0, %a0;", "h", "h", R16((int8_t)U(0)))
CASE(cvt_u32_s16, "cvt.u32.s16 %d0, %a0;", "h", "r", R(I16(0)))
CASE(cvt_u64_s32, "cvt.u64.s32 %d0, %a0;", "r", "l", R64((int64_t)I(0)))
CASE(cvt_s32_u16, "cvt.s32.u16 %d0, %a0;", "h", "r", R(U16(0)))
CASE(cvt_s64_u8, "cvt.s64.u8 %d0, %a0;", "r", "l", R64(U(0) & 0xff))
CASE(cvt_u64_s8, "cvt.u64.s8 %d0, %a0;", "r", "l", R64((int64_t)(int8_t)U(0)))
CASE(cvt_s16_u64, "cvt.s16.u64 %d0, %a0;", "l", "h", R16(L(0)))
CASE(cvt_f16_u64, "cvt.rn.f16.u64 %d0, %a0;", "l", "H", TO_F16(from_unsigned(L(0)), RN))
// clang-format on
