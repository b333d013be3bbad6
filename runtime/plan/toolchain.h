/* What builds plans: the generator, NVRTC and the kernel cache of a context. */
#ifndef RUNTIME_PLAN_TOOLCHAIN_H
#define RUNTIME_PLAN_TOOLCHAIN_H

#include "../../gen/gen.h"
#include "../compile/cache.h"
#include "../compile/nvrtc.h"
#include "../launch/context.h"
#include "target.h"

#include <stdatomic.h>

struct toolchain {
    cache *cache;
    char *template_dir;
    char *table;    /* of tuned parameters, before the user's; NULL: none */
    bool no_tables; /* parameters are not looked up in tables of tuned parameters */

    pthread_mutex_t lock; /* guards the two below, which first use makes; NVRTC itself runs freely */
    gen *generator;
    nvrtc *nvrtc;
    /* The log was told that NVRTC is older than the GPU; that gen/arch.lua does not list the GPU. */
    atomic_flag told_target, told_unlisted;
};

/* The compiler, and the generator for what any thread may ask it (its headers). They last as long as the
 * context; first use opens them. */
xq_status context_nvrtc(xq_context *context, const nvrtc **out, error *err);
xq_status context_generator(xq_context *context, const gen **out, error *err);

/* What kernels of a spec for `arch` are compiled for here (target_choose). Where NVRTC is older than the
 * GPU, the log is told once. */
xq_status context_target(xq_context *context, const char *arch, kernel_target *out, error *err);

/* gen_render, by one thread at a time. */
xq_status context_render(xq_context *context, const char *completed_json, const char *family,
                         gen_kernel *out, error *err);

/* gen_space, by one thread at a time. Caller frees *json. */
xq_status context_space(xq_context *context, const char *completed_json, const char *family, char **json,
                        error *err);

/* gen_override, by one thread at a time. Caller frees *out. */
xq_status context_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **out, error *err);

/* xq_spec_complete, with the device's architecture where the spec leaves it open. */
xq_status context_complete(xq_context *context, const char *spec_json, char **completed, error *err);

/* gen_complete_with for the device's architecture, which `how` need not name. */
xq_status context_complete_with(xq_context *context, const char *spec_json, gen_completion how,
                                char **completed, error *err);

/* gen_sizes, by one thread at a time. Caller frees *json. */
xq_status context_sizes(xq_context *context, const char *completed_json, const char *family,
                        const gen_size *largest, int most, char **json, error *err);

/* gen_list_tables for the device. Caller frees *json. */
xq_status context_list_tables(xq_context *context, char **json, error *err);

/* Parameters are looked up in this file first. To be called before anything else asks the generator, which
 * reads the file then. Errors: XQ_ERROR_MEMORY. */
xq_status context_add_table(xq_context *context, const char *path, error *err);

/* For the tuner: families have their defaults. To be called before anything else asks the generator. */
void context_ignore_tables(xq_context *context);

#endif
