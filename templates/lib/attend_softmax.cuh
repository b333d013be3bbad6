// The softmax stage of attend: scores of the run to probabilities, f16, and each row's statistics. A warp takes a row; the
// run is whole, so there is no running maximum. Masks are here alone: a range of tokens for each row by its position, and a
// bit for each draft of a tree; so are ALiBi's slopes.
#ifndef XQ_LIB_ATTEND_SOFTMAX_CUH
#define XQ_LIB_ATTEND_SOFTMAX_CUH

#include "attend_work.cuh"
#include "ptx.cuh"

__device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int offset = 16; offset; offset /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffff, v, offset));
    return v;
}

__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int offset = 16; offset; offset /= 2)
        v += __shfl_xor_sync(0xffffffff, v, offset);
    return v;
}

template <class C> struct attend_softmax {
    using map = typename C::map;
    using work = attend_work<C>;
    static constexpr bool MASKED = work::MASKED;

    // Tokens that a row does not see get probability 0; where MASKED, -0, which is as good and tells that it does not see
    // them. Rows that do not exist see nothing. Returns whether a row of the warp does not see all that the values are
    // multiplied by.
    static __device__ __forceinline__ bool run(const xq_attend_params &p, const work &w)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        // Values of tokens from w.count on are zeros, but for those of a whole group of tokens.
        const int multiplied = C::stream_v::AXIS == AXIS_CHANNEL ? w.tiles * 16 : w.count;
        bool partial = false;
        for (int row = warp; row < C::QUERY_ROWS; row += C::WARPS) {
            const bool used = row < w.rows.count;
            const float *scores = map::scores_row(row);
            const int query = w.rows.query(row);
            const int position = !C::MANY ? w.reference : used ? w.queries.position(p.queries, query) : 0;
            int from = 0, to = used ? w.count : 0; // of the run's tokens that are no drafts
            if constexpr (MASKED) {
                const token_span span = w.queries.span(position);
                from = max(span.first - w.first, 0);
                to = used ? min(span.end - w.first, w.count) : 0;
                partial = partial || (used && (from > 0 || to < multiplied)); // drafts come after `to`
            }
            auto sees = [&](int t) {
                if constexpr (C::MANY) {
                    if (p.queries.tree_mask && w.first + t >= w.queries.drafts)
                        return used && t < w.count && w.queries.sees_draft(p.queries, query, position, w.first + t);
                }
                return t >= from && t < to;
            };
            float slope = 0;
            if constexpr (C::ALIBI)
                slope = C::SLOPES[used ? w.kv_head * work::GROUP_HEADS + w.rows.head(row) : 0];
            auto score = [&](int t) {
                if constexpr (C::ALIBI)
                    return fmaf(slope, (float)(w.token_position(p, t) - position), scores[t]);
                else
                    return scores[t];
            };
            float peak = -infinity(), sum = 0;
            if constexpr (MASKED) {
                for (int t = lane; t < w.count; t += 32) {
                    if (sees(t))
                        peak = fmaxf(peak, score(t));
                }
                peak = warp_max(peak);
                peak = peak > -infinity() ? peak : 0; // of a row that sees nothing, the sum is zero
            } else {
                if (used) {
                    for (int t = lane; t < w.count; t += 32)
                        peak = fmaxf(peak, score(t));
                }
                peak = warp_max(peak);
            }
            for (int t = lane; t < w.tiles * 16; t += 32) {
                f16 probability =
                    sees(t) ? f16_from_f32(exp2_approx(score(t) - peak)) : (f16)(MASKED ? 0x8000 : 0);
                sum += f32_from_f16(probability); // what is summed is what is multiplied
                map::probabilities_row(row)[t] = probability;
            }
            sum = warp_sum(sum);
            if (lane == 0) {
                if constexpr (C::MANY) {
                    add_run(w, row, peak, sum);
                } else {
                    map::row_lse()[row] = peak + log2f(sum);
                    map::row_inverse_sum()[row] = used ? 1.0f / sum : 0.0f;
                }
            }
        }
        return partial;
    }

  private:
    // Statistics of a row after a run of tokens whose weights, exp2(score - peak), have this sum: the log-sum-exp of all
    // tokens so far, the factor that makes a mean of the run's values, and the weight of the mean before in that of both.
    static __device__ __forceinline__ void add_run(const work &w, int row, float peak, float sum)
    {
        const float before = w.first == w.begin ? -infinity() : map::row_lse()[row], now = peak + log2f(sum);
        const float top = fmaxf(before, now), base = top == -infinity() ? 0 : top;
        const float all = exp2_approx(before - base) + exp2_approx(now - base);
        map::row_lse()[row] = base + log2f(all);
        map::row_kept()[row] = all == 0 ? 0 : exp2_approx(before - base) / all;
        map::row_inverse_sum()[row] = sum == 0 ? 0 : 1.0f / sum;
    }
};

#endif
