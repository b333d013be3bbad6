/* Merges several stores into one. */
#include "../../runtime/base/check.h"
#include "store_private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

typedef struct merge {
    const char *const *inputs;
    int count;
    store *output;
    store_merged done;
} merge;

/* ------------------------------------------------------------- arguments */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static xq_status refuse(const char *field, const char *a, const char *what, error *err)
{
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s %s", a, what);
    return error_field(err, field);
}

static xq_status check_paths(const merge *m, const char *output, error *err)
{
    if (!check_range("count", m->count, 1, INT_MAX, err))
        return err->status;
    for (int i = 0; i < m->count; i++) {
        if (same_file(m->inputs[i], output))
            return refuse("output", output, "is an input too", err);
        for (int j = 0; j < i; j++)
            if (same_file(m->inputs[i], m->inputs[j]))
                return refuse("inputs", m->inputs[i], "is given twice", err);
    }
    return XQ_OK;
}

/* --------------------------------------------------------------- copying */

static xq_status copy_row(void *user, const store_row *row, error *err)
{
    merge *m = user;
    bool kept = false;
    if (store_put(m->output, row, &kept, err) != XQ_OK)
        return err->status;
    m->done.read++;
    m->done.kept += kept;
    return XQ_OK;
}

/* Copies all inputs. `user` is the merge; a transaction of the output is under way. */
static xq_status copy_all(void *user, store *output, error *err)
{
    merge *m = user;
    m->output = output;
    for (int i = 0; i < m->count && err->status == XQ_OK; i++) {
        store *input = NULL;
        if (store_open(m->inputs[i], STORE_READ, &input, err) == XQ_OK &&
            store_list(input, NULL, copy_row, m, err) == XQ_OK)
            store_copy_ceilings(input, output, err);
        store_close(input);
    }
    return err->status;
}

static xq_status into_new(merge *m, const char *output, const place *at, error *err)
{
    bool exists = false;
    if (store_create(output, at, copy_all, m, &exists, err) == XQ_OK && exists)
        place_failed(output, "another process has created it meanwhile", err);
    return err->status;
}

static xq_status into_existing(merge *m, const char *output, error *err)
{
    store *s = NULL;
    if (store_open(output, STORE_WRITE, &s, err) == XQ_OK && store_begin(s, err) == XQ_OK) {
        copy_all(m, s, err);
        store_end(s, err);
    }
    store_close(s);
    return err->status;
}

xq_status store_merge(const char *const *inputs, int count, const char *output, store_merged *out,
                      error *err)
{
    merge m = {.inputs = inputs, .count = count};
    place at = {0};
    if (check_paths(&m, output, err) != XQ_OK || place_find(output, &at, err) != XQ_OK)
        return err->status;
    if (at.kind == PLACE_NEW)
        into_new(&m, output, &at, err);
    else
        into_existing(&m, output, err);
    if (err->status == XQ_OK && out)
        *out = m.done;
    return err->status;
}
