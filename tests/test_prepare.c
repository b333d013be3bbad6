#include "../prepare/model.h"
#include "../prepare/svd.h"
#include "../prepare/xqw.h"
#include "../runtime/half.h"
#include "command.h"
#include "files.h"
#include "model_files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* -------------------------------------------------------------------- svd */

static void fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(drand48() * 2 - 1);
}

/* ‖W - U·A‖ / ‖W‖ and the largest |Uᵀ·U - 1|, from the definitions. */
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
    /* -W has the same A by this convention, and the opposite U. */
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
    cr_assert_str_eq(err.message, "rank 3 of a 3 x 2 matrix; valid are 1 .. 2");
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

/* -------------------------------------------------------------------- xqw */

static const char spec[] =
    "{\"model\":{\"hidden_size\":2},\"cache\":{\"method\":\"latent\",\"bits\":4,\"groups\":1,"
    "\"rank_k\":3,\"rank_v\":3},\"tuning\":{}}";
static const float uk[6] = {1, 2, 3, 4, 5, 6}, ak[3] = {0.1f, -65504, 1e-8f};

static const char *written(tensor_type type)
{
    const char *path = files_path(files_directory(), "w.xqw");
    xqw_writer *w;
    error err = ERROR_INIT;
    cr_assert_eq(xqw_create(path, spec, type, &w, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(xqw_add(w, 7, "uk", 2, 3, uk, &err), XQ_OK);
    cr_assert_eq(xqw_add(w, 7, "ak", 3, 1, ak, &err), XQ_OK);
    cr_assert_eq(xqw_add(w, 2, "uk", 3, 2, uk, &err), XQ_OK);
    cr_assert_eq(xqw_commit(w, &err), XQ_OK, "%s", err.message);
    return path;
}

Test(xqw, what_is_written_is_read_back)
{
    for (int type = TENSOR_F32; type <= TENSOR_F16; type++) {
        xqw *x;
        float *values;
        const int *layers;
        error err = ERROR_INIT;
        cr_assert_eq(xqw_open(written((tensor_type)type), &x, &err), XQ_OK, "%s", err.message);
        cr_assert_str_eq(xqw_spec(x),
                         "{\"model\":{\"hidden_size\":2},\"cache\":{\"method\":\"latent\",\"groups\":1,"
                         "\"rank_k\":3,\"rank_v\":3}}");
        cr_assert_eq(xqw_layers(x, &layers), 2);
        cr_assert(layers[0] == 2 && layers[1] == 7);
        cr_assert_eq(xqw_matrix(x, 7, "ak", 3, 1, &values, &err), XQ_OK, "%s", err.message);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(values[i], type == TENSOR_F16 ? half_round(ak[i]) : ak[i]);
        free(values);
        cr_assert_eq(xqw_matrix(x, 2, "uk", 3, 2, &values, &err), XQ_OK);
        cr_assert_eq(memcmp(values, uk, sizeof uk), 0);
        free(values);
        xqw_close(x);
    }
}

static void matrix_refused(const char *path, int layer, const char *name, int rows, int cols,
                           const char *message)
{
    xqw *x;
    float *values;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_open(path, &x, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(xqw_matrix(x, layer, name, rows, cols, &values, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    cr_assert_str_eq(err.message, expected);
    xqw_close(x);
}

Test(xqw, names_what_is_missing_or_misshapen)
{
    const char *path = written(TENSOR_F32);
    matrix_refused(path, 3, "uk", 2, 3,
                   "holds no matrix uk of layer 3; it has 2 layers (`xq prepare --layers` chooses)");
    matrix_refused(path, 7, "wk", 2, 3,
                   "holds no matrix wk of layer 7; it has 2 layers (`xq prepare --layers` chooses)");
    matrix_refused(path, 7, "uk", 3, 3, "tensor uk has shape [2, 3], needs [3, 3]");
}

/* Opening the bytes must fail with `message` behind the path. */
static void open_refused(const char *path, const char *data, size_t size, const char *message)
{
    xqw *x;
    error err = ERROR_INIT;
    char expected[512];
    files_write(path, data, size);
    cr_assert_eq(xqw_open(path, &x, &err), XQ_ERROR_FORMAT, "%s", err.message);
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    cr_assert_str_eq(err.message, expected);
}

Test(xqw, every_kind_of_damage_is_named)
{
    const char *path = written(TENSOR_F32), *bad = files_path(files_directory(), "bad.xqw");
    size_t size;
    char *data = files_read(path, &size);
    open_refused(bad, data, 0, "not an .xqw file; `xq prepare` writes them");
    open_refused(bad, "safetensors?", 12, "not an .xqw file; `xq prepare` writes them");
    open_refused(bad, data, 20, "truncated: 20 bytes");
    open_refused(bad, data, size - 1, "truncated or damaged: the index is not at its end");
    data[8] = 9;
    open_refused(bad, data, size, "version 9; this xq reads version 1: run `xq prepare` again");
    data[8] = 1;
    data[size - 3] ^= 1;
    open_refused(bad, data, size, "damaged: the checksum of the index does not match");
    data[size - 3] ^= 1;
    data[256 + 5] ^= 64; /* in the first matrix */
    files_write(bad, data, size);
    matrix_refused(bad, 7, "uk", 2, 3, "damaged: the checksum of layer 7's uk does not match");
    free(data);
}

Test(xqw, truncation_and_flipped_bits_anywhere_never_pass_unseen)
{
    const char *path = written(TENSOR_F16), *bad = files_path(files_directory(), "bad.xqw");
    size_t size;
    char *data = files_read(path, &size);
    for (size_t n = 0; n < size; n++) {
        xqw *x;
        error err = ERROR_INIT;
        files_write(bad, data, n);
        cr_assert_eq(xqw_open(bad, &x, &err), XQ_ERROR_FORMAT, "cut at %zu", n);
        cr_assert(!strchr(err.message, '\n'));
    }
    for (size_t n = 0; n < size; n++) {
        xqw *x;
        float *values;
        error err = ERROR_INIT;
        data[n] ^= 0x10;
        files_write(bad, data, size);
        data[n] ^= 0x10;
        if (xqw_open(bad, &x, &err) != XQ_OK)
            continue;
        if (xqw_matrix(x, 7, "uk", 2, 3, &values, &err) == XQ_OK) {
            cr_assert_eq(memcmp(values, uk, sizeof uk), 0, "bit flipped at %zu", n);
            free(values);
        }
        xqw_close(x);
    }
    free(data);
}

/* The file with one text of its index replaced by another of the same length, its checksum made right. */
static void forged(const char *path, const char *from, const char *to, const char *message)
{
    const char *bad = files_path(files_directory(), "forged.xqw");
    size_t size;
    char *data = files_read(path, &size), *index = NULL;
    for (size_t i = 64; i + 8 < size && !index; i++)
        index = memcmp(data + i, "{\"spec\"", 7) == 0 ? data + i : NULL;
    cr_assert_not_null(index);
    char *place = strstr(index, from);
    cr_assert(place && strlen(from) == strlen(to));
    memcpy(place, to, strlen(to));
    uint64_t hash = XXH3_64bits(index, size - (size_t)(index - data));
    for (int i = 0; i < 8; i++)
        data[32 + i] = (char)(hash >> 8 * i);
    open_refused(bad, data, size, message);
    free(data);
}

Test(xqw, an_index_that_points_elsewhere_is_refused)
{
    const char *path = written(TENSOR_F32);
    forged(path, "\"offset\":256", "\"offset\":999",
           "damaged: matrix 0 of the index is not within the file");
    forged(path, "\"offset\":256", "\"offset\":-56",
           "damaged: matrix 0 of the index is not within the file");
    forged(path, "\"rows\":2,\"cols\":3", "\"rows\":9e8,\"co\":3",
           "damaged: matrix 0 of the index is not within the file");
    forged(path, "\"layer\":7", "\"layer\":[", "the index holds no spec");
    forged(path, "\"type\":\"F32\"", "\"type\":\"I64\"",
           "damaged: matrix 0 of the index is not within the file");
    forged(path, "\"rows\":2", "\"rows\":\"", "the index holds no spec");
    forged(path, "\"name\":\"uk\"", "\"name\":1234",
           "damaged: matrix 0 of the index is not within the file");
}

Test(xqw, values_beyond_f16_are_refused_and_nothing_is_left)
{
    const char *directory = files_directory(), *path = files_path(directory, "w.xqw");
    const float large[2] = {1, 7e4f}, nan[2] = {NAN, 1};
    xqw_writer *w;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_create(path, spec, TENSOR_F16, &w, &err), XQ_OK);
    cr_assert_eq(xqw_add(w, 3, "wk", 1, 2, large, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected,
             "%s: layer 3: wk holds 70000 at index 1; valid are finite values up to 65504 in size", path);
    cr_assert_str_eq(err.message, expected);
    error_clear(&err);
    cr_assert_eq(xqw_add(w, 3, "wk", 1, 2, nan, &err), XQ_ERROR_ARGUMENT);
    xqw_abandon(w);
    cr_assert_eq(files_count(directory), 0);
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
    float *wk, *wv;
    error err = ERROR_INIT;
    cr_assert_eq(open_model(model_files(&(struct model_change){0}), &m, &err), XQ_OK, "%s", err.message);
    cr_assert(m->hidden_size == MODEL_D && m->kv_heads == 1 && m->head_dim == 64 && m->layers == 2);
    cr_assert_eq(model_layer(m, 1, &wk, &wv, &err), XQ_OK, "%s", err.message);
    for (int in = 0; in < MODEL_D; in++)
        for (int out = 0; out < MODEL_DKV; out++) {
            cr_assert_eq(wk[in * MODEL_DKV + out], model_value(1, 0, out, in));
            cr_assert_eq(wv[in * MODEL_DKV + out], model_value(1, 1, out, in));
        }
    free(wk);
    free(wv);
    cr_assert_eq(model_layer(m, 2, &wk, &wv, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "layer 2; the model has layers 0 .. 1");
    model_close(m);
}

/* Reading layer 0 must fail with one line: the directory's weights file, then `message`. */
static void layer_refused(const struct model_change *change, const char *message)
{
    model *m;
    float *wk, *wv;
    error err = ERROR_INIT;
    char expected[512];
    const char *directory = model_files(change);
    cr_assert_eq(open_model(directory, &m, &err), XQ_OK, "%s", err.message);
    cr_assert_neq(model_layer(m, 0, &wk, &wv, &err), XQ_OK);
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
                  ": no tensor model.layers.0.self_attn.v_proj.weight among its 3");
    layer_refused(&(struct model_change){.extra = "model.layers.0.self_attn.k_proj.bias"},
                  "/model.safetensors: tensor model.layers.0.self_attn.k_proj.bias: no kernel supports "
                  "projections with a "
                  "bias yet");
    layer_refused(&(struct model_change){.extra = "model.layers.0.self_attn.k_norm.weight"},
                  "/model.safetensors: tensor model.layers.0.self_attn.k_norm.weight: no kernel supports "
                  "QK-norm yet");
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
    const int *layers;
    xqw *x;
    error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/w.xqw", directory);
    struct command_result r =
        command_run("prepare %s --method latent --layers 1 --store f32 -o %s", directory, path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "1 layer of") &&
                  strstr(r.out, "method latent, ranks 64 and 64: nothing truncated"),
              "%s", r.out);
    cr_assert_eq(xqw_open(path, &x, &err), XQ_OK, "%s", err.message);
    cr_assert(xqw_layers(x, &layers) == 1 && layers[0] == 1);
    float *u, *a;
    cr_assert_eq(xqw_matrix(x, 1, "uv", MODEL_D, MODEL_DKV, &u, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(xqw_matrix(x, 1, "av", MODEL_DKV, MODEL_DKV, &a, &err), XQ_OK, "%s", err.message);
    for (int in = 0; in < MODEL_D; in += 17)
        for (int out = 0; out < MODEL_DKV; out += 5) {
            double product = 0;
            for (int k = 0; k < MODEL_DKV; k++)
                product += (double)u[in * MODEL_DKV + k] * a[k * MODEL_DKV + out];
            cr_assert_float_eq(product, model_value(1, 1, out, in), 1e-6);
        }
    free(u);
    free(a);
    xqw_close(x);
}

/* `xq prepare` must fail with "xq prepare: " and this text, which names a file of the directory when it
 * begins with '/'; and write nothing. */
static void prepare_refused(const struct model_change *change, const char *options, const char *text)
{
    const char *directory = model_files(change);
    char arguments[1024], line[1024];
    snprintf(arguments, sizeof arguments, "prepare %s --out %s/w.xqw %s", directory, directory, options);
    snprintf(line, sizeof line, "xq prepare: %s%s", text[0] == '/' ? directory : "", text);
    command_refuses(arguments, 1, line);
    cr_assert_eq(files_count(directory), 2, "something was written");
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
                    "", "/config.json:1: malformed JSON: it ends too early");
    prepare_refused(&(struct model_change){0}, "--layers 2",
                    "--layers: '2' is no layer of the model; valid are layers 0 .. 1, each once");
}
