/* Git LFS leaves a pointer, a few lines of text, where a large file was not fetched. */
#ifndef RUNTIME_BASE_LFS_POINTER_H
#define RUNTIME_BASE_LFS_POINTER_H

#include "error.h"

#include <stddef.h>

/* Returns XQ_ERROR_FORMAT, with the file's name in the message, if `data` is a Git LFS pointer. */
xq_status lfs_pointer_refuse(const char *path, const void *data, size_t size, error *err);

#endif
