// Scores of one query straight from sums of codes, without K in between, where a head's latent is one quantization
// group of a token.
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
// A fragments like those of k. The rotations of a tile's rows come from a table that the generator has made; in the
// block's copy they are multiplied by the columns' scales.
//
// Where keys are normalized over a head (QK-norm), K is n * R (v K'), with K' as K above, the norm's weights v, and a
// number n for each token, which multiplies the score. n takes the sum of squares of K', so K' is made as well, in f32,
// but it goes nowhere. v is multiplied into the rotations and into u.
//
// Both rotations are f16 arithmetic, two pairs at a time. Powers of two bring sums and scales into the range of f16, and
// scores are divided by these powers.
#ifndef XQ_LIB_ATTEND_FOLDED_CUH
#define XQ_LIB_ATTEND_FOLDED_CUH

#include "attend_codes.cuh"
#include "attend_query.cuh"
#include "attend_work.cuh"
#include "ptx.cuh"
#include "ptx_matrix.cuh"
#include "rope.cuh"

// The least power of two that is not below `number`.
constexpr int least_power_of_two(int number)
{
    int power = 1;
    while (power < number)
        power *= 2;
    return power;
}

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
    using sum = code_sum<stream::LATENT_WIDTH>;
    // Sums times this are below 2^15.
    static constexpr float SUM_UNIT = 2.0f / least_power_of_two(stream::LATENT_WIDTH);
    // Sums of codes, and of weights, are stored in this unit.
    static constexpr float UNIT = SUM_UNIT * unit_codes<stream::BITS>::SIGNED_UNIT;
    static constexpr bool NORM = C::NORM == KEY_NORM_HEAD;
    static_assert(C::KEY_COLUMNS == 2 * PAIR_COLUMNS, "all columns of K turn");
    static_assert(C::NORM == KEY_NORM_NONE || (NORM && KEY_WARPS == 1 && !C::BIAS),
                  "one warp has all squares of a head; a bias would be one more term of K");
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
        if (threadIdx.x < 32)
            *map::column_unit() = column_unit(p, w);
        load_query(p, w);
        for (int i = threadIdx.x; i < PAIR_COLUMNS; i += THREADS)
            ((float2 *)map::block_turns())[i] = query::column_rotation(w.reference - w.queries.offset - w.begin, i);
        __syncthreads();
        const float unit = *map::column_unit();
        for (int i = threadIdx.x; i < PAIR_TILES * 32; i += THREADS) {
            const int column = w.kv_head * KEY_COLUMNS + i / 32 * 8 + i % 4 * 2;
            const columns scale = columns(p.wk.scale + column).times(unit);
            columns weights = columns(p.wk.sums + column).times(scale).times(UNIT), factor = scale;
            if constexpr (NORM) {
                factor = columns(p.k_norm + column - w.kv_head * KEY_COLUMNS);
                if (i % 32 < 4) {
                    const int first = i / 32 * 4 + i % 4, second = first + PAIR_TILES * 4;
                    const columns sums = scale.times(SUM_UNIT);
                    map::column_factors()[first] = with_addends(sums.x);
                    map::column_factors()[second] = with_addends(sums.y);
                    map::column_weights()[first] = weights.x;
                    map::column_weights()[second] = weights.y;
                }
                weights = weights.times(factor);
            }
            const float4 *turns = C::ROW_TURNS + i / 32 * 64 + i % 32;
            const float4 upper = __ldg(turns), lower = __ldg(turns + 32);
            uint4 *scaled = map::row_turn_fragments() + i / 32 * 64 + i % 32;
            scaled[0] = scaled_turns(upper, factor);
            scaled[32] = scaled_turns(lower, factor);
            store_constant(0, i, upper, lower, weights);
            if constexpr (C::BIAS)
                store_constant(1, i, upper, lower, columns(p.bk + column));
        }
    }

    // The power of two that brings the largest of the columns' scales to between 1/2 and 1, or less if the norm's
    // weights are above 1. All lanes of a warp must call it.
    static __device__ __forceinline__ float column_unit(const xq_attend_params &p, const work &w)
    {
        float largest = 0;
        for (int i = threadIdx.x % 32; i < KEY_COLUMNS; i += 32) {
            float scale = __ldg(p.wk.scale + w.kv_head * KEY_COLUMNS + i);
            if constexpr (NORM)
                scale *= fmaxf(fabsf(__ldg(p.k_norm + i)), 1.0f);
            largest = fmaxf(largest, scale);
        }
#pragma unroll
        for (int distance = 16; distance; distance /= 2)
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, distance));
        const int exponent = (__float_as_int(largest) >> 23) - 126; // largest < 2^exponent
        return power_of_two(min(max(-exponent, -100), 100));
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

        // Stores the rotations in a table of the warp, in f16.
        __device__ __forceinline__ void store(uint2 *table) const
        {
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int item = i * 32 + threadIdx.x % 32;
                if (item < PAIR_COLUMNS / 2)
                    table[item] =
                        make_uint2(pack_f16x2(turn[i].x, turn[i].z), pack_f16x2(turn[i].y, turn[i].w));
            }
        }
    };

    // The state that a warp keeps from tile to tile.
    struct state {
        tile_turns turns;
        float unit; // of scores

        __device__ __forceinline__ void open(const xq_attend_params &, const work &, int)
        {
            turns.open();
            unit = 1.0f / (*map::column_unit() * UNIT);
        }
    };

    // The accumulators of one tile.
    struct accumulators {
        code_sums sums;
        row_params<stream> params;
    };

    static __device__ __forceinline__ void begin_chunk(accumulators &a, const work &w, const tile_source<stream> &tile,
                                                       int chunk)
    {
        if (chunk == 0)
            a.params.open(tile, w.template latent_of<stream>());
    }

    static __device__ __forceinline__ void end_chunk(accumulators (&)[M_TILES], const xq_attend_params &, const work &,
                                                     int)
    {
    }

    static __device__ __forceinline__ void multiply_stage(accumulators (&a)[M_TILES],
                                                          const code_operand<stream> (&x)[M_TILES], int chunk, int part,
                                                          const u8 *stage, int)
    {
        if (chunk == 0 && part == 0)
            code_stage<C>::template multiply<true>(a, x, part, stage, sum::START);
        else
            code_stage<C>::template multiply<false>(a, x, part, stage, sum::START);
    }

    // Computes the scores of a warp's tiles, from the run's tile `first_tile` on. The state moves on to the warp's next
    // tiles.
    static __device__ __forceinline__ void score(const xq_attend_params &, const work &w,
                                                 const accumulators (&tiles)[M_TILES], state &state, int first_tile)
    {
        uint2 *tables = map::tile_turn_fragments(threadIdx.x / 32 * M_TILES);
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
        squares squares(tiles);
        if constexpr (C::QUERY_ROWS == 8) {
            score_tiles(
                w, [&](key_parts &k, int j) { rotate_rows(k, squares, tiles, j); }, squares, tiles, tables, state.unit,
                0, first_tile);
        } else { // K is rotated once for all rows
            key_parts k[OWN_PAIRS];
#pragma unroll
            for (int j = 0; j < OWN_PAIRS; j++)
                rotate_rows(k[j], squares, tiles, j);
#pragma unroll 1
            for (int query_tile = 0; query_tile < C::QUERY_ROWS / 8; query_tile++)
                score_tiles(
                    w, [&](key_parts &part, int j) { copy(part, k[j]); }, squares, tiles, tables, state.unit,
                    query_tile, first_tile);
        }
    }

  private:
    // Numbers of two neighbouring pairs of columns: first members, x, and their partners, y.
    struct columns {
        float2 x, y;

        __device__ __forceinline__ columns(float2 first, float2 second) : x(first), y(second) {}
        // Loads an array of all columns, from the first member of the first pair on.
        __device__ __forceinline__ explicit columns(const float *from)
            : x(__ldg((const float2 *)from)), y(__ldg((const float2 *)(from + PAIR_COLUMNS)))
        {
        }
        __device__ __forceinline__ columns times(columns by) const
        {
            return columns(make_float2(x.x * by.x.x, x.y * by.x.y), make_float2(y.x * by.y.x, y.y * by.y.y));
        }
        __device__ __forceinline__ columns times(float by) const
        {
            return times(columns(make_float2(by, by), make_float2(by, by)));
        }
        // Rotates both pairs by the (cos, sin) of each, and rounds them to f16.
        __device__ __forceinline__ uint2 rotated(float4 turns) const
        {
            const float x0 = fmaf(y.x, -turns.y, x.x * turns.x), x1 = fmaf(y.y, -turns.w, x.y * turns.z);
            const float y0 = fmaf(x.x, turns.y, y.x * turns.x), y1 = fmaf(x.y, turns.w, y.y * turns.z);
            return make_uint2(pack_f16x2(x0, x1), pack_f16x2(y0, y1));
        }
    };

    // The factors that scale and rotate two pairs of K (rotate_rows): x * .x + y * .y are the first members, and
    // x * .z + y * .w the partners.
    static __device__ __forceinline__ uint4 scaled_turns(float4 turns, columns scale)
    {
        return make_uint4(pack_f16x2(scale.x.x * turns.x, scale.x.y * turns.z),
                          pack_f16x2(scale.y.x * -turns.y, scale.y.y * -turns.w),
                          pack_f16x2(scale.x.x * turns.y, scale.x.y * turns.w),
                          pack_f16x2(scale.y.x * turns.x, scale.y.y * turns.z));
    }

    // Stores item `i` of constant `which`, as rotated for both rows of the item, in A fragments. The item is that of
    // lane i % 32 in tile i / 32 of first members and of partners.
    static __device__ __forceinline__ void store_constant(int which, int i, float4 upper_turns, float4 lower_turns,
                                                          columns value)
    {
        const uint2 upper = value.rotated(upper_turns), lower = value.rotated(lower_turns);
        uint2 *fragments = (uint2 *)map::constants(which) + i % 32 * 2;
        const int tile = i / 32, even = tile / 2 * 2;
        const bool alone = tile + 1 == PAIR_TILES && tile == even; // the tile shares a fragment with its partners
        fragments[even * 64 + tile % 2] = make_uint2(upper.x, lower.x);
        fragments[(alone ? even : even + 1) * 64 + (alone ? 1 : tile % 2)] = make_uint2(upper.y, lower.y);
    }

    // Factors of two columns' sums, and what code_sum::times adds with them.
    static __device__ __forceinline__ float4 with_addends(float2 factors)
    {
        return make_float4(factors.x, factors.y, -sum::BIAS * factors.x, -sum::BIAS * factors.y);
    }

    // NORM: sums of squares of K' over the lane's columns, for rows lane / 4 and lane / 4 + 8 of each tile. They are in
    // units of the token's scale, which is taken as the least positive f16 where it is 0.
    struct squares {
        float scale[M_TILES][2], ratio[M_TILES][2], sum[M_TILES][2]; // ratio: the token's offset / its scale

        __device__ __forceinline__ explicit squares(const accumulators (&tiles)[M_TILES])
        {
            if constexpr (NORM) {
#pragma unroll
                for (int i = 0; i < M_TILES * 2; i++) {
                    scale[i / 2][i % 2] = fmaxf(tiles[i / 2].params.scale[i % 2], 0x1p-24f);
                    ratio[i / 2][i % 2] = __fdividef(tiles[i / 2].params.offset[i % 2], scale[i / 2][i % 2]);
                    sum[i / 2][i % 2] = 0;
                }
            }
        }

        // Adds two columns of a row; `weights` has the sums of their weights.
        __device__ __forceinline__ void add(int m, int half, float2 codes, float2 weights)
        {
            const float x = fmaf(ratio[m][half], weights.x, codes.x), y = fmaf(ratio[m][half], weights.y, codes.y);
            sum[m][half] = fmaf(x, x, fmaf(y, y, sum[m][half]));
        }

        // The number that K of the row is multiplied by. All lanes of the row get it.
        __device__ __forceinline__ float norm(int m, int half, float unit) const
        {
            float all = sum[m][half];
            all += __shfl_xor_sync(0xffffffff, all, 1);
            all += __shfl_xor_sync(0xffffffff, all, 2);
            const float k = scale[m][half] * unit;
            return rsqrtf(fmaf(k * k * (1.0f / C::HEAD_DIM), all, C::NORM_EPSILON));
        }
    };

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

    // Makes part `j` of the warp's columns of K: sums times the columns' scales (or, with NORM, the norm's weights),
    // rotated by the rows' places in their tiles. All of it is in f16.
    static __device__ __forceinline__ void rotate_rows(key_parts &k, squares &squares,
                                                       const accumulators (&tiles)[M_TILES], int j)
    {
        const int lane = threadIdx.x % 32;
        const uint4 *row_turns = map::row_turn_fragments() + first_own() * 64 + lane;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int n = 2 * j + i;
            if (n == OWN_TILES)
                break;
            float4 first = with_addends(make_float2(SUM_UNIT, SUM_UNIT)), second = first;
            [[maybe_unused]] float2 first_weights, second_weights;
            if constexpr (NORM) {
                first = map::column_factors()[n * 4 + lane % 4];
                second = map::column_factors()[(n + PAIR_TILES) * 4 + lane % 4];
                first_weights = map::column_weights()[n * 4 + lane % 4];
                second_weights = map::column_weights()[(n + PAIR_TILES) * 4 + lane % 4];
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint4 turns = row_turns[n * 64 + half * 32];
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    const float2 x_codes = scaled(tiles[m].sums[n] + 2 * half, first);
                    const float2 y_codes = scaled(tiles[m].sums[n + OWN_TILES] + 2 * half, second);
                    if constexpr (NORM) {
                        squares.add(m, half, x_codes, first_weights);
                        squares.add(m, half, y_codes, second_weights);
                    }
                    const u32 x = pack_f16x2(x_codes.x, x_codes.y), y = pack_f16x2(y_codes.x, y_codes.y);
                    k[m][i][half] = f16x2_fma(y, turns.y, f16x2_mul(x, turns.x));
                    k[m][i + 2][half] = f16x2_fma(y, turns.w, f16x2_mul(x, turns.z));
                }
            }
        }
    }

    // Two neighbouring sums times their factors.
    static __device__ __forceinline__ float2 scaled(const int *sums, float4 factors)
    {
        return make_float2(sum::times(sums[0], factors.x, factors.z), sum::times(sums[1], factors.y, factors.w));
    }

    // Rotates part `j` of the query against each tile, into B fragments in the order of key_parts.
    static __device__ __forceinline__ void turn_query(u32 (&b)[M_TILES][4], const uint2 *tables, int query_tile, int j)
    {
        const int lane = threadIdx.x % 32;
        const uint4 q = map::query_fragments(query_tile)[(first_own() / 2 + j) * 32 + lane];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int n = 2 * j + i;
            if (n == OWN_TILES)
                break;
            const u32 x = i ? q.y : q.x, y = i ? q.w : q.z, minus_y = f16x2_neg(y);
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
                const uint2 turn = tables[m * (PAIR_COLUMNS / 2) + (first_own() + n) * 4 + lane % 4];
                b[m][i] = f16x2_fma(minus_y, turn.y, f16x2_mul(x, turn.x));
                b[m][i + 2] = f16x2_fma(x, turn.y, f16x2_mul(y, turn.x));
            }
        }
    }

    // Computes the scores of a warp's tiles for 8 rows. keys(k, j) gives part `j` of K.
    template <class F>
    static __device__ __forceinline__ void score_tiles(const work &w, F keys, const squares &squares,
                                                       const accumulators (&tiles)[M_TILES],
                                                       const uint2 *tables, float unit, int query_tile, int first_tile)
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
        float units[M_TILES][2];
#pragma unroll
        for (int i = 0; i < M_TILES * 2; i++)
            units[i / 2][i % 2] = NORM ? unit * squares.norm(i / 2, i % 2, unit) : unit;
        if (query_tile * 8 + lane % 4 * 2 >= map::SCORE_ROWS) // rows without queries have no room for scores
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
                const float scale = params.scale[half] * units[m][half], offset = params.offset[half] * units[m][half];
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
