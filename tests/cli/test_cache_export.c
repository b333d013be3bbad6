/* Tests `xq cache export`: the kernels that it writes are those that plans look for, and nothing else is
 * written. The GPU and NVRTC are stand-ins. */
#include "../support/command.h"
#include "../support/fake_nvrtc.h"
#include "../support/files.h"
#include "../support/kernel_stores.h"
#include "../support/shell.h"
#include "../support/tuned_table.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *spec_file(void)
{
    const char *path = files_path(files_directory(), "spec.json");
    files_write(path, stores_spec, strlen(stores_spec));
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
    tuned_table_use(stores_spec, results, result_count);
    fake_nvrtc_use_version(12, NULL);
    snprintf(store, sizeof store, "%s/store", files_directory());
    setenv("XQ_CACHE_DIR", files_directory(), 1);
    struct command_result r =
        command_run("cache export --to %s --spec %s --arch sm_90a", store, spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    stores_hide_nvrtc();
    for (int gpu = 0; gpu < gpus; gpu++) {
        stores_gpu->sm_count = multiprocessors[gpu];
        stores_plan_once(store, "");
        for (int i = 0; i < stores_said.found; i++)
            if (is_new_key(stores_said.keys[i], keys, count))
                snprintf(keys[count++], sizeof keys[0], "%s", stores_said.keys[i]);
    }
    cr_expect_eq(count, entries(store), "%d kernels are used of %d", count, entries(store));
    return count;
}

#define SPLIT(TOKENS) "{\"warps\": 4, \"split_tokens\": " #TOKENS "}"

/* The tables tell the GPU of the test, by its name and its 132 multiprocessors, from another GPU with as
 * many multiprocessors. They also tell long sequences from short ones. */
Test(cache_export, an_export_for_an_architecture_is_what_its_plans_need)
{
    const struct tuned_result results[] = {
        {.device = "Other", .capability = 90, .multiprocessors = 132, .warps = 4},
        {.device = "Fake GPU 0", .capability = 90, .multiprocessors = 132, .tokens = 256, .warps = 8},
        {.device = "Fake GPU 0", .capability = 90, .multiprocessors = 132, .parameters = SPLIT(512)},
        {.device = "Third", .capability = 90, .multiprocessors = 20, .parameters = SPLIT(256)}};
    static const int multiprocessors[] = {132, 131, 20};
    stores_gpu = fake_cuda_use();
    cr_expect_eq(export_and_use(results, 4, multiprocessors, 3), 3 + 4);
}

/* Only GPUs of the same family have results. The nearest of them, by the number of multiprocessors, is
 * taken. */
Test(cache_export, an_export_is_for_gpus_that_no_table_knows)
{
    const struct tuned_result results[] = {
        {.device = "A", .capability = 91, .multiprocessors = 20, .warps = 4},
        {.device = "B", .capability = 91, .multiprocessors = 2000, .warps = 8}};
    static const int multiprocessors[] = {10, 3000};
    stores_gpu = fake_cuda_use();
    cr_expect_eq(export_and_use(results, 2, multiprocessors, 2), 3 + 2);
}

/* The export is for several architectures and for plans of all kinds. */
Test(cache_export, an_export_serves_all_that_was_asked_for)
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
    stores_hide_nvrtc();
    static const int capabilities[] = {80, 90};
    stores_gpu = fake_cuda_use();
    for (int i = 0; i < 6; i++) {
        stores_gpu->capability[0] = capabilities[i % 2];
        xq_context *context = stores_open_gpu(store, "");
        xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
        xq_plan *plan = NULL;
        o.spec_json = stores_spec;
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
    char *before = stores_snapshot(store);
    r = command_run("cache export --to %s --spec %s %s", store, file, options);
    cr_expect(strstr(r.out, "exported 0 kernels") && strstr(r.out, "were there already"), "%s%s", r.out,
              r.err);
    stores_is_unchanged(store, before);
}

/* The model has two kinds of layers, and the second export has two bit widths. */
Test(cache_export, an_export_has_every_kind_of_layer_and_width)
{
    static const char mixed[] =
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"head_dim\": 64, "
        "\"num_hidden_layers\": 2, \"sliding_window\": 64, \"layer_types\": [\"sliding_attention\", "
        "\"full_attention\"]}}";
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
Test(cache_export, an_export_needs_no_cache)
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
    stores_hide_nvrtc();
    stores_plan_once(store, "");
}

Test(cache_export, entries_of_the_cache_are_exported_by_key_family_and_architecture)
{
    const char *from = stores_made_by(12, NULL), *folder = files_directory();
    setenv("XQ_CACHE_DIR", from, 1);
    struct command_result r = command_run("cache export --to %s/all", folder);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(entries(files_path(folder, "all")), entries(from));
    free(shell_output("diff -r '%s/kernels' '%s/all/kernels'", from, folder));
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

Test(cache_export, a_damaged_entry_is_not_exported)
{
    const char *from = stores_made_by(12, NULL), *folder = files_directory();
    setenv("XQ_CACHE_DIR", from, 1);
    free(shell_output(
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
Test(cache_export, an_export_is_refused_where_no_store_can_be)
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
            free(shell_output("ln -s kc link; touch regular"));
        }
        char *before = shell_output("find . | LC_ALL=C sort");
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            r = command_run("cache export --cache-dir kc --to %s %s%s", places[i].to,
                            full ? "" : "--arch sm_80 --spec ", full ? "" : file);
            cr_expect_eq(r.status, places[i].status, "%s: %s%s", places[i].to, r.out, r.err);
            cr_expect(strstr(r.err, places[i].says), "'%s' is missing: %s", places[i].says, r.err);
        }
        char *after = shell_output("find . | LC_ALL=C sort");
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

Test(cache_export, info_shows_stores)
{
    const char *store = stores_made_by(12, NULL);
    char line[PATH_MAX + 64];
    stores_hide_nvrtc();
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
