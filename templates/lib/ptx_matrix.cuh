// Raw PTX of the tensor cores (PTX ISA 9.7.14): products of fragments, and how fragments are loaded and transposed.
// A fragment is one lane's part of a matrix: an array of 32-bit registers, two f16 each. Accumulators are inputs and outputs
// apart, because operands that are both make the compiler copy registers.
#ifndef XQ_LIB_PTX_MATRIX_CUH
#define XQ_LIB_PTX_MATRIX_CUH

#include "ptx.cuh"

// d += a * b for one m16n8k16 tile, f16 operands, f32 accumulators. In lane l:
//   a: a[0] (row l/4, k (l%4)*2+{0,1}), a[1] (row+8), a[2] (k+8), a[3] (row+8, k+8)
//   b: b0 (k (l%4)*2+{0,1}, column l/4), b1 (k+8)
//   d: d[0..1] (row l/4, columns (l%4)*2+{0,1}), d[2..3] (row+8)
__device__ __forceinline__ void mma_f16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(d[0]), "f"(d[1]), "f"(d[2]), "f"(d[3]));
}

// The same with bf16 operands.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(d[0]), "f"(d[1]), "f"(d[2]), "f"(d[3]));
}

// d += a * b for one m16n8k32 tile of integers, both signed, exact 32-bit sums. In lane l:
//   a: a[0] (row l/4, k (l%4)*4+{0..3}), a[1] (row+8), a[2] (k+16), a[3] (row+8, k+16), a byte each
//   b: b0 (k (l%4)*4+{0..3}, column l/4), b1 (k+16)
//   d: as above
__device__ __forceinline__ void mma_s8s8(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(d[0]), "r"(d[1]), "r"(d[2]), "r"(d[3]));
}

// d = start + a * b.
__device__ __forceinline__ void mma_s8s8(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, int start)
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(start));
}

// d += a * b, both unsigned.
__device__ __forceinline__ void mma_u8u8(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(d[0]), "r"(d[1]), "r"(d[2]), "r"(d[3]));
}

// The transpose of an 8x8 f16 matrix held one register a lane: lane l has row l/4, columns (l%4)*2+{0,1}.
__device__ __forceinline__ u32 transpose_8x8(u32 a)
{
    u32 d;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(a));
    return d;
}

// Four 8x8 f16 matrices from shared memory; lanes 8i..8i+7 give the row addresses of matrix i.
__device__ __forceinline__ void ldmatrix_x4(u32 (&d)[4], u32 shared_address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&d)[4], u32 shared_address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address)
                 : "memory");
}

#endif
