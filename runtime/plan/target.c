#include "target.h"
#include "../device/arch.h"

#include <stdio.h>

static xq_status newer_than_device(const device_properties *p, const char *arch, error *err)
{
    error_set(err, XQ_ERROR_SPEC, "spec",
              "arch: '%s' is newer than %s, which is %s; valid: architectures up to that, or none for the "
              "device's own",
              arch, p->name, p->arch);
    return error_field(err, "arch");
}

static xq_status nvrtc_too_new(const nvrtc *library, const char *arch, error *err)
{
    return error_set(
        err, XQ_ERROR_NO_TOOLCHAIN, "compile",
        "NVRTC %d.%d (%s) compiles for no architecture up to %s; an older CUDA toolkit is needed",
        nvrtc_version(library) / 1000, nvrtc_version(library) % 1000 / 10, nvrtc_path(library), arch);
}

/* PTX for architecture `known`, which is older than that of the spec, or of the device, or both. */
static void choose_ptx(const device_properties *p, const char *arch, int known, const nvrtc *library,
                       kernel_target *out)
{
    int version = nvrtc_version(library);
    snprintf(out->arch, sizeof out->arch, "compute_%d", known);
    if (out->older_nvrtc)
        snprintf(out->why, sizeof out->why, "PTX, which the driver compiles: NVRTC %d.%d does not know %s",
                 version / 1000, version % 1000 / 10, arch);
    else
        snprintf(out->why, sizeof out->why, "PTX, which the driver compiles: the spec is for %s, not %s",
                 arch, p->arch);
}

xq_status target_choose(const device_properties *p, const char *arch, const nvrtc *library,
                        kernel_target *out, error *err)
{
    int own = arch_number(p->ptx_target), wanted = arch_number(arch);
    *out = (kernel_target){0};
    if (p->is_sim) {
        snprintf(out->arch, sizeof out->arch, "%s", p->ptx_target);
        snprintf(out->why, sizeof out->why,
                 "PTX, which the software device interprets, whatever GPU it stands in for");
        return XQ_OK;
    }
    int known = nvrtc_newest(library, wanted);
    if (wanted > own)
        return newer_than_device(p, arch, err);
    if (known == 0)
        return nvrtc_too_new(library, arch, err);
    out->older_nvrtc = known < wanted;
    if (known < own) {
        choose_ptx(p, arch, known, library, out);
        return XQ_OK;
    }
    snprintf(out->arch, sizeof out->arch, "%s", arch);
    snprintf(out->why, sizeof out->why, "a cubin, for the GPU's own architecture");
    return XQ_OK;
}
