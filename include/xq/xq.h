/* xq: attention over a cache of low-bit quantized activations.
 *
 * A context holds a device and a kernel cache. A plan is a spec (model shape, cache method, bits)
 * compiled for that device: it states the layout of cache pages, weights and workspace, and launches
 * kernels over memory that the caller owns. Device pointers are uint64_t and streams void *, so this
 * header needs no CUDA header.
 *
 * Conventions:
 *   - Every call that can fail returns xq_status; results come through out-parameters, which are left
 *     untouched on failure. xq_last_error gives the detail.
 *   - Descriptors start with `size_t struct_size`; use their XQ_..._INIT initializer, so that a
 *     program built against an older header keeps working with a newer library. A struct_size below
 *     that of the descriptor's first version is refused.
 *   - Nothing is ignored. What would have no effect is refused with XQ_ERROR_ARGUMENT and its name: a
 *     matrix that the plan does not pack, or the width of a mask that is not there. Only what belongs to
 *     every call on a cache may be given whether this call reads it or not, so that an engine can fill it
 *     in alike for all: weights, workspace, append_indptr; and where the plan has such, pages, tails
 *     (tail_bytes is not 0) and accumulator (accumulator_page_bytes is not 0). A flag that is true anyway
 *     is taken.
 *   - Matrices are row major; y = x * W. Symbols (d, H, Hkv, dh, dkv) are those of docs/method.md.
 *   - The library never prints, never calls exit, and keeps no global mutable state but this: the last
 *     failure, in each thread, of the calls that have no context to keep it in (the simulation).
 *
 * Threads: a context, and the plans made from it, may be used from several threads at once, except
 * that create and destroy calls must not race with other uses of the same object. xq_last_error
 * returns the last failure of the calling thread on that context, or, asked for no context, of the calls
 * that take none.
 */
#ifndef XQ_XQ_H
#define XQ_XQ_H

#include <stddef.h>
#include <stdint.h>

#ifndef XQ_RUNTIME_ONLY
/* libxqrt is the library that launches plan images and builds none. It has all of this header but what
 * stands between #ifndef XQ_RUNTIME_ONLY and #endif: define that name to see only what libxqrt has. A
 * program links libxq or libxqrt, not both. */
#endif

/* Descriptors with their size set, for the initializers below: without a list of fields, which C++
 * compilers would warn about. */
#ifdef __cplusplus
template <class TYPE> inline TYPE xq_sized(void)
{
    TYPE descriptor = TYPE(); /* zeros */
    descriptor.struct_size = sizeof(TYPE);
    return descriptor;
}
#ifndef XQ_RUNTIME_ONLY
template <class OPTIONS> inline OPTIONS xq_sized_plan_options(void)
{
    OPTIONS options = xq_sized<OPTIONS>();
    options.max_batch = 1;
    options.max_tokens = 4096;
    options.max_append = 1;
    options.max_queries = 1;
    return options;
}
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; xq_version has the library's. */
#define XQ_VERSION_MAJOR 0
#define XQ_VERSION_MINOR 1
#define XQ_VERSION_PATCH 0

/* A descriptor with its size set and everything else zero. */
#ifdef __cplusplus
#define XQ_SIZED(TYPE) xq_sized<TYPE>()
#else
#define XQ_SIZED(TYPE)                                                                                     \
    {                                                                                                      \
        .struct_size = sizeof(TYPE)                                                                        \
    }
#endif

/* Define it beforehand for another visibility. */
#ifndef XQ_API
#if defined(__GNUC__)
#define XQ_API __attribute__((visibility("default")))
#else
#define XQ_API
#endif
#endif

/* ---------------------------------------------------------------- errors */

/* Values are pinned: they never change meaning; new ones are appended. */
typedef enum xq_status {
    XQ_OK = 0,                   /* the call did what it was asked to */
    XQ_ERROR_ARGUMENT = 1,       /* a null, misaligned or out-of-range argument of an API call */
    XQ_ERROR_SPEC = 2,           /* a spec or config.json names an impossible or unknown value */
    XQ_ERROR_UNSUPPORTED = 3,    /* a valid spec asks for a feature that no kernel has yet */
    XQ_ERROR_TEMPLATE = 4,       /* a template failed to compile or render */
    XQ_ERROR_COMPILE = 5,        /* NVRTC refused the generated source */
    XQ_ERROR_NO_DEVICE = 6,      /* no driver or no such GPU */
    XQ_ERROR_NO_TOOLCHAIN = 7,   /* NVRTC was not found, or no_compile forbids it, and a kernel is in no
                                    store or cache */
    XQ_ERROR_DEVICE = 8,         /* the device reported a fault, or refused a launch */
    XQ_ERROR_MEMORY = 9,         /* out of host memory */
    XQ_ERROR_DEVICE_MEMORY = 10, /* out of device memory */
    XQ_ERROR_IO = 11,            /* a file could not be read or written */
    XQ_ERROR_FORMAT = 12,        /* a file is damaged, truncated or of another format */
    XQ_ERROR_INTERNAL = 13       /* a fault of xq itself; please report it */
} xq_status;

/* The detail behind a failing status. Strings belong to the context, or without one to the thread, and stay
 * valid until the calling thread's next failing call on it. Fields that do not apply are NULL or 0. */
typedef struct xq_error_detail {
    size_t struct_size;
    xq_status status;    /* what the failing call returned */
    const char *stage;   /* "argument", "spec", "template", "compile", "cache", "device", "file" */
    const char *message; /* one printable line: what is wrong, and what would be valid. Control characters
                            of what was given are \xNN there, and long values are cut */
    const char *field;   /* the offending field or argument, e.g. "cache.bits" */
    const char *file;    /* e.g. "templates/attend.cu.lt" or a path */
    int line;            /* 1-based line in `file` */
    const char *log;     /* the complete compiler log or device report, possibly many lines */
} xq_error_detail;
#define XQ_ERROR_DETAIL_INIT XQ_SIZED(xq_error_detail)

/* A short name for a status, e.g. "XQ_ERROR_SPEC". Never NULL; static storage. */
XQ_API const char *xq_status_name(xq_status status);

/* The version of the library as "MAJOR.MINOR.PATCH"; static storage. */
XQ_API const char *xq_version(void);

/* --------------------------------------------------------------- context */

/* A device and a kernel cache. Opaque. */
typedef struct xq_context xq_context;

/* How important a message to the log callback is. */
typedef enum xq_log_level {
    XQ_LOG_DEBUG = 0,  /* each kernel: whether it was compiled or found in the cache */
    XQ_LOG_INFO = 1,   /* a choice that xq made, such as the software device where no GPU works */
    XQ_LOG_WARNING = 2 /* something is amiss, and the call goes on without it */
} xq_log_level;

/* Called from any thread that uses the context; `message` is one printable line without a newline, valid
 * only during the call. Must not call back into xq. */
typedef void (*xq_log_callback)(void *user, xq_log_level level, const char *message);

/* How a context is opened. Strings are copied. */
typedef struct xq_context_options {
    size_t struct_size;
    const char *device; /* "auto" (default), "cuda", "cuda:N", "sim", "sim:GPU" with GPU one of
                           h100, h200, a100, rtx4090. cuda is the first GPU that works; auto is
                           that, and sim where no GPU works */
    /* cache_dir, template_dir, kernels and no_compile are for libxq, which compiles kernels; a library
     * that only loads images refuses them. */
    const char *cache_dir;    /* kernel cache; default $XQ_CACHE_DIR, else $XDG_CACHE_HOME/xq, else
                                 ~/.cache/xq. "" disables the on-disk cache */
    const char *template_dir; /* read templates from here instead of those built in (development) */
    xq_log_callback log;      /* receives messages; may be NULL */
    void *log_user;           /* the callback's `user` */
    const char *kernels; /* kernel stores, which are read and never written, with colons between; they are
                            searched in order before the cache. Default $XQ_KERNELS; "" for none. What is
                            no store is left out, with a warning (docs/kernel-cache.md) */
    int32_t no_compile;  /* 1: a kernel that is in no store, and not in the cache, is an error, and NVRTC is
                            not looked for. 0: as $XQ_NO_COMPILE says (1, 0, or empty) */
} xq_context_options;
#define XQ_CONTEXT_OPTIONS_INIT XQ_SIZED(xq_context_options)

/* Opens a device, the kernel stores and the kernel cache. `options` may be NULL. On failure *context
 * receives an object that only serves xq_last_error and xq_context_destroy, or NULL when memory ran out.
 * Errors: XQ_ERROR_ARGUMENT, XQ_ERROR_NO_DEVICE, XQ_ERROR_MEMORY. */
XQ_API xq_status xq_context_create(const xq_context_options *options, xq_context **context);
/* Ends the caller's use of the context: the pointer, and strings of xq_last_error, are no longer valid.
 * Plans and prepared weights made from it keep the device, and memory allocated on it, until the last of
 * them is destroyed; until then the log callback may be called. NULL is fine. */
XQ_API void xq_context_destroy(xq_context *context);

/* Fills `detail` (whose struct_size the caller has set) with the calling thread's last failure on
 * `context`; NULL: with that of the calls that take no context, xq_simulate_..., of which one must have
 * failed. */
XQ_API xq_status xq_last_error(const xq_context *context, xq_error_detail *detail);

/* The device of a context, and the versions behind it. */
typedef struct xq_device_info {
    size_t struct_size;
    char name[128];      /* "NVIDIA H100 80GB HBM3", or "NVIDIA H100 SXM5 80GB (software device)" */
    char arch[16];       /* "sm_90a": what plans are for by default (docs/spec.md, Architectures) */
    int32_t is_sim;      /* 1: the software device; its times are modelled */
    int32_t driver;      /* CUDA driver version, 1000 * major + 10 * minor; 0 for sim */
    int32_t nvrtc;       /* NVRTC version likewise; 0: not found */
    int32_t sm_count;    /* streaming multiprocessors */
    size_t memory_bytes; /* device memory in total */
    size_t l2_bytes;     /* L2 cache */
    size_t shared_bytes_per_block; /* opt-in maximum */
    int32_t ordinal;               /* the GPU's number, as in "cuda:N"; -1 for sim */
} xq_device_info;
#define XQ_DEVICE_INFO_INIT XQ_SIZED(xq_device_info)

/* Fills `info`, whose struct_size the caller has set. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_context_device(xq_context *context, xq_device_info *info);

/* ----------------------------------------------------------- device memory
 * For callers without a CUDA runtime of their own, and for the software device. An engine on a GPU
 * passes its own device pointers instead. Pointers are aligned to 256 bytes. Write, read and fill are
 * complete when they return, and come after every launch before them, whatever its stream.
 * Errors: XQ_ERROR_ARGUMENT, XQ_ERROR_DEVICE_MEMORY (alloc), XQ_ERROR_DEVICE. */

/* Allocates `bytes` bytes, uninitialized; 0 bytes get an address too. The caller frees them with
 * xq_device_free. */
XQ_API xq_status xq_device_alloc(xq_context *context, size_t bytes, uint64_t *pointer);
/* Frees what xq_device_alloc gave; 0 is fine. Wait for the launches that use it first. */
XQ_API xq_status xq_device_free(xq_context *context, uint64_t pointer);
/* Copies `bytes` bytes from the host to the device. */
XQ_API xq_status xq_device_write(xq_context *context, uint64_t destination, const void *source,
                                 size_t bytes);
/* Copies `bytes` bytes from the device to the host. */
XQ_API xq_status xq_device_read(xq_context *context, void *destination, uint64_t source, size_t bytes);
/* Sets each of `bytes` bytes on the device to `value`. */
XQ_API xq_status xq_device_fill(xq_context *context, uint64_t destination, uint8_t value, size_t bytes);
/* Waits for everything launched so far; reports asynchronous faults. */
XQ_API xq_status xq_device_synchronize(xq_context *context);

#ifndef XQ_RUNTIME_ONLY
/* ------------------------------------------------------------------- specs */

/* Validates and completes a spec given as JSON ({"model": …, "cache": …}; docs/spec.md). `model` may be
 * a preset name. *completed is a JSON text to be freed with xq_string_free.
 * Errors: XQ_ERROR_SPEC, XQ_ERROR_UNSUPPORTED (both with `field`), XQ_ERROR_MEMORY. */
XQ_API xq_status xq_spec_complete(xq_context *context, const char *spec_json, char **completed);

/* Changes a spec: completes its choices with `overrides_json` on top, for example
 *   xq_spec_override(context, info.spec_json, "{\"cache\": {\"bits\": 8}}", &completed)
 * The spec may be completed or not. Overrides are a JSON object that is merged into what was chosen (RFC
 * 7386): members replace those of the spec, null takes a choice away, so that the default returns. What
 * completion had derived is derived again; the result is that of choosing all of it from the beginning.
 * Beside a preset's name an override of the model changes that value and keeps the preset's others, and
 * null takes away what the preset says; "model": NAME replaces the whole model. *completed is to be freed
 * with xq_string_free. Errors: XQ_ERROR_ARGUMENT, and those of xq_spec_complete; also for a malformed spec
 * or overrides, with the line and column. */
XQ_API xq_status xq_spec_override(xq_context *context, const char *spec_json, const char *overrides_json,
                                  char **completed);

/* Frees a string of xq_spec_complete or xq_spec_override; NULL is fine. */
XQ_API void xq_string_free(char *string);
#endif

/* ------------------------------------------------------------------- plans */

/* How a plan computes attention. */
typedef enum xq_implementation {
    XQ_FUSED = 0,   /* dequantize, rematerialize, RoPE and attention in one kernel */
    XQ_UNFUSED = 1, /* the same through device memory: dequantize, GEMM, RoPE, attention */
    XQ_FP16_KV =
        2, /* the baseline: keys and values of the spec's dtype, 16 bits, and a flash-decoding kernel */
    XQ_FP8_KV = 3 /* the same in 8 bits: e4m3, in units of a scale for the keys of a layer and one for its
                     values (xq_weights), whatever the dtype */
} xq_implementation;

/* Kernels for one spec, loaded on one device. Opaque. */
typedef struct xq_plan xq_plan;

#ifndef XQ_RUNTIME_ONLY
/* What a plan is for: its spec, and the largest calls that it takes. */
typedef struct xq_plan_options {
    size_t struct_size;
    const char *spec_json; /* as for xq_spec_complete */
    /* XQ_FUSED unless set. */
    xq_implementation implementation;
    int32_t max_batch;         /* sequences in one call: 1 (default) to 65535 */
    int64_t max_tokens;        /* cached tokens of the longest sequence: 1 to 2^30; default 4096 */
    int64_t max_pages;         /* page-table entries in one call, over all sequences; 0: enough
                                  for max_batch sequences of max_tokens. The
                                  workspace of XQ_UNFUSED grows with it */
    int64_t max_append;        /* tokens in one append call, over all sequences: 1 (default) to 2^30. Raise
                                  it for prompts */
    int64_t max_queries;       /* queries of one sequence in one attend call: 1 (default) to 2^20.
                                  Above 1, a spec whose `queries` is "one" gets kernels for one query
                                  and others for many. Its tuning of attend, absorb, kv_attend and
                                  kv_attend_e4m3 is for those of one: blocks of many have other rows
                                  and tiles, and take what tables or their defaults say. A spec with
                                  "queries": "many" chooses theirs, and has them for all calls */
    int64_t max_total_queries; /* over all sequences of a call; 0: max_batch * max_queries */
    int32_t checked;           /* 1: for finding mistakes on a GPU, at the price of time: a kernel looks
                                  through the arrays of each call before the call's own kernels, which do
                                  nothing where there is a fault. See "Checked calls" below */
    int64_t pool_pages;        /* pages of the pool, so that page numbers beyond it are found too; 0:
                                  unknown. For the software device, and for checked plans; on a GPU
                                  others refuse it */
} xq_plan_options;
#ifdef __cplusplus
#define XQ_PLAN_OPTIONS_INIT xq_sized_plan_options<xq_plan_options>()
#else
#define XQ_PLAN_OPTIONS_INIT                                                                               \
    {                                                                                                      \
        .struct_size = sizeof(xq_plan_options), .max_batch = 1, .max_tokens = 4096, .max_append = 1,       \
        .max_queries = 1                                                                                   \
    }
#endif

/* Completes the spec, renders, compiles (or finds in a kernel store or the kernel cache) and loads its
 * kernels. NVRTC is needed only for those that are found nowhere: XQ_ERROR_NO_TOOLCHAIN then names the
 * kernel, its spec, and where was looked. The plan keeps what it needs of the context: the two may be
 * destroyed in any order. Errors: those of xq_spec_complete, XQ_ERROR_TEMPLATE, XQ_ERROR_COMPILE,
 * XQ_ERROR_NO_TOOLCHAIN, XQ_ERROR_DEVICE, XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_create(xq_context *context, const xq_plan_options *options, xq_plan **plan);
#endif

/* Plan images. An image is a plan as one block of bytes: its compiled kernels and everything that a launch
 * needs. xq_plan_load makes the plan again without generator, compiler or spec, on any GPU that runs the
 * code: machine code runs on GPUs of its major compute capability that are not older, PTX on all that are
 * not older; code for an architecture that ends in "a" runs on that one alone. The same plan always has the
 * same image.
 *
 * xq_plan_save copies the plan's image to `buffer`, which has room for `capacity` bytes, and sets *bytes to
 * its size; with `buffer` NULL and `capacity` 0 it sets *bytes alone. A buffer that is too small is left
 * untouched. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_save(const xq_plan *plan, void *buffer, size_t capacity, size_t *bytes);

/* Makes a plan from `bytes` bytes of an image, which is copied. The limits (max_batch, ...) are those that
 * the plan was created with; workspace_bytes can differ from one GPU to another. Errors: XQ_ERROR_FORMAT
 * for an image that is damaged, truncated, of another kind of file, or of another version, with what is
 * wrong in `field`; XQ_ERROR_UNSUPPORTED for one that this GPU does not run; XQ_ERROR_DEVICE,
 * XQ_ERROR_MEMORY, XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_load(xq_context *context, const void *image, size_t bytes, xq_plan **plan);

/* NULL is fine. Unloads the kernels: wait for the plan's launches first (xq_device_synchronize). */
XQ_API void xq_plan_destroy(xq_plan *plan);

/* Where the parameters of a plan's attention kernels come from. Tables of tuned parameters are looked up
 * for the size of the plan's calls (docs/tuning.md); `tuned` in the completed spec has the details. */
typedef enum xq_parameters_from {
    XQ_FROM_DEFAULT = 0,    /* the kernel family's defaults */
    XQ_FROM_SPEC = 1,       /* the spec chooses them */
    XQ_FROM_DEVICE = 2,     /* a table has them for this GPU */
    XQ_FROM_CAPABILITY = 3, /* for another one of its compute capability */
    XQ_FROM_FAMILY = 4      /* for one of the same major compute capability */
} xq_parameters_from;

/* What the caller must know of a plan: shapes, and the sizes of the memory that it gives to calls. */
typedef struct xq_plan_info {
    size_t struct_size;
    int32_t hidden_size, heads, kv_heads, head_dim; /* d, H, Hkv, dh */
    int32_t page_tokens;                            /* tokens per page */
    int32_t rank_k, rank_v; /* columns cached, as stored: latents padded to multiples of 64; hidden_size
                               and 0 for x, x-cl; the joint latent and 0 for latent-cl; dkv for XQ_FP16_KV
                               and XQ_FP8_KV */
    size_t page_bytes;      /* bytes of one page; also the stride between pages */
    size_t page_align;      /* required alignment of the page pool */
    size_t weights_bytes;   /* size of the packed weights */
    size_t workspace_bytes; /* zeroed once by the caller before its first use; calls
                               that may run at the same time need one each */
    double cache_bytes_per_token; /* of pages, everything included: codes, scales, offsets, padding */
    size_t tail_bytes; /* of a sequence's slot in the tail pool: its newest, unquantized tokens; 0 where no
                          groups are per channel. Slots are tail_bytes apart */
    size_t accumulator_page_bytes; /* cross-layer methods: of a page of the accumulator; else 0 */
    /* Of the accumulator, everything included; else 0. */
    double accumulator_bytes_per_token;
    int32_t needs_append_indptr; /* 1: append takes append_indptr (per-channel groups) */
    int32_t latents;             /* groups of KV heads whose keys have a latent each; rank_k counts all */
    /* Whether the kernels are tuned for this GPU. */
    xq_parameters_from parameters_from;
    xq_implementation implementation; /* which of them the plan is of */
    /* The limits of calls, as xq_plan_options had them; what was left 0 there is filled in: */
    int32_t max_batch;         /* sequences in one call */
    int64_t max_tokens;        /* cached tokens of the longest sequence */
    int64_t max_pages;         /* page-table entries in one call */
    int64_t max_append;        /* tokens in one append call */
    int64_t max_queries;       /* queries of one sequence in one attend call */
    int64_t max_total_queries; /* queries of one attend call, over all sequences */
    int64_t pool_pages;        /* pages of the pool; 0: unknown */
    int32_t latents_v;         /* groups of KV heads whose values have a latent each; rank_v counts all */
} xq_plan_info;
#define XQ_PLAN_INFO_INIT XQ_SIZED(xq_plan_info)

/* Fills `info`, whose struct_size the caller has set. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_query(const xq_plan *plan, xq_plan_info *info);

/* The completed spec of the plan as JSON; belongs to the plan. */
XQ_API const char *xq_plan_spec(const xq_plan *plan);

/* Projections of one layer on the host, row major f32; ranks are those of the spec, without padding.
 *   - methods x and x-cl, XQ_FP16_KV and XQ_FP8_KV: wk, wv [d, dkv].
 *   - method x with cache.rotation: uk [d, d], any invertible U; ak, av [d, dkv], U⁻¹·Wk and U⁻¹·Wv.
 *   - method latent: uk [d, rank_k], ak [rank_k / groups_k, dkv], uv [d, rank_v] and
 *     av [rank_v / groups_v, dkv]; the columns of a KV head multiply the latents of its group.
 *   - method latent-cl: wk, wv [d, dkv], ukv [d, rank_k] with orthonormal columns.
 *   - method latent with cache.feedback, optionally: k_cost [dkv, dh], a symmetric and positive
 *     semidefinite matrix M for each KV head: an error e of its keys (before their norm and RoPE) costs
 *     the dot product of e and M e. NULL: M = 1.
 *   - XQ_FP8_KV, optionally: k_scale, v_scale [1], what a 1 in the cache stands for: append stores an
 *     element x of the keys (as cached: after their norm and RoPE) or of the values as e4m3(x / scale),
 *     rounded to nearest even; beyond 448 * scale it saturates, and NaN stays NaN. Numbers from 1e-30 to
 *     1e30; NULL: 1. The largest magnitude that occurs, divided by 448, uses all of the range. All calls
 *     over one cache must have the same.
 *   - where the model has them: bk, bv [dkv]; k_norm [dh] (qk_norm "row": [dkv]), the factors as multiplied
 *     (Gemma: 1 + w); sinks [H]. */
typedef struct xq_weights {
    size_t struct_size;
    const float *wk, *wv;           /* the projections of keys and values */
    const float *uk, *ak;           /* of keys: x to what is cached, and from there to keys */
    const float *uv, *av;           /* of values, likewise */
    const float *ukv;               /* x to the joint latent of latent-cl */
    const float *bk, *bv;           /* biases of the projections */
    const float *k_norm, *sinks;    /* factors of the norm of keys; attention sinks */
    const float *k_cost;            /* what errors of keys cost, for cache.feedback */
    const float *k_scale, *v_scale; /* units of an e4m3 cache */
} xq_weights;
#define XQ_WEIGHTS_INIT XQ_SIZED(xq_weights)

/* Rounds to the plan's weight type and packs in the order the kernels read: `destination` is host
 * memory of weights_bytes, to be copied to the device (256-byte aligned) as it is.
 * Errors: XQ_ERROR_ARGUMENT for a missing matrix, one that the plan has no use for, NaN, infinity, a
 * value beyond the type's range, or a scale that is none. */
XQ_API xq_status xq_plan_pack_weights(const xq_plan *plan, const xq_weights *weights, void *destination,
                                      size_t destination_bytes);

#ifndef XQ_RUNTIME_ONLY
/* --------------------------------------------------------- prepared weights
 * A safetensors file that `xq prepare` wrote (docs/prepare.md), mapped into memory. Its matrices are
 * tensors layers.LAYER.NAME, its packed weights layers.LAYER.packed. The file must not be changed while it
 * is open; replacing it (rename) is fine. Calls may come from several threads, but for close. */

/* An open file of prepared weights. Opaque. */
typedef struct xq_prepared xq_prepared;

/* The handle keeps what it needs of the context: the two may be destroyed in any order.
 * Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a damaged, truncated, unfinished or foreign file or one of
 * another version, with the tensor or the key of __metadata__ in `field`; XQ_ERROR_ARGUMENT,
 * XQ_ERROR_MEMORY. */
XQ_API xq_status xq_prepared_open(xq_context *context, const char *path, xq_prepared **prepared);
/* Unmaps the file; what belongs to the handle is no longer valid. NULL is fine. */
XQ_API void xq_prepared_close(xq_prepared *prepared);

/* What a file of prepared weights holds. Strings belong to the handle. */
typedef struct xq_prepared_info {
    size_t struct_size;
    const char *spec_json; /* {"model": ..., "cache": {...}}: what the matrices depend on. Add bits and
                              whatever else the plan is to have (xq_spec_override); of a model that mixes
                              kinds of layers, layer_kind; with LongRoPE, its table */
    int32_t layers;        /* of the model; which of them the file has, xq_prepared_layer_spec tells */
    const char
        *weights; /* type of the packed weights: "f16", "bf16", "int8", "e4m3"; NULL: none are packed */
    int32_t base_layer; /* cross-layer methods: the first layer that has the method of spec_json; those
                           before it have the plain one (x for x-cl, latent for latent-cl). Else 0 */
} xq_prepared_info;
#define XQ_PREPARED_INFO_INIT XQ_SIZED(xq_prepared_info)

/* Fills `info`, whose struct_size the caller has set. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_prepared_query(const xq_prepared *prepared, xq_prepared_info *info);

/* The same as spec_json for one layer: what it is prepared for. NULL for a layer that the file does not
 * have; belongs to the handle. */
XQ_API const char *xq_prepared_layer_spec(const xq_prepared *prepared, int32_t layer);

/* A layer's matrices as f32, for xq_plan_pack_weights and for computing on the host; NULL where the method
 * has none. They belong to the handle and stay until it is closed; made, and their checksums verified, by
 * the layer's first call. Errors: XQ_ERROR_ARGUMENT for a layer that the file does not have, or has packed
 * only; XQ_ERROR_FORMAT (damaged; the tensor in `field`); XQ_ERROR_MEMORY. */
XQ_API xq_status xq_prepared_layer(xq_prepared *prepared, int32_t layer, xq_weights *weights);

/* A layer's packed weights within the mapped file: what xq_plan_pack_weights makes of its matrices,
 * weights_bytes of the plan, at a multiple of 256 in memory and in the file. The layer's first call
 * verifies their checksum. Errors: XQ_ERROR_ARGUMENT for a layer that the file does not have packed, and
 * for a plan that takes other weights
 * (`field` says in what: "cache.rank_k", "weights_layout.matrices[2].type"); XQ_ERROR_FORMAT (damaged). */
XQ_API xq_status xq_prepared_packed(xq_prepared *prepared, xq_plan *plan, int32_t layer,
                                    const void **packed, size_t *bytes);
#endif

/* ------------------------------------------------------------------- calls */

/* Checked calls. What only the device's memory tells about the arrays of a call (a page table that falls, a
 * sequence longer than max_tokens, a page number beyond the pool, a workspace that was not zeroed, ...) is
 * looked at before the call launches, and nothing is written where there is a fault: XQ_ERROR_ARGUMENT,
 * with `field` and a message that names the sequence or row and its value.
 *   - The software device always does, and the call returns the error.
 *   - A GPU does for plans with `checked`. A launch does not wait, so the error is returned by whatever
 *     comes first: the next call on the plan, which then launches nothing, or xq_device_synchronize or
 *     xq_device_read on the context. The first fault is reported, once; those of later calls up to then are
 *     forgotten with it. Such calls can be captured into a CUDA graph as others can. A checked plan owns
 *     a third of a megabyte of memory; at most 4096 of its calls may be under way on different streams.
 *   - Other plans on a GPU are not slowed down by any of this, and such mistakes are faults of the GPU, or
 *     wrong results. */

/* Pages of each sequence, FlashInfer's convention; all int32, on the device.
 *   indptr [batch + 1]: sequence i owns indices[indptr[i] .. indptr[i+1])
 *   indices [indptr[batch]]: page numbers in the pool
 *   last_page_len [batch]: tokens in the last page, 1 .. page_tokens (ignored for an empty sequence)
 * A sequence without pages has length zero. */
typedef struct xq_page_table {
    int32_t batch;          /* sequences: 0 to max_batch of the plan */
    uint64_t indptr;        /* int32 [batch + 1] */
    uint64_t indices;       /* int32 [indptr[batch]] */
    uint64_t last_page_len; /* int32 [batch] */
} xq_page_table;

/* Per-channel groups keep the newest tokens of a sequence, up to a group, unquantized: in slot slots[i] of
 * the pool, for sequence i of the table. The caller gives a sequence a slot before its first append, and
 * keeps it. */
typedef struct xq_tail_pool {
    uint64_t pool;  /* 128-byte aligned; slot n is at n * tail_bytes */
    uint64_t slots; /* int32 [batch], on the device */
} xq_tail_pool;

/* Writes tokens into their pages. Positions count from 0 within their sequence; the table describes
 * the cache after the call. Tokens may come in any order, each once; with append_indptr, they are the last
 * tokens of their sequences, in order. Cross-layer methods, layer by layer: append, accumulate, attend. The
 * accumulator then holds the layers before. */
typedef struct xq_append_args {
    size_t struct_size;
    int64_t tokens;          /* rows of x; 0 is allowed */
    uint64_t x;              /* [tokens, d] of the spec's dtype, 16-byte aligned */
    uint64_t token_sequence; /* int32 [tokens] */
    uint64_t token_position; /* int32 [tokens]: a token's place in its sequence */
    xq_page_table table;     /* the cache after this call */
    uint64_t pages;          /* the pool, page_align aligned */
    uint64_t weights;        /* as packed, 256-byte aligned; not read where x is cached as it is */
    uint64_t workspace;      /* 256-byte aligned; used by XQ_FP16_KV and XQ_FP8_KV alone */
    size_t workspace_bytes;  /* at least those of xq_plan_info, where it is used */
    uint64_t append_indptr; /* int32 [batch + 1]: rows of x of each sequence; read if needs_append_indptr */
    xq_tail_pool tails;     /* where tail_bytes is not 0 */
    uint64_t accumulator; /* pages, as many as the pool has: cross-layer methods; a base layer does not read
                             it */
    uint64_t rotary_position; /* int32 [tokens]; XQ_FP16_KV and XQ_FP8_KV alone: positions for RoPE; 0:
                                 token_position */
} xq_append_args;
#define XQ_APPEND_ARGS_INIT XQ_SIZED(xq_append_args)
XQ_API xq_status xq_plan_append(xq_plan *plan, const xq_append_args *args, void *stream);

/* Adds a layer's deltas to the accumulator, for every token of the table; the base layer starts it. Each
 * page stands once in the table, for its deltas would be added as often: where sequences share a prefix,
 * one of them has its pages here and the others begin behind it, with whole groups of tokens where groups
 * are per channel. Cross-layer methods only; other plans, XQ_FP16_KV and XQ_FP8_KV refuse it with
 * XQ_ERROR_ARGUMENT. */
typedef struct xq_accumulate_args {
    size_t struct_size;
    int64_t max_tokens;   /* no sequence of this call is longer */
    xq_page_table table;  /* the sequences, and their pages */
    uint64_t pages;       /* the layer's deltas */
    uint64_t weights;     /* not read where deltas are cached as they are */
    xq_tail_pool tails;   /* where tail_bytes is not 0 */
    uint64_t accumulator; /* pages of accumulator_page_bytes, of the same numbers; page_align aligned */
} xq_accumulate_args;
#define XQ_ACCUMULATE_ARGS_INIT XQ_SIZED(xq_accumulate_args)
XQ_API xq_status xq_plan_accumulate(xq_plan *plan, const xq_accumulate_args *args, void *stream);

/* Attends with one or more queries of each sequence. Allocates nothing, takes no lock.
 *
 * Token t of sequence i is at position token_offset[i] + t. Its queries are rows query_indptr[i] ..
 * query_indptr[i + 1] of q, at the positions query_position says. A query sees the tokens at positions up
 * to its own (and, in models with a sliding window, within the window). So with everything left 0 there is
 * one query a sequence, at its last token; several queries without positions are at the last tokens, as in
 * speculative decoding and prefill chunks; a shared prefix is attended with the queries' true positions,
 * the rest with token_offset, and xq_plan_merge joins both. With tree_mask the sequence's last tokens, as
 * many as its queries, are drafts: draft t is at the position of query t, and query j sees it if bit t % 32
 * of word t / 32 of its row of tree_mask is set. */
typedef struct xq_attend_args {
    size_t struct_size;
    int64_t max_tokens; /* no sequence of this call is longer; at most the plan's max_tokens */
    uint64_t q;         /* [queries, H, dh] before RoPE, after bias and norm; 16-byte aligned */
    uint64_t out;       /* [queries, H, dh], 16-byte aligned; zeros where a query sees no token */
    uint64_t lse;       /* [queries, H] f32, natural logarithm; -inf where a query sees no token; 0: none */
    xq_page_table table;     /* the sequences, and their pages */
    uint64_t pages;          /* page_align aligned */
    uint64_t weights;        /* as packed, 256-byte aligned; XQ_FP16_KV reads it only for attention sinks,
                                XQ_FP8_KV for its scales too */
    uint64_t workspace;      /* 256-byte aligned */
    size_t workspace_bytes;  /* at least those of xq_plan_info */
    int64_t queries;         /* rows of q; 0: one for each sequence */
    int64_t max_queries;     /* no sequence of this call has more; 0: 1, or with an indptr the lesser of
                                `queries` and the plan's max_queries */
    uint64_t query_indptr;   /* int32 [batch + 1]; 0: one each */
    uint64_t query_position; /* int32 [queries]; 0: the last positions of each sequence */
    uint64_t token_offset;   /* int32 [batch], positions from 0 to 2^31 - 1; 0: zeros */
    uint64_t tree_mask;      /* uint32 [queries, mask_words]; 0: none. Needs query_position */
    int32_t mask_words;      /* at least max_queries / 32, rounded up; 0 without a tree_mask */
    int32_t without_sinks;   /* 1: leave the model's attention sinks out, as in all but one part of a merge;
                                where the model has none this is so anyway */
    xq_tail_pool tails;      /* where tail_bytes is not 0; not read where there is an accumulator */
    uint64_t accumulator;    /* cross-layer methods: after accumulate; pages are then not read */
} xq_attend_args;
#define XQ_ATTEND_ARGS_INIT XQ_SIZED(xq_attend_args)
XQ_API xq_status xq_plan_attend(xq_plan *plan, const xq_attend_args *args, void *stream);

/* Joins attention over two disjoint sets of tokens: each row by its log-sum-exp. */
typedef struct xq_merge_args {
    size_t struct_size;
    int64_t queries;       /* rows; 0 is allowed */
    uint64_t out_a, out_b; /* [queries, H, dh], 16-byte aligned */
    uint64_t lse_a, lse_b; /* [queries, H] f32 */
    uint64_t out, lse;     /* may be those of a or of b; lse may be 0 */
} xq_merge_args;
#define XQ_MERGE_ARGS_INIT XQ_SIZED(xq_merge_args)
XQ_API xq_status xq_plan_merge(xq_plan *plan, const xq_merge_args *args, void *stream);

/* The cache as the kernels see it, for inspection: row p * page_tokens + t of the output is token t of
 * the page that table entry p names. Rows beyond a sequence's length are left untouched. Values are of the
 * spec's dtype. XQ_FP16_KV and XQ_FP8_KV are refused.
 *   - method x: k [rows, d], with cache.rotation in U's coordinates, x·U.
 *   - method latent: k [rows, rank_k], v [rows, rank_v], as stored.
 *   - cross-layer methods: k [rows, d], the accumulator. */
typedef struct xq_dequantize_args {
    size_t struct_size;
    int64_t table_entries; /* indptr[batch] */
    xq_page_table table;   /* the sequences, and their pages */
    uint64_t pages;        /* page_align aligned */
    uint64_t k, v;         /* 16-byte aligned; v is 0 where one stream is cached */
    xq_tail_pool tails;    /* where tail_bytes is not 0; not read where there is an accumulator */
    uint64_t accumulator;  /* cross-layer methods; pages are then not read */
} xq_dequantize_args;
#define XQ_DEQUANTIZE_ARGS_INIT XQ_SIZED(xq_dequantize_args)
XQ_API xq_status xq_plan_dequantize(xq_plan *plan, const xq_dequantize_args *args, void *stream);

/* -------------------------------------------------------------- simulation
 * What caches and packed weights hold, worked out on the host without a context or a device: for measuring
 * a method's accuracy with an engine's own arithmetic, and for references. They may be called from any
 * thread; xq_last_error, asked for no context, says which argument of the calling thread's last failure was
 * wrong. */

/* How rows of a cached stream are quantized: what a completed spec's layout.streams says of it. */
typedef struct xq_quantizer {
    size_t struct_size;
    int32_t bits;         /* 2, 3, 4, 8; or 16: values are rounded to f16 and no more */
    int32_t group;        /* elements that share a scale; 0: all of a latent */
    int32_t by_channel;   /* 1: a group is consecutive rows (tokens) of one channel; 0: channels of a row */
    int32_t integer_zero; /* 1: cache.zero_point "integer" */
    /* Matrices side by side in a row, each of width / latents columns; 0: one. A cache stores each padded
     * to a multiple of 64 columns. Groups of channels begin anew with each. */
    int32_t latents;
    float clip; /* cache.clip: share of a group's range that codes span, up to 1; 0: 1 */
    /* cache.feedback: what xq_simulate_feedback makes, for groups of channels, of at most 256; NULL: none
     */
    const float *feedback;
} xq_quantizer;
#define XQ_QUANTIZER_INIT XQ_SIZED(xq_quantizer)

/* What a cache of this format holds of x [rows, width], bit for bit as append quantizes it and kernels read
 * it: x_hat [rows, width], f16 values. x is rounded to f16 first, saturating. Row 0 begins a group; with
 * by_channel the rows beyond the last whole group are the tail, and stay as they are. A NaN makes its group
 * NaN. x_hat may be x.
 * Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_simulate_cache(const xq_quantizer *quantizer, int64_t rows, int64_t width,
                                   const float *x, float *x_hat);

/* What append feeds back of a stream of rows of `width` values, with this quantizer's group and latents,
 * whose `feedback` it then is. a [width / latents, cols]: what the stream is multiplied by, as the caller
 * gives it to xq_plan_pack_weights (of method x, ak and av side by side); cost [cols, block]: row c holds
 * what errors of column c cost together with errors of each column of its block (for keys k_cost, in blocks
 * of dh); block 1: of squared errors alone; NULL: all columns alike, and block is not used. block divides
 * the columns of a latent. feedback: groups * group * group f32. Here
 * `group` is the quantizer's, though no more than a latent as stored where there are several, and `groups`
 * counts those of a row: latents * ceil(latent as stored / group). Errors: XQ_ERROR_ARGUMENT, also for NaN
 * and infinity, and for costs that are not symmetric or not positive semidefinite; XQ_ERROR_MEMORY. */
XQ_API xq_status xq_simulate_feedback(const xq_quantizer *quantizer, int64_t width, int64_t cols,
                                      const float *a, int64_t block, const float *cost, float *feedback);

/* What packed weights of type "f16", "bf16", "int8" or "e4m3" hold of w [rows, cols]; the 8-bit types have
 * a scale for each column. `rounded` may be w.
 * Errors: XQ_ERROR_ARGUMENT, as xq_plan_pack_weights also for NaN, infinity, or a value beyond the type. */
XQ_API xq_status xq_simulate_weights(const char *type, int64_t rows, int64_t cols, const float *w,
                                     float *rounded);

#ifdef __cplusplus
}
#endif

#endif
