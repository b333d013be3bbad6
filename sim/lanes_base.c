/* The lane functions and the handlers for any machine. */
#if !defined(__clang__)
#pragma GCC optimize("O3")
#endif
#define SIM_LANES_NAME sim_lanes_base
#include "lanes_body.h"

/* The tables that this machine can run are ordered from the slowest to the fastest. */
const struct sim_lanes *sim_lanes_at(int level)
{
    const struct sim_lanes *runs[3] = {&sim_lanes_base};
    int count = 1;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        runs[count++] = &sim_lanes_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        runs[count++] = &sim_lanes_avx512;
#endif
    return level >= 0 && level < count ? runs[level] : NULL;
}

const struct sim_lanes *sim_lanes_best(void)
{
    int best = 0;
    while (sim_lanes_at(best + 1))
        best++;
    return sim_lanes_at(best);
}
