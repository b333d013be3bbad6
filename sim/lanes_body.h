/* The arithmetic of 32 lanes at once. This file is compiled once for each instruction-set level
 * (lanes_*.c). Every function is elementwise over vectors of 32 elements. An element is a 32-bit slot, in
 * which a value of 16 bits is zero-extended, or a 64-bit slot. A vector of predicates is one uint32_t, with
 * a bit for each lane. The destination may be one of the sources.
 *
 * Results of fp32 and half arithmetic that are NaN are canonical, as the hardware's are. neg, abs and
 * copysign change the sign bit alone, even of a NaN. */
#include "lanes.h"
#include "number.h"

#include <stdbool.h>
#include <stdlib.h>

/* A loop over lanes. No iteration depends on another, even where d is one of the sources. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* some loops call libm */
#define LANES _Pragma("clang loop vectorize(assume_safety)") for (int i = 0; i < 32; i++)
#else
#define LANES _Pragma("GCC ivdep") for (int i = 0; i < 32; i++)
#endif
#define UNUSED __attribute__((unused))
#define FUNCTION(name)                                                                                     \
    static void name(void *d_, UNUSED const void *a_, UNUSED const void *b_, UNUSED const void *c_,        \
                     UNUSED uint64_t immediate)

/* D: type that is stored; S: type of the slots that are read; V: type that operands are first cast to. */
#define UNARY(name, D, S, V, expression)                                                                   \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        D *d = d_;                                                                                         \
        const S *a = a_;                                                                                   \
        LANES                                                                                              \
        {                                                                                                  \
            V x = (V)a[i];                                                                                 \
            d[i] = (D)(expression);                                                                        \
        }                                                                                                  \
    }
#define BINARY(name, D, S, V, expression)                                                                  \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        D *d = d_;                                                                                         \
        const S *a = a_, *b = b_;                                                                          \
        LANES                                                                                              \
        {                                                                                                  \
            UNUSED V x = (V)a[i], y = (V)b[i];                                                             \
            d[i] = (D)(expression);                                                                        \
        }                                                                                                  \
    }
/* The third operand has a type C of its own: in wide multiply-adds it is as wide as the destination. */
#define TERNARY(name, D, S, V, C, expression)                                                              \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        D *d = d_;                                                                                         \
        const S *a = a_, *b = b_;                                                                          \
        const C *c = c_;                                                                                   \
        LANES                                                                                              \
        {                                                                                                  \
            UNUSED V x = (V)a[i], y = (V)b[i];                                                             \
            C z = c[i];                                                                                    \
            d[i] = (D)(expression);                                                                        \
        }                                                                                                  \
    }
#define COMPARE(name, S, V, expression)                                                                    \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        const S *a = a_, *b = b_;                                                                          \
        uint32_t bits = 0;                                                                                 \
        for (int i = 0; i < 32; i++) {                                                                     \
            UNUSED V x = (V)a[i], y = (V)b[i];                                                             \
            bits |= (uint32_t)(expression) << i;                                                           \
        }                                                                                                  \
        *(uint32_t *)d_ = bits;                                                                            \
    }

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

/* ---------------------------------------------------------------- integers */

#define BINARY_SIZES(name, expression)                                                                     \
    BINARY(name##_16, u32, u32, u32, (u16)(expression))                                                    \
    BINARY(name##_32, u32, u32, u32, expression)                                                           \
    BINARY(name##_64, u64, u64, u64, expression)
#define BINARY_TYPES(name, expression)                                                                     \
    BINARY(name##_u16, u32, u32, u16, (u16)(expression))                                                   \
    BINARY(name##_s16, u32, u32, s16, (u16)(expression))                                                   \
    BINARY(name##_u32, u32, u32, u32, expression)                                                          \
    BINARY(name##_s32, u32, u32, s32, expression)                                                          \
    BINARY(name##_u64, u64, u64, u64, expression)                                                          \
    BINARY(name##_s64, u64, u64, s64, expression)

BINARY_SIZES(add, x + y)
BINARY_SIZES(sub, x - y)
BINARY(mul_lo_16, u32, u32, u32, (u16)(x *y))
BINARY(mul_lo_32, u32, u32, u32, x *y)
BINARY(mul_lo_64, u64, u64, u64, x *y)
BINARY(mul_hi_u16, u32, u32, u16, (u16)((u32)x *y >> 16))
BINARY(mul_hi_s16, u32, u32, s16, (u16)((u32)((s32)x *y) >> 16))
BINARY(mul_hi_u32, u32, u32, u32, (u64)x *y >> 32)
BINARY(mul_hi_s32, u32, u32, s32, (u64)((s64)x *y) >> 32)
BINARY(mul_hi_u64, u64, u64, u64, (u128)x *y >> 64)
BINARY(mul_hi_s64, u64, u64, s64, (u128)((s128)x *y) >> 64)
BINARY(mul_wide_u16, u32, u32, u16, (u32)x *y)
BINARY(mul_wide_s16, u32, u32, s16, (s32)x *y)
BINARY(mul_wide_u32, u64, u32, u32, (u64)x *y)
BINARY(mul_wide_s32, u64, u32, s32, (s64)x *y)
TERNARY(mad_lo_16, u32, u32, u32, u32, (u16)(x *y + z))
TERNARY(mad_lo_32, u32, u32, u32, u32, x *y + z)
TERNARY(mad_lo_64, u64, u64, u64, u64, x *y + z)
TERNARY(mad_hi_u32, u32, u32, u32, u32, (u32)((u64)x *y >> 32) + z)
TERNARY(mad_hi_s32, u32, u32, s32, u32, (u32)((u64)((s64)x *y) >> 32) + z)
TERNARY(mad_hi_u64, u64, u64, u64, u64, (u64)((u128)x *y >> 64) + z)
TERNARY(mad_hi_s64, u64, u64, s64, u64, (u64)((u128)((s128)x *y) >> 64) + z)
TERNARY(mad_wide_u16, u32, u32, u16, u32, (u32)x *y + z)
TERNARY(mad_wide_s16, u32, u32, s16, u32, (u32)((s32)x *y) + z)
TERNARY(mad_wide_u32, u64, u32, u32, u64, (u64)x *y + z)
TERNARY(mad_wide_s32, u64, u32, s32, u64, (u64)((s64)x *y) + z)
#define U24(x) ((u64)((x)&0xffffff))
#define S24(x) ((s64)((s32)((u32)(x) << 8) >> 8))
BINARY(mul24_lo_u32, u32, u32, u32, U24(x) * U24(y))
BINARY(mul24_lo_s32, u32, u32, u32, (u64)(S24(x) * S24(y)))
BINARY(mul24_hi_u32, u32, u32, u32, U24(x) * U24(y) >> 16)
BINARY(mul24_hi_s32, u32, u32, u32, (u64)(S24(x) * S24(y)) >> 16)
TERNARY(mad24_lo_u32, u32, u32, u32, u32, U24(x) * U24(y) + z)
TERNARY(mad24_lo_s32, u32, u32, u32, u32, (u64)(S24(x) * S24(y)) + z)
TERNARY(mad24_hi_u32, u32, u32, u32, u32, (U24(x) * U24(y) >> 16) + z)
TERNARY(mad24_hi_s32, u32, u32, u32, u32, ((u64)(S24(x) * S24(y)) >> 16) + z)
TERNARY(sad_u16, u32, u32, u16, u32, (u16)((x > y ? x - y : y - x) + z))
TERNARY(sad_s16, u32, u32, s16, u32, (u16)((x > y ? x - y : y - x) + (s32)z))
TERNARY(sad_u32, u32, u32, u32, u32, (x > y ? x - y : y - x) + z)
TERNARY(sad_s32, u32, u32, s32, u32, (x > y ? (u32)x - (u32)y : (u32)y - (u32)x) + z)
TERNARY(sad_u64, u64, u64, u64, u64, (x > y ? x - y : y - x) + z)
TERNARY(sad_s64, u64, u64, s64, u64, (x > y ? (u64)x - (u64)y : (u64)y - (u64)x) + z)
/* PTX does not specify division by zero. Here the quotient is all ones and the remainder is x, as on
 * hardware. */
static inline u64 quotient_unsigned(u64 x, u64 y)
{
    return y ? x / y : ~(u64)0;
}
static inline u64 quotient_signed(s64 x, s64 y)
{
    return y == 0 ? ~(u64)0 : y == -1 ? 0 - (u64)x : (u64)(x / y);
}
static inline u64 remainder_unsigned(u64 x, u64 y)
{
    return y ? x % y : x;
}
static inline u64 remainder_signed(s64 x, s64 y)
{
    return y == 0 ? (u64)x : y == -1 ? 0 : (u64)(x % y);
}
BINARY(div_u16, u32, u32, u16, (u16)quotient_unsigned(x, y))
BINARY(div_s16, u32, u32, s16, (u16)quotient_signed(x, y))
BINARY(div_u32, u32, u32, u32, y ? x / y : ~0u)
BINARY(div_s32, u32, u32, s32, quotient_signed(x, y))
BINARY(div_u64, u64, u64, u64, quotient_unsigned(x, y))
BINARY(div_s64, u64, u64, s64, quotient_signed(x, y))
BINARY(rem_u16, u32, u32, u16, (u16)remainder_unsigned(x, y))
BINARY(rem_s16, u32, u32, s16, (u16)remainder_signed(x, y))
BINARY(rem_u32, u32, u32, u32, y ? x % y : x)
BINARY(rem_s32, u32, u32, s32, remainder_signed(x, y))
BINARY(rem_u64, u64, u64, u64, remainder_unsigned(x, y))
BINARY(rem_s64, u64, u64, s64, remainder_signed(x, y))
BINARY_TYPES(min, x < y ? x : y)
BINARY_TYPES(max, x > y ? x : y)
UNARY(abs_16, u32, u32, s16, (u16)(x < 0 ? -x : x))
UNARY(abs_32, u32, u32, u32, (s32)x < 0 ? 0 - x : x)
UNARY(abs_64, u64, u64, u64, (s64)x < 0 ? 0 - x : x)
UNARY(neg_16, u32, u32, u32, (u16)(0 - x))
UNARY(neg_32, u32, u32, u32, 0 - x)
UNARY(neg_64, u64, u64, u64, 0 - x)

static inline s32 saturate_s32(s64 x)
{
    return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (s32)x;
}
BINARY(add_sat_s32, u32, u32, s32, saturate_s32((s64)x + y))
BINARY(sub_sat_s32, u32, u32, s32, saturate_s32((s64)x - y))
TERNARY(mad_hi_sat_s32, u32, u32, s32, u32, saturate_s32(((s64)x * y >> 32) + (s32)z))

/* ---------------------------------------------------------------- bits */

BINARY(and_32, u32, u32, u32, x &y)
BINARY(and_64, u64, u64, u64, x &y)
BINARY(or_32, u32, u32, u32, x | y)
BINARY(or_64, u64, u64, u64, x | y)
BINARY(xor_32, u32, u32, u32, x ^ y)
BINARY(xor_64, u64, u64, u64, x ^ y)
UNARY(not_16, u32, u32, u32, x ^ 0xffff)
UNARY(not_32, u32, u32, u32, ~x)
UNARY(not_64, u64, u64, u64, ~x)
UNARY(cnot_32, u32, u32, u32, x == 0)
UNARY(cnot_64, u64, u64, u64, x == 0)

/* Shift amounts are clamped to the width. */
#define SHIFT(name, D, V, expression)                                                                      \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        D *d = d_;                                                                                         \
        const D *a = a_;                                                                                   \
        const u32 *b = b_;                                                                                 \
        LANES                                                                                              \
        {                                                                                                  \
            V x = (V)a[i];                                                                                 \
            u32 n = b[i];                                                                                  \
            d[i] = (D)(expression);                                                                        \
        }                                                                                                  \
    }
SHIFT(shl_16, u32, u16, n > 15 ? 0 : (u16)((u32)x << (n & 15)))
SHIFT(shl_32, u32, u32, n > 31 ? 0 : x << (n & 31))
SHIFT(shl_64, u64, u64, n > 63 ? 0 : x << (n & 63))
SHIFT(shr_u16, u32, u16, n > 15 ? 0 : x >> (n & 15))
SHIFT(shr_u32, u32, u32, n > 31 ? 0 : x >> (n & 31))
SHIFT(shr_u64, u64, u64, n > 63 ? 0 : x >> (n & 63))
SHIFT(shr_s16, u32, s16, (u16)(x >> (n > 15 ? 15 : n & 15)))
SHIFT(shr_s32, u32, s32, x >> (n > 31 ? 31 : n & 31))
SHIFT(shr_s64, u64, s64, x >> (n > 63 ? 63 : n & 63))
TERNARY(shf_l_wrap, u32, u32, u32, u32, ((u64)y << 32 | x) << (z & 31) >> 32)
TERNARY(shf_r_wrap, u32, u32, u32, u32, ((u64)y << 32 | x) >> (z & 31))
TERNARY(shf_l_clamp, u32, u32, u32, u32, ((u64)y << 32 | x) << (z > 32 ? 32 : z) >> 32)
TERNARY(shf_r_clamp, u32, u32, u32, u32, ((u64)y << 32 | x) >> (z > 32 ? 32 : z))

UNARY(popc_32, u32, u32, u32, __builtin_popcount(x))
UNARY(popc_64, u32, u64, u64, __builtin_popcountll(x))
UNARY(clz_32, u32, u32, u32, x ? __builtin_clz(x) : 32)
UNARY(clz_64, u32, u64, u64, x ? __builtin_clzll(x) : 64)
/* immediate: nonzero for .shiftamt */
#define FIND(x, bits, clz) ((x) == 0 ? ~0u : immediate ? (u32)clz(x) : (u32)(bits - 1 - clz(x)))
UNARY(bfind_u32, u32, u32, u32, FIND(x, 32, __builtin_clz))
UNARY(bfind_s32, u32, u32, u32, FIND((x ^ (u32)((s32)x >> 31)), 32, __builtin_clz))
UNARY(bfind_u64, u32, u64, u64, FIND(x, 64, __builtin_clzll))
UNARY(bfind_s64, u32, u64, u64, FIND((x ^ (u64)((s64)x >> 63)), 64, __builtin_clzll))

static inline u64 reverse(u64 x)
{
    x = (x >> 1 & 0x5555555555555555) | (x & 0x5555555555555555) << 1;
    x = (x >> 2 & 0x3333333333333333) | (x & 0x3333333333333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0f) | (x & 0x0f0f0f0f0f0f0f0f) << 4;
    return __builtin_bswap64(x);
}
UNARY(brev_32, u32, u32, u32, reverse(x) >> 32)
UNARY(brev_64, u64, u64, u64, reverse(x))

/* Bits of the result beyond the field are 0 or the sign (PTX ISA, bfe). */
static inline u64 field(u64 x, u32 position, u32 length, u32 width, bool is_signed)
{
    position &= 255;
    length &= 255;
    u32 sign_at = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
    u64 sign = is_signed && length && (x >> sign_at & 1) ? ~(u64)0 : 0;
    u64 shifted = position < width ? x >> position : 0;
    u32 have = position >= width ? 0 : width - position;
    u32 keep = length < have ? length : have;
    u64 mask = keep >= 64 ? ~(u64)0 : ((u64)1 << keep) - 1;
    return (shifted & mask) | (sign & ~mask);
}
#define FIELD(name, D, width, is_signed)                                                                   \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        D *d = d_;                                                                                         \
        const D *a = a_;                                                                                   \
        const u32 *b = b_, *c = c_;                                                                        \
        for (int i = 0; i < 32; i++)                                                                       \
            d[i] = (D)field(a[i], b[i], c[i], width, is_signed);                                           \
    }
FIELD(bfe_u32, u32, 32, false)
FIELD(bfe_s32, u32, 32, true)
FIELD(bfe_u64, u64, 64, false)
FIELD(bfe_s64, u64, 64, true)

/* bfi f, a, b, c, d: c is the position, and d the length. `immediate` points to the lengths. */
#define INSERT(name, D, width)                                                                             \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        D *d = d_;                                                                                         \
        const D *a = a_, *b = b_;                                                                          \
        const u32 *c = c_, *n = (const u32 *)(uintptr_t)immediate;                                         \
        for (int i = 0; i < 32; i++) {                                                                     \
            u32 position = c[i] & 255, length = n[i] & 255;                                                \
            u64 mask = length >= 64 ? ~(u64)0 : ((u64)1 << length) - 1;                                    \
            mask = position < width ? mask << position : 0;                                                \
            u64 value = position < width ? (u64)a[i] << position : 0;                                      \
            d[i] = (D)((b[i] & ~mask) | (value & mask));                                                   \
        }                                                                                                  \
    }
INSERT(bfi_32, u32, 32)
INSERT(bfi_64, u64, 64)

/* immediate: the truth table */
FUNCTION(lop3_32)
{
    u32 *d = d_;
    const u32 *a = a_, *b = b_, *c = c_;
    u32 m[8];
    for (int k = 0; k < 8; k++)
        m[k] = 0u - (u32)(immediate >> k & 1);
    LANES
    {
        u32 x = a[i], y = b[i], z = c[i];
        u32 low = (~x & ((~y & ((~z & m[0]) | (z & m[1]))) | (y & ((~z & m[2]) | (z & m[3])))));
        u32 high = (x & ((~y & ((~z & m[4]) | (z & m[5]))) | (y & ((~z & m[6]) | (z & m[7])))));
        d[i] = low | high;
    }
}

/* Each nibble of the selector says which of eight bytes to take, and whether to spread the byte's sign
 * instead. */
static inline u32 permute(u64 bytes, u32 selector)
{
    u32 r = 0;
    for (int k = 0; k < 4; k++) {
        u32 s = selector >> 4 * k;
        u32 byte = (u32)(bytes >> 8 * (s & 7)) & 0xff;
        u32 sign = (0u - (byte >> 7)) & 0xff;
        r |= (s & 8 ? sign : byte) << 8 * k;
    }
    return r;
}
static const u16 backward[4] = {0x5670, 0x6701, 0x7012, 0x0123};
static const u16 edge_left[4] = {0x3210, 0x3211, 0x3222, 0x3333};
static const u16 edge_right[4] = {0x0000, 0x1110, 0x2210, 0x3210};
TERNARY(prmt_32, u32, u32, u32, u32, permute((u64)y << 32 | x, z))
TERNARY(prmt_f4e, u32, u32, u32, u32, ((u64)y << 32 | x) >> 8 * (z & 3))
TERNARY(prmt_b4e, u32, u32, u32, u32, permute((u64)y << 32 | x, backward[z & 3]))
TERNARY(prmt_rc8, u32, u32, u32, u32, (x >> 8 * (z & 3) & 0xff) * 0x01010101u)
TERNARY(prmt_ecl, u32, u32, u32, u32, permute(x, edge_left[z & 3]))
TERNARY(prmt_ecr, u32, u32, u32, u32, permute(x, edge_right[z & 3]))
TERNARY(prmt_rc16, u32, u32, u32, u32, (x >> 16 * (z & 1) & 0xffff) * 0x00010001u)

static inline u32 dot4(u32 x, u32 y, bool xs, bool ys)
{
    s32 sum = 0;
    for (int k = 0; k < 32; k += 8) {
        s32 p = xs ? (int8_t)(x >> k) : (uint8_t)(x >> k), q = ys ? (int8_t)(y >> k) : (uint8_t)(y >> k);
        sum += p * q;
    }
    return (u32)sum;
}
static inline u32 dot2(u32 x, u32 y, bool xs, bool ys, int first)
{
    s32 sum = 0;
    for (int k = 0; k < 2; k++) {
        s32 p = xs ? (int16_t)(x >> 16 * k) : (uint16_t)(x >> 16 * k);
        u32 byte = y >> 8 * (first + k);
        s32 q = ys ? (int8_t)byte : (uint8_t)byte;
        sum += (s32)((u32)p * (u32)q);
    }
    return (u32)sum;
}
/* immediate: bit 0, a is signed; bit 1, b is signed; bit 2, .hi */
TERNARY(dp4a, u32, u32, u32, u32, dot4(x, y, immediate & 1, immediate >> 1 & 1) + z)
TERNARY(dp2a, u32, u32, u32, u32, dot2(x, y, immediate & 1, immediate >> 1 & 1, immediate & 4 ? 2 : 0) + z)

static inline u32 nth_set(u32 mask, u32 base, s32 offset)
{
    if (offset == 0)
        return base < 32 && mask >> base & 1 ? base : ~0u;
    int step = offset > 0 ? 1 : -1, left = offset > 0 ? offset : -offset;
    for (int at = (int)base; at >= 0 && at < 32; at += step)
        if (mask >> at & 1 && --left == 0)
            return (u32)at;
    return ~0u;
}
TERNARY(fns_32, u32, u32, u32, u32, nth_set(x, y, (s32)z))

/* ---------------------------------------------------------------- moves and widening */

UNARY(mov_32, u32, u32, u32, x)
UNARY(mov_64, u64, u64, u64, x)
UNARY(low_16, u32, u32, u32, x & 0xffff)
UNARY(high_16, u32, u32, u32, x >> 16)
UNARY(low_32, u32, u64, u64, x)
UNARY(high_32, u32, u64, u64, x >> 32)
UNARY(part_16, u32, u64, u64, x >> immediate & 0xffff)
BINARY(pack_16, u32, u32, u32, (x & 0xffff) | y << 16)
BINARY(pack_32, u64, u32, u32, x | (u64)y << 32)
UNARY(low_8, u32, u32, u32, x & 0xff)
UNARY(extend_s8_16, u32, u32, int8_t, (u16)x)
UNARY(extend_s8_32, u32, u32, int8_t, (s32)x)
UNARY(extend_s16_32, u32, u32, s16, (s32)x)
UNARY(extend_u8_64, u64, u32, uint8_t, x)
UNARY(extend_s8_64, u64, u32, int8_t, (s64)x)
UNARY(extend_u16_64, u64, u32, u16, x)
UNARY(extend_s16_64, u64, u32, s16, (s64)x)
UNARY(extend_u32_64, u64, u32, u32, x)
UNARY(extend_s32_64, u64, u32, s32, (s64)x)

#define SELECT(name, T)                                                                                    \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        T *d = d_;                                                                                         \
        const T *a = a_, *b = b_;                                                                          \
        u32 p = *(const u32 *)c_;                                                                          \
        LANES d[i] = p >> i & 1 ? a[i] : b[i];                                                             \
    }
SELECT(selp_32, u32)
SELECT(selp_64, u64)
#define SELECT_SIGN(name, T, condition)                                                                    \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        T *d = d_;                                                                                         \
        const T *a = a_, *b = b_;                                                                          \
        const u32 *c = c_;                                                                                 \
        LANES d[i] = (condition) ? a[i] : b[i];                                                            \
    }
SELECT_SIGN(slct_32_s32, u32, (s32)c[i] >= 0)
SELECT_SIGN(slct_32_f32, u32, sim_float(c[i]) >= 0)
SELECT_SIGN(slct_64_s32, u64, (s32)c[i] >= 0)
SELECT_SIGN(slct_64_f32, u64, sim_float(c[i]) >= 0)

#define PREDICATE(name, expression)                                                                        \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        UNUSED u32 x = *(const u32 *)a_, y = *(const u32 *)b_;                                             \
        *(u32 *)d_ = expression;                                                                           \
    }
PREDICATE(and_pred, x &y)
PREDICATE(or_pred, x | y)
PREDICATE(xor_pred, x ^ y)
PREDICATE(not_pred, ~x)
PREDICATE(mov_pred, x)

/* ---------------------------------------------------------------- comparisons */

#define COMPARE_ORDER(name, S, V)                                                                          \
    COMPARE(lt_##name, S, V, x < y)                                                                        \
    COMPARE(le_##name, S, V, x <= y)                                                                       \
    COMPARE(gt_##name, S, V, x > y)                                                                        \
    COMPARE(ge_##name, S, V, x >= y)
COMPARE(eq_32, u32, u32, x == y)
COMPARE(ne_32, u32, u32, x != y)
COMPARE(eq_64, u64, u64, x == y)
COMPARE(ne_64, u64, u64, x != y)
COMPARE_ORDER(u32, u32, u32)
COMPARE_ORDER(s32, u32, s32)
COMPARE_ORDER(s16, u32, s16)
COMPARE_ORDER(u64, u64, u64)
COMPARE_ORDER(s64, u64, s64)
#define COMPARE_FLOAT(name, T)                                                                             \
    COMPARE(eq_##name, T, T, x == y)                                                                       \
    COMPARE(ne_##name, T, T, (x < y) | (x > y))                                                            \
    COMPARE_ORDER(name, T, T)                                                                              \
    COMPARE(equ_##name, T, T, !((x < y) | (x > y)))                                                        \
    COMPARE(neu_##name, T, T, x != y)                                                                      \
    COMPARE(ltu_##name, T, T, !(x >= y))                                                                   \
    COMPARE(leu_##name, T, T, !(x > y))                                                                    \
    COMPARE(gtu_##name, T, T, !(x <= y))                                                                   \
    COMPARE(geu_##name, T, T, !(x < y))                                                                    \
    COMPARE(num_##name, T, T, (x == x) & (y == y))                                                         \
    COMPARE(nan_##name, T, T, (x != x) | (y != y))
COMPARE_FLOAT(f32, float)
COMPARE_FLOAT(f64, double)

/* ---------------------------------------------------------------- fp32 and fp64 */

static inline u32 canonical(float r)
{
    return r != r ? 0x7fffffffu : sim_float_bits(r);
}
#define FLOAT_1(name, expression)  UNARY(name##_f32, u32, float, float, canonical(expression))
#define FLOAT_2(name, expression)  BINARY(name##_f32, u32, float, float, canonical(expression))
#define DOUBLE_1(name, expression) UNARY(name##_f64, double, double, double, expression)
#define DOUBLE_2(name, expression) BINARY(name##_f64, double, double, double, expression)

FLOAT_2(add, x + y)
FLOAT_2(sub, x - y)
FLOAT_2(mul, x *y)
FLOAT_2(div, x / y)
TERNARY(fma_f32, u32, float, float, float, canonical(__builtin_fmaf(x, y, z)))
DOUBLE_2(add, x + y)
DOUBLE_2(sub, x - y)
DOUBLE_2(mul, x *y)
DOUBLE_2(div, x / y)
TERNARY(fma_f64, double, double, double, double, __builtin_fma(x, y, z))
FLOAT_1(rcp, 1.0f / x)
FLOAT_1(sqrt, sqrtf(x))
FLOAT_1(rsqrt, (float)(1.0 / sqrt((double)x)))
DOUBLE_1(rcp, 1.0 / x)
DOUBLE_1(sqrt, sqrt(x))
DOUBLE_1(rsqrt, 1.0 / sqrt(x))
UNARY(neg_f32, u32, u32, u32, x ^ 0x80000000u)
UNARY(abs_f32, u32, u32, u32, x & 0x7fffffffu)
UNARY(neg_f64, u64, u64, u64, x ^ (u64)1 << 63)
UNARY(abs_f64, u64, u64, u64, x & ~((u64)1 << 63))
BINARY(copysign_f32, u32, u32, u32, (y & 0x7fffffffu) | (x & 0x80000000u))
BINARY(copysign_f64, u64, u64, u64, (y & ~((u64)1 << 63)) | (x & (u64)1 << 63))

/* -0 is below +0. A NaN loses against a number, or wins where `nan` is set. With `flip` ~0 this is the
 * maximum. */
static inline u32 minimum(u32 a, u32 b, u32 flip, bool nan)
{
    float x = sim_float(a), y = sim_float(b);
    s32 p = (s32)(a ^ ((u32)((s32)a >> 31) >> 1)), q = (s32)(b ^ ((u32)((s32)b >> 31) >> 1));
    u32 r = (p ^ (s32)flip) < (q ^ (s32)flip) ? a : b;
    u32 unordered = nan || (x != x && y != y) ? 0x7fffffffu : x != x ? b : a;
    return x != x || y != y ? unordered : r;
}
BINARY(min_f32, u32, u32, u32, minimum(x, y, 0, false))
BINARY(max_f32, u32, u32, u32, minimum(x, y, ~0u, false))
BINARY(min_nan_f32, u32, u32, u32, minimum(x, y, 0, true))
BINARY(max_nan_f32, u32, u32, u32, minimum(x, y, ~0u, true))
/* The minimum of the magnitudes, with the sign of the product. With `flip` ~0 this is the maximum. */
static inline u32 minimum_xorsign(u32 a, u32 b, u32 flip, bool nan)
{
    u32 r = minimum(a & 0x7fffffffu, b & 0x7fffffffu, flip, nan);
    return r > 0x7f800000u ? r : (r & 0x7fffffffu) | ((a ^ b) & 0x80000000u);
}
BINARY(min_xorsign_f32, u32, u32, u32, minimum_xorsign(x, y, 0, false))
BINARY(max_xorsign_f32, u32, u32, u32, minimum_xorsign(x, y, ~0u, false))
BINARY(min_nan_xorsign_f32, u32, u32, u32, minimum_xorsign(x, y, 0, true))
BINARY(max_nan_xorsign_f32, u32, u32, u32, minimum_xorsign(x, y, ~0u, true))
DOUBLE_2(min, x != x ? y : y != y ? x : x == y ? (signbit(x) ? x : y) : x < y ? x : y)
DOUBLE_2(max, x != x ? y : y != y ? x : x == y ? (signbit(x) ? y : x) : x > y ? x : y)

static inline float divide_approx(float x, float y)
{
    float magnitude = fabsf(y);
    return magnitude > 0x1p126f && magnitude < INFINITY
               ? (isinf(x) || x != x ? NAN : copysignf(0, x) * copysignf(1, y))
               : x / y;
}
FLOAT_2(div_approx, divide_approx(x, y))
FLOAT_1(ex2, exp2f(x))
FLOAT_1(lg2, log2f(x))
FLOAT_1(sin, sinf(x))
FLOAT_1(cos, cosf(x))
FLOAT_1(tanh, tanhf(x))
/* Subnormals are flushed in operands and results, and the low half of the result is zero. */
static inline double flush_double(double x)
{
    return fabs(x) < 0x1p-1022 ? copysign(0, x) : x;
}
static inline double upper_half(double x)
{
    return x != x ? x : sim_double(sim_double_bits(flush_double(x)) & ~(u64)0xffffffff);
}
DOUBLE_1(rcp_ftz, upper_half(1.0 / flush_double(x)))
DOUBLE_1(rsqrt_ftz, upper_half(1.0 / sqrt(flush_double(x))))

/* testp; immediate: enum lane_test */
static inline u32 test(double x, bool normal, u64 what)
{
    switch (what) {
    case LANE_TEST_FINITE:
        return (u32) !!isfinite(x);
    case LANE_TEST_INFINITE:
        return (u32) !!isinf(x);
    case LANE_TEST_NUMBER:
        return x == x;
    case LANE_TEST_NAN:
        return x != x;
    case LANE_TEST_NORMAL:
        return isfinite(x) && x != 0 && normal;
    default:
        return x != 0 && !normal && isfinite(x);
    }
}
#define TEST(name, T, least)                                                                               \
    FUNCTION(name)                                                                                         \
    {                                                                                                      \
        const T *a = a_;                                                                                   \
        u32 bits = 0;                                                                                      \
        for (int i = 0; i < 32; i++)                                                                       \
            bits |= test((double)a[i], fabs((double)a[i]) >= least, immediate) << i;                       \
        *(u32 *)d_ = bits;                                                                                 \
    }
TEST(testp_f32, float, 0x1p-126)
TEST(testp_f64, double, 0x1p-1022)

/* ---------------------------------------------------------------- f16 and bf16 */

/* f32 has enough bits (24 >= 2 * 11 + 2) that add, sub and mul of f16 may be rounded to f32 and then to
 * f16. The product of an fma is exact in f32. Its sum is rounded to odd in f32, so that the rounding to f16
 * acts as the only one. */
static inline float sum_to_odd(float p, float z)
{
    float s = p + z;
    float v = s - p;
    float e = (p - (s - v)) + (z - v);
    u32 bits = sim_float_bits(s);
    u32 away = (e > 0) == (s > 0) ? 1u : ~0u;
    u32 inexact = (e > 0) | (e < 0);
    return sim_float(inexact & ~bits & 1 ? bits + away : bits);
}
static inline u32 fma_half(u32 a, u32 b, u32 c)
{
    return sim_float_to_half(sum_to_odd(sim_half_to_float(a) * sim_half_to_float(b), sim_half_to_float(c)));
}
/* bf16 has the range of f32, so the same is done in f64, where products of bf16 are exact and nothing
 * underflows. */
static inline u32 narrow_bfloat(double s)
{
    return sim_narrow(s, 7, 8, SIM_RN);
}
static inline u32 fma_bfloat(u32 a, u32 b, u32 c)
{
    double p = (double)sim_bfloat_to_float(a) * sim_bfloat_to_float(b), z = sim_bfloat_to_float(c);
    double s = p + z, v = s - p, e = (p - (s - v)) + (z - v);
    u64 bits = sim_double_bits(s);
    if ((e > 0 || e < 0) && !(bits & 1))
        bits += (e > 0) == (s > 0) ? 1 : ~(u64)0;
    return narrow_bfloat(sim_double(bits));
}
static inline u32 minimum_16(u32 a, u32 b, u32 flip, bool nan, u32 infinity)
{
    bool xn = (a & 0x7fff) > infinity, yn = (b & 0x7fff) > infinity;
    s32 p = (s16)(a ^ (u16)((s16)a >> 15 & 0x7fff)), q = (s16)(b ^ (u16)((s16)b >> 15 & 0x7fff));
    u32 r = (p ^ (s32)flip) < (q ^ (s32)flip) ? a : b;
    u32 unordered = nan || (xn && yn) ? 0x7fffu : xn ? b : a;
    return xn || yn ? unordered : r;
}
/* These make a function on one element, and one on both halves of a word. */
#define HALF_1(name, type, expression)                                                                     \
    static inline u32 scalar_##name##_##type(u32 x)                                                        \
    {                                                                                                      \
        return expression;                                                                                 \
    }                                                                                                      \
    UNARY(name##_##type, u32, u32, u32, scalar_##name##_##type(x))                                         \
    UNARY(name##_##type##x2, u32, u32, u32,                                                                \
          scalar_##name##_##type(x & 0xffff) | scalar_##name##_##type(x >> 16) << 16)
#define HALF_2_ONE(name, type, expression)                                                                 \
    static inline u32 scalar_##name##_##type(u32 x, u32 y)                                                 \
    {                                                                                                      \
        return expression;                                                                                 \
    }                                                                                                      \
    BINARY(name##_##type, u32, u32, u32, scalar_##name##_##type(x, y))
#define HALF_2(name, type, expression)                                                                     \
    HALF_2_ONE(name, type, expression)                                                                     \
    BINARY(name##_##type##x2, u32, u32, u32,                                                               \
           scalar_##name##_##type(x & 0xffff, y & 0xffff) | scalar_##name##_##type(x >> 16, y >> 16)       \
                                                                << 16)
#define HALF_3_ONE(name, type, expression)                                                                 \
    static inline u32 scalar_##name##_##type(u32 x, u32 y, u32 z)                                          \
    {                                                                                                      \
        return expression;                                                                                 \
    }                                                                                                      \
    TERNARY(name##_##type, u32, u32, u32, u32, scalar_##name##_##type(x, y, z))
#define HALF_3(name, type, expression)                                                                     \
    HALF_3_ONE(name, type, expression)                                                                     \
    TERNARY(name##_##type##x2, u32, u32, u32, u32,                                                         \
            scalar_##name##_##type(x & 0xffff, y & 0xffff, z & 0xffff) |                                   \
                scalar_##name##_##type(x >> 16, y >> 16, z >> 16) << 16)
#define H(x) sim_half_to_float(x)
#define B(x) ((double)sim_bfloat_to_float(x))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
HALF_2_ONE(add, f16, sim_float_to_half(H(x) + H(y)))
HALF_2_ONE(sub, f16, sim_float_to_half(H(x) - H(y)))
HALF_2_ONE(mul, f16, sim_float_to_half(H(x) * H(y)))
HALF_3_ONE(fma, f16, fma_half(x, y, z))
#include "lanes_half.h"
#else
HALF_2(add, f16, sim_float_to_half(H(x) + H(y)))
HALF_2(sub, f16, sim_float_to_half(H(x) - H(y)))
HALF_2(mul, f16, sim_float_to_half(H(x) * H(y)))
HALF_3(fma, f16, fma_half(x, y, z))
#endif
HALF_1(neg, f16, x ^ 0x8000)
HALF_1(abs, f16, x & 0x7fff)
HALF_2(min, f16, minimum_16(x, y, 0, false, 0x7c00))
HALF_2(max, f16, minimum_16(x, y, ~0u, false, 0x7c00))
HALF_2(min_nan, f16, minimum_16(x, y, 0, true, 0x7c00))
HALF_2(max_nan, f16, minimum_16(x, y, ~0u, true, 0x7c00))
HALF_1(ex2, f16, sim_narrow(exp2((double)H(x)), 10, 5, SIM_RN))
HALF_1(tanh, f16, sim_narrow(tanh((double)H(x)), 10, 5, SIM_RN))
/* If f64 cannot hold a sum of bf16, the exponents differ by more than 44. fma_bfloat rounds it to odd. */
HALF_2(add, bf16, fma_bfloat(x, 0x3f80, y))
HALF_2(sub, bf16, fma_bfloat(y, 0xbf80, x))
HALF_2(mul, bf16, narrow_bfloat(B(x) * B(y)))
HALF_3(fma, bf16, fma_bfloat(x, y, z))
HALF_1(neg, bf16, x ^ 0x8000)
HALF_1(abs, bf16, x & 0x7fff)
HALF_2(min, bf16, minimum_16(x, y, 0, false, 0x7f80))
HALF_2(max, bf16, minimum_16(x, y, ~0u, false, 0x7f80))
HALF_2(min_nan, bf16, minimum_16(x, y, 0, true, 0x7f80))
HALF_2(max_nan, bf16, minimum_16(x, y, ~0u, true, 0x7f80))
HALF_1(ex2, bf16, narrow_bfloat(exp2(B(x))))
HALF_1(tanh, bf16, narrow_bfloat(tanh(B(x))))

/* ---------------------------------------------------------------- conversions with a path of their own */

UNARY(cvt_f32_f16, u32, u32, u32,
      sim_float_bits(sim_half_to_float(x)) | ((x & 0x7fff) > 0x7c00 ? 0x7fffffffu : 0))
UNARY(cvt_f16_f32, u32, float, float, sim_float_to_half(x))
BINARY(cvt_f16x2_f32, u32, float, float, sim_float_to_half(y) | sim_float_to_half(x) << 16)
UNARY(cvt_f32_bf16, u32, u32, u32, (x & 0x7fff) > 0x7f80 ? 0x7fffffffu : x << 16)
UNARY(cvt_bf16_f32, u32, float, float, sim_float_to_bfloat(x))
BINARY(cvt_bf16x2_f32, u32, float, float, sim_float_to_bfloat(y) | sim_float_to_bfloat(x) << 16)
UNARY(cvt_f32_s32, float, s32, s32, (float)x)
UNARY(cvt_f32_u32, float, u32, u32, (float)x)
UNARY(cvt_f64_f32, double, float, float, x)
UNARY(cvt_f32_f64, u32, double, double, canonical((float)x))
UNARY(cvt_f64_s32, double, s32, s32, x)
UNARY(cvt_f64_u32, double, u32, u32, x)
UNARY(cvt_f64_s64, double, s64, s64, (double)x)
UNARY(cvt_f64_u64, double, u64, u64, (double)x)
UNARY(cvt_f32_s64, float, s64, s64, (float)x)
UNARY(cvt_f32_u64, float, u64, u64, (float)x)
UNARY(cvt_rni_f32, u32, float, float, canonical(rintf(x)))
/* Saturates to the range of s32; NaN becomes 0. */
#define TO_S32(r) ((r) >= 0x1p31f ? INT32_MAX : (r) < -0x1p31f ? INT32_MIN : (r) != (r) ? 0 : (s32)(r))
UNARY(cvt_rzi_s32_f32, s32, float, float, TO_S32(x))
UNARY(cvt_rni_s32_f32, s32, float, float, TO_S32(rintf(x)))

/* ---------------------------------------------------------------- for the interpreter */

/* d = mask ? a : d. immediate: the mask */
FUNCTION(blend_32)
{
    u32 *d = d_;
    const u32 *a = a_;
    u32 p = (u32)immediate;
    LANES d[i] = p >> i & 1 ? a[i] : d[i];
}
FUNCTION(blend_64)
{
    u64 *d = d_;
    const u64 *a = a_;
    u32 p = (u32)immediate;
    LANES d[i] = p >> i & 1 ? a[i] : d[i];
}
/* Subnormals become zero with the same sign. */
UNARY(flush_f32, u32, u32, u32, x & 0x7f800000u ? x : x & 0x80000000u)
HALF_1(flush, f16, x & 0x7c00 ? x : x & 0x8000)
/* Clamps to [0, 1]; NaN becomes 0. */
UNARY(saturate_f32, u32, float, float, x > 0 ? sim_float_bits(x < 1 ? x : 1.0f) : 0)
UNARY(saturate_f64, double, double, double, x > 0 ? (x < 1 ? x : 1.0) : 0)
HALF_1(saturate, f16, (x & 0x8000) || x > 0x7c00 ? 0 : x > 0x3c00 ? 0x3c00 : x)
HALF_1(saturate, bf16, (x & 0x8000) || x > 0x7f80 ? 0 : x > 0x3f80 ? 0x3f80 : x)
/* Negative numbers become 0, and a NaN becomes canonical. */
HALF_1(relu, f16, (x & 0x7fff) > 0x7c00 ? 0x7fff : x & 0x8000 ? 0 : x)
HALF_1(relu, bf16, (x & 0x7fff) > 0x7f80 ? 0x7fff : x & 0x8000 ? 0 : x)

#include "exec_body.h"
#include "lanes_matrix.h"

#define ROW(name) [LANE_##name] = name,
const struct sim_lanes SIM_LANES_NAME = {
    {LANE_FUNCTIONS(ROW)},
    {[LANE_MATRIX_F16] = matrix_f16,
     [LANE_MATRIX_BF16] = matrix_bf16,
     [LANE_MATRIX_E4M3] = matrix_e4m3,
     [LANE_MATRIX_E5M2] = matrix_e5m2},
    {[LANE_MATRIX_F16] = matrix_f16_pair,
     [LANE_MATRIX_BF16] = matrix_bf16_pair,
     [LANE_MATRIX_E4M3] = matrix_e4m3_pair,
     [LANE_MATRIX_E5M2] = matrix_e5m2_pair},
    &handlers,
};
