#include "publish_folder.h"

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int publish_folder_begin(folder_publication *p, const char *parent, const char *prefix)
{
    p->folder = -1;
    int length = snprintf(p->parent, sizeof p->parent, "%s", parent);
    if (length >= (int)sizeof p->parent || snprintf(p->temporary, sizeof p->temporary, "%s/%sXXXXXX",
                                                    parent, prefix) >= (int)sizeof p->temporary) {
        p->temporary[0] = 0;
        errno = ENAMETOOLONG;
        return -1;
    }
    if (files_make_folder(parent) != 0 || !mkdtemp(p->temporary)) {
        p->temporary[0] = 0;
        return -1;
    }
    chmod(p->temporary, 0755); /* mkdtemp makes the folder private; others may read it */
    p->folder = open(p->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return p->folder < 0 ? -1 : 0;
}

/* close() that keeps the errno of the failure before it. */
static int close_failed(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int publish_folder_add(folder_publication *p, const char *name, const void *data, size_t bytes)
{
    int fd = openat(p->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    const char *next = data;
    while (bytes > 0) {
        ssize_t n = write(fd, next, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return close_failed(fd);
        next += n;
        bytes -= (size_t)n;
    }
    if (fsync(fd) != 0)
        return close_failed(fd);
    return close(fd);
}

int publish_folder_commit(folder_publication *p, const char *name)
{
    char place[2 * PATH_MAX];
    snprintf(place, sizeof place, "%s/%s", p->parent, name);
    if (fsync(p->folder) != 0 || rename(p->temporary, place) != 0)
        return -1;
    p->temporary[0] = 0;
    return files_sync_folder(p->parent);
}

void publish_folder_end(folder_publication *p)
{
    int saved = errno;
    if (p->folder >= 0)
        close(p->folder);
    if (p->temporary[0])
        files_remove(p->temporary);
    errno = saved;
}
