// Packed weights (docs/layout.md) as operands of m16n8k16. 16-bit weights are used as they are stored. 8-bit weights
// are widened to f16 in registers, by instructions that every architecture has.
//
// A matrix is [n / 16 tiles][k / 16 steps] pieces of 16 by 16 weights, WEIGHT_STEP_BYTES each. In a piece each lane has
// four registers: 0 and 1 are the B operand of columns 0-7, and 2 and 3 that of columns 8-15. In the order 0, 2, 1, 3
// they are the A operand of the transposed matrix. 64 rows of a tile are WEIGHT_CHUNK_BYTES of consecutive bytes.
//
// 8-bit weights have a scale for each column, which multiplies sums after the product (column_scale).
#ifndef XQ_LIB_WEIGHTS_CUH
#define XQ_LIB_WEIGHTS_CUH

#include "params.h"
#include "ptx_matrix.cuh"

enum weight_type { WEIGHT_F16, WEIGHT_BF16, WEIGHT_INT8, WEIGHT_E4M3 };

template <weight_type TYPE> constexpr bool WEIGHT_IS_WIDE = TYPE == WEIGHT_F16 || TYPE == WEIGHT_BF16;
template <weight_type TYPE> constexpr int WEIGHT_LANE_BYTES = WEIGHT_IS_WIDE<TYPE> ? 16 : 8; // per step
template <weight_type TYPE> constexpr int WEIGHT_STEP_BYTES = 32 * WEIGHT_LANE_BYTES<TYPE>;  // 16 rows of a tile
template <weight_type TYPE> constexpr int WEIGHT_CHUNK_BYTES = 4 * WEIGHT_STEP_BYTES<TYPE>;  // 64 rows of a tile

// Widens four int8 to f16, exactly. With c + 128 in its low bits an f16 is 1024 + (c + 128), from which 1152 is
// subtracted.
__device__ __forceinline__ void widen_int8(u32 &low, u32 &high, u32 word)
{
    const u32 magic = 0x64006400, minus = 0x64806480; // 1024, 1152
    const u32 biased = word ^ 0x80808080u;
    low = f16x2_sub(permute_bytes(biased, magic, 0x5150), minus);
    high = f16x2_sub(permute_bytes(biased, magic, 0x5352), minus);
}

// Widens four e4m3 to f16, exactly, but 256 times too small: the fields of e4m3 move to the fields of f16, whose
// exponent bias is greater by 8. A byte is placed in the upper half of an f16, and an arithmetic shift moves it right
// by one. The result has two copies of the sign, of which the lower is masked, then exponent and mantissa. The shift of
// a word also moves the lowest bit of its upper f16 into the sign of its lower f16. So the low byte of the upper f16
// holds copies of that sign.
__device__ __forceinline__ void widen_e4m3(u32 &low, u32 &high, u32 word)
{
    const u32 fields = 0xbf80bf80;
    low = (u32)((int)permute_bytes(word, 0, 0x1804) >> 1) & fields;
    high = (u32)((int)permute_bytes(word, 0, 0x3a24) >> 1) & fields;
}

// One lane's part of a step of a tile.
template <weight_type TYPE> struct weight_step {
    u32 words[WEIGHT_LANE_BYTES<TYPE> / 4];

    // Loads from shared memory. `step` is the first byte of the step.
    __device__ __forceinline__ void load(const u8 *step, int lane)
    {
        if constexpr (WEIGHT_IS_WIDE<TYPE>) {
            set(*(const uint4 *)(step + lane * 16));
        } else {
            set(*(const uint2 *)(step + lane * 8));
        }
    }

    // Loads from device memory.
    __device__ __forceinline__ void load_global(const u8 *step, int lane)
    {
        if constexpr (WEIGHT_IS_WIDE<TYPE>) {
            set(load_readonly(step + lane * 16));
        } else {
            set(__ldg((const uint2 *)(step + lane * 8)));
        }
    }

    // Gives the four registers: in f16, or in bf16 for bf16 weights.
    __device__ __forceinline__ void widen(u32 (&b)[4]) const
    {
        if constexpr (TYPE == WEIGHT_INT8) {
            widen_int8(b[0], b[1], words[0]);
            widen_int8(b[2], b[3], words[1]);
        } else if constexpr (TYPE == WEIGHT_E4M3) {
            widen_e4m3(b[0], b[1], words[0]);
            widen_e4m3(b[2], b[3], words[1]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                b[i] = words[i];
        }
    }

    // Gives the A operand of the transposed matrix, with columns as rows.
    __device__ __forceinline__ void widen_transposed(u32 (&a)[4]) const
    {
        u32 b[4];
        widen(b);
        a[0] = b[0];
        a[1] = b[2];
        a[2] = b[1];
        a[3] = b[3];
    }

  private:
    __device__ __forceinline__ void set(uint4 v)
    {
        words[0] = v.x;
        words[1] = v.y;
        words[2] = v.z;
        words[3] = v.w;
    }
    __device__ __forceinline__ void set(uint2 v)
    {
        words[0] = v.x;
        words[1] = v.y;
    }
};

// Converts the other operand, which is f16, to the type that the product with these weights takes.
template <weight_type TYPE> __device__ __forceinline__ u32 weight_partner(u32 packed)
{
    return TYPE == WEIGHT_BF16 ? bf16x2_from_f16x2(packed) : packed;
}

template <weight_type TYPE> __device__ __forceinline__ u32 weight_partner(float low, float high)
{
    return TYPE == WEIGHT_BF16 ? pack_bf16x2(low, high) : pack_f16x2(low, high);
}

template <weight_type TYPE> __device__ __forceinline__ void weight_partner(u32 (&fragment)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        fragment[i] = weight_partner<TYPE>(fragment[i]);
}

// d += a * b, where one operand is weights, and weight_partner has converted the other.
template <weight_type TYPE>
__device__ __forceinline__ void mma_weights(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    if constexpr (TYPE == WEIGHT_BF16)
        mma_bf16(d, a, b0, b1);
    else
        mma_f16(d, a, b0, b1);
}

// The factor for the sums of a column. `scale` is that of xq_matrix. 16-bit weights have no scale, so the factor is 1.
// For e4m3 the factor makes up for widen_e4m3.
template <weight_type TYPE> __device__ __forceinline__ float column_scale(const float *scale, int column)
{
    if constexpr (WEIGHT_IS_WIDE<TYPE>)
        return 1.0f;
    else
        return __ldg(scale + column) * (TYPE == WEIGHT_E4M3 ? 256.0f : 1.0f);
}

#endif
