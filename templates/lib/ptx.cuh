// Raw PTX: every instruction that CUDA C++ cannot spell, under the name that the kernels use. This header has the
// types, arithmetic, loads and stores; ptx_matrix.cuh has the tensor cores, and ptx_copy.cuh the asynchronous copies.
#ifndef XQ_LIB_PTX_CUH
#define XQ_LIB_PTX_CUH

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u16 f16; // bits of an f16

// ---------------------------------------------------------------- f16 arithmetic

// Two f32 to packed f16, round to nearest even; `low` in bits 0-15.
__device__ __forceinline__ u32 pack_f16x2(float low, float high)
{
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ f16 f16_from_f32(float value)
{
    f16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float f32_from_f16(f16 bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ float f32_from_f16_low(u32 packed)
{
    return f32_from_f16((f16)(packed & 0xffff));
}

__device__ __forceinline__ float f32_from_f16_high(u32 packed)
{
    return f32_from_f16((f16)(packed >> 16));
}

// The same f16 in both halves.
__device__ __forceinline__ u32 f16x2_broadcast(f16 bits)
{
    return (u32)bits * 0x10001u;
}

__device__ __forceinline__ u32 f16x2_add(u32 a, u32 b)
{
    u32 d;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

__device__ __forceinline__ u32 f16x2_sub(u32 a, u32 b)
{
    u32 d;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

__device__ __forceinline__ u32 f16x2_fma(u32 a, u32 b, u32 c)
{
    u32 d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

__device__ __forceinline__ u32 f16x2_mul(u32 a, u32 b)
{
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

__device__ __forceinline__ u32 f16x2_neg(u32 a)
{
    u32 d;
    asm("neg.f16x2 %0, %1;" : "=r"(d) : "r"(a));
    return d;
}

// Minimum and maximum that keep a NaN.
__device__ __forceinline__ u32 f16x2_min_nan(u32 a, u32 b)
{
    u32 d;
    asm("min.NaN.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

__device__ __forceinline__ u32 f16x2_max_nan(u32 a, u32 b)
{
    u32 d;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

// Infinities become the largest finite values, +-65504; NaN stays.
__device__ __forceinline__ u32 f16x2_saturate(u32 a)
{
    return f16x2_min_nan(f16x2_max_nan(a, 0xfbfffbff), 0x7bff7bff);
}

// ---------------------------------------------------------------- bf16

// Two f32 to packed bf16, round to nearest even; `low` in bits 0-15.
__device__ __forceinline__ u32 pack_bf16x2(float low, float high)
{
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ float f32_from_bf16_low(u32 packed)
{
    return __uint_as_float(packed << 16);
}

__device__ __forceinline__ float f32_from_bf16_high(u32 packed)
{
    return __uint_as_float(packed & 0xffff0000);
}

// Saturating: what f16 cannot hold becomes +-65504.
__device__ __forceinline__ u32 f16x2_from_bf16x2(u32 packed)
{
    return f16x2_saturate(pack_f16x2(f32_from_bf16_low(packed), f32_from_bf16_high(packed)));
}

__device__ __forceinline__ u32 bf16x2_from_f16x2(u32 packed)
{
    return pack_bf16x2(f32_from_f16_low(packed), f32_from_f16_high(packed));
}

__device__ __forceinline__ u32 bf16x2_fma(u32 a, u32 b, u32 c)
{
    u32 d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

#if __CUDA_ARCH__ >= 890
// ---------------------------------------------------------------- e4m3, from compute capability 8.9 on

// Two e4m3 to packed f16, exact.
__device__ __forceinline__ u32 f16x2_from_e4m3x2(u16 packed)
{
    u32 d;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(d) : "h"(packed));
    return d;
}

// Two f32, rounded to nearest even; saturates at +-448. `low` is in bits 0-7.
__device__ __forceinline__ u16 e4m3x2_from_f32(float low, float high)
{
    u16 packed;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(packed) : "f"(high), "f"(low));
    return packed;
}
#endif

// ---------------------------------------------------------------- bits

// a * b + c, where `bits` are those of the f32 a: no instruction moves them between kinds of registers.
__device__ __forceinline__ float fma_of_bits(int bits, float b, float c)
{
    float d;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(d) : "r"(bits), "f"(b), "f"(c));
    return d;
}

// 2^exponent, for exponents from -126 to 127.
__device__ __forceinline__ float power_of_two(int exponent)
{
    return __int_as_float((127 + exponent) << 23);
}

// (a & b) | c in one instruction; lookup table (0xf0 & 0xcc) | 0xaa.
__device__ __forceinline__ u32 and_or(u32 a, u32 b, u32 c)
{
    u32 d;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// (a & b) ^ c in one instruction; lookup table (0xf0 & 0xcc) ^ 0xaa.
__device__ __forceinline__ u32 and_xor(u32 a, u32 b, u32 c)
{
    u32 d;
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// Bytes chosen from b:a, eight of them: nibble i of `selector` names that of byte i; its top bit repeats the sign instead.
__device__ __forceinline__ u32 permute_bytes(u32 a, u32 b, u32 selector)
{
    u32 d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
    return d;
}

// ---------------------------------------------------------------- f32 arithmetic

__device__ __forceinline__ float infinity()
{
    return __int_as_float(0x7f800000);
}

// 2^x; 2^-inf is 0.
__device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Minimum and maximum that keep a NaN.
__device__ __forceinline__ float min_nan(float a, float b)
{
    float d;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

__device__ __forceinline__ float max_nan(float a, float b)
{
    float d;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

// ---------------------------------------------------------------- memory

__device__ __forceinline__ u32 shared_address(const void *pointer)
{
    return (u32)__cvta_generic_to_shared(pointer);
}

// The same pointer, of which the compiler no longer knows how it was made: what is added to it afterwards stays
// an offset, which constants can be in the instruction itself.
template <class T> __device__ __forceinline__ const T *opaque(const T *pointer)
{
    asm("" : "+l"(pointer));
    return pointer;
}

// Read-only data that is used once: not kept in L1.
__device__ __forceinline__ uint4 load_streaming(const void *pointer)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(pointer));
    return v;
}

__device__ __forceinline__ uint4 load_readonly(const void *pointer)
{
    uint4 v;
    asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(pointer));
    return v;
}

// 16 bytes as one store; the compiler may take an assignment of a uint4 apart.
__device__ __forceinline__ void store_vector(void *pointer, uint4 v)
{
    asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(pointer), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

// Eight bytes.
__device__ __forceinline__ void store_vector(void *pointer, uint2 v)
{
    asm volatile("st.global.v2.u32 [%0], {%1,%2};" ::"l"(pointer), "r"(v.x), "r"(v.y) : "memory");
}

// Data that other blocks have written during this launch: from L2, never from a stale L1 line.
__device__ __forceinline__ float load_from_l2(const float *pointer)
{
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(pointer) : "memory");
    return v;
}

// Eight bytes.
__device__ __forceinline__ uint2 load_from_l2_x2(const void *pointer)
{
    uint2 v;
    asm volatile("ld.global.cg.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(pointer) : "memory");
    return v;
}

#endif
