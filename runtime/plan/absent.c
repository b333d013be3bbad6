#include "absent.h"
#include "../device/arch.h"
#include "../launch/last_error.h"

#include <stdio.h>
#include <stdlib.h>

static void destroy(device *d)
{
    free(d);
}

/* Building kernels needs only the properties of a device. */
static device *make_device(const absent_gpu *gpu)
{
    static const device_ops ops = {.destroy = destroy};
    device *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    device_properties *p = &d->properties;
    int number = arch_number(gpu->arch);
    d->ops = &ops;
    p->sm_count = gpu->multiprocessors;
    snprintf(p->name, sizeof p->name, "%s", gpu->name);
    snprintf(p->arch, sizeof p->arch, "sm_%d", number);
    snprintf(p->ptx_target, sizeof p->ptx_target, "compute_%d", number);
    return d;
}

xq_status absent_context(const xq_context_options *options, const absent_gpu *gpu, xq_context **out,
                         error *err)
{
    xq_context *context = NULL;
    device *d = make_device(gpu);
    xq_status status = d ? context_create_on(d, options, &context) : XQ_ERROR_MEMORY;
    if (status != XQ_OK) {
        last_error_read(context, status, err);
        xq_context_destroy(context);
        return err->status;
    }
    snprintf(context->arch, sizeof context->arch, "%s", gpu->arch);
    *out = context;
    return XQ_OK;
}
