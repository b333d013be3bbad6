// Turns the dot product of a query and a key into the score that softmax takes, with the scale and the soft-cap.
#ifndef XQ_LIB_SCORE_CUH
#define XQ_LIB_SCORE_CUH

#include "ptx.cuh"

// The score as an exponent of 2. C::SCALE is the softmax scale times log2(e); C::SOFTCAP is the soft-cap, or 0.
template <class C> __device__ __forceinline__ float score_exponent(float product)
{
    if constexpr (C::SOFTCAP > 0) {
        // cap * tanh(y) with tanh(y) = 1 - 2 / (1 + e^2y)
        constexpr float TWICE = (float)(2 * C::SCALE / C::SOFTCAP), CAP = (float)(1.4426950408889634 * C::SOFTCAP);
        const float e = exp2_approx(product * TWICE);
        return CAP * (1.0f - __fdividef(2.0f, 1.0f + e));
    } else {
        return product * (float)C::SCALE;
    }
}

#endif
