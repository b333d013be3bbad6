// The end of attend's value stage where warps share channels of Z, for one query: their sums meet in shared memory
// before Wv, so that each is multiplied once. A latent of one head has a chunk or two of 64 channels, and a block has
// eight warps.
//
//   Z of each warp --sum over the warps, 1 / softmax sum, a scale for each row--> B fragments --x Wv^T--> O
//
// The joint regions of attend_map.cuh are in the place of PARTIAL_SUMS.
#ifndef XQ_LIB_ATTEND_JOIN_CUH
#define XQ_LIB_ATTEND_JOIN_CUH

#include "attend_map.cuh"
#include "attend_work.cuh"
#include "ptx_matrix.cuh"
#include "weights.cuh"

template <class C> struct attend_join {
    using map = typename C::map;
    using work = attend_work<C>;
    static constexpr weight_type WEIGHTS = C::WEIGHTS;
    static constexpr int WARPS = C::WARPS, DIM_TILES = C::HEAD_DIM / 16;
    static constexpr int CHUNKS = map::VALUE_CHUNKS, PARTS = WARPS / CHUNKS, STEPS = CHUNKS * 4; // steps of 16 channels
    static constexpr int WARP_STEPS = (STEPS + WARPS - 1) / WARPS;

    // Computes O of 8 rows in map::joint_output, [HEAD_DIM][8], without the scales of 8-bit weights. Warp part * CHUNKS
    // + chunk has Z of that chunk, over that part of the tokens. The whole block must call it; it ends with a barrier.
    static __device__ __forceinline__ void run(const float (&z)[4][4], const xq_attend_params &p, const work &w,
                                               int query_tile)
    {
        const int warp = threadIdx.x / 32;
        if (warp < CHUNKS * PARTS)
            store(z, map::joint_z(warp));
        __syncthreads();
        sum_warps(query_tile);
        __syncthreads();
        for (int m = warp; m < DIM_TILES; m += WARPS)
            project(p, w, m);
        __syncthreads();
    }

  private:
    // Stores a warp's Z as [8 rows][64 channels], with rows map::JOINT_STRIDE apart.
    static __device__ __forceinline__ void store(const float (&z)[4][4], float *out)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 16; i++)
            out[(lane % 4 * 2 + i % 2) * map::JOINT_STRIDE + i / 4 * 16 + i % 4 / 2 * 8 + lane / 4] = z[i / 4][i % 4];
    }

    // Each warp sums 16 channels of all rows at a time, and makes B fragments of them.
    static __device__ __forceinline__ void sum_warps(int query_tile)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4;
        const float inverse = map::row_inverse_sum()[query_tile * 8 + row];
        float v[WARP_STEPS][4] = {}, most = 0;
#pragma unroll
        for (int k = 0; k < WARP_STEPS; k++) {
            const int step = warp + k * WARPS;
            if (step >= STEPS)
                break;
            const float *z = map::joint_z(step / 4) + row * map::JOINT_STRIDE + step % 4 * 16 + lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < PARTS * 2; i++) {
                const float2 part = *(const float2 *)(z + i / 2 * CHUNKS * map::JOINT_WARP + i % 2 * 8);
                v[k][i % 2 * 2] += part.x;
                v[k][i % 2 * 2 + 1] += part.y;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v[k][i] *= inverse;
                most = fmaxf(most, fabsf(v[k][i]));
            }
        }
        const float scale = WEIGHTS == WEIGHT_BF16 ? 1.0f : row_scale(most, row);
#pragma unroll
        for (int k = 0; k < WARP_STEPS; k++) {
            const int step = warp + k * WARPS;
            if (step < STEPS)
                map::joint_fragments()[step * 32 + lane] =
                    make_uint2(weight_partner<WEIGHTS>(v[k][0] * scale, v[k][1] * scale),
                               weight_partner<WEIGHTS>(v[k][2] * scale, v[k][3] * scale));
        }
    }

    // The power of two, at least 1, that brings a row's largest value near the largest f16. It depends on no other row.
    // `most` is the largest magnitude of the lane's values.
    static __device__ __forceinline__ float row_scale(float most, int row)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
        if (lane % 4 == 0)
            map::joint_most()[row * WARPS + warp] = most;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < WARPS; i += 4) {
            const float4 others = *(const float4 *)(map::joint_most() + row * WARPS + i);
            most = fmaxf(fmaxf(most, fmaxf(others.x, others.y)), fmaxf(others.z, others.w));
        }
        const bool finite = most > 0 && most < infinity();
        const int exponent = finite ? max(13 - ((__float_as_int(most) >> 23) - 127), 0) : 0;
        if (warp == 0 && lane % 4 == 0)
            map::joint_unscale()[row] = power_of_two(-exponent);
        return power_of_two(exponent);
    }

    // Computes 16 dimensions of O.
    static __device__ __forceinline__ void project(const xq_attend_params &p, const work &w, int m)
    {
        const int lane = threadIdx.x % 32, column = lane % 4 * 2;
        const u8 *weights = p.wv.data + (size_t)(w.kv_head * DIM_TILES + m) * STEPS * WEIGHT_STEP_BYTES<WEIGHTS>;
        float o[4] = {};
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            weight_step<WEIGHTS> packed;
            u32 a[4];
            packed.load_global(weights + step * WEIGHT_STEP_BYTES<WEIGHTS>, lane);
            packed.widen_transposed(a);
            const uint2 b = map::joint_fragments()[step * 32 + lane];
            mma_weights<WEIGHTS>(o, a, b.x, b.y);
        }
        float2 unscale = make_float2(1, 1);
        if constexpr (WEIGHTS != WEIGHT_BF16)
            unscale = *(const float2 *)(map::joint_unscale() + column);
        float2 *out = (float2 *)(map::joint_output() + (m * 16 + lane / 4) * 8 + column);
        out[0] = make_float2(o[0] * unscale.x, o[1] * unscale.y);
        out[32] = make_float2(o[2] * unscale.x, o[3] * unscale.y);
    }
};

#endif
