#include "../../prepare/model.h"
#include "../../prepare/prepared_file.h"
#include "../../prepare/svd.h"
#include "../../runtime/base/half.h"
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "../support/model_files.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -------------------------------------------------------------------- svd */

static void fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(drand48() * 2 - 1);
}

/* Computes ‖W - U·A‖ / ‖W‖ and the largest |Uᵀ·U - 1| from their definitions. */
static void check_factors(const float *w, const float *u, const float *a, int rows, int cols, int rank,
                          double *residual, double *skew)
{
    double difference = 0, norm = 0;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            double product = 0;
            for (int k = 0; k < rank; k++)
                product += (double)u[i * rank + k] * a[k * cols + j];
            difference += pow(product - w[i * cols + j], 2);
            norm += pow(w[i * cols + j], 2);
        }
    *residual = sqrt(difference / norm);
    *skew = 0;
    for (int p = 0; p < rank; p++)
        for (int q = 0; q < rank; q++) {
            double product = p == q ? -1 : 0;
            for (int i = 0; i < rows; i++)
                product += (double)u[i * rank + p] * u[i * rank + q];
            *skew = fmax(*skew, fabs(product));
        }
}

Test(svd, full_rank_factors_give_the_matrix_back)
{
    static float w[48 * 24], u[48 * 24], a[24 * 24];
    double residual, skew, lost = 1;
    error err = ERROR_INIT;
    srand48(2);
    fill(w, 48 * 24);
    cr_assert_eq(svd_factor(w, 48, 24, 24, u, a, &lost, &err), XQ_OK, "%s", err.message);
    check_factors(w, u, a, 48, 24, 24, &residual, &skew);
    cr_assert_lt(residual, 1e-6);
    cr_assert_lt(skew, 1e-6);
    cr_assert_eq(lost, 0);
}

Test(svd, works_on_wide_matrices_too)
{
    static float w[16 * 40], u[16 * 16], a[16 * 40];
    double residual, skew;
    error err = ERROR_INIT;
    srand48(3);
    fill(w, 16 * 40);
    cr_assert_eq(svd_factor(w, 16, 40, 16, u, a, NULL, &err), XQ_OK, "%s", err.message);
    check_factors(w, u, a, 16, 40, 16, &residual, &skew);
    cr_assert(residual < 1e-6 && skew < 1e-6);
}

Test(svd, truncation_loses_what_it_says_and_keeps_the_largest)
{
    static float w[32 * 20], u[32 * 8], a[8 * 20];
    double residual, skew, lost;
    error err = ERROR_INIT;
    srand48(4);
    fill(w, 32 * 20);
    cr_assert_eq(svd_factor(w, 32, 20, 8, u, a, &lost, &err), XQ_OK);
    check_factors(w, u, a, 32, 20, 8, &residual, &skew);
    cr_assert_float_eq(residual, lost, 1e-6);
    cr_assert(lost > 0.1 && lost < 0.9);
    double previous = INFINITY;
    for (int k = 0; k < 8; k++) {
        double norm = 0;
        for (int j = 0; j < 20; j++)
            norm += pow(a[k * 20 + j], 2);
        cr_assert_leq(norm, previous);
        previous = norm;
    }
}

Test(svd, signs_do_not_depend_on_the_sign_that_lapack_picked)
{
    static float w[24 * 12], u[24 * 12], a[12 * 12], flipped_u[24 * 12], flipped_a[12 * 12];
    error err = ERROR_INIT;
    srand48(5);
    fill(w, 24 * 12);
    cr_assert_eq(svd_factor(w, 24, 12, 12, u, a, NULL, &err), XQ_OK);
    for (int k = 0; k < 12; k++) {
        int most = 0;
        for (int j = 1; j < 12; j++)
            if (fabsf(a[k * 12 + j]) > fabsf(a[k * 12 + most]))
                most = j;
        cr_assert_gt(a[k * 12 + most], 0);
    }
    for (int i = 0; i < 24 * 12; i++)
        w[i] = -w[i];
    /* By this convention, -W has the same A and the opposite U. */
    cr_assert_eq(svd_factor(w, 24, 12, 12, flipped_u, flipped_a, NULL, &err), XQ_OK);
    for (int i = 0; i < 12 * 12; i++)
        cr_assert_float_eq(flipped_a[i], a[i], 1e-5);
    for (int i = 0; i < 24 * 12; i++)
        cr_assert_float_eq(flipped_u[i], -u[i], 1e-5);
}

Test(svd, impossible_ranks_are_refused)
{
    float w[6] = {1, 2, 3, 4, 5, 6}, u[9], a[9];
    error err = ERROR_INIT;
    cr_assert_eq(svd_factor(w, 3, 2, 3, u, a, NULL, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "rank 3 of a 3 x 2 matrix is not valid; valid: 1 to 2");
    error_clear(&err);
    cr_assert_eq(svd_factor(w, 3, 2, 0, u, a, NULL, &err), XQ_ERROR_ARGUMENT);
}

Test(svd, a_zero_matrix_has_zero_factors)
{
    float w[6] = {0}, u[4], a[6];
    double lost;
    error err = ERROR_INIT;
    cr_assert_eq(svd_factor(w, 2, 3, 2, u, a, &lost, &err), XQ_OK);
    cr_assert_eq(lost, 0);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(a[i], 0);
}

/* ------------------------------------------------------------------ model */

static xq_status open_model(const char *directory, model **m, error *err)
{
    gen *g;
    cr_assert_eq(gen_create(NULL, &g, err), XQ_OK);
    xq_status status = model_open(g, directory, m, err);
    gen_destroy(g);
    return status;
}

Test(model, projections_are_transposed_to_x_times_w)
{
    model *m;
    layer_weights w;
    error err = ERROR_INIT;
    cr_assert_eq(open_model(model_files(&(struct model_change){0}), &m, &err), XQ_OK, "%s", err.message);
    cr_assert(m->shape.hidden_size == MODEL_D && m->shape.kv_heads == 1 && m->shape.head_dim == 64 &&
              m->layers == 2);
    cr_assert_eq(model_layer(m, 1, &w, &err), XQ_OK, "%s", err.message);
    for (int in = 0; in < MODEL_D; in++)
        for (int out = 0; out < MODEL_DKV; out++) {
            cr_assert_eq(w.wk[in * MODEL_DKV + out], model_value(1, 0, out, in));
            cr_assert_eq(w.wv[in * MODEL_DKV + out], model_value(1, 1, out, in));
        }
    cr_assert(!w.bk && !w.bv && !w.k_norm && !w.sinks);
    layer_weights_free(&w);
    cr_assert_eq(model_layer(m, 2, &w, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "layer 2 is not in the model; valid: 0 to 1");
    model_close(m);
}

/* Reading layer 0 must fail with one line: the path of the weights file in the directory, then
 * `message`. */
static void layer_refused(const struct model_change *change, const char *message)
{
    model *m;
    layer_weights w;
    error err = ERROR_INIT;
    char expected[512];
    const char *directory = model_files(change);
    cr_assert_eq(open_model(directory, &m, &err), XQ_OK, "%s", err.message);
    cr_assert_neq(model_layer(m, 0, &w, &err), XQ_OK);
    snprintf(expected, sizeof expected, "%s%s", directory, message);
    cr_assert_str_eq(err.message, expected);
    model_close(m);
}

Test(model, bad_tensors_are_named)
{
    layer_refused(&(struct model_change){.nan = "model.layers.0.self_attn.v_proj.weight"},
                  "/model.safetensors: tensor model.layers.0.self_attn.v_proj.weight holds NaN at index 5; "
                  "every value "
                  "must be finite");
    layer_refused(&(struct model_change){.narrow = "model.layers.0.self_attn.k_proj.weight"},
                  "/model.safetensors: tensor model.layers.0.self_attn.k_proj.weight has shape [63, 128], "
                  "needs [64, 128]");
    layer_refused(&(struct model_change){.drop = "model.layers.0.self_attn.v_proj.weight"},
                  ": there is no tensor model.layers.0.self_attn.v_proj.weight among its 3");
    layer_refused(&(struct model_change){.extra = "model.layers.0.self_attn.k_proj.bias"},
                  "/model.safetensors: tensor model.layers.0.self_attn.k_proj.bias would be ignored, "
                  "because the configuration does not mention it");
    layer_refused(&(struct model_change){.extra = "model.layers.0.self_attn.k_norm.weight"},
                  "/model.safetensors: tensor model.layers.0.self_attn.k_norm.weight would be ignored, "
                  "because the configuration does not mention it");
}

static void model_refused(const char *config, xq_status status, const char *field)
{
    model *m;
    error err = ERROR_INIT;
    const char *directory = model_files(&(struct model_change){.config = config});
    cr_assert_eq(open_model(directory, &m, &err), status, "%s", err.message);
    cr_assert_str_eq(err.file, files_path(directory, "config.json"));
    cr_assert_str_eq(err.field, field);
    cr_assert(!strchr(err.message, '\n'));
}

Test(model, bad_configurations_are_refused_by_field)
{
    model_refused("{\"model_type\": \"llama\", \"hidden_size\": 12", XQ_ERROR_FORMAT, "");
    model_refused("{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 2}",
                  XQ_ERROR_FORMAT, "num_hidden_layers");
    model_refused("{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 3, "
                  "\"num_key_value_heads\": 2, \"head_dim\": 64, \"num_hidden_layers\": 1}",
                  XQ_ERROR_SPEC, "model.num_key_value_heads");
}

Test(model, a_directory_without_a_configuration_is_named)
{
    model *m;
    error err = ERROR_INIT;
    cr_assert_eq(open_model("/nonexistent", &m, &err), XQ_ERROR_IO);
    cr_assert_str_eq(err.message, "cannot read /nonexistent/config.json: No such file or directory");
}

/* ------------------------------------------------------------- xq prepare */

Test(prepare, says_what_it_wrote_and_keeps_the_layers_asked_for)
{
    const char *directory = model_files(&(struct model_change){0});
    char path[512];
    prepared_file *x;
    error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/w.safetensors", directory);
    struct command_result r =
        command_run("prepare %s --method latent --layers 1 --store f32 -o %s", directory, path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "1 layer of") &&
                  strstr(r.out, "method latent, ranks 64 and 64, rotated: nothing truncated\n"),
              "%s", r.out);
    cr_assert_eq(prepared_file_open(path, &x, &err), XQ_OK, "%s", err.message);
    cr_assert(prepared_file_head(x)->layer_count == 1 && prepared_file_head(x)->layers[0] == 1);
    layer_weights w;
    cr_assert_eq(prepared_file_layer(x, 1, &w, &err), XQ_OK, "%s", err.message);
    for (int in = 0; in < MODEL_D; in += 17)
        for (int out = 0; out < MODEL_DKV; out += 5) {
            double product = 0;
            for (int k = 0; k < MODEL_DKV; k++)
                product += (double)w.uv[in * MODEL_DKV + k] * w.av[k * MODEL_DKV + out];
            cr_assert_float_eq(product, model_value(1, 1, out, in), 1e-6);
        }
    layer_weights_free(&w);
    prepared_file_close(x);
}

/* `xq prepare` must fail with "xq prepare: " and this text, and write nothing. A text that begins with '/'
 * names a file of the directory. */
static void prepare_refused(const struct model_change *change, const char *options, const char *text)
{
    const char *directory = model_files(change);
    char arguments[1024], line[1024];
    snprintf(arguments, sizeof arguments, "prepare %s --out %s/w.safetensors %s", directory, directory,
             options);
    snprintf(line, sizeof line, "xq prepare: %s%s", text[0] == '/' ? directory : "", text);
    command_refuses(arguments, 1, line);
    cr_assert_eq(files_count(directory), 2, "something was written");
}

/* The command must refuse an option that cannot be used with the method, and write nothing. */
static void prepare_misused(const char *options, const char *text)
{
    const char *directory = model_files(&(struct model_change){0});
    char arguments[1024], line[1024];
    snprintf(arguments, sizeof arguments, "prepare %s --out %s/w.safetensors %s", directory, directory,
             options);
    snprintf(line, sizeof line, "xq prepare: %s", text);
    command_refuses(arguments, 2, line);
    cr_assert_eq(files_count(directory), 2, "something was written");
}

/* The listing is the result of this command, so --quiet does not suppress it. */
Test(prepare, show_prints_its_listing_with_quiet_too)
{
    const char *directory = model_files(&(struct model_change){0});
    struct command_result r =
        command_run("prepare %s --out %s/w.safetensors --quiet", directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_empty(r.out);
    r = command_run("prepare --show %s/w.safetensors --quiet", directory);
    cr_assert(strstr(r.out, "all checksums are right"), "%s%s", r.out, r.err);
}

Test(prepare, bad_models_end_in_one_line_and_no_file)
{
    prepare_refused(&(struct model_change){.nan = "model.layers.1.self_attn.k_proj.weight"}, "",
                    "/model.safetensors: tensor model.layers.1.self_attn.k_proj.weight holds "
                    "NaN at index 5; "
                    "every value must be finite");
    prepare_refused(&(struct model_change){0}, "--method latent --rank 128",
                    "cache.rank_k: 128 is not valid; valid: 1 to 64");
    prepare_refused(&(struct model_change){.config = "{\"model_type\": \"llama\", \"hidden_size\": 128"},
                    "",
                    "/config.json:1:43: malformed JSON: it ends too early, where ',' or '}' is expected");
    prepare_refused(&(struct model_change){0}, "--layers 2",
                    "--layers: '2' is no layer of the model; valid: layers 0 to 1, each once");
}

Test(prepare, projections_that_are_zero_are_named)
{
    const struct model_change layer = {.zero = "model.layers.1."},
                              keys = {.zero = "model.layers.1.self_attn.k_proj"};
    prepare_refused(&layer, "--method x",
                    "/model.safetensors: layer 1: tensors model.layers.1.self_attn.k_proj.weight and "
                    "model.layers.1.self_attn.v_proj.weight: Wk and Wv are zero, so that there are no "
                    "directions to choose; valid with --no-rotation");
    static const char *const good[] = {"--method x --no-rotation", "--method latent",
                                       "--method latent-cl --base-layer 0"};
    for (int i = 0; i < 3; i++) {
        const char *directory = model_files(&layer);
        struct command_result r =
            command_run("prepare %s --out %s/w.safetensors %s", directory, directory, good[i]);
        cr_expect_eq(r.status, 0, "%s: %s", good[i], r.err);
    }
    const char *directory = model_files(&keys);
    struct command_result r =
        command_run("prepare %s --out %s/w.safetensors --method x", directory, directory);
    cr_expect_eq(r.status, 0, "one of them is enough: %s", r.err);
}

Test(prepare, layers_before_the_base_have_the_plain_method)
{
    const char *directory = model_files(&(struct model_change){0}),
               *path = files_path(directory, "w.safetensors");
    struct command_result r =
        command_run("prepare %s --method latent-cl --base-layer 1 --pack -o %s", directory, path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(
        strstr(r.out, "2 layers of") &&
            strstr(r.out,
                   "method latent-cl, rank 128 (before layer 1: latent): nothing truncated; packed\n"),
        "%s", r.out);
    prepared_file *x;
    error err = ERROR_INIT;
    cr_assert_eq(prepared_file_open(path, &x, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(prepared_file_head(x)->base_layer, 1);
    cr_assert_str_eq(prepared_file_head(x)->weights, "f16");
    prepared_file_close(x);
    cJSON *json = command_json("prepare %s --method x-cl --base-layer 0 -o %s --json -", directory, path);
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "layers"), 0);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(first, "method")), "x-cl");
    cr_assert_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "resumed")), 0);
    cJSON_Delete(json);
    prepare_refused(&(struct model_change){0}, "--method latent-cl", "--base-layer: 2; valid: 0 to 1");
    prepare_refused(&(struct model_change){0}, "--method latent-cl --base-layer -2",
                    "--base-layer: -2; valid: 0 to 1");
    prepare_misused(
        "--method latent --base-layer 1",
        "--base-layer: method latent has no base layer, only x-cl and latent-cl have one; leave it out");
    prepare_misused(
        "--method x-cl --base-layer 1 --calibration f.safetensors",
        "--calibration: calibration is for methods x and latent, with rotation; here cache.method is "
        "x-cl; leave it out");
    prepare_misused(
        "--method x --no-rotation --calibration f.safetensors",
        "--calibration: calibration is for methods x and latent, with rotation; here cache.rotation is "
        "false; leave it out");
}

Test(prepare, options_that_make_no_sense_together_are_named)
{
    command_refuses(
        "prepare d --store none", 2,
        "xq prepare: --store: without --pack, 'none' leaves nothing to write; valid: f16, bf16, f32");
    command_refuses("prepare d --store f64", 1,
                    "xq prepare: --store: 'f64' is not known; valid: f16, bf16, f32, none");
    command_refuses("prepare d --weights int8", 2,
                    "xq prepare: --weights: has no effect without --pack, because it is the type of packed "
                    "weights; add --pack (--store is the type of matrices)");
    command_refuses(
        "prepare d --group 64", 2,
        "xq prepare: --group: prepared weights depend on it only with --feedback, --calibration or "
        "--pack; leave it out");
    command_refuses(
        "prepare d --axis-k channel", 2,
        "xq prepare: --axis-k: prepared weights depend on it only with --pack, because it decides "
        "the default of --weights; leave it out");
    command_refuses("prepare d --threads 65", 1, "xq prepare: --threads: 65; valid: 1 to 64");
    command_refuses("prepare d --model m", 2, "xq prepare: --model: the model is MODEL_DIR; leave it out");
    prepare_refused(&(struct model_change){0}, "--pack --weights int4",
                    "weights: 'int4' is not valid; valid: f16, bf16, int8, e4m3");
}

/* Writes a projection of the tiny model into a file of its own. */
static void write_shard(const char *path, const char *name, int layer, int is_v, tensor_type type)
{
    enum { COUNT = MODEL_DKV * MODEL_D };
    static char values[4 * COUNT];
    error err = ERROR_INIT;
    for (int e = 0; e < COUNT; e++) {
        float value = model_value(layer, is_v, e / MODEL_D, e % MODEL_D);
        uint16_t half = type == TENSOR_F16 ? half_from_float(value) : half_to_bfloat(value);
        if (type == TENSOR_F32)
            memcpy(values + 4 * e, &value, 4);
        else
            memcpy(values + 2 * e, &half, 2);
    }
    const tensor t = {.name = name,
                      .type = type,
                      .rank = 2,
                      .shape = {MODEL_DKV, MODEL_D},
                      .data = values,
                      .bytes = (type == TENSOR_F32 ? 4u : 2u) * COUNT};
    cr_assert_eq(safetensors_write(path, &t, 1, &err), XQ_OK, "%s", err.message);
}

/* Writes the tiny model as shards of this type, one for each projection. */
static const char *sharded(tensor_type type)
{
    const char *directory = model_files(&(struct model_change){0});
    char index[1024] = "{\"weight_map\": {", file[64], name[64];
    cr_assert_eq(remove(files_path(directory, "model.safetensors")), 0);
    for (int i = 0; i < 2 * MODEL_LAYERS; i++) {
        snprintf(file, sizeof file, "model-%d.safetensors", i);
        snprintf(name, sizeof name, "model.layers.%d.self_attn.%c_proj.weight", i / 2, "kv"[i % 2]);
        write_shard(files_path(directory, file), name, i / 2, i % 2, type);
        snprintf(index + strlen(index), sizeof index - strlen(index), "%s\"%s\": \"%s\"", i ? ", " : "",
                 name, file);
    }
    strcat(index, "}}");
    files_write(files_path(directory, "model.safetensors.index.json"), index, strlen(index));
    return directory;
}

Test(prepare, shards_of_every_type_are_read)
{
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        const char *directory = sharded((tensor_type)type), *path = files_path(directory, "w.safetensors");
        struct command_result r =
            command_run("prepare %s --method x --no-rotation --store f32 -o %s", directory, path);
        cr_assert_eq(r.status, 0, "%s", r.err);
        prepared_file *x;
        layer_weights w;
        error err = ERROR_INIT;
        cr_assert_eq(prepared_file_open(path, &x, &err), XQ_OK, "%s", err.message);
        for (int layer = 0; layer < MODEL_LAYERS; layer++) {
            cr_assert_eq(prepared_file_layer(x, layer, &w, &err), XQ_OK, "%s", err.message);
            for (int in = 0; in < MODEL_D; in++)
                for (int out = 0; out < MODEL_DKV; out++) {
                    float value = model_value(layer, 1, out, in);
                    cr_assert_eq(w.wv[in * MODEL_DKV + out],
                                 type == TENSOR_BF16 ? half_from_bfloat(half_to_bfloat(value)) : value);
                }
            layer_weights_free(&w);
        }
        prepared_file_close(x);
    }
}

/* In a model directory, model.safetensors would be the model's own weights. */
Test(prepare, without_out_the_name_is_none_of_a_models_files)
{
    const char *directory = model_files(&(struct model_change){0});
    size_t size, size_after;
    char *before = files_read(files_path(directory, "model.safetensors"), &size);
    cr_assert_eq(chdir(directory), 0);
    struct command_result r = command_run("prepare . --method x");
    cr_assert_eq(r.status, 0, "%s", r.err);
    r = command_run("prepare --show model-prepared.safetensors");
    cr_assert_eq(r.status, 0, "%s", r.err);
    char *after = files_read(files_path(directory, "model.safetensors"), &size_after);
    cr_assert(size == size_after && memcmp(before, after, size) == 0);
    r = command_run("prepare %s --method x", directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_eq(files_count(directory), 4);
    free(before);
    free(after);
}

/* ------------------------------------------------------ xq prepare --show */

/* Prepares a file of two layers, for --show. The first layer comes before the base layer. */
static const char *prepared_for_show(void)
{
    const char *directory = model_files(&(struct model_change){0}),
               *path = files_path(directory, "w.safetensors");
    struct command_result r =
        command_run("prepare %s --method latent-cl --base-layer 1 --rank 32 --pack --weights int8 -o %s",
                    directory, path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    return path;
}

Test(prepare, show_prints_what_a_file_holds)
{
    const char *path = prepared_for_show();
    struct command_result r = command_run("prepare --show %s", path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, ": 2 of 2 layers, method latent-cl, rank 32 (before layer 1: latent)\n"), "%s",
              r.out);
    cr_assert(strstr(r.out, "matrices of type F16, packed weights of type int8; made by xq "), "%s", r.out);
    cr_assert(
        strstr(r.out, "layer 0: latent, uk [128, 64], ak [64, 64], uv [128, 64], av [64, 64], packed ["),
        "%s", r.out);
    cr_assert(strstr(r.out, "layer 1: latent-cl, wk [128, 64], wv [128, 64], ukv [128, 32], packed ["),
              "%s", r.out);
    cr_assert(strstr(r.out, "all checksums are right\n"), "%s", r.out);
}

Test(prepare, show_has_all_of_it_as_json)
{
    const char *path = prepared_for_show();
    cJSON *json = command_json("prepare --show %s --json -", path);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(json, "file")), path);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(json, "store")), "F16");
    cr_assert_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "base_layer")), 1);
    cr_assert_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "model_layers")), 2);
    const cJSON *layer = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "layers"), 1),
                *tensors = cJSON_GetObjectItem(layer, "tensors"), *packed = cJSON_GetArrayItem(tensors, 3);
    cr_assert_gt(cJSON_GetNumberValue(cJSON_GetObjectItem(layer, "lost_k")), 0);
    cr_assert_eq(cJSON_GetArraySize(tensors), 5);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(packed, "name")), "layers.1.packed");
    cr_assert_eq((long)cJSON_GetNumberValue(cJSON_GetObjectItem(packed, "offset")) % 256, 0);
    cr_assert_eq(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(packed, "xxh3"))), 16);
    cJSON_Delete(json);
}

Test(prepare, show_refuses_a_damaged_file_and_other_options)
{
    const char *path = prepared_for_show();
    char arguments[600], line[700];
    size_t size;
    char *data = files_read(path, &size);
    data[size - 3] ^= 1;
    files_write(path, data, size);
    free(data);
    snprintf(arguments, sizeof arguments, "prepare --show %s", path);
    snprintf(line, sizeof line,
             "xq prepare: %s: damaged: the checksum of tensor layers.1.lost does not match", path);
    command_refuses(arguments, 1, line);
    command_refuses("prepare --show f d", 2,
                    "xq prepare: MODEL_DIR: has no effect with --show; leave it out");
    command_refuses("prepare --show f --pack", 2,
                    "xq prepare: --pack: has no effect with --show; leave it out");
    command_refuses("prepare", 2,
                    "xq prepare: missing argument; usage: xq prepare MODEL_DIR|--show FILE [options]");
}

/* With other sizes, the model's own matrices would be misread. */
Test(prepare, sizes_of_a_model_directory_cannot_be_overridden)
{
    static const char *const sets[] = {
        "num_hidden_layers=1",   "num_hidden_layers=5",   "hidden_size=256",
        "num_key_value_heads=2", "num_attention_heads=1", "head_dim=128",
        "attention_bias=true",   "attention_sinks=true",  "qk_norm=true",
    };
    const char *directory = model_files(&(struct model_change){0});
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char expected[96];
        struct command_result r =
            command_run("prepare %s --out %s/o.safetensors --set model.%s", directory, directory, sets[i]);
        snprintf(expected, sizeof expected, "model.%.*s: differs from the model directory's",
                 (int)strcspn(sets[i], "="), sets[i]);
        cr_expect_eq(r.status, 1, "%s: %s", sets[i], r.err);
        cr_expect(strstr(r.err, expected), "%s: %s", sets[i], r.err);
    }
}
