#include "tune_replay.h"
#include "tune_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 100 }; /* seeds of the random strategy */

static const int counts[] = {1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64};
enum { COUNTS = sizeof counts / sizeof counts[0] };

/* A space that was measured as a whole. */
struct recorded {
    char name[160];
    struct search_time *times;
    struct tune_known known;
    int count, standard;
    double best; /* seconds */
};

/* How near a search came to the best: the best time over the time found, at most 1. */
struct replayed {
    double model[COUNTS], random[COUNTS], random_worst[COUNTS];
};

/* -------------------------------------------------------------------- reading */

static xq_status refuse(const char *path, const char *what, error *err)
{
    return error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s", cli_show(path).text, what);
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text(const cJSON *object, const char *name)
{
    const char *found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return found ? found : "";
}

static xq_status read_times(const char *path, const cJSON *job, struct recorded *r, error *err)
{
    const cJSON *trials = cJSON_GetObjectItemCaseSensitive(job, "trials"),
                *standard = cJSON_GetObjectItemCaseSensitive(
                    cJSON_GetObjectItemCaseSensitive(job, "default"), "parameters"),
                *trial;
    r->standard = -1;
    r->times = calloc((size_t)cJSON_GetArraySize(trials) + 1, sizeof *r->times);
    if (!r->times)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    cJSON_ArrayForEach(trial, trials)
    {
        struct search_time *t = &r->times[r->count];
        *t = (struct search_time){.usable = strcmp(text(trial, "outcome"), "measured") == 0,
                                  .median = 1e-6 * number(trial, "time_us"),
                                  .low = 1e-6 * number(trial, "time_us_low"),
                                  .high = 1e-6 * number(trial, "time_us_high")};
        if (t->usable && !(t->median > 0))
            return refuse(path, "a measured trial has no time_us above 0", err);
        if (t->usable && (r->best == 0 || t->median < r->best))
            r->best = t->median;
        if (cJSON_Compare(standard, cJSON_GetObjectItemCaseSensitive(trial, "parameters"), 1))
            r->standard = r->count;
        r->count++;
    }
    if (r->standard < 0 || !r->times[r->standard].usable)
        return refuse(path, "a job has no measured default among its trials", err);
    if (r->count != (int)number(cJSON_GetObjectItemCaseSensitive(job, "combinations"), "valid"))
        return refuse(
            path, "some candidates of a job were not tried; record the space with --strategy exhaustive",
            err);
    return XQ_OK;
}

/* Predicts times anew with today's model, from what the file states of each candidate. */
static xq_status predict(const char *path, const cJSON *job, cJSON *space, error *err)
{
    const cJSON *candidate;
    const struct cost_load load = {(int64_t)number(job, "tokens"), (int64_t)number(job, "batch"),
                                   (int64_t)number(job, "queries")};
    if (load.tokens < 1 || load.batch < 1 || load.queries < 1)
        return refuse(path, "tokens, batch and queries must be at least 1", err);
    if (tune_predict_recorded(space, cJSON_GetObjectItemCaseSensitive(job, "model"), &load, err) != XQ_OK)
        return err->status;
    cJSON_ArrayForEach(candidate, cJSON_GetObjectItemCaseSensitive(space, "candidates"))
    {
        if (!cJSON_GetObjectItemCaseSensitive(candidate, "predicted"))
            return refuse(path, "a trial has no \"work\" for the cost model", err);
    }
    return XQ_OK;
}

/* Makes a space from the trials of a job. */
static xq_status read_known(const char *path, const cJSON *job, struct recorded *r, error *err)
{
    const cJSON *standard = cJSON_GetObjectItemCaseSensitive(job, "default");
    cJSON *space = cJSON_CreateObject();
    cJSON_AddItemToObject(space, "candidates",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(job, "trials"), 1));
    cJSON_AddItemToObject(space, "chosen",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(standard, "parameters"), 1));
    if (predict(path, job, space, err) == XQ_OK)
        tune_known_make(space, &r->known, err);
    cJSON_Delete(space);
    return err->status;
}

static void name_job(const cJSON *root, const cJSON *job, struct recorded *r)
{
    const cJSON *spec = cJSON_GetObjectItemCaseSensitive(job, "spec"),
                *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const char *method = text(cache, "method"), *model = text(spec, "model");
    int at = snprintf(r->name, sizeof r->name, "%s, %s", text(job, "family"), *model ? model : "own model");
    if (*method)
        at += snprintf(r->name + at, sizeof r->name - (size_t)at, ", %s", method);
    if (number(cache, "bits") > 0)
        at += snprintf(r->name + at, sizeof r->name - (size_t)at, ", %g bits", number(cache, "bits"));
    at += snprintf(r->name + at, sizeof r->name - (size_t)at, ", %g x %g tokens", number(job, "batch"),
                   number(job, "tokens"));
    if (number(job, "queries") > 1)
        at += snprintf(r->name + at, sizeof r->name - (size_t)at, ", %g queries", number(job, "queries"));
    snprintf(r->name + at, sizeof r->name - (size_t)at, ", %s", text(root, "arch"));
}

static void release(struct recorded *r)
{
    free(r->times);
    tune_known_free(&r->known);
}

/* ------------------------------------------------------------------ replaying */

static xq_status look_up(void *user, int candidate, bool brief, struct search_time *out, error *err)
{
    const struct recorded *r = user;
    (void)brief;
    *out = r->times[candidate];
    return err->status;
}

static double no_time(void *user)
{
    (void)user;
    return 0;
}

static bool go_on(void *user)
{
    (void)user;
    return false;
}

static xq_status replay(struct recorded *r, enum search_strategy strategy, uint64_t seed, int most,
                        double *share, error *err)
{
    const struct search_calls calls = {look_up, NULL, no_time, go_on, r};
    const struct search_options o = {.strategy = strategy,
                                     .seed = seed,
                                     .candidates = r->count,
                                     .first = r->standard,
                                     .known = r->known.candidates,
                                     .parameters = r->known.parameters,
                                     .most = most,
                                     .budget_seconds = 1};
    struct search_result result;
    if (search_run(&o, &calls, &result, err) == XQ_OK)
        *share = r->best / result.best_time.median;
    return err->status;
}

static xq_status replay_all(struct recorded *r, struct replayed *out, error *err)
{
    for (int i = 0; i < COUNTS && err->status == XQ_OK; i++) {
        double share, sum = 0, worst = 1;
        replay(r, SEARCH_MODEL, 0, counts[i], &out->model[i], err);
        for (uint64_t seed = 0;
             seed < SEEDS && replay(r, SEARCH_RANDOM, seed, counts[i], &share, err) == XQ_OK; seed++) {
            sum += share;
            worst = fmin(worst, share);
        }
        out->random[i] = sum / SEEDS;
        out->random_worst[i] = worst;
    }
    return err->status;
}

/* -------------------------------------------------------------------- report */

static void print(const struct recorded *r, const struct replayed *p)
{
    printf("%s: %d candidates, best %.4g us\n  measurements", r->name, r->count, 1e6 * r->best);
    for (int i = 0; i < COUNTS; i++)
        printf("%7d", counts[i]);
    printf("\n  model       ");
    for (int i = 0; i < COUNTS; i++)
        printf("%7.1f", 100 * p->model[i]);
    printf("\n  random, mean");
    for (int i = 0; i < COUNTS; i++)
        printf("%7.1f", 100 * p->random[i]);
    printf("\n  random, worst");
    for (int i = 0; i < COUNTS; i++)
        printf("%*.1f", i ? 7 : 6, 100 * p->random_worst[i]);
    putchar('\n');
}

static cJSON *to_json(const char *path, const struct recorded *r, const struct replayed *p)
{
    cJSON *o = cJSON_CreateObject(), *list;
    cJSON_AddStringToObject(o, "file", path);
    cJSON_AddStringToObject(o, "space", r->name);
    cJSON_AddNumberToObject(o, "candidates", r->count);
    cJSON_AddNumberToObject(o, "best_us", 1e6 * r->best);
    list = cJSON_AddArrayToObject(o, "after");
    for (int i = 0; i < COUNTS; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddNumberToObject(row, "measurements", counts[i]);
        cJSON_AddNumberToObject(row, "model", p->model[i]);
        cJSON_AddNumberToObject(row, "random", p->random[i]);
        cJSON_AddNumberToObject(row, "random_worst", p->random_worst[i]);
        cJSON_AddItemToArray(list, row);
    }
    return o;
}

static xq_status replay_file(const char *path, bool prints, cJSON *list, error *err)
{
    char *content = NULL;
    size_t size;
    if (cli_read_file(path, &content, &size, err) != XQ_OK)
        return err->status;
    cJSON *root = cJSON_Parse(content);
    const cJSON *jobs = cJSON_GetObjectItemCaseSensitive(root, "jobs"), *job;
    free(content);
    if (!cJSON_IsArray(jobs))
        refuse(path, "it is no result of xq tune --json", err);
    cJSON_ArrayForEach(job, jobs)
    {
        struct recorded r = {.count = 0};
        struct replayed p;
        if (err->status != XQ_OK)
            break;
        name_job(root, job, &r);
        if (read_times(path, job, &r, err) == XQ_OK && read_known(path, job, &r, err) == XQ_OK &&
            replay_all(&r, &p, err) == XQ_OK) {
            if (prints)
                print(&r, &p);
            cJSON_AddItemToArray(list, to_json(path, &r, &p));
        }
        release(&r);
    }
    cJSON_Delete(root);
    return err->status;
}

int cli_tune_replay(int argc, char **argv)
{
    struct cli_common common = {0};
    cli_command command = {
        .name = "tune replay",
        .summary = "measure how soon searches find good candidates",
        .arguments = "FILE...",
        .description =
            "Replays the search of xq tune over spaces that were measured completely, as\n"
            "`xq tune --strategy exhaustive --json FILE` writes them. Prints how near to the best the\n"
            "search is after each number of measurements: the best time over the time found, in\n"
            "percent. Strategy model is compared with random, over 100 seeds. Predictions are made anew\n"
            "from the recorded candidates.",
        .common = &common,
        .unused = (const cli_unused[]){{"--device", "nothing is measured"},
                                       {"--cache-dir", "nothing is compiled"},
                                       {"--templates", "nothing is generated"},
                                       {"--seed", "the seeds are 0 to 99"},
                                       {"--verbose", "there is nothing more to say"},
                                       {NULL, NULL}},
        .positional_min = 1,
        .positional_max = CLI_MOST_ARGUMENTS,
    };
    int status;
    error err = ERROR_INIT;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < command.positional_count; i++)
        cli_reads("FILE", command.positional[i]);
    if (cli_begin_json(&common, &err) == XQ_OK)
        for (int i = 0; i < command.positional_count && err.status == XQ_OK; i++)
            replay_file(command.positional[i], !cli_json_to_stdout(&common), list, &err);
    if (err.status == XQ_OK)
        cli_write_json(&common, list, &err);
    if (err.status != XQ_OK)
        status = cli_fail("tune replay", &common, &err);
    cJSON_Delete(list);
    error_clear(&err);
    return status;
}
