#ifndef LLAMA_CACHE_HOST_H
#define LLAMA_CACHE_HOST_H

#include "cache.h"
#include "format.h"
#include "sources.h"

/* Opens a cache that computes on the host, for one sequence of up to `capacity` tokens. It quantizes cached
 * values bit for bit as the kernels do (xq_simulate_cache); everything else is computed in f32. */
cache *cache_host_open(const config *c, const formats *f, sources *s, int capacity);

#endif
