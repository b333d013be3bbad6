/* Finds the place that a path leads to, before something is written there. */
#ifndef RUNTIME_BASE_PLACE_H
#define RUNTIME_BASE_PLACE_H

#include "error.h"

#include <limits.h>
#include <stddef.h>
#include <sys/stat.h>

enum place_kind {
    PLACE_NEW,      /* nothing is there yet */
    PLACE_FILE,     /* a regular file, to be replaced */
    PLACE_STREAM,   /* a FIFO or a character device: it cannot be replaced, so bytes are written into it */
    PLACE_OPEN_FILE /* the name of an open file in procfs, such as /dev/stdout */
};

typedef struct place {
    enum place_kind kind;
    char path[PATH_MAX]; /* the file itself, after following links */
    struct stat st;      /* status of the file; for PLACE_NEW, of its folder */
} place;

/* Finds the place, following links. Fails with XQ_ERROR_IO if nothing can be written there: a folder, a
 * block device, a loop of links, a file without permission, or a folder that does not exist. */
xq_status place_find(const char *given, place *out, error *err);

/* Opens a PLACE_STREAM (for a FIFO it waits for the reader) or a PLACE_OPEN_FILE for writing. Returns -1
 * with errno on failure. */
int place_open(const place *p);

/* Makes an empty file beside `path`. Its name is the name of `path`, cut to `stem` bytes, and 6
 * hexadecimal digits. `name` has room for `size` bytes. Returns the file open for writing, or -1 with
 * errno. */
int place_make_temporary(const char *path, int stem, mode_t mode, char *name, size_t size);

/* The last part of a path, and the folder that holds it. */
const char *place_name(const char *path);
void place_folder(const char *path, char folder[PATH_MAX]);

/* Fills `err` with "cannot write GIVEN: WHY". */
xq_status place_failed(const char *given, const char *why, error *err);

#endif
