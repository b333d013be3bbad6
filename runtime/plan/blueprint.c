#include "blueprint.h"
#include "../device/arch.h"

#include <stdio.h>
#include <stdlib.h>

/* ----------------------------------------------- a device that is an architecture and nothing else */

static void destroy(device *d)
{
    free(d);
}

static const device_ops ops = {.destroy = destroy}; /* a context that compiles calls nothing else */

xq_status blueprint_context(const char *arch, const xq_context_options *options, xq_context **context)
{
    device *d = calloc(1, sizeof *d);
    if (!d) {
        *context = NULL;
        return XQ_ERROR_MEMORY;
    }
    device_properties *p = &d->properties;
    d->ops = &ops;
    snprintf(p->name, sizeof p->name, "%s", arch);
    snprintf(p->arch, sizeof p->arch, "%s", arch);
    snprintf(p->ptx_target, sizeof p->ptx_target, "compute_%d", arch_number(arch));
    return context_create_on(d, options, context);
}

void blueprint_free(struct blueprint *b)
{
    for (int i = 0; i < b->kernel_count; i++)
        free(b->kernels[i].source);
    free(b->image);
    free(b->spec);
    *b = (struct blueprint){0};
}
