/* Which kernels a plan needs, and what they state about their launches. */
#include "occupancy.h"
#include "plan.h"

#include <stdlib.h>

/* The family of a kernel. */
static const char *family_of(enum plan_kernel which)
{
    static const char *const names[PLAN_KERNELS] = {"append", "append_channel", "accumulate", "dequantize",
                                                    "gemm",   "rope",           "key_norms",  "kv_append",
                                                    "merge",  "check"};
    return names[which];
}

static bool needs(const struct shape *s, xq_implementation implementation, enum plan_kernel which)
{
    bool fp16_kv = implementation == XQ_FP16_KV;
    switch (which) {
    case PLAN_APPEND:
        return !fp16_kv && s->by_token;
    case PLAN_APPEND_CHANNEL:
        return !fp16_kv && s->by_channel;
    case PLAN_ACCUMULATE:
        return !fp16_kv && s->cross_layer;
    case PLAN_DEQUANTIZE:
        return !fp16_kv;
    case PLAN_GEMM:
        return implementation != XQ_FUSED;
    case PLAN_ROPE:
        return implementation == XQ_UNFUSED && (s->rotary || s->key_norm);
    case PLAN_KEY_NORMS: /* attend sees one head at a time */
        return implementation == XQ_FUSED && s->key_norm_row;
    case PLAN_KV_APPEND:
        return fp16_kv;
    case PLAN_MERGE:
        return true;
    case PLAN_CHECK:
        return s->checked;
    case PLAN_KERNELS:
        break;
    }
    return false;
}

static bool absorbs(const struct shape *s, xq_implementation implementation)
{
    return implementation == XQ_FUSED && s->keys.absorbed_columns > 0;
}

static const char *attention_family(xq_implementation implementation)
{
    return implementation == XQ_FUSED ? "attend" : "kv_attend";
}

/* Merging, and in fused plans dequantizing, are calls of their own. */
int plan_families(const struct shape *s, xq_implementation implementation,
                  const char *names[PLAN_MOST_FAMILIES])
{
    int count = 0;
    for (int i = 0; i < PLAN_KERNELS; i++) {
        bool apart = i == PLAN_MERGE || (i == PLAN_DEQUANTIZE && implementation == XQ_FUSED);
        if (!apart && needs(s, implementation, (enum plan_kernel)i))
            names[count++] = family_of((enum plan_kernel)i);
    }
    if (absorbs(s, implementation))
        names[count++] = "absorb";
    names[count++] = attention_family(implementation);
    return count;
}

static void read_constant(const kernel *k, const char *name, int64_t *value, error *err)
{
    if (k && err->status == XQ_OK && kernel_constant(k, name, value, err) == XQ_OK &&
        (*value < 1 || *value > INT32_MAX))
        error_set(err, XQ_ERROR_INTERNAL, "template", "templates/%s.spec.lua: '%s' must be positive",
                  k->family, name);
}

static xq_status load_kernels(xq_plan *p, error *err)
{
    for (int i = 0; i < PLAN_KERNELS && err->status == XQ_OK; i++)
        if (needs(&p->shape, p->implementation, (enum plan_kernel)i))
            kernel_load(p->context, p->spec, family_of((enum plan_kernel)i), &p->kernels[i], err);
    read_constant(p->kernels[PLAN_APPEND], "column_blocks", &p->append_columns, err);
    read_constant(p->kernels[PLAN_APPEND_CHANNEL], "column_blocks", &p->append_channel_columns, err);
    read_constant(p->kernels[PLAN_APPEND_CHANNEL], "group_tokens", &p->append_group, err);
    read_constant(p->kernels[PLAN_APPEND_CHANNEL], "steps", &p->append_steps, err);
    read_constant(p->kernels[PLAN_ACCUMULATE], "column_blocks", &p->accumulate_columns, err);
    read_constant(p->kernels[PLAN_ACCUMULATE], "tiles", &p->accumulate_tiles, err);
    read_constant(p->kernels[PLAN_DEQUANTIZE], "column_blocks", &p->dequantize_columns, err);
    read_constant(p->kernels[PLAN_GEMM], "rows", &p->gemm_rows, err);
    read_constant(p->kernels[PLAN_GEMM], "cols", &p->gemm_cols, err);
    read_constant(p->kernels[PLAN_ROPE], "head_blocks", &p->rope_heads, err);
    read_constant(p->kernels[PLAN_KEY_NORMS], "tile_tokens", &p->key_norms_tokens, err);
    read_constant(p->kernels[PLAN_MERGE], "rows", &p->merge_rows, err);
    return err->status;
}

/* ---------------------------------------------------------------- attention */

/* Bytes that one query of every head leaves as a partial result: output and log-sum-exp. */
static double partial_bytes(const struct shape *s)
{
    return (double)s->heads * (s->head_dim * 2 + 4);
}

static xq_status set_split(const xq_plan *p, struct plan_attention *a, error *err)
{
    const struct shape *s = &p->shape;
    int64_t tile = 1, most = 1;
    read_constant(a->attend, "tile_tokens", &tile, err);
    read_constant(a->attend, "split_tokens", &most, err);
    if (err->status == XQ_OK && tile > most)
        error_set(err, XQ_ERROR_INTERNAL, "template",
                  "templates/%s.spec.lua: split_tokens is less than tile_tokens", a->attend->family);
    int blocks = 1;
    if (err->status != XQ_OK || occupancy_blocks_per_sm(a->attend, &blocks, err) != XQ_OK)
        return err->status;
    bool fused = p->implementation == XQ_FUSED;
    double kv_bytes = (double)s->kv_page_bytes / s->page;
    size_t remat = (size_t)(s->rank_k + (s->latent ? s->rank_v : s->rank_k)) * (size_t)s->kv_width * 2;
    int sms = p->context->device->properties.sm_count;
    a->split = (struct split_limits){
        .tile_tokens = (int32_t)tile,
        .most_tokens = most / tile * tile,
        .resident = (int64_t)blocks * (sms > 0 ? sms : 1),
        .kv_heads = s->kv_heads,
        .partial_bytes = 2 * partial_bytes(s),
        .token_bytes = !fused           ? kv_bytes
                       : s->cross_layer ? s->accumulator_bytes_per_token
                                        : s->bytes_per_token,
        .shared_bytes = fused ? (double)remat : 0,
    };
    return kernel_number(a->attend, "partial_share", &a->split.share, err);
}

/* Blocks of query rows, at most, in one launch. */
static xq_status set_rows(const xq_plan *p, struct plan_attention *a, int64_t max_queries, error *err)
{
    const struct shape *s = &p->shape;
    int64_t group = s->heads / s->kv_heads, absorbing = 0;
    read_constant(a->attend, "query_rows", &a->query_rows, err);
    read_constant(a->absorb, "query_rows", &absorbing, err);
    if (err->status != XQ_OK)
        return err->status;
    if (a->absorb && absorbing != a->query_rows)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "query_rows of templates/absorb.spec.lua and templates/attend.spec.lua differ");
    int64_t of_one = (max_queries * group + a->query_rows - 1) / a->query_rows;
    if (of_one > PLAN_MOST_BLOCKS) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "max_queries is %lld; valid: 1 to %lld",
                  (long long)max_queries, (long long)(PLAN_MOST_BLOCKS * a->query_rows / group));
        return error_field(err, "max_queries");
    }
    int64_t blocks = p->max_batch * of_one;
    a->most_blocks = blocks < PLAN_MOST_BLOCKS ? blocks : PLAN_MOST_BLOCKS;
    return XQ_OK;
}

static xq_status load_attention(xq_plan *p, const char *completed, int64_t max_queries,
                                struct plan_attention *a, error *err)
{
    if (absorbs(&p->shape, p->implementation))
        kernel_load(p->context, completed, "absorb", &a->absorb, err);
    if (err->status == XQ_OK)
        kernel_load(p->context, completed, attention_family(p->implementation), &a->attend, err);
    if (err->status != XQ_OK || set_rows(p, a, max_queries, err) != XQ_OK)
        return err->status;
    return set_split(p, a, err);
}

/* Parameters that the caller chose for the kernels of one query are not those of the kernels of many, whose
 * blocks have other rows, tiles and splits: what is best for one is slow, or does not fit, in the other. */
static const char for_many[] =
    "{\"queries\": \"many\", \"tuning\": {\"attend\": null, \"absorb\": null, \"kv_attend\": null}}";

static xq_status load_many(xq_plan *p, const char *spec_json, error *err)
{
    char *completed = NULL, *many = NULL;
    if (context_override(p->context, spec_json, for_many, &many, err) == XQ_OK &&
        context_complete(p->context, many, &completed, err) == XQ_OK)
        load_attention(p, completed, p->max_queries, &p->attention[PLAN_MANY], err);
    free(completed);
    free(many);
    return err->status;
}

xq_status plan_load_kernels(xq_plan *p, const char *spec_json, error *err)
{
    if (load_kernels(p, err) != XQ_OK)
        return err->status;
    if (p->shape.many)
        return load_attention(p, p->spec, p->max_queries, &p->attention[PLAN_MANY], err);
    if (load_attention(p, p->spec, 1, &p->attention[PLAN_ONE], err) == XQ_OK && p->max_queries > 1)
        load_many(p, spec_json, err);
    return err->status;
}
