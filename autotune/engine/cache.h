/* Host copies of what a driver's layer caches of one sequence, in the form that page_codec reads. */
#ifndef AUTOTUNE_ENGINE_CACHE_H
#define AUTOTUNE_ENGINE_CACHE_H

#include "driver.h"
#include "page_codec.h"

/* `first` is the sequence's first page, as handed out; `length` is its number of tokens. Release *out with
 * driver_free_cache. The functions return an API status, as the driver's do. */
xq_status driver_read_cache(driver *d, int layer, int table, int sequence, int64_t first, int64_t length,
                            page_sequence *out);
xq_status driver_read_accumulated(driver *d, int layer, int64_t first, int64_t length, page_sequence *out);
void driver_free_cache(page_sequence *sequence);

/* Decodes stream `stream` of all tokens in double precision: x_hat [length, width]. */
void driver_decode(const page_codec *codec, int stream, const page_sequence *sequence, double *x_hat);

#endif
