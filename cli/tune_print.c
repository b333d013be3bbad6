/* Reports the jobs of xq tune: a table, the parameters to choose, and JSON. */
#include "noticed.h"
#include "tune_model.h"
#include "tune_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tune_print_job(const struct tuned *job)
{
    if (job->model)
        printf("%s, ", cli_show(job->model).text);
    fputs(job->job.family, stdout);
    if (job->bits)
        printf(", %d bits", job->bits);
    printf(", %lld tokens", (long long)job->job.options->tokens);
}

static double gain_of(const struct tuned *job)
{
    return job->result.default_time.median / job->result.best_time.median;
}

/* The best parameters that differ from the default; caller frees. */
static char *difference(const struct tuned *job)
{
    cJSON *best = cJSON_Parse(job->candidates[job->result.best].parameters);
    const cJSON *chosen = cJSON_GetObjectItemCaseSensitive(job->space, "chosen"), *item;
    cJSON_ArrayForEach(item, chosen)
    {
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(best, item->string);
        if (own && cJSON_Compare(own, item, 1))
            cJSON_DeleteItemFromObjectCaseSensitive(best, item->string);
    }
    char *text = cJSON_PrintUnformatted(best);
    cJSON_Delete(best);
    return text;
}

static void print_table(const struct tuning *t)
{
    bool modelled = t->device.is_sim;
    printf("%s\n", t->device.name);
    if (t->model_count > 1)
        printf("%-20s ", "model");
    printf("%-11s %5s %8s %6s %8s %11s %11s %6s %7s  %s\n", "family", "bits", "tokens", "batch", "queries",
           "default us", "best us", "gain", "/ limit", "candidates");
    for (int i = 0; i < t->job_count; i++) {
        const struct tuned *job = &t->jobs[i];
        const struct compare_options *o = job->job.options;
        char bits[16] = "spec";
        if (job->bits)
            snprintf(bits, sizeof bits, "%d", job->bits);
        if (t->model_count > 1)
            printf("%-20s ", cli_show(job->model).text);
        printf("%-11s %5s %8lld %6lld %8lld ", job->job.family, bits, (long long)o->tokens,
               (long long)o->batch, (long long)o->queries);
        if (!job->done) {
            printf("%s\n", *job->failed            ? job->failed
                           : tune_is_interrupted() ? "not measured: interrupted"
                                                   : "not measured: the time is up");
            continue;
        }
        printf("%11.4g %11.4g %6.3f ", 1e6 * job->result.default_time.median,
               1e6 * job->result.best_time.median, gain_of(job));
        if (job->limit > 0)
            printf("%7.1f", job->result.best_time.median / job->limit);
        else
            printf("%7s", "-");
        printf("  %d of %d", job->result.tried, job->count);
        if (job->stored)
            printf(", %d from the store", job->stored);
        printf("%s\n", job->result.complete ? "" : job->interrupted ? ", interrupted" : ", time is up");
    }
    printf("\nTimes are for one step of attention, %s. A gain of 1 keeps the default: nothing was faster "
           "beyond the\n"
           "spread of the measurements. \"/ limit\" is the best time over the least time that the device "
           "allows.\n",
           modelled                                        ? "modelled"
           : t->launch && strcmp(t->launch, "stream") == 0 ? "medians of steps launched one by one"
                                                           : "medians of steps within a CUDA graph");
}

static void print_winners(const struct tuning *t)
{
    for (int i = 0; i < t->job_count; i++) {
        const struct tuned *job = &t->jobs[i];
        if (!job->done || job->result.best == job->standard)
            continue;
        char *changed = difference(job);
        putchar('\n');
        tune_print_job(job);
        printf(", batch %lld", (long long)job->job.options->batch);
        if (job->job.options->queries > 1)
            printf(", %lld queries", (long long)job->job.options->queries);
        printf(": --set 'tuning.%s=%s'", job->job.family, changed ? changed : "?");
        free(changed);
    }
    putchar('\n');
}

void tune_print_results(const struct tuning *t)
{
    print_table(t);
    print_winners(t);
}

static cJSON *trial_json(const struct candidate *c)
{
    cJSON *o = cJSON_CreateObject();
    tune_candidate_json(c->stated, o);
    cJSON_AddStringToObject(o, "outcome", tune_outcome_names[c->trial.outcome]);
    if (c->trial.outcome == TUNE_MEASURED) {
        cJSON_AddNumberToObject(o, "time_us", 1e6 * c->trial.median);
        cJSON_AddNumberToObject(o, "time_us_low", 1e6 * c->trial.low);
        cJSON_AddNumberToObject(o, "time_us_high", 1e6 * c->trial.high);
        cJSON_AddNumberToObject(o, "repeats", c->trial.repeats);
        cJSON_AddNumberToObject(o, "error", c->trial.error);
        cJSON_AddNumberToObject(o, "lse_error", c->trial.lse_error);
    } else {
        cJSON_AddStringToObject(o, "reason", c->trial.reason);
    }
    return o;
}

static cJSON *job_json(const struct tuned *job, bool is_sim)
{
    const struct compare_options *o = job->job.options;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "spec", cJSON_Parse(job->job.spec));
    if (*job->failed)
        cJSON_AddStringToObject(json, "failed", job->failed);
    cJSON_AddStringToObject(json, "family", job->job.family);
    cJSON_AddStringToObject(json, "implementation", compare_name(job->job.implementation));
    cJSON_AddNumberToObject(json, "tokens", (double)o->tokens);
    cJSON_AddNumberToObject(json, "batch", (double)o->batch);
    cJSON_AddNumberToObject(json, "queries", (double)o->queries);
    if (is_sim)
        cJSON_AddNullToObject(json, "launch");
    else
        cJSON_AddStringToObject(json, "launch", tune_in_graph(&job->job, is_sim) ? "graph" : "stream");
    cJSON_AddItemToObject(json, "combinations",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(job->space, "combinations"), 1));
    if (job->likely)
        cJSON_AddItemToObject(json, "likely", cJSON_Duplicate(job->likely, 1));
    if (job->done) {
        cJSON_AddItemToObject(json, "default", trial_json(&job->candidates[job->standard]));
        cJSON_AddItemToObject(json, "best", trial_json(&job->candidates[job->result.best]));
        cJSON_AddNumberToObject(json, "gain", gain_of(job));
        cJSON_AddNumberToObject(json, "limit_us", job->limit > 0 ? 1e6 * job->limit : NAN);
        if (job->result.best == job->standard)
            cJSON_AddNullToObject(json, "confirmed");
        else
            cJSON_AddBoolToObject(json, "confirmed", job->confirmed);
        cJSON_AddBoolToObject(json, "complete", job->result.complete);
    }
    cJSON_AddItemToObject(json, "model",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(job->space, "model"), 1));
    cJSON *trials = cJSON_AddArrayToObject(json, "trials");
    for (int i = 0; i < job->count; i++)
        if (job->candidates[i].tried)
            cJSON_AddItemToArray(trials, trial_json(&job->candidates[i]));
    return json;
}

xq_status tune_write_json(const struct tuning *t, error *err)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", t->device.name);
    cJSON_AddStringToObject(root, "arch", t->device.arch);
    cJSON_AddNumberToObject(root, "driver", t->device.driver);
    cJSON_AddNumberToObject(root, "nvrtc", t->device.nvrtc);
    cJSON_AddStringToObject(root, "xq", xq_version());
    cJSON_AddStringToObject(root, "device_kind", t->device.is_sim ? "sim" : "cuda");
    cJSON_AddStringToObject(root, "time_kind", t->device.is_sim ? "modelled" : "measured");
    cli_add_load(root, &t->noticed);
    cJSON *jobs = cJSON_AddArrayToObject(root, "jobs");
    for (int i = 0; i < t->job_count; i++)
        cJSON_AddItemToArray(jobs, job_json(&t->jobs[i], t->device.is_sim));
    cli_write_json(&t->o.common, root, err);
    cJSON_Delete(root);
    return err->status;
}
