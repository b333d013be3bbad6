/* What every test program begins with. */
#include <stdlib.h>

/* Kernels have their families' defaults, whatever tables of tuned parameters this machine has, unless a
 * test or its caller names a table. */
__attribute__((constructor)) static void without_tables(void)
{
    setenv("XQ_TUNED", "", 0);
}
