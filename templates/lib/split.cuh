// The output of a sequence that is split over blocks: each block stores its part, and the last block to finish merges
// the parts by log-sum-exp. A kernel that uses it has the parameters out, lse, partial_out, partial_lse, counters,
// sinks (if SINKS) and bv, a bias of the values (if BIAS).
//
// lib/queries.cuh defines the rows of a block. Exponents are base 2 throughout; only the log-sum-exp that is returned
// to the caller is natural. Partial outputs are weighted means of values, so 16 bits hold them as well as they hold the
// output, at half the workspace traffic of f32. A row that sees no token has a sum of 0 and a log-sum-exp of minus
// infinity, even if there is a sink; its output is zeros.
#ifndef XQ_LIB_SPLIT_CUH
#define XQ_LIB_SPLIT_CUH

#include "element.cuh"
#include "queries.cuh"

template <int HEADS, int HEAD_DIM, int THREADS, class ROWS, class ELEMENT, bool BIAS, bool SINKS>
struct split_output {
    static constexpr int QUADS = HEAD_DIM / 4;
    static constexpr float LN_2 = 0.693147180559945f, LOG2_E = 1.44269504088896341f;

    ROWS rows;
    int first_query; // the row of q of the sequence's first query
    int first_head;  // the first query head of the KV head
    int split, first_split, splits; // splits first_split .. first_split + splits - 1 have tokens that the block sees

    __device__ __forceinline__ int head(int row) const
    {
        return first_head + rows.head(row);
    }
    __device__ __forceinline__ size_t place(int row) const
    {
        return (size_t)(first_query + rows.query(row)) * HEADS + head(row);
    }
    // The partial results of a query have room for gridDim.x splits.
    __device__ __forceinline__ size_t partial_place(int part, int row) const
    {
        return ((size_t)(first_query + rows.query(row)) * gridDim.x + part) * HEADS + head(row);
    }

    // Finds the splits that have tokens of `seen`. Returns false if this block's split has none: the block
    // is then done.
    template <class PARAMS>
    __device__ __forceinline__ bool open_splits(const PARAMS &p, token_span seen, int tokens_per_split)
    {
        split = blockIdx.x;
        first_split = seen.empty() ? 0 : seen.first / tokens_per_split;
        splits = seen.empty() ? 0 : (seen.end + tokens_per_split - 1) / tokens_per_split - first_split;
        if (splits == 0 && split == 0)
            write_empty(p);
        return split >= first_split && split < first_split + splits;
    }

    // Stores four dimensions of one row over this split. `values` is the sum of the values, weighted by
    // exp2(score - peak), and `sum` is the sum of these weights.
    template <class PARAMS>
    __device__ __forceinline__ void write(const PARAMS &p, int row, int quad, float4 values, float peak,
                                          float sum) const
    {
        if (splits > 1) {
            const float4 mean = scaled(values, sum != 0 ? 1.0f / sum : 0);
            store(p.partial_out + partial_place(split, row) * HEAD_DIM + quad * 4, mean);
            if (quad == 0)
                p.partial_lse[partial_place(split, row)] = sum != 0 ? peak + log2f(sum) : -infinity();
        } else {
            write_final(p, row, quad, values, peak, sum);
        }
    }

    // As `write`, for values that are already divided by the sum: `mean` is their mean, and `lse` its log2-sum-exp2.
    template <class PARAMS>
    __device__ __forceinline__ void write_mean(const PARAMS &p, int row, int quad, float4 mean, float lse) const
    {
        write(p, row, quad, mean, lse, lse != -infinity() ? 1 : 0);
    }

    static __device__ __forceinline__ float4 scaled(float4 v, float factor)
    {
        return make_float4(v.x * factor, v.y * factor, v.z * factor, v.w * factor);
    }

    static __device__ __forceinline__ void store(f16 *destination, float4 values)
    {
        *(uint2 *)destination = make_uint2(ELEMENT::pack(values.x, values.y), ELEMENT::pack(values.z, values.w));
    }

    // Stores four dimensions of one row over all tokens. A sink counts in the sum of weights, but has no value.
    template <class PARAMS>
    __device__ __forceinline__ void write_final(const PARAMS &p, int row, int quad, float4 values, float peak,
                                                float sum) const
    {
        const bool seen = sum != 0; // NaN stays NaN
        if constexpr (BIAS) {
            if (p.bv) {
                const float4 bias = *(const float4 *)(p.bv + first_head / ROWS::GROUP * HEAD_DIM + quad * 4);
                values = make_float4(values.x + sum * bias.x, values.y + sum * bias.y, values.z + sum * bias.z,
                                     values.w + sum * bias.w);
            }
        }
        if constexpr (SINKS) {
            if (p.sinks && seen) {
                const float sink = p.sinks[head(row)] * LOG2_E, top = fmaxf(peak, sink);
                const float factor = exp2_approx(peak - top);
                sum = sum * factor + exp2_approx(sink - top);
                values = scaled(values, factor);
                peak = top;
            }
        }
        store(p.out + place(row) * HEAD_DIM + quad * 4, scaled(values, seen ? 1.0f / sum : 0));
        if (quad == 0 && p.lse)
            p.lse[place(row)] = seen ? (peak + log2f(sum)) * LN_2 : -infinity();
    }

    // Stores the output of rows that see no token.
    template <class PARAMS> __device__ __forceinline__ void write_empty(const PARAMS &p) const
    {
        for (int i = threadIdx.x; i < rows.count * QUADS; i += THREADS)
            write_final(p, i / QUADS, i % QUADS, make_float4(0, 0, 0, 0), -infinity(), 0);
    }

    // The whole block must call it after its last write. Returns true in the block that finishes last; the counter is
    // then 0 again. `flag` is in shared memory.
    template <class PARAMS>
    __device__ __forceinline__ bool finished_last(const PARAMS &p, int counter, int *flag) const
    {
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            bool last = atomicAdd(p.counters + counter, 1) == splits - 1;
            if (last)
                p.counters[counter] = 0;
            *flag = last;
        }
        __syncthreads();
        return *flag;
    }

    template <class PARAMS> __device__ __forceinline__ void merge(const PARAMS &p) const
    {
        __threadfence();
        for (int i = threadIdx.x; i < rows.count * QUADS; i += THREADS) {
            const int row = i / QUADS, quad = i % QUADS, end = first_split + splits;
            float peak = -infinity();
            for (int part = first_split; part < end; part++)
                peak = fmaxf(peak, load_from_l2(p.partial_lse + partial_place(part, row)));
            const float base = peak == -infinity() ? 0 : peak; // if the row sees no token, all weights are 0
            float sum = 0;
            float4 out = make_float4(0, 0, 0, 0);
#pragma unroll 4
            for (int part = first_split; part < end; part++) {
                float weight = exp2_approx(load_from_l2(p.partial_lse + partial_place(part, row)) - base);
                uint2 packed = load_from_l2_x2(p.partial_out + partial_place(part, row) * HEAD_DIM + quad * 4);
                sum += weight;
                out.x += weight * ELEMENT::low(packed.x);
                out.y += weight * ELEMENT::high(packed.x);
                out.z += weight * ELEMENT::low(packed.y);
                out.w += weight * ELEMENT::high(packed.y);
            }
            write_final(p, row, quad, out, peak, sum);
        }
    }
};

#endif
