/* Tests stores that several processes use, some of which are killed. */
#include "../../../autotune/search/store_private.h"
#include "../../../runtime/base/random.h"
#include "../../support/files.h"
#include "../../support/store_fixture.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Adds rows for ever. Writes the number of each row into a pipe once store_add has returned. */
static void write_rows(const char *path, int from, int report)
{
    store *s = NULL;
    error err = ERROR_INIT;
    if (store_open(path, STORE_CREATE, &s, &err) != XQ_OK)
        _exit(1);
    for (int number = from;; number++) {
        store_row row = store_fixture_row(number);
        if (store_add(s, &row, NULL, &err) != XQ_OK || write(report, &number, sizeof number) < 0)
            _exit(2);
    }
}

static bool next_report(int pipe_end, int *last)
{
    int number;
    if (read(pipe_end, &number, sizeof number) != sizeof number)
        return false;
    cr_assert_eq(number, *last + 1);
    *last = number;
    return true;
}

/* Kills a child this many microseconds after its start, or after its first report. Returns the last number
 * that the child reported, or from - 1 if it reported none. */
static int kill_writer(const char *path, int from, int microseconds, bool after_first)
{
    int ends[2], last = from - 1, status;
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0)
        write_rows(path, from, ends[1]);
    close(ends[1]);
    if (after_first)
        cr_assert(next_report(ends[0], &last), "the writer ended by itself");
    const struct timespec moment = {.tv_nsec = 1000L * microseconds};
    nanosleep(&moment, NULL);
    kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it failed by itself: %d", status);
    while (next_report(ends[0], &last))
        continue;
    close(ends[0]);
    return last;
}

/* Every fourth writer has a store of its own, and may be killed before this store exists. */
Test(store_processes, a_writer_killed_at_any_moment_loses_no_row_that_it_reported, .timeout = 60)
{
    enum { MOMENTS = 20, LONGEST = 40000, ROUND = 10000 };
    char directory[256];
    snprintf(directory, sizeof directory, "%s", files_directory());
    random_stream r = random_begin(2510, 3895);
    int reported = 0, together = 0;
    for (int round = 0; round < MOMENTS; round++) {
        char name[16] = "store";
        bool apart = round % 4 == 3;
        if (apart)
            snprintf(name, sizeof name, "apart%d", round);
        const char *path = files_path(directory, name);
        int from = ROUND * round,
            last = kill_writer(path, from, random_between(&r, 0, LONGEST), round % 2 == 0);
        store *s = store_fixture_open(path, STORE_CREATE);
        for (int number = from; number <= last; number++)
            cr_assert(store_fixture_find(s, number, NULL), "round %d lost row %d of %d", round,
                      number - from, last - from + 1);
        reported += last - from + 1;
        together += apart ? 0 : last - from + 1;
        int count = store_fixture_count(s), least = apart ? last - from + 1 : together;
        cr_assert(count >= least && count <= least + round + 1, "round %d: %d of %d rows", round, count,
                  least);
        store_close(s);
    }
    cr_assert_geq(reported, MOMENTS / 2, "%d", reported);
}

/* Runs `work` in several processes that begin as nearly at once as they can. */
static void in_processes(int processes, void (*work)(const char *path, int process), const char *path)
{
    enum { MOST = 16 };
    store_child children[MOST];
    for (int i = 0; i < processes; i++)
        children[i] = store_fixture_fork(work, path, i);
    for (int i = 0; i < processes; i++)
        store_fixture_start(children[i]);
    for (int i = 0; i < processes; i++)
        store_fixture_wait(children[i]);
}

static void must(xq_status status, const error *err)
{
    if (status == XQ_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    _exit(1);
}

enum { ROWS = 50, OPENINGS = 12 };

static void add_fifty(const char *path, int process)
{
    store *s = NULL;
    error err = ERROR_INIT;
    must(store_open(path, STORE_CREATE, &s, &err), &err);
    for (int i = 0; i < ROWS; i++) {
        store_row row = store_fixture_row(process * ROWS + i);
        must(store_add(s, &row, NULL, &err), &err);
    }
    store_close(s);
}

Test(store_processes, four_that_create_and_write_at_once_lose_no_row, .timeout = 60)
{
    const char *directory = files_directory(), *path = files_path(directory, "store");
    in_processes(4, add_fifty, path);
    store *s = store_fixture_open(path, STORE_READ);
    for (int i = 0; i < 4 * ROWS; i++)
        cr_assert(store_fixture_find(s, i, NULL), "row %d", i);
    cr_assert_eq(store_fixture_count(s), 4 * ROWS);
    store_close(s);
    cr_assert_eq(files_count(directory), 1, "something is left");
}

/* The last process that closes a store moves its rows, and removes files that the next process makes
 * anew. */
static void open_and_close(const char *path, int process)
{
    for (int i = 0; i < OPENINGS; i++) {
        store *s = NULL;
        error err = ERROR_INIT;
        store_row row = store_fixture_row(process * OPENINGS + i);
        must(store_open(path, process == 0 ? STORE_READ : STORE_WRITE, &s, &err), &err);
        if (process > 0)
            must(store_add(s, &row, NULL, &err), &err);
        store_close(s);
    }
}

Test(store_processes, opening_and_closing_while_others_do_is_no_damage, .timeout = 60)
{
    const char *path = files_path(files_directory(), "store");
    store_close(store_fixture_open(path, STORE_CREATE));
    in_processes(5, open_and_close, path);
    store *s = store_fixture_open(path, STORE_WRITE);
    cr_assert_eq(store_fixture_count(s), 4 * OPENINGS);
    store_close(s);
}

/* Does what another process might do while a new store is made. */
static xq_status create_meanwhile(void *user, store *s, error *err)
{
    (void)s;
    add_fifty(user, 0);
    return err->status;
}

Test(store_processes, a_store_that_came_meanwhile_is_not_replaced)
{
    char path[4096];
    const char *directory = files_directory();
    snprintf(path, sizeof path, "%s/store", directory);
    place at = {0};
    bool exists = false;
    error err = ERROR_INIT;
    cr_assert_eq(place_find(path, &at, &err), XQ_OK);
    cr_assert_eq(store_create(path, &at, create_meanwhile, path, &exists, &err), XQ_OK, "%s", err.message);
    cr_assert(exists);
    store *s = store_fixture_open(path, STORE_READ);
    cr_assert_eq(store_fixture_count(s), ROWS);
    store_close(s);
    cr_assert_eq(files_count(directory), 1, "something is left");
}

/* Several processes merge into one new store. It then exists once and whole, with the rows of at least one
 * process. The processes that came later get an error that says so. */
static void merge_into(const char *path, int process)
{
    char input[4096];
    error err = ERROR_INIT;
    snprintf(input, sizeof input, "%s-%d", path, process);
    add_fifty(input, process);
    const char *inputs[] = {input};
    if (store_merge(inputs, 1, path, NULL, &err) != XQ_OK && !strstr(err.message, "created it meanwhile"))
        must(err.status, &err);
}

Test(store_processes, merging_into_one_new_store_at_once_keeps_it_whole, .timeout = 60)
{
    const char *directory = files_directory(), *path = files_path(directory, "store");
    in_processes(3, merge_into, path);
    store *s = store_fixture_open(path, STORE_WRITE);
    int count = store_fixture_count(s);
    cr_assert(count >= ROWS && count % ROWS == 0, "%d", count);
    store_close(s);
    cr_assert_eq(files_count(directory), 4, "something is left");
}

/* A test cannot cut the power. SQLite promises that a store survives a power cut with these settings. */
Test(store_processes, every_row_is_synced)
{
    store *s = store_fixture_open(files_path(files_directory(), "store"), STORE_CREATE);
    static const char *const settings[][2] = {{"PRAGMA synchronous", "2"}, {"PRAGMA journal_mode", "wal"}};
    for (int i = 0; i < 2; i++) {
        sqlite3_stmt *statement;
        cr_assert_eq(sqlite3_prepare_v2(s->db, settings[i][0], -1, &statement, NULL), SQLITE_OK);
        cr_assert_eq(sqlite3_step(statement), SQLITE_ROW);
        cr_assert_str_eq((const char *)sqlite3_column_text(statement, 0), settings[i][1]);
        sqlite3_finalize(statement);
    }
    store_close(s);
}

/* ------------------------------------------------------------------ locks */

Test(store_processes, a_lock_that_is_held_too_long_is_an_error_that_says_so)
{
    const char *path = files_path(files_directory(), "store");
    store *holder = store_fixture_open(path, STORE_CREATE), *s = store_fixture_open(path, STORE_WRITE);
    error err = ERROR_INIT, late = ERROR_INIT;
    store_row row = store_fixture_row(1);
    cr_assert_eq(store_begin(holder, &err), XQ_OK);
    sqlite3_busy_timeout(s->db, 30);
    cr_assert_eq(store_add(s, &row, NULL, &late), XQ_ERROR_IO);
    cr_assert(strstr(late.message, "another process has kept it locked for more than 10 seconds"), "%s",
              late.message);
    cr_assert_eq(store_fixture_count(s), 0, "reading needs no lock");
    cr_assert_eq(store_end(holder, &err), XQ_OK);
    store_fixture_add(s, &row);
    store_close(s);
    store_close(holder);
}

static void open_once(const char *path, int process)
{
    store *s = NULL;
    error err = ERROR_INIT;
    (void)process;
    must(store_open(path, STORE_WRITE, &s, &err), &err);
    store_close(s);
}

/* Closing any descriptor of a file would drop the locks that this process has on it. Another process would
 * then take itself for the last one, and remove the file with this process's rows. */
Test(store_processes, a_second_handle_takes_no_lock_from_the_first)
{
    const char *path = files_path(files_directory(), "store");
    store_child other = store_fixture_fork(open_once, path, 0);
    store *s = store_fixture_open(path, STORE_CREATE);
    store_row row = store_fixture_row(1);
    error err = ERROR_INIT;
    store_fixture_add(s, &row);
    store_close(store_fixture_open(path, STORE_READ));
    cr_assert_eq(store_look(path, &err), XQ_OK);
    store_fixture_run(other);
    cr_assert(store_has_beside(path, "-wal"), "the other process took itself for the last");
    row = store_fixture_row(2);
    store_fixture_add(s, &row);
    store_close(s);
    s = store_fixture_open(path, STORE_READ);
    cr_assert_eq(store_fixture_count(s), 2);
    store_close(s);
}

static store *inherited;

static void use_inherited(const char *path, int process)
{
    store_row row = store_fixture_row(7);
    error err = ERROR_INIT, other = ERROR_INIT;
    store *s;
    (void)process;
    if (store_add(inherited, &row, NULL, &err) != XQ_ERROR_ARGUMENT ||
        !strstr(err.message, "it was opened before this process was forked"))
        _exit(1);
    store_close(inherited);
    if (store_open(path, STORE_WRITE, &s, &other) != XQ_ERROR_ARGUMENT ||
        !strstr(other.message, "a store was open when this process was forked"))
        _exit(2);
}

Test(store_processes, a_process_that_is_forked_too_late_can_use_no_store_and_does_no_harm)
{
    const char *path = files_path(files_directory(), "store");
    inherited = store_fixture_open(path, STORE_CREATE);
    store_row row = store_fixture_row(1);
    store_fixture_add(inherited, &row);
    in_processes(2, use_inherited, path);
    row = store_fixture_row(2);
    store_fixture_add(inherited, &row);
    cr_assert_eq(store_fixture_count(inherited), 2);
    store_close(inherited);
}
