/* The matrix product of the unfused pipeline and of the fp16 KV baseline. */
#include "plan.h"

xq_status plan_gemm(const xq_plan *plan, const struct plan_product *p, const struct plan_stream *to,
                    error *err)
{
    const struct shape_matrix *m = plan->matrices[p->matrix];
    if (!m)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "the plan's weights lack a matrix of the product");
    uint64_t bias = plan_vector(plan, p->weights, p->bias);
    int32_t columns = plan->shape.kv_width / p->latents;
    struct xq_gemm_params params = {
        .x = p->x,
        .w = plan_matrix(plan, p->weights, p->matrix),
        .bias = bias,
        .y = p->y,
        .page_stride = p->page_stride,
        .rows = (int)p->rows,
        .k = m->rows,
        .n = columns,
        .page = p->page,
        .row_stride = plan->shape.kv_width,
        .x_stride = p->x_stride,
    };
    uint32_t grid[3] = {(uint32_t)((p->rows + plan->gemm_rows - 1) / plan->gemm_rows),
                        (uint32_t)((columns + plan->gemm_cols - 1) / plan->gemm_cols),
                        (uint32_t)p->latents};
    return plan_launch(plan->kernels[PLAN_GEMM], grid, &params, sizeof params, to, err);
}
