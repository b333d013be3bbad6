// Elements of 16 bits, f16 or bf16: those of activations and of fp16 KV pages.
#ifndef XQ_LIB_ELEMENT_CUH
#define XQ_LIB_ELEMENT_CUH

#include "ptx_matrix.cuh"

template <bool BF16> struct element {
    static constexpr u32 ONE = BF16 ? 0x3f80 : 0x3c00;

    // Two f32, rounded to nearest even; `low` in bits 0-15.
    static __device__ __forceinline__ u32 pack(float low, float high)
    {
        return BF16 ? pack_bf16x2(low, high) : pack_f16x2(low, high);
    }
    static __device__ __forceinline__ float low(u32 packed)
    {
        return BF16 ? f32_from_bf16_low(packed) : f32_from_f16_low(packed);
    }
    static __device__ __forceinline__ float high(u32 packed)
    {
        return BF16 ? f32_from_bf16_high(packed) : f32_from_f16_high(packed);
    }
    // Converts to the f16 that kernels compute with: bf16 beyond ±65504 saturates, and NaN stays NaN.
    static __device__ __forceinline__ u32 to_f16x2(u32 packed)
    {
        return BF16 ? f16x2_from_bf16x2(packed) : packed;
    }
    static __device__ __forceinline__ u32 from_f16x2(u32 packed)
    {
        return BF16 ? bf16x2_from_f16x2(packed) : packed;
    }
    // For each of the two elements, its half of the result is 1 if the element is infinite or NaN, else 0.
    static __device__ __forceinline__ u32 not_finite(u32 packed)
    {
        const u32 exponents = BF16 ? 0x7f807f80 : 0x7c007c00, units = BF16 ? 0x00800080 : 0x04000400;
        return ((packed & exponents) + units) >> 15 & 0x00010001;
    }
    // d += a * b, one m16n8k16 tile.
    static __device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
    {
        if (BF16)
            mma_bf16(d, a, b0, b1);
        else
            mma_f16(d, a, b0, b1);
    }
};

#endif
