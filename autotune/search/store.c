/* Opening and closing a store, and its transactions. */
#include "store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const store_outcome_names[STORE_OUTCOMES] = {"measured", "wrong",   "not compiled",
                                                         "hung",     "crashed", "refused"};

static xq_status out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
}

/* ---------------------------------------------------------------- errors */

xq_status store_failed(const store *s, const char *doing, int code, error *err)
{
    int system = s->db ? sqlite3_system_errno(s->db) : 0;
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return out_of_memory(err);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        error_set(err, XQ_ERROR_FORMAT, "file", "%s is damaged: %s", s->path, store_damage(s, code));
        break;
    case SQLITE_BUSY:
        error_set(err, XQ_ERROR_IO, "file",
                  "cannot %s %s: another process has kept it locked for more than %d seconds", doing,
                  s->path, STORE_PATIENCE);
        break;
    case SQLITE_CONSTRAINT:
    case SQLITE_ERROR:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        return error_set(err, XQ_ERROR_INTERNAL, "file", "cannot %s %s: %s", doing, s->path,
                         s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code));
    default:
        error_set(err, XQ_ERROR_IO, "file", "cannot %s %s: %s%s%s", doing, s->path, sqlite3_errstr(code),
                  system ? ": " : "", system ? strerror(system) : "");
    }
    return error_at(err, s->path, 0);
}

/* ------------------------------------------------------------- statements */

xq_status store_execute(store *s, const char *sql, error *err)
{
    int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? XQ_OK : store_failed(s, s->writable ? "write" : "read", code, err);
}

sqlite3_stmt *store_prepare(store *s, enum store_statement which, error *err)
{
    if (!s->statements[which]) {
        int code = sqlite3_prepare_v3(s->db, store_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                                      &s->statements[which], NULL);
        if (code != SQLITE_OK)
            store_failed(s, "read", code, err);
    }
    return s->statements[which];
}

void store_release(sqlite3_stmt *statement)
{
    if (!statement) /* sqlite3_clear_bindings does not accept NULL */
        return;
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

static xq_status step(store *s, enum store_statement which, error *err)
{
    sqlite3_stmt *statement = store_prepare(s, which, err);
    if (!statement)
        return err->status;
    int code = sqlite3_step(statement);
    if (code != SQLITE_DONE)
        store_failed(s, "write", code, err);
    store_release(statement);
    return err->status;
}

xq_status store_begin(store *s, error *err)
{
    return step(s, STORE_BEGIN, err);
}

xq_status store_end(store *s, error *err)
{
    if (err->status == XQ_OK)
        step(s, STORE_COMMIT, err);
    if (!sqlite3_get_autocommit(s->db)) /* after some failures SQLite has already ended the transaction */
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return err->status;
}

/* ---------------------------------------------------------------- opening */

/* SQLite remembers which locks its process holds. A forked process inherits this memory but not the locks:
 * it could open a store without any lock, and lose rows. */
static atomic_int handles; /* number of open handles */
static _Atomic pid_t holder;

static bool is_forked_from_holder(void)
{
    return atomic_load(&handles) > 0 && atomic_load(&holder) != getpid();
}

store *store_allocate(const char *path, error *err)
{
    if (is_forked_from_holder()) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "%s cannot be opened: a store was open when this process was forked", path);
        error_field(err, "path");
        return NULL;
    }
    store *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        out_of_memory(err);
        return NULL;
    }
    s->owner = getpid();
    atomic_store(&holder, s->owner);
    atomic_fetch_add(&handles, 1);
    return s;
}

/* With `keep`, closing the last connection does not change the main file: the rows that wait in PATH-wal
 * stay there. */
static void keep_wal(store *s, bool keep)
{
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)keep, (int *)NULL);
}

void store_close(store *s)
{
    if (!s)
        return;
    if (s->owner == getpid()) {
        for (int i = 0; i < STORE_STATEMENTS; i++)
            sqlite3_finalize(s->statements[i]);
        if (s->reads && store_has_beside(s->path, "-wal"))
            keep_wal(s, true); /* a writer may have been killed meanwhile */
        sqlite3_close(s->db);
        atomic_fetch_sub(&handles, 1);
    }
    free(s->path);
    free(s);
}

xq_status store_enter(const store *s, bool to_write, error *err)
{
    const char *why = s->owner != getpid()       ? "it was opened before this process was forked"
                      : s->visiting              ? "a listing of it is on its way"
                      : to_write && !s->writable ? "it was opened with STORE_READ"
                                                 : NULL;
    if (!why)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s cannot be used: %s", s->path, why);
    return error_field(err, "store");
}

int store_connect(store *s, const char *path, int flags)
{
    char *real = realpath(path, NULL);
    int code = real              ? sqlite3_open_v2(real, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL)
               : errno == ENOMEM ? SQLITE_NOMEM
                                 : SQLITE_CANTOPEN;
    free(real);
    return code;
}

/* Returns "file:PATH?immutable=1", a URI; NULL when memory ran out. */
static char *immutable_uri(const char *path)
{
    static const char begin[] = "file:", end[] = "?immutable=1";
    char *real = realpath(path, NULL),
         *uri = real ? malloc(sizeof begin + 3 * strlen(real) + sizeof end) : NULL;
    char *to = uri ? stpcpy(uri, begin) : NULL;
    for (const char *from = real; to && *from; from++)
        if (strchr("%?#", *from))
            to += sprintf(to, "%%%02X", (unsigned char)*from);
        else
            *to++ = *from;
    if (to)
        strcpy(to, end);
    free(real);
    return uri;
}

/* In a folder that cannot be written, a connection could not make the files that it shares with other
 * processes. It does not need them, unless rows in PATH-wal wait to be moved into the main file. */
static int connect_immutable(store *s)
{
    if (store_has_beside(s->path, "-wal"))
        return store_connect(s, s->path, SQLITE_OPEN_READONLY);
    char *uri = immutable_uri(s->path);
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
    int code = uri ? sqlite3_open_v2(uri, &s->db, flags, NULL) : SQLITE_NOMEM;
    free(uri);
    return code;
}

static bool can_write(const char *path)
{
    char folder[PATH_MAX];
    char *real = realpath(path, NULL);
    if (real)
        place_folder(real, folder);
    bool can = real && faccessat(AT_FDCWD, real, W_OK, AT_EACCESS) == 0 &&
               faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS) == 0;
    free(real);
    return can;
}

/* synchronous=FULL: a row is on disk when store_add returns. A measurement costs far more than the fsync,
 * and the only way to free a GPU that hangs may be to switch the machine off. */
static const char settings[] = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
                               "PRAGMA temp_store = MEMORY; PRAGMA synchronous = FULL;"
                               "PRAGMA foreign_keys = ON";

static xq_status connect(store *s, store_access access, error *err)
{
    bool waits = store_has_beside(s->path, "-wal");
    int code = access == STORE_READ && !can_write(s->path)
                   ? connect_immutable(s)
                   : store_connect(s, s->path, SQLITE_OPEN_READWRITE);
    if (code != SQLITE_OK)
        return store_failed(s, access == STORE_READ ? "read" : "write", code, err);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, 1000 * STORE_PATIENCE);
    keep_wal(s, waits);
    if (store_execute(s, settings, err) != XQ_OK || store_check_file(s, err) != XQ_OK)
        return err->status;
    s->writable = access != STORE_READ;
    s->reads = !s->writable;
    if (s->reads)
        return store_execute(s, "PRAGMA query_only = ON", err);
    keep_wal(s, false);
    return store_execute(s, "PRAGMA journal_mode = WAL", err);
}

static xq_status open_existing(const char *path, store_access access, store **out, error *err)
{
    store *s = store_allocate(path, err);
    if (s && store_look(path, err) == XQ_OK && connect(s, access, err) == XQ_OK) {
        *out = s;
        return XQ_OK;
    }
    store_close(s);
    return err->status;
}

/* Checks the folder as well, because SQLite makes files beside the store. */
static xq_status check_writable(const char *path, const place *at, error *err)
{
    if (at->kind == PLACE_STREAM || at->kind == PLACE_OPEN_FILE)
        return place_failed(path, "it is no regular file, which a store must be", err);
    char folder[PATH_MAX];
    place_folder(at->path, folder);
    if (faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS) == 0)
        return XQ_OK;
    char why[256];
    snprintf(why, sizeof why, "its folder cannot be written: %s", strerror(errno));
    return place_failed(path, why, err);
}

xq_status store_open(const char *path, store_access access, store **out, error *err)
{
    place at = {0};
    if (access == STORE_READ)
        return open_existing(path, access, out, err);
    if (place_find(path, &at, err) != XQ_OK || check_writable(path, &at, err) != XQ_OK)
        return err->status;
    if (at.kind == PLACE_NEW) {
        bool exists;
        if (access != STORE_CREATE)
            return place_failed(path, strerror(ENOENT), err);
        if (store_create(path, &at, NULL, NULL, &exists, err) != XQ_OK)
            return err->status;
    }
    return open_existing(path, access, out, err);
}
