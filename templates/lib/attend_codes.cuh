// K of attend's score stage as a product of integers: codes as they are cached, times int8 weights, on the matrix
// units.
//
// A value of the cache is s c + m, where c is its code, counted from the middle of the range of codes, and s and m are
// the scale and the offset of the code's group. So for a group of channels j of one token, and one column of Wk,
//
//   sum over j of (s c_j + m) w_j  =  s * (sum over j of c_j w_j)  +  m * (sum over j of w_j)
//
// The first sum is exact in 32-bit integers. The second depends on the weights alone, and is packed beside them
// (wk.sums). Scales and offsets are applied once for a group, to the accumulators; the scale of a column comes later
// (attend_keys.cuh). The operands are codes times unit_codes::SIGNED_UNIT, a power of two.
#ifndef XQ_LIB_ATTEND_CODES_CUH
#define XQ_LIB_ATTEND_CODES_CUH

#include "attend_keys.cuh"
#include "operand.cuh"
#include "ptx_matrix.cuh"
#include "weights.cuh"

// Conversion to f32 of a sum over CHANNELS channels of signed bytes times int8 weights. If the sum is known to stay
// below 2^22, it starts at the bits of the f32 number 1.5 * 2^23. An integer added to these bits adds the same integer
// to the number, so the bits of the sum are those of an f32, and no conversion is needed.
template <int CHANNELS> struct code_sum {
    static constexpr bool BIASED = 128.0 * 127.0 * CHANNELS < (1 << 22);
    static constexpr int START = BIASED ? 0x4b400000 : 0;
    static constexpr float BIAS = BIASED ? 12582912.0f : 0.0f; // START as f32

    // The sum times a factor, rounded once. `addend` is -BIAS times the factor.
    static __device__ __forceinline__ float times(int sum, float factor, float addend)
    {
        return BIASED ? fma_of_bits(sum, factor, addend) : (float)sum * factor;
    }
};

// The scale of one group of channels, and the value of its middle code (the offset), for token rows lane / 4 and
// lane / 4 + 8 of a tile.
template <class S> struct row_params {
    float scale[2], offset[2];

    // Loads the scales and offsets of group `group` of a tile. The slots of tokens beyond the sequence are read, too;
    // their scores are never used.
    __device__ __forceinline__ void open(const tile_source<S> &tile, int group)
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float2 params = scale_and_offset<S>(tile.record, group, threadIdx.x % 32 / 4 + 8 * half);
            scale[half] = params.x;
            offset[half] = fmaf(params.x, (float)unit_codes<S::BITS>::CENTER, params.y);
        }
    }
};

// One lane's codes of 64 channels of a tile, without scales and offsets.
template <class S> struct code_operand {
    unit_codes<S::BITS> codes;

    __device__ __forceinline__ void load(const tile_source<S> &tile, int chunk, int lane)
    {
        codes.load(tile.record + S::CODES + chunk * unit_codes<S::BITS>::BYTES, lane);
    }
};

// The part that both products of codes share: the loop over a stage of Wk. An instruction multiplies 32 channels, which
// are the steps 2 i and 2 i + 1 of 16 channels. The words of both operands in a lane have the same channels.
template <class C> struct code_stage {
    using stream = typename C::stream_k;
    using operand = code_operand<stream>;
    static constexpr int M_TILES = C::M_TILES, STAGE_STEPS = C::STAGE_STEPS;
    static constexpr int COLUMN_TILES = C::KEY_COLUMNS / 16, STEP_BYTES = WEIGHT_STEP_BYTES<WEIGHT_INT8>;
    static constexpr int OWN_TILES =
        COLUMN_TILES / C::KEY_WARPS; // tiles of a warp; with KEY_WARPS > 1, half of them are of partners
    static_assert(C::WEIGHTS == WEIGHT_INT8 && stream::AXIS == AXIS_TOKEN && stream::ORDER == ORDER_K &&
                      C::KEY_COLUMNS > 0 && !C::ABSORBED && stream::GROUP % 64 == 0,
                  "layout.key_product (gen/layout.lua) says where codes can be operands");

    // Adds part `part` of a chunk of 64 channels to A::sums of each tile, for the warp's own columns. With FIRST, which
    // marks the first stage of a tile, the sums start at `start`.
    template <bool FIRST, class A>
    static __device__ __forceinline__ void multiply(A (&a)[M_TILES], const operand (&x)[M_TILES], int part,
                                                    const u8 *stage, int start)
    {
        const int lane = threadIdx.x % 32, share = threadIdx.x / 32 % C::KEY_WARPS * (OWN_TILES / 2);
#pragma unroll
        for (int step = 0; step < STAGE_STEPS; step += 2) {
            u32 left[M_TILES][4];
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
                u32 first[2], second[2];
                x[m].codes.template signed_bytes<ORDER_K>(first, part * STAGE_STEPS + step);
                x[m].codes.template signed_bytes<ORDER_K>(second, part * STAGE_STEPS + step + 1);
                left[m][0] = first[0];
                left[m][1] = first[1];
                left[m][2] = second[0];
                left[m][3] = second[1];
            }
#pragma unroll
            for (int n = 0; n < OWN_TILES; n++) { // 16 columns
                // One warp with all columns has them in the order of K. A warp with some of them finds its partners
                // behind the first members of all warps.
                const int tile =
                    C::KEY_WARPS == 1 ? n : share + n + (n < OWN_TILES / 2 ? 0 : (COLUMN_TILES - OWN_TILES) / 2);
                weight_step<WEIGHT_INT8> first, second;
                first.load(stage + (tile * STAGE_STEPS + step) * STEP_BYTES, lane);
                second.load(stage + (tile * STAGE_STEPS + step + 1) * STEP_BYTES, lane);
#pragma unroll
                for (int half = 0; half < 2; half++) {
#pragma unroll
                    for (int m = 0; m < M_TILES; m++) {
                        if (FIRST && step == 0)
                            mma_s8s8(a[m].sums[2 * n + half], left[m], first.words[half], second.words[half], start);
                        else
                            mma_s8s8(a[m].sums[2 * n + half], left[m], first.words[half], second.words[half]);
                    }
                }
            }
        }
    }
};

// K of a warp's tiles, in f32: the scales and offsets of each group are applied to its sums. It has the interface of
// value_product (attend_scores.cuh).
template <class C> struct code_product : code_stage<C> {
    using work = attend_work<C>;
    using keys = attend_keys<C>;
    using stream = typename C::stream_k;
    using operand = code_operand<stream>;
    static constexpr int M_TILES = C::M_TILES, KEY_TILES = keys::KEY_TILES, LATENT_WIDTH = stream::LATENT_WIDTH;
    static constexpr int GROUP = stream::GROUP < LATENT_WIDTH ? stream::GROUP : LATENT_WIDTH;
    static constexpr float UNIT = 1.0f / unit_codes<stream::BITS>::SIGNED_UNIT;
    static constexpr int GROUP_CHUNKS = GROUP / 64, LATENT_GROUPS = (LATENT_WIDTH + GROUP - 1) / GROUP;
    using sum = code_sum<GROUP>;

    // The accumulators of one tile: K over the groups that are complete, and the sums of the current group.
    struct accumulators {
        typename keys::sums t;
        int sums[KEY_TILES][4];
        row_params<stream> params; // of the current group
    };

    struct state { // a warp keeps nothing from tile to tile
        __device__ __forceinline__ void open(const xq_attend_params &, const work &, int) {}
    };

    // Must be called before each chunk of the block's latent.
    static __device__ __forceinline__ void begin_chunk(accumulators &a, const work &w, const tile_source<stream> &tile,
                                                       int chunk)
    {
        if (chunk % GROUP_CHUNKS != 0)
            return;
        a.params.open(tile, w.template latent_of<stream>() * LATENT_GROUPS + chunk / GROUP_CHUNKS);
    }

    // Must be called after each chunk. If the chunk completes a group, K += scale * sums + offset * the weights' sums.
    static __device__ __forceinline__ void end_chunk(accumulators (&a)[M_TILES], const xq_attend_params &p,
                                                     const work &w, int chunk)
    {
        if (chunk % GROUP_CHUNKS != GROUP_CHUNKS - 1 && chunk != keys::CHUNKS - 1)
            return;
        const float *weight_sums = p.wk.sums +
                                   ((size_t)(chunk / GROUP_CHUNKS) * C::KV_HEADS + w.kv_head) * C::KEY_COLUMNS +
                                   threadIdx.x % 4 * 2;
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
            const float2 of_weights = __ldg((const float2 *)(weight_sums + n * 8));
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float &k = a[m].t.k[n][i];
                    k = fmaf(a[m].params.offset[i / 2], i % 2 ? of_weights.y : of_weights.x, k);
                    k = fmaf(a[m].params.scale[i / 2], sum::times(a[m].sums[n][i], UNIT, -sum::BIAS * UNIT), k);
                }
            }
        }
    }

    // Adds the product of a stage's channels. The first stage of a group starts the sums.
    static __device__ __forceinline__ void multiply_stage(accumulators (&a)[M_TILES], const operand (&x)[M_TILES],
                                                          int chunk, int part, const u8 *stage, int)
    {
        if (chunk % GROUP_CHUNKS == 0 && part == 0)
            code_stage<C>::template multiply<true>(a, x, part, stage, sum::START);
        else
            code_stage<C>::template multiply<false>(a, x, part, stage, sum::START);
    }

    static __device__ __forceinline__ void score(const xq_attend_params &p, const work &w,
                                                 accumulators (&tiles)[M_TILES], state &, int first_tile)
    {
        keys::score(p, w, tiles, first_tile);
    }
};

#endif
