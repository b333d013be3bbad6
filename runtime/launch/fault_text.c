#include "fault_text.h"
#include "call_check.h"

/* The sentences below show which numbers xq_fault has for each kind of fault, as the rules of
 * templates/lib/call_check.h set them. */
#define SAY(field, ...)                                                                                    \
    do {                                                                                                   \
        error_set(err, XQ_ERROR_ARGUMENT, "argument", __VA_ARGS__);                                        \
        return error_field(err, field);                                                                    \
    } while (0)

static xq_status table_error(const struct xq_fault *f, error *err)
{
    switch (f->kind) {
    case XQ_FAULT_INDPTR_START:
        SAY("table.indptr", "table.indptr[0] is %lld; valid: 0", f->value);
    case XQ_FAULT_INDPTR_FALLS:
        SAY("table.indptr",
            "table.indptr[%lld], where the pages of sequence %d end, is %lld; valid: at least %lld, where "
            "they begin",
            f->index, f->sequence, f->value, f->other);
    case XQ_FAULT_INDPTR_PAGES:
        SAY("table.indptr",
            "table.indptr[%lld], the pages of all sequences, is %lld; valid: at most the plan's max_pages, "
            "%lld",
            f->index, f->value, f->limit);
    case XQ_FAULT_TABLE_ENTRIES:
        SAY("table_entries", "table_entries is %lld; valid: %lld, which is table.indptr[%lld]", f->limit,
            f->value, f->index);
    case XQ_FAULT_LAST_PAGE:
        SAY("table.last_page_len",
            "table.last_page_len[%lld] (sequence %d) is %lld; valid: 1 to %lld, the tokens of a page",
            f->index, f->sequence, f->value, f->limit);
    case XQ_FAULT_MAX_TOKENS:
        SAY("max_tokens",
            "max_tokens is %lld, and sequence %d of the table has %lld tokens; valid: at least as many as "
            "the longest sequence has",
            f->limit, f->sequence, f->value);
    case XQ_FAULT_PLAN_TOKENS:
        SAY("table.indptr",
            "table.indptr and table.last_page_len give sequence %d %lld tokens; valid: at most the plan's "
            "max_tokens, %lld",
            f->sequence, f->value, f->limit);
    case XQ_FAULT_PAGE:
        if (f->limit)
            SAY("table.indices",
                "table.indices[%lld] (sequence %d) is %lld; valid: 0 to %lld, the pages of the pool",
                f->index, f->sequence, f->value, f->limit - 1);
        SAY("table.indices", "table.indices[%lld] (sequence %d) is %lld; valid: 0 and above", f->index,
            f->sequence, f->value);
    case XQ_FAULT_PAGE_SHARED:
        SAY("table.indices",
            "table.indices[%lld] (sequence %d) is %lld, as table.indices[%lld] is, and the deltas would be "
            "added twice; valid: each page once, also where sequences share it",
            f->index, f->sequence, f->value, f->other);
    case XQ_FAULT_SLOT:
        SAY("tails.slots", "tails.slots[%lld] (sequence %d) is %lld; valid: 0 and above", f->index,
            f->sequence, f->value);
    case XQ_FAULT_SLOT_TWICE:
        SAY("tails.slots",
            "tails.slots[%lld] (sequence %d) is %lld, which sequence %lld has too; valid: a slot of its "
            "own for each sequence",
            f->index, f->sequence, f->value, f->other);
    default:
        return XQ_OK;
    }
}

static xq_status query_error(const struct xq_fault *f, error *err)
{
    switch (f->kind) {
    case XQ_FAULT_QUERY_START:
        SAY("query_indptr", "query_indptr[0] is %lld; valid: 0 to %lld, the rows of q", f->value, f->limit);
    case XQ_FAULT_QUERY_FALLS:
        SAY("query_indptr",
            "query_indptr[%lld], where the queries of sequence %d end, is %lld; valid: at least %lld, "
            "where they begin",
            f->index, f->sequence, f->value, f->other);
    case XQ_FAULT_QUERY_END:
        SAY("query_indptr", "query_indptr[%lld] (sequence %d) is %lld; valid: at most `queries`, %lld",
            f->index, f->sequence, f->value, f->limit);
    case XQ_FAULT_MAX_QUERIES:
        SAY("max_queries",
            "max_queries is %lld, and query_indptr gives sequence %d %lld queries; valid: at least as many "
            "as any sequence has",
            f->limit, f->sequence, f->value);
    case XQ_FAULT_TREE:
        SAY("tree_mask",
            "sequence %d has %lld tokens, and with tree_mask its %lld queries are its last tokens; valid: "
            "at most as many queries as tokens",
            f->sequence, f->limit, f->value);
    case XQ_FAULT_QUERY_POSITION:
        SAY("query_position", "query_position[%lld] (sequence %d) is %lld; valid: 0 and above", f->index,
            f->sequence, f->value);
    case XQ_FAULT_TOKEN_OFFSET:
        SAY("token_offset",
            "token_offset[%lld] (sequence %d, of %lld tokens) is %lld; valid: 0 to %lld, so that positions "
            "fit into an int32",
            f->index, f->sequence, f->other, f->value, f->limit);
    case XQ_FAULT_COUNTER:
        SAY("workspace",
            "workspace was not zeroed: a counter of sequence %d, at byte %lld, is %lld; valid: zeros "
            "before the first use, and after a launch that failed; one call at a time",
            f->sequence, f->other, f->value);
    default:
        return XQ_OK;
    }
}

static xq_status append_indptr_error(const struct xq_fault *f, error *err)
{
    switch (f->kind) {
    case XQ_FAULT_APPEND_START:
        SAY("append_indptr", "append_indptr[0] is %lld; valid: 0", f->value);
    case XQ_FAULT_APPEND_FALLS:
        SAY("append_indptr",
            "append_indptr[%lld], where the rows of sequence %d end, is %lld; valid: at least %lld, where "
            "they begin",
            f->index, f->sequence, f->value, f->other);
    case XQ_FAULT_APPEND_END:
        SAY("append_indptr",
            "append_indptr[%lld], the rows of all sequences, is %lld; valid: `tokens`, %lld", f->index,
            f->value, f->limit);
    case XQ_FAULT_APPEND_TOKENS:
        SAY("append_indptr",
            "append_indptr gives sequence %d %lld rows; valid: at most %lld, the tokens that the table "
            "gives it after the call",
            f->sequence, f->value, f->limit);
    case XQ_FAULT_APPEND_SEQUENCE:
        SAY("token_sequence",
            "token_sequence[%lld] is %lld; valid: %lld, the sequence that append_indptr gives row %lld",
            f->index, f->value, f->limit, f->index);
    case XQ_FAULT_APPEND_POSITION:
        SAY("token_position",
            "token_position[%lld] (sequence %d) is %lld; valid: %lld, because a sequence's rows are its "
            "last tokens, in order",
            f->index, f->sequence, f->value, f->limit);
    default:
        return XQ_OK;
    }
}

static xq_status token_error(const struct xq_fault *f, error *err)
{
    switch (f->kind) {
    case XQ_FAULT_TOKEN_SEQUENCE:
        SAY("token_sequence", "token_sequence[%lld] is %lld; valid: 0 to %lld, the sequences of the table",
            f->index, f->value, f->limit - 1);
    case XQ_FAULT_TOKEN_POSITION:
        if (f->limit == 0)
            SAY("token_position",
                "token_position[%lld] is %lld, and sequence %d has no tokens; valid: a table that "
                "describes the cache after the call",
                f->index, f->value, f->sequence);
        SAY("token_position",
            "token_position[%lld] (sequence %d) is %lld; valid: 0 to %lld, the tokens that the table gives "
            "the sequence after the call",
            f->index, f->sequence, f->value, f->limit - 1);
    case XQ_FAULT_ROTARY_POSITION:
        SAY("rotary_position", "rotary_position[%lld] (sequence %d) is %lld; valid: 0 and above", f->index,
            f->sequence, f->value);
    case XQ_FAULT_TOKEN_TWICE:
        SAY("token_position",
            "token_position[%lld] (sequence %d) is %lld, as token_position[%lld] is; valid: each token of "
            "a sequence once",
            f->index, f->sequence, f->value, f->other);
    case XQ_FAULT_PAGE_TWICE:
        SAY("table.indices",
            "table.indices[%lld] (sequence %d) is %lld, as table.indices[%lld] is, and the call writes "
            "tokens to both; valid: a page of its own for each",
            f->index, f->sequence, f->value, f->other);
    default:
        return XQ_OK;
    }
}

xq_status fault_error(const struct xq_fault *fault, error *err)
{
    if (table_error(fault, err) != XQ_OK || query_error(fault, err) != XQ_OK ||
        append_indptr_error(fault, err) != XQ_OK || token_error(fault, err) != XQ_OK)
        return err->status;
    return error_set(err, XQ_ERROR_INTERNAL, "argument", "a call has a fault of unknown kind %d",
                     fault->kind);
}
