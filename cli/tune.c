/* xq tune: the fastest parameters of kernels on a device, for a model and for how attention is called. */
#include "../autotune/search/search.h"
#include "../runtime/plan/toolchain.h"
#include "gen.h"
#include "signals.h"
#include "tune_model.h"
#include "tune_replay.h"
#include "tune_store.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A candidate of a job, and what became of it. */
struct candidate {
    char *parameters;
    const cJSON *stated; /* as the space has it */
    bool tried;
    bool may_be_stored;      /* a brief trial was taken from the store, which may have a full one too */
    struct tune_trial trial; /* the last */
};

/* A job with its outcome. */
struct tuned {
    struct tune_job job;
    int bits;              /* 0: as the spec says */
    cJSON *space, *likely; /* likely: in a dry run */
    struct candidate *candidates;
    int count, standard, stored; /* candidates; the default's place; how many trials the store had */
    double limit;                /* seconds, of a step, as a trial of this run said; 0: there was none */
    bool done, interrupted;
    struct search_result result;
};

struct tuning {
    struct compare_options o;
    struct cli_list bits, families, contexts, batches, queries;
    const char *strategy_name, *budget, *store_path;
    enum search_strategy strategy;
    store *store; /* NULL: none */
    const char *shard_text;
    int64_t most, shard, shards; /* shards 0: all candidates */
    bool dry_run;
    double budget_seconds, begun;
    char *spec;
    gen *generator;
    struct compare_options *options; /* of each job */
    struct tuned *jobs;
    int job_count;
    xq_device_info device;
    struct cli_progress progress;
};

/* --------------------------------------------------------------- settings */

static atomic_bool interrupted;

static void on_interrupt(void)
{
    interrupted = true;
}

static bool is_interrupted(void)
{
    return interrupted;
}

/* "90s", "10m", "2h". */
static xq_status read_budget(struct tuning *t, error *err)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"h", 3600}};
    double value;
    const char *unit;
    if (cli_read_number(t->budget, &value, &unit) && value > 0 && value <= 1e6)
        for (int i = 0; i < 3; i++)
            if (strcmp(unit, units[i].name) == 0) {
                t->budget_seconds = value * units[i].seconds;
                return XQ_OK;
            }
    return error_set(
        err, XQ_ERROR_ARGUMENT, "argument",
        "--budget: '%.80s' is no time; valid: a number above 0 with s, m or h, as in 90s, 10m, 2h",
        t->budget);
}

enum { MOST_BITS = 8, MOST_SHARDS = 1000 };

/* "2/8": the second of eight, which counts from 0 here. */
static xq_status read_shard(struct tuning *t, error *err)
{
    char first[16];
    const char *slash = t->shard_text ? strchr(t->shard_text, '/') : NULL;
    size_t length = slash ? (size_t)(slash - t->shard_text) : sizeof first;
    if (!t->shard_text)
        return XQ_OK;
    snprintf(first, sizeof first, "%.*s", (int)(length < sizeof first ? length : 0), t->shard_text);
    if (cli_read_whole(first, &t->shard) == CLI_NUMBER &&
        cli_read_whole(slash + 1, &t->shards) == CLI_NUMBER && t->shards >= 1 && t->shards <= MOST_SHARDS &&
        t->shard >= 1 && t->shard <= t->shards) {
        t->shard--;
        return XQ_OK;
    }
    return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                     "--shard: '%.80s' is not valid; valid: I/N, I from 1 to N, N from 1 to %d, as in 2/8",
                     t->shard_text, MOST_SHARDS);
}

/* A list of whole numbers; `otherwise` where the option was not given. Caller frees. */
static int64_t *read_numbers(const struct cli_list *list, const char *option, int64_t otherwise,
                             int64_t most, int *count, error *err)
{
    *count = list->count ? list->count : 1;
    int64_t *numbers = calloc((size_t)*count, sizeof *numbers);
    if (!numbers) {
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
        return NULL;
    }
    numbers[0] = otherwise;
    for (int i = 0; i < list->count && err->status == XQ_OK; i++) {
        const char *item = list->items[i];
        if (cli_read_whole(item, &numbers[i]) == CLI_NUMBER && numbers[i] >= 1 && numbers[i] <= most)
            continue;
        if (most == MOST_BITS)
            error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s: '%.80s' is no bit width; valid: 2, 3, 4, 8",
                      option, item);
        else
            error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s: '%.80s' is not valid; valid: 1 to %lld",
                      option, item, (long long)most);
    }
    return numbers;
}

static xq_status with_bits(const struct tuning *t, int64_t bits, int64_t queries, char **spec, error *err)
{
    cJSON *overrides = cJSON_CreateObject();
    if (bits)
        cli_override(overrides, "cache.bits", cJSON_CreateNumber((double)bits), err);
    if (queries > 1 && err->status == XQ_OK)
        cli_override(overrides, "queries", cJSON_CreateString("many"), err);
    if (err->status == XQ_OK)
        return cli_spec_override(t->generator, t->spec, overrides, spec, err);
    cJSON_Delete(overrides);
    return err->status;
}

/* -------------------------------------------------------------------- jobs */

struct axes {
    int64_t *bits, *contexts, *batches, *queries;
    int bit_count, context_count, batch_count, query_count, family_count;
};

static xq_status read_axes(const struct tuning *t, struct axes *a, error *err)
{
    a->bits = read_numbers(&t->bits, "--bits", 0, MOST_BITS, &a->bit_count, err);
    if (err->status == XQ_OK)
        a->contexts = read_numbers(&t->contexts, "--contexts", 4096, 1 << 24, &a->context_count, err);
    if (err->status == XQ_OK)
        a->batches = read_numbers(&t->batches, "--batches", 1, 65535, &a->batch_count, err);
    if (err->status == XQ_OK)
        a->queries = read_numbers(&t->queries, "--queries", 1, 65536, &a->query_count, err);
    a->family_count = t->families.count ? t->families.count : 1;
    return err->status;
}

static void free_axes(struct axes *a)
{
    free(a->bits);
    free(a->contexts);
    free(a->batches);
    free(a->queries);
}

/* What the last job would fail for is told before the first one begins. */
static xq_status check_job(const struct tuning *t, const struct tune_job *job, error *err)
{
    char *spec = NULL, *completed = NULL, *space = NULL;
    if (job->options->queries > job->options->tokens)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "--queries: %lld; valid are 1 .. %lld, as many as tokens",
                         (long long)job->options->queries, (long long)job->options->tokens);
    if (cli_any_layer_choices(t->generator, job->spec, &spec, err) == XQ_OK &&
        cli_complete_sizes(t->generator, spec, &completed, err) == XQ_OK)
        gen_space(t->generator, completed, job->family, &space, err);
    free(spec);
    free(completed);
    free(space);
    return err->status;
}

static xq_status add_job(struct tuning *t, const struct axes *a, int index, error *err)
{
    struct tuned *job = &t->jobs[t->job_count];
    struct compare_options *o = &t->options[t->job_count];
    const char *family = t->families.count ? t->families.items[index % a->family_count] : "attend";
    index /= a->family_count;
    *o = t->o;
    o->synthetic = true;
    o->queries = a->queries[index % a->query_count];
    index /= a->query_count;
    o->batch = a->batches[index % a->batch_count];
    index /= a->batch_count;
    o->tokens = a->contexts[index % a->context_count];
    index /= a->context_count;
    job->bits = (int)a->bits[index];
    job->job = (struct tune_job){.options = o, .family = family};
    if (!tune_family(family, &job->job.implementation))
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "--families: '%.80s' is no family that a step of attention runs; valid: %s",
                         family, tune_families);
    char *spec = NULL;
    if (with_bits(t, a->bits[index], o->queries, &spec, err) != XQ_OK)
        return err->status;
    job->job.spec = spec;
    t->job_count++;
    return check_job(t, &job->job, err);
}

static xq_status make_jobs(struct tuning *t, error *err)
{
    struct axes a = {0};
    if (read_axes(t, &a, err) == XQ_OK) {
        int64_t all =
            (int64_t)a.bit_count * a.context_count * a.batch_count * a.query_count * a.family_count;
        t->jobs = all <= 4096 ? calloc((size_t)all, sizeof *t->jobs) : NULL;
        t->options = all <= 4096 ? calloc((size_t)all, sizeof *t->options) : NULL;
        if (all > 4096)
            error_set(
                err, XQ_ERROR_ARGUMENT, "argument",
                "--contexts, --batches, --queries, --bits and --families make %lld combinations; valid: at "
                "most 4096",
                (long long)all);
        else if (!t->jobs || !t->options)
            error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
        for (int i = 0; i < all && err->status == XQ_OK; i++)
            add_job(t, &a, i, err);
    }
    free_axes(&a);
    return err->status;
}

/* ------------------------------------------------------------------ search */

/* One job under way. */
struct search_state {
    struct tuning *t;
    struct tuned *job;
    struct tune_worker *worker;
    struct tune_question question;
    double longest; /* seconds that a trial took */
};

static double time_left(const struct tuning *t)
{
    return fmax(0, t->budget_seconds - (cli_seconds() - t->begun));
}

static void show_progress(struct tuning *t, const char *detail)
{
    cli_progress_update(&t->progress, 1 - time_left(t) / t->budget_seconds, detail);
}

/* A trial may take ten times as long as any before it, and the first one, which also draws inputs and fills
 * the cache, as long as the budget lasts. */
static double patience(const struct search_state *s)
{
    double rest = time_left(s->t);
    double most = s->longest > 0 ? 60 + 10 * s->longest : rest;
    return fmax(1, fmin(most, rest));
}

static void show_candidate(const struct search_state *s, int candidate)
{
    char detail[96];
    const struct tune_job *job = &s->job->job;
    int tried = 0;
    for (int i = 0; i < s->job->count; i++)
        tried += s->job->candidates[i].tried;
    snprintf(detail, sizeof detail, "%s at %lld tokens: candidate %d of %d", job->family,
             (long long)job->options->tokens, s->job->candidates[candidate].tried ? tried : tried + 1,
             s->job->count);
    show_progress(s->t, detail);
}

/* Measures, and keeps the trial in the store; but a brief time that is not the first does not replace what
 * is there. False: interrupted, cut off by the end of the budget, or an error. */
static bool measure(struct search_state *s, const struct candidate *c, bool brief, struct tune_trial *trial,
                    error *err)
{
    double before = cli_seconds();
    if (!tune_worker_try(s->worker, c->parameters, brief, patience(s), is_interrupted, trial, err))
        return false;
    if (trial->outcome == TUNE_HUNG && time_left(s->t) <= 0)
        return false;
    s->longest = fmax(s->longest, cli_seconds() - before);
    s->job->limit = trial->limit > 0 ? trial->limit : s->job->limit;
    return !s->t->store || (brief && c->tried && trial->outcome == TUNE_MEASURED) ||
           tune_store_add(s->t->store, &s->question, c->parameters, trial, err) == XQ_OK;
}

/* Whether a trial of the store is worth as much as one that is asked for. */
static bool suffices(const struct tune_trial *trial, bool brief)
{
    return brief || trial->modelled || trial->outcome != TUNE_MEASURED || trial->repeats >= COMPARE_REPEATS;
}

/* The trial that the store has. First trials may be taken from it; the last rounds, and what is measured
 * again, are not. */
static xq_status look_up(struct search_state *s, struct candidate *c, bool brief, struct tune_trial *trial,
                         bool *found, error *err)
{
    *found = false;
    if (s->t->store && (!c->tried || (!brief && c->may_be_stored)) &&
        tune_store_find(s->t->store, &s->question, c->parameters, trial, found, err) == XQ_OK && *found)
        *found = suffices(trial, brief);
    s->job->stored += *found && !c->tried;
    c->may_be_stored = *found && brief;
    return err->status;
}

static xq_status try_candidate(void *user, int index, bool brief, struct search_time *out, error *err)
{
    struct search_state *s = user;
    struct candidate *c = &s->job->candidates[index];
    struct tune_trial trial;
    bool found;
    show_candidate(s, index);
    if (look_up(s, c, brief, &trial, &found, err) != XQ_OK ||
        (!found && !measure(s, c, brief, &trial, err)))
        return err->status; /* `out` stays unusable */
    c->trial = trial;
    c->tried = true;
    *out = (struct search_time){trial.outcome == TUNE_MEASURED, trial.median, trial.low, trial.high};
    if (index == s->job->standard && trial.outcome != TUNE_MEASURED && err->status == XQ_OK)
        error_set(err, XQ_ERROR_DEVICE, "device", "%s with its default parameters: %s: %s",
                  s->job->job.family, tune_outcome_names[trial.outcome], trial.reason);
    return err->status;
}

static void expect_candidate(void *user, int index)
{
    const struct search_state *s = user;
    const char *parameters = s->job->candidates[index].parameters;
    struct tune_trial trial;
    bool found = false;
    error err = ERROR_INIT; /* the trial reports it */
    if (s->t->store)
        tune_store_find(s->t->store, &s->question, parameters, &trial, &found, &err);
    error_clear(&err);
    if (!found)
        tune_worker_expect(s->worker, parameters);
}

static double seconds(void *user)
{
    (void)user;
    return cli_seconds();
}

static bool stop(void *user)
{
    (void)user;
    return is_interrupted();
}

static bool same_parameters(const cJSON *a, const char *b)
{
    cJSON *other = cJSON_Parse(b);
    bool same = cJSON_Compare(a, other, 1);
    cJSON_Delete(other);
    return same;
}

/* Takes over what gen_space lists. */
static xq_status read_space(struct tuned *job, const char *space, error *err)
{
    job->space = cJSON_Parse(space);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(job->space, "candidates"), *item,
                *chosen = cJSON_GetObjectItemCaseSensitive(job->space, "chosen");
    job->candidates = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *job->candidates);
    job->standard = -1;
    if (!job->space || !job->candidates)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    cJSON_ArrayForEach(item, list)
    {
        struct candidate *c = &job->candidates[job->count];
        c->stated = item;
        c->parameters = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(item, "parameters"));
        if (!c->parameters)
            return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
        if (same_parameters(chosen, c->parameters))
            job->standard = job->count;
        job->count++;
    }
    if (job->standard < 0)
        return error_set(err, XQ_ERROR_INTERNAL, "template",
                         "the default parameters of %s are not among its candidates", job->job.family);
    return XQ_OK;
}

/* There was no time for one measurement of the default. What was measured before is worth reporting. */
static xq_status budget_ended(const struct tuning *t, const struct tuned *job, error *err)
{
    error_clear(err);
    if (job > t->jobs)
        return XQ_OK;
    return error_set(
        err, XQ_ERROR_ARGUMENT, "argument",
        "--budget: %s does not suffice for setting up and one measurement of %s at %lld tokens; "
        "give more",
        t->budget, job->job.family, (long long)job->job.options->tokens);
}

static xq_status search(struct tuning *t, struct tuned *job, struct tune_worker *worker, error *err)
{
    double left = time_left(t);
    int rest = t->job_count - (int)(job - t->jobs);
    if (left <= 0)
        return budget_ended(t, job, err);
    struct search_state state = {.t = t, .job = job, .worker = worker};
    struct tune_known known = {0};
    const struct search_calls calls = {try_candidate, expect_candidate, seconds, stop, &state};
    tune_known_make(job->space, &known, err);
    const struct search_options o = {
        .strategy = t->strategy,
        .seed = (uint64_t)t->o.common.seed,
        .candidates = job->count,
        .first = job->standard,
        .known = known.candidates,
        .parameters = known.parameters,
        .noisy = !t->device.is_sim, /* modelled times are always the same */
        .most = (int)t->most,
        .shard = (int)t->shard,
        .shards = (int)t->shards,
        .budget_seconds = left / rest,
    };
    if (t->store && err->status == XQ_OK)
        tune_question_make(t->generator, &job->job, &t->device, &state.question, err);
    if (err->status == XQ_OK && search_run(&o, &calls, &job->result, err) == XQ_OK)
        job->done = job->candidates[job->standard].tried;
    job->interrupted = is_interrupted();
    tune_known_free(&known);
    tune_question_free(&state.question);
    return err->status;
}

static xq_status run_job(struct tuning *t, struct tuned *job, error *err)
{
    struct tune_worker *worker = NULL;
    char *space = NULL;
    show_progress(t, "setting up");
    if (tune_worker_start(&job->job, time_left(t), is_interrupted, &worker, &t->device, &space, err) ==
            XQ_OK &&
        read_space(job, space, err) == XQ_OK && !is_interrupted())
        search(t, job, worker, err);
    tune_worker_end(worker);
    free(space);
    if (err->status != XQ_OK && strcmp(err->field, "budget") == 0)
        budget_ended(t, job, err);
    return err->status;
}

static xq_status run_all(struct tuning *t, error *err)
{
    cli_signals_on_interrupt(on_interrupt);
    for (int i = 0; i < t->job_count && err->status == XQ_OK && !is_interrupted(); i++)
        run_job(t, &t->jobs[i], err);
    if (err->status != XQ_OK && is_interrupted())
        error_clear(err);
    cli_signals_on_interrupt(NULL);
    return err->status;
}

/* ----------------------------------------------------------------- dry run */

/* "attend, 4 bits, 4096 tokens" */
static void print_job(const struct tuned *job)
{
    fputs(job->job.family, stdout);
    if (job->bits)
        printf(", %d bits", job->bits);
    printf(", %lld tokens", (long long)job->job.options->tokens);
}

static void print_space(const struct tuned *job)
{
    const cJSON *combinations = cJSON_GetObjectItemCaseSensitive(job->space, "combinations");
    const struct compare_options *o = job->job.options;
    print_job(job);
    printf(", %lld sequence%s, %lld quer%s each: %d candidates\n", (long long)o->batch,
           o->batch == 1 ? "" : "s", (long long)o->queries, o->queries == 1 ? "y" : "ies", job->count);
    gen_print_combinations(combinations);
    tune_print_likely(job->likely);
}

/* `best` NULL: not known, and nothing is predicted. */
static xq_status list_job(struct tuning *t, struct tuned *job, xq_context *context, const ceilings *best,
                          error *err)
{
    char *spec = NULL, *completed = NULL, *space = NULL;
    if (cli_any_layer_choices(t->generator, job->job.spec, &spec, err) == XQ_OK &&
        context_complete(context, spec, &completed, err) == XQ_OK &&
        context_space(context, completed, job->job.family, &space, err) == XQ_OK && best)
        tune_predict(&space, &context->device->properties, best, job->job.options, err);
    if (err->status == XQ_OK && read_space(job, space, err) == XQ_OK &&
        tune_likely(job->space, &job->likely, err) == XQ_OK && !cli_json_to_stdout(&t->o.common))
        print_space(job);
    free(spec);
    free(completed);
    free(space);
    return err->status;
}

/* What would be tried, without a process and without measuring kernels. A GPU's bandwidth and matrix rate
 * are measured, for which a compiler is needed. */
static int dry_run(struct tuning *t, error *err)
{
    xq_context *context = NULL;
    int status = cli_open("tune", &t->o.common, &context);
    if (status != CLI_OK)
        return status;
    ceilings best;
    error unknown = ERROR_INIT;
    bool known = ceilings_find(context, &best, &unknown) == XQ_OK;
    if (!known && !t->o.common.quiet)
        fprintf(stderr, "xq tune: no times are predicted: %s\n", cli_show(unknown.message).text);
    error_clear(&unknown);
    for (int i = 0; i < t->job_count && err->status == XQ_OK; i++)
        list_job(t, &t->jobs[i], context, known ? &best : NULL, err);
    xq_context_device(context, &t->device);
    xq_context_destroy(context);
    return CLI_OK;
}

/* ------------------------------------------------------------------ report */

static double gain_of(const struct tuned *job)
{
    return job->result.default_time.median / job->result.best_time.median;
}

/* The parameters in which the best differs from the default; caller frees. */
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

static void print_results(const struct tuning *t)
{
    bool modelled = t->device.is_sim;
    printf("%s\n%-11s %5s %8s %6s %8s %11s %11s %6s %7s  %s\n", t->device.name, "family", "bits", "tokens",
           "batch", "queries", "default us", "best us", "gain", "/ limit", "candidates");
    for (int i = 0; i < t->job_count; i++) {
        const struct tuned *job = &t->jobs[i];
        const struct compare_options *o = job->job.options;
        char bits[16] = "spec";
        if (job->bits)
            snprintf(bits, sizeof bits, "%d", job->bits);
        printf("%-11s %5s %8lld %6lld %8lld ", job->job.family, bits, (long long)o->tokens,
               (long long)o->batch, (long long)o->queries);
        if (!job->done) {
            printf("not measured\n");
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
    printf(
        "\nTimes are of one step of attention, %s. A gain of 1 keeps the default: nothing was faster "
        "beyond the\n"
        "spread of the measurements. \"/ limit\" is the best time over the least that the device allows.\n",
        modelled ? "modelled" : "medians");
}

static void print_winners(const struct tuning *t)
{
    for (int i = 0; i < t->job_count; i++) {
        const struct tuned *job = &t->jobs[i];
        if (!job->done || job->result.best == job->standard)
            continue;
        char *changed = difference(job);
        putchar('\n');
        print_job(job);
        printf(", batch %lld", (long long)job->job.options->batch);
        if (job->job.options->queries > 1)
            printf(", %lld queries", (long long)job->job.options->queries);
        printf(": --set 'tuning.%s=%s'", job->job.family, changed ? changed : "?");
        free(changed);
    }
    putchar('\n');
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

static cJSON *job_json(const struct tuned *job)
{
    const struct compare_options *o = job->job.options;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "spec", cJSON_Parse(job->job.spec));
    cJSON_AddStringToObject(json, "family", job->job.family);
    cJSON_AddStringToObject(json, "implementation", compare_name(job->job.implementation));
    cJSON_AddNumberToObject(json, "tokens", (double)o->tokens);
    cJSON_AddNumberToObject(json, "batch", (double)o->batch);
    cJSON_AddNumberToObject(json, "queries", (double)o->queries);
    cJSON_AddItemToObject(json, "combinations",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(job->space, "combinations"), 1));
    if (job->likely)
        cJSON_AddItemToObject(json, "likely", cJSON_Duplicate(job->likely, 1));
    if (job->done) {
        cJSON_AddItemToObject(json, "default", trial_json(&job->candidates[job->standard]));
        cJSON_AddItemToObject(json, "best", trial_json(&job->candidates[job->result.best]));
        cJSON_AddNumberToObject(json, "gain", gain_of(job));
        cJSON_AddNumberToObject(json, "limit_us", job->limit > 0 ? 1e6 * job->limit : NAN);
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

static xq_status write_json(const struct tuning *t, error *err)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", t->device.name);
    cJSON_AddStringToObject(root, "arch", t->device.arch);
    cJSON_AddNumberToObject(root, "driver", t->device.driver);
    cJSON_AddNumberToObject(root, "nvrtc", t->device.nvrtc);
    cJSON_AddStringToObject(root, "xq", xq_version());
    cJSON_AddStringToObject(root, "device_kind", t->device.is_sim ? "sim" : "cuda");
    cJSON_AddStringToObject(root, "time_kind", t->device.is_sim ? "modelled" : "measured");
    cJSON *jobs = cJSON_AddArrayToObject(root, "jobs");
    for (int i = 0; i < t->job_count; i++)
        cJSON_AddItemToArray(jobs, job_json(&t->jobs[i]));
    cli_write_json(&t->o.common, root, err);
    cJSON_Delete(root);
    return err->status;
}

/* ----------------------------------------------------------------- command */

static void release(struct tuning *t)
{
    for (int i = 0; i < t->job_count; i++) {
        for (int k = 0; k < t->jobs[i].count; k++)
            free(t->jobs[i].candidates[k].parameters);
        free(t->jobs[i].candidates);
        cJSON_Delete(t->jobs[i].space);
        cJSON_Delete(t->jobs[i].likely);
        free((char *)t->jobs[i].job.spec);
    }
    free(t->jobs);
    free(t->options);
    free(t->spec);
    gen_destroy(t->generator);
    store_close(t->store);
    struct cli_list *lists[] = {&t->bits, &t->families, &t->contexts, &t->batches, &t->queries};
    for (int i = 0; i < 5; i++)
        cli_list_free(lists[i]);
}

static bool find_strategy(struct tuning *t)
{
    static const char *const names[] = {
        [SEARCH_MODEL] = "model", [SEARCH_RANDOM] = "random", [SEARCH_EXHAUSTIVE] = "exhaustive"};
    for (int i = SEARCH_MODEL; i <= SEARCH_EXHAUSTIVE; i++)
        if (strcmp(t->strategy_name, names[i]) == 0) {
            t->strategy = (enum search_strategy)i;
            return true;
        }
    return false;
}

static int check_usage(const cli_command *command, struct tuning *t)
{
    if (cli_needs_model(command) != CLI_OK)
        return CLI_USAGE;
    static const char *const measuring[] = {"--store", "--budget", "--strategy", "--most", "--shard"};
    for (int i = 0; i < 5; i++)
        if (t->dry_run && cli_given(command, measuring[i]))
            return cli_usage("tune", "%s: has no effect with --dry-run, which measures nothing",
                             measuring[i]);
    if (t->bits.count && cli_spec_sets(&t->o.spec, "cache.bits"))
        return cli_usage("tune", "--bits and --set cache.bits: give one of them");
    if (cli_given(command, "--queries") && cli_spec_sets(&t->o.spec, "queries"))
        return cli_usage("tune", "--queries and --set queries: give one of them");
    if (!find_strategy(t))
        return cli_bad_input("tune", "--strategy: '%s' is not known; valid: model, random, exhaustive",
                             cli_show(t->strategy_name).text);
    return CLI_OK;
}

static xq_status prepare(struct tuning *t, error *err)
{
    cli_reads_common(&t->o.common, &t->o.spec);
    if (read_budget(t, err) == XQ_OK && read_shard(t, err) == XQ_OK &&
        cli_begin_json(&t->o.common, err) == XQ_OK &&
        cli_spec_json(&t->o.spec, &t->o.common, &t->spec, err) == XQ_OK &&
        gen_create(t->o.common.templates, &t->generator, err) == XQ_OK && make_jobs(t, err) == XQ_OK &&
        t->store_path)
        store_open(t->store_path, STORE_CREATE, &t->store, err);
    return err->status;
}

static int work(struct tuning *t, error *err)
{
    t->begun = cli_seconds();
    if (t->dry_run)
        return dry_run(t, err);
    cli_progress_begin(&t->progress, &t->o.common, "tuning");
    run_all(t, err);
    cli_progress_end(&t->progress);
    bool some = err->status == XQ_OK; /* a later job may have failed */
    for (int i = 0; i < t->job_count; i++)
        some = some || t->jobs[i].done;
    if (some && !cli_json_to_stdout(&t->o.common)) {
        print_results(t);
        print_winners(t);
    }
    return is_interrupted() ? CLI_BAD_INPUT : CLI_OK;
}

const char cli_tune_summary[] = "the fastest parameters of kernels on a device";

int cli_tune(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "merge") == 0)
        return cli_tune_merge(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "replay") == 0)
        return cli_tune_replay(argc - 1, argv + 1);
    struct tuning t = {.o = {.base_layer = CLI_BASE_LAYER},
                       .strategy_name = "model",
                       .budget = "10m",
                       .device = XQ_DEVICE_INFO_INIT};
    const cli_option own[] = {
        {"--families", CLI_LIST, &t.families, "NAME,...",
         "kernel families: attend (default), accumulate, key_norms, kv_attend, dequantize, gemm, rope"},
        {"--bits", CLI_LIST, &t.bits, "N,N...", "bit widths (the spec's)"},
        {"--contexts", CLI_LIST, &t.contexts, "N,N...", "cached tokens of each sequence (4096)"},
        {"--batches", CLI_LIST, &t.batches, "N,N...", "sequences (1)"},
        {"--queries", CLI_LIST, &t.queries, "N,N...",
         "queries of each sequence, at its last positions (1)"},
        {"--budget", CLI_STRING, &t.budget, "TIME",
         "how long it may take in all, as in 90s, 10m, 2h (10m)"},
        {"--strategy", CLI_STRING, &t.strategy_name, "NAME",
         "model: the most promising first, by a cost model (default); random: in an order drawn from "
         "--seed; exhaustive: one after the other"},
        {"--store", CLI_STRING, &t.store_path, "FILE",
         "keeps every measurement, and takes those that are there; made where it is missing"},
        {"--most", CLI_INT, &t.most, "N", "candidates of each family and size (all)"},
        {"--shard", CLI_STRING, &t.shard_text, "I/N",
         "the I-th of N parts of the candidates, and the default (all)"},
        {"--dry-run", CLI_FLAG, &t.dry_run, NULL,
         "count the candidates, say what rules out the others, and show the sixteen that the model "
         "predicts to be the fastest"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "tune",
        .summary = cli_tune_summary,
        .description = "Tries the parameters of kernel families on this device, for every combination of\n"
                       "--families, --bits, --contexts, --batches and --queries, over synthetic inputs. "
                       "Each candidate\n"
                       "is compared with double precision before it is timed, in a process of its own. The "
                       "default is\n"
                       "measured first, and loses only to what is faster beyond the spread of the "
                       "measurements. Ctrl-C\n"
                       "ends it with what there is (exit status 1). docs/tuning.md says how to read the "
                       "result, and how\n"
                       "to use it.\n"
                       "`xq tune merge STORE... --out FILE` makes one store out of several; "
                       "`xq tune replay FILE...` says\nhow soon the search finds what is good.",
        .options = own,
        .bounds = (const cli_bounds[]){{"--most", 1, 1000000}, {NULL, 0, 0}},
        .common = &t.o.common,
        .spec = &t.o.spec,
        .unused = (const cli_unused[]){{"--base", "which layer that is, is not asked for"},
                                       {"arch", "it is the device's"},
                                       {NULL, NULL}},
    };
    error err = ERROR_INIT;
    int status;
    if (cli_parse(&command, argc, argv, &status) && (status = check_usage(&command, &t)) == CLI_OK) {
        if (prepare(&t, &err) == XQ_OK)
            status = work(&t, &err);
        if (err.status == XQ_OK && (status == CLI_OK || is_interrupted()))
            write_json(&t, &err);
        if (err.status != XQ_OK)
            status = cli_fail("tune", &t.o.common, &err);
    }
    error_clear(&err);
    release(&t);
    return status;
}
