// The shared-memory map of a block of attend: where each region begins, in bytes, and its rows.
//
//   RING           [STAGES][16 * STAGE_STEPS channels x KEY_COLUMNS] weights   Wk, a ring; the absorbed queries after each
//                  stage's weights. Once the scores are complete, the next two take its place:
//     PROBABILITIES  [QUERY_ROWS][SPLIT_TOKENS + 8] f16
//     PARTIAL_SUMS   [WARPS][PARTIAL_DIMS][8] f32
//   SCORES         [QUERY_ROWS][SPLIT_TOKENS + 4] f32
//   ROW_TURNS      [16][ROW_TURN_STRIDE] (cos, sin)              RoPE of rows within a tile
//   TILE_TURNS     [WARPS * TURN_TILES][PAIR_COLUMNS] (cos, sin) RoPE between the queries and each tile
//   QUERY          [QUERY_ROWS][KEY_COLUMNS + 8] f16             in the order of K's columns
//   RUNNING        [QUERY_ROWS][HEAD_DIM + 4] f32                many queries: output of the block's tokens so far
//   RECORDS        [SPLIT_TOKENS / 16]                           addresses of the split's tile records
//   STATS          [QUERY_ROWS] f32 each: log-sum-exp and 1 / sum, then the flag of the last block, 16 bytes; many
//                  queries: the weight of the output accumulated so far
//
// attend.spec.lua states the same places (shared_map); the kernel asserts that both agree.
//
// C names the model and the schedule (struct config in attend.cu.lt). The stages reach shared memory through C::map alone,
// so a schedule with another ring can have a map of its own with the same functions.
#ifndef XQ_LIB_ATTEND_MAP_CUH
#define XQ_LIB_ATTEND_MAP_CUH

#include "ptx.cuh"
#include "weights.cuh"

extern __shared__ __align__(128) u8 shared[];

template <class C> struct attend_map {
    static constexpr int ROWS = C::QUERY_ROWS, WARPS = C::WARPS;

    // Strides that keep fragment accesses free of bank conflicts.
    static constexpr int SCORE_STRIDE = C::SPLIT_TOKENS + 4;
    static constexpr int PROBABILITY_STRIDE = C::SPLIT_TOKENS + 8;
    static constexpr int QUERY_STRIDE = C::KEY_COLUMNS + 8;
    static constexpr int RUNNING_STRIDE = C::HEAD_DIM + 4;
    static constexpr int ROW_TURN_STRIDE = C::PAIR_COLUMNS % 16 ? C::PAIR_COLUMNS : C::PAIR_COLUMNS + 8;

    static constexpr int TURN_TILES = C::MANY ? 1 : C::M_TILES; // of a warp

    // A stage of the ring: STAGE_STEPS steps of all columns of K, then those of the absorbed queries.
    static constexpr int KEY_STAGE_BYTES = C::STAGE_STEPS * (C::KEY_COLUMNS / 16) * WEIGHT_STEP_BYTES<C::WEIGHTS>;
    static constexpr int STAGE_BYTES = KEY_STAGE_BYTES + (C::ABSORBED ? ROWS / 8 : 0) * C::STAGE_STEPS * 256;

    static constexpr int RING = 0, PROBABILITIES = 0;
    static constexpr int RING_END = RING + C::STAGES * STAGE_BYTES;
    static constexpr int PARTIAL_SUMS = PROBABILITIES + ROWS * PROBABILITY_STRIDE * 2;
    static constexpr int PARTIAL_SUMS_END = PARTIAL_SUMS + WARPS * C::PARTIAL_DIMS * 8 * 4;
    static constexpr int SCORES = RING_END > PARTIAL_SUMS_END ? RING_END : PARTIAL_SUMS_END;
    static constexpr int ROW_TURNS = SCORES + ROWS * SCORE_STRIDE * 4;
    static constexpr int TILE_TURNS = ROW_TURNS + (C::PAIRS ? 16 * ROW_TURN_STRIDE * 8 : 0);
    static constexpr int QUERY = TILE_TURNS + WARPS * TURN_TILES * C::PAIR_COLUMNS * 8;
    static constexpr int RUNNING = QUERY + (C::KEY_COLUMNS ? ROWS * QUERY_STRIDE * 2 : 0);
    static constexpr int RECORDS = RUNNING + (C::MANY ? ROWS * RUNNING_STRIDE * 4 : 0);
    static constexpr int STATS = RECORDS + C::SPLIT_TOKENS / 16 * 8;
    static constexpr int BYTES = STATS + ((C::MANY ? 3 : 2) * ROWS + 4) * 4;

    static_assert((PARTIAL_SUMS | SCORES | ROW_TURNS | TILE_TURNS | QUERY | RUNNING | RECORDS | STATS) % 16 == 0,
                  "vectors of 16 bytes are aligned");

    static __device__ __forceinline__ f16 *probabilities_row(int row)
    {
        return (f16 *)(shared + PROBABILITIES) + row * PROBABILITY_STRIDE;
    }
    static __device__ __forceinline__ float *partial_sums(int warp)
    {
        return (float *)(shared + PARTIAL_SUMS) + warp * C::PARTIAL_DIMS * 8;
    }
    static __device__ __forceinline__ float *scores_row(int row)
    {
        return (float *)(shared + SCORES) + row * SCORE_STRIDE;
    }
    static __device__ __forceinline__ float2 *row_turns(int row)
    {
        return (float2 *)(shared + ROW_TURNS) + row * ROW_TURN_STRIDE;
    }
    static __device__ __forceinline__ float2 *tile_turns(int tile)
    {
        return (float2 *)(shared + TILE_TURNS) + tile * C::PAIR_COLUMNS;
    }
    static __device__ __forceinline__ f16 *query_row(int row)
    {
        return (f16 *)(shared + QUERY) + row * QUERY_STRIDE;
    }
    static __device__ __forceinline__ float *running_row(int row) // many queries
    {
        return (float *)(shared + RUNNING) + row * RUNNING_STRIDE;
    }
    static __device__ __forceinline__ const u8 **tile_records()
    {
        return (const u8 **)(shared + RECORDS);
    }
    static __device__ __forceinline__ float *row_lse() // in powers of two
    {
        return (float *)(shared + STATS);
    }
    static __device__ __forceinline__ float *row_inverse_sum()
    {
        return row_lse() + ROWS;
    }
    static __device__ __forceinline__ int *last_block_flag()
    {
        return (int *)(row_lse() + 2 * ROWS);
    }
    static __device__ __forceinline__ float *row_kept() // many queries: the weight of the tokens before this run
    {
        return row_lse() + 2 * ROWS + 4;
    }
};

#endif
