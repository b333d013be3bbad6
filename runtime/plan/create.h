/* The kernels of plans, for those who keep them and launch nothing. */
#ifndef RUNTIME_PLAN_CREATE_H
#define RUNTIME_PLAN_CREATE_H

#include "kernel_build.h"

typedef xq_status plan_visit(void *user, const kernel_build *kernel, error *err);

/* Calls `visit` for each kernel that a plan of these options needs on the context's device, which loads
 * none: it may be a GPU that is not here (absent.h). Kernels of tuned parameters for calls of several sizes
 * are among them. Ends with the first failure. Errors: those of xq_plan_create but for loading, and of
 * `visit`. */
xq_status plan_visit_kernels(xq_context *context, const xq_plan_options *options, plan_visit *visit,
                             void *user, error *err);

#endif
