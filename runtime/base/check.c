#include "check.h"

static bool fail(const char *field, error *err)
{
    error_field(err, field);
    return false;
}

bool check_pointer_failed(const char *field, uint64_t pointer, unsigned alignment, error *err)
{
    if (!pointer)
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s must not be NULL", field);
    else
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is 0x%llx, which is not aligned to %u bytes",
                  field, (unsigned long long)pointer, alignment);
    return fail(field, err);
}

bool check_range_failed(const char *field, int64_t value, int64_t least, int64_t most, error *err)
{
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is %lld; valid: %lld to %lld", field,
              (long long)value, (long long)least, (long long)most);
    return fail(field, err);
}

bool check_limit_failed(const char *field, int64_t value, int64_t least, int64_t most, const char *limit,
                        error *err)
{
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is %lld; valid: %lld to %lld, the plan's %s", field,
              (long long)value, (long long)least, (long long)most, limit);
    return fail(field, err);
}

bool check_table(const xq_page_table *table, int32_t max_batch, error *err)
{
    if (!check_limit("table.batch", table->batch, 0, max_batch, "max_batch", err))
        return false;
    return table->batch == 0 || (check_pointer("table.indptr", table->indptr, 4, err) &&
                                 check_pointer("table.indices", table->indices, 4, err) &&
                                 check_pointer("table.last_page_len", table->last_page_len, 4, err));
}

bool check_tails(const xq_tail_pool *tails, error *err)
{
    return check_pointer("tails.pool", tails->pool, 128, err) &&
           check_pointer("tails.slots", tails->slots, 4, err);
}

bool check_unused(const char *field, bool given, const char *why, error *err)
{
    if (!given)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s would have no effect: %s; valid: 0", field, why);
    return fail(field, err);
}

bool check_workspace(uint64_t workspace, size_t bytes, size_t needed, error *err)
{
    if (!check_pointer("workspace", workspace, 256, err))
        return false;
    if (bytes >= needed)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "workspace_bytes is %zu; the plan needs %zu", bytes,
              needed);
    return fail("workspace_bytes", err);
}

bool check_not_null(const char *field, const void *pointer, error *err)
{
    if (pointer)
        return true;
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s must not be NULL", field);
    return fail(field, err);
}
