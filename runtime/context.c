#include "context.h"
#include "descriptor.h"
#include "last_error.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- device */

static xq_status bad_device(const char *name, error *err)
{
    error_set(
        err, XQ_ERROR_ARGUMENT, "argument",
        "device '%s' is none of auto, cuda, cuda:N, sim, sim:GPU (GPU one of h100, h200, a100, rtx4090)",
        name);
    return error_field(err, "device");
}

static xq_status open_software(const char *gpu, device **out, error *err)
{
    if (device_software)
        return device_software(gpu, out, err);
    return error_set(err, XQ_ERROR_NO_DEVICE, "device", "this library has no software device");
}

static xq_status open_cuda(const char *name, const char *ordinal, device **out, error *err)
{
    char *end;
    long n = strtol(ordinal, &end, 10);
    if (!isdigit((unsigned char)*ordinal) || (*ordinal == '0' && ordinal[1]) || *end || n < 0 || n > 1023)
        return bad_device(name, err);
    return device_cuda_open((int)n, out, err);
}

/* A GPU where there is one that the kernels run on, else the software device, if the library has it. */
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

static xq_status fill_context(xq_context *c, const xq_context_options *given, error *err)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    if (given && descriptor_read(&options, sizeof options, sizeof options, given, "options", err) != XQ_OK)
        return err->status;
    c->log = (logger){options.log, options.log_user};
    c->template_dir = options.template_dir ? strdup(options.template_dir) : NULL;
    c->cache = cache_open(options.cache_dir, &c->log);
    if (!c->cache || (options.template_dir && !c->template_dir))
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    if (open_device(c, options.device, err) != XQ_OK)
        return err->status;
    /* A Hopper GPU also runs what is compiled for it alone. */
    const device_properties *p = &c->device->properties;
    bool hopper = !p->is_sim && strcmp(p->arch, "sm_90") == 0;
    snprintf(c->arch, sizeof c->arch, "%s", hopper ? "sm_90a" : p->arch);
    return XQ_OK;
}

xq_status xq_context_create(const xq_context_options *options, xq_context **context)
{
    if (!context)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_context *c = calloc(1, sizeof *c);
    *context = c;
    if (!c)
        return XQ_ERROR_MEMORY;
    atomic_init(&c->references, 1);
    atomic_flag_clear(&c->told_target);
    atomic_flag_clear(&c->told_unlisted);
    pthread_mutex_init(&c->generator_lock, NULL);
    pthread_mutex_init(&c->error_lock, NULL);
    pthread_mutex_init(&c->fault_lock, NULL);
    if (fill_context(c, options, &err) != XQ_OK)
        return context_fail(c, &err);
    return XQ_OK;
}

xq_context *context_retain(xq_context *context)
{
    atomic_fetch_add(&context->references, 1);
    return context;
}

void context_release(xq_context *context)
{
    if (!context || atomic_fetch_sub(&context->references, 1) > 1)
        return;
    if (context->device)
        context->device->ops->destroy(context->device);
    gen_destroy(context->generator);
    nvrtc_close(context->nvrtc);
    cache_close(context->cache);
    last_error_free_all(context);
    pthread_mutex_destroy(&context->generator_lock);
    pthread_mutex_destroy(&context->error_lock);
    pthread_mutex_destroy(&context->fault_lock);
    free(context->template_dir);
    free(context->no_gpu);
    free(context);
}

void xq_context_destroy(xq_context *context)
{
    context_release(context);
}

/* ------------------------------------------------------- generator, NVRTC */

/* Locks the generator, and opens it at its first use. unlock_generator follows, whatever the result. */
static xq_status lock_generator(xq_context *context, error *err)
{
    const device_properties *p = &context->device->properties;
    const gen_arch arch = {context->arch, p->shared_bytes_per_block, p->shared_bytes_per_sm,
                           p->max_threads_per_sm, p->registers_per_sm};
    pthread_mutex_lock(&context->generator_lock);
    return context->generator ? XQ_OK
                              : gen_create_for(context->template_dir, &arch, &context->generator, err);
}

/* The log learns here that gen/arch.lua lacks the device: its callback may call back. */
static void unlock_generator(xq_context *context)
{
    const char *tuned_as = context->generator ? gen_tuned_as(context->generator) : context->arch;
    pthread_mutex_unlock(&context->generator_lock);
    if (strcmp(tuned_as, context->arch) != 0 && !atomic_flag_test_and_set(&context->told_unlisted))
        log_message(
            &context->log, XQ_LOG_WARNING,
            "%s is %s, which this version of xq does not know: its resources are read from the driver, "
            "and kernels are tuned as for %s",
            context->device->properties.name, context->arch, tuned_as);
}

xq_status context_generator(xq_context *context, const gen **out, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        *out = context->generator;
    unlock_generator(context);
    return err->status;
}

xq_status context_nvrtc(xq_context *context, const nvrtc **out, error *err)
{
    pthread_mutex_lock(&context->generator_lock);
    if (context->nvrtc || nvrtc_open_for(context->device->properties.driver, &context->nvrtc, err) == XQ_OK)
        *out = context->nvrtc;
    pthread_mutex_unlock(&context->generator_lock);
    return err->status;
}

xq_status context_target(xq_context *context, const char *arch, kernel_target *out, error *err)
{
    const device_properties *p = &context->device->properties;
    const nvrtc *library = NULL;
    if (context_nvrtc(context, &library, err) != XQ_OK ||
        target_choose(p, arch, library, out, err) != XQ_OK)
        return err->status;
    if (out->older_nvrtc && !atomic_flag_test_and_set(&context->told_target))
        log_message(&context->log, XQ_LOG_WARNING,
                    "%s is %s, which NVRTC %d.%d does not know: kernels are PTX for %s, which the driver "
                    "compiles when it loads them; a CUDA toolkit that knows %s compiles for it",
                    p->name, arch, nvrtc_version(library) / 1000, nvrtc_version(library) % 1000 / 10,
                    out->arch, arch);
    return XQ_OK;
}

xq_status context_render(xq_context *context, const char *completed_json, const char *family,
                         gen_kernel *out, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        gen_render(context->generator, completed_json, family, out, err);
    unlock_generator(context);
    return err->status;
}

/* ----------------------------------------------------- questions to a context */

xq_status xq_context_device(xq_context *context, xq_device_info *info)
{
    if (!context || !context->device)
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
    };
    snprintf(full.name, sizeof full.name, "%s", p->name);
    snprintf(full.arch, sizeof full.arch, "%s", context->arch);
    error err = ERROR_INIT;
    const nvrtc *library = NULL;
    if (context_nvrtc(context, &library, &err) == XQ_OK)
        full.nvrtc = nvrtc_version(library);
    error_clear(&err); /* no NVRTC is an answer here, not a failure */
    if (descriptor_write(info, &full, sizeof full, sizeof full, "info", &err) != XQ_OK)
        return context_fail(context, &err);
    return XQ_OK;
}

xq_status context_complete(xq_context *context, const char *spec_json, char **completed, error *err)
{
    if (lock_generator(context, err) == XQ_OK)
        gen_complete_for(context->generator, spec_json, context->arch, completed, err);
    unlock_generator(context);
    return err->status;
}

xq_status context_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **out, error *err)
{
    const gen_overrides overrides = {.spec_json = spec_json, .overrides_json = overrides_json};
    if (lock_generator(context, err) == XQ_OK)
        gen_override(context->generator, &overrides, out, err);
    unlock_generator(context);
    return err->status;
}

xq_status xq_spec_complete(xq_context *context, const char *spec_json, char **completed)
{
    if (!context || !context->device)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (!spec_json || !completed) {
        const char *field = spec_json ? "completed" : "spec_json";
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "%s must not be NULL", field);
        error_field(&err, field);
        return context_fail(context, &err);
    }
    if (context_complete(context, spec_json, completed, &err) != XQ_OK)
        return context_fail(context, &err);
    return XQ_OK;
}

xq_status xq_spec_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **completed)
{
    if (!context || !context->device)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    char *chosen = NULL;
    const char *missing = !spec_json ? "spec_json" : !overrides_json ? "overrides_json" : "completed";
    if (!spec_json || !overrides_json || !completed) {
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "%s must not be NULL", missing);
        error_field(&err, missing);
    } else if (context_override(context, spec_json, overrides_json, &chosen, &err) == XQ_OK) {
        context_complete(context, chosen, completed, &err);
    }
    free(chosen);
    return err.status == XQ_OK ? XQ_OK : context_fail(context, &err);
}
