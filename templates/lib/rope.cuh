// Rotary position embedding, accurate at every position.
//
// Angles are counted in turns, in fixed point. A frequency is a multiple of 2^-64 turns per token, given as two signed
// words (high, low): high * 2^-32 + low * 2^-64. Integer products are exact, and whole turns overflow, so two
// multiplications give the fraction of a turn for any 32-bit position. The fraction is accurate to 2^-32 turns,
// 1.5e-9 rad, and as an f32 to 2e-7 rad.
#ifndef XQ_LIB_ROPE_CUH
#define XQ_LIB_ROPE_CUH

#include "ptx.cuh"

// (cos, sin) of position * turns.
__device__ __forceinline__ float2 rope_rotation(int position, int2 turns)
{
    const u32 fraction = (u32)position * (u32)turns.x + (u32)__mulhi(position, turns.y);
    const float half_turns = (float)(int)fraction * 0x1p-31f; // from -1 up to 1
    float2 rotation;
    sincospif(half_turns, &rotation.y, &rotation.x);
    return rotation;
}

// Rotates the pair (x, y) by (cos, sin).
__device__ __forceinline__ void rope_rotate(float &x, float &y, float2 rotation)
{
    float rotated = x * rotation.x - y * rotation.y;
    y = y * rotation.x + x * rotation.y;
    x = rotated;
}

// The place of a pair in a row of a table of rotations in shared memory. It is for threads that read 8 pairs each, as
// four 16-byte loads: the loads of neighbouring threads, and of neighbouring rows of the table, use different banks.
__device__ __forceinline__ int rope_place(int row, int pair)
{
    return pair ^ (pair / 16 % 4 ^ row % 2 * 2) * 2;
}

// Rotates two neighbouring pairs in f16: `x` has dimensions i and i + 1, `y` has their partners, and `rotations` has
// the (cos, sin) of both pairs.
__device__ __forceinline__ void rope_rotate_f16x2(u32 &x, u32 &y, float4 rotations)
{
    float x0 = f32_from_f16_low(x), x1 = f32_from_f16_high(x);
    float y0 = f32_from_f16_low(y), y1 = f32_from_f16_high(y);
    rope_rotate(x0, y0, make_float2(rotations.x, rotations.y));
    rope_rotate(x1, y1, make_float2(rotations.z, rotations.w));
    x = pack_f16x2(x0, x1);
    y = pack_f16x2(y0, y1);
}

#endif
