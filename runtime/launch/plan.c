#include "plan.h"
#include "../base/check.h"
#include "../base/descriptor.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

xq_status plan_result(const xq_plan *plan, error *err)
{
    return err->status == XQ_OK ? XQ_OK : context_fail(plan->context, err);
}

xq_status plan_read_args(void *full, size_t size, size_t first, const void *given, const char *name,
                         error *err)
{
    return descriptor_read(full, size, first, given, name, err);
}

struct xq_matrix plan_matrix(const xq_plan *plan, uint64_t weights, enum plan_matrix which)
{
    const struct shape_matrix *m = plan->matrices[which];
    if (!m)
        return (struct xq_matrix){0, 0};
    return (struct xq_matrix){weights + m->offset,
                              weight_bytes(m->type) == 1 ? weights + m->scale_offset : 0};
}

uint64_t plan_vector(const xq_plan *plan, uint64_t weights, enum plan_vector which)
{
    const struct shape_vector *v = plan->vectors[which];
    return v ? weights + v->offset : 0;
}

bool plan_check_cache(const xq_plan *plan, const xq_tail_pool *tails, uint64_t accumulator, error *err)
{
    static const char no_tails[] = "the plan's tail_bytes is 0",
                      no_accumulator[] = "the plan's accumulator_page_bytes is 0";
    return (plan_has_tails(plan) || (check_unused("tails.pool", tails->pool, no_tails, err) &&
                                     check_unused("tails.slots", tails->slots, no_tails, err))) &&
           ((plan->implementation != XQ_FP16_KV && plan->shape.cross_layer) ||
            check_unused("accumulator", accumulator, no_accumulator, err));
}

struct xq_table plan_table(const xq_page_table *table)
{
    return (struct xq_table){table->indptr, table->indices, table->last_page_len};
}

struct xq_tails plan_tails(const xq_tail_pool *tails)
{
    return (struct xq_tails){tails->pool, tails->slots};
}

uint64_t plan_advance(uint64_t pointer, uint64_t bytes)
{
    return pointer ? pointer + bytes : 0;
}

struct xq_queries plan_queries(const struct plan_attend_call *c, int32_t first)
{
    const xq_attend_args *a = c->args;
    uint64_t ints = (uint64_t)first * 4, rows = a->query_indptr ? 0 : (uint64_t)first;
    return (struct xq_queries){
        .query_indptr = plan_advance(a->query_indptr, ints),
        .query_position = plan_advance(a->query_position, rows * 4),
        .token_offset = plan_advance(a->token_offset, ints),
        .tree_mask = plan_advance(a->tree_mask, rows * (uint64_t)a->mask_words * 4),
        .mask_words = a->tree_mask ? a->mask_words : 0,
        .queries = (int)c->queries,
        .blocks = c->blocks,
    };
}

int64_t plan_entries(const xq_plan *plan, int32_t batch, int64_t max_tokens)
{
    int64_t entries = batch * ((max_tokens + plan->shape.page - 1) / plan->shape.page);
    return entries < plan->max_pages ? entries : plan->max_pages;
}

/* ---------------------------------------------------------------- options */

static xq_status check_options(const xq_plan_options *o, error *err)
{
    if (!check_not_null("spec_json", o->spec_json, err) ||
        !check_range("implementation", (int64_t)o->implementation, XQ_FUSED, XQ_FP16_KV, err) ||
        !check_range("max_batch", o->max_batch, 1, PLAN_MOST_BLOCKS, err) ||
        !check_range("max_tokens", o->max_tokens, 1, 1 << 30, err) ||
        !check_range("max_pages", o->max_pages, 0, INT32_MAX, err) ||
        !check_range("max_append", o->max_append, 1, 1 << 30, err) ||
        !check_range("max_queries", o->max_queries, 1, 1 << 20, err) ||
        !check_range("max_total_queries", o->max_total_queries, 0, INT32_MAX, err) ||
        !check_range("checked", o->checked, 0, 1, err) ||
        !check_range("pool_pages", o->pool_pages, 0, INT32_MAX, err))
        return err->status;
    return XQ_OK;
}

/* Kernels count tiles of a page table, and rows of what they dequantize, in 32 bits. */
static xq_status set_pages(xq_plan *p, int64_t given, error *err)
{
    int64_t enough = p->max_batch * ((p->max_tokens + p->shape.page - 1) / p->shape.page);
    int64_t most = INT32_MAX / p->shape.page;
    p->max_pages = given ? given : enough;
    bool counts = p->implementation == XQ_UNFUSED ||
                  (p->implementation == XQ_FUSED && (p->shape.cross_layer || p->shape.key_norm_row));
    if (!counts || p->max_pages <= most)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "max_pages is %lld; valid with pages of %d tokens: 1 to %lld", (long long)p->max_pages,
              p->shape.page, (long long)most);
    return error_field(err, "max_pages");
}

static xq_status set_queries(xq_plan *p, const xq_plan_options *o, error *err)
{
    p->max_queries = o->max_queries;
    p->max_total_queries = o->max_total_queries ? o->max_total_queries : p->max_batch * o->max_queries;
    if (p->max_total_queries <= INT32_MAX)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "max_total_queries is left 0, and max_batch * max_queries (%lld) is too much; valid: 1 to %d",
              (long long)p->max_total_queries, INT32_MAX);
    return error_field(err, "max_total_queries");
}

/* ------------------------------------------------------------------ checks */

/* The spec with "checked" chosen, where it does not choose that itself. */
static char *checked_spec(xq_context *context, const char *spec_json, error *err)
{
    char *chosen = NULL, *checked = NULL;
    if (context_override(context, spec_json, "{}", &chosen, err) != XQ_OK)
        return NULL;
    cJSON *choices = cJSON_Parse(chosen);
    if (cJSON_HasObjectItem(choices, "checked"))
        checked = chosen;
    else
        context_override(context, chosen, "{\"checked\": true}", &checked, err);
    cJSON_Delete(choices);
    if (checked != chosen)
        free(chosen);
    return checked;
}

/* Who looks through the arrays of calls. The spec asks for it where the options do. */
static xq_status set_checks(xq_plan *p, const xq_plan_options *o, error *err)
{
    p->pool_pages = o->pool_pages;
    if (o->checked && !p->shape.checked) {
        error_set(err, XQ_ERROR_SPEC, "spec",
                  "checked is false, and the plan's options ask for it; leave it out");
        return error_field(err, "checked");
    }
    if (p->context->device->properties.reads_are_cheap)
        p->checks |= PLAN_CHECKS_ON_HOST;
    if (p->shape.checked)
        p->checks |= PLAN_CHECKS_ON_DEVICE;
    if (o->pool_pages && !p->checks) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "pool_pages is %lld, and nothing would look at it; valid on a GPU without `checked`: 0",
                  (long long)o->pool_pages);
        return error_field(err, "pool_pages");
    }
    return p->shape.checked ? fault_log_open(p->context, &p->faults, err) : XQ_OK;
}

/* --------------------------------------------------------------- lifetime */

/* Finds the matrices and vectors of the weights, so that launches do not look for names. */
static void find_weights(xq_plan *plan)
{
    static const char *const matrices[PLAN_MATRICES] = {"wk",  "wk_absorb", "wv", "uk", "uv",
                                                        "ukv", "ukvt",      "fk", "fv"};
    static const char *const vectors[PLAN_VECTORS] = {"bk", "bk_absorb", "bv", "k_norm", "sinks"};
    for (int i = 0; i < PLAN_MATRICES; i++)
        plan->matrices[i] = shape_matrix(plan->weights, matrices[i]);
    for (int i = 0; i < PLAN_VECTORS; i++)
        plan->vectors[i] = shape_vector(plan->weights, vectors[i]);
}

static xq_status fill_plan(xq_plan *p, const xq_plan_options *o, error *err)
{
    p->implementation = o->implementation;
    p->max_batch = o->max_batch;
    p->max_tokens = o->max_tokens;
    p->max_append = o->max_append;
    if (context_complete(p->context, o->spec_json, &p->spec, err) != XQ_OK ||
        shape_read(p->spec, &p->shape, err) != XQ_OK || set_pages(p, o->max_pages, err) != XQ_OK ||
        set_queries(p, o, err) != XQ_OK || set_checks(p, o, err) != XQ_OK)
        return err->status;
    p->page_bytes = p->implementation == XQ_FP16_KV ? p->shape.kv_page_bytes : p->shape.page_bytes;
    p->weights = &p->shape.weights[p->implementation];
    find_weights(p);
    if (plan_load_kernels(p, o->spec_json, err) != XQ_OK)
        return err->status;
    return plan_lay_out_workspace(p, err);
}

xq_status xq_plan_create(xq_context *context, const xq_plan_options *options, xq_plan **plan)
{
    if (!context || !context->device)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_plan *p = NULL;
    if (!check_not_null("plan", plan, &err) ||
        descriptor_read(&o, sizeof o, DESCRIPTOR_UP_TO(xq_plan_options, max_queries), options, "options",
                        &err) != XQ_OK ||
        check_options(&o, &err) != XQ_OK)
        return context_fail(context, &err);
    p = calloc(1, sizeof *p);
    if (!p) {
        error_set(&err, XQ_ERROR_MEMORY, "argument", "out of memory");
        return context_fail(context, &err);
    }
    p->context = context_retain(context);
    char *spec = o.checked ? checked_spec(context, o.spec_json, &err) : NULL;
    o.spec_json = spec ? spec : o.spec_json;
    if (err.status == XQ_OK)
        fill_plan(p, &o, &err);
    free(spec);
    if (err.status != XQ_OK) {
        xq_plan_destroy(p);
        return context_fail(context, &err);
    }
    *plan = p;
    return XQ_OK;
}

void xq_plan_destroy(xq_plan *plan)
{
    if (!plan)
        return;
    for (int i = 0; i < PLAN_KERNELS; i++)
        kernel_destroy(plan->kernels[i]);
    for (int i = 0; i < PLAN_QUERIES; i++) {
        kernel_destroy(plan->attention[i].attend);
        kernel_destroy(plan->attention[i].absorb);
    }
    fault_log_close(plan->context, plan->faults);
    free(plan->spec);
    context_release(plan->context);
    free(plan);
}

/* -------------------------------------------------------------- questions */

xq_status xq_plan_query(const xq_plan *plan, xq_plan_info *info)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    const struct shape *s = &plan->shape;
    bool fp16_kv = plan->implementation == XQ_FP16_KV;
    xq_plan_info full = {
        .struct_size = sizeof full,
        .hidden_size = s->hidden_size,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .page_tokens = s->page,
        .rank_k = fp16_kv ? s->kv_width : s->rank_k,
        .rank_v = fp16_kv ? s->kv_width : s->rank_v,
        .page_bytes = plan->page_bytes,
        .page_align = 128,
        .weights_bytes = plan->weights->bytes,
        .workspace_bytes = plan->workspace.bytes,
        .cache_bytes_per_token = fp16_kv ? (double)s->kv_page_bytes / s->page : s->bytes_per_token,
        .latents = 1,
    };
    if (!fp16_kv) {
        full.tail_bytes = s->tail_bytes;
        full.accumulator_page_bytes = s->accumulator_page_bytes;
        full.accumulator_bytes_per_token = s->accumulator_bytes_per_token;
        full.needs_append_indptr = s->by_channel;
        full.latents = s->streams[0].latents;
    }
    descriptor_write(info, &full, sizeof full, DESCRIPTOR_UP_TO(xq_plan_info, tail_bytes), "info", &err);
    return plan_result(plan, &err);
}

const char *xq_plan_spec(const xq_plan *plan)
{
    return plan ? plan->spec : NULL;
}
