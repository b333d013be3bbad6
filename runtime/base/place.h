/* Where a path leads that is to be written. */
#ifndef RUNTIME_BASE_PLACE_H
#define RUNTIME_BASE_PLACE_H

#include "error.h"

#include <limits.h>
#include <stddef.h>
#include <sys/stat.h>

enum place_kind {
    PLACE_NEW,      /* nothing is there yet */
    PLACE_FILE,     /* a regular file, to be replaced */
    PLACE_STREAM,   /* a FIFO or a character device: it has no place to be replaced at, and is written to */
    PLACE_OPEN_FILE /* a name of an open file in procfs, as /dev/stdout is */
};

typedef struct place {
    enum place_kind kind;
    char path[PATH_MAX]; /* with links followed: the file itself */
    struct stat st;      /* of what is there; PLACE_NEW: of the folder */
} place;

/* Follows links. Fails (XQ_ERROR_IO) where nothing can be written: a folder, a block device, a loop of
 * links, a file without permission, a folder that does not exist. */
xq_status place_find(const char *given, place *out, error *err);

/* Opens a PLACE_STREAM (waiting for the reader of a FIFO) or PLACE_OPEN_FILE for writing; -1 with errno. */
int place_open(const place *p);

/* Makes an empty file beside `path`, whose name is that of `path`, cut to `stem` bytes, with 6 hexadecimal
 * digits. `name`: room for `size` bytes. Returns it open for writing; -1 with errno. */
int place_make_temporary(const char *path, int stem, mode_t mode, char *name, size_t size);

/* The last part of a path, and the folder that holds it. */
const char *place_name(const char *path);
void place_folder(const char *path, char folder[PATH_MAX]);

/* `cannot write GIVEN: why` */
xq_status place_failed(const char *given, const char *why, error *err);

#endif
