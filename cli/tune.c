/* xq tune: finds the fastest parameters of kernels on a device, for a model and for the sizes of attention
 * calls. */
#include "../autotune/measure/watch.h"
#include "../runtime/plan/toolchain.h"
#include "gen.h"
#include "noticed.h"
#include "tune_model.h"
#include "tune_replay.h"
#include "tune_report.h"
#include "tune_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- dry run */

static void print_space(const struct tuned *job)
{
    const cJSON *combinations = cJSON_GetObjectItemCaseSensitive(job->space, "combinations");
    const struct compare_options *o = job->job.options;
    tune_print_job(job);
    printf(", %lld sequence%s, %lld quer%s each: %d candidates\n", (long long)o->batch,
           o->batch == 1 ? "" : "s", (long long)o->queries, o->queries == 1 ? "y" : "ies", job->count);
    gen_print_combinations(combinations);
    tune_print_likely(job->likely);
}

/* `best` may be NULL, where the ceilings are not known; no times are predicted then. */
static xq_status list_job(struct tuning *t, struct tuned *job, xq_context *context, const ceilings *best,
                          error *err)
{
    char *spec = NULL, *completed = NULL, *space = NULL;
    if (cli_any_layer_choices(t->generator, job->job.spec, &spec, err) == XQ_OK &&
        context_complete(context, spec, &completed, err) == XQ_OK &&
        context_space(context, completed, job->job.family, &space, err) == XQ_OK && best)
        tune_predict(&space, &context->device->properties, best, job->job.options, err);
    if (err->status == XQ_OK && tune_read_space(job, space, err) == XQ_OK &&
        tune_likely(job->space, &job->likely, err) == XQ_OK && !cli_json_to_stdout(&t->o.common))
        print_space(job);
    free(spec);
    free(completed);
    free(space);
    return err->status;
}

/* Lists what would be tried, without a worker process and without measuring candidates. The bandwidth and
 * matrix rate of a GPU are measured, which needs a compiler. */
static int dry_run(struct tuning *t, error *err)
{
    xq_context *context = NULL;
    int status = cli_open("tune", &t->o.common, &context);
    if (status != CLI_OK)
        return status;
    context_ignore_tables(context); /* so that the default is the family's own */
    ceilings best;
    measure_watch watch = {.waits = cli_show_waiting};
    error unknown = ERROR_INIT;
    bool known = ceilings_find(context, &watch, &best, &unknown) == XQ_OK;
    measure_watch_close(&watch);
    if (!known && !t->o.common.quiet)
        fprintf(stderr, "xq tune: cannot predict times: %s\n", cli_show(unknown.message).text);
    error_clear(&unknown);
    for (int i = 0; i < t->job_count && err->status == XQ_OK; i++)
        list_job(t, &t->jobs[i], context, known ? &best : NULL, err);
    xq_context_device(context, &t->device);
    xq_context_destroy(context);
    return CLI_OK;
}

/* ----------------------------------------------------------------- command */

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
    static const char *const measuring[] = {"--store", "--budget", "--strategy",
                                            "--most",  "--shard",  "--launch"};
    for (int i = 0; i < 6; i++)
        if (t->dry_run && cli_given(command, measuring[i]))
            return cli_usage("tune",
                             "%s: has no effect with --dry-run, which measures nothing; leave it out",
                             measuring[i]);
    if (t->store_path && t->o.common.json && strcmp(t->store_path, t->o.common.json) == 0)
        return cli_usage("tune", "--store and --json name the same file; give two files");
    if (cli_excludes_set(command, "--bits", "cache.bits") != CLI_OK ||
        cli_excludes_set(command, "--queries", "queries") != CLI_OK)
        return CLI_USAGE;
    if (!find_strategy(t))
        return cli_bad_input("tune", "--strategy: '%s' is not known; valid: model, random, exhaustive",
                             cli_show(t->strategy_name).text);
    if (t->launch && strcmp(t->launch, "graph") != 0 && strcmp(t->launch, "stream") != 0)
        return cli_bad_input("tune", "--launch: '%s' is not known; valid: graph, stream",
                             cli_show(t->launch).text);
    return CLI_OK;
}

static xq_status prepare(struct tuning *t, error *err)
{
    cli_reads_common(&t->o.common, &t->o.spec);
    cli_reads("--store", t->store_path);
    if (tune_read_settings(t, err) == XQ_OK && cli_begin_json(&t->o.common, err) == XQ_OK &&
        gen_create(t->o.common.templates, &t->generator, err) == XQ_OK && tune_make_jobs(t, err) == XQ_OK &&
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
    tune_run_jobs(t, err);
    cli_progress_end(&t->progress);
    cli_warn_noticed("tune", &t->o.common, &t->noticed);
    bool some = err->status == XQ_OK; /* a later job may have failed */
    for (int i = 0; i < t->job_count; i++)
        some = some || t->jobs[i].done;
    some = some && *t->device.name; /* otherwise an interrupt came before a device was opened */
    if (some && !cli_json_to_stdout(&t->o.common))
        tune_print_results(t);
    return tune_is_interrupted() || t->failures ? CLI_BAD_INPUT : CLI_OK;
}

const char cli_tune_summary[] = "find the fastest parameters of kernels on a device";

/* Subcommands of xq tune. */
const char *const cli_tune_parts[] = {"merge", "report", "export", "replay", NULL};

int cli_tune(int argc, char **argv)
{
    static int (*const parts[])(int argc, char **argv) = {cli_tune_merge, cli_tune_report, cli_tune_export,
                                                          cli_tune_replay};
    for (int i = 0; argc > 1 && cli_tune_parts[i]; i++)
        if (strcmp(argv[1], cli_tune_parts[i]) == 0)
            return parts[i](argc - 1, argv + 1);
    struct tuning t = {.o = {.base_layer = CLI_BASE_LAYER},
                       .strategy_name = "model",
                       .budget = "10m",
                       .device = XQ_DEVICE_INFO_INIT};
    const cli_option own[] = {
        {"--families", CLI_LIST, &t.families, "NAME,...",
         "kernel families: attend (default), append, accumulate, key_norms, kv_attend, kv_attend_e4m3, "
         "dequantize, gemm, rope"},
        {"--bits", CLI_LIST, &t.bits, "N,N...", "bit widths: 2, 3, 4, 8 (the spec's)"},
        {"--contexts", CLI_LIST, &t.contexts, "N,N...", "cached tokens of each sequence (4096)"},
        {"--batches", CLI_LIST, &t.batches, "N,N...", "sequences of a call (1)"},
        {"--queries", CLI_LIST, &t.queries, "N,N...",
         "queries of each sequence, at its last positions (1)"},
        {"--budget", CLI_STRING, &t.budget, "TIME",
         "time that the whole search may take, for example 90s, 10m or 2h (10m)"},
        {"--strategy", CLI_STRING, &t.strategy_name, "NAME",
         "order of the candidates: model (default; the most promising first, by a cost model), random "
         "(drawn "
         "from --seed), exhaustive (all, one after the other)"},
        {"--store", CLI_STRING, &t.store_path, "FILE",
         "file that keeps every measurement, so that none is repeated; made if it is missing"},
        {"--most", CLI_INT, &t.most, "N", "most candidates of each family and size (all)"},
        {"--shard", CLI_STRING, &t.shard_text, "I/N",
         "part I of N of the candidates, plus the default (all)"},
        {"--launch", CLI_STRING, &t.launch, "WAY",
         "how a GPU is timed: graph (default; as decoding launches), stream (launches one by one)"},
        {"--dry-run", CLI_FLAG, &t.dry_run, NULL,
         "count the candidates, show what rules out the others, and show the sixteen that the model "
         "predicts to be the fastest"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "tune",
        .summary = cli_tune_summary,
        .description =
            "Tries the parameters of kernel families on this device, for every combination of\n"
            "--families, --bits, --contexts, --batches and --queries, over synthetic inputs. --model\n"
            "may name several models, NAME,NAME,...; without --model and --spec, xq tunes all presets.\n"
            "Each candidate is compared with double precision before it is timed, in a process of its\n"
            "own. The default is measured first. Another candidate replaces it only if it is faster\n"
            "beyond the spread of the measurements. Ctrl-C ends the search and keeps the results so far\n"
            "(exit status 1). docs/tuning.md says how to read the result, and how to use it.\n"
            "`xq tune merge STORE... --out FILE` merges several stores into one.\n"
            "`xq tune report --store FILE` reports what a store holds.\n"
            "`xq tune export --store FILE --out FILE` makes a table of tuned parameters, which xq uses\n"
            "if XQ_TUNED names it. `xq tune replay FILE...` measures how soon the search finds good\n"
            "candidates.",
        .options = own,
        .bounds = (const cli_bounds[]){{"--most", 1, 1000000}, {NULL, 0, 0}},
        .common = &t.o.common,
        .spec = &t.o.spec,
        .unused = (const cli_unused[]){{"--base", "the base layer is fixed here"},
                                       {"arch", "the device determines it"},
                                       {NULL, NULL}},
    };
    error err = ERROR_INIT;
    int status;
    if (cli_parse(&command, argc, argv, &status) && (status = check_usage(&command, &t)) == CLI_OK) {
        if (prepare(&t, &err) == XQ_OK)
            status = work(&t, &err);
        if (err.status == XQ_OK && (status == CLI_OK || tune_is_interrupted() || t.failures))
            tune_write_json(&t, &err);
        if (err.status != XQ_OK)
            status = cli_fail("tune", &t.o.common, &err);
    }
    error_clear(&err);
    tune_release(&t);
    return status;
}
