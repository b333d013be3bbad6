/* Tests xq tune on the software device: which candidates are tried, which may win, and what becomes of
 * candidates that are wrong, fault or hang. */
#include "../autotune/search/store.h"
#include "../gen/embed.h"
#include "command.h"
#include "fake_cuda.h"
#include "files.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes the spec of a small layer, which is quick on the software device. */
static const char *spec_file(void)
{
    static const char text[] =
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}}";
    static char path[4096];
    if (!*path) {
        snprintf(path, sizeof path, "%s", files_path(files_directory(), "spec.json"));
        files_write(path, text, strlen(text));
    }
    return path;
}

static xq_status count_row(void *user, const store_row *row, error *err)
{
    ++*(int *)user;
    (void)row;
    return err->status;
}

/* Waits until the store has a row. The store may not exist yet. */
static void wait_for_a_row(const char *path)
{
    int rows = 0;
    for (int i = 0; rows == 0 && i < 2000; i++) {
        store *s = NULL;
        error err = ERROR_INIT;
        usleep(100000);
        if (store_open(path, STORE_READ, &s, &err) == XQ_OK)
            store_list(s, NULL, count_row, &rows, &err);
        store_close(s);
        error_clear(&err);
    }
    cr_assert_gt(rows, 0);
}

/* Returns the result of a run, which must succeed; the caller deletes it. */
static cJSON *tune(const char *arguments)
{
    struct command_result r =
        command_run("tune --spec %s --device sim --json - %s", spec_file(), arguments);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cJSON *root = cJSON_Parse(r.out);
    cr_assert_not_null(root, "%s", r.out);
    return root;
}

static const cJSON *job_of(const cJSON *root, int index)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(root, "jobs"), index);
}

static double number(const cJSON *object, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItem(object, name));
}

static const char *text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(object, name));
}

static double parameter(const cJSON *trial, const char *name)
{
    return number(cJSON_GetObjectItem(trial, "parameters"), name);
}

/* ------------------------------------------------------------------ results */

Test(tune, the_best_is_one_that_was_measured_and_no_slower_than_the_default, .timeout = 300)
{
    cJSON *root = tune("--contexts 100 --most 6");
    const cJSON *job = job_of(root, 0), *best = cJSON_GetObjectItem(job, "best"),
                *standard = cJSON_GetObjectItem(job, "default"),
                *trials = cJSON_GetObjectItem(job, "trials"), *t;
    bool found = false, found_default = false;
    cr_expect_eq(cJSON_GetArraySize(trials), 6);
    cJSON_ArrayForEach(t, trials)
    {
        cr_expect_str_eq(text(t, "outcome"), "measured");
        cr_expect_leq(number(best, "time_us"), number(t, "time_us"));
        cr_expect_lt(number(t, "error"), 2e-3);
        found |= cJSON_Compare(t, best, 1);
        found_default |= cJSON_Compare(t, standard, 1);
    }
    cr_expect(found && found_default);
    cr_expect_eq(number(job, "gain"), number(standard, "time_us") / number(best, "time_us"));
    cr_expect_geq(number(job, "gain"), 1);
    cr_expect(cJSON_IsTrue(cJSON_GetObjectItem(job, "complete")));
    cr_expect_str_eq(text(root, "time_kind"), "modelled");
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(root, "load")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(job, "launch")));
    cJSON_Delete(root);
}

Test(tune, what_it_found_is_what_compare_measures, .timeout = 300)
{
    cJSON *root = tune("--contexts 100 --strategy exhaustive --most 5");
    const cJSON *best = cJSON_GetObjectItem(job_of(root, 0), "best");
    char *parameters = cJSON_PrintUnformatted(cJSON_GetObjectItem(best, "parameters"));
    struct command_result r = command_run(
        "compare --spec %s --device sim --synthetic --tokens 100 --set 'tuning.attend=%s' --json -",
        spec_file(), parameters);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cJSON *compared = cJSON_Parse(r.out), *row;
    double microseconds = 0, expected = number(best, "time_us");
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(compared, "rows"))
    {
        if (strcmp(text(row, "name"), "fused") == 0)
            microseconds = number(row, "time_us");
    }
    cr_expect_float_eq(microseconds, expected, 1e-6, "%g and %g", microseconds, expected);
    cJSON_Delete(compared);
    cJSON_Delete(root);
    free(parameters);
}

Test(tune, the_same_seed_gives_the_same_bytes, .timeout = 300)
{
    char *first = NULL;
    for (int i = 0; i < 2; i++) {
        struct command_result r = command_run(
            "tune --spec %s --device sim:a100 --json - --contexts 60,33 --batches 1,3 --most 3 --seed 5",
            spec_file());
        cr_assert_eq(r.status, 0, "%s", r.err);
        if (first)
            cr_expect_str_eq(first, r.out);
        else
            first = strdup(r.out);
    }
    cJSON *root = cJSON_Parse(first);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs")), 4);
    cr_expect_eq(number(job_of(root, 1), "tokens"), 60);
    cr_expect_eq(number(job_of(root, 1), "batch"), 3);
    cJSON_Delete(root);
    free(first);
}

/* The runs tune every family that a step of any implementation runs, and a method with an accumulator. */
Test(tune, other_families_and_methods, .timeout = 300)
{
    static const struct {
        const char *arguments;
        int jobs;
    } runs[] = {
        {"--contexts 40 --most 2 --families kv_attend,kv_attend_e4m3,gemm,rope,dequantize", 5},
        {"--contexts 40 --most 2 --families attend,accumulate --set cache.method='\"x-cl\"'", 2},
        {"--contexts 40 --most 2 --queries 3", 1},
    };
    for (int i = 0; i < 3; i++) {
        cJSON *root = tune(runs[i].arguments);
        cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs")), runs[i].jobs);
        for (int k = 0; k < runs[i].jobs; k++)
            cr_expect_geq(number(job_of(root, k), "gain"), 1, "%s: %s", runs[i].arguments,
                          text(job_of(root, k), "family"));
        cJSON_Delete(root);
    }
}

Test(tune, a_dry_run_measures_nothing)
{
    struct command_result r =
        command_run("tune --spec %s --device sim --dry-run --families attend,gemm", spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "attend, 4096 tokens, 1 sequence, 1 query each: "), "%s", r.out);
    cr_expect(strstr(r.out, "gemm, 4096 tokens"), "%s", r.out);
    cr_expect(strstr(r.out, " of 25920 combinations are valid for this spec\n"), "%s", r.out);
    cr_expect(
        strstr(r.out,
               "\n    predicted us  bound    warps  m_tiles  key_warps  stages  stage_steps  split_tokens  "
               "query_rows  value_tiles\n"),
        "%s", r.out);
    cr_expect(strstr(r.out, "\n    predicted us  bound    rows  cols  warp_rows  warp_cols  stages\n"),
              "%s", r.out);
    cr_expect_null(strstr(r.out, "best"));
    cJSON *root = tune("--dry-run");
    const cJSON *likely = cJSON_GetObjectItem(job_of(root, 0), "likely"), *item;
    double before = 0;
    cr_expect_eq(cJSON_GetArraySize(likely), 16);
    cJSON_ArrayForEach(item, likely)
    {
        cr_expect_geq(number(item, "predicted_us"), before);
        cr_expect_gt(parameter(item, "warps"), 0);
        before = number(item, "predicted_us");
        cr_expect_gt(before, 2);
    }
    cr_expect_str_eq(text(root, "device"), "NVIDIA H100 SXM5 80GB (software device)");
    cr_expect_str_eq(text(root, "device_kind"), "sim");
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(job_of(root, 0), "trials")), 0);
    cr_expect_gt(number(cJSON_GetObjectItem(job_of(root, 0), "combinations"), "valid"), 1);
    cJSON_Delete(root);
}

/* On a GPU, the ceilings of the model are measured, which takes a compiler. Listing the space takes
 * none. */
Test(tune, a_dry_run_without_a_compiler_lists_candidates_without_predictions)
{
    fake_cuda_use();
    setenv("XQ_NVRTC", "/nowhere/libnvrtc.so", 1);
    struct command_result r = command_run("tune --spec %s --dry-run --cache-dir ''", spec_file());
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, " combinations are valid for this spec\n"), "%s", r.out);
    cr_expect_null(strstr(r.out, "predicted"));
    cr_expect(strstr(r.err, "xq tune: cannot predict times: ") && strstr(r.err, "/nowhere/libnvrtc.so"),
              "%s", r.err);
}

Test(tune, the_table_says_how_to_use_what_it_found, .timeout = 300)
{
    struct command_result r =
        command_run("tune --spec %s --device sim:rtx4090 --contexts 100 --most 12", spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "NVIDIA GeForce RTX 4090 (software device)\nfamily"), "%s", r.out);
    cr_expect(strstr(r.out, "12 of "), "%s", r.out);
    cr_expect(strstr(r.out, ", modelled. A gain of 1 keeps the default"), "%s", r.out);
    cr_expect(strstr(r.out, "attend, 100 tokens, batch 1: --set 'tuning.attend={\""), "%s", r.out);
    r = command_run("tune --spec %s --device sim --contexts 100 --most 8 --bits 4,2", spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "attend, 4 bits, 100 tokens, batch 1: --set '"), "%s", r.out);
    cr_expect(strstr(r.out, "attend, 2 bits, 100 tokens, batch 1: --set '"), "%s", r.out);
}

/* ---------------------------------------------------------------- bad kernels */

/* Returns a folder with one of the built-in templates, in which `from` is replaced by `to`. */
static const char *changed(const char *name, const char *from, const char *to)
{
    const struct embed_file *file = embed_files;
    const char *folder = files_directory();
    while (file->name && strcmp(file->name, name) != 0)
        file++;
    const char *place = file->name ? strstr(file->text, from) : NULL;
    cr_assert_not_null(place, "%s has no '%s' any more", name, from);
    char *text = malloc(strlen(file->text) + strlen(to) + 1);
    sprintf(text, "%.*s%s%s", (int)(place - file->text), file->text, to, place + strlen(from));
    files_write(files_path(folder, strrchr(name, '/') + 1), text, strlen(text));
    free(text);
    return folder;
}

/* Trials of candidates with this parameter must have this outcome and reason, and none of them may win. */
static void expect_bad(const char *folder, const char *name, int value, const char *outcome,
                       const char *reason)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments, "--contexts 40 --most 14 --templates %s", folder);
    cJSON *root = tune(arguments);
    const cJSON *job = job_of(root, 0), *t;
    int bad = 0, good = 0;
    cJSON_ArrayForEach(t, cJSON_GetObjectItem(job, "trials"))
    {
        const bool of_these = (int)parameter(t, name) == value;
        cr_expect_str_eq(text(t, "outcome"), of_these ? outcome : "measured");
        if (of_these)
            cr_expect(strstr(text(t, "reason"), reason), "%s", text(t, "reason"));
        bad += of_these;
        good += !of_these;
    }
    cr_expect(bad > 0 && good > 0, "%d and %d", bad, good);
    cr_expect_neq((int)parameter(cJSON_GetObjectItem(job, "best"), name), value);
    cJSON_Delete(root);
}

Test(tune, a_wrong_kernel_cannot_win, .timeout = 300)
{
    expect_bad(changed("templates/attend.spec.lua", "score_scale = LOG2_E",
                       "score_scale = (p.warps == 4 and 1.1 or 1) * LOG2_E"),
               "warps", 4, "wrong", "outputs differ from the reference by");
}

Test(tune, a_kernel_that_faults_costs_only_itself, .timeout = 300)
{
    expect_bad(changed("templates/attend.cu.lt", "{${guard}",
                       "{${guard}\n% if tuning.stages == 2 then\n    *(volatile int *)8 = 0;\n% end"),
               "stages", 2, "crashed", "attend");
}

Test(tune, a_kernel_that_does_not_compile_is_refused, .timeout = 300)
{
    expect_bad(changed("templates/attend.cu.lt", "{${guard}",
                       "{${guard}\n% if tuning.stages == 2 then\n    no_such_name();\n% end"),
               "stages", 2, "refused", "no_such_name");
}

/* Returns the number of warps of the candidate that wins, which must not be that of the default. */
static int warps_of_best(const char *arguments)
{
    cJSON *root = tune(arguments);
    const cJSON *job = job_of(root, 0);
    int warps = (int)parameter(cJSON_GetObjectItem(job, "best"), "warps");
    cr_expect(cJSON_IsTrue(cJSON_GetObjectItem(job, "confirmed")));
    cr_assert_neq(warps, (int)parameter(cJSON_GetObjectItem(job, "default"), "warps"));
    cJSON_Delete(root);
    return warps;
}

/* Counts the trials that are wrong. Each must have this number of warps and this reason, and the winner
 * must have another number. */
static int count_wrong(const cJSON *job, int warps, const char *reason)
{
    const cJSON *t;
    int wrong = 0;
    cJSON_ArrayForEach(t, cJSON_GetObjectItem(job, "trials"))
    {
        const bool bad = strcmp(text(t, "outcome"), "wrong") == 0;
        wrong += bad;
        cr_expect(!bad || ((int)parameter(t, "warps") == warps && strstr(text(t, "reason"), reason)), "%s",
                  bad ? text(t, "reason") : "");
    }
    cr_expect_neq((int)parameter(cJSON_GetObjectItem(job, "best"), "warps"), warps);
    return wrong;
}

/* The kernel is right for one sequence, which is the case that is tuned for. */
Test(tune, a_kernel_that_is_wrong_at_other_shapes_cannot_win, .timeout = 300)
{
    static const char few[] = "--contexts 100 --most 12 --strategy exhaustive";
    const int warps = warps_of_best(few);
    char code[256], arguments[512];
    snprintf(code, sizeof code,
             "{${guard}\n%% if tuning.warps == %d then\n    if (blockIdx.z > 0)\n        return;\n%% end",
             warps);
    snprintf(arguments, sizeof arguments, "%s --templates %s", few,
             changed("templates/attend.cu.lt", "{${guard}", code));
    cJSON *root = tune(arguments);
    cr_expect_geq(count_wrong(job_of(root, 0), warps, "sequences of "), 1);
    cJSON_Delete(root);
}

/* A launch over outputs that are no longer poisoned breaks all launches after it. Measuring on the software
 * device makes no such launch; verifying the winner again makes one. */
Test(tune, a_kernel_that_fails_after_repeats_is_wrong_and_the_next_best_wins, .timeout = 300)
{
    static const char few[] = "--contexts 100 --most 12 --strategy exhaustive";
    const int warps = warps_of_best(few);
    const char *folder = files_directory();
    char code[512], arguments[4400];
    snprintf(code, sizeof code,
             "__device__ int broken;\n"
             "extern \"C\" __global__ void __launch_bounds__(work::THREADS, 1) xq_attend("
             "const __grid_constant__ ${params(\"xq_attend_params\")} p)\n{${guard}\n"
             "%% if tuning.warps == %d then\n"
             "    const bool poisoned = *(const unsigned short *)p.out == 0xffff;\n"
             "    if (poisoned && broken)\n        return;\n"
             "    if (!poisoned && threadIdx.x + blockIdx.x + blockIdx.y + blockIdx.z == 0)\n"
             "        broken = 1;\n%% end",
             warps);
    snprintf(arguments, sizeof arguments, "%s --store %s/one.db --templates %s", few, folder,
             changed("templates/attend.cu.lt",
                     "extern \"C\" __global__ void __launch_bounds__(work::THREADS, 1) xq_attend("
                     "const __grid_constant__ ${params(\"xq_attend_params\")} p)\n{${guard}",
                     code));
    cJSON *root = tune(arguments);
    const cJSON *job = job_of(root, 0);
    const int wrong =
        count_wrong(job, warps, "after it was measured, outputs differ from the reference by");
    cr_expect_geq(wrong, 2, "%d", wrong);
    cr_expect_geq(number(job, "gain"), 1);
    /* The store keeps the outcome, so that the next run does not begin with this candidate again. */
    store *s = NULL;
    error err = ERROR_INIT;
    char path[4096];
    int rows = 0;
    const store_outcome outcome = STORE_WRONG;
    snprintf(path, sizeof path, "%s/one.db", folder);
    cr_assert_eq(store_open(path, STORE_READ, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(store_list(s, &(store_filter){.outcome = &outcome}, count_row, &rows, &err), XQ_OK);
    cr_expect_eq(rows, wrong);
    store_close(s);
    cJSON_Delete(root);
}

Test(tune, a_default_that_does_not_work_is_an_error)
{
    const char *folder =
        changed("templates/attend.spec.lua", "score_scale = LOG2_E", "score_scale = 1.1 * LOG2_E");
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 40 --templates %s", spec_file(), folder);
    cr_expect_eq(r.status, 1, "%d", r.status);
    cr_expect(strstr(r.err, "attend with its default parameters: wrong: outputs differ"), "%s", r.err);
}

/* Makes a kernel that runs for minutes on any machine, but that the software device does not take for an
 * endless loop. */
static const char *slow(const char *condition)
{
    char text[256];
    snprintf(text, sizeof text,
             "{${guard}\n%% if %s then\n    for (volatile int i = 0; i < 4000000; i++);\n%% end",
             condition);
    return changed("templates/attend.cu.lt", "{${guard}", text);
}

Test(tune, a_budget_that_is_too_short_is_no_hang, .timeout = 300)
{
    const char *folder = slow("true");
    struct command_result r = command_run("tune --spec %s --device sim --contexts 40 --batches 64 "
                                          "--templates %s --budget 5s --store %s/one.db",
                                          spec_file(), folder, files_directory());
    cr_expect_eq(r.status, 1);
    cr_expect_str_eq(
        r.err,
        "xq tune: --budget: 5s is too short to set up and measure attend once at 40 tokens; give more\n");
    char arguments[512];
    snprintf(arguments, sizeof arguments, "--contexts 40 --batches 64 --budget 12s --templates %s",
             slow("tuning.warps ~= 8"));
    cJSON *root = tune(arguments);
    const cJSON *job = job_of(root, 0), *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItem(job, "trials"))
        cr_expect_str_eq(text(t, "outcome"), "measured");
    cr_expect_not(cJSON_IsTrue(cJSON_GetObjectItem(job, "complete")));
    cr_expect_geq(number(job, "gain"), 1);
    cJSON_Delete(root);
}

/* ------------------------------------------------------------------- limits */

Test(tune, bad_input_is_named)
{
    static const struct {
        const char *arguments;
        int status;
        const char *message;
    } cases[] = {
        {"--budget 10", 1,
         "--budget: '10' is no time; valid: a number above 0 with s, m or h, for example 90s, 10m or 2h"},
        {"--budget 0s", 1, "--budget: '0s' is no time"},
        {"--budget 1x", 1, "--budget: '1x' is no time"},
        {"--budget -5m", 1, "--budget: '-5m' is no time"},
        {"--contexts 0", 1, "--contexts: '0' is not valid; valid: 1 to 16777216"},
        {"--contexts 4k", 1, "--contexts: '4k' is not valid"},
        {"--batches 70000", 1, "--batches: '70000' is not valid; valid: 1 to 65535"},
        {"--bits 5", 1, "cache.bits"},
        {"--bits 0", 1, "--bits: '0' is no bit width; valid: 2, 3, 4, 8"},
        {"--bits 4,x", 1, "--bits: 'x' is no bit width; valid: 2, 3, 4, 8"},
        {"--dry-run --budget 5m", 2, "--budget: has no effect with --dry-run, which measures nothing"},
        {"--dry-run --most 5", 2, "--most: has no effect with --dry-run"},
        {"--dry-run --strategy random", 2, "--strategy: has no effect with --dry-run"},
        {"--families merge", 1,
         "--families: 'merge' is no family that a step of attention runs; valid: attend, append, "},
        {"--families accumulate --contexts 40", 1, "accumulate cannot serve this spec"},
        {"--families attend,rope,accumulate --contexts 40", 1, "accumulate cannot serve this spec"},
        {"--contexts 40,2 --queries 5", 1, "--queries: 5; valid: 1 to 2"},
        {"--strategy best", 1, "--strategy: 'best' is not known; valid: model, random, exhaustive"},
        {"--most 0", 1, "--most"},
        {"--launch twice", 1, "--launch: 'twice' is not known; valid: graph, stream"},
        {"--launch graph --contexts 40", 1,
         "--launch: has no effect on the software device, whose times are modelled"},
        {"--launch stream --dry-run", 2, "--launch: has no effect with --dry-run, which measures nothing"},
        {"--shard 0/2", 1,
         "--shard: '0/2' is not valid; valid: I/N, with I from 1 to N and N from 1 to 1000, for example "
         "2/8"},
        {"--shard 3/2", 1, "--shard: '3/2' is not valid"},
        {"--shard 1", 1, "--shard: '1' is not valid"},
        {"--shard 1/2/3", 1, "--shard: '1/2/3' is not valid"},
        {"--shard 1/2 --dry-run", 2, "--shard: has no effect with --dry-run"},
        {"--queries 5 --contexts 4", 1, "--queries: 5; valid: 1 to 4"},
        {"--bits 4 --set cache.bits=8", 2, "--bits and --set cache.bits: give one of them"},
        {"--budget 0.001s --contexts 40", 1, "--budget: 0.001s is too short to set up and measure "},
        {"--set arch='\"sm_80\"'", 2, "arch"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct command_result r =
            command_run("tune --spec %s --device sim %s", spec_file(), cases[i].arguments);
        cr_expect_eq(r.status, cases[i].status, "%s: %d, %s", cases[i].arguments, r.status, r.err);
        cr_expect(strstr(r.err, cases[i].message), "%s: %s", cases[i].arguments, r.err);
        cr_expect_str_empty(r.out, "%s", cases[i].arguments);
    }
    command_refuses("tune --spec x.json --store a.db --json a.db", 2,
                    "xq tune: --store and --json name the same file; give two files");
    command_refuses("tune --device sim --model smollm2-135m,,phi-2", 1,
                    "xq tune: --model: 'smollm2-135m,,phi-2' has an empty name; valid: NAME,NAME,...");
    command_refuses("tune --device sim --model smollm2-135m,", 1,
                    "xq tune: --model: 'smollm2-135m,' has an empty name; valid: NAME,NAME,...");
    struct command_result r = command_run("tune --device sim --model smollm2-135m,smollm3");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "xq tune: model: 'smollm3' is no preset; did you mean"), "%s", r.err);
}

/* With any parameters, append writes the same bytes. The step that is timed appends one token to each
 * sequence. */
Test(tune, append_is_tuned_too, .timeout = 300)
{
    cJSON *root = tune("--contexts 40 --batches 3 --families append");
    const cJSON *job = job_of(root, 0), *trial;
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(job, "trials")), 8);
    cJSON_ArrayForEach(trial, cJSON_GetObjectItem(job, "trials"))
    {
        cr_expect_str_eq(text(trial, "outcome"), "measured");
    }
    cr_expect_gt(number(job, "limit_us"), 0);
    cr_expect_lt(number(job, "limit_us"), number(cJSON_GetObjectItem(job, "best"), "time_us"));
    cJSON_Delete(root);
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 40 --families append --queries 2", spec_file());
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "--queries: 2 is not valid with --families append"), "%s", r.err);
    /* A kernel that stores other codes is wrong, though attention over its own cache is right. */
    const char *folder = changed("templates/append.cu.lt", "${f32(cache.clip)}",
                                 "${f32(tuning.warps == 4 and 0.5 or cache.clip)}");
    char arguments[4200];
    snprintf(arguments, sizeof arguments, "--contexts 40 --families append --templates %s", folder);
    root = tune(arguments);
    int wrong = 0;
    cJSON_ArrayForEach(trial, cJSON_GetObjectItem(job_of(root, 0), "trials"))
    {
        if (parameter(trial, "warps") != 4)
            continue;
        cr_expect_str_eq(text(trial, "outcome"), "wrong");
        cr_expect_str_eq(text(trial, "reason"),
                         "the pages that it wrote differ from those of the first candidate of its process");
        wrong++;
    }
    cr_expect_eq(wrong, 4);
    cJSON_Delete(root);
    r = command_run(
        "tune --model smollm2-135m --set 'cache.axis_k=\"channel\"' --device sim --contexts 256 "
        "--families append");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "--contexts: 256 tokens fill a group of 128, which append cannot fill twice"),
              "%s", r.err);
}

Test(tune, several_models_are_tuned_for, .timeout = 300)
{
    struct command_result r =
        command_run("tune --model smollm2-135m,smollm2-360m --device sim --contexts 40 "
                    "--most 2 --json -");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cJSON *root = cJSON_Parse(r.out);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs")), 2, "%s", r.out);
    cr_expect_str_eq(text(cJSON_GetObjectItem(job_of(root, 0), "spec"), "model"), "smollm2-135m");
    cr_expect_str_eq(text(cJSON_GetObjectItem(job_of(root, 1), "spec"), "model"), "smollm2-360m");
    cJSON_Delete(root);
    r = command_run("tune --model smollm2-135m,smollm2-360m --device sim --contexts 40 --most 1");
    cr_expect(strstr(r.out, "\nmodel                family") &&
                  strstr(r.out, "\nsmollm2-360m         attend"),
              "%s", r.out);
}

/* Without a model, xq tune takes all presets, but only one of those whose kernels are the same. */
Test(tune, all_presets_are_tuned_for_where_none_is_named, .timeout = 300)
{
    struct command_result r = command_run("tune --device sim --dry-run --json -");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.err, "xq tune: no model is named, so xq tunes "), "%s", r.err);
    cJSON *root = cJSON_Parse(r.out);
    int jobs = cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs"));
    cr_expect(jobs > 20, "%d", jobs);
    char said[128];
    snprintf(said, sizeof said, "tunes %d presets", jobs);
    cr_expect(strstr(r.err, said), "%s", r.err);
    cJSON_Delete(root);
    r = command_run("tune --device sim --dry-run --families key_norms --json -");
    cr_assert_eq(r.status, 0, "%s", r.err);
    root = cJSON_Parse(r.out);
    int fewer = cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs"));
    cr_expect(fewer > 0 && fewer < jobs, "only presets with that norm: %d", fewer);
    cJSON_Delete(root);
}

/* A template in which the kernels for 8 bits do not compile fails only those jobs. */
Test(tune, a_job_that_fails_does_not_end_the_others, .timeout = 300)
{
    const char *folder = changed("templates/attend.cu.lt", "{${guard}",
                                 "{${guard}\n% if spec.cache.bits == 8 then\n#error eight bits\n% end\n");
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 40 --bits 8,4 --most 2 --templates %s --json -",
                    spec_file(), folder);
    cr_expect_eq(r.status, 1);
    cJSON *root = cJSON_Parse(r.out);
    cr_assert_not_null(root, "%s", r.err);
    const char *failed = text(job_of(root, 0), "failed");
    cr_expect(failed && strstr(failed, "attend with its default parameters: "), "%s", r.out);
    cr_expect_null(cJSON_GetObjectItem(job_of(root, 0), "best"));
    cr_expect_not_null(cJSON_GetObjectItem(job_of(root, 1), "best"));
    cJSON_Delete(root);
}

/* Interrupts a long run once it has measured the default. Returns the exit status of the run. */
static int interrupted_run(const char *arguments, const char *output)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "one.db"));
    pid_t pid = command_start("tune --spec %s --device sim --contexts 2000 --batches 4 --store %s %s %s",
                              spec_file(), path, arguments, output);
    wait_for_a_row(path);
    kill(pid, SIGINT);
    return command_wait(pid);
}

Test(tune, an_interrupt_ends_it_with_what_there_is, .timeout = 300)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "out.json"));
    cr_expect_eq(interrupted_run("--json", path), 1);
    size_t size;
    char *json = files_read(path, &size);
    cJSON *root = cJSON_Parse(json);
    const cJSON *job = job_of(root, 0);
    cr_assert_not_null(job, "%s", json);
    cr_expect(!cJSON_IsTrue(cJSON_GetObjectItem(job, "complete")));
    cJSON_Delete(root);
    free(json);
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "out.txt"));
    cr_expect_eq(interrupted_run(">", path), 1);
    char *table = files_read(path, &size);
    cr_expect(strstr(table, ", interrupted\n"), "%s", table);
    free(table);
}

/* -------------------------------------------------------------------- store */

/* Returns the number of trials that a run took from the store. */
static int from_store(const char *path, const char *arguments)
{
    struct command_result r =
        command_run("tune --spec %s --device sim --store %s %s", spec_file(), path, arguments);
    cr_assert_eq(r.status, 0, "%s", r.err);
    const char *found = strstr(r.out, " from the store");
    while (found && found > r.out && found[-1] != ' ')
        found--;
    return found ? atoi(found) : 0;
}

Test(tune, a_store_answers_what_was_measured_before, .timeout = 300)
{
    const char *folder = files_directory();
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(folder, "one.db"));
    cr_expect_eq(from_store(path, "--contexts 50 --most 4"), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --most 4"), 4);
    cr_expect_eq(from_store(path, "--contexts 50 --most 6"), 4, "the order is the same, and longer");
    cr_expect_eq(from_store(path, "--contexts 51 --most 4"), 0, "another size");
    cr_expect_eq(from_store(path, "--contexts 50 --most 4 --bits 2"), 0, "another spec");
    cr_expect_eq(from_store(path, "--contexts 50 --most 4 --families kv_attend"), 0, "another family");
    const char *again = "--contexts 50 --most 4 --json - --store ";
    char arguments[4300];
    snprintf(arguments, sizeof arguments, "%s%s", again, path);
    cJSON *root = tune(arguments);
    cr_expect_gt(number(job_of(root, 0), "limit_us"), 0, "the last rounds are measured");
    cJSON_Delete(root);
    /* A step of the unfused pipeline runs other families too. */
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 1);
    struct command_result r =
        command_run("tune --spec %s --device sim --store %s --contexts 50 --families rope "
                    "--set tuning.gemm.stages=2",
                    spec_file(), path);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "tuning.gemm: a store records the parameters of rope only"), "%s", r.err);
    r = command_run("tune --spec %s --device sim --contexts 50 --families rope --set tuning.gemm.stages=2",
                    spec_file());
    cr_expect_eq(r.status, 0, "%s", r.err);
    /* Tuning in the spec is where the search begins; it does not make another question. */
    cr_expect_geq(from_store(path, "--contexts 50 --most 4 --set tuning.attend.stages=2"), 2);
}

/* The kernels of a changed template are other kernels. */
Test(tune, a_store_does_not_answer_for_a_changed_template, .timeout = 300)
{
    const char *folder = files_directory();
    char path[4096], arguments[4200];
    snprintf(path, sizeof path, "%s", files_path(folder, "one.db"));
    cr_expect_eq(from_store(path, "--contexts 50 --most 3"), 0);
    const char *changed_folder = changed("templates/attend.cu.lt", "{${guard}", "{${guard} ;");
    snprintf(arguments, sizeof arguments, "--contexts 50 --most 3 --templates %s", changed_folder);
    cr_expect_eq(from_store(path, arguments), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --most 3"), 3);
    /* A step of rope runs gemm too. */
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 0);
    changed_folder = changed("templates/gemm.cu.lt", "{${guard}", "{${guard} ;");
    snprintf(arguments, sizeof arguments, "--contexts 50 --families rope --templates %s", changed_folder);
    cr_expect_eq(from_store(path, arguments), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 1);
}

Test(tune, a_killed_run_goes_on_where_it_was, .timeout = 300)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "one.db"));
    pid_t pid = command_start("tune --spec %s --device sim --contexts 300 --strategy exhaustive --store %s",
                              spec_file(), path);
    wait_for_a_row(path);
    kill(pid, SIGKILL);
    cr_expect_eq(command_wait(pid), -1);
    cr_expect_geq(from_store(path, "--contexts 300 --strategy exhaustive --most 4"), 1);
}

Test(tune, stores_are_merged, .timeout = 300)
{
    const char *folder = files_directory();
    char stores[3][4096];
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.db", i);
        snprintf(stores[i], sizeof stores[i], "%s", files_path(folder, name));
    }
    from_store(stores[0], "--contexts 50 --most 3");
    from_store(stores[1], "--contexts 60 --most 2");
    struct command_result r = command_run("tune merge %s %s --out %s", stores[0], stores[1], stores[2]);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "5 rows read, 5 kept: "), "%s", r.out);
    sleep(1); /* later measurements must be newer, and times are whole seconds */
    cr_expect_eq(from_store(stores[2], "--contexts 50 --most 3"), 3);
    cr_expect_eq(from_store(stores[2], "--contexts 60 --most 2"), 2);
    r = command_run("tune merge $(for i in $(seq 40); do cp %s %s/copy$i; echo %s/copy$i; done) --out %s",
                    stores[0], folder, folder, stores[2]);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "120 rows read, 0 kept: "), "%s", r.out);
    command_refuses("tune merge $(seq 1025) --out a.db", 2,
                    "xq tune merge: '1025' is one argument too many; valid: at most 1024");
    command_refuses("tune merge a.db", 2, "xq tune merge: there is no store for the rows; give --out FILE");
    r = command_run("tune merge %s/none.db --out %s/new.db", folder, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "none.db: No such file or directory"), "%s", r.err);
}

/* A cluster works like this: each machine takes one part of the candidates, and one store is made out of
 * all. */
Test(tune, shards_together_are_the_whole, .timeout = 300)
{
    const char *folder = files_directory();
    int tried = 0;
    for (int i = 1; i <= 2; i++) {
        struct command_result r =
            command_run("tune --spec %s --device sim --contexts 33 --strategy exhaustive "
                        "--shard %d/12 --store %s/%d.db --json -",
                        spec_file(), i, folder, i);
        cr_assert_eq(r.status, 0, "%s", r.err);
        cJSON *root = cJSON_Parse(r.out);
        tried += cJSON_GetArraySize(cJSON_GetObjectItem(job_of(root, 0), "trials"));
        cJSON_Delete(root);
    }
    cr_expect_gt(tried, 4);
    struct command_result r =
        command_run("tune merge %s/1.db %s/2.db --out %s/all.db", folder, folder, folder);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(atoi(r.out), tried, "%s", r.out);
}

Test(tune, a_foreign_store_is_refused_before_any_work)
{
    const char *path = spec_file();
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 50 --store %s", spec_file(), path);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "spec.json"), "%s", r.err);
    r = command_run("tune --spec %s --dry-run --store x.db", spec_file());
    cr_expect_eq(r.status, 2);
    cr_expect(strstr(r.err, "--store: has no effect with --dry-run"), "%s", r.err);
}
