/* Scalar conversions between number formats, each with a single rounding. Conversions to f16, bf16 and fp8
 * turn a NaN into the canonical NaN of the format, as NVIDIA GPUs do (PTX ISA, "Floating-Point
 * Instructions"). Conversions from f16, bf16 and e5m2 keep the bits of a NaN. */
#ifndef SIM_NUMBER_H
#define SIM_NUMBER_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum sim_rounding { SIM_RN, SIM_RZ, SIM_RM, SIM_RP, SIM_RNA };

static inline float sim_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t sim_float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline double sim_double(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, 8);
    return d;
}

static inline uint64_t sim_double_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, 8);
    return bits;
}

/* This function and the next three have no branches, so that loops over lanes vectorize. */
static inline float sim_half_to_float(uint32_t h)
{
    uint32_t magnitude = (h & 0x7fff) << 13;
    uint32_t bits = sim_float_bits(sim_float(magnitude) * 0x1p112f);
    bits |= (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    return sim_float(bits | (h & 0x8000) << 16);
}

static inline uint32_t sim_float_to_half(float f)
{
    uint32_t bits = sim_float_bits(f), sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    uint32_t normal = (bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13;
    uint32_t tiny = sim_float_bits(sim_float(bits) + 0.5f) - 0x3f000000u;
    uint32_t h = bits < 0x38800000u ? tiny : normal;
    h = bits >= 0x477ff000u ? 0x7c00u : h; /* 65520 and more round to infinity */
    return bits > 0x7f800000u ? 0x7fffu : h | sign;
}

static inline float sim_bfloat_to_float(uint32_t b)
{
    return sim_float(b << 16);
}

static inline uint32_t sim_float_to_bfloat(float f)
{
    uint32_t bits = sim_float_bits(f);
    uint32_t b = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000u ? 0x7fffu : b;
}

/* Rounds to a format that has infinities, with `mantissa` and `exponent` bits: 10 and 5 for f16, 7 and 8
 * for bf16, 2 and 5 for e5m2. */
static inline uint32_t sim_narrow(double x, int mantissa, int exponent, enum sim_rounding rounding)
{
    uint64_t bits = sim_double_bits(x);
    uint32_t sign = (uint32_t)(bits >> 63) << (mantissa + exponent);
    uint32_t infinity = ((1u << exponent) - 1) << mantissa;
    int e = (int)(bits >> 52 & 0x7ff), bias = (1 << (exponent - 1)) - 1;
    uint64_t significand = bits & ((1ull << 52) - 1);
    if (e == 0x7ff)
        return significand ? infinity | ((1u << mantissa) - 1) : sign | infinity;
    if (e)
        significand |= 1ull << 52;
    e -= e ? 1023 : 1022;
    int shift = 52 - mantissa + (e < 1 - bias ? 1 - bias - e : 0);
    if (shift > 63)
        shift = 63;
    uint64_t q = significand >> shift, rest = significand & ((1ull << shift) - 1),
             half = 1ull << (shift - 1);
    int up = 0;
    switch (rounding) {
    case SIM_RN:
        up = rest > half || (rest == half && (q & 1));
        break;
    case SIM_RNA:
        up = rest >= half;
        break;
    case SIM_RZ:
        break;
    case SIM_RM:
        up = rest && sign;
        break;
    case SIM_RP:
        up = rest && !sign;
        break;
    }
    uint64_t result = q + (uint64_t)up;
    if (e >= 1 - bias)
        result += (uint64_t)(e + bias - 1) << mantissa;
    if (result >= infinity) {
        int to_infinity = rounding == SIM_RN || rounding == SIM_RNA || (rounding == SIM_RM && sign) ||
                          (rounding == SIM_RP && !sign);
        result = to_infinity ? infinity : infinity - 1;
    }
    return sign | (uint32_t)result;
}

/* Conversions to fp8 saturate to the largest finite value, because in PTX they always have .satfinite. e4m3
 * has no infinity. The codes that other formats of 4 exponent bits would use for infinity and NaN are its
 * numbers 256 to 448, except the last code, which is its NaN. */
static inline uint32_t sim_to_e4m3(double x)
{
    if (x != x)
        return 0x7f;
    uint32_t sign = signbit(x) ? 0x80 : 0;
    double magnitude = fabs(x);
    if (magnitude >= 448)
        return sign | 0x7e;
    if (magnitude >= 248) { /* sim_narrow would overflow, so half the number is rounded, and 8 is added to
                               its exponent bits */
        uint32_t code = sim_narrow(magnitude / 2, 3, 4, SIM_RN) + 8;
        return sign | (code > 0x7e ? 0x7e : code);
    }
    return sign | sim_narrow(magnitude, 3, 4, SIM_RN);
}

/* Moved to where f16 has them, the bits of an e4m3 number mean that number divided by 2^8. */
static inline float sim_from_e4m3(uint32_t b)
{
    float f = sim_half_to_float((b & 0x80) << 8 | (b & 0x7f) << 7) * 256;
    return (b & 0x7f) == 0x7f ? sim_float(0x7fffffff) : f;
}

static inline uint32_t sim_to_e5m2(double x)
{
    uint32_t r = sim_narrow(x, 2, 5, SIM_RN);
    if (x != x)
        return 0x7f;
    return (r & 0x7f) >= 0x7c ? (r & 0x80) | 0x7b : r;
}

static inline float sim_from_e5m2(uint32_t b)
{
    return sim_half_to_float(b << 8);
}

#endif
