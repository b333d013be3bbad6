/* The rules for the arrays of a call. They are written once, for the kernel `check` and for the host, so
 * that both find the same fault. On devices whose memory the host reads cheaply, it checks copies of the
 * arrays.
 *
 * The rules are divided into phases. Each phase relies on the phases before it, and checks its items one by
 * one, in any order. The fault of a call is the fault of the least item in the first phase that finds one.
 * In some phases a key may occur only once: the first of the items with equal keys is good, and the later
 * ones are faults. */
#ifndef XQ_LIB_CALL_CHECK_H
#define XQ_LIB_CALL_CHECK_H

#include "params.h"

enum xq_fault_kind {
    XQ_FAULT_NONE,
    XQ_FAULT_INDPTR_START,
    XQ_FAULT_INDPTR_FALLS,
    XQ_FAULT_INDPTR_PAGES,
    XQ_FAULT_TABLE_ENTRIES,
    XQ_FAULT_LAST_PAGE,
    XQ_FAULT_MAX_TOKENS,
    XQ_FAULT_PLAN_TOKENS,
    XQ_FAULT_PAGE,
    XQ_FAULT_SLOT,
    XQ_FAULT_SLOT_TWICE,
    XQ_FAULT_QUERY_START,
    XQ_FAULT_QUERY_FALLS,
    XQ_FAULT_QUERY_END,
    XQ_FAULT_MAX_QUERIES,
    XQ_FAULT_TREE,
    XQ_FAULT_QUERY_POSITION,
    XQ_FAULT_TOKEN_OFFSET,
    XQ_FAULT_COUNTER,
    XQ_FAULT_APPEND_START,
    XQ_FAULT_APPEND_FALLS,
    XQ_FAULT_APPEND_END,
    XQ_FAULT_APPEND_TOKENS,
    XQ_FAULT_TOKEN_SEQUENCE,
    XQ_FAULT_TOKEN_POSITION,
    XQ_FAULT_ROTARY_POSITION,
    XQ_FAULT_APPEND_SEQUENCE,
    XQ_FAULT_APPEND_POSITION,
    XQ_FAULT_TOKEN_TWICE,
    XQ_FAULT_PAGE_TWICE,
    XQ_FAULT_PAGE_SHARED,
    XQ_FAULT_KINDS
};

enum xq_check_phase {
    XQ_CHECK_INDPTR,
    XQ_CHECK_LENGTHS,
    XQ_CHECK_PAGES,
    XQ_CHECK_TABLE_ONCE,
    XQ_CHECK_SLOTS,
    XQ_CHECK_SLOTS_ONCE,
    XQ_CHECK_QUERY_INDPTR,
    XQ_CHECK_QUERY_POSITIONS,
    XQ_CHECK_TOKEN_OFFSETS,
    XQ_CHECK_COUNTERS,
    XQ_CHECK_APPEND_INDPTR,
    XQ_CHECK_TOKENS,
    XQ_CHECK_TOKENS_ONCE,
    XQ_CHECK_PAGES_ONCE,
    XQ_CHECK_PHASES
};

#ifdef __CUDACC__
#define XQ_BOTH          static __device__ inline
#define XQ_INTS(pointer) (pointer)
#else
#define XQ_BOTH          static inline
#define XQ_INTS(pointer) ((const int *)(uintptr_t)(pointer)) /* address of the host's copy */
#endif

XQ_BOTH int xq_int_at(XQ_PTR(const int) array, long long i)
{
    return XQ_INTS(array)[i];
}

/* Describes a fault. Returns 1. */
XQ_BOTH int xq_fault_set(struct xq_fault *f, int kind, int sequence, long long index, long long value,
                         long long other, long long limit)
{
    f->kind = kind;
    f->sequence = sequence;
    f->index = index;
    f->value = value;
    f->other = other;
    f->limit = limit;
    return 1;
}

/* ---------------------------------------------------------------- the table */

XQ_BOTH long long xq_call_pages(const struct xq_check_params *p, int sequence)
{
    return (long long)xq_int_at(p->table.indptr, sequence + 1) - xq_int_at(p->table.indptr, sequence);
}

XQ_BOTH long long xq_call_tokens(const struct xq_check_params *p, int sequence)
{
    long long pages = xq_call_pages(p, sequence);
    return pages > 0 ? (pages - 1) * p->page + xq_int_at(p->table.last_page_len, sequence) : 0;
}

/* The sequence that owns `item`, from the list of where each sequence begins: the last one that begins at
 * or before the item. */
XQ_BOTH int xq_call_owner(XQ_PTR(const int) indptr, int batch, long long item)
{
    int low = 0, high = batch - 1;
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        if (xq_int_at(indptr, middle) <= item)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

XQ_BOTH int xq_check_indptr(const struct xq_check_params *p, int i, struct xq_fault *f)
{
    int value = xq_int_at(p->table.indptr, i), before = i ? xq_int_at(p->table.indptr, i - 1) : 0;
    if (i == 0 && value != 0)
        return xq_fault_set(f, XQ_FAULT_INDPTR_START, 0, 0, value, 0, 0);
    if (value < before)
        return xq_fault_set(f, XQ_FAULT_INDPTR_FALLS, i - 1, i, value, before, 0);
    if (i == p->batch && value > p->max_pages)
        return xq_fault_set(f, XQ_FAULT_INDPTR_PAGES, i - 1, i, value, 0, p->max_pages);
    if (i == p->batch && p->table_entries >= 0 && value != p->table_entries)
        return xq_fault_set(f, XQ_FAULT_TABLE_ENTRIES, i - 1, i, value, 0, p->table_entries);
    return 0;
}

XQ_BOTH int xq_check_length(const struct xq_check_params *p, int sequence, struct xq_fault *f)
{
    if (xq_call_pages(p, sequence) == 0)
        return 0;
    int last = xq_int_at(p->table.last_page_len, sequence);
    if (last < 1 || last > p->page)
        return xq_fault_set(f, XQ_FAULT_LAST_PAGE, sequence, sequence, last, 0, p->page);
    long long tokens = xq_call_tokens(p, sequence);
    if (tokens > p->max_tokens)
        return xq_fault_set(f, p->own_max_tokens ? XQ_FAULT_MAX_TOKENS : XQ_FAULT_PLAN_TOKENS, sequence,
                            sequence, tokens, 0, p->max_tokens);
    return 0;
}

XQ_BOTH int xq_check_page(const struct xq_check_params *p, long long entry, struct xq_fault *f)
{
    int page = xq_int_at(p->table.indices, entry);
    if (page >= 0 && (p->pool_pages == 0 || page < p->pool_pages))
        return 0;
    return xq_fault_set(f, XQ_FAULT_PAGE, xq_call_owner(p->table.indptr, p->batch, entry), entry, page, 0,
                        p->pool_pages);
}

/* A sequence without tokens needs no slot. */
XQ_BOTH int xq_check_slot(const struct xq_check_params *p, int sequence, struct xq_fault *f)
{
    int slot = xq_int_at(p->slots, sequence);
    if (slot >= 0 || xq_call_pages(p, sequence) == 0)
        return 0;
    return xq_fault_set(f, XQ_FAULT_SLOT, sequence, sequence, slot, 0, 0);
}

/* ---------------------------------------------------------------- queries */

XQ_BOTH int xq_check_query_indptr(const struct xq_check_params *p, int i, struct xq_fault *f)
{
    int value = xq_int_at(p->queries.query_indptr, i);
    int before = i ? xq_int_at(p->queries.query_indptr, i - 1) : 0;
    if (value < before)
        return xq_fault_set(f, i ? XQ_FAULT_QUERY_FALLS : XQ_FAULT_QUERY_START, i ? i - 1 : 0, i, value,
                            before, p->queries.queries);
    if (value > p->queries.queries)
        return xq_fault_set(f, XQ_FAULT_QUERY_END, i ? i - 1 : 0, i, value, 0, p->queries.queries);
    if (i == 0)
        return 0;
    long long count = (long long)value - before, tokens = xq_call_tokens(p, i - 1);
    if (count > p->max_queries)
        return xq_fault_set(f, XQ_FAULT_MAX_QUERIES, i - 1, i, count, 0, p->max_queries);
    if (p->queries.tree_mask && tokens > 0 && count > tokens)
        return xq_fault_set(f, XQ_FAULT_TREE, i - 1, i, count, 0, tokens);
    return 0;
}

XQ_BOTH long long xq_first_query(const struct xq_check_params *p)
{
    return p->queries.query_indptr ? xq_int_at(p->queries.query_indptr, 0) : 0;
}

XQ_BOTH int xq_check_query_position(const struct xq_check_params *p, long long item, struct xq_fault *f)
{
    long long row = xq_first_query(p) + item;
    int position = xq_int_at(p->queries.query_position, row);
    if (position >= 0)
        return 0;
    int sequence =
        p->queries.query_indptr ? xq_call_owner(p->queries.query_indptr, p->batch, row) : (int)row;
    return xq_fault_set(f, XQ_FAULT_QUERY_POSITION, sequence, row, position, 0, 0);
}

/* Positions must fit into 31 bits. */
XQ_BOTH int xq_check_token_offset(const struct xq_check_params *p, int sequence, struct xq_fault *f)
{
    long long tokens = xq_call_tokens(p, sequence), most = 0x7fffffffll - (tokens > 0 ? tokens - 1 : 0);
    int offset = xq_int_at(p->queries.token_offset, sequence);
    if (offset >= 0 && offset <= most)
        return 0;
    return xq_fault_set(f, XQ_FAULT_TOKEN_OFFSET, sequence, sequence, offset, tokens, most);
}

XQ_BOTH int xq_check_counter(const struct xq_check_params *p, long long i, struct xq_fault *f)
{
    int value = xq_int_at(p->counters, i);
    return value && xq_fault_set(f, XQ_FAULT_COUNTER, (int)(i / p->sequence_counters), i, value,
                                 p->counters_at + i * 4, 0);
}

/* ---------------------------------------------------------------- appended tokens */

XQ_BOTH int xq_check_append_indptr(const struct xq_check_params *p, int i, struct xq_fault *f)
{
    int value = xq_int_at(p->append_indptr, i), before = i ? xq_int_at(p->append_indptr, i - 1) : 0;
    if (i == 0 && value != 0)
        return xq_fault_set(f, XQ_FAULT_APPEND_START, 0, 0, value, 0, 0);
    if (value < before)
        return xq_fault_set(f, XQ_FAULT_APPEND_FALLS, i - 1, i, value, before, 0);
    if (i == p->batch && value != p->tokens)
        return xq_fault_set(f, XQ_FAULT_APPEND_END, i - 1, i, value, 0, p->tokens);
    if (i > 0 && (long long)value - before > xq_call_tokens(p, i - 1))
        return xq_fault_set(f, XQ_FAULT_APPEND_TOKENS, i - 1, i, (long long)value - before, 0,
                            xq_call_tokens(p, i - 1));
    return 0;
}

/* With append_indptr, the rows of a sequence must be its last tokens, in order. */
XQ_BOTH int xq_check_row(const struct xq_check_params *p, int row, int sequence, int position,
                         struct xq_fault *f)
{
    int owner = xq_call_owner(p->append_indptr, p->batch, row);
    if (sequence != owner)
        return xq_fault_set(f, XQ_FAULT_APPEND_SEQUENCE, owner, row, sequence, 0, owner);
    long long place = xq_call_tokens(p, owner) - xq_int_at(p->append_indptr, owner + 1) + row;
    if (position != place)
        return xq_fault_set(f, XQ_FAULT_APPEND_POSITION, owner, row, position, 0, place);
    return 0;
}

XQ_BOTH int xq_check_token(const struct xq_check_params *p, int row, struct xq_fault *f)
{
    int sequence = xq_int_at(p->token_sequence, row), position = xq_int_at(p->token_position, row);
    if (sequence < 0 || sequence >= p->batch)
        return xq_fault_set(f, XQ_FAULT_TOKEN_SEQUENCE, 0, row, sequence, 0, p->batch);
    long long tokens = xq_call_tokens(p, sequence);
    if (position < 0 || position >= tokens)
        return xq_fault_set(f, XQ_FAULT_TOKEN_POSITION, sequence, row, position, 0, tokens);
    if (p->rotary_position && xq_int_at(p->rotary_position, row) < 0)
        return xq_fault_set(f, XQ_FAULT_ROTARY_POSITION, sequence, row, xq_int_at(p->rotary_position, row),
                            0, 0);
    return p->append_indptr && xq_check_row(p, row, sequence, position, f);
}

/* The table entry whose page a token is written into. */
XQ_BOTH int xq_call_entry(const struct xq_check_params *p, long long row)
{
    return xq_int_at(p->table.indptr, xq_int_at(p->token_sequence, row)) +
           xq_int_at(p->token_position, row) / p->page;
}

/* ---------------------------------------------------------------- phases */

XQ_BOTH long long xq_check_items(const struct xq_check_params *p, int phase)
{
    switch (phase) {
    case XQ_CHECK_INDPTR:
        return p->batch + 1ll;
    case XQ_CHECK_LENGTHS:
        return p->batch;
    case XQ_CHECK_PAGES:
        return xq_int_at(p->table.indptr, p->batch);
    case XQ_CHECK_TABLE_ONCE: /* accumulate would add to a page once for each entry */
        return p->pages_once ? xq_int_at(p->table.indptr, p->batch) : 0;
    case XQ_CHECK_SLOTS:
        return p->slots ? p->batch : 0;
    case XQ_CHECK_SLOTS_ONCE: /* append writes slots; for reading, sequences may share one */
        return p->slots && p->append_indptr ? p->batch : 0;
    case XQ_CHECK_QUERY_INDPTR:
        return p->queries.query_indptr ? p->batch + 1ll : 0;
    case XQ_CHECK_QUERY_POSITIONS:
        if (!p->queries.query_position)
            return 0;
        return p->queries.query_indptr ? xq_int_at(p->queries.query_indptr, p->batch) - xq_first_query(p)
                                       : p->batch;
    case XQ_CHECK_TOKEN_OFFSETS:
        return p->queries.token_offset ? p->batch : 0;
    case XQ_CHECK_COUNTERS:
        return p->counters ? (long long)p->sequence_counters * p->counter_sequences : 0;
    case XQ_CHECK_APPEND_INDPTR:
        return p->append_indptr ? p->batch + 1ll : 0;
    case XQ_CHECK_TOKENS:
    case XQ_CHECK_TOKENS_ONCE:
    case XQ_CHECK_PAGES_ONCE:
        return p->tokens;
    default:
        return 0;
    }
}

/* Whether item i is at fault, in the phases that check each item by itself. */
XQ_BOTH int xq_check_item(const struct xq_check_params *p, int phase, long long i, struct xq_fault *f)
{
    switch (phase) {
    case XQ_CHECK_INDPTR:
        return xq_check_indptr(p, (int)i, f);
    case XQ_CHECK_LENGTHS:
        return xq_check_length(p, (int)i, f);
    case XQ_CHECK_PAGES:
        return xq_check_page(p, i, f);
    case XQ_CHECK_SLOTS:
        return xq_check_slot(p, (int)i, f);
    case XQ_CHECK_QUERY_INDPTR:
        return xq_check_query_indptr(p, (int)i, f);
    case XQ_CHECK_QUERY_POSITIONS:
        return xq_check_query_position(p, i, f);
    case XQ_CHECK_TOKEN_OFFSETS:
        return xq_check_token_offset(p, (int)i, f);
    case XQ_CHECK_COUNTERS:
        return xq_check_counter(p, i, f);
    case XQ_CHECK_APPEND_INDPTR:
        return xq_check_append_indptr(p, (int)i, f);
    case XQ_CHECK_TOKENS:
        return xq_check_token(p, (int)i, f);
    default:
        return 0;
    }
}

/* ---------------------------------------------------------------- keys that may occur only once
 * A hash table of the keys seen so far, each with the least value that came with it. `capacity` is a power
 * of two, and at least twice the number of keys in the table. If the keys of all items are more than that,
 * the items are checked in several passes, each with a share of the keys. */
struct xq_seen {
    unsigned long long *keys; /* XQ_SEEN_NONE in an empty place */
    int *values;              /* XQ_SEEN_LATE in an empty place */
    unsigned capacity, pass, passes;
};

#define XQ_SEEN_NONE (~0ull)
#define XQ_SEEN_LATE 0x7fffffff

XQ_BOTH int xq_check_once(int phase)
{
    return phase == XQ_CHECK_TABLE_ONCE || phase == XQ_CHECK_SLOTS_ONCE || phase == XQ_CHECK_TOKENS_ONCE ||
           phase == XQ_CHECK_PAGES_ONCE;
}

/* Gives the key of item i, which may occur only once, and a value that tells one use of the key from
 * another. Returns whether the item takes part. */
XQ_BOTH int xq_once_key(const struct xq_check_params *p, int phase, long long i, unsigned long long *key,
                        int *value)
{
    if (phase == XQ_CHECK_PAGES_ONCE) {
        *value = xq_call_entry(p, i);
        *key = (unsigned long long)xq_int_at(p->table.indices, *value);
        return 1;
    }
    *value = (int)i;
    if (phase == XQ_CHECK_TABLE_ONCE) {
        *key = (unsigned long long)(unsigned)xq_int_at(p->table.indices, i);
        return 1;
    }
    if (phase == XQ_CHECK_SLOTS_ONCE) {
        *key = (unsigned long long)(unsigned)xq_int_at(p->slots, i);
        return xq_call_pages(p, (int)i) > 0;
    }
    *key = (unsigned long long)(unsigned)xq_int_at(p->token_sequence, i) << 32 |
           (unsigned)xq_int_at(p->token_position, i);
    return 1;
}

/* The place of a key. It is `capacity` if the key belongs to another pass, if it is not in the table and is
 * not to be inserted, or if the table is full (which does not happen). */
XQ_BOTH unsigned xq_seen_place(const struct xq_seen *s, unsigned long long key, int insert)
{
    unsigned long long mixed = (key ^ key >> 32) * 0x9e3779b97f4a7c15ull;
    unsigned place = (unsigned)(mixed >> 20) & (s->capacity - 1);
    if ((unsigned)(mixed >> 44) % s->passes != s->pass)
        return s->capacity;
    for (unsigned tries = 0; tries < s->capacity; tries++) {
        unsigned long long found;
#ifdef __CUDACC__
        found = insert ? atomicCAS(&s->keys[place], XQ_SEEN_NONE, key) : s->keys[place];
#else
        found = s->keys[place];
        if (insert && found == XQ_SEEN_NONE)
            s->keys[place] = key;
#endif
        if (found == key || (insert && found == XQ_SEEN_NONE))
            return place;
        if (found == XQ_SEEN_NONE)
            break;
        place = (place + 1) & (s->capacity - 1);
    }
    return s->capacity;
}

XQ_BOTH void xq_seen_add(const struct xq_seen *s, unsigned long long key, int value)
{
    unsigned place = xq_seen_place(s, key, 1);
    if (place == s->capacity)
        return;
#ifdef __CUDACC__
    atomicMin(&s->values[place], value);
#else
    if (value < s->values[place])
        s->values[place] = value;
#endif
}

/* Whether the key of item i also came with a lesser value. All items must have been added before. */
XQ_BOTH int xq_check_again(const struct xq_check_params *p, int phase, long long i, const struct xq_seen *s,
                           struct xq_fault *f)
{
    unsigned long long key;
    int value;
    if (!xq_once_key(p, phase, i, &key, &value))
        return 0;
    unsigned place = xq_seen_place(s, key, 0);
    if (place == s->capacity || s->values[place] == value)
        return 0;
    int first = s->values[place];
    if (phase == XQ_CHECK_TABLE_ONCE)
        return xq_fault_set(f, XQ_FAULT_PAGE_SHARED, xq_call_owner(p->table.indptr, p->batch, i), i,
                            xq_int_at(p->table.indices, i), first, 0);
    if (phase == XQ_CHECK_SLOTS_ONCE)
        return xq_fault_set(f, XQ_FAULT_SLOT_TWICE, (int)i, i, xq_int_at(p->slots, i), first, 0);
    if (phase == XQ_CHECK_TOKENS_ONCE)
        return xq_fault_set(f, XQ_FAULT_TOKEN_TWICE, xq_int_at(p->token_sequence, i), i,
                            xq_int_at(p->token_position, i), first, 0);
    return xq_fault_set(f, XQ_FAULT_PAGE_TWICE, xq_int_at(p->token_sequence, i), value,
                        xq_int_at(p->table.indices, value), first, 0);
}

#endif
