// Elements of an e4m3 cache: from and to the 16-bit elements of activations (lib/element.cuh). e4m3 has a sign, 4
// bits of exponent with bias 7 and 3 of mantissa, and no infinities; 0x7f and 0xff are NaN. Both ways are one
// instruction from compute capability 8.9 on, where the 16 bits are f16; elsewhere they are made of instructions
// that every architecture has, with the same result, bit for bit.
#ifndef XQ_LIB_E4M3_CUH
#define XQ_LIB_E4M3_CUH

#include "element.cuh"

template <bool BF16> struct e4m3 {
    static constexpr float LARGEST = 448;

    // Four e4m3 to 16 bits, exact: bytes 0 and 1 to `low`, 2 and 3 to `high`.
    static __device__ __forceinline__ void widen(u32 &low, u32 &high, u32 word)
    {
#if __CUDA_ARCH__ >= 890
        if constexpr (!BF16) {
            low = f16x2_from_e4m3x2((u16)word);
            high = f16x2_from_e4m3x2((u16)(word >> 16));
            return;
        }
#endif
        low = widen_pair(permute_bytes(word, 0, 0x1804));
        high = widen_pair(permute_bytes(word, 0, 0x3a24));
    }

    // 1 in the byte of each element that is NaN, else 0.
    static __device__ __forceinline__ u32 not_finite(u32 word)
    {
        return ((word & 0x7f7f7f7f) + 0x01010101) >> 7 & 0x01010101;
    }

    // Four elements of 16 bits, times `factor`: rounded to nearest even, saturated at +-448. NaN becomes 0x7f.
    static __device__ __forceinline__ u32 narrow(u32 low, u32 high, float factor)
    {
        using wide = element<BF16>;
        return narrow_pair(wide::low(low) * factor, wide::high(low) * factor) |
               narrow_pair(wide::low(high) * factor, wide::high(high) * factor) << 16;
    }

    // Eight of them.
    static __device__ __forceinline__ uint2 narrow(uint4 packed, float factor)
    {
        return make_uint2(narrow(packed.x, packed.y, factor), narrow(packed.z, packed.w, factor));
    }

  private:
    // Each half has an e4m3 in its upper byte, and the lower one below the upper half repeats a sign. The shift moves
    // the fields to where the 16-bit format has them, with two or more copies of the sign of which the mask keeps the
    // top one. That is the number, but for a power of two, which the first product makes up for: the exponent's bias
    // differs. What e4m3 has as NaN is +-480 then. The second product is infinite there and only there, so that adding
    // 0 times it keeps every number and makes 480 NaN.
    static __device__ __forceinline__ u32 widen_pair(u32 spread)
    {
        constexpr u32 NONE = 0x80008000; // -0: what a product is added to
        if constexpr (BF16) {
            const u32 scaled = bf16x2_fma((u32)((int)spread >> 4) & 0x87f087f0, 0x7b807b80, NONE); // times 2^120
            return bf16x2_fma(bf16x2_fma(scaled, 0x7b0e7b0e, NONE), 0, scaled); // times 1.109375 * 2^119
        } else {
            const u32 scaled = f16x2_mul((u32)((int)spread >> 1) & 0xbf80bf80, 0x5c005c00); // times 256
            return f16x2_fma(f16x2_mul(scaled, 0x58605860), 0, scaled);                    // times 140
        }
    }

    static __device__ __forceinline__ u32 narrow_pair(float low, float high)
    {
#if __CUDA_ARCH__ >= 890
        return e4m3x2_from_f32(low, high);
#else
        return narrow_one(low) | narrow_one(high) << 8;
#endif
    }

    static __device__ __forceinline__ u32 narrow_one(float value)
    {
        const u32 bits = __float_as_uint(value), least_normal = 0x3c800000; // 2^-6
        const u32 magnitude = min(bits & 0x7fffffff, __float_as_uint(LARGEST));
        // Rounded to 3 bits of mantissa, a carry into the exponent included, whose bias is 120 less.
        const u32 normal = ((magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20) - (120 << 3);
        // Below, steps are 2^-9: the last place of numbers from 2^14 on.
        const u32 small = __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 16384.0f)) - 0x46800000;
        const u32 code = (magnitude < least_normal ? small : normal) | (bits >> 24 & 0x80);
        return value != value ? 0x7f : code;
    }
};

#endif
