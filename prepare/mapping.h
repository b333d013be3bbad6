/* A file mapped read-only into memory. */
#ifndef PREPARE_MAPPING_H
#define PREPARE_MAPPING_H

#include "../runtime/base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct mapping {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
} mapping;

/* Errors: XQ_ERROR_IO for a file that cannot be opened or is no regular file. */
xq_status mapping_open(const char *path, mapping *out, error *err);
void mapping_close(mapping *m);

#endif
