/* Checks the arrays of calls on a plan before the first launch. */
#include "../base/check.h"
#include "host_check.h"
#include "plan.h"

/* The numbers that all calls have. */
static struct xq_check_params table_of(const xq_plan *plan, const xq_page_table *table)
{
    return (struct xq_check_params){
        .table = plan_table(table),
        .max_tokens = plan->max_tokens,
        .max_pages = plan->max_pages,
        .pool_pages = plan->pool_pages,
        .table_entries = -1,
        .batch = table->batch,
        .page = plan->shape.page,
    };
}

/* Calls without sequences have no arrays. */
static bool check(const xq_plan *plan, struct xq_check_params *p, struct plan_stream *to, error *err)
{
    if (plan->faults && fault_log_take(plan->context, plan->faults, err) != XQ_OK)
        return false;
    if (plan->checks & PLAN_CHECKS_ON_HOST && p->batch > 0 &&
        host_check(plan->context->device, p, err) != XQ_OK)
        return false;
    if (!(plan->checks & PLAN_CHECKS_ON_DEVICE))
        return true;
    to->gate = fault_log_open_gate(plan->faults);
    if (p->batch == 0)
        return true;
    struct fault_ticket ticket = fault_log_ticket(plan->faults);
    to->gate = p->gate = ticket.gate;
    p->record = ticket.record;
    p->bell = ticket.bell;
    p->call = ticket.call;
    static const uint32_t one_block[3] = {1, 1, 1};
    return kernel_launch(plan->kernels[PLAN_CHECK], one_block, p, sizeof *p, to->stream, err) == XQ_OK;
}

bool plan_check_append(const xq_plan *plan, const xq_append_args *a, struct plan_stream *to, error *err)
{
    struct xq_check_params p = table_of(plan, &a->table);
    if (a->tokens > 0) { /* without tokens the other arrays may be absent */
        p.tokens = (int)a->tokens;
        p.token_sequence = a->token_sequence;
        p.token_position = a->token_position;
        p.rotary_position = plan->implementation == XQ_FP16_KV ? a->rotary_position : 0;
        p.append_indptr = plan_has_tails(plan) ? a->append_indptr : 0;
        p.slots = plan_has_tails(plan) ? a->tails.slots : 0;
    }
    return check(plan, &p, to, err);
}

bool plan_check_accumulate(const xq_plan *plan, const xq_accumulate_args *a, struct plan_stream *to,
                           error *err)
{
    struct xq_check_params p = table_of(plan, &a->table);
    p.max_tokens = a->max_tokens;
    p.own_max_tokens = 1;
    p.pages_once = 1;
    p.slots = plan_has_tails(plan) && a->max_tokens > 0 ? a->tails.slots : 0;
    return check(plan, &p, to, err);
}

bool plan_check_dequantize(const xq_plan *plan, const xq_dequantize_args *a, struct plan_stream *to,
                           error *err)
{
    struct xq_check_params p = table_of(plan, &a->table);
    p.table_entries = a->table_entries;
    p.slots = plan_reads_tails(plan) && a->table_entries > 0 ? a->tails.slots : 0;
    return check(plan, &p, to, err);
}

bool plan_check_attend(struct plan_attend_call *c, error *err)
{
    const xq_plan *plan = c->plan;
    const xq_attend_args *a = c->args;
    struct xq_check_params p = table_of(plan, &a->table);
    p.max_tokens = a->max_tokens;
    p.own_max_tokens = 1;
    if (p.batch > 0) {
        p.queries = plan_queries(c, 0);
        p.max_queries = (int)c->max_queries;
        p.slots = plan_reads_tails(plan) ? a->tails.slots : 0;
        /* Launches for parts of the batch use the same counters one after the other. */
        int32_t together = PLAN_MOST_BLOCKS / c->blocks;
        p.counters = a->workspace + plan->workspace.counters;
        p.counters_at = (int64_t)plan->workspace.counters;
        p.sequence_counters = c->blocks * plan->shape.kv_heads;
        p.counter_sequences = p.batch < together ? p.batch : together;
    }
    return check(plan, &p, &c->to, err);
}

bool plan_check_merge(const xq_plan *plan, struct plan_stream *to, error *err)
{
    struct xq_check_params p = {.batch = 0};
    return check(plan, &p, to, err);
}
