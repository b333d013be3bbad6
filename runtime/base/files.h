/* Small files and folders. Functions return 0, or -1 with errno set. */
#ifndef RUNTIME_BASE_FILES_H
#define RUNTIME_BASE_FILES_H

#include <stddef.h>

/* Returns the reason why the file at this path could not be opened or read: the text for errno, or that
 * the path leads to a standard stream which the caller has closed (cli_open_standard_streams). */
const char *files_reason(const char *path);

/* Creates a folder and the missing folders above it; an existing folder is fine. */
int files_make_folder(const char *path);

/* Reads a regular file in a folder (an open descriptor). *data ends with a NUL, and the caller frees it. */
int files_read_at(int folder, const char *name, char **data, size_t *bytes);

/* Removes a file, or a folder with everything in it. Links are removed, and not followed. */
int files_remove(const char *path);

/* Writes the folder itself to the disk, so that renames in it are permanent. */
int files_sync_folder(const char *path);

#endif
