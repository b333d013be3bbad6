/* A context: a device, and the last error of every thread; in a library that builds plans also the tools
 * for that. */
#ifndef RUNTIME_LAUNCH_CONTEXT_H
#define RUNTIME_LAUNCH_CONTEXT_H

#include "../base/log.h"
#include "../device/device.h"

#include <pthread.h>
#include <stdbool.h>

struct fault_log;
struct thread_error;
struct toolchain;

struct xq_context {
    int references;        /* atomic: the caller's, and one of each handle that was made from it */
    struct device *device; /* NULL in a context whose creation failed */
    char *failure;         /* why it did; else NULL */
    char *no_gpu;          /* why the software device was chosen; NULL where it was not, or was asked for */
    logger log;
    char arch[16];               /* what plans compile for by default */
    struct toolchain *toolchain; /* runtime/plan/toolchain.h; NULL in a library that only launches */

    pthread_mutex_t error_lock;
    struct thread_error *errors;

    pthread_mutex_t fault_lock;
    struct fault_log *fault_logs; /* of checked plans (fault_log.h) */
};

/* What a library that builds plans adds to its contexts. NULL in one that only launches them: whoever links
 * a library defines it, as runtime/plan/toolchain.c and runtime/launch/without_toolchain.c do. */
struct toolchain_ops {
    xq_status (*open)(xq_context *context, const xq_context_options *options, error *err);
    void (*close)(struct toolchain *toolchain); /* NULL is fine */
    int (*nvrtc)(xq_context *context);          /* as xq_device_info has it; 0: not found */
};
extern const struct toolchain_ops *const context_toolchain;

/* xq_context_create on this device, which the context takes over, also on failure; NULL: the one that
 * options->device names. Plans compile for the device's own architecture by default. */
xq_status context_create_on(device *given, const xq_context_options *options, xq_context **context);

/* For handles that need their context as long as they last. The last release destroys it. */
xq_context *context_retain(xq_context *context);
void context_release(xq_context *context);

/* Whether a context serves calls. False for NULL, and for one whose creation failed, which is then the
 * calling thread's last failure, with the reason. */
bool context_works(xq_context *context);

/* Records a failure as the calling thread's last one, takes err's log, and returns the status. Every
 * public function that fails ends here. */
xq_status context_fail(xq_context *context, error *err);

#endif
