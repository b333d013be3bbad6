#include "plan_kernels.h"

#include <assert.h>
#include <string.h>

static bool absorbs(const struct shape *s, xq_implementation implementation)
{
    return implementation == XQ_FUSED && s->keys.absorbed_columns > 0;
}

/* Whether plans need a kernel other than attention's. */
static bool needs(const struct shape *s, xq_implementation implementation, enum plan_kernel which)
{
    bool kv = shape_is_kv(implementation);
    switch (which) {
    case PLAN_APPEND:
        return !kv && s->by_token;
    case PLAN_APPEND_CHANNEL:
        return !kv && s->by_channel;
    case PLAN_ACCUMULATE:
        return !kv && s->cross_layer;
    case PLAN_DEQUANTIZE:
        return !kv;
    case PLAN_GEMM:
        return implementation != XQ_FUSED;
    case PLAN_ROPE:
        return implementation == XQ_UNFUSED && (s->rotary || s->key_norm);
    case PLAN_KEY_NORMS: /* attend sees one head at a time */
        return implementation == XQ_FUSED && s->key_norm_row;
    case PLAN_KV_APPEND:
        return kv;
    case PLAN_MERGE:
        return true;
    case PLAN_CHECK:
        return s->checked;
    case PLAN_KERNELS:
        break;
    }
    return false;
}

bool plan_serves(const xq_plan *p, enum plan_queries queries)
{
    return queries == PLAN_ONE ? !p->shape.many : p->shape.many || p->max_queries > 1;
}

bool plan_needs(const xq_plan *p, int slot)
{
    if (slot < PLAN_KERNELS)
        return needs(&p->shape, p->implementation, (enum plan_kernel)slot);
    return plan_variant_of(slot) < p->variants[plan_queries_of(slot)] &&
           (slot < PLAN_ABSORB || absorbs(&p->shape, p->implementation));
}

kernel **plan_slot(xq_plan *p, int slot)
{
    if (slot < PLAN_KERNELS)
        return &p->kernels[slot];
    struct plan_attention *a = &p->attention[plan_queries_of(slot)][plan_variant_of(slot)];
    return slot < PLAN_ABSORB ? &a->attend : &a->absorb;
}

static const char *attention_family(xq_implementation implementation)
{
    return implementation == XQ_FUSED    ? "attend"
           : implementation == XQ_FP8_KV ? "kv_attend_e4m3"
                                         : "kv_attend";
}

static const struct {
    const char *family;
    size_t params_bytes;
} others[] = {
    /* in the order of enum plan_kernel */
    {"append", sizeof(struct xq_append_params)},
    {"append_channel", sizeof(struct xq_append_params)},
    {"accumulate", sizeof(struct xq_accumulate_params)},
    {"dequantize", sizeof(struct xq_dequantize_params)},
    {"gemm", sizeof(struct xq_gemm_params)},
    {"rope", sizeof(struct xq_rope_params)},
    {"key_norms", sizeof(struct xq_key_norms_params)},
    {"kv_append", sizeof(struct xq_kv_append_params)},
    {"merge", sizeof(struct xq_merge_params)},
    {"check", sizeof(struct xq_check_params)},
};
static_assert(sizeof others / sizeof others[0] == PLAN_KERNELS, "one for each");

static const char *other_family(xq_implementation implementation, int which)
{
    if (which == PLAN_GEMM && shape_is_kv(implementation))
        return "gemm_kv";
    return which == PLAN_KV_APPEND && implementation == XQ_FP8_KV ? "kv_append_e4m3" : others[which].family;
}

const char *plan_family(const xq_plan *p, int slot)
{
    if (slot < PLAN_KERNELS)
        return other_family(p->implementation, slot);
    return slot < PLAN_ABSORB ? attention_family(p->implementation) : "absorb";
}

size_t plan_params_bytes(const xq_plan *p, int slot)
{
    if (slot < PLAN_KERNELS)
        return others[slot].params_bytes;
    if (slot >= PLAN_ABSORB)
        return sizeof(struct xq_absorb_params);
    return p->implementation == XQ_FUSED ? sizeof(struct xq_attend_params)
                                         : sizeof(struct xq_kv_attend_params);
}

void plan_constants(xq_plan *p, struct plan_constant out[PLAN_CONSTANTS])
{
    const struct plan_constant others_constants[] = {
        {PLAN_APPEND, "column_blocks", &p->append_columns},
        {PLAN_APPEND_CHANNEL, "column_blocks", &p->append_channel_columns},
        {PLAN_APPEND_CHANNEL, "group_tokens", &p->append_group},
        {PLAN_APPEND_CHANNEL, "steps", &p->append_steps},
        {PLAN_ACCUMULATE, "column_blocks", &p->accumulate_columns},
        {PLAN_ACCUMULATE, "tiles", &p->accumulate_tiles},
        {PLAN_DEQUANTIZE, "column_blocks", &p->dequantize_columns},
        {PLAN_GEMM, "rows", &p->gemm_rows},
        {PLAN_GEMM, "cols", &p->gemm_cols},
        {PLAN_ROPE, "head_blocks", &p->rope_heads},
        {PLAN_KEY_NORMS, "tile_tokens", &p->key_norms_tokens},
        {PLAN_MERGE, "rows", &p->merge_rows},
    };
    enum { OTHERS = sizeof others_constants / sizeof others_constants[0], OWN_CONSTANTS = 5 };
    memcpy(out, others_constants, sizeof others_constants);
    for (int i = 0; i < PLAN_ATTENTIONS; i++) {
        struct plan_attention *a = &p->attention[i / PLAN_VARIANTS][i % PLAN_VARIANTS];
        const struct plan_constant own[] = {
            {PLAN_ATTEND + i, "query_rows", &a->query_rows},
            {PLAN_ATTEND + i, "tile_tokens", &a->tile_tokens},
            {PLAN_ATTEND + i, "split_tokens", &a->split_tokens},
            {PLAN_ATTEND + i, "bytes_in_flight", &a->bytes_in_flight},
            {PLAN_ABSORB + i, "query_rows", &a->absorb_rows},
        };
        static_assert(sizeof own == OWN_CONSTANTS * sizeof *own, "one place for each");
        memcpy(&out[OTHERS + OWN_CONSTANTS * i], own, sizeof own);
    }
    static_assert(OTHERS + OWN_CONSTANTS * PLAN_ATTENTIONS == PLAN_CONSTANTS, "one place for each");
}

/* Leaves out merge, and dequantize in fused plans, because these kernels belong to calls of their own. */
int plan_families(const struct shape *s, xq_implementation implementation,
                  const char *names[PLAN_MOST_FAMILIES])
{
    int count = 0;
    for (int i = 0; i < PLAN_KERNELS; i++) {
        bool apart = i == PLAN_MERGE || (i == PLAN_DEQUANTIZE && implementation == XQ_FUSED);
        if (!apart && needs(s, implementation, (enum plan_kernel)i))
            names[count++] = other_family(implementation, i);
    }
    if (absorbs(s, implementation))
        names[count++] = "absorb";
    names[count++] = attention_family(implementation);
    return count;
}
