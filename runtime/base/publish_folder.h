/* Publishing a folder of new files: the folder appears under its name with all files on disk, or not at
 * all. Functions return 0, or -1 with errno set. */
#ifndef RUNTIME_BASE_PUBLISH_FOLDER_H
#define RUNTIME_BASE_PUBLISH_FOLDER_H

#include <limits.h>
#include <stddef.h>

typedef struct folder_publication {
    char temporary[PATH_MAX]; /* the folder's name until commit */
    char parent[PATH_MAX];
    int folder; /* open */
} folder_publication;

/* Makes a folder whose name starts with `prefix` in `parent`, which is made too if it does not exist. */
int publish_folder_begin(folder_publication *p, const char *parent, const char *prefix);

/* Writes a new file into the folder, and to the disk. */
int publish_folder_add(folder_publication *p, const char *name, const void *data, size_t bytes);

/* Renames the folder to `name` in the parent. This fails while anything but an empty folder has the name,
 * and may then be tried again. */
int publish_folder_commit(folder_publication *p, const char *name);

/* Ends the publication. A folder that was not committed is removed. Keeps errno. */
void publish_folder_end(folder_publication *p);

#endif
