/* xq verify: runs the correctness matrix on a device; it is the first thing to run on a new GPU. */
#include "verify.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

enum { ALL_CASES = -1 };

/* The cases to run. */
struct selection {
    verify_tier tier;
    int64_t cases; /* number of cases from the first of the tier on; 0: all */
    int64_t only;  /* the one case to run, or ALL_CASES */
};

static void print_failure(const struct cli_common *common, int64_t index, const verify_result *result,
                          const error *err)
{
    cli_progress_pause();
    fprintf(stderr, "FAILED case %lld: %s\n", (long long)index, result->description);
    if (err->status != XQ_OK)
        cli_fail("verify", common, err);
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++)
        if (result->part[i].outcome == VERIFY_FAILED)
            fprintf(stderr, "  %s: %s\n", verify_implementation_names[i], result->part[i].message);
    fprintf(stderr, "  reproduce: xq verify --device %s --seed %lld --case %lld\n",
            common->device ? cli_show(common->device).text : "auto", (long long)common->seed,
            (long long)index);
    cli_progress_resume();
}

static void print_case(int64_t index, const verify_result *result)
{
    static const char *const outcomes[] = {"passed", "FAILED", "not supported"};
    cli_progress_pause();
    fprintf(stderr, "case %lld:", (long long)index);
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++) {
        const verify_part *part = &result->part[i];
        if (part->outcome == VERIFY_PASSED)
            fprintf(stderr, " %s %.2e;", verify_implementation_names[i], part->out_error);
        else
            fprintf(stderr, " %s %s: %s;", verify_implementation_names[i], outcomes[part->outcome],
                    part->message);
    }
    fprintf(stderr, " %s\n", result->description);
    cli_progress_resume();
}

/* Announces the cases after the i-th, so that their specs can be made ready in advance. */
static void expect_next(verifier *v, const struct selection *selection, int64_t i, int64_t count)
{
    enum { FAR = 32 };
    for (int64_t next = i + 1; next < count && next <= i + FAR; next++)
        verifier_expect(v, verifier_tier_case(selection->tier, next));
}

static xq_status run_cases(verifier *v, const struct cli_common *common, const struct selection *selection,
                           struct verify_summary *summary, error *err)
{
    struct cli_progress progress;
    int64_t count = selection->only >= 0 ? 1
                    : selection->cases   ? selection->cases
                                         : verifier_tier_cases(v, selection->tier);
    double started = cli_seconds();
    cli_progress_begin(&progress, common, "verifying");
    for (int64_t i = 0; i < count && err->status == XQ_OK; i++) {
        int64_t index = selection->only >= 0 ? selection->only : verifier_tier_case(selection->tier, i);
        char detail[96];
        verify_result result;
        snprintf(detail, sizeof detail, "case %lld of %lld, %lld failed", (long long)(i + 1),
                 (long long)count, (long long)summary->failed);
        cli_progress_update(&progress, (double)i / (double)count, detail);
        expect_next(v, selection, i, count);
        verifier_run(v, index, &result, err);
        verify_summary_add(summary, v, index, &result);
        if (err->status != XQ_OK || verify_result_outcome(&result) == VERIFY_FAILED)
            print_failure(common, index, &result, err);
        else if (common->verbose)
            print_case(index, &result);
    }
    cli_progress_end(&progress);
    summary->seconds = cli_seconds() - started;
    return err->status;
}

static int run_and_report(xq_context *context, const struct cli_common *common,
                          const struct selection *selection)
{
    static struct verify_summary summary;
    error err = ERROR_INIT;
    verifier *v = NULL;
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    xq_context_device(context, &info);
    memset(&summary, 0, sizeof summary);
    if (cli_require_toolchain(context, &err) == XQ_OK &&
        verifier_create(context, common->templates, (uint64_t)common->seed, &v, &err) == XQ_OK &&
        run_cases(v, common, selection, &summary, &err) == XQ_OK) {
        if (!cli_json_to_stdout(common))
            verify_summary_print(&summary, &info);
        cJSON *json = verify_summary_json(&summary, &info, common->seed);
        cli_write_json(common, json, &err);
        cJSON_Delete(json);
    }
    verifier_destroy(v);
    int status = err.status != XQ_OK ? cli_fail("verify", common, &err)
                 : summary.failed    ? CLI_BAD_INPUT
                                     : CLI_OK;
    error_clear(&err);
    return status;
}

const char cli_verify_summary[] = "run the correctness matrix on a device";

int cli_verify(int argc, char **argv)
{
    struct selection selection = {.only = ALL_CASES};
    const char *tier = "small";
    const cli_option options[] = {
        {"--tier", CLI_STRING, &tier, "NAME",
         "tier of cases: small (default; every feature, and all pairs of features that interact), full "
         "(hundreds of cases), "
         "exhaustive (thousands)"},
        {"--cases", CLI_INT, &selection.cases, "N", "the first N cases of the tier (all)"},
        {"--case", CLI_INT, &selection.only, "K",
         "only case K of the seed, as the message of a failure names it"},
        {0},
    };
    struct cli_common common = {0};
    cli_command command = {
        .name = "verify",
        .summary = cli_verify_summary,
        .description =
            "Runs the correctness matrix. Cache methods, bits, axes, zero points, weights, activations,\n"
            "model features, batches of prompts, decoding and trees go through append and attend,\n"
            "fused, unfused and over fp16 and fp8 KV caches, and are compared with a double-precision\n"
            "reference on the same cache. Unused slots hold NaN. Features that kernels refuse by name\n"
            "are counted separately (docs/verify.md). The exit status is 1 if any case fails.",
        .options = options,
        .bounds =
            (const cli_bounds[]){{"--cases", 1, 1000000}, {"--case", 0, VERIFY_MOST_CASE}, {NULL, 0, 0}},
        .common = &common,
    };
    int status;
    error err = ERROR_INIT;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    if ((status = cli_excludes(&command, "--case", (const char *const[]){"--tier", "--cases", NULL})) !=
        CLI_OK)
        return status;
    if (verify_tier_named(tier, &selection.tier, &err) != XQ_OK)
        return cli_bad_input("verify", "--tier: %s", err.message);

    cli_reads_common(&common, NULL);
    if (cli_begin_json(&common, &err) != XQ_OK) {
        status = cli_fail("verify", &common, &err);
        error_clear(&err);
        return status;
    }
    /* The verifier has a thread for each core. OpenBLAS's own threads would wait beside them, and spin. */
    openblas_set_num_threads(1);
    xq_context *context;
    status = cli_open("verify", &common, &context);
    if (status != CLI_OK)
        return status;
    status = run_and_report(context, &common, &selection);
    xq_context_destroy(context);
    return status;
}
