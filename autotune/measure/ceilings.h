/* What a device can do at best, measured on it: the yardsticks of docs/compare.md's limit. */
#ifndef AUTOTUNE_MEASURE_CEILINGS_H
#define AUTOTUNE_MEASURE_CEILINGS_H

#include "../../runtime/context.h"

typedef struct ceilings {
    double copy_bytes_per_second; /* device memory, read plus written */
    double f16_flops_per_second;  /* dense mma.sync m16n8k16, f16 in, f32 sums */
} ceilings;

/* Copies a large buffer and multiplies out of registers, several times each; the medians. On the software
 * device sizes are small and times modelled. Errors: XQ_ERROR_NO_TOOLCHAIN, XQ_ERROR_COMPILE,
 * XQ_ERROR_DEVICE, XQ_ERROR_DEVICE_MEMORY. */
xq_status ceilings_measure(xq_context *context, ceilings *out, error *err);

#endif
