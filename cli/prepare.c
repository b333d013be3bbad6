/* xq prepare: the weights of a Hugging Face model directory → .xqw */
#include "../prepare/model.h"
#include "../prepare/svd.h"
#include "../prepare/xqw.h"
#include "cli.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "Reads config.json and the safetensors of MODEL_DIR. For method latent, the key and value projections "
    "of\n"
    "each layer become U*A by a singular value decomposition; for method x they are kept as they are. The\n"
    "result is one file, written whole or not at all.";

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
    struct cli_shape shape;
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

static xq_status add_latent(struct job *job, int layer, const char *u_name, const char *a_name,
                            const float *w, int rank, double *lost, error *err)
{
    size_t d = (size_t)job->shape.hidden_size, dkv = (size_t)job->shape.kv_width;
    float *u = malloc(sizeof *u * (d + dkv) * (size_t)rank), *a = u ? u + d * (size_t)rank : NULL;
    if (!u)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    if (svd_factor(w, (int)d, (int)dkv, rank, u, a, lost, err) == XQ_OK &&
        xqw_add(job->writer, layer, u_name, (int)d, rank, u, err) == XQ_OK)
        xqw_add(job->writer, layer, a_name, rank, (int)dkv, a, err);
    free(u);
    return err->status;
}

static xq_status add_layer(struct job *job, int layer, error *err)
{
    float *wk, *wv;
    double lost[2] = {0, 0};
    int d = job->shape.hidden_size, dkv = job->shape.kv_width;
    if (model_layer(job->source, layer, &wk, &wv, err) != XQ_OK)
        return err->status;
    if (job->shape.latent) {
        if (add_latent(job, layer, "uk", "ak", wk, job->shape.rank_k, &lost[0], err) == XQ_OK)
            add_latent(job, layer, "uv", "av", wv, job->shape.rank_v, &lost[1], err);
    } else if (xqw_add(job->writer, layer, "wk", d, dkv, wk, err) == XQ_OK) {
        xqw_add(job->writer, layer, "wv", d, dkv, wv, err);
    }
    free(wk);
    free(wv);
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
    gen_complete(job->generator, spec, &job->spec, err);
    free(spec);
    if (err->status != XQ_OK || cli_shape_read(job->spec, &job->shape, err) != XQ_OK)
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
    if (o->common.quiet || cli_json_to_stdout(&o->common))
        return;
    printf("%s: %d layer%s of %s", path, job->layer_count, job->layer_count == 1 ? "" : "s", o->spec.model);
    if (!job->shape.latent)
        printf(", method x: Wk and Wv as they are\n");
    else if (job->lost[0] == 0 && job->lost[1] == 0)
        printf(", method latent, ranks %d and %d: nothing truncated\n", job->shape.rank_k,
               job->shape.rank_v);
    else
        printf(", method latent, ranks %d and %d: at most %.2g of Wk and %.2g of Wv truncated (relative, "
               "L2)\n",
               job->shape.rank_k, job->shape.rank_v, job->lost[0], job->lost[1]);
}

int cli_prepare(int argc, char **argv)
{
    struct options o = {.store = "f16"};
    const cli_option own[] = {
        {"--out", CLI_STRING, &o.out, "FILE", "where to write (MODEL_DIR's name with .xqw)"},
        {"-o", CLI_STRING, &o.out, "FILE", "the same"},
        {"--layers", CLI_LIST, &o.layers, "L,L...", "only these layers, counted from 0 (all)"},
        {"--store", CLI_STRING, &o.store, "f16|f32", "type of the stored matrices (f16)"},
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
    bool single = strcmp(o.store, "f32") == 0;
    if (o.spec.model || (!single && strcmp(o.store, "f16") != 0)) {
        cli_list_free(&o.layers);
        return o.spec.model ? cli_usage("prepare", "--model: the model is MODEL_DIR; leave it out")
                            : cli_usage("prepare", "--store: '%s' is not known; valid: f16, f32", o.store);
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
        write_layers(&job, path, &o, single ? TENSOR_F32 : TENSOR_F16, &err) == XQ_OK &&
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
