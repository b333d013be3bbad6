/* Plan images: a plan as one block of bytes, from which a context with a suitable GPU makes the plan again
 * without a generator, a compiler or the spec's JSON.
 *
 *      0  "xq-plan\n"
 *      8  PLAN_IMAGE_VERSION
 *     16  checksum of everything from byte 24 on (plan_image_checksum)
 *     24  bytes of the image
 *     32  the plan's numbers (plan_image.c: visit_plan), the completed spec, and each kernel: its
 *         entry, its block, machine code and PTX
 *
 * All numbers are 8 bytes, least significant byte first. The same plan always has the same bytes. */
#ifndef RUNTIME_LAUNCH_PLAN_IMAGE_H
#define RUNTIME_LAUNCH_PLAN_IMAGE_H

#include "plan_kernels.h"

/* Increases whenever the contents of an image, or their meaning, change. */
enum { PLAN_IMAGE_VERSION = 6 };

/* The contents of an image other than the numbers in `struct xq_plan`. */
struct plan_code {
    char target[32]; /* target that the kernels were compiled for: "sm_90a", "compute_80" */
    const char *spec;
    struct kernel_code kernels[PLAN_SLOTS]; /* empty if the plan does not need the kernel */
};

/* Makes the image of a plan. Reads only the members of `plan` under "Stated by the image". The caller
 * frees *image. Errors: XQ_ERROR_MEMORY; XQ_ERROR_INTERNAL for a value outside its limits. */
xq_status plan_image_write(const xq_plan *plan, const struct plan_code *code, unsigned char **image,
                           size_t *bytes, error *err);

/* Checks that `bytes` bytes begin like an image of this version and length. Errors: XQ_ERROR_FORMAT. */
xq_status plan_image_check(const void *image, size_t bytes, error *err);

/* The checksum that a good image of this size has. */
uint64_t plan_image_checksum(const unsigned char *image, size_t bytes);

/* Reads the members of `plan` under "Stated by the image", and the code, which points into the image.
 * Errors: XQ_ERROR_FORMAT with the value in `field`. */
xq_status plan_image_read(const void *image, size_t bytes, xq_plan *plan, struct plan_code *code,
                          error *err);

#endif
