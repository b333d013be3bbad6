/* Tests publishing files: the way depends on what stands at the path, and nothing is lost or
 * half-written. */
#include "../../../runtime/base/publish.h"
#include "../../support/files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static xq_status publish(const char *path, const char *text, error *err)
{
    publication *p;
    if (publish_begin(path, &p, err) != XQ_OK)
        return err->status;
    publish_write(p, text, strlen(text), err);
    return publish_commit(p, err);
}

static void published(const char *path, const char *text)
{
    error err = ERROR_INIT;
    cr_assert_eq(publish(path, text, &err), XQ_OK, "%s", err.message);
}

/* Publishing must fail with `why` after the colon, and leave nothing new in the folder. */
static void refused(const char *directory, const char *path, const char *why)
{
    error err = ERROR_INIT;
    char expected[2 * PATH_MAX];
    int count = files_count(directory);
    cr_assert_eq(publish(path, "new", &err), XQ_ERROR_IO, "%s", path);
    snprintf(expected, sizeof expected, "cannot write %s: %s", path, why);
    cr_assert_str_eq(err.message, expected);
    cr_assert_eq(files_count(directory), count);
}

static void assert_holds(const char *path, const char *text)
{
    size_t size;
    char *data = files_read(path, &size);
    cr_assert_str_eq(data, text, "%s", path);
    free(data);
}

static struct stat status_of(const char *path)
{
    struct stat st;
    cr_assert_eq(lstat(path, &st), 0, "%s", path);
    return st;
}

static void assert_mode(const char *path, mode_t mode)
{
    struct stat st = status_of(path);
    cr_assert_eq(st.st_mode & 07777, mode, "%s: %o", path, st.st_mode & 07777);
}

Test(publish, a_new_file_has_the_mode_that_the_umask_leaves)
{
    const char *directory = files_directory();
    umask(027);
    published(files_path(directory, "new"), "text");
    assert_mode(files_path(directory, "new"), 0640);
    assert_holds(files_path(directory, "new"), "text");
    cr_assert_eq(files_count(directory), 1);
}

Test(publish, a_file_that_is_replaced_keeps_its_mode_and_owner)
{
    static const mode_t modes[] = {0600, 0644, 0755, 0666};
    const char *path = files_path(files_directory(), "file");
    umask(022);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        files_write(path, "old text", 8);
        cr_assert_eq(chmod(path, modes[i]), 0);
        published(path, "new");
        assert_mode(path, modes[i]);
        assert_holds(path, "new");
    }
    if (chown(path, 1234, 4321) != 0)
        return; /* only root may change the owner */
    published(path, "newer");
    struct stat st = status_of(path);
    cr_assert(st.st_uid == 1234 && st.st_gid == 4321 && (st.st_mode & 07777) == 0666);
}

/* The file is private also while it is written, so that nobody else can read what will be private. */
Test(publish, what_will_be_private_is_private_from_the_start)
{
    const char *path = files_path(files_directory(), "file");
    publication *p;
    error err = ERROR_INIT;
    files_write(path, "old", 3);
    cr_assert_eq(chmod(path, 0600), 0);
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK);
    assert_mode(publish_temporary(p), 0600);
    publish_abandon(p);
    cr_assert_eq(publish_resume(path, &p, &err), XQ_OK);
    assert_mode(publish_temporary(p), 0600);
    publish_abandon(p);
    assert_holds(path, "old");
}

Test(publish, links_stay_and_what_they_lead_to_is_replaced)
{
    char directory[256];
    snprintf(directory, sizeof directory, "%s", files_directory());
    const char *inner = files_path(directory, "inner"), *target = files_path(directory, "inner/target"),
               *link = files_path(directory, "link"), *chain = files_path(directory, "inner/chain");
    cr_assert_eq(mkdir(inner, 0777), 0);
    files_write(target, "old", 3);
    cr_assert_eq(chmod(target, 0640), 0);
    cr_assert_eq(symlink("inner/chain", link), 0);
    cr_assert_eq(symlink("target", chain), 0);
    published(link, "new");
    cr_assert(S_ISLNK(status_of(link).st_mode) && S_ISLNK(status_of(chain).st_mode));
    assert_holds(target, "new");
    assert_mode(target, 0640);
    cr_assert_eq(files_count(inner), 2);
    cr_assert_eq(unlink(target), 0);
    published(link, "made through the link");
    cr_assert(S_ISLNK(status_of(link).st_mode) && S_ISREG(status_of(target).st_mode));
    assert_holds(target, "made through the link");
}

Test(publish, links_that_lead_nowhere_are_refused)
{
    const char *directory = files_directory();
    cr_assert_eq(symlink("b", files_path(directory, "a")), 0);
    cr_assert_eq(symlink("a", files_path(directory, "b")), 0);
    cr_assert_eq(symlink("missing/file", files_path(directory, "c")), 0);
    cr_assert_eq(symlink(directory, files_path(directory, "d")), 0);
    refused(directory, files_path(directory, "a"), "Too many levels of symbolic links");
    refused(directory, files_path(directory, "c"), "No such file or directory");
    refused(directory, files_path(directory, "d"), "Is a directory");
}

Test(publish, what_is_no_place_for_a_file_is_refused)
{
    const char *directory = files_directory(), *file = files_path(directory, "file");
    files_write(file, "old", 3);
    refused(directory, directory, "Is a directory");
    refused(directory, files_path(directory, "missing/file"), "No such file or directory");
    refused(directory, files_path(directory, "missing/"), "No such file or directory");
    refused(directory, files_path(directory, "file/below"), "Not a directory");
    error err = ERROR_INIT;
    cr_assert_eq(publish("", "new", &err), XQ_ERROR_IO);
    cr_assert_str_eq(err.message, "cannot write '': No such file or directory");
    if (mknod(files_path(directory, "block"), S_IFBLK | 0600, makedev(240, 99)) == 0)
        refused(directory, files_path(directory, "block"), "it is a block device");
    if (geteuid() != 0) { /* root may write anything */
        cr_assert_eq(chmod(file, 0444), 0);
        refused(directory, file, "Permission denied");
    }
    assert_holds(file, "old");
}

Test(publish, the_longest_name_is_fine)
{
    const char *directory = files_directory();
    char name[NAME_MAX + 1];
    memset(name, 'n', NAME_MAX);
    name[NAME_MAX] = 0;
    published(files_path(directory, name), "text");
    assert_holds(files_path(directory, name), "text");
    cr_assert_eq(files_count(directory), 1);
}

Test(publish, abandoning_leaves_what_was_there)
{
    const char *directory = files_directory(), *path = files_path(directory, "file");
    publication *p;
    error err = ERROR_INIT;
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK);
    publish_write(p, "new", 3, &err);
    publish_abandon(p);
    cr_assert_eq(files_count(directory), 0);
    files_write(path, "old", 3);
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK);
    publish_write(p, "new", 3, &err);
    publish_keep(p);
    cr_assert_eq(files_count(directory), 1);
    assert_holds(path, "old");
    publish_abandon(NULL);
    publish_keep(NULL);
}

/* -------------------------------------------------------------- in place */

/* Writes into a FIFO, and returns what another process reads from it. If text is NULL, begins to write and
 * abandons the file. */
static char *through_fifo(const char *path, const char *text)
{
    char *copy = strdup(files_path(files_directory(), "copy")), command[2 * PATH_MAX];
    snprintf(command, sizeof command, "cat %s >%s", path, copy);
    pid_t reader = fork();
    if (reader == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    publication *p;
    error err = ERROR_INIT;
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK, "%s", err.message);
    cr_assert_null(publish_temporary(p));
    publish_write(p, text ? text : "half", text ? strlen(text) : 4, &err);
    if (text)
        cr_assert_eq(publish_commit(p, &err), XQ_OK, "%s", err.message);
    else
        publish_abandon(p);
    cr_assert_eq(waitpid(reader, NULL, 0), reader);
    size_t size;
    return files_read(copy, &size);
}

Test(publish, a_fifo_passes_the_bytes_on, .timeout = 20)
{
    const char *path = files_path(files_directory(), "fifo");
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_str_eq(through_fifo(path, "text"), "text");
    cr_assert_str_empty(through_fifo(path, NULL));
    cr_assert(S_ISFIFO(status_of(path).st_mode));
}

/* Opening a FIFO waits for its reader, who may never come. A reader that already waits is released. */
Test(publish, a_fifo_is_opened_by_the_first_write, .timeout = 20)
{
    const char *path = files_path(files_directory(), "fifo");
    publication *p;
    error err = ERROR_INIT;
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(publish_flush(p, &err), XQ_OK);
    publish_abandon(p);
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK, "%s", err.message);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    char byte;
    cr_assert_eq(publish_commit(p, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(read(reader, &byte, 1), 0, "an empty file ends");
    close(reader);
}

/* The data exceed the buffer of the stream, so that the write fails and not the commit. */
Test(publish, a_write_that_fails_leaves_nothing)
{
    static const char zeros[100000];
    const char *directory = files_directory(), *path = files_path(directory, "file");
    const struct rlimit small = {4096, RLIM_INFINITY};
    error err = ERROR_INIT;
    publication *p;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(publish_begin(path, &p, &err), XQ_OK);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    cr_expect_eq(publish_write(p, zeros, sizeof zeros, &err), XQ_ERROR_IO);
    cr_expect(strstr(err.message, "File too large"), "%s", err.message);
    cr_expect_eq(publish_commit(p, &err), XQ_ERROR_IO);
    cr_expect_eq(files_count(directory), 0);
}

Test(publish, a_device_stays_a_device)
{
    const char *directory = files_directory(), *null = files_path(directory, "null"),
               *full = files_path(directory, "full"), *link = files_path(directory, "link");
    error err = ERROR_INIT;
    if (mknod(null, S_IFCHR | 0600, makedev(1, 3)) != 0 || mknod(full, S_IFCHR | 0600, makedev(1, 7)) != 0)
        cr_skip_test("device nodes cannot be made here");
    int fd = open(null, O_WRONLY);
    if (fd < 0)
        cr_skip_test("device nodes cannot be used here");
    close(fd);
    cr_assert_eq(symlink("null", link), 0);
    published(null, "text");
    published(link, "text");
    cr_assert(S_ISCHR(status_of(null).st_mode) && S_ISLNK(status_of(link).st_mode));
    cr_assert_eq(publish(full, "text", &err), XQ_ERROR_IO);
    cr_assert(strstr(err.message, "No space left on device"), "%s", err.message);
    cr_assert(S_ISCHR(status_of(full).st_mode));
    cr_assert_eq(files_count(directory), 3);
}

/* The names are those that shells give to open files, e.g. to that of >(command). */
Test(publish, an_open_file_is_written_on_from_where_it_stands)
{
    const char *directory = files_directory(), *path = files_path(directory, "log");
    char name[64];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, "before ", 7), 7);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    published(name, "after");
    assert_holds(path, "before after");
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    cr_assert_eq(unlink(path), 0);
    published(name, " its end");
    cr_assert_eq(files_count(directory), 0, "a file was made of the text behind a link to a removed one");
    char text[32] = "";
    cr_assert_eq(pread(fd, text, sizeof text - 1, 0), 20);
    cr_assert_str_eq(text, "before after its end");
    close(fd);
    refused(directory, name, "No such file or directory");
    fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    refused(directory, name, "Bad file descriptor");
}

Test(publish, what_is_resumed_must_be_a_regular_file)
{
    const char *directory = files_directory(), *fifo = files_path(directory, "fifo"),
               *path = files_path(directory, "file");
    publication *p;
    error err = ERROR_INIT, other = ERROR_INIT;
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    cr_assert_eq(publish_resume(fifo, &p, &err), XQ_ERROR_IO);
    cr_assert(strstr(err.message, "it is no regular file"), "%s", err.message);
    cr_assert_eq(mkfifo(files_path(directory, "file.partial"), 0600), 0);
    cr_assert_eq(publish_resume(path, &p, &other), XQ_ERROR_IO);
    cr_assert(strstr(other.message, "file.partial: it is no regular file"), "%s", other.message);
    cr_assert_eq(files_count(directory), 2);
}

Test(publish, resuming_through_a_link_writes_beside_what_it_leads_to)
{
    const char *directory = files_directory(), *link = files_path(directory, "link");
    publication *p;
    error err = ERROR_INIT;
    cr_assert_eq(symlink("real", link), 0);
    cr_assert_eq(publish_resume(link, &p, &err), XQ_OK);
    cr_assert_str_eq(publish_temporary(p), files_path(directory, "real.partial"));
    publish_write(p, "part", 4, &err);
    publish_keep(p);
    cr_assert_eq(publish_resume(link, &p, &err), XQ_OK);
    cr_assert_eq(publish_position(p), 4);
    publish_write(p, "s", 1, &err);
    cr_assert_eq(publish_commit(p, &err), XQ_OK);
    assert_holds(files_path(directory, "real"), "parts");
    cr_assert_eq(files_count(directory), 2);
}

/* -------------------------------------------------------------- identity */

static bool same(const char *a, const char *b)
{
    publish_identity x, y;
    error err = ERROR_INIT;
    cr_assert_eq(publish_identify(a, &x, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(publish_identify(b, &y, &err), XQ_OK, "%s", err.message);
    return publish_same(&x, &y);
}

Test(publish, files_are_the_same_by_any_name_whether_they_are_there_or_not)
{
    char directory[256], up[512], way[512];
    snprintf(directory, sizeof directory, "%s", files_directory());
    const char *file = files_path(directory, "file"), *alias = files_path(directory, "link");
    snprintf(up, sizeof up, "%s/./file", directory);
    snprintf(way, sizeof way, "%s/folder/file", directory);
    cr_assert_eq(symlink("file", alias), 0);
    cr_assert_eq(symlink(".", files_path(directory, "folder")), 0);
    for (int there = 0; there < 2; there++) {
        cr_assert(same(file, alias) && same(file, up) && same(way, alias), "there: %d", there);
        cr_assert_not(same(file, files_path(directory, "other")));
        files_write(file, "x", 1);
    }
    cr_assert_eq(files_count(directory), 3);
    cr_assert_eq(link(file, files_path(directory, "hard")), 0);
    cr_assert(same(file, files_path(directory, "hard")));
    cr_assert_not(same("/dev/null", "/dev/null"), "any number of outputs may be thrown away");
}
