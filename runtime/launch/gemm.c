/* The matrix product of the unfused pipeline and of the fp16 KV baseline. */
#include "plan.h"

/* The part of a packed matrix from column `first` on: tiles of 16 columns lie one after the other. */
static struct xq_matrix columns_from(const xq_plan *plan, const struct plan_product *p, int32_t first)
{
    const struct shape_matrix *m = plan->matrices[p->matrix];
    struct xq_matrix w = plan_matrix(plan, p->weights, p->matrix);
    w.data += (uint64_t)first * (uint64_t)m->rows * (uint64_t)weight_bytes(m->type);
    if (w.scale)
        w.scale += (uint64_t)first * sizeof(float);
    return w;
}

xq_status plan_gemm(const xq_plan *plan, const struct plan_product *p, const struct plan_stream *to,
                    error *err)
{
    const struct shape_matrix *m = plan->matrices[p->matrix];
    if (!m)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "the plan's weights lack a matrix of the product");
    uint64_t bias = plan_vector(plan, p->weights, p->bias);
    struct xq_gemm_params params = {
        .x = p->x,
        .w = columns_from(plan, p, p->column),
        .bias = bias ? bias + (uint64_t)p->column * sizeof(float) : 0,
        .y = p->y + (uint64_t)p->column * 2,
        .page_stride = p->page_stride,
        .rows = (int)p->rows,
        .k = m->rows,
        .n = p->columns,
        .page = p->page,
        .row_stride = plan->shape.kv_width,
        .x_stride = p->x_stride,
    };
    uint32_t grid[3] = {(uint32_t)((p->rows + plan->gemm_rows - 1) / plan->gemm_rows),
                        (uint32_t)((p->columns + plan->gemm_cols - 1) / plan->gemm_cols), 1};
    return plan_launch(plan->kernels[PLAN_GEMM], grid, &params, sizeof params, to, err);
}
