/* Plan images: a plan as one block of bytes, from which any context with a fitting GPU makes the plan again
 * without a generator, a compiler or the spec's JSON.
 *
 *      0  "xq-plan\n"
 *      8  PLAN_IMAGE_VERSION
 *     16  checksum of everything from byte 24 on (plan_image_checksum)
 *     24  bytes of the image
 *     32  what the plan states (plan_image.c: visit_plan), the completed spec, and each kernel: its
 *         entry, its block, machine code and PTX
 *
 * All numbers are 8 bytes, least significant byte first. The same plan always has the same bytes. */
#ifndef RUNTIME_LAUNCH_PLAN_IMAGE_H
#define RUNTIME_LAUNCH_PLAN_IMAGE_H

#include "plan_kernels.h"

/* Increases whenever what an image holds, or means, changes. */
enum { PLAN_IMAGE_VERSION = 5 };

/* What an image holds beside the numbers that `struct xq_plan` has. */
struct plan_code {
    char target[32]; /* what kernels were compiled for: "sm_90a", "compute_80" */
    const char *spec;
    struct kernel_code kernels[PLAN_SLOTS]; /* empty where the plan needs none */
};

/* Makes the image of a plan. Only the members of `plan` under "stated by the image" are read. Caller frees
 * *image. Errors: XQ_ERROR_MEMORY; XQ_ERROR_INTERNAL for a value outside its limits. */
xq_status plan_image_write(const xq_plan *plan, const struct plan_code *code, unsigned char **image,
                           size_t *bytes, error *err);

/* Whether `bytes` bytes begin as the image of this version and length does. Errors: XQ_ERROR_FORMAT. */
xq_status plan_image_check(const void *image, size_t bytes, error *err);

/* The checksum that a good image of this size has. */
uint64_t plan_image_checksum(const unsigned char *image, size_t bytes);

/* Reads the members of `plan` under "stated by the image", and the code, which points into the image.
 * Errors: XQ_ERROR_FORMAT with the value in `field`. */
xq_status plan_image_read(const void *image, size_t bytes, xq_plan *plan, struct plan_code *code,
                          error *err);

#endif
