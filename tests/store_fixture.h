/* Stores and rows for tests. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "../autotune/search/store.h"

/* A measured row whose parameters are {"warps":NUMBER}; all else is alike. The text stays valid until the
 * 64th next call. */
store_row store_fixture_row(int number);

/* The same question, answered by a failure. */
store_row store_fixture_failure(int number, store_outcome outcome, const char *reason);

/* These fail the test where the store does. */
store *store_fixture_open(const char *path, store_access access);
bool store_fixture_add(store *s, const store_row *row); /* whether it was kept */
bool store_fixture_find(store *s, int number, store_answer *out);
int store_fixture_count(store *s);

/* Executes SQL in a file, as the sqlite3 command does. */
void store_fixture_execute(const char *path, const char *sql);

/* Another process: it is forked at once, works once it is started, and ends without closing what it has
 * opened. Waiting for its end fails the test where it fails; running is both. */
typedef struct store_child {
    int pid, start;
} store_child;
store_child store_fixture_fork(void (*work)(const char *path, int number), const char *path, int number);
void store_fixture_start(store_child child);
void store_fixture_wait(store_child child);
void store_fixture_run(store_child child);

/* All rows as text, a line each, in the order in which they are listed; caller frees. */
char *store_fixture_text(store *s, const store_filter *filter);

/* Opening fails with this status and message (%s stands for the path), and neither the file nor its folder
 * changes. */
void store_fixture_refused(const char *path, store_access access, xq_status status, const char *message);

#endif
