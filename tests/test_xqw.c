#include "../prepare/xqw.h"
#include "../runtime/half.h"
#include "files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* hidden size 2, one head of 1, a bias; ranks 3 and 1 */
static const char spec[] =
    "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":1,"
    "\"attention_bias\":true},\"cache\":{\"method\":\"latent\",\"bits\":4,\"groups\":1,\"rank_k\":3,"
    "\"rank_v\":1,\"rotation\":true},\"tuning\":{}}";
static float uk[6] = {1, 2, 3, 4, 5, 6}, ak[3] = {0.1f, -65504, 1e-8f}, uv[2] = {7, 8}, av[1] = {9};
static float bk[1] = {0.3f}, bv[1] = {1e9f}; /* vectors stay f32 */
static const layer_weights layer = {.uk = uk, .ak = ak, .uv = uv, .av = av, .bk = bk, .bv = bv};

static const char *written(tensor_type type)
{
    const char *path = files_path(files_directory(), "w.xqw");
    xqw_writer *w;
    error err = ERROR_INIT;
    cr_assert_eq(xqw_create(path, spec, type, &w, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(xqw_add_layer(w, 7, &layer, &err), XQ_OK);
    cr_assert_eq(xqw_add_layer(w, 2, &layer, &err), XQ_OK);
    cr_assert_eq(xqw_commit(w, &err), XQ_OK, "%s", err.message);
    return path;
}

static xqw *opened(const char *path)
{
    xqw *x;
    error err = ERROR_INIT;
    cr_assert_eq(xqw_open(path, &x, &err), XQ_OK, "%s", err.message);
    return x;
}

static float stored(tensor_type type, float value)
{
    return type == TENSOR_F16    ? half_round(value)
           : type == TENSOR_BF16 ? half_from_bfloat(half_to_bfloat(value))
                                 : value;
}

Test(xqw, what_is_written_is_read_back)
{
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        xqw *x = opened(written((tensor_type)type));
        const int *layers;
        layer_weights w;
        error err = ERROR_INIT;
        cr_assert_str_eq(
            xqw_spec(x),
            "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,"
            "\"head_dim\":1,\"attention_bias\":true},\"cache\":{\"method\":\"latent\","
            "\"groups\":1,\"rank_k\":3,\"rank_v\":1,\"rotation\":true}}");
        cr_assert_eq(xqw_layers(x, &layers), 2);
        cr_assert(layers[0] == 2 && layers[1] == 7);
        cr_assert(xqw_shape(x)->method == LAYER_LATENT && xqw_shape(x)->rank_k == 3 &&
                  xqw_shape(x)->rotation);
        cr_assert_eq(xqw_layer(x, 7, &w, &err), XQ_OK, "%s", err.message);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(w.ak[i], stored((tensor_type)type, ak[i]));
        cr_assert_eq(memcmp(w.uk, uk, sizeof uk), 0);
        cr_assert(w.uv[1] == 8 && w.av[0] == 9 && w.bk[0] == 0.3f && w.bv[0] == 1e9f);
        cr_assert(!w.wk && !w.ukv && !w.sinks);
        layer_weights_free(&w);
        xqw_close(x);
    }
}

Test(xqw, an_absent_layer_is_named)
{
    const char *path = written(TENSOR_F32);
    xqw *x = opened(path);
    layer_weights w;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_layer(x, 3, &w, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s: holds no layer 3; it has 2 layers (`xq prepare --layers` chooses)", path);
    cr_assert_str_eq(err.message, expected);
    xqw_close(x);
}

Test(xqw, another_shape_than_needed_is_named)
{
    const char *path = written(TENSOR_F32);
    xqw *x = opened(path);
    const layer_shape own = *xqw_shape(x);
    layer_shape other = own;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_expect_shape(x, &own, &err), XQ_OK);
    other.rank_k = 4;
    cr_assert_eq(xqw_expect_shape(x, &other, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: prepared for rank_k 3, not 4; run `xq prepare` for it", path);
    cr_assert_str_eq(err.message, expected);
    error_clear(&err);
    err = (error)ERROR_INIT;
    other = own;
    other.method = LAYER_LATENT_CL;
    cr_assert_eq(xqw_expect_shape(x, &other, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s: prepared for method latent, not latent-cl; run `xq prepare` for it", path);
    cr_assert_str_eq(err.message, expected);
    xqw_close(x);
}

Test(xqw, a_layer_without_all_its_parts_is_not_written)
{
    const char *directory = files_directory(), *path = files_path(directory, "w.xqw");
    layer_weights incomplete = layer;
    xqw_writer *w;
    error err = ERROR_INIT;
    char expected[512];
    incomplete.av = NULL;
    cr_assert_eq(xqw_create(path, spec, TENSOR_F16, &w, &err), XQ_OK);
    cr_assert_eq(xqw_add_layer(w, 3, &incomplete, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected, "%s: layer 3: av is missing", path);
    cr_assert_str_eq(err.message, expected);
    xqw_abandon(w);
    cr_assert_eq(files_count(directory), 0);
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
    char *data = files_read(path, &size), expected[512];
    layer_weights w;
    error err = ERROR_INIT;
    open_refused(bad, data, 0, "not an .xqw file; `xq prepare` writes them");
    open_refused(bad, "safetensors?", 12, "not an .xqw file; `xq prepare` writes them");
    open_refused(bad, data, 20, "truncated: 20 bytes");
    open_refused(bad, data, size - 1, "truncated or damaged: the index is not at its end");
    data[8] = 9;
    open_refused(bad, data, size, "version 9; this xq reads version 2: run `xq prepare` again");
    data[8] = 2;
    data[size - 3] ^= 1;
    open_refused(bad, data, size, "damaged: the checksum of the index does not match");
    data[size - 3] ^= 1;
    data[256 + 5] ^= 64; /* in the first matrix */
    files_write(bad, data, size);
    xqw *x = opened(bad);
    cr_assert_eq(xqw_layer(x, 7, &w, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: damaged: the checksum of layer 7's uk does not match", bad);
    cr_assert_str_eq(err.message, expected);
    xqw_close(x);
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
        layer_weights w;
        error err = ERROR_INIT;
        data[n] ^= 0x10;
        files_write(bad, data, size);
        data[n] ^= 0x10;
        if (xqw_open(bad, &x, &err) != XQ_OK)
            continue;
        if (xqw_layer(x, 7, &w, &err) == XQ_OK) {
            cr_assert(memcmp(w.uk, uk, sizeof uk) == 0 && memcmp(w.uv, uv, sizeof uv) == 0,
                      "bit flipped at %zu", n);
            layer_weights_free(&w);
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

/* All or nothing: a layer that lacks a matrix, has one twice, of another shape, or one too many. */
Test(xqw, an_incomplete_layer_is_refused)
{
    const char *path = written(TENSOR_F32);
    forged(path, "\"name\":\"uk\"", "\"name\":\"ak\"", "layer 7 holds uk 0 times, needs it once");
    forged(path, "\"name\":\"bv\"", "\"name\":\"bw\"", "layer 7 holds bv 0 times, needs it once");
    forged(path, "\"layer\":7", "\"layer\":2", "layer 2 holds uk 2 times, needs it once");
    forged(path, "\"rows\":2,\"cols\":3", "\"rows\":3,\"cols\":2", "layer 7's uk is [3, 2], needs [2, 3]");
    forged(path, "\"rank_k\":3", "\"rank_k\":2", "layer 2's uk is [2, 3], needs [2, 2]");
    forged(path, "\"method\":\"latent\"", "\"method\":\"latant\"", "the index holds no usable spec");
    forged(path, "\"attention_bias\":true", "\"attention_bias\":null",
           "holds matrices that method latent has no use for");
}

Test(xqw, values_beyond_f16_are_refused_and_nothing_is_left)
{
    const char *directory = files_directory(), *path = files_path(directory, "w.xqw");
    float large[2] = {1, 7e4f}, nan[2] = {NAN, 1};
    layer_weights bad = layer;
    xqw_writer *w;
    error err = ERROR_INIT;
    char expected[512];
    bad.uv = large;
    cr_assert_eq(xqw_create(path, spec, TENSOR_F16, &w, &err), XQ_OK);
    cr_assert_eq(xqw_add_layer(w, 3, &bad, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected,
             "%s: layer 3: uv holds 70000 at index 1; valid are finite values up to 65504 in size", path);
    cr_assert_str_eq(err.message, expected);
    error_clear(&err);
    err = (error)ERROR_INIT;
    bad.uv = nan;
    cr_assert_eq(xqw_add_layer(w, 3, &bad, &err), XQ_ERROR_ARGUMENT);
    xqw_abandon(w);
    cr_assert_eq(files_count(directory), 0);
}
