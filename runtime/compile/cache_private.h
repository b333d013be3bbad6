/* Shared by cache.c and cache_admin.c. */
#ifndef RUNTIME_COMPILE_CACHE_PRIVATE_H
#define RUNTIME_COMPILE_CACHE_PRIVATE_H

#include "cache.h"

#include <stdatomic.h>

struct cache {
    char *dir;      /* as given; "" for none */
    char *kernels;  /* dir/kernels; NULL for none */
    char *why_none; /* the reason why the default leads nowhere */
    logger log;
    bool is_store;      /* nothing in it is written */
    atomic_bool warned; /* a warning was given that the cache cannot be written */
    atomic_bool swept;  /* leftovers of killed writers were removed */
};

#define CACHE_MANIFEST  "manifest.json"
#define CACHE_TEMPORARY "tmp." /* how the names of unfinished entries start */

enum cache_state { CACHE_ABSENT, CACHE_DAMAGED, CACHE_WHOLE };

/* Reads and checks one entry; *out is filled only when it is whole. */
enum cache_state cache_read(const cache *c, const char *key, cache_entry *out);

/* Whether a name is the name of an entry: a hash, followed by architecture and NVRTC version. Entries of
 * earlier versions are named by the hash alone. */
bool cache_is_key(const char *name);

/* Removes unfinished entries that no process can still be writing; returns their number. `now` is the time
 * on the clock of the folder's file system, which may be another machine's. */
int cache_sweep(const cache *c, time_t now);

#endif
