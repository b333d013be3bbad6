#include "blas.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Weak, so that nothing links OpenBLAS only for this function. */
extern char *openblas_get_corename(void) __attribute__((weak));

void blas_use_the_whole_cpu(char **arguments)
{
#if defined(__x86_64__)
    const char *able = __builtin_cpu_supports("avx512bw") ? "SkylakeX"
                       : __builtin_cpu_supports("avx2")   ? "Haswell"
                                                          : NULL;
    if (!openblas_get_corename || !able || getenv("OPENBLAS_CORETYPE") ||
        strcmp(openblas_get_corename(), "Prescott") != 0)
        return;
    setenv("OPENBLAS_CORETYPE", able, 1);
    execv("/proc/self/exe", arguments); /* if this fails, the program is slow, but its results are right */
#else
    (void)arguments;
#endif
}
