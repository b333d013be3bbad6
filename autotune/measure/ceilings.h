/* The best rates of a device, measured on it: the limit of docs/compare.md follows from them. */
#ifndef AUTOTUNE_MEASURE_CEILINGS_H
#define AUTOTUNE_MEASURE_CEILINGS_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

struct measure_watch;

typedef struct ceilings {
    double copy_bytes_per_second; /* device memory, read plus written */
    double f16_flops_per_second;  /* dense matrix products, f16 in, f32 sums */
    double mma_flops_per_second;  /* the same by mma.sync, the instruction of xq's kernels */
    const char *source;           /* where they come from, for people */
} ceilings;

/* Copies a large buffer and multiplies out of registers (mma.sync m16n8k16), several times each; the
 * medians. On the software device sizes are small and times modelled. `watch` may be NULL. Errors:
 * XQ_ERROR_NO_TOOLCHAIN, XQ_ERROR_COMPILE, XQ_ERROR_DEVICE, XQ_ERROR_DEVICE_MEMORY. */
xq_status ceilings_measure(xq_context *context, struct measure_watch *watch, ceilings *out, error *err);

/* The yardsticks of a step. The software device's are those of a datasheet. A GPU's are measured, here and
 * now; but mma.sync, which measures the matrix rate, does not reach what newer GPUs can do by other
 * instructions, so that a larger figure of the GPU's datasheet stands before it. Errors: those of
 * ceilings_measure. */
xq_status ceilings_find(xq_context *context, struct measure_watch *watch, ceilings *out, error *err);

/* The ceilings of a datasheet, for a device that is not here: a software device or a GPU, by the name that
 * it gives itself. False where there is no datasheet of it. */
bool ceilings_of_datasheet(const char *name, int sm_count, ceilings *out);

#endif
