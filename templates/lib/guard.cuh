// The gate of checked plans. The parameters of their kernels end with the gate of the call. The kernel `check`, which
// runs before them, sets the gate if the call has a fault, and the kernels then do nothing.
#ifndef XQ_LIB_GUARD_CUH
#define XQ_LIB_GUARD_CUH

template <class PARAMS> struct guarded : PARAMS {
    const int *gate;
};

// Whether the gate is set. The whole block gets the same answer, even if the gate is written meanwhile.
template <class PARAMS> __device__ __forceinline__ bool is_shut(const guarded<PARAMS> &p)
{
    return __syncthreads_or(*(const volatile int *)p.gate) != 0;
}

#endif
