/* The calls of a verification case: append, accumulate, attend, merge. */
#include "call.h"
#include "../../runtime/base/half.h"
#include "../../runtime/launch/last_error.h"
#include "../engine/call.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- tables */

/* The sequences in a call's page table. Row i describes sequence `of[i]`, at `length[i]` tokens. */
typedef struct rows {
    int batch;
    int of[CASE_MAX_SEQUENCES], length[CASE_MAX_SEQUENCES];
} rows;

static xq_page_table upload_table(verify_memory *m, const rows *table, error *err)
{
    enum { MOST = CASE_MAX_SEQUENCES * 64 + 4 };
    int32_t indptr[CASE_MAX_SEQUENCES + 1] = {0}, last[CASE_MAX_SEQUENCES], indices[MOST];
    int entries = 0, page = m->v->spec.page;
    for (int i = 0; i < table->batch; i++) {
        for (int p = 0; p * page < table->length[i]; p++)
            indices[entries++] = m->shape->sequence[table->of[i]].pages[p];
        indptr[i + 1] = entries;
        last[i] = table->length[i] ? (table->length[i] - 1) % page + 1
                                   : -7; /* kernels must ignore it for an empty sequence */
    }
    for (int i = 0; i < 4; i++) /* entries that no kernel may read */
        indices[entries + i] = i % 2 ? -1 : INT32_MAX;
    return (xq_page_table){table->batch,
                           verify_memory_upload(m, indptr, (size_t)(table->batch + 1) * 4, err),
                           verify_memory_upload(m, indices, (size_t)(entries + 4) * 4, err),
                           verify_memory_upload(m, last, (size_t)table->batch * 4, err)};
}

static xq_tail_pool upload_tails(verify_memory *m, int layer, const rows *table, error *err)
{
    int32_t slots[CASE_MAX_SEQUENCES];
    if (!m->tail_bytes)
        return (xq_tail_pool){0, 0};
    for (int i = 0; i < table->batch; i++)
        slots[i] = m->shape->sequence[table->of[i]].slot;
    return (xq_tail_pool){m->tails[layer], verify_memory_upload(m, slots, (size_t)table->batch * 4, err)};
}

static uint64_t upload_workspace(verify_memory *m, int implementation, int layer, size_t *bytes, error *err)
{
    *bytes = m->v->plans[implementation].info[layer > 0].workspace_bytes;
    uint64_t workspace = verify_memory_upload(m, NULL, *bytes, err);
    if (err->status == XQ_OK && *bytes && xq_device_fill(m->v->context, workspace, 0, *bytes) != XQ_OK)
        last_error_read(m->v->context, XQ_ERROR_DEVICE, err);
    return workspace;
}

static call_cache upload_cache(verify_memory *m, int implementation, int layer, const rows *table,
                               error *err)
{
    call_cache cached = {
        .plan = verify_plan(m->v, implementation, layer),
        .table = upload_table(m, table, err),
        .pages = m->pages[layer],
        .weights = m->v->plans[implementation].weights[layer],
        .accumulator = m->accumulator,
        .tails = upload_tails(m, layer, table, err),
    };
    cached.workspace = upload_workspace(m, implementation, layer, &cached.workspace_bytes, err);
    return cached;
}

/* Frees the buffers that were made after the first `count`: those of a call that is over. */
static void release_to(verify_memory *m, int count)
{
    while (m->count > count)
        xq_device_free(m->v->context, m->pointers[--m->count]);
}

static xq_status finish(verify_memory *m, xq_status status, int mark, error *err)
{
    if (err->status == XQ_OK && status == XQ_OK)
        status = xq_device_synchronize(m->v->context);
    if (err->status == XQ_OK && status != XQ_OK)
        last_error_read(m->v->context, status, err);
    release_to(m, mark);
    return err->status;
}

/* ---------------------------------------------------------------- append, accumulate */

static rows rows_of_round(const case_shape *shape, const case_round *round)
{
    rows table = {.batch = shape->sequences};
    for (int i = 0; i < shape->sequences; i++) {
        table.of[i] = i;
        table.length[i] = round->end[i];
    }
    return table;
}

/* The tokens of a round, row by row. */
typedef struct tokens {
    int count;
    int32_t *order, *sequence, *position, *rotary; /* order: the row before shuffling */
    uint16_t *x;
    int32_t indptr[CASE_MAX_SEQUENCES + 1];
} tokens;

static void tokens_free(tokens *t)
{
    free(t->order);
    free(t->sequence);
    free(t->position);
    free(t->rotary);
    free(t->x);
}

static xq_status tokens_gather(const verify_memory *m, int layer, const case_round *round, bool in_order,
                               tokens *t, error *err)
{
    const case_shape *shape = m->shape;
    const size_t d = (size_t)m->v->spec.hidden;
    memset(t, 0, sizeof *t);
    for (int i = 0; i < shape->sequences; i++)
        t->indptr[i + 1] = t->count += round->end[i] - round->begin[i];
    size_t count = (size_t)t->count + 1;
    t->order = calloc(count, 4);
    t->sequence = calloc(count, 4);
    t->position = calloc(count, 4);
    t->rotary = calloc(count, 4);
    t->x = calloc(count * d, sizeof *t->x);
    if (!t->order || !t->sequence || !t->position || !t->rotary || !t->x)
        return verify_out_of_memory(err);
    for (int i = 0; i < t->count; i++)
        t->order[i] = i;
    random_stream r = random_begin(shape->order_seed, (uint64_t)round->round);
    if (!in_order)
        random_shuffle(&r, t->order, (size_t)t->count);
    for (int row = 0; row < t->count; row++) {
        int i = 0;
        while (t->order[row] >= t->indptr[i + 1])
            i++;
        int token = round->begin[i] + t->order[row] - t->indptr[i];
        t->sequence[row] = i;
        t->position[row] = token;
        t->rotary[row] = case_token_position(shape, i, token);
        memcpy(t->x + (size_t)row * d, shape->x[layer] + (size_t)(shape->first_token[i] + token) * d,
               d * sizeof *t->x);
    }
    return XQ_OK;
}

xq_status verify_call_append(verify_memory *m, int implementation, int layer, int round_index, error *err)
{
    const xq_plan_info *info = &m->v->plans[implementation].info[layer > 0];
    case_round round = case_round_of(m->shape, round_index);
    rows table = rows_of_round(m->shape, &round);
    int mark = m->count;
    const call_cache cached = upload_cache(m, implementation, layer, &table, err);
    xq_append_args a = call_append(&cached);
    tokens t;
    if (tokens_gather(m, layer, &round, info->needs_append_indptr || !m->shape->shuffled, &t, err) ==
        XQ_OK) {
        size_t n = (size_t)t.count;
        a.tokens = t.count;
        a.x = verify_memory_upload(m, t.x, n * (size_t)m->v->spec.hidden * 2, err);
        a.token_sequence = verify_memory_upload(m, t.sequence, n * 4, err);
        a.token_position = verify_memory_upload(m, t.position, n * 4, err);
        if (info->needs_append_indptr)
            a.append_indptr = verify_memory_upload(m, t.indptr, (size_t)(table.batch + 1) * 4, err);
        if (m->kv && m->shape->kind != CASE_PLAIN)
            a.rotary_position = verify_memory_upload(m, t.rotary, n * 4, err);
    }
    tokens_free(&t);
    xq_status status = err->status == XQ_OK ? xq_plan_append(cached.plan, &a, NULL) : XQ_OK;
    return finish(m, status, mark, err);
}

xq_status verify_call_accumulate(verify_memory *m, int implementation, int layer, int round_index,
                                 error *err)
{
    case_round round = case_round_of(m->shape, round_index);
    rows table = rows_of_round(m->shape, &round);
    int mark = m->count;
    const call_cache cached = upload_cache(m, implementation, layer, &table, err);
    xq_accumulate_args a = call_accumulate(&cached);
    for (int i = 0; i < table.batch; i++)
        a.max_tokens = table.length[i] > a.max_tokens ? table.length[i] : a.max_tokens;
    xq_status status = err->status == XQ_OK ? xq_plan_accumulate(cached.plan, &a, NULL) : XQ_OK;
    return finish(m, status, mark, err);
}

/* ---------------------------------------------------------------- attend */

enum part { WHOLE, PREFIX, REST };

static rows rows_of_attend(const case_shape *shape, enum part part)
{
    rows table = {0};
    for (int i = case_first_attended(shape); i < shape->sequences; i++) {
        int of = part == PREFIX ? 0 : i;
        table.of[table.batch] = of;
        table.length[table.batch++] = shape->sequence[of].length;
    }
    return table;
}

/* The arguments of a call with all queries; `part` says which tokens they attend to. */
static xq_attend_args attend_args(verify_memory *m, int implementation, int layer, enum part part,
                                  error *err)
{
    const case_shape *shape = m->shape;
    rows table = rows_of_attend(shape, part);
    size_t queries = (size_t)shape->queries, heads = queries * (size_t)m->v->spec.heads;
    size_t values = heads * (size_t)m->v->spec.head_dim;
    int32_t indptr[CASE_MAX_SEQUENCES + 1] = {0}, offset[CASE_MAX_SEQUENCES] = {0};
    bool placed = shape->kind != CASE_PLAIN;
    const call_cache cached = upload_cache(m, implementation, layer, &table, err);
    xq_attend_args a = call_attend(&cached);
    for (int i = 0; i < table.batch; i++) {
        const case_sequence *s = &shape->sequence[i + case_first_attended(shape)];
        indptr[i + 1] = s->first_query + s->queries;
        offset[i] = part == PREFIX ? 0 : s->offset;
    }
    a.max_tokens = shape->longest > 0 ? shape->longest : 1;
    a.q = verify_memory_upload(m, shape->q, values * 2, err);
    a.out = verify_memory_upload(m, NULL, values * 2, err);
    a.lse = verify_memory_upload(m, NULL, heads * 4, err);
    if (m->v->spec.many_queries && !(m->v->spec.both_kernels && !placed)) {
        a.queries = shape->queries;
        a.max_queries = shape->most_queries;
        a.query_indptr = verify_memory_upload(m, indptr, (size_t)(table.batch + 1) * 4, err);
    }
    if (placed && m->v->spec.many_queries)
        a.query_position = verify_memory_upload(m, shape->query_position, queries * 4, err);
    if (placed)
        a.token_offset = verify_memory_upload(m, offset, (size_t)table.batch * 4, err);
    if (shape->tree) {
        a.tree_mask =
            verify_memory_upload(m, shape->tree_mask, queries * (size_t)shape->mask_words * 4, err);
        a.mask_words = shape->mask_words;
    }
    a.without_sinks = part == PREFIX;
    return a;
}

/* Attends twice, first with other queries. A launch must leave the workspace as it found it, and must not
 * use anything that another launch left there. The second output counts. */
static xq_status attend_twice(verify_memory *m, xq_plan *plan, xq_attend_args a, size_t values, error *err)
{
    const uint64_t q = a.q;
    uint16_t *other = malloc((values + 1) * sizeof *other);
    if (!other) {
        verify_out_of_memory(err);
        return XQ_OK;
    }
    for (size_t i = 0; i < values; i++)
        other[i] = m->shape->q[(i + 1) % values];
    a.q = verify_memory_upload(m, other, values * 2, err);
    free(other);
    xq_status status = err->status == XQ_OK ? xq_plan_attend(plan, &a, NULL) : XQ_OK;
    a.q = q;
    if (err->status == XQ_OK && status == XQ_OK)
        status = xq_device_fill(m->v->context, a.out, 0xff, values * 2);
    if (err->status == XQ_OK && status == XQ_OK)
        status = xq_plan_attend(plan, &a, NULL);
    return status;
}

static xq_status read_values(const verify_memory *m, uint64_t pointer, size_t count, double *out,
                             error *err)
{
    uint16_t *bits = malloc((count + 1) * sizeof *bits);
    if (!bits)
        return verify_out_of_memory(err);
    if (xq_device_read(m->v->context, bits, pointer, count * 2) != XQ_OK)
        last_error_read(m->v->context, XQ_ERROR_DEVICE, err);
    for (size_t i = 0; i < count; i++)
        out[i] = (double)(m->v->spec.bf16 ? half_from_bfloat(bits[i]) : half_to_float(bits[i]));
    free(bits);
    return err->status;
}

xq_status verify_call_attend(verify_memory *m, int implementation, int layer, double *out, float *lse,
                             error *err)
{
    const case_shape *shape = m->shape;
    xq_plan *plan = verify_plan(m->v, implementation, layer);
    size_t heads = (size_t)shape->queries * (size_t)m->v->spec.heads;
    size_t values = heads * (size_t)m->v->spec.head_dim;
    bool shared = shape->kind == CASE_SHARED;
    int mark = m->count;
    xq_status status = XQ_OK;
    if (shape->queries == 0)
        return XQ_OK;
    xq_attend_args a = attend_args(m, implementation, layer, shared ? REST : WHOLE, err);
    if (err->status == XQ_OK)
        status = attend_twice(m, plan, a, values, err);
    if (shared && status == XQ_OK && err->status == XQ_OK) {
        xq_attend_args prefix = attend_args(m, implementation, layer, PREFIX, err);
        xq_merge_args merge = XQ_MERGE_ARGS_INIT;
        merge.queries = shape->queries;
        merge.out_a = prefix.out, merge.lse_a = prefix.lse;
        merge.out_b = merge.out = a.out, merge.lse_b = merge.lse = a.lse;
        if (err->status == XQ_OK)
            status = attend_twice(m, plan, prefix, values, err);
        if (err->status == XQ_OK && status == XQ_OK)
            status = xq_plan_merge(plan, &merge, NULL);
    }
    if (err->status == XQ_OK && status == XQ_OK)
        status = xq_device_synchronize(m->v->context);
    if (err->status == XQ_OK && status == XQ_OK && read_values(m, a.out, values, out, err) == XQ_OK)
        status = xq_device_read(m->v->context, lse, a.lse, heads * 4);
    return finish(m, status, mark, err);
}
