#include "blas.h"

#include <cblas.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void blas_use_the_whole_cpu(char **arguments)
{
#if defined(__x86_64__) && defined(OPENBLAS_VERSION)
    const char *able = __builtin_cpu_supports("avx512bw") ? "SkylakeX"
                       : __builtin_cpu_supports("avx2")   ? "Haswell"
                                                          : NULL;
    if (!able || getenv("OPENBLAS_CORETYPE") || strcmp(openblas_get_corename(), "Prescott") != 0)
        return;
    setenv("OPENBLAS_CORETYPE", able, 1);
    execv("/proc/self/exe", arguments); /* if this fails, the program goes on: slowly, but correctly */
#else
    (void)arguments;
#endif
}
