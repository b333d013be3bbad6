/* The lane functions and the handlers for x86-64 with AVX2 and FMA. */
typedef int lanes_avx2_not_empty;
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"))),               \
                             apply_to = function)
#else
#pragma GCC optimize("O3")
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt")
#endif
#define SIM_LANES_NAME sim_lanes_avx2
#include "lanes_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
