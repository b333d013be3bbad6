#include "kernel.h"
#include "../device/arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns the form of a kernel's code that the device loads; NULL if it runs neither. */
static const void *choose_code(const device_properties *p, const struct kernel_code *code,
                               const char *target, size_t *bytes)
{
    if (!p->is_sim && code->cubin && arch_runs_code(p->arch, target)) {
        *bytes = code->cubin_bytes;
        return code->cubin;
    }
    *bytes = code->ptx_bytes - 1;
    return p->is_sim || arch_runs_ptx(p->arch, target) ? code->ptx : NULL;
}

static xq_status load(kernel *k, const struct kernel_code *code, const char *target, error *err)
{
    device *d = k->device;
    size_t bytes;
    const void *chosen = choose_code(&d->properties, code, target, &bytes);
    if (!chosen)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                         "kernel %s was compiled for %s, which %s (%s) does not run", code->family, target,
                         d->properties.name, d->properties.arch);
    if (k->shared_bytes > d->properties.shared_bytes_per_block)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                         "kernel %s needs %u bytes of shared memory a block; %s has %zu", code->family,
                         (unsigned)k->shared_bytes, d->properties.name,
                         d->properties.shared_bytes_per_block);
    if (d->ops->module_load(d, chosen, bytes, code->family, &k->module, err) != XQ_OK)
        return err->status;
    return d->ops->function_get(k->module, code->entry, k->shared_bytes, &k->function, err);
}

xq_status kernel_open(device *d, const struct kernel_code *code, const char *target, kernel **out,
                      error *err)
{
    kernel *k = (kernel *)calloc(1, sizeof *k);
    if (!k)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    k->device = d;
    k->threads = code->threads;
    k->shared_bytes = code->shared_bytes;
    snprintf(k->family, sizeof k->family, "%s", code->family);
    if (load(k, code, target, err) != XQ_OK) {
        kernel_destroy(k);
        return err->status;
    }
    *out = k;
    return XQ_OK;
}

void kernel_destroy(kernel *k)
{
    if (k && k->module)
        k->device->ops->module_unload(k->module);
    free(k);
}

xq_status kernel_launch(const kernel *k, const uint32_t grid[3], const void *params, size_t params_bytes,
                        void *stream, error *err)
{
    device_launch launch = {
        .function = k->function,
        .grid = {grid[0], grid[1], grid[2]},
        .block = {k->threads, 1, 1},
        .cluster = 1,
        .shared_bytes = k->shared_bytes,
        .stream = stream,
        .params = params,
        .params_bytes = params_bytes,
    };
    return k->device->ops->launch(k->device, &launch, err);
}

xq_status kernel_launch_guarded(const kernel *k, const uint32_t grid[3], const void *params,
                                size_t params_bytes, uint64_t gate, void *stream, error *err)
{
    unsigned char guarded[1024];
    if (params_bytes % sizeof gate || params_bytes > sizeof guarded - sizeof gate)
        return error_set(err, XQ_ERROR_INTERNAL, "device", "kernel %s has %zu bytes of parameters",
                         k->family, params_bytes);
    memcpy(guarded, params, params_bytes);
    memcpy(guarded + params_bytes, &gate, sizeof gate);
    return kernel_launch(k, grid, guarded, params_bytes + sizeof gate, stream, err);
}
