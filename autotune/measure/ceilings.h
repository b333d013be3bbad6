/* The best rates of a device, measured on it. The limit in docs/compare.md follows from them. */
#ifndef AUTOTUNE_MEASURE_CEILINGS_H
#define AUTOTUNE_MEASURE_CEILINGS_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

struct measure_watch;

typedef struct ceilings {
    double copy_bytes_per_second; /* device memory, bytes read plus bytes written */
    double f16_flops_per_second;  /* dense matrix products, f16 inputs, f32 sums */
    double mma_flops_per_second;  /* the same with mma.sync, the instruction that xq's kernels use */
    const char *source;           /* source of the rates, for people */
} ceilings;

/* Copies a large buffer, and multiplies from registers (mma.sync m16n8k16), several times each, and takes
 * the medians. On the software device, sizes are small and times are modelled. `watch` may be NULL. Errors:
 * XQ_ERROR_NO_TOOLCHAIN, XQ_ERROR_COMPILE, XQ_ERROR_DEVICE, XQ_ERROR_DEVICE_MEMORY. */
xq_status ceilings_measure(xq_context *context, struct measure_watch *watch, ceilings *out, error *err);

/* Finds the rates to which a step is compared. For the software device they are a datasheet's. For a GPU
 * they are measured by this call. mma.sync, which measures the matrix rate, does not reach the rate that
 * newer GPUs have with other instructions; so where the GPU's datasheet states a larger matrix rate,
 * f16_flops_per_second is that rate. Errors: those of ceilings_measure. */
xq_status ceilings_find(xq_context *context, struct measure_watch *watch, ceilings *out, error *err);

/* Gives the ceilings of a datasheet for a device that is not present: a software device or a GPU, by the
 * name that it reports. Returns false where no datasheet is known for it. */
bool ceilings_of_datasheet(const char *name, int sm_count, ceilings *out);

#endif
