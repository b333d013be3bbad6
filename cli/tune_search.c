/* Runs the jobs of xq tune: candidates are looked up in the store or tried in a worker, and the winner is
 * verified again. */
#include "signals.h"
#include "tune_model.h"
#include "tune_run.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool interrupted;

static void on_interrupt(void)
{
    interrupted = true;
}

bool tune_is_interrupted(void)
{
    return interrupted;
}

#define CONFIRMING 0.05 /* share of a job's budget that is kept for verifying the winner again */

/* One running job. */
struct search_state {
    struct tuning *t;
    struct tuned *job;
    struct tune_worker *worker;
    struct tune_question question;
    double longest; /* seconds of the longest trial so far */
};

static double time_left(const struct tuning *t)
{
    return fmax(0, t->budget_seconds - (cli_seconds() - t->begun));
}

static void show_progress(struct tuning *t, const char *detail)
{
    cli_progress_update(&t->progress, 1 - time_left(t) / t->budget_seconds, detail);
}

/* The limit of a trial. It may take a minute and ten times as long as the longest trial so far. The first
 * trial, which also draws inputs and fills the cache, may take as long as the budget lasts. Waiting for
 * other processes does not count, but it ends with the budget. */
static struct tune_limit patience(const struct search_state *s)
{
    double rest = fmax(1, time_left(s->t));
    double most = s->longest > 0 ? 60 + 10 * s->longest : rest;
    return (struct tune_limit){fmin(most, rest), rest};
}

/* ", best 1.44 x": how many times as fast as the default the best is, or "" as long as nothing is
 * faster. */
static void describe_best(const struct tuned *job, char *text, size_t size)
{
    const struct tune_trial *standard = &job->candidates[job->standard].trial;
    double best = standard->median;
    for (int i = 0; i < job->count; i++)
        if (job->candidates[i].tried && job->candidates[i].trial.outcome == TUNE_MEASURED)
            best = fmin(best, job->candidates[i].trial.median);
    *text = 0;
    if (job->candidates[job->standard].tried && best < standard->median)
        snprintf(text, size, ", best %.2f x", standard->median / best);
}

static void show_candidate(const struct search_state *s, int candidate)
{
    char detail[160], best[64];
    const struct tune_job *job = &s->job->job;
    int tried = 0;
    for (int i = 0; i < s->job->count; i++)
        tried += s->job->candidates[i].tried;
    describe_best(s->job, best, sizeof best);
    snprintf(detail, sizeof detail, "%s%s%s at %lld tokens: %d of %d%s", s->job->model ? s->job->model : "",
             s->job->model ? ", " : "", job->family, (long long)job->options->tokens,
             s->job->candidates[candidate].tried ? tried : tried + 1, s->job->count, best);
    show_progress(s->t, detail);
}

/* Measures a candidate, and keeps the trial in the store. A brief time of a candidate that was tried before
 * does not replace the stored one. Returns false after an interrupt, at the end of the budget, or on an
 * error. */
static bool measure(struct search_state *s, const struct candidate *c, bool brief, struct tune_trial *trial,
                    error *err)
{
    const double before = cli_seconds();
    const struct tune_limit limit = patience(s);
    if (!tune_worker_try(s->worker, c->parameters, brief, &limit, tune_is_interrupted, trial, err))
        return false;
    measure_noticed_add(&s->t->noticed, &trial->noticed);
    if (trial->outcome == TUNE_HUNG && time_left(s->t) <= 0)
        return false;
    s->longest = fmax(s->longest, cli_seconds() - before - trial->waited);
    s->job->limit = trial->limit > 0 ? trial->limit : s->job->limit;
    return !s->t->store || (brief && c->tried && trial->outcome == TUNE_MEASURED) ||
           tune_store_add(s->t->store, &s->question, c->parameters, trial, err) == XQ_OK;
}

/* Whether a trial from the store can stand for the trial that is asked for. */
static bool suffices(const struct tune_trial *trial, bool brief)
{
    return brief || trial->modelled || trial->outcome != TUNE_MEASURED || trial->repeats >= COMPARE_REPEATS;
}

/* Looks a trial up in the store. A candidate's first trial may come from the store, and so may a full trial
 * after a brief one from the store. All other trials are measured anew. */
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
    error err = ERROR_INIT; /* the trial itself reports errors */
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
    return tune_is_interrupted();
}

static bool same_parameters(const cJSON *a, const char *b)
{
    cJSON *other = cJSON_Parse(b);
    bool same = cJSON_Compare(a, other, 1);
    cJSON_Delete(other);
    return same;
}

xq_status tune_read_space(struct tuned *job, const char *space, error *err)
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

/* Handles a budget that ended before the default was measured once. Earlier jobs, if any, are still worth
 * reporting. */
static xq_status budget_ended(const struct tuning *t, const struct tuned *job, error *err)
{
    error_clear(err);
    if (job > t->jobs)
        return XQ_OK;
    return error_set(
        err, XQ_ERROR_ARGUMENT, "argument",
        "--budget: %s is too short to set up and measure %s once at %lld tokens%s%.80s; give more",
        t->budget, job->job.family, (long long)job->job.options->tokens, job->model ? " for " : "",
        job->model ? job->model : "");
}

/* Chooses the fastest candidate that is right and beats the default beyond the spread of both; else the
 * default. */
static void choose_next_best(struct tuned *job)
{
    struct search_result *r = &job->result;
    r->best = job->standard;
    r->best_time = r->default_time;
    for (int i = 0; i < job->count; i++) {
        const struct candidate *c = &job->candidates[i];
        const struct tune_trial *trial = &c->trial;
        if (!c->tried || trial->outcome != TUNE_MEASURED || trial->high >= r->default_time.low ||
            trial->median >= r->best_time.median)
            continue;
        r->best = i;
        r->best_time = (struct search_time){true, trial->median, trial->low, trial->high};
    }
}

/* Verifies the winner again, after all of its measurements. A winner that fails now counts as wrong, also
 * in the store, and the next best takes its place. The end of the budget, or an interrupt, leaves the
 * winner unconfirmed. */
static xq_status confirm(struct search_state *s, error *err)
{
    struct tuned *job = s->job;
    while (err->status == XQ_OK && !job->confirmed && job->result.best != job->standard) {
        struct candidate *c = &job->candidates[job->result.best];
        struct tune_trial trial;
        const struct tune_limit limit = patience(s);
        show_progress(s->t, "verifying the winner again");
        if (time_left(s->t) <= 0 ||
            !tune_worker_confirm(s->worker, c->parameters, &limit, tune_is_interrupted, &trial, err) ||
            (trial.outcome == TUNE_HUNG && time_left(s->t) <= 0))
            return err->status;
        measure_noticed_add(&s->t->noticed, &trial.noticed);
        job->confirmed = trial.outcome == TUNE_MEASURED;
        if (job->confirmed)
            return XQ_OK;
        c->trial = trial;
        c->trial.outcome = TUNE_WRONG; /* it ran before, so any failure now is its own fault */
        if (s->t->store)
            tune_store_add(s->t->store, &s->question, c->parameters, &c->trial, err);
        choose_next_best(job);
    }
    return err->status;
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
        .noisy = !t->device.is_sim, /* modelled times never vary */
        .most = (int)t->most,
        .shard = (int)t->shard,
        .shards = (int)t->shards,
        .budget_seconds = (1 - CONFIRMING) * left / rest,
    };
    if (t->store && err->status == XQ_OK)
        tune_question_make(t->generator, &job->job, &t->device, &state.question, err);
    if (err->status == XQ_OK && search_run(&o, &calls, &job->result, err) == XQ_OK)
        job->done = job->candidates[job->standard].tried;
    if (err->status == XQ_OK && job->done)
        confirm(&state, err);
    job->interrupted = tune_is_interrupted();
    tune_known_free(&known);
    tune_question_free(&state.question);
    return err->status;
}

static xq_status run_job(struct tuning *t, struct tuned *job, error *err)
{
    struct tune_worker *worker = NULL;
    char *space = NULL;
    show_progress(t, "setting up");
    if (tune_worker_start(&job->job, time_left(t), tune_is_interrupted, &worker, &t->device, &space, err) ==
            XQ_OK &&
        tune_read_space(job, space, err) == XQ_OK && !tune_is_interrupted())
        search(t, job, worker, err);
    tune_worker_end(worker);
    free(space);
    if (err->status != XQ_OK && strcmp(err->field, "budget") == 0)
        budget_ended(t, job, err);
    return err->status;
}

/* Whether the failure of one job says nothing about the others. */
static bool is_of_one_job(const struct tuning *t, xq_status status)
{
    return t->job_count > 1 && (status == XQ_ERROR_DEVICE || status == XQ_ERROR_DEVICE_MEMORY ||
                                status == XQ_ERROR_UNSUPPORTED || status == XQ_ERROR_COMPILE);
}

xq_status tune_run_jobs(struct tuning *t, error *err)
{
    cli_signals_on_interrupt(on_interrupt);
    for (int i = 0; i < t->job_count && err->status == XQ_OK && !tune_is_interrupted(); i++) {
        struct tuned *job = &t->jobs[i];
        if (run_job(t, job, err) != XQ_OK && !tune_is_interrupted() && is_of_one_job(t, err->status)) {
            snprintf(job->failed, sizeof job->failed, "%.199s", err->message);
            t->failures++;
            error_clear(err);
        }
    }
    if (err->status != XQ_OK && tune_is_interrupted())
        error_clear(err);
    cli_signals_on_interrupt(NULL);
    return err->status;
}
