/* A context: a device, and the last error of every thread. In a library that builds plans it also holds
 * the tools for building them. */
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
    int references;        /* atomic: one for the caller, and one for each handle that was made from it */
    struct device *device; /* NULL in a context whose creation failed */
    char *failure;         /* why creation failed; else NULL */
    char *no_gpu;          /* why the software device was chosen; NULL if it was not, or was asked for */
    logger log;
    char arch[16];               /* the architecture that plans compile for by default */
    struct toolchain *toolchain; /* runtime/plan/toolchain.h; NULL in a library that only launches */

    pthread_mutex_t error_lock;
    struct thread_error *errors;

    pthread_mutex_t fault_lock;
    struct fault_log *fault_logs; /* logs of checked plans (fault_log.h) */
};

/* The functions that a library which builds plans adds to its contexts. context_toolchain is NULL in a
 * library that only launches plans. Each library is linked with one file that defines it:
 * runtime/plan/toolchain.c or runtime/launch/without_toolchain.c. */
struct toolchain_ops {
    xq_status (*open)(xq_context *context, const xq_context_options *options, error *err);
    void (*close)(struct toolchain *toolchain); /* NULL is fine */
    int (*nvrtc)(xq_context *context);          /* version as in xq_device_info; 0: not found */
};
extern const struct toolchain_ops *const context_toolchain;

/* Does what xq_context_create does, with the device `given`, which the context takes over, also on
 * failure. With NULL it opens the device that options->device names. Plans compile for the device's own
 * architecture by default. */
xq_status context_create_on(device *given, const xq_context_options *options, xq_context **context);

/* These two are for handles that need their context as long as they exist. The last release destroys the
 * context. */
xq_context *context_retain(xq_context *context);
void context_release(xq_context *context);

/* Returns whether a context can serve calls. False for NULL, and for a context whose creation failed; its
 * reason then becomes the calling thread's last failure. */
bool context_works(xq_context *context);

/* Records a failure as the calling thread's last one, takes over err's log, and returns the status. Every
 * public function that fails ends here. */
xq_status context_fail(xq_context *context, error *err);

#endif
