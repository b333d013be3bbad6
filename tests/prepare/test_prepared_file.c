/* Tests writing and reading files of prepared weights, and what a file cannot hold. */
#include "../../prepare/safetensors.h"
#include "../../runtime/base/publish.h"
#include "../support/files.h"
#include "sample_file.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- reading */

Test(prepared_file, what_is_written_is_read_back)
{
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        prepared_file *x = sample_open(sample_written((tensor_type)type));
        const prepared_head *head = prepared_file_head(x);
        layer_weights w;
        double kept[2] = {0};
        error err = ERROR_INIT;
        cr_assert_str_eq(head->methods[0].spec, SAMPLE_MODEL
                         "\"method\":\"latent\",\"groups_k\":1,\"groups_v\":1,\"rank_k\":3,\"rank_v\":1,"
                         "\"rotation\":true}}");
        cr_assert_eq(prepared_method_of(head, 2), &head->methods[0]);
        cr_assert_eq(head->layer_count, 2);
        cr_assert(head->layers[0] == 2 && head->layers[1] == 7 && head->model_layers == 8);
        cr_assert(!head->weights && head->base_layer == 0);
        cr_assert_eq(prepared_file_layer(x, 7, &w, &err), XQ_OK, "%s", err.message);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(w.ak[i], sample_stored((tensor_type)type, sample_layer.ak[i]));
        cr_assert_eq(memcmp(w.uk, sample_layer.uk, 6 * sizeof *w.uk), 0);
        cr_assert(w.uv[1] == 8 && w.av[0] == 9 && w.bk[0] == 0.3f && w.bv[0] == 1e9f);
        cr_assert(!w.wk && !w.ukv && !w.sinks);
        cr_assert_eq(sample_read_lost(x, 7, kept, &err), XQ_OK, "%s", err.message);
        cr_assert(kept[0] == sample_lost[0] && kept[1] == sample_lost[1]);
        layer_weights_free(&w);
        prepared_file_close(x);
    }
}

/* Every reader of safetensors finds the matrices and vectors under plain names. */
Test(prepared_file, is_a_safetensors_file)
{
    safetensors *s;
    const tensor *t;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_open(sample_written(TENSOR_F16), &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(safetensors_need(s, "layers.7.ak", &t, &err), XQ_OK, "%s", err.message);
    cr_assert(t->type == TENSOR_F16 && t->rank == 2 && t->shape[0] == 3 && t->shape[1] == 1);
    cr_assert_eq(safetensors_need(s, "layers.2.av", &t, &err), XQ_OK, "%s", err.message);
    cr_assert(t->type == TENSOR_F16 && t->rank == 2, "a matrix of one row is a matrix");
    cr_assert_eq(safetensors_need(s, "layers.2.bk", &t, &err), XQ_OK, "%s", err.message);
    cr_assert(t->type == TENSOR_F32 && t->rank == 1 && t->shape[0] == 1);
    safetensors_close(s);
}

Test(prepared_file, layers_before_the_base_have_a_method_of_their_own)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    sample_write_two_methods(path, TENSOR_F16);
    prepared_file *x = sample_open(path);
    const prepared_head *head = prepared_file_head(x);
    layer_weights before, base;
    error err = ERROR_INIT;
    cr_assert_eq(head->base_layer, 7);
    cr_assert(strstr(head->methods[0].spec, "x-cl") && strstr(prepared_method_of(head, 7)->spec, "x-cl"));
    cr_assert(strstr(prepared_method_of(head, 2)->spec, "latent"));
    cr_assert_eq(prepared_file_layer(x, 2, &before, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(prepared_file_layer(x, 7, &base, &err), XQ_OK, "%s", err.message);
    cr_assert(before.uk && !before.wk && base.wk && !base.uk && base.wv[1] == 4);
    layer_weights_free(&before);
    layer_weights_free(&base);
    prepared_file_close(x);
}

Test(prepared_file, an_absent_layer_is_named)
{
    const char *path = sample_written(TENSOR_F32);
    prepared_file *x = sample_open(path);
    layer_weights w;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(prepared_file_layer(x, 3, &w, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected,
             "%s: the file has no layer 3; it has 2 layers of 8 (`xq prepare --layers`)", path);
    cr_assert_str_eq(err.message, expected);
    cr_assert_str_eq(err.field, "layer");
    prepared_file_close(x);
}

Test(prepared_file, another_shape_than_needed_is_named)
{
    const char *path = sample_written(TENSOR_F32);
    prepared_file *x = sample_open(path);
    layer_shape own, other;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(layer_shape_read(sample_spec, &own, &err), XQ_OK);
    cr_assert_eq(prepared_file_expect(x, 7, &own, &err), XQ_OK);
    other = own;
    other.rank_k = 4;
    cr_assert_eq(prepared_file_expect(x, 7, &other, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s: layer 7 is prepared for rank_k 3, not 4; run `xq prepare` for it", path);
    cr_assert_str_eq(err.message, expected);
    err = (error)ERROR_INIT;
    other = own;
    other.method = LAYER_LATENT_CL;
    cr_assert_eq(prepared_file_expect(x, 2, &other, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s: layer 2 is prepared for method latent, not latent-cl; run `xq prepare` for it", path);
    cr_assert_str_eq(err.message, expected);
    prepared_file_close(x);
}

/* ---------------------------------------------------------------- writing */

static void refused(const layer_weights *weights, const char *message)
{
    const char *directory = files_directory(), *path = files_path(directory, "w.safetensors");
    const prepared_contents c = sample_contents(TENSOR_F16);
    prepared_writer *w = sample_create(path, &c);
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(prepared_add_layer(w, weights, sample_lost, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    cr_assert_str_eq(err.message, expected);
    prepared_abandon(w);
    cr_assert_eq(files_count(directory), 0);
}

Test(prepared_file, what_a_file_cannot_hold_is_refused_and_nothing_is_left)
{
    float large[2] = {1, 7e4f}, nan[2] = {NAN, 1}, infinite[1] = {INFINITY};
    layer_weights bad = sample_layer;
    bad.av = NULL;
    refused(&bad, "layer 2: av is missing");
    bad = sample_layer;
    bad.uv = large;
    refused(&bad, "layer 2: uv holds 70000 at index 1; valid: finite values up to 65504 in size");
    bad.uv = nan;
    refused(&bad, "layer 2: uv holds nan at index 0; valid: finite values up to 65504 in size");
    bad = sample_layer;
    bad.bv = infinite;
    refused(&bad, "layer 2: bv holds inf at index 0; valid: finite values");
}

Test(prepared_file, a_file_without_all_its_layers_does_not_appear)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    const prepared_contents c = sample_contents(TENSOR_F16);
    prepared_writer *w = sample_create(path, &c);
    error err = ERROR_INIT;
    sample_add(w, &sample_layer);
    cr_assert_eq(prepared_commit(w, &err), XQ_ERROR_INTERNAL);
    cr_assert_eq(fopen(path, "rb"), NULL);
}
