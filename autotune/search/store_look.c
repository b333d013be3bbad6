/* Decides whether a file is a store: first by its first bytes, without creating anything, then by its whole
 * contents. */
#include "store_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The first bytes of every SQLite file (sqlite.org/fileformat.html). */
enum {
    HEADER_BYTES = 100,
    HEADER_PAGE_SIZE = 16, /* 2 bytes; 1 means 65536 */
    HEADER_PAGES = 28,
    HEADER_VERSION = 60,
    HEADER_APPLICATION = 68
};
static const char magic[16] = "SQLite format 3"; /* includes the final NUL */

typedef struct beginning {
    unsigned char bytes[HEADER_BYTES];
    int64_t file_bytes;
} beginning;

static uint32_t big_endian(const unsigned char *bytes, int count)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* ---------------------------------------------------------------- errors */

static xq_status cannot_read(const char *path, const char *why, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot read %s: %s", *path ? path : "''", why);
    return error_at(err, path, 0);
}

static xq_status no_store(const char *path, const char *why, error *err)
{
    error_set(err, XQ_ERROR_FORMAT, "file", "%s is no store of measurements: %s", path, why);
    return error_at(err, path, 0);
}

static xq_status damaged(const char *path, const char *why, error *err)
{
    error_set(err, XQ_ERROR_FORMAT, "file", "%s is damaged: %s", path, why);
    return error_at(err, path, 0);
}

/* ------------------------------------------------------- the first 100 bytes */

/* Reads through SQLite. Closing a file drops all locks that this process has on it, and only SQLite knows
 * whether another handle needs them. */
static xq_status read_beginning(const char *path, beginning *out, error *err)
{
    store s = {.path = (char *)path};
    sqlite3_file *file = NULL;
    struct stat st = {0};
    int code = store_connect(&s, path, SQLITE_OPEN_READONLY);
    memset(out, 0, sizeof *out);
    if (code == SQLITE_OK)
        code = sqlite3_file_control(s.db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (code == SQLITE_OK)
        code = file->pMethods->xRead(file, out->bytes, HEADER_BYTES, 0); /* zeros beyond the file's end */
    if (code != SQLITE_OK && code != SQLITE_IOERR_SHORT_READ)
        store_failed(&s, "read", code, err);
    sqlite3_close(s.db);
    if (err->status == XQ_OK && stat(path, &st) != 0)
        return cannot_read(path, strerror(errno), err);
    out->file_bytes = st.st_size;
    return err->status;
}

static xq_status check_beginning(const char *path, const beginning *b, error *err)
{
    char why[128];
    uint32_t application = big_endian(b->bytes + HEADER_APPLICATION, 4);
    uint32_t version = big_endian(b->bytes + HEADER_VERSION, 4);
    if (b->file_bytes == 0)
        return no_store(path, "it is empty", err);
    if (memcmp(b->bytes, magic, sizeof magic) != 0)
        return no_store(path, "it is no SQLite file", err);
    if (b->file_bytes < HEADER_BYTES)
        return damaged(path, "it is truncated", err);
    if (application != STORE_APPLICATION) {
        snprintf(why, sizeof why, "it is an SQLite file of another program (application_id %u, not %d)",
                 application, STORE_APPLICATION);
        return no_store(path, why, err);
    }
    if (version == STORE_VERSION)
        return XQ_OK;
    if (version < STORE_VERSION || version > INT32_MAX)
        return damaged(path, "its version is not valid", err);
    error_set(err, XQ_ERROR_FORMAT, "file", "%s is a store of version %u; this xq knows version %d", path,
              version, STORE_VERSION);
    return error_at(err, path, 0);
}

xq_status store_look(const char *path, error *err)
{
    struct stat st;
    beginning b;
    if (stat(path, &st) != 0)
        return cannot_read(path, strerror(errno), err);
    if (S_ISDIR(st.st_mode))
        return cannot_read(path, strerror(EISDIR), err);
    if (!S_ISREG(st.st_mode)) /* opening a FIFO would wait */
        return cannot_read(path, "it is no regular file", err);
    if (read_beginning(path, &b, err) != XQ_OK)
        return err->status;
    return check_beginning(path, &b, err);
}

bool store_has_beside(const char *path, const char *ending)
{
    char name[PATH_MAX + 16];
    struct stat st;
    char *real = realpath(path, NULL); /* the path as SQLite names it */
    if (!real)
        return false;
    snprintf(name, sizeof name, "%s%s", real, ending);
    free(real);
    return stat(name, &st) == 0 && st.st_size > 0;
}

/* ------------------------------------------------------------ the whole file */

/* Whether the file ends before the last page that it counts. That is no damage while another process moves
 * rows from PATH-wal into the file: then PATH-wal exists, and it stays while this process has the store
 * open. */
static bool is_truncated(const char *path)
{
    beginning b;
    error err = ERROR_INIT;
    if (read_beginning(path, &b, &err) != XQ_OK) {
        error_clear(&err);
        return false;
    }
    uint32_t page = big_endian(b.bytes + HEADER_PAGE_SIZE, 2);
    int64_t pages = big_endian(b.bytes + HEADER_PAGES, 4);
    return b.file_bytes < pages * (page == 1 ? 65536 : page) && !store_has_beside(path, "-wal");
}

const char *store_damage(const store *s, int code)
{
    return is_truncated(s->path) ? "it is truncated" : sqlite3_errstr(code);
}

/* Prepares a statement and takes its first step; SQLITE_DONE means that there is no row. */
static int first_row(store *s, const char *sql, sqlite3_stmt **statement)
{
    int code = sqlite3_prepare_v2(s->db, sql, -1, statement, NULL);
    return code == SQLITE_OK ? sqlite3_step(*statement) : code;
}

/* Checks the first row of a query against the text `expected`; NULL means that there must be no row.
 * `otherwise` is the message; NULL: the row's own text. */
static xq_status expect(store *s, const char *sql, const char *expected, const char *otherwise, error *err)
{
    sqlite3_stmt *statement = NULL;
    int code = first_row(s, sql, &statement);
    if (code == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        if (!text || !expected || strcmp(text, expected) != 0) {
            /* such as "*** in database main ***\nPage 3: ..." */
            const char *line = text ? strrchr(text, '\n') : NULL;
            damaged(s->path, otherwise ? otherwise : line ? line + 1 : text ? text : "no text", err);
        }
    } else if (code != SQLITE_DONE) {
        store_failed(s, "read", code, err);
    } else if (expected) {
        damaged(s->path, otherwise, err);
    }
    sqlite3_finalize(statement);
    return err->status;
}

/* Whether the file has the tables of a store; it may have others too. */
static xq_status check_schema(store *s, error *err)
{
    for (int i = 0; i < STORE_OBJECTS && err->status == XQ_OK; i++) {
        char sql[128], why[128];
        snprintf(sql, sizeof sql, "SELECT sql FROM sqlite_schema WHERE name = '%s'", store_schema[i].name);
        snprintf(why, sizeof why, "its table %s is missing, or not that of version %d",
                 store_schema[i].name, STORE_VERSION);
        expect(s, sql, store_schema[i].sql, why, err);
    }
    return err->status;
}

/* If the file has a table of ceilings, it must be that of a store. */
static xq_status check_ceilings(store *s, error *err)
{
    char *sql = sqlite3_mprintf("SELECT sql FROM sqlite_schema WHERE name = '%q' AND sql IS NOT '%q'",
                                store_ceilings_table.name, store_ceilings_table.sql);
    if (!sql)
        return store_failed(s, "read", SQLITE_NOMEM, err);
    expect(s, sql, NULL, "its table ceilings is not that of this version", err);
    sqlite3_free(sql);
    return err->status;
}

xq_status store_check_file(store *s, error *err)
{
    char application[16], version[16];
    snprintf(application, sizeof application, "%d", STORE_APPLICATION);
    snprintf(version, sizeof version, "%d", STORE_VERSION);
    if (expect(s, "PRAGMA application_id", application, "its application_id is not valid", err) != XQ_OK ||
        expect(s, "PRAGMA user_version", version, "its version is not valid", err) != XQ_OK ||
        check_schema(s, err) != XQ_OK || check_ceilings(s, err) != XQ_OK)
        return err->status;
    if (is_truncated(s->path)) /* SQLite reads the missing part of a last page as zeros */
        return damaged(s->path, "it is truncated", err);
    if (expect(s, "PRAGMA integrity_check(1)", "ok", NULL, err) != XQ_OK)
        return err->status;
    return expect(s, "PRAGMA foreign_key_check", NULL, "a row has no device, or no spec", err);
}
