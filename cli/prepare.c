/* xq prepare: the weights of a Hugging Face model directory → .xqw */
#include "../prepare/layer_factor.h"
#include "../prepare/model.h"
#include "../prepare/xqw.h"
#include "cli.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "Reads config.json and the safetensors of MODEL_DIR, and writes what the kernels need of each layer: "
    "for "
    "method\n"
    "latent the factors U*A of the key and value projections, by a singular value decomposition for each "
    "group\n"
    "of KV heads; for latent-cl the projections and one U for both; for x and x-cl the projections as they "
    "are.\n"
    "Biases, key norms and sinks come along. The result is one file, written whole or not at all.";

struct options {
    struct cli_common common;
    struct cli_spec spec;
    const char *out, *store;
    struct cli_list layers;
};

struct job {
    gen *generator;
    model *source;
    char *spec; /* completed */
    layer_shape shape;
    int *layers, layer_count;
    xqw_writer *writer;
    cJSON *report;  /* of --json */
    double lost[2]; /* the largest of K's and V's over all layers */
};

/* FOLDER/NAME/ → NAME.xqw, in the working folder. */
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
    snprintf(path, size, "%.*s.xqw", unnamed ? 5 : (int)(end - begin),
             unnamed ? "model" : directory + begin);
}

static xq_status add_layer(struct job *job, int layer, error *err)
{
    layer_weights w;
    double lost[2] = {0, 0};
    if (model_layer(job->source, layer, &w, err) != XQ_OK)
        return err->status;
    if (layer_factor(&job->shape, &w, lost, err) == XQ_OK)
        xqw_add_layer(job->writer, layer, &w, err);
    layer_weights_free(&w);
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddNumberToObject(entry, "layer", layer);
    cJSON_AddNumberToObject(entry, "lost_k", lost[0]);
    cJSON_AddNumberToObject(entry, "lost_v", lost[1]);
    cJSON_AddItemToArray(cJSON_GetObjectItem(job->report, "layers"), entry);
    for (int i = 0; i < 2; i++)
        job->lost[i] = lost[i] > job->lost[i] ? lost[i] : job->lost[i];
    return err->status;
}

static xq_status open_job(struct job *job, const char *directory, struct options *o, error *err)
{
    char *spec = NULL;
    o->spec.model = directory;
    if (gen_create(o->common.templates, &job->generator, err) != XQ_OK ||
        model_open(job->generator, directory, &job->source, err) != XQ_OK ||
        cli_spec_json(&o->spec, &o->common, NULL, &spec, err) != XQ_OK)
        return err->status;
    cli_any_layer_spec(job->generator, spec, &job->spec, err);
    free(spec);
    if (err->status != XQ_OK || layer_shape_read(job->spec, &job->shape, err) != XQ_OK)
        return err->status;
    return cli_layers(&o->layers, job->source->layers, &job->layers, &job->layer_count, err);
}

static xq_status write_layers(struct job *job, const char *path, const struct options *o, tensor_type type,
                              error *err)
{
    struct cli_progress progress;
    if (xqw_create(path, job->spec, type, &job->writer, err) != XQ_OK)
        return err->status;
    cli_progress_begin(&progress, &o->common, "preparing");
    for (int i = 0; i < job->layer_count && err->status == XQ_OK; i++) {
        char detail[32];
        snprintf(detail, sizeof detail, "layer %d", job->layers[i]);
        cli_progress_update(&progress, (double)i / job->layer_count, detail);
        add_layer(job, job->layers[i], err);
    }
    cli_progress_end(&progress);
    if (err->status == XQ_OK)
        xqw_commit(job->writer, err);
    else
        xqw_abandon(job->writer);
    return err->status;
}

static void say_done(const struct job *job, const char *path, const struct options *o)
{
    const layer_shape *s = &job->shape;
    if (o->common.quiet || cli_json_to_stdout(&o->common))
        return;
    printf("%s: %d layer%s of %s", path, job->layer_count, job->layer_count == 1 ? "" : "s", o->spec.model);
    printf(", method %s", layer_method_name(s->method));
    if (s->method == LAYER_X || s->method == LAYER_X_CL)
        printf(": Wk and Wv as they are\n");
    else if (s->method == LAYER_LATENT)
        printf(", ranks %d and %d%s: ", s->rank_k, s->rank_v, s->rotation ? ", rotated" : "");
    else
        printf(", rank %d%s: ", s->rank_k, s->rotation ? ", rotated" : "");
    if (s->method == LAYER_X || s->method == LAYER_X_CL)
        return;
    if (job->lost[0] == 0 && job->lost[1] == 0)
        printf("nothing truncated\n");
    else if (s->method == LAYER_LATENT)
        printf("at most %.2g of Wk and %.2g of Wv truncated (relative, L2)\n", job->lost[0], job->lost[1]);
    else
        printf("at most %.2g of [Wk Wv] truncated (relative, L2)\n", job->lost[0]);
}

int cli_prepare(int argc, char **argv)
{
    struct options o = {.store = "f16"};
    const cli_option own[] = {
        {"--out", CLI_STRING, &o.out, "FILE", "where to write (MODEL_DIR's name with .xqw)"},
        {"-o", CLI_STRING, &o.out, "FILE", "the same"},
        {"--layers", CLI_LIST, &o.layers, "L,L...", "only these layers, counted from 0 (all)"},
        {"--store", CLI_STRING, &o.store, "f16|bf16|f32", "type of the stored matrices (f16)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {.name = "prepare",
                           .arguments = "MODEL_DIR",
                           .description = description,
                           .options = own,
                           .common = &o.common,
                           .spec = &o.spec,
                           .positional_min = 1,
                           .positional_max = 1};
    int status;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    tensor_type type = strcmp(o.store, "f16") == 0    ? TENSOR_F16
                       : strcmp(o.store, "bf16") == 0 ? TENSOR_BF16
                       : strcmp(o.store, "f32") == 0  ? TENSOR_F32
                                                      : TENSOR_OTHER;
    if (o.spec.model || type == TENSOR_OTHER) {
        cli_list_free(&o.layers);
        return o.spec.model
                   ? cli_usage("prepare", "--model: the model is MODEL_DIR; leave it out")
                   : cli_usage("prepare", "--store: '%s' is not known; valid: f16, bf16, f32", o.store);
    }
    char path[4096];
    if (o.out)
        snprintf(path, sizeof path, "%s", o.out);
    else
        default_output(command.positional[0], path, sizeof path);

    struct job job = {.report = cJSON_CreateObject()};
    error err = ERROR_INIT;
    cJSON_AddStringToObject(job.report, "file", path);
    cJSON_AddArrayToObject(job.report, "layers");
    if (open_job(&job, command.positional[0], &o, &err) == XQ_OK &&
        write_layers(&job, path, &o, type, &err) == XQ_OK &&
        cli_write_json(&o.common, job.report, &err) == XQ_OK)
        say_done(&job, path, &o);
    status = err.status == XQ_OK ? CLI_OK : cli_fail("prepare", &o.common, &err);
    error_clear(&err);
    cJSON_Delete(job.report);
    model_close(job.source);
    gen_destroy(job.generator);
    free(job.spec);
    free(job.layers);
    cli_list_free(&o.layers);
    return status;
}
