/* Descriptors of the public API: structs that start with `size_t struct_size` and may be older (shorter)
 * or newer (longer) than this library's. */
#ifndef RUNTIME_BASE_DESCRIPTOR_H
#define RUNTIME_BASE_DESCRIPTOR_H

#include "error.h"

#include <stddef.h>

/* Size of the first version of a descriptor, which ended before `next`, the first field added since. */
#define DESCRIPTOR_UP_TO(TYPE, next) offsetof(TYPE, next)

/* Copies the caller's descriptor over `full`, which holds the defaults and has `size` bytes. A struct_size
 * below `first`, the size of the descriptor's first version, is refused. Fields that only a newer library
 * knows must be zero. `name` is the argument's name, for errors. */
xq_status descriptor_read(void *full, size_t size, size_t first, const void *given, const char *name,
                          error *err);

/* Copies to the caller's struct as much of `full` as the caller's version of the struct has. */
xq_status descriptor_write(void *given, const void *full, size_t size, size_t first, const char *name,
                           error *err);

#endif
