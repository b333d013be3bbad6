/* The text of a config.json before it is parsed: what Python's json module writes and reads that is no
 * JSON, and files that are not what their name says. */
#ifndef GEN_CONFIG_TEXT_H
#define GEN_CONFIG_TEXT_H

#include "error.h"

#include <stddef.h>

/* A copy in which NaN, Infinity and -Infinity outside of strings are strings of the same letters: a value
 * that nothing reads does not matter, and one that is read is refused by its key. Caller frees; NULL when
 * memory runs out. */
char *config_text_strict(const char *text);

/* XQ_ERROR_FORMAT with the file's name where `data` is a Git LFS pointer, a few lines of text in the place
 * of the file. */
xq_status config_text_refuse_pointer(const char *path, const void *data, size_t size, error *err);

#endif
