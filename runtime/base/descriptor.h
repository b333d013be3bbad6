/* Descriptors of the public API: structs that start with `size_t struct_size` and may be older (shorter)
 * or newer (longer) than this library's. */
#ifndef RUNTIME_BASE_DESCRIPTOR_H
#define RUNTIME_BASE_DESCRIPTOR_H

#include "error.h"

#include <stddef.h>

/* Bytes of the first version of a descriptor, which ended before `next`, the first field added since. */
#define DESCRIPTOR_UP_TO(TYPE, next) offsetof(TYPE, next)

/* Copies what the caller gave over `full`, which holds the defaults and has `size` bytes. A struct_size
 * below `first`, that of the descriptor's first version, is refused. Fields that only a newer library
 * knows must be zero. `name` is that of the argument, for errors. */
xq_status descriptor_read(void *full, size_t size, size_t first, const void *given, const char *name,
                          error *err);

/* Copies `full` to the caller's struct, as much of it as the caller knows. */
xq_status descriptor_write(void *given, const void *full, size_t size, size_t first, const char *name,
                           error *err);

#endif
