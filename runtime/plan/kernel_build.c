#include "kernel_build.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xq_status kernel_build_constant(const kernel_build *k, const char *name, int64_t *value, error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(k->info, name);
    double number = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (number < 0 || number != floor(number) || number > 0x1p52)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "templates/%s.spec.lua: resources state no whole number '%s'", k->family, name);
    *value = (int64_t)number;
    return XQ_OK;
}

xq_status kernel_build_number(const kernel_build *k, const char *name, double *value, error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(k->info, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0))
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "templates/%s.spec.lua: resources state no number '%s' of 0 or more", k->family,
                         name);
    *value = item->valuedouble;
    return XQ_OK;
}

static xq_status read_info(kernel_build *k, const char *info, error *err)
{
    int64_t threads, shared_bytes;
    k->info = cJSON_Parse(info);
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(k->info, "entry");
    if (!cJSON_IsString(entry))
        return error_set(err, XQ_ERROR_INTERNAL, "template", "templates/%s.spec.lua states no entry",
                         k->family);
    snprintf(k->entry, sizeof k->entry, "%s", entry->valuestring);
    if (kernel_build_constant(k, "threads", &threads, err) != XQ_OK ||
        kernel_build_constant(k, "shared_bytes", &shared_bytes, err) != XQ_OK)
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

/* Renders and compiles. Threads render one after the other, and compile at the same time: several threads
 * may call NVRTC at once, each for a program of its own (NVRTC User Guide, "Thread safety"). */
static xq_status build(xq_context *context, const char *completed_json, const char *arch, kernel_build *k,
                       error *err)
{
    gen_kernel rendered;
    if (context_render(context, completed_json, k->family, &rendered, err) != XQ_OK)
        return err->status;
    k->source = rendered.source;
    rendered.source = NULL;
    if (read_info(k, rendered.info, err) == XQ_OK)
        context_compile(context, k->family, k->source, arch, &k->target, &k->compiled, err);
    gen_kernel_free(&rendered);
    return err->status;
}

xq_status kernel_build_create(xq_context *context, const char *completed_json, const char *arch,
                              const char *family, kernel_build **out, error *err)
{
    kernel_build *k = calloc(1, sizeof *k);
    if (!k)
        return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    snprintf(k->family, sizeof k->family, "%s", family);
    if (build(context, completed_json, arch, k, err) != XQ_OK) {
        kernel_build_destroy(k);
        return err->status;
    }
    log_message(&context->log, XQ_LOG_DEBUG, "kernel %s: %s %s", k->family,
                k->compiled.cached ? "found as" : "compiled as", k->compiled.key.name);
    *out = k;
    return XQ_OK;
}

void kernel_build_destroy(kernel_build *k)
{
    if (!k)
        return;
    compiled_free(&k->compiled);
    cJSON_Delete(k->info);
    free(k->source);
    free(k);
}

struct kernel_code kernel_build_code(const kernel_build *k)
{
    struct kernel_code code = {
        .threads = k->threads,
        .shared_bytes = k->shared_bytes,
        .cubin = k->compiled.cubin,
        .cubin_bytes = k->compiled.cubin_bytes,
        .ptx = k->compiled.ptx,
        .ptx_bytes = strlen(k->compiled.ptx) + 1,
    };
    snprintf(code.family, sizeof code.family, "%s", k->family);
    snprintf(code.entry, sizeof code.entry, "%s", k->entry);
    return code;
}
