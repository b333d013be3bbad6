/* Small files of the kernel cache. Functions return 0, or -1 with errno set. */
#ifndef RUNTIME_FILES_H
#define RUNTIME_FILES_H

#include <stddef.h>

/* Creates a folder and those above it; an existing one is fine. */
int files_make_folder(const char *path);

/* Reads a file of a folder (an open descriptor); *data is NUL-terminated and freed by the caller. */
int files_read_at(int folder, const char *name, char **data, size_t *bytes);

/* Writes a new file of a folder, down to the disk. */
int files_write_at(int folder, const char *name, const void *data, size_t bytes);

/* Removes a folder with the files in it; folders inside it are not touched (the call then fails). */
int files_remove_folder(const char *path);

/* Writes what was renamed in a folder down to the disk. */
int files_sync_folder(const char *path);

#endif
