/* Makes calls with bad arguments: misaligned arrays, missing ones, and sizes beyond the plan's. Each call
 * has one fault and is good otherwise, and must be refused with the argument's name. Nothing is
 * launched. */
#include "../engine/call.h"
#include "call.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum how { OFF, NONE, LARGE }; /* misaligned; null or zero; more than the plan's */

/* The implementations that read the argument. An argument that an implementation does not read cannot be a
 * fault. */
enum { QUANTIZED = 1, KV = 2, BOTH = 3 };

typedef struct fault {
    const char *field;
    bool attends; /* the call is attend, else append */
    size_t offset;
    enum how how;
    int who;
} fault;

#define APPEND(FIELD) #FIELD, false, offsetof(xq_append_args, FIELD)
#define ATTEND(FIELD) #FIELD, true, offsetof(xq_attend_args, FIELD)

static const fault faults[] = {
    {APPEND(x), OFF, BOTH},
    {APPEND(x), NONE, BOTH},
    {APPEND(token_sequence), OFF, BOTH},
    {APPEND(token_position), NONE, BOTH},
    {APPEND(pages), OFF, BOTH},
    {APPEND(table.indptr), OFF, BOTH},
    {APPEND(table.indices), NONE, BOTH},
    {APPEND(table.last_page_len), NONE, BOTH},
    {APPEND(tokens), LARGE, BOTH},
    {APPEND(weights), OFF, KV},
    {APPEND(workspace), OFF, KV},
    {ATTEND(q), OFF, BOTH},
    {ATTEND(out), OFF, BOTH},
    {ATTEND(out), NONE, BOTH},
    {ATTEND(lse), OFF, BOTH},
    {ATTEND(table.indptr), NONE, BOTH},
    {ATTEND(weights), OFF, QUANTIZED},
    {ATTEND(workspace), OFF, BOTH},
    {ATTEND(workspace_bytes), NONE, BOTH},
    {ATTEND(max_tokens), LARGE, BOTH},
    {ATTEND(token_offset), OFF, BOTH},
};

/* Breaks an argument, and stores its value in *before. All arguments are 8 bytes wide. */
static void break_member(char *member, const fault *f, uint64_t *before)
{
    uint64_t value;
    memcpy(before, member, sizeof value);
    value = f->how == NONE ? 0 : f->how == LARGE ? (uint64_t)1 << 40 : *before + 2;
    memcpy(member, &value, sizeof value);
}

static xq_status judge(const verify_state *v, const fault *f, xq_status status, int *refused, error *err)
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
                     "%s with a bad %s: %s, field '%s'; it should be refused by the field's name",
                     f->attends ? "attend" : "append", f->field, xq_status_name(status),
                     field ? field : "");
}

xq_status verify_arguments(verify_memory *m, int implementation, int *refused, error *err)
{
    const verify_state *v = m->v;
    const int who = m->kv ? KV : QUANTIZED;
    int mark = m->count;
    uint64_t room = verify_memory_upload(m, NULL, 4096, err), before; /* for all arrays: none is read */
    const call_cache cached = {
        .plan = verify_plan(v, implementation, 0),
        .table = {1, room, room, room},
        .pages = m->pages[0],
        .weights = v->plans[implementation].weights[0],
        .workspace = room,
        .workspace_bytes = v->plans[implementation].info[0].workspace_bytes,
        .accumulator = m->accumulator,
        .tails = {m->tail_bytes ? m->tails[0] : 0, m->tail_bytes ? room : 0},
    };
    xq_append_args append = call_append(&cached);
    append.tokens = 1;
    append.x = append.token_sequence = append.token_position = append.append_indptr = room;
    xq_attend_args attend = call_attend(&cached);
    attend.max_tokens = 1;
    attend.q = attend.out = attend.lse = attend.token_offset = room;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0] && err->status == XQ_OK; i++) {
        const fault *f = &faults[i];
        char *member = (f->attends ? (char *)&attend : (char *)&append) + f->offset;
        if (!(f->who & who))
            continue;
        break_member(member, f, &before);
        judge(v, f,
              f->attends ? xq_plan_attend(cached.plan, &attend, NULL)
                         : xq_plan_append(cached.plan, &append, NULL),
              refused, err);
        memcpy(member, &before, sizeof before);
    }
    while (m->count > mark)
        xq_device_free(v->context, m->pointers[--m->count]);
    return err->status;
}
