/* A kernel of a completed spec: rendered, compiled, and loaded on a context's device. */
#ifndef RUNTIME_KERNEL_H
#define RUNTIME_KERNEL_H

#include "compile.h"
#include "context.h"

typedef struct cJSON cJSON;

typedef struct kernel {
    device *device;
    char family[64], entry[128];
    char *source; /* CUDA C++ as rendered */
    cJSON *info;  /* the family's resources: threads, shared_bytes, tile sizes (docs/spec.md) */
    compiled compiled;
    device_module *module;
    device_function *function;
    uint32_t threads, shared_bytes;
} kernel;

/* Renders family NAME for a completed spec (its "tuning" included), compiles it through the context's
 * cache, and loads it. Errors: those of gen_render and compile_source, XQ_ERROR_NO_TOOLCHAIN,
 * XQ_ERROR_DEVICE. */
xq_status kernel_load(xq_context *context, const char *completed_json, const char *family, kernel **out,
                      error *err);

void kernel_destroy(kernel *k);

/* An integer of the kernel's info; XQ_ERROR_INTERNAL when the family does not state it. */
xq_status kernel_constant(const kernel *k, const char *name, int64_t *value, error *err);

/* A number of the kernel's info that is 0 or more, not always whole; errors as kernel_constant. */
xq_status kernel_number(const kernel *k, const char *name, double *value, error *err);

/* Launches with `params`, the family's struct of params.h. Allocates nothing. */
xq_status kernel_launch(const kernel *k, const uint32_t grid[3], const void *params, size_t params_bytes,
                        void *stream, error *err);

/* The same for a kernel of a checked plan, whose parameters end with a gate (templates/lib/guard.cuh). */
xq_status kernel_launch_guarded(const kernel *k, const uint32_t grid[3], const void *params,
                                size_t params_bytes, uint64_t gate, void *stream, error *err);

#endif
