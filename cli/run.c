/* xq run: computes attention layers on tensors of a safetensors file. */
#include "run.h"
#include "../runtime/launch/shape.h"

#include <stdlib.h>

static const char description[] =
    "Reads x [tokens, d], wk and wv [d, dkv], q [queries, H, dh] (before RoPE; f32, f16, bf16 or f64),\n"
    "and, if the model has them, bk and bv [dkv], k_norm, and sinks [H]. Appends x to a cache, and\n"
    "attends: query j is at position tokens - queries + j and sees the tokens up to its own. Writes o\n"
    "[queries, H, dh] (of the spec's dtype) and lse [queries, H] (f32, natural logarithm). The weights\n"
    "are prepared first (by an SVD for the latent methods, by a rotation for --rotation).\n\n"
    "With --model DIR, the weights may come from the model instead of the file.\n\n"
    "A file with x.0, wk.0, ..., x.1, ... holds several layers, and outputs are o.0, lse.0, ... The\n"
    "cross-layer methods need several layers: layers before the base layer have the plain method at 4\n"
    "bits, the base layer has 4 bits, and the layers after it have --bits.\n\n"
    "--dump-cache adds what the kernels computed with: x_hat [tokens, d], wk and wv (for cross-layer\n"
    "methods x_hat is the accumulator; for method x with --rotation all are turned back into the\n"
    "model's coordinates, f32); for method latent lk_hat [tokens, rank_k], lv_hat [tokens, rank_v], ak\n"
    "[rank_k / groups_k, dkv] and av.";

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
    prepared_file_close(r->factors);
    gen_destroy(r->generator);
    cli_list_free(&r->o->layers);
    xq_context_destroy(r->context);
}

/* A KV cache takes none of the options that describe a quantized cache. */
static int check_kv(const cli_command *command)
{
    static const char *const quantized[] = {
        "--method",           "--bits",       "--group",       "--axis-k",
        "--axis-v",           "--zero-point", "--clip",        "--rank",
        "--groups",           "--rotation",   "--no-rotation", "--feedback",
        "--accumulator-bits", "--base-layer", "--prepared",    NULL};
    int status = cli_excludes(command, "--fp16-kv", quantized);
    return status == CLI_OK ? cli_excludes(command, "--fp8-kv", quantized) : status;
}

static int check_usage(const cli_command *command, const struct run_options *o)
{
    if (!o->input || !o->output)
        return cli_usage("run",
                         "%s is missing; usage: xq run --input FILE --output FILE|- --model NAME|DIR|FILE",
                         o->input ? "--output" : "--input");
    if (o->fused + o->unfused + o->fp16_kv + o->fp8_kv > 1)
        return cli_usage("run", "--fused, --unfused, --fp16-kv, --fp8-kv: give one of them");
    if (o->dump && shape_is_kv(run_implementation(o)))
        return cli_usage("run",
                         "--dump-cache: an %s KV cache holds no activations; use --fused or --unfused",
                         o->fp8_kv ? "fp8" : "fp16");
    if (o->layer >= 0 && o->layers.count)
        return cli_usage("run", "--layer and --layers: give one of them");
    int status = check_kv(command);
    return status == CLI_OK ? cli_needs_model(command) : status;
}

/* Begins outputs before any work, so that a path that cannot be written is an error at once. */
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

const char cli_run_summary[] = "run layers on tensors of a safetensors file: append, then attend";

int cli_run(int argc, char **argv)
{
    struct run_options o = {.layer = -1, .base_layer = CLI_BASE_LAYER, .chunk = 256};
    const cli_option own[] = {
        {"--input", CLI_STRING, &o.input, "FILE", "safetensors file with x, wk, wv, q (or x.0, ...)"},
        {"--output", CLI_STRING, &o.output, "FILE|-", "safetensors file to write; - is stdout"},
        {"--prepared", CLI_STRING, &o.prepared, "FILE", "factors that `xq prepare` wrote (computed now)"},
        {"--fused", CLI_FLAG, &o.fused, NULL,
         "use one kernel, with no intermediate results in device memory (default)"},
        {"--unfused", CLI_FLAG, &o.unfused, NULL,
         "use a kernel for each step: dequantize, GEMM, RoPE, attention"},
        {"--fp16-kv", CLI_FLAG, &o.fp16_kv, NULL, "use the baseline: an fp16 cache of keys and values"},
        {"--fp8-kv", CLI_FLAG, &o.fp8_kv, NULL,
         "use an e4m3 cache of keys and values, with scales k_scale and v_scale of the file (1)"},
        {"--dump-cache", CLI_FLAG, &o.dump, NULL, "also write the dequantized cache and the matrices used"},
        {"--layers", CLI_LIST, &o.layers, "L,L...",
         "layers to read as x.L, wk.L, ... and to write as o.L, lse.L (all in the file)"},
        {"--layer", CLI_INT, &o.layer, "L", "one layer to read as x.L, wk.L, ... and to write as o, lse"},
        {"--base-layer", CLI_INT, &o.base_layer, "L",
         "cross-layer: the layer that starts the accumulator (2)"},
        {"--chunk", CLI_INT, &o.chunk, "N", "most queries in one attend call (256)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "run",
        .summary = cli_run_summary,
        .description = description,
        .options = own,
        .bounds = (const cli_bounds[]){{"--layer", 0, LAYER_MOST_LAYERS - 1},
                                       {"--base-layer", 0, LAYER_MOST_LAYERS - 1},
                                       {"--chunk", 1, 1 << 20},
                                       {NULL, 0, 0}},
        .common = &o.common,
        .spec = &o.spec,
        .unused = (const cli_unused[]){{"--base", "--base-layer names the layer"},
                                       {"--queries", "the tensors q determine the number of queries"},
                                       {"--seed", "nothing is random here"},
                                       {"arch", "the device determines it"},
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
            run_write(&r, &err) == XQ_OK) {
            cli_progress_end(&r.progress);
            run_report(&r, &err);
        }
        cli_progress_end(&r.progress);
        if (err.status != XQ_OK)
            status = cli_fail("run", &o.common, &err);
    }
    error_clear(&err);
    release(&r);
    return status;
}
