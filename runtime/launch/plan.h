/* A plan: an image (plan_image.h) opened on a device, with what a launch needs worked out beforehand. The
 * struct is open to the tuner, the command line and tests, which read it. Only plan_open.c and
 * plan_workspace.c write it; runtime/plan/ fills the part of one that an image is made of. */
#ifndef RUNTIME_LAUNCH_PLAN_H
#define RUNTIME_LAUNCH_PLAN_H

#include "../base/descriptor.h"
#include "fault_log.h"
#include "kernel.h"
#include "params.h"
#include "shape.h"
#include "split.h"

enum plan_kernel {
    PLAN_APPEND,
    PLAN_APPEND_CHANNEL,
    PLAN_ACCUMULATE,
    PLAN_DEQUANTIZE,
    PLAN_GEMM,
    PLAN_ROPE,
    PLAN_KEY_NORMS,
    PLAN_KV_APPEND,
    PLAN_MERGE,
    PLAN_CHECK,
    PLAN_KERNELS
};

enum {
    PLAN_MOST_BLOCKS = 65535, /* a grid's second and third dimensions, and max_batch */
    PLAN_MOST_TOKENS = 1 << 30,
    PLAN_MOST_QUERIES = 1 << 20
};

/* The attention kernels are made for one query of each sequence, and for many (`queries` of a spec). */
enum plan_queries { PLAN_ONE, PLAN_MANY, PLAN_QUERIES };

/* Each of the two may have several kernels, for calls of different sizes. Sizes are classed by the power of
 * two that is nearest: PLAN_MOST_TOKENS and PLAN_MOST_BLOCKS are in the last classes. */
enum { PLAN_VARIANTS = 8, PLAN_TOKEN_CLASSES = 31, PLAN_BATCH_CLASSES = 17 };

/* The class of a size; 0 for 0. */
static inline int plan_class(int64_t size)
{
    uint64_t square = (uint64_t)size * (uint64_t)size; /* its logarithm has half classes */
    return size > 0 ? (64 - __builtin_clzll(square)) / 2 : 0;
}

struct plan_attention {
    /* Stated by the image: */
    int64_t query_rows;   /* of a block: queries times the heads of a KV head */
    int64_t absorb_rows;  /* the same of absorb, which must agree */
    int64_t tile_tokens;  /* a split is a multiple of this */
    int64_t split_tokens; /* the longest split */
    double partial_share; /* the most that partial results may add to the bytes that attention reads */
    /* Made when the image is opened: */
    kernel *attend;      /* attend, kv_attend or kv_attend_e4m3; NULL: the plan has none such */
    kernel *absorb;      /* NULL where no columns of K are absorbed */
    int64_t most_blocks; /* blocks of query rows in one launch: sequences times blocks of each */
    struct split_limits split;
};

/* The packed weights' matrices and vectors, by what kernels know them as. */
enum plan_matrix {
    PLAN_WK,
    PLAN_WK_ABSORB,
    PLAN_WV,
    PLAN_UK,
    PLAN_UV,
    PLAN_UKV,
    PLAN_UKVT,
    PLAN_FK,
    PLAN_FV,
    PLAN_MATRICES
};
enum plan_vector {
    PLAN_BK,
    PLAN_BK_ABSORB,
    PLAN_BV,
    PLAN_K_NORM,
    PLAN_SINKS,
    PLAN_K_SCALE,
    PLAN_V_SCALE,
    PLAN_VECTORS
};

/* Places in the workspace, in bytes from its start; 256-byte aligned. Regions do not overlap. */
struct plan_workspace {
    size_t counters;       /* [most_blocks, Hkv] int32, zero between launches */
    size_t partial_out;    /* [partials, H, dh] f16: a partial result is that of one query and split */
    size_t partial_lse;    /* [partials, H] f32 */
    size_t absorbed;       /* [most_blocks, Hkv, query_rows, latent_width] f16 */
    size_t absorbed_scale; /* [most_blocks, Hkv, latent_width / 64, query_rows] f32 */
    size_t absorbed_bias;  /* [most_blocks, Hkv, query_rows] f32 */
    size_t key_sums;       /* [pages * page, Hkv] f32 */
    size_t rows_k, rows_v; /* unfused: dequantized streams [pages * page, width] f16 */
    size_t kv;             /* unfused: rematerialized pages [pages][2, page, Hkv, dh] f16 */
    size_t new_k, new_v;   /* KV caches: projections [max_append, dkv] f16 */
    size_t bytes;          /* of all */
};

/* Who looks through the arrays of a call. */
enum plan_checks { PLAN_CHECKS_ON_HOST = 1, PLAN_CHECKS_ON_DEVICE = 2 };

struct xq_plan {
    /* Stated by the image: */
    xq_implementation implementation;
    struct shape shape;
    int32_t max_batch;
    int64_t max_tokens, max_pages, max_append, max_queries, max_total_queries;
    int64_t pool_pages; /* 0: unknown */
    xq_parameters_from parameters_from;
    /* The kernels' grids and tiles, as their families state them: */
    int64_t append_columns, append_channel_columns, append_group, append_steps, accumulate_columns,
        accumulate_tiles, dequantize_columns;
    int64_t gemm_rows, gemm_cols, rope_heads, key_norms_tokens, merge_rows;
    struct plan_attention attention[PLAN_QUERIES][PLAN_VARIANTS]; /* in part */
    int32_t
        variants[PLAN_QUERIES]; /* how many of those there are; 0: the plan has none for these queries */
    uint8_t pick[PLAN_QUERIES][PLAN_TOKEN_CLASSES][PLAN_BATCH_CLASSES]; /* which serves a class of calls */

    /* Made when the image is opened: */
    xq_context *context;
    unsigned char *image; /* of image_bytes */
    size_t image_bytes;
    const char *spec;              /* completed, JSON; in the image */
    kernel *kernels[PLAN_KERNELS]; /* NULL where the implementation needs none */
    struct plan_workspace workspace;
    int checks;        /* who looks through the arrays of calls: enum plan_checks, or 0 */
    fault_log *faults; /* of checked plans; else NULL */
    /* Those of the implementation: */
    size_t page_bytes;
    const struct shape_weights *weights;
    const struct shape_matrix *matrices[PLAN_MATRICES]; /* of `weights`; NULL where it has none such */
    const struct shape_vector *vectors[PLAN_VECTORS];
};

/* Opens an image on the context's device. Takes over `image`, which free releases, also on failure. Errors:
 * XQ_ERROR_FORMAT for a damaged image; XQ_ERROR_UNSUPPORTED for one that the device does not run; those of
 * loading kernels; XQ_ERROR_ARGUMENT for limits that are too much for the device. */
xq_status plan_from_image(xq_context *context, unsigned char *image, size_t bytes, xq_plan **out,
                          error *err);

/* Bounds the splits of attention, and places everything in the workspace. */
xq_status plan_lay_out_workspace(xq_plan *plan, error *err);

/* Where the kernels of one call go. */
struct plan_stream {
    void *stream;
    uint64_t gate; /* checked plans: what the kernels look at before anything else; else 0 */
};

/* kernel_launch, for kernels of a plan. */
static inline xq_status plan_launch(const kernel *k, const uint32_t grid[3], const void *params,
                                    size_t params_bytes, const struct plan_stream *to, error *err)
{
    return to->gate ? kernel_launch_guarded(k, grid, params, params_bytes, to->gate, to->stream, err)
                    : kernel_launch(k, grid, params, params_bytes, to->stream, err);
}

/* Ends a public call on a plan: records a failure in the context. */
xq_status plan_result(const xq_plan *plan, error *err);

/* descriptor_read, for arguments of plan calls. */
xq_status plan_read_args(void *full, size_t size, size_t first, const void *given, const char *name,
                         error *err);

/* A packed matrix or vector, given the device address of the packed weights; null if the plan has none
 * such. */
struct xq_matrix plan_matrix(const xq_plan *plan, uint64_t weights, enum plan_matrix which);
uint64_t plan_vector(const xq_plan *plan, uint64_t weights, enum plan_vector which);

/* Whether the pages that append writes have tails; and whether calls that read the cache read tails: an
 * accumulator has none. */
static inline bool plan_has_tails(const xq_plan *plan)
{
    return !shape_is_kv(plan->implementation) && plan->shape.by_channel;
}

static inline bool plan_reads_tails(const xq_plan *plan)
{
    return plan_has_tails(plan) && !plan->shape.cross_layer;
}

/* Tails and an accumulator, where the plan has none. */
bool plan_check_cache(const xq_plan *plan, const xq_tail_pool *tails, uint64_t accumulator, error *err);

/* A page table and tails as kernels take them. */
struct xq_table plan_table(const xq_page_table *table);
struct xq_tails plan_tails(const xq_tail_pool *tails);

/* Page-table entries that a call with sequences of at most `max_tokens` can have: the host does not know
 * indptr[batch], and kernels skip what is beyond it. */
int64_t plan_entries(const xq_plan *plan, int32_t batch, int64_t max_tokens);

/* ------------------------------------------------------------ the matrix product (runtime/launch/gemm.c)
 */

struct plan_product {
    enum plan_matrix matrix;
    enum plan_vector bias; /* added where the plan has it */
    uint64_t weights;
    int32_t latents; /* side by side in x: the columns of each group of KV heads multiply one */
    uint64_t x;      /* [rows, x_stride] f16 */
    int32_t x_stride;
    uint64_t y; /* row r is at (r / page) * page_stride + (r % page) * kv_width elements */
    int64_t rows;
    int32_t page;
    int64_t page_stride;
};

/* y = x * W (+ bias), of kv_width columns. */
xq_status plan_gemm(const xq_plan *plan, const struct plan_product *product, const struct plan_stream *to,
                    error *err);

/* -------------------------------------------------------------- attention (runtime/launch/attend.c) */

/* One call of attend with everything that the caller left open filled in. */
struct plan_attend_call {
    const xq_plan *plan;
    const xq_attend_args *args;
    const struct plan_attention *kernels;
    int64_t queries, max_queries;
    int32_t blocks; /* of query rows of a sequence */
    int64_t tokens_per_split, splits;
    struct plan_stream to;
};

/* The kernels for a call of this many sequences, of at most so many tokens. */
static inline const struct plan_attention *plan_pick(const xq_plan *plan, enum plan_queries queries,
                                                     int64_t batch, int64_t max_tokens)
{
    return &plan->attention[queries][plan->pick[queries][plan_class(max_tokens)][plan_class(batch)]];
}

/* Launches what xq_plan_dequantize does; the arguments are good. */
xq_status plan_dequantize(const xq_plan *plan, const xq_dequantize_args *args, const struct plan_stream *to,
                          error *err);

/* Dequantizes, rematerializes and rotates into the workspace (runtime/launch/unfused.c). */
xq_status plan_rematerialize(const struct plan_attend_call *call, error *err);

/* The array of an optional argument, `bytes` further on; null stays null. */
uint64_t plan_advance(uint64_t pointer, uint64_t bytes);

/* The call's queries, from sequence `first` on. */
struct xq_queries plan_queries(const struct plan_attend_call *call, int32_t first);

/* --------------------------------------------------- what calls are given (runtime/launch/plan_check.c)
 * For plans that have `checks`, before the first launch of a call whose arguments are good: looks through
 * its arrays on the host; in checked plans reports the fault of an earlier call, launches the kernel
 * `check`, and gives the call its gate. Each returns whether the call may go on, and fills `err` where it
 * may not. */

bool plan_check_append(const xq_plan *plan, const xq_append_args *args, struct plan_stream *to, error *err);
bool plan_check_accumulate(const xq_plan *plan, const xq_accumulate_args *args, struct plan_stream *to,
                           error *err);
bool plan_check_attend(struct plan_attend_call *call, error *err);
bool plan_check_dequantize(const xq_plan *plan, const xq_dequantize_args *args, struct plan_stream *to,
                           error *err);
/* Merging has no arrays of numbers. */
bool plan_check_merge(const xq_plan *plan, struct plan_stream *to, error *err);

#endif
