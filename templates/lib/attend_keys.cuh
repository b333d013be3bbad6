// K of 16 tokens in the registers of a warp, from the product with Wk to the product with the queries. A head's K is
// complete in f32 accumulators (D fragments), where both members of a rotary pair are in the same lane.
//
//   K --scale of 8-bit weights, bias, QK-norm--> --RoPE--> f16 A fragments --x q--> scores, in shared memory
#ifndef XQ_LIB_ATTEND_KEYS_CUH
#define XQ_LIB_ATTEND_KEYS_CUH

#include "attend_map.cuh"
#include "attend_query.cuh"
#include "attend_work.cuh"
#include "ptx_matrix.cuh"
#include "rope.cuh"
#include "score.cuh"
#include "weights.cuh"

// Accumulators of one 16-token tile, in tiles of 8: columns of K, and the scores that rows have from absorbed
// dimensions.
template <int KEY_TILES, int QUERY_TILES> struct key_sums {
    float k[KEY_TILES][4];
    float absorbed[QUERY_TILES][4];
};
template <int KEY_TILES> struct key_sums<KEY_TILES, 0> {
    float k[KEY_TILES][4];
};
template <int QUERY_TILES> struct key_sums<0, QUERY_TILES> {
    float absorbed[QUERY_TILES][4];
};

template <class C> struct attend_keys {
    using map = typename C::map;
    using work = attend_work<C>;
    using query = attend_query<C>;
    static constexpr weight_type WEIGHTS = C::WEIGHTS;
    static constexpr int M_TILES = C::M_TILES;
    static constexpr int PAIRS = C::PAIRS, PAIR_COLUMNS = C::PAIR_COLUMNS, KEY_COLUMNS = C::KEY_COLUMNS;
    static constexpr bool REMAT = KEY_COLUMNS > 0;
    static constexpr int KEY_TILES = REMAT ? KEY_COLUMNS / 8 : 1; // n8 tiles; without columns of K, one unused tile
    static constexpr int PAIR_TILES = PAIR_COLUMNS / 8; // tiles of first members of pairs
    static constexpr int QUERY_TILES = C::QUERY_ROWS / 8;
    static constexpr int CHUNKS = C::stream_k::LATENT_WIDTH / 64; // chunks of 64 channels of a head's latent

    // K takes scales, a bias or a norm before it is rotated.
    static constexpr bool FINISHED = !WEIGHT_IS_WIDE<WEIGHTS> || C::BIAS || C::NORM != KEY_NORM_NONE;

    // The accumulators of a warp for one 16-token tile.
    using sums = key_sums<KEY_COLUMNS / 8, C::ABSORBED ? QUERY_TILES : 0>;

    // Computes the scores of a warp's tiles from their accumulators, the sums in A::t. The warp's tiles are those of
    // the run from `first_tile` on.
    template <class A>
    static __device__ __forceinline__ void score(const xq_attend_params &p, const work &w, A (&tiles)[M_TILES],
                                                 int first_tile)
    {
        [[maybe_unused]] float2 *turns; // table of the first tile, with one query
        if constexpr (PAIRS > 0 && !C::MANY) {
            turns = map::tile_turns(threadIdx.x / 32 * M_TILES);
            __syncwarp();
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
                fill_tile_turns(turns + m * PAIR_COLUMNS, w.reference - w.token_position(p, (first_tile + m) * 16));
            __syncwarp();
        }
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            const int tile = first_tile + m;
            sums &t = tiles[m].t;
            if (tile < w.tiles) {
                if constexpr (REMAT && FINISHED)
                    finish(t.k, p, w, tile);
                if constexpr (C::ABSORBED)
                    store_absorbed(p, w, t, tile);
                if constexpr (PAIRS > 0 && C::MANY) {
                    rotate_and_score(p, w, t, tile);
                } else if constexpr (PAIRS > 0) {
                    const int row = threadIdx.x % 32 / 4;
                    rotate_rows(t.k, map::row_turns(row), map::row_turns(row + 8));
                    score_tile(w, t, tile, turns + m * PAIR_COLUMNS, true, true);
                } else if constexpr (REMAT) {
                    score_tile(w, t, tile, nullptr, true, true);
                }
            }
        }
    }

  private:
    // ------------------------------------------------------------ K before RoPE

    // Applies the scales of 8-bit weights, the bias and the norm.
    static __device__ __forceinline__ void finish(float (&k)[KEY_TILES][4], const xq_attend_params &p, const work &w,
                                                  int tile)
    {
        const int column = threadIdx.x % 4 * 2;
        if constexpr (!WEIGHT_IS_WIDE<WEIGHTS>) {
#pragma unroll
            for (int i = 0; i < 2 * KEY_TILES; i++) {
                const float scale =
                    column_scale<WEIGHTS>(p.wk.scale, w.kv_head * KEY_COLUMNS + i / 2 * 8 + column + i % 2);
                k[i / 2][i % 2] *= scale;
                k[i / 2][i % 2 + 2] *= scale;
            }
        }
        if constexpr (C::BIAS) {
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++) {
                const float2 bias = __ldg((const float2 *)(p.bk + w.kv_head * KEY_COLUMNS + n * 8 + column));
                k[n][0] += bias.x;
                k[n][1] += bias.y;
                k[n][2] += bias.x;
                k[n][3] += bias.y;
            }
        }
        if constexpr (C::NORM != KEY_NORM_NONE)
            normalize(k, p, w, tile, column);
    }

    // A lane's part of the sums of squares of rows lane / 4 and lane / 4 + 8.
    static __device__ __forceinline__ void sum_squares(float (&square)[2], const float (&k)[KEY_TILES][4],
                                                       const xq_attend_params &p, const work &w, int tile)
    {
        if constexpr (C::NORM == KEY_NORM_ROW) { // over all heads; kernel `key_norms` has made each head's sum
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int token = w.first + min(tile * 16 + (int)threadIdx.x % 32 / 4 + 8 * half, w.count - 1);
                const int entry = p.table.indptr[w.queries.sequence] + token / C::PAGE_TOKENS;
                const float *sums =
                    p.key_sums + ((size_t)entry * C::PAGE_TOKENS + token % C::PAGE_TOKENS) * C::KV_HEADS;
                for (int head = threadIdx.x % 4; head < C::KV_HEADS; head += 4)
                    square[half] += __ldg(sums + head);
            }
        } else { // columns of padding are zero
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++) {
                square[0] += k[n][0] * k[n][0] + k[n][1] * k[n][1];
                square[1] += k[n][2] * k[n][2] + k[n][3] * k[n][3];
            }
        }
    }

    // Applies QK-norm. `column` is the lane's first column in a tile of 8.
    static __device__ __forceinline__ void normalize(float (&k)[KEY_TILES][4], const xq_attend_params &p, const work &w,
                                                     int tile, int column)
    {
        constexpr bool ROW = C::NORM == KEY_NORM_ROW;
        float square[2] = {};
        sum_squares(square, k, p, w, tile);
        const float *norms = p.k_norm + (ROW ? w.kv_head * KEY_COLUMNS : 0);
        float scale[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            square[half] += __shfl_xor_sync(0xffffffff, square[half], 1);
            square[half] += __shfl_xor_sync(0xffffffff, square[half], 2);
            scale[half] = rsqrtf(square[half] * (1.0f / ((ROW ? C::KV_HEADS : 1) * C::HEAD_DIM)) + C::NORM_EPSILON);
        }
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
            const float2 norm = __ldg((const float2 *)(norms + n * 8 + column));
            k[n][0] *= scale[0] * norm.x;
            k[n][1] *= scale[0] * norm.y;
            k[n][2] *= scale[1] * norm.x;
            k[n][3] *= scale[1] * norm.y;
        }
    }

    // ------------------------------------------------------------ RoPE

    // Fills a table of the warp with the rotations between the queries and a tile.
    static __device__ __forceinline__ void fill_tile_turns(float2 *turns, int distance)
    {
        for (int i = threadIdx.x % 32; i < PAIR_COLUMNS; i += 32) {
            const float2 turn = query::column_rotation(distance, i);
            turns[i] = C::MANY ? turn : make_float2(turn.x * C::ROTARY_FACTOR, turn.y * C::ROTARY_FACTOR);
        }
    }

    // Rotates K rows lane / 4 and lane / 4 + 8 of a tile, each by a row of a table of rotations. Column i and its
    // partner i + PAIR_COLUMNS are in the same lane.
    static __device__ __forceinline__ void rotate_rows(float (&k)[KEY_TILES][4], const float2 *turns0,
                                                       const float2 *turns1)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int n = 0; n < PAIR_TILES; n++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float4 turn = *(const float4 *)((half ? turns1 : turns0) + n * 8 + lane % 4 * 2);
                rope_rotate(k[n][2 * half], k[n + PAIR_TILES][2 * half], make_float2(turn.x, turn.y));
                rope_rotate(k[n][2 * half + 1], k[n + PAIR_TILES][2 * half + 1], make_float2(turn.z, turn.w));
            }
        }
    }

    // Rotates a tile of K to the block's reference and scores it. The rows of a tile are at positions within 16 of each
    // other, unless they are drafts of a tree. Drafts may take several passes, and a row is rotated only in its own.
    static __device__ __forceinline__ void rotate_and_score(const xq_attend_params &p, const work &w,
                                                            sums &t, int tile)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        float2 *turns = map::tile_turns(warp);
        int position[2];
        bool waiting[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int token = tile * 16 + lane / 4 + 8 * half;
            waiting[half] = token < w.count;
            position[half] = waiting[half] ? w.token_position(p, token) : 0x7fffffff;
        }
        do {
            int reference = min(waiting[0] ? position[0] : 0x7fffffff, waiting[1] ? position[1] : 0x7fffffff);
#pragma unroll
            for (int distance = 4; distance < 32; distance *= 2)
                reference = min(reference, __shfl_xor_sync(0xffffffff, reference, distance));
            const bool first = waiting[0] && position[0] - reference < 16;
            const bool second = waiting[1] && position[1] - reference < 16;
            fill_tile_turns(turns, reference - w.reference);
            __syncwarp();
            const float2 *still = map::row_turns(0); // the rotation by 0
            rotate_rows(t.k, first ? map::row_turns(position[0] - reference) : still,
                        second ? map::row_turns(position[1] - reference) : still);
            rotate_rows(t.k, first ? turns : still, second ? turns : still);
            score_tile(w, t, tile, turns, first, second);
            waiting[0] = waiting[0] && !first;
            waiting[1] = waiting[1] && !second;
            __syncwarp(); // the table is read before it is filled again
        } while (__any_sync(0xffffffff, waiting[0] || waiting[1]));
    }

    // ------------------------------------------------------------ scores

    // Loads two neighbouring dimensions of the one query and their partners, rotated against a tile.
    static __device__ __forceinline__ void rotated_query(u32 &low, u32 &high, const f16 *query, const float2 *turns,
                                                         int column)
    {
        low = *(const u32 *)(query + column);
        high = *(const u32 *)(query + column + PAIR_COLUMNS);
        rope_rotate_f16x2(low, high, *(const float4 *)(turns + column));
    }

    // Makes an A fragment of the accumulated columns of K in n8 tiles n0 and n1.
    static __device__ __forceinline__ void fragment(u32 (&a)[4], const float (&k)[KEY_TILES][4], int n0, int n1)
    {
        a[0] = pack_f16x2(k[n0][0], k[n0][1]);
        a[1] = pack_f16x2(k[n0][2], k[n0][3]);
        a[2] = pack_f16x2(k[n1][0], k[n1][1]);
        a[3] = pack_f16x2(k[n1][2], k[n1][3]);
    }

    // s += K q for 8 rows. Many queries are rotated already; the one query is rotated on the way.
    static __device__ __forceinline__ void multiply_query(float (&s)[4], const float (&k)[KEY_TILES][4],
                                                          const f16 *query, const float2 *turns)
    {
        constexpr int STILL = C::MANY ? 0 : 2 * PAIR_TILES; // columns from this tile on are not rotated here
        const int column = threadIdx.x % 4 * 2;
        u32 a[4];
        if constexpr (STILL > 0) {
#pragma unroll
            for (int n = 0; n + 1 < PAIR_TILES; n += 2) {
                u32 low[2], high[2];
                rotated_query(low[0], high[0], query, turns, n * 8 + column);
                rotated_query(low[1], high[1], query, turns, n * 8 + 8 + column);
                fragment(a, k, n, n + 1);
                mma_f16(s, a, low[0], low[1]);
                fragment(a, k, n + PAIR_TILES, n + 1 + PAIR_TILES);
                mma_f16(s, a, high[0], high[1]);
            }
            if (PAIR_TILES % 2) { // the last first members with their partners
                u32 low, high;
                rotated_query(low, high, query, turns, (PAIR_TILES - 1) * 8 + column);
                fragment(a, k, PAIR_TILES - 1, 2 * PAIR_TILES - 1);
                mma_f16(s, a, low, high);
            }
        }
#pragma unroll
        for (int n = STILL; n < KEY_TILES; n += 2) {
            fragment(a, k, n, n + 1);
            mma_f16(s, a, *(const u32 *)(query + n * 8 + column), *(const u32 *)(query + n * 8 + 8 + column));
        }
    }

    // Stores scores[row][token] of one 16-token tile. `first` and `second` say whether the scores of the lane's tokens
    // lane / 4 and lane / 4 + 8 are wanted.
    static __device__ __forceinline__ void score_tile(const work &w, const sums &t, int tile,
                                                      const float2 *turns, bool first, bool second)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll 1
        for (int query_tile = 0; query_tile * 8 < (C::MANY ? w.rows.count : C::QUERY_ROWS); query_tile++) {
            float *scores = map::scores_row(query_tile * 8 + lane % 4 * 2) + tile * 16 + lane / 4;
            float s[4] = {};
            multiply_query(s, t.k, map::query_row(query_tile * 8 + lane / 4), turns);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float *score = scores + i % 2 * map::SCORE_STRIDE + i / 2 * 8;
                if (i < 2 ? first : second)
                    *score = score_exponent<C>(C::ABSORBED ? s[i] + *score : s[i]);
            }
        }
    }

    // Stores the sums over the absorbed dimensions in the place of the scores.
    static __device__ __forceinline__ void store_absorbed(const xq_attend_params &p, const work &w,
                                                          const sums &t, int tile)
    {
        const int lane = threadIdx.x % 32;
        const size_t block = (size_t)blockIdx.z * C::KV_HEADS + w.kv_head;
#pragma unroll
        for (int query_tile = 0; query_tile < QUERY_TILES; query_tile++) {
            const float *scales =
                p.absorbed_scale + block * CHUNKS * C::QUERY_ROWS + query_tile * 8 + lane % 4 * 2;
            const float scale[2] = {__ldg(scales), __ldg(scales + 1)};
            float bias[2] = {};
            if constexpr (C::BIAS) {
                const float *biases = p.absorbed_bias + block * C::QUERY_ROWS + query_tile * 8 + lane % 4 * 2;
                bias[0] = __ldg(biases);
                bias[1] = __ldg(biases + 1);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = query_tile * 8 + lane % 4 * 2 + i % 2;
                const float s = fmaf(t.absorbed[query_tile][i], scale[i % 2], bias[i % 2]);
                map::scores_row(row)[tile * 16 + lane / 4 + i / 2 * 8] = REMAT ? s : score_exponent<C>(s);
            }
        }
    }
};

#endif
