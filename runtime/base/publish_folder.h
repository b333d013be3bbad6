/* Publishing a folder of new files: it appears under its name with all of them on disk, or not at all.
 * Functions return 0, or -1 with errno set. */
#ifndef RUNTIME_BASE_PUBLISH_FOLDER_H
#define RUNTIME_BASE_PUBLISH_FOLDER_H

#include <limits.h>
#include <stddef.h>

typedef struct folder_publication {
    char temporary[PATH_MAX]; /* the folder's name until commit */
    char parent[PATH_MAX];
    int folder; /* open */
} folder_publication;

/* Makes a folder in `parent` (made too where it is missing) whose name starts with `prefix`. */
int publish_folder_begin(folder_publication *p, const char *parent, const char *prefix);

/* Writes a new file of it, down to the disk. */
int publish_folder_add(folder_publication *p, const char *name, const void *data, size_t bytes);

/* Renames it to `name` in the parent. That fails while something but an empty folder has the name, and may
 * then be tried again. */
int publish_folder_commit(folder_publication *p, const char *name);

/* Leaves no trace of a folder that was not committed, and keeps errno. Ends the publication in any case. */
void publish_folder_end(folder_publication *p);

#endif
