/* The lane functions and the handlers for x86-64 with AVX-512 (F, BW, DQ, VL). */
typedef int lanes_avx512_not_empty;
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(                                                                              \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"))),     \
    apply_to = function)
#else
#pragma GCC optimize("O3")
#pragma GCC target(                                                                                        \
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt,prefer-vector-width=512")
#endif
#define SIM_LANES_NAME sim_lanes_avx512
#include "lanes_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
