/* Shared by the source files of the store. */
#ifndef AUTOTUNE_SEARCH_STORE_PRIVATE_H
#define AUTOTUNE_SEARCH_STORE_PRIVATE_H

#include "../../runtime/base/place.h"
#include "store.h"

#include <sqlite3.h>
#include <sys/types.h>

/* The application_id that marks a file as a store ("xqms"), and the version of its schema. */
enum { STORE_APPLICATION = 0x78716d73, STORE_VERSION = 1 };

#define STORE_LATEST INT64_C(253402300799) /* the end of the year 9999, in Unix time */

/* ------------------------------------------------------------------ statements (store_sql.c) */

enum store_statement {
    STORE_BEGIN,
    STORE_COMMIT,
    STORE_ADD_DEVICE,
    STORE_ADD_SPEC,
    STORE_ADD,
    STORE_FIND,
    STORE_LIST,
    STORE_BEST,
    STORE_ADD_CEILINGS,
    STORE_FIND_CEILINGS,
    STORE_LIST_CEILINGS,
    STORE_STATEMENTS
};
extern const char *const store_sql[STORE_STATEMENTS];

/* Parameters of statements, and columns of the view `answer`, have the same numbers, from 1. */
enum store_column {
    COLUMN_DEVICE = 1,
    COLUMN_ARCH,
    COLUMN_CAPABILITY,
    COLUMN_MULTIPROCESSORS,
    COLUMN_MEMORY,
    COLUMN_IS_SIM,
    COLUMN_DRIVER,
    COLUMN_NVRTC,
    COLUMN_XQ,
    COLUMN_SPEC,
    COLUMN_IMPLEMENTATION,
    COLUMN_FAMILY,
    COLUMN_TOKENS,
    COLUMN_BATCH,
    COLUMN_QUERIES,
    COLUMN_SOURCE,
    COLUMN_COLD_L2,
    COLUMN_IN_GRAPH,
    COLUMN_PARAMETERS,
    COLUMN_OUTCOME,
    COLUMN_SECONDS,
    COLUMN_SPREAD,
    COLUMN_REPEATS,
    COLUMN_TAKEN,
    COLUMN_REASON
};

/* The tables and the view, in the order in which they are created. `sql` is the text that SQLite keeps of
 * each. */
typedef struct store_object {
    const char *name, *sql;
} store_object;
enum { STORE_OBJECTS = 4 };
extern const store_object store_schema[STORE_OBJECTS];

/* The table of ceilings. Stores that were made before it existed lack it; it is created when ceilings are
 * added. */
extern const store_object store_ceilings_table;

/* ---------------------------------------------------------------------- handle (store.c) */

struct store {
    sqlite3 *db;
    char *path; /* the path as the caller gave it */
    sqlite3_stmt *statements[STORE_STATEMENTS];
    pid_t owner;
    bool reads, writable; /* how it may be used; both are false while it is being opened */
    bool visiting;        /* a listing is under way */
};

/* Returns an empty handle, which store_close frees, or NULL when memory ran out. */
store *store_allocate(const char *path, error *err);

/* Opens the database by its absolute path, because SQLite gives other names a special meaning (":memory:",
 * URIs). Returns SQLite's code. The caller closes s->db even after a failure. */
int store_connect(store *s, const char *path, int flags);

/* Reports a failure of SQLite with SQLite's own message. `doing` is "read" or "write". */
xq_status store_failed(const store *s, const char *doing, int code, error *err);

/* Executes statements without results. */
xq_status store_execute(store *s, const char *sql, error *err);

/* Every call begins with this: it checks that the handle may be used in this process and at this moment. */
xq_status store_enter(const store *s, bool to_write, error *err);

/* Returns the statement, ready for its parameters, or NULL after a failure. store_release makes the
 * statement ready for its next use. */
sqlite3_stmt *store_prepare(store *s, enum store_statement which, error *err);
void store_release(sqlite3_stmt *statement);

/* A writing transaction: store_begin waits for other writers; store_end commits, or rolls back after a
 * failure. */
xq_status store_begin(store *s, error *err);
xq_status store_end(store *s, error *err);

/* ---------------------------------------------------------- looking at files (store_look.c) */

/* Refuses a file that is no store of this version. It reads only the first 100 bytes, and creates
 * nothing. */
xq_status store_look(const char *path, error *err);

/* Refuses a damaged file. It reads the whole file. */
xq_status store_check_file(store *s, error *err);

/* Says what is wrong with a file that SQLite finds malformed. */
const char *store_damage(const store *s, int code);

/* Whether a file that is not empty exists beside the store, with this ending added to the store's path. */
bool store_has_beside(const char *path, const char *ending);

/* ------------------------------------------------------------- new files (store_create.c) */

/* Makes an empty store, lets `fill` (NULL: nothing) add to it, and publishes it at `at`, where no file
 * exists yet. The file appears complete, or not at all. *exists says that another file has appeared there
 * meanwhile; this is not a failure. */
xq_status store_create(const char *given, const place *at,
                       xq_status (*fill)(void *user, store *s, error *err), void *user, bool *exists,
                       error *err);

/* ------------------------------------------------------------- rows (store_row.c) */

/* A checked question, which owns the canonical texts of `spec` and `parameters`. */
typedef struct store_checked {
    store_question question;
    char *spec, *parameters;
} store_checked;
xq_status store_check_device(const store_device *given, error *err);
xq_status store_check_question(const store_question *given, store_checked *out, error *err);
void store_checked_free(store_checked *c);

/* A checked filter, which owns its texts in the same way. */
typedef struct store_checked_filter {
    store_filter filter;
    char *spec, *parameters;
} store_checked_filter;
xq_status store_check_filter(const store_filter *given, store_checked_filter *out, error *err);
void store_checked_filter_free(store_checked_filter *c);

/* *checked is a copy of the answer, with a reason that is fit to be stored. */
xq_status store_check_answer(const store_answer *given, store_answer *checked, error *err);

/* These bind as many values as the statement has parameters. The texts must outlive the statement's use. */
xq_status store_bind_device(store *s, sqlite3_stmt *statement, const store_device *d, error *err);
xq_status store_bind_question(store *s, sqlite3_stmt *statement, const store_question *q, error *err);
xq_status store_bind_answer(store *s, sqlite3_stmt *statement, const store_answer *a, error *err);
xq_status store_bind_filter(store *s, sqlite3_stmt *statement, const store_filter *f, error *err);

/* These read the statement's current row: the columns of a device; all columns of `answer`; or the columns
 * from COLUMN_OUTCOME on, which begin at column `first` of the statement. */
xq_status store_read_device(store *s, sqlite3_stmt *statement, store_device *out, error *err);
xq_status store_read_row(store *s, sqlite3_stmt *statement, store_row *out, error *err);
xq_status store_read_answer(store *s, sqlite3_stmt *statement, int first, store_answer *out, error *err);

/* Adds a row within a transaction (store_rows.c). */
xq_status store_put(store *s, const store_row *row, bool *kept, error *err);

/* ------------------------------------------------------------- ceilings (store_ceilings.c) */

/* Adds the ceilings of all devices of another store, within a transaction. */
xq_status store_copy_ceilings(store *from, store *to, error *err);

#endif
