// The work of one block of attend: rows of one sequence and one KV head, and a run of tokens of one split.
#ifndef XQ_LIB_ATTEND_WORK_CUH
#define XQ_LIB_ATTEND_WORK_CUH

#include "element.cuh"
#include "operand.cuh"
#include "queries.cuh"
#include "split.cuh"

template <class C> struct attend_work {
    using map = typename C::map;
    static constexpr int GROUP_HEADS = C::HEADS / C::KV_HEADS; // query heads of one KV head
    static constexpr int THREADS = C::WARPS * 32;
    // Rows may not see all tokens of a run.
    static constexpr bool MASKED = C::MANY || C::WINDOW > 0;

    using block_rows = query_rows<GROUP_HEADS, C::QUERY_ROWS, C::MANY>;
    using output =
        split_output<C::HEADS, C::HEAD_DIM, THREADS, block_rows, element<C::BF16>, C::BIAS, C::SINKS>;

    sequence_queries<C::MANY, C::WINDOW> queries;
    block_rows rows;
    sequence_source cached;
    int kv_head;
    int reference; // position of the one query, or of the block's first query
    int begin;     // first token of the first tile of the split that the block sees
    int end;       // end of the tokens of the split that the block sees
    int first;     // first token of the run
    int count;     // tokens of the run
    int tiles;     // 16-token tiles of the run

    // Finds the tile records of the run. The whole block must call it, and then meet at a barrier.
    __device__ __forceinline__ void find_records() const
    {
        for (int tile = threadIdx.x; tile < tiles; tile += THREADS)
            C::map::tile_records()[tile] = record_of<typename C::stream_k>(cached, first + tile * 16);
    }

    // The position of token t of the run.
    __device__ __forceinline__ int token_position(const xq_attend_params &p, int t) const
    {
        const int token = first + t;
        if (C::MANY && token >= queries.drafts)
            return p.queries.query_position[queries.first + token - queries.drafts];
        return queries.offset + token;
    }

    // The number of the latent, in a stream, that the block's KV head is made of.
    template <class S> __device__ __forceinline__ int latent_of() const
    {
        return S::LATENTS == 1 ? 0 : kv_head / (C::KV_HEADS / S::LATENTS);
    }

    // The place of the run's tile `tile` in a stream.
    template <class S> __device__ __forceinline__ tile_source<S> source_of(int tile) const
    {
        return tile_source<S>(cached, C::map::tile_records()[tile], first + tile * 16, min(16, count - tile * 16));
    }
};

#endif
