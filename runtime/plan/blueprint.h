/* A plan image and the sources of its kernels, made for an architecture whose GPU need not be there. */
#ifndef RUNTIME_PLAN_BLUEPRINT_H
#define RUNTIME_PLAN_BLUEPRINT_H

#include "../launch/context.h"
#include "../launch/plan_kernels.h"

/* Opens a context that compiles for `arch` ("sm_90a"), and has no device: its plans are made with
 * blueprint_make, and nothing can be launched. `options` as for xq_context_create; its device is not read.
 * Errors: those of xq_context_create, by xq_last_error. */
xq_status blueprint_context(const char *arch, const xq_context_options *options, xq_context **context);

/* A kernel of a plan. */
struct blueprint_kernel {
    char name[48];   /* its family; attention has "attend", "attend-many", "attend-2", ... */
    char target[32]; /* what it was compiled for */
    char *source;    /* CUDA C++, as the compiler got it */
};

struct blueprint {
    unsigned char *image; /* as xq_plan_save gives it */
    size_t bytes;
    char *spec; /* completed */
    struct blueprint_kernel kernels[PLAN_SLOTS];
    int kernel_count;
};

/* Does what xq_plan_create does, up to the image. blueprint_free after success. Errors: those of
 * xq_plan_create; XQ_ERROR_NO_TOOLCHAIN where NVRTC does not know the architecture. */
xq_status blueprint_make(xq_context *context, const xq_plan_options *options, struct blueprint *out,
                         error *err);
void blueprint_free(struct blueprint *b);

#endif
