/* xq prepare: converts the weights of a Hugging Face model directory to prepared weights. */
#include "prepare.h"

#include "../prepare/whole.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "Reads config.json and the safetensors of MODEL_DIR, and writes what the kernels need of each\n"
    "layer. For method latent these are the factors U*A of the key and value projections, by a singular\n"
    "value decomposition for each group of KV heads; for x a square matrix U and the projections in its\n"
    "coordinates; for latent-cl the projections and one U for both; for x-cl, and x with --no-rotation,\n"
    "the projections as they are. Layers before --base-layer of a cross-layer method get the plain\n"
    "method, latent or x. Biases, key norms and sinks are included. With --pack the file also has\n"
    "packed weights of type --weights: the bytes that the kernels read, which an engine copies to the\n"
    "device.\n\n"
    "The result is one file, written whole or not at all. Until it is complete it grows as\n"
    "FILE.partial. If the command is killed, the same command goes on from there.\n\n"
    "The file is a safetensors file. Matrices are tensors layers.L.NAME, and __metadata__ has their\n"
    "origin and checksums. --show FILE verifies a file and prints its contents.";

struct options {
    struct cli_common common;
    struct cli_spec spec;
    const char *out, *store, *calibration, *show;
    struct cli_list layers;
    bool pack;
    int64_t base_layer, threads; /* threads 0: one for each core */
    bool base_given;
};

struct job {
    const struct options *o;
    gen *generator;
    model *source;
    calibration *calibration;                      /* NULL: none */
    char *specs[PREPARED_MOST_METHODS];            /* completed; the second serves layers before the base */
    struct spec_view views[PREPARED_MOST_METHODS]; /* views of `specs` */
    int *layers, layer_count;
    prepared_contents contents;
    cJSON *report;  /* for --json */
    double lost[2]; /* the largest loss of any layer, for K and for V */
    struct cli_progress progress;
};

/* The default output for FOLDER/NAME/ is NAME-prepared.safetensors in the working folder. It is not
 * NAME.safetensors, because the working folder may be a model's, whose own weights are in
 * model.safetensors. */
static void default_output(const char *directory, char *path, size_t size)
{
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && directory[begin - 1] != '/')
        begin--;
    bool unnamed = end == begin || strncmp(directory + begin, ".", end - begin) == 0 ||
                   strncmp(directory + begin, "..", end - begin) == 0;
    snprintf(path, size, "%.*s-prepared.safetensors", unnamed ? 5 : (int)(end - begin),
             unnamed ? "model" : directory + begin);
}

/* ---------------------------------------------------------------- opening */

/* Makes the spec of the layers before the base, which have the plain method. */
static xq_status plain_spec(struct job *job, const char *spec, error *err)
{
    char *plain = NULL;
    if (cli_layer_spec(job->generator, spec, -1, job->contents.base_layer, false, &plain, err) == XQ_OK &&
        cli_any_layer_spec(job->generator, plain, &job->specs[1], err) == XQ_OK)
        spec_view_read(job->specs[1], &job->views[1], err);
    free(plain);
    return err->status;
}

/* Refuses a spec with another number of layers than the model has, because the file would state it. */
static xq_status expect_layers(const struct job *job, error *err)
{
    if (job->views[0].layers == job->source->layers)
        return XQ_OK;
    return model_differs("model.num_hidden_layers", err);
}

static xq_status open_specs(struct job *job, const char *spec, error *err)
{
    int64_t base = job->o->base_layer;
    if (cli_any_layer_spec(job->generator, spec, &job->specs[0], err) != XQ_OK ||
        spec_view_read(job->specs[0], &job->views[0], err) != XQ_OK ||
        model_expect(job->source, &job->views[0].layer, err) != XQ_OK || expect_layers(job, err) != XQ_OK)
        return err->status;
    if (!layer_is_cross(&job->views[0].layer))
        return job->o->base_given ? cli_refuse_base(&job->views[0].layer, err) : XQ_OK;
    if (cli_check_base(base, job->source->layers, err) != XQ_OK)
        return err->status;
    job->contents.base_layer = (int)base;
    return base > 0 ? plain_spec(job, spec, err) : XQ_OK;
}

/* Leaves out layers without keys and values. --layers must not name any of them. */
static xq_status choose_layers(struct job *job, error *err)
{
    const model *m = job->source;
    int kept = 0;
    if (cli_layers(&job->o->layers, m->layers, &job->layers, &job->layer_count, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < job->layer_count; i++) {
        int layer = job->layers[i];
        if (m->attends[layer])
            job->layers[kept++] = layer;
        else if (job->o->layers.count)
            return error_set(
                err, XQ_ERROR_ARGUMENT, "argument",
                "--layers: layer %d has linear attention, so it keeps no keys and values; leave it out",
                layer);
    }
    job->layer_count = kept;
    return XQ_OK;
}

/* Weights do not depend on LongRoPE's table, so a spec need not choose one. */
static xq_status choose_table(struct job *job, char **spec, error *err)
{
    struct cli_choices chosen;
    char *with_table = NULL;
    cli_choices_read(*spec, &chosen);
    if (!chosen.lacks_table)
        return XQ_OK;
    cJSON *overrides = cJSON_CreateObject();
    cli_override(overrides, "model.rope_scaling.table", cJSON_CreateString("short"), err);
    if (cli_spec_override(job->generator, *spec, overrides, &with_table, err) == XQ_OK) {
        free(*spec);
        *spec = with_table;
    }
    return err->status;
}

/* Whether both specs have the same order of K's columns. Weights are packed in this order. */
static bool pack_alike(const struct shape_keys *a, const struct shape_keys *b)
{
    return a->columns == b->columns && a->absorbed_columns == b->absorbed_columns &&
           memcmp(a->rematerialized, b->rematerialized, sizeof *a->rematerialized * (size_t)a->columns) ==
               0 &&
           memcmp(a->absorbed, b->absorbed, sizeof *a->absorbed * (size_t)a->absorbed_columns) == 0;
}

/* Refuses to pack layers of different column orders, because a file of packed weights has one order. */
static xq_status check_packing(struct job *job, const char *spec, error *err)
{
    for (int i = 1; job->o->pack && i < job->layer_count && err->status == XQ_OK; i++) {
        char *own = NULL, *completed = NULL;
        struct spec_view view;
        if (cli_layer_kind_spec(job->generator, spec, job->layers[i], &own, err) == XQ_OK &&
            cli_any_layer_spec(job->generator, own, &completed, err) == XQ_OK &&
            spec_view_read(completed, &view, err) == XQ_OK &&
            !pack_alike(&job->views[0].shape.keys, &view.shape.keys))
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "--pack: layers %d and %d pack their weights differently, because one has RoPE and "
                      "the other has none; prepare one file for each kind, with --layers",
                      job->layers[0], job->layers[i]);
        free(own);
        free(completed);
    }
    return err->status;
}

/* Calibrated factors depend on the activations, and on the size of a quantization group. */
static xq_status open_calibration(struct job *job, const char *path, error *err)
{
    const layer_shape *shape = &job->views[0].layer;
    error why = ERROR_INIT;
    if (calibration_check(shape, &why) != XQ_OK)
        cli_misuse(err, "--calibration: %s; leave it out", why.message);
    error_clear(&why);
    if (err->status != XQ_OK || calibration_open(path, &job->calibration, err) != XQ_OK)
        return err->status;
    job->contents.source = (job->contents.source * 31 + calibration_hash(job->calibration)) * 31 +
                           (uint64_t)shape->quantization_group;
    return XQ_OK;
}

static xq_status open_job(struct job *job, const char *directory, struct options *o, error *err)
{
    char *spec = NULL, *first = NULL;
    prepared_contents *c = &job->contents;
    o->spec.model = directory;
    cli_find_model_file(directory, &o->common);
    if (gen_create(o->common.templates, &job->generator, err) == XQ_OK &&
        model_open(job->generator, directory, &job->source, err) == XQ_OK &&
        cli_spec_json(&o->spec, &o->common, &spec, err) == XQ_OK && choose_layers(job, err) == XQ_OK &&
        choose_table(job, &spec, err) == XQ_OK &&
        cli_layer_kind_spec(job->generator, spec, job->layers[0], &first, err) == XQ_OK &&
        open_specs(job, first, err) == XQ_OK)
        check_packing(job, spec, err);
    free(first);
    free(spec);
    if (err->status != XQ_OK)
        return err->status;
    cli_sort_layers(job->layers, job->layer_count);
    for (int i = 0; i < PREPARED_MOST_METHODS; i++)
        c->specs[i] = job->specs[i];
    c->layers = job->layers;
    c->layer_count = job->layer_count;
    c->packed = o->pack;
    if (model_hash(job->source, job->layers, job->layer_count, &c->source, err) == XQ_OK && o->calibration)
        open_calibration(job, o->calibration, err);
    return err->status;
}

/* ---------------------------------------------------------------- writing */

static const layer_shape *shape_of(const struct job *job, int layer)
{
    return &job->views[job->specs[1] && layer < job->contents.base_layer].layer;
}

static void show_progress(void *user, int done, double fraction)
{
    struct job *job = user;
    char detail[48];
    snprintf(detail, sizeof detail, "%d of %d layers", done, job->layer_count);
    cli_progress_update(&job->progress, fraction, detail);
}

/* Tells what is left of an earlier run, or why nothing is. */
static void say_note(const struct job *job, const prepared_writer *writer)
{
    if (!*prepared_note(writer) || job->o->common.quiet)
        return;
    cli_progress_pause();
    fprintf(stderr, "xq prepare: %s\n", cli_show(prepared_note(writer)).text);
    cli_progress_resume();
}

static void report(struct job *job, const prepared_writer *writer)
{
    cJSON *list = cJSON_AddArrayToObject(job->report, "layers");
    for (int i = 0; i < job->layer_count; i++) {
        double lost[2];
        cJSON *entry = cJSON_CreateObject();
        prepared_lost(writer, i, lost);
        cJSON_AddNumberToObject(entry, "layer", job->layers[i]);
        cJSON_AddStringToObject(entry, "method", layer_method_name(shape_of(job, job->layers[i])->method));
        cJSON_AddNumberToObject(entry, "lost_k", lost[0]);
        cJSON_AddNumberToObject(entry, "lost_v", lost[1]);
        cJSON_AddItemToArray(list, entry);
        for (int j = 0; j < 2; j++)
            job->lost[j] = lost[j] > job->lost[j] ? lost[j] : job->lost[j];
    }
}

/* Keeps the partial file only where the same command may succeed later: bad input would stop it at the same
 * place again, but a full disk would not. */
static void stop(prepared_writer *writer, const error *err)
{
    if (prepared_done(writer) > 0 && (err->status == XQ_ERROR_IO || err->status == XQ_ERROR_MEMORY))
        prepared_keep(writer);
    else
        prepared_abandon(writer);
}

static xq_status write_layers(struct job *job, const char *path, publication *file, error *err)
{
    prepared_writer *writer = NULL;
    const whole_job work = {.source = job->source,
                            .contents = &job->contents,
                            .calibration = job->calibration,
                            .threads = (int)job->o->threads,
                            .progress = show_progress,
                            .user = job};
    cli_release_output(file);
    if (prepared_create(file, &job->contents, &writer, err) != XQ_OK)
        return err->status;
    say_note(job, writer);
    cJSON_AddNumberToObject(job->report, "resumed", prepared_done(writer));
    whole_prepare(&work, writer, err);
    if (err->status != XQ_OK) {
        stop(writer, err);
        return err->status;
    }
    report(job, writer);
    cli_progress_update(&job->progress, 1, "writing the file");
    if (prepared_commit(writer, err) == XQ_OK)
        cli_has_written(path);
    return err->status;
}

/* ----------------------------------------------------------------- output */

void prepare_say_method(const layer_shape *s, bool calibrated)
{
    printf("method %s", layer_method_name(s->method));
    if (s->method == LAYER_LATENT)
        printf(", ranks %d and %d", s->rank_k, s->rank_v);
    else if (s->method == LAYER_LATENT_CL)
        printf(", rank %d", s->rank_k);
    if (s->rotation)
        printf(calibrated ? ", calibrated" : ", rotated");
}

static void say_lost(const struct job *job)
{
    layer_method method = job->views[0].layer.method;
    if (layer_is_rotated_x(&job->views[0].layer))
        printf(": a matrix U, and Wk and Wv in its coordinates");
    else if (method == LAYER_X || method == LAYER_X_CL)
        printf(": Wk and Wv as they are");
    else if (job->lost[0] == 0 && job->lost[1] == 0)
        printf(": nothing truncated");
    else if (method == LAYER_LATENT)
        printf(": at most %.2g of Wk and %.2g of Wv truncated (relative, L2)", job->lost[0], job->lost[1]);
    else
        printf(": at most %.2g of [Wk Wv] truncated (relative, L2)", job->lost[0]);
}

static void say_done(const struct job *job, const char *path)
{
    const struct options *o = job->o;
    if (o->common.quiet || cli_json_to_stdout(&o->common))
        return;
    printf("%s: %d layer%s of %s, ", cli_show(path).text, job->layer_count,
           job->layer_count == 1 ? "" : "s", cli_show(o->spec.model).text);
    prepare_say_method(&job->views[0].layer, job->calibration);
    if (job->specs[1])
        printf(" (before layer %d: %s)", job->contents.base_layer,
               layer_method_name(job->views[1].layer.method));
    say_lost(job);
    printf("%s\n", !o->pack                              ? ""
                   : job->contents.store == TENSOR_OTHER ? "; packed weights alone"
                                                         : "; packed");
}

/* ---------------------------------------------------------------- options */

/* Whether an option is given by its name (`given`) or by --set. */
static bool chooses(const struct cli_spec *spec, bool given, const char *option)
{
    return given || cli_spec_sets_option(spec, option);
}

/* Returns false after an error, with its exit status in *status. */
static bool check_options(const struct options *o, prepared_contents *c, int *status)
{
    static const struct {
        const char *name;
        tensor_type type;
    } types[] = {{"f16", TENSOR_F16}, {"bf16", TENSOR_BF16}, {"f32", TENSOR_F32}, {"none", TENSOR_OTHER}};
    const struct cli_spec *s = &o->spec;
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(o->store, types[i].name) == 0) {
            c->store = types[i].type;
            known = true;
        }
    *status = CLI_OK;
    if (o->out && strcmp(o->out, "-") == 0)
        *status = cli_bad_input(
            "prepare",
            "--out: '-' is standard output, and prepared weights are not written in order; valid: a file");
    else if (!known)
        *status =
            cli_bad_input("prepare", "--store: '%s' is not known; valid: f16, bf16, f32, none", o->store);
    else if (c->store == TENSOR_OTHER && !o->pack)
        *status = cli_usage(
            "prepare", "--store: without --pack, 'none' leaves nothing to write; valid: f16, bf16, f32");
    else if (chooses(s, s->weights, "--weights") && !o->pack)
        *status = cli_usage("prepare", "--weights: has no effect without --pack, because it is the type of "
                                       "packed weights; add --pack (--store is the type of matrices)");
    else if (chooses(s, s->axis_k, "--axis-k") && !o->pack)
        *status =
            cli_usage("prepare", "--axis-k: prepared weights depend on it only with --pack, because it "
                                 "decides the default of --weights; leave it out");
    else if (chooses(s, s->group, "--group") && !chooses(s, s->feedback, "--feedback") && !o->calibration &&
             !o->pack && !s->spec_file)
        *status = cli_usage("prepare", "--group: prepared weights depend on it only with --feedback, "
                                       "--calibration or --pack; leave it out");
    return *status == CLI_OK;
}

/* Begins outputs before any work, so that a path that cannot be written is an error at once. */
static xq_status begin_outputs(const struct options *o, const char *directory, const char *path,
                               publication **file, error *err)
{
    cli_reads_common(&o->common, &o->spec);
    cli_reads("MODEL_DIR", directory);
    cli_reads("--calibration", o->calibration);
    if (cli_begin_resumable("--out", path, file, err) == XQ_OK)
        cli_begin_json(&o->common, err);
    return err->status;
}

static int run_job(struct options *o, const char *directory, const prepared_contents *contents)
{
    struct job job = {.o = o, .contents = *contents, .report = cJSON_CreateObject()};
    char named[4096];
    const char *path = o->out ? o->out : named;
    publication *file = NULL;
    error err = ERROR_INIT;
    if (!o->out)
        default_output(directory, named, sizeof named);
    cJSON_AddStringToObject(job.report, "file", path);
    cli_progress_begin(&job.progress, &o->common, "preparing");
    cli_progress_update(&job.progress, 0, "reading the model");
    if (begin_outputs(o, directory, path, &file, &err) == XQ_OK &&
        open_job(&job, directory, o, &err) == XQ_OK)
        write_layers(&job, path, file, &err);
    cli_progress_end(&job.progress);
    if (err.status == XQ_OK && cli_write_json(&o->common, job.report, &err) == XQ_OK)
        say_done(&job, path);
    int status = err.status == XQ_OK ? CLI_OK : cli_fail("prepare", &o->common, &err);
    error_clear(&err);
    cJSON_Delete(job.report);
    calibration_close(job.calibration);
    model_close(job.source);
    gen_destroy(job.generator);
    for (int i = 0; i < PREPARED_MOST_METHODS; i++)
        free(job.specs[i]);
    free(job.layers);
    return status;
}

static int show(const cli_command *command, const struct options *o)
{
    static const char *const with_it[] = {"--json", "--quiet", NULL};
    if (command->positional_count > 0)
        return cli_usage("prepare", "MODEL_DIR: has no effect with --show; leave it out");
    int status = cli_takes_only(command, "--show", with_it, false);
    return status == CLI_OK ? prepare_show(&o->common, o->show) : status;
}

#define INDEPENDENT "prepared weights do not depend on it"

static const cli_unused unused[] = {
    {"--model", "the model is MODEL_DIR"},
    {"--layer-kind", "layers of every kind are prepared"},
    {"--base", "--base-layer names the layer"},
    {"--bits", INDEPENDENT},
    {"--axis-v", INDEPENDENT},
    {"--zero-point", INDEPENDENT},
    {"--clip", INDEPENDENT},
    {"--accumulator-bits", INDEPENDENT},
    {"--page", INDEPENDENT},
    {"--dtype", INDEPENDENT},
    {"--queries", INDEPENDENT},
    {"arch", INDEPENDENT},
    {"tuning", INDEPENDENT},
    {"--device", "weights are prepared on the CPU"},
    {"--seed", "nothing is random here"},
    {"--cache-dir", "no kernel is compiled here"},
    {"--verbose", "there is nothing more to say"},
    {NULL, NULL},
};

const char cli_prepare_summary[] = "prepare the weights of a model directory for the kernels";

int cli_prepare(int argc, char **argv)
{
    struct options o = {.store = "f16", .base_layer = CLI_BASE_LAYER};
    const cli_option own[] = {
        {"--out", CLI_STRING, &o.out, "FILE",
         "file to write (MODEL_DIR's name with -prepared.safetensors)"},
        {"-o", CLI_STRING, &o.out, "FILE", "same as --out"},
        {"--layers", CLI_LIST, &o.layers, "L,L...", "layers to prepare, counted from 0 (all)"},
        {"--base-layer", CLI_INT, &o.base_layer, "L",
         "cross-layer: the layer that starts the accumulator; earlier layers have the plain method (2)"},
        {"--store", CLI_STRING, &o.store, "TYPE",
         "type of the stored matrices: f16 (default), bf16, f32, none (only packed weights)"},
        {"--calibration", CLI_STRING, &o.calibration, "FILE",
         "activations of a text (x.L, q.L of each layer); latents are chosen to quantize best on such "
         "texts"},
        {"--pack", CLI_FLAG, &o.pack, NULL,
         "also store packed weights of type --weights, which the kernels read"},
        {"--show", CLI_STRING, &o.show, "FILE", "prepared file to verify and list; takes no MODEL_DIR"},
        {"--threads", CLI_INT, &o.threads, "N",
         "layers prepared at the same time (one for each core, up to 16)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {.name = "prepare",
                           .summary = cli_prepare_summary,
                           .arguments = "MODEL_DIR|--show FILE",
                           .description = description,
                           .options = own,
                           .bounds = (const cli_bounds[]){{"--threads", 1, 64}, {NULL, 0, 0}},
                           .common = &o.common,
                           .spec = &o.spec,
                           .unused = unused,
                           .positional_min = 0,
                           .positional_max = 1};
    int status;
    prepared_contents contents = {0};
    if (!cli_parse(&command, argc, argv, &status)) {
        cli_list_free(&o.layers);
        return status;
    }
    o.base_given = cli_given(&command, "--base-layer");
    if (o.show)
        status = show(&command, &o);
    else if (command.positional_count == 0)
        status =
            cli_usage("prepare", "missing argument; usage: xq prepare %s [options]", command.arguments);
    else if (check_options(&o, &contents, &status))
        status = run_job(&o, command.positional[0], &contents);
    cli_list_free(&o.layers);
    return status;
}
