/* xq tune export: makes a table of tuned parameters from a store of measurements (docs/tuning.md). */
#include "../autotune/search/canonical.h"
#include "../autotune/search/share.h"
#include "tune_kernels.h"
#include "tune_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The best answer among questions that differ in parameters only, the default's parameters, and the result
 * that a table would have. */
struct pick {
    cJSON *result;           /* without parameters and times until `finish` */
    char *key;               /* same for all picks of a GPU, shape and family, which choose together */
    store_question question; /* its texts belong to `result` and to the members below */
    char *spec, *source, *arch, *best;
    char *standard; /* the parameters of the default */
    int64_t taken;
};

struct export
{
    struct tune_generators generators;
    struct tune_sources sources;
    store *store;
    struct pick *picks;
    int count;
    int stale, without_default, unfit; /* answers that are left out */
};

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
}

/* --------------------------------------------------------------- collecting */

static cJSON *result_of(const store_row *row)
{
    const store_device *d = &row->question.device;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->name);
    cJSON_AddNumberToObject(o, "capability", d->capability);
    cJSON_AddNumberToObject(o, "multiprocessors", d->multiprocessors);
    cJSON_AddNumberToObject(o, "memory", (double)d->memory_bytes);
    cJSON_AddBoolToObject(o, "modelled", d->is_sim);
    cJSON_AddNumberToObject(o, "driver", d->driver);
    cJSON_AddNumberToObject(o, "nvrtc", d->nvrtc);
    cJSON_AddStringToObject(o, "xq", d->xq);
    cJSON_AddStringToObject(o, "family", row->question.family);
    cJSON_AddNumberToObject(o, "tokens", (double)row->question.bucket.tokens);
    cJSON_AddNumberToObject(o, "batch", row->question.bucket.batch);
    cJSON_AddNumberToObject(o, "queries", row->question.bucket.queries);
    return o;
}

static const char *text_of(const struct pick *p, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(p->result, name));
}

/* Copies a row, which is valid only during the listing. */
static xq_status keep_row(void *user, const store_row *row, error *err)
{
    struct export *e = user;
    struct pick *more = realloc(e->picks, sizeof *more * ((size_t)e->count + 1));
    if (!more)
        return no_memory(err);
    e->picks = more;
    struct pick *p = &e->picks[e->count++];
    *p = (struct pick){
        .result = result_of(row),
        .question = row->question,
        .spec = strdup(row->question.spec),
        .source = strdup(row->question.source),
        .arch = strdup(row->question.device.arch),
        .best = strdup(row->question.parameters),
        .taken = row->answer.taken,
    };
    if (!p->spec || !p->source || !p->arch || !p->best || !text_of(p, "family"))
        return no_memory(err);
    p->question.spec = p->spec;
    p->question.source = p->source;
    p->question.parameters = p->best;
    p->question.device.name = text_of(p, "device");
    p->question.device.arch = p->arch;
    p->question.device.xq = text_of(p, "xq");
    p->question.family = text_of(p, "family");
    return XQ_OK;
}

static void free_pick(struct pick *p)
{
    cJSON_Delete(p->result);
    free(p->key);
    free(p->spec);
    free(p->source);
    free(p->arch);
    free(p->best);
    free(p->standard);
}

/* -------------------------------------------------------------- description */

static xq_status describe(struct export *e, struct pick *p, const char *completed, error *err)
{
    gen_hash shape, source;
    gen *g = e->generators.generator;
    const store_question *q = &p->question;
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *tuning = cJSON_GetObjectItem(spec, "tuning");
    char *standard = cJSON_PrintUnformatted(cJSON_GetObjectItem(tuning, q->family));
    if (standard && canonical_object(standard, "parameters", &p->standard, err) == XQ_OK &&
        gen_shape(g, completed, &shape, err) == XQ_OK &&
        gen_family_source(g, q->family, &source, err) == XQ_OK) {
        cJSON_AddStringToObject(p->result, "shape", shape.hex);
        cJSON_AddStringToObject(p->result, "source", source.hex);
        cJSON_AddItemToObject(p->result, "spec", cJSON_Parse(p->spec));
        if (asprintf(&p->key, "%s|%d|%d|%d|%s|%s", q->device.name, q->device.capability,
                     q->device.multiprocessors, q->device.is_sim, shape.hex, q->family) < 0)
            p->key = NULL;
    }
    if (err->status == XQ_OK && !standard)
        error_set(err, XQ_ERROR_UNSUPPORTED, "spec", "%s cannot serve this spec", q->family);
    else if (err->status == XQ_OK && !p->key)
        no_memory(err);
    cJSON_free(standard);
    cJSON_Delete(spec);
    return err->status;
}

static xq_status find(struct export *e, const struct pick *p, const char *parameters,
                      struct share_time *out, error *err)
{
    store_question question = p->question;
    store_answer answer;
    bool found = false;
    question.parameters = parameters;
    *out = (struct share_time){0, 0};
    if (store_find(e->store, &question, &answer, &found, err) == XQ_OK && found &&
        answer.outcome == STORE_MEASURED)
        *out = (struct share_time){answer.seconds, answer.spread};
    return err->status;
}

/* Whether a table can hold the pick: its kernels have not changed since, and the default was measured
 * too. */
static xq_status examine(struct export *e, struct pick *p, bool *good, error *err)
{
    char *completed = NULL;
    const char *arch = p->question.device.arch;
    struct share_time standard;
    *good = false;
    if (strcmp(e->sources.all[p->question.implementation], p->source) != 0) {
        e->stale++;
        return XQ_OK;
    }
    if (tune_kernel_spec(&e->generators, p->spec, arch, p->question.bucket.queries > 1, &completed, err) ==
            XQ_OK &&
        describe(e, p, completed, err) == XQ_OK && find(e, p, p->standard, &standard, err) == XQ_OK) {
        *good = standard.seconds > 0;
        e->without_default += !*good;
    } else if (err->status == XQ_ERROR_SPEC || err->status == XQ_ERROR_UNSUPPORTED ||
               err->status == XQ_ERROR_ARGUMENT) {
        e->unfit++;
        error_clear(err);
    }
    free(completed);
    return err->status;
}

/* Whether `a` is preferred to `b`: it was measured in a way that is closer to real use, or later. */
static bool is_preferred(const struct pick *a, const struct pick *b)
{
    const store_mode x = a->question.mode, y = b->question.mode;
    if (x.in_graph != y.in_graph)
        return x.in_graph;
    return x.cold_l2 != y.cold_l2 ? x.cold_l2 : a->taken > b->taken;
}

static bool is_same_size(const struct pick *a, const struct pick *b)
{
    const store_bucket x = a->question.bucket, y = b->question.bucket;
    return strcmp(a->key, b->key) == 0 && x.tokens == y.tokens && x.batch == y.batch &&
           x.queries == y.queries;
}

/* Drops picks that a table cannot hold. Of picks that a table would look up alike, it keeps one: they
 * differ in the driver, compiler or version, or in the mode of measurement. */
static xq_status sift(struct export *e, error *err)
{
    int kept = 0;
    for (int i = 0; i < e->count && err->status == XQ_OK; i++) {
        struct pick p = e->picks[i];
        bool good = false;
        examine(e, &p, &good, err);
        e->picks[i] = (struct pick){0};
        int same = 0;
        while (good && same < kept && !is_same_size(&e->picks[same], &p))
            same++;
        if (good && same == kept) {
            e->picks[kept++] = p;
        } else if (good && is_preferred(&p, &e->picks[same])) {
            free_pick(&e->picks[same]);
            e->picks[same] = p;
        } else {
            free_pick(&p);
        }
    }
    e->count = err->status == XQ_OK ? kept : e->count;
    return err->status;
}

/* --------------------------------------------------------------- choosing */

/* Sizes of calls that choose their kernels together, and the kernels that are best for any of these
 * sizes. */
struct group {
    int *members, member_count;
    const char **kernels; /* the default comes first */
    int kernel_count;
    struct share_time *times; /* [member_count][kernel_count] */
    int *chosen;
};

static void free_group(struct group *g)
{
    free(g->members);
    free(g->kernels);
    free(g->times);
    free(g->chosen);
}

static void add_kernel(struct group *g, const char *parameters)
{
    for (int i = 0; i < g->kernel_count; i++)
        if (strcmp(g->kernels[i], parameters) == 0)
            return;
    g->kernels[g->kernel_count++] = parameters;
}

static xq_status make_group(struct export *e, int first, struct group *g, error *err)
{
    size_t most = (size_t)(e->count - first);
    g->members = calloc(most, sizeof *g->members);
    g->chosen = calloc(most, sizeof *g->chosen);
    g->kernels = calloc(most + 1, sizeof *g->kernels);
    if (!g->members || !g->chosen || !g->kernels)
        return no_memory(err);
    add_kernel(g, e->picks[first].standard);
    for (int i = first; i < e->count; i++)
        if (strcmp(e->picks[i].key, e->picks[first].key) == 0) {
            g->members[g->member_count++] = i;
            add_kernel(g, e->picks[i].best);
        }
    g->times = calloc((size_t)g->member_count * (size_t)g->kernel_count, sizeof *g->times);
    if (!g->times)
        return no_memory(err);
    for (int m = 0; m < g->member_count; m++)
        for (int k = 0; k < g->kernel_count && err->status == XQ_OK; k++)
            find(e, &e->picks[g->members[m]], g->kernels[k], &g->times[m * g->kernel_count + k], err);
    return err->status;
}

static void finish(struct pick *p, const char *parameters, struct share_time time,
                   struct share_time standard)
{
    cJSON_AddItemToObject(p->result, "parameters", cJSON_Parse(parameters));
    cJSON_AddNumberToObject(p->result, "seconds", time.seconds);
    cJSON_AddNumberToObject(p->result, "spread", time.spread);
    cJSON_AddNumberToObject(p->result, "default_seconds", standard.seconds);
    cJSON_AddNumberToObject(p->result, "default_spread", standard.spread);
    cJSON_AddNumberToObject(p->result, "taken", (double)p->taken);
}

static bool is_finished(const struct pick *p)
{
    return cJSON_HasObjectItem(p->result, "parameters");
}

/* Whether xq would accept the result, because a store may hold numbers that a table may not. */
static xq_status check_result(struct export *e, const struct pick *p, bool *good, error *err)
{
    cJSON *table = cJSON_CreateObject(), *results = cJSON_AddArrayToObject(table, "results");
    gen *g = NULL;
    error why = ERROR_INIT;
    cJSON_AddNumberToObject(table, "xq_tuned", 1);
    cJSON_AddItemToArray(results, cJSON_Duplicate(p->result, 1));
    char *text = cJSON_PrintUnformatted(table);
    if (!text)
        no_memory(err);
    else if (tune_generator_for(&e->generators, p->question.device.arch, &g, err) == XQ_OK)
        *good = gen_check_table(g, "result", text, strlen(text), &why) == XQ_OK;
    error_clear(&why);
    cJSON_free(text);
    cJSON_Delete(table);
    return err->status;
}

static xq_status drop_unfit(struct export *e, error *err)
{
    int kept = 0;
    for (int i = 0; i < e->count && err->status == XQ_OK; i++) {
        struct pick p = e->picks[i];
        bool good = false;
        check_result(e, &p, &good, err);
        e->picks[i] = (struct pick){0};
        e->unfit += !good;
        if (good)
            e->picks[kept++] = p;
        else
            free_pick(&p);
    }
    e->count = err->status == XQ_OK ? kept : e->count;
    return err->status;
}

static xq_status choose(struct export *e, error *err)
{
    for (int i = 0; i < e->count && err->status == XQ_OK; i++) {
        struct group g = {0};
        if (is_finished(&e->picks[i]))
            continue;
        if (make_group(e, i, &g, err) == XQ_OK &&
            share_kernels(g.times, g.member_count, g.kernel_count, g.chosen, err) == XQ_OK)
            for (int m = 0; m < g.member_count; m++) {
                const struct share_time *row = &g.times[m * g.kernel_count];
                finish(&e->picks[g.members[m]], g.kernels[g.chosen[m]], row[g.chosen[m]], row[0]);
            }
        free_group(&g);
    }
    return err->status;
}

/* ------------------------------------------------------------------ writing */

/* Each result is one line, so that versions of a table can be compared line by line. */
static xq_status write_table(const struct export *e, publication *file, error *err)
{
    static const char begin[] = "{\"xq_tuned\": 1, \"results\": [\n", end[] = "]}\n";
    publish_write(file, begin, sizeof begin - 1, err);
    for (int i = 0; i < e->count && err->status == XQ_OK; i++) {
        const char *between = i + 1 < e->count ? ",\n" : "\n";
        char *line = cJSON_PrintUnformatted(e->picks[i].result);
        if (!line)
            no_memory(err);
        else if (publish_write(file, line, strlen(line), err) == XQ_OK)
            publish_write(file, between, strlen(between), err);
        cJSON_free(line);
    }
    if (err->status == XQ_OK)
        publish_write(file, end, sizeof end - 1, err);
    return err->status;
}

static void print_left_out(FILE *out, const struct export *e)
{
    if (e->stale)
        fprintf(out, "left out: %d results of kernels that have changed since\n", e->stale);
    if (e->without_default)
        fprintf(out, "left out: %d results for which the default was not measured\n", e->without_default);
    if (e->unfit)
        fprintf(
            out,
            "left out: %d results that this xq cannot use, for example because it does not know the spec\n",
            e->unfit);
}

static xq_status make_table(struct export *e, const char *path, error *err)
{
    const store_outcome measured = STORE_MEASURED;
    const store_filter filter = {.outcome = &measured};
    if (tune_sources_read(e->generators.template_dir, &e->sources, err) != XQ_OK ||
        store_open(path, STORE_READ, &e->store, err) != XQ_OK ||
        store_best(e->store, &filter, keep_row, e, err) != XQ_OK || sift(e, err) != XQ_OK ||
        choose(e, err) != XQ_OK || drop_unfit(e, err) != XQ_OK)
        return err->status;
    if (!e->count)
        error_set(
            err, XQ_ERROR_FORMAT, "file",
            "%s has nothing to export; results of kernels that have changed since: %d; results without a "
            "measured default: %d; results that this xq cannot use: %d",
            path, e->stale, e->without_default, e->unfit);
    return err->status;
}

static xq_status export_table(struct export *e, const char *store_path, const char *out,
                              const struct cli_common *common, error *err)
{
    publication *file = NULL;
    cli_reads("--store", store_path);
    cli_reads_common(common, NULL);
    e->generators.template_dir = common->templates;
    if (cli_begin_output("--out", out, &file, err) != XQ_OK || make_table(e, store_path, err) != XQ_OK ||
        write_table(e, file, err) != XQ_OK || cli_commit_output(file, err) != XQ_OK)
        return err->status;
    if (!common->quiet && !cli_json_to_stdout(common)) {
        printf("%d result%s: %s\n", e->count, e->count == 1 ? "" : "s", cli_show(out).text);
        print_left_out(stdout, e);
    }
    return XQ_OK;
}

int cli_tune_export(int argc, char **argv)
{
    struct cli_common common = {0};
    const char *store_path = NULL, *out = NULL;
    const cli_option options[] = {
        {"--store", CLI_STRING, &store_path, "FILE", "store of measurements to read"},
        {"--out", CLI_STRING, &out, "FILE", "table to write; - is stdout"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "tune export",
        .summary = "make a table of tuned parameters from a store",
        .description =
            "Writes the fastest parameters of every GPU, spec, kernel family and size of calls in a\n"
            "store, as a text with one line for each result. If the default is as fast, the line has\n"
            "the default. If one kernel is as fast as the best for several sizes, it is taken for all\n"
            "of them. xq uses a table that XQ_TUNED names, or that lies at xq/tuned.json in the\n"
            "configuration folder (docs/tuning.md).",
        .options = options,
        .common = &common,
        .unused = (const cli_unused[]){{"--device", "nothing is measured"},
                                       {"--cache-dir", "nothing is compiled"},
                                       {"--seed", "nothing is random here"},
                                       {"--json", "the table is JSON: give --out"},
                                       {"--verbose", "there is nothing more to say"},
                                       {NULL, NULL}},
    };
    int status;
    struct export e = {0};
    error err = ERROR_INIT;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    if (!store_path)
        return cli_usage("tune export", "there is no store to export; give --store FILE");
    if (!out)
        return cli_usage("tune export", "there is no file for the table; give --out FILE");
    if (export_table(&e, store_path, out, &common, &err) != XQ_OK)
        status = cli_fail("tune export", &common, &err);
    for (int i = 0; i < e.count; i++)
        free_pick(&e.picks[i]);
    free(e.picks);
    store_close(e.store);
    tune_generators_close(&e.generators);
    error_clear(&err);
    return status;
}
