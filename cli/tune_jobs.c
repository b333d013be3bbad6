/* Makes the jobs of xq tune: one for every model and every combination of bits, sizes and families. */
#include "choices.h"
#include "tune_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads a time like "90s", "10m" or "2h". */
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
        "--budget: '%.80s' is no time; valid: a number above 0 with s, m or h, for example 90s, 10m or 2h",
        t->budget);
}

enum { MOST_BITS = 8, MOST_SHARDS = 1000 };

/* Reads a shard: "2/8" is the second of eight, which has the number 1 here. */
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
    return error_set(
        err, XQ_ERROR_ARGUMENT, "argument",
        "--shard: '%.80s' is not valid; valid: I/N, with I from 1 to N and N from 1 to %d, for example 2/8",
        t->shard_text, MOST_SHARDS);
}

/* Reads a list of whole numbers. `otherwise` is the only number where the option was not given. Caller
 * frees. */
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

xq_status tune_read_settings(struct tuning *t, error *err)
{
    return read_budget(t, err) == XQ_OK ? read_shard(t, err) : err->status;
}

static xq_status with_bits(const struct tuning *t, const char *spec, int64_t bits, int64_t queries,
                           char **out, error *err)
{
    cJSON *overrides = cJSON_CreateObject();
    if (bits)
        cli_override(overrides, "cache.bits", cJSON_CreateNumber((double)bits), err);
    if (queries > 1 && err->status == XQ_OK)
        cli_override(overrides, "queries", cJSON_CreateString("many"), err);
    if (err->status == XQ_OK)
        return cli_spec_override(t->generator, spec, overrides, out, err);
    cJSON_Delete(overrides);
    return err->status;
}

/* ------------------------------------------------------------------ models */

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
}

/* Adds a model. With `name` NULL it is the model of --model or --spec. Takes `name`. */
static xq_status add_model(struct tuning *t, char *name, error *err)
{
    struct tune_model *more = realloc(t->models, sizeof *more * ((size_t)t->model_count + 1));
    struct cli_spec spec = t->o.spec;
    char *text = NULL;
    if (more)
        t->models = more;
    else
        no_memory(err);
    spec.model = name ? name : spec.model;
    if (err->status == XQ_OK && cli_spec_json(&spec, &t->o.common, &text, err) == XQ_OK)
        t->models[t->model_count++] = (struct tune_model){name, text};
    else
        free(name);
    return err->status;
}

static const char *family_of(const struct tuning *t, int index)
{
    return t->families.count ? t->families.items[index] : "attend";
}

/* The hash of what kernels depend on in a model's first layer. Errors: XQ_ERROR_UNSUPPORTED where one of
 * the families cannot serve it. */
static xq_status shape_of(const struct tuning *t, const struct tune_model *model, gen_hash *out, error *err)
{
    char *spec = NULL, *completed = NULL;
    if (cli_any_layer_choices(t->generator, model->spec, &spec, err) == XQ_OK &&
        gen_complete(t->generator, spec, &completed, err) == XQ_OK)
        gen_shape(t->generator, completed, out, err);
    for (int i = 0; err->status == XQ_OK && (i == 0 || i < t->families.count); i++) {
        char *space = NULL;
        gen_space(t->generator, completed, family_of(t, i), &space, err);
        free(space);
    }
    free(spec);
    free(completed);
    return err->status;
}

/* Drops the last model where its kernels are those of an earlier model, or where no plan can be made for
 * it. */
static xq_status keep_new_shape(struct tuning *t, gen_hash *shapes, int *alike, int *unsupported,
                                error *err)
{
    struct tune_model *last = &t->models[t->model_count - 1];
    gen_hash shape;
    bool known = false;
    shape_of(t, last, &shape, err);
    for (int i = 0; err->status == XQ_OK && i < t->model_count - 1 && !known; i++)
        known = strcmp(shapes[i].hex, shape.hex) == 0;
    if (err->status == XQ_OK && !known) {
        shapes[t->model_count - 1] = shape;
        return XQ_OK;
    }
    *alike += known;
    *unsupported += err->status == XQ_ERROR_UNSUPPORTED;
    if (err->status == XQ_ERROR_UNSUPPORTED)
        error_clear(err);
    free(last->name);
    free(last->spec);
    t->model_count--;
    return err->status;
}

/* Adds one preset of each shape. */
static xq_status add_presets(struct tuning *t, error *err)
{
    const char *presets = gen_presets(t->generator);
    gen_hash *shapes = calloc(strlen(presets) + 1, sizeof *shapes);
    int alike = 0, unsupported = 0;
    if (!shapes)
        return no_memory(err);
    for (const char *at = presets; *at && err->status == XQ_OK;
         at += strcspn(at, "\n"), at += *at == '\n') {
        char *name = strndup(at, strcspn(at, "\n"));
        if (!name)
            no_memory(err);
        else if (add_model(t, name, err) == XQ_OK)
            keep_new_shape(t, shapes, &alike, &unsupported, err);
    }
    free(shapes);
    if (err->status == XQ_OK && !t->o.common.quiet)
        fprintf(stderr,
                "xq tune: no model is named, so xq tunes %d presets. %d more have the same kernels as "
                "others, and no kernel serves %d\n",
                t->model_count, alike, unsupported);
    return err->status;
}

/* Whether the text lists several models, as in "llama-3.1-8b,qwen3-8b". A path that exists may have a comma
 * too. */
static bool names_several(const char *model)
{
    return model && strchr(model, ',') && access(model, F_OK) != 0;
}

static xq_status make_models(struct tuning *t, error *err)
{
    const char *given = t->o.spec.model;
    if (!cli_names_model(&t->o.spec))
        return add_presets(t, err);
    if (!names_several(given))
        return add_model(t, NULL, err);
    for (const char *at = given; err->status == XQ_OK; at++) {
        size_t length = strcspn(at, ",");
        char *name = strndup(at, length);
        if (!length)
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "--model: '%.80s' has an empty name; valid: NAME,NAME,...", given);
        else if (!name)
            no_memory(err);
        if (err->status != XQ_OK)
            free(name);
        else
            add_model(t, name, err);
        at += length;
        if (!*at)
            break;
    }
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

/* Refuses sizes that append cannot run. A measurement appends the newest token of each sequence again and
 * again. */
static xq_status check_append(const struct compare_options *o, const char *completed, error *err)
{
    struct spec_view view;
    if (spec_view_read(completed, &view, err) != XQ_OK)
        return err->status;
    if (o->queries > 1)
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "--queries: %lld is not valid with --families append, which appends one token to each "
                  "sequence; valid: 1",
                  (long long)o->queries);
    else if (view.shape.by_channel && o->tokens % view.group == 0)
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "--contexts: %lld tokens fill a group of %d, which append cannot fill twice; valid with "
                  "groups of tokens (axis channel): numbers that are no multiple of the group",
                  (long long)o->tokens, view.group);
    return err->status;
}

/* Checks a job before the first one begins, so that a later job does not fail after others have run. */
static xq_status check_job(const struct tuning *t, const struct tune_job *job, error *err)
{
    char *spec = NULL, *completed = NULL, *space = NULL;
    if (job->options->queries > job->options->tokens)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "--queries: %lld; valid: 1 to %lld, the number of tokens",
                         (long long)job->options->queries, (long long)job->options->tokens);
    if (cli_any_layer_choices(t->generator, job->spec, &spec, err) == XQ_OK &&
        cli_complete_sizes(t->generator, spec, &completed, err) == XQ_OK &&
        gen_space(t->generator, completed, job->family, &space, err) == XQ_OK && tune_appends(job->family))
        check_append(job->options, completed, err);
    free(spec);
    free(completed);
    free(space);
    return err->status;
}

static xq_status add_job(struct tuning *t, const struct axes *a, int index, error *err)
{
    struct tuned *job = &t->jobs[t->job_count];
    struct compare_options *o = &t->options[t->job_count];
    const char *family = family_of(t, index % a->family_count);
    index /= a->family_count;
    *o = t->o;
    o->synthetic = true;
    o->queries = a->queries[index % a->query_count];
    index /= a->query_count;
    o->batch = a->batches[index % a->batch_count];
    index /= a->batch_count;
    o->tokens = a->contexts[index % a->context_count];
    index /= a->context_count;
    const struct tune_model *model = &t->models[index / a->bit_count];
    index %= a->bit_count;
    job->model = model->name;
    job->bits = (int)a->bits[index];
    job->job = (struct tune_job){.options = o, .family = family, .launch = t->launch};
    if (!tune_family(family, &job->job.implementation))
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "--families: '%.80s' is no family that a step of attention runs; valid: %s",
                         family, tune_families);
    char *spec = NULL;
    if (with_bits(t, model->spec, a->bits[index], o->queries, &spec, err) != XQ_OK)
        return err->status;
    job->job.spec = spec;
    t->job_count++;
    return check_job(t, &job->job, err);
}

xq_status tune_make_jobs(struct tuning *t, error *err)
{
    struct axes a = {0};
    if (make_models(t, err) == XQ_OK && read_axes(t, &a, err) == XQ_OK) {
        int64_t all = (int64_t)t->model_count * a.bit_count * a.context_count * a.batch_count *
                      a.query_count * a.family_count;
        t->jobs = all <= 4096 ? calloc((size_t)all, sizeof *t->jobs) : NULL;
        t->options = all <= 4096 ? calloc((size_t)all, sizeof *t->options) : NULL;
        if (all > 4096)
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "--model, --contexts, --batches, --queries, --bits and --families: they make %lld "
                      "combinations; valid: at most 4096",
                      (long long)all);
        else if (!t->jobs || !t->options)
            error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
        for (int i = 0; i < all && err->status == XQ_OK; i++)
            add_job(t, &a, i, err);
    }
    free_axes(&a);
    return err->status;
}

void tune_release(struct tuning *t)
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
    for (int i = 0; i < t->model_count; i++) {
        free(t->models[i].name);
        free(t->models[i].spec);
    }
    free(t->models);
    gen_destroy(t->generator);
    store_close(t->store);
    struct cli_list *lists[] = {&t->bits, &t->families, &t->contexts, &t->batches, &t->queries};
    for (int i = 0; i < 5; i++)
        cli_list_free(lists[i]);
}
