/* Tests xq tune on the software device: which candidates are tried and which one wins, for one job and for
 * several, and what it refuses. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/fake_cuda.h"
#include "../support/files.h"
#include "tuning_run.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ results */

Test(tune, the_best_is_one_that_was_measured_and_no_slower_than_the_default, .timeout = 300)
{
    cJSON *root = tuning_run("--contexts 100 --most 6");
    const cJSON *job = tuning_job(root, 0), *best = cJSON_GetObjectItem(job, "best"),
                *standard = cJSON_GetObjectItem(job, "default"),
                *trials = cJSON_GetObjectItem(job, "trials"), *t;
    bool found = false, found_default = false;
    cr_expect_eq(cJSON_GetArraySize(trials), 6);
    cJSON_ArrayForEach(t, trials)
    {
        cr_expect_str_eq(tuning_text(t, "outcome"), "measured");
        cr_expect_leq(tuning_number(best, "time_us"), tuning_number(t, "time_us"));
        cr_expect_lt(tuning_number(t, "error"), 2e-3);
        found |= cJSON_Compare(t, best, 1);
        found_default |= cJSON_Compare(t, standard, 1);
    }
    cr_expect(found && found_default);
    cr_expect_eq(tuning_number(job, "gain"),
                 tuning_number(standard, "time_us") / tuning_number(best, "time_us"));
    cr_expect_geq(tuning_number(job, "gain"), 1);
    cr_expect(cJSON_IsTrue(cJSON_GetObjectItem(job, "complete")));
    cr_expect_str_eq(tuning_text(root, "time_kind"), "modelled");
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(root, "load")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(job, "launch")));
    cJSON_Delete(root);
}

Test(tune, what_it_found_is_what_compare_measures, .timeout = 300)
{
    cJSON *root = tuning_run("--contexts 100 --strategy exhaustive --most 5");
    const cJSON *best = cJSON_GetObjectItem(tuning_job(root, 0), "best");
    char *parameters = cJSON_PrintUnformatted(cJSON_GetObjectItem(best, "parameters"));
    cJSON *compared = command_json(
              "compare --spec %s --device sim --synthetic --tokens 100 --set 'tuning.attend=%s' --json -",
              tuning_spec(), parameters),
          *row;
    double microseconds = 0, expected = tuning_number(best, "time_us");
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(compared, "rows"))
    {
        if (strcmp(tuning_text(row, "name"), "fused") == 0)
            microseconds = tuning_number(row, "time_us");
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
            tuning_spec());
        cr_assert_eq(r.status, 0, "%s", r.err);
        if (first)
            cr_expect_str_eq(first, r.out);
        else
            first = strdup(r.out);
    }
    cJSON *root = cJSON_Parse(first);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs")), 4);
    cr_expect_eq(tuning_number(tuning_job(root, 1), "tokens"), 60);
    cr_expect_eq(tuning_number(tuning_job(root, 1), "batch"), 3);
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
        cJSON *root = tuning_run(runs[i].arguments);
        cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs")), runs[i].jobs);
        for (int k = 0; k < runs[i].jobs; k++)
            cr_expect_geq(tuning_number(tuning_job(root, k), "gain"), 1, "%s: %s", runs[i].arguments,
                          tuning_text(tuning_job(root, k), "family"));
        cJSON_Delete(root);
    }
}

Test(tune, a_dry_run_measures_nothing)
{
    struct command_result r =
        command_run("tune --spec %s --device sim --dry-run --families attend,gemm", tuning_spec());
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
    cJSON *root = tuning_run("--dry-run");
    const cJSON *likely = cJSON_GetObjectItem(tuning_job(root, 0), "likely"), *item;
    double before = 0;
    cr_expect_eq(cJSON_GetArraySize(likely), 16);
    cJSON_ArrayForEach(item, likely)
    {
        cr_expect_geq(tuning_number(item, "predicted_us"), before);
        cr_expect_gt(tuning_parameter(item, "warps"), 0);
        before = tuning_number(item, "predicted_us");
        cr_expect_gt(before, 2);
    }
    cr_expect_str_eq(tuning_text(root, "device"), "NVIDIA H100 SXM5 80GB (software device)");
    cr_expect_str_eq(tuning_text(root, "device_kind"), "sim");
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(tuning_job(root, 0), "trials")), 0);
    cr_expect_gt(tuning_number(cJSON_GetObjectItem(tuning_job(root, 0), "combinations"), "valid"), 1);
    cJSON_Delete(root);
}

/* On a GPU, the ceilings of the model are measured, which takes a compiler. Listing the space takes
 * none. */
Test(tune, a_dry_run_without_a_compiler_lists_candidates_without_predictions)
{
    fake_cuda_use();
    setenv("XQ_NVRTC", "/nowhere/libnvrtc.so", 1);
    struct command_result r = command_run("tune --spec %s --dry-run --cache-dir ''", tuning_spec());
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, " combinations are valid for this spec\n"), "%s", r.out);
    cr_expect_null(strstr(r.out, "predicted"));
    cr_expect(strstr(r.err, "xq tune: cannot predict times: ") && strstr(r.err, "/nowhere/libnvrtc.so"),
              "%s", r.err);
}

Test(tune, the_table_says_how_to_use_what_it_found, .timeout = 300)
{
    struct command_result r =
        command_run("tune --spec %s --device sim:rtx4090 --contexts 100 --most 12", tuning_spec());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "NVIDIA GeForce RTX 4090 (software device)\nfamily"), "%s", r.out);
    cr_expect(strstr(r.out, "12 of "), "%s", r.out);
    cr_expect(strstr(r.out, ", modelled. A gain of 1 keeps the default"), "%s", r.out);
    cr_expect(strstr(r.out, "attend, 100 tokens, batch 1: --set 'tuning.attend={\""), "%s", r.out);
    r = command_run("tune --spec %s --device sim --contexts 100 --most 8 --bits 4,2", tuning_spec());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "attend, 4 bits, 100 tokens, batch 1: --set '"), "%s", r.out);
    cr_expect(strstr(r.out, "attend, 2 bits, 100 tokens, batch 1: --set '"), "%s", r.out);
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
            command_run("tune --spec %s --device sim %s", tuning_spec(), cases[i].arguments);
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
    cJSON *root = tuning_run("--contexts 40 --batches 3 --families append");
    const cJSON *job = tuning_job(root, 0), *trial;
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(job, "trials")), 8);
    cJSON_ArrayForEach(trial, cJSON_GetObjectItem(job, "trials"))
    {
        cr_expect_str_eq(tuning_text(trial, "outcome"), "measured");
    }
    cr_expect_gt(tuning_number(job, "limit_us"), 0);
    cr_expect_lt(tuning_number(job, "limit_us"),
                 tuning_number(cJSON_GetObjectItem(job, "best"), "time_us"));
    cJSON_Delete(root);
    struct command_result r = command_run(
        "tune --spec %s --device sim --contexts 40 --families append --queries 2", tuning_spec());
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "--queries: 2 is not valid with --families append"), "%s", r.err);
    /* A kernel that stores other codes is wrong, though attention over its own cache is right. */
    const char *folder = tuning_templates("templates/append.cu.lt", "${f32(cache.clip)}",
                                          "${f32(tuning.warps == 4 and 0.5 or cache.clip)}");
    char arguments[4200];
    snprintf(arguments, sizeof arguments, "--contexts 40 --families append --templates %s", folder);
    root = tuning_run(arguments);
    int wrong = 0;
    cJSON_ArrayForEach(trial, cJSON_GetObjectItem(tuning_job(root, 0), "trials"))
    {
        if (tuning_parameter(trial, "warps") != 4)
            continue;
        cr_expect_str_eq(tuning_text(trial, "outcome"), "wrong");
        cr_expect_str_eq(tuning_text(trial, "reason"),
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
    cJSON *root = command_json_of(&r);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs")), 2, "%s", r.out);
    cr_expect_str_eq(tuning_text(cJSON_GetObjectItem(tuning_job(root, 0), "spec"), "model"),
                     "smollm2-135m");
    cr_expect_str_eq(tuning_text(cJSON_GetObjectItem(tuning_job(root, 1), "spec"), "model"),
                     "smollm2-360m");
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
    cr_expect(strstr(r.err, "xq tune: no model is named, so xq tunes "), "%s", r.err);
    cJSON *root = command_json_of(&r);
    int jobs = cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs"));
    cr_expect(jobs > 20, "%d", jobs);
    char said[128];
    snprintf(said, sizeof said, "tunes %d presets", jobs);
    cr_expect(strstr(r.err, said), "%s", r.err);
    cJSON_Delete(root);
    root = command_json("tune --device sim --dry-run --families key_norms --json -");
    int fewer = cJSON_GetArraySize(cJSON_GetObjectItem(root, "jobs"));
    cr_expect(fewer > 0 && fewer < jobs, "only presets with that norm: %d", fewer);
    cJSON_Delete(root);
}

/* A template in which the kernels for 8 bits do not compile fails only those jobs. */
Test(tune, a_job_that_fails_does_not_end_the_others, .timeout = 300)
{
    const char *folder =
        tuning_templates("templates/attend.cu.lt", "{${guard}",
                         "{${guard}\n% if spec.cache.bits == 8 then\n#error eight bits\n% end\n");
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 40 --bits 8,4 --most 2 --templates %s --json -",
                    tuning_spec(), folder);
    cr_expect_eq(r.status, 1);
    cJSON *root = cJSON_Parse(r.out);
    cr_assert_not_null(root, "%s", r.err);
    const char *failed = tuning_text(tuning_job(root, 0), "failed");
    cr_expect(failed && strstr(failed, "attend with its default parameters: "), "%s", r.out);
    cr_expect_null(cJSON_GetObjectItem(tuning_job(root, 0), "best"));
    cr_expect_not_null(cJSON_GetObjectItem(tuning_job(root, 1), "best"));
    cJSON_Delete(root);
}
