#include "kernel.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xq_status kernel_constant(const kernel *k, const char *name, int64_t *value, error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(k->info, name);
    double number = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (number < 0 || number != floor(number) || number > 0x1p52)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "templates/%s.spec.lua: resources state no whole number '%s'", k->family, name);
    *value = (int64_t)number;
    return XQ_OK;
}

xq_status kernel_number(const kernel *k, const char *name, double *value, error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(k->info, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0))
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "templates/%s.spec.lua: resources state no number '%s' of 0 or more", k->family,
                         name);
    *value = item->valuedouble;
    return XQ_OK;
}

static xq_status read_info(kernel *k, const char *info, error *err)
{
    int64_t threads, shared_bytes;
    k->info = cJSON_Parse(info);
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(k->info, "entry");
    if (!cJSON_IsString(entry))
        return error_set(err, XQ_ERROR_INTERNAL, "template", "templates/%s.spec.lua states no entry",
                         k->family);
    snprintf(k->entry, sizeof k->entry, "%s", entry->valuestring);
    if (kernel_constant(k, "threads", &threads, err) != XQ_OK ||
        kernel_constant(k, "shared_bytes", &shared_bytes, err) != XQ_OK)
        return err->status;
    if (threads < 1 || threads > 1024 || shared_bytes > INT32_MAX)
        return error_set(
            err, XQ_ERROR_INTERNAL, "template",
            "templates/%s.spec.lua: resources are out of range (threads %lld, shared_bytes %lld)",
            k->family, (long long)threads, (long long)shared_bytes);
    k->threads = (uint32_t)threads;
    k->shared_bytes = (uint32_t)shared_bytes;
    return XQ_OK;
}

/* The "arch" of a completed spec. */
static xq_status spec_arch(const char *completed_json, char arch[32], error *err)
{
    cJSON *root = cJSON_Parse(completed_json);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "arch");
    if (cJSON_IsString(item))
        snprintf(arch, 32, "%s", item->valuestring);
    else
        error_set(err, XQ_ERROR_SPEC, "spec", "arch is missing: not a completed spec");
    cJSON_Delete(root);
    return err->status;
}

/* Renders and compiles. Threads render one after the other, and compile side by side: NVRTC may be called
 * by several at once for programs of their own (NVRTC User Guide, "Thread safety"). */
static xq_status build(xq_context *context, const char *completed_json, const char *arch, kernel *k,
                       error *err)
{
    kernel_target chosen;
    const gen *generator = NULL;
    const nvrtc *library = NULL;
    gen_kernel rendered;
    if (context_generator(context, &generator, err) != XQ_OK ||
        context_nvrtc(context, &library, err) != XQ_OK ||
        context_render(context, completed_json, k->family, &rendered, err) != XQ_OK)
        return err->status;
    k->source = rendered.source;
    rendered.source = NULL;
    if (read_info(k, rendered.info, err) == XQ_OK && context_target(context, arch, &chosen, err) == XQ_OK)
        compile_source(library, context->cache, generator, k->family, k->source, chosen.arch, &k->compiled,
                       err);
    gen_kernel_free(&rendered);
    return err->status;
}

static xq_status load(kernel *k, error *err)
{
    device *d = k->device;
    size_t bytes;
    const void *image = compiled_image(&k->compiled, &bytes);
    if (k->shared_bytes > d->properties.shared_bytes_per_block)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                         "kernel %s needs %u bytes of shared memory a block; %s has %zu", k->family,
                         (unsigned)k->shared_bytes, d->properties.name,
                         d->properties.shared_bytes_per_block);
    if (d->ops->module_load(d, image, bytes, k->family, &k->module, err) != XQ_OK)
        return err->status;
    return d->ops->function_get(k->module, k->entry, k->shared_bytes, &k->function, err);
}

xq_status kernel_load(xq_context *context, const char *completed_json, const char *family, kernel **out,
                      error *err)
{
    char arch[32];
    if (spec_arch(completed_json, arch, err) != XQ_OK)
        return err->status;
    kernel *k = calloc(1, sizeof *k);
    if (!k)
        return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    k->device = context->device;
    snprintf(k->family, sizeof k->family, "%s", family);
    if (build(context, completed_json, arch, k, err) != XQ_OK || load(k, err) != XQ_OK) {
        kernel_destroy(k);
        return err->status;
    }
    log_message(&context->log, XQ_LOG_DEBUG, "kernel %s: %s %s", k->family,
                k->compiled.cached ? "found in the cache as" : "compiled as", k->compiled.key.hex);
    *out = k;
    return XQ_OK;
}

void kernel_destroy(kernel *k)
{
    if (!k)
        return;
    if (k->module)
        k->device->ops->module_unload(k->module);
    compiled_free(&k->compiled);
    cJSON_Delete(k->info);
    free(k->source);
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
