/* Tests kernel stores: the compiled kernel that is used, without NVRTC and with an NVRTC of another
 * version, and the errors that a program gets if it may not compile. The GPU and NVRTC are stand-ins. */
#include "../runtime/plan/target.h"
#include "command.h"
#include "fake_cuda.h"
#include "fake_nvrtc.h"
#include "files.h"
#include "shell.h"
#include "tuned_table.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
static const char spec[] = "{" MODEL ", \"cache\": {\"method\": \"latent\"}}";
static const char nowhere[] = "/nowhere/libnvrtc.so";

static struct fake_cuda_state *fake;

/* ------------------------------------------------------------------ contexts */

/* Messages of the contexts, counted and kept. */
static struct {
    int warnings, compiled, found;
    char last[1024];           /* the last warning */
    char keys[64][80];         /* keys of the kernels that were found */
    char places[64][PATH_MAX]; /* and the places of these kernels */
    int places_count;
} said;

static void on_message(void *user, xq_log_level level, const char *message)
{
    (void)user;
    char *place = NULL;
    if (level == XQ_LOG_WARNING) {
        said.warnings++;
        snprintf(said.last, sizeof said.last, "%s", message);
    }
    said.compiled += strstr(message, ": compiling for ") != NULL;
    if (strstr(message, ": found as ") && said.found < 64)
        snprintf(said.keys[said.found++], sizeof said.keys[0], "%.79s", strstr(message, " as ") + 4);
    else if ((place = strstr(message, ": found in ")) && said.places_count < 64)
        snprintf(said.places[said.places_count++], sizeof said.places[0], "%s", place + 11);
}

static xq_context_options options_for(const char *kernels, const char *cache_dir)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    memset(&said, 0, sizeof said);
    options.device = "cuda";
    options.kernels = kernels;
    options.cache_dir = cache_dir;
    options.log = on_message;
    return options;
}

static xq_context *open_with(const xq_context_options *options)
{
    xq_context *context = NULL;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    fake = fake ? fake : fake_cuda_use();
    fake->ptx_modules = 0;
    xq_status status = xq_context_create(options, &context);
    xq_last_error(context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return context;
}

static xq_context *open_gpu(const char *kernels, const char *cache_dir)
{
    xq_context_options options = options_for(kernels, cache_dir);
    return open_with(&options);
}

static xq_status try_plan(xq_context *context, const char *json, xq_plan **plan, xq_error_detail *detail)
{
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    o.spec_json = json;
    *detail = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    xq_status status = xq_plan_create(context, &o, plan);
    if (status != XQ_OK)
        cr_assert_eq(xq_last_error(context, detail), XQ_OK);
    return status;
}

static xq_plan *make_plan(xq_context *context)
{
    xq_plan *plan = NULL;
    xq_error_detail detail;
    xq_status status = try_plan(context, spec, &plan, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return plan;
}

/* Opens a context, makes a plan, and closes both. Returns how many kernels of that plan were PTX. */
static int plan_once(const char *kernels, const char *cache_dir)
{
    xq_context *context = open_gpu(kernels, cache_dir);
    xq_plan_destroy(make_plan(context));
    xq_context_destroy(context);
    return fake->ptx_modules;
}

static void hide_nvrtc(void)
{
    setenv("XQ_NVRTC", nowhere, 1);
}

/* Makes the kernels of `spec` for the fake GPU, as an NVRTC of this version compiles them, in a folder of
 * their own. */
static const char *store_by(int major, const char *architectures)
{
    const char *folder = files_directory();
    fake_nvrtc_use_version(major, architectures);
    plan_once("", folder);
    cr_assert_gt(said.compiled, 3);
    return folder;
}

static char *run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *run(const char *format, ...)
{
    char command[3 * PATH_MAX], *output = NULL;
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    cr_assert_eq(shell_run(command, &output), 0, "%s: %s", command, output);
    return output;
}

/* Lists the names, sizes, modes and times of everything in a folder, except the times of the last read. */
static char *snapshot(const char *folder)
{
    return run("find '%s' -printf '%%p %%s %%m %%T@ %%C@\\n' | LC_ALL=C sort", folder);
}

static void is_unchanged(const char *folder, char *before)
{
    char *after = snapshot(folder);
    cr_expect(strcmp(after, before) == 0, "something in %s was changed", folder);
    free(before);
    free(after);
}

/* -------------------------------------------------------------- without NVRTC */

Test(stores, a_plan_comes_up_without_nvrtc_and_writes_nothing)
{
    const char *store = store_by(12, NULL);
    char *before = snapshot(store);
    int kernels = said.compiled;
    hide_nvrtc();
    plan_once(store, "");
    cr_expect_eq(said.places_count, kernels);
    for (int i = 0; i < said.places_count; i++)
        cr_expect_str_eq(said.places[i], store);
    cr_expect_eq(said.warnings, 0, "%s", said.last);
    cr_expect_eq(fake->ptx_modules, 0);
    is_unchanged(store, before);
}

Test(stores, a_found_plan_is_the_compiled_one_bit_for_bit)
{
    const char *store = store_by(12, NULL);
    unsigned char *images[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        xq_context *context = i ? open_gpu(store, "") : open_gpu("", "");
        xq_plan *plan = make_plan(context);
        cr_assert_eq(xq_plan_save(plan, NULL, 0, &bytes[i]), XQ_OK);
        images[i] = malloc(bytes[i]);
        cr_assert_eq(xq_plan_save(plan, images[i], bytes[i], &bytes[i]), XQ_OK);
        xq_plan_destroy(plan);
        xq_context_destroy(context);
        hide_nvrtc();
    }
    cr_assert_eq(bytes[0], bytes[1]);
    cr_expect_arr_eq(images[0], images[1], bytes[0]);
    free(images[0]);
    free(images[1]);
}

Test(stores, the_environment_names_them_and_options_stand_before_it)
{
    const char *store = store_by(12, NULL), *empty = files_directory();
    free(run("mkdir '%s/kernels'", empty));
    hide_nvrtc();
    setenv("XQ_KERNELS", store, 1);
    plan_once(NULL, "");
    cr_expect_str_eq(said.places[0], store);
    xq_context *context = open_gpu(empty, "");
    xq_plan *plan = NULL;
    xq_error_detail detail;
    cr_expect_eq(try_plan(context, spec, &plan, &detail), XQ_ERROR_NO_TOOLCHAIN);
    cr_expect(strstr(detail.message, empty) && !strstr(detail.message, store), "%s", detail.message);
    xq_context_destroy(context);
}

/* If there is neither a store nor NVRTC, kernels from any NVRTC in the cache are used. */
Test(stores, the_cache_serves_without_nvrtc)
{
    const char *folder = store_by(12, NULL);
    hide_nvrtc();
    plan_once("", folder);
    cr_expect_gt(said.found, 3);
    cr_expect_eq(said.warnings, 0, "%s", said.last);
}

/* --------------------------------------------------------------------- order */

Test(stores, they_are_searched_in_order_and_before_the_cache)
{
    const char *first = store_by(12, NULL), *second = files_directory(), *third = files_directory();
    char list[2 * PATH_MAX];
    free(run("cp -r '%s/kernels' '%s' && cp -r '%s/kernels' '%s'", first, second, first, third));
    snprintf(list, sizeof list, "%s:%s", second, first);
    plan_once(list, third); /* with an NVRTC */
    cr_expect_gt(said.places_count, 3);
    for (int i = 0; i < said.places_count; i++)
        cr_expect_str_eq(said.places[i], second);
    free(run("rm -r '%s'/kernels/*", second));
    plan_once(list, third);
    cr_expect_str_eq(said.places[0], first);
    cr_expect_eq(said.compiled, 0);
}

Test(stores, a_damaged_entry_warns_and_the_next_place_serves)
{
    const char *first = store_by(12, NULL), *second = files_directory();
    char list[2 * PATH_MAX];
    int kernels = said.compiled;
    free(
        run("cp -r '%s/kernels' '%s' && truncate -s -1 '%s'/kernels/*/kernel.cubin", first, second, first));
    snprintf(list, sizeof list, "%s:%s", first, second);
    char *before = snapshot(first);
    hide_nvrtc();
    plan_once(list, "");
    cr_expect_eq(said.warnings, kernels);
    cr_expect(strstr(said.last, first) && strstr(said.last, "damaged; the search goes on"), "%s",
              said.last);
    cr_expect_str_eq(said.places[0], second);
    is_unchanged(first, before);
}

Test(stores, what_is_none_is_left_out_with_a_warning)
{
    const char *store = store_by(12, NULL), *folder = files_directory();
    char list[3 * PATH_MAX];
    files_write(files_path(folder, "file"), "x", 1);
    static const char *const bad[] = {"none", "file", ""};
    static const char *const why[] = {"No such file", "it is no folder", "it has no folder `kernels`"};
    hide_nvrtc();
    for (int i = 0; i < 3; i++) {
        snprintf(list, sizeof list, "%s/%s:%s", folder, bad[i], store);
        plan_once(list, "");
        cr_expect_eq(said.warnings, 1);
        cr_expect(strstr(said.last, folder) && strstr(said.last, why[i]), "%s", said.last);
        cr_expect_str_eq(said.places[0], store);
    }
    snprintf(list, sizeof list, "::%s:", store); /* empty names in the list do not count */
    plan_once(list, "");
    cr_expect_eq(said.warnings, 0, "%s", said.last);
}

/* ----------------------------------------------------- NVRTC and architectures */

static bool all_end_with(const char *end)
{
    for (int i = 0; i < said.found; i++)
        if (!strstr(said.keys[i], end))
            return false;
    return said.found > 0;
}

/* The driver is of CUDA 12.4. A kernel that NVRTC 13 made is taken only if there is no other. */
Test(stores, a_store_serves_by_whichever_nvrtc_it_was_made)
{
    const char *older = store_by(12, NULL), *newer = store_by(13, NULL);
    fake_nvrtc_use_version(12, NULL);
    plan_once(newer, ""); /* another NVRTC is here, and is not used */
    cr_expect_eq(said.compiled, 0);
    cr_expect(all_end_with("-sm_90a-13.0"), "%s", said.keys[0]);
    hide_nvrtc();
    plan_once(newer, "");
    cr_expect(all_end_with("-sm_90a-13.0"), "%s", said.keys[0]);
    free(run("cp -r '%s'/kernels/* '%s/kernels'", older, newer));
    plan_once(newer, "");
    cr_expect(all_end_with("-sm_90a-12.0"), "%s", said.keys[0]);
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
    fake = fake_cuda_use();
    fake->capability[0] = 120;
    const char *store = store_by(13, "80,90,120");
    setenv("FAKE_NVRTC_ARCHITECTURES", "80,90", 1);
    fake_nvrtc_use_version(12, NULL);
    cr_expect_eq(plan_once(store, ""), 0);
    cr_expect_eq(said.compiled, 0);
    cr_expect_gt(plan_once("", ""), 3); /* the NVRTC here makes PTX */
}

/* One kernel has a cubin; the others have only PTX for an older architecture. */
Test(stores, a_plan_may_have_cubins_and_ptx)
{
    const char *cubins = store_by(12, NULL), *store = files_directory();
    setenv("FAKE_NVRTC_ARCHITECTURES", "80", 1);
    fake_nvrtc_use_version(12, NULL);
    plan_once("", store);
    int kernels = said.compiled;
    free(run("cd '%s/kernels' && cp -r $(grep -l 'name merge' */options.txt | cut -d/ -f1) '%s/kernels'",
             cubins, store));
    hide_nvrtc();
    cr_expect_eq(plan_once(store, ""), kernels - 1);
    cr_expect_eq(said.compiled, 0);
}

/* -------------------------------------------------------- nothing is compiled */

static void is_missing(const xq_context_options *options, const char *json, const char *const *parts,
                       const char *field)
{
    xq_context *context = open_with(options);
    xq_plan *plan = NULL;
    xq_error_detail detail;
    cr_expect_eq(try_plan(context, json, &plan, &detail), XQ_ERROR_NO_TOOLCHAIN, "%s", detail.message);
    cr_expect_str_eq(detail.stage, "compile");
    cr_expect_str_eq(detail.field ? detail.field : "", field);
    for (; *parts; parts++)
        cr_expect(strstr(detail.message, *parts), "no '%s' in: %s", *parts, detail.message);
    cr_expect_eq(said.compiled, 0);
    cr_expect_null(plan);
    xq_context_destroy(context);
}

Test(stores, a_miss_names_the_spec_and_where_it_was_looked_for)
{
    static const char other[] = "{" MODEL ", \"cache\": {\"method\": \"latent\", \"bits\": 2}}";
    const char *store = store_by(12, NULL), *cache_folder = files_directory();
    const char *parts[] = {"kernel append for sm_90a",
                           "XQ_NO_COMPILE=1 forbids",
                           "hidden_size 256",
                           "2 KV heads",
                           "latent",
                           "2 bits",
                           store,
                           cache_folder,
                           NULL};
    xq_context_options options = options_for(store, cache_folder);
    setenv("XQ_NO_COMPILE", "1", 1); /* although NVRTC is here */
    is_missing(&options, other, parts, "XQ_NO_COMPILE");
    setenv("XQ_NO_COMPILE", "0", 1);
    options.no_compile = 1;
    parts[1] = "no_compile forbids";
    is_missing(&options, other, parts, "no_compile");
    cr_expect_eq(access(files_path(cache_folder, "kernels"), F_OK), -1);
    options.no_compile = 0;
    hide_nvrtc();
    parts[1] = "there is no NVRTC";
    is_missing(&options, other, parts, "");
}

Test(stores, what_is_in_the_cache_is_no_miss)
{
    const char *folder = store_by(12, NULL);
    setenv("XQ_NO_COMPILE", "1", 1);
    plan_once("", folder);
    cr_expect_gt(said.found, 3);
}

/* Tuned parameters give way to the defaults if they do not compile. A kernel that no store has is another
 * matter. */
Test(stores, a_miss_of_tuned_parameters_does_not_fall_back)
{
    static const struct tuned_result results[] = {{.capability = 90, .tokens = 4096, .warps = 4}};
    setenv("XQ_TUNED", "", 1);
    const char *store = store_by(12, NULL);
    tuned_table_use(spec, results, 1);
    xq_context_options options = options_for(store, "");
    options.no_compile = 1;
    is_missing(&options, spec, (const char *const[]){"kernel attend for", NULL}, "no_compile");
    cr_expect_eq(said.warnings, 0, "%s", said.last);
}

Test(stores, values_that_are_none_are_refused_by_name)
{
    static const char *const bad[] = {"yes", "2", "00", " 1", "true"};
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_context *context = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("XQ_NO_COMPILE", bad[i], 1);
        xq_context_options options = options_for("", "");
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
        xq_context_options options = options_for("", "");
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
    xq_context_options options = options_for("/nowhere", "");
    xq_context *context = NULL;
    options.device = "sim";
    options.no_compile = 7;
    options.struct_size = offsetof(xq_context_options, kernels);
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    cr_expect_eq(said.warnings, 0, "%s", said.last);
    xq_context_destroy(context);
}

/* -------------------------------------------------------------------- export */

static const char *spec_file(void)
{
    const char *path = files_path(files_directory(), "spec.json");
    files_write(path, spec, sizeof spec - 1);
    return path;
}

static int entries(const char *store)
{
    return files_count(files_path(store, "kernels"));
}

static bool is_new_key(const char *key, char keys[][80], int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(keys[i], key) == 0)
            return false;
    return true;
}

/* Exports for sm_90a with these tables, and makes plans on GPUs with these numbers of multiprocessors.
 * These plans must find their kernels, and together use all kernels of the export. Returns how many kernels
 * there are. */
static int export_and_use(const struct tuned_result *results, int result_count, const int *multiprocessors,
                          int gpus)
{
    char keys[64][80], store[PATH_MAX];
    int count = 0;
    tuned_table_use(spec, results, result_count);
    fake_nvrtc_use_version(12, NULL);
    snprintf(store, sizeof store, "%s/store", files_directory());
    setenv("XQ_CACHE_DIR", files_directory(), 1);
    struct command_result r =
        command_run("cache export --to %s --spec %s --arch sm_90a", store, spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    hide_nvrtc();
    for (int gpu = 0; gpu < gpus; gpu++) {
        fake->sm_count = multiprocessors[gpu];
        plan_once(store, "");
        for (int i = 0; i < said.found; i++)
            if (is_new_key(said.keys[i], keys, count))
                snprintf(keys[count++], sizeof keys[0], "%s", said.keys[i]);
    }
    cr_expect_eq(count, entries(store), "%d kernels are used of %d", count, entries(store));
    return count;
}

#define SPLIT(TOKENS) "{\"warps\": 4, \"split_tokens\": " #TOKENS "}"

/* The tables tell the GPU of the test, by its name and its 132 multiprocessors, from another GPU with as
 * many multiprocessors. They also tell long sequences from short ones. */
Test(stores, an_export_for_an_architecture_is_what_its_plans_need)
{
    const struct tuned_result results[] = {
        {.device = "Other", .capability = 90, .multiprocessors = 132, .warps = 4},
        {.device = "Fake GPU 0", .capability = 90, .multiprocessors = 132, .tokens = 256, .warps = 8},
        {.device = "Fake GPU 0", .capability = 90, .multiprocessors = 132, .parameters = SPLIT(256)},
        {.device = "Third", .capability = 90, .multiprocessors = 20, .parameters = SPLIT(128)}};
    static const int multiprocessors[] = {132, 131, 20};
    fake = fake_cuda_use();
    cr_expect_eq(export_and_use(results, 4, multiprocessors, 3), 3 + 4);
}

/* Only GPUs of the same family have results. The nearest of them, by the number of multiprocessors, is
 * taken. */
Test(stores, an_export_is_for_gpus_that_no_table_knows)
{
    const struct tuned_result results[] = {
        {.device = "A", .capability = 91, .multiprocessors = 20, .warps = 4},
        {.device = "B", .capability = 91, .multiprocessors = 2000, .warps = 8}};
    static const int multiprocessors[] = {10, 3000};
    fake = fake_cuda_use();
    cr_expect_eq(export_and_use(results, 2, multiprocessors, 2), 3 + 2);
}

/* The export is for several architectures and for plans of all kinds. */
Test(stores, an_export_serves_all_that_was_asked_for)
{
    char store[PATH_MAX];
    fake_nvrtc_use_version(12, NULL);
    snprintf(store, sizeof store, "%s/store", files_directory());
    setenv("XQ_CACHE_DIR", files_directory(), 1);
    static const char options[] = "--arch sm_80,sm_90a --fused --unfused --fp16-kv --max-queries 8 "
                                  "--max-batch 2 --checked";
    const char *file = spec_file();
    struct command_result r = command_run("cache export --to %s --spec %s %s", store, file, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    hide_nvrtc();
    static const int capabilities[] = {80, 90};
    fake = fake_cuda_use();
    for (int i = 0; i < 6; i++) {
        fake->capability[0] = capabilities[i % 2];
        xq_context *context = open_gpu(store, "");
        xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
        xq_plan *plan = NULL;
        o.spec_json = spec;
        o.implementation = (xq_implementation)(i / 2);
        o.max_queries = 8;
        o.max_batch = 2;
        o.checked = 1;
        xq_status status = xq_plan_create(context, &o, &plan);
        xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
        xq_last_error(context, &detail);
        cr_expect_eq(status, XQ_OK, "%s", detail.message);
        xq_plan_destroy(plan);
        xq_context_destroy(context);
    }
    /* The second export finds all kernels there. */
    fake_nvrtc_use_version(12, NULL);
    char *before = snapshot(store);
    r = command_run("cache export --to %s --spec %s %s", store, file, options);
    cr_expect(strstr(r.out, "exported 0 kernels") && strstr(r.out, "were there already"), "%s%s", r.out,
              r.err);
    is_unchanged(store, before);
}

/* The model has two kinds of layers, and the second export has two bit widths. */
Test(stores, an_export_has_every_kind_of_layer_and_width)
{
    static const char mixed[] =
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"head_dim\": 64, "
        "\"num_hidden_layers\": 2, \"sliding_window\": 64, \"layer_types\": "
        "[\"sliding_attention\", \"full_attention\"]}}";
    const char *folder = files_directory(), *file = files_path(folder, "mixed.json");
    fake_nvrtc_use_version(12, NULL);
    files_write(file, mixed, sizeof mixed - 1);
    int one = 0, all = 0;
    char store[PATH_MAX];
    snprintf(store, sizeof store, "%s/store", folder);
    for (int i = 0; i < 2; i++) {
        struct command_result r = command_run("cache export --to %s --spec %s --arch sm_80 %s", store, file,
                                              i ? "--bits 2,4" : "--layer-kind full --bits 4");
        cr_assert_eq(r.status, 0, "%s", r.err);
        *(i ? &all : &one) = entries(store);
    }
    /* attend differs by kind and by width, append and dequantize only by width */
    cr_expect_eq(all - one, 3 + 2, "%d kernels, then %d", one, all);
}

/* There is no cache, as in the build of a container. Nothing is compiled twice. */
Test(stores, an_export_needs_no_cache)
{
    char store[PATH_MAX];
    fake_nvrtc_use_version(12, NULL);
    snprintf(store, sizeof store, "%s/store", files_directory());
    const char *file = spec_file();
    for (int again = 0; again < 2; again++) {
        struct command_result r = command_run(
            "cache export --cache-dir '' --to %s --spec %s --arch sm_90a --fused --unfused", store, file);
        char expected[64];
        snprintf(expected, sizeof expected, "exported %d kernels", again ? 0 : entries(store));
        cr_assert_eq(r.status, 0, "%s", r.err);
        cr_expect(strstr(r.out, expected), "no '%s' in: %s", expected, r.out);
        cr_expect_str_empty(r.err);
    }
    hide_nvrtc();
    plan_once(store, "");
}

Test(stores, entries_of_the_cache_are_exported_by_key_family_and_architecture)
{
    const char *from = store_by(12, NULL), *folder = files_directory();
    setenv("XQ_CACHE_DIR", from, 1);
    struct command_result r = command_run("cache export --to %s/all", folder);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(entries(files_path(folder, "all")), entries(from));
    free(run("diff -r '%s/kernels' '%s/all/kernels'", from, folder));
    r = command_run("cache export --to %s/two --family merge,append --arch sm_90a", folder);
    cr_expect_eq(entries(files_path(folder, "two")), 2, "%s%s", r.out, r.err);
    r = command_run("cache export --to %s/key $(ls %s/two/kernels | head -n 1 | cut -c1-12)", folder,
                    folder);
    cr_expect_eq(entries(files_path(folder, "key")), 1, "%s%s", r.out, r.err);
    r = command_run("cache verify --cache-dir %s/all", folder);
    cr_expect_eq(r.status, 0, "%s", r.err);
    static const char *const none[] = {"--family gemn", "--arch sm_75", "0000",
                                       "--family merge --arch sm_80"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        r = command_run("cache export --to %s/none %s", folder, none[i]);
        cr_expect_eq(r.status, 1, "%s: %s%s", none[i], r.out, r.err);
        cr_expect_eq(access(files_path(folder, "none"), F_OK), -1, "%s", none[i]);
    }
}

Test(stores, a_damaged_entry_is_not_exported)
{
    const char *from = store_by(12, NULL), *folder = files_directory();
    setenv("XQ_CACHE_DIR", from, 1);
    free(run(
        "cd '%s/kernels' && truncate -s 1 $(grep -l 'name merge' */options.txt | cut -d/ -f1)/kernel.ptx",
        from));
    struct command_result r = command_run("cache export --to %s/all", folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "is damaged, and nothing was exported"), "%s", r.err);
    cr_expect_eq(access(files_path(folder, "all"), F_OK), -1);
    r = command_run("cache export --to %s/others --family append,attend", folder);
    cr_expect_eq(r.status, 0, "%s", r.err);
    r = command_run("cache export --to %s", from);
    cr_expect_eq(r.status, 2);
    cr_expect(strstr(r.err, "is the kernel cache itself"), "%s", r.err);
}

/* A store cannot be in these places, for exports of the cache's entries and for exports of what a spec
 * needs. */
Test(stores, an_export_is_refused_where_no_store_can_be)
{
    const char *folder = files_directory();
    char file[PATH_MAX]; /* a copy, because files_path keeps only a few paths */
    snprintf(file, sizeof file, "%s", spec_file());
    static const struct {
        const char *to, *says;
        int status;
    } places[] = {
        {"-", "--to: '-' is standard output; valid: a folder", 1},
        {"a:b", "--to: 'a:b' has a colon, which separates the stores in XQ_KERNELS", 1},
        {"kc", "--to: kc is the kernel cache itself", 2},
        {"link/.", "--to: link/. is the kernel cache itself", 2},
        {"kc/kernels", "--to: kc/kernels lies in the kernel cache kc; give a folder outside of it", 2},
        {"./kc/sub/", "--to: ./kc/sub/ lies in the kernel cache kc", 2},
        {"link/a/b", "--to: link/a/b lies in the kernel cache kc", 2},
        {"regular", "--to: cannot write regular/kernels/", 1},
        {"regular/x", "--to: cannot write regular/x/kernels/", 1},
    };
    fake_nvrtc_use_version(12, NULL);
    cr_assert_eq(chdir(folder), 0);
    for (int full = 1; full >= 0; full--) {
        struct command_result r = {0};
        if (full) {
            r = command_run("cache export --cache-dir kc --to store --spec %s --arch sm_80", file);
            cr_assert_eq(r.status, 0, "%s", r.err);
            free(run("ln -s kc link; touch regular"));
        }
        char *before = run("find . | LC_ALL=C sort");
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            r = command_run("cache export --cache-dir kc --to %s %s%s", places[i].to,
                            full ? "" : "--arch sm_80 --spec ", full ? "" : file);
            cr_expect_eq(r.status, places[i].status, "%s: %s%s", places[i].to, r.out, r.err);
            cr_expect(strstr(r.err, places[i].says), "'%s' is missing: %s", places[i].says, r.err);
        }
        char *after = run("find . | LC_ALL=C sort");
        cr_expect_str_eq(after, before);
        free(before);
        free(after);
    }
    struct command_result r = command_run("cache export --cache-dir outer/kernels --to outer --arch sm_80 "
                                          "--spec %s",
                                          file);
    cr_expect_eq(r.status, 2, "%s%s", r.out, r.err);
    cr_expect(strstr(r.err, "--to: the kernel cache outer/kernels lies in outer/kernels; give another"),
              "%s", r.err);
    /* Neither folder exists yet. */
    r = command_run("cache export --cache-dir new/ --to new/store --arch sm_80 --spec %s", file);
    cr_expect_eq(r.status, 2, "%s%s", r.out, r.err);
    cr_expect(strstr(r.err, "--to: new/store lies in the kernel cache new"), "%s", r.err);
    cr_expect_eq(access("outer", F_OK), -1);
    cr_expect_eq(access("new", F_OK), -1);
    r = command_run("cache export --cache-dir kc --to kc2/kernels");
    cr_expect_eq(r.status, 0, "%s", r.err);
}

Test(stores, info_shows_them)
{
    const char *store = store_by(12, NULL);
    char line[PATH_MAX + 64];
    hide_nvrtc();
    setenv("XQ_NO_COMPILE", "1", 1);
    snprintf(line, sizeof line, "\nstores     %s: %d kernels, read only\n", store, entries(store));
    struct command_result r = command_run("info --kernels %s --cache-dir ''", store);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, line), "%s", r.out);
    cr_expect(strstr(r.out, "\ncompiles   nothing: XQ_NO_COMPILE is set"), "%s", r.out);
    r = command_run("info --kernels %s --json -", store);
    cr_expect(strstr(r.out, "\"no_compile\":\ttrue") && strstr(r.out, "\"stores\":\t[{"), "%s", r.out);
    unsetenv("XQ_NO_COMPILE");
    r = command_run("info --no-compile");
    cr_expect(strstr(r.out, "\ncompiles   nothing: no_compile is set"), "%s", r.out);
}
