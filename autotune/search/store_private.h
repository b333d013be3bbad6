/* Shared by the parts of the store. */
#ifndef AUTOTUNE_SEARCH_STORE_PRIVATE_H
#define AUTOTUNE_SEARCH_STORE_PRIVATE_H

#include "../../runtime/base/place.h"
#include "store.h"

#include <sqlite3.h>
#include <sys/types.h>

/* The application_id by which a file is known as a store ("xqms"), and the version of its schema. Stores of
 * version 1, which know no fp8-kv, are read as they are, and made ones of this version when they are opened
 * for writing (store_upgrade.c). */
enum { STORE_APPLICATION = 0x78716d73, STORE_VERSION = 2, STORE_FIRST_VERSION = 1 };

#define STORE_LATEST INT64_C(253402300799) /* in Unix time: the end of the year 9999 */

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

/* Parameters of statements and columns of the view `answer` have the same numbers, from 1. */
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

/* Tables and view, in the order in which they are made; `sql` is what SQLite keeps of each. */
typedef struct store_object {
    const char *name, *sql;
} store_object;
enum { STORE_MEASUREMENT = 2, STORE_ANSWER, STORE_OBJECTS };
extern const store_object store_schema[STORE_OBJECTS];
extern const char store_measurement_1[];     /* the table of version 1 */
extern const char store_copy_measurements[]; /* from measurement_1 */

/* A table that a store may lack: stores were made before there was one, and it is made when ceilings are
 * added. */
extern const store_object store_ceilings_table;

/* ---------------------------------------------------------------------- handle (store.c) */

struct store {
    sqlite3 *db;
    char *path; /* as given */
    sqlite3_stmt *statements[STORE_STATEMENTS];
    pid_t owner;
    bool reads, writable; /* neither: it is being opened */
    bool visiting;        /* a listing is on its way */
};

/* An empty handle, for store_close to free; NULL when memory ran out. */
store *store_allocate(const char *path, error *err);

/* Opens the database by its absolute path, for SQLite takes other names than paths too (":memory:", URIs).
 * Returns SQLite's code; s->db is to be closed in any case. */
int store_connect(store *s, const char *path, int flags);

/* A failure of SQLite, with what it says of it. `doing`: "read" or "write". */
xq_status store_failed(const store *s, const char *doing, int code, error *err);

/* Executes statements without results. */
xq_status store_execute(store *s, const char *sql, error *err);

/* Every call begins with this: whether the handle may be used here and now. */
xq_status store_enter(const store *s, bool to_write, error *err);

/* The statement, ready for its parameters; NULL: failed. store_release makes it ready for the next use. */
sqlite3_stmt *store_prepare(store *s, enum store_statement which, error *err);
void store_release(sqlite3_stmt *statement);

/* A transaction that writes: begin waits for other writers; end commits, or after a failure rolls back. */
xq_status store_begin(store *s, error *err);
xq_status store_end(store *s, error *err);

/* ---------------------------------------------------------- looking at files (store_look.c) */

/* Refuses, without a trace, a file that is no store of a known version; it reads the first 100 bytes. */
xq_status store_look(const char *path, error *err);

/* Refuses a damaged file; reads all of it. */
xq_status store_check_file(store *s, error *err);

/* The version that the file has now. */
xq_status store_read_version(store *s, int *version, error *err);

/* What is wrong with a file that SQLite finds malformed. */
const char *store_damage(const store *s, int code);

/* Whether a file exists beside the store's, with this ending, that is not empty. */
bool store_has_beside(const char *path, const char *ending);

/* Makes a store that is open for writing one of this version, unless another process has done so already.
 */
xq_status store_upgrade(store *s, error *err);

/* ------------------------------------------------------------- new files (store_create.c) */

/* Makes an empty store, lets `fill` (NULL: none) add to it, and puts it at the place, where nothing is yet:
 * complete, or not at all. *exists: something has come there meanwhile, and this is no failure. */
xq_status store_create(const char *given, const place *at,
                       xq_status (*fill)(void *user, store *s, error *err), void *user, bool *exists,
                       error *err);

/* ------------------------------------------------------------- rows (store_row.c) */

/* A checked question with canonical texts of its own. */
typedef struct store_checked {
    store_question question;
    char *spec, *parameters;
} store_checked;
xq_status store_check_device(const store_device *given, error *err);
xq_status store_check_question(const store_question *given, store_checked *out, error *err);
void store_checked_free(store_checked *c);

/* A checked filter likewise. */
typedef struct store_checked_filter {
    store_filter filter;
    char *spec, *parameters;
} store_checked_filter;
xq_status store_check_filter(const store_filter *given, store_checked_filter *out, error *err);
void store_checked_filter_free(store_checked_filter *c);

/* *checked: the same, with its reason made fit to be stored. */
xq_status store_check_answer(const store_answer *given, store_answer *checked, error *err);

/* Gives a statement its parameters, those that it has. The texts must outlive the statement's use. */
xq_status store_bind_device(store *s, sqlite3_stmt *statement, const store_device *d, error *err);
xq_status store_bind_question(store *s, sqlite3_stmt *statement, const store_question *q, error *err);
xq_status store_bind_answer(store *s, sqlite3_stmt *statement, const store_answer *a, error *err);
xq_status store_bind_filter(store *s, sqlite3_stmt *statement, const store_filter *f, error *err);

/* What a statement stands at: the columns of a device; all columns of `answer`; or those from
 * COLUMN_OUTCOME on. */
xq_status store_read_device(store *s, sqlite3_stmt *statement, store_device *out, error *err);
xq_status store_read_row(store *s, sqlite3_stmt *statement, store_row *out, error *err);
xq_status store_read_answer(store *s, sqlite3_stmt *statement, int first, store_answer *out, error *err);

/* Adds within a transaction (store_rows.c). */
xq_status store_put(store *s, const store_row *row, bool *kept, error *err);

/* ------------------------------------------------------------- ceilings (store_ceilings.c) */

/* Adds those of all devices of another store, within a transaction. */
xq_status store_copy_ceilings(store *from, store *to, error *err);

#endif
