// The softmax stage of attend turns the scores of the run into probabilities, f16 or integers (attend_planes.cuh), and
// each row's statistics. A warp takes a row. All scores of the run are there, so there is no running maximum. This
// stage alone applies masks and ALiBi's slopes. A mask is a range of tokens for each row, by its position, and a bit
// for each draft of a tree.
#ifndef XQ_LIB_ATTEND_SOFTMAX_CUH
#define XQ_LIB_ATTEND_SOFTMAX_CUH

#include "attend_planes.cuh"
#include "attend_work.cuh"
#include "ptx.cuh"
#include "score.cuh"

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
    // FOLDED: scores are dot products, one for each warp that shared the columns. If they take more than a factor to
    // become exponents, this is done once, in their place.
    static constexpr bool FINISHED = map::FOLDED && (C::KEY_WARPS > 1 || C::SOFTCAP > 0);

    // Tokens that a row does not see get probability 0. With MASKED that is -0, which gives the same products and marks
    // the token as one that the row does not see. Rows that do not exist see nothing. Returns whether a row of the warp
    // does not see all tokens that the value stage multiplies.
    static __device__ __forceinline__ bool run(const xq_attend_params &p, const work &w)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        // The value stage has zeros for tokens from w.count on, except in streams with groups of tokens: there it may
        // multiply them like the others.
        const int multiplied = C::stream_v::AXIS == AXIS_CHANNEL ? w.tiles * 16 : w.count;
        bool partial = false;
        if constexpr (C::INTEGER_VALUES) {
            attend_planes<C>::load_params(w);
            __syncthreads();
        }
        for (int row = warp; row < C::QUERY_ROWS; row += C::WARPS) {
            const bool used = row < w.rows.count;
            if constexpr (C::INTEGER_VALUES) {
                if (!used) {
                    skip_row(w, row);
                    continue;
                }
            }
            float *scores = map::scores_row(row);
            const int query = w.rows.query(row);
            const int position = !C::MANY ? w.reference : used ? w.queries.position(p.queries, query) : 0;
            int from = 0, to = used ? w.count : 0; // the tokens of the run that the row sees, without drafts
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
                const float exponent = map::FOLDED && !FINISHED ? score_exponent<C>(scores[t]) : scores[t];
                if constexpr (C::ALIBI)
                    return fmaf(slope, (float)(w.token_position(p, t) - position), exponent);
                else
                    return exponent;
            };
            // The score of a token that is read for the first time. A lane reads the same tokens each time.
            auto first_score = [&](int t) {
                if constexpr (FINISHED) {
                    float product = scores[t];
#pragma unroll
                    for (int part = 1; part < C::KEY_WARPS; part++)
                        product += scores[t + part * map::SCORE_PART];
                    scores[t] = score_exponent<C>(product);
                }
                return score(t);
            };
            float peak = -infinity(), sum = 0;
            if constexpr (MASKED) {
                for (int t = lane; t < w.count; t += 32) {
                    if (sees(t))
                        peak = fmaxf(peak, first_score(t));
                }
                peak = warp_max(peak);
                peak = peak > -infinity() ? peak : 0; // a row that sees nothing has the sum zero
            } else {
                if (used) {
                    for (int t = lane; t < w.count; t += 32)
                        peak = fmaxf(peak, first_score(t));
                }
                peak = warp_max(peak);
            }
            if constexpr (C::INTEGER_VALUES) {
                sum = store_planes(w, row, sees, [&](int t) { return exp2_approx(score(t) - peak); });
            } else {
                for (int t = lane; t < w.tiles * 16; t += 32) {
                    f16 probability = sees(t) ? f16_from_f32(exp2_approx(score(t) - peak)) : (f16)(MASKED ? 0x8000 : 0);
                    sum += f32_from_f16(probability); // the rounded value, which the product takes, too
                    map::probabilities_row(row)[t] = probability;
                }
                sum = warp_sum(sum);
            }
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
    // Gives a row that does not exist the weight zero.
    static __device__ __forceinline__ void skip_row(const work &w, int row)
    {
        attend_planes<C>::clear(w, row);
        if (threadIdx.x % 32 == 0) {
            map::row_lse()[row] = -infinity();
            map::row_inverse_sum()[row] = map::row_unit()[row] = map::row_offset()[row] = 0;
        }
    }

    // Stores a row's probabilities as integers, and the unit and the offset that they need. Overwrites the row's
    // scores. Returns the sum of the probabilities. A scale that is not finite makes the row NaN.
    template <class S, class P>
    static __device__ __forceinline__ float store_planes(const work &w, int row, S sees, P probability)
    {
        using planes = attend_planes<C>;
        float *products = map::scores_row(row);
        float sum = 0, offsets = 0, largest = 0;
        for (int t = threadIdx.x % 32; t < (w.tiles + 1) / 2 * 32; t += 32) {
            float product = 0;
            if (sees(t)) {
                const float p = probability(t);
                const float2 params = map::token_params()[t]; // scale, offset
                product = p * params.x;
                sum += p;
                offsets = fmaf(p, params.y, offsets);
                largest = fmaxf(largest, product);
            }
            products[t] = product;
        }
        sum = warp_sum(sum);
        offsets = warp_sum(offsets);
        largest = warp_max(largest);
        planes::store(products, w, row, largest);
        if (threadIdx.x % 32 == 0) {
            map::row_unit()[row] = largest * (1.0f / planes::LARGEST);
            map::row_offset()[row] = offsets;
        }
        return sum;
    }

    // Updates the statistics of a row after a run of tokens whose weights, exp2(score - peak), add up to `sum`. The
    // statistics are the log-sum-exp of all tokens so far, the factor that makes a mean of the run's weighted values,
    // and the weight of the output accumulated so far in the mean over all tokens.
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
