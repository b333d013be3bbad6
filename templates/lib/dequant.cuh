// Codes to f16: from the words of a unit (docs/layout.md) to A fragments of m16n8k16.
//
// An f16 with the bits 0x6400 + c is 1024 + c, so a code becomes a number by masking it into place and
// subtracting 1024; every step is exact. The codes' order within a word is chosen so that no more than
// one shift is needed.
#ifndef XQ_LIB_DEQUANT_CUH
#define XQ_LIB_DEQUANT_CUH

#include "ptx.cuh"

// Where the codes of an A fragment's four registers sit: order k has tokens as rows (M) and channels as
// the reduction (K); order v has channels as rows and tokens as the reduction.
enum unit_order { ORDER_K, ORDER_V };

// One word of 4-bit codes: nibble p of both half-words is element pair p.
template <unit_order ORDER> __device__ __forceinline__ void codes_from_4bit(u32 (&fragment)[4], u32 word)
{
    const u32 magic = 0x64006400;     // 1024, 1024
    const u32 sixteenth = 0x2c002c00; // 1/16, 1/16
    const u32 minus_64 = 0xd400d400;
    u32 pair0 = f16x2_sub(and_or(word, 0x000f000f, magic), magic);
    u32 pair1 = f16x2_fma(and_or(word, 0x00f000f0, magic), sixteenth, minus_64); // (1024 + 16c)/16 - 64
    u32 upper = word >> 8;
    u32 pair2 = f16x2_sub(and_or(upper, 0x000f000f, magic), magic);
    u32 pair3 = f16x2_fma(and_or(upper, 0x00f000f0, magic), sixteenth, minus_64);
    fragment[0] = pair0;
    fragment[1] = ORDER == ORDER_K ? pair2 : pair1;
    fragment[2] = ORDER == ORDER_K ? pair1 : pair2;
    fragment[3] = pair3;
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
    fragment[0] = pair0;
    fragment[1] = ORDER == ORDER_K ? pair2 : pair1;
    fragment[2] = ORDER == ORDER_K ? pair1 : pair2;
    fragment[3] = pair3;
}

// One lane's codes of a unit of 16 tokens by 64 channels.
template <int BITS> struct unit_codes {
    u32 words[4 * BITS / 4];

    // `unit` is the unit's first byte.
    __device__ __forceinline__ void load(const u8 *unit, int lane)
    {
#pragma unroll
        for (int half = 0; half < BITS / 4; half++) {
            uint4 v = load_readonly(unit + half * 512 + lane * 16);
            words[4 * half + 0] = v.x;
            words[4 * half + 1] = v.y;
            words[4 * half + 2] = v.z;
            words[4 * half + 3] = v.w;
        }
    }

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < 4 * BITS / 4; i++)
            words[i] = 0;
    }

    // Fragment i of 4 (16 channels each) as exact integers.
    template <unit_order ORDER> __device__ __forceinline__ void fragment(u32 (&out)[4], int i) const
    {
        if (BITS == 4)
            codes_from_4bit<ORDER>(out, words[i]);
        else
            codes_from_8bit<ORDER>(out, words[2 * i], words[2 * i + 1]);
    }
};

// Scale and offset for the registers of a fragment, each two f16. Registers 0 and 2 of order k belong to
// token row l/4, registers 1 and 3 to row l/4 + 8; registers 0 and 1 of order v belong to tokens
// (l%4)*2+{0,1}, registers 2 and 3 to those + 8.
struct group_params {
    u32 scale[2], offset[2];

    __device__ __forceinline__ void clear()
    {
        scale[0] = scale[1] = offset[0] = offset[1] = 0;
    }

    // `group`: the group's scale[16], offset[16] in the tile record. Tokens at or after `valid_tokens` of
    // the tile get scale and offset 0: what their slots hold is never used.
    template <unit_order ORDER> __device__ __forceinline__ void load(const u8 *group, int lane, int valid_tokens)
    {
        const f16 *scales = (const f16 *)group, *offsets = scales + 16;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (ORDER == ORDER_K) {
                int token = lane / 4 + 8 * i;
                bool valid = token < valid_tokens;
                scale[i] = valid ? f16x2_broadcast(__ldg(scales + token)) : 0;
                offset[i] = valid ? f16x2_broadcast(__ldg(offsets + token)) : 0;
            } else {
                int token = lane % 4 * 2 + 8 * i;
                u32 keep = token + 1 < valid_tokens ? 0xffffffffu : token < valid_tokens ? 0xffffu : 0;
                scale[i] = keep ? __ldg((const u32 *)(scales + token)) & keep : 0;
                offset[i] = keep ? __ldg((const u32 *)(offsets + token)) & keep : 0;
            }
        }
    }

    // Codes to x = scale * code + offset, rounded once.
    template <unit_order ORDER> __device__ __forceinline__ void apply(u32 (&fragment)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int half = ORDER == ORDER_K ? i % 2 : i / 2;
            fragment[i] = f16x2_fma(fragment[i], scale[half], offset[half]);
        }
    }
};

#endif
