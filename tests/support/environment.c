/* Code that every test program runs first. */
#include <stdlib.h>

/* Kernels get the defaults of their families, whichever tables of tuned parameters this machine has, unless
 * a test or its caller names a table. */
__attribute__((constructor)) static void without_tables(void)
{
    setenv("XQ_TUNED", "", 0);
}
