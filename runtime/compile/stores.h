/* The kernel stores of a context: folders of compiled kernels that were made elsewhere and are only read
 * (docs/kernel-cache.md, Shipping kernels). They are searched in the order in which they are named. */
#ifndef RUNTIME_COMPILE_STORES_H
#define RUNTIME_COMPILE_STORES_H

#include "cache.h"

typedef struct stores stores;

/* `list` holds names of folders, separated by colons; NULL for $XQ_KERNELS. Empty names do not count. A
 * folder that is not a store is left out, with a warning. Returns NULL when memory ran out. */
stores *stores_open(const char *list, const logger *log);
void stores_close(stores *s); /* NULL is fine */

int stores_count(const stores *s);
cache *stores_at(const stores *s, int index);

#endif
