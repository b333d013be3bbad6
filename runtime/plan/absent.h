/* Contexts for GPUs that are not in this machine. Their kernels are compiled to be used elsewhere. */
#ifndef RUNTIME_PLAN_ABSENT_H
#define RUNTIME_PLAN_ABSENT_H

#include "toolchain.h"

typedef struct absent_gpu {
    const char *arch;    /* "sm_90a" */
    const char *name;    /* the name by which tables of tuned parameters may know it */
    int multiprocessors; /* 0: unknown */
} absent_gpu;

/* Makes a context that completes specs and builds kernels as a context on that GPU does. It can neither
 * launch nor allocate anything. `device` of the options is not read. Errors: those of xq_context_create. */
xq_status absent_context(const xq_context_options *options, const absent_gpu *gpu, xq_context **out,
                         error *err);

#endif
