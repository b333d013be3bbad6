/* Prints the summary of xq verify, and writes it as JSON. */
#include "verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double larger(double a, double b)
{
    return a > b || isnan(a) ? a : b;
}

/* ---------------------------------------------------------------- adding */

/* Adds one to the count of a name. Names beyond the end of the table are left out. */
static void count(struct verify_tally *t, const char *name, int implementation, verify_outcome outcome)
{
    int i = 0;
    while (i < t->count && strcmp(t->rows[i].name, name) != 0)
        i++;
    if (i == VERIFY_MAX_NAMES)
        return;
    if (i == t->count) {
        memset(&t->rows[i], 0, sizeof t->rows[i]);
        snprintf(t->rows[t->count++].name, sizeof t->rows[0].name, "%.199s", name);
    }
    t->rows[i].passed[implementation] += outcome == VERIFY_PASSED;
    t->rows[i].unsupported[implementation] += outcome == VERIFY_UNSUPPORTED;
}

struct counting {
    struct verify_summary *summary;
    const verify_result *result;
};

static void count_feature(void *user, const char *feature)
{
    const struct counting *c = user;
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++)
        count(&c->summary->features, feature, i, c->result->part[i].outcome);
}

void verify_summary_add(struct verify_summary *s, verifier *v, int64_t index, const verify_result *result)
{
    verify_outcome outcome = verify_result_outcome(result);
    s->cases++;
    s->failed += outcome == VERIFY_FAILED;
    s->unsupported += outcome == VERIFY_UNSUPPORTED;
    s->mismatches += result->mismatches;
    s->refused_arguments += result->refused_arguments;
    s->append = larger(result->append_error, s->append);
    s->kv = larger(result->kv_error, s->kv);
    s->kv_mismatches += result->kv_mismatches;
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++) {
        const verify_part *part = &result->part[i];
        s->passed[i] += part->outcome == VERIFY_PASSED;
        s->failures[i] += part->outcome == VERIFY_FAILED;
        s->refusals[i] += part->outcome == VERIFY_UNSUPPORTED;
        s->out[i] = larger(part->out_error / part->bound, s->out[i]);
        s->lse[i] = larger(part->lse_error / (2 * part->bound), s->lse[i]);
        if (part->outcome == VERIFY_UNSUPPORTED)
            count(&s->reasons, part->message, i, part->outcome);
    }
    struct counting c = {s, result};
    verifier_features(v, index, count_feature, &c);
}

/* ---------------------------------------------------------------- printing */

static void print_implementations(const struct verify_summary *s)
{
    printf("%-10s %8s %8s %14s %13s %13s\n", "", "passed", "failed", "not supported", "output error",
           "lse error");
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++)
        printf("%-10s %8lld %8lld %14lld %12.0f%% %12.0f%%\n", verify_implementation_names[i],
               (long long)s->passed[i], (long long)s->failures[i], (long long)s->refusals[i],
               100 * s->out[i], 100 * s->lse[i]);
    printf("Errors are the worst of all cases, as shares of the allowed error against double precision on "
           "the same\n"
           "cache. Outputs may differ by %.2g, relative (by %.2g if they are bf16, by %.2g with bf16 "
           "products), and\n"
           "log-sum-exps by twice that.\n",
           verify_bound(XQ_FUSED, false, ROUNDING_F16, false, 1),
           verify_bound(XQ_FUSED, true, ROUNDING_F16, false, 1),
           verify_bound(XQ_FUSED, true, ROUNDING_BF16, false, 1));
    printf("append: %lld values differ from the host quantizer; latents are at most %.3f steps from the "
           "exact ones;\n"
           "        fp16 KV rows are within %.2e; %lld e4m3 codes differ from these rows' codes. %lld "
           "calls with a\n"
           "        bad argument were refused by the argument's name.\n",
           (long long)s->mismatches, s->append, s->kv, (long long)s->kv_mismatches,
           (long long)s->refused_arguments);
}

static void print_reasons(const struct verify_summary *s)
{
    for (int i = 0; i < s->reasons.count; i++) {
        int64_t times = 0;
        for (int j = 0; j < VERIFY_IMPLEMENTATIONS; j++)
            times += s->reasons.rows[i].unsupported[j];
        printf("not supported, %lld times: %s\n", (long long)times, s->reasons.rows[i].name);
    }
}

/* Prints, for each implementation, the features with which it has passed no case. */
static void print_gaps(const struct verify_summary *s)
{
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++) {
        const char *separator = ": ";
        for (int f = 0; f < s->features.count; f++) {
            if (s->features.rows[f].passed[i])
                continue;
            if (separator[0] == ':')
                printf("%s passed no case with", verify_implementation_names[i]);
            printf("%s%s", separator, s->features.rows[f].name);
            separator = ", ";
        }
        if (separator[0] != ':')
            printf("\n");
    }
}

void verify_summary_print(const struct verify_summary *s, const xq_device_info *info)
{
    printf("%s, %s\n", info->name, info->arch);
    print_implementations(s);
    print_reasons(s);
    if (s->cases > 1)
        print_gaps(s);
    printf("%lld cases, %lld failed, %lld not supported by any implementation (%.0f s)\n",
           (long long)s->cases, (long long)s->failed, (long long)s->unsupported, s->seconds);
}

/* ---------------------------------------------------------------- JSON */

static void add_tally(cJSON *json, const char *name, const struct verify_tally *t)
{
    cJSON *rows = cJSON_AddArrayToObject(json, name);
    for (int i = 0; i < t->count; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "name", t->rows[i].name);
        for (int j = 0; j < VERIFY_IMPLEMENTATIONS; j++) {
            cJSON *part = cJSON_AddObjectToObject(row, verify_implementation_names[j]);
            cJSON_AddNumberToObject(part, "passed", (double)t->rows[i].passed[j]);
            cJSON_AddNumberToObject(part, "unsupported", (double)t->rows[i].unsupported[j]);
        }
        cJSON_AddItemToArray(rows, row);
    }
}

cJSON *verify_summary_json(const struct verify_summary *s, const xq_device_info *info, int64_t seed)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *device = cJSON_AddObjectToObject(json, "device");
    cJSON_AddStringToObject(device, "name", info->name);
    cJSON_AddStringToObject(device, "arch", info->arch);
    cJSON_AddNumberToObject(device, "driver", info->driver);
    cJSON_AddNumberToObject(device, "nvrtc", info->nvrtc);
    cJSON_AddNumberToObject(json, "seed", (double)seed);
    cJSON_AddNumberToObject(json, "seconds", s->seconds);
    cJSON_AddNumberToObject(json, "cases", (double)s->cases);
    cJSON_AddNumberToObject(json, "failed", (double)s->failed);
    cJSON_AddNumberToObject(json, "unsupported", (double)s->unsupported);
    cJSON_AddNumberToObject(json, "quantizer_mismatches", (double)s->mismatches);
    cJSON_AddNumberToObject(json, "append_error_steps", s->append);
    cJSON_AddNumberToObject(json, "kv_append_error", s->kv);
    cJSON_AddNumberToObject(json, "kv_e4m3_mismatches", (double)s->kv_mismatches);
    cJSON_AddNumberToObject(json, "refused_arguments", (double)s->refused_arguments);
    cJSON *rows = cJSON_AddArrayToObject(json, "rows");
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "name", verify_implementation_names[i]);
        cJSON_AddNumberToObject(row, "passed", (double)s->passed[i]);
        cJSON_AddNumberToObject(row, "failed", (double)s->failures[i]);
        cJSON_AddNumberToObject(row, "unsupported", (double)s->refusals[i]);
        cJSON_AddNumberToObject(row, "out_error_of_bound", s->out[i]);
        cJSON_AddNumberToObject(row, "lse_error_of_bound", s->lse[i]);
        cJSON_AddItemToArray(rows, row);
    }
    add_tally(json, "features", &s->features);
    add_tally(json, "not_supported", &s->reasons);
    return json;
}
