/* The tools that build plans: the generator, NVRTC, the kernel stores and the kernel cache of a context. */
#ifndef RUNTIME_PLAN_TOOLCHAIN_H
#define RUNTIME_PLAN_TOOLCHAIN_H

#include "../../gen/gen.h"
#include "../compile/cache.h"
#include "../compile/compile.h"
#include "../compile/nvrtc.h"
#include "../compile/stores.h"
#include "../launch/context.h"
#include "target.h"

#include <stdatomic.h>

struct toolchain {
    stores *stores; /* searched before the cache */
    cache *cache;
    const char *no_compile; /* the setting that forbids compiling: "no_compile" or "XQ_NO_COMPILE"; NULL
                               allows it */
    char *template_dir;
    char *table;    /* table of tuned parameters that comes before the user's; NULL: none */
    bool no_tables; /* do not look up parameters in tables of tuned parameters */

    pthread_mutex_t lock; /* guards the two fields below, which the first use makes; calls of NVRTC need no
                             lock */
    gen *generator;
    nvrtc *nvrtc;
    /* Whether the log got these messages: NVRTC is older than the GPU; gen/arch.lua does not list the
     * GPU. */
    atomic_flag told_target, told_unlisted;
};

/* Give the compiler, and the generator for what any thread may ask it (its headers). They last as long as
 * the context, and the first use opens them. */
xq_status context_nvrtc(xq_context *context, const nvrtc **out, error *err);
xq_status context_generator(xq_context *context, const gen **out, error *err);

/* Chooses the target that kernels of a spec for `arch` are compiled for here (target_choose). If NVRTC is
 * older than the GPU, the log gets one message. */
xq_status context_target(xq_context *context, const char *arch, kernel_target *out, error *err);

/* Gives a kernel of a family, from its source, which was rendered for a spec of architecture `arch`. The
 * kernel is found in a store, else in the cache, else it is compiled (lookup.c). `target` receives what it
 * was compiled for. Errors: those of target_choose, compile_source and context_nvrtc;
 * XQ_ERROR_NO_TOOLCHAIN if compiling is not allowed. */
xq_status context_compile(xq_context *context, const char *family, const char *source, const char *arch,
                          cache_arch *target, compiled *out, error *err);

/* Calls gen_render, by one thread at a time. */
xq_status context_render(xq_context *context, const char *completed_json, const char *family,
                         gen_kernel *out, error *err);

/* Calls gen_space, by one thread at a time. The caller frees *json. */
xq_status context_space(xq_context *context, const char *completed_json, const char *family, char **json,
                        error *err);

/* Calls gen_override, by one thread at a time. The caller frees *out. */
xq_status context_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **out, error *err);

/* Does what xq_spec_complete does, with the device's architecture if the spec leaves it open. */
xq_status context_complete(xq_context *context, const char *spec_json, char **completed, error *err);

/* Calls gen_complete_with for the device's architecture, which `how` need not name. */
xq_status context_complete_with(xq_context *context, const char *spec_json, gen_completion how,
                                char **completed, error *err);

/* Calls gen_sizes, by one thread at a time. The caller frees *json. */
xq_status context_sizes(xq_context *context, const char *completed_json, const char *family,
                        const gen_size *largest, int most, char **json, error *err);

/* Calls gen_list_tables for the device. The caller frees *json. */
xq_status context_list_tables(xq_context *context, char **json, error *err);

/* Makes the file at `path` the first table in which parameters are looked up. Call it before anything else
 * uses the generator, which reads the file then. Errors: XQ_ERROR_MEMORY. */
xq_status context_add_table(xq_context *context, const char *path, error *err);

/* For the tuner: makes families use their defaults. Call it before anything else uses the generator. */
void context_ignore_tables(xq_context *context);

#endif
