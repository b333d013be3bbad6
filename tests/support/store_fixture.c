#include "store_fixture.h"
#include "../../autotune/verify/verify.h"
#include "files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

store_row store_fixture_row(int number)
{
    static char parameters[64][64];
    static unsigned next;
    char *text = parameters[next++ % 64];
    snprintf(text, sizeof parameters[0], "{\"warps\":%d}", number);
    return (store_row){
        .question =
            {
                .device = {.name = "NVIDIA H100",
                           .arch = "sm_90",
                           .capability = 90,
                           .multiprocessors = 132,
                           .memory_bytes = INT64_C(85899345920),
                           .driver = 12080,
                           .nvrtc = 12080,
                           .xq = "0.1.0"},
                .spec = "{\"cache\":{\"bits\":4,\"method\":\"latent\"},\"model\":\"llama-3.1-8b\"}",
                .implementation = XQ_FUSED,
                .family = "attend",
                .bucket = {.tokens = 4096, .batch = 4, .queries = 1},
                .source = "0123456789abcdef",
                .mode = {.cold_l2 = true},
                .parameters = text,
            },
        .answer = {.seconds = 1e-5 * (number + 1), .spread = 1e-7, .repeats = 9, .taken = 1700000000},
    };
}

store_row store_fixture_failure(int number, store_outcome outcome, const char *reason)
{
    store_row row = store_fixture_row(number);
    row.answer = (store_answer){.outcome = outcome, .taken = row.answer.taken};
    snprintf(row.answer.reason, sizeof row.answer.reason, "%s", reason);
    return row;
}

store *store_fixture_open(const char *path, store_access access)
{
    store *s = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(store_open(path, access, &s, &err), XQ_OK, "%s", err.message);
    return s;
}

bool store_fixture_add(store *s, const store_row *row)
{
    bool kept = false;
    error err = ERROR_INIT;
    cr_assert_eq(store_add(s, row, &kept, &err), XQ_OK, "%s", err.message);
    return kept;
}

bool store_fixture_find(store *s, int number, store_answer *out)
{
    store_row row = store_fixture_row(number);
    store_answer ignored;
    bool found = false;
    error err = ERROR_INIT;
    cr_assert_eq(store_find(s, &row.question, out ? out : &ignored, &found, &err), XQ_OK, "%s",
                 err.message);
    return found;
}

/* --------------------------------------------------------------- processes */

store_child store_fixture_fork(void (*work)(const char *path, int number), const char *path, int number)
{
    int ends[2];
    char byte;
    cr_assert_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (read(ends[0], &byte, 1) == 1)
            work(path, number);
        _exit(0);
    }
    close(ends[0]);
    return (store_child){pid, ends[1]};
}

void store_fixture_start(store_child child)
{
    cr_assert_eq(write(child.start, "", 1), 1);
    close(child.start);
}

void store_fixture_run(store_child child)
{
    store_fixture_start(child);
    store_fixture_wait(child);
}

void store_fixture_wait(store_child child)
{
    int status;
    cr_assert_eq(waitpid(child.pid, &status, 0), child.pid);
    cr_assert_eq(status, 0, "the other process failed: %d", status);
}

/* ----------------------------------------------------------------- listing */

static xq_status count_row(void *user, const store_row *row, error *err)
{
    (void)row;
    ++*(int *)user;
    return err->status;
}

int store_fixture_count(store *s)
{
    int count = 0;
    error err = ERROR_INIT;
    cr_assert_eq(store_list(s, NULL, count_row, &count, &err), XQ_OK, "%s", err.message);
    return count;
}

static xq_status print_row(void *user, const store_row *row, error *err)
{
    const store_question *q = &row->question;
    const store_answer *a = &row->answer;
    fprintf(user, "%s %s %d %d %" PRId64 " %d %d %d %s|", q->device.name, q->device.arch,
            q->device.capability, q->device.multiprocessors, q->device.memory_bytes, q->device.is_sim,
            q->device.driver, q->device.nvrtc, q->device.xq);
    fprintf(user, "%s|%s %s %" PRId64 " %d %d %s %d %d %s|", q->spec,
            verify_implementation_names[q->implementation], q->family, q->bucket.tokens, q->bucket.batch,
            q->bucket.queries, q->source, q->mode.cold_l2, q->mode.in_graph, q->parameters);
    fprintf(user, "%s %.17g %.17g %d %" PRId64 " %s\n", store_outcome_names[a->outcome], a->seconds,
            a->spread, a->repeats, a->taken, a->reason);
    return err->status;
}

char *store_fixture_text(store *s, const store_filter *filter)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    error err = ERROR_INIT;
    cr_assert_eq(store_list(s, filter, print_row, f, &err), XQ_OK, "%s", err.message);
    fclose(f);
    return text;
}

/* ---------------------------------------------------------------- refusals */

/* The folder as text: its names, and the bytes of regular files. The caller frees it. */
static char *snapshot(const char *directory)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        fprintf(f, "%s\n", entries[i]->d_name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            size_t bytes;
            char *data = files_read(path, &bytes);
            for (size_t b = 0; b < bytes; b++)
                fprintf(f, "%02x", (unsigned char)data[b]);
            free(data);
        }
        free(entries[i]);
    }
    free(entries);
    fclose(f);
    return text;
}

void store_fixture_refused(const char *path, store_access access, xq_status status, const char *message)
{
    char directory[PATH_MAX], expected[2048];
    const char *slash = strrchr(path, '/'), *mark = strstr(message, "%s");
    store *s = NULL;
    error err = ERROR_INIT;
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    char *before = snapshot(directory);
    cr_assert_eq(store_open(path, access, &s, &err), status, "%s: %d %s", message, err.status, err.message);
    cr_assert_null(s);
    snprintf(expected, sizeof expected, "%.*s%s%s", (int)(mark - message), message, path, mark + 2);
    cr_assert_str_eq(err.message, expected);
    char *after = snapshot(directory);
    cr_assert_str_eq(after, before, "%s: something has changed", message);
    free(before);
    free(after);
    error_clear(&err);
}

void store_fixture_execute(const char *path, const char *sql)
{
    sqlite3 *db;
    char *message = NULL;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, sql, NULL, NULL, &message);
    cr_assert_null(message, "%s: %s", sql, message);
    sqlite3_close(db);
}
