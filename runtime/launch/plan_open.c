/* Makes a plan on a device from a plan image. */
#include "occupancy.h"
#include "plan_image.h"

#include <stdlib.h>

/* ----------------------------------------------------------------- weights */

/* Finds the matrices and vectors of the weights, so that launches do not look up names. */
static void find_weights(xq_plan *p)
{
    static const char *const matrices[PLAN_MATRICES] = {"wk",  "wk_absorb", "wv", "uk", "uv",
                                                        "ukv", "ukvt",      "fk", "fv"};
    static const char *const vectors[PLAN_VECTORS] = {"bk",    "bk_absorb", "bv",     "k_norm",
                                                      "sinks", "k_scale",   "v_scale"};
    p->weights = &p->shape.weights[p->implementation];
    for (int i = 0; i < PLAN_MATRICES; i++)
        p->matrices[i] = shape_matrix(p->weights, matrices[i]);
    for (int i = 0; i < PLAN_VECTORS; i++)
        p->vectors[i] = shape_vector(p->weights, vectors[i]);
}

/* ---------------------------------------------------------------- attention */

/* Bytes of the partial result of one query, over all heads: output and log-sum-exp. */
static double partial_bytes(const struct shape *s)
{
    return (double)s->heads * (s->head_dim * 2 + 4);
}

static xq_status set_split(const xq_plan *p, struct plan_attention *a, error *err)
{
    const struct shape *s = &p->shape;
    int blocks = 1;
    if (a->tile_tokens > a->split_tokens)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "templates/%s.spec.lua: split_tokens is less than tile_tokens", a->attend->family);
    if (occupancy_blocks_per_sm(a->attend, &blocks, err) != XQ_OK)
        return err->status;
    bool fused = p->implementation == XQ_FUSED;
    double kv_bytes = (double)shape_kv_page_bytes(s, p->implementation) / s->page;
    size_t remat = (size_t)(s->rank_k + (s->latent ? s->rank_v : s->rank_k)) * (size_t)s->kv_width * 2;
    int sms = p->context->device->properties.sm_count;
    a->split = (struct split_limits){
        .tile_tokens = (int32_t)a->tile_tokens,
        .most_tokens = a->split_tokens / a->tile_tokens * a->tile_tokens,
        .resident = (int64_t)blocks * (sms > 0 ? sms : 1),
        .kv_heads = s->kv_heads,
        .partial_bytes = 2 * partial_bytes(s),
        .token_bytes = !fused           ? kv_bytes
                       : s->cross_layer ? s->accumulator_bytes_per_token
                                        : s->bytes_per_token,
        .shared_bytes = fused ? (double)remat : 0,
        .share = a->partial_share,
    };
    return XQ_OK;
}

/* Sets the largest number of blocks of query rows in one launch. */
static xq_status set_rows(const xq_plan *p, struct plan_attention *a, int64_t max_queries, error *err)
{
    const struct shape *s = &p->shape;
    int64_t group = s->heads / s->kv_heads;
    if (a->absorb && a->absorb_rows != a->query_rows)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "query_rows of templates/absorb.spec.lua and templates/attend.spec.lua differ");
    int64_t of_one = (max_queries * group + a->query_rows - 1) / a->query_rows;
    if (of_one > PLAN_MOST_BLOCKS) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "max_queries is %lld; valid: 1 to %lld",
                  (long long)max_queries, (long long)(PLAN_MOST_BLOCKS * a->query_rows / group));
        return error_field(err, "max_queries");
    }
    int64_t blocks = p->max_batch * of_one;
    a->most_blocks = blocks < PLAN_MOST_BLOCKS ? blocks : (int64_t)PLAN_MOST_BLOCKS;
    return XQ_OK;
}

static xq_status set_attention(xq_plan *p, error *err)
{
    for (int q = 0; q < PLAN_QUERIES; q++)
        for (int v = 0; v < p->variants[q]; v++) {
            struct plan_attention *a = &p->attention[q][v];
            if (set_rows(p, a, q == PLAN_ONE ? 1 : p->max_queries, err) == XQ_OK)
                set_split(p, a, err);
        }
    return err->status;
}

/* ------------------------------------------------------------------ checks */

/* Decides where the arrays of calls are checked. */
static xq_status set_checks(xq_plan *p, error *err)
{
    if (p->context->device->properties.reads_are_cheap)
        p->checks |= PLAN_CHECKS_ON_HOST;
    if (p->shape.checked)
        p->checks |= PLAN_CHECKS_ON_DEVICE;
    if (p->pool_pages && !p->checks) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "pool_pages is %lld, and would have no effect on a GPU without `checked`; valid: 0",
                  (long long)p->pool_pages);
        return error_field(err, "pool_pages");
    }
    return p->shape.checked ? fault_log_open(p->context, &p->faults, err) : XQ_OK;
}

/* ----------------------------------------------------------------- opening */

static xq_status load_kernels(xq_plan *p, const struct plan_code *code, error *err)
{
    for (int i = 0; i < PLAN_SLOTS && err->status == XQ_OK; i++)
        if (plan_needs(p, i))
            kernel_open(p->context->device, &code->kernels[i], code->target, plan_slot(p, i), err);
    return err->status;
}

static xq_status fill_plan(xq_plan *p, error *err)
{
    struct plan_code code = {.spec = NULL};
    if (plan_image_read(p->image, p->image_bytes, p, &code, err) != XQ_OK || set_checks(p, err) != XQ_OK)
        return err->status;
    const struct shape *s = &p->shape;
    p->spec = code.spec;
    p->page_bytes =
        shape_is_kv(p->implementation) ? shape_kv_page_bytes(s, p->implementation) : s->page_bytes;
    find_weights(p);
    if (load_kernels(p, &code, err) != XQ_OK || set_attention(p, err) != XQ_OK)
        return err->status;
    return plan_lay_out_workspace(p, err);
}

xq_status plan_from_image(xq_context *context, unsigned char *image, size_t bytes, xq_plan **out,
                          error *err)
{
    xq_plan *p = (xq_plan *)calloc(1, sizeof *p);
    if (!p) {
        free(image);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    }
    p->context = context_retain(context);
    p->image = image;
    p->image_bytes = bytes;
    if (fill_plan(p, err) != XQ_OK) {
        xq_plan_destroy(p);
        return err->status;
    }
    *out = p;
    return XQ_OK;
}
