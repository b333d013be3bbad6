// Raw PTX of asynchronous copies: cp.async from device to shared memory, in groups that a thread commits
// and waits for.
#ifndef XQ_LIB_PTX_COPY_CUH
#define XQ_LIB_PTX_COPY_CUH

#include "ptx.cuh"

// Copies 16 bytes from device to shared memory, without the L1 cache.
__device__ __forceinline__ void copy_async_16(u32 shared_destination, const void *source)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_destination), "l"(source) : "memory");
}

// As copy_async_16 if `valid`; otherwise it reads nothing and writes 16 zero bytes.
__device__ __forceinline__ void copy_async_16_or_zero(u32 shared_destination, const void *source, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_destination), "l"(source),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most `PENDING` of this thread's groups are under way.
template <int PENDING> __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif
