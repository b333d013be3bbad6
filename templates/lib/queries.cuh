// The queries of a sequence, and which tokens each of them sees (struct xq_queries).
//
// Rows of an attention block: flat row R of a sequence is query R / GROUP_HEADS, and head R % GROUP_HEADS among the
// heads that share a KV head. Block b of a sequence has ROWS rows from b * ROWS on; its blockIdx.z is
// sequence * blocks + b.
#ifndef XQ_LIB_QUERIES_CUH
#define XQ_LIB_QUERIES_CUH

#include "page.cuh"

// Tokens first .. end - 1 of a sequence; none where end <= first.
struct token_span {
    int first, end;

    __device__ __forceinline__ bool empty() const
    {
        return end <= first;
    }
};

// The queries of one sequence. If MANY, it may have several queries, or a tree of them; else it has one query or none.
// WINDOW is the number of tokens in the sliding window, or 0.
template <bool MANY, int WINDOW> struct sequence_queries {
    int sequence;
    int first, count; // the sequence's rows of q
    int tokens;       // cached tokens of the sequence
    int offset;       // position of its token 0
    int drafts;       // the first token that is a draft; `tokens` where there is no tree

    __device__ __forceinline__ void open(const xq_table &table, const xq_queries &q, int which, int page_tokens)
    {
        sequence = which;
        tokens = sequence_tokens(table, sequence, page_tokens);
        first = q.query_indptr ? q.query_indptr[sequence] : sequence;
        count = q.query_indptr ? q.query_indptr[sequence + 1] - first : 1;
        offset = q.token_offset ? q.token_offset[sequence] : 0;
        drafts = MANY && q.tree_mask ? max(tokens - count, 0) : tokens;
    }

    // The position of query j of the sequence.
    __device__ __forceinline__ int position(const xq_queries &q, int j) const
    {
        return q.query_position ? q.query_position[first + j] : offset + (tokens - count + j);
    }

    // The token at a position; negative if the position is before the first token's. Positions may be as
    // large as an int can be, and sequences may begin anywhere. So the difference is bounded: it cannot overflow, even
    // when a window is subtracted from it.
    __device__ __forceinline__ int token_at(int position) const
    {
        return max(position, offset - (1 << 30)) - offset;
    }

    // The tokens that a query at `position` sees, among those that are not drafts.
    __device__ __forceinline__ token_span span(int position) const
    {
        token_span s;
        const int last = token_at(position);
        s.end = min(last, drafts - 1) + 1;
        s.first = WINDOW ? max(last - (WINDOW - 1), 0) : 0;
        return s;
    }

    // Whether query j, which is at `position`, sees token t, which is a draft.
    __device__ __forceinline__ bool sees_draft(const xq_queries &q, int j, int position, int t) const
    {
        const int draft = t - drafts;
        const unsigned word = q.tree_mask[(size_t)(first + j) * q.mask_words + draft / 32];
        if (!(word >> draft % 32 & 1))
            return false;
        return !WINDOW || q.query_position[first + draft] > position - WINDOW;
    }

    // A span that contains all tokens that the queries from .. to - 1 see, drafts included. Whole warps must call it.
    __device__ __forceinline__ token_span around(const xq_queries &q, int from, int to) const
    {
        if (!MANY)
            return span(position(q, 0));
        token_span all;
        all.first = tokens;
        all.end = 0;
        for (int j = from + (int)threadIdx.x % 32; j < to; j += 32) {
            const token_span s = span(position(q, j));
            if (s.empty())
                continue;
            all.first = min(all.first, s.first);
            all.end = max(all.end, s.end);
        }
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            all.first = min(all.first, __shfl_xor_sync(0xffffffff, all.first, distance));
            all.end = max(all.end, __shfl_xor_sync(0xffffffff, all.end, distance));
        }
        if (drafts < tokens) {
            all.first = min(all.first, drafts);
            all.end = tokens;
        }
        return all;
    }
};

// The rows of one block.
template <int GROUP_HEADS, int ROWS, bool MANY> struct query_rows {
    static constexpr int GROUP = GROUP_HEADS;

    int first, count; // the block's flat rows; count may be 0

    __device__ __forceinline__ void open(int block, int queries)
    {
        first = block * ROWS;
        count = max(min(queries * GROUP_HEADS - first, ROWS), 0);
    }
    __device__ __forceinline__ int query(int row) const
    {
        return MANY ? (first + row) / GROUP_HEADS : 0;
    }
    __device__ __forceinline__ int head(int row) const
    {
        return MANY ? (first + row) % GROUP_HEADS : first + row;
    }
    // The query after the block's last one. The block has the queries query(0) .. end_query() - 1.
    __device__ __forceinline__ int end_query() const
    {
        return MANY ? (first + count + GROUP_HEADS - 1) / GROUP_HEADS : 1;
    }
};

#endif
