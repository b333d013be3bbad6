#include "kernel_stores.h"
#include "fake_nvrtc.h"
#include "files.h"
#include "shell.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char stores_spec[] = "{" STORES_MODEL ", \"cache\": {\"method\": \"latent\"}}";
const char stores_no_nvrtc[] = "/nowhere/libnvrtc.so";

struct fake_cuda_state *stores_gpu;

struct stores_messages stores_said;

static void on_message(void *user, xq_log_level level, const char *message)
{
    (void)user;
    char *place = NULL;
    if (level == XQ_LOG_WARNING) {
        stores_said.warnings++;
        snprintf(stores_said.last, sizeof stores_said.last, "%s", message);
    }
    stores_said.compiled += strstr(message, ": compiling for ") != NULL;
    if (strstr(message, ": found as ") && stores_said.found < 64)
        snprintf(stores_said.keys[stores_said.found++], sizeof stores_said.keys[0], "%.79s",
                 strstr(message, " as ") + 4);
    else if ((place = strstr(message, ": found in ")) && stores_said.places_count < 64)
        snprintf(stores_said.places[stores_said.places_count++], sizeof stores_said.places[0], "%s",
                 place + 11);
}

xq_context_options stores_options(const char *kernels, const char *cache_dir)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    memset(&stores_said, 0, sizeof stores_said);
    options.device = "cuda";
    options.kernels = kernels;
    options.cache_dir = cache_dir;
    options.log = on_message;
    return options;
}

xq_context *stores_open_with(const xq_context_options *options)
{
    xq_context *context = NULL;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    stores_gpu = stores_gpu ? stores_gpu : fake_cuda_use();
    stores_gpu->ptx_modules = 0;
    xq_status status = xq_context_create(options, &context);
    xq_last_error(context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return context;
}

xq_context *stores_open_gpu(const char *kernels, const char *cache_dir)
{
    xq_context_options options = stores_options(kernels, cache_dir);
    return stores_open_with(&options);
}

xq_status stores_try_plan(xq_context *context, const char *json, xq_plan **plan, xq_error_detail *detail)
{
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    o.spec_json = json;
    *detail = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    xq_status status = xq_plan_create(context, &o, plan);
    if (status != XQ_OK)
        cr_assert_eq(xq_last_error(context, detail), XQ_OK);
    return status;
}

xq_plan *stores_make_plan(xq_context *context)
{
    xq_plan *plan = NULL;
    xq_error_detail detail;
    xq_status status = stores_try_plan(context, stores_spec, &plan, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return plan;
}

int stores_plan_once(const char *kernels, const char *cache_dir)
{
    xq_context *context = stores_open_gpu(kernels, cache_dir);
    xq_plan_destroy(stores_make_plan(context));
    xq_context_destroy(context);
    return stores_gpu->ptx_modules;
}

void stores_hide_nvrtc(void)
{
    setenv("XQ_NVRTC", stores_no_nvrtc, 1);
}

const char *stores_made_by(int major, const char *architectures)
{
    const char *folder = files_directory();
    fake_nvrtc_use_version(major, architectures);
    stores_plan_once("", folder);
    cr_assert_gt(stores_said.compiled, 3);
    return folder;
}

char *stores_snapshot(const char *folder)
{
    return shell_output("find '%s' -printf '%%p %%s %%m %%T@ %%C@\\n' | LC_ALL=C sort", folder);
}

void stores_is_unchanged(const char *folder, char *before)
{
    char *after = stores_snapshot(folder);
    cr_expect(strcmp(after, before) == 0, "something in %s was changed", folder);
    free(before);
    free(after);
}
