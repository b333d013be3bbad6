/* A kernel on a device, and the compiled form in which a plan image holds it. */
#ifndef RUNTIME_LAUNCH_KERNEL_H
#define RUNTIME_LAUNCH_KERNEL_H

#include "../device/device.h"

/* A compiled kernel. Pointers are borrowed. */
struct kernel_code {
    char family[32], entry[64];     /* template (templates/FAMILY.cu.lt); name of the function */
    uint32_t threads, shared_bytes; /* threads and dynamic shared memory of a block */
    const void *cubin;              /* machine code; NULL: PTX only */
    size_t cubin_bytes;
    const void *ptx; /* text that ends with a NUL */
    size_t ptx_bytes;
};

typedef struct kernel {
    struct device *device;
    char family[32];
    uint32_t threads, shared_bytes;
    device_module *module;
    device_function *function;
} kernel;

/* Loads a kernel whose code was compiled for `target` ("sm_90a", "compute_80"): the machine code if the
 * device runs it, else the PTX. Errors: XQ_ERROR_UNSUPPORTED if the device runs neither, or has too little
 * shared memory; XQ_ERROR_DEVICE, XQ_ERROR_MEMORY. */
xq_status kernel_open(device *d, const struct kernel_code *code, const char *target, kernel **out,
                      error *err);

/* NULL is fine. */
void kernel_destroy(kernel *k);

/* Launches with `params`, the family's struct of params.h. Allocates nothing. */
xq_status kernel_launch(const kernel *k, const uint32_t grid[3], const void *params, size_t params_bytes,
                        void *stream, error *err);

/* The same for a kernel of a checked plan, whose parameters end with a gate (templates/lib/guard.cuh). */
xq_status kernel_launch_guarded(const kernel *k, const uint32_t grid[3], const void *params,
                                size_t params_bytes, uint64_t gate, void *stream, error *err);

#endif
