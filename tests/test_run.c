#include "../autotune/reference.h"
#include "../prepare/safetensors.h"
#include "command.h"
#include "files.h"
#include "generator.h"
#include "layer_files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- results */

static double *read_doubles(const safetensors *file, const char *name, int rank, const int64_t *shape)
{
    const tensor *t;
    float *values;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_need(file, name, &t, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(tensor_expect_shape(t, rank, shape, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(tensor_to_floats(t, 0, &values, &err), XQ_OK, "%s", err.message);
    size_t count = tensor_count(t);
    double *out = malloc(sizeof *out * (count + 1));
    for (size_t i = 0; i < count; i++)
        out[i] = values[i];
    free(values);
    return out;
}

static double *to_doubles(const float *values, size_t count)
{
    double *out = malloc(sizeof *out * count);
    for (size_t i = 0; i < count; i++)
        out[i] = values[i];
    return out;
}

/* Largest error over the queries of o and lse against attention over factors. */
static void check_output(const char *directory, const struct layer *layer, const reference_factors *factors,
                         double tolerance)
{
    enum { ROW = LAYER_HEADS * LAYER_DH };
    const int64_t o_shape[3] = {layer->queries, LAYER_HEADS, LAYER_DH},
                  lse_shape[2] = {layer->queries, LAYER_HEADS};
    safetensors *file;
    reference_model model;
    error err = ERROR_INIT;
    size_t size;
    char *spec = files_read(files_path(directory, "spec.json"), &size),
         *completed = generator_complete(spec);
    cr_assert_eq(reference_model_read(completed, &model, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(safetensors_open(files_path(directory, "out.safetensors"), &file, &err), XQ_OK, "%s",
                 err.message);
    double *o = read_doubles(file, "o", 3, o_shape), *lse = read_doubles(file, "lse", 2, lse_shape);
    for (int64_t j = 0; j < layer->queries; j++) {
        double out[ROW], expected_lse[LAYER_HEADS], *q = to_doubles(layer->q + j * ROW, ROW);
        int64_t tokens = layer->tokens - layer->queries + j + 1;
        cr_assert_eq(reference_attend_factors(&model, tokens, factors, q, out, expected_lse, &err), XQ_OK);
        double difference = reference_error(out, o + j * ROW, ROW);
        cr_assert_lt(difference, tolerance, "query %d: error %g", (int)j, difference);
        for (int h = 0; h < LAYER_HEADS; h++)
            cr_assert_float_eq(lse[j * LAYER_HEADS + h], expected_lse[h], 10 * tolerance);
        free(q);
    }
    free(o);
    free(lse);
    safetensors_close(file);
    free(completed);
    free(spec);
}

static void run(const char *directory, const char *options)
{
    struct command_result r =
        command_run("run --device sim --input %s/in.safetensors --output %s/out.safetensors "
                    "--spec %s/spec.json %s",
                    directory, directory, directory, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
}

/* Runs, and compares the output with attention over the cache that the run dumped. */
static void check_dumped(const char *method, int bits, const char *options)
{
    struct layer layer = layer_random(37, 1);
    const char *directory = layer_files_write(&layer, method, bits);
    int latent = strcmp(method, "latent") == 0;
    const int64_t hat_shape[2] = {37, LAYER_D}, w_shape[2] = {LAYER_D, LAYER_DKV};
    safetensors *file;
    error err = ERROR_INIT;
    char all[128];
    snprintf(all, sizeof all, "--dump-cache %s", options);
    run(directory, all);
    cr_assert_eq(safetensors_open(files_path(directory, "out.safetensors"), &file, &err), XQ_OK, "%s",
                 err.message);
    /* rank_k = rank_v = dkv = 128 = d: all factors have one shape */
    double *xk = read_doubles(file, latent ? "lk_hat" : "x_hat", 2, hat_shape);
    double *xv = read_doubles(file, latent ? "lv_hat" : "x_hat", 2, hat_shape);
    double *wk = read_doubles(file, latent ? "ak" : "wk", 2, w_shape);
    double *wv = read_doubles(file, latent ? "av" : "wv", 2, w_shape);
    cr_assert_eq(safetensors_count(file), latent ? 6 : 5);
    safetensors_close(file);
    reference_factors factors = {xk, xv, wk, wv, LAYER_D, LAYER_D};
    check_output(directory, &layer, &factors, 2e-3);
    free(xk);
    free(xv);
    free(wk);
    free(wv);
}

Test(run, fused_attends_over_the_cache_that_it_dumps)
{
    check_dumped("latent", 4, "");
    check_dumped("x", 8, "--fused");
}

Test(run, unfused_attends_over_the_cache_that_it_dumps)
{
    check_dumped("latent", 8, "--unfused");
    check_dumped("x", 4, "--unfused");
}

/* Against exact attention: within what 8 bits, or fp16, may lose. */
static void check_exact(const char *options, double tolerance)
{
    struct layer layer = layer_random(50, 1);
    const char *directory = layer_files_write(&layer, "latent", 8);
    double *x = to_doubles(layer.x, 50 * LAYER_D), *wk = to_doubles(layer.wk, (size_t)LAYER_D * LAYER_DKV);
    double *wv = to_doubles(layer.wv, (size_t)LAYER_D * LAYER_DKV);
    reference_factors factors = {x, x, wk, wv, LAYER_D, LAYER_D};
    run(directory, options);
    check_output(directory, &layer, &factors, tolerance);
    free(x);
    free(wk);
    free(wv);
}

Test(run, every_implementation_is_near_exact_attention)
{
    check_exact("--fused", 2e-2);
    check_exact("--unfused", 2e-2);
    check_exact("--fp16-kv", 2e-3);
}

Test(run, layer_picks_the_tensors_of_one_layer)
{
    struct layer layer = layer_random(20, 1);
    layer.suffix = ".7";
    const char *directory = layer_files_write(&layer, "x", 8);
    run(directory, "--layer 7");
    cr_assert_eq(files_count(directory), 3);
}

/* -------------------------------------------------------------- bad input */

/* The run must fail with status 1 and "xq run: " and this text, which names a file of the folder when it
 * begins with '/'; and write nothing. */
static void refused(const struct layer *layer, const char *method, int bits, const char *options,
                    const char *text)
{
    const char *directory = layer_files_write(layer, method, bits);
    char arguments[1024], line[1100];
    snprintf(arguments, sizeof arguments,
             "run --input %s/in.safetensors --output %s/out.safetensors --spec %s/spec.json %s", directory,
             directory, directory, options);
    snprintf(line, sizeof line, "xq run: %s%s", text[0] == '/' ? directory : "", text);
    command_refuses(arguments, 1, line);
    cr_assert_eq(files_count(directory), 2, "something was written");
}

Test(run, missing_and_misshapen_tensors_are_named)
{
    struct layer layer = layer_random(8, 1);
    layer.drop = "q";
    refused(&layer, "x", 4, "", "/in.safetensors: no tensor q among its 3");
    layer.drop = NULL;
    refused(&layer, "x", 4, "--layer 3", "/in.safetensors: no tensor x.3 among its 4");
    layer.wk_cols = 64;
    refused(&layer, "x", 4, "", "/in.safetensors: tensor wk has shape [128, 64], needs [128, 128]");
}

Test(run, values_that_no_kernel_can_take_are_named)
{
    struct layer layer = layer_random(8, 1);
    layer.wv[7] = NAN;
    refused(&layer, "latent", 4, "",
            "/in.safetensors: tensor wv holds NaN at index 7; every value must be finite");
    layer.wv[7] = 0;
    layer.q[3] = 7e4f;
    refused(&layer, "latent", 4, "",
            "/in.safetensors: tensor q holds 70000 at index 3; f16 holds up to 65504");
    layer.q[3] = 0;
    layer.extra = "bk";
    refused(&layer, "latent", 4, "",
            "/in.safetensors: tensor bk: the spec has no model.attention_bias that would use it");
}

Test(run, more_queries_than_tokens_are_refused)
{
    struct layer layer = layer_random(2, 3);
    refused(&layer, "x", 4, "",
            "/in.safetensors: 3 queries over 2 tokens; valid are 1 token or more, and 1 to that many "
            "queries");
    layer = layer_random(0, 0);
    refused(&layer, "x", 4, "",
            "/in.safetensors: 0 queries over 0 tokens; valid are 1 token or more, and 1 to that many "
            "queries");
}

Test(run, impossible_specs_are_refused_by_field)
{
    struct layer layer = layer_random(4, 1);
    refused(&layer, "latent", 4, "--bits 5", "cache.bits: 5 is not valid; valid: 2, 3, 4, 8");
}

Test(run, a_truncated_file_is_refused)
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

Test(run, wrong_usage_has_status_2)
{
    command_refuses(
        "run --output x --model smollm2-135m", 2,
        "xq run: --input is missing; usage: xq run --input FILE --output FILE --model NAME|DIR|FILE");
    command_refuses("run --input a --output b --fused --unfused", 2,
                    "xq run: --fused, --unfused, --fp16-kv: give one of them");
    command_refuses(
        "run --input a --output b --fp16-kv --dump-cache", 2,
        "xq run: --dump-cache: an fp16 KV cache holds nothing quantized; use --fused or --unfused");
    command_refuses("run --input a --output b", 1,
                    "xq run: no model given; use --model NAME|DIR|config.json, or --spec FILE");
}
