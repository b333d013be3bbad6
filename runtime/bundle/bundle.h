/* ------------------------------------------------------------- this bundle
 * The bundle's plans, each compiled beforehand for several architectures. xq_bundle_load takes the place of
 * a compiler: it makes a plan from the image that suits the GPU best. */
#ifndef RUNTIME_BUNDLE_BUNDLE_H
#define RUNTIME_BUNDLE_BUNDLE_H

#include "xq/xq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A plan, compiled for one architecture. */
typedef struct xq_bundle_image {
    const char *plan;   /* the plan's name */
    const char *target; /* target that its kernels were compiled for: "sm_90a" */
    const char *file;   /* path of the image within the bundle's folder */
    const void *data;   /* the image, if it is compiled in; NULL: it is read from the file */
    size_t bytes;
} xq_bundle_image;

/* All images of the bundle. The images of one plan follow one another. In the last entry `plan` is NULL. */
XQ_API extern const xq_bundle_image xq_bundle_images[];

/* Makes the plan `name`. `folder` is the bundle's folder, from which the image is read; it is NULL in a
 * bundle whose images are compiled in. The plan is made from the newest image whose machine code the
 * context's GPU runs. If the GPU runs none of them, it is made from the newest PTX that the GPU's driver
 * can compile. An image that needs more shared memory than the GPU has is passed over. Destroy the plan
 * with xq_plan_destroy. Errors: XQ_ERROR_ARGUMENT for an unknown name, or a folder where none is needed;
 * XQ_ERROR_UNSUPPORTED if no image suits the GPU; XQ_ERROR_IO for a file that cannot be read; those of
 * xq_plan_load. */
XQ_API xq_status xq_bundle_load(xq_context *context, const char *folder, const char *name, xq_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
