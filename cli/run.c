/* xq run: attention layers on tensors of a safetensors file. */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "Reads x [tokens, d], wk and wv [d, dkv], q [queries, H, dh] (before RoPE; f32, f16, bf16 or f64), and "
    "where\n"
    "the model has them bk, bv [dkv], k_norm and sinks [H]; appends x to a cache, and attends: query j\n"
    "stands at position tokens - queries + j and sees the tokens up to its own. Writes o [queries, H, dh]\n"
    "(of the spec's dtype) and lse [queries, H] (f32, natural logarithm). The weights are prepared on the "
    "way\n"
    "(an SVD for the latent methods, a rotation for --rotation).\n\n"
    "With --model DIR, a file may leave the weights to the model.\n\n"
    "A file with x.0, wk.0, ..., x.1, ... holds several layers: outputs are o.0, lse.0, ... The "
    "cross-layer\n"
    "methods need them: layers before the base layer have the plain method at 4 bits, the base layer 4 "
    "bits,\n"
    "and those after it --bits.\n\n"
    "--dump-cache adds what the kernels computed with: x_hat [tokens, d], wk, wv (cross-layer methods: "
    "the\n"
    "accumulator; method x with --rotation: both turned back into the model's coordinates, f32); lk_hat "
    "[tokens, rank_k], lv_hat [tokens, rank_v], ak [rank_k / groups, dkv], av for "
    "method\n"
    "latent.";

/* ----------------------------------------------------------------- output */

void run_add(struct run_layer *l, const char *name, tensor_type type, int rank, const int64_t *shape,
             void *data)
{
    struct run_tensor *out = &l->out[l->out_count++];
    snprintf(out->name, sizeof out->name, "%s", name);
    out->t = (tensor){.type = type, .rank = rank};
    for (int i = 0; i < rank; i++)
        out->t.shape[i] = shape[i];
    out->t.bytes = tensor_count(&out->t) * (type == TENSOR_F32 ? 4 : 2);
    out->t.data = out->data = data;
}

static xq_status write_output(struct run *r, error *err)
{
    tensor *all = malloc(sizeof *all * (size_t)r->layer_count * RUN_MOST_TENSORS);
    int count = 0;
    if (!all)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    cli_progress_update(&r->progress, 1, "writing the output");
    for (int i = 0; i < r->layer_count; i++)
        for (int j = 0; j < r->layers[i].out_count; j++) {
            struct run_tensor *out = &r->layers[i].out[j];
            size_t used = strlen(out->name);
            if (r->numbered)
                snprintf(out->name + used, sizeof out->name - used, "%s", r->layers[i].suffix);
            all[count] = out->t;
            all[count++].name = out->name;
        }
    if (safetensors_write_to(r->output, all, count, NULL, err) == XQ_OK)
        cli_commit_output(r->output, err);
    free(all);
    return err->status;
}

static const char *implementation_name(const struct run_options *o)
{
    return o->fp16_kv ? "fp16-kv" : o->unfused ? "unfused" : "fused";
}

static cJSON *layer_json(const struct run *r, const struct run_layer *l)
{
    cJSON *json = cJSON_CreateObject();
    if (l->number >= 0)
        cJSON_AddNumberToObject(json, "layer", l->number);
    if (!r->o->fp16_kv) {
        cJSON_AddStringToObject(json, "method", layer_method_name(l->traits.shape.method));
        cJSON_AddNumberToObject(json, "bits", l->traits.bits);
    }
    cJSON_AddNumberToObject(json, "queries", (double)l->queries);
    cJSON_AddNumberToObject(json, "cache_bytes_per_token", l->info.cache_bytes_per_token);
    cJSON_AddNumberToObject(json, "tail_bytes", (double)l->info.tail_bytes);
    return json;
}

static xq_status report(const struct run *r, error *err)
{
    const struct run_layer *last = &r->layers[r->layer_count - 1];
    double bytes = last->info.accumulator_bytes_per_token;
    cJSON *json = cJSON_CreateObject(), *layers;
    cJSON_AddStringToObject(json, "output", r->o->output);
    cJSON_AddStringToObject(json, "implementation", implementation_name(r->o));
    cJSON_AddNumberToObject(json, "tokens", (double)last->tokens);
    cJSON_AddNumberToObject(json, "queries", (double)last->queries);
    layers = cJSON_AddArrayToObject(json, "layers");
    for (int i = 0; i < r->layer_count; i++) {
        cJSON_AddItemToArray(layers, layer_json(r, &r->layers[i]));
        bytes += r->layers[i].info.cache_bytes_per_token;
    }
    cJSON_AddNumberToObject(json, "accumulator_bytes_per_token", last->info.accumulator_bytes_per_token);
    cJSON_AddNumberToObject(json, "cache_bytes_per_token", bytes);
    cli_write_json(&r->o->common, json, err);
    cJSON_Delete(json);
    if (err->status != XQ_OK || r->o->common.quiet || cli_json_to_stdout(&r->o->common))
        return err->status;
    printf("%s: %s attention of %lld quer%s over %lld tokens", cli_show(r->o->output).text,
           implementation_name(r->o), (long long)last->queries, last->queries == 1 ? "y" : "ies",
           (long long)last->tokens);
    if (r->layer_count > 1)
        printf(" in %d layers", r->layer_count);
    printf("; the cache takes %.4g bytes a token%s\n", bytes,
           last->info.accumulator_page_bytes ? ", accumulator included" : "");
    return err->status;
}

/* ---------------------------------------------------------------- command */

static void release(struct run *r)
{
    driver_close(&r->driver);
    for (int i = 0; i < r->layer_count; i++) {
        for (int j = 0; j < r->layers[i].out_count; j++)
            free(r->layers[i].out[j].data);
        free(r->layers[i].spec);
    }
    free(r->layers);
    free(r->spec);
    safetensors_close(r->file);
    model_close(r->source);
    xqw_close(r->factors);
    gen_destroy(r->generator);
    cli_list_free(&r->o->layers);
    xq_context_destroy(r->context);
}

/* An fp16 KV cache has nothing of what describes a quantized one. */
static int check_fp16_kv(const cli_command *command)
{
    static const char *const quantized[] = {
        "--method",           "--bits",       "--group",       "--axis-k",
        "--axis-v",           "--zero-point", "--clip",        "--rank",
        "--groups",           "--rotation",   "--no-rotation", "--feedback",
        "--accumulator-bits", "--base-layer", "--prepared",    NULL};
    return cli_excludes(command, "--fp16-kv", quantized);
}

static int check_usage(const cli_command *command, const struct run_options *o)
{
    if (!o->input || !o->output)
        return cli_usage("run",
                         "%s is missing; usage: xq run --input FILE --output FILE|- --model NAME|DIR|FILE",
                         o->input ? "--output" : "--input");
    if (o->fused + o->unfused + o->fp16_kv > 1)
        return cli_usage("run", "--fused, --unfused, --fp16-kv: give one of them");
    if (o->fp16_kv && o->dump)
        return cli_usage(
            "run", "--dump-cache: an fp16 KV cache holds nothing quantized; use --fused or --unfused");
    if (o->layer >= 0 && o->layers.count)
        return cli_usage("run", "--layer and --layers: give one of them");
    int status = check_fp16_kv(command);
    return status == CLI_OK ? cli_needs_model(command) : status;
}

/* Before any work: what cannot be written is an error at once. */
static xq_status begin_outputs(struct run *r, error *err)
{
    const struct run_options *o = r->o;
    cli_reads_common(&o->common, &o->spec);
    cli_reads("--input", o->input);
    cli_reads("--prepared", o->prepared);
    if (cli_begin_output("--output", o->output, &r->output, err) == XQ_OK)
        cli_begin_json(&o->common, err);
    return err->status;
}

int cli_run(int argc, char **argv)
{
    struct run_options o = {.layer = -1, .base_layer = CLI_BASE_LAYER, .chunk = 256};
    const cli_option own[] = {
        {"--input", CLI_STRING, &o.input, "FILE", "safetensors file with x, wk, wv, q (or x.0, ...)"},
        {"--output", CLI_STRING, &o.output, "FILE|-", "safetensors file to write; -: to standard output"},
        {"--prepared", CLI_STRING, &o.prepared, "FILE.xqw",
         "factors that `xq prepare` wrote; else made here"},
        {"--fused", CLI_FLAG, &o.fused, NULL, "one kernel, nothing in between in device memory (default)"},
        {"--unfused", CLI_FLAG, &o.unfused, NULL,
         "dequantize, GEMM, RoPE, attention, through device memory"},
        {"--fp16-kv", CLI_FLAG, &o.fp16_kv, NULL, "the baseline: an fp16 cache of keys and values"},
        {"--dump-cache", CLI_FLAG, &o.dump, NULL, "write the dequantized cache and the matrices used, too"},
        {"--layers", CLI_LIST, &o.layers, "L,L...",
         "read x.L, wk.L, ... and write o.L, lse.L (all in the file)"},
        {"--layer", CLI_INT, &o.layer, "L", "read x.L, wk.L, ... of one layer, and write o, lse"},
        {"--base-layer", CLI_INT, &o.base_layer, "L",
         "cross-layer: the layer that starts the accumulator (2)"},
        {"--chunk", CLI_INT, &o.chunk, "N", "queries of one attend call, at most (256)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "run",
        .description = description,
        .options = own,
        .bounds = (const cli_bounds[]){{"--layer", 0, CLI_MOST_LAYERS - 1},
                                       {"--base-layer", 0, CLI_MOST_LAYERS - 1},
                                       {"--chunk", 1, 1 << 20},
                                       {NULL, 0, 0}},
        .common = &o.common,
        .spec = &o.spec,
        .unused = (const cli_unused[]){{"--base", "--base-layer says which layer that is"},
                                       {"--queries", "the tensors q say how many there are"},
                                       {"--seed", "nothing is random here"},
                                       {"arch", "it is the device's"},
                                       {NULL, NULL}},
    };
    struct run r = {.o = &o};
    error err = ERROR_INIT;
    int status;
    if (cli_parse(&command, argc, argv, &status) && (status = check_usage(&command, &o)) == CLI_OK) {
        o.base_given = cli_given(&command, "--base-layer");
        cli_progress_begin(&r.progress, &o.common, "running");
        cli_progress_update(&r.progress, 0, "reading the input");
        if (begin_outputs(&r, &err) == XQ_OK && cli_spec_json(&o.spec, &o.common, &r.spec, &err) == XQ_OK &&
            gen_create(o.common.templates, &r.generator, &err) == XQ_OK &&
            run_input_open(&r, &err) == XQ_OK &&
            (status = cli_open("run", &o.common, &r.context)) == CLI_OK && run_compute(&r, &err) == XQ_OK &&
            write_output(&r, &err) == XQ_OK) {
            cli_progress_end(&r.progress);
            report(&r, &err);
        }
        cli_progress_end(&r.progress);
        if (err.status != XQ_OK)
            status = cli_fail("run", &o.common, &err);
    }
    error_clear(&err);
    release(&r);
    return status;
}
