/* Tests files that are stores, files that are not, and stores that are no longer whole. */
#include "../../../autotune/search/store.h"
#include "../../../runtime/base/random.h"
#include "../../support/files.h"
#include "../../support/store_fixture.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[256];

static const char *in_folder(const char *name)
{
    if (!*directory)
        snprintf(directory, sizeof directory, "%s", files_directory());
    return files_path(directory, name);
}

static void make_store(const char *path, int rows)
{
    store *s = store_fixture_open(path, STORE_CREATE);
    for (int i = 0; i < rows; i++) {
        store_row row = store_fixture_row(i);
        store_fixture_add(s, &row);
    }
    store_close(s);
}

static int rows_of(const char *path, store_access access)
{
    store *s = store_fixture_open(path, access);
    int count = store_fixture_count(s);
    store_close(s);
    return count;
}

/* ---------------------------------------------------------------- creating */

Test(store_files, a_store_is_created_only_when_asked)
{
    const char *path = in_folder("new");
    store_fixture_refused(path, STORE_READ, XQ_ERROR_IO, "cannot read %s: No such file or directory");
    store_fixture_refused(path, STORE_WRITE, XQ_ERROR_IO, "cannot write %s: No such file or directory");
    umask(027);
    make_store(path, 2);
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0640);
    cr_assert_eq(files_count(directory), 1, "something is left beside it");
    cr_assert_eq(rows_of(path, STORE_CREATE), 2);
    cr_assert_eq(rows_of(path, STORE_WRITE), 2);
    cr_assert_eq(rows_of(path, STORE_READ), 2);
    cr_assert_eq(files_count(directory), 1, "something is left beside it");
}

Test(store_files, it_is_marked_and_keeps_a_journal_ahead_of_it)
{
    const char *path = in_folder("new");
    size_t size;
    make_store(path, 0);
    char *data = files_read(path, &size);
    cr_assert_eq(memcmp(data + 68, "xqms", 4), 0, "application_id");
    cr_assert_eq(memcmp(data + 60, "\0\0\0\2", 4), 0, "user_version");
    cr_assert_eq(memcmp(data + 18, "\2\2", 2), 0, "WAL");
    free(data);
    store *s = store_fixture_open(path, STORE_WRITE);
    store_row row = store_fixture_row(1);
    store_fixture_add(s, &row);
    cr_assert_eq(access(in_folder("new-wal"), F_OK), 0);
    store_close(s);
}

Test(store_files, a_link_leads_to_the_store_that_is_opened_or_made)
{
    cr_assert_eq(symlink("real", in_folder("link")), 0);
    make_store(in_folder("link"), 3);
    cr_assert_eq(rows_of(in_folder("real"), STORE_WRITE), 3);
    struct stat st;
    cr_assert_eq(lstat(in_folder("link"), &st), 0);
    cr_assert(S_ISLNK(st.st_mode));
    cr_assert_eq(files_count(directory), 2);
}

/* To SQLite, these names mean something other than paths. */
Test(store_files, any_name_is_a_path)
{
    static const char *const names[] = {":memory:", "file:x?mode=memory", "a b%41#?.db", "file::memory:"};
    char before[4096];
    in_folder("");
    cr_assert_not_null(getcwd(before, sizeof before));
    cr_assert_eq(chdir(directory), 0);
    for (int i = 0; i < 4; i++) {
        make_store(names[i], 2);
        cr_assert_eq(rows_of(names[i], STORE_READ), 2);
        cr_assert_eq(files_count("."), i + 1);
    }
    cr_assert_eq(chdir(before), 0);
}

/* ---------------------------------------------------------------- refusals */

static void refused_by_all(const char *path, xq_status status, const char *message)
{
    store_fixture_refused(path, STORE_READ, status, message);
    store_fixture_refused(path, STORE_WRITE, status, message);
    store_fixture_refused(path, STORE_CREATE, status, message);
}

Test(store_files, what_is_no_store_is_refused_and_left_alone)
{
    const char *path = in_folder("file");
    files_write(path, "", 0);
    refused_by_all(path, XQ_ERROR_FORMAT, "%s is no store of measurements: it is empty");
    files_write(path, "x", 1);
    refused_by_all(path, XQ_ERROR_FORMAT, "%s is no store of measurements: it is no SQLite file");
    files_write(path, "SQLite format 3\0and so on", 25);
    refused_by_all(path, XQ_ERROR_FORMAT, "%s is damaged: it is truncated");
    unlink(path);
    store_fixture_execute(path, "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    refused_by_all(
        path, XQ_ERROR_FORMAT,
        "%s is no store of measurements: it is an SQLite file of another program (application_id 0, "
        "not 2020699507)");
    store_fixture_execute(path, "PRAGMA journal_mode = WAL; PRAGMA application_id = -1");
    refused_by_all(
        path, XQ_ERROR_FORMAT,
        "%s is no store of measurements: it is an SQLite file of another program (application_id "
        "4294967295, not 2020699507)");
    store_fixture_execute(path, "PRAGMA application_id = 2020699507");
    refused_by_all(path, XQ_ERROR_FORMAT, "%s is damaged: its version is not valid");
    store_fixture_execute(path, "PRAGMA user_version = 2");
    refused_by_all(path, XQ_ERROR_FORMAT,
                   "%s is damaged: its table device is missing, or not that of version 2");
}

Test(store_files, a_newer_version_is_refused)
{
    const char *path = in_folder("file");
    make_store(path, 3);
    store_fixture_execute(path, "PRAGMA user_version = 3");
    refused_by_all(path, XQ_ERROR_FORMAT, "%s is a store of version 3; this xq knows version 2");
}

/* As xq made them before it knew fp8-kv. */
static void make_first_version(const char *path)
{
    make_store(path, 3);
    store_fixture_execute(
        path,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ', ' || quote('fp8-kv'), "
        "'') WHERE name = 'measurement'; PRAGMA writable_schema = RESET; PRAGMA user_version = 1");
}

Test(store_files, the_first_version_is_read_as_it_is_and_written_as_this_one)
{
    const char *path = in_folder("file"), *other = in_folder("other");
    store_row row = store_fixture_row(7);
    row.question.implementation = XQ_FP8_KV;
    make_first_version(path);
    store *s = store_fixture_open(path, STORE_READ);
    char *before = store_fixture_text(s, NULL), *after;
    store_close(s);
    cr_assert_eq(rows_of(path, STORE_READ), 3, "reading changes no store");
    s = store_fixture_open(path, STORE_WRITE);
    after = store_fixture_text(s, NULL);
    cr_assert_str_eq(after, before);
    cr_assert(store_fixture_add(s, &row));
    store_close(s);
    cr_assert_eq(rows_of(path, STORE_READ), 4);
    free(before);
    free(after);
    make_first_version(other);
    store_fixture_execute(other, "DROP VIEW answer");
    refused_by_all(other, XQ_ERROR_FORMAT,
                   "%s is damaged: its table answer is missing, or not that of version 1");
}

Test(store_files, tables_that_were_changed_are_refused)
{
    const char *path = in_folder("file");
    make_store(path, 3);
    store_fixture_execute(path, "CREATE INDEX extra ON measurement (taken)");
    cr_assert_eq(rows_of(path, STORE_WRITE), 3, "one's own index does no harm");
    store_fixture_execute(path, "DROP VIEW answer");
    refused_by_all(path, XQ_ERROR_FORMAT,
                   "%s is damaged: its table answer is missing, or not that of version 2");
    unlink(path);
    make_store(path, 3);
    store_fixture_execute(path, "PRAGMA foreign_keys = OFF; DELETE FROM spec");
    refused_by_all(path, XQ_ERROR_FORMAT, "%s is damaged: a row has no device, or no spec");
    unlink(path);
    make_store(path, 3);
    store_fixture_execute(path, "ALTER TABLE measurement ADD COLUMN notes TEXT");
    refused_by_all(path, XQ_ERROR_FORMAT,
                   "%s is damaged: its table measurement is missing, or not that of version 2");
}

/* The tables have their own checks, so other programs cannot write what store_add refuses. */
Test(store_files, other_programs_cannot_write_what_is_not_valid)
{
    const char *path = in_folder("file");
    make_store(path, 1);
    static const char *const bad[] = {
        "UPDATE measurement SET seconds = -1",     "UPDATE measurement SET seconds = 9e999",
        "UPDATE measurement SET seconds = NULL",   "UPDATE measurement SET seconds = 'fast'",
        "UPDATE measurement SET spread = -1",      "UPDATE measurement SET repeats = 0",
        "UPDATE measurement SET outcome = 'good'", "UPDATE measurement SET outcome = 'hung'",
        "UPDATE measurement SET reason = 'why'",   "UPDATE measurement SET family = ''",
        "UPDATE measurement SET taken = 0",        "UPDATE device SET name = NULL",
        "UPDATE spec SET choices = 'x'",
    };
    sqlite3 *db;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(sqlite3_exec(db, bad[i], NULL, NULL, NULL), SQLITE_CONSTRAINT, "%s", bad[i]);
    sqlite3_close(db);
}

Test(store_files, what_is_no_file_is_refused, .timeout = 20)
{
    const char *fifo = in_folder("fifo"), *folder = in_folder("folder");
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    cr_assert_eq(mkdir(folder, 0700), 0);
    store_fixture_refused(fifo, STORE_READ, XQ_ERROR_IO, "cannot read %s: it is no regular file");
    store_fixture_refused(fifo, STORE_CREATE, XQ_ERROR_IO,
                          "cannot write %s: it is no regular file, which a store must be");
    store_fixture_refused(folder, STORE_READ, XQ_ERROR_IO, "cannot read %s: Is a directory");
    store_fixture_refused(folder, STORE_CREATE, XQ_ERROR_IO, "cannot write %s: Is a directory");
    store *s = NULL;
    error err = ERROR_INIT, other = ERROR_INIT, third = ERROR_INIT;
    cr_assert_eq(store_open(in_folder("missing/file"), STORE_CREATE, &s, &err), XQ_ERROR_IO);
    cr_assert(strstr(err.message, "missing/file: No such file or directory"), "%s", err.message);
    cr_assert_eq(store_open("", STORE_CREATE, &s, &other), XQ_ERROR_IO);
    cr_assert_str_eq(other.message, "cannot write '': No such file or directory");
    cr_assert_eq(store_open("/proc/new-store", STORE_CREATE, &s, &third), XQ_ERROR_IO);
    cr_assert(strstr(third.message, "cannot write /proc/new-store: "), "%s", third.message);
}

/* ------------------------------------------------------------------- damage */

/* The file is refused when it is cut at any length, because its header states how long it must be. */
Test(store_files, a_truncated_file_is_refused)
{
    const char *path = in_folder("file"), *cut = in_folder("cut");
    size_t size;
    make_store(path, 100);
    char *data = files_read(path, &size);
    for (size_t length = 1; length < size; length += length < 100 ? 33 : size / 12) {
        files_write(cut, data, length);
        refused_by_all(cut, XQ_ERROR_FORMAT,
                       length < 16 ? "%s is no store of measurements: it is no SQLite file"
                                   : "%s is damaged: it is truncated");
    }
    free(data);
}

/* Any one page becomes zeros, as a disk may leave it. */
Test(store_files, a_page_that_was_lost_is_noticed)
{
    enum { PAGE = 4096 };
    const char *path = in_folder("file"), *bad = in_folder("bad");
    size_t size;
    make_store(path, 200);
    char *data = files_read(path, &size), *copy = malloc(size);
    cr_assert_gt(size, 10 * PAGE);
    for (size_t page = 0; page < size / PAGE; page++) {
        store *s = NULL;
        error err = ERROR_INIT;
        memcpy(copy, data, size);
        memset(copy + page * PAGE, 0, PAGE);
        files_write(bad, copy, size);
        cr_assert_eq(store_open(bad, STORE_WRITE, &s, &err), XQ_ERROR_FORMAT, "page %zu", page);
        cr_assert_null(strchr(err.message, '\n'));
        size_t after_size;
        char *after = files_read(bad, &after_size);
        cr_assert(after_size == size && memcmp(after, copy, size) == 0, "page %zu was written", page);
        cr_assert_eq(files_count(directory), 2, "page %zu: %s", page, err.message);
        free(after);
    }
    free(data);
    free(copy);
}

/* Bytes change anywhere. Either the file is refused and stays as it is, or every row that it lists can be
 * written again. Nothing crashes. */
Test(store_files, changed_bytes_do_no_harm, .timeout = 120)
{
    enum { FILES = 300 };
    const char *path = in_folder("file"), *bad = in_folder("bad");
    size_t size, after_size;
    make_store(path, 50);
    char *data = files_read(path, &size), *copy = malloc(size);
    random_stream r = random_begin(7, 0);
    int refused = 0;
    for (int i = 0; i < FILES; i++) {
        store *s = NULL;
        error err = ERROR_INIT;
        memcpy(copy, data, size);
        for (int j = random_between(&r, 1, 8); j > 0; j--)
            copy[random_bits(&r) % (i % 3 ? size : 200)] = (char)random_bits(&r);
        files_write(bad, copy, size);
        if (store_open(bad, STORE_READ, &s, &err) != XQ_OK) {
            cr_assert(err.status == XQ_ERROR_FORMAT || err.status == XQ_ERROR_IO, "%s", err.message);
            refused++;
        } else {
            free(store_fixture_text(s, NULL));
        }
        store_close(s);
        char *after = files_read(bad, &after_size);
        cr_assert(after_size == size && memcmp(after, copy, size) == 0, "file %d was written", i);
        free(after);
    }
    cr_assert_gt(refused, FILES / 3, "%d", refused);
    free(data);
    free(copy);
}

static void add_twenty(const char *path, int from)
{
    store *s = store_fixture_open(path, STORE_CREATE);
    for (int i = from; i < from + 20; i++) {
        store_row row = store_fixture_row(i);
        store_fixture_add(s, &row);
    }
}

/* Adds rows in a process that is killed, which leaves them in two files. */
static void make_unfinished(const char *path, int from)
{
    store_fixture_run(store_fixture_fork(add_twenty, path, from));
}

Test(store_files, rows_that_wait_beside_the_file_are_read_and_the_file_stays_as_it_is)
{
    const char *path = in_folder("file");
    size_t size, after_size;
    make_unfinished(path, 0);
    char *before = files_read(path, &size);
    cr_assert_eq(rows_of(path, STORE_READ), 20);
    char *after = files_read(path, &after_size);
    cr_assert(size == after_size && memcmp(before, after, size) == 0);
    cr_assert_eq(rows_of(path, STORE_WRITE), 20);
    cr_assert_eq(files_count(directory), 1, "the rows have been moved into the file");
    cr_assert_eq(rows_of(path, STORE_READ), 20);
    free(before);
    free(after);
}

Test(store_files, a_reader_that_closes_last_leaves_the_file_to_a_writer)
{
    const char *path = in_folder("file");
    size_t size, after_size;
    make_store(path, 0);
    char *before = files_read(path, &size);
    store_child writer = store_fixture_fork(add_twenty, path, 0);
    store *s = store_fixture_open(path, STORE_READ);
    store_fixture_run(writer);
    cr_assert_eq(store_fixture_count(s), 20);
    store_close(s);
    char *after = files_read(path, &after_size);
    cr_assert(size == after_size && memcmp(before, after, size) == 0);
    cr_assert_eq(rows_of(path, STORE_WRITE), 20);
    free(before);
    free(after);
}

Test(store_files, a_damaged_file_with_rows_beside_it_stays_as_it_is)
{
    const char *path = in_folder("file"), *wal = in_folder("file-wal");
    size_t size, wal_size, after_size;
    make_unfinished(path, 0);
    store_fixture_execute(path, "CREATE TABLE spare (x)"); /* this moves the rows into the file */
    make_unfinished(path, 20);
    char *data = files_read(path, &size), *rows = files_read(wal, &wal_size);
    for (size_t page = 1; page < size / 4096;
         page++) /* some pages have newer copies beside the file, but not all */
        memset(data + page * 4096, 0x55, 4096);
    files_write(path, data, size);
    cr_assert_gt(wal_size, 0);
    for (int i = STORE_READ; i <= STORE_CREATE; i++) {
        store *s = NULL;
        error err = ERROR_INIT;
        cr_assert_eq(store_open(path, (store_access)i, &s, &err), XQ_ERROR_FORMAT, "%s", err.message);
        char *after = files_read(path, &after_size);
        cr_assert(after_size == size && memcmp(after, data, size) == 0);
        free(after);
        after = files_read(wal, &after_size);
        cr_assert(after_size == wal_size && memcmp(after, rows, wal_size) == 0);
        free(after);
    }
    free(data);
    free(rows);
}

/* -------------------------------------------------------------- unwritable folders */

/* Runs `check` as a user other than root, because modes do not stop root. Returns 0 if all is well. */
static int as_nobody(int (*check)(void))
{
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
            _exit(0);
        _exit(check());
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char place[512]; /* a path in a folder that cannot be written */

static int says(store_access access, const char *why)
{
    store *s = NULL;
    error err = ERROR_INIT;
    if (store_open(place, access, &s, &err) == XQ_ERROR_IO && strstr(err.message, why))
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return 1;
}

static int can_be_read_only(void)
{
    store *s = NULL;
    error err = ERROR_INIT;
    if (store_open(place, STORE_READ, &s, &err) != XQ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    int count = store_fixture_count(s);
    store_row row = store_fixture_row(1);
    bool refuses = store_add(s, &row, NULL, &err) == XQ_ERROR_ARGUMENT;
    store_close(s);
    if (count != 5 || !refuses || !strstr(err.message, "it was opened with STORE_READ"))
        return 3;
    return says(STORE_WRITE, "its folder cannot be written: Permission denied");
}

static int cannot_be_created(void)
{
    return says(STORE_CREATE, "its folder cannot be written: Permission denied");
}

static int is_refused(void)
{
    return says(STORE_WRITE, "Permission denied");
}

Test(store_files, a_store_can_be_read_where_nothing_can_be_written)
{
    const char *folder = in_folder("closed ?#%");
    cr_assert_eq(mkdir(folder, 0755), 0);
    cr_assert_eq(chmod(directory, 0755), 0);
    snprintf(place, sizeof place, "%s/file", folder);
    make_store(place, 5);
    cr_assert_eq(chmod(place, 0666), 0);
    cr_assert_eq(chmod(folder, 0555), 0);
    cr_assert_eq(as_nobody(can_be_read_only), 0);
    cr_assert_eq(files_count(folder), 1);
    snprintf(place, sizeof place, "%s/other", folder);
    cr_assert_eq(as_nobody(cannot_be_created), 0);
    snprintf(place, sizeof place, "%s/file", folder);
    cr_assert_eq(chmod(folder, 0777), 0);
    cr_assert_eq(chmod(place, 0444), 0);
    cr_assert_eq(as_nobody(is_refused), 0);
    cr_assert_eq(chmod(place, 0000), 0);
    cr_assert_eq(as_nobody(is_refused), 0);
    cr_assert_eq(files_count(folder), 1);
}

/* The limit acts as a full disk for this process alone. */
Test(store_files, a_row_that_does_not_fit_fails_and_the_others_stay)
{
    const char *path = in_folder("file");
    make_store(path, 10);
    store *s = store_fixture_open(path, STORE_WRITE);
    const struct rlimit small = {65536, RLIM_INFINITY}, large = {RLIM_INFINITY, RLIM_INFINITY};
    error err = ERROR_INIT;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rows = 10;
    for (store_row row = store_fixture_row(rows); store_add(s, &row, NULL, &err) == XQ_OK; rows++) {
        cr_assert_lt(rows, 1000);
        row = store_fixture_row(rows + 1);
    }
    cr_assert_eq(err.status, XQ_ERROR_IO);
    cr_assert(strstr(err.message, path), "%s", err.message);
    cr_assert_eq(store_fixture_count(s), rows);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &large), 0);
    store_row row = store_fixture_row(rows);
    store_fixture_add(s, &row);
    store_close(s);
    cr_assert_eq(rows_of(path, STORE_READ), rows + 1);
}
