/* Tests kernel stores: the compiled kernel that is used, without NVRTC and with an NVRTC of another
 * version, and the errors that a program gets if it may not compile. The GPU and NVRTC are stand-ins. */
#include "../../../runtime/plan/target.h"
#include "../../support/fake_nvrtc.h"
#include "../../support/files.h"
#include "../../support/kernel_stores.h"
#include "../../support/shell.h"
#include "../../support/tuned_table.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -------------------------------------------------------------- without NVRTC */

Test(stores, a_plan_comes_up_without_nvrtc_and_writes_nothing)
{
    const char *store = stores_made_by(12, NULL);
    char *before = stores_snapshot(store);
    int kernels = stores_said.compiled;
    stores_hide_nvrtc();
    stores_plan_once(store, "");
    cr_expect_eq(stores_said.places_count, kernels);
    for (int i = 0; i < stores_said.places_count; i++)
        cr_expect_str_eq(stores_said.places[i], store);
    cr_expect_eq(stores_said.warnings, 0, "%s", stores_said.last);
    cr_expect_eq(stores_gpu->ptx_modules, 0);
    stores_is_unchanged(store, before);
}

Test(stores, a_found_plan_is_the_compiled_one_bit_for_bit)
{
    const char *store = stores_made_by(12, NULL);
    unsigned char *images[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        xq_context *context = i ? stores_open_gpu(store, "") : stores_open_gpu("", "");
        xq_plan *plan = stores_make_plan(context);
        cr_assert_eq(xq_plan_save(plan, NULL, 0, &bytes[i]), XQ_OK);
        images[i] = malloc(bytes[i]);
        cr_assert_eq(xq_plan_save(plan, images[i], bytes[i], &bytes[i]), XQ_OK);
        xq_plan_destroy(plan);
        xq_context_destroy(context);
        stores_hide_nvrtc();
    }
    cr_assert_eq(bytes[0], bytes[1]);
    cr_expect_arr_eq(images[0], images[1], bytes[0]);
    free(images[0]);
    free(images[1]);
}

Test(stores, the_environment_names_them_and_options_stand_before_it)
{
    const char *store = stores_made_by(12, NULL), *empty = files_directory();
    free(shell_output("mkdir '%s/kernels'", empty));
    stores_hide_nvrtc();
    setenv("XQ_KERNELS", store, 1);
    stores_plan_once(NULL, "");
    cr_expect_str_eq(stores_said.places[0], store);
    xq_context *context = stores_open_gpu(empty, "");
    xq_plan *plan = NULL;
    xq_error_detail detail;
    cr_expect_eq(stores_try_plan(context, stores_spec, &plan, &detail), XQ_ERROR_NO_TOOLCHAIN);
    cr_expect(strstr(detail.message, empty) && !strstr(detail.message, store), "%s", detail.message);
    xq_context_destroy(context);
}

/* If there is neither a store nor NVRTC, kernels from any NVRTC in the cache are used. */
Test(stores, the_cache_serves_without_nvrtc)
{
    const char *folder = stores_made_by(12, NULL);
    stores_hide_nvrtc();
    stores_plan_once("", folder);
    cr_expect_gt(stores_said.found, 3);
    cr_expect_eq(stores_said.warnings, 0, "%s", stores_said.last);
}

/* --------------------------------------------------------------------- order */

Test(stores, they_are_searched_in_order_and_before_the_cache)
{
    const char *first = stores_made_by(12, NULL), *second = files_directory(), *third = files_directory();
    char list[2 * PATH_MAX];
    free(shell_output("cp -r '%s/kernels' '%s' && cp -r '%s/kernels' '%s'", first, second, first, third));
    snprintf(list, sizeof list, "%s:%s", second, first);
    stores_plan_once(list, third); /* with an NVRTC */
    cr_expect_gt(stores_said.places_count, 3);
    for (int i = 0; i < stores_said.places_count; i++)
        cr_expect_str_eq(stores_said.places[i], second);
    free(shell_output("rm -r '%s'/kernels/*", second));
    stores_plan_once(list, third);
    cr_expect_str_eq(stores_said.places[0], first);
    cr_expect_eq(stores_said.compiled, 0);
}

Test(stores, a_damaged_entry_warns_and_the_next_place_serves)
{
    const char *first = stores_made_by(12, NULL), *second = files_directory();
    char list[2 * PATH_MAX];
    int kernels = stores_said.compiled;
    free(shell_output("cp -r '%s/kernels' '%s' && truncate -s -1 '%s'/kernels/*/kernel.cubin", first,
                      second, first));
    snprintf(list, sizeof list, "%s:%s", first, second);
    char *before = stores_snapshot(first);
    stores_hide_nvrtc();
    stores_plan_once(list, "");
    cr_expect_eq(stores_said.warnings, kernels);
    cr_expect(strstr(stores_said.last, first) && strstr(stores_said.last, "damaged; the search goes on"),
              "%s", stores_said.last);
    cr_expect_str_eq(stores_said.places[0], second);
    stores_is_unchanged(first, before);
}

Test(stores, what_is_none_is_left_out_with_a_warning)
{
    const char *store = stores_made_by(12, NULL), *folder = files_directory();
    char list[3 * PATH_MAX];
    files_write(files_path(folder, "file"), "x", 1);
    static const char *const bad[] = {"none", "file", ""};
    static const char *const why[] = {"No such file", "it is no folder", "it has no folder `kernels`"};
    stores_hide_nvrtc();
    for (int i = 0; i < 3; i++) {
        snprintf(list, sizeof list, "%s/%s:%s", folder, bad[i], store);
        stores_plan_once(list, "");
        cr_expect_eq(stores_said.warnings, 1);
        cr_expect(strstr(stores_said.last, folder) && strstr(stores_said.last, why[i]), "%s",
                  stores_said.last);
        cr_expect_str_eq(stores_said.places[0], store);
    }
    snprintf(list, sizeof list, "::%s:", store); /* empty names in the list do not count */
    stores_plan_once(list, "");
    cr_expect_eq(stores_said.warnings, 0, "%s", stores_said.last);
}

/* ----------------------------------------------------- NVRTC and architectures */

static bool all_end_with(const char *end)
{
    for (int i = 0; i < stores_said.found; i++)
        if (!strstr(stores_said.keys[i], end))
            return false;
    return stores_said.found > 0;
}

/* The driver is of CUDA 12.4. A kernel that NVRTC 13 made is taken only if there is no other. */
Test(stores, a_store_serves_by_whichever_nvrtc_it_was_made)
{
    const char *older = stores_made_by(12, NULL), *newer = stores_made_by(13, NULL);
    fake_nvrtc_use_version(12, NULL);
    stores_plan_once(newer, ""); /* another NVRTC is here, and is not used */
    cr_expect_eq(stores_said.compiled, 0);
    cr_expect(all_end_with("-sm_90a-13.0"), "%s", stores_said.keys[0]);
    stores_hide_nvrtc();
    stores_plan_once(newer, "");
    cr_expect(all_end_with("-sm_90a-13.0"), "%s", stores_said.keys[0]);
    free(shell_output("cp -r '%s'/kernels/* '%s/kernels'", older, newer));
    stores_plan_once(newer, "");
    cr_expect(all_end_with("-sm_90a-12.0"), "%s", stores_said.keys[0]);
}

Test(stores, rank_prefers_own_code_then_newer_ptx_then_newer_nvrtc)
{
    device_properties gpu = {.driver = 13000, .arch = "sm_103", .ptx_target = "compute_103"};
    static const struct {
        const char *arch;
        int nvrtc;
    } order[] = {{"sm_103", 13000},      {"sm_103", 12090},      {"compute_103", 12090},
                 {"compute_100", 13000}, {"compute_100", 12080}, {"compute_80", 13000},
                 {"sm_103", 14000},      {"compute_80", 14000}};
    for (size_t i = 0; i + 1 < sizeof order / sizeof order[0]; i++)
        cr_expect_gt(target_rank(&gpu, "sm_103", order[i].arch, order[i].nvrtc),
                     target_rank(&gpu, "sm_103", order[i + 1].arch, order[i + 1].nvrtc), "%zu", i);
    static const char *const others[] = {"sm_100", "sm_90a", "compute_120", "compute_90a", "sm_103a", "x"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        cr_expect_eq(target_rank(&gpu, "sm_103", others[i], 13000), 0, "%s", others[i]);
    /* A spec for an older architecture takes PTX, as it does when NVRTC compiles it. */
    cr_expect_eq(target_rank(&gpu, "sm_90", "sm_90", 13000), 0);
    cr_expect_gt(target_rank(&gpu, "sm_90", "compute_90", 13000), 0);
    cr_expect_eq(target_rank(&gpu, "sm_90", "compute_100", 13000), 0);
    device_properties sim = {.is_sim = true, .arch = "sm_90", .ptx_target = "compute_80"};
    cr_expect_gt(target_rank(&sim, "sm_90", "compute_80", 13000),
                 target_rank(&sim, "sm_90", "compute_80", 12090));
    cr_expect_eq(target_rank(&sim, "sm_90", "compute_90", 13000), 0);
}

/* The store is built where NVRTC knows the GPU, and used where it does not. */
Test(stores, a_cubin_of_a_newer_nvrtc_is_better_than_ptx_of_the_one_here)
{
    stores_gpu = fake_cuda_use();
    stores_gpu->capability[0] = 120;
    const char *store = stores_made_by(13, "80,90,120");
    setenv("FAKE_NVRTC_ARCHITECTURES", "80,90", 1);
    fake_nvrtc_use_version(12, NULL);
    cr_expect_eq(stores_plan_once(store, ""), 0);
    cr_expect_eq(stores_said.compiled, 0);
    cr_expect_gt(stores_plan_once("", ""), 3); /* the NVRTC here makes PTX */
}

/* One kernel has a cubin; the others have only PTX for an older architecture. */
Test(stores, a_plan_may_have_cubins_and_ptx)
{
    const char *cubins = stores_made_by(12, NULL), *store = files_directory();
    setenv("FAKE_NVRTC_ARCHITECTURES", "80", 1);
    fake_nvrtc_use_version(12, NULL);
    stores_plan_once("", store);
    int kernels = stores_said.compiled;
    free(shell_output(
        "cd '%s/kernels' && cp -r $(grep -l 'name merge' */options.txt | cut -d/ -f1) '%s/kernels'", cubins,
        store));
    stores_hide_nvrtc();
    cr_expect_eq(stores_plan_once(store, ""), kernels - 1);
    cr_expect_eq(stores_said.compiled, 0);
}

/* -------------------------------------------------------- nothing is compiled */

static void is_missing(const xq_context_options *options, const char *json, const char *const *parts,
                       const char *field)
{
    xq_context *context = stores_open_with(options);
    xq_plan *plan = NULL;
    xq_error_detail detail;
    cr_expect_eq(stores_try_plan(context, json, &plan, &detail), XQ_ERROR_NO_TOOLCHAIN, "%s",
                 detail.message);
    cr_expect_str_eq(detail.stage, "compile");
    cr_expect_str_eq(detail.field ? detail.field : "", field);
    for (; *parts; parts++)
        cr_expect(strstr(detail.message, *parts), "no '%s' in: %s", *parts, detail.message);
    cr_expect_eq(stores_said.compiled, 0);
    cr_expect_null(plan);
    xq_context_destroy(context);
}

Test(stores, a_miss_names_the_spec_and_where_it_was_looked_for)
{
    static const char other[] = "{" STORES_MODEL ", \"cache\": {\"method\": \"latent\", \"bits\": 2}}";
    const char *store = stores_made_by(12, NULL), *cache_folder = files_directory();
    const char *parts[] = {"kernel append for sm_90a",
                           "XQ_NO_COMPILE=1 forbids",
                           "hidden_size 256",
                           "2 KV heads",
                           "latent",
                           "2 bits",
                           store,
                           cache_folder,
                           NULL};
    xq_context_options options = stores_options(store, cache_folder);
    setenv("XQ_NO_COMPILE", "1", 1); /* although NVRTC is here */
    is_missing(&options, other, parts, "XQ_NO_COMPILE");
    setenv("XQ_NO_COMPILE", "0", 1);
    options.no_compile = 1;
    parts[1] = "no_compile forbids";
    is_missing(&options, other, parts, "no_compile");
    cr_expect_eq(access(files_path(cache_folder, "kernels"), F_OK), -1);
    options.no_compile = 0;
    stores_hide_nvrtc();
    parts[1] = "there is no NVRTC";
    is_missing(&options, other, parts, "");
}

Test(stores, what_is_in_the_cache_is_no_miss)
{
    const char *folder = stores_made_by(12, NULL);
    setenv("XQ_NO_COMPILE", "1", 1);
    stores_plan_once("", folder);
    cr_expect_gt(stores_said.found, 3);
}

/* Tuned parameters give way to the defaults if they do not compile. A kernel that no store has is another
 * matter. */
Test(stores, a_miss_of_tuned_parameters_does_not_fall_back)
{
    static const struct tuned_result results[] = {{.capability = 90, .tokens = 4096, .warps = 4}};
    setenv("XQ_TUNED", "", 1);
    const char *store = stores_made_by(12, NULL);
    tuned_table_use(stores_spec, results, 1);
    xq_context_options options = stores_options(store, "");
    options.no_compile = 1;
    is_missing(&options, stores_spec, (const char *const[]){"kernel attend for", NULL}, "no_compile");
    cr_expect_eq(stores_said.warnings, 0, "%s", stores_said.last);
}

Test(stores, values_that_are_none_are_refused_by_name)
{
    static const char *const bad[] = {"yes", "2", "00", " 1", "true"};
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_context *context = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("XQ_NO_COMPILE", bad[i], 1);
        xq_context_options options = stores_options("", "");
        options.device = "sim";
        cr_expect_eq(xq_context_create(&options, &context), XQ_ERROR_ARGUMENT);
        xq_last_error(context, &detail);
        cr_expect_str_eq(detail.field, "XQ_NO_COMPILE");
        cr_expect(strstr(detail.message, bad[i]) && strstr(detail.message, "valid: 0, 1, or empty"), "%s",
                  detail.message);
        xq_context_destroy(context);
    }
    setenv("XQ_NO_COMPILE", "", 1);
    for (int32_t given = -1; given <= 2; given++) {
        xq_context_options options = stores_options("", "");
        options.device = "sim";
        options.no_compile = given;
        bool good = given == 0 || given == 1;
        cr_expect_eq(xq_context_create(&options, &context), good ? XQ_OK : XQ_ERROR_ARGUMENT, "%d", given);
        xq_last_error(context, &detail);
        cr_expect(good || strcmp(detail.field, "no_compile") == 0, "%s", detail.message);
        xq_context_destroy(context);
    }
}

/* The program was built before the options grew. */
Test(stores, options_of_older_programs_still_work)
{
    xq_context_options options = stores_options("/nowhere", "");
    xq_context *context = NULL;
    options.device = "sim";
    options.no_compile = 7;
    options.struct_size = offsetof(xq_context_options, kernels);
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    cr_expect_eq(stores_said.warnings, 0, "%s", stores_said.last);
    xq_context_destroy(context);
}
