/* Tests GPUs that the table of architectures does not list, and the architecture that kernels are compiled
 * for if NVRTC is older than the GPU. The driver and NVRTC are stand-ins. */
#include "../../../runtime/plan/toolchain.h"
#include "../../support/fake_cuda.h"
#include "../../support/fake_nvrtc.h"
#include "../../support/files.h"
#include "../../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
static const char spec[] = "{" MODEL ", \"cache\": {\"method\": \"latent\"}}";
#define FOR_SM_90 "{" MODEL ", \"cache\": {\"method\": \"latent\"}, \"arch\": \"sm_90\"}"

static error err = ERROR_INIT;

/* ------------------------------------------------------------------- GPUs */

struct warnings {
    int unlisted, older_nvrtc, others;
    char last[512];
    xq_context *context;
};

static void on_message(void *user, xq_log_level level, const char *message)
{
    struct warnings *w = user;
    if (level != XQ_LOG_WARNING)
        return;
    int *kind = strstr(message, "version of xq does not know") ? &w->unlisted
                : strstr(message, "PTX for")                   ? &w->older_nvrtc
                                                               : &w->others;
    ++*kind;
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    if (w->context) /* the callback may use the context, which then holds no lock */
        cr_assert_eq(xq_context_device(w->context, &info), XQ_OK);
    snprintf(w->last, sizeof w->last, "%s", message);
}

static struct fake_cuda_state *fake;
static struct warnings warnings;

static xq_context *open_gpu(int capability)
{
    static const char *folder; /* contexts of a test share a kernel cache */
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    fake = fake_cuda_use();
    fake->capability[0] = capability;
    options.device = "cuda";
    folder = folder ? folder : files_directory();
    options.cache_dir = folder;
    options.log = on_message;
    options.log_user = &warnings;
    warnings = (struct warnings){0};
    fake->ptx_modules = 0;
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    warnings.context = context;
    return context;
}

static test_kernel load_kernel(xq_context *context, const char *json)
{
    char *completed = NULL;
    test_kernel k;
    cr_assert_eq(context_complete(context, json, &completed, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(test_kernel_open(context, completed, "rope", &k, &err), XQ_OK, "%s", err.message);
    free(completed);
    return k;
}

static xq_plan *make_plan(xq_context *context)
{
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_plan *plan = NULL;
    o.spec_json = spec;
    o.max_batch = 1;
    o.max_tokens = 100;
    xq_status status = xq_plan_create(context, &o, &plan);
    xq_last_error(context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return plan;
}

static void is_unlisted_and_newer_than_nvrtc(int capability, const char *arch, const char *tuned_as)
{
    fake_nvrtc_use(NULL);
    xq_context *context = open_gpu(capability);
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    cr_assert_eq(xq_context_device(context, &info), XQ_OK);
    cr_expect_str_eq(info.arch, arch);
    cr_expect_eq(info.shared_bytes_per_block, fake->shared_bytes_block);
    xq_plan *plan = make_plan(context), *second = make_plan(context);
    cr_expect(strstr(xq_plan_spec(plan), arch), "%s", xq_plan_spec(plan));
    cr_expect_str_eq(gen_tuned_as(context->toolchain->generator), tuned_as);
    cr_expect_gt(fake->modules, 0);
    cr_expect_eq(fake->ptx_modules, fake->modules, "%d of %d modules are PTX", fake->ptx_modules,
                 fake->modules);
    cr_expect_eq(warnings.unlisted, 1);
    cr_expect_eq(warnings.older_nvrtc, 1);
    cr_expect_eq(warnings.others, 0, "%s", warnings.last);
    xq_plan_destroy(plan);
    xq_plan_destroy(second);
    xq_context_destroy(context);
}

Test(target, gpu_10_1_works)
{
    is_unlisted_and_newer_than_nvrtc(101, "sm_101", "sm_100");
}

Test(target, gpu_12_9_works)
{
    is_unlisted_and_newer_than_nvrtc(129, "sm_129", "sm_121");
}

Test(target, gpu_13_0_works)
{
    is_unlisted_and_newer_than_nvrtc(130, "sm_130", "sm_121");
}

/* This test uses the installed NVRTC, whatever GPUs it knows, and its PTX. */
Test(target, gpu_13_0_works_with_the_real_nvrtc)
{
    xq_context *context = open_gpu(130);
    const nvrtc *library = NULL;
    char target[32];
    test_kernel k = load_kernel(context, spec);
    cr_assert_eq(context_nvrtc(context, &library, &err), XQ_OK);
    snprintf(target, sizeof target, ".target sm_%d", nvrtc_newest(library, 130));
    cr_assert(strstr(k.build->compiled.ptx, target), "%s is missing: %.300s", target,
              k.build->compiled.ptx);
    test_kernel_close(&k);
    xq_context_destroy(context);
}

Test(target, unlisted_gpu_that_nvrtc_knows_gets_cubins)
{
    fake_nvrtc_use("80,90,130");
    xq_context *context = open_gpu(130);
    test_kernel k = load_kernel(context, spec);
    cr_assert_str_eq(k.build->compiled.cubin, "\177ELF sm_130");
    cr_assert_eq(fake->ptx_modules, 0);
    cr_assert_eq(warnings.unlisted, 1);
    cr_assert_eq(warnings.older_nvrtc, 0);
    test_kernel_close(&k);
    xq_context_destroy(context);
}

Test(target, listed_gpu_that_nvrtc_does_not_know_gets_ptx)
{
    fake_nvrtc_use(NULL);
    xq_context *context = open_gpu(103);
    test_kernel k = load_kernel(context, spec);
    cr_assert_null(k.build->compiled.cubin);
    cr_assert(strstr(k.build->compiled.ptx, ".target sm_90\n"), "%s", k.build->compiled.ptx);
    cr_assert_eq(warnings.unlisted, 0);
    cr_assert_eq(warnings.older_nvrtc, 1);
    cr_assert(strstr(warnings.last, "sm_103") && strstr(warnings.last, "compute_90"), "%s", warnings.last);
    test_kernel_close(&k);
    xq_context_destroy(context);
}

Test(target, gpu_that_both_know_gets_cubins_and_no_warning)
{
    fake_nvrtc_use(NULL);
    xq_context *context = open_gpu(90);
    test_kernel k = load_kernel(context, spec);
    cr_assert_str_eq(k.build->compiled.cubin, "\177ELF sm_90a");
    cr_assert_eq(warnings.unlisted + warnings.older_nvrtc + warnings.others, 0, "%s", warnings.last);
    test_kernel_close(&k);
    xq_context_destroy(context);
}

/* ------------------------------------------------------------- kernel cache */

/* The same source is compiled for sm_90, and as PTX for compute_90. */
Test(target, ptx_and_cubin_of_one_architecture_have_entries_of_their_own)
{
    char keys[2][sizeof(cache_key)];
    static const int capabilities[] = {90, 130, 90, 130};
    fake_nvrtc_use(NULL);
    for (int i = 0; i < 4; i++) {
        xq_context *context = open_gpu(capabilities[i]);
        test_kernel k = load_kernel(context, i % 2 ? spec : FOR_SM_90);
        cr_expect_eq(k.build->compiled.cached, i >= 2);
        cr_expect_eq(k.build->compiled.cubin == NULL, i % 2 == 1);
        cr_expect_eq(fake->ptx_modules, i % 2);
        if (i >= 2)
            cr_expect_str_eq(k.build->compiled.key.name, keys[i - 2]);
        else
            snprintf(keys[i], sizeof keys[i], "%s", k.build->compiled.key.name);
        test_kernel_close(&k);
        xq_context_destroy(context);
    }
    cr_assert_str_neq(keys[0], keys[1]);
}

/* ----------------------------------------------- specs for another architecture */

Test(target, spec_for_an_older_architecture_is_ptx_for_that)
{
    fake_nvrtc_use("80,90,100");
    xq_context *context = open_gpu(100);
    test_kernel k = load_kernel(context, FOR_SM_90);
    cr_assert_null(k.build->compiled.cubin);
    cr_assert(strstr(k.build->compiled.ptx, ".target sm_90\n"), "%s", k.build->compiled.ptx);
    cr_assert_eq(warnings.older_nvrtc, 0, "%s", warnings.last);
    test_kernel_close(&k);
    xq_context_destroy(context);
}

Test(target, spec_for_a_newer_architecture_is_refused)
{
    fake_nvrtc_use(NULL);
    xq_context *context = open_gpu(80);
    char *completed = NULL;
    test_kernel k;
    cr_assert_eq(context_complete(context, FOR_SM_90, &completed, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(test_kernel_open(context, completed, "rope", &k, &err), XQ_ERROR_SPEC);
    cr_assert_str_eq(err.field, "arch");
    cr_assert(strstr(err.message, "'sm_90'") && strstr(err.message, "sm_80"), "%s", err.message);
    error_clear(&err);
    free(completed);
    xq_context_destroy(context);
}

Test(target, nvrtc_that_knows_only_newer_gpus_is_no_toolchain)
{
    fake_nvrtc_use("100,120");
    xq_context *context = open_gpu(86);
    kernel_target chosen;
    cr_assert_eq(context_target(context, context->arch, &chosen, &err), XQ_ERROR_NO_TOOLCHAIN);
    cr_assert(strstr(err.message, "NVRTC 12.0") && strstr(err.message, "sm_86"), "%s", err.message);
    error_clear(&err);
    xq_context_destroy(context);
}

Test(target, software_device_has_one_target_for_all_specs)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    options.device = "sim:a100";
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    cr_assert_str_eq(context->device->properties.ptx_target, "compute_80");
    static const char *const archs[] = {"sm_80", "sm_90a", "sm_120"};
    for (int i = 0; i < 3; i++) {
        kernel_target chosen;
        cr_assert_eq(context_target(context, archs[i], &chosen, &err), XQ_OK, "%s", err.message);
        cr_assert_str_eq(chosen.arch, "compute_80");
    }
    xq_context_destroy(context);
}
