// Kernels of checked plans: their parameters end with the gate of the call, which the kernel `check` has set before
// them where the call is at fault; they then do nothing.
#ifndef XQ_LIB_GUARD_CUH
#define XQ_LIB_GUARD_CUH

template <class PARAMS> struct guarded : PARAMS {
    const int *gate;
};

// The whole block agrees, whatever else is written to the gate meanwhile.
template <class PARAMS> __device__ __forceinline__ bool is_shut(const guarded<PARAMS> &p)
{
    return __syncthreads_or(*(const volatile int *)p.gate) != 0;
}

#endif
