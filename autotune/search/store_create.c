/* New stores: made under a temporary name, and then given their own in one step. */
#include "store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Makes an empty file in the folder of `path`; -1 with errno. */
static int make_temporary(const char *path, char name[PATH_MAX])
{
    struct timespec t;
    int stem = (int)strnlen(place_name(path), 230); /* room for endings in NAME_MAX: SQLite's too */
    int length = (int)(place_name(path) - path) + stem;
    clock_gettime(CLOCK_REALTIME, &t);
    unsigned number = (unsigned)getpid() * 2654435761u ^ (unsigned)t.tv_nsec;
    for (int attempt = 0; attempt < 100; attempt++, number = number * 1664525u + 1013904223u) {
        if (snprintf(name, PATH_MAX, "%.*s.%06x", length, path, number >> 8) >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0)
            return close(fd);
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

/* Nobody else sees the file yet, so that it needs no journal on disk; it is synced as a whole. */
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

/* The last step makes the mode lasting that every later process uses. */
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

static int sync_folder_of(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(place_name(path) - path), path);
    return sync_path(*folder ? folder : ".", O_DIRECTORY);
}

/* A link, and no rename: that would replace a store which another process has made in the meantime. */
static xq_status publish(const char *given, const char *temporary, const place *at, bool *exists,
                         error *err)
{
    if (sync_path(temporary, 0) != 0)
        return place_failed(given, strerror(errno), err);
    if (link(temporary, at->path) != 0) {
        if (errno != EEXIST)
            return place_failed(given, strerror(errno), err);
        *exists = true;
        return XQ_OK;
    }
    return sync_folder_of(at->path) == 0 ? XQ_OK : place_failed(given, strerror(errno), err);
}

xq_status store_create(const char *given, const place *at,
                       xq_status (*fill)(void *user, store *s, error *err), void *user, bool *exists,
                       error *err)
{
    char temporary[PATH_MAX];
    *exists = false;
    if (make_temporary(at->path, temporary) != 0)
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
