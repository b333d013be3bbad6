/* Tests that measurements on a GPU take turns, across processes and users. */
#include "../../../autotune/measure/turn.h"
#include "../../support/files.h"
#include "../../support/lock_files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char uuid[] = "00112233-4455-6677-8899-aabbccddeeff";

/* How often a measurement began to wait, and how often it went on. */
struct told {
    atomic_int waits, goes_on;
};

static void tell(void *user, bool waits)
{
    struct told *t = user;
    if (waits)
        t->waits++;
    else
        t->goes_on++;
}

static bool is_locked(const char *path)
{
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0, "%s", path);
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
    close(fd);
    return locked;
}

static measure_turn take(struct told *told)
{
    error err = ERROR_INIT;
    measure_turn turn = measure_turn_take(uuid, tell, told, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    cr_assert_geq(turn.fd, 0);
    return turn;
}

static void expect_no_lock(const char *reason)
{
    struct told told = {0};
    error err = ERROR_INIT;
    measure_turn turn = measure_turn_take(uuid, tell, &told, &err);
    cr_expect_eq(turn.fd, -1);
    cr_expect_eq(err.status, XQ_ERROR_IO);
    cr_expect(strstr(err.message, " cannot be locked: ") && strstr(err.message, reason), "%s", err.message);
    cr_expect_eq(told.waits, 0);
    measure_turn_end(&turn);
    error_clear(&err);
}

Test(measure_turn, a_turn_locks_the_gpus_file_which_serves_every_user)
{
    const char *path = lock_file_of(uuid);
    struct told told = {0};
    struct stat s;
    umask(077);
    measure_turn turn = take(&told);
    cr_assert_eq(lstat(path, &s), 0, "%s", path);
    cr_expect_eq(s.st_mode, (mode_t)(S_IFREG | 0444));
    cr_expect(is_locked(path));
    measure_turn_end(&turn);
    cr_expect_not(is_locked(path));
    cr_expect_eq(told.waits, 0);
    turn = take(&told);
    measure_turn_end(&turn);
    measure_turn_end(&turn);
    error err = ERROR_INIT;
    turn = measure_turn_take("", NULL, NULL, &err);
    cr_expect_eq(access(files_path(getenv("XQ_LOCK_DIR"), "xq-gpu-unknown.lock"), R_OK), 0);
    measure_turn_end(&turn);
}

static void *take_and_end(void *user)
{
    measure_turn turn = take(user);
    measure_turn_end(&turn);
    return NULL;
}

static void wait_for_waiter(const char *path)
{
    while (!lock_file_is_waited_for(path))
        usleep(1000);
}

Test(measure_turn, the_next_one_waits_and_says_so, .timeout = 60)
{
    struct told told = {0};
    pthread_t thread;
    const char *path = lock_file_of(uuid);
    pid_t holder = lock_file_hold(path);
    pthread_create(&thread, NULL, take_and_end, &told);
    wait_for_waiter(path);
    cr_expect_eq(told.waits, 1);
    cr_expect_eq(told.goes_on, 0);
    lock_file_release(holder);
    pthread_join(thread, NULL);
    cr_expect_eq(told.waits, 1);
    cr_expect_eq(told.goes_on, 1);
}

/* Cleaners of /tmp remove old files. A measurement that waited for a removed file locks the next file of
 * that name. */
Test(measure_turn, a_file_that_was_removed_locks_nobody, .timeout = 60)
{
    const char *path = lock_file_of(uuid);
    struct told told = {0};
    pthread_t thread;
    pid_t holder = lock_file_hold(path);
    pthread_create(&thread, NULL, take_and_end, &told);
    wait_for_waiter(path);
    unlink(path);
    lock_file_release(holder);
    pthread_join(thread, NULL);
    cr_expect_eq(access(path, R_OK), 0, "it was made again");
}

Test(measure_turn, a_killed_process_gives_its_turn_up, .timeout = 60)
{
    const char *path = lock_file_of(uuid);
    struct told told = {0};
    pid_t pid = fork();
    if (pid == 0) {
        take(&told);
        raise(SIGKILL);
    }
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
    cr_expect_not(is_locked(path));
    measure_turn turn = take(&told);
    cr_expect_eq(told.waits, 0);
    measure_turn_end(&turn);
}

Test(measure_turn, what_is_no_file_of_ours_is_left_alone, .timeout = 60)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", lock_file_of(uuid));
    const char *target = files_path(getenv("XQ_LOCK_DIR"), "target");
    cr_assert_eq(symlink(target, path), 0);
    expect_no_lock("it is a link");
    cr_expect_neq(access(target, F_OK), 0, "the link was followed");
    unlink(path);
    cr_assert_eq(mkfifo(path, 0666), 0);
    expect_no_lock("it is no regular file");
    unlink(path);
    cr_assert_eq(mkdir(path, 0777), 0);
    expect_no_lock("it is no regular file");
    rmdir(path);
    setenv("XQ_LOCK_DIR", "/nowhere/at/all", 1);
    expect_no_lock("No such file or directory");
}

/* The folder is like /tmp, and another user made the file. */
Test(measure_turn, another_users_file_is_locked_or_named)
{
    const char *path = lock_file_of(uuid);
    struct told told = {0};
    if (geteuid() != 0)
        cr_skip("only root can be two users");
    cr_assert_eq(chmod(getenv("XQ_LOCK_DIR"), 01777), 0);
    lock_file_release(lock_file_hold(path));
    cr_assert_eq(setegid(65534) || seteuid(65534), 0);
    measure_turn turn = take(&told);
    measure_turn_end(&turn);
    cr_assert_eq(seteuid(0) || setegid(0), 0);
    cr_assert_eq(chmod(path, 0600), 0);
    cr_assert_eq(setegid(65534) || seteuid(65534), 0);
    expect_no_lock("Permission denied");
    cr_assert_eq(seteuid(0) || setegid(0), 0);
}
