// The score stage of attend: K = X Wk for the run of tokens, and the scores that attend_keys.cuh makes of it.
//
// A warp multiplies M_TILES tiles of 16 tokens at once. Codes go from device memory to registers, one chunk of 64
// channels ahead. Wk and the absorbed queries go through a ring in shared memory (cp.async), which all warps share; a
// stage is 16 * STAGE_STEPS channels of all columns of this head.
#ifndef XQ_LIB_ATTEND_SCORES_CUH
#define XQ_LIB_ATTEND_SCORES_CUH

#include "attend_codes.cuh"
#include "attend_folded.cuh"
#include "attend_keys.cuh"
#include "attend_map.cuh"
#include "operand.cuh"
#include "ptx_copy.cuh"
#include "ptx_matrix.cuh"
#include "weights.cuh"

// K as a product of values in 16 bits: codes are dequantized, and 8-bit weights are widened, on the way to the matrix
// units. Absorbed queries are further columns of Wk.
template <class C> struct value_product {
    using map = typename C::map;
    using work = attend_work<C>;
    using keys = attend_keys<C>;
    using stream = typename C::stream_k;
    using operand = chunk_operand<stream>; // 64 channels of a tile
    static constexpr weight_type WEIGHTS = C::WEIGHTS;
    static constexpr int M_TILES = C::M_TILES, STAGE_STEPS = C::STAGE_STEPS, QUERY_TILES = keys::QUERY_TILES;
    static constexpr int COLUMN_TILES = C::KEY_COLUMNS / 16, STEP_BYTES = WEIGHT_STEP_BYTES<WEIGHTS>;

    // The accumulators of one tile.
    struct accumulators {
        typename keys::sums t;
    };

    struct state { // a warp keeps nothing from tile to tile
        __device__ __forceinline__ void open(const xq_attend_params &, const work &, int) {}
    };

    static __device__ __forceinline__ void begin_chunk(accumulators &, const work &, const tile_source<stream> &, int)
    {
    }
    static __device__ __forceinline__ void end_chunk(accumulators (&)[M_TILES], const xq_attend_params &, const work &,
                                                     int)
    {
    }

    // Adds the product of a stage's channels. `rows` is the number of the block's rows.
    static __device__ __forceinline__ void multiply_stage(accumulators (&a)[M_TILES], const operand (&x)[M_TILES], int,
                                                          int part, const u8 *stage, int rows)
    {
        const int lane = threadIdx.x % 32;
        uint4 queries[QUERY_TILES]; // absorbed queries of two steps
#pragma unroll
        for (int step = 0; step < STAGE_STEPS; step++) { // 16 channels
            u32 fragments[M_TILES][4];
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
                x[m].fragment_of_tokens(fragments[m], part * STAGE_STEPS + step);
            if constexpr (keys::REMAT) {
                u32 left[M_TILES][4]; // operand in the type that these weights need
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        left[m][i] = weight_partner<WEIGHTS>(fragments[m][i]);
                }
#pragma unroll
                for (int n = 0; n < COLUMN_TILES; n++) { // 16 columns
                    weight_step<WEIGHTS> packed;
                    u32 right[4];
                    packed.load(stage + (n * STAGE_STEPS + step) * STEP_BYTES, lane);
                    packed.widen(right);
#pragma unroll
                    for (int m = 0; m < M_TILES; m++) {
                        mma_weights<WEIGHTS>(a[m].t.k[2 * n], left[m], right[0], right[1]);
                        mma_weights<WEIGHTS>(a[m].t.k[2 * n + 1], left[m], right[2], right[3]);
                    }
                }
            }
            if constexpr (C::ABSORBED) {
#pragma unroll
                for (int tile = 0; tile < QUERY_TILES; tile++) {
                    if (C::MANY && tile * 8 >= rows)
                        break;
                    const u8 *query =
                        stage + map::KEY_STAGE_BYTES + lane * 16 + tile * (STAGE_STEPS * 256) + step / 2 * 512;
                    if (step % 2 == 0)
                        queries[tile] = *(const uint4 *)query;
#pragma unroll
                    for (int m = 0; m < M_TILES; m++)
                        mma_f16(a[m].t.absorbed[tile], fragments[m], step % 2 ? queries[tile].z : queries[tile].x,
                                step % 2 ? queries[tile].w : queries[tile].y);
                }
            }
        }
    }

    static __device__ __forceinline__ void score(const xq_attend_params &p, const work &w,
                                                 accumulators (&tiles)[M_TILES], state &, int first_tile)
    {
        keys::score(p, w, tiles, first_tile);
    }
};

// Selects one of the three products by the operands of K.
template <class C, key_operands OPERANDS> struct key_product {
    using type = value_product<C>;
};
template <class C> struct key_product<C, KEYS_OF_CODES> {
    using type = code_product<C>;
};
template <class C> struct key_product<C, SCORES_OF_CODES> {
    using type = attend_folded<C>;
};

template <class C> struct attend_scores {
    using map = typename C::map;
    using work = attend_work<C>;
    using keys = attend_keys<C>;
    using stream_k = typename C::stream_k;
    using product = typename key_product<C, C::OPERANDS>::type;
    static constexpr int M_TILES = C::M_TILES, STAGES = C::STAGES, STAGE_STEPS = C::STAGE_STEPS;
    static constexpr int THREADS = work::THREADS, QUERY_TILES = keys::QUERY_TILES;
    static constexpr int TILE_TOKENS = C::WARPS / C::KEY_WARPS * M_TILES * 16; // tokens of the block's tile
    static constexpr int CHUNKS = keys::CHUNKS, CHUNK_STAGES = 4 / STAGE_STEPS;
    static constexpr int COLUMN_TILES = C::KEY_COLUMNS / 16;         // column tiles of a head's packed weights
    static constexpr int STEP_BYTES = WEIGHT_STEP_BYTES<C::WEIGHTS>; // 16 by 16 weights

    // RESIDENT: Wk of a head fits the ring as a whole. It is loaded once, and warps go over their tiles without
    // barriers.
    static constexpr int PIECES = map::PIECES;
    static constexpr bool RESIDENT = map::RESIDENT;

    // Computes the scores of the run, in shared memory.
    static __device__ __forceinline__ void run(const xq_attend_params &p, const work &w)
    {
        if constexpr (RESIDENT)
            run_resident(p, w);
        else
            run_ring(p, w);
    }

  private:
    using operands = typename product::operand[M_TILES];

    // Where a warp's tiles are, the tiles of the run from `first` on. Those beyond the run are replaced by its last
    // tile: their scores are not stored.
    struct places {
        tile_source<stream_k> tiles[M_TILES];

        __device__ __forceinline__ places(const work &w, int first)
        {
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
                tiles[m] = w.template source_of<stream_k>(min(first + m, w.tiles - 1));
        }
    };

    // Loads chunk `chunk` of the block's latent.
    static __device__ __forceinline__ void load_codes(operands &x, const work &w, const places &from, int chunk)
    {
        const int lane = threadIdx.x % 32, first_chunk = w.template latent_of<stream_k>() * CHUNKS;
#pragma unroll
        for (int m = 0; m < M_TILES; m++)
            x[m].load(from.tiles[m], first_chunk + chunk, lane);
    }

    static __device__ __forceinline__ void run_resident(const xq_attend_params &p, const work &w)
    {
        const int first = threadIdx.x / 32 / C::KEY_WARPS * M_TILES;
#pragma unroll
        for (int piece = 0; piece < PIECES; piece++)
            fetch_weights(p, w, piece, piece);
        copy_async_commit();
        operands x[CHUNKS]; // a chunk of the next tiles replaces one that is multiplied
        places here(w, first);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++)
            load_codes(x[chunk], w, here, chunk);
        copy_async_wait<0>();
        __syncthreads();
        typename product::state state;
        state.open(p, w, first);
#pragma unroll 1
        for (int first_tile = first; first_tile < w.tiles; first_tile += TILE_TOKENS / 16) {
            typename product::accumulators tiles[M_TILES] = {};
            const places next(w, first_tile + TILE_TOKENS / 16);
            const bool more = first_tile + TILE_TOKENS / 16 < w.tiles;
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++) {
                begin_chunk(tiles, w, here, chunk);
#pragma unroll
                for (int part = 0; part < CHUNK_STAGES; part++)
                    product::multiply_stage(tiles, x[chunk], chunk, part,
                                            shared + (chunk * CHUNK_STAGES + part) * map::STAGE_BYTES, w.rows.count);
                if (more)
                    load_codes(x[chunk], w, next, chunk);
                product::end_chunk(tiles, p, w, chunk);
            }
            product::score(p, w, tiles, state, first_tile);
            here = next;
        }
    }

    static __device__ __forceinline__ void begin_chunk(typename product::accumulators (&tiles)[M_TILES], const work &w,
                                                       const places &from, int chunk)
    {
#pragma unroll
        for (int m = 0; m < M_TILES; m++)
            product::begin_chunk(tiles[m], w, from.tiles[m], chunk);
    }

    // Computes the scores with a ring, and drains the ring at the end.
    static __device__ __forceinline__ void run_ring(const xq_attend_params &p, const work &w)
    {
        const int first = threadIdx.x / 32 / C::KEY_WARPS * M_TILES;
        const int steps = (w.count + TILE_TOKENS - 1) / TILE_TOKENS * PIECES;
        int fetched = 0;
        for (; fetched < STAGES - 1; fetched++) {
            if (fetched < steps)
                fetch_weights(p, w, fetched % PIECES, fetched % STAGES);
            copy_async_commit();
        }
        typename product::state state;
        state.open(p, w, first);
        int step = 0;
        for (int first_tile = first; step < steps; first_tile += TILE_TOKENS / 16) {
            const bool active = first_tile < w.tiles;
            operands next;
            load_codes(next, w, places(w, first_tile), 0); // inactive warps too, because a branch takes registers
            typename product::accumulators tiles[M_TILES] = {};
#pragma unroll 1
            for (int chunk = 0; chunk < CHUNKS; chunk++) {
                operands now;
                if (active)
                    begin_chunk(tiles, w, places(w, first_tile), chunk); // found anew, to take few registers
#pragma unroll
                for (int part = 0; part < CHUNK_STAGES; part++, step++, fetched++) {
                    copy_async_wait<STAGES - 2>();
                    __syncthreads(); // the stage has arrived for all, and the one fetched next is no longer read
                    if (fetched < steps)
                        fetch_weights(p, w, fetched % PIECES, fetched % STAGES);
                    copy_async_commit();
                    if (!active)
                        continue;
                    if (part == 0) {
#pragma unroll
                        for (int m = 0; m < M_TILES; m++)
                            now[m] = next[m];
                        if (chunk + 1 < CHUNKS)
                            load_codes(next, w, places(w, first_tile), chunk + 1);
                    }
                    product::multiply_stage(tiles, now, chunk, part, shared + step % STAGES * map::STAGE_BYTES,
                                            w.rows.count);
                }
                if (active)
                    product::end_chunk(tiles, p, w, chunk);
            }
            if (active)
                product::score(p, w, tiles, state, first_tile);
        }
        copy_async_wait<0>();
    }

    // Starts the copy of a stage, a piece of 16 * STAGE_STEPS channels of this head's Wk and of the absorbed queries.
    // The piece is contiguous within each 16 columns of Wk.
    static __device__ __forceinline__ void fetch_weights(const xq_attend_params &p, const work &w, int piece, int stage)
    {
        const u32 destination = shared_address(shared + stage * map::STAGE_BYTES) + threadIdx.x * 16;
        if constexpr (keys::REMAT)
            fetch_keys(p, w, piece, destination);
        if constexpr (C::ABSORBED)
            fetch_absorbed(p, w, piece, destination);
    }

    static __device__ __forceinline__ void fetch_keys(const xq_attend_params &p, const work &w, int piece,
                                                      u32 destination)
    {
        constexpr int COLUMN_TILE_BYTES = CHUNKS * 4 * STEP_BYTES;  // 16 columns of Wk
        constexpr int TILE_THREADS = STAGE_STEPS * STEP_BYTES / 16; // they copy a column tile, 16 bytes each
        constexpr int ROUND = THREADS / TILE_THREADS;               // column tiles at once
        static_assert(THREADS % TILE_THREADS == 0, "a round of all threads copies whole column tiles");
        const int mine = threadIdx.x / TILE_THREADS;
        const u8 *source = p.wk.data + (size_t)(w.kv_head * COLUMN_TILES + mine) * COLUMN_TILE_BYTES +
                           piece * (TILE_THREADS * 16) + threadIdx.x % TILE_THREADS * 16;
#pragma unroll
        for (int tile = 0; tile < COLUMN_TILES; tile += ROUND) {
            if (tile + ROUND <= COLUMN_TILES || tile + mine < COLUMN_TILES)
                copy_async_16(destination + tile * (TILE_THREADS * 16), source + (size_t)tile * COLUMN_TILE_BYTES);
        }
    }

    // A lane has 32 bytes of a chunk. A stage has them apart: first 16 bytes of all lanes, for two steps, then the
    // other 16 bytes of all lanes, for the other two steps.
    static __device__ __forceinline__ void fetch_absorbed(const xq_attend_params &p, const work &w, int piece,
                                                          u32 destination)
    {
        const size_t block = (size_t)blockIdx.z * C::KV_HEADS + w.kv_head;
        const u8 *queries = (const u8 *)p.absorbed + block * QUERY_TILES * CHUNKS * 1024;
        for (int i = threadIdx.x; i < QUERY_TILES * STAGE_STEPS * 16; i += THREADS) {
            const int tile = i / (STAGE_STEPS * 16), half = piece * (STAGE_STEPS / 2) + i / 32 % (STAGE_STEPS / 2);
            copy_async_16(destination + map::KEY_STAGE_BYTES + (i - (int)threadIdx.x) * 16,
                          queries + (size_t)(tile * CHUNKS + half / 2) * 1024 + i % 32 * 32 + half % 2 * 16);
        }
    }
};

#endif
