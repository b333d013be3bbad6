// Cached values as operands of m16n8k16: 16 tokens by 64 channels of a stream at a time, in f16.
//
// Every kernel that reads a cache uses this interface, whatever the cache's bits, groups, zero points and order
// (docs/layout.md):
//
//   struct x : …                          a stream's constants, written by operand.stream() (gen/operand.lua)
//   sequence_source sequence(…);          where a sequence's pages and its tail are
//   tile_source<x> tile(…);               where 16 tokens of it are: in a page, or in the tail
//   chunk_operand<x> chunk;               one lane's part of 64 channels of them
//   chunk.load(tile, 3, lane);            loads only: to be issued early
//   chunk.fragment(a, step);              16 of the 64 channels: x as the kernels see it, rounded once
//
// Tokens of the tile beyond the sequence give zeros.
#ifndef XQ_LIB_OPERAND_CUH
#define XQ_LIB_OPERAND_CUH

#include "dequant.cuh"
#include "params.h"
#include "ptx_matrix.cuh"

// The values that share a scale in a stream: none, a group of channels of one token, or a group of tokens of one
// channel.
enum group_axis { AXIS_NONE, AXIS_TOKEN, AXIS_CHANNEL };

// ---------------------------------------------------------------- places of sequences and tiles

// The place of a sequence's pages and tail. All tiles of the sequence share it.
struct sequence_source {
    const u8 *pages;
    const int *indices; // pages of the whole table; null: entry e is page e
    int first_entry;
    const u8 *tail; // null if no stream has tails
    int length;

    // P is the parameter struct of a kernel that reads a cache. TAIL_BYTES is the size of a sequence's tail over all
    // streams, or 0 if no stream has tails.
    template <int TAIL_BYTES, class P>
    static __device__ __forceinline__ sequence_source of(const P &p, const u8 *pages, int sequence, int length)
    {
        sequence_source s;
        s.pages = pages;
        s.indices = p.table.indices;
        s.first_entry = p.table.indptr[sequence];
        s.tail = nullptr;
        if constexpr (TAIL_BYTES > 0)
            s.tail = p.tails.pool + (size_t)p.tails.slots[sequence] * TAIL_BYTES;
        s.length = length;
        return s;
    }

    __device__ __forceinline__ size_t page(int i) const
    {
        return indices ? __ldg(indices + first_entry + i) : first_entry + i;
    }
};

// The tile record of a token.
template <class S> __device__ __forceinline__ const u8 *record_of(const sequence_source &s, int token)
{
    return s.pages + s.page(token / S::PAGE_TOKENS) * S::PAGE_BYTES + token % S::PAGE_TOKENS / 16 * S::TILE_BYTES;
}

// The place of 16 tokens, the first of which is `token`. `record` is their tile record, and `valid` is the number of
// tokens that are wanted.
template <class S, group_axis AXIS = S::AXIS> struct tile_source {
    static constexpr bool in_tail = false;
    const u8 *record;
    int valid;

    tile_source() = default;
    __device__ __forceinline__ tile_source(const sequence_source &, const u8 *record, int, int valid)
        : record(record), valid(valid)
    {
    }
};

// With groups of tokens, the tokens of the unfinished group are in the tail, and the parameters of finished groups are
// in slots of the pages.
template <class S> struct tile_source<S, AXIS_CHANNEL> {
    bool in_tail;
    const u8 *record;
    const u8 *tail; // if in_tail: row of `token` in the tail
    const u8 *slot; // else, if CHUNK_PAGES is 1: slot of the first 64 channels
    sequence_source sequence;
    int group, valid;

    tile_source() = default;
    __device__ __forceinline__ tile_source(const sequence_source &sequence, const u8 *record, int token, int valid)
        : record(record), tail(nullptr), slot(nullptr), sequence(sequence), group(token / S::GROUP), valid(valid)
    {
        in_tail = group == sequence.length / S::GROUP;
        if (in_tail) {
            tail = sequence.tail + S::TAIL + (size_t)(token % S::GROUP) * (S::TAIL_WIDTH * 2);
        } else if (S::CHUNK_PAGES == 1) {
            const u8 *page = record - token % S::PAGE_TOKENS / 16 * S::TILE_BYTES;
            slot = page + S::SLOTS + group % S::PAGE_GROUPS * (S::PAGE_CHUNKS * S::SLOT_BYTES);
        }
    }

    __device__ __forceinline__ const u8 *slot_of(int chunk) const
    {
        if constexpr (S::CHUNK_PAGES == 1)
            return slot + chunk * S::SLOT_BYTES;
        const size_t page = sequence.page(group * S::CHUNK_PAGES + chunk % S::CHUNK_PAGES);
        return sequence.pages + page * S::PAGE_BYTES + S::SLOTS + chunk / S::CHUNK_PAGES * S::SLOT_BYTES;
    }
};

// ---------------------------------------------------------------- scales, offsets, zero points

// x = scale * code + offset, or scale * (code - zero point); rounded once.
template <bool INTEGER> __device__ __forceinline__ u32 dequantized(u32 codes, u32 scale, u32 offset)
{
    return INTEGER ? f16x2_mul(f16x2_sub(codes, offset), scale) : f16x2_fma(codes, scale, offset);
}

// The next functions read zero points that are packed to BITS bits. zero_codes gives those of an even index and of the
// next one as 16-bit integers, and zero_pair gives them as f16. zero_code gives a single one as an integer, and
// zero_twice gives a single one twice, as f16.
template <int BITS> __device__ __forceinline__ u32 zero_codes(const u8 *zeros, int index)
{
    const int bit = index * BITS;
    const u32 both = (__ldg(zeros + bit / 8) | __ldg(zeros + (bit + 2 * BITS - 1) / 8) << 8) >> bit % 8;
    const u32 mask = (1u << BITS) - 1;
    return (both & mask) | (both >> BITS & mask) << 16;
}

template <int BITS> __device__ __forceinline__ u32 zero_pair(const u8 *zeros, int index)
{
    return codes_from_magic<0>(zero_codes<BITS>(zeros, index) | 0x64006400);
}

template <int BITS> __device__ __forceinline__ u32 zero_code(const u8 *zeros, int index)
{
    const int bit = index * BITS;
    const u32 code = (__ldg(zeros + bit / 8) | __ldg(zeros + (bit + BITS - 1) / 8) << 8) >> bit % 8;
    return code & ((1u << BITS) - 1);
}

template <int BITS> __device__ __forceinline__ u32 zero_twice(const u8 *zeros, int index)
{
    return codes_from_magic<0>(zero_code<BITS>(zeros, index) * 0x10001u | 0x64006400);
}

// The scale (x) and the offset (y) of group `group` of token `token` of a tile record, in f32. The integer zero point z
// of a code is the offset -scale * z.
template <class S> __device__ __forceinline__ float2 scale_and_offset(const u8 *record, int group, int token)
{
    const f16 *scales = (const f16 *)(record + S::PARAMS + group * (S::INTEGER_ZERO ? 32 : 64));
    const float scale = f32_from_f16(__ldg(scales + token));
    if constexpr (S::INTEGER_ZERO)
        return make_float2(scale, -scale * (float)zero_code<S::BITS>(record + S::ZEROS, group * 16 + token));
    else
        return make_float2(scale, f32_from_f16(__ldg(scales + 16 + token)));
}

// The scales and offsets of one group of channels of each token, as pairs of f16 for the registers of a fragment. In
// order k, registers 0 and 2 belong to token row l/4, and registers 1 and 3 to row l/4 + 8. In order v, registers 0 and
// 1 belong to tokens (l%4)*2+{0,1}, and registers 2 and 3 to those tokens + 8.
template <class S> struct token_params {
    u32 scale[2], offset[2];

    __device__ __forceinline__ void clear()
    {
        scale[0] = scale[1] = offset[0] = offset[1] = 0;
    }

    // Tokens at or after `valid` of the tile get scale 0, and offset 0 where it is not a zero point. So the contents of
    // their slots have no effect.
    __device__ __forceinline__ void load(const u8 *record, int group, int lane, int valid)
    {
        const f16 *scales = (const f16 *)(record + S::PARAMS + group * (S::INTEGER_ZERO ? 32 : 64));
        const f16 *offsets = scales + 16;
        const u8 *zeros = record + S::ZEROS;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            scale[i] = offset[i] = 0;
            if constexpr (S::ORDER == ORDER_K) {
                const int token = lane / 4 + 8 * i;
                if (token < valid) {
                    scale[i] = f16x2_broadcast(__ldg(scales + token));
                    if constexpr (S::INTEGER_ZERO)
                        offset[i] = zero_twice<S::BITS>(zeros, group * 16 + token);
                    else
                        offset[i] = f16x2_broadcast(__ldg(offsets + token));
                }
            } else {
                const int token = lane % 4 * 2 + 8 * i;
                const u32 keep = token + 1 < valid ? 0xffffffffu : token < valid ? 0xffffu : 0;
                if (keep) {
                    scale[i] = __ldg((const u32 *)(scales + token)) & keep;
                    if constexpr (S::INTEGER_ZERO)
                        offset[i] = zero_pair<S::BITS>(zeros, group * 16 + token);
                    else
                        offset[i] = __ldg((const u32 *)(offsets + token)) & keep;
                }
            }
        }
    }

    __device__ __forceinline__ void apply(u32 (&fragment)[4]) const
    {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int i = S::ORDER == ORDER_K ? r % 2 : r / 2;
            fragment[r] = dequantized<S::INTEGER_ZERO>(fragment[r], scale[i], offset[i]);
        }
    }
};

// Turns codes of 16 channels into values, with the parameters of a group of tokens from the slot. In order k, registers
// 0 and 1 belong to channels (l%4)*2+{0,1}, and registers 2 and 3 to those channels + 8. In order v, registers 0 and 2
// belong to channel l/4, and registers 1 and 3 to channel l/4 + 8.
template <class S>
__device__ __forceinline__ void apply_channel_params(u32 (&fragment)[4], const u8 *slot, int step, int lane)
{
    const f16 *scales = (const f16 *)slot, *offsets = scales + 64;
    const u8 *zeros = slot + 128;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32 scale, offset;
        if constexpr (S::ORDER == ORDER_K) {
            const int channel = step * 16 + i * 8 + lane % 4 * 2;
            scale = __ldg((const u32 *)(scales + channel));
            if constexpr (S::INTEGER_ZERO)
                offset = zero_pair<S::BITS>(zeros, channel);
            else
                offset = __ldg((const u32 *)(offsets + channel));
        } else {
            const int channel = step * 16 + i * 8 + lane / 4;
            scale = f16x2_broadcast(__ldg(scales + channel));
            if constexpr (S::INTEGER_ZERO)
                offset = zero_twice<S::BITS>(zeros, channel);
            else
                offset = f16x2_broadcast(__ldg(offsets + channel));
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            u32 &x = fragment[S::ORDER == ORDER_K ? i * 2 + j : i + j * 2];
            x = dequantized<S::INTEGER_ZERO>(x, scale, offset);
        }
    }
}

// ---------------------------------------------------------------- 64 channels of a tile

// Turns an A fragment with tokens as rows into one with channels as rows, or back.
__device__ __forceinline__ void transpose_fragment(u32 (&out)[4], const u32 (&in)[4])
{
    out[0] = transpose_8x8(in[0]);
    out[1] = transpose_8x8(in[2]);
    out[2] = transpose_8x8(in[1]);
    out[3] = transpose_8x8(in[3]);
}

// Clears the rows from `valid` on in a fragment with tokens as rows.
__device__ __forceinline__ void keep_rows(u32 *fragment, int lane, int valid)
{
#pragma unroll
    for (int r = 0; r < 4; r++)
        fragment[r] = lane / 4 + r % 2 * 8 < valid ? fragment[r] : 0;
}

// Loads 16 columns of a tile in the tail, with tokens as rows. `rows` points to column 0 of the tile's first row, and
// `valid` is the number of the tile's tokens.
template <class S>
__device__ __forceinline__ void load_tail_fragment(u32 (&out)[4], const u8 *rows, int step, int lane, int valid)
{
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int token = lane / 4 + r % 2 * 8, channel = step * 16 + r / 2 * 8 + lane % 4 * 2;
        out[r] = 0;
        if (token < valid)
            out[r] = __ldg((const u32 *)(rows + (size_t)token * (S::TAIL_WIDTH * 2) + channel * 2));
    }
}

template <class S, group_axis AXIS = S::AXIS> struct chunk_data;

// Per-token groups.
template <class S> struct chunk_data<S, AXIS_TOKEN> {
    static constexpr int GROUPS = S::GROUP < 64 ? 64 / S::GROUP : 1; // groups in 64 channels
    static constexpr int LATENT_CHUNKS = S::LATENT_WIDTH / 64;
    static constexpr int LATENT_GROUPS = (S::LATENT_WIDTH + S::GROUP - 1) / S::GROUP;
    unit_codes<S::BITS> codes;
    token_params<S> params[GROUPS];

    __device__ __forceinline__ void load(const tile_source<S> &tile, int chunk, int lane)
    {
        codes.load(tile.record + S::CODES + chunk * unit_codes<S::BITS>::BYTES, lane);
#pragma unroll
        for (int i = 0; i < GROUPS; i++)
            params[i].load(tile.record, first_group(chunk) + i, lane, tile.valid);
    }

    // The index of a chunk's first group among the groups of a token. Groups begin anew with each latent.
    static __device__ __forceinline__ int first_group(int chunk)
    {
        if constexpr (S::LATENTS == 1 || S::LATENT_WIDTH % S::GROUP == 0)
            return chunk * 64 / S::GROUP;
        return chunk / LATENT_CHUNKS * LATENT_GROUPS + chunk % LATENT_CHUNKS * 64 / S::GROUP;
    }

    __device__ __forceinline__ void clear()
    {
        codes.clear();
#pragma unroll
        for (int i = 0; i < GROUPS; i++)
            params[i].clear();
    }

    __device__ __forceinline__ void fragment(u32 (&out)[4], int step) const
    {
        codes.template fragment<S::ORDER>(out, step);
        params[step * GROUPS / 4].apply(out);
    }
};

// Values of 16 bits, tokens as rows.
template <class S> struct chunk_data<S, AXIS_NONE> {
    static_assert(S::BITS == 16 && S::ORDER == ORDER_K, "an accumulator");
    unit_codes<16> values;

    __device__ __forceinline__ void load(const tile_source<S> &tile, int chunk, int lane)
    {
        values.load(tile.record + S::CODES + chunk * unit_codes<16>::BYTES, lane);
#pragma unroll
        for (int i = 0; i < 4; i++)
            keep_rows(values.words + 4 * i, lane, tile.valid);
    }

    __device__ __forceinline__ void clear()
    {
        values.clear();
    }

    __device__ __forceinline__ void fragment(u32 (&out)[4], int step) const
    {
        values.template fragment<S::ORDER>(out, step);
    }
};

// Per-channel groups. Only codes are loaded ahead. The parameters would take 16 registers; they serve many tiles, so
// they are in a cache when they are used. Tail tiles are few, so they are not loaded ahead either. All lanes agree
// whether a tile is in the tail.
template <class S> struct chunk_data<S, AXIS_CHANNEL> {
    unit_codes<S::BITS> codes;
    const u8 *at; // slot of the parameters; in the tail: the chunk's first column in the tile's first row
    int in_tail;  // tokens of a tile that is in the tail, else -1

    __device__ __forceinline__ void load(const tile_source<S> &tile, int chunk, int lane)
    {
        in_tail = tile.in_tail ? tile.valid : -1;
        at = tile.in_tail ? tile.tail + chunk * 128 : tile.slot_of(chunk);
        if (!tile.in_tail)
            codes.load(tile.record + S::CODES + chunk * unit_codes<S::BITS>::BYTES, lane);
    }

    __device__ __forceinline__ void clear() // a tile of the tail, without tokens
    {
        in_tail = 0;
    }

    __device__ __forceinline__ void fragment(u32 (&out)[4], int step) const
    {
        const int lane = threadIdx.x % 32;
        if (in_tail < 0) {
            codes.template fragment<S::ORDER>(out, step);
            apply_channel_params<S>(out, at, step, lane);
        } else if constexpr (S::ORDER == ORDER_V) {
            u32 rows[4];
            load_tail_fragment<S>(rows, at, step, lane, in_tail);
            transpose_fragment(out, rows);
        } else {
            load_tail_fragment<S>(out, at, step, lane, in_tail);
        }
    }
};

template <class S> struct chunk_operand {
    chunk_data<S> data;

    // Chunk `chunk` (64 channels of the stream) of a tile.
    __device__ __forceinline__ void load(const tile_source<S> &tile, int chunk, int lane)
    {
        data.load(tile, chunk, lane);
    }

    // Makes all values zero.
    __device__ __forceinline__ void clear()
    {
        data.clear();
    }

    // Gives channels 16 * step to 16 * step + 15 as an A fragment, with rows as in the stream's order.
    __device__ __forceinline__ void fragment(u32 (&out)[4], int step) const
    {
        data.fragment(out, step);
    }

    // Gives the same channels with tokens as rows and channels as the reduction.
    __device__ __forceinline__ void fragment_of_tokens(u32 (&out)[4], int step) const
    {
        if constexpr (S::ORDER == ORDER_K) {
            data.fragment(out, step);
        } else {
            u32 rows[4];
            data.fragment(rows, step);
            transpose_fragment(out, rows);
        }
    }

    // Gives the same channels with channels as rows and tokens as the reduction.
    __device__ __forceinline__ void fragment_of_channels(u32 (&out)[4], int step) const
    {
        if constexpr (S::ORDER == ORDER_V) {
            data.fragment(out, step);
        } else {
            u32 rows[4];
            data.fragment(rows, step);
            transpose_fragment(out, rows);
        }
    }
};

#endif
