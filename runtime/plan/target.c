#include "target.h"
#include "../device/arch.h"

#include <stdio.h>
#include <string.h>

static xq_status newer_than_device(const device_properties *p, const char *arch, error *err)
{
    error_set(err, XQ_ERROR_SPEC, "spec",
              "arch: '%s' is newer than %s, which is %s; valid: this architecture, an older one, or no "
              "arch at all",
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

/* Chooses PTX for architecture `known`, which is older than the spec's architecture, or than the device's,
 * or than both. */
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

xq_status target_check(const device_properties *p, const char *arch, error *err)
{
    bool newer = !p->is_sim && arch_number(arch) > arch_number(p->ptx_target);
    return newer ? newer_than_device(p, arch, err) : XQ_OK;
}

int64_t target_rank(const device_properties *p, const char *arch, const char *built_for, int version)
{
    enum { CUBIN = 1000 }; /* above the number of any architecture */
    int wanted = arch_number(arch);
    int64_t code = 0;
    if (p->is_sim)
        code = strcmp(built_for, p->ptx_target) == 0;
    else if (strcmp(built_for, arch) == 0)
        code = wanted == arch_number(p->ptx_target) ? CUBIN : 0;
    else if (strncmp(built_for, "compute_", 8) == 0 && arch_runs_ptx(arch, built_for))
        code = arch_number(built_for);
    bool fits_driver = p->is_sim || version / 1000 <= p->driver / 1000;
    return code ? (int64_t)fits_driver << 40 | code << 20 | version : 0;
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
    if (target_check(p, arch, err) != XQ_OK)
        return err->status;
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
