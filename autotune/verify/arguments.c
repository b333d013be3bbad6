/* Bad arguments: strided rows would begin off their alignment, and so must be refused like any misaligned
 * array, with the argument's name. One fault a call, in a call that is good but for it. Nothing is
 * launched. */
#include "call.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum how { OFF, NONE, LARGE }; /* misaligned, null or zero, more than the plan's */

/* Which implementations read the argument; a fault in what is not read is none. */
enum { QUANTIZED = 1, KV = 2, BOTH = 3 };

typedef struct fault {
    const char *field;
    size_t offset;
    enum how how;
    int who;
} fault;

static const fault append_faults[] = {
    {"x", offsetof(xq_append_args, x), OFF, BOTH},
    {"x", offsetof(xq_append_args, x), NONE, BOTH},
    {"token_sequence", offsetof(xq_append_args, token_sequence), OFF, BOTH},
    {"token_position", offsetof(xq_append_args, token_position), NONE, BOTH},
    {"pages", offsetof(xq_append_args, pages), OFF, BOTH},
    {"table.indptr", offsetof(xq_append_args, table.indptr), OFF, BOTH},
    {"table.indices", offsetof(xq_append_args, table.indices), NONE, BOTH},
    {"table.last_page_len", offsetof(xq_append_args, table.last_page_len), NONE, BOTH},
    {"tokens", offsetof(xq_append_args, tokens), LARGE, BOTH},
    {"weights", offsetof(xq_append_args, weights), OFF, KV},
    {"workspace", offsetof(xq_append_args, workspace), OFF, KV},
};

static const fault attend_faults[] = {
    {"q", offsetof(xq_attend_args, q), OFF, BOTH},
    {"out", offsetof(xq_attend_args, out), OFF, BOTH},
    {"out", offsetof(xq_attend_args, out), NONE, BOTH},
    {"lse", offsetof(xq_attend_args, lse), OFF, BOTH},
    {"table.indptr", offsetof(xq_attend_args, table.indptr), NONE, BOTH},
    {"weights", offsetof(xq_attend_args, weights), OFF, QUANTIZED},
    {"workspace", offsetof(xq_attend_args, workspace), OFF, BOTH},
    {"workspace_bytes", offsetof(xq_attend_args, workspace_bytes), NONE, BOTH},
    {"max_tokens", offsetof(xq_attend_args, max_tokens), LARGE, BOTH},
    {"token_offset", offsetof(xq_attend_args, token_offset), OFF, BOTH},
};

/* Breaks a member of `args`; what it was is in *before. All are 8 bytes wide. */
static void break_member(void *args, const fault *f, uint64_t *before)
{
    char *member = (char *)args + f->offset;
    uint64_t value;
    memcpy(before, member, sizeof value);
    value = f->how == NONE ? 0 : f->how == LARGE ? (uint64_t)1 << 40 : *before + 2;
    memcpy(member, &value, sizeof value);
}

static xq_status judge(const verify_state *v, const fault *f, const char *call, xq_status status,
                       int *refused, error *err)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    const char *field = NULL;
    if (status != XQ_OK && xq_last_error(v->context, &detail) == XQ_OK)
        field = detail.field;
    if (status == XQ_ERROR_ARGUMENT && field && strcmp(field, f->field) == 0) {
        ++*refused;
        return XQ_OK;
    }
    return error_set(err, XQ_ERROR_INTERNAL, "argument",
                     "%s with a bad %s: %s, field '%s'; should be refused by name", call, f->field,
                     xq_status_name(status), field ? field : "");
}

xq_status verify_arguments(verify_memory *m, int implementation, int *refused, error *err)
{
    const verify_state *v = m->v;
    const xq_plan_info *info = &v->plans[implementation].info[0];
    xq_plan *plan = verify_plan(v, implementation, 0);
    const int who = m->kv ? KV : QUANTIZED;
    int mark = m->count;
    uint64_t room = verify_memory_upload(m, NULL, 4096, err), before; /* for every array: none is read */
    xq_page_table table = {1, room, room, room};
    xq_tail_pool tails = {m->tail_bytes ? m->tails[0] : 0, m->tail_bytes ? room : 0};
    uint64_t weights = v->plans[implementation].weights[0];
    xq_append_args append = XQ_APPEND_ARGS_INIT;
    append.tokens = 1;
    append.x = append.token_sequence = append.token_position = append.append_indptr = append.workspace =
        room;
    append.table = table, append.pages = m->pages[0], append.tails = tails, append.weights = weights;
    append.workspace_bytes = info->workspace_bytes;
    for (size_t i = 0; i < sizeof append_faults / sizeof append_faults[0] && err->status == XQ_OK; i++) {
        const fault *f = &append_faults[i];
        if (!(f->who & who))
            continue;
        break_member(&append, f, &before);
        judge(v, f, "append", xq_plan_append(plan, &append, NULL), refused, err);
        memcpy((char *)&append + f->offset, &before, sizeof before);
    }
    xq_attend_args attend = XQ_ATTEND_ARGS_INIT;
    attend.max_tokens = 1;
    attend.q = attend.out = attend.lse = attend.workspace = attend.token_offset = room;
    attend.table = table, attend.pages = m->pages[0], attend.tails = tails, attend.weights = weights;
    attend.accumulator = m->accumulator;
    attend.workspace_bytes = info->workspace_bytes;
    for (size_t i = 0; i < sizeof attend_faults / sizeof attend_faults[0] && err->status == XQ_OK; i++) {
        const fault *f = &attend_faults[i];
        if (!(f->who & who))
            continue;
        break_member(&attend, f, &before);
        judge(v, f, "attend", xq_plan_attend(plan, &attend, NULL), refused, err);
        memcpy((char *)&attend + f->offset, &before, sizeof before);
    }
    while (m->count > mark)
        xq_device_free(v->context, m->pointers[--m->count]);
    return err->status;
}
