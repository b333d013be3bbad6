// QK-norm and RoPE of rows of K in registers. A row is one head of one token.
#ifndef XQ_LIB_KEY_ROW_CUH
#define XQ_LIB_KEY_ROW_CUH

#include "element.cuh"
#include "rope.cuh"

// ---------------------------------------------------------------- RoPE alone, of all dimensions of a head (NeoX)

template <class ELEMENT> __device__ __forceinline__ void rotate_x2(u32 &x, u32 &y, float4 rotations)
{
    float x0 = ELEMENT::low(x), x1 = ELEMENT::high(x), y0 = ELEMENT::low(y), y1 = ELEMENT::high(y);
    rope_rotate(x0, y0, make_float2(rotations.x, rotations.y));
    rope_rotate(x1, y1, make_float2(rotations.z, rotations.w));
    x = ELEMENT::pack(x0, x1);
    y = ELEMENT::pack(y0, y1);
}

// Rotates the 8 pairs from `pair` on: `x` has their first members, `y` their second members. `rotations` is the token's
// row of a table in the order of rope_place, and `row` the number of this row.
template <class ELEMENT>
__device__ __forceinline__ void rotate_x8(uint4 &x, uint4 &y, const float2 *rotations, int row, int pair)
{
    rotate_x2<ELEMENT>(x.x, y.x, *(const float4 *)(rotations + rope_place(row, pair)));
    rotate_x2<ELEMENT>(x.y, y.y, *(const float4 *)(rotations + rope_place(row, pair + 2)));
    rotate_x2<ELEMENT>(x.z, y.z, *(const float4 *)(rotations + rope_place(row, pair + 4)));
    rotate_x2<ELEMENT>(x.w, y.w, *(const float4 *)(rotations + rope_place(row, pair + 6)));
}

// ---------------------------------------------------------------- any head

// A row is spread over LANES neighbouring lanes of a warp, with 8 dimensions in each lane; lanes from CHUNKS on have
// zeros. All lanes of the warp must call every function.
template <class ELEMENT, int HEAD_DIM> struct key_row {
    static constexpr int CHUNKS = HEAD_DIM / 8;
    static constexpr int LANES = CHUNKS <= 8 ? 8 : CHUNKS <= 16 ? 16 : 32; // a power of two

    float v[8];

    static __device__ __forceinline__ int chunk()
    {
        return threadIdx.x % LANES;
    }

    __device__ __forceinline__ void unpack(uint4 packed)
    {
        const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = ELEMENT::low(words[i]);
            v[2 * i + 1] = ELEMENT::high(words[i]);
        }
    }
    __device__ __forceinline__ uint4 pack() const
    {
        return make_uint4(ELEMENT::pack(v[0], v[1]), ELEMENT::pack(v[2], v[3]), ELEMENT::pack(v[4], v[5]),
                          ELEMENT::pack(v[6], v[7]));
    }

    // The sum of the squares of the whole row. All lanes of the row get it.
    __device__ __forceinline__ float squares() const
    {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum = fmaf(v[i], v[i], sum);
#pragma unroll
        for (int distance = 1; distance < LANES; distance *= 2)
            sum += __shfl_xor_sync(0xffffffff, sum, distance);
        return sum;
    }

    // Multiplies the row by `factor` and by the weights of the norm.
    __device__ __forceinline__ void scale(float factor, const float *weights)
    {
        if (chunk() >= CHUNKS)
            return;
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] *= factor * __ldg(weights + chunk() * 8 + i);
    }

    // Rotates neighbouring dimensions: pair i is (2i, 2i + 1), for i < PAIRS. `rotations` is as for rotate_x8.
    template <int PAIRS> __device__ __forceinline__ void rotate_interleaved(const float2 *rotations, int row)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int pair = chunk() * 4 + i;
            if (pair < PAIRS)
                rope_rotate(v[2 * i], v[2 * i + 1], rotations[rope_place(row, pair)]);
        }
    }

    // Rotates halves: pair i is (i, i + PAIRS). The partner of a dimension is FAR or FAR + 1 lanes away. If PAIRS is
    // not a multiple of 8, the partner is also in another register.
    template <int PAIRS> __device__ __forceinline__ void rotate_neox(const float2 *rotations, int row)
    {
        constexpr int FAR = PAIRS / 8, SHIFT = PAIRS % 8;
        const int lane = threadIdx.x % 32, first_dim = chunk() * 8;
        float partner[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const bool first = first_dim + i < PAIRS;
            if (SHIFT == 0) {
                partner[i] = __shfl_sync(0xffffffff, v[i], first ? lane + FAR : lane - FAR);
            } else {
                const float above = __shfl_sync(0xffffffff, v[(i + SHIFT) % 8], lane + FAR + (i + SHIFT) / 8);
                const float below = __shfl_sync(0xffffffff, v[(i + 8 - SHIFT) % 8], lane - FAR - (i < SHIFT));
                partner[i] = first ? above : below;
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int dim = first_dim + i, pair = dim < PAIRS ? dim : dim - PAIRS;
            if (pair >= PAIRS)
                continue;
            const float2 rotation = rotations[rope_place(row, pair)];
            v[i] = v[i] * rotation.x + partner[i] * (dim < PAIRS ? -rotation.y : rotation.y);
        }
    }
};

#endif
