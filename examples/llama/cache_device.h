#ifndef LLAMA_CACHE_DEVICE_H
#define LLAMA_CACHE_DEVICE_H

#include "cache.h"
#include "format.h"
#include "sources.h"

/* xq's kernels over one sequence on the context's device. `capacity`: tokens of the longest sequence;
 * `chunk`: of the longest piece. Rows of X and queries are rounded to f16 on their way. */
cache *cache_device_open(xq_context *context, const config *c, const formats *f, sources *s, int capacity,
                         int chunk);

#endif
