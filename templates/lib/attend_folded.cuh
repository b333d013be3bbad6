// Scores of one query straight from sums of codes, without K in between, where a head's latent is one quantization
// group of a token and keys are not normalized.
//
// K of a token is s * k + m * u + b: s and m are the token's scale and offset, k has the sums of codes times int8
// weights, u those of the weights alone (both times the columns' scales), and b is the bias. RoPE and the product with
// the query are linear, and s and m are the same for all columns. So with R for the token's rotation
//
//   score = s * (q . R k)  +  m * (q . R u)  +  q . R b
//
// R is the product of two rotations: that of the token's row within its tile of 16, and that between the tile and the
// query. The second one is applied to the query, once for each tile. The first one is applied to k, u and b. For u and
// b it gives results that differ between the rows of a tile but not between tiles: they are constants of the block, in
// A fragments like those of k. The rotations of a tile's rows come from a table that the generator has made.
#ifndef XQ_LIB_ATTEND_FOLDED_CUH
#define XQ_LIB_ATTEND_FOLDED_CUH

#include "attend_codes.cuh"
#include "attend_query.cuh"
#include "attend_work.cuh"
#include "ptx.cuh"
#include "ptx_matrix.cuh"
#include "rope.cuh"

template <class C> struct attend_folded {
    using map = typename C::map;
    using work = attend_work<C>;
    using query = attend_query<C>;
    using stream = typename C::stream_k;
    static constexpr int M_TILES = C::M_TILES, THREADS = work::THREADS, KEY_COLUMNS = C::KEY_COLUMNS;
    static constexpr int PAIR_COLUMNS = C::PAIR_COLUMNS, PAIR_TILES = PAIR_COLUMNS / 8, KEY_TILES = 2 * PAIR_TILES;
    static constexpr int TILE_PAIRS = (PAIR_TILES + 1) / 2; // pairs of tiles of first members, with their partners
    // KEY_WARPS warps share the columns of K. Each has a part of the pairs, and the softmax stage adds up their scores.
    static constexpr int KEY_WARPS = C::KEY_WARPS, OWN_TILES = PAIR_TILES / KEY_WARPS, OWN_PAIRS = (OWN_TILES + 1) / 2;
    static constexpr int CENTER = 1 << (stream::BITS - 1);
    using sum = code_sum<CENTER, stream::LATENT_WIDTH>; // sum of codes less CENTER
    static_assert(C::KEY_COLUMNS == 2 * PAIR_COLUMNS, "all columns of K turn");
    static_assert(KEY_WARPS == 1 || PAIR_TILES % (2 * KEY_WARPS) == 0, "each warp has whole fragments");

    // The first tile of 8 pairs of the warp.
    static __device__ __forceinline__ int first_own()
    {
        return threadIdx.x / 32 % KEY_WARPS * OWN_TILES;
    }

    using operand = code_operand<stream>;
    // A fragments of two tiles of 8 pairs: both tiles' first members, then their partners; rows lane / 4 and lane / 4
    // + 8.
    using key_parts = u32[M_TILES][4][2];
    using code_sums = int[2 * OWN_TILES][4]; // sums of one tile

    // ------------------------------------------------------------ tables of the block

    // Fills the tables. A barrier of the block must follow.
    static __device__ __forceinline__ void prepare(const xq_attend_params &p, const work &w)
    {
        const int first = w.kv_head * KEY_COLUMNS;
        const float unit = column_unit(p, w);
        for (int i = threadIdx.x; i < KEY_TILES * 4; i += THREADS) { // two columns
            const float2 scale = __ldg((const float2 *)(p.wk.scale + first) + i);
            const float2 weights = __ldg((const float2 *)(p.wk.sums + first) + i);
            const float x = scale.x * unit, y = scale.y * unit;
            map::column_scales()[i] = make_float4(x, y, -sum::BIAS * x, -sum::BIAS * y);
            map::column_starts()[i] =
                make_int2(sum::START - CENTER * (int)weights.x, sum::START - CENTER * (int)weights.y);
        }
        for (int i = threadIdx.x; i < PAIR_TILES * 64; i += THREADS)
            map::row_turn_fragments()[i] = __ldg(C::ROW_TURNS + i);
        for (int i = threadIdx.x; i < PAIR_TILES * 32; i += THREADS) {
            const int column = first + i / 32 * 8 + i % 4 * 2;
            const float2 x = __ldg((const float2 *)(p.wk.sums + column)),
                         sx = __ldg((const float2 *)(p.wk.scale + column));
            const float2 y = __ldg((const float2 *)(p.wk.sums + column + PAIR_COLUMNS)),
                         sy = __ldg((const float2 *)(p.wk.scale + column + PAIR_COLUMNS));
            rotate_constant(0, i, make_float2(x.x * (sx.x * unit), x.y * (sx.y * unit)),
                            make_float2(y.x * (sy.x * unit), y.y * (sy.y * unit)));
            if constexpr (C::BIAS)
                rotate_constant(1, i, __ldg((const float2 *)(p.bk + column)),
                                __ldg((const float2 *)(p.bk + column + PAIR_COLUMNS)));
        }
        load_query(p, w);
        for (int i = threadIdx.x; i < PAIR_COLUMNS; i += THREADS)
            ((float2 *)map::block_turns())[i] = query::column_rotation(w.reference - w.queries.offset - w.begin, i);
        if (threadIdx.x == 0)
            *map::inverse_unit() = 1.0f / unit;
    }

    // The power of two that the columns' scales are multiplied by, so that sums times scales fit f16.
    static __device__ __forceinline__ float column_unit(const xq_attend_params &p, const work &w)
    {
        float largest = 0;
        for (int i = threadIdx.x % 32; i < KEY_COLUMNS; i += 32)
            largest = fmaxf(largest, __ldg(p.wk.scale + w.kv_head * KEY_COLUMNS + i));
#pragma unroll
        for (int distance = 16; distance; distance /= 2)
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, distance));
        constexpr float MOST = 127.0f * CENTER * stream::LATENT_WIDTH;     // the largest sum
        const int exponent = (__float_as_int(largest * MOST) >> 23) - 126; // largest * MOST < 2^exponent
        return power_of_two(min(max(15 - exponent, -100), 100));
    }

    // ------------------------------------------------------------ scores

    // The rotations between the query and the warp's next tile. They move from tile to tile by complex products. Each
    // item of a lane has two neighbouring pairs.
    struct tile_turns {
        static constexpr int ITEMS = (PAIR_COLUMNS + 63) / 64;
        float4 turn[ITEMS]; // (cos, sin) of two pairs

        // Starts at the warp's first tile: takes the rotation of the block's first tile, and moves it on.
        __device__ __forceinline__ void open()
        {
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int item = i * 32 + threadIdx.x % 32;
                turn[i] = item < PAIR_COLUMNS / 2 ? map::block_turns()[item] : make_float4(1, 0, 1, 0);
            }
            advance(2 + threadIdx.x / 32 / KEY_WARPS);
        }

        // Moves the rotations by a row of STEP_TURNS: row 0 is one tile, row 1 is all tiles that the block multiplies
        // at once, and row 2 + i leads from the block's first tile to that of the KEY_WARPS warps number i.
        __device__ __forceinline__ void advance(int row)
        {
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int item = i * 32 + threadIdx.x % 32;
                if (item < PAIR_COLUMNS / 2) {
                    const float4 by = __ldg(C::STEP_TURNS + row * (PAIR_COLUMNS / 2) + item);
                    float4 &t = turn[i];
                    t = make_float4(fmaf(t.y, -by.y, t.x * by.x), fmaf(t.x, by.y, t.y * by.x), fmaf(t.w, -by.w, t.z * by.z),
                                    fmaf(t.z, by.w, t.w * by.z));
                }
            }
        }

        // Stores the rotations in a table of the warp.
        __device__ __forceinline__ void store(float4 *table) const
        {
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int item = i * 32 + threadIdx.x % 32;
                if (item < PAIR_COLUMNS / 2)
                    table[item] = turn[i];
            }
        }
    };

    // The state that a warp keeps from tile to tile.
    struct state {
        tile_turns turns;
        float inverse_unit; // factor of scores

        __device__ __forceinline__ void open(const xq_attend_params &, const work &, int)
        {
            turns.open();
            inverse_unit = *map::inverse_unit();
        }
    };

    // The accumulators of one tile.
    struct accumulators {
        code_sums sums;
        row_params<stream> params;
    };

    static __device__ __forceinline__ void begin_chunk(accumulators &a, const work &w, int tile, int chunk)
    {
        if (chunk == 0)
            a.params.open(w, tile, 0, 1);
    }

    static __device__ __forceinline__ void end_chunk(accumulators (&)[M_TILES], const xq_attend_params &, const work &,
                                                     int)
    {
    }

    static __device__ __forceinline__ void multiply_stage(accumulators (&a)[M_TILES],
                                                          const code_operand<stream> (&x)[M_TILES], int chunk, int part,
                                                          const u8 *stage, int)
    {
        auto starts = [](int n) { return map::column_starts()[n * 4 + threadIdx.x % 4]; };
        if (chunk == 0 && part == 0)
            code_stage<C>::template multiply<true>(a, x, part, stage, starts);
        else
            code_stage<C>::template multiply<false>(a, x, part, stage, starts);
    }

    // Computes the scores of a warp's tiles, from the run's tile `first_tile` on. The state moves on to the warp's next
    // tiles.
    static __device__ __forceinline__ void score(const xq_attend_params &, const work &w,
                                                 const accumulators (&tiles)[M_TILES], state &state, int first_tile)
    {
        float4 *tables = map::tile_turn_fragments(threadIdx.x / 32 * M_TILES);
        tile_turns turn = state.turns;
        __syncwarp(); // the tables are read before they are filled again
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            turn.store(tables + m * (PAIR_COLUMNS / 2));
            if (m + 1 < M_TILES)
                turn.advance(0);
        }
        state.turns.advance(1);
        __syncwarp();
        if constexpr (C::QUERY_ROWS == 8) {
            score_tiles(
                w, [&](key_parts &k, int j) { rotate_rows(k, tiles, j); }, tiles, tables, state.inverse_unit, 0,
                first_tile);
        } else { // K is rotated once for all rows
            key_parts k[OWN_PAIRS];
#pragma unroll
            for (int j = 0; j < OWN_PAIRS; j++)
                rotate_rows(k[j], tiles, j);
#pragma unroll 1
            for (int query_tile = 0; query_tile < C::QUERY_ROWS / 8; query_tile++)
                score_tiles(
                    w, [&](key_parts &part, int j) { copy(part, k[j]); }, tiles, tables, state.inverse_unit, query_tile,
                    first_tile);
        }
    }

  private:
    // Rotates two neighbouring pairs and rounds them to f16; x has the first members and y the second ones. If many
    // pairs are rotated by the same sines, the compiler negates the sines once.
    static __device__ __forceinline__ uint2 rotate(float2 x, float2 y, float4 turns)
    {
        const float x0 = fmaf(y.x, -turns.y, x.x * turns.x), x1 = fmaf(y.y, -turns.w, x.y * turns.z);
        const float y0 = fmaf(x.x, turns.y, y.x * turns.x), y1 = fmaf(x.y, turns.w, y.y * turns.z);
        return make_uint2(pack_f16x2(x0, x1), pack_f16x2(y0, y1));
    }

    // Rotates item `i` of constant `which` and stores it in A fragments. The item is that of lane i % 32 in tile i / 32
    // of first members (x) and of partners (y).
    static __device__ __forceinline__ void rotate_constant(int which, int i, float2 x, float2 y)
    {
        const float4 *turns = C::ROW_TURNS + i / 32 * 64 + i % 32;
        const uint2 upper = rotate(x, y, __ldg(turns)), lower = rotate(x, y, __ldg(turns + 32));
        uint2 *fragments = (uint2 *)map::constants(which) + i % 32 * 2;
        const int tile = i / 32, even = tile / 2 * 2;
        const bool alone = tile + 1 == PAIR_TILES && tile == even; // the tile shares a fragment with its partners
        fragments[even * 64 + tile % 2] = make_uint2(upper.x, lower.x);
        fragments[(alone ? even : even + 1) * 64 + (alone ? 1 : tile % 2)] = make_uint2(upper.y, lower.y);
    }

    // Stores the query as B fragments. Those of two tiles of pairs have both tiles' first members, then their partners.
    // Rows that do not exist are zero.
    static __device__ __forceinline__ void load_query(const xq_attend_params &p, const work &w)
    {
        for (int i = threadIdx.x; i < C::QUERY_ROWS * TILE_PAIRS * 8; i += THREADS) {
            const int row = i / (TILE_PAIRS * 8), column = i % (TILE_PAIRS * 8) * 2;
            float v[4] = {};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int dim =
                    column < PAIR_COLUMNS ? query::key_dimension(column + j % 2 + j / 2 * PAIR_COLUMNS) : -1;
                if (row < w.rows.count && dim >= 0)
                    v[j] = f32_from_f16(query::value(p, w, row, dim)) * C::ROTARY_FACTOR;
            }
            u32 *fragment = (u32 *)(map::query_fragments(row / 8) + column / 16 * 32 + row % 8 * 4 + column / 2 % 4);
            fragment[column / 8 % 2] = pack_f16x2(v[0], v[1]);
            fragment[column / 8 % 2 + 2] = pack_f16x2(v[2], v[3]);
        }
    }

    static __device__ __forceinline__ void copy(key_parts &to, const key_parts &from)
    {
#pragma unroll
        for (int i = 0; i < M_TILES * 8; i++)
            to[i / 8][i / 2 % 4][i % 2] = from[i / 8][i / 2 % 4][i % 2];
    }

    // Makes part `j` of the warp's columns of K: sums times the columns' scales, rotated by the rows' places in their
    // tiles.
    static __device__ __forceinline__ void rotate_rows(key_parts &k, const accumulators (&tiles)[M_TILES], int j)
    {
        const int lane = threadIdx.x % 32;
        const float4 *scales = map::column_scales() + first_own() * 4 + lane % 4;
        const float4 *row_turns = map::row_turn_fragments() + first_own() * 64 + lane;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int n = 2 * j + i;
            if (n == OWN_TILES)
                break;
            const float4 first = scales[n * 4], second = scales[(n + PAIR_TILES) * 4];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float4 turns = row_turns[n * 64 + half * 32];
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    const uint2 rotated = rotate(scaled(tiles[m].sums[n] + 2 * half, first),
                                                 scaled(tiles[m].sums[n + OWN_TILES] + 2 * half, second), turns);
                    k[m][i][half] = rotated.x;
                    k[m][i + 2][half] = rotated.y;
                }
            }
        }
    }

    // Multiplies two columns of a row by their scales. The same fma takes off the bias of the sums (code_sum).
    static __device__ __forceinline__ float2 scaled(const int *sums, float4 scale)
    {
        return make_float2(sum::fma(sums[0], scale.x, scale.z), sum::fma(sums[1], scale.y, scale.w));
    }

    // Rotates part `j` of the query against each tile, into B fragments in the order of key_parts.
    static __device__ __forceinline__ void turn_query(u32 (&b)[M_TILES][4], const float4 *tables, int query_tile, int j)
    {
        const int lane = threadIdx.x % 32;
        const uint4 q = map::query_fragments(query_tile)[(first_own() / 2 + j) * 32 + lane];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int n = 2 * j + i;
            if (n == OWN_TILES)
                break;
            const u32 x = i ? q.y : q.x, y = i ? q.w : q.z;
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
                const uint2 turned = rotate(make_float2(f32_from_f16_low(x), f32_from_f16_high(x)),
                                            make_float2(f32_from_f16_low(y), f32_from_f16_high(y)),
                                            tables[m * (PAIR_COLUMNS / 2) + (first_own() + n) * 4 + lane % 4]);
                b[m][i] = turned.x;
                b[m][i + 2] = turned.y;
            }
        }
    }

    // Computes the scores of a warp's tiles for 8 rows. keys(k, j) gives part `j` of K.
    template <class F>
    static __device__ __forceinline__ void score_tiles(const work &w, F keys, const accumulators (&tiles)[M_TILES],
                                                       const float4 *tables, float inverse_unit, int query_tile,
                                                       int first_tile)
    {
        const int lane = threadIdx.x % 32;
        float codes[M_TILES][4] = {}, weights[M_TILES][4] = {}, bias[M_TILES][4] = {};
#pragma unroll
        for (int j = 0; j < OWN_PAIRS; j++) {
            u32 b[M_TILES][4];
            key_parts k;
            turn_query(b, tables, query_tile, j);
            keys(k, j);
            const bool alone = 2 * j + 1 == OWN_TILES; // one tile and its partners in one fragment; else two fragments
#pragma unroll
            for (int f = 0; f < (alone ? 1 : 2); f++) {
                const int first = 2 * f, second = alone ? 2 : 2 * f + 1;
                const uint4 u = map::constants(0)[(first_own() + 2 * j + f) * 32 + lane];
                [[maybe_unused]] uint4 v;
                if constexpr (C::BIAS)
                    v = map::constants(1)[(first_own() + 2 * j + f) * 32 + lane];
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    const u32 a[4] = {k[m][first][0], k[m][first][1], k[m][second][0], k[m][second][1]};
                    mma_f16(codes[m], a, b[m][first], b[m][second]);
                    multiply_constant(weights[m], u, b[m][first], b[m][second]);
                    if constexpr (C::BIAS)
                        multiply_constant(bias[m], v, b[m][first], b[m][second]);
                }
            }
        }
        if (lane % 4 * 2 >= map::SCORE_ROWS) // less than 8 rows have scores
            return;
        float *scores = map::scores_row(query_tile * 8 + lane % 4 * 2) +
                        threadIdx.x / 32 % KEY_WARPS * map::SCORE_PART + first_tile * 16 + lane / 4;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            if (first_tile + m >= w.tiles)
                break;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const row_params<stream> &params = tiles[m].params;
                const float scale = params.scale[half] * inverse_unit;
                const float offset = fmaf(params.scale[half], (float)CENTER, params.offset[half]) * inverse_unit;
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++)
                    scores[i % 2 * map::SCORE_STRIDE + m * 16 + half * 8] =
                        fmaf(scale, codes[m][i], fmaf(offset, weights[m][i], bias[m][i]));
            }
        }
    }

    static __device__ __forceinline__ void multiply_constant(float (&sums)[4], uint4 fragment, u32 b0, u32 b1)
    {
        const u32 a[4] = {fragment.x, fragment.y, fragment.z, fragment.w};
        mma_f16(sums, a, b0, b1);
    }
};

#endif
