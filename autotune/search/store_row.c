/* Rows: checks them, binds them to statements, and reads them from statements. */
#include "../../runtime/base/check.h"
#include "../../runtime/base/printable.h"
#include "../verify/verify.h"
#include "canonical.h"
#include "store_private.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double longest = 1e300;

/* ------------------------------------------------------------------ checks */

static bool fail(const char *field, error *err)
{
    error_field(err, field);
    return false;
}

static bool check_text(const char *field, const char *text, error *err)
{
    char safe[4 * STORE_TEXT + 1];
    if (!check_not_null(field, text, err))
        return false;
    if (!*text)
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s must not be empty", field);
    else if (strlen(text) > STORE_TEXT)
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s has %zu bytes; valid: 1 to %d", field,
                  strlen(text), STORE_TEXT);
    else if (printable(safe, sizeof safe, text), strcmp(safe, text) != 0)
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is not printable: %s", field, text);
    return err->status == XQ_OK || fail(field, err);
}

static bool check_device(const store_device *d, error *err)
{
    return check_text("device.name", d->name, err) && check_text("device.arch", d->arch, err) &&
           check_range("device.capability", d->capability, 1, 9999, err) &&
           check_range("device.multiprocessors", d->multiprocessors, 1, INT_MAX, err) &&
           check_range("device.memory_bytes", d->memory_bytes, 1, INT64_MAX, err) &&
           check_range("device.driver", d->driver, 0, INT_MAX, err) &&
           check_range("device.nvrtc", d->nvrtc, 1, INT_MAX, err) && check_text("device.xq", d->xq, err);
}

xq_status store_check_device(const store_device *given, error *err)
{
    check_device(given, err);
    return err->status;
}

static bool check_bucket(const store_bucket *b, error *err)
{
    return check_range("bucket.tokens", b->tokens, 1, INT64_MAX, err) &&
           check_range("bucket.batch", b->batch, 1, INT_MAX, err) &&
           check_range("bucket.queries", b->queries, 1, INT_MAX, err);
}

static bool check_implementation(xq_implementation implementation, error *err)
{
    return check_range("implementation", (int64_t)implementation, 0, VERIFY_IMPLEMENTATIONS - 1, err);
}

static bool check_outcome(store_outcome outcome, error *err)
{
    return check_range("outcome", (int64_t)outcome, 0, STORE_OUTCOMES - 1, err);
}

/* Refuses a spec with its tuning: it would make every choice of parameters a question about another
 * spec. */
static bool check_spec(const char *given, char **canonical, error *err)
{
    if (!check_not_null("spec", given, err) || canonical_object(given, "spec", canonical, err) != XQ_OK)
        return false;
    cJSON *spec = cJSON_Parse(*canonical);
    if (!spec)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    else if (cJSON_GetObjectItemCaseSensitive(spec, "tuning"))
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "spec has a member tuning; valid: the other choices, with the parameters apart");
    cJSON_Delete(spec);
    return err->status == XQ_OK || fail("spec", err);
}

static bool check_parameters(const char *given, char **canonical, error *err)
{
    return check_not_null("parameters", given, err) &&
           canonical_object(given, "parameters", canonical, err) == XQ_OK;
}

xq_status store_check_question(const store_question *given, store_checked *out, error *err)
{
    *out = (store_checked){.question = *given};
    if (!check_device(&given->device, err) || !check_spec(given->spec, &out->spec, err) ||
        !check_implementation(given->implementation, err) || !check_text("family", given->family, err) ||
        !check_bucket(&given->bucket, err) || !check_text("source", given->source, err) ||
        !check_parameters(given->parameters, &out->parameters, err)) {
        store_checked_free(out);
        return err->status;
    }
    out->question.spec = out->spec;
    out->question.parameters = out->parameters;
    return XQ_OK;
}

void store_checked_free(store_checked *c)
{
    free(c->spec);
    free(c->parameters);
    *c = (store_checked){0};
}

xq_status store_check_filter(const store_filter *given, store_checked_filter *out, error *err)
{
    *out = (store_checked_filter){0};
    if (!given)
        return XQ_OK;
    out->filter = *given;
    if ((given->device && !check_device(given->device, err)) ||
        (given->spec && !check_spec(given->spec, &out->spec, err)) ||
        (given->family && !check_text("family", given->family, err)) ||
        (given->source && !check_text("source", given->source, err)) ||
        (given->parameters && !check_parameters(given->parameters, &out->parameters, err)) ||
        (given->implementation && !check_implementation(*given->implementation, err)) ||
        (given->bucket && !check_bucket(given->bucket, err)) ||
        (given->outcome && !check_outcome(*given->outcome, err))) {
        store_checked_filter_free(out);
        return err->status;
    }
    out->filter.spec = out->spec;
    out->filter.parameters = out->parameters;
    return XQ_OK;
}

void store_checked_filter_free(store_checked_filter *c)
{
    free(c->spec);
    free(c->parameters);
    *c = (store_checked_filter){0};
}

/* The conditions are written so that a NaN is refused. */
static bool check_seconds(const char *field, double value, bool zero, error *err)
{
    if ((value > 0 || (zero && value == 0)) && value < longest)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is %g; valid: %s, and finite", field, value,
              zero ? "0 or more" : "more than 0");
    return fail(field, err);
}

static bool check_times(const store_answer *a, error *err)
{
    if (!check_seconds("seconds", a->seconds, false, err) ||
        !check_seconds("spread", a->spread, true, err) ||
        !check_range("repeats", a->repeats, 1, INT_MAX, err))
        return false;
    if (!*a->reason)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "reason would have no effect: the outcome is measured");
    return fail("reason", err);
}

static bool check_no_times(const store_answer *a, error *err)
{
    const char *field = a->seconds != 0  ? "seconds"
                        : a->spread != 0 ? "spread"
                        : a->repeats     ? "repeats"
                                         : NULL;
    if (field) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "%s would have no effect: the outcome is %s; valid: 0", field,
                  store_outcome_names[a->outcome]);
        return fail(field, err);
    }
    if (*a->reason)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "reason must not be empty: the outcome is %s",
              store_outcome_names[a->outcome]);
    return fail("reason", err);
}

xq_status store_check_answer(const store_answer *given, store_answer *checked, error *err)
{
    if (!memchr(given->reason, 0, sizeof given->reason)) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "reason has no end; valid: up to %zu bytes",
                  sizeof given->reason - 1);
        return error_field(err, "reason");
    }
    if (!check_outcome(given->outcome, err) || !check_range("taken", given->taken, 1, STORE_LATEST, err) ||
        !(given->outcome == STORE_MEASURED ? check_times(given, err) : check_no_times(given, err)))
        return err->status;
    *checked = *given;
    printable(checked->reason, sizeof checked->reason, given->reason);
    return XQ_OK;
}

/* ----------------------------------------------------------------- binding */

/* Binds values to a statement. A statement's parameters are the first columns, as many as it has; values of
 * other columns are skipped. `code` keeps the first failure. */
typedef struct binder {
    sqlite3_stmt *statement;
    int code;
} binder;

static bool takes(const binder *b, enum store_column column)
{
    return b->code == SQLITE_OK && (int)column <= sqlite3_bind_parameter_count(b->statement);
}

static void bind_integer(binder *b, enum store_column column, int64_t value)
{
    if (takes(b, column))
        b->code = sqlite3_bind_int64(b->statement, (int)column, value);
}

static void bind_double(binder *b, enum store_column column, double value)
{
    if (takes(b, column))
        b->code = sqlite3_bind_double(b->statement, (int)column, value);
}

/* A NULL text binds NULL. */
static void bind_text(binder *b, enum store_column column, const char *text)
{
    if (takes(b, column))
        b->code = sqlite3_bind_text(b->statement, (int)column, text, -1, SQLITE_STATIC);
}

static void bind_device(binder *b, const store_device *d)
{
    bind_text(b, COLUMN_DEVICE, d->name);
    bind_text(b, COLUMN_ARCH, d->arch);
    bind_integer(b, COLUMN_CAPABILITY, d->capability);
    bind_integer(b, COLUMN_MULTIPROCESSORS, d->multiprocessors);
    bind_integer(b, COLUMN_MEMORY, d->memory_bytes);
    bind_integer(b, COLUMN_IS_SIM, d->is_sim);
    bind_integer(b, COLUMN_DRIVER, d->driver);
    bind_integer(b, COLUMN_NVRTC, d->nvrtc);
    bind_text(b, COLUMN_XQ, d->xq);
}

static void bind_bucket(binder *b, const store_bucket *bucket)
{
    bind_integer(b, COLUMN_TOKENS, bucket->tokens);
    bind_integer(b, COLUMN_BATCH, bucket->batch);
    bind_integer(b, COLUMN_QUERIES, bucket->queries);
}

static void bind_mode(binder *b, const store_mode *mode)
{
    bind_integer(b, COLUMN_COLD_L2, mode->cold_l2);
    bind_integer(b, COLUMN_IN_GRAPH, mode->in_graph);
}

static xq_status bound(store *s, const binder *b, error *err)
{
    return b->code == SQLITE_OK ? XQ_OK : store_failed(s, "read", b->code, err);
}

xq_status store_bind_device(store *s, sqlite3_stmt *statement, const store_device *d, error *err)
{
    binder b = {statement, SQLITE_OK};
    bind_device(&b, d);
    return bound(s, &b, err);
}

xq_status store_bind_question(store *s, sqlite3_stmt *statement, const store_question *q, error *err)
{
    binder b = {statement, SQLITE_OK};
    bind_device(&b, &q->device);
    bind_text(&b, COLUMN_SPEC, q->spec);
    bind_text(&b, COLUMN_IMPLEMENTATION, verify_implementation_names[q->implementation]);
    bind_text(&b, COLUMN_FAMILY, q->family);
    bind_bucket(&b, &q->bucket);
    bind_text(&b, COLUMN_SOURCE, q->source);
    bind_mode(&b, &q->mode);
    bind_text(&b, COLUMN_PARAMETERS, q->parameters);
    return bound(s, &b, err);
}

/* Values that an outcome does not have stay NULL. */
xq_status store_bind_answer(store *s, sqlite3_stmt *statement, const store_answer *a, error *err)
{
    binder b = {statement, SQLITE_OK};
    bind_text(&b, COLUMN_OUTCOME, store_outcome_names[a->outcome]);
    bind_integer(&b, COLUMN_TAKEN, a->taken);
    if (a->outcome == STORE_MEASURED) {
        bind_double(&b, COLUMN_SECONDS, a->seconds);
        bind_double(&b, COLUMN_SPREAD, a->spread);
        bind_integer(&b, COLUMN_REPEATS, a->repeats);
    } else {
        bind_text(&b, COLUMN_REASON, a->reason);
    }
    return bound(s, &b, err);
}

xq_status store_bind_filter(store *s, sqlite3_stmt *statement, const store_filter *f, error *err)
{
    binder b = {statement, SQLITE_OK};
    if (f->device)
        bind_device(&b, f->device);
    bind_text(&b, COLUMN_SPEC, f->spec);
    if (f->implementation)
        bind_text(&b, COLUMN_IMPLEMENTATION, verify_implementation_names[*f->implementation]);
    bind_text(&b, COLUMN_FAMILY, f->family);
    if (f->bucket)
        bind_bucket(&b, f->bucket);
    bind_text(&b, COLUMN_SOURCE, f->source);
    if (f->mode)
        bind_mode(&b, f->mode);
    bind_text(&b, COLUMN_PARAMETERS, f->parameters);
    if (f->outcome)
        bind_text(&b, COLUMN_OUTCOME, store_outcome_names[*f->outcome]);
    return bound(s, &b, err);
}

/* ----------------------------------------------------------------- reading */

static const char *text_at(sqlite3_stmt *statement, enum store_column column)
{
    return (const char *)sqlite3_column_text(statement, (int)column - 1);
}

static int64_t integer_at(sqlite3_stmt *statement, enum store_column column)
{
    return sqlite3_column_int64(statement, (int)column - 1);
}

static int named(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (name && strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

/* Reports a row that the schema does not allow, or that memory ran out while a text was read. */
static xq_status unreadable(store *s, error *err)
{
    bool memory = sqlite3_errcode(s->db) == SQLITE_NOMEM;
    return store_failed(s, "read", memory ? SQLITE_NOMEM : SQLITE_CORRUPT, err);
}

xq_status store_read_answer(store *s, sqlite3_stmt *statement, int first, store_answer *out, error *err)
{
    int at = first - 1; /* columns of statements count from 0 */
    const char *reason = (const char *)sqlite3_column_text(statement, at + COLUMN_REASON - COLUMN_OUTCOME);
    int outcome =
        named((const char *)sqlite3_column_text(statement, at), store_outcome_names, STORE_OUTCOMES);
    if (outcome < 0 || (outcome != STORE_MEASURED && !reason))
        return unreadable(s, err);
    *out = (store_answer){
        .outcome = (store_outcome)outcome,
        .seconds = sqlite3_column_double(statement, at + COLUMN_SECONDS - COLUMN_OUTCOME),
        .spread = sqlite3_column_double(statement, at + COLUMN_SPREAD - COLUMN_OUTCOME),
        .repeats = sqlite3_column_int(statement, at + COLUMN_REPEATS - COLUMN_OUTCOME),
        .taken = sqlite3_column_int64(statement, at + COLUMN_TAKEN - COLUMN_OUTCOME),
    };
    printable(out->reason, sizeof out->reason, reason ? reason : "");
    return XQ_OK;
}

xq_status store_read_device(store *s, sqlite3_stmt *statement, store_device *d, error *err)
{
    *d = (store_device){
        .name = text_at(statement, COLUMN_DEVICE),
        .arch = text_at(statement, COLUMN_ARCH),
        .capability = (int)integer_at(statement, COLUMN_CAPABILITY),
        .multiprocessors = (int)integer_at(statement, COLUMN_MULTIPROCESSORS),
        .memory_bytes = integer_at(statement, COLUMN_MEMORY),
        .is_sim = integer_at(statement, COLUMN_IS_SIM) != 0,
        .driver = (int)integer_at(statement, COLUMN_DRIVER),
        .nvrtc = (int)integer_at(statement, COLUMN_NVRTC),
        .xq = text_at(statement, COLUMN_XQ),
    };
    return d->name && d->arch && d->xq ? XQ_OK : unreadable(s, err);
}

xq_status store_read_row(store *s, sqlite3_stmt *statement, store_row *out, error *err)
{
    store_question *q = &out->question;
    int implementation = named(text_at(statement, COLUMN_IMPLEMENTATION), verify_implementation_names,
                               VERIFY_IMPLEMENTATIONS);
    *out = (store_row){0};
    if (store_read_device(s, statement, &q->device, err) != XQ_OK)
        return err->status;
    q->spec = text_at(statement, COLUMN_SPEC);
    q->implementation = (xq_implementation)implementation;
    q->family = text_at(statement, COLUMN_FAMILY);
    q->bucket =
        (store_bucket){integer_at(statement, COLUMN_TOKENS), (int)integer_at(statement, COLUMN_BATCH),
                       (int)integer_at(statement, COLUMN_QUERIES)};
    q->source = text_at(statement, COLUMN_SOURCE);
    q->mode = (store_mode){integer_at(statement, COLUMN_COLD_L2) != 0,
                           integer_at(statement, COLUMN_IN_GRAPH) != 0};
    q->parameters = text_at(statement, COLUMN_PARAMETERS);
    if (implementation < 0 || !q->spec || !q->family || !q->source || !q->parameters)
        return unreadable(s, err);
    return store_read_answer(s, statement, COLUMN_OUTCOME, &out->answer, err);
}
