// Rotary position embedding, accurate at any position.
//
// Angles are counted in turns, each frequency a pair of f32 (high, low): position * high has an exact
// product in two f32, whole turns drop out without loss, and the rest goes to sincospi. At position 2^20
// the angle is good to about 1e-6 rad, where one f32 product would be off by 0.1.
#ifndef XQ_LIB_ROPE_CUH
#define XQ_LIB_ROPE_CUH

#include "ptx.cuh"

// (cos, sin) of position * turns; |position| < 2^24.
__device__ __forceinline__ float2 rope_rotation(int position, float2 turns)
{
    float p = (float)position;
    float product = p * turns.x;
    float rest = fmaf(p, turns.x, -product) + p * turns.y;
    float angle = (product - rintf(product)) + rest;
    float2 rotation;
    sincospif(2.0f * angle, &rotation.y, &rotation.x);
    return rotation;
}

// Rotates the pair (x, y) by (cos, sin).
__device__ __forceinline__ void rope_rotate(float &x, float &y, float2 rotation)
{
    float rotated = x * rotation.x - y * rotation.y;
    y = y * rotation.x + x * rotation.y;
    x = rotated;
}

// Where a table of rotations in shared memory keeps a pair, if threads read 8 pairs each, as four 16-byte loads: in
// this order those of neighbouring threads, and of neighbouring rows of the table, lie in different banks.
__device__ __forceinline__ int rope_place(int row, int pair)
{
    return pair ^ (pair / 16 % 4 ^ row % 2 * 2) * 2;
}

// Rotates two neighbouring pairs held as f16: `x` has dimensions i and i + 1, `y` their partners, `rotations`
// the two pairs' (cos, sin).
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
