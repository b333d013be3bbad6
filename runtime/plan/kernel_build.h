/* A kernel of a completed spec: rendered and compiled, but not yet on a device. */
#ifndef RUNTIME_PLAN_KERNEL_BUILD_H
#define RUNTIME_PLAN_KERNEL_BUILD_H

#include "../compile/compile.h"
#include "../launch/kernel.h"
#include "toolchain.h"

typedef struct cJSON cJSON;

typedef struct kernel_build {
    char family[32], entry[64];
    char *source; /* CUDA C++ as rendered */
    cJSON *info;  /* the family's resources: threads, shared_bytes, tile sizes (docs/spec.md) */
    uint32_t threads, shared_bytes;
    cache_arch target; /* target that it was compiled for */
    compiled compiled;
} kernel_build;

/* Renders `family` for a completed spec (including its "tuning") whose architecture is `arch`, and
 * compiles the kernel or finds it compiled. Errors: those of gen_render and context_compile. */
xq_status kernel_build_create(xq_context *context, const char *completed_json, const char *arch,
                              const char *family, kernel_build **out, error *err);

/* NULL is fine. */
void kernel_build_destroy(kernel_build *k);

/* Reads an integer of the kernel's info; XQ_ERROR_INTERNAL if the family does not state it. */
xq_status kernel_build_constant(const kernel_build *k, const char *name, int64_t *value, error *err);

/* Reads a number of the kernel's info that is 0 or more, and need not be whole; errors as for
 * kernel_build_constant. */
xq_status kernel_build_number(const kernel_build *k, const char *name, double *value, error *err);

/* Returns the part of the kernel that a plan image holds and that kernel_open loads. It points into `k`. */
struct kernel_code kernel_build_code(const kernel_build *k);

#endif
