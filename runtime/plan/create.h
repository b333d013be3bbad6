/* The kernels and images of plans, for those who keep them and launch nothing. The context may be that of a
 * GPU which is not here (absent.h). */
#ifndef RUNTIME_PLAN_CREATE_H
#define RUNTIME_PLAN_CREATE_H

#include "../launch/plan_kernels.h"
#include "kernel_build.h"

typedef xq_status plan_visit(void *user, const kernel_build *kernel, error *err);

/* Calls `visit` for each kernel that a plan of these options needs on the context's device, which loads
 * none. Kernels of tuned parameters for calls of several sizes are among them. Ends with the first failure.
 * Errors: those of xq_plan_create but for loading, and of `visit`. */
xq_status plan_visit_kernels(xq_context *context, const xq_plan_options *options, plan_visit *visit,
                             void *user, error *err);

/* A kernel of a plan. */
struct blueprint_kernel {
    char name[48];   /* its family; attention has "attend", "attend-many", "attend-2", ... */
    char target[32]; /* what it was compiled for */
    char *source;    /* CUDA C++, as the compiler got it */
};

/* A plan image, and the sources of its kernels. */
struct blueprint {
    unsigned char *image; /* as xq_plan_save gives it */
    size_t bytes;
    char *spec; /* completed */
    struct blueprint_kernel kernels[PLAN_SLOTS];
    int kernel_count;
};

/* Does what xq_plan_create does, up to the image. blueprint_free after success. Errors: those of
 * xq_plan_create but for loading. */
xq_status plan_blueprint(xq_context *context, const xq_plan_options *options, struct blueprint *out,
                         error *err);
void blueprint_free(struct blueprint *b);

#endif
