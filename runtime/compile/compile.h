/* Compiles a rendered kernel to code that a device loads: NVRTC behind the kernel cache. Needs no
 * device. */
#ifndef RUNTIME_COMPILE_COMPILE_H
#define RUNTIME_COMPILE_COMPILE_H

#include "../../gen/gen.h"
#include "cache.h"
#include "nvrtc.h"

#include <stdbool.h>

typedef struct compiled {
    char *ptx;
    void *cubin; /* NULL for a virtual architecture */
    size_t cubin_bytes;
    char *log;              /* log of the compiler; with ptxas's report if there is a cubin */
    char *source, *options; /* as the cache keeps them: `source` may have been rendered for another spec */
    cache_key key;
    bool cached;               /* found in the cache */
    nvrtc_resources resources; /* zero without a cubin */
} compiled;

/* Compiles `source`, or finds it compiled in the cache (NULL: no cache). The cache's log gets a message
 * before NVRTC is called. `family` names the kernel in errors. `arch` is "sm_90a" for PTX and cubin, or
 * "compute_80" for PTX alone. `g` provides the headers. Several threads may do this at once. Errors:
 * XQ_ERROR_COMPILE, XQ_ERROR_MEMORY. */
xq_status compile_source(const nvrtc *library, cache *c, const gen *g, const char *family,
                         const char *source, const char *arch, compiled *out, error *err);
void compiled_free(compiled *c);

/* Looks in a cache or store for code that was compiled from `source`, for any architecture and by any
 * NVRTC, and takes the best by `rank` (cache_load_best), which is given `user`. Needs no NVRTC. *found
 * says whether there is one, and `arch` then what it was compiled for. Errors: XQ_ERROR_MEMORY. */
xq_status compile_find(cache *c, const gen *g, const char *family, const char *source, cache_rank *rank,
                       const void *user, bool *found, cache_arch *arch, compiled *out, error *err);

/* Puts the compiled kernel into another cache. Errors: those of cache_put. */
xq_status compiled_put(const compiled *c, cache *into, bool *was_there, error *err);

/* Returns the code that a device loads (device.h): the cubin, or the PTX if there is no cubin. */
const void *compiled_image(const compiled *c, size_t *bytes);

#endif
