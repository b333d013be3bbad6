/* Checks of launch arguments. Each returns whether the argument is good, and fills `err` (with the field's
 * name and what would be valid) when it is not. Comparisons only: they run at every launch. */
#ifndef RUNTIME_BASE_CHECK_H
#define RUNTIME_BASE_CHECK_H

#include "error.h"

#include <stdbool.h>

/* The failing paths of the three checks below: they fill `err` and return false. */
bool check_pointer_failed(const char *field, uint64_t pointer, unsigned alignment, error *err);
bool check_range_failed(const char *field, int64_t value, int64_t least, int64_t most, error *err);
bool check_limit_failed(const char *field, int64_t value, int64_t least, int64_t most, const char *limit,
                        error *err);

/* The pointer is not null, and is a multiple of `alignment`, a power of two. */
static inline bool check_pointer(const char *field, uint64_t pointer, unsigned alignment, error *err)
{
    bool good = pointer && (pointer & (alignment - 1)) == 0;
    return good || check_pointer_failed(field, pointer, alignment, err);
}

static inline bool check_range(const char *field, int64_t value, int64_t least, int64_t most, error *err)
{
    return (value >= least && value <= most) || check_range_failed(field, value, least, most, err);
}

/* The same check for a number that is bounded by a limit of the plan; `limit` names the limit. */
static inline bool check_limit(const char *field, int64_t value, int64_t least, int64_t most,
                               const char *limit, error *err)
{
    return (value >= least && value <= most) || check_limit_failed(field, value, least, most, limit, err);
}

/* batch is in 0..max_batch, and the three arrays are given if there is a sequence. */
bool check_table(const xq_page_table *table, int32_t max_batch, error *err);
bool check_workspace(uint64_t workspace, size_t bytes, size_t needed, error *err);
/* The pool is given and 128-byte aligned, and the slots are given. */
bool check_tails(const xq_tail_pool *tails, error *err);
/* An argument that would have no effect is not given. `why`, the reason for this, ends the message. */
bool check_unused(const char *field, bool given, const char *why, error *err);
/* A host pointer or a handle is not NULL. */
bool check_not_null(const char *field, const void *pointer, error *err);

#endif
