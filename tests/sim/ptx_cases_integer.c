/* Integer and logic instructions, selects, moves and predicates: PTX ISA 9.7.1, 9.7.2, 9.7.5 - 9.7.9. */
#include "ptx_harness.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

static uint64_t clamp(s128 value, s128 low, s128 high)
{
    return (uint64_t)(value < low ? low : value > high ? high : value);
}

static unsigned popcount(uint64_t x)
{
    unsigned count = 0;
    for (; x; x >>= 1)
        count += x & 1;
    return count;
}

static unsigned leading_zeros(uint64_t x, unsigned width)
{
    unsigned count = 0;
    while (count < width && !(x >> (width - 1 - count) & 1))
        count++;
    return count;
}

static uint64_t reverse(uint64_t x, unsigned width)
{
    uint64_t result = 0;
    for (unsigned i = 0; i < width; i++)
        result |= (x >> i & 1) << (width - 1 - i);
    return result;
}

/* Position of the highest bit that differs from the sign bit, or the shift that moves it to the top; all
 * ones if there is none. */
static uint32_t find_bit(uint64_t x, unsigned width, bool is_signed, bool shift_amount)
{
    if (is_signed && x >> (width - 1) & 1)
        x = ~x;
    unsigned zeros = leading_zeros(x, width);
    if (zeros >= width)
        return 0xffffffff;
    return shift_amount ? zeros : width - 1 - zeros;
}

/* The instruction bfe, from the pseudocode of PTX ISA 9.7.1.18. */
static uint64_t extract(uint64_t x, uint32_t position, uint32_t length, unsigned width, bool is_signed)
{
    position &= 0xff;
    length &= 0xff;
    unsigned top = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
    uint64_t sign = !is_signed || length == 0 ? 0 : x >> top & 1;
    uint64_t result = 0;
    for (unsigned i = 0; i < width; i++) {
        uint64_t bit = i < length && position + i < width ? x >> (position + i) & 1 : sign;
        result |= bit << i;
    }
    return result;
}

static uint64_t insert(uint64_t from, uint64_t into, uint32_t position, uint32_t length, unsigned width)
{
    position &= 0xff;
    length &= 0xff;
    for (unsigned i = 0; i < length && position + i < width; i++) {
        into &= ~(1ull << (position + i));
        into |= (from >> i & 1) << (position + i);
    }
    return into;
}

static uint32_t lookup(uint32_t a, uint32_t b, uint32_t c, unsigned table)
{
    uint32_t result = 0;
    for (int i = 0; i < 32; i++) {
        unsigned index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
        result |= (table >> index & 1) << i;
    }
    return result;
}

static uint32_t byte_of(uint32_t a, uint32_t b, unsigned selector)
{
    uint64_t all = (uint64_t)b << 32 | a;
    uint32_t byte = all >> (selector & 7) * 8 & 0xff;
    return selector & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
}

static uint32_t permute(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t result = 0;
    for (int i = 0; i < 4; i++)
        result |= byte_of(a, b, c >> i * 4 & 15) << i * 8;
    return result;
}

/* The special modes of prmt (PTX ISA 9.7.9.7). `selectors` is a row of its table, most significant byte
 * first. */
static uint32_t permute_mode(uint32_t a, uint32_t b, uint32_t c, const char *const selectors[4])
{
    const char *of = selectors[c & 3];
    uint32_t result = 0;
    for (int i = 0; i < 4; i++)
        result = result << 8 | byte_of(a, b, (unsigned)(of[i] - '0'));
    return result;
}
static const char *const mode_f4e[] = {"3210", "4321", "5432", "6543"};
static const char *const mode_b4e[] = {"5670", "6701", "7012", "0123"};
static const char *const mode_rc8[] = {"0000", "1111", "2222", "3333"};
static const char *const mode_ecl[] = {"3210", "3211", "3222", "3333"};
static const char *const mode_ecr[] = {"0000", "1110", "2210", "3210"};
static const char *const mode_rc16[] = {"1010", "3232", "1010", "3232"};

static uint32_t funnel_left(uint32_t low, uint32_t high, uint32_t n)
{
    return (uint32_t)((((u128)high << 32 | low) << n) >> 32);
}

static uint32_t funnel_right(uint32_t low, uint32_t high, uint32_t n)
{
    return (uint32_t)(((u128)high << 32 | low) >> n);
}

static uint32_t dot4(uint32_t a, bool a_signed, uint32_t b, bool b_signed, uint32_t c)
{
    for (int i = 0; i < 4; i++) {
        int x = a >> i * 8 & 0xff, y = b >> i * 8 & 0xff;
        c += (uint32_t)((a_signed ? (int8_t)x : x) * (b_signed ? (int8_t)y : y));
    }
    return c;
}

static uint32_t dot2(uint32_t a, bool a_signed, uint32_t b, bool b_signed, uint32_t c, int first)
{
    for (int i = 0; i < 2; i++) {
        int x = a >> i * 16 & 0xffff, y = b >> (first + i) * 8 & 0xff;
        c += (uint32_t)((a_signed ? (int16_t)x : x) * (b_signed ? (int8_t)y : y));
    }
    return c;
}

static uint64_t absolute_difference(s128 x, s128 y)
{
    return (uint64_t)(x > y ? x - y : y - x);
}

/* The instruction fns: the n-th set bit from `base` on, upwards for n > 0 and downwards for n < 0. For n ==
 * 0 it is bit `base` itself, if that is set. */
static uint32_t nth_set(uint32_t mask, uint32_t base, int32_t n)
{
    if (n == 0)
        return mask >> base & 1 ? base : 0xffffffff;
    int step = n > 0 ? 1 : -1, left = n > 0 ? n : -n;
    for (int i = (int)base; i >= 0 && i < 32; i += step)
        if (mask >> i & 1 && --left == 0)
            return (uint32_t)i;
    return 0xffffffff;
}

#define DIVIDE(type, x, y) ((type)((y) == -1 ? -(s128)(x) : (s128)((x) / (y))))
#define MODULO(type, x, y) ((type)((y) == -1 ? 0 : (x) % (y)))

#define SIGN24(i) ((int64_t)(int32_t)(U(i) << 8) >> 8)
#define SELECT(type, inputs, output, mask)                                                                 \
    CASE(selp_##type, "setp.ne.u32 %p0, %a2, 0; selp." #type " %d0, %a0, %a1, %p0;", inputs, output,       \
         d[0] = (U(2) ? L(0) : L(1)) & mask)
#define SLCT(type, inputs, float_inputs, output)                                                           \
    CASE(slct_##type##_s32, "slct." #type ".s32 %d0, %a0, %a1, %a2;", inputs, output,                      \
         d[0] = I(2) >= 0 ? L(0) : L(1))                                                                   \
    CASE(slct_##type##_f32, "slct." #type ".f32 %d0, %a0, %a1, %a2;", float_inputs, output,                \
         d[0] = F(2) >= 0 ? L(0) : L(1))

// clang-format off
CASE(add_s32, "add.s32 %d0, %a0, %a1;", "rr", "r", R(U(0) + U(1)))
CASE(add_u32, "add.u32 %d0, %a0, %a1;", "rr", "r", R(U(0) + U(1)))
CASE(add_immediate, "add.s32 %d0, %a0, -12345;", "r", "r", R(U(0) - 12345))
CASE(add_hexadecimal, "add.s32 %d0, %a0, 0xDEADBEEF;", "r", "r", R(U(0) + 0xdeadbeef))
CASE(add_sat_s32, "add.sat.s32 %d0, %a0, %a1;", "rr", "r", R(clamp((s128)I(0) + I(1), INT32_MIN, INT32_MAX)))
CASE(add_s16, "add.s16 %d0, %a0, %a1;", "hh", "h", R16(U(0) + U(1)))
CASE(add_u16, "add.u16 %d0, %a0, %a1;", "hh", "h", R16(U(0) + U(1)))
CASE(add_s64, "add.s64 %d0, %a0, %a1;", "ll", "l", R64(L(0) + L(1)))
CASE(add_u64, "add.u64 %d0, %a0, %a1;", "ll", "l", R64(L(0) + L(1)))
CASE(sub_s32, "sub.s32 %d0, %a0, %a1;", "rr", "r", R(U(0) - U(1)))
CASE(sub_u32, "sub.u32 %d0, %a0, %a1;", "rr", "r", R(U(0) - U(1)))
CASE(sub_from_immediate, "sub.s32 %d0, 7, %a0;", "r", "r", R(7 - U(0)))
CASE(sub_sat_s32, "sub.sat.s32 %d0, %a0, %a1;", "rr", "r", R(clamp((s128)I(0) - I(1), INT32_MIN, INT32_MAX)))
CASE(sub_s16, "sub.s16 %d0, %a0, %a1;", "hh", "h", R16(U(0) - U(1)))
CASE(sub_s64, "sub.s64 %d0, %a0, %a1;", "ll", "l", R64(L(0) - L(1)))
CASE(sub_u64, "sub.u64 %d0, %a0, %a1;", "ll", "l", R64(L(0) - L(1)))
CASE(add_carry, "add.cc.u32 %d0, %a0, %a2; addc.cc.u32 %d1, %a1, %a3; addc.u32 %d2, 0, 0;", "rrrr", "rrr",
     u128 sum = ((u128)U(1) << 32 | U(0)) + ((u128)U(3) << 32 | U(2));
     d[0] = (uint32_t)sum; d[1] = (uint32_t)(sum >> 32); d[2] = (uint64_t)(sum >> 64))
CASE(add_carry_64, "add.cc.u64 %d0, %a0, %a2; addc.u64 %d1, %a1, %a3;", "llll", "ll",
     u128 sum = ((u128)L(1) << 64 | L(0)) + ((u128)L(3) << 64 | L(2));
     d[0] = (uint64_t)sum; d[1] = (uint64_t)(sum >> 64))
CASE(sub_borrow, "sub.cc.u32 %d0, %a0, %a2; subc.u32 %d1, %a1, %a3;", "rrrr", "rr",
     uint64_t rest = (L(1) << 32 | L(0)) - (L(3) << 32 | L(2));
     d[0] = (uint32_t)rest; d[1] = rest >> 32)
CASE(sub_borrow_chain, "sub.cc.u32 %d0, %a0, %a2; subc.cc.u32 %d1, %a1, %a3; subc.u32 %d2, %a0, 0;", "rrrr", "rrr",
     u128 rest = ((u128)U(1) << 32 | U(0)) - ((u128)U(3) << 32 | U(2));
     d[0] = (uint32_t)rest; d[1] = (uint32_t)(rest >> 32); d[2] = (uint32_t)(U(0) - (rest >> 64 ? 1 : 0)))
CASE(mad_carry, "mad.lo.cc.u32 %d0, %a0, %a1, %a2; madc.hi.u32 %d1, %a0, %a1, %a3;", "rrrr", "rr",
     u128 sum = (u128)U(0) * U(1) + ((u128)U(3) << 32) + U(2);
     d[0] = (uint32_t)sum; d[1] = (uint32_t)(sum >> 32))
CASE(mad_hi_carry, "mad.hi.cc.u32 %d0, %a0, %a1, %a2; addc.u32 %d1, 0, 0;", "rrr", "rr",
     uint64_t sum = ((uint64_t)U(0) * U(1) >> 32) + U(2);
     d[0] = (uint32_t)sum; d[1] = sum >> 32)
CASE(mul_lo_s32, "mul.lo.s32 %d0, %a0, %a1;", "rr", "r", R(U(0) * U(1)))
CASE(mul_lo_u32, "mul.lo.u32 %d0, %a0, %a1;", "rr", "r", R(U(0) * U(1)))
CASE(mul_hi_s32, "mul.hi.s32 %d0, %a0, %a1;", "rr", "r", R(((s128)I(0) * I(1)) >> 32))
CASE(mul_hi_u32, "mul.hi.u32 %d0, %a0, %a1;", "rr", "r", R((L(0) * L(1)) >> 32))
CASE(mul_lo_s64, "mul.lo.s64 %d0, %a0, %a1;", "ll", "l", R64(L(0) * L(1)))
CASE(mul_hi_s64, "mul.hi.s64 %d0, %a0, %a1;", "ll", "l", R64(((s128)S(0) * S(1)) >> 64))
CASE(mul_hi_u64, "mul.hi.u64 %d0, %a0, %a1;", "ll", "l", R64(((u128)L(0) * L(1)) >> 64))
CASE(mul_lo_s16, "mul.lo.s16 %d0, %a0, %a1;", "hh", "h", R16(U(0) * U(1)))
CASE(mul_hi_s16, "mul.hi.s16 %d0, %a0, %a1;", "hh", "h", R16((I16(0) * I16(1)) >> 16))
CASE(mul_hi_u16, "mul.hi.u16 %d0, %a0, %a1;", "hh", "h", R16(((uint32_t)U16(0) * U16(1)) >> 16))
CASE(mul_wide_s32, "mul.wide.s32 %d0, %a0, %a1;", "rr", "l", R64((int64_t)I(0) * I(1)))
CASE(mul_wide_u32, "mul.wide.u32 %d0, %a0, %a1;", "rr", "l", R64((uint64_t)U(0) * U(1)))
CASE(mul_wide_s16, "mul.wide.s16 %d0, %a0, %a1;", "hh", "r", R(I16(0) * I16(1)))
CASE(mul_wide_u16, "mul.wide.u16 %d0, %a0, %a1;", "hh", "r", R((uint32_t)U16(0) * U16(1)))
CASE(mul24_lo_s32, "mul24.lo.s32 %d0, %a0, %a1;", "rr", "r",
     R((int64_t)((int32_t)(U(0) << 8) >> 8) * ((int32_t)(U(1) << 8) >> 8)))
CASE(mul24_hi_u32, "mul24.hi.u32 %d0, %a0, %a1;", "rr", "r", R(((L(0) & 0xffffff) * (L(1) & 0xffffff)) >> 16))
CASE(mul24_lo_u32, "mul24.lo.u32 %d0, %a0, %a1;", "rr", "r", R((L(0) & 0xffffff) * (L(1) & 0xffffff)))
CASE(mad24_lo_u32, "mad24.lo.u32 %d0, %a0, %a1, %a2;", "rrr", "r",
     R((L(0) & 0xffffff) * (L(1) & 0xffffff) + L(2)))
CASE(mad_lo_s32, "mad.lo.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(U(0) * U(1) + U(2)))
CASE(mad_lo_u32, "mad.lo.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(U(0) * U(1) + U(2)))
CASE(mad_hi_s32, "mad.hi.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R((((s128)I(0) * I(1)) >> 32) + I(2)))
CASE(mad_hi_u32, "mad.hi.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(((L(0) * L(1)) >> 32) + U(2)))
CASE(mad_hi_sat_s32, "mad.hi.sat.s32 %d0, %a0, %a1, %a2;", "rrr", "r",
     R(clamp((((s128)I(0) * I(1)) >> 32) + I(2), INT32_MIN, INT32_MAX)))
CASE(mad_lo_s64, "mad.lo.s64 %d0, %a0, %a1, %a2;", "lll", "l", R64(L(0) * L(1) + L(2)))
CASE(mad_wide_s32, "mad.wide.s32 %d0, %a0, %a1, %a2;", "rrl", "l", R64((uint64_t)((int64_t)I(0) * I(1)) + L(2)))
CASE(mad_wide_u32, "mad.wide.u32 %d0, %a0, %a1, %a2;", "rrl", "l", R64((uint64_t)U(0) * U(1) + L(2)))
CASE(mad_wide_u16, "mad.wide.u16 %d0, %a0, %a1, %a2;", "hhr", "r", R((uint32_t)U16(0) * U16(1) + U(2)))
CASE(mad_lo_s16, "mad.lo.s16 %d0, %a0, %a1, %a2;", "hhh", "h", R16(U(0) * U(1) + U(2)))
CASE(sad_s32, "sad.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(absolute_difference(I(0), I(1)) + U(2)))
CASE(sad_u32, "sad.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(absolute_difference(U(0), U(1)) + U(2)))
CASE(div_s32, "div.s32 %d0, %a0, %a1;", "rz", "r", R(DIVIDE(int64_t, I(0), I(1))))
CASE(div_u32, "div.u32 %d0, %a0, %a1;", "rz", "r", R(U(0) / U(1)))
CASE(div_s64, "div.s64 %d0, %a0, %a1;", "lZ", "l", R64(DIVIDE(s128, S(0), S(1))))
CASE(div_u64, "div.u64 %d0, %a0, %a1;", "lZ", "l", R64(L(0) / L(1)))
CASE(div_u16, "{.reg .b16 %x; or.b16 %x, %a1, 1; div.u16 %d0, %a0, %x;}", "hh", "h", R16(U16(0) / (U16(1) | 1)))
CASE(div_s16, "{.reg .b16 %x; or.b16 %x, %a1, 1; div.s16 %d0, %a0, %x;}", "hh", "h",
     R16(DIVIDE(int32_t, I16(0), (int16_t)(I16(1) | 1))))
CASE(rem_s32, "rem.s32 %d0, %a0, %a1;", "rz", "r", R(MODULO(int64_t, I(0), I(1))))
CASE(rem_u32, "rem.u32 %d0, %a0, %a1;", "rz", "r", R(U(0) % U(1)))
CASE(rem_s64, "rem.s64 %d0, %a0, %a1;", "lZ", "l", R64(MODULO(s128, S(0), S(1))))
CASE(rem_u64, "rem.u64 %d0, %a0, %a1;", "lZ", "l", R64(L(0) % L(1)))
CASE(abs_s32, "abs.s32 %d0, %a0;", "r", "r", R(I(0) < 0 ? -U(0) : U(0)))
CASE(abs_s16, "abs.s16 %d0, %a0;", "h", "h", R16(I16(0) < 0 ? -I16(0) : I16(0)))
CASE(abs_s64, "abs.s64 %d0, %a0;", "l", "l", R64(S(0) < 0 ? -L(0) : L(0)))
CASE(neg_s32, "neg.s32 %d0, %a0;", "r", "r", R(-U(0)))
CASE(neg_s16, "neg.s16 %d0, %a0;", "h", "h", R16(-U(0)))
CASE(neg_s64, "neg.s64 %d0, %a0;", "l", "l", R64(-L(0)))
CASE(min_s32, "min.s32 %d0, %a0, %a1;", "rr", "r", R(I(0) < I(1) ? I(0) : I(1)))
CASE(min_u32, "min.u32 %d0, %a0, %a1;", "rr", "r", R(U(0) < U(1) ? U(0) : U(1)))
CASE(min_s16, "min.s16 %d0, %a0, %a1;", "hh", "h", R16(I16(0) < I16(1) ? I16(0) : I16(1)))
CASE(min_u16, "min.u16 %d0, %a0, %a1;", "hh", "h", R16(U16(0) < U16(1) ? U16(0) : U16(1)))
CASE(min_s64, "min.s64 %d0, %a0, %a1;", "ll", "l", R64(S(0) < S(1) ? S(0) : S(1)))
CASE(min_u64, "min.u64 %d0, %a0, %a1;", "ll", "l", R64(L(0) < L(1) ? L(0) : L(1)))
CASE(max_s32, "max.s32 %d0, %a0, %a1;", "rr", "r", R(I(0) > I(1) ? I(0) : I(1)))
CASE(max_u32, "max.u32 %d0, %a0, %a1;", "rr", "r", R(U(0) > U(1) ? U(0) : U(1)))
CASE(max_s16, "max.s16 %d0, %a0, %a1;", "hh", "h", R16(I16(0) > I16(1) ? I16(0) : I16(1)))
CASE(max_u16, "max.u16 %d0, %a0, %a1;", "hh", "h", R16(U16(0) > U16(1) ? U16(0) : U16(1)))
CASE(max_s64, "max.s64 %d0, %a0, %a1;", "ll", "l", R64(S(0) > S(1) ? S(0) : S(1)))
CASE(max_u64, "max.u64 %d0, %a0, %a1;", "ll", "l", R64(L(0) > L(1) ? L(0) : L(1)))
CASE(popc_b32, "popc.b32 %d0, %a0;", "r", "r", R(popcount(U(0))))
CASE(popc_b64, "popc.b64 %d0, %a0;", "l", "r", R(popcount(L(0))))
CASE(clz_b32, "clz.b32 %d0, %a0;", "r", "r", R(leading_zeros(U(0), 32)))
CASE(clz_b64, "clz.b64 %d0, %a0;", "l", "r", R(leading_zeros(L(0), 64)))
CASE(bfind_u32, "bfind.u32 %d0, %a0;", "r", "r", R(find_bit(U(0), 32, false, false)))
CASE(bfind_s32, "bfind.s32 %d0, %a0;", "r", "r", R(find_bit(U(0), 32, true, false)))
CASE(bfind_u64, "bfind.u64 %d0, %a0;", "l", "r", R(find_bit(L(0), 64, false, false)))
CASE(bfind_s64, "bfind.s64 %d0, %a0;", "l", "r", R(find_bit(L(0), 64, true, false)))
CASE(bfind_shiftamt, "bfind.shiftamt.u32 %d0, %a0;", "r", "r", R(find_bit(U(0), 32, false, true)))
CASE(brev_b32, "brev.b32 %d0, %a0;", "r", "r", R(reverse(U(0), 32)))
CASE(brev_b64, "brev.b64 %d0, %a0;", "l", "l", R64(reverse(L(0), 64)))
CASE(bfe_u32, "bfe.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(extract(U(0), U(1), U(2), 32, false)))
CASE(bfe_s32, "bfe.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(extract(U(0), U(1), U(2), 32, true)))
CASE(bfe_u32_short, "bfe.u32 %d0, %a0, %a1, %a2;", "rss", "r", R(extract(U(0), U(1), U(2), 32, false)))
CASE(bfe_s32_short, "bfe.s32 %d0, %a0, %a1, %a2;", "rss", "r", R(extract(U(0), U(1), U(2), 32, true)))
CASE(bfe_u64, "bfe.u64 %d0, %a0, %a1, %a2;", "lss", "l", R64(extract(L(0), U(1), U(2), 64, false)))
CASE(bfe_s64, "bfe.s64 %d0, %a0, %a1, %a2;", "lss", "l", R64(extract(L(0), U(1), U(2), 64, true)))
CASE(bfi_b32, "bfi.b32 %d0, %a0, %a1, %a2, %a3;", "rrss", "r", R(insert(U(0), U(1), U(2), U(3), 32)))
CASE(bfi_b64, "bfi.b64 %d0, %a0, %a1, %a2, %a3;", "llss", "l", R64(insert(L(0), L(1), U(2), U(3), 64)))
CASE(fns_b32, "{.reg .b32 %x; and.b32 %x, %a1, 31; fns.b32 %d0, %a0, %x, %a2;}", "rri", "r",
     R(nth_set(U(0), U(1) & 31, I(2))))
CASE(fns_near, "{.reg .b32 %x; and.b32 %x, %a1, 31; fns.b32 %d0, %a0, %x, %a2;}", "rr2", "r",
     R(nth_set(U(0), U(1) & 31, I(2))))
CASE(dp4a_s32_s32, "dp4a.s32.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot4(U(0), true, U(1), true, U(2))))
CASE(dp4a_u32_u32, "dp4a.u32.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot4(U(0), false, U(1), false, U(2))))
CASE(dp4a_u32_s32, "dp4a.u32.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot4(U(0), false, U(1), true, U(2))))
CASE(dp2a_lo_s32_s32, "dp2a.lo.s32.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), true, U(1), true, U(2), 0)))
CASE(dp2a_hi_u32_s32, "dp2a.hi.u32.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), false, U(1), true, U(2), 2)))
CASE(and_b32, "and.b32 %d0, %a0, %a1;", "rr", "r", R(U(0) & U(1)))
CASE(and_b16, "and.b16 %d0, %a0, %a1;", "hh", "h", R16(U(0) & U(1)))
CASE(and_b64, "and.b64 %d0, %a0, %a1;", "ll", "l", R64(L(0) & L(1)))
CASE(or_b32, "or.b32 %d0, %a0, %a1;", "rr", "r", R(U(0) | U(1)))
CASE(or_b16, "or.b16 %d0, %a0, %a1;", "hh", "h", R16(U(0) | U(1)))
CASE(or_b64, "or.b64 %d0, %a0, %a1;", "ll", "l", R64(L(0) | L(1)))
CASE(xor_b32, "xor.b32 %d0, %a0, %a1;", "rr", "r", R(U(0) ^ U(1)))
CASE(xor_b16, "xor.b16 %d0, %a0, %a1;", "hh", "h", R16(U(0) ^ U(1)))
CASE(xor_b64, "xor.b64 %d0, %a0, %a1;", "ll", "l", R64(L(0) ^ L(1)))
CASE(not_b32, "not.b32 %d0, %a0;", "r", "r", R(~U(0)))
CASE(not_b16, "not.b16 %d0, %a0;", "h", "h", R16(~U(0)))
CASE(not_b64, "not.b64 %d0, %a0;", "l", "l", R64(~L(0)))
CASE(cnot_b32, "cnot.b32 %d0, %a0;", "r", "r", R(U(0) == 0))
CASE(cnot_b64, "cnot.b64 %d0, %a0;", "l", "l", R64(L(0) == 0))
CASE(lop3_and_or, "lop3.b32 %d0, %a0, %a1, %a2, 0xea;", "rrr", "r", R((U(0) & U(1)) | U(2)))
CASE(lop3_immediate, "lop3.b32 %d0, %a0, 0x000F000F, 0x64006400, 234;", "r", "r", R((U(0) & 0x000f000f) | 0x64006400))
CASE(lop3_select, "lop3.b32 %d0, %a0, %a1, %a2, 0xca;", "rrr", "r", R((U(0) & U(1)) | (~U(0) & U(2))))
CASE(lop3_xor, "lop3.b32 %d0, %a0, %a1, %a2, 0x96;", "rrr", "r", R(U(0) ^ U(1) ^ U(2)))
CASE(lop3_0x1e, "lop3.b32 %d0, %a0, %a1, %a2, 0x1e;", "rrr", "r", R(lookup(U(0), U(1), U(2), 0x1e)))
CASE(lop3_0x72, "lop3.b32 %d0, %a0, %a1, %a2, 0x72;", "rrr", "r", R(lookup(U(0), U(1), U(2), 0x72)))
CASE(shl_b32, "shl.b32 %d0, %a0, %a1;", "rr", "r", R(U(1) > 31 ? 0 : U(0) << U(1)))
CASE(shl_b32_short, "shl.b32 %d0, %a0, %a1;", "rs", "r", R(U(1) > 31 ? 0 : U(0) << U(1)))
CASE(shl_b16, "shl.b16 %d0, %a0, %a1;", "hs", "h", R16(U(1) > 15 ? 0 : U(0) << U(1)))
CASE(shl_b64, "shl.b64 %d0, %a0, %a1;", "ls", "l", R64(U(1) > 63 ? 0 : L(0) << U(1)))
CASE(shr_u32, "shr.u32 %d0, %a0, %a1;", "rs", "r", R(U(1) > 31 ? 0 : U(0) >> U(1)))
CASE(shr_b32, "shr.b32 %d0, %a0, %a1;", "rr", "r", R(U(1) > 31 ? 0 : U(0) >> U(1)))
CASE(shr_s32, "shr.s32 %d0, %a0, %a1;", "rs", "r", R(I(0) >> (U(1) > 31 ? 31 : U(1))))
CASE(shr_s32_long, "shr.s32 %d0, %a0, %a1;", "rr", "r", R(I(0) >> (U(1) > 31 ? 31 : U(1))))
CASE(shr_u16, "shr.u16 %d0, %a0, %a1;", "hs", "h", R16(U(1) > 15 ? 0 : U16(0) >> U(1)))
CASE(shr_s16, "shr.s16 %d0, %a0, %a1;", "hs", "h", R16(I16(0) >> (U(1) > 15 ? 15 : U(1))))
CASE(shr_u64, "shr.u64 %d0, %a0, %a1;", "ls", "l", R64(U(1) > 63 ? 0 : L(0) >> U(1)))
CASE(shr_s64, "shr.s64 %d0, %a0, %a1;", "ls", "l", R64(S(0) >> (U(1) > 63 ? 63 : U(1))))
CASE(shf_l_wrap, "shf.l.wrap.b32 %d0, %a0, %a1, %a2;", "rrs", "r", R(funnel_left(U(0), U(1), U(2) & 31)))
CASE(shf_r_wrap, "shf.r.wrap.b32 %d0, %a0, %a1, %a2;", "rrs", "r", R(funnel_right(U(0), U(1), U(2) & 31)))
CASE(shf_l_clamp, "shf.l.clamp.b32 %d0, %a0, %a1, %a2;", "rrs", "r",
     R(funnel_left(U(0), U(1), U(2) > 32 ? 32 : U(2))))
CASE(shf_r_clamp, "shf.r.clamp.b32 %d0, %a0, %a1, %a2;", "rrs", "r",
     R(funnel_right(U(0), U(1), U(2) > 32 ? 32 : U(2))))
CASE(prmt_b32, "prmt.b32 %d0, %a0, %a1, %a2;", "rrr", "r", R(permute(U(0), U(1), U(2))))
CASE(prmt_immediate, "prmt.b32 %d0, %a0, %a1, 0x5410;", "rr", "r", R((U(0) & 0xffff) | U(1) << 16))
CASE(prmt_sign, "prmt.b32 %d0, %a0, %a1, 0xFB98;", "rr", "r", R(permute(U(0), U(1), 0xfb98)))
CASE(prmt_f4e, "prmt.b32.f4e %d0, %a0, %a1, %a2;", "rrr", "r", R(permute_mode(U(0), U(1), U(2), mode_f4e)))
CASE(prmt_b4e, "prmt.b32.b4e %d0, %a0, %a1, %a2;", "rrr", "r", R(permute_mode(U(0), U(1), U(2), mode_b4e)))
CASE(prmt_rc8, "prmt.b32.rc8 %d0, %a0, %a1, %a2;", "rrr", "r", R(permute_mode(U(0), U(1), U(2), mode_rc8)))
CASE(prmt_ecl, "prmt.b32.ecl %d0, %a0, %a1, %a2;", "rrr", "r", R(permute_mode(U(0), U(1), U(2), mode_ecl)))
CASE(prmt_ecr, "prmt.b32.ecr %d0, %a0, %a1, %a2;", "rrr", "r", R(permute_mode(U(0), U(1), U(2), mode_ecr)))
CASE(prmt_rc16, "prmt.b32.rc16 %d0, %a0, %a1, %a2;", "rrr", "r", R(permute_mode(U(0), U(1), U(2), mode_rc16)))
CASE(mov_b32, "mov.b32 %d0, %a0;", "r", "r", R(U(0)))
CASE(mov_u16, "mov.u16 %d0, %a0;", "h", "h", R16(U(0)))
CASE(mov_immediate, "mov.u64 %d0, 0x123456789abcdef0; mov.u32 %d1, -1; mov.f32 %d2, 0f3F800000; mov.f64 %d3, 0dC000000000000000;"
     "mov.f32 %d4, 1.5; mov.u32 %d5, 017; mov.u32 %d6, 0b101; mov.b16 %d7, -2;", "", "lrrlrrrh",
     d[0] = 0x123456789abcdef0; d[1] = 0xffffffff; d[2] = 0x3f800000; d[3] = 0xc000000000000000; d[4] = 0x3fc00000;
     d[5] = 15; d[6] = 5; d[7] = 0xfffe)
CASE(mov_pack_32, "mov.b32 %d0, {%a0, %a1};", "hh", "r", R(L(0) | L(1) << 16))
CASE(mov_unpack_32, "mov.b32 {%d0, %d1}, %a0;", "r", "hh", d[0] = U(0) & 0xffff; d[1] = U(0) >> 16)
CASE(mov_pack_64, "mov.b64 %d0, {%a0, %a1};", "rr", "l", R64(L(0) | L(1) << 32))
CASE(mov_unpack_64, "mov.b64 {%d0, %d1}, %a0;", "l", "rr", d[0] = L(0) & 0xffffffff; d[1] = L(0) >> 32)
CASE(mov_pack_four, "mov.b64 %d0, {%a0, %a1, %a2, %a3};", "hhhh", "l",
     R64(L(0) | L(1) << 16 | L(2) << 32 | L(3) << 48))
CASE(mov_pred, "setp.ne.s32 %p0, %a0, 0; mov.pred %p1, %p0; selp.b32 %d0, 1, 2, %p1;", "r", "r", R(U(0) ? 1 : 2))
CASE(selp_b32, "setp.ne.u32 %p0, %a2, 0; selp.b32 %d0, %a0, %a1, %p0;", "rr1", "r", R(U(2) ? U(0) : U(1)))
CASE(selp_b16, "setp.ne.u32 %p0, %a2, 0; selp.b16 %d0, %a0, %a1, %p0;", "hh1", "h", R16(U(2) ? U(0) : U(1)))
CASE(selp_b64, "setp.ne.u32 %p0, %a2, 0; selp.b64 %d0, %a0, %a1, %p0;", "ll1", "l", R64(U(2) ? L(0) : L(1)))
CASE(selp_f32_bits, "setp.ne.u32 %p0, %a2, 0; selp.f32 %d0, %a0, %a1, %p0;", "rr1", "r", R(U(2) ? U(0) : U(1)))
CASE(slct_ftz_f32, "slct.ftz.b32.f32 %d0, %a0, %a1, %a2;", "rrf", "r", R(FZ(2) >= 0 ? U(0) : U(1)))
CASE(set_u32_s32, "set.lt.u32.s32 %d0, %a0, %a1;", "rr", "r", R(I(0) < I(1) ? 0xffffffff : 0))
CASE(set_f32_u32, "set.gt.f32.u32 %d0, %a0, %a1;", "rr", "r", R(U(0) > U(1) ? 0x3f800000 : 0))
CASE(set_u32_f32, "set.geu.u32.f32 %d0, %a0, %a1;", "ff", "r", R(!(F(0) < F(1)) ? 0xffffffff : 0))
CASE(set_and, "setp.ne.u32 %p0, %a2, 0; set.eq.and.s32.u32 %d0, %a0, %a1, %p0;", "221", "r",
     R(U(0) == U(1) && U(2) ? 0xffffffff : 0))
CASE(setp_two, "setp.lt.s32 %p0|%p1, %a0, %a1; selp.b32 %d0, 1, 0, %p0; selp.b32 %d1, 1, 0, %p1;", "rr", "rr",
     d[0] = I(0) < I(1); d[1] = !(I(0) < I(1)))
CASE(setp_and, "setp.ne.u32 %p0, %a2, 0; setp.lt.and.u32 %p1|%p2, %a0, %a1, %p0; selp.b32 %d0, 1, 0, %p1;"
     "selp.b32 %d1, 1, 0, %p2;", "rr1", "rr", d[0] = U(0) < U(1) && U(2); d[1] = !(U(0) < U(1)) && U(2))
CASE(setp_or, "setp.ne.u32 %p0, %a2, 0; setp.eq.or.s32 %p1, %a0, %a1, %p0; selp.b32 %d0, 1, 0, %p1;", "rr1", "r",
     R(U(0) == U(1) || U(2)))
CASE(setp_xor_not, "setp.ne.u32 %p0, %a2, 0; setp.eq.xor.s32 %p1, %a0, %a1, !%p0; selp.b32 %d0, 1, 0, %p1;", "221", "r",
     R((U(0) == U(1)) ^ !U(2)))
CASE(pred_logic, "setp.ne.u32 %p0, %a0, 0; setp.ne.u32 %p1, %a1, 0; and.pred %p2, %p0, %p1; or.pred %p3, %p0, %p1;"
     "xor.pred %p4, %p0, %p1; not.pred %p5, %p0; selp.b32 %d0, 1, 0, %p2; selp.b32 %d1, 1, 0, %p3;"
     "selp.b32 %d2, 1, 0, %p4; selp.b32 %d3, 1, 0, %p5;", "11", "rrrr",
     d[0] = U(0) & U(1); d[1] = U(0) | U(1); d[2] = U(0) ^ U(1); d[3] = !U(0))
CASE(predicated, "setp.ne.u32 %p0, %a0, 0; mov.u32 %d0, 5; @%p0 mov.u32 %d0, 6; mov.u32 %d1, 7; @!%p0 add.s32 %d1, %d1, 1;",
     "1", "rr", d[0] = U(0) ? 6 : 5; d[1] = U(0) ? 7 : 8)
CASE(special_registers, "mov.u32 %d0, %tid.x; mov.u32 %d1, %ntid.x; mov.u32 %d2, %nctaid.x; mov.u32 %d3, %tid.y;"
     "mov.u32 %d4, %ntid.z; mov.u32 %d5, %nctaid.y; mov.u32 %d6, %ctaid.z; mov.u32 %d7, WARP_SZ; sub.u32 %d0, %d0, %lane;",
     "", "rrrrrrrr",
     d[0] = 0; d[1] = 32; d[2] = 40; d[3] = 0; d[4] = 1; d[5] = 1; d[6] = 0; d[7] = 32)
CASE(lane_masks, "mov.u32 %d0, %lanemask_eq; mov.u32 %d1, %lanemask_lt; mov.u32 %d2, %lanemask_le; mov.u32 %d3, %lanemask_gt;"
     "mov.u32 %d4, %lanemask_ge; shl.b32 %t0, 1, %lane; xor.b32 %d0, %d0, %t0; sub.u32 %t1, %t0, 1; xor.b32 %d1, %d1, %t1;"
     "or.b32 %t2, %t0, %t1; xor.b32 %d2, %d2, %t2; not.b32 %t2, %t2; xor.b32 %d3, %d3, %t2; not.b32 %t1, %t1;"
     "xor.b32 %d4, %d4, %t1;", "", "rrrrr", d[0] = d[1] = d[2] = d[3] = d[4] = 0)
CASE(clock_moves, "mov.u32 %t0, %clock; mov.u64 %l0, %clock64; mov.u64 %l1, %globaltimer; mov.u32 %d0, 1;", "", "r", R(1))
CASE(sub_u16, "sub.u16 %d0, %a0, %a1;", "hh", "h", R16(U(0) - U(1)))
CASE(mul_lo_u16, "mul.lo.u16 %d0, %a0, %a1;", "hh", "h", R16(U(0) * U(1)))
CASE(mul_lo_u64, "mul.lo.u64 %d0, %a0, %a1;", "ll", "l", R64(L(0) * L(1)))
CASE(mad_lo_u16, "mad.lo.u16 %d0, %a0, %a1, %a2;", "hhh", "h", R16(U(0) * U(1) + U(2)))
CASE(mad_lo_u64, "mad.lo.u64 %d0, %a0, %a1, %a2;", "lll", "l", R64(L(0) * L(1) + L(2)))
CASE(mad_hi_u64, "mad.hi.u64 %d0, %a0, %a1, %a2;", "lll", "l", R64((((u128)L(0) * L(1)) >> 64) + L(2)))
CASE(mad_hi_s64, "mad.hi.s64 %d0, %a0, %a1, %a2;", "lll", "l", R64((uint64_t)(((s128)S(0) * S(1)) >> 64) + L(2)))
CASE(mad_wide_s16, "mad.wide.s16 %d0, %a0, %a1, %a2;", "hhr", "r", R((uint32_t)(I16(0) * I16(1)) + U(2)))
CASE(mul24_hi_s32, "mul24.hi.s32 %d0, %a0, %a1;", "rr", "r", R((SIGN24(0) * SIGN24(1)) >> 16))
CASE(mad24_lo_s32, "mad24.lo.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(SIGN24(0) * SIGN24(1) + I(2)))
CASE(mad24_hi_u32, "mad24.hi.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R((((L(0) & 0xffffff) * (L(1) & 0xffffff)) >> 16) + L(2)))
CASE(mad24_hi_s32, "mad24.hi.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(((SIGN24(0) * SIGN24(1)) >> 16) + I(2)))
CASE(sad_u16, "sad.u16 %d0, %a0, %a1, %a2;", "hhh", "h", R16(absolute_difference(U16(0), U16(1)) + U16(2)))
CASE(sad_s16, "sad.s16 %d0, %a0, %a1, %a2;", "hhh", "h", R16(absolute_difference(I16(0), I16(1)) + U16(2)))
CASE(sad_u64, "sad.u64 %d0, %a0, %a1, %a2;", "lll", "l", R64(absolute_difference(L(0), L(1)) + L(2)))
CASE(sad_s64, "sad.s64 %d0, %a0, %a1, %a2;", "lll", "l", R64(absolute_difference(S(0), S(1)) + L(2)))
CASE(rem_u16, "{.reg .b16 %x; or.b16 %x, %a1, 1; rem.u16 %d0, %a0, %x;}", "hh", "h", R16(U16(0) % (U16(1) | 1)))
CASE(rem_s16, "{.reg .b16 %x; or.b16 %x, %a1, 1; rem.s16 %d0, %a0, %x;}", "hh", "h", R16(I16(0) % (int16_t)(I16(1) | 1)))
CASE(cnot_b16, "cnot.b16 %d0, %a0;", "h", "h", R16(U16(0) == 0))
CASE(shr_b16, "shr.b16 %d0, %a0, %a1;", "hs", "h", R16(U(1) > 15 ? 0 : U16(0) >> U(1)))
CASE(shr_b64, "shr.b64 %d0, %a0, %a1;", "ls", "l", R64(U(1) > 63 ? 0 : L(0) >> U(1)))
CASE(bfind_shiftamt_s32, "bfind.shiftamt.s32 %d0, %a0;", "r", "r", R(find_bit(U(0), 32, true, true)))
CASE(bfind_shiftamt_u64, "bfind.shiftamt.u64 %d0, %a0;", "l", "r", R(find_bit(L(0), 64, false, true)))
CASE(bfind_shiftamt_s64, "bfind.shiftamt.s64 %d0, %a0;", "l", "r", R(find_bit(L(0), 64, true, true)))
CASE(dp4a_s32_u32, "dp4a.s32.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot4(U(0), true, U(1), false, U(2))))
CASE(dp2a_lo_u32_u32, "dp2a.lo.u32.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), false, U(1), false, U(2), 0)))
CASE(dp2a_lo_s32_u32, "dp2a.lo.s32.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), true, U(1), false, U(2), 0)))
CASE(dp2a_lo_u32_s32, "dp2a.lo.u32.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), false, U(1), true, U(2), 0)))
CASE(dp2a_hi_u32_u32, "dp2a.hi.u32.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), false, U(1), false, U(2), 2)))
CASE(dp2a_hi_s32_u32, "dp2a.hi.s32.u32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), true, U(1), false, U(2), 2)))
CASE(dp2a_hi_s32_s32, "dp2a.hi.s32.s32 %d0, %a0, %a1, %a2;", "rrr", "r", R(dot2(U(0), true, U(1), true, U(2), 2)))
SELECT(u16, "hh1", "h", 0xffff)
SELECT(s16, "hh1", "h", 0xffff)
SELECT(u32, "rr1", "r", 0xffffffff)
SELECT(s32, "rr1", "r", 0xffffffff)
SELECT(u64, "ll1", "l", UINT64_MAX)
SELECT(s64, "ll1", "l", UINT64_MAX)
SELECT(f64, "ll1", "l", UINT64_MAX)
SLCT(b16, "hhr", "hhf", "h")
SLCT(u16, "hhr", "hhf", "h")
SLCT(s16, "hhr", "hhf", "h")
SLCT(b32, "rrr", "rrf", "r")
SLCT(u32, "rrr", "rrf", "r")
SLCT(s32, "rrr", "rrf", "r")
SLCT(f32, "rrr", "rrf", "r")
SLCT(b64, "llr", "llf", "l")
SLCT(u64, "llr", "llf", "l")
SLCT(s64, "llr", "llf", "l")
SLCT(f64, "llr", "llf", "l")
// clang-format on
