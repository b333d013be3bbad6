/* A plan: a completed spec with its kernels loaded, and what a launch needs worked out beforehand. The
 * struct is open to the tuner, the command line and tests, which read it; only plan.c writes it. */
#ifndef RUNTIME_PLAN_H
#define RUNTIME_PLAN_H

#include "kernel.h"
#include "params.h"
#include "shape.h"
#include "split.h"

enum plan_kernel {
    PLAN_APPEND,
    PLAN_ATTEND,
    PLAN_DEQUANTIZE,
    PLAN_GEMM,
    PLAN_ROPE,
    PLAN_KV_APPEND,
    PLAN_KV_ATTEND,
    PLAN_KERNELS
};

/* Places in the workspace, in bytes from its start; 256-byte aligned. Regions do not overlap. */
struct plan_workspace {
    size_t counters;       /* [max_batch, Hkv] int32, zero between launches */
    size_t partial_out;    /* [splits, H, dh] f16 */
    size_t partial_lse;    /* [splits, H] f32 */
    size_t rows_k, rows_v; /* unfused: dequantized streams [pages * page, rank] f16 */
    size_t kv;             /* unfused: rematerialized pages [pages][2, page, Hkv, dh] f16 */
    size_t new_k, new_v;   /* fp16 KV: projections [max_append, dkv] f16 */
    size_t bytes;          /* of all */
};

struct xq_plan {
    xq_context *context;
    xq_implementation implementation;
    char *spec; /* completed, JSON */
    struct shape shape;
    int32_t max_batch;
    int64_t max_tokens, max_pages, max_append;
    kernel *kernels[PLAN_KERNELS]; /* NULL where the implementation needs none */
    struct split_limits split;     /* of the attention kernel */
    int64_t append_columns, dequantize_columns, gemm_rows, gemm_cols; /* the kernels' grids */
    struct plan_workspace workspace;
    /* Those of the implementation: */
    size_t page_bytes, weights_bytes;
    const struct shape_matrix *matrices;
    int matrix_count;
};

/* The family of a kernel, e.g. "kv_attend". */
const char *plan_family(enum plan_kernel which);

/* Ends a public call on a plan: records a failure in the context. */
xq_status plan_result(const xq_plan *plan, error *err);

/* descriptor_read, for arguments of plan calls. */
xq_status plan_read_args(void *full, size_t size, const void *given, const char *name, error *err);

/* The device address of a packed matrix, given that of the packed weights; 0 if the plan has none such. */
uint64_t plan_matrix(const xq_plan *plan, uint64_t weights, const char *name);

/* A page table as kernels take it. */
struct xq_table plan_table(const xq_page_table *table);

/* y = x * W for `rows` rows, W packed at `w` with k rows and kv_width columns (runtime/gemm.c). Row r of y
 * is at y + (r / page) * page_stride + (r % page) * kv_width elements. */
xq_status plan_gemm(const xq_plan *plan, uint64_t x, uint64_t w, int32_t k, uint64_t y, int64_t rows,
                    int32_t page, int64_t page_stride, void *stream, error *err);

#endif
