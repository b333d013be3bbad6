#include "turn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, ATTEMPTS = 100 };

static void name_file(const char *uuid, char path[PATH_BYTES])
{
    const char *folder = getenv("XQ_LOCK_DIR");
    snprintf(path, PATH_BYTES, "%s/xq-gpu-%s.lock", folder && *folder ? folder : "/tmp",
             *uuid ? uuid : "unknown");
}

/* Opens the lock file. Locking needs only read access, so a file serves every user, whoever made it. The
 * first attempt is without O_CREAT, because in a folder like /tmp the kernel may refuse O_CREAT for another
 * user's file (fs.protected_regular). If the name appears or vanishes in between, it tries again. */
static int open_file(const char *path)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    for (int i = 0; i < ATTEMPTS; i++) {
        int fd = open(path, flags);
        if (fd >= 0 || errno != ENOENT)
            return fd;
        fd = open(path, flags | O_CREAT | O_EXCL, 0444);
        if (fd >= 0)
            fchmod(fd, 0444); /* the umask does not matter */
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* Calls flock until no signal interrupts it, and returns its result. */
static int lock_file(int fd, int operation)
{
    int result;
    while ((result = flock(fd, operation)) != 0 && errno == EINTR)
        ;
    return result;
}

static int wait_for_lock(int fd, measure_waits *waits, void *user)
{
    if (lock_file(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return -1;
    if (waits)
        waits(user, true);
    int result = lock_file(fd, LOCK_EX), reason = errno;
    if (waits)
        waits(user, false);
    errno = reason;
    return result;
}

/* Whether the path still names this file, which may have been removed during the wait. */
static bool is_current(const char *path, int fd)
{
    struct stat named, opened;
    return lstat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino;
}

static bool is_regular(int fd)
{
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

measure_turn measure_turn_take(const char *uuid, measure_waits *waits, void *user, error *err)
{
    char path[PATH_BYTES];
    const char *reason = NULL;
    name_file(uuid, path);
    for (int i = 0; i < ATTEMPTS && !reason; i++) {
        int fd = open_file(path);
        if (fd < 0 && errno == ELOOP)
            reason = "it is a link";
        else if (fd < 0)
            reason = strerror(errno);
        else if (!is_regular(fd))
            reason = "it is no regular file";
        else if (wait_for_lock(fd, waits, user) != 0)
            reason = strerror(errno);
        else if (is_current(path, fd))
            return (measure_turn){fd};
        if (fd >= 0)
            close(fd);
    }
    error_set(err, XQ_ERROR_IO, "path", "%s cannot be locked: %s", path,
              reason ? reason : "other processes remove it again and again");
    return (measure_turn){-1};
}

void measure_turn_end(measure_turn *turn)
{
    if (turn->fd >= 0)
        close(turn->fd);
    turn->fd = -1;
}
