// The quantizer: it finds the parameters of a group from its extremes, finds codes, and stores both (docs/layout.md).
// Its results equal those of runtime/host/quantizer.h bit for bit.
//
// Values are f16, and infinities have been saturated to +-65504. A NaN makes its group's scale NaN and its codes 0.
#ifndef XQ_LIB_QUANTIZE_CUH
#define XQ_LIB_QUANTIZE_CUH

#include "ptx.cuh"

// ---------------------------------------------------------------- extremes of a group

// The smallest and the largest of the values included so far. Values are included two at a time.
struct extremes {
    u32 low, high; // two f16 each: for the values in lower halves and for those in upper halves

    __device__ __forceinline__ void clear()
    {
        low = 0x7c007c00;
        high = 0xfc00fc00;
    }

    __device__ __forceinline__ void include(u32 pair)
    {
        low = f16x2_min_nan(low, pair);
        high = f16x2_max_nan(high, pair);
    }

    // Includes only the halves whose bits in `keep` are ones.
    __device__ __forceinline__ void include_some(u32 pair, u32 keep)
    {
        low = f16x2_min_nan(low, pair & keep | 0x7c007c00 & ~keep);
        high = f16x2_max_nan(high, pair & keep | 0xfc00fc00 & ~keep);
    }

    // The minimum and the negated maximum of all values, in one word. f16x2_min_nan joins two such words.
    __device__ __forceinline__ u32 joined() const
    {
        u32 negated = high ^ 0x80008000;
        return f16x2_min_nan(__byte_perm(low, negated, 0x5410), __byte_perm(low, negated, 0x7632));
    }
};

// Combines `extremes::joined` over each aligned group of LANES lanes.
template <int LANES> __device__ __forceinline__ u32 join_lanes(u32 joined)
{
#pragma unroll
    for (int offset = LANES / 2; offset; offset /= 2)
        joined = f16x2_min_nan(joined, __shfl_xor_sync(0xffffffff, joined, offset));
    return joined;
}

// ---------------------------------------------------------------- parameters and codes

// A code stands for the value scale * code + offset, or, with an integer zero point, scale * (code - zero).
template <int BITS, bool INTEGER_ZERO> struct quantizer {
    static constexpr float CODE_MAX = (1 << BITS) - 1;

    float scale;
    float zero; // the offset (an f16: the group's minimum unless clipped), or the zero point
    float most; // the largest code; less than CODE_MAX if CODE_MAX would stand for more than f16 holds

    // `joined` comes from extremes::joined. Codes span the share `clip` of the range: its middle, or with an integer
    // zero point that share of each side of zero. A group without any included value has scale 0 and zero 0.
    __device__ __forceinline__ explicit quantizer(u32 joined, float clip = 1.0f)
    {
        float low = f32_from_f16_low(joined), high = -f32_from_f16_high(joined);
        if (low > high)
            low = high = 0;
        if (INTEGER_ZERO) {
            low = min_nan(low, 0.0f);
            high = max_nan(high, 0.0f);
        }
        const float range = high - low, span = __fmul_rn(range, clip);
        scale = rounded(__fdiv_rn(span, CODE_MAX));
        zero = INTEGER_ZERO ? 0.0f : rounded(__fadd_rn(low, __fmul_rn(range - span, 0.5f)));
        most = CODE_MAX;
        if (scale == 0.0f)
            return;
        const float end = INTEGER_ZERO ? __fmul_rn(fmaxf(-low, high), clip) : span;
        float count = INTEGER_ZERO ? rintf(__fdiv_rn(end, scale)) : CODE_MAX;
        if (overflows(count))
            count = keep_finite(end, count);
        if (INTEGER_ZERO) {
            const float code_of_zero = clamp(rintf(__fdiv_rn(-__fmul_rn(low, clip), scale)));
            most = overflows(CODE_MAX - code_of_zero) ? count + code_of_zero : CODE_MAX;
            zero = code_of_zero;
        } else {
            most = count;
        }
    }
    quantizer() = default;

    __device__ __forceinline__ u32 code(float value) const
    {
        if (scale == 0.0f) // the group is constant, or nearly
            return 0;
        return (u32)(INTEGER_ZERO ? clamp(rintf(__fdiv_rn(value, scale)) + zero)
                                  : clamp(rintf(__fdiv_rn(value - zero, scale))));
    }

    // 1 / scale, for code_by.
    __device__ __forceinline__ float inverse() const
    {
        return __fdiv_rn(1.0f, scale == 0.0f ? 1.0f : scale);
    }

    // The code of a value, found with a product with inverse() instead of a quotient. Feedback uses it.
    __device__ __forceinline__ float code_by(float inverse, float value) const
    {
        if (scale == 0.0f)
            return 0.0f;
        return INTEGER_ZERO ? clamp(rintf(__fmul_rn(value, inverse)) + zero)
                            : clamp(rintf(__fmul_rn(value - zero, inverse)));
    }

    // The value that a code stands for, minus the given value. The error is rounded to f16, so that its products with
    // f16 numbers are exact in f32.
    __device__ __forceinline__ float error_of(float code, float value) const
    {
        const float cached = INTEGER_ZERO ? __fmul_rn(scale, code - zero) : __fmaf_rn(scale, code, zero);
        const float error = fminf(fmaxf(cached - value, -65504.0f), 65504.0f);
        return f32_from_f16(f16_from_f32(error));
    }

    // The codes of two values: `low` of the lower half, `high` of the upper half.
    __device__ __forceinline__ void codes(u32 pair, u32 &low, u32 &high) const
    {
        low = code(f32_from_f16_low(pair));
        high = code(f32_from_f16_high(pair));
    }

private:
    static __device__ __forceinline__ float rounded(float v)
    {
        return f32_from_f16(f16_from_f32(v));
    }

    // Whether zero + count * scale is more than f16 holds. `zero` is an offset, or 0 with an integer zero point.
    __device__ __forceinline__ bool overflows(float count) const
    {
        return __fmaf_rn(scale, count, zero) >= 65520.0f;
    }

    // `count` scales reach the end of the range. Lowers the count, with a scale to match, until f16 holds the end of
    // the range, and returns the count. If no count is good, it rounds the scale down instead. Only groups with values
    // near the limit of f16 need this.
    __device__ __forceinline__ float keep_finite(float end, float count)
    {
        const float given = scale, given_count = count;
        while (overflows(count) && count > 0.0f) {
            count -= 1.0f;
            scale = rounded(__fdiv_rn(end, count));
        }
        if (count > 0.0f)
            return count;
        scale = f32_from_f16(f16_from_f32(given) - 1);
        return given_count;
    }

    // Limits a code to 0 .. most. NaN becomes 0.
    __device__ __forceinline__ float clamp(float v) const
    {
        return fminf(fmaxf(v, 0.0f), most);
    }
};

// ---------------------------------------------------------------- one token of a tile: four codes a lane

// Sixteen lanes serve a token. In each unit of 64 channels lane i has the four channels quad_channel(i) + {0, 1, 8, 9}.
// They are the channels that one lane of a matrix instruction holds in a row of a fragment.
__device__ __forceinline__ int quad_channel(int lane)
{
    return lane % 16 / 4 * 16 + lane % 4 * 2;
}

// Where the codes of a quad are, in units with LANE_BYTES per lane and less than 8 bits per code. The codes of channels
// base and base + 8 share the byte at `first`; those of base + 1 and base + 9 share the byte at first + step.
template <int LANE_BYTES> struct quad_place {
    int first, step;

    __device__ __forceinline__ quad_place(int lane, int row, bool channel_rows, int word)
    {
        const int part = lane % 4;
        const int owner = channel_rows ? part * 8 + row % 8 / 2 : row % 8 * 4 + part;
        first = owner * LANE_BYTES + word * 4 + (channel_rows ? row % 2 * 2 : 0) + row / 8;
        step = channel_rows ? 4 * LANE_BYTES : 2;
    }
};

// Codes of LANES lanes share a byte: 2-bit codes of two lanes, or 1-bit codes of four. Combines the bits of these
// lanes, which are `low` for the byte at `at` and `high` for the byte at at + step. One lane stores each byte.
template <int LANES>
__device__ __forceinline__ void store_shared_bytes(u8 *at, int step, u32 low, u32 high, bool writes)
{
    const int fragment = threadIdx.x % 16 / 4;
    u32 both = low | high << 16;
#pragma unroll
    for (int offset = 4; offset < 4 * LANES; offset *= 2)
        both |= __shfl_xor_sync(0xffffffff, both, offset);
    if (writes && fragment % LANES < 2)
        at[fragment % LANES ? step : 0] = fragment % LANES ? both >> 16 : both;
}

// Stores the codes of a quad. `row` is the token's place in its tile, and channel_rows says that the unit has order v.
// All lanes of the warp must call it; lanes without `writes` store nothing. Every byte belongs to one token.
template <int BITS>
__device__ __forceinline__ void store_quad(u8 *unit, const u32 (&code)[4], int row, bool channel_rows, bool writes)
{
    const int lane = threadIdx.x % 16, fragment = lane / 4;
    if (BITS == 8) {
        u8 *half = unit + fragment / 2 * 512 + fragment % 2 * 8;
        if (channel_rows) {
            u8 *at = half + lane % 4 * 2 * 64 + row % 8 / 2 * 16 + row / 8 * 4 + row % 2;
            if (writes) {
                at[0] = code[0];
                at[2] = code[2];
                at[64] = code[1];
                at[66] = code[3];
            }
        } else if (writes) {
            u8 *at = half + (row % 8 * 4 + lane % 4) * 16 + row / 8 * 4;
            *(u32 *)at = code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24;
        }
    } else if (BITS == 4) {
        const quad_place<16> place(lane, row, channel_rows, fragment);
        if (writes) {
            unit[place.first] = code[0] | code[2] << 4;
            unit[place.first + place.step] = code[1] | code[3] << 4;
        }
    } else {
        const quad_place<8> place(lane, row, channel_rows, fragment / 2);
        const int shift = fragment % 2 * 4;
        store_shared_bytes<2>(unit + place.first, place.step, (code[0] & 3 | (code[2] & 3) << 2) << shift,
                              (code[1] & 3 | (code[3] & 3) << 2) << shift, writes);
        if (BITS == 3) { // the high bits have a plane of their own
            const quad_place<4> high(lane, row, channel_rows, 0);
            store_shared_bytes<4>(unit + 256 + high.first, high.step, (code[0] >> 2 | code[2] >> 2 << 1) << fragment * 2,
                                  (code[1] >> 2 | code[3] >> 2 << 1) << fragment * 2, writes);
        }
    }
}

// Stores number `index` of the packed integer zero points at `zeros`, which is 4-byte aligned. Other threads may store
// into the same word at the same time.
template <int BITS> __device__ __forceinline__ void store_zero_point(u8 *zeros, int index, u32 zero)
{
    if (BITS == 8) {
        zeros[index] = zero;
        return;
    }
    u32 *word = (u32 *)zeros + index * BITS / 32;
    const int shift = index * BITS % 32;
    atomicAnd(word, ~(((1u << BITS) - 1) << shift));
    atomicOr(word, zero << shift);
    if (32 % BITS != 0 && shift + BITS > 32) {
        atomicAnd(word + 1, ~(((1u << BITS) - 1) >> (32 - shift)));
        atomicOr(word + 1, zero >> (32 - shift));
    }
}

// Stores the parameters of one token's group. `params` and `zeros` are those of the tile record, and `row` is the
// token's place in its tile.
template <int BITS, bool INTEGER_ZERO>
__device__ __forceinline__ void store_params(u8 *params, u8 *zeros, int group, int row,
                                             const quantizer<BITS, INTEGER_ZERO> &q)
{
    if (INTEGER_ZERO) {
        ((f16 *)params)[group * 16 + row] = f16_from_f32(q.scale);
        store_zero_point<BITS>(zeros, group * 16 + row, (u32)q.zero);
    } else {
        ((f16 *)params)[group * 32 + row] = f16_from_f32(q.scale);
        ((f16 *)params)[group * 32 + 16 + row] = f16_from_f32(q.zero);
    }
}

// ---------------------------------------------------------------- feedback

// The factors by which an error of one channel is added to VALUES values of a lane.
template <int VALUES> struct feedback_row {
    u32 words[VALUES / 2];

    __device__ __forceinline__ explicit feedback_row(const f16 *from)
    {
        if (VALUES == 4) {
            const uint2 v = *(const uint2 *)from;
            words[0] = v.x;
            words[1] = v.y;
            return;
        }
#pragma unroll
        for (int i = 0; i < VALUES / 8; i++) {
            const uint4 v = *(const uint4 *)(from + i * 8); // plain loads, which the compiler may move up
            words[i * 4] = v.x;
            words[i * 4 + 1] = v.y;
            words[i * 4 + 2] = v.z;
            words[i * 4 + 3] = v.w;
        }
    }

    __device__ __forceinline__ float value(int i) const
    {
        return i % 2 ? f32_from_f16_high(words[i / 2]) : f32_from_f16_low(words[i / 2]);
    }
};

// ---------------------------------------------------------------- a whole unit by one warp

// Stores a unit; each lane stores its own words. code(fragment, pair, element) returns the code of one of this lane's
// elements in a fragment of 16 channels. Let r = lane / 4 and c = lane % 4 * 2. In order k the element belongs to token
// r + 8 * (pair / 2) and channel c + element + 8 * (pair % 2) of the fragment. In order v it belongs to token
// c + element + 8 * (pair / 2) and channel r + 8 * (pair % 2).
template <int BITS, class CODE> __device__ __forceinline__ void store_unit(u8 *unit, CODE code)
{
    const int lane = threadIdx.x % 32;
    constexpr int PLANE = BITS == 3 ? 2 : BITS; // bits of a code in the first plane
    u32 words[4 * PLANE / 4] = {}, high = 0;
#pragma unroll
    for (int i = 0; i < 4 * 4 * 2; i++) {
        const int fragment = i / 8, pair = i / 2 % 4, element = i % 2;
        const u32 c = code(fragment, pair, element);
        const int byte = element * 16 + pair / 2 * 8; // of the word, below 8 bits
        if (PLANE == 8)
            words[fragment * 2 + pair / 2] |= c << (pair % 2 * 2 + element) * 8;
        else if (PLANE == 4)
            words[fragment] |= c << (byte + pair % 2 * 4);
        else
            words[fragment / 2] |= (c & 3) << (byte + (fragment % 2 * 2 + pair % 2) * 2);
        if (BITS == 3)
            high |= (c >> 2) << (byte + fragment * 2 + pair % 2);
    }
    if (PLANE == 2) {
        *(uint2 *)(unit + lane * 8) = make_uint2(words[0], words[1]);
        if (BITS == 3)
            *(u32 *)(unit + 256 + lane * 4) = high;
        return;
    }
#pragma unroll
    for (int half = 0; half < PLANE / 4; half++)
        store_vector(unit + half * 512 + lane * 16, make_uint4(words[half * 4], words[half * 4 + 1], words[half * 4 + 2],
                                                               words[half * 4 + 3]));
}

#endif
