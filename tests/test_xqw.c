#include "../prepare/xqw.h"
#include "../prepare/xqw_write.h"
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

/* hidden size 2, one head of 1, a bias; ranks 3 and 1 */
#define MODEL                                                                                              \
    "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":1,"    \
    "\"attention_bias\":true},\"cache\":{"
static const char spec[] = MODEL "\"method\":\"latent\",\"bits\":4,\"groups\":1,\"rank_k\":3,\"rank_v\":1,"
                                 "\"rotation\":true},\"tuning\":{}}";
static const char cross_spec[] = MODEL "\"method\":\"x-cl\",\"groups\":1,\"rank_k\":2,\"rank_v\":0}}";
static float uk[6] = {1, 2, 3, 4, 5, 6}, ak[3] = {0.1f, -65504, 1e-8f}, uv[2] = {7, 8}, av[1] = {9};
static float wk[2] = {1, 2}, wv[2] = {3, 4};
static float bk[1] = {0.3f}, bv[1] = {1e9f}; /* vectors stay f32 */
static const layer_weights layer = {.uk = uk, .ak = ak, .uv = uv, .av = av, .bk = bk, .bv = bv};
static const layer_weights cross_layer = {.wk = wk, .wv = wv, .bk = bk, .bv = bv};
static const double lost[2] = {0.1, 0.25};
static const int layers[2] = {2, 7};

static xqw_contents contents(tensor_type type)
{
    return (xqw_contents){.specs = {spec}, .layers = layers, .layer_count = 2, .store = type, .source = 42};
}

static xqw_writer *created(const char *path, const xqw_contents *c)
{
    xqw_writer *w;
    error err = ERROR_INIT;
    cr_assert_eq(xqw_create(path, c, &w, &err), XQ_OK, "%s", err.message);
    return w;
}

static void add(xqw_writer *w, const layer_weights *weights)
{
    error err = ERROR_INIT;
    cr_assert_eq(xqw_add_layer(w, weights, lost, &err), XQ_OK, "%s", err.message);
}

static void commit(xqw_writer *w)
{
    error err = ERROR_INIT;
    cr_assert_eq(xqw_commit(w, &err), XQ_OK, "%s", err.message);
}

static const char *written(tensor_type type)
{
    const char *path = files_path(files_directory(), "w.xqw");
    const xqw_contents c = contents(type);
    xqw_writer *w = created(path, &c);
    add(w, &layer);
    add(w, &layer);
    commit(w);
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

/* ---------------------------------------------------------------- reading */

Test(xqw, what_is_written_is_read_back)
{
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        xqw *x = opened(written((tensor_type)type));
        const int *there;
        layer_weights w;
        error err = ERROR_INIT;
        cr_assert_str_eq(xqw_spec(x), MODEL "\"method\":\"latent\",\"groups\":1,\"rank_k\":3,\"rank_v\":1,"
                                            "\"rotation\":true}}");
        cr_assert_str_eq(xqw_layer_spec(x, 2), xqw_spec(x));
        cr_assert_eq(xqw_layers(x, &there), 2);
        cr_assert(there[0] == 2 && there[1] == 7 && xqw_model_layers(x) == 8);
        cr_assert(!xqw_weights(x) && xqw_base_layer(x) == 0);
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

Test(xqw, layers_before_the_base_have_a_method_of_their_own)
{
    const char *path = files_path(files_directory(), "w.xqw");
    xqw_contents c = contents(TENSOR_F16);
    c.specs[0] = cross_spec;
    c.specs[1] = spec;
    c.base_layer = 7;
    xqw_writer *w = created(path, &c);
    add(w, &layer);
    add(w, &cross_layer);
    commit(w);
    xqw *x = opened(path);
    layer_weights before, base;
    error err = ERROR_INIT;
    cr_assert_eq(xqw_base_layer(x), 7);
    cr_assert(strstr(xqw_spec(x), "x-cl") && strstr(xqw_layer_spec(x, 7), "x-cl"));
    cr_assert(strstr(xqw_layer_spec(x, 2), "latent"));
    cr_assert_eq(xqw_layer(x, 2, &before, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(xqw_layer(x, 7, &base, &err), XQ_OK, "%s", err.message);
    cr_assert(before.uk && !before.wk && base.wk && !base.uk && base.wv[1] == 4);
    layer_weights_free(&before);
    layer_weights_free(&base);
    xqw_close(x);
}

Test(xqw, an_absent_layer_is_named)
{
    const char *path = written(TENSOR_F32);
    xqw *x = opened(path);
    layer_weights w;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_layer(x, 3, &w, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected,
             "%s: holds no layer 3; it has 2 layers of 8 (`xq prepare --layers`)", path);
    cr_assert_str_eq(err.message, expected);
    cr_assert_str_eq(err.field, "layer");
    xqw_close(x);
}

Test(xqw, another_shape_than_needed_is_named)
{
    const char *path = written(TENSOR_F32);
    xqw *x = opened(path);
    layer_shape own, other;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(layer_shape_read(spec, &own, &err), XQ_OK);
    cr_assert_eq(xqw_expect(x, 7, &own, &err), XQ_OK);
    other = own;
    other.rank_k = 4;
    cr_assert_eq(xqw_expect(x, 7, &other, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s: layer 7 is prepared for rank_k 3, not 4; run `xq prepare` for it", path);
    cr_assert_str_eq(err.message, expected);
    err = (error)ERROR_INIT;
    other = own;
    other.method = LAYER_LATENT_CL;
    cr_assert_eq(xqw_expect(x, 2, &other, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s: layer 2 is prepared for method latent, not latent-cl; run `xq prepare` for it", path);
    cr_assert_str_eq(err.message, expected);
    xqw_close(x);
}

/* ----------------------------------------------------------------- damage */

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

static void put(char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (char)(value >> 8 * i);
}

static uint64_t get(const char *at)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | (uint8_t)at[i];
    return value;
}

static void mend_prefix(char *data)
{
    put(data + XQW_AT_HASH, XXH3_64bits(data, XQW_AT_HASH));
}

Test(xqw, every_kind_of_damage_is_named)
{
    const char *path = written(TENSOR_F32), *bad = files_path(files_directory(), "bad.xqw");
    size_t size;
    char *data = files_read(path, &size), text[256];
    open_refused(bad, data, 0, "not an .xqw file; `xq prepare` writes them");
    open_refused(bad, "safetensors?", 12, "not an .xqw file; `xq prepare` writes them");
    open_refused(bad, data, 20, "truncated: 20 bytes");
    snprintf(text, sizeof text, "truncated: %zu bytes of %zu", size - 1, size);
    open_refused(bad, data, size - 1, text);
    data[XQW_AT_BYTES] ^= 1;
    open_refused(bad, data, size, "damaged: the checksum of its beginning does not match");
    put(data + XQW_AT_BYTES, size - 4);
    mend_prefix(data);
    snprintf(text, sizeof text, "damaged: %zu bytes, more than its %zu", size, size - 4);
    open_refused(bad, data, size, text);
    open_refused(bad, data, size - 4, "truncated: layer 7 is not whole");
    put(data + XQW_AT_BYTES, 0);
    mend_prefix(data);
    open_refused(bad, data, size, "unfinished: the same `xq prepare` command goes on with it");
    put(data + XQW_AT_BYTES, size);
    mend_prefix(data);
    data[256 + 40] ^= 1;
    open_refused(bad, data, size, "damaged: the checksum of the head does not match");
    free(data);
}

Test(xqw, other_versions_are_refused_by_number)
{
    const char *path = written(TENSOR_F16), *bad = files_path(files_directory(), "bad.xqw");
    size_t size;
    char *data = files_read(path, &size), text[128];
    for (int version = 0; version < 6; version++) {
        if (version == XQW_VERSION)
            continue;
        data[XQW_AT_VERSION] = (char)version;
        snprintf(text, sizeof text, "version %d; this xq reads version 3: run `xq prepare` again", version);
        open_refused(bad, data, size, text);
    }
    free(data);
}

Test(xqw, a_damaged_matrix_is_named_when_it_is_read)
{
    const char *path = written(TENSOR_F32), *bad = files_path(files_directory(), "bad.xqw");
    size_t size;
    char *data = files_read(path, &size), expected[512];
    layer_weights w;
    error err = ERROR_INIT;
    data[size - 1] ^= 64; /* the last vector of layer 7 */
    files_write(bad, data, size);
    xqw *x = opened(bad);
    cr_assert_eq(xqw_layer(x, 2, &w, &err), XQ_OK, "%s", err.message);
    layer_weights_free(&w);
    cr_assert_eq(xqw_layer(x, 7, &w, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: damaged: the checksum of layer 7's bv does not match", bad);
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

/* The last record whose text has `from`; checksums that are right tell records. */
static char *find_record(char *data, size_t size, const char *from)
{
    char *found = NULL;
    for (size_t at = XQW_ALIGN; at + XQW_RECORD_BYTES < size; at += XQW_ALIGN) {
        uint64_t length = get(data + at);
        const char *text = data + at + XQW_RECORD_BYTES;
        if (length < size - at - XQW_RECORD_BYTES && XXH3_64bits(text, length) == get(data + at + 8) &&
            memmem(text, length, from, strlen(from)))
            found = data + at;
    }
    cr_assert_not_null(found, "%s", from);
    return found;
}

/* The file with one text of a record replaced by another of the same length, its checksum made right. */
static void forged(const char *path, const char *from, const char *to, const char *message)
{
    char bad[512];
    size_t size;
    snprintf(bad, sizeof bad, "%s.forged", path);
    char *data = files_read(path, &size), *record = find_record(data, size, from);
    char *text = record + XQW_RECORD_BYTES;
    cr_assert_eq(strlen(from), strlen(to), "%s", to);
    memcpy(memmem(text, get(record), from, strlen(from)), to, strlen(to));
    put(record + 8, XXH3_64bits(text, get(record)));
    open_refused(bad, data, size, message);
    free(data);
}

Test(xqw, a_record_that_points_elsewhere_is_refused)
{
    const char *path = written(TENSOR_F32);
    size_t size;
    char *data = files_read(path, &size), from[64], to[64];
    const char *uk_at = strstr(find_record(data, size, "\"layer\":7") + XQW_RECORD_BYTES, "\"offset\":");
    snprintf(from, sizeof from, "%.13s", uk_at); /* of four digits */
    forged(path, from, "\"offset\":9999", "damaged: layer 7's uk is not within the file");
    forged(path, from, "\"offset\":-156", "damaged: layer 7's uk is not within the file");
    forged(path, from, "\"offset\":99e9", "damaged: layer 7's uk is not within the file");
    forged(path, "\"type\":\"F32\"", "\"type\":\"I64\"", "damaged: layer 7's uk is not within the file");
    forged(path, "\"rows\":2,\"cols\":3", "\"rows\":9e8,\"co\":3",
           "layer 7's uk is [900000000, 0], needs [2, 3]");
    snprintf(from, sizeof from, "\"end\":%zu", size);
    snprintf(to, sizeof to, "\"end\":%zu", size + 1);
    forged(path, from, to, "truncated: layer 7 is not whole");
    snprintf(to, sizeof to, "\"end\":%zu", size - 1);
    forged(path, from, to, "damaged: layer 7's bv is not within the file");
    forged(path, "\"layer\":7", "\"layer\":[", "damaged: layer 7 is no JSON object");
    forged(path, "\"layer\":7", "\"layer\":6",
           "damaged: what stands where layer 7 should be is another record");
    forged(path, "\"lost_v\"", "\"last_v\"",
           "damaged: what stands where layer 7 should be is another record");
    free(data);
}

/* All or nothing: a layer that lacks a matrix, has one twice, of another shape, or one too many. */
Test(xqw, an_incomplete_layer_is_refused)
{
    const char *path = written(TENSOR_F32);
    forged(path, "\"name\":\"uk\"", "\"name\":\"ak\"", "layer 7 holds uk 0 times, needs it once");
    forged(path, "\"name\":\"uv\"", "\"name\":\"av\"", "layer 7 holds uv 0 times, needs it once");
    forged(path, "\"name\":\"bv\"", "\"name\":\"bw\"", "layer 7 holds bv 0 times, needs it once");
    forged(path, "\"rows\":2,\"cols\":3", "\"rows\":3,\"cols\":2", "layer 7's uk is [3, 2], needs [2, 3]");
    forged(path, "\"name\":\"uk\"", "\"name\":\"\\n\"", "layer 7 holds uk 0 times, needs it once");
}

Test(xqw, a_head_that_makes_no_sense_is_refused)
{
    const char *path = written(TENSOR_F32);
    forged(path, "\"rank_k\":3", "\"rank_k\":2", "layer 2's uk is [2, 3], needs [2, 2]");
    forged(path, "\"method\":\"latent\"", "\"method\":\"latant\"", "the head holds no usable spec");
    forged(path, "\"methods\":[", "\"methodz\":[", "the head holds no usable spec");
    forged(path, "\"layers\":[2,7]", "\"layers\":[7,2]", "the head lists no ascending layers");
    forged(path, "\"layers\":[2,7]", "\"layers\":[2,2]", "the head lists no ascending layers");
    forged(path, "\"layers\":[2,7]", "\"layers\":[-,7]", "damaged: the head is no JSON object");
    forged(path, "\"layers\":[2,7]", "\"layers\":[]   ", "the head lists no layers");
    forged(path, "\"layers\":[2,7]", "\"layers\":[2]  ", "damaged: it goes on behind its last layer");
    forged(path, "\"layers\":[2,7]", "\"layers\":[2,8]",
           "damaged: what stands where layer 8 should be is another record");
    forged(path, "\"store\":\"F32\"", "\"stove\":\"F32\"",
           "the head promises neither matrices nor packed weights");
    forged(path, "\"attention_bias\":true", "\"attention_bias\":null",
           "layer 2 holds matrices that method latent has no use for");
}

/* ------------------------------------------------------------------ packed */

/* One layer of hidden size and width 64, packed alone. */
static const char *packed_file(const char *completed)
{
    static float projection[64 * 64];
    static const int first[1] = {0};
    const layer_weights weights = {.wk = projection, .wv = projection};
    const char *path = files_path(files_directory(), "packed.xqw");
    xqw_contents c = {
        .specs = {completed}, .layers = first, .layer_count = 1, .store = TENSOR_OTHER, .packed = true};
    for (int i = 0; i < 64 * 64; i++)
        projection[i] = (float)(i % 97) / 97;
    xqw_writer *w = created(path, &c);
    add(w, &weights);
    commit(w);
    return path;
}

Test(xqw, packed_weights_that_are_damaged_never_pass_unseen)
{
    char *completed = generator_complete("{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 1, "
                                         "\"head_dim\": 64}, \"cache\": {\"method\": "
                                         "\"x\", \"rotation\": false}, \"weights\": \"int8\"}");
    const char *path = packed_file(completed), *bad = files_path(files_directory(), "bad.xqw");
    size_t size, bytes, expected_bytes;
    char *data = files_read(path, &size);
    const void *packed, *expected;
    error err = ERROR_INIT;
    xqw *good = opened(path), *x;
    cr_assert_eq(xqw_packed(good, 0, completed, true, &expected, &expected_bytes, &err), XQ_OK, "%s",
                 err.message);
    for (size_t n = 0; n < size; n += 3) {
        data[n] ^= 2;
        files_write(bad, data, size);
        data[n] ^= 2;
        err = (error)ERROR_INIT;
        if (xqw_open(bad, &x, &err) != XQ_OK)
            continue;
        if (xqw_packed(x, 0, completed, true, &packed, &bytes, &err) == XQ_OK)
            cr_assert(bytes == expected_bytes && memcmp(packed, expected, bytes) == 0, "bit flipped at %zu",
                      n);
        xqw_close(x);
    }
    xqw_close(good);
    forged(path, "\"packed\":{\"offset\":", "\"packed\":{\"offzet\":",
           "damaged: layer 0's packed weights are not within the file");
    forged(path, "\"weights\":\"int8\"", "\"weightz\":\"int8\"", "the head holds no usable spec");
    free(completed);
    free(data);
}

/* ---------------------------------------------------------------- writing */

static void refused(const layer_weights *weights, const char *message)
{
    const char *directory = files_directory(), *path = files_path(directory, "w.xqw");
    const xqw_contents c = contents(TENSOR_F16);
    xqw_writer *w = created(path, &c);
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_add_layer(w, weights, lost, &err), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    cr_assert_str_eq(err.message, expected);
    xqw_abandon(w);
    cr_assert_eq(files_count(directory), 0);
}

Test(xqw, what_a_file_cannot_hold_is_refused_and_nothing_is_left)
{
    float large[2] = {1, 7e4f}, nan[2] = {NAN, 1}, infinite[1] = {INFINITY};
    layer_weights bad = layer;
    bad.av = NULL;
    refused(&bad, "layer 2: av is missing");
    bad = layer;
    bad.uv = large;
    refused(&bad, "layer 2: uv holds 70000 at index 1; valid are finite values up to 65504 in size");
    bad.uv = nan;
    refused(&bad, "layer 2: uv holds nan at index 0; valid are finite values up to 65504 in size");
    bad = layer;
    bad.bv = infinite;
    refused(&bad, "layer 2: bv holds inf at index 0; valid are finite values");
}

Test(xqw, a_file_without_all_its_layers_does_not_appear)
{
    const char *path = files_path(files_directory(), "w.xqw");
    const xqw_contents c = contents(TENSOR_F16);
    xqw_writer *w = created(path, &c);
    error err = ERROR_INIT;
    add(w, &layer);
    cr_assert_eq(xqw_commit(w, &err), XQ_ERROR_INTERNAL);
    cr_assert_eq(fopen(path, "rb"), NULL);
}

Test(xqw, a_folder_is_no_place_for_a_file)
{
    const char *directory = files_directory();
    const xqw_contents c = contents(TENSOR_F16);
    xqw_writer *w;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(xqw_create(directory, &c, &w, &err), XQ_ERROR_IO);
    snprintf(expected, sizeof expected, "cannot write %s: Is a directory", directory);
    cr_assert_str_eq(err.message, expected);
}

/* --------------------------------------------------------------- resuming */

/* A writer that has done `done` layers is left as a kill leaves it. */
static const char *left(const xqw_contents *c, int done)
{
    const char *path = files_path(files_directory(), "w.xqw");
    xqw_writer *w = created(path, c);
    for (int i = 0; i < done; i++)
        add(w, &layer);
    xqw_keep(w);
    return path;
}

static void assert_same(const char *path, const char *other)
{
    size_t size, other_size;
    char *data = files_read(path, &size), *other_data = files_read(other, &other_size);
    cr_assert_eq(size, other_size);
    cr_assert_eq(memcmp(data, other_data, size), 0);
    free(data);
    free(other_data);
}

Test(xqw_resume, goes_on_behind_the_layers_that_are_done)
{
    for (int done = 0; done <= 2; done++) {
        const xqw_contents c = contents(TENSOR_F16);
        const char *whole = written(TENSOR_F16), *path = left(&c, done);
        char note[4300];
        double kept[2];
        xqw_writer *w = created(path, &c);
        cr_assert_eq(xqw_done(w), done);
        snprintf(note, sizeof note, "%s.partial: %d of 2 layers are done", path, done);
        cr_assert_str_eq(xqw_note(w), note);
        for (int i = done; i < 2; i++)
            add(w, &layer);
        xqw_lost(w, 0, kept);
        cr_assert(kept[0] == lost[0] && kept[1] == lost[1]);
        commit(w);
        assert_same(path, whole);
    }
}

/* However it was cut or damaged: what is kept is whole, and the file that comes of it the same. */
Test(xqw_resume, cut_or_damaged_anywhere_it_ends_in_the_same_file)
{
    const xqw_contents c = contents(TENSOR_BF16);
    const char *whole = written(TENSOR_BF16), *path = left(&c, 2);
    char name[4300];
    size_t size;
    snprintf(name, sizeof name, "%s.partial", path);
    char *data = files_read(name, &size);
    for (size_t n = 0; n < 2 * size; n += 37) {
        bool cut = n < size;
        if (!cut)
            data[n - size] ^= 4;
        files_write(name, data, cut ? n : size);
        if (!cut)
            data[n - size] ^= 4;
        xqw_writer *w = created(path, &c);
        while (xqw_done(w) < 2)
            add(w, &layer);
        commit(w);
        assert_same(path, whole);
    }
    free(data);
}

/* The first kept layer is that of contents c; other contents must not take it. */
static void starts_anew(const xqw_contents *other, const char *why)
{
    const xqw_contents c = contents(TENSOR_F16);
    const char *path = left(&c, 1);
    char note[4400];
    xqw_writer *w = created(path, other);
    cr_assert_eq(xqw_done(w), 0);
    snprintf(note, sizeof note, "%s.partial: it is of another command (%s); starting anew", path, why);
    cr_assert_str_eq(xqw_note(w), note);
    xqw_abandon(w);
}

Test(xqw_resume, another_command_starts_anew_and_says_why)
{
    static const int others[] = {2, 8};
    static const char plain[] =
        MODEL "\"method\":\"latent\",\"bits\":4,\"groups\":1,\"rank_k\":2,\"rank_v\":1}}";
    xqw_contents c = contents(TENSOR_BF16);
    starts_anew(&c, "another type of matrices");
    c = contents(TENSOR_F16);
    c.source++;
    starts_anew(&c, "other weights of the model");
    c = contents(TENSOR_F16);
    c.layers = others;
    starts_anew(&c, "other layers");
    c = contents(TENSOR_F16);
    c.specs[0] = plain;
    starts_anew(&c, "another method, or other options of it");
    c = contents(TENSOR_F16);
    c.specs[1] = cross_spec;
    c.base_layer = 1;
    starts_anew(&c, "another method, or other options of it");
}

Test(xqw_resume, what_is_no_unfinished_file_is_written_over)
{
    const xqw_contents c = contents(TENSOR_F16);
    const char *whole = written(TENSOR_F16), *path = left(&c, 1);
    char name[4300], note[4400];
    snprintf(name, sizeof name, "%s.partial", path);
    files_write(name, "something else", 14);
    xqw_writer *w = created(path, &c);
    snprintf(note, sizeof note, "%s: not an .xqw file; `xq prepare` writes them; starting anew", name);
    cr_assert_str_eq(xqw_note(w), note);
    add(w, &layer);
    add(w, &layer);
    commit(w);
    assert_same(path, whole);
}

Test(xqw_resume, two_writers_at_once_do_not_meet)
{
    const xqw_contents c = contents(TENSOR_F16);
    const char *whole = written(TENSOR_F16), *directory = files_directory(),
               *path = files_path(directory, "w.xqw");
    char note[4400];
    xqw_writer *first = created(path, &c), *second = created(path, &c);
    cr_assert_str_eq(xqw_note(first), "");
    snprintf(note, sizeof note, "%s: another process prepares it now; this one cannot be resumed", path);
    cr_assert_str_eq(xqw_note(second), note);
    add(first, &layer);
    add(second, &layer);
    add(second, &layer);
    commit(second);
    assert_same(path, whole);
    xqw_writer *third = created(path, &c); /* the first still has PATH.partial */
    cr_assert_eq(xqw_done(third), 0);
    xqw_keep(third);
    add(first, &layer);
    commit(first);
    assert_same(path, whole);
    cr_assert_eq(files_count(directory), 1);
}
