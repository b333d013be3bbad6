/* Temporary files for tests. */
#ifndef TESTS_FILES_H
#define TESTS_FILES_H

#include <stddef.h>

/* Makes an empty folder in $TMPDIR or /tmp. It is removed with its contents when the test's process
 * ends. */
const char *files_directory(void);

/* Returns directory/name; the text stays valid until the 8th next call. */
const char *files_path(const char *directory, const char *name);

void files_write(const char *path, const void *data, size_t size);

/* The whole file, NUL-terminated; the caller frees it. */
char *files_read(const char *path, size_t *size);

/* Fails the test unless both files hold the same bytes. */
void files_assert_same(const char *path, const char *other);

/* Number of entries in a folder. */
int files_count(const char *directory);

#endif
