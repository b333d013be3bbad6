// A quad is four channels of one token: base + {0, 1, 8, 9}, where base is a multiple of 16 plus 0, 2, 4 or 6. In one
// row of an A fragment, a lane of a matrix instruction holds one quad. When sixteen lanes quantize 64 channels, each
// has one quad (quantize.cuh). This header reads quads from activations and from an accumulator.
#ifndef XQ_LIB_QUAD_CUH
#define XQ_LIB_QUAD_CUH

#include "ptx.cuh"
#include "quantize.cuh"

struct quad {
    u32 low, high; // two f16 (or bf16) each: base and base + 1; base + 8 and base + 9
};

// Loads a quad from a row of 16-bit numbers. `base` is even.
__device__ __forceinline__ quad load_quad(const f16 *row, int base)
{
    return {*(const u32 *)(row + base), *(const u32 *)(row + base + 8)};
}

__device__ __forceinline__ quad saturate(const quad &q)
{
    return {f16x2_saturate(q.low), f16x2_saturate(q.high)};
}

// Converts bf16 to f16, saturating.
__device__ __forceinline__ quad f16_from_bf16(const quad &q)
{
    return {f16x2_from_bf16x2(q.low), f16x2_from_bf16x2(q.high)};
}

__device__ __forceinline__ quad bf16_from_f16(const quad &q)
{
    return {bf16x2_from_f16x2(q.low), bf16x2_from_f16x2(q.high)};
}

__device__ __forceinline__ u32 f16x2_difference(u32 a, u32 b)
{
    return f16x2_saturate(pack_f16x2(f32_from_f16_low(a) - f32_from_f16_low(b),
                                     f32_from_f16_high(a) - f32_from_f16_high(b)));
}

// a - b, computed in f32 and rounded to f16, saturating.
__device__ __forceinline__ quad difference(const quad &a, const quad &b)
{
    return {f16x2_difference(a.low, b.low), f16x2_difference(a.high, b.high)};
}

// One token of an accumulator (layout.accumulator). It has order k, 16, 8 or 4 bits per value, and per-token groups.
template <int BITS, bool INTEGER_ZERO, int GROUP, int CODES_AT, int PARAMS_AT, int ZEROS_AT> struct accumulator_token {
    const u8 *record; // the token's tile record
    int row;          // the token's row in the record

    // Loads channels base + {0, 1, 8, 9}, as f16.
    __device__ __forceinline__ quad load(int base) const
    {
        const int fragment = base % 64 / 16, owner = row % 8 * 4 + base % 8 / 2; // the lane that has them
        const u8 *unit = record + CODES_AT + base / 64 * (128 * BITS);
        if (BITS == 16) {
            const u8 *at = unit + fragment * 512 + owner * 16 + row / 8 * 4;
            return {*(const u32 *)at, *(const u32 *)(at + 8)};
        }
        quad codes; // as f16
        const u32 magic = 0x64006400; // 1024, 1024
        if (BITS == 8) {
            u32 bytes = *(const u32 *)(unit + fragment / 2 * 512 + owner * 16 + fragment % 2 * 8 + row / 8 * 4);
            codes = {__byte_perm(bytes, magic, 0x5150), __byte_perm(bytes, magic, 0x5352)};
        } else {
            const quad_place<16> place(base % 8 / 2, row, false, fragment);
            u32 bytes = unit[place.first] | (u32)unit[place.first + place.step] << 16;
            codes = {and_or(bytes, 0x000f000f, magic), and_or(bytes >> 4, 0x000f000f, magic)};
        }
        codes = {f16x2_sub(codes.low, magic), f16x2_sub(codes.high, magic)};
        return dequantize(codes, base / GROUP);
    }

private:
    __device__ __forceinline__ quad dequantize(const quad &codes, int group) const
    {
        const f16 *params = (const f16 *)(record + PARAMS_AT) + group * (INTEGER_ZERO ? 16 : 32) + row;
        const u32 scale = f16x2_broadcast(params[0]);
        if (!INTEGER_ZERO) {
            const u32 offset = f16x2_broadcast(params[16]);
            return {f16x2_fma(codes.low, scale, offset), f16x2_fma(codes.high, scale, offset)};
        }
        const int bit = (group * 16 + row) * BITS;
        const u32 zero = f16x2_broadcast(f16_from_f32((record[ZEROS_AT + bit / 8] >> bit % 8) & ((1 << BITS) - 1)));
        return {f16x2_mul(f16x2_sub(codes.low, zero), scale), f16x2_mul(f16x2_sub(codes.high, zero), scale)};
    }
};

#endif
