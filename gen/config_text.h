/* Files of a checkpoint that are not what their name says. */
#ifndef GEN_CONFIG_TEXT_H
#define GEN_CONFIG_TEXT_H

#include "error.h"

#include <stddef.h>

/* XQ_ERROR_FORMAT with the file's name where `data` is a Git LFS pointer, a few lines of text in the place
 * of the file. */
xq_status config_text_refuse_pointer(const char *path, const void *data, size_t size, error *err);

#endif
