#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* stat follows links, so it reports a link only if the path names an open descriptor of a link.
 * cli_open_standard_streams opens such a descriptor in place of a closed standard stream. */
const char *files_reason(const char *path)
{
    struct stat st;
    int why = errno;
    return why == ELOOP && stat(path, &st) == 0 && S_ISLNK(st.st_mode) ? "this stream is closed"
                                                                       : strerror(why);
}

int files_make_folder(const char *path)
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    struct stat st;
    if (mkdir(part, 0777) != 0 && errno != EEXIST)
        return -1;
    if (stat(part, &st) != 0)
        return -1;
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    return 0;
}

/* close() that keeps the errno of the failure before it. */
static int close_failed(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int files_read_at(int folder, const char *name, char **data, size_t *bytes)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a FIFO must not wait */
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0)
        return close_failed(fd);
    size_t size = (size_t)st.st_size, n = 0;
    char *buffer = S_ISREG(st.st_mode) ? malloc(size + 1) : NULL;
    if (!buffer) {
        errno = S_ISREG(st.st_mode) ? ENOMEM : EINVAL;
        return close_failed(fd);
    }
    while (n < size) {
        ssize_t got = read(fd, buffer + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(buffer);
            return close_failed(fd);
        }
        if (got == 0)
            break; /* the file shrank meanwhile; the caller's hash will show it */
        n += (size_t)got;
    }
    close(fd);
    buffer[n] = 0;
    *data = buffer;
    *bytes = n;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

int files_remove(const char *path)
{
    enum { OPEN_FOLDERS = 8 };
    return nftw(path, remove_entry, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
}

int files_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fsync(fd) != 0)
        return close_failed(fd);
    return close(fd);
}
