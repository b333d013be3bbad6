/* The on-disk kernel cache: compiled kernels, found by the hash of everything that they were compiled
 * from.
 *
 *     DIR/kernels/KEY/source.cu options.txt log.txt kernel.ptx [kernel.cubin] manifest.json
 *
 * An entry is written to a temporary folder, synced, and published by renaming the folder. So readers see
 * a whole entry or none, and several processes may compile the same kernel at once. The manifest holds the
 * size and hash of every file. An entry that does not match its manifest is damaged; the next store
 * replaces it, whatever stands in its place. Loading an entry sets its folder's time, so that entries in
 * use can be told from the others. Files that a killed writer left are removed by the next store that
 * comes more than an hour later. KEY is "HASH-ARCH-NVRTC": the names alone show which entries were
 * compiled from the same input.
 *
 * Several machines may share a folder over a network file system: nothing is locked, names are made and
 * renamed by one call each, and ages are differences between times of the folder's own file system.
 *
 * A cache never makes its user fail: a failure becomes a warning through the log. It may be used from
 * several threads. */
#ifndef RUNTIME_COMPILE_CACHE_H
#define RUNTIME_COMPILE_CACHE_H

#include "../base/error.h"
#include "../base/log.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

typedef struct cache cache;

enum cache_part { CACHE_SOURCE, CACHE_OPTIONS, CACHE_LOG, CACHE_PTX, CACHE_CUBIN, CACHE_PARTS };

/* Contents of an entry. A part that is absent has NULL data. Texts end with a NUL that `bytes` does not
 * count. */
typedef struct cache_entry {
    struct {
        char *data;
        size_t bytes;
    } parts[CACHE_PARTS];
} cache_entry;
void cache_entry_free(cache_entry *entry);

/* Opens a cache. `dir` is NULL for the default ($XQ_CACHE_DIR, else $XDG_CACHE_HOME/xq, else ~/.cache/xq),
 * or "" for no cache. If HOME is unset or names no folder, the default leads nowhere: there is no cache
 * then, and the first store warns. Nothing is created before the first store. Returns NULL when memory ran
 * out. */
cache *cache_open(const char *dir, const logger *log);

/* Opens a store: a folder of the same form that is read and never written, not even its times. Returns
 * NULL, with the reason in `err`, if the folder has no `kernels`. Errors: XQ_ERROR_IO, XQ_ERROR_MEMORY. */
cache *cache_open_store(const char *dir, const logger *log, error *err);
void cache_close(cache *c);
const char *cache_dir(const cache *c); /* "" if there is no cache */
/* The reason why the default leads nowhere; NULL if it leads somewhere, or if a folder was named. */
const char *cache_why_none(const cache *c);
const logger *cache_log(const cache *c);

/* A hash of fields in order. Lengths count: {"ab", "c"} and {"a", "bc"} have different hashes. */
typedef struct cache_hash {
    char hex[33];
} cache_hash;
typedef struct cache_field {
    const void *data;
    size_t bytes;
} cache_field;
cache_hash cache_hash_of(const cache_field *fields, int count);

/* The name of an entry: the hash of what was compiled, the architecture, and the version of NVRTC (`nvrtc`
 * is 1000 * major + 10 * minor): "HASH-sm_90a-12.9". */
typedef struct cache_key {
    char name[80];
} cache_key;
cache_key cache_key_of(const cache_hash *hash, const char *arch, int nvrtc);

/* Looks up an entry; false if there is none. A damaged entry counts as none, with a warning. */
bool cache_load(cache *c, const cache_key *key, cache_entry *out);

/* The rank of an entry that was compiled for `arch` by this version of NVRTC. Higher is better; 0: the
 * entry does not serve. */
typedef int64_t cache_rank(const void *user, const char *arch, int nvrtc);

/* Looks up the best of all entries with this hash. If the best one is damaged, it gives a warning and the
 * next one serves. */
bool cache_load_best(cache *c, const cache_hash *hash, cache_rank *rank, const void *user, cache_key *key,
                     cache_entry *out);

/* The architecture that a key names; "" if it names none. */
typedef struct cache_arch {
    char text[32];
} cache_arch;
cache_arch cache_key_arch(const char *key);

/* Publishes an entry. The first failure gives a warning; later ones are silent. */
void cache_store(cache *c, const cache_key *key, const cache_entry *entry);

/* The same for callers that need the result. A whole entry that is already there stays, and *was_there
 * says so. Errors: XQ_ERROR_IO with the path. */
xq_status cache_put(cache *c, const char *key, const cache_entry *entry, bool *was_there, error *err);

/* Reads and checks one entry; false if it is absent or damaged. It gives no warning. */
bool cache_get(const cache *c, const char *key, cache_entry *out);

/* The entries of a cache, sorted by key. */
typedef struct cache_item {
    char key[80];
    char name[64], arch[32]; /* from options.txt; "" if that file is damaged */
    size_t bytes;
    time_t created, used; /* used: the time of the last load, or else of the store */
    bool damaged;
} cache_item;

/* Lists the entries. The caller frees *items. `check` reads every file and sets `damaged`. A cache without
 * a folder is empty. */
xq_status cache_list(const cache *c, bool check, cache_item **items, int *count, error *err);

/* Returns the number of entries, counted by their names alone. */
int cache_count(const cache *c);

/* Removes one entry. With a NULL key, removes all entries and what interrupted writers left. Touches
 * nothing that is not the cache's own. */
xq_status cache_clear(const cache *c, const char *key, int *removed, error *err);

/* Removes the entries that were not used for longer than most_seconds. Then removes the entries whose last
 * use is longest ago, until the others take at most most_bytes together. Also removes what interrupted
 * writers left. */
typedef struct cache_limits {
    bool by_age, by_size;
    double most_seconds, most_bytes;
} cache_limits;
typedef struct cache_pruned {
    int removed, leftovers;
    size_t bytes_removed, bytes_left; /* bytes of entries */
} cache_pruned;
xq_status cache_prune(const cache *c, const cache_limits *limits, cache_pruned *out, error *err);

#endif
