/* A context: a device, the generator, the compiler and the kernel cache; and the last error of every
 * thread. */
#ifndef RUNTIME_LAUNCH_CONTEXT_H
#define RUNTIME_LAUNCH_CONTEXT_H

#include "../../gen/gen.h"
#include "../base/log.h"
#include "../compile/cache.h"
#include "../device/device.h"
#include "../compile/nvrtc.h"
#include "../plan/target.h"

#include <pthread.h>
#include <stdatomic.h>

struct fault_log;
struct thread_error;

struct xq_context {
    atomic_int references; /* the caller's, and one of each handle that was made from it */
    device *device;        /* NULL in a context whose creation failed */
    char *no_gpu;          /* why the software device was chosen; NULL where it was not, or was asked for */
    cache *cache;
    logger log;
    char *template_dir;
    char arch[16]; /* what plans compile for by default */

    pthread_mutex_t
        generator_lock; /* guards the two below, which first use makes; NVRTC itself runs freely */
    gen *generator;
    nvrtc *nvrtc;
    /* The log was told that NVRTC is older than the GPU; that gen/arch.lua does not list the GPU. */
    atomic_flag told_target, told_unlisted;

    pthread_mutex_t error_lock;
    struct thread_error *errors;

    pthread_mutex_t fault_lock;
    struct fault_log *fault_logs; /* of checked plans (fault_log.h) */
};

/* For handles that need their context as long as they last. The last release destroys it. */
xq_context *context_retain(xq_context *context);
void context_release(xq_context *context);

/* Records a failure as the calling thread's last one, takes err's log, and returns the status. Every
 * public function that fails ends here. */
xq_status context_fail(xq_context *context, error *err);

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

/* gen_override, by one thread at a time. Caller frees *out. */
xq_status context_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **out, error *err);

/* xq_spec_complete, with the device's architecture where the spec leaves it open. */
xq_status context_complete(xq_context *context, const char *spec_json, char **completed, error *err);

#endif
