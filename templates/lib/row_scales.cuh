// Scales for the rows of Z, the weighted mean of x. A row that is too small for f16 is multiplied by a power of two, so that its
// product with f16 weights keeps its bits.
//
// Z^T has channels as rows and 8 rows of queries as columns; a lane has two columns of each tile of queries, those of its
// neighbours 4, 8 and 16 lanes away.
#ifndef XQ_LIB_ROW_SCALES_CUH
#define XQ_LIB_ROW_SCALES_CUH

#include "ptx.cuh"

// f16 has few bits for what is smaller.
constexpr float SMALL_F16 = 0x1p-11f;

// The largest of a row of Z among the lane's channels.
__device__ __forceinline__ float largest_of_row(const float (&z)[4][4], int column)
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        most = fmaxf(most, fabsf(z[i / 2][i % 2 * 2 + column]));
    return most;
}

// The exponents, 0 or more, of the powers of two that rows of Z are multiplied by: a byte for each row of a lane. The rows of O
// that are summed from them are too large by the same factors. All lanes that have a row agree on its scale.
template <int TILES> struct row_scales {
    u32 bytes[(TILES + 1) / 2] = {};

    __device__ __forceinline__ bool any() const
    {
        u32 all = 0;
#pragma unroll
        for (int i = 0; i < (TILES + 1) / 2; i++)
            all |= bytes[i];
        return all;
    }
    __device__ __forceinline__ int exponent(int q, int column) const
    {
        return bytes[q / 2] >> (q % 2 * 16 + column * 8) & 0xff;
    }

    // Scales each row of Z that needs it so that its largest value is near the end of f16. `change` is the factor by which
    // the sums of its output so far must follow. A row's scale depends on no other row, so the rows beside it in a block do
    // not change its result. Z is zero or above 2^-60: it is a mean of f16 values with f16 weights.
    __device__ __forceinline__ void rescale(float (&z)[TILES][4][4], float (&change)[TILES][2])
    {
#pragma unroll
        for (int j = 0; j < TILES * 2; j++) {
            const int q = j / 2, column = j % 2;
            float most = largest_of_row(z[q], column), least = most; // of the lanes that have the row
#pragma unroll
            for (int lanes = 4; lanes < 32; lanes *= 2) {
                most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, lanes));
                least = fminf(least, __shfl_xor_sync(0xffffffff, least, lanes));
            }
            const int before = exponent(q, column), top = (__float_as_int(most) >> 23) - 127;
            // A row of zeros has nothing to sum, and no scale would help an infinite one.
            const bool changes = (before != 0 || least < SMALL_F16) && most > 0 && most < infinity();
            const int by = changes ? max(13 - top, 0) - before : 0;
            raise(q, column, by);
            change[q][column] = power_of_two(by);
            const float scale = power_of_two(before + by);
#pragma unroll
            for (int i = 0; i < 8; i++)
                z[q][i / 2][i % 2 * 2 + column] *= scale;
        }
    }

  private:
    __device__ __forceinline__ void raise(int q, int column, int by)
    {
        bytes[q / 2] += (u32)by << (q % 2 * 16 + column * 8);
    }
};

#endif
