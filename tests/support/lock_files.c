#include "lock_files.h"
#include "files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *lock_file_of(const char *uuid)
{
    static char path[4096];
    const char *folder = files_directory();
    setenv("XQ_LOCK_DIR", folder, 1);
    snprintf(path, sizeof path, "%s/xq-gpu-%s.lock", folder, uuid);
    return path;
}

pid_t lock_file_hold(const char *path)
{
    int ends[2];
    char locked = 0;
    cr_assert_eq(pipe(ends), 0);
    pid_t holder = fork();
    if (holder == 0) {
        int fd = open(path, O_RDONLY | O_CREAT, 0444);
        locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (write(ends[1], &locked, 1) == 1)
            pause();
        _exit(0);
    }
    cr_assert_eq(read(ends[0], &locked, 1), 1);
    cr_assert(locked, "%s", path);
    close(ends[0]);
    close(ends[1]);
    return holder;
}

void lock_file_release(pid_t holder)
{
    kill(holder, SIGKILL);
    cr_assert_eq(waitpid(holder, NULL, 0), holder);
}

/* The line of a waiting process in /proc/locks has an arrow, and ends with the inode and the range. */
bool lock_file_is_waited_for(const char *path)
{
    char line[256], inode[32];
    struct stat s;
    bool waited = false;
    FILE *locks = fopen("/proc/locks", "r");
    cr_assert_not_null(locks, "/proc/locks cannot be read");
    cr_assert_eq(stat(path, &s), 0);
    snprintf(inode, sizeof inode, ":%llu 0 EOF", (unsigned long long)s.st_ino);
    while (fgets(line, sizeof line, locks))
        waited = waited || (strstr(line, "->") && strstr(line, inode));
    fclose(locks);
    return waited;
}
