// Probabilities of one query as integers, for the product with the values' codes as they are cached, where a head's
// value latent is one quantization group of a token.
//
// A value of the cache is s c + m, where c is its code and s and m are the scale and the offset of its token. So for
// one row (a query head) and one channel, over tokens t with probabilities p,
//
//   sum of p_t (s_t c_t + m_t)  =  sum of (p_t s_t) c_t  +  sum of p_t m_t
//
// The second sum is the same for all channels. With an integer zero point z, the sum is that of (p_t s_t) (c_t - z_t)
// instead: a large scale times codes that are at their zero points must give exactly zero. p_t s_t is rounded to 32 bits of fixed point, with the row's largest
// product near 2^32, so that tokens with small scales keep their bits beside one with a large scale. It is kept as four
// planes of bytes. Products of codes and one plane are exact in 32-bit integers, and Z = unit * (sum over planes of
// 256^plane * its sum) + offsets. Zero points are one more row of codes, whose
// sums are subtracted from those of the channels. Tokens that a row does not see have zeros, whatever their scales are.
//
// Planes are kept as B fragments of m16n8k32 over two tiles of 16 tokens: byte e of register r of lane l is token
// r * 16 + l % 4 * 2 + e % 2 * 8 + e / 2 (the order of unit_codes::bytes) of column l / 4. With up to four rows a
// fragment has two planes: column 4 * i + row is row `row` of the higher plane (i = 0) or of the lower one. Else a
// fragment is a plane and a column is a row. The highest planes come first, and a lane's registers of all fragments lie
// side by side.
#ifndef XQ_LIB_ATTEND_PLANES_CUH
#define XQ_LIB_ATTEND_PLANES_CUH

#include "attend_map.cuh"
#include "attend_work.cuh"
#include "operand.cuh"
#include "ptx_matrix.cuh"

template <class C> struct attend_planes {
    using map = typename C::map;
    using work = attend_work<C>;
    using stream = typename C::stream_v;
    static constexpr bool TWO_PLANES = work::GROUP_HEADS <= 4;                        // a fragment has two planes
    static constexpr int FRAGMENTS = TWO_PLANES ? 2 : 4;
    static constexpr int PAIR_WORDS = map::PAIR_PLANE_BYTES / 4; // of two tiles
    static constexpr float LARGEST = 4294967040.0f;              // largest f32 below 2^32
    static_assert(stream::AXIS == AXIS_TOKEN && stream::ORDER == ORDER_V && stream::GROUP >= stream::LATENT_WIDTH &&
                      !C::MANY,
                  "attend.spec.lua says where probabilities can be integers");

    // Loads the scales and offsets of the run's tokens for all rows (map::token_params). A scale that is not finite
    // makes the offset NaN. Integer zero points are subtracted from codes, and so are no offsets here. A barrier of the
    // block must follow.
    static __device__ __forceinline__ void load_params(const work &w)
    {
        for (int t = threadIdx.x; t < w.count; t += work::THREADS) {
            const float2 params =
                scale_and_offset<stream>(map::tile_records()[t / 16], w.template latent_of<stream>(), t % 16);
            map::token_params()[t] = make_float2(params.x, fmaf(params.x, 0.0f, stream::INTEGER_ZERO ? 0 : params.y));
        }
    }

    // Rounds a row's products p * s, which are at most `largest`, to planes; a warp's lanes share the tokens.
    static __device__ __forceinline__ void store(const float *products, const work &w, int row, float largest)
    {
        const float inverse = largest > 0 ? LARGEST / largest : 0.0f;
        store_row(w, row, [&](u32(&fixed)[4], int t) { // bytes e of the planes are tokens t, t + 8, t + 1, t + 9
            const float2 first = *(const float2 *)(products + t), second = *(const float2 *)(products + t + 8);
            fixed[0] = __float2uint_rn(first.x * inverse);
            fixed[1] = __float2uint_rn(second.x * inverse);
            fixed[2] = __float2uint_rn(first.y * inverse);
            fixed[3] = __float2uint_rn(second.y * inverse);
        });
    }

    // Stores zeros for a row that does not exist but has a column.
    static __device__ __forceinline__ void clear(const work &w, int row)
    {
        if (!TWO_PLANES || row < 4)
            store_row(w, row, [](u32(&fixed)[4], int) { fixed[0] = fixed[1] = fixed[2] = fixed[3] = 0; });
    }

    // Computes 64 channels of Z^T for 8 rows, over pairs [begin, end) of the run's tiles. `with_offsets` adds the
    // offsets of the whole run, and must be set for exactly one of the warps that share the channels.
    static __device__ __forceinline__ void accumulate(float (&z)[4][4], const work &w, int chunk, int begin, int end,
                                                      int query_tile, bool with_offsets)
    {
        const int lane = threadIdx.x % 32;
        const u32 *planes = map::planes(query_tile) + lane * (FRAGMENTS * 2);
        int sums[FRAGMENTS][4][4] = {}, zeros[FRAGMENTS][4] = {};
#pragma unroll 2
        for (int pair = begin; pair < end; pair++) {
            unit_codes<stream::BITS> x[2];
            load(x[0], w, pair * 2, chunk, lane);
            load(x[1], w, min(pair * 2 + 1, w.tiles - 1), chunk, lane); // tokens beyond the run have zeros in the planes
            uint4 b[FRAGMENTS / 2];
#pragma unroll
            for (int f = 0; f < FRAGMENTS / 2; f++)
                b[f] = *(const uint4 *)(planes + pair * PAIR_WORDS + f * 4);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 first[2], second[2];
                x[0].template bytes<ORDER_V>(first, i);
                x[1].template bytes<ORDER_V>(second, i);
                const u32 a[4] = {first[0], first[1], second[0], second[1]};
#pragma unroll
                for (int f = 0; f < FRAGMENTS / 2; f++) {
                    mma_u8u8(sums[2 * f][i], a, b[f].x, b[f].y);
                    mma_u8u8(sums[2 * f + 1][i], a, b[f].z, b[f].w);
                }
            }
            if constexpr (stream::INTEGER_ZERO) {
                const u32 first = zero_bytes(w, pair * 2, lane);
                const u32 second = zero_bytes(w, min(pair * 2 + 1, w.tiles - 1), lane);
                const u32 a[4] = {first, first, second, second};
#pragma unroll
                for (int f = 0; f < FRAGMENTS / 2; f++) {
                    mma_u8u8(zeros[2 * f], a, b[f].x, b[f].y);
                    mma_u8u8(zeros[2 * f + 1], a, b[f].z, b[f].w);
                }
            }
        }
        if constexpr (stream::INTEGER_ZERO) {
#pragma unroll
            for (int i = 0; i < FRAGMENTS * 16; i++)
                sums[i / 16][i / 4 % 4][i % 4] -= zeros[i / 16][i % 4];
        }
        join(z, sums, query_tile, with_offsets);
    }

  private:
    // Stores the planes of a row. number(fixed, t) gives the fixed-point numbers of tokens t, t + 8, t + 1 and t + 9.
    template <class F> static __device__ __forceinline__ void store_row(const work &w, int row, F number)
    {
        u32 *planes = map::planes(row / 8);
        for (int i = threadIdx.x % 32; i < (w.tiles + 1) / 2 * 8; i += 32) {
            const int tile = i / 4, lane = row % 8 * 4 + i % 4;
            u32 fixed[4];
            number(fixed, tile * 16 + i % 4 * 2);
            const u32 low01 = permute_bytes(fixed[0], fixed[1], 0x5140),
                      low23 = permute_bytes(fixed[2], fixed[3], 0x5140);
            const u32 high01 = permute_bytes(fixed[0], fixed[1], 0x7362),
                      high23 = permute_bytes(fixed[2], fixed[3], 0x7362);
            const u32 words[4] = {permute_bytes(high01, high23, 0x7632), permute_bytes(high01, high23, 0x5410),
                                  permute_bytes(low01, low23, 0x7632), permute_bytes(low01, low23, 0x5410)};
            u32 *place = planes + tile / 2 * PAIR_WORDS + lane * (FRAGMENTS * 2) + tile % 2;
#pragma unroll
            for (int plane = 0; plane < 4; plane++) { // the highest first
                if constexpr (TWO_PLANES)
                    place[plane / 2 * 2 + plane % 2 * (16 * FRAGMENTS * 2)] = words[plane];
                else
                    place[plane * 2] = words[plane];
            }
        }
    }

    static __device__ __forceinline__ void load(unit_codes<stream::BITS> &x, const work &w, int tile, int chunk,
                                                int lane)
    {
        x.load(map::tile_records()[tile] + stream::CODES + chunk * unit_codes<stream::BITS>::BYTES, lane);
    }

    // The zero points of a tile's tokens, in the order of unit_codes::bytes. They are the same in every row of A.
    static __device__ __forceinline__ u32 zero_bytes(const work &w, int tile, int lane)
    {
        const u8 *packed = map::tile_records()[tile] + stream::ZEROS;
        const int index = w.template latent_of<stream>() * 16 + lane % 4 * 2;
        return zero_codes<stream::BITS>(packed, index) | zero_codes<stream::BITS>(packed, index + 8) << 8;
    }

    // Makes Z of the planes' sums, for rows lane % 4 * 2 + {0, 1}.
    static __device__ __forceinline__ void join(float (&z)[4][4], const int (&sums)[FRAGMENTS][4][4], int query_tile,
                                                bool with_offsets)
    {
        const int column = threadIdx.x % 4 * 2;
        const float2 units = *(const float2 *)(map::row_unit() + query_tile * 8 + column);
        const float2 offsets = *(const float2 *)(map::row_offset() + query_tile * 8 + column);
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float value = (float)sums[0][i / 4][i % 4];
            if constexpr (TWO_PLANES) { // the lower planes of the same rows are two lanes away
                value = fmaf(value, 65536.0f, (float)sums[1][i / 4][i % 4]);
                value = fmaf(value, 256.0f, __shfl_xor_sync(0xffffffff, value, 2));
            } else {
#pragma unroll
                for (int f = 1; f < FRAGMENTS; f++)
                    value = fmaf(value, 256.0f, (float)sums[f][i / 4][i % 4]);
            }
            z[i / 4][i % 4] =
                fmaf(value, i % 2 ? units.y : units.x, with_offsets ? (i % 2 ? offsets.y : offsets.x) : 0.0f);
        }
    }
};

#endif
