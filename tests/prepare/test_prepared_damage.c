/* Tests files of prepared weights that are damaged, forged or of another kind: each is refused, and the
 * error names what is wrong. */
#include "../../prepare/safetensors.h"
#include "../../runtime/base/publish.h"
#include "../support/files.h"
#include "../support/generator.h"
#include "sample_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

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

Test(prepared_damage, every_kind_of_damage_is_named)
{
    const char *path = sample_written(TENSOR_F32), *bad = files_path(files_directory(), "bad.safetensors");
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

Test(prepared_damage, what_a_killed_writer_leaves_is_called_unfinished)
{
    const prepared_contents c = sample_contents(TENSOR_F32);
    const char *path = files_path(files_directory(), "w.safetensors");
    char partial[4300];
    size_t size;
    prepared_writer *w = sample_create(path, &c);
    sample_add(w, &sample_layer);
    prepared_keep(w);
    snprintf(partial, sizeof partial, "%s.partial", path);
    char *data = files_read(partial, &size);
    open_refused(partial, data, size, "unfinished; run the same `xq prepare` command to complete it");
    free(data);
}

Test(prepared_damage, files_of_other_kinds_and_versions_are_refused_with_what_to_do)
{
    const char *path = sample_written(TENSOR_F16), *bad = files_path(files_directory(), "bad.safetensors");
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

Test(prepared_damage, a_damaged_tensor_is_named_when_it_is_read)
{
    const char *path = sample_written(TENSOR_F32), *bad = files_path(files_directory(), "bad.safetensors");
    size_t size;
    char *data = files_read(path, &size), expected[512];
    layer_weights w;
    double kept[2];
    error err = ERROR_INIT;
    data[size - 21] ^= 64; /* in bv of layer 7, which 4 bytes of padding and the losses follow */
    data[size - 1] ^= 64;
    files_write(bad, data, size);
    prepared_file *x = sample_open(bad);
    cr_assert_eq(prepared_file_layer(x, 2, &w, &err), XQ_OK, "%s", err.message);
    layer_weights_free(&w);
    cr_assert_eq(prepared_file_layer(x, 7, &w, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: damaged: the checksum of tensor layers.7.bv does not match",
             bad);
    cr_assert_str_eq(err.message, expected);
    cr_assert_str_eq(err.field, "layers.7.bv");
    err = (error)ERROR_INIT;
    cr_assert_eq(sample_read_lost(x, 7, kept, &err), XQ_ERROR_FORMAT);
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
    cr_assert(memcmp(w.uk, sample_layer.uk, 6 * sizeof *w.uk) == 0 &&
                  memcmp(w.uv, sample_layer.uv, 2 * sizeof *w.uv) == 0 &&
                  w.ak[2] == sample_stored(TENSOR_F16, sample_layer.ak[2]) &&
                  w.av[0] == sample_layer.av[0] && w.bk[0] == sample_layer.bk[0] &&
                  w.bv[0] == sample_layer.bv[0],
              "bit flipped at %zu", at);
    layer_weights_free(&w);
}

Test(prepared_damage, truncation_and_flipped_bits_anywhere_never_pass_unseen)
{
    const char *path = sample_written(TENSOR_F16), *bad = files_path(files_directory(), "bad.safetensors");
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
Test(prepared_damage, a_forged_header_never_crashes_the_reader)
{
    const char *path = sample_written(TENSOR_F16), *bad = files_path(files_directory(), "bad.safetensors");
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
Test(prepared_damage, an_incomplete_layer_is_refused)
{
    const char *path = sample_written(TENSOR_F32);

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

Test(prepared_damage, metadata_that_make_no_sense_are_refused_by_key)
{
    const char *path = sample_written(TENSOR_F32);
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

Test(prepared_damage, metadata_of_two_methods_must_agree)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    sample_write_two_methods(path, TENSOR_F32);
    forged(path, "\"base_layer\":\"7\"", "\"base_layer\":\"x\"",
           "__metadata__.base_layer is no layer of the model");
    forged(path, "\"plain_spec\":", "\"plane_spec\":", "__metadata__.plain_spec is missing");
    forged(path, "\"base_layer\":\"7\"", "\"base_layer\":\"8\"",
           "there is no tensor layers.7.uk, which its spec needs");
    forged(path, "\"base_layer\":\"7\"", "\"base_loyer\":\"7\"",
           "there is no tensor layers.2.wk, which its spec needs");
}

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
    prepared_writer *w = sample_create(path, &c);
    sample_add(w, &weights);
    sample_commit(w);
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

Test(prepared_damage, packed_weights_that_are_damaged_never_pass_unseen)
{
    char *completed = generator_complete("{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 1, "
                                         "\"head_dim\": 64}, \"cache\": {\"method\": \"x\", "
                                         "\"rotation\": false}, \"weights\": \"int8\"}");
    const char *path = packed_file(completed), *bad = files_path(files_directory(), "bad.safetensors");
    size_t size, bytes, expected_bytes;
    char *data = files_read(path, &size);
    const void *packed, *expected;
    error err = ERROR_INIT;
    prepared_file *good = sample_open(path), *x;
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
