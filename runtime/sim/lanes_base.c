/* The lanes on any machine. */
#pragma GCC optimize("O3")
#define SIM_LANES_NAME sim_lanes_base
#include "lanes_body.h"

const struct sim_lanes *sim_lanes_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &sim_lanes_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &sim_lanes_avx2;
#endif
    return &sim_lanes_base;
}
