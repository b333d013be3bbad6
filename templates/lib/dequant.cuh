// Codes to f16: from the words of a unit (docs/layout.md) to A fragments of m16n8k16.
//
// An f16 with the bits 0x6400 + c is 1024 + c, so a code becomes a number by masking it into place and
// subtracting 1024; every step is exact. A code that lies i bits higher is scaled down by the fma that subtracts. The
// order of codes within a word is chosen so that the codes of a byte need no more than one shift.
#ifndef XQ_LIB_DEQUANT_CUH
#define XQ_LIB_DEQUANT_CUH

#include "ptx.cuh"

// The order of the codes in an A fragment's four registers. Order k has tokens as rows (M) and channels as
// the reduction (K); order v has channels as rows and tokens as the reduction.
enum unit_order { ORDER_K, ORDER_V };

// Puts the pairs of a word into the registers of a fragment, in that order.
template <unit_order ORDER>
__device__ __forceinline__ void set_pairs(u32 (&fragment)[4], u32 pair0, u32 pair1, u32 pair2, u32 pair3)
{
    fragment[0] = pair0;
    fragment[1] = ORDER == ORDER_K ? pair2 : pair1;
    fragment[2] = ORDER == ORDER_K ? pair1 : pair2;
    fragment[3] = pair3;
}

// Turns 1024 + code * 2^AT in both halves into the codes.
template <int AT> __device__ __forceinline__ u32 codes_from_magic(u32 packed)
{
    constexpr u32 inverse = (15u - AT) << 10;         // 2^-AT
    constexpr u32 minus = 0x8000u | (25u - AT) << 10; // -1024 * 2^-AT
    return AT == 0 ? f16x2_sub(packed, 0x64006400) : f16x2_fma(packed, inverse * 0x10001u, minus * 0x10001u);
}

// The pair of codes of BITS bits that starts at bit AT of both half-words.
template <int BITS, int AT> __device__ __forceinline__ u32 codes_at(u32 word)
{
    constexpr u32 mask = ((1u << BITS) - 1) << AT;
    return codes_from_magic<AT>(and_or(word, mask * 0x10001u, 0x64006400));
}

// One word of 4-bit codes: nibble p of both half-words is element pair p.
template <unit_order ORDER> __device__ __forceinline__ void codes_from_4bit(u32 (&fragment)[4], u32 word)
{
    u32 pair0 = codes_at<4, 0>(word);
    u32 pair1 = codes_at<4, 4>(word);
    u32 upper = word >> 8;
    u32 pair2 = codes_at<4, 0>(upper);
    u32 pair3 = codes_at<4, 4>(upper);
    set_pairs<ORDER>(fragment, pair0, pair1, pair2, pair3);
}

// Two words of 8-bit codes: the bytes are element pairs in the order of pair0 .. pair3 above.
template <unit_order ORDER>
__device__ __forceinline__ void codes_from_8bit(u32 (&fragment)[4], u32 word0, u32 word1)
{
    const u32 magic = 0x64006400;
    u32 pair0 = f16x2_sub(__byte_perm(word0, magic, 0x5150), magic);
    u32 pair1 = f16x2_sub(__byte_perm(word0, magic, 0x5352), magic);
    u32 pair2 = f16x2_sub(__byte_perm(word1, magic, 0x5150), magic);
    u32 pair3 = f16x2_sub(__byte_perm(word1, magic, 0x5352), magic);
    set_pairs<ORDER>(fragment, pair0, pair1, pair2, pair3);
}

// The 2-bit codes of one of the two fragments that share a word; SECOND takes the second one. Each byte of a half-word
// has two pairs of each fragment.
template <unit_order ORDER, bool SECOND> __device__ __forceinline__ void codes_from_2bit(u32 (&fragment)[4], u32 word)
{
    constexpr int at = SECOND ? 4 : 0;
    u32 upper = word >> 8;
    set_pairs<ORDER>(fragment, codes_at<2, at>(word), codes_at<2, at + 2>(word), codes_at<2, at>(upper),
                     codes_at<2, at + 2>(upper));
}

// Shifts left by BY bits, or right by -BY bits if BY is negative.
template <int BY> __device__ __forceinline__ u32 shifted(u32 word)
{
    if constexpr (BY >= 0)
        return word << BY;
    else
        return word >> -BY;
}

// A pair of 3-bit codes. In each half-word, `low` has a code's two low bits at bit AT, and `high` has its highest bit
// at bit FROM.
template <int AT, int FROM> __device__ __forceinline__ u32 codes_of_planes(u32 low, u32 high)
{
    u32 packed = and_or(low, (3u << AT) * 0x10001u, 0x64006400);
    return codes_from_magic<AT>(and_or(shifted<AT + 2 - FROM>(high), (4u << AT) * 0x10001u, packed));
}

// Fragment I of 3-bit codes. `low` has two-bit parts, as a word of 2-bit codes, and `high` has the high bits of all
// four fragments.
template <unit_order ORDER, int I>
__device__ __forceinline__ void codes_from_3bit(u32 (&fragment)[4], u32 low, u32 high)
{
    constexpr int at = I % 2 * 4, from = I * 2;
    set_pairs<ORDER>(fragment, codes_of_planes<at, from>(low, high), codes_of_planes<at + 2, from + 1>(low, high),
                     codes_of_planes<at, from + 8>(low >> 8, high),
                     codes_of_planes<at + 2, from + 9>(low >> 8, high));
}

// One lane's codes of a unit of 16 tokens by 64 channels. With 16 bits they are not codes but values.
template <int BITS> struct unit_codes {
    static_assert(BITS == 2 || BITS == 3 || BITS == 4 || BITS == 8 || BITS == 16, "bits of a code");
    static constexpr int BYTES = 16 * 64 * BITS / 8;
    static constexpr int WORDS = BYTES / 128;
    u32 words[WORDS];

    // `unit` is the unit's first byte.
    __device__ __forceinline__ void load(const u8 *unit, int lane)
    {
        if constexpr (BITS < 4) {
            uint2 v = __ldg((const uint2 *)(unit + lane * 8));
            words[0] = v.x;
            words[1] = v.y;
            if constexpr (BITS == 3)
                words[2] = __ldg((const u32 *)(unit + 256 + lane * 4));
        } else {
#pragma unroll
            for (int part = 0; part < WORDS / 4; part++) {
                uint4 v = load_readonly(unit + part * 512 + lane * 16);
                words[4 * part + 0] = v.x;
                words[4 * part + 1] = v.y;
                words[4 * part + 2] = v.z;
                words[4 * part + 3] = v.w;
            }
        }
    }

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++)
            words[i] = 0;
    }

    // Fragment i of 4 (16 channels each) as exact integers; i must be known to the compiler after unrolling.
    template <unit_order ORDER> __device__ __forceinline__ void fragment(u32 (&out)[4], int i) const
    {
        if constexpr (BITS == 4) {
            codes_from_4bit<ORDER>(out, words[i]);
        } else if constexpr (BITS == 8) {
            codes_from_8bit<ORDER>(out, words[2 * i], words[2 * i + 1]);
        } else if constexpr (BITS == 2) {
            if (i % 2)
                codes_from_2bit<ORDER, true>(out, words[i / 2]);
            else
                codes_from_2bit<ORDER, false>(out, words[i / 2]);
        } else if constexpr (BITS == 3) {
            if (i == 0)
                codes_from_3bit<ORDER, 0>(out, words[0], words[2]);
            else if (i == 1)
                codes_from_3bit<ORDER, 1>(out, words[0], words[2]);
            else if (i == 2)
                codes_from_3bit<ORDER, 2>(out, words[1], words[2]);
            else
                codes_from_3bit<ORDER, 3>(out, words[1], words[2]);
        } else {
#pragma unroll
            for (int r = 0; r < 4; r++)
                out[r] = words[4 * i + r];
        }
    }

    // Fragment i as bytes: a register has four codes of one row of the operand. i must be known to the compiler after
    // unrolling. rows[0] has row l/4, and rows[1] has row l/4 + 8. With k = l%4 * 2, the bytes in order k are elements
    // k, k + 1, k + 8 and k + 9 of the reduction. In order v they are elements k, k + 8, k + 1 and k + 9, as they are
    // packed below 8 bits, which saves permuting them.
    template <unit_order ORDER> __device__ __forceinline__ void bytes(u32 (&rows)[2], int i) const
    {
        static_assert(BITS <= 8, "values of 16 bits are no codes");
        if constexpr (BITS == 8) {
            rows[0] = words[2 * i];
            rows[1] = words[2 * i + 1];
            if constexpr (ORDER == ORDER_V) {
                rows[0] = permute_bytes(words[2 * i], words[2 * i + 1], 0x5140);
                rows[1] = permute_bytes(words[2 * i], words[2 * i + 1], 0x7362);
            }
        } else {
            u32 even, odd; // codes of pairs 0 and 2, and of pairs 1 and 3: both first members, then both second ones
            split_pairs(even, odd, i);
            join_pairs<ORDER>(rows, even, odd);
        }
    }

    // The same bytes as signed numbers, (code - CENTER) * SIGNED_UNIT, at most 128 in magnitude. A code is moved to the
    // high end of its byte; to invert the highest bit there is to subtract CENTER.
    static constexpr int CENTER = 1 << (BITS - 1), SIGNED_UNIT = BITS <= 8 ? 128 / CENTER : 0;
    template <unit_order ORDER> __device__ __forceinline__ void signed_bytes(u32 (&rows)[2], int i) const
    {
        constexpr u32 signs = 0x80808080, high = 0x01010101 * (256 - SIGNED_UNIT); // bits of the codes
        if constexpr (BITS == 4) {
            join_pairs<ORDER>(rows, and_xor(words[i] << 4, high, signs), and_xor(words[i], high, signs));
        } else if constexpr (BITS == 2) {
            const u32 word = words[i / 2];
            join_pairs<ORDER>(rows, and_xor(i % 2 ? word << 2 : word << 6, high, signs),
                              and_xor(i % 2 ? word : word << 4, high, signs));
        } else {
            bytes<ORDER>(rows, i);
            rows[0] = rows[0] << (8 - BITS) ^ signs;
            rows[1] = rows[1] << (8 - BITS) ^ signs;
        }
    }

  private:
    __device__ __forceinline__ void split_pairs(u32 &even, u32 &odd, int i) const
    {
        constexpr u32 each = 0x01010101;
        if constexpr (BITS == 4) {
            even = words[i] & 15 * each;
            odd = words[i] >> 4 & 15 * each;
        } else {
            const u32 low = words[i / 2] >> i % 2 * 4;
            even = low & 3 * each;
            odd = low >> 2 & 3 * each;
            if constexpr (BITS == 3) {
                const u32 high = words[2] >> 2 * i;
                even |= (high & each) << 2;
                odd |= (high & 2 * each) << 1;
            }
        }
    }

    template <unit_order ORDER> static __device__ __forceinline__ void join_pairs(u32 (&rows)[2], u32 even, u32 odd)
    {
        rows[0] = ORDER == ORDER_V ? even : permute_bytes(even, odd, 0x6420);
        rows[1] = ORDER == ORDER_V ? odd : permute_bytes(even, odd, 0x7531);
    }
};

#endif
