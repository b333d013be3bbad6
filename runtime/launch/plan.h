/* A plan: an image (plan_image.h) opened on a device, with everything that a launch needs computed
 * beforehand. The tuner, the command line and tests read the struct. Only plan_open.c and plan_workspace.c
 * write it; runtime/plan/ fills those members that an image is made from. */
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
    PLAN_MOST_BLOCKS = 65535, /* limit of a grid's second and third dimensions, and of max_batch */
    PLAN_MOST_TOKENS = 1 << 30,
    PLAN_MOST_QUERIES = 1 << 20
};

/* Attention has kernels for one query of each sequence, and kernels for many (`queries` of a spec). */
enum plan_queries { PLAN_ONE, PLAN_MANY, PLAN_QUERIES };

/* Each of these two kinds may have several kernels, for calls of different sizes. A size belongs to the
 * class of the power of two that is nearest to it. PLAN_MOST_TOKENS and PLAN_MOST_BLOCKS are in the last
 * classes. */
enum { PLAN_VARIANTS = 8, PLAN_TOKEN_CLASSES = 31, PLAN_BATCH_CLASSES = 17 };

/* The class of a size; 0 for 0. */
static inline int plan_class(int64_t size)
{
    uint64_t square = (uint64_t)size * (uint64_t)size; /* the square's logarithm counts half classes */
    return size > 0 ? (64 - __builtin_clzll(square)) / 2 : 0;
}

struct plan_attention {
    /* Stated by the image: */
    int64_t query_rows;      /* query rows of a block: queries times the query heads of a KV head */
    int64_t absorb_rows;     /* query rows of a block of absorb; must equal query_rows */
    int64_t tile_tokens;     /* a split is a multiple of this */
    int64_t split_tokens;    /* the longest split */
    int64_t bytes_in_flight; /* bytes of the cache that a block of `attend` has under way */
    double partial_share;    /* the most that partial results may add to the bytes that attention reads */
    /* Made when the image is opened: */
    kernel *attend;      /* attend, kv_attend or kv_attend_e4m3; NULL: the plan has none */
    kernel *absorb;      /* NULL where no columns of K are absorbed */
    int64_t most_blocks; /* blocks of query rows in one launch: sequences times the blocks of each */
    struct split_limits split;
};

/* The matrices and vectors of the packed weights, by the names that kernels use. */
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

/* Places in the workspace, in bytes from its start; 256-byte aligned. Regions do not overlap, except that
 * rows_v is rows_k where one stream is cached. */
struct plan_workspace {
    size_t counters;       /* [most_blocks, Hkv] int32, zero between launches */
    size_t partial_out;    /* [partials, H, dh] f16: one partial result is for one query and one split */
    size_t partial_lse;    /* [partials, H] f32 */
    size_t absorbed;       /* [most_blocks, Hkv, query_rows, latent_width] f16 */
    size_t absorbed_scale; /* [most_blocks, Hkv, latent_width / 64, query_rows] f32 */
    size_t absorbed_bias;  /* [most_blocks, Hkv, query_rows] f32 */
    size_t key_sums;       /* [pages * page, Hkv] f32 */
    size_t rows_k, rows_v; /* unfused: dequantized streams [pages * page, width] f16 */
    size_t kv;             /* unfused: rematerialized pages [pages][2, page, Hkv, dh] f16 */
    size_t new_k, new_v;   /* KV caches: projections [max_append, dkv] f16 */
    size_t bytes;          /* total size */
};

/* The places where the arrays of a call are checked. */
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
    struct plan_attention attention[PLAN_QUERIES][PLAN_VARIANTS]; /* stated in part */
    int32_t variants[PLAN_QUERIES]; /* number of variants; 0: the plan has no kernels for these queries */
    uint8_t pick[PLAN_QUERIES][PLAN_TOKEN_CLASSES][PLAN_BATCH_CLASSES]; /* variant for each class */

    /* Made when the image is opened: */
    xq_context *context;
    unsigned char *image; /* image_bytes bytes */
    size_t image_bytes;
    const char *spec;              /* completed spec, JSON; points into the image */
    kernel *kernels[PLAN_KERNELS]; /* NULL where the implementation needs none */
    struct plan_workspace workspace;
    int checks;        /* values of enum plan_checks: the places where calls' arrays are checked */
    fault_log *faults; /* log of a checked plan; else NULL */
    /* For the plan's implementation: */
    size_t page_bytes;
    const struct shape_weights *weights;
    const struct shape_matrix *matrices[PLAN_MATRICES]; /* in `weights`; NULL: it has none */
    const struct shape_vector *vectors[PLAN_VECTORS];
};

/* Opens an image on the context's device. Takes over `image`, which is released with free, also on
 * failure. Errors: XQ_ERROR_FORMAT for a damaged image; XQ_ERROR_UNSUPPORTED for an image that the device
 * cannot run; those of loading kernels; XQ_ERROR_ARGUMENT for limits that are too large for the device. */
xq_status plan_from_image(xq_context *context, unsigned char *image, size_t bytes, xq_plan **out,
                          error *err);

/* Bounds the splits of attention, and assigns each region its place in the workspace. */
xq_status plan_lay_out_workspace(xq_plan *plan, error *err);

/* The stream that the kernels of one call are launched on, and their gate. */
struct plan_stream {
    void *stream;
    uint64_t gate; /* checked plans: the gate that the kernels read before anything else; else 0 */
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

/* Returns a packed matrix or vector, given the device address of the packed weights; null if the plan has
 * no such matrix or vector. */
struct xq_matrix plan_matrix(const xq_plan *plan, uint64_t weights, enum plan_matrix which);
uint64_t plan_vector(const xq_plan *plan, uint64_t weights, enum plan_vector which);

/* plan_has_tails tells whether the pages that append writes have tails. plan_reads_tails tells whether
 * calls that read the cache read tails; they do not where they read an accumulator, which has none. */
static inline bool plan_has_tails(const xq_plan *plan)
{
    return !shape_is_kv(plan->implementation) && plan->shape.by_channel;
}

static inline bool plan_reads_tails(const xq_plan *plan)
{
    return plan_has_tails(plan) && !plan->shape.cross_layer;
}

/* Refuses tails and an accumulator if the plan has none. */
bool plan_check_cache(const xq_plan *plan, const xq_tail_pool *tails, uint64_t accumulator, error *err);

/* Convert a page table and tails to the form that kernels take. */
struct xq_table plan_table(const xq_page_table *table);
struct xq_tails plan_tails(const xq_tail_pool *tails);

/* The most page-table entries that a call with sequences of at most `max_tokens` can have. The host does
 * not know indptr[batch]; kernels skip the entries beyond it. */
int64_t plan_entries(const xq_plan *plan, int32_t batch, int64_t max_tokens);

/* ------------------------------------------------------------ the matrix product (runtime/launch/gemm.c)
 */

struct plan_product {
    enum plan_matrix matrix;
    enum plan_vector bias; /* bias that is added if the plan has it */
    uint64_t weights;
    int32_t latents; /* latents side by side in x; the columns of each group of KV heads multiply one
                        latent */
    uint64_t x;      /* [rows, x_stride] f16 */
    int32_t x_stride;
    uint64_t y; /* row r is at element (r / page) * page_stride + (r % page) * kv_width */
    int64_t rows;
    int32_t page;
    int64_t page_stride;
};

/* Computes y = x * W (+ bias), with kv_width columns. */
xq_status plan_gemm(const xq_plan *plan, const struct plan_product *product, const struct plan_stream *to,
                    error *err);

/* -------------------------------------------------------------- attention (runtime/launch/attend.c) */

/* One call of attend, with the values of everything that the caller left open. */
struct plan_attend_call {
    const xq_plan *plan;
    const xq_attend_args *args;
    const struct plan_attention *kernels;
    int64_t queries, max_queries;
    int32_t blocks; /* blocks of query rows of a sequence */
    int64_t tokens_per_split, splits;
    struct plan_stream to;
};

/* Returns the kernels for a call of `batch` sequences of at most `max_tokens` tokens. */
static inline const struct plan_attention *plan_pick(const xq_plan *plan, enum plan_queries queries,
                                                     int64_t batch, int64_t max_tokens)
{
    return &plan->attention[queries][plan->pick[queries][plan_class(max_tokens)][plan_class(batch)]];
}

/* Makes the launches of xq_plan_dequantize; the arguments are known to be good. */
xq_status plan_dequantize(const xq_plan *plan, const xq_dequantize_args *args, const struct plan_stream *to,
                          error *err);

/* Dequantizes, rematerializes and applies RoPE, into the workspace (runtime/launch/unfused.c). */
xq_status plan_rematerialize(const struct plan_attend_call *call, error *err);

/* Returns an optional array's address, advanced by `bytes`; null stays null. */
uint64_t plan_advance(uint64_t pointer, uint64_t bytes);

/* Returns the call's queries, from sequence `first` on. */
struct xq_queries plan_queries(const struct plan_attend_call *call, int32_t first);

/* ------------------------------------------- checks of a call's arrays (runtime/launch/plan_check.c)
 * For plans that have `checks`; called before the first launch of a call whose arguments are good. These
 * functions check the call's arrays on the host. In checked plans they report the fault of an earlier
 * call, launch the kernel `check`, and give the call its gate. Each returns whether the call may go on,
 * and fills `err` if it may not. */

bool plan_check_append(const xq_plan *plan, const xq_append_args *args, struct plan_stream *to, error *err);
bool plan_check_accumulate(const xq_plan *plan, const xq_accumulate_args *args, struct plan_stream *to,
                           error *err);
bool plan_check_attend(struct plan_attend_call *call, error *err);
bool plan_check_dequantize(const xq_plan *plan, const xq_dequantize_args *args, struct plan_stream *to,
                           error *err);
/* Merging has no index arrays to check. */
bool plan_check_merge(const xq_plan *plan, struct plan_stream *to, error *err);

#endif
