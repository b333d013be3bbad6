/* xq: attention over a cache of low-bit quantized activations.
 *
 * A context holds a device and a kernel cache. A plan is a spec (model shape, cache method, bits) compiled
 * for that device: it states the layout of cache pages, weights and workspace, and launches kernels over
 * memory that the caller owns. Device pointers are uint64_t and streams are void *, so this header needs
 * no CUDA header.
 *
 * Conventions:
 *   - Every call that can fail returns xq_status. Results come through out-parameters, which are left
 *     untouched on failure (xq_context_create is the one exception). xq_last_error gives the details of a
 *     failure.
 *   - Descriptors start with `size_t struct_size`. Initialize them with their XQ_..._INIT macro: a program
 *     that was built against an older header then keeps working with a newer library. A struct_size below
 *     that of the descriptor's first version is refused.
 *   - Nothing is ignored. An argument that would have no effect is refused with XQ_ERROR_ARGUMENT and its
 *     name: for example a matrix that the plan does not pack, or the width of a mask where no mask is
 *     given. Some arguments are the same for every call on a cache; they may be given even to a call that
 *     does not read them, so that an engine can fill them in alike for all calls. They are weights,
 *     workspace and append_indptr, and, where the plan has them, pages, tails (tail_bytes is not 0) and
 *     accumulator (accumulator_page_bytes is not 0). A flag that asks for what is true anyway is accepted.
 *   - Matrices are row major; y = x * W. The symbols d, H, Hkv, dh and dkv are those of docs/method.md.
 *   - The library never prints, never calls exit, and keeps no global mutable state, with one exception:
 *     each thread keeps the last failure of the calls that take no context (the simulation).
 *
 * Threads: a context, and the plans made from it, may be used from several threads at once, but calls that
 * create or destroy an object must not race with other uses of the same object. xq_last_error returns the
 * calling thread's last failure on a context, or, when it is given no context, the thread's last failure
 * of a call that takes none. */
#ifndef XQ_XQ_H
#define XQ_XQ_H

#include <stddef.h>
#include <stdint.h>

#ifndef XQ_RUNTIME_ONLY
/* libxqrt is the library that launches plan images and cannot build them. It provides everything in this
 * header except what stands between #ifndef XQ_RUNTIME_ONLY and #endif. Define XQ_RUNTIME_ONLY to see only
 * what libxqrt provides. A program links either libxq or libxqrt. */
#endif

/* These functions make descriptors for the C++ form of the initializers below: the size is set, and the
 * other fields have their defaults. C++ compilers would warn about an initializer that lists only some of
 * the fields. */
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

/* The version of this header. xq_version returns the version of the library. */
#define XQ_VERSION_MAJOR 0
#define XQ_VERSION_MINOR 1
#define XQ_VERSION_PATCH 0

/* Initializes a descriptor: its size is set, and everything else is zero. */
#ifdef __cplusplus
#define XQ_SIZED(TYPE) xq_sized<TYPE>()
#else
#define XQ_SIZED(TYPE)                                                                                     \
    {                                                                                                      \
        .struct_size = sizeof(TYPE)                                                                        \
    }
#endif

/* Define XQ_API before including this header to give the functions another visibility. */
#ifndef XQ_API
#if defined(__GNUC__)
#define XQ_API __attribute__((visibility("default")))
#else
#define XQ_API
#endif
#endif

/* ---------------------------------------------------------------- errors */

/* The result of a call. A value never changes its meaning; new values are added at the end. */
typedef enum xq_status {
    XQ_OK = 0,                   /* the call succeeded */
    XQ_ERROR_ARGUMENT = 1,       /* a null, misaligned or out-of-range argument of an API call */
    XQ_ERROR_SPEC = 2,           /* a spec or config.json names an impossible or unknown value */
    XQ_ERROR_UNSUPPORTED = 3,    /* a valid spec asks for a feature that no kernel has yet, or this GPU
                                    cannot run a plan image */
    XQ_ERROR_TEMPLATE = 4,       /* a template failed to compile or render */
    XQ_ERROR_COMPILE = 5,        /* NVRTC refused the generated source */
    XQ_ERROR_NO_DEVICE = 6,      /* no driver or no such GPU */
    XQ_ERROR_NO_TOOLCHAIN = 7,   /* a kernel is in no store and not in the cache, and NVRTC was not found or
                                    no_compile forbids compiling */
    XQ_ERROR_DEVICE = 8,         /* the device reported a fault, or refused a launch */
    XQ_ERROR_MEMORY = 9,         /* out of host memory */
    XQ_ERROR_DEVICE_MEMORY = 10, /* out of device memory */
    XQ_ERROR_IO = 11,            /* a file could not be read or written */
    XQ_ERROR_FORMAT = 12,        /* a file is damaged, truncated or of another format */
    XQ_ERROR_INTERNAL = 13       /* a fault of xq itself; please report it */
} xq_status;

/* The details of a failure. The strings belong to the context, or to the thread where the call has no
 * context. They stay valid until the calling thread's next failing call on that context. Fields that do
 * not apply are NULL or 0. */
typedef struct xq_error_detail {
    size_t struct_size;
    xq_status status;    /* the status that the failing call returned */
    const char *stage;   /* "argument", "spec", "template", "compile", "cache", "device", "file" */
    const char *message; /* one printable line: what is wrong, and what would be valid. Control characters
                            in text that was given appear as \xNN, and long values are cut */
    const char *field;   /* the offending field or argument, e.g. "cache.bits" */
    const char *file;    /* e.g. "templates/attend.cu.lt" or a path */
    int line;            /* 1-based line in `file` */
    const char *log;     /* the complete compiler log or device report, possibly of many lines */
} xq_error_detail;
#define XQ_ERROR_DETAIL_INIT XQ_SIZED(xq_error_detail)

/* Returns the name of a status, e.g. "XQ_ERROR_SPEC". Never NULL; static storage. */
XQ_API const char *xq_status_name(xq_status status);

/* Returns the version of the library as "MAJOR.MINOR.PATCH"; static storage. */
XQ_API const char *xq_version(void);

/* --------------------------------------------------------------- context */

/* A device and a kernel cache. Opaque. */
typedef struct xq_context xq_context;

/* The importance of a message to the log callback. */
typedef enum xq_log_level {
    XQ_LOG_DEBUG = 0,  /* for each kernel, whether it was compiled or found in the cache */
    XQ_LOG_INFO = 1,   /* a choice that xq made, such as the software device where no GPU works */
    XQ_LOG_WARNING = 2 /* something is wrong, and the call continues without it */
} xq_log_level;

/* Receives log messages. It is called from any thread that uses the context. `message` is one printable
 * line without a newline, and is valid only during the call. The callback must not call back into xq. */
typedef void (*xq_log_callback)(void *user, xq_log_level level, const char *message);

/* Options of xq_context_create, which copies the strings. cache_dir, template_dir, kernels and no_compile
 * are for libxq, which compiles kernels; libxqrt, which only loads plan images, refuses them. */
typedef struct xq_context_options {
    size_t struct_size;
    const char *device; /* "auto" (default), "cuda", "cuda:N", "sim", or "sim:GPU" where GPU is one of h100,
                           h200, a100, rtx4090. "cuda" is the first GPU that works; "auto" is the same, or
                           "sim" where no GPU works */
    const char *cache_dir;    /* folder of the kernel cache; default $XQ_CACHE_DIR, else $XDG_CACHE_HOME/xq,
                                 else ~/.cache/xq. "" disables the on-disk cache */
    const char *template_dir; /* folder to read templates from, instead of the built-in ones (for
                                 development) */
    xq_log_callback log;      /* receives messages; may be NULL */
    void *log_user;           /* the callback's `user` */
    const char *kernels; /* kernel stores, separated by colons. They are read and never written, and are
                            searched in this order before the cache. Default $XQ_KERNELS; "" for none. A
                            folder that is not a store is left out, with a warning (docs/kernel-cache.md) */
    int32_t no_compile;  /* 1: a kernel that is in no store and not in the cache is an error, and NVRTC is
                            not looked for. 0: $XQ_NO_COMPILE decides (1, 0, or empty) */
} xq_context_options;
#define XQ_CONTEXT_OPTIONS_INIT XQ_SIZED(xq_context_options)

/* Opens a device, the kernel stores and the kernel cache. `options` may be NULL. On failure *context
 * receives an object that serves only xq_last_error and xq_context_destroy, or NULL when memory ran out.
 * Errors: XQ_ERROR_ARGUMENT, XQ_ERROR_NO_DEVICE, XQ_ERROR_MEMORY. */
XQ_API xq_status xq_context_create(const xq_context_options *options, xq_context **context);
/* Ends the caller's use of the context: the pointer, and the strings of xq_last_error, are no longer
 * valid. Plans and prepared weights made from the context keep the device, and the memory allocated on it,
 * until the last of them is destroyed; until then the log callback may be called. NULL is allowed. */
XQ_API void xq_context_destroy(xq_context *context);

/* Fills `detail`, whose struct_size the caller has set, with the calling thread's last failure on
 * `context`. With NULL for `context` it gives the last failure of the calls that take no context
 * (xq_simulate_...), and fails if none of them has failed. */
XQ_API xq_status xq_last_error(const xq_context *context, xq_error_detail *detail);

/* The device of a context, and the versions behind it. */
typedef struct xq_device_info {
    size_t struct_size;
    char name[128];      /* "NVIDIA H100 80GB HBM3", or "NVIDIA H100 SXM5 80GB (software device)" */
    char arch[16];       /* "sm_90a": the architecture that plans are compiled for by default (docs/spec.md,
                            Architectures) */
    int32_t is_sim;      /* 1: the software device, whose times are modelled */
    int32_t driver;      /* CUDA driver version, 1000 * major + 10 * minor; 0 for sim */
    int32_t nvrtc;       /* NVRTC version in the same form; 0: not found */
    int32_t sm_count;    /* streaming multiprocessors */
    size_t memory_bytes; /* total device memory */
    size_t l2_bytes;     /* size of the L2 cache */
    size_t shared_bytes_per_block; /* opt-in maximum of shared memory per block */
    int32_t ordinal;               /* the GPU's number, as in "cuda:N"; -1 for sim */
} xq_device_info;
#define XQ_DEVICE_INFO_INIT XQ_SIZED(xq_device_info)

/* Fills `info`, whose struct_size the caller has set. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_context_device(xq_context *context, xq_device_info *info);

/* ----------------------------------------------------------- device memory
 * These calls are for programs without a CUDA runtime of their own, and for the software device. An engine
 * on a GPU passes its own device pointers instead. Pointers from xq_device_alloc are aligned to 256 bytes.
 * Write, read and fill take effect after every launch made before them, on any stream, and are complete
 * when they return. Errors: XQ_ERROR_ARGUMENT, XQ_ERROR_DEVICE_MEMORY (alloc), XQ_ERROR_DEVICE. */

/* Allocates `bytes` bytes, uninitialized. An allocation of 0 bytes gets an address too. The caller frees
 * the memory with xq_device_free. */
XQ_API xq_status xq_device_alloc(xq_context *context, size_t bytes, uint64_t *pointer);
/* Frees memory that xq_device_alloc allocated; a pointer of 0 is allowed. Wait first for the launches that
 * use the memory. */
XQ_API xq_status xq_device_free(xq_context *context, uint64_t pointer);
/* Copies `bytes` bytes from the host to the device. */
XQ_API xq_status xq_device_write(xq_context *context, uint64_t destination, const void *source,
                                 size_t bytes);
/* Copies `bytes` bytes from the device to the host. */
XQ_API xq_status xq_device_read(xq_context *context, void *destination, uint64_t source, size_t bytes);
/* Sets each of `bytes` bytes on the device to `value`. */
XQ_API xq_status xq_device_fill(xq_context *context, uint64_t destination, uint8_t value, size_t bytes);
/* Waits for everything launched so far, and reports asynchronous faults. */
XQ_API xq_status xq_device_synchronize(xq_context *context);

#ifndef XQ_RUNTIME_ONLY
/* ------------------------------------------------------------------- specs */

/* Validates and completes a spec given as JSON ({"model": …, "cache": …}; docs/spec.md). `model` may be
 * the name of a preset. *completed is JSON text; the caller frees it with xq_string_free. Errors:
 * XQ_ERROR_SPEC, XQ_ERROR_UNSUPPORTED (both with `field`), XQ_ERROR_MEMORY. */
XQ_API xq_status xq_spec_complete(xq_context *context, const char *spec_json, char **completed);

/* Changes a spec: merges overrides into the choices of the spec, and completes the result. For example
 *     xq_spec_override(context, info.spec_json, "{\"cache\": {\"bits\": 8}}", &completed)
 * The spec may be completed or not. The overrides are a JSON object, merged as RFC 7386 says: a member
 * replaces that of the spec, and null removes a choice, so that its default returns. Values that
 * completion had derived are derived again, so the result is the same as if all choices had been made in
 * one spec. Where the model is the name of a preset, an override of the model changes that value and keeps
 * the preset's others, null removes the preset's value, and "model": NAME replaces the whole model. The
 * caller frees *completed with xq_string_free. Errors: XQ_ERROR_ARGUMENT, and those of xq_spec_complete;
 * also for a malformed spec or malformed overrides, with the line and column. */
XQ_API xq_status xq_spec_override(xq_context *context, const char *spec_json, const char *overrides_json,
                                  char **completed);

/* Frees a string of xq_spec_complete or xq_spec_override; NULL is allowed. */
XQ_API void xq_string_free(char *string);
#endif

/* ------------------------------------------------------------------- plans */

/* How a plan computes attention. */
typedef enum xq_implementation {
    XQ_FUSED = 0,   /* dequantize, rematerialize, RoPE and attention in one kernel */
    XQ_UNFUSED = 1, /* the same steps in separate kernels, through device memory: dequantize, GEMM, RoPE,
                       attention */
    XQ_FP16_KV = 2, /* the baseline: flash decoding over 16-bit keys and values of the spec's dtype */
    XQ_FP8_KV = 3   /* the same over 8-bit keys and values, e4m3 whatever the dtype, in units of a scale for
                       the keys of a layer and one for its values (xq_weights) */
} xq_implementation;

/* Kernels for one spec, loaded on one device. Opaque. */
typedef struct xq_plan xq_plan;

#ifndef XQ_RUNTIME_ONLY
/* Options of xq_plan_create: the plan's spec, and the largest calls that the plan accepts. */
typedef struct xq_plan_options {
    size_t struct_size;
    const char *spec_json; /* as for xq_spec_complete */
    /* How the plan computes attention; XQ_FUSED unless set. */
    xq_implementation implementation;
    int32_t max_batch;   /* sequences in one call: 1 (default) to 65535 */
    int64_t max_tokens;  /* cached tokens of the longest sequence: 1 to 2^30; default 4096 */
    int64_t max_pages;   /* page-table entries in one call, over all sequences; 0: enough for max_batch
                            sequences of max_tokens. The workspace of XQ_UNFUSED grows with this number */
    int64_t max_append;  /* tokens in one append call, over all sequences: 1 (default) to 2^30. Raise it for
                            prompts */
    int64_t max_queries; /* queries of one sequence in one attend call: 1 (default) to 2^20. If this is
                            above 1, a spec whose `queries` is "one" gets kernels for one query and other
                            kernels for many. Its tuning of attend, absorb, kv_attend and kv_attend_e4m3
                            then applies to the kernels for one query; the kernels for many work on blocks
                            with other rows and tiles, and take their parameters from the tables or their
                            defaults. A spec with "queries": "many" chooses the parameters of the kernels
                            for many queries, and all calls use these kernels */
    int64_t max_total_queries; /* queries of one call, over all sequences; 0: max_batch * max_queries */
    int32_t checked; /* 1: find mistakes in calls on a GPU, at the price of time. A kernel looks through the
                        arrays of each call before the call's own kernels, which do nothing where there is a
                        fault. See "Checked calls" below */
    int64_t pool_pages; /* pages of the pool, so that page numbers beyond the pool are found too; 0:
                           unknown. For the software device, and for checked plans; other plans on a GPU
                           refuse it */
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

/* Completes the spec, and renders, compiles and loads its kernels. A kernel that is in a kernel store or
 * in the kernel cache is not compiled. NVRTC is needed only for the others: where it is missing,
 * XQ_ERROR_NO_TOOLCHAIN names the kernel, its spec, and the places that were searched. The plan keeps what
 * it needs of the context, so the two may be destroyed in any order. Errors: those of xq_spec_complete,
 * XQ_ERROR_TEMPLATE, XQ_ERROR_COMPILE, XQ_ERROR_NO_TOOLCHAIN, XQ_ERROR_DEVICE, XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_create(xq_context *context, const xq_plan_options *options, xq_plan **plan);
#endif

/* Plan images. An image is a plan as one block of bytes: its compiled kernels and everything that a launch
 * needs. xq_plan_load makes the plan again without a generator, a compiler or a spec, on any GPU that runs
 * the code. Machine code runs on GPUs of the same major compute capability that are not older, and PTX
 * runs on all GPUs that are not older. Code for an architecture whose name ends in "a" runs on that
 * architecture alone. The same plan always has the same image.
 *
 * xq_plan_save copies the plan's image to `buffer`, which has room for `capacity` bytes, and sets *bytes
 * to the image's size. With `buffer` NULL and `capacity` 0 it only sets *bytes. A buffer that is too small
 * is left untouched. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_save(const xq_plan *plan, void *buffer, size_t capacity, size_t *bytes);

/* Makes a plan from an image of `bytes` bytes, which is copied. The limits (max_batch, ...) are those that
 * the plan was created with; workspace_bytes can differ from one GPU to another. Errors: XQ_ERROR_FORMAT
 * for an image that is damaged or truncated, for another kind of file, and for an image of another version
 * (`field` names what is wrong); XQ_ERROR_UNSUPPORTED for an image that this GPU cannot run;
 * XQ_ERROR_DEVICE, XQ_ERROR_MEMORY, XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_load(xq_context *context, const void *image, size_t bytes, xq_plan **plan);

/* Unloads the plan's kernels and frees the plan; NULL is allowed. Wait for the plan's launches first
 * (xq_device_synchronize). */
XQ_API void xq_plan_destroy(xq_plan *plan);

/* The source of the parameters of a plan's attention kernels. Tables of tuned parameters are looked up for
 * the size of the plan's calls (docs/tuning.md). `tuned` in the completed spec has the details. */
typedef enum xq_parameters_from {
    XQ_FROM_DEFAULT = 0,    /* the kernel family's defaults */
    XQ_FROM_SPEC = 1,       /* the spec chooses them */
    XQ_FROM_DEVICE = 2,     /* a table has them for this GPU */
    XQ_FROM_CAPABILITY = 3, /* a table has them for another GPU of the same compute capability */
    XQ_FROM_FAMILY = 4      /* a table has them for a GPU of the same major compute capability */
} xq_parameters_from;

/* The properties of a plan that its caller needs: shapes, and the sizes of the memory that the caller
 * gives to calls. The fields max_batch to pool_pages are the limits of calls, as xq_plan_options had them;
 * limits that were left 0 there have the number that the plan uses. */
typedef struct xq_plan_info {
    size_t struct_size;
    int32_t hidden_size, heads, kv_heads, head_dim; /* d, H, Hkv, dh */
    int32_t page_tokens;                            /* tokens per page */
    int32_t rank_k, rank_v; /* cached columns, as stored: latents padded to multiples of 64; hidden_size and
                               0 for x, x-cl; the joint latent and 0 for latent-cl; dkv for XQ_FP16_KV
                               and XQ_FP8_KV */
    size_t page_bytes;      /* bytes of one page; also the stride between pages */
    size_t page_align;      /* required alignment of the page pool */
    size_t weights_bytes;   /* size of the packed weights */
    size_t workspace_bytes; /* bytes of a workspace. The caller zeroes it once before its first use. Calls
                               that may run at the same time need a workspace each */
    double cache_bytes_per_token; /* bytes of pages per token, everything included: codes, scales, offsets,
                                     padding */
    size_t tail_bytes; /* bytes of a sequence's slot in the tail pool, which holds its newest, unquantized
                          tokens; 0 where no groups are per channel. Slots are tail_bytes apart */
    size_t accumulator_page_bytes; /* cross-layer methods: bytes of a page of the accumulator; else 0 */
    /* Bytes of the accumulator per token, everything included; 0 without an accumulator. */
    double accumulator_bytes_per_token;
    int32_t needs_append_indptr; /* 1: append needs append_indptr (per-channel groups) */
    int32_t latents; /* groups of KV heads whose keys have a latent each; rank_k counts the columns of all
                        of them */
    /* The source of the attention kernels' parameters: whether they were tuned for this GPU. */
    xq_parameters_from parameters_from;
    xq_implementation implementation; /* how the plan computes attention */
    int32_t max_batch;                /* sequences in one call */
    int64_t max_tokens;               /* cached tokens of the longest sequence */
    int64_t max_pages;                /* page-table entries in one call */
    int64_t max_append;               /* tokens in one append call */
    int64_t max_queries;              /* queries of one sequence in one attend call */
    int64_t max_total_queries;        /* queries of one attend call, over all sequences */
    int64_t pool_pages;               /* pages of the pool; 0: unknown */
    int32_t latents_v; /* groups of KV heads whose values have a latent each; rank_v counts the columns of
                          all of them */
} xq_plan_info;
#define XQ_PLAN_INFO_INIT XQ_SIZED(xq_plan_info)

/* Fills `info`, whose struct_size the caller has set. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_plan_query(const xq_plan *plan, xq_plan_info *info);

/* Returns the completed spec of the plan as JSON. The string belongs to the plan. */
XQ_API const char *xq_plan_spec(const xq_plan *plan);

/* The projections of one layer, on the host, row major f32. Ranks are those of the spec, without padding.
 *   - methods x and x-cl, XQ_FP16_KV and XQ_FP8_KV: wk, wv [d, dkv].
 *   - method x with cache.rotation: uk [d, d], any invertible matrix U; ak and av [d, dkv], which are
 *     U⁻¹·Wk and U⁻¹·Wv.
 *   - method latent: uk [d, rank_k], ak [rank_k / groups_k, dkv], uv [d, rank_v] and av [rank_v /
 *     groups_v, dkv]. The columns of a KV head in ak and av multiply the latents of the head's group.
 *   - method latent-cl: wk, wv [d, dkv], ukv [d, rank_k] with orthonormal columns.
 *   - method latent with cache.feedback, optionally: k_cost [dkv, dh], which holds for each KV head a
 *     symmetric and positive semidefinite matrix M: an error e of its keys (before their norm and RoPE)
 *     costs the dot product of e and M e. NULL: M = 1.
 *   - XQ_FP8_KV, optionally: k_scale and v_scale [1], what a 1 in the cache stands for. Append stores an
 *     element x of the keys (after their norm and RoPE) or of the values as e4m3(x / scale), rounded to
 *     nearest even. Elements beyond 448 * scale saturate, and NaN stays NaN. Numbers from 1e-30 to 1e30;
 *     NULL: 1. The largest magnitude that occurs, divided by 448, uses the whole range. All calls over one
 *     cache must have the same scales.
 *   - where the model has them: bk, bv [dkv]; k_norm [dh] (qk_norm "row": [dkv]), the factors that keys
 *     are multiplied by (Gemma: 1 + w); sinks [H]. */
typedef struct xq_weights {
    size_t struct_size;
    const float *wk, *wv;           /* the projections of keys and values */
    const float *uk, *ak;           /* for keys: from x to the cached columns, and from these to keys */
    const float *uv, *av;           /* the same for values */
    const float *ukv;               /* from x to the joint latent of latent-cl */
    const float *bk, *bv;           /* biases of the projections */
    const float *k_norm, *sinks;    /* factors of the norm of keys; attention sinks */
    const float *k_cost;            /* cost of errors of keys, for cache.feedback */
    const float *k_scale, *v_scale; /* units of an e4m3 cache */
} xq_weights;
#define XQ_WEIGHTS_INIT XQ_SIZED(xq_weights)

/* Rounds the matrices to the plan's weight type and packs them in the order in which the kernels read
 * them. `destination` is host memory with room for weights_bytes; the packed bytes are copied to the
 * device unchanged, at an address that is a multiple of 256. Errors: XQ_ERROR_ARGUMENT for a missing
 * matrix, a matrix that the plan has no use for, a destination that is too small, NaN, infinity, a
 * value beyond the type's range, or a scale that is out of range. */
XQ_API xq_status xq_plan_pack_weights(const xq_plan *plan, const xq_weights *weights, void *destination,
                                      size_t destination_bytes);

#ifndef XQ_RUNTIME_ONLY
/* --------------------------------------------------------- prepared weights
 * A file of prepared weights is a safetensors file that `xq prepare` wrote (docs/prepare.md), mapped into
 * memory. Its matrices are the tensors layers.LAYER.NAME, and its packed weights the tensors
 * layers.LAYER.packed. The file must not be changed while it is open; replacing it (rename) is fine. Calls
 * other than close may come from several threads. */

/* An open file of prepared weights. Opaque. */
typedef struct xq_prepared xq_prepared;

/* Opens a file of prepared weights. The handle keeps what it needs of the context, so the two may be
 * destroyed in any order. Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a file that is damaged, truncated,
 * unfinished, of another version, or not a file of prepared weights, with the tensor or the key of
 * __metadata__ in `field`; XQ_ERROR_ARGUMENT, XQ_ERROR_MEMORY. */
XQ_API xq_status xq_prepared_open(xq_context *context, const char *path, xq_prepared **prepared);
/* Unmaps the file and frees the handle; everything that belongs to the handle is no longer valid. NULL is
 * allowed. */
XQ_API void xq_prepared_close(xq_prepared *prepared);

/* Describes a file of prepared weights. Strings belong to the handle. */
typedef struct xq_prepared_info {
    size_t struct_size;
    const char *spec_json; /* {"model": ..., "cache": {...}}: the part of a spec that the matrices depend
                              on. Add bits and everything else that the plan should have
                              (xq_spec_override), including layer_kind if the model mixes kinds of layers,
                              and the table of LongRoPE if the model uses LongRoPE */
    int32_t layers;      /* layers of the model; xq_prepared_layer_spec tells which of them the file has */
    const char *weights; /* type of the packed weights: "f16", "bf16", "int8", "e4m3"; NULL: the file has
                            none */
    int32_t base_layer; /* cross-layer methods: the first layer that has the method of spec_json. The layers
                           before it have the plain method (x for x-cl, latent for latent-cl). Else 0 */
} xq_prepared_info;
#define XQ_PREPARED_INFO_INIT XQ_SIZED(xq_prepared_info)

/* Fills `info`, whose struct_size the caller has set. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_prepared_query(const xq_prepared *prepared, xq_prepared_info *info);

/* Returns the same text as spec_json for one layer: the part of a spec that the layer's matrices depend
 * on. NULL for a layer that the file does not have. The string belongs to the handle. */
XQ_API const char *xq_prepared_layer_spec(const xq_prepared *prepared, int32_t layer);

/* Gives a layer's matrices as f32, for xq_plan_pack_weights and for computing on the host; they are NULL
 * where the method has none. The matrices belong to the handle and stay valid until it is closed. A
 * layer's first call makes them and verifies their checksums. Errors: XQ_ERROR_ARGUMENT for a layer that
 * the file does not have, or has only as packed weights; XQ_ERROR_FORMAT (damaged; the tensor in `field`);
 * XQ_ERROR_MEMORY. */
XQ_API xq_status xq_prepared_layer(xq_prepared *prepared, int32_t layer, xq_weights *weights);

/* Gives a layer's packed weights, within the mapped file. They are the bytes that xq_plan_pack_weights
 * makes of the layer's matrices: weights_bytes of the plan, at a multiple of 256 in memory and in the
 * file. A layer's first call verifies their checksum. Errors: XQ_ERROR_ARGUMENT for a layer whose packed
 * weights the file does not have, for a plan that is not XQ_FUSED, and for a plan that needs other weights
 * (`field` names the difference: "cache.rank_k", "weights_layout.matrices[2].type"); XQ_ERROR_FORMAT
 * (damaged). */
XQ_API xq_status xq_prepared_packed(xq_prepared *prepared, xq_plan *plan, int32_t layer,
                                    const void **packed, size_t *bytes);
#endif

/* ------------------------------------------------------------------- calls */

/* Checked calls. Some mistakes can be seen only in the arrays that a call passes in device memory: a page
 * table whose indptr falls, a sequence longer than max_tokens, a page number beyond the pool, a workspace
 * that was not zeroed, ... Where calls are checked, these arrays are checked before the call's own kernels
 * run, and a call at fault writes nothing. The error is XQ_ERROR_ARGUMENT, with `field` and a message that
 * names the sequence or row and its value.
 *   - The software device checks every call, and the call returns the error.
 *   - A GPU checks the calls of plans with `checked`. A launch does not wait, so the error is returned by
 *     whichever comes first: the next call on the plan, which then launches nothing, or
 *     xq_device_synchronize or xq_device_read on the context. The first fault is reported once; the faults
 *     that later calls have had by then are dropped. Checked calls can be captured into a CUDA graph like
 *     other calls. A checked plan owns a third of a megabyte of memory. At most 4096 of its calls may be
 *     under way on different streams.
 *   - Other plans on a GPU are not checked and lose no time. Such mistakes then cause faults of the GPU or
 *     wrong results. */

/* The pages of each sequence, in FlashInfer's convention; all arrays are int32, on the device.
 *     indptr [batch + 1]: sequence i owns indices[indptr[i] .. indptr[i+1])
 *     indices [indptr[batch]]: page numbers in the pool
 *     last_page_len [batch]: tokens in the last page, 1 .. page_tokens (ignored for an empty sequence)
 * A sequence without pages has length zero. */
typedef struct xq_page_table {
    int32_t batch;          /* sequences: 0 to max_batch of the plan */
    uint64_t indptr;        /* int32 [batch + 1] */
    uint64_t indices;       /* int32 [indptr[batch]] */
    uint64_t last_page_len; /* int32 [batch] */
} xq_page_table;

/* The tails of the sequences. With per-channel groups, the newest tokens of a sequence, up to one group,
 * stay unquantized in the sequence's slot of the pool: slot slots[i] for sequence i of the table. The
 * caller gives a sequence a slot before its first append, and keeps it there. */
typedef struct xq_tail_pool {
    uint64_t pool;  /* 128-byte aligned; slot n is at n * tail_bytes */
    uint64_t slots; /* int32 [batch], on the device */
} xq_tail_pool;

/* Writes tokens into their pages. Positions count from 0 within their sequence, and the table describes
 * the cache after the call. Tokens may come in any order, each of them once; with append_indptr they are
 * the last tokens of their sequences, in order. With a cross-layer method each layer in turn calls append,
 * accumulate and attend; when append is called, the accumulator holds the layers before. */
typedef struct xq_append_args {
    size_t struct_size;
    int64_t tokens;           /* rows of x, one per token; 0 is allowed */
    uint64_t x;               /* [tokens, d] of the spec's dtype, 16-byte aligned */
    uint64_t token_sequence;  /* int32 [tokens] */
    uint64_t token_position;  /* int32 [tokens]: a token's place in its sequence */
    xq_page_table table;      /* the cache after this call */
    uint64_t pages;           /* the pool, page_align aligned */
    uint64_t weights;         /* packed weights, 256-byte aligned; not read where x is cached as it is */
    uint64_t workspace;       /* 256-byte aligned; used by XQ_FP16_KV and XQ_FP8_KV alone */
    size_t workspace_bytes;   /* at least workspace_bytes of xq_plan_info, where it is used */
    uint64_t append_indptr;   /* int32 [batch + 1]: the rows of x of each sequence; read if
                                 needs_append_indptr */
    xq_tail_pool tails;       /* given where tail_bytes is not 0 */
    uint64_t accumulator;     /* cross-layer methods: as many pages as the pool has; a base layer does not
                                 read it */
    uint64_t rotary_position; /* int32 [tokens]; XQ_FP16_KV and XQ_FP8_KV alone: positions for RoPE; 0:
                                 token_position */
} xq_append_args;
#define XQ_APPEND_ARGS_INIT XQ_SIZED(xq_append_args)
XQ_API xq_status xq_plan_append(xq_plan *plan, const xq_append_args *args, void *stream);

/* Adds a layer's deltas to the accumulator, for every token of the table; the base layer starts the
 * accumulator. Each page may stand in the table only once, because its deltas are added each time. Where
 * sequences share a prefix, one of them has the prefix's pages here, and the others begin after it, at the
 * start of a group of tokens where groups are per channel. For cross-layer methods only; other plans,
 * XQ_FP16_KV and XQ_FP8_KV refuse the call with XQ_ERROR_ARGUMENT. */
typedef struct xq_accumulate_args {
    size_t struct_size;
    int64_t max_tokens;   /* no sequence of this call is longer */
    xq_page_table table;  /* the sequences, and their pages */
    uint64_t pages;       /* the pool that holds the layer's deltas */
    uint64_t weights;     /* not read where deltas are cached as they are */
    xq_tail_pool tails;   /* given where tail_bytes is not 0 */
    uint64_t accumulator; /* pages of accumulator_page_bytes, with the same page numbers; page_align
                             aligned */
} xq_accumulate_args;
#define XQ_ACCUMULATE_ARGS_INIT XQ_SIZED(xq_accumulate_args)
XQ_API xq_status xq_plan_accumulate(xq_plan *plan, const xq_accumulate_args *args, void *stream);

/* Attends with one or more queries of each sequence. It allocates nothing and takes no lock.
 *
 * Token t of sequence i is at position token_offset[i] + t. The queries of sequence i are rows
 * query_indptr[i] .. query_indptr[i + 1] of q, at the positions that query_position gives. A query sees
 * the tokens at positions up to its own (and, in models with a sliding window, within the window).
 *   - With all optional arrays 0 there is one query per sequence, at its last token.
 *   - Several queries without positions are at the last tokens, as in speculative decoding and prefill
 *     chunks.
 *   - A shared prefix is attended with the queries' true positions, and the rest with token_offset;
 *     xq_plan_merge joins both.
 *   - With tree_mask the last tokens of a sequence, as many as its queries, are drafts: draft t is at the
 *     position of query t, and query j sees it if bit t % 32 of word t / 32 of its row of tree_mask is
 *     set. */
typedef struct xq_attend_args {
    size_t struct_size;
    int64_t max_tokens; /* no sequence of this call is longer; at most the plan's max_tokens */
    uint64_t q;         /* [queries, H, dh] before RoPE, after bias and norm; 16-byte aligned */
    uint64_t out;       /* [queries, H, dh], 16-byte aligned; zeros where a query sees no token */
    uint64_t lse;       /* [queries, H] f32, natural logarithm; -inf where a query sees no token; 0: none */
    xq_page_table table; /* the sequences, and their pages */
    uint64_t pages;      /* page_align aligned */
    uint64_t weights;   /* packed weights, 256-byte aligned; XQ_FP16_KV reads them only for attention sinks,
                           XQ_FP8_KV for its scales too */
    uint64_t workspace; /* 256-byte aligned */
    size_t workspace_bytes; /* at least workspace_bytes of xq_plan_info */
    int64_t queries;        /* rows of q; 0: one for each sequence */
    int64_t max_queries;    /* the most queries of one sequence in this call; 0: 1, or with query_indptr the
                               lesser of `queries` and the plan's max_queries */
    uint64_t query_indptr;  /* int32 [batch + 1]; 0: one query each */
    uint64_t query_position; /* int32 [queries]; 0: the last positions of each sequence */
    uint64_t token_offset;   /* int32 [batch], positions from 0 to 2^31 - 1; 0: zeros */
    uint64_t tree_mask;      /* uint32 [queries, mask_words]; 0: none. Needs query_position */
    int32_t mask_words;      /* at least max_queries / 32, rounded up; 0 without a tree_mask */
    int32_t without_sinks;   /* 1: leave the model's attention sinks out, as in all but one part of a merge;
                                allowed also where the model has none */
    xq_tail_pool tails;      /* given where tail_bytes is not 0; not read where there is an accumulator */
    uint64_t accumulator;    /* cross-layer methods: the accumulator after accumulate; pages are then not
                                read */
} xq_attend_args;
#define XQ_ATTEND_ARGS_INIT XQ_SIZED(xq_attend_args)
XQ_API xq_status xq_plan_attend(xq_plan *plan, const xq_attend_args *args, void *stream);

/* Joins attention over two disjoint sets of tokens, a and b: each row is weighted by its log-sum-exp. */
typedef struct xq_merge_args {
    size_t struct_size;
    int64_t queries;       /* rows of each array; 0 is allowed */
    uint64_t out_a, out_b; /* [queries, H, dh], 16-byte aligned */
    uint64_t lse_a, lse_b; /* [queries, H] f32 */
    uint64_t out, lse;     /* may be the arrays of a or of b; lse may be 0 */
} xq_merge_args;
#define XQ_MERGE_ARGS_INIT XQ_SIZED(xq_merge_args)
XQ_API xq_status xq_plan_merge(xq_plan *plan, const xq_merge_args *args, void *stream);

/* Writes out the cache as the kernels see it, for inspection: row p * page_tokens + t of the output is
 * token t of the page that table entry p names. Rows beyond a sequence's length are left untouched. Values
 * have the spec's dtype. Plans of XQ_FP16_KV and XQ_FP8_KV refuse the call with
 * XQ_ERROR_UNSUPPORTED.
 *   - method x: k [rows, d]; with cache.rotation in U's coordinates, x·U.
 *   - method latent: k [rows, rank_k], v [rows, rank_v], as stored.
 *   - cross-layer methods: k [rows, d], the accumulator. */
typedef struct xq_dequantize_args {
    size_t struct_size;
    int64_t table_entries; /* indptr[batch] */
    xq_page_table table;   /* the sequences, and their pages */
    uint64_t pages;        /* page_align aligned */
    uint64_t k, v;         /* 16-byte aligned; v is 0 where one stream is cached */
    xq_tail_pool tails;    /* given where tail_bytes is not 0; not read where there is an accumulator */
    uint64_t accumulator;  /* cross-layer methods: the accumulator; pages are then not read */
} xq_dequantize_args;
#define XQ_DEQUANTIZE_ARGS_INIT XQ_SIZED(xq_dequantize_args)
XQ_API xq_status xq_plan_dequantize(xq_plan *plan, const xq_dequantize_args *args, void *stream);

/* -------------------------------------------------------------- simulation
 * These calls compute, on the host and without a context or a device, the values that caches and packed
 * weights hold. They serve to measure a method's accuracy with an engine's own arithmetic, and as reference
 * results. They may be called from any thread. xq_last_error, given no context, says which argument was
 * wrong in the calling thread's last failure. */

/* How rows of a cached stream are quantized: what layout.streams of a completed spec says about the
 * stream. */
typedef struct xq_quantizer {
    size_t struct_size;
    int32_t bits;         /* 2, 3, 4, 8; or 16: values are only rounded to f16 */
    int32_t group;        /* elements that share a scale; 0: all elements of a latent */
    int32_t by_channel;   /* 1: a group is consecutive rows (tokens) of one channel; 0: consecutive channels
                             of one row */
    int32_t integer_zero; /* 1: cache.zero_point "integer" */
    /* Number of latents that stand side by side in a row, each of width / latents columns; 0: one. A cache
     * stores each of them padded to a multiple of 64 columns. Groups of channels begin anew with each
     * latent. */
    int32_t latents;
    float clip; /* cache.clip: the share of a group's range that codes span, up to 1; 0: 1 */
    /* cache.feedback: the result of xq_simulate_feedback, for groups of at most 256 channels; NULL: none */
    const float *feedback;
} xq_quantizer;
#define XQ_QUANTIZER_INIT XQ_SIZED(xq_quantizer)

/* Computes the values that a cache of this format holds for x [rows, width]: x_hat [rows, width], f16
 * values, bit for bit as append quantizes and kernels read them. x is first rounded to f16, saturating. Row
 * 0 begins a group; with by_channel, the rows beyond the last whole group are the tail, and are not
 * quantized. A NaN makes its group NaN. x_hat may be x. Errors: XQ_ERROR_ARGUMENT. */
XQ_API xq_status xq_simulate_cache(const xq_quantizer *quantizer, int64_t rows, int64_t width,
                                   const float *x, float *x_hat);

/* Computes the matrices by which append feeds errors back, for a stream with rows of `width` values and
 * this quantizer's group and latents. The result is then the quantizer's `feedback`.
 *   - a [width / latents, cols]: the matrix that the stream is multiplied by, as the caller gives it to
 *     xq_plan_pack_weights (method x: ak and av side by side).
 *   - cost [cols, block]: row c holds the cost of errors of column c together with errors of each column
 *     of its block (for keys k_cost, in blocks of dh). With block 1 it holds the cost of squared errors
 *     alone. NULL: all columns cost the same, and block is not used. block divides the columns of a
 *     latent.
 *   - feedback: groups * group * group f32. Let W be the width of a stored latent, which is width / latents
 *     padded to a multiple of 64. With several latents `group` is the smaller of the quantizer's group and
 *     W, else it is the quantizer's group. `groups` is latents * ceil(W / group).
 *
 * Errors: XQ_ERROR_ARGUMENT, also for NaN and infinity, and for costs that are not symmetric or not
 * positive semidefinite; XQ_ERROR_MEMORY. */
XQ_API xq_status xq_simulate_feedback(const xq_quantizer *quantizer, int64_t width, int64_t cols,
                                      const float *a, int64_t block, const float *cost, float *feedback);

/* Computes the values that packed weights of type "f16", "bf16", "int8" or "e4m3" hold for w [rows, cols];
 * the 8-bit types have a scale for each column. int8 also keeps the sums of each column over blocks of 64
 * rows (docs/layout.md), so w needs all rows of the packed matrix in their order, but for zeros at the end.
 * `rounded` may be w. Errors: XQ_ERROR_ARGUMENT, as in xq_plan_pack_weights also for NaN, infinity, or a
 * value beyond the type; XQ_ERROR_MEMORY. */
XQ_API xq_status xq_simulate_weights(const char *type, int64_t rows, int64_t cols, const float *w,
                                     float *rounded);

#ifdef __cplusplus
}
#endif

#endif
