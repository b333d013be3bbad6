/* The ceilings of devices, in a table that a store may lack. */
#include "../../runtime/base/check.h"
#include "../../runtime/base/printable.h"
#include "store_private.h"

#include <string.h>

/* Parameters and columns that follow those of the device. */
enum { COLUMN_COPY = COLUMN_XQ + 1, COLUMN_F16, COLUMN_ORIGIN, COLUMN_CEILINGS_TAKEN };

static const double highest = 1e300;

static xq_status has_table(store *s, bool *has, error *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(s->db, "SELECT 1 FROM sqlite_schema WHERE name = 'ceilings'", -1,
                                  &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    *has = code == SQLITE_ROW;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        store_failed(s, "read", code, err);
    sqlite3_finalize(statement);
    return err->status;
}

static bool check_rate(const char *field, double rate, error *err)
{
    if (rate > 0 && rate < highest)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is %g; valid: above 0", field, rate);
    error_field(err, field);
    return false;
}

static bool check_ceilings(const store_ceilings *c, error *err)
{
    char safe[4 * STORE_TEXT + 1];
    if (!check_not_null("ceilings", c, err) ||
        !check_rate("copy_bytes_per_second", c->copy_bytes_per_second, err) ||
        !check_rate("f16_flops_per_second", c->f16_flops_per_second, err) ||
        !check_range("taken", c->taken, 1, STORE_LATEST, err))
        return false;
    if (*c->origin && memchr(c->origin, 0, sizeof c->origin) &&
        (printable(safe, sizeof safe, c->origin), strcmp(safe, c->origin) == 0))
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "origin must be printable, and not empty");
    error_field(err, "origin");
    return false;
}

/* ------------------------------------------------------------------ adding */

static xq_status run(store *s, sqlite3_stmt *statement, error *err)
{
    int code = sqlite3_step(statement);
    if (code != SQLITE_DONE)
        store_failed(s, "write", code, err);
    return err->status;
}

static xq_status put_device(store *s, const store_device *device, error *err)
{
    sqlite3_stmt *statement = store_prepare(s, STORE_ADD_DEVICE, err);
    if (statement && store_bind_device(s, statement, device, err) == XQ_OK)
        run(s, statement, err);
    store_release(statement);
    return err->status;
}

/* Adds ceilings within a transaction. */
static xq_status put(store *s, const store_device *device, const store_ceilings *c, error *err)
{
    bool has = false;
    if (put_device(s, device, err) != XQ_OK || has_table(s, &has, err) != XQ_OK ||
        (!has && store_execute(s, store_ceilings_table.sql, err) != XQ_OK))
        return err->status;
    sqlite3_stmt *statement = store_prepare(s, STORE_ADD_CEILINGS, err);
    if (statement && store_bind_device(s, statement, device, err) == XQ_OK) {
        sqlite3_bind_double(statement, COLUMN_COPY, c->copy_bytes_per_second);
        sqlite3_bind_double(statement, COLUMN_F16, c->f16_flops_per_second);
        sqlite3_bind_text(statement, COLUMN_ORIGIN, c->origin, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, COLUMN_CEILINGS_TAKEN, c->taken);
        run(s, statement, err);
    }
    store_release(statement);
    return err->status;
}

xq_status store_add_ceilings(store *s, const store_device *device, const store_ceilings *ceilings,
                             error *err)
{
    if (!check_not_null("device", device, err) || store_check_device(device, err) != XQ_OK ||
        !check_ceilings(ceilings, err) || store_enter(s, true, err) != XQ_OK ||
        store_begin(s, err) != XQ_OK)
        return err->status;
    put(s, device, ceilings, err);
    return store_end(s, err);
}

/* ----------------------------------------------------------------- reading */

static void read_ceilings(sqlite3_stmt *statement, store_ceilings *out)
{
    const char *origin = (const char *)sqlite3_column_text(statement, COLUMN_ORIGIN - 1);
    *out = (store_ceilings){
        .copy_bytes_per_second = sqlite3_column_double(statement, COLUMN_COPY - 1),
        .f16_flops_per_second = sqlite3_column_double(statement, COLUMN_F16 - 1),
        .taken = sqlite3_column_int64(statement, COLUMN_CEILINGS_TAKEN - 1),
    };
    printable(out->origin, sizeof out->origin, origin ? origin : "");
}

xq_status store_find_ceilings(store *s, const store_device *device, store_ceilings *out, bool *found,
                              error *err)
{
    bool has = false;
    *found = false;
    if (!check_not_null("device", device, err) || store_enter(s, false, err) != XQ_OK ||
        has_table(s, &has, err) != XQ_OK || !has)
        return err->status;
    sqlite3_stmt *statement = store_prepare(s, STORE_FIND_CEILINGS, err);
    if (statement && store_bind_device(s, statement, device, err) == XQ_OK) {
        int code = sqlite3_step(statement);
        if (code == SQLITE_ROW)
            read_ceilings(statement, out);
        else if (code != SQLITE_DONE)
            store_failed(s, "read", code, err);
        *found = code == SQLITE_ROW;
    }
    store_release(statement);
    return err->status;
}

xq_status store_copy_ceilings(store *from, store *to, error *err)
{
    bool has = false;
    if (store_enter(from, false, err) != XQ_OK || has_table(from, &has, err) != XQ_OK || !has)
        return err->status;
    sqlite3_stmt *statement = store_prepare(from, STORE_LIST_CEILINGS, err);
    int code = SQLITE_ROW;
    while (statement && err->status == XQ_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        store_device device;
        store_ceilings c;
        read_ceilings(statement, &c);
        if (store_read_device(from, statement, &device, err) == XQ_OK)
            put(to, &device, &c, err);
    }
    if (err->status == XQ_OK && code != SQLITE_DONE)
        store_failed(from, "read", code, err);
    store_release(statement);
    return err->status;
}
