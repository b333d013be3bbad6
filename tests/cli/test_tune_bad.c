/* Tests what becomes of candidates of xq tune that are wrong, fault, do not compile, or take too long. */
#include "../support/command.h"
#include "../support/files.h"
#include "tuning_run.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* Trials of candidates with this parameter must have this outcome and reason, and none of them may win. */
static void expect_bad(const char *folder, const char *name, int value, const char *outcome,
                       const char *reason)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments, "--contexts 40 --most 14 --templates %s", folder);
    cJSON *root = tuning_run(arguments);
    const cJSON *job = tuning_job(root, 0), *t;
    int bad = 0, good = 0;
    cJSON_ArrayForEach(t, cJSON_GetObjectItem(job, "trials"))
    {
        const bool of_these = (int)tuning_parameter(t, name) == value;
        cr_expect_str_eq(tuning_text(t, "outcome"), of_these ? outcome : "measured");
        if (of_these)
            cr_expect(strstr(tuning_text(t, "reason"), reason), "%s", tuning_text(t, "reason"));
        bad += of_these;
        good += !of_these;
    }
    cr_expect(bad > 0 && good > 0, "%d and %d", bad, good);
    cr_expect_neq((int)tuning_parameter(cJSON_GetObjectItem(job, "best"), name), value);
    cJSON_Delete(root);
}

Test(tune_bad, a_wrong_kernel_cannot_win, .timeout = 300)
{
    expect_bad(tuning_templates("templates/attend.spec.lua", "score_scale = LOG2_E",
                                "score_scale = (p.warps == 4 and 1.1 or 1) * LOG2_E"),
               "warps", 4, "wrong", "outputs differ from the reference by");
}

Test(tune_bad, a_kernel_that_faults_costs_only_itself, .timeout = 300)
{
    expect_bad(
        tuning_templates("templates/attend.cu.lt", "{${guard}",
                         "{${guard}\n% if tuning.stages == 2 then\n    *(volatile int *)8 = 0;\n% end"),
        "stages", 2, "crashed", "attend");
}

Test(tune_bad, a_kernel_that_does_not_compile_is_refused, .timeout = 300)
{
    expect_bad(tuning_templates("templates/attend.cu.lt", "{${guard}",
                                "{${guard}\n% if tuning.stages == 2 then\n    no_such_name();\n% end"),
               "stages", 2, "refused", "no_such_name");
}

/* Returns the number of warps of the candidate that wins, which must not be that of the default. */
static int warps_of_best(const char *arguments)
{
    cJSON *root = tuning_run(arguments);
    const cJSON *job = tuning_job(root, 0);
    int warps = (int)tuning_parameter(cJSON_GetObjectItem(job, "best"), "warps");
    cr_expect(cJSON_IsTrue(cJSON_GetObjectItem(job, "confirmed")));
    cr_assert_neq(warps, (int)tuning_parameter(cJSON_GetObjectItem(job, "default"), "warps"));
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
        const bool bad = strcmp(tuning_text(t, "outcome"), "wrong") == 0;
        wrong += bad;
        cr_expect(!bad || ((int)tuning_parameter(t, "warps") == warps &&
                           strstr(tuning_text(t, "reason"), reason)),
                  "%s", bad ? tuning_text(t, "reason") : "");
    }
    cr_expect_neq((int)tuning_parameter(cJSON_GetObjectItem(job, "best"), "warps"), warps);
    return wrong;
}

/* The kernel is right for one sequence, which is the case that is tuned for. */
Test(tune_bad, a_kernel_that_is_wrong_at_other_shapes_cannot_win, .timeout = 300)
{
    static const char few[] = "--contexts 100 --most 12 --strategy exhaustive";
    const int warps = warps_of_best(few);
    char code[256], arguments[512];
    snprintf(code, sizeof code,
             "{${guard}\n%% if tuning.warps == %d then\n    if (blockIdx.z > 0)\n        return;\n%% end",
             warps);
    snprintf(arguments, sizeof arguments, "%s --templates %s", few,
             tuning_templates("templates/attend.cu.lt", "{${guard}", code));
    cJSON *root = tuning_run(arguments);
    cr_expect_geq(count_wrong(tuning_job(root, 0), warps, "sequences of "), 1);
    cJSON_Delete(root);
}

/* A launch over outputs that are no longer poisoned breaks all launches after it. Measuring on the software
 * device makes no such launch; verifying the winner again makes one. */
Test(tune_bad, a_kernel_that_fails_after_repeats_is_wrong_and_the_next_best_wins, .timeout = 300)
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
             tuning_templates("templates/attend.cu.lt",
                              "extern \"C\" __global__ void __launch_bounds__(work::THREADS, 1) xq_attend("
                              "const __grid_constant__ ${params(\"xq_attend_params\")} p)\n{${guard}",
                              code));
    cJSON *root = tuning_run(arguments);
    const cJSON *job = tuning_job(root, 0);
    const int wrong =
        count_wrong(job, warps, "after it was measured, outputs differ from the reference by");
    cr_expect_geq(wrong, 2, "%d", wrong);
    cr_expect_geq(tuning_number(job, "gain"), 1);
    /* The store keeps the outcome, so that the next run does not begin with this candidate again. */
    store *s = NULL;
    error err = ERROR_INIT;
    char path[4096];
    int rows = 0;
    const store_outcome outcome = STORE_WRONG;
    snprintf(path, sizeof path, "%s/one.db", folder);
    cr_assert_eq(store_open(path, STORE_READ, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(store_list(s, &(store_filter){.outcome = &outcome}, tuning_count_row, &rows, &err), XQ_OK);
    cr_expect_eq(rows, wrong);
    store_close(s);
    cJSON_Delete(root);
}

Test(tune_bad, a_default_that_does_not_work_is_an_error)
{
    const char *folder =
        tuning_templates("templates/attend.spec.lua", "score_scale = LOG2_E", "score_scale = 1.1 * LOG2_E");
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 40 --templates %s", tuning_spec(), folder);
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
    return tuning_templates("templates/attend.cu.lt", "{${guard}", text);
}

Test(tune_bad, a_budget_that_is_too_short_is_no_hang, .timeout = 300)
{
    const char *folder = slow("true");
    struct command_result r = command_run("tune --spec %s --device sim --contexts 40 --batches 64 "
                                          "--templates %s --budget 5s --store %s/one.db",
                                          tuning_spec(), folder, files_directory());
    cr_expect_eq(r.status, 1);
    cr_expect_str_eq(
        r.err,
        "xq tune: --budget: 5s is too short to set up and measure attend once at 40 tokens; give more\n");
    char arguments[512];
    snprintf(arguments, sizeof arguments, "--contexts 40 --batches 64 --budget 12s --templates %s",
             slow("tuning.warps ~= 8"));
    cJSON *root = tuning_run(arguments);
    const cJSON *job = tuning_job(root, 0), *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItem(job, "trials"))
        cr_expect_str_eq(tuning_text(t, "outcome"), "measured");
    cr_expect_not(cJSON_IsTrue(cJSON_GetObjectItem(job, "complete")));
    cr_expect_geq(tuning_number(job, "gain"), 1);
    cJSON_Delete(root);
}
