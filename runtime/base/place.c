#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { MOST_LINKS = 40 }; /* the number that Linux follows */

xq_status place_failed(const char *given, const char *why, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot write %s: %s", *given ? given : "''", why);
    return error_at(err, given, 0);
}

const char *place_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void place_folder(const char *path, char folder[PATH_MAX])
{
    size_t length = (size_t)(place_name(path) - path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0)
        strcpy(folder, ".");
    else
        snprintf(folder, PATH_MAX, "%.*s", (int)length, path);
}

/* ---------------------------------------------------------- files that are open already
 * A link in /proc/PID/fd leads to an open file, whatever text it holds: a pipe has no other name, and the
 * name of a removed file is no longer valid. */

static bool is_in_procfs(const char *path)
{
    char folder[PATH_MAX];
    struct statfs system;
    place_folder(path, folder);
    return statfs(folder, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
}

/* Returns the descriptor that the path names, if it is a descriptor of this process; else -1. */
static int own_descriptor(const char *path)
{
    char folder[PATH_MAX], real[PATH_MAX], own[64], *end;
    place_folder(path, folder);
    snprintf(own, sizeof own, "/proc/%ld/", (long)getpid());
    if (!realpath(folder, real) || strncmp(real, own, strlen(own)) != 0 ||
        strcmp(place_name(real), "fd") != 0)
        return -1;
    long number = strtol(place_name(path), &end, 10);
    return *end || number < 0 || number > INT_MAX ? -1 : (int)number;
}

int place_open(const place *p)
{
    int fd = p->kind == PLACE_OPEN_FILE ? own_descriptor(p->path) : -1;
    if (fd < 0)
        return open(p->path, O_WRONLY | O_CLOEXEC | O_NOCTTY | (S_ISREG(p->st.st_mode) ? O_TRUNC : 0));
    /* Opening the file by name would begin at the start of a file that is being written, and would fail
     * for a socket. */
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) {
        errno = EBADF;
        return -1;
    }
    return flags < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* ------------------------------------------------------------------ following */

/* Replaces p->path by the path that its link holds. */
static int follow(place *p)
{
    char text[PATH_MAX], joined[2 * PATH_MAX];
    ssize_t n = readlink(p->path, text, sizeof text - 1);
    if (n < 0)
        return -1;
    text[n] = 0;
    size_t before = text[0] == '/' ? 0 : (size_t)(place_name(p->path) - p->path);
    int length = snprintf(joined, sizeof joined, "%.*s%s", (int)before, p->path, text);
    if (length >= (int)sizeof p->path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(p->path, joined, (size_t)length + 1);
    return 0;
}

/* Follows links until p->path is not a link; false with errno. */
static bool find_end(place *p)
{
    for (int links = 0; links <= MOST_LINKS; links++) {
        p->kind = PLACE_FILE;
        if (lstat(p->path, &p->st) != 0) {
            char folder[PATH_MAX];
            p->kind = PLACE_NEW;
            place_folder(p->path, folder);
            return errno == ENOENT && *p->path && stat(folder, &p->st) == 0;
        }
        if (!S_ISLNK(p->st.st_mode))
            return true;
        if (is_in_procfs(p->path)) {
            p->kind = PLACE_OPEN_FILE;
            return stat(p->path, &p->st) == 0;
        }
        if (follow(p) != 0)
            return false;
    }
    errno = ELOOP;
    return false;
}

/* Whether a file is mounted over another, as containers do. Such a file cannot be replaced, and its
 * contents would be lost if it were written in place and the work failed. */
static bool is_mount_point(const char *path)
{
    struct statx st;
    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &st) == 0 &&
           (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

xq_status place_find(const char *given, place *out, error *err)
{
    if (snprintf(out->path, sizeof out->path, "%s", given) >= (int)sizeof out->path)
        return place_failed(given, strerror(ENAMETOOLONG), err);
    if (!find_end(out))
        return place_failed(given, strerror(errno), err);
    mode_t mode = out->st.st_mode;
    if (out->kind == PLACE_NEW)
        return S_ISDIR(mode) ? XQ_OK : place_failed(given, strerror(ENOTDIR), err);
    if (S_ISDIR(mode))
        return place_failed(given, strerror(EISDIR), err);
    if (S_ISBLK(mode))
        return place_failed(given, "it is a block device", err);
    if (out->kind == PLACE_OPEN_FILE)
        return XQ_OK;
    if (faccessat(AT_FDCWD, out->path, W_OK, AT_EACCESS) != 0)
        return place_failed(given, strerror(errno), err);
    if (!S_ISREG(mode))
        out->kind = PLACE_STREAM;
    else if (is_mount_point(out->path))
        return place_failed(given, "it is a mount point", err);
    return XQ_OK;
}

int place_make_temporary(const char *path, int stem, mode_t mode, char *name, size_t size)
{
    struct timespec t;
    int length = (int)(place_name(path) - path) + (int)strnlen(place_name(path), (size_t)stem);
    clock_gettime(CLOCK_REALTIME, &t);
    unsigned number = (unsigned)getpid() * 2654435761u ^ (unsigned)t.tv_nsec;
    for (int attempt = 0; attempt < 100; attempt++, number = number * 1664525u + 1013904223u) {
        if ((size_t)snprintf(name, size, "%.*s.%06x", length, path, number >> 8) >= size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}
