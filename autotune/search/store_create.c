/* Creates new stores: each is made under a temporary name, and then gets its own name in one step. */
#include "store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEM = 230 }; /* bytes of a temporary name, so that NAME_MAX leaves room for endings, SQLite's too */

/* No other process sees the file yet, so it needs no journal on disk; it is synced as a whole later. */
static xq_status make_schema(store *s, error *err)
{
    char marks[128];
    snprintf(marks, sizeof marks, "PRAGMA application_id = %d; PRAGMA user_version = %d", STORE_APPLICATION,
             STORE_VERSION);
    store_execute(s, "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY",
                  err);
    if (err->status == XQ_OK)
        store_execute(s, marks, err);
    for (int i = 0; i < STORE_OBJECTS && err->status == XQ_OK; i++)
        store_execute(s, store_schema[i].sql, err);
    return err->status;
}

/* The last step makes WAL mode permanent in the file, for every later process. */
static xq_status build(store *s, xq_status (*fill)(void *user, store *s, error *err), void *user,
                       error *err)
{
    if (make_schema(s, err) != XQ_OK)
        return err->status;
    if (fill && store_begin(s, err) == XQ_OK) {
        fill(user, s, err);
        store_end(s, err);
    }
    return err->status == XQ_OK ? store_execute(s, "PRAGMA journal_mode = WAL", err) : err->status;
}

static int sync_path(const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0)
        return -1;
    int result = fsync(fd), saved = errno;
    close(fd);
    errno = saved;
    return result;
}

/* Publishes the file with link, because rename would replace a store that another process has made
 * meanwhile. */
static xq_status publish(const char *given, const char *temporary, const place *at, bool *exists,
                         error *err)
{
    char folder[PATH_MAX];
    if (sync_path(temporary, 0) != 0)
        return place_failed(given, strerror(errno), err);
    if (link(temporary, at->path) != 0) {
        if (errno != EEXIST)
            return place_failed(given, strerror(errno), err);
        *exists = true;
        return XQ_OK;
    }
    place_folder(at->path, folder);
    return sync_path(folder, O_DIRECTORY) == 0 ? XQ_OK : place_failed(given, strerror(errno), err);
}

xq_status store_create(const char *given, const place *at,
                       xq_status (*fill)(void *user, store *s, error *err), void *user, bool *exists,
                       error *err)
{
    char temporary[PATH_MAX];
    *exists = false;
    int fd = place_make_temporary(at->path, STEM, 0666, temporary, sizeof temporary);
    if (fd < 0 || close(fd) != 0)
        return place_failed(given, strerror(errno), err);
    store *s = store_allocate(given, err);
    if (s) {
        s->writable = true;
        int code = store_connect(s, temporary, SQLITE_OPEN_READWRITE);
        if (code != SQLITE_OK)
            store_failed(s, "write", code, err);
        else
            build(s, fill, user, err);
        store_close(s);
    }
    if (err->status == XQ_OK)
        publish(given, temporary, at, exists, err);
    unlink(temporary);
    return err->status;
}
