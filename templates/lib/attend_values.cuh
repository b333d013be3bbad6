// The value stage of attend: Z = X^T P and O = Wv^T Z for VALUE_TILES tiles of 8 rows, 64 channels of the value stream
// at a time, in registers. Channels are the rows of Z^T, so that 8 columns suffice for the queries. Each warp takes
// chunks of 64 channels; if there are more warps than chunks, several warps share the tokens of a chunk. The warps'
// sums meet in shared memory: those of O or, with one query and more warps than chunks, those of Z (attend_join.cuh).
#ifndef XQ_LIB_ATTEND_VALUES_CUH
#define XQ_LIB_ATTEND_VALUES_CUH

#include "attend_join.cuh"
#include "attend_planes.cuh"
#include "attend_work.cuh"
#include "element.cuh"
#include "operand.cuh"
#include "ptx_matrix.cuh"
#include "row_scales.cuh"
#include "weights.cuh"

template <class C> struct attend_values {
    using map = typename C::map;
    using work = attend_work<C>;
    using output = typename work::output;
    using stream_v = typename C::stream_v;
    static constexpr weight_type WEIGHTS = C::WEIGHTS;
    static constexpr int WARPS = C::WARPS, THREADS = work::THREADS;
    static constexpr int HEAD_DIM = C::HEAD_DIM, DIM_TILES = HEAD_DIM / 16, PARTIAL_DIMS = C::PARTIAL_DIMS;
    static constexpr int VALUE_TILES = C::VALUE_TILES;
    static constexpr int CHUNKS = stream_v::LATENT_WIDTH / 64; // chunks of a head's latent

    using latent_sums = float[VALUE_TILES][4][4];         // 64 channels of Z^T: tiles of rows, then of channels
    using output_sums = float[VALUE_TILES][DIM_TILES][4]; // O^T
    using scales_type = row_scales<VALUE_TILES>;

    // Computes the output of VALUE_TILES tiles of rows from `query_tile` on, over the run. `partial` says whether a row
    // does not see all of the run. The whole block must call it.
    static __device__ __forceinline__ void run(const xq_attend_params &p, const work &w, const output &output,
                                               int query_tile, bool partial)
    {
        if constexpr (map::JOINT)
            run_joint(p, w, output, query_tile, partial);
        else
            run_apart(p, w, output, query_tile, partial);
    }

  private:
    // With one query and more warps than chunks, warps share the tokens of a chunk, and Z is projected once.
    static __device__ __forceinline__ void run_joint(const xq_attend_params &p, const work &w, const output &output,
                                                     int query_tile, bool partial)
    {
        constexpr int PARTS = WARPS / CHUNKS;
        const int warp = threadIdx.x / 32;
        latent_sums z = {};
        if (warp < CHUNKS * PARTS)
            sum_latent(z, w, warp % CHUNKS, warp / CHUNKS, PARTS, query_tile, partial);
#pragma unroll
        for (int q = 0; q < VALUE_TILES; q++) {
            attend_join<C>::run(z[q], p, w, query_tile + q);
            write(p, w, output, map::joint_output(), 1, HEAD_DIM, query_tile + q, 0);
        }
    }

    static __device__ __forceinline__ void run_apart(const xq_attend_params &p, const work &w, const output &output,
                                                     int query_tile, bool partial)
    {
        constexpr int PARTS = CHUNKS < WARPS ? WARPS / CHUNKS : 1;
        output_sums o = {};
        scales_type scales;
#pragma unroll 1
        for (int item = threadIdx.x / 32; item < CHUNKS * PARTS; item += WARPS) {
            latent_sums z = {};
            sum_latent(z, w, item % CHUNKS, item / CHUNKS, PARTS, query_tile, partial);
            project_latent(o, scales, z, p, w, item % CHUNKS, query_tile);
        }
        if (__any_sync(0xffffffff, scales.any())) {
            float factors[VALUE_TILES][2];
#pragma unroll
            for (int i = 0; i < VALUE_TILES * 2; i++)
                factors[i / 2][i % 2] = power_of_two(-scales.exponent(i / 2, i % 2));
            multiply_rows(o, factors);
        }
#pragma unroll
        for (int q = 0; q < VALUE_TILES; q++)
            gather(p, w, output, o[q], query_tile + q);
    }

    // Computes 64 channels of Z^T for VALUE_TILES tiles of 8 rows, over part `part` of `parts` of the run.
    static __device__ __forceinline__ void sum_latent(latent_sums &z, const work &w, int chunk, int part, int parts,
                                                      int query_tile, bool partial)
    {
        if constexpr (C::INTEGER_VALUES) {
            const int pairs = (w.tiles + 1) / 2, first = w.template latent_of<stream_v>() * CHUNKS;
#pragma unroll
            for (int q = 0; q < VALUE_TILES; q++)
                attend_planes<C>::accumulate(z[q], w, first + chunk, pairs * part / parts, pairs * (part + 1) / parts,
                                             query_tile + q, part == 0);
        } else {
            const int begin = w.tiles * part / parts, end = w.tiles * (part + 1) / parts;
            accumulate_latent(z, w, chunk, begin, end, query_tile);
            if constexpr (work::MASKED) {
                if (partial && !all_finite(z))
                    accumulate_seen(z, w, chunk, begin, end, query_tile);
            }
        }
    }

    // ------------------------------------------------------------ Z

    // Computes 64 channels of Z^T for VALUE_TILES tiles of 8 rows, over tiles [begin, end) of the run.
    static __device__ __forceinline__ void accumulate_latent(latent_sums &z, const work &w, int chunk, int begin,
                                                             int end, int query_tile)
    {
        const int lane = threadIdx.x % 32;
        const f16 *probabilities = map::probabilities_row(query_tile * 8 + lane / 4) + lane % 4 * 2;
#pragma unroll 2
        for (int tile = begin; tile < end; tile++) {
            chunk_operand<stream_v> x;
            x.load(w.template source_of<stream_v>(tile), w.template latent_of<stream_v>() * CHUNKS + chunk, lane);
            u32 p[VALUE_TILES][2];
#pragma unroll
            for (int q = 0; q < VALUE_TILES; q++) {
                p[q][0] = *(const u32 *)(probabilities + q * 8 * map::PROBABILITY_STRIDE + tile * 16);
                p[q][1] = *(const u32 *)(probabilities + q * 8 * map::PROBABILITY_STRIDE + tile * 16 + 8);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 a[4];
                x.fragment_of_channels(a, i);
#pragma unroll
                for (int q = 0; q < VALUE_TILES; q++)
                    mma_f16(z[q][i], a, p[q][0], p[q][1]);
            }
        }
    }

    static __device__ __forceinline__ bool all_finite(const latent_sums &z)
    {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < VALUE_TILES * 16; i++)
            sum = fmaf(z[i / 16][i / 4 % 4][i % 4], 0.0f, sum);
        return !__any_sync(0xffffffff, sum != 0);
    }

    // Computes Z^T again after some x was infinite or NaN, because a row that does not see such a token must not get
    // 0 times that value. Here such values count as zeros, and Z becomes NaN in the rows that see one.
    static __device__ __forceinline__ void accumulate_seen(latent_sums &z, const work &w, int chunk, int begin, int end,
                                                           int query_tile)
    {
        const int lane = threadIdx.x % 32;
        const f16 *probabilities = map::probabilities_row(query_tile * 8 + lane / 4) + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < VALUE_TILES * 16; i++)
            z[i / 16][i / 4 % 4][i % 4] = 0;
#pragma unroll 1
        for (int tile = begin; tile < end; tile++) {
            chunk_operand<stream_v> x;
            x.load(w.template source_of<stream_v>(tile), w.template latent_of<stream_v>() * CHUNKS + chunk, lane);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 a[4], bad[4];
                x.fragment_of_channels(a, i);
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    bad[r] = element<false>::not_finite(a[r]);
                    a[r] &= ~(bad[r] * 0xffff);
                    bad[r] *= element<false>::ONE;
                }
#pragma unroll 1
                for (int q = 0; q < VALUE_TILES; q++) { // a loop, to take few registers
                    const u32 p0 = *(const u32 *)(probabilities + q * 8 * map::PROBABILITY_STRIDE + tile * 16);
                    const u32 p1 = *(const u32 *)(probabilities + q * 8 * map::PROBABILITY_STRIDE + tile * 16 + 8);
                    float sum[4] = {}, seen[4] = {};
#pragma unroll
                    for (int j = 0; j < VALUE_TILES * 4; j++)
                        sum[j % 4] = j / 4 == q ? z[j / 4][i][j % 4] : sum[j % 4];
                    mma_f16(seen, bad, (~p0 >> 15 & 0x00010001) * element<false>::ONE,
                            (~p1 >> 15 & 0x00010001) * element<false>::ONE);
                    mma_f16(sum, a, p0, p1);
#pragma unroll
                    for (int j = 0; j < VALUE_TILES * 4; j++) {
                        const float value = seen[j % 4] != 0 ? __int_as_float(0x7fffffff) : sum[j % 4];
                        z[j / 4][i][j % 4] = j / 4 == q ? value : z[j / 4][i][j % 4];
                    }
                }
            }
        }
    }

    // ------------------------------------------------------------ O

    // Multiplies each row of O that a lane has by its factor.
    static __device__ __forceinline__ void multiply_rows(output_sums &o, const float (&factors)[VALUE_TILES][2])
    {
#pragma unroll
        for (int i = 0; i < VALUE_TILES * HEAD_DIM / 4; i++)
            o[i / (HEAD_DIM / 4)][i / 4 % DIM_TILES][i % 4] *= factors[i / (HEAD_DIM / 4)][i % 2];
    }

    // Divides Z by the softmax sums. Returns whether the lane has nothing but small values of some row.
    static __device__ __forceinline__ bool normalize(latent_sums &z, int query_tile)
    {
        bool small = false;
#pragma unroll
        for (int q = 0; q < VALUE_TILES; q++) {
            const float2 inverse =
                *(const float2 *)(map::row_inverse_sum() + (query_tile + q) * 8 + threadIdx.x % 4 * 2);
#pragma unroll
            for (int i = 0; i < 16; i++)
                z[q][i / 4][i % 4] *= i % 2 ? inverse.y : inverse.x;
            small = small || (inverse.x != 0 && largest_of_row(z[q], 0) < SMALL_F16) || // rows without tokens have 0
                    (inverse.y != 0 && largest_of_row(z[q], 1) < SMALL_F16);
        }
        return small;
    }

    // O^T += Wv^T Z^T for 64 channels. Each row of O is multiplied by its scale, which is 1 unless the row's Z is too
    // small for f16. With bf16 weights it is always 1, because Z is then bf16, which has the range of f32.
    static __device__ __forceinline__ void project_latent(output_sums &o, scales_type &scales, latent_sums &z,
                                                          const xq_attend_params &p, const work &w, int chunk,
                                                          int query_tile)
    {
        const int lane = threadIdx.x % 32;
        const bool small = normalize(z, query_tile);
        if (WEIGHTS != WEIGHT_BF16 && __any_sync(0xffffffff, small || scales.any())) {
            float change[VALUE_TILES][2];
            scales.rescale(z, change);
            multiply_rows(o, change);
        }
        u32 b[VALUE_TILES][4][2];
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int q = 0; q < VALUE_TILES; q++) {
                b[q][i][0] = transpose_8x8(weight_partner<WEIGHTS>(z[q][i][0], z[q][i][1]));
                b[q][i][1] = transpose_8x8(weight_partner<WEIGHTS>(z[q][i][2], z[q][i][3]));
            }
#pragma unroll
            for (int m = 0; m < DIM_TILES; m++) {
                size_t tile = w.kv_head * DIM_TILES + m;
                weight_step<WEIGHTS> packed;
                u32 a[4];
                packed.load_global(p.wv.data + (tile * (CHUNKS * 4) + chunk * 4 + i) * WEIGHT_STEP_BYTES<WEIGHTS>,
                                   lane);
                packed.widen_transposed(a);
#pragma unroll
                for (int q = 0; q < VALUE_TILES; q++)
                    mma_weights<WEIGHTS>(o[q][m], a, b[q][i][0], b[q][i][1]);
            }
        }
    }

    // ------------------------------------------------------------ the sum over the warps

    // Adds up `count` sums of `dims` dimensions of 8 rows, [count][dims][8], and writes the result, or this split's
    // part of it. With many queries it writes after the last run of tokens, and keeps the output so far before that.
    static __device__ __forceinline__ void write(const xq_attend_params &p, const work &w, const output &o,
                                                 const float *sums, int count, int dims, int query_tile, int first_dim)
    {
        for (int i = threadIdx.x; i < 8 * dims / 4; i += THREADS) {
            int column = i % 8, quad = i / 8, row = query_tile * 8 + column;
            float sum[4] = {};
#pragma unroll
            for (int j = 0; j < count * 4; j++)
                sum[j % 4] += sums[(j / 4 * dims + quad * 4 + j % 4) * 8 + column];
            if constexpr (!WEIGHT_IS_WIDE<WEIGHTS>) {
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum[j] *= column_scale<WEIGHTS>(p.wv.scale, o.first_head / work::GROUP_HEADS * HEAD_DIM +
                                                                    first_dim + quad * 4 + j);
            }
            if constexpr (C::MANY) {
                float4 *running = (float4 *)(map::running_row(row) + first_dim) + quad;
                if (w.first > w.begin) {
                    const float4 before = *running;
                    const float kept = map::row_kept()[row];
                    sum[0] = (1 - kept) * sum[0] + kept * before.x;
                    sum[1] = (1 - kept) * sum[1] + kept * before.y;
                    sum[2] = (1 - kept) * sum[2] + kept * before.z;
                    sum[3] = (1 - kept) * sum[3] + kept * before.w;
                }
                if (w.first + w.count < w.end) {
                    *running = make_float4(sum[0], sum[1], sum[2], sum[3]);
                    continue;
                }
            }
            if (row < o.rows.count)
                o.write_mean(p, row, first_dim / 4 + quad, make_float4(sum[0], sum[1], sum[2], sum[3]),
                             map::row_lse()[row]);
        }
    }

    // Adds up the warps' sums of O in shared memory, PARTIAL_DIMS dimensions of 8 rows at a time, and writes them.
    static __device__ __forceinline__ void gather(const xq_attend_params &p, const work &w, const output &o,
                                                  const float (&values)[DIM_TILES][4], int query_tile)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        float *sums = map::partial_sums(warp) + lane / 4 * 8 + lane % 4 * 2;
#pragma unroll
        for (int first = 0; first < HEAD_DIM; first += PARTIAL_DIMS) {
#pragma unroll
            for (int m = 0; m < PARTIAL_DIMS / 16; m++) {
                const float(&v)[4] = values[first / 16 + m];
                *(float2 *)(sums + m * 128) = make_float2(v[0], v[1]);
                *(float2 *)(sums + m * 128 + 64) = make_float2(v[2], v[3]);
            }
            __syncthreads();
            write(p, w, o, map::partial_sums(0), WARPS, PARTIAL_DIMS, query_tile, first);
            __syncthreads(); // the sums are read before the next overwrite them
        }
    }
};

#endif
