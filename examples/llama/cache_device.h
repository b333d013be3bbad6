#ifndef LLAMA_CACHE_DEVICE_H
#define LLAMA_CACHE_DEVICE_H

#include "cache.h"
#include "format.h"
#include "sources.h"

/* Opens a cache that runs xq's kernels on the context's device, for one sequence of up to `capacity` tokens
 * that comes in pieces of up to `chunk`. Rows of X and queries are rounded to f16 before the upload. */
cache *cache_device_open(xq_context *context, const config *c, const formats *f, sources *s, int capacity,
                         int chunk);

#endif
