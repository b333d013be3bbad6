/* Small files and folders. Functions return 0, or -1 with errno set. */
#ifndef RUNTIME_BASE_FILES_H
#define RUNTIME_BASE_FILES_H

#include <stddef.h>

/* Why a file of this path could not be opened or read: what errno says, or that the path leads to a
 * standard stream which the caller has closed (cli_open_standard_streams). */
const char *files_reason(const char *path);

/* Creates a folder and those above it; an existing one is fine. */
int files_make_folder(const char *path);

/* Reads a regular file of a folder (an open descriptor); *data is NUL-terminated and freed by the caller.
 */
int files_read_at(int folder, const char *name, char **data, size_t *bytes);

/* Removes a file, or a folder with everything in it. Links are removed, and not followed. */
int files_remove(const char *path);

/* Writes what was renamed in a folder down to the disk. */
int files_sync_folder(const char *path);

#endif
