/* The on-disk kernel cache: compiled kernels by the hash of everything that went into them.
 *
 *     DIR/kernels/KEY/source.cu options.txt log.txt kernel.ptx [kernel.cubin] manifest.json
 *
 * An entry is written to a temporary folder, synced, and published by renaming the folder, so that
 * readers see a whole entry or none, and several processes may compile the same thing at once. The
 * manifest holds the size and hash of every file; an entry that does not match it is damaged, and is
 * replaced by the next store, whatever stands in its place. Loading an entry sets its folder's time, which
 * tells the ones in use from the others. What a killed writer left goes with the next store after an hour.
 * KEY is "HASH-ARCH-NVRTC", so that the names alone tell what was compiled from the same.
 *
 * Several machines may share a folder over a network file system: nothing is locked, names are made and
 * renamed by one call each, and ages are differences between times of the folder's own file system.
 *
 * A cache never makes its user fail: what goes wrong with it becomes a warning through the log. It may
 * be used from several threads. */
#ifndef RUNTIME_COMPILE_CACHE_H
#define RUNTIME_COMPILE_CACHE_H

#include "../base/error.h"
#include "../base/log.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

typedef struct cache cache;

enum cache_part { CACHE_SOURCE, CACHE_OPTIONS, CACHE_LOG, CACHE_PTX, CACHE_CUBIN, CACHE_PARTS };

/* Contents of an entry. A part that is absent has NULL data; texts end with a NUL beyond `bytes`. */
typedef struct cache_entry {
    struct {
        char *data;
        size_t bytes;
    } parts[CACHE_PARTS];
} cache_entry;
void cache_entry_free(cache_entry *entry);

/* `dir`: NULL for the default ($XQ_CACHE_DIR, else $XDG_CACHE_HOME/xq, else ~/.cache/xq), "" for none.
 * Where the default leads nowhere, because HOME is unset or names no folder, there is none, and the first
 * store warns. Nothing is created before the first store. Returns NULL when memory ran out. */
cache *cache_open(const char *dir, const logger *log);

/* A store: a folder of the same form that is read and never written, its times included. Returns NULL, with
 * the reason in `err`, where the folder has no `kernels`. Errors: XQ_ERROR_IO, XQ_ERROR_MEMORY. */
cache *cache_open_store(const char *dir, const logger *log, error *err);
void cache_close(cache *c);
const char *cache_dir(const cache *c); /* "" where there is none */
/* Why the default leads nowhere; NULL where it does, or a folder was named. */
const char *cache_why_none(const cache *c);
const logger *cache_log(const cache *c);

/* A hash: fields are added in order; {"ab", "c"} and {"a", "bc"} differ. */
typedef struct cache_hash {
    char hex[33];
} cache_hash;
typedef struct cache_field {
    const void *data;
    size_t bytes;
} cache_field;
cache_hash cache_hash_of(const cache_field *fields, int count);

/* The name of an entry: the hash of what was compiled, for what, and by which NVRTC (1000 * major + 10 *
 * minor): "HASH-sm_90a-12.9". */
typedef struct cache_key {
    char name[80];
} cache_key;
cache_key cache_key_of(const cache_hash *hash, const char *arch, int nvrtc);

/* Looks an entry up; false when there is none. A damaged one counts as none, with a warning. */
bool cache_load(cache *c, const cache_key *key, cache_entry *out);

/* How good an entry is that was compiled for `arch` by this NVRTC; 0: it does not serve. */
typedef int64_t cache_rank(const void *user, const char *arch, int nvrtc);

/* Looks up the best of all entries with this hash; a damaged one warns, and the next one serves. */
bool cache_load_best(cache *c, const cache_hash *hash, cache_rank *rank, const void *user, cache_key *key,
                     cache_entry *out);

/* What a key says an entry was compiled for; "" where it does not say. */
typedef struct cache_arch {
    char text[32];
} cache_arch;
cache_arch cache_key_arch(const char *key);

/* Publishes an entry; the first failure warns, later ones are silent. */
void cache_store(cache *c, const cache_key *key, const cache_entry *entry);

/* The same for one who must know. A whole entry that is there stays, and *was_there says so. Errors:
 * XQ_ERROR_IO with the path. */
xq_status cache_put(cache *c, const char *key, const cache_entry *entry, bool *was_there, error *err);

/* Reads and checks one entry; false where it is absent or damaged. Warns of neither. */
bool cache_get(const cache *c, const char *key, cache_entry *out);

/* What is in a cache, sorted by key. */
typedef struct cache_item {
    char key[80];
    char name[64], arch[32]; /* from options.txt; "" where that is damaged */
    size_t bytes;
    time_t created, used; /* used: when it was last loaded, or else stored */
    bool damaged;
} cache_item;

/* Caller frees *items. `check` reads every file and sets `damaged`. A cache without a folder is empty. */
xq_status cache_list(const cache *c, bool check, cache_item **items, int *count, error *err);

/* How many entries there are, by their names alone. */
int cache_count(const cache *c);

/* Removes one entry, or with a NULL key all of them and what interrupted writers left. Touches nothing
 * that is not the cache's own. */
xq_status cache_clear(const cache *c, const char *key, int *removed, error *err);

/* Removes the entries that were not used for longer than most_seconds; then those whose last use is longest
 * ago, until the others take most_bytes together; and what interrupted writers left. */
typedef struct cache_limits {
    bool by_age, by_size;
    double most_seconds, most_bytes;
} cache_limits;
typedef struct cache_pruned {
    int removed, leftovers;
    size_t bytes_removed, bytes_left; /* of entries */
} cache_pruned;
xq_status cache_prune(const cache *c, const cache_limits *limits, cache_pruned *out, error *err);

#endif
