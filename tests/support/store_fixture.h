/* Stores and rows for tests. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "../../autotune/search/store.h"

/* A measured row whose parameters are {"warps":NUMBER}. All other fields of the question are the same for
 * every number. The text stays valid until the 64th next call. */
store_row store_fixture_row(int number);

/* A row with the same question, whose answer is a failure. */
store_row store_fixture_failure(int number, store_outcome outcome, const char *reason);

/* These functions fail the test if the store reports an error. */
store *store_fixture_open(const char *path, store_access access);
bool store_fixture_add(store *s, const store_row *row); /* returns whether the row was kept */
bool store_fixture_find(store *s, int number, store_answer *out);
int store_fixture_count(store *s);

/* Executes SQL on a database file, as the command sqlite3 does. */
void store_fixture_execute(const char *path, const char *sql);

/* Another process. store_fixture_fork creates it at once. It works once store_fixture_start is called, and
 * ends without closing what it has opened. store_fixture_wait waits for its end, and fails the test if the
 * process failed. store_fixture_run starts it and waits. */
typedef struct store_child {
    int pid, start;
} store_child;
store_child store_fixture_fork(void (*work)(const char *path, int number), const char *path, int number);
void store_fixture_start(store_child child);
void store_fixture_wait(store_child child);
void store_fixture_run(store_child child);

/* All rows as text, one line each, in the order in which the store lists them; the caller frees it. */
char *store_fixture_text(store *s, const store_filter *filter);

/* Fails the test unless opening the store fails with this status and message (%s stands for the path), and
 * leaves the file and its folder unchanged. */
void store_fixture_refused(const char *path, store_access access, xq_status status, const char *message);

#endif
