/* Shared by cache.c and cache_admin.c. */
#ifndef RUNTIME_COMPILE_CACHE_PRIVATE_H
#define RUNTIME_COMPILE_CACHE_PRIVATE_H

#include "cache.h"

#include <stdatomic.h>

struct cache {
    char *dir;      /* as given; "" for none */
    char *kernels;  /* dir/kernels; NULL for none */
    char *why_none; /* where the default leads nowhere: why */
    logger log;
    bool is_store;      /* nothing in it is written */
    atomic_bool warned; /* that it cannot be written */
    atomic_bool swept;  /* of what killed writers left */
};

#define CACHE_MANIFEST  "manifest.json"
#define CACHE_TEMPORARY "tmp." /* how the names of unfinished entries start */

enum cache_state { CACHE_ABSENT, CACHE_DAMAGED, CACHE_WHOLE };

/* Reads and checks one entry; *out is filled only when it is whole. */
enum cache_state cache_read(const cache *c, const char *key, cache_entry *out);

/* Whether a name is that of an entry: a hash, and, but for entries of earlier versions, what follows it. */
bool cache_is_key(const char *name);

/* Removes unfinished entries that no process can still be writing; returns how many. `now` is the time on
 * the clock of the folder's file system, which may be another machine's. */
int cache_sweep(const cache *c, time_t now);

#endif
