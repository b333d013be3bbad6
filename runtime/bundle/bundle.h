/* ------------------------------------------------------------- this bundle
 * The bundle's plans, each compiled beforehand for several architectures. xq_bundle_load takes the place of
 * a compiler: it makes a plan from the image that suits the GPU best. */
#ifndef RUNTIME_BUNDLE_BUNDLE_H
#define RUNTIME_BUNDLE_BUNDLE_H

#include "xq/xq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A plan for one architecture. */
typedef struct xq_bundle_image {
    const char *plan;   /* the plan's name */
    const char *target; /* what its kernels were compiled for: "sm_90a" */
    const char *file;   /* where the image lies, within the bundle's folder */
    const void *data;   /* the image, where it is compiled in; NULL: it is read from the file */
    size_t bytes;
} xq_bundle_image;

/* All images of the bundle, those of one plan one after the other. The last has NULL for its plan. */
XQ_API extern const xq_bundle_image xq_bundle_images[];

/* Makes plan `name`. `folder` is the bundle's folder, from which the image is read; it is NULL in a bundle
 * whose images are compiled in. Of the plan's images the context's GPU gets the one whose machine code it
 * runs, the newest such; where it runs none, the newest PTX that its driver can compile for it. An image
 * that needs more shared memory than the GPU has is passed over. Destroy the plan with xq_plan_destroy.
 * Errors: XQ_ERROR_ARGUMENT for an unknown name, or a folder where none is needed; XQ_ERROR_UNSUPPORTED
 * where no image suits the GPU; XQ_ERROR_IO for a file that cannot be read; those of xq_plan_load. */
XQ_API xq_status xq_bundle_load(xq_context *context, const char *folder, const char *name, xq_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
