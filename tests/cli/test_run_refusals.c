/* Tests what xq run refuses: tensors, options and specs that do not fit, by name, before anything is
 * written. */
#include "../../prepare/safetensors.h"
#include "../support/command.h"
#include "../support/files.h"
#include "../support/layer_files.h"
#include "../support/model_files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The run must end with this status and with "xq run: " and this text, and write nothing. A text that
 * begins with '/' names a file of the folder. */
static void ends_with(const struct layer *layer, const char *method, int bits, const char *options,
                      int status, const char *text)
{
    const char *directory = layer_files_write(layer, method, bits);
    char arguments[1024], line[1100];
    snprintf(arguments, sizeof arguments,
             "run --input %s/in.safetensors --output %s/out.safetensors --spec %s/spec.json %s", directory,
             directory, directory, options);
    snprintf(line, sizeof line, "xq run: %s%s", text[0] == '/' ? directory : "", text);
    command_refuses(arguments, status, line);
    cr_assert_eq(files_count(directory), 2, "something was written");
}

static void refused(const struct layer *layer, const char *method, int bits, const char *options,
                    const char *text)
{
    ends_with(layer, method, bits, options, 1, text);
}

/* The command must refuse an option that it cannot use here. */
static void misused(const struct layer *layer, const char *method, int bits, const char *options,
                    const char *text)
{
    ends_with(layer, method, bits, options, 2, text);
}

/* The command must take the options, for method x. */
static void taken(const struct layer *layer, const char *options)
{
    struct command_result r = layer_files_run(layer_files_write(layer, "x", 4), options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
}

Test(run_refusals, missing_and_misshapen_tensors_are_named)
{
    struct layer layer = layer_random(8, 1);
    layer.drop = "q";
    refused(&layer, "x", 4, "", "/in.safetensors: there is no tensor q among its 3");
    layer.drop = NULL;
    refused(&layer, "x", 4, "--layer 3", "/in.safetensors: there is no tensor x.3 among its 4");
    layer.wk_cols = 64;
    refused(&layer, "x", 4, "", "/in.safetensors: tensor wk has shape [128, 64], needs [128, 128]");
}

/* A block for one query has a row for each query head of a KV head, here 2. A block for many queries may
 * have any number of rows. */
Test(run_refusals, tuning_is_checked_for_the_kernels_that_run_it, .timeout = 120)
{
    struct layer one = layer_random(8, 1), many = layer_random(8, 3);
    taken(&many, "--set tuning.attend.query_rows=16 --set tuning.attend.value_tiles=1");
    struct command_result r =
        layer_files_run(layer_files_write(&one, "x", 4), "--set tuning.attend.query_rows=16");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "tuning.attend: with one query, query_rows must be at most"), "%s", r.err);
}

Test(run_refusals, tuning_of_kernels_that_do_not_run_is_refused)
{
    struct layer layer = layer_random(8, 1);
#define NOT_HERE(FAMILY, RUN)                                                                              \
    "--set tuning." FAMILY ": has no effect, because no such kernel runs here; valid: " RUN
    misused(&layer, "x", 4, "--device sim --set tuning.kv_attend.warps=4",
            NOT_HERE("kv_attend", "append, attend"));
    misused(&layer, "x", 4, "--device sim --set tuning.dequantize.warps=4",
            NOT_HERE("dequantize", "append, attend"));
    misused(&layer, "x", 4, "--device sim --dump-cache --set tuning.gemm.rows=64",
            NOT_HERE("gemm", "append, attend, dequantize"));
    misused(&layer, "x", 4, "--device sim --unfused --set 'tuning={\"attend\": {\"warps\": 4}}'",
            NOT_HERE("attend", "append, dequantize, gemm, rope, kv_attend"));
    misused(&layer, "x", 4, "--device sim --fp16-kv --set tuning.append.warps=4",
            NOT_HERE("append", "gemm_kv, kv_append, kv_attend"));
    taken(&layer, "--dump-cache --set tuning.dequantize.warps=2");
}

Test(run_refusals, values_that_no_kernel_can_take_are_named)
{
    struct layer layer = layer_random(8, 1);
    layer.wv[7] = NAN;
    refused(&layer, "latent", 4, "",
            "/in.safetensors: tensor wv holds NaN at index 7; every value must be finite");
    layer.wv[7] = 0;
    layer.q[3] = 7e4f;
    refused(
        &layer, "latent", 4, "",
        "/in.safetensors: tensor q holds 70000 at index 3; valid: finite values up to 65504 in size (f16)");
    layer.q[3] = 0;
    layer.extra = "bk";
    refused(&layer, "latent", 4, "",
            "/in.safetensors: tensor bk: the spec has no model.attention_bias that would use it");
}

/* Writes FOLDER/act with x and q of layer 1, and with these tensors. `xq run` must refuse it, and name both
 * texts. */
static void extras_refused(const char *const extras[], int count, const char *first, const char *second)
{
    const char *directory = model_files(&(struct model_change){0});
    tensor all[8] = {{.name = "x.1", .rank = 2, .shape = {4, MODEL_D}},
                     {.name = "q.1", .rank = 3, .shape = {2, MODEL_HEADS, 64}}};
    error err = ERROR_INIT;
    for (int i = 0; i < count; i++)
        all[2 + i] = strchr(extras[i], 'x')   ? (tensor){.rank = 2, .shape = {4, MODEL_D}}
                     : strchr(extras[i], 'q') ? (tensor){.rank = 3, .shape = {2, MODEL_HEADS, 64}}
                     : strchr(extras[i], 'w') ? (tensor){.rank = 2, .shape = {MODEL_D, MODEL_DKV}}
                                              : (tensor){.rank = 1, .shape = {MODEL_DKV}};
    for (int i = 0; i < count + 2; i++) {
        all[i].name = i < 2 ? all[i].name : extras[i - 2];
        all[i].data = layer_floats(tensor_count(&all[i]), 1);
        all[i].bytes = 4 * tensor_count(&all[i]);
    }
    cr_assert_eq(safetensors_write(files_path(directory, "act"), all, count + 2, &err), XQ_OK);
    struct command_result r = command_run("run --device sim --input %s/act --output %s/out --model %s",
                                          directory, directory, directory);
    cr_expect_eq(r.status, 1, "%s", r.err);
    cr_expect(strstr(r.err, first) && strstr(r.err, second), "%s", r.err);
}

Test(run_refusals, tensors_that_would_be_ignored_are_refused)
{
    extras_refused((const char *const[]){"wv.1"}, 1, "tensor wv.1 would be ignored",
                   "because the file has no wk");
    extras_refused((const char *const[]){"bk.1"}, 1, "tensor bk.1", "no model.attention_bias");
    extras_refused((const char *const[]){"x", "q"}, 2, "tensors x and x.1", "--layers");
    extras_refused((const char *const[]){"x.7", "q.7"}, 2, "act: tensor x.7: layer: 7 is not valid",
                   "0 to 1");
}

/* The run of these layers must fail with this text, in which %s stands for the file. */
static void layers_refused(int count, int first, const char *options, const char *format)
{
    struct layer layers[4];
    char suffixes[4][8], arguments[1024], text[1024], line[1100];
    layer_files_draw(layers, suffixes, count, first);
    const char *directory = layer_files_write_all(layers, count, "", "\"method\": \"x-cl\", \"bits\": 4");
    snprintf(arguments, sizeof arguments,
             "run --input %s/in.safetensors --output %s/out.safetensors --spec %s/spec.json %s", directory,
             directory, directory, options);
    snprintf(text, sizeof text, "%s/in.safetensors", directory);
    snprintf(line, sizeof line, format, text);
    command_refuses(arguments, 1, line);
    cr_assert_eq(files_count(directory), 2, "something was written");
}

Test(run_refusals, cross_layer_methods_need_their_base_and_every_layer_after_it)
{
    layers_refused(
        2, 0, "",
        "xq run: --base-layer: layer 2, which starts the accumulator, is not among the 2 layers from %s "
        "(0 to 1)");
    layers_refused(
        4, 0, "--layers 2,3,1 --base-layer 0",
        "xq run: --base-layer: layer 0, which starts the accumulator, is not among the 3 layers from %s "
        "(1 to 3)");
    layers_refused(
        4, 1, "--layers 2,4",
        "xq run: layer 4 comes after layer 2: cross-layer methods need every layer from the base layer "
        "(2) on");
    layers_refused(3, 1, "--layer 2",
                   "xq run: %s: the file has only tensor x, and a cross-layer method runs several layers "
                   "in order; give tensors x.0, x.1, ... (--layers)");
}

Test(run_refusals, more_queries_than_tokens_are_refused)
{
    struct layer layer = layer_random(2, 3);
    refused(&layer, "x", 4, "",
            "/in.safetensors: 3 queries over 2 tokens; valid: at least 1 token, and from 1 query to as "
            "many as tokens");
    layer = layer_random(0, 0);
    refused(&layer, "x", 4, "",
            "/in.safetensors: 0 queries over 0 tokens; valid: at least 1 token, and from 1 query to as "
            "many as tokens");
}

Test(run_refusals, impossible_specs_are_refused_by_field)
{
    struct layer layer = layer_random(4, 1);
    refused(&layer, "latent", 4, "--bits 5", "cache.bits: 5 is not valid; valid: 2, 3, 4, 8");
}

Test(run_refusals, a_truncated_file_is_refused)
{
    struct layer layer = layer_random(4, 1);
    const char *directory = layer_files_write(&layer, "x", 4),
               *path = files_path(directory, "in.safetensors");
    size_t size;
    char *data = files_read(path, &size), arguments[1024], line[1024];
    files_write(path, data, size - 100);
    snprintf(arguments, sizeof arguments, "run --input %s --output %s/out --spec %s/spec.json", path,
             directory, directory);
    struct command_result r = command_run("%s", arguments);
    snprintf(line, sizeof line, "xq run: %s: tensor q ends at byte", path);
    cr_assert_eq(strncmp(r.err, line, strlen(line)), 0, "%s", r.err);
    cr_assert_eq(r.status, 1);
    free(data);
}

Test(run_refusals, wrong_usage_has_status_2)
{
    command_refuses(
        "run --output x --model smollm2-135m", 2,
        "xq run: --input is missing; usage: xq run --input FILE --output FILE|- --model NAME|DIR|FILE");
    command_refuses("run --input a --output b --fused --unfused", 2,
                    "xq run: --fused, --unfused, --fp16-kv, --fp8-kv: give one of them");
    command_refuses(
        "run --input a --output b --fp16-kv --dump-cache", 2,
        "xq run: --dump-cache: an fp16 KV cache holds no activations; use --fused or --unfused");
    command_refuses("run --input a --output b --chunk 0", 1, "xq run: --chunk: 0; valid: 1 to 1048576");
    command_refuses("run --input a --output b --layer 1 --layers 1,2", 2,
                    "xq run: --layer and --layers: give one of them");
    command_refuses("run --input a --output b", 2,
                    "xq run: no model given; use --model NAME|DIR|config.json, or --spec FILE");
}

/* With other sizes, the model's own matrices would be misread. */
Test(run_refusals, sizes_of_a_model_directory_cannot_be_overridden)
{
    static const char *const sets[] = {
        "hidden_size=256",     "num_key_value_heads=2", "num_attention_heads=1", "head_dim=128",
        "attention_bias=true", "attention_sinks=true",  "qk_norm=true",
    };
    const char *directory = model_files(&(struct model_change){0});
    tensor all[2] = {{.name = "x.1", .rank = 2, .shape = {4, MODEL_D}},
                     {.name = "q.1", .rank = 3, .shape = {2, MODEL_HEADS, 64}}};
    error err = ERROR_INIT;
    for (int i = 0; i < 2; i++) {
        all[i].data = layer_floats(tensor_count(&all[i]), 1);
        all[i].bytes = 4 * tensor_count(&all[i]);
    }
    cr_assert_eq(safetensors_write(files_path(directory, "act"), all, 2, &err), XQ_OK);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char expected[96];
        struct command_result r =
            command_run("run --device sim --input %s/act --output %s/out --model %s --set model.%s",
                        directory, directory, directory, sets[i]);
        snprintf(expected, sizeof expected, "model.%.*s: differs from the model directory's",
                 (int)strcspn(sets[i], "="), sets[i]);
        cr_expect_eq(r.status, 1, "%s: %s", sets[i], r.err);
        cr_expect(strstr(r.err, expected), "%s: %s", sets[i], r.err);
    }
}
