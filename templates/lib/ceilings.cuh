// Two kernels for measuring the ceilings of a GPU: its device memory bandwidth, and its rate of mma.sync on
// f16. autotune/measure/ceilings.c compiles them.
#ifndef XQ_LIB_CEILINGS_CUH
#define XQ_LIB_CEILINGS_CUH

#include "params.h"
#include "ptx_matrix.cuh"

// Copies p.count pieces of 16 bytes. The count is a multiple of COPY_UNROLL * all threads of the grid. The
// loads of a round are in flight together.
constexpr int COPY_UNROLL = 8;

extern "C" __global__ void __launch_bounds__(256) xq_ceiling_copy(const xq_ceiling_copy_params p)
{
    const uint4 *source = reinterpret_cast<const uint4 *>(p.source);
    uint4 *destination = reinterpret_cast<uint4 *>(p.destination);
    const long long all = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.count;
         i += COPY_UNROLL * all) {
        uint4 piece[COPY_UNROLL];
#pragma unroll
        for (int j = 0; j < COPY_UNROLL; j++)
            piece[j] = source[i + j * all];
#pragma unroll
        for (int j = 0; j < COPY_UNROLL; j++)
            destination[i + j * all] = piece[j];
    }
}

// Independent products of a warp: enough to hide the latency of one.
constexpr int MATRIX_CHAINS = 8;

extern "C" __global__ void __launch_bounds__(256) xq_ceiling_matrix(const xq_ceiling_matrix_params p)
{
    float sum[MATRIX_CHAINS][4] = {};
    u32 a[4], b[2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = threadIdx.x * 0x00010001u; // subnormal numbers: the products stay small
    b[0] = b[1] = a[0] + 0x00010001u;
    for (int round = 0; round < p.rounds; round++)
#pragma unroll
        for (int i = 0; i < MATRIX_CHAINS; i++)
            mma_f16(sum[i], a, b[0], b[1]);
    float total = 0;
#pragma unroll
    for (int i = 0; i < MATRIX_CHAINS; i++)
        total += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
    // The products would be optimized away without a use.
    p.out[static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x] = total;
}

#endif
