#include "plan.h"
#include "check.h"
#include "descriptor.h"
#include "occupancy.h"

#include <stdlib.h>
#include <string.h>

/* What partial results may add to the bytes that attention reads anyway. The fused kernel must touch
 * little else than its operands; the others pay for a fuller GPU. */
static const double fused_share = 0.047, other_share = 0.10;

const char *plan_family(enum plan_kernel which)
{
    static const char *const names[PLAN_KERNELS] = {"append", "attend",    "dequantize", "gemm",
                                                    "rope",   "kv_append", "kv_attend"};
    return names[which];
}

xq_status plan_result(const xq_plan *plan, error *err)
{
    return err->status == XQ_OK ? XQ_OK : context_fail(plan->context, err);
}

xq_status plan_read_args(void *full, size_t size, const void *given, const char *name, error *err)
{
    return descriptor_read(full, size, given, name, err);
}

uint64_t plan_matrix(const xq_plan *plan, uint64_t weights, const char *name)
{
    const struct shape_matrix *m = shape_find(plan->matrices, plan->matrix_count, name);
    return m ? weights + m->offset : 0;
}

struct xq_table plan_table(const xq_page_table *table)
{
    return (struct xq_table){table->indptr, table->indices, table->last_page_len};
}

/* ---------------------------------------------------------------- options */

static xq_status check_options(const xq_plan_options *o, error *err)
{
    if (!check_not_null("spec_json", o->spec_json, err) ||
        !check_range("implementation", (int64_t)o->implementation, XQ_FUSED, XQ_FP16_KV, err) ||
        !check_range("max_batch", o->max_batch, 1, 65535, err) || /* the grid's third dimension */
        !check_range("max_tokens", o->max_tokens, 1, 1 << 30, err) ||
        !check_range("max_pages", o->max_pages, 0, INT32_MAX, err) ||
        !check_range("max_append", o->max_append, 1, 1 << 30, err))
        return err->status;
    return XQ_OK;
}

/* Kernels count rows of a page table in 32 bits. */
static xq_status set_pages(xq_plan *p, int64_t given, error *err)
{
    int64_t enough = p->max_batch * ((p->max_tokens + p->shape.page - 1) / p->shape.page);
    int64_t most = INT32_MAX / p->shape.page;
    p->max_pages = given ? given : enough;
    if (p->implementation != XQ_UNFUSED || p->max_pages <= most)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "max_pages is %lld; valid with pages of %d tokens: 1 to %lld", (long long)p->max_pages,
              p->shape.page, (long long)most);
    return error_field(err, "max_pages");
}

/* ---------------------------------------------------------------- kernels */

static bool needs(const xq_plan *p, enum plan_kernel which)
{
    switch (which) {
    case PLAN_APPEND:
    case PLAN_DEQUANTIZE:
        return p->implementation != XQ_FP16_KV;
    case PLAN_ATTEND:
        return p->implementation == XQ_FUSED;
    case PLAN_GEMM:
    case PLAN_KV_ATTEND:
        return p->implementation != XQ_FUSED;
    case PLAN_ROPE:
        return p->implementation == XQ_UNFUSED && p->shape.rotary;
    case PLAN_KV_APPEND:
        return p->implementation == XQ_FP16_KV;
    case PLAN_KERNELS:
        break;
    }
    return false;
}

static xq_status load_kernels(xq_plan *p, error *err)
{
    for (int i = 0; i < PLAN_KERNELS && err->status == XQ_OK; i++)
        if (needs(p, (enum plan_kernel)i))
            kernel_load(p->context, p->spec, plan_family((enum plan_kernel)i), &p->kernels[i], err);
    return err->status;
}

static void read_constant(const kernel *k, const char *name, int64_t *value, error *err)
{
    if (k && err->status == XQ_OK && kernel_constant(k, name, value, err) == XQ_OK && *value < 1)
        error_set(err, XQ_ERROR_INTERNAL, "template", "templates/%s.spec.lua: '%s' must be positive",
                  k->family, name);
}

static xq_status read_constants(xq_plan *p, error *err)
{
    read_constant(p->kernels[PLAN_APPEND], "column_blocks", &p->append_columns, err);
    read_constant(p->kernels[PLAN_DEQUANTIZE], "column_blocks", &p->dequantize_columns, err);
    read_constant(p->kernels[PLAN_GEMM], "rows", &p->gemm_rows, err);
    read_constant(p->kernels[PLAN_GEMM], "cols", &p->gemm_cols, err);
    return err->status;
}

/* Bytes that one query of every head leaves as a partial result: output and log-sum-exp. */
static size_t partial_bytes(const xq_plan *p)
{
    return (size_t)p->shape.heads * ((size_t)p->shape.head_dim * 2 + 4);
}

static xq_status set_split(xq_plan *p, error *err)
{
    const struct shape *s = &p->shape;
    const kernel *k = p->kernels[p->implementation == XQ_FUSED ? PLAN_ATTEND : PLAN_KV_ATTEND];
    int64_t tile = 1, most = 1;
    read_constant(k, "tile_tokens", &tile, err);
    read_constant(k, "split_tokens", &most, err);
    if (err->status != XQ_OK)
        return err->status;
    if (tile > most || tile > INT32_MAX)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "templates/%s.spec.lua: split_tokens is less than tile_tokens", k->family);
    int blocks = 1;
    if (occupancy_blocks_per_sm(k, &blocks, err) != XQ_OK)
        return err->status;
    bool fused = p->implementation == XQ_FUSED;
    double kv_bytes = (double)s->kv_page_bytes / s->page;
    size_t remat = (size_t)(s->rank_k + (s->latent ? s->rank_v : s->rank_k)) * (size_t)s->kv_width * 2;
    int sms = p->context->device->properties.sm_count;
    p->split = (struct split_limits){
        .tile_tokens = (int32_t)tile,
        .most_tokens = most / tile * tile,
        .resident = (int64_t)blocks * (sms > 0 ? sms : 1),
        .kv_heads = s->kv_heads,
        .partial_bytes = 2 * (double)partial_bytes(p),
        .token_bytes = fused ? s->bytes_per_token : kv_bytes,
        .shared_bytes = fused ? (double)remat : 0,
        .share = fused ? fused_share : other_share,
    };
    return XQ_OK;
}

/* -------------------------------------------------------------- workspace */

/* Takes `count * size` bytes at the end of the workspace; what does not fit into an address is an error. */
static size_t take(struct plan_workspace *w, int64_t count, size_t size, error *err)
{
    size_t place = w->bytes, bytes;
    if (__builtin_mul_overflow((size_t)count, size, &bytes) || bytes > SIZE_MAX / 4 - place) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "the workspace would exceed the address space; lower max_batch, max_tokens or max_pages");
        return 0;
    }
    w->bytes = place + (bytes + 255) / 256 * 256;
    return place;
}

static xq_status lay_out_workspace(xq_plan *p, error *err)
{
    const struct shape *s = &p->shape;
    struct plan_workspace *w = &p->workspace;
    int64_t splits = split_most(&p->split, p->max_batch, p->max_tokens);
    w->counters = take(w, p->max_batch, (size_t)s->kv_heads * 4, err);
    w->partial_out = take(w, splits, (size_t)s->heads * (size_t)s->head_dim * 2, err);
    w->partial_lse = take(w, splits, (size_t)s->heads * 4, err);
    if (p->implementation == XQ_UNFUSED) {
        int64_t rows = p->max_pages * s->page;
        w->rows_k = take(w, rows, (size_t)s->rank_k * 2, err);
        w->rows_v = s->latent ? take(w, rows, (size_t)s->rank_v * 2, err) : w->rows_k;
        w->kv = take(w, p->max_pages, s->kv_page_bytes, err);
    }
    if (p->implementation == XQ_FP16_KV) {
        w->new_k = take(w, p->max_append, (size_t)s->kv_width * 2, err);
        w->new_v = take(w, p->max_append, (size_t)s->kv_width * 2, err);
    }
    return err->status;
}

/* --------------------------------------------------------------- lifetime */

static xq_status fill_plan(xq_plan *p, const xq_plan_options *o, error *err)
{
    p->implementation = o->implementation;
    p->max_batch = o->max_batch;
    p->max_tokens = o->max_tokens;
    p->max_append = o->max_append;
    if (context_complete(p->context, o->spec_json, &p->spec, err) != XQ_OK ||
        shape_read(p->spec, &p->shape, err) != XQ_OK || set_pages(p, o->max_pages, err) != XQ_OK)
        return err->status;
    bool fp16_kv = p->implementation == XQ_FP16_KV;
    p->page_bytes = fp16_kv ? p->shape.kv_page_bytes : p->shape.page_bytes;
    switch (p->implementation) {
    case XQ_FUSED:
        p->weights_bytes = p->shape.weights_bytes;
        p->matrices = p->shape.matrices;
        p->matrix_count = p->shape.matrix_count;
        break;
    case XQ_UNFUSED:
        p->weights_bytes = p->shape.unfused_weights_bytes;
        p->matrices = p->shape.unfused_matrices;
        p->matrix_count = p->shape.unfused_matrix_count;
        break;
    case XQ_FP16_KV:
        p->weights_bytes = p->shape.kv_weights_bytes;
        p->matrices = p->shape.kv_matrices;
        p->matrix_count = p->shape.kv_matrix_count;
        break;
    }
    if (load_kernels(p, err) != XQ_OK || read_constants(p, err) != XQ_OK || set_split(p, err) != XQ_OK)
        return err->status;
    return lay_out_workspace(p, err);
}

xq_status xq_plan_create(xq_context *context, const xq_plan_options *options, xq_plan **plan)
{
    if (!context || !context->device)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_plan *p = NULL;
    if (!check_not_null("plan", plan, &err) ||
        descriptor_read(&o, sizeof o, options, "options", &err) != XQ_OK ||
        check_options(&o, &err) != XQ_OK)
        return context_fail(context, &err);
    p = calloc(1, sizeof *p);
    if (!p) {
        error_set(&err, XQ_ERROR_MEMORY, "argument", "out of memory");
        return context_fail(context, &err);
    }
    p->context = context;
    if (fill_plan(p, &o, &err) != XQ_OK) {
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
    free(plan->spec);
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
        .weights_bytes = plan->weights_bytes,
        .workspace_bytes = plan->workspace.bytes,
        .cache_bytes_per_token = fp16_kv ? (double)s->kv_page_bytes / s->page : s->bytes_per_token,
    };
    descriptor_write(info, &full, sizeof full, "info", &err);
    return plan_result(plan, &err);
}

const char *xq_plan_spec(const xq_plan *plan)
{
    return plan ? plan->spec : NULL;
}
