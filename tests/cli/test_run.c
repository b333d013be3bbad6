/* Tests xq run: its outputs are attention over the cache that it dumps, for every implementation and every
 * layer. */
#include "../../autotune/reference/reference.h"
#include "../../prepare/safetensors.h"
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "../support/generator.h"
#include "../support/layer_files.h"
#include "../support/model_files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
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

static reference_model model_of(const char *directory)
{
    reference_model model;
    error err = ERROR_INIT;
    size_t size;
    char *spec = files_read(files_path(directory, "spec.json"), &size),
         *completed = generator_complete(spec);
    cr_assert_eq(reference_model_read(completed, &model, &err), XQ_OK, "%s", err.message);
    free(completed);
    free(spec);
    return model;
}

static safetensors *output(const char *directory)
{
    safetensors *file;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_open(files_path(directory, "out.safetensors"), &file, &err), XQ_OK, "%s",
                 err.message);
    return file;
}

static const char *named(const char *name, const char *suffix)
{
    static char full[4][32];
    static int next;
    snprintf(full[next = (next + 1) % 4], sizeof full[0], "%s%s", name, suffix);
    return full[next];
}

/* Compares o and lse of a layer (in tensors with this suffix) with attention over x [tokens, d] (xv for
 * values) and these weights. Vectors such as biases are those of the input. */
static void check_attention(const char *directory, const char *suffix, const struct layer *layer,
                            const double *xk, const double *xv, const double *wk, const double *wv,
                            int latents, double tolerance)
{
    enum { ROW = LAYER_HEADS * LAYER_DH };
    const int64_t o_shape[3] = {layer->queries, LAYER_HEADS, LAYER_DH};
    size_t values = (size_t)layer->queries * ROW, lses = (size_t)layer->queries * LAYER_HEADS;
    const reference_model model = model_of(directory);
    safetensors *file = output(directory);
    error err = ERROR_INIT;
    double *vectors[4] = {layer->bk ? to_doubles(layer->bk, LAYER_DKV) : NULL,
                          layer->bv ? to_doubles(layer->bv, LAYER_DKV) : NULL,
                          layer->k_norm ? to_doubles(layer->k_norm, LAYER_DH) : NULL,
                          layer->sinks ? to_doubles(layer->sinks, LAYER_HEADS) : NULL};
    const reference_layer projections = {.wk = wk,
                                         .wv = wv,
                                         .inner_k = LAYER_D / latents,
                                         .inner_v = LAYER_D / latents,
                                         .latents_k = latents,
                                         .latents_v = latents,
                                         .bk = vectors[0],
                                         .bv = vectors[1],
                                         .k_norm = vectors[2],
                                         .sinks = vectors[3]};
    double *o = read_doubles(file, named("o", suffix), 3, o_shape);
    double *lse = read_doubles(file, named("lse", suffix), 2, o_shape);
    double *q = to_doubles(layer->q, values), *expected = malloc(sizeof *expected * (values + lses));
    double *expected_lse = expected + values;
    const reference_queries queries = {.count = layer->queries, .q = q};
    cr_assert_eq(reference_attend_layer(&model, &projections, layer->tokens, xk, xv, &queries, expected,
                                        expected_lse, &err),
                 XQ_OK, "%s", err.message);
    double difference = reference_error(expected, o, values);
    cr_assert_lt(difference, tolerance, "o%s: error %g", suffix, difference);
    for (size_t i = 0; i < lses; i++)
        cr_assert_float_eq(lse[i], expected_lse[i], 10 * tolerance);
    for (int i = 0; i < 4; i++)
        free(vectors[i]);
    free(o);
    free(lse);
    free(q);
    free(expected);
    safetensors_close(file);
}

/* Makes the same comparison over the cache that the run dumped. */
static void check_dump(const char *directory, const char *suffix, const struct layer *layer, bool latent,
                       double tolerance)
{
    const int latents = latent ? LAYER_KV : 1; /* by default, each KV head has latents of its own */
    const int64_t hat_shape[2] = {layer->tokens, LAYER_D}, w_shape[2] = {LAYER_D / latents, LAYER_DKV};
    safetensors *file = output(directory);
    /* rank_k, rank_v, dkv and d are all 128. */
    double *xk = read_doubles(file, named(latent ? "lk_hat" : "x_hat", suffix), 2, hat_shape);
    double *xv = read_doubles(file, named(latent ? "lv_hat" : "x_hat", suffix), 2, hat_shape);
    double *wk = read_doubles(file, named(latent ? "ak" : "wk", suffix), 2, w_shape);
    double *wv = read_doubles(file, named(latent ? "av" : "wv", suffix), 2, w_shape);
    safetensors_close(file);
    check_attention(directory, suffix, layer, xk, xv, wk, wv, latents, tolerance);
    free(xk);
    free(xv);
    free(wk);
    free(wv);
}

static void run(const char *directory, const char *options)
{
    struct command_result r = layer_files_run(directory, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
}

/* Runs the command, and compares the output with attention over the cache that the run dumped. */
static void check_dumped(const char *method, int bits, const char *options)
{
    struct layer layer = layer_random(37, 3);
    const char *directory = layer_files_write(&layer, method, bits);
    bool latent = strcmp(method, "latent") == 0;
    char all[128];
    snprintf(all, sizeof all, "--dump-cache %s", options);
    run(directory, all);
    safetensors *file = output(directory);
    cr_assert_eq(safetensors_count(file), latent ? 6 : 5);
    safetensors_close(file);
    check_dump(directory, "", &layer, latent, 2e-3);
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

/* x_hat and the matrices are in the coordinates of the model, not in those of the cache. */
static void check_rotated_dump(const char *options, double tolerance)
{
    struct layer layer = layer_random(37, 3);
    const int64_t shape[2] = {37, LAYER_D}, w_shape[2] = {LAYER_D, LAYER_DKV};
    const char *directory =
        layer_files_write_all(&layer, 1, "", "\"method\": \"x\", \"rotation\": true, \"bits\": 8");
    char all[128];
    snprintf(all, sizeof all, "--dump-cache %s", options);
    run(directory, all);
    check_dump(directory, "", &layer, false, tolerance);
    safetensors *file = output(directory);
    double *x_hat = read_doubles(file, "x_hat", 2, shape), *x = to_doubles(layer.x, 37 * LAYER_D);
    double *wk = read_doubles(file, "wk", 2, w_shape), *given = to_doubles(layer.wk, LAYER_D * LAYER_DKV);
    safetensors_close(file);
    cr_expect_lt(reference_error(x, x_hat, 37 * LAYER_D), 1e-2, "%s", options);
    cr_expect_lt(reference_error(given, wk, LAYER_D * LAYER_DKV), 1e-2, "%s", options);
    free(x_hat);
    free(x);
    free(wk);
    free(given);
}

Test(run, rotated_activations_are_dumped_in_the_models_coordinates)
{
    check_rotated_dump("", 2e-3);
    check_rotated_dump("--unfused --dtype bf16", 8e-3);
    check_rotated_dump("--weights int8 --axis-k channel", 2e-3);
}

/* Compares with exact attention, within the loss that 8 bits or fp16 may cause. */
static void check_exact(const struct layer *layer, const char *model, const char *options, double tolerance)
{
    const char *directory = layer_files_write_all(layer, 1, model, "\"method\": \"latent\", \"bits\": 8");
    size_t count = (size_t)LAYER_D * LAYER_DKV;
    double *x = to_doubles(layer->x, (size_t)layer->tokens * LAYER_D);
    double *wk = to_doubles(layer->wk, count), *wv = to_doubles(layer->wv, count);
    run(directory, options);
    check_attention(directory, "", layer, x, x, wk, wv, 1, tolerance);
    free(x);
    free(wk);
    free(wv);
}

Test(run, every_implementation_is_near_exact_attention)
{
    struct layer layer = layer_random(50, 2);
    check_exact(&layer, "", "--fused", 2e-2);
    check_exact(&layer, "", "--unfused", 2e-2);
    check_exact(&layer, "", "--fp16-kv", 2e-3);
    check_exact(&layer, "", "--fp8-kv", 5e-2);
}

/* The outputs of a run; the caller frees them. */
static double *outputs_of(const char *directory, const struct layer *layer, const char *options)
{
    const int64_t shape[3] = {layer->queries, LAYER_HEADS, LAYER_DH};
    run(directory, options);
    safetensors *file = output(directory);
    double *o = read_doubles(file, "o", 3, shape);
    safetensors_close(file);
    return o;
}

/* They are what quantized caches are compared with. */
Test(run, kv_caches_are_the_same_whatever_the_weights_are)
{
    struct layer layer = layer_random(50, 2);
    const char *directory = layer_files_write(&layer, "latent", 4);
    const size_t bytes = (size_t)layer.queries * LAYER_HEADS * LAYER_DH * sizeof(double);
    static const char *const implementations[] = {"--fp16-kv", "--fp8-kv"}, *const narrow[] = {"int8",
                                                                                               "e4m3"};
    char options[64];
    for (int i = 0; i < 2; i++) {
        snprintf(options, sizeof options, "%s --weights f16", implementations[i]);
        double *expected = outputs_of(directory, &layer, options);
        for (int w = 0; w < 2; w++) {
            snprintf(options, sizeof options, "%s --weights %s", implementations[i], narrow[w]);
            double *got = outputs_of(directory, &layer, options);
            cr_expect_eq(memcmp(got, expected, bytes), 0, "%s", options);
            free(got);
        }
        free(expected);
    }
}

Test(run, an_fp8_cache_takes_its_scales_from_the_file)
{
    struct layer layer = layer_random(50, 2);
    layer.extra = "k_scale"; /* [x[0]] */
    layer.x[0] = 0.03f;
    check_exact(&layer, "", "--fp8-kv", 5e-2);
    layer.x[0] = -0.5f;
    const char *directory = layer_files_write_all(&layer, 1, "", "\"method\": \"latent\", \"bits\": 8");
    struct command_result r = layer_files_run(directory, "--fp8-kv");
    cr_expect_eq(r.status, 1);
    cr_expect_str_eq(r.err, "xq run: weights.k_scale is -0.5; valid: numbers from 1e-30 to 1e30\n");
}

Test(run, a_whole_prompt_attends_in_chunks_of_any_size)
{
    struct layer layer = layer_random(70, 70);
    check_exact(&layer, "", "--fused", 2e-2);
    check_exact(&layer, "", "--fused --chunk 9", 2e-2);
    check_exact(&layer, "", "--unfused --chunk 64", 2e-2);
    check_exact(&layer, "", "--fp16-kv --chunk 1", 2e-3);
}

Test(run, biases_norms_and_sinks_are_read)
{
    struct layer layer = layer_random(40, 3);
    const char *model = ", \"attention_bias\": true, \"qk_norm\": true, \"attention_sinks\": true, "
                        "\"sliding_window\": 20, \"attn_logit_softcapping\": 30.0";
    layer.bk = layer_floats(LAYER_DKV, 1);
    layer.bv = layer_floats(LAYER_DKV, 1);
    layer.k_norm = layer_floats(LAYER_DH, 2);
    layer.sinks = layer_floats(LAYER_HEADS, 3);
    check_exact(&layer, model, "--fused", 2e-2);
    check_exact(&layer, model, "--unfused", 2e-2);
    check_exact(&layer, model, "--fp16-kv", 2e-3);
}

/* ----------------------------------------------------------------- layers */

Test(run, every_layer_of_a_file_is_run)
{
    struct layer layers[3];
    char suffixes[3][8];
    layer_files_draw(layers, suffixes, 3, 0);
    const char *directory = layer_files_write_all(layers, 3, "", "\"method\": \"latent\", \"bits\": 4");
    run(directory, "--dump-cache");
    for (int l = 0; l < 3; l++)
        check_dump(directory, suffixes[l], &layers[l], true, 2e-3);
    run(directory, "--layers 2,0");
    safetensors *file = output(directory);
    cr_assert_eq(safetensors_count(file), 4);
    cr_assert(safetensors_find(file, "o.0") && safetensors_find(file, "lse.2"));
    safetensors_close(file);
}

Test(run, layer_picks_the_tensors_of_one_layer)
{
    struct layer layer = layer_random(20, 1);
    layer.suffix = ".7";
    const char *directory = layer_files_write(&layer, "x", 8);
    run(directory, "--layer 7");
    cr_assert_eq(files_count(directory), 3);
}

/* Returns ‖x̂ - x‖ / ‖x‖ for the contents of a layer's accumulator. */
static double accumulated_error(const char *directory, const struct layer *layer)
{
    const int64_t shape[2] = {layer->tokens, LAYER_D};
    size_t count = (size_t)layer->tokens * LAYER_D;
    safetensors *file = output(directory);
    double *got = read_doubles(file, named("x_hat", layer->suffix), 2, shape),
           *x = to_doubles(layer->x, count);
    double difference = reference_error(x, got, count);
    safetensors_close(file);
    free(got);
    free(x);
    return difference;
}

/* The layers are 1 to 5: one with the plain method, the base, and three with deltas. The last accumulator
 * has the error of one delta only, because each delta includes the errors of the layers before it. */
static void check_cross_layer(const char *method, const char *options, double most_lost)
{
    struct layer layers[5];
    char suffixes[5][8], cache[128], all[128];
    layer_files_draw(layers, suffixes, 5, 1);
    snprintf(cache, sizeof cache, "\"method\": \"%s\", \"bits\": 4", method);
    const char *directory = layer_files_write_all(layers, 5, "", cache);
    snprintf(all, sizeof all, "--dump-cache %s", options);
    run(directory, all);
    for (int l = 0; l < 5; l++)
        check_dump(directory, suffixes[l], &layers[l], l == 0 && strcmp(method, "latent-cl") == 0, 2e-3);
    cr_assert_lt(accumulated_error(directory, &layers[4]), most_lost);
}

Test(run, cross_layer_methods_go_through_the_layers_in_order)
{
    check_cross_layer("x-cl", "", 0.02);
    check_cross_layer("x-cl", "--unfused --axis-k channel --accumulator-bits 8 --bits 3", 0.04);
    check_cross_layer("latent-cl", "--axis-k channel --zero-point integer", 0.02);
    check_cross_layer("latent-cl", "--unfused --rotation --accumulator-bits 4", 0.1);
}

/* The layers before the base have no accumulator, so they have no such kernel to tune. */
Test(run, kernels_of_some_layers_alone_can_be_tuned, .timeout = 60)
{
    struct layer layers[5];
    char suffixes[5][8];
    layer_files_draw(layers, suffixes, 5, 1);
    run(layer_files_write_all(layers, 5, "", "\"method\": \"x-cl\", \"bits\": 4"),
        "--set tuning.accumulate.warps=8");
}

Test(run, a_cross_layer_run_says_what_everything_takes)
{
    struct layer layers[5];
    char suffixes[5][8];
    layer_files_draw(layers, suffixes, 5, 1);
    const char *directory = layer_files_write_all(layers, 5, "", "\"method\": \"x-cl\", \"bits\": 2");
    cJSON *json = command_json("run --device sim --input %s/in.safetensors --output %s/out --spec "
                               "%s/spec.json --axis-k channel --accumulator-bits 8 --json -",
                               directory, directory, directory);
    /* There are 128 channels and groups of 32 tokens (two pages of 16). A token takes 128 * b / 8 bytes of
     * codes, and 4 * 128 / 32 bytes of scales and offsets. In the accumulator, it takes 8 bits per channel,
     * and 4 groups of 32 channels. */
    cr_assert_eq(generator_number(json, "accumulator_bytes_per_token"), 128 + 4 * 4);
    cr_assert_eq(generator_number(json, "layers.0.cache_bytes_per_token"), 64 + 16);
    cr_assert_eq(generator_number(json, "layers.1.cache_bytes_per_token"), 64 + 16);
    cr_assert_eq(generator_number(json, "layers.2.cache_bytes_per_token"), 32 + 16);
    cr_assert_eq(generator_number(json, "cache_bytes_per_token"), 2 * 80 + 3 * 48 + 144);
    cr_assert_eq(generator_number(json, "layers.4.tail_bytes"), 32 * 128 * 2);
    cr_assert_str_eq(generator_string(json, "layers.0.method"), "x");
    cr_assert_str_eq(generator_string(json, "layers.1.method"), "x-cl");
    cJSON_Delete(json);
}

Test(run, grouped_and_padded_latents_and_bf16_run)
{
    struct layer layer = layer_random(45, 2);
    check_exact(&layer, "", "--groups 2 --axis-k channel --bits 8 --rotation", 2e-2);
    check_exact(&layer, "", "--groups 2 --bits 8 --feedback", 2e-2);
    check_exact(&layer, "", "--groups 2,1 --bits 8 --feedback", 2e-2);
    check_exact(&layer, "", "--groups 1,2 --bits 8 --unfused", 2e-2);
    check_exact(&layer, "", "--groups 2 --rank 126,120 --bits 8", 0.5);
    check_exact(&layer, "", "--dtype bf16 --weights bf16", 3e-2);
    check_exact(&layer, "", "--dtype bf16 --unfused", 3e-2);
    check_exact(&layer, "", "--weights int8", 3e-2);
}

/* The projections of layer 1 in the model directory are those that the input file would have. */
Test(run, weights_may_come_from_the_model_directory)
{
    enum { TOKENS = 20, QUERIES = 2 };
    const char *directory = model_files(&(struct model_change){0});
    float *w[2] = {layer_floats(MODEL_D * MODEL_DKV, 1), layer_floats(MODEL_D * MODEL_DKV, 1)};
    for (int i = 0; i < MODEL_D * MODEL_DKV; i++)
        for (int v = 0; v < 2; v++)
            w[v][i] = model_value(1, v, i % MODEL_DKV, i / MODEL_DKV);
    const tensor all[] = {
        {.name = "x.1", .rank = 2, .shape = {TOKENS, MODEL_D}, .data = layer_floats(TOKENS * MODEL_D, 1)},
        {.name = "q.1",
         .rank = 3,
         .shape = {QUERIES, MODEL_HEADS, 64},
         .data = layer_floats(QUERIES * 128, 1)},
        {.name = "wk.1", .rank = 2, .shape = {MODEL_D, MODEL_DKV}, .data = w[0]},
        {.name = "wv.1", .rank = 2, .shape = {MODEL_D, MODEL_DKV}, .data = w[1]},
    };
    char *results[2];
    size_t sizes[2];
    for (int with = 0; with < 2; with++) {
        tensor some[4];
        error err = ERROR_INIT;
        for (int i = 0; i < 4; i++) {
            some[i] = all[i];
            some[i].bytes = 4 * tensor_count(&all[i]);
        }
        cr_assert_eq(safetensors_write(files_path(directory, "act"), some, with ? 4 : 2, &err), XQ_OK);
        struct command_result r =
            command_run("run --device sim --input %s/act --output %s/out --model %s%s "
                        "--method latent",
                        directory, directory, directory, with ? "/config.json" : "");
        cr_assert_eq(r.status, 0, "%s", r.err);
        results[with] = files_read(files_path(directory, "out"), &sizes[with]);
    }
    cr_assert(sizes[0] == sizes[1] && memcmp(results[0], results[1], sizes[0]) == 0);
    free(results[0]);
    free(results[1]);
}

/* Runs two layers with the weights of the model directory. Returns the values of `o.1` in OUT. */
static const float *run_model(const char *directory, const char *options)
{
    enum { TOKENS = 20, QUERIES = 2 };
    static float values[2][QUERIES * 128];
    static int next;
    tensor all[4];
    static char names[4][8];
    error err = ERROR_INIT;
    srand48(11); /* layer_floats draws from this generator */
    for (int i = 0; i < 4; i++) {
        bool q = i % 2;
        snprintf(names[i], sizeof names[i], "%c.%d", q ? 'q' : 'x', i / 2);
        all[i] = (tensor){.name = names[i],
                          .rank = q ? 3 : 2,
                          .shape = {q ? QUERIES : TOKENS, q ? MODEL_HEADS : MODEL_D, 64},
                          .data = layer_floats(TOKENS * MODEL_D, 1)};
        all[i].bytes = 4 * tensor_count(&all[i]);
    }
    cr_assert_eq(safetensors_write(files_path(directory, "act"), all, 4, &err), XQ_OK);
    struct command_result r = command_run("run --device sim --input %s/act --output %s/out --model %s %s",
                                          directory, directory, directory, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    safetensors *out;
    const tensor *o;
    float *read;
    cr_assert_eq(safetensors_open(files_path(directory, "out"), &out, &err), XQ_OK);
    cr_assert_eq(safetensors_need(out, "o.1", &o, &err), XQ_OK);
    cr_assert_eq(tensor_to_floats(o, 1, &read, &err), XQ_OK);
    memcpy(values[next], read, sizeof values[0]);
    free(read);
    safetensors_close(out);
    return values[next++ % 2];
}

Test(run, factors_may_come_from_a_prepared_file)
{
    const char *directory = model_files(&(struct model_change){0});
    char options[512], line[1024];
    struct command_result r =
        command_run("prepare %s -o %s/w.safetensors --method latent-cl --base-layer 1 --store f32",
                    directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    snprintf(options, sizeof options,
             "--method latent-cl --base-layer 1 --bits 8 --prepared %s/w.safetensors", directory);
    const float *made = run_model(directory, "--method latent-cl --base-layer 1 --bits 8");
    const float *prepared = run_model(directory, options);
    for (int i = 0; i < 256; i++)
        cr_assert_float_eq(made[i], prepared[i], 2e-3 + 1e-2 * fabs((double)made[i]));
    snprintf(options, sizeof options,
             "run --input %s/act --output %s/out2 --model %s --method latent-cl --base-layer 0 --prepared "
             "%s/w.safetensors",
             directory, directory, directory, directory);
    snprintf(line, sizeof line,
             "xq run: %s/w.safetensors: layer 0 is prepared for method latent, not latent-cl; run `xq "
             "prepare` for it",
             directory);
    command_refuses(options, 1, line);
}
