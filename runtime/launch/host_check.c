#include "host_check.h"
#include "call_check.h"
#include "fault_text.h"

#include <stdlib.h>
#include <string.h>

/* An array, the first phase that looks at it, and its number of elements. The arrays of earlier phases are
 * known to be good by then. */
struct array {
    enum xq_check_phase phase;
    size_t place; /* offset of the pointer in xq_check_params */
    const char *name;
    int64_t (*count)(const struct xq_check_params *);
};

static int64_t sequences(const struct xq_check_params *p)
{
    return p->batch;
}

static int64_t bounds(const struct xq_check_params *p)
{
    return p->batch + 1ll;
}

static int64_t entries(const struct xq_check_params *p)
{
    return xq_int_at(p->table.indptr, p->batch);
}

static int64_t query_rows(const struct xq_check_params *p)
{
    return p->queries.query_indptr ? xq_int_at(p->queries.query_indptr, p->batch) : p->batch;
}

static int64_t counters(const struct xq_check_params *p)
{
    return (int64_t)p->sequence_counters * p->counter_sequences;
}

static int64_t tokens(const struct xq_check_params *p)
{
    return p->tokens;
}

#define AT(member) offsetof(struct xq_check_params, member)
static const struct array arrays[] = {
    {XQ_CHECK_INDPTR, AT(table.indptr), "table.indptr", bounds},
    {XQ_CHECK_LENGTHS, AT(table.last_page_len), "table.last_page_len", sequences},
    {XQ_CHECK_PAGES, AT(table.indices), "table.indices", entries},
    {XQ_CHECK_SLOTS, AT(slots), "tails.slots", sequences},
    {XQ_CHECK_QUERY_INDPTR, AT(queries.query_indptr), "query_indptr", bounds},
    {XQ_CHECK_QUERY_POSITIONS, AT(queries.query_position), "query_position", query_rows},
    {XQ_CHECK_TOKEN_OFFSETS, AT(queries.token_offset), "token_offset", sequences},
    {XQ_CHECK_COUNTERS, AT(counters), "workspace", counters},
    {XQ_CHECK_APPEND_INDPTR, AT(append_indptr), "append_indptr", bounds},
    {XQ_CHECK_TOKENS, AT(token_sequence), "token_sequence", tokens},
    {XQ_CHECK_TOKENS, AT(token_position), "token_position", tokens},
    {XQ_CHECK_TOKENS, AT(rotary_position), "rotary_position", tokens},
};
enum { ARRAYS = sizeof arrays / sizeof arrays[0] };

/* Replaces the device's pointer by a pointer to a copy, which the caller frees. */
static xq_status copy_array(device *d, const struct array *a, struct xq_check_params *p, void **copy,
                            error *err)
{
    error why = ERROR_INIT;
    uint64_t pointer;
    memcpy(&pointer, (char *)p + a->place, sizeof pointer);
    int64_t count = pointer ? a->count(p) : 0;
    if (!count)
        return XQ_OK;
    *copy = malloc((size_t)count * sizeof(int));
    if (!*copy)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    if (d->ops->read(d, *copy, pointer, (size_t)count * sizeof(int), &why) != XQ_OK) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s must point to %lld int32 on the device; %s",
                  a->name, (long long)count, why.message);
        error_clear(&why);
        return error_field(err, a->name);
    }
    pointer = (uint64_t)(uintptr_t)*copy;
    memcpy((char *)p + a->place, &pointer, sizeof pointer);
    return XQ_OK;
}

static int find_fault(const struct xq_check_params *p, int phase, int64_t items, struct xq_fault *fault)
{
    for (int64_t i = 0; i < items; i++)
        if (xq_check_item(p, phase, i, fault))
            return 1;
    return 0;
}

static int find_again(const struct xq_check_params *p, int phase, int64_t items, struct xq_fault *fault,
                      error *err)
{
    struct xq_seen seen = {.capacity = 2, .passes = 1};
    while (seen.capacity < 2 * items)
        seen.capacity *= 2;
    seen.keys = (unsigned long long *)malloc(sizeof *seen.keys * seen.capacity);
    seen.values = (int *)malloc(sizeof *seen.values * seen.capacity);
    int found = 0;
    if (!seen.keys || !seen.values)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    for (unsigned i = 0; i < seen.capacity && err->status == XQ_OK; i++) {
        seen.keys[i] = XQ_SEEN_NONE;
        seen.values[i] = XQ_SEEN_LATE;
    }
    for (int64_t i = 0; i < items && err->status == XQ_OK; i++) {
        unsigned long long key;
        int value;
        if (xq_once_key(p, phase, i, &key, &value))
            xq_seen_add(&seen, key, value);
    }
    for (int64_t i = 0; i < items && err->status == XQ_OK && !found; i++)
        found = xq_check_again(p, phase, i, &seen, fault);
    free(seen.keys);
    free(seen.values);
    return found;
}

xq_status host_check(device *d, const struct xq_check_params *call, error *err)
{
    struct xq_check_params p = *call;
    struct xq_fault fault;
    void *copies[ARRAYS] = {NULL};
    for (int phase = 0; phase < XQ_CHECK_PHASES && err->status == XQ_OK; phase++) {
        for (int i = 0; i < ARRAYS && err->status == XQ_OK; i++)
            if ((int)arrays[i].phase == phase)
                copy_array(d, &arrays[i], &p, &copies[i], err);
        if (err->status != XQ_OK)
            break;
        int64_t items = xq_check_items(&p, phase);
        if (xq_check_once(phase) ? find_again(&p, phase, items, &fault, err)
                                 : find_fault(&p, phase, items, &fault))
            fault_error(&fault, err);
    }
    for (int i = 0; i < ARRAYS; i++)
        free(copies[i]);
    return err->status;
}
