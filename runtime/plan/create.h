/* The kernels and images of plans, for callers that keep them and launch nothing. The context may be one
 * for a GPU that is not in this machine (absent.h). */
#ifndef RUNTIME_PLAN_CREATE_H
#define RUNTIME_PLAN_CREATE_H

#include "../launch/plan_kernels.h"
#include "kernel_build.h"

typedef xq_status plan_visit(void *user, const kernel_build *kernel, error *err);

/* Calls `visit` for each kernel that a plan with these options needs on the context's device. No kernel is
 * loaded. Kernels with tuned parameters for calls of several sizes are among them. Ends with the first
 * failure. Errors: those of xq_plan_create except those of loading, and those of `visit`. */
xq_status plan_visit_kernels(xq_context *context, const xq_plan_options *options, plan_visit *visit,
                             void *user, error *err);

/* A kernel of a plan. */
struct blueprint_kernel {
    char name[48];   /* family; attention kernels are "attend", "attend-many", "attend-2", ... */
    char target[32]; /* target that it was compiled for */
    char *source;    /* CUDA C++, as given to the compiler */
};

/* A plan image, and the sources of its kernels. */
struct blueprint {
    unsigned char *image; /* as xq_plan_save gives it */
    size_t bytes;
    char *spec; /* completed */
    struct blueprint_kernel kernels[PLAN_SLOTS];
    int kernel_count;
};

/* Does what xq_plan_create does, up to the image. Call blueprint_free after success. Errors: those of
 * xq_plan_create except those of loading. */
xq_status plan_blueprint(xq_context *context, const xq_plan_options *options, struct blueprint *out,
                         error *err);
void blueprint_free(struct blueprint *b);

#endif
