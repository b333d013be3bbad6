/* Shared by the source files of the driver: open.c opens the driver and its layers, driver.c makes the
 * calls, cache.c copies. */
#ifndef AUTOTUNE_ENGINE_PRIVATE_H
#define AUTOTUNE_ENGINE_PRIVATE_H

#include "driver.h"

#define TRY(call)                                                                                          \
    do {                                                                                                   \
        xq_status try_status = (call);                                                                     \
        if (try_status != XQ_OK)                                                                           \
            return try_status;                                                                             \
    } while (0)

/* The number of pages that a sequence of `tokens` tokens needs. */
int64_t driver_pages(const driver *d, int64_t tokens);

/* Allocates device memory filled with NaN, whichever type reads it; none for 0 bytes. */
xq_status driver_poisoned(driver *d, size_t bytes, uint64_t *pointer);
void driver_release(driver *d, uint64_t pointer); /* 0: does nothing */

#endif
