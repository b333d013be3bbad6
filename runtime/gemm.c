/* The matrix product of the unfused pipeline and of the fp16 KV baseline. */
#include "plan.h"

xq_status plan_gemm(const xq_plan *plan, uint64_t x, uint64_t w, int32_t k, uint64_t y, int64_t rows,
                    int32_t page, int64_t page_stride, void *stream, error *err)
{
    int32_t n = plan->shape.kv_width;
    struct xq_gemm_params params = {
        .x = x,
        .w = {w, 0},
        .y = y,
        .page_stride = page_stride,
        .rows = (int)rows,
        .k = k,
        .n = n,
        .page = page,
        .row_stride = n,
        .x_stride = k,
    };
    uint32_t grid[3] = {(uint32_t)((rows + plan->gemm_rows - 1) / plan->gemm_rows),
                        (uint32_t)((n + plan->gemm_cols - 1) / plan->gemm_cols), 1};
    return kernel_launch(plan->kernels[PLAN_GEMM], grid, &params, sizeof params, stream, err);
}
