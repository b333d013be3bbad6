/* Lays out a plan's workspace. */
#include "plan.h"

/* Takes `count * size` bytes at the end of the workspace. A size that does not fit into an address is an
 * error. */
static size_t take_region(struct plan_workspace *w, int64_t count, size_t size, error *err)
{
    size_t place = w->bytes, bytes;
    if (__builtin_mul_overflow((size_t)count, size, &bytes) || bytes > SIZE_MAX / 4 - place) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "the workspace would exceed the address space; lower max_batch, max_tokens, max_pages or "
                  "max_total_queries");
        return 0;
    }
    w->bytes = place + (bytes + 255) / 256 * 256;
    return place;
}

/* Sets the number of partial results that each kernel may have; returns the largest number. */
static int64_t bound_partials(xq_plan *p)
{
    int64_t most = 0, group = p->shape.heads / p->shape.kv_heads;
    for (int q = 0; q < PLAN_QUERIES; q++)
        for (int v = 0; v < p->variants[q]; v++) {
            struct plan_attention *a = &p->attention[q][v];
            int64_t queries = q == PLAN_ONE ? p->max_batch : p->max_total_queries;
            int64_t of_block = q == PLAN_ONE || a->query_rows < group ? 1 : a->query_rows / group;
            a->split.partials = split_partials(&a->split, queries, of_block, p->max_tokens);
            most = a->split.partials > most ? a->split.partials : most;
        }
    return most;
}

/* Only one of the attention kernels runs at a time, so they share these regions; each region has the
 * largest size that any of them needs. */
static void take_attention(xq_plan *p, error *err)
{
    const struct shape *s = &p->shape;
    const struct shape_matrix *absorbed = p->matrices[PLAN_WK_ABSORB];
    struct plan_workspace *w = &p->workspace;
    int64_t partials = bound_partials(p), blocks = 0, rows = 0;
    for (int i = 0; i < PLAN_QUERIES * PLAN_VARIANTS; i++) {
        const struct plan_attention *a = &p->attention[i / PLAN_VARIANTS][i % PLAN_VARIANTS];
        blocks = a->most_blocks > blocks ? a->most_blocks : blocks;
        if (a->absorb && a->most_blocks * a->query_rows > rows)
            rows = a->most_blocks * a->query_rows;
    }
    w->counters = take_region(w, blocks, (size_t)s->kv_heads * 4, err);
    w->partial_out = take_region(w, partials, (size_t)s->heads * (size_t)s->head_dim * 2, err);
    w->partial_lse = take_region(w, partials, (size_t)s->heads * 4, err);
    if (rows > 0 && absorbed) {
        w->absorbed = take_region(w, rows * s->kv_heads, (size_t)absorbed->cols * 2, err);
        w->absorbed_scale = take_region(w, rows * s->kv_heads, (size_t)absorbed->cols / 64 * 4, err);
        w->absorbed_bias = take_region(w, rows * s->kv_heads, 4, err);
    }
}

xq_status plan_lay_out_workspace(xq_plan *p, error *err)
{
    const struct shape *s = &p->shape;
    struct plan_workspace *w = &p->workspace;
    take_attention(p, err);
    if (p->kernels[PLAN_KEY_NORMS])
        w->key_sums = take_region(w, p->max_pages * s->page, (size_t)s->kv_heads * 4, err);
    if (p->implementation == XQ_UNFUSED) {
        int64_t rows = p->max_pages * s->page;
        w->rows_k = take_region(w, rows, (size_t)(s->cross_layer ? s->hidden_size : s->rank_k) * 2, err);
        w->rows_v = s->latent ? take_region(w, rows, (size_t)s->rank_v * 2, err) : w->rows_k;
        w->kv = take_region(w, p->max_pages, s->kv_page_bytes, err);
    }
    if (p->implementation == XQ_FP16_KV) {
        w->new_k = take_region(w, p->max_append, (size_t)s->kv_width * 2, err);
        w->new_v = take_region(w, p->max_append, (size_t)s->kv_width * 2, err);
    }
    return err->status;
}
