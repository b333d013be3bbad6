/* Adds, finds and lists rows. */
#include "../../runtime/base/check.h"
#include "store_private.h"

/* ------------------------------------------------------------------ adding */

static xq_status put_part(store *s, enum store_statement which, const store_question *q,
                          const store_answer *a, error *err)
{
    sqlite3_stmt *statement = store_prepare(s, which, err);
    if (!statement)
        return err->status;
    if (store_bind_question(s, statement, q, err) == XQ_OK &&
        store_bind_answer(s, statement, a, err) == XQ_OK) {
        int code = sqlite3_step(statement);
        if (code != SQLITE_DONE)
            store_failed(s, "write", code, err);
    }
    store_release(statement);
    return err->status;
}

xq_status store_put(store *s, const store_row *row, bool *kept, error *err)
{
    store_checked c;
    store_answer a;
    if (store_check_question(&row->question, &c, err) != XQ_OK)
        return err->status;
    if (store_check_answer(&row->answer, &a, err) == XQ_OK &&
        put_part(s, STORE_ADD_DEVICE, &c.question, &a, err) == XQ_OK &&
        put_part(s, STORE_ADD_SPEC, &c.question, &a, err) == XQ_OK &&
        put_part(s, STORE_ADD, &c.question, &a, err) == XQ_OK)
        *kept = sqlite3_changes(s->db) > 0;
    store_checked_free(&c);
    return err->status;
}

xq_status store_add(store *s, const store_row *row, bool *kept, error *err)
{
    bool now = false;
    if (!check_not_null("row", row, err) || store_enter(s, true, err) != XQ_OK ||
        store_begin(s, err) != XQ_OK)
        return err->status;
    store_put(s, row, &now, err);
    if (store_end(s, err) == XQ_OK && kept)
        *kept = now;
    return err->status;
}

/* ----------------------------------------------------------------- finding */

xq_status store_find(store *s, const store_question *question, store_answer *out, bool *found, error *err)
{
    store_checked c;
    if (!check_not_null("question", question, err) || store_enter(s, false, err) != XQ_OK ||
        store_check_question(question, &c, err) != XQ_OK)
        return err->status;
    sqlite3_stmt *statement = store_prepare(s, STORE_FIND, err);
    if (statement && store_bind_question(s, statement, &c.question, err) == XQ_OK) {
        int code = sqlite3_step(statement);
        if (code != SQLITE_ROW && code != SQLITE_DONE)
            store_failed(s, "read", code, err);
        else if (code == SQLITE_DONE || store_read_answer(s, statement, 1, out, err) == XQ_OK)
            *found = code == SQLITE_ROW;
    }
    store_release(statement);
    store_checked_free(&c);
    return err->status;
}

/* ----------------------------------------------------------------- listing */

static xq_status visit_rows(store *s, sqlite3_stmt *statement, store_visit *visit, void *user, error *err)
{
    int code = SQLITE_ROW;
    store_row row;
    s->visiting = true;
    while (err->status == XQ_OK && (code = sqlite3_step(statement)) == SQLITE_ROW)
        if (store_read_row(s, statement, &row, err) == XQ_OK)
            visit(user, &row, err);
    s->visiting = false;
    if (err->status == XQ_OK && code != SQLITE_DONE)
        store_failed(s, "read", code, err);
    return err->status;
}

static xq_status list(store *s, enum store_statement which, const store_filter *filter, store_visit *visit,
                      void *user, error *err)
{
    store_checked_filter c;
    if (store_enter(s, false, err) != XQ_OK || store_check_filter(filter, &c, err) != XQ_OK)
        return err->status;
    sqlite3_stmt *statement = store_prepare(s, which, err);
    if (statement && store_bind_filter(s, statement, &c.filter, err) == XQ_OK)
        visit_rows(s, statement, visit, user, err);
    store_release(statement);
    store_checked_filter_free(&c);
    return err->status;
}

xq_status store_list(store *s, const store_filter *filter, store_visit *visit, void *user, error *err)
{
    return list(s, STORE_LIST, filter, visit, user, err);
}

xq_status store_best(store *s, const store_filter *filter, store_visit *visit, void *user, error *err)
{
    if (filter && filter->outcome && *filter->outcome != STORE_MEASURED) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "outcome: only measured rows have a best one; valid: measured");
        return error_field(err, "outcome");
    }
    return list(s, STORE_BEST, filter, visit, user, err);
}
