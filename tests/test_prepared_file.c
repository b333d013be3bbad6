/* Tests files of prepared weights: writing and reading, damage, and interruptions. */
#include "../prepare/prepared_file.h"
#include "../prepare/prepared_write.h"
#include "../prepare/safetensors.h"
#include "../runtime/base/half.h"
#include "../runtime/base/publish.h"
#include "files.h"
#include "generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The model has hidden size 2, one head of dimension 1, and a bias; the ranks are 3 and 1. */
#define MODEL                                                                                              \
    "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":1,"    \
    "\"attention_bias\":true},\"cache\":{"
static const char spec[] =
    MODEL "\"method\":\"latent\",\"bits\":4,\"groups_k\":1,\"groups_v\":1,\"rank_k\":3,\"rank_v\":1,"
          "\"rotation\":true},\"tuning\":{}}";
static const char cross_spec[] =
    MODEL "\"method\":\"x-cl\",\"groups_k\":1,\"groups_v\":1,\"rank_k\":2,\"rank_v\":0}}";
static float uk[6] = {1, 2, 3, 4, 5, 6}, ak[3] = {0.1f, -65504, 1e-8f}, uv[2] = {7, 8}, av[1] = {9};
static float wk[2] = {1, 2}, wv[2] = {3, 4};
static float bk[1] = {0.3f}, bv[1] = {1e9f}; /* vectors stay f32 */
static const layer_weights layer = {.uk = uk, .ak = ak, .uv = uv, .av = av, .bk = bk, .bv = bv};
static const layer_weights cross_layer = {.wk = wk, .wv = wv, .bk = bk, .bv = bv};
static const double lost[2] = {0.1, 0.25};
static const int layers[2] = {2, 7};

static prepared_contents contents(tensor_type type)
{
    return (prepared_contents){
        .specs = {spec}, .layers = layers, .layer_count = 2, .store = type, .source = 42};
}

static prepared_writer *created(const char *path, const prepared_contents *c)
{
    prepared_writer *w;
    publication *file;
    error err = ERROR_INIT;
    cr_assert_eq(publish_resume(path, &file, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(prepared_create(file, c, &w, &err), XQ_OK, "%s", err.message);
    return w;
}

static void add(prepared_writer *w, const layer_weights *weights)
{
    error err = ERROR_INIT;
    cr_assert_eq(prepared_add_layer(w, weights, lost, &err), XQ_OK, "%s", err.message);
}

static void commit(prepared_writer *w)
{
    error err = ERROR_INIT;
    cr_assert_eq(prepared_commit(w, &err), XQ_OK, "%s", err.message);
}

static const char *written(tensor_type type)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    const prepared_contents c = contents(type);
    prepared_writer *w = created(path, &c);
    add(w, &layer);
    add(w, &layer);
    commit(w);
    return path;
}

static prepared_file *opened(const char *path)
{
    prepared_file *x;
    error err = ERROR_INIT;
    cr_assert_eq(prepared_file_open(path, &x, &err), XQ_OK, "%s", err.message);
    return x;
}

static float stored(tensor_type type, float value)
{
    return type == TENSOR_F16    ? half_round(value)
           : type == TENSOR_BF16 ? half_from_bfloat(half_to_bfloat(value))
                                 : value;
}

/* ---------------------------------------------------------------- reading */

static xq_status read_lost(const prepared_file *x, int of_layer, double kept[2], error *err)
{
    const tensor *t;
    uint64_t offset;
    if (prepared_file_tensor(x, prepared_file_place(x, of_layer, err), PREPARED_LOST, &t, &offset, err) ==
        XQ_OK)
        memcpy(kept, t->data, 2 * sizeof *kept);
    return err->status;
}

Test(prepared_file, what_is_written_is_read_back)
{
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        prepared_file *x = opened(written((tensor_type)type));
        const prepared_head *head = prepared_file_head(x);
        layer_weights w;
        double kept[2] = {0};
        error err = ERROR_INIT;
        cr_assert_str_eq(head->methods[0].spec, MODEL
                         "\"method\":\"latent\",\"groups_k\":1,\"groups_v\":1,\"rank_k\":3,\"rank_v\":1,"
                         "\"rotation\":true}}");
        cr_assert_eq(prepared_method_of(head, 2), &head->methods[0]);
        cr_assert_eq(head->layer_count, 2);
        cr_assert(head->layers[0] == 2 && head->layers[1] == 7 && head->model_layers == 8);
        cr_assert(!head->weights && head->base_layer == 0);
        cr_assert_eq(prepared_file_layer(x, 7, &w, &err), XQ_OK, "%s", err.message);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(w.ak[i], stored((tensor_type)type, ak[i]));
        cr_assert_eq(memcmp(w.uk, uk, sizeof uk), 0);
        cr_assert(w.uv[1] == 8 && w.av[0] == 9 && w.bk[0] == 0.3f && w.bv[0] == 1e9f);
        cr_assert(!w.wk && !w.ukv && !w.sinks);
        cr_assert_eq(read_lost(x, 7, kept, &err), XQ_OK, "%s", err.message);
        cr_assert(kept[0] == lost[0] && kept[1] == lost[1]);
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
    cr_assert_eq(safetensors_open(written(TENSOR_F16), &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(safetensors_need(s, "layers.7.ak", &t, &err), XQ_OK, "%s", err.message);
    cr_assert(t->type == TENSOR_F16 && t->rank == 2 && t->shape[0] == 3 && t->shape[1] == 1);
    cr_assert_eq(safetensors_need(s, "layers.2.av", &t, &err), XQ_OK, "%s", err.message);
    cr_assert(t->type == TENSOR_F16 && t->rank == 2, "a matrix of one row is a matrix");
    cr_assert_eq(safetensors_need(s, "layers.2.bk", &t, &err), XQ_OK, "%s", err.message);
    cr_assert(t->type == TENSOR_F32 && t->rank == 1 && t->shape[0] == 1);
    safetensors_close(s);
}

/* Writes a file whose layer before the base has a method of its own. */
static void write_two_methods(const char *path, tensor_type store)
{
    prepared_contents c = contents(store);
    c.specs[0] = cross_spec;
    c.specs[1] = spec;
    c.base_layer = 7;
    prepared_writer *w = created(path, &c);
    add(w, &layer);
    add(w, &cross_layer);
    commit(w);
}

Test(prepared_file, layers_before_the_base_have_a_method_of_their_own)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    write_two_methods(path, TENSOR_F16);
    prepared_file *x = opened(path);
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
    const char *path = written(TENSOR_F32);
    prepared_file *x = opened(path);
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
    const char *path = written(TENSOR_F32);
    prepared_file *x = opened(path);
    layer_shape own, other;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(layer_shape_read(spec, &own, &err), XQ_OK);
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

/* ----------------------------------------------------------------- damage */

/* Opening the bytes must fail with a message that begins with the path and ends with `message`. The line
 * and column of the header may stand between the two. */
static void open_refused(const char *path, const char *data, size_t size, const char *message)
{
    prepared_file *x;
    error err = ERROR_INIT;
    char expected[512];
    files_write(path, data, size);
    cr_assert_eq(prepared_file_open(path, &x, &err), XQ_ERROR_FORMAT, "%s", err.message);
    cr_assert_eq(strncmp(err.message, path, strlen(path)), 0, "%s", err.message);
    const char *behind = err.message + strlen(path);
    snprintf(expected, sizeof expected, ": %s", message);
    cr_assert_str_eq(behind + strspn(behind, ":0123456789") - 1, expected, "%s", err.message);
}

/* Returns the place after "KEY":" in the header, where 16 digits or another value begin. */
static char *value_at(char *data, size_t size, const char *key)
{
    char pattern[80];
    snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
    char *found = memmem(data, size, pattern, strlen(pattern));
    cr_assert_not_null(found, "%s", key);
    return found + strlen(pattern);
}

static size_t header_bytes(const char *data)
{
    size_t size = 0;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | (uint8_t)data[i];
    return 8 + size;
}

/* Corrects the checksum of the header. */
static void mend(char *data, size_t size)
{
    char *digits = value_at(data, size, "header_xxh3");
    memset(digits, '0', 16);
    prepared_put_digits(digits, XXH3_64bits(data, header_bytes(data)));
}

Test(prepared_file, every_kind_of_damage_is_named)
{
    const char *path = written(TENSOR_F32), *bad = files_path(files_directory(), "bad.safetensors");
    size_t size;
    char *data = files_read(path, &size), text[256];
    open_refused(bad, data, 0, "truncated: 0 bytes are no safetensors file");
    snprintf(text, sizeof text, "truncated: the header has %zu bytes, and the file has 20",
             header_bytes(data) - 8);
    open_refused(bad, data, 20, text);
    snprintf(text, sizeof text,
             "tensor layers.7.lost ends at byte %zu of %zu: the file is truncated or damaged",
             size - header_bytes(data), size - header_bytes(data) - 1);
    open_refused(bad, data, size - 1, text);
    char *longer = calloc(size + 3, 1);
    memcpy(longer, data, size);
    open_refused(bad, longer, size + 3, "3 bytes follow the last tensor");
    free(longer);
    *value_at(data, size, "source") ^= 1;
    open_refused(bad, data, size,
                 "damaged: the checksum in __metadata__.header_xxh3 does not match the header");
    *value_at(data, size, "header_xxh3") = 'X';
    open_refused(
        bad, data, size,
        "damaged, or written by another program: there is no checksum in __metadata__.header_xxh3");
    memset(value_at(data, size, "header_xxh3"), '0', 16);
    open_refused(bad, data, size, "unfinished; run the same `xq prepare` command to complete it");
    free(data);
}

Test(prepared_file, what_a_killed_writer_leaves_is_called_unfinished)
{
    const prepared_contents c = contents(TENSOR_F32);
    const char *path = files_path(files_directory(), "w.safetensors");
    char partial[4300];
    size_t size;
    prepared_writer *w = created(path, &c);
    add(w, &layer);
    prepared_keep(w);
    snprintf(partial, sizeof partial, "%s.partial", path);
    char *data = files_read(partial, &size);
    open_refused(partial, data, size, "unfinished; run the same `xq prepare` command to complete it");
    free(data);
}

Test(prepared_file, files_of_other_kinds_and_versions_are_refused_with_what_to_do)
{
    const char *path = written(TENSOR_F16), *bad = files_path(files_directory(), "bad.safetensors");
    const float values[1] = {1};
    const tensor t = {.name = "t", .rank = 1, .shape = {1}, .data = values, .bytes = sizeof values};
    size_t size;
    char *data = files_read(path, &size);
    open_refused(bad, "XQWEIGHT\3\0\0\0\0\0\0\0", 16,
                 "it is an .xqw file, which this xq does not read; prepare the model again: `xq prepare "
                 "MODEL_DIR --out "
                 "FILE.safetensors`");
    *value_at(data, size, "xq_prepared") = '1';
    open_refused(
        bad, data, size,
        "__metadata__.xq_prepared is version 1, and this xq reads version 2; run `xq prepare` again");
    free(data);
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_write(bad, &t, 1, &err), XQ_OK, "%s", err.message);
    data = files_read(bad, &size);
    open_refused(bad, data, size,
                 "xq did not prepare this safetensors file (its __metadata__ has no xq_prepared); valid: "
                 "files that `xq prepare` writes");
    free(data);
}

Test(prepared_file, a_damaged_tensor_is_named_when_it_is_read)
{
    const char *path = written(TENSOR_F32), *bad = files_path(files_directory(), "bad.safetensors");
    size_t size;
    char *data = files_read(path, &size), expected[512];
    layer_weights w;
    double kept[2];
    error err = ERROR_INIT;
    data[size - 21] ^= 64; /* in bv of layer 7, which 4 bytes of padding and the losses follow */
    data[size - 1] ^= 64;
    files_write(bad, data, size);
    prepared_file *x = opened(bad);
    cr_assert_eq(prepared_file_layer(x, 2, &w, &err), XQ_OK, "%s", err.message);
    layer_weights_free(&w);
    cr_assert_eq(prepared_file_layer(x, 7, &w, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: damaged: the checksum of tensor layers.7.bv does not match",
             bad);
    cr_assert_str_eq(err.message, expected);
    cr_assert_str_eq(err.field, "layers.7.bv");
    err = (error)ERROR_INIT;
    cr_assert_eq(read_lost(x, 7, kept, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: damaged: the checksum of tensor layers.7.lost does not match",
             bad);
    cr_assert_str_eq(err.message, expected);
    prepared_file_close(x);
    free(data);
}

static void assert_undamaged(const prepared_file *x, size_t at)
{
    layer_weights w;
    error err = ERROR_INIT;
    if (prepared_file_layer(x, 7, &w, &err) != XQ_OK)
        return;
    cr_assert(memcmp(w.uk, uk, sizeof uk) == 0 && memcmp(w.uv, uv, sizeof uv) == 0 &&
                  w.ak[2] == stored(TENSOR_F16, ak[2]) && w.av[0] == av[0] && w.bk[0] == bk[0] &&
                  w.bv[0] == bv[0],
              "bit flipped at %zu", at);
    layer_weights_free(&w);
}

Test(prepared_file, truncation_and_flipped_bits_anywhere_never_pass_unseen)
{
    const char *path = written(TENSOR_F16), *bad = files_path(files_directory(), "bad.safetensors");
    size_t size;
    char *data = files_read(path, &size);
    prepared_file *x;
    for (size_t n = 0; n < size; n++) {
        error err = ERROR_INIT;
        files_write(bad, data, n);
        cr_assert_eq(prepared_file_open(bad, &x, &err), XQ_ERROR_FORMAT, "cut at %zu", n);
        cr_assert(!strchr(err.message, '\n'));
    }
    for (size_t n = 0; n < size; n++) {
        error err = ERROR_INIT;
        char flip = (char)(1 << n % 8);
        data[n] ^= flip;
        files_write(bad, data, size);
        data[n] ^= flip;
        if (prepared_file_open(bad, &x, &err) == XQ_OK) {
            cr_assert_geq(n, header_bytes(data), "bit flipped at %zu of the header", n);
            assert_undamaged(x, n);
            prepared_file_close(x);
        } else {
            cr_assert_eq(err.status, XQ_ERROR_FORMAT);
            cr_assert(!strchr(err.message, '\n'), "%s", err.message);
        }
    }
    free(data);
}

/* Several random bytes are changed, and the checksum is corrected. Such a file may open, but then every
 * tensor lies within the file, which the sanitizers check. */
Test(prepared_file, a_forged_header_never_crashes_the_reader)
{
    const char *path = written(TENSOR_F16), *bad = files_path(files_directory(), "bad.safetensors");
    static const char pool[] = "0123456789[]{}\",:\\ lawuk";
    size_t size;
    char *data = files_read(path, &size), *forged = malloc(size);
    srand48(3);
    for (int n = 0; n < 4000; n++) {
        memcpy(forged, data, size);
        for (int i = 0; i <= n % 4; i++)
            forged[8 + lrand48() % (long)(header_bytes(data) - 8)] =
                pool[lrand48() % (long)(sizeof pool - 1)];
        if (memmem(forged, size, "\"header_xxh3\":\"", 15))
            mend(forged, size);
        files_write(bad, forged, size);
        prepared_file *x;
        error err = ERROR_INIT;
        if (prepared_file_open(bad, &x, &err) == XQ_OK) {
            const prepared_head *head = prepared_file_head(x);
            layer_weights w;
            for (int i = 0; i < head->layer_count; i++)
                if (prepared_file_layer(x, head->layers[i], &w, &err) == XQ_OK)
                    layer_weights_free(&w);
            prepared_file_close(x);
        }
        error_clear(&err);
    }
    free(data);
    free(forged);
}

/* Replaces one text of the header by another of the same length, and corrects the checksum. Opening must
 * fail. */
static void forged(const char *path, const char *from, const char *to, const char *message)
{
    char bad[512];
    size_t size;
    snprintf(bad, sizeof bad, "%s.forged", path);
    char *data = files_read(path, &size), *found = memmem(data, header_bytes(data), from, strlen(from));
    cr_assert_not_null(found, "%s", from);
    cr_assert_eq(strlen(from), strlen(to), "%s", to);
    memcpy(found, to, strlen(to));
    mend(data, size);
    open_refused(bad, data, size, message);
    free(data);
}

/* A layer is complete or refused: it may not lack a tensor, have one twice, have one of another shape or
 * type, or have one too many. */
Test(prepared_file, an_incomplete_layer_is_refused)
{
    const char *path = written(TENSOR_F32);
    forged(path,
           "\"layers.7.uk\":", "\"layers.7.ux\":", "there is no tensor layers.7.uk, which its spec needs");
    forged(path,
           "\"layers.7.bv\":", "\"padding.777\":", "there is no tensor layers.7.bv, which its spec needs");
    forged(path, "\"layers.7.lost\":", "\"layers.7.last\":",
           "there is no tensor layers.7.lost, which its spec needs");
    forged(path, "\"layers.7.uv\":", "\"layers.7.uk\":", "layers.7.uk: given twice in one JSON object");
    forged(path, "\"layers.7.uk\":{\"shape\":[2,3]", "\"layers.7.uk\":{\"shape\":[3,2]",
           "tensor layers.7.uk has shape [3, 2], needs [2, 3]");
    forged(path, "\"layers.7.bk\":{\"shape\":[1]", "\"layers.7.bk\":{\"shape\":[ ]",
           "tensor layers.7.bk has shape [], needs [1]");
    forged(path, "\"layers.7.uk\":{\"shape\":[2,3],\"dtype\":\"F32\"",
           "\"layers.7.uk\":{\"shape\":[2,3],\"dtype\":\"I32\"",
           "tensor layers.7.uk has type I32, needs F32");
    forged(path, "\"layers.7.uk.xxh3\"", "\"layers.7.uk.xxh4\"",
           "__metadata__.layers.7.uk.xxh3 is no checksum of 16 digits");
    forged(path,
           "\"padding.0\":", "\"pudding.0\":", "the spec in __metadata__ does not use tensor pudding.0");
}

Test(prepared_file, metadata_that_make_no_sense_are_refused_by_key)
{
    const char *path = written(TENSOR_F32);
    forged(path, "\\\"rank_k\\\":3", "\\\"rank_k\\\":2",
           "tensor layers.2.uk has shape [2, 3], needs [2, 2]");
    forged(path, "\\\"latent\\\"", "\\\"latant\\\"", "__metadata__.spec is no usable spec");
    forged(path, "\\\"cache\\\":", "\\\"cache\\\" ", "__metadata__.spec is no usable spec");
    forged(path, "\"spec\":", "\"spek\":", "__metadata__.spec is missing");
    forged(path, "\"layers\":", "\"layerz\":", "__metadata__.layers is missing");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[-,7]\"", "__metadata__.layers is no list");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[7,2]\"",
           "__metadata__.layers has numbers that do not ascend");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[2,2]\"",
           "__metadata__.layers has numbers that do not ascend");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[1.5]\"",
           "__metadata__.layers has numbers that do not ascend");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[]   \"", "__metadata__.layers lists no layers");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[2]  \"",
           "the spec in __metadata__ does not use tensor layers.7.ak");
    forged(path, "\"layers\":\"[2,7]\"", "\"layers\":\"[2,8]\"",
           "there is no tensor layers.8.uk, which its spec needs");
    forged(path, "\"store\":\"F32\"", "\"stove\":\"F32\"", "__metadata__ has neither store nor packing");
    forged(path, "\"store\":\"F32\"", "\"store\":\"F64\"",
           "__metadata__.store is 'F64'; valid: F32, F16, BF16");
    forged(path, "\"store\":\"F32\"", "\"store\":\"F16\"", "tensor layers.2.uk has type F32, needs F16");
    forged(path, "\\\"attention_bias\\\":true", "\\\"attention_bias\\\":null",
           "the spec in __metadata__ does not use tensor layers.2.bk");
}

Test(prepared_file, metadata_of_two_methods_must_agree)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    write_two_methods(path, TENSOR_F32);
    forged(path, "\"base_layer\":\"7\"", "\"base_layer\":\"x\"",
           "__metadata__.base_layer is no layer of the model");
    forged(path, "\"plain_spec\":", "\"plane_spec\":", "__metadata__.plain_spec is missing");
    forged(path, "\"base_layer\":\"7\"", "\"base_layer\":\"8\"",
           "there is no tensor layers.7.uk, which its spec needs");
    forged(path, "\"base_layer\":\"7\"", "\"base_loyer\":\"7\"",
           "there is no tensor layers.2.wk, which its spec needs");
}

/* ------------------------------------------------------------------ packed */

/* Writes a file with one packed layer of hidden size and width 64, without its matrices. */
static const char *packed_file(const char *completed)
{
    static float projection[64 * 64];
    static const int first[1] = {0};
    const layer_weights weights = {.wk = projection, .wv = projection};
    const char *path = files_path(files_directory(), "packed.safetensors");
    prepared_contents c = {
        .specs = {completed}, .layers = first, .layer_count = 1, .store = TENSOR_OTHER, .packed = true};
    for (int i = 0; i < 64 * 64; i++)
        projection[i] = (float)(i % 97) / 97;
    prepared_writer *w = created(path, &c);
    add(w, &weights);
    commit(w);
    return path;
}

/* If the header is 8 spaces shorter, all tensors move. */
static void shifted(const char *path)
{
    char bad[512], message[256];
    size_t size;
    snprintf(bad, sizeof bad, "%s.shifted", path);
    char *data = files_read(path, &size);
    size_t header = header_bytes(data);
    cr_assert_eq(memcmp(data + header - 8, "        ", 8), 0, "the header has no 8 spaces at its end");
    memmove(data + header - 8, data + header, size - header);
    data[0] = (char)(header - 16);
    data[1] = (char)((header - 16) >> 8);
    mend(data, size - 8);
    snprintf(message, sizeof message,
             "tensor layers.0.packed begins at byte %zu of the file, needs a multiple of 256", header - 8);
    open_refused(bad, data, size - 8, message);
    free(data);
}

Test(prepared_file, packed_weights_that_are_damaged_never_pass_unseen)
{
    char *completed = generator_complete("{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 1, "
                                         "\"head_dim\": 64}, \"cache\": {\"method\": "
                                         "\"x\", \"rotation\": false}, \"weights\": \"int8\"}");
    const char *path = packed_file(completed), *bad = files_path(files_directory(), "bad.safetensors");
    size_t size, bytes, expected_bytes;
    char *data = files_read(path, &size);
    const void *packed, *expected;
    error err = ERROR_INIT;
    prepared_file *good = opened(path), *x;
    cr_assert_eq(prepared_file_packed(good, 0, completed, true, &expected, &expected_bytes, &err), XQ_OK,
                 "%s", err.message);
    for (size_t n = 0; n < size; n += 3) {
        data[n] ^= 2;
        files_write(bad, data, size);
        data[n] ^= 2;
        err = (error)ERROR_INIT;
        if (prepared_file_open(bad, &x, &err) != XQ_OK)
            continue;
        cr_assert_geq(n, header_bytes(data), "bit flipped at %zu of the header", n);
        if (prepared_file_packed(x, 0, completed, true, &packed, &bytes, &err) == XQ_OK)
            cr_assert(bytes == expected_bytes && memcmp(packed, expected, bytes) == 0, "bit flipped at %zu",
                      n);
        prepared_file_close(x);
    }
    prepared_file_close(good);
    forged(path, "\\\"weights\\\":\\\"int8", "\\\"weightz\\\":\\\"int8",
           "__metadata__.packing has no \"weights\" or no \"weights_layout\"");
    forged(path, "\"layers.0.packed\"", "\"layers.0.packet\"",
           "there is no tensor layers.0.packed, which its spec needs");
    shifted(path);
    free(completed);
    free(data);
}

/* ---------------------------------------------------------------- writing */

static void refused(const layer_weights *weights, const char *message)
{
    const char *directory = files_directory(), *path = files_path(directory, "w.safetensors");
    const prepared_contents c = contents(TENSOR_F16);
    prepared_writer *w = created(path, &c);
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(prepared_add_layer(w, weights, lost, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    cr_assert_str_eq(err.message, expected);
    prepared_abandon(w);
    cr_assert_eq(files_count(directory), 0);
}

Test(prepared_file, what_a_file_cannot_hold_is_refused_and_nothing_is_left)
{
    float large[2] = {1, 7e4f}, nan[2] = {NAN, 1}, infinite[1] = {INFINITY};
    layer_weights bad = layer;
    bad.av = NULL;
    refused(&bad, "layer 2: av is missing");
    bad = layer;
    bad.uv = large;
    refused(&bad, "layer 2: uv holds 70000 at index 1; valid: finite values up to 65504 in size");
    bad.uv = nan;
    refused(&bad, "layer 2: uv holds nan at index 0; valid: finite values up to 65504 in size");
    bad = layer;
    bad.bv = infinite;
    refused(&bad, "layer 2: bv holds inf at index 0; valid: finite values");
}

Test(prepared_file, a_file_without_all_its_layers_does_not_appear)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    const prepared_contents c = contents(TENSOR_F16);
    prepared_writer *w = created(path, &c);
    error err = ERROR_INIT;
    add(w, &layer);
    cr_assert_eq(prepared_commit(w, &err), XQ_ERROR_INTERNAL);
    cr_assert_eq(fopen(path, "rb"), NULL);
}

/* --------------------------------------------------------------- resuming */

/* Leaves the files of a writer that was killed after `done` layers. */
static const char *left(const prepared_contents *c, int done)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    prepared_writer *w = created(path, c);
    for (int i = 0; i < done; i++)
        add(w, &layer);
    prepared_keep(w);
    return path;
}

Test(prepared_resume, goes_on_behind_the_layers_that_are_done)
{
    for (int done = 0; done <= 2; done++) {
        const prepared_contents c = contents(TENSOR_F16);
        const char *whole = written(TENSOR_F16), *path = left(&c, done);
        char note[4300];
        double kept[2];
        prepared_writer *w = created(path, &c);
        cr_assert_eq(prepared_done(w), done);
        snprintf(note, sizeof note, "%s.partial: %d of 2 layers are done", path, done);
        cr_assert_str_eq(prepared_note(w), note);
        for (int i = done; i < 2; i++)
            add(w, &layer);
        prepared_lost(w, 0, kept);
        cr_assert(kept[0] == lost[0] && kept[1] == lost[1]);
        commit(w);
        files_assert_same(path, whole);
    }
}

/* However the file was cut or damaged, the layers that are kept are whole, and the finished file is the
 * same. */
Test(prepared_resume, cut_or_damaged_anywhere_it_ends_in_the_same_file)
{
    const prepared_contents c = contents(TENSOR_BF16);
    const char *whole = written(TENSOR_BF16), *path = left(&c, 2);
    char name[4300];
    size_t size;
    snprintf(name, sizeof name, "%s.partial", path);
    char *data = files_read(name, &size);
    /* Its first bytes, which tell it from files of other programs, stay as they are. */
    const size_t begun = (size_t)((const char *)memmem(data, size, "header_xxh3", 11) - data) + 11 + 3 + 16;
    for (size_t n = 0; n < 2 * size; n += 37) {
        bool cut = n < size;
        if (cut ? n > 0 && n <= 8 : n - size < begun)
            continue;
        if (!cut)
            data[n - size] ^= 4;
        files_write(name, data, cut ? n : size);
        if (!cut)
            data[n - size] ^= 4;
        prepared_writer *w = created(path, &c);
        while (prepared_done(w) < 2)
            add(w, &layer);
        commit(w);
        files_assert_same(path, whole);
    }
    free(data);
}

/* The writer was killed after its last write, before the file got its name. */
Test(prepared_resume, a_file_that_lacks_its_name_alone_gets_it)
{
    const prepared_contents c = contents(TENSOR_F32);
    const char *whole = written(TENSOR_F32), *path = left(&c, 0);
    char name[4300];
    size_t size;
    char *data = files_read(whole, &size);
    snprintf(name, sizeof name, "%s.partial", path);
    files_write(name, data, size);
    prepared_writer *w = created(path, &c);
    cr_assert_eq(prepared_done(w), 2, "%s", prepared_note(w));
    commit(w);
    files_assert_same(path, whole);
    free(data);
}

/* The first kept layer belongs to contents c. A writer with other contents must not use it. */
static void starts_anew(const prepared_contents *other, const char *why)
{
    const prepared_contents c = contents(TENSOR_F16);
    const char *path = left(&c, 1);
    char note[4400];
    prepared_writer *w = created(path, other);
    cr_assert_eq(prepared_done(w), 0);
    snprintf(note, sizeof note, "%s.partial: another command wrote it (%s); starting anew", path, why);
    cr_assert_str_eq(prepared_note(w), note);
    prepared_abandon(w);
}

Test(prepared_resume, another_command_starts_anew_and_says_why)
{
    static const int others[] = {2, 8};
    static const char unbiased[] =
        "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":1},"
        "\"cache\":{\"method\":\"latent\",\"groups_k\":1,\"groups_v\":1,\"rank_k\":3,\"rank_v\":1,"
        "\"rotation\":true}}";
    static const char plain[] =
        MODEL "\"method\":\"latent\",\"bits\":4,\"groups_k\":1,\"groups_v\":1,\"rank_k\":2,\"rank_v\":1}}";
    prepared_contents c = contents(TENSOR_BF16);
    starts_anew(&c, "another type of matrices");
    c = contents(TENSOR_F16);
    c.source++;
    starts_anew(&c, "other weights of the model");
    c = contents(TENSOR_F16);
    c.specs[0] = unbiased;
    starts_anew(&c, "another model or method, or other options of it");
    c = contents(TENSOR_F16);
    c.layers = others;
    starts_anew(&c, "other layers");
    c = contents(TENSOR_F16);
    c.specs[0] = plain;
    starts_anew(&c, "another model or method, or other options of it");
    c = contents(TENSOR_F16);
    c.specs[1] = cross_spec;
    c.base_layer = 1;
    starts_anew(&c, "another base layer");
}

/* If the file in the way was not left by an unfinished writer, it is refused and stays as it is. */
static void refuses_what_is_in_the_way(const char *data, size_t size)
{
    const prepared_contents c = contents(TENSOR_F16);
    const char *directory = files_directory(), *path = files_path(directory, "w.safetensors");
    char name[4300], message[4500];
    error err = ERROR_INIT;
    publication *file = NULL;
    prepared_writer *w = NULL;
    size_t left_bytes;
    snprintf(name, sizeof name, "%s.partial", path);
    files_write(name, data, size);
    cr_assert_eq(publish_resume(path, &file, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(prepared_create(file, &c, &w, &err), XQ_ERROR_ARGUMENT, "%s", err.message);
    snprintf(message, sizeof message,
             "%s: this file is in the way of the output, and is no unfinished file of this version of `xq "
             "prepare`; move it, or remove it",
             name);
    cr_expect_str_eq(err.message, message);
    char *kept = files_read(name, &left_bytes);
    cr_expect_eq(left_bytes, size);
    cr_expect_arr_eq(kept, data, size);
    cr_expect_eq(files_count(directory), 1);
    free(kept);
    error_clear(&err);
}

Test(prepared_resume, what_is_no_unfinished_file_stays)
{
    size_t size;
    refuses_what_is_in_the_way("something else", 14);
    refuses_what_is_in_the_way("{}", 2);
    char *finished = files_read(written(TENSOR_BF16), &size); /* the finished file of another command */
    refuses_what_is_in_the_way(finished, size);
    free(finished);
}

/* The writer was killed while it wrote its header. */
Test(prepared_resume, a_torn_header_is_written_anew)
{
    const prepared_contents c = contents(TENSOR_F16);
    const char *whole = written(TENSOR_F16), *path = left(&c, 1);
    char name[4300], note[4400];
    size_t size;
    snprintf(name, sizeof name, "%s.partial", path);
    char *data = files_read(name, &size);
    files_write(name, data, 40);
    free(data);
    prepared_writer *w = created(path, &c);
    snprintf(note, sizeof note, "%s: its header is not complete; starting anew", name);
    cr_assert_str_eq(prepared_note(w), note);
    add(w, &layer);
    add(w, &layer);
    commit(w);
    files_assert_same(path, whole);
}

Test(prepared_resume, two_writers_at_once_do_not_meet)
{
    const prepared_contents c = contents(TENSOR_F16);
    const char *whole = written(TENSOR_F16), *directory = files_directory(),
               *path = files_path(directory, "w.safetensors");
    char note[4400];
    prepared_writer *first = created(path, &c), *second = created(path, &c);
    cr_assert_str_eq(prepared_note(first), "");
    snprintf(note, sizeof note, "%s: another process is preparing this file; this run cannot be resumed",
             path);
    cr_assert_str_eq(prepared_note(second), note);
    add(first, &layer);
    add(second, &layer);
    add(second, &layer);
    commit(second);
    files_assert_same(path, whole);
    prepared_writer *third = created(path, &c); /* the first writer still has PATH.partial */
    cr_assert_eq(prepared_done(third), 0);
    prepared_keep(third);
    add(first, &layer);
    commit(first);
    files_assert_same(path, whole);
    cr_assert_eq(files_count(directory), 1);
}
