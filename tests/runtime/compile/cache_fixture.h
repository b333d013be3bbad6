/* A kernel cache with one entry, for tests of what becomes of it. Failures end the test. */
#ifndef TESTS_CACHE_FIXTURE_H
#define TESTS_CACHE_FIXTURE_H

#include "../../../runtime/compile/cache.h"

/* The number of warnings that caches opened with cache_test_log gave, and the last one. */
extern int cache_warnings;
extern char cache_last_warning[1024];
extern const logger cache_test_log;

extern const cache_key cache_test_key, cache_other_key;

/* An entry with every part except the log, which is empty. */
cache_entry cache_test_entry(void);

/* Fails the test unless both entries hold the same bytes. */
void cache_assert_same(const cache_entry *a, const cache_entry *b);

/* A cache in a folder of its own that holds one entry. */
cache *cache_filled(void);

/* Path of a file in the folder of cache_test_key's entry, or of that folder if `file` is empty; valid until
 * the next call. */
char *cache_entry_path(const cache *c, const char *file);

/* Path in the folder of all kernels; valid until the next call. */
char *cache_kernels_path(const cache *c, const char *name);

/* Makes a folder that contains a file and a folder. */
void cache_make_folder(const char *path);

#endif
