/* Chooses what NVRTC compiles a kernel for, given the device, the spec's architecture, and the
 * architectures that NVRTC knows. */
#ifndef RUNTIME_PLAN_TARGET_H
#define RUNTIME_PLAN_TARGET_H

#include "../compile/nvrtc.h"
#include "../device/device.h"

typedef struct kernel_target {
    char arch[32];    /* for --gpu-architecture: "sm_90a" gives a cubin, "compute_90" PTX alone */
    char why[160];    /* the reason, in words */
    bool older_nvrtc; /* NVRTC does not know the spec's architecture */
} kernel_target;

/* Chooses the target. `arch` is the architecture of a spec, and `p` the device that runs it. If `arch` is
 * the GPU's own architecture and NVRTC knows it, the target is `arch` itself, which gives a cubin.
 * Otherwise the target is PTX for the newest architecture that NVRTC knows and that is no newer than
 * `arch`. The software device has one target for all specs, its ptx_target. Errors: XQ_ERROR_SPEC (field
 * `arch`) for a spec that is for newer GPUs than the device; XQ_ERROR_NO_TOOLCHAIN if NVRTC knows only
 * architectures newer than `arch`. */
xq_status target_choose(const device_properties *p, const char *arch, const nvrtc *library,
                        kernel_target *out, error *err);

/* Rates code on a device: higher is better, and 0 means that the code does not serve. The code was
 * compiled for `built_for` by this version of NVRTC, from the source of a spec for `arch`. Cubins for the
 * GPU's own architecture are better than PTX, newer PTX is better than older PTX, and a newer NVRTC is
 * better than an older one. Code from an NVRTC of a later major version than the driver's is taken last,
 * because the driver may refuse it. */
int64_t target_rank(const device_properties *p, const char *arch, const char *built_for, int version);

/* Returns XQ_ERROR_SPEC (field `arch`) for a spec that is for newer GPUs than the device. */
xq_status target_check(const device_properties *p, const char *arch, error *err);

#endif
