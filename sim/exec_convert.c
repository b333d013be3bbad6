/* Executes cvt between any two types, one lane at a time. */
#include "exec.h"
#include "number.h"
#include "warp.h"

#include <fenv.h>

/* A value on its way from one type to another. Integers stay integers, since f64 does not hold all of
 * them. */
struct value {
    bool is_float, is_signed;
    double f;
    uint64_t i;
};

static bool is_integer(enum ptx_type t)
{
    return t >= PTX_U8 && t <= PTX_S64;
}

static struct value decode_value(enum ptx_type type, uint64_t bits)
{
    struct value v = {.is_float = true};
    switch (type) {
    case PTX_F16:
        v.f = (double)sim_half_to_float((uint32_t)bits & 0xffff);
        return v;
    case PTX_BF16:
        v.f = (double)sim_bfloat_to_float((uint32_t)bits & 0xffff);
        return v;
    case PTX_F32:
        v.f = (double)sim_float((uint32_t)bits);
        return v;
    case PTX_F64:
        v.f = sim_double(bits);
        return v;
    default:
        break;
    }
    int n = ptx_type_bits(type);
    v.is_float = false;
    v.is_signed = type >= PTX_S8;
    v.i = n == 64 ? bits : bits & ((1ull << n) - 1);
    if (v.is_signed && n < 64 && v.i >> (n - 1) & 1)
        v.i |= ~0ull << n;
    return v;
}

static double round_integral(double x, int rounding)
{
    return rounding == SIM_CVT_RNI   ? rint(x)
           : rounding == SIM_CVT_RZI ? trunc(x)
           : rounding == SIM_CVT_RMI ? floor(x)
                                     : ceil(x);
}

/* Floats that are out of range are clamped. NaN becomes 0, or 1 << (bits - 1) if one of the two types has
 * 64 bits (PTX ISA, cvt). */
static uint64_t float_to_integer(enum ptx_type to, bool from_64, double x, int rounding)
{
    int n = ptx_type_bits(to);
    bool is_signed = to >= PTX_S8;
    if (x != x)
        return from_64 || n == 64 ? 1ull << (n - 1) : 0;
    x = round_integral(x, rounding);
    double top = ldexp(1, is_signed ? n - 1 : n), bottom = is_signed ? -top : 0;
    uint64_t most = is_signed ? (1ull << (n - 1)) - 1 : n == 64 ? ~0ull : (1ull << n) - 1;
    if (x >= top)
        return most;
    if (x <= bottom)
        return is_signed ? ~most : 0;
    return x < 0 ? (uint64_t)(int64_t)x : (uint64_t)x;
}

static uint64_t saturate_integer(enum ptx_type to, struct value v)
{
    int n = ptx_type_bits(to);
    bool to_signed = to >= PTX_S8, negative = v.is_signed && (int64_t)v.i < 0;
    uint64_t most = to_signed ? (1ull << (n - 1)) - 1 : n == 64 ? ~0ull : (1ull << n) - 1;
    if (negative)
        return !to_signed ? 0 : (int64_t)v.i < (int64_t)~most ? ~most : v.i;
    return v.i > most ? most : v.i;
}

static int host_rounding(int rounding)
{
    return rounding == SIM_CVT_RZ   ? FE_TOWARDZERO
           : rounding == SIM_CVT_RM ? FE_DOWNWARD
           : rounding == SIM_CVT_RP ? FE_UPWARD
                                    : FE_TONEAREST;
}

/* These conversions depend on the host's rounding mode, so the compiler must not fold or move them. */
static __attribute__((noinline)) float narrow_double(volatile double x)
{
    return (float)x;
}

static __attribute__((noinline)) float integer_to_float(const struct value *v)
{
    volatile uint64_t i = v->i;
    return v->is_signed ? (float)(int64_t)i : (float)i;
}

static __attribute__((noinline)) double integer_to_double(const struct value *v)
{
    volatile uint64_t i = v->i;
    return v->is_signed ? (double)(int64_t)i : (double)i;
}

/* Converts exactly, or rounds to odd, so that the rounding that follows acts as the only one. */
static double integer_as_double(const struct value *v)
{
    fesetround(FE_TOWARDZERO);
    double d = integer_to_double(v);
    fesetround(FE_TONEAREST);
    bool exact = v->is_signed ? (int64_t)d == (int64_t)v->i : d < 0x1p64 && (uint64_t)d == v->i;
    return exact ? d : sim_double(sim_double_bits(d) | 1);
}

static uint64_t to_tf32(float f, int rounding)
{
    uint32_t bits = sim_float_bits(f);
    if (f != f)
        return 0x7fffffff;
    uint32_t add = rounding == SIM_CVT_RNA ? 0x1000 : rounding == SIM_CVT_RN ? 0xfff + (bits >> 13 & 1) : 0;
    return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + add) & ~0x1fffu;
}

static uint64_t to_f32(struct value v, int rounding)
{
    fesetround(host_rounding(rounding));
    float f = v.is_float ? narrow_double(v.f) : integer_to_float(&v);
    fesetround(FE_TONEAREST);
    return f != f ? 0x7fffffff : sim_float_bits(f);
}

static uint64_t to_f64(struct value v, int rounding)
{
    fesetround(host_rounding(rounding));
    double d = v.is_float ? v.f : integer_to_double(&v);
    fesetround(FE_TONEAREST);
    return sim_double_bits(d);
}

static uint64_t to_half(enum ptx_type to, struct value v, int rounding)
{
    double d = v.is_float ? v.f : integer_as_double(&v);
    enum sim_rounding r = rounding > SIM_CVT_RP ? SIM_RN : (enum sim_rounding)rounding;
    if (d != d)
        return 0x7fff;
    return to == PTX_F16 ? sim_narrow(d, 10, 5, r) : sim_narrow(d, 7, 8, r);
}

static double flush(double x, enum ptx_type type)
{
    return type == PTX_F32 && fabs(x) < 0x1p-126 ? copysign(0, x) : x;
}

static uint64_t convert(enum ptx_type to, enum ptx_type from, int rounding, int flags, uint64_t bits)
{
    struct value v = decode_value(from, bits);
    if (v.is_float && flags & SIM_CONVERT_FTZ)
        v.f = flush(v.f, from);
    if (is_integer(to)) {
        if (v.is_float)
            return float_to_integer(to, from == PTX_F64, v.f, rounding);
        return flags & SIM_CONVERT_SAT ? saturate_integer(to, v) : v.i;
    }
    if (v.is_float && rounding >= SIM_CVT_RNI && rounding <= SIM_CVT_RPI)
        v.f = round_integral(v.f, rounding);
    if (flags & SIM_CONVERT_SAT) {
        if (!v.is_float)
            v = (struct value){.is_float = true,
                               .f = v.is_signed && (int64_t)v.i < 0 ? 0
                                    : v.i > 1                       ? 1
                                                                    : (double)v.i};
        v.f = v.f > 0 ? (v.f < 1 ? v.f : 1) : 0;
    }
    if (flags & SIM_CONVERT_RELU && v.is_float && (v.f < 0 || (v.f == 0 && signbit(v.f))))
        v.f = 0;
    switch (to) {
    case PTX_F32: {
        uint64_t r = to_f32(v, rounding);
        return flags & SIM_CONVERT_FTZ && !(r & 0x7f800000) ? r & 0x80000000 : r;
    }
    case PTX_F64:
        return to_f64(v, rounding);
    case PTX_TF32:
        return to_tf32(sim_float((uint32_t)bits), rounding);
    default:
        return to_half(to, v, rounding);
    }
}

/* ---------------------------------------------------------------- pairs */

static uint32_t to_fp8(enum ptx_type to, double x)
{
    return to == PTX_E4M3X2 ? sim_to_e4m3(x) : sim_to_e5m2(x);
}

static uint64_t convert_pair(const sim_instruction *in, uint64_t high, uint64_t low)
{
    enum ptx_type to = in->x[0], from = in->x[1];
    int flags = in->x[3];
    if (from == PTX_E4M3X2 || from == PTX_E5M2X2) {
        uint32_t r = 0;
        for (int i = 0; i < 2; i++) {
            uint32_t b = (uint32_t)high >> 8 * i & 0xff;
            float f = from == PTX_E4M3X2 ? sim_from_e4m3(b) : sim_from_e5m2(b);
            uint32_t h = flags & SIM_CONVERT_RELU && f < 0 ? 0 : sim_float_to_half(f);
            r |= h << 16 * i;
        }
        return r;
    }
    double x[2];
    if (from == PTX_F16X2) {
        x[0] = (double)sim_half_to_float((uint32_t)high & 0xffff);
        x[1] = (double)sim_half_to_float((uint32_t)high >> 16);
    } else {
        x[0] = (double)sim_float((uint32_t)low);
        x[1] = (double)sim_float((uint32_t)high);
    }
    uint32_t r[2];
    for (int i = 0; i < 2; i++) {
        if (flags & SIM_CONVERT_RELU && (x[i] < 0 || (x[i] == 0 && signbit(x[i]))))
            x[i] = 0;
        struct value v = {.is_float = true, .f = x[i]};
        r[i] = to == PTX_F16X2    ? (uint32_t)to_half(PTX_F16, v, in->x[2])
               : to == PTX_BF16X2 ? (uint32_t)to_half(PTX_BF16, v, in->x[2])
                                  : to_fp8(to, x[i]);
    }
    return to == PTX_F16X2 || to == PTX_BF16X2 ? r[0] | r[1] << 16 : r[0] | r[1] << 8;
}

static uint64_t extend_result(enum ptx_type to, uint64_t r, int register_bits)
{
    int n = ptx_type_bits(to);
    if (n < 64) {
        r &= (1ull << n) - 1;
        if (to >= PTX_S8 && to <= PTX_S64 && r >> (n - 1) & 1)
            r |= ~0ull << n;
    }
    return register_bits == 16 ? r & 0xffff : register_bits == 32 ? r & 0xffffffff : r;
}

enum sim_outcome sim_exec_convert(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    enum ptx_type to = in->x[0], from = in->x[1];
    bool pair = in->x[3] & SIM_CONVERT_PAIR || from == PTX_F16X2 || to == PTX_F16X2;
    bool wide = ptx_type_bits(from) == 64;
    const void *a = sim_at(warp, in->a);
    const uint32_t *b = sim_at(warp, in->b);
    uint64_t d[32] = {0};
    uint32_t narrow[32];
    for (int i = 0; i < 32; i++) {
        uint64_t bits = wide ? ((const uint64_t *)a)[i] : ((const uint32_t *)a)[i];
        uint64_t r = pair ? convert_pair(in, bits, b[i]) : convert(to, from, in->x[2], in->x[3], bits);
        d[i] = extend_result(to, r, in->x[4]);
        narrow[i] = (uint32_t)d[i];
    }
    if (in->x[4] == 64)
        sim_write_64(warp, in->d, d, mask);
    else
        sim_write_32(warp, in->d, narrow, mask);
    return SIM_NEXT;
}
