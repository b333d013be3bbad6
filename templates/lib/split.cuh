// A sequence split over blocks: each block leaves its part, the last one to finish merges them by
// log-sum-exp. Used by every kernel whose parameters have out, lse, partial_out, partial_lse and counters.
//
// Heads of one block are consecutive: `first_head` and `heads` of HEADS. Exponents are base 2 throughout;
// only the log-sum-exp that leaves the library is natural. Partial outputs are weighted means of values, so f16
// holds them as well as it holds the output, at half the workspace traffic of f32.
#ifndef XQ_LIB_SPLIT_CUH
#define XQ_LIB_SPLIT_CUH

#include "ptx.cuh"

template <int HEADS, int HEAD_DIM, int THREADS> struct split_output {
    static constexpr int QUADS = HEAD_DIM / 4;
    static constexpr float LN_2 = 0.693147180559945f;

    int sequence, first_head, heads;
    int split, splits; // splits: those that have tokens; gridDim.x is the stride of the partial results

    __device__ __forceinline__ size_t row(int head) const
    {
        return (size_t)sequence * HEADS + first_head + head;
    }
    __device__ __forceinline__ size_t partial_row(int part, int head) const
    {
        return ((size_t)sequence * gridDim.x + part) * HEADS + first_head + head;
    }

    // Four dimensions of one head's output over this split, normalized, and the split's log2-sum-exp2.
    template <class PARAMS>
    __device__ __forceinline__ void write(const PARAMS &p, int head, int quad, float4 values, float lse) const
    {
        if (splits > 1) {
            store_f16x4(p.partial_out + partial_row(split, head) * HEAD_DIM + quad * 4, values);
            if (quad == 0)
                p.partial_lse[partial_row(split, head)] = lse;
        } else {
            write_final(p, head, quad, values, lse);
        }
    }

    static __device__ __forceinline__ void store_f16x4(f16 *destination, float4 values)
    {
        *(uint2 *)destination = make_uint2(pack_f16x2(values.x, values.y), pack_f16x2(values.z, values.w));
    }

    template <class PARAMS>
    __device__ __forceinline__ void write_final(const PARAMS &p, int head, int quad, float4 values, float lse) const
    {
        store_f16x4(p.out + row(head) * HEAD_DIM + quad * 4, values);
        if (quad == 0 && p.lse)
            p.lse[row(head)] = lse * LN_2;
    }

    // An empty sequence: zeros, and the logarithm of nothing.
    template <class PARAMS> __device__ __forceinline__ void write_empty(const PARAMS &p) const
    {
        for (int i = threadIdx.x; i < heads * QUADS; i += THREADS)
            write_final(p, i / QUADS, i % QUADS, make_float4(0, 0, 0, 0), -infinity());
    }

    // To be called by the whole block after its last write. True in the block that finishes last; its
    // counter is then 0 again. `flag` is shared memory.
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
        for (int i = threadIdx.x; i < heads * QUADS; i += THREADS) {
            const int head = i / QUADS, quad = i % QUADS;
            float peak = load_from_l2(p.partial_lse + partial_row(0, head));
            for (int part = 1; part < splits; part++)
                peak = fmaxf(peak, load_from_l2(p.partial_lse + partial_row(part, head)));
            float sum = 0;
            float4 out = make_float4(0, 0, 0, 0);
#pragma unroll 4
            for (int part = 0; part < splits; part++) {
                float weight = exp2_approx(load_from_l2(p.partial_lse + partial_row(part, head)) - peak);
                uint2 packed = load_from_l2_x2(p.partial_out + partial_row(part, head) * HEAD_DIM + quad * 4);
                sum += weight;
                out.x += weight * f32_from_f16_low(packed.x);
                out.y += weight * f32_from_f16_high(packed.x);
                out.z += weight * f32_from_f16_low(packed.y);
                out.w += weight * f32_from_f16_high(packed.y);
            }
            const float inverse = 1.0f / sum;
            out = make_float4(out.x * inverse, out.y * inverse, out.z * inverse, out.w * inverse);
            write_final(p, head, quad, out, peak + log2f(sum));
        }
    }
};

#endif
