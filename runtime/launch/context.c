#include "context.h"
#include "../base/descriptor.h"
#include "last_error.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- device */

static xq_status bad_device(const char *name, error *err)
{
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "device '%s' is not valid; valid: auto, cuda, cuda:N%s",
              name, device_software ? ", sim, sim:GPU (GPU is h100, h200, a100 or rtx4090)" : "");
    return error_field(err, "device");
}

static xq_status open_software(const char *gpu, device **out, error *err)
{
    if (device_software)
        return device_software(gpu, out, err);
    error_set(err, XQ_ERROR_NO_DEVICE, "device",
              "this library has no software device; valid devices: auto, cuda, cuda:N");
    return error_field(err, "device");
}

static xq_status open_cuda(const char *name, const char *ordinal, device **out, error *err)
{
    char *end;
    long n = strtol(ordinal, &end, 10);
    if (!isdigit((unsigned char)*ordinal) || (*ordinal == '0' && ordinal[1]) || *end || n < 0 || n > 1023)
        return bad_device(name, err);
    return device_cuda_open((int)n, out, err);
}

/* Opens a GPU if there is one that the kernels run on, else the software device, if the library has it. */
static xq_status open_auto(xq_context *c, error *err)
{
    error why = ERROR_INIT;
    if (!device_software)
        return device_cuda_open_first(&c->device, err);
    if (device_cuda_open_first(&c->device, &why) == XQ_OK)
        return XQ_OK;
    log_message(&c->log, XQ_LOG_INFO, "no GPU (%s); using the software device", why.message);
    c->no_gpu = strdup(why.message);
    error_clear(&why);
    return open_software(NULL, &c->device, err);
}

static xq_status open_device(xq_context *c, const char *name, error *err)
{
    device **out = &c->device;
    if (!name || strcmp(name, "auto") == 0)
        return open_auto(c, err);
    if (strcmp(name, "cuda") == 0)
        return device_cuda_open_first(out, err);
    if (strncmp(name, "cuda:", 5) == 0)
        return open_cuda(name, name + 5, out, err);
    if (strcmp(name, "sim") == 0)
        return open_software(NULL, out, err);
    if (strncmp(name, "sim:", 4) == 0)
        return open_software(name + 4, out, err);
    return bad_device(name, err);
}

/* --------------------------------------------------------------- lifetime */

/* Refuses the options for building plans in a library that builds none. */
static xq_status check_toolchain_options(const xq_context_options *o, error *err)
{
    const char *field = o->template_dir                 ? "template_dir"
                        : o->cache_dir && *o->cache_dir ? "cache_dir"
                        : o->kernels && *o->kernels     ? "kernels"
                        : o->no_compile                 ? "no_compile"
                                                        : NULL;
    if (context_toolchain || !field)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "%s would have no effect: this library loads plans and compiles none; valid: %s", field,
              strcmp(field, "no_compile") == 0 ? "0" : "NULL");
    return error_field(err, field);
}

/* A Hopper GPU also runs code that is compiled for sm_90a alone. */
static void set_arch(xq_context *c)
{
    const device_properties *p = &c->device->properties;
    bool hopper = !p->is_sim && strcmp(p->arch, "sm_90") == 0;
    snprintf(c->arch, sizeof c->arch, "%s", hopper ? "sm_90a" : p->arch);
}

static xq_status fill_context(xq_context *c, const xq_context_options *given, error *err)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    if (given && descriptor_read(&options, sizeof options, DESCRIPTOR_UP_TO(xq_context_options, kernels),
                                 given, "options", err) != XQ_OK)
        return err->status;
    c->log = (logger){options.log, options.log_user};
    if (check_toolchain_options(&options, err) != XQ_OK ||
        (context_toolchain && context_toolchain->open(c, &options, err) != XQ_OK))
        return err->status;
    if (c->device) /* it was given */
        snprintf(c->arch, sizeof c->arch, "%s", c->device->properties.arch);
    else if (open_device(c, options.device, err) == XQ_OK)
        set_arch(c);
    return err->status;
}

xq_status context_create_on(device *given, const xq_context_options *options, xq_context **context)
{
    error err = ERROR_INIT;
    xq_context *c = (xq_context *)calloc(1, sizeof *c);
    *context = c;
    if (!c) {
        if (given)
            given->ops->destroy(given);
        return XQ_ERROR_MEMORY;
    }
    c->device = given;
    c->references = 1;
    pthread_mutex_init(&c->error_lock, NULL);
    pthread_mutex_init(&c->fault_lock, NULL);
    if (fill_context(c, options, &err) == XQ_OK)
        return XQ_OK;
    c->failure = strdup(err.message);
    return context_fail(c, &err);
}

xq_status xq_context_create(const xq_context_options *options, xq_context **context)
{
    return context ? context_create_on(NULL, options, context) : XQ_ERROR_ARGUMENT;
}

bool context_works(xq_context *context)
{
    if (!context || context->device)
        return context;
    error err = ERROR_INIT;
    error_set(&err, XQ_ERROR_ARGUMENT, "argument", "context: it was not created: %s",
              context->failure ? context->failure : "out of memory");
    error_field(&err, "context");
    context_fail(context, &err);
    return false;
}

xq_context *context_retain(xq_context *context)
{
    __atomic_fetch_add(&context->references, 1, __ATOMIC_RELAXED);
    return context;
}

void context_release(xq_context *context)
{
    if (!context || __atomic_fetch_sub(&context->references, 1, __ATOMIC_ACQ_REL) > 1)
        return;
    if (context->device)
        context->device->ops->destroy(context->device);
    if (context_toolchain)
        context_toolchain->close(context->toolchain);
    last_error_free_all(context);
    pthread_mutex_destroy(&context->error_lock);
    pthread_mutex_destroy(&context->fault_lock);
    free(context->no_gpu);
    free(context->failure);
    free(context);
}

void xq_context_destroy(xq_context *context)
{
    context_release(context);
}

/* ----------------------------------------------------- questions to a context */

xq_status xq_context_device(xq_context *context, xq_device_info *info)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    const device_properties *p = &context->device->properties;
    xq_device_info full = {
        .struct_size = sizeof full,
        .is_sim = p->is_sim,
        .driver = p->driver,
        .sm_count = p->sm_count,
        .memory_bytes = p->memory_bytes,
        .l2_bytes = p->l2_bytes,
        .shared_bytes_per_block = p->shared_bytes_per_block,
        .ordinal = p->ordinal,
    };
    snprintf(full.name, sizeof full.name, "%s", p->name);
    snprintf(full.arch, sizeof full.arch, "%s", context->arch);
    if (context_toolchain)
        full.nvrtc = context_toolchain->nvrtc(context);
    error err = ERROR_INIT;
    if (descriptor_write(info, &full, sizeof full, DESCRIPTOR_UP_TO(xq_device_info, ordinal), "info",
                         &err) != XQ_OK)
        return context_fail(context, &err);
    return XQ_OK;
}
