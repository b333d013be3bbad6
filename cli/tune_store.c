#include "tune_store.h"
#include "../runtime/device/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A step also runs kernels of other families. A stored answer holds for their default parameters, because a
 * question has the parameters of one family only. */
static xq_status expect_no_tuning(const char *spec, const char *family, error *err)
{
    cJSON *choices = cJSON_Parse(spec);
    const cJSON *tuning = cJSON_GetObjectItemCaseSensitive(choices, "tuning");
    if (tuning && tuning->child) {
        error_set(err, XQ_ERROR_SPEC, "spec",
                  "tuning.%s: a store records the parameters of %s only, and a step may run both kernels; "
                  "leave them or --store out",
                  tuning->child->string, family);
        error_field(err, "tuning");
    }
    cJSON_Delete(choices);
    return err->status;
}

xq_status tune_step_source(gen *g, xq_implementation implementation, char source[STORE_TEXT + 1],
                           error *err)
{
    const char *family;
    *source = 0;
    for (int i = 0; (family = tune_family_of_step(implementation, i)) && err->status == XQ_OK; i++) {
        gen_hash hash;
        if (gen_family_source(g, family, &hash, err) == XQ_OK)
            snprintf(source + strlen(source), STORE_TEXT + 1 - strlen(source), "%s%s", i ? "-" : "",
                     hash.hex);
    }
    return err->status;
}

xq_status tune_sources_read(const char *template_dir, struct tune_sources *out, error *err)
{
    gen *g = NULL;
    if (gen_create(template_dir, &g, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++) {
        tune_step_source(g, (xq_implementation)i, out->texts[i], err);
        out->all[i] = out->texts[i];
    }
    gen_destroy(g);
    return err->status;
}

xq_status tune_question_make(gen *g, const struct tune_job *job, const xq_device_info *device,
                             struct tune_question *out, error *err)
{
    cJSON *overrides = cJSON_CreateObject();
    *out = (struct tune_question){.job = job, .device = device};
    cJSON_AddNullToObject(cJSON_AddObjectToObject(overrides, "tuning"), job->family);
    if (cli_spec_override(g, job->spec, overrides, &out->spec, err) == XQ_OK &&
        expect_no_tuning(out->spec, job->family, err) == XQ_OK)
        tune_step_source(g, job->implementation, out->source, err);
    return err->status;
}

void tune_question_free(struct tune_question *q)
{
    free(q->spec);
    q->spec = NULL;
}

static store_question question_of(const struct tune_question *q, const char *parameters)
{
    const xq_device_info *d = q->device;
    const struct compare_options *o = q->job->options;
    return (store_question){
        .device = {.name = d->name,
                   .arch = d->arch,
                   .capability = arch_number(d->arch),
                   .multiprocessors = d->sm_count,
                   .memory_bytes = (int64_t)d->memory_bytes,
                   .is_sim = d->is_sim,
                   .driver = d->driver,
                   .nvrtc = d->nvrtc,
                   .xq = xq_version()},
        .spec = q->spec,
        .implementation = q->job->implementation,
        .family = q->job->family,
        .bucket = {o->tokens, (int)o->batch, (int)o->queries},
        .source = q->source,
        .mode = {.cold_l2 = true, .in_graph = tune_in_graph(q->job, d->is_sim)},
        .parameters = parameters,
    };
}

static const enum tune_outcome trial_outcomes[STORE_OUTCOMES] = {
    [STORE_MEASURED] = TUNE_MEASURED, [STORE_WRONG] = TUNE_WRONG,     [STORE_NOT_COMPILED] = TUNE_REFUSED,
    [STORE_HUNG] = TUNE_HUNG,         [STORE_CRASHED] = TUNE_CRASHED, [STORE_REFUSED] = TUNE_REFUSED};

xq_status tune_store_find(store *s, const struct tune_question *q, const char *parameters,
                          struct tune_trial *out, bool *found, error *err)
{
    store_question question = question_of(q, parameters);
    store_answer a;
    if (store_find(s, &question, &a, found, err) != XQ_OK || !*found)
        return err->status;
    *found = a.outcome != STORE_HUNG && a.outcome != STORE_CRASHED;
    *out = (struct tune_trial){
        .outcome = trial_outcomes[a.outcome],
        .modelled = q->device->is_sim,
        .repeats = (int)a.repeats,
        .median = a.seconds,
        .low = a.seconds - a.spread / 2,
        .high = a.seconds + a.spread / 2,
        .error = NAN,
        .lse_error = NAN,
    };
    snprintf(out->reason, sizeof out->reason, "%.399s", a.reason);
    return XQ_OK;
}

static store_outcome store_outcome_of(enum tune_outcome outcome)
{
    switch (outcome) {
    case TUNE_MEASURED:
        return STORE_MEASURED;
    case TUNE_WRONG:
        return STORE_WRONG;
    case TUNE_REFUSED:
        return STORE_REFUSED;
    case TUNE_CRASHED:
        return STORE_CRASHED;
    case TUNE_HUNG:
        break;
    }
    return STORE_HUNG;
}

/* Adds the ceilings of a device, from which limits are computed, unless the store has them already. */
static xq_status add_ceilings(store *s, const store_device *device, const ceilings *c, int64_t now,
                              error *err)
{
    store_ceilings stored = {c->copy_bytes_per_second, c->f16_flops_per_second, "", now};
    bool found = false;
    if (!(c->copy_bytes_per_second > 0) || !(c->f16_flops_per_second > 0) ||
        store_find_ceilings(s, device, &stored, &found, err) != XQ_OK || found)
        return err->status;
    snprintf(stored.origin, sizeof stored.origin, "%s", c->source);
    return store_add_ceilings(s, device, &stored, err);
}

xq_status tune_store_add(store *s, const struct tune_question *q, const char *parameters,
                         const struct tune_trial *trial, error *err)
{
    const bool measured = trial->outcome == TUNE_MEASURED;
    store_row row = {.question = question_of(q, parameters),
                     .answer = {.outcome = store_outcome_of(trial->outcome), .taken = (int64_t)time(NULL)}};
    if (measured) {
        row.answer.seconds = trial->median;
        row.answer.spread = trial->high - trial->low;
        row.answer.repeats = trial->repeats;
    } else {
        snprintf(row.answer.reason, sizeof row.answer.reason, "%s", trial->reason);
    }
    if (store_add(s, &row, NULL, err) == XQ_OK)
        add_ceilings(s, &row.question.device, &trial->ceilings, row.answer.taken, err);
    return err->status;
}

/* ----------------------------------------------------------------- merging */

int cli_tune_merge(int argc, char **argv)
{
    struct cli_common common = {0};
    const char *out = NULL;
    const cli_option options[] = {
        {"--out", CLI_STRING, &out, "FILE",
         "store that receives all rows; if it exists, it keeps its own rows"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "tune merge",
        .summary = "merge several stores of measurements into one",
        .arguments = "STORE...",
        .description =
            "A store keeps one answer to each question. An answer of a kernel that ran to its end\n"
            "precedes one of a kernel that did not; of two such answers the newest is kept. The result\n"
            "appears whole or not at all.\n"
            "docs/tuning.md says what a store holds.",
        .options = options,
        .common = &common,
        .unused = (const cli_unused[]){{"--device", "nothing is measured"},
                                       {"--cache-dir", "nothing is compiled"},
                                       {"--templates", "nothing is generated"},
                                       {"--seed", "nothing is random here"},
                                       {"--json", "the merged store is the result"},
                                       {"--verbose", "there is nothing more to say"},
                                       {NULL, NULL}},
        .positional_min = 1,
        .positional_max = CLI_MOST_ARGUMENTS,
    };
    int status;
    store_merged merged;
    error err = ERROR_INIT;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    if (!out)
        return cli_usage("tune merge", "there is no store for the rows; give --out FILE");
    if (store_merge(command.positional, command.positional_count, out, &merged, &err) == XQ_OK) {
        if (!common.quiet)
            printf("%lld rows read, %lld kept: %s\n", (long long)merged.read, (long long)merged.kept,
                   cli_show(out).text);
    } else {
        status = cli_fail("tune merge", &common, &err);
    }
    error_clear(&err);
    return status;
}
