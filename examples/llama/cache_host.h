#ifndef LLAMA_CACHE_HOST_H
#define LLAMA_CACHE_HOST_H

#include "cache.h"
#include "format.h"
#include "sources.h"

/* The arithmetic of the kernels on the host: what is cached is quantized as they do it, bit for bit
 * (xq_simulate_cache), everything else is f32. `capacity`: tokens of the longest sequence. */
cache *cache_host_open(const config *c, const formats *f, sources *s, int capacity);

#endif
