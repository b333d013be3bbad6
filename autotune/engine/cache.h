/* Copies, on the host, of what a driver's layer holds of a sequence: as page_codec takes it. */
#ifndef AUTOTUNE_ENGINE_CACHE_H
#define AUTOTUNE_ENGINE_CACHE_H

#include "driver.h"
#include "page_codec.h"

/* `first`: the sequence's first page as handed out; `length`: its tokens. Releases with free_cache what it
 * holds. Functions return an API status, as the driver's do. */
xq_status driver_read_cache(driver *d, int layer, int table, int sequence, int64_t first, int64_t length,
                            page_sequence *out);
xq_status driver_read_accumulated(driver *d, int layer, int64_t first, int64_t length, page_sequence *out);
void driver_free_cache(page_sequence *sequence);

/* Stream `stream` of all tokens in double precision: x_hat [length, width]. */
void driver_decode(const page_codec *codec, int stream, const page_sequence *sequence, double *x_hat);

#endif
