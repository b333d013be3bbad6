/* Tests a kernel cache that several machines share. A network file system cannot be mounted here. The
 * functions at the top take the place of those of the C library, and imitate the ways in which such a file
 * system differs from a local one. */
#include "../../support/files.h"
#include "cache_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int (*rename_hook)(const char *from, const char *to);
static time_t clock_ahead;         /* seconds by which this machine's clock is ahead of the file system's */
static const char *open_elsewhere; /* a file's name: removing it leaves .nfs0001 in the folder */

int rename(const char *from, const char *to)
{
    int (*hook)(const char *, const char *) = rename_hook;
    rename_hook = NULL; /* only once */
    return hook ? hook(from, to) : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec + clock_ahead;
    return now.tv_sec + clock_ahead;
}

int remove(const char *path)
{
    const char *name = strrchr(path, '/');
    char kept[4200];
    if (open_elsewhere && name && strcmp(name + 1, open_elsewhere) == 0) {
        snprintf(kept, sizeof kept, "%.*s/.nfs0001", (int)(name - path), path);
        return rename(path, kept);
    }
    if (open_elsewhere && name && strcmp(name, "/.nfs0001") == 0)
        return 0; /* the file stays, under another such name */
    return unlink(path) == 0 ? 0 : errno == EISDIR ? rmdir(path) : -1;
}

static const char
    *stale; /* name of a file whose next opening fails, as if its entry was replaced on the server */

int openat(int folder, const char *name, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    if (stale && strcmp(name, stale) == 0) {
        stale = NULL;
        errno = ESTALE;
        return -1;
    }
    return (int)syscall(SYS_openat, folder, name, flags, mode);
}

/* The client sends the request twice: the first is carried out, and the second is refused. */
static int rename_reported_as_failed(const char *from, const char *to)
{
    cr_assert_eq(rename(from, to), 0);
    errno = ENOENT;
    return -1;
}

/* Meanwhile another machine has published the same entry, and servers report that with different errors. */
static const char *theirs;
static int answer;
static int rename_after_another(const char *from, const char *to)
{
    (void)from;
    cr_assert_eq(rename(theirs, to), 0);
    errno = answer;
    return -1;
}

static int rename_refused(const char *from, const char *to)
{
    (void)from, (void)to;
    errno = answer;
    return -1;
}

Test(cache_network, a_rename_that_was_done_and_reported_as_failed_has_stored)
{
    cache *c = cache_open(files_directory(), &cache_test_log);
    cache_entry e = cache_test_entry(), out;
    rename_hook = rename_reported_as_failed;
    cache_store(c, &cache_test_key, &e);
    cr_expect_eq(cache_warnings, 0, "%s", cache_last_warning);
    cr_assert(cache_load(c, &cache_test_key, &out));
    cache_entry_free(&out);
    cr_expect_eq(files_count(cache_kernels_path(c, "")), 1);
    cache_close(c);
}

Test(cache_network, what_another_machine_published_first_is_kept)
{
    static const int answers[] = {ENOTEMPTY, EEXIST, ESTALE, ENOENT};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        cache *other = cache_filled(), *c = cache_open(files_directory(), &cache_test_log);
        cache_entry e = cache_test_entry(), out;
        char ptx[] = ".version 9.0\n";
        e.parts[CACHE_PTX].data = ptx;
        theirs = strdup(cache_entry_path(other, ""));
        answer = answers[i];
        rename_hook = rename_after_another;
        cache_store(c, &cache_test_key, &e);
        cr_expect_eq(cache_warnings, 0, "%s", cache_last_warning);
        cr_assert(cache_load(c, &cache_test_key, &out));
        cr_expect_str_eq(out.parts[CACHE_PTX].data, ".version 8.0\n", "theirs stays");
        cr_expect_eq(files_count(cache_kernels_path(c, "")), 1);
        cache_entry_free(&out);
        cache_close(c);
        cache_close(other);
    }
}

Test(cache_network, an_entry_that_is_replaced_while_it_is_read_is_looked_at_again)
{
    static const char *const names[] = {"kernel.ptx", "manifest.json", "source.cu"};
    cache *c = cache_filled();
    cache_entry out;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        stale = names[i];
        cr_expect(cache_load(c, &cache_test_key, &out));
        cr_expect_null(stale);
        cr_expect_eq(cache_warnings, 0, "%s", cache_last_warning);
        cache_entry_free(&out);
    }
    cache_close(c);
}

Test(cache_network, a_rename_that_fails_warns_and_leaves_nothing)
{
    cache *c = cache_open(files_directory(), &cache_test_log);
    cache_entry e = cache_test_entry(), out;
    answer = EDQUOT;
    rename_hook = rename_refused;
    cache_store(c, &cache_test_key, &e);
    cr_expect_eq(cache_warnings, 1);
    cr_expect(strstr(cache_last_warning, strerror(EDQUOT)), "%s", cache_last_warning);
    cr_expect_not(cache_load(c, &cache_test_key, &out));
    cr_expect_eq(files_count(cache_kernels_path(c, "")), 0);
    cache_close(c);
}

/* This machine's clock is two days ahead of the server's. No entry is old because of that. */
Test(cache_network, ages_are_by_the_file_systems_own_clock)
{
    cache *c = cache_filled(), *next = cache_open(cache_dir(c), &cache_test_log);
    cache_entry e = cache_test_entry();
    cache_pruned pruned;
    error err = ERROR_INIT;
    const cache_limits a_day = {.by_age = true, .most_seconds = 24 * 3600};
    clock_ahead = 48 * 3600;
    cache_make_folder(cache_kernels_path(c, "tmp.alive"));
    cache_store(next, &cache_other_key, &e);
    cr_expect_eq(access(cache_kernels_path(c, "tmp.alive"), F_OK), 0, "another machine is writing it");
    cr_assert_eq(cache_prune(next, &a_day, &pruned, &err), XQ_OK);
    cr_expect_eq(pruned.removed + pruned.leftovers, 0);
    clock_ahead = -48 * 3600;
    const struct timespec old[2] = {{time(NULL), 0}, {time(NULL), 0}};
    cr_assert_eq(utimensat(AT_FDCWD, cache_kernels_path(c, cache_test_key.name), old, 0), 0);
    cr_assert_eq(cache_prune(next, &a_day, &pruned, &err), XQ_OK);
    cr_expect_eq(pruned.removed, 1, "it was last used two days ago");
    cache_close(next);
    cache_close(c);
}

/* A file that a process has open keeps its folder from being removed. The entry is gone all the same, and a
 * later call removes the rest. */
Test(cache_network, what_is_open_elsewhere_leaves_a_rest_that_is_swept)
{
    cache *c = cache_filled();
    cache_entry out, e = cache_test_entry();
    cache_pruned pruned;
    error err = ERROR_INIT;
    int removed;
    open_elsewhere = "kernel.ptx";
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK, "%s", err.message);
    cr_expect_eq(removed, 1);
    cr_expect_not(cache_load(c, &cache_test_key, &out));
    cr_expect_eq(cache_warnings, 0, "%s", cache_last_warning);
    cr_expect_eq(files_count(cache_kernels_path(c, "")), 1);
    cache_store(c, &cache_test_key, &e); /* the name of the entry is free */
    cr_expect_eq(truncate(cache_entry_path(c, "source.cu"), 1), 0);
    cache_store(c, &cache_test_key, &e); /* a damaged entry is moved away in the same manner */
    cr_assert(cache_load(c, &cache_test_key, &out));
    cache_entry_free(&out);
    cr_expect_eq(files_count(cache_kernels_path(c, "")), 3);
    open_elsewhere = NULL;
    char command[4300];
    snprintf(command, sizeof command, "touch -d '2 hours ago' '%s'/tmp.*", cache_kernels_path(c, ""));
    cr_assert_eq(system(command), 0);
    const cache_limits none = {.by_age = true, .most_seconds = 24 * 3600};
    cr_assert_eq(cache_prune(c, &none, &pruned, &err), XQ_OK);
    cr_expect_eq(pruned.leftovers, 2);
    cr_expect_eq(files_count(cache_kernels_path(c, "")), 1);
    cache_close(c);
}
