/* xq verify: the correctness matrix on a device; the first thing to run on a new GPU. */
#include "../autotune/verify.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char *const NAMES[3] = {"fused", "unfused", "fp16-kv"};

/* What all cases together found. */
struct summary {
    int64_t cases, failed;
    int mismatches;
    double out[3], lse[3], append, kv_append;
};

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void add_result(struct summary *s, const verify_result *result)
{
    s->cases++;
    s->failed += !result->passed;
    s->mismatches += result->quantizer_mismatches;
    s->append = larger(s->append, result->append_error);
    s->kv_append = larger(s->kv_append, result->kv_append_error);
    for (int i = 0; i < 3; i++) {
        s->out[i] = larger(s->out[i], result->out_error[i]);
        s->lse[i] = larger(s->lse[i], result->lse_error[i]);
    }
}

static void print_failure(const struct cli_common *common, int64_t index, const verify_result *result,
                          const error *err)
{
    fprintf(stderr, "FAILED case %lld: %s\n", (long long)index, result->description);
    if (err->status != XQ_OK) {
        cli_fail("verify", common, err);
    } else {
        for (int i = 0; i < 3; i++)
            fprintf(stderr, "  %-8s output error %.3g, lse error %.3g\n", NAMES[i], result->out_error[i],
                    result->lse_error[i]);
        fprintf(stderr, "  append: %d mismatches with the quantizer, %.3g steps, fp16 KV %.3g\n",
                result->quantizer_mismatches, result->append_error, result->kv_append_error);
    }
    fprintf(stderr, "  reproduce: xq verify --device %s --seed %lld --case %lld\n",
            common->device ? common->device : "auto", (long long)common->seed, (long long)index);
}

static void print_summary(const struct summary *s, const xq_device_info *info)
{
    printf("%s, %s\n", info->name, info->arch);
    printf("%-10s %14s %14s\n", "", "output error", "lse error");
    for (int i = 0; i < 3; i++)
        printf("%-10s %14.2e %14.2e\n", NAMES[i], s->out[i], s->lse[i]);
    printf("bounds     %14.2e %14.2e   worst of all cases, against double precision on the same cache\n",
           VERIFY_BOUND, 2 * VERIFY_BOUND);
    printf(
        "append: %d values differ from the host quantizer (x); at most %.3f steps from the exact latent;\n"
        "        fp16 KV rows within %.2e\n",
        s->mismatches, s->append, s->kv_append);
    printf("%lld cases, %lld failed\n", (long long)s->cases, (long long)s->failed);
}

static cJSON *summary_json(const struct summary *s, const xq_device_info *info, int64_t seed)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *device = cJSON_AddObjectToObject(json, "device");
    cJSON_AddStringToObject(device, "name", info->name);
    cJSON_AddStringToObject(device, "arch", info->arch);
    cJSON_AddNumberToObject(device, "driver", info->driver);
    cJSON_AddNumberToObject(device, "nvrtc", info->nvrtc);
    cJSON_AddNumberToObject(json, "seed", (double)seed);
    cJSON_AddNumberToObject(json, "cases", (double)s->cases);
    cJSON_AddNumberToObject(json, "failed", (double)s->failed);
    cJSON_AddNumberToObject(json, "quantizer_mismatches", s->mismatches);
    cJSON_AddNumberToObject(json, "append_error_steps", s->append);
    cJSON_AddNumberToObject(json, "kv_append_error", s->kv_append);
    cJSON *rows = cJSON_AddArrayToObject(json, "rows");
    for (int i = 0; i < 3; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "name", NAMES[i]);
        cJSON_AddNumberToObject(row, "out_error", s->out[i]);
        cJSON_AddNumberToObject(row, "lse_error", s->lse[i]);
        cJSON_AddItemToArray(rows, row);
    }
    return json;
}

static void run_cases(verifier *v, const struct cli_common *common, int64_t first, int64_t end,
                      struct summary *summary)
{
    struct cli_progress progress;
    cli_progress_begin(&progress, common, "verifying");
    for (int64_t i = first; i < end; i++) {
        char detail[64];
        verify_result result;
        error err = ERROR_INIT;
        snprintf(detail, sizeof detail, "case %lld of %lld", (long long)(i - first + 1),
                 (long long)(end - first));
        cli_progress_update(&progress, (double)(i - first) / (double)(end - first), detail);
        verifier_run(v, i, &result, &err);
        add_result(summary, &result);
        if (!result.passed)
            print_failure(common, i, &result, &err);
        else if (common->verbose)
            fprintf(stderr, "case %lld: fused %.2e, unfused %.2e, fp16-kv %.2e: %s\n", (long long)i,
                    result.out_error[0], result.out_error[1], result.out_error[2], result.description);
        error_clear(&err);
    }
    cli_progress_end(&progress);
}

int cli_verify(int argc, char **argv)
{
    int64_t cases = 40, only = -1;
    const cli_option options[] = {
        {"--cases", CLI_INT, &cases, "N", "random cases to run (default 40; five share a spec)"},
        {"--case", CLI_INT, &only, "K", "run case K alone, as a failure's message says"},
        {0},
    };
    struct cli_common common = {0};
    cli_command command = {
        .name = "verify",
        .description =
            "Random model shapes, cache methods, bits, groups, batches, lengths and page orders go "
            "through\n"
            "append and attend, fused, unfused and over an fp16 KV cache, and are compared with a\n"
            "double-precision reference on the same cache. Unused slots hold NaN.\n"
            "Exit status 1 if any case fails.",
        .options = options,
        .common = &common,
    };
    int status;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    if (cases < 1 || cases > 1000000)
        return cli_usage("verify", "--cases %lld: 1 to 1000000 are possible", (long long)cases);
    if (only < -1)
        return cli_usage("verify", "--case %lld: a case number is 0 or more", (long long)only);

    xq_context *context;
    status = cli_open("verify", &common, &context);
    if (status != CLI_OK)
        return status;
    error err = ERROR_INIT;
    verifier *v = NULL;
    struct summary summary = {0};
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    xq_context_device(context, &info);
    if (cli_require_toolchain(context, &err) == XQ_OK &&
        verifier_create(context, common.templates, (uint64_t)common.seed, &v, &err) == XQ_OK) {
        run_cases(v, &common, only < 0 ? 0 : only, only < 0 ? cases : only + 1, &summary);
        if (!cli_json_to_stdout(&common))
            print_summary(&summary, &info);
        cJSON *json = summary_json(&summary, &info, common.seed);
        cli_write_json(&common, json, &err);
        cJSON_Delete(json);
    }
    verifier_destroy(v);
    xq_context_destroy(context);
    status = err.status != XQ_OK ? cli_fail("verify", &common, &err)
             : summary.failed    ? CLI_BAD_INPUT
                                 : CLI_OK;
    error_clear(&err);
    return status;
}
