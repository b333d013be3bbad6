// The shared-memory map of a block of attend: where each region begins, in bytes, and pointers into the regions.
//
//   RING           [STAGES][16 * STAGE_STEPS channels x KEY_COLUMNS] weights: a ring of Wk. The absorbed queries follow
//                  each stage's weights. Once the scores are complete, the next two regions take the place of the ring:
//     PROBABILITIES  [QUERY_ROWS][SPLIT_TOKENS + 8] f16, or planes of integers
//     PARTIAL_SUMS   [WARPS][PARTIAL_DIMS][8] f32, or the joint regions; before, with integer probabilities, the scales
//                    and offsets of the run's tokens, [SPLIT_TOKENS] two f32
//   SCORES         [KEY_WARPS][SCORE_ROWS][SPLIT_TOKENS + 4] f32: one part for each warp that shares the columns of K
//   ROW_TURNS      [16][ROW_TURN_STRIDE] (cos, sin)              RoPE of rows within a tile
//   TILE_TURNS     [WARPS * TURN_TILES][PAIR_COLUMNS] (cos, sin) RoPE between the queries and each tile
//   QUERY          [QUERY_ROWS][KEY_COLUMNS + 8] f16             in the order of K's columns
//   RUNNING        [QUERY_ROWS][HEAD_DIM + 4] f32                many queries: output of the block's tokens so far
//   CONSTANTS      A fragments of the weights' sums, and of the bias
//   BLOCK_TURNS    [PAIR_COLUMNS / 2] rotations of two pairs between the query and the block's first token, and the
//                  unit of the columns
//   COLUMNS        [KEY_COLUMNS / 2] factors and addends of two columns' sums (code_sum), then [KEY_COLUMNS / 2] the
//                  sums of their weights, if keys are normalized
//   RECORDS        [SPLIT_TOKENS / 16]                           addresses of the split's tile records
//   STATS          [QUERY_ROWS] f32 each: log-sum-exp and 1 / sum, then the flag of the last block, 16 bytes; many
//                  queries: the weight of the output accumulated so far; integer probabilities: units and offsets
//
// If scores are made directly from sums of codes (attend_folded.cuh), some regions are in fragment order. CONSTANTS,
// BLOCK_TURNS and COLUMNS take room only in that case:
//
//   ROW_TURNS      [PAIR_COLUMNS / 8][rows lane / 4, and 8 more][32 lanes] uint4: rotations of two pairs times the
//                  scales of the columns, in f16
//   TILE_TURNS     [WARPS * TURN_TILES][PAIR_COLUMNS / 2] (cosines, sines) of two pairs, in f16
//   QUERY          [QUERY_ROWS / 8][PAIR_COLUMNS / 16, rounded up][32 lanes] uint4
//   CONSTANTS      [1, or with a bias 2][KEY_COLUMNS / 16][32 lanes] uint4
//
// attend.spec.lua states the same places (shared_map); the kernel asserts that both agree.
//
// C names the model and the schedule (struct config in attend.cu.lt). The stages reach shared memory through C::map
// alone, so a schedule with another ring can have a map of its own with the same functions.
#ifndef XQ_LIB_ATTEND_MAP_CUH
#define XQ_LIB_ATTEND_MAP_CUH

#include "ptx.cuh"
#include "weights.cuh"

// The operands of the product that makes K. KEYS_OF_VALUES: values in 16 bits (attend_scores.cuh). The others are codes
// and int8 weights, which give K in f32 (KEYS_OF_CODES, attend_codes.cuh) or scores directly (SCORES_OF_CODES,
// attend_folded.cuh).
enum key_operands { KEYS_OF_VALUES, KEYS_OF_CODES, SCORES_OF_CODES };

// QK-norm of K: none, over each head, or over all heads of a token.
enum key_norm { KEY_NORM_NONE, KEY_NORM_HEAD, KEY_NORM_ROW };

extern __shared__ __align__(128) u8 shared[];

template <class C> struct attend_map {
    static constexpr int ROWS = C::QUERY_ROWS, WARPS = C::WARPS;

    // Strides that keep fragment accesses free of bank conflicts.
    static constexpr int SCORE_STRIDE = C::SPLIT_TOKENS + 4;
    static constexpr int PROBABILITY_STRIDE = C::SPLIT_TOKENS + 8;
    static constexpr int QUERY_STRIDE = C::KEY_COLUMNS + 8;
    static constexpr int RUNNING_STRIDE = C::HEAD_DIM + 4;
    static constexpr bool FOLDED = C::OPERANDS == SCORES_OF_CODES;
    static constexpr int GROUP_HEADS = C::HEADS / C::KV_HEADS;
    static constexpr int SCORE_ROWS = FOLDED && GROUP_HEADS < ROWS ? (GROUP_HEADS + 1) / 2 * 2 : ROWS;
    static constexpr int SCORE_PART =
        SCORE_ROWS * SCORE_STRIDE; // FOLDED: floats of each warp that shares the columns of K
    static constexpr int TILE_PAIRS = (C::PAIR_COLUMNS + 15) / 16; // FOLDED: pairs of two tiles of 8 rotary pairs
    static constexpr int ROW_TURN_STRIDE = C::PAIR_COLUMNS % 16 ? C::PAIR_COLUMNS : C::PAIR_COLUMNS + 8;

    static constexpr int TURN_TILES = C::MANY ? 1 : C::M_TILES; // tables of rotations of a warp

    // A stage of the ring: STAGE_STEPS steps of all columns of K, then those of the absorbed queries.
    static constexpr int KEY_STAGE_BYTES = C::STAGE_STEPS * (C::KEY_COLUMNS / 16) * WEIGHT_STEP_BYTES<C::WEIGHTS>;
    static constexpr int STAGE_BYTES = KEY_STAGE_BYTES + (C::ABSORBED ? ROWS / 8 : 0) * C::STAGE_STEPS * 256;

    // The weights stay in shared memory if all of a head's Wk fits the ring and a warp's codes of a tile fit registers.
    static constexpr int CHUNKS = C::stream_k::LATENT_WIDTH / 64, PIECES = CHUNKS * (4 / C::STAGE_STEPS);
    static constexpr bool RESIDENT = PIECES <= C::STAGES && CHUNKS <= 2;

    static constexpr int RING = 0, PROBABILITIES = 0;
    static constexpr int RING_END = RING + (RESIDENT ? PIECES : C::STAGES) * STAGE_BYTES;
    // With INTEGER_VALUES, PROBABILITIES has planes for each 8 rows (attend_planes.cuh).
    static constexpr int PAIR_PLANE_BYTES = GROUP_HEADS <= 4 ? 576 : 1088; // of two tiles; 64 avoid bank conflicts
    static constexpr int PLANE_BYTES = C::SPLIT_TOKENS / 32 * PAIR_PLANE_BYTES;
    static constexpr int PARTIAL_SUMS =
        PROBABILITIES + (C::INTEGER_VALUES ? ROWS / 8 * PLANE_BYTES : ROWS * PROBABILITY_STRIDE * 2);
    // JOINT: with one query and more warps than chunks, several warps share the channels of a chunk of Z. PARTIAL_SUMS
    // then has the regions of attend_join.cuh: Z of each warp, the fragments, the largest values and the scales of
    // rows, and O.
    static constexpr int VALUE_CHUNKS = C::stream_v::LATENT_WIDTH / 64;
    static constexpr bool JOINT = !C::MANY && VALUE_CHUNKS < WARPS;
    static constexpr int JOINT_STRIDE = 72, JOINT_WARP = 8 * JOINT_STRIDE; // in floats
    static constexpr int JOINT_FRAGMENTS = PARTIAL_SUMS + WARPS * JOINT_WARP * 4;
    static constexpr int JOINT_MOST = JOINT_FRAGMENTS + VALUE_CHUNKS * 4 * 256;
    static constexpr int JOINT_UNSCALE = JOINT_MOST + WARPS * 8 * 4;
    static constexpr int JOINT_OUTPUT = JOINT_UNSCALE + 8 * 4;
    static constexpr int PARTIAL_SUMS_END =
        JOINT ? JOINT_OUTPUT + C::HEAD_DIM * 8 * 4 : PARTIAL_SUMS + WARPS * C::PARTIAL_DIMS * 8 * 4;
    static constexpr int SCORES = RING_END > PARTIAL_SUMS_END ? RING_END : PARTIAL_SUMS_END;
    static constexpr int ROW_TURNS = SCORES + C::KEY_WARPS * SCORE_PART * 4;
    static constexpr int ROW_TURN_BYTES = FOLDED ? C::PAIR_COLUMNS * 128 : C::PAIRS ? 16 * ROW_TURN_STRIDE * 8 : 0;
    static constexpr int TILE_TURNS = ROW_TURNS + ROW_TURN_BYTES;
    static constexpr int QUERY = TILE_TURNS + WARPS * TURN_TILES * C::PAIR_COLUMNS * (FOLDED ? 4 : 8);
    static constexpr int QUERY_BYTES = FOLDED           ? ROWS / 8 * TILE_PAIRS * 512
                                       : C::KEY_COLUMNS ? ROWS * QUERY_STRIDE * 2
                                                        : 0;
    static constexpr int RUNNING = QUERY + QUERY_BYTES;
    static constexpr int CONSTANTS = RUNNING + (C::MANY ? ROWS * RUNNING_STRIDE * 4 : 0);
    static constexpr int CONSTANT_BYTES = C::KEY_COLUMNS / 16 * 512;
    static constexpr int BLOCK_TURNS = CONSTANTS + (FOLDED ? (C::BIAS ? 2 : 1) * CONSTANT_BYTES : 0);
    static constexpr int COLUMNS = BLOCK_TURNS + (FOLDED ? C::PAIR_COLUMNS * 8 + 16 : 0);
    static constexpr int RECORDS = COLUMNS + (FOLDED && C::NORM != KEY_NORM_NONE ? C::KEY_COLUMNS * 12 : 0);
    static constexpr int STATS = RECORDS + C::SPLIT_TOKENS / 16 * 8;
    static constexpr int BYTES = STATS + ((C::INTEGER_VALUES ? 4 : C::MANY ? 3 : 2) * ROWS + 4) * 4;

    static_assert((PARTIAL_SUMS | SCORES | ROW_TURNS | TILE_TURNS | QUERY | RUNNING | CONSTANTS | BLOCK_TURNS | COLUMNS | RECORDS |
                   STATS) %
                          16 ==
                      0,
                  "vectors of 16 bytes are aligned");

    static __device__ __forceinline__ f16 *probabilities_row(int row)
    {
        return (f16 *)(shared + PROBABILITIES) + row * PROBABILITY_STRIDE;
    }
    static __device__ __forceinline__ float *partial_sums(int warp)
    {
        return (float *)(shared + PARTIAL_SUMS) + warp * C::PARTIAL_DIMS * 8;
    }
    static __device__ __forceinline__ float *joint_z(int warp)
    {
        return (float *)(shared + PARTIAL_SUMS) + warp * JOINT_WARP;
    }
    static __device__ __forceinline__ uint2 *joint_fragments()
    {
        return (uint2 *)(shared + JOINT_FRAGMENTS);
    }
    static __device__ __forceinline__ float *joint_most() // [8 rows][WARPS]
    {
        return (float *)(shared + JOINT_MOST);
    }
    static __device__ __forceinline__ float *joint_unscale()
    {
        return (float *)(shared + JOINT_UNSCALE);
    }
    static __device__ __forceinline__ float *joint_output()
    {
        return (float *)(shared + JOINT_OUTPUT);
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
    // The next functions are for scores that are made directly from codes.
    static __device__ __forceinline__ uint4 *row_turn_fragments()
    {
        return (uint4 *)(shared + ROW_TURNS);
    }
    static __device__ __forceinline__ uint2 *tile_turn_fragments(int tile)
    {
        return (uint2 *)(shared + TILE_TURNS) + tile * (C::PAIR_COLUMNS / 2);
    }
    static __device__ __forceinline__ uint4 *query_fragments(int query_tile)
    {
        return (uint4 *)(shared + QUERY) + query_tile * TILE_PAIRS * 32;
    }
    static __device__ __forceinline__ uint4 *constants(int which)
    {
        return (uint4 *)(shared + CONSTANTS + which * CONSTANT_BYTES);
    }
    static __device__ __forceinline__ float4 *block_turns()
    {
        return (float4 *)(shared + BLOCK_TURNS);
    }
    static __device__ __forceinline__ float *column_unit()
    {
        return (float *)(shared + BLOCK_TURNS + C::PAIR_COLUMNS * 8);
    }
    static __device__ __forceinline__ float4 *column_factors()
    {
        return (float4 *)(shared + COLUMNS);
    }
    static __device__ __forceinline__ float2 *column_weights()
    {
        return (float2 *)(shared + COLUMNS + C::KEY_COLUMNS * 8);
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
    static __device__ __forceinline__ u32 *planes(int query_tile) // integer values
    {
        return (u32 *)(shared + PROBABILITIES + query_tile * PLANE_BYTES);
    }
    static __device__ __forceinline__ float2 *token_params() // integer values: scale, offset
    {
        static_assert(PARTIAL_SUMS + C::SPLIT_TOKENS * 8 <= SCORES, "the region is as large as any that follows");
        return (float2 *)(shared + PARTIAL_SUMS);
    }
    static __device__ __forceinline__ float *row_unit() // integer values: the value of 1 in the planes
    {
        return row_lse() + 2 * ROWS + 4;
    }
    static __device__ __forceinline__ float *row_offset() // integer values: the sum of probabilities times offsets
    {
        return row_lse() + 3 * ROWS + 4;
    }
    static __device__ __forceinline__ float *row_kept() // many queries: the weight of the tokens before this run
    {
        return row_lse() + 2 * ROWS + 4;
    }
};

#endif
