#include "../../prepare/safetensors.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Writes a file with this header, followed by `data` bytes 0, 1, 2, ... */
static const char *file_with(const char *header, size_t data)
{
    const char *path = files_path(files_directory(), "t.safetensors");
    size_t length = strlen(header);
    unsigned char *bytes = calloc(1, 8 + length + data);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((unsigned long long)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++)
        bytes[8 + length + i] = (unsigned char)i;
    files_write(path, bytes, 8 + length + data);
    free(bytes);
    return path;
}

/* Opening the file must fail with one line: the path, then `message`. */
static void refused(const char *path, const char *message)
{
    safetensors *s = NULL;
    error err = ERROR_INIT;
    char expected[1200];
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_ERROR_FORMAT, "opened, or failed otherwise: %s",
                 err.message);
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    cr_assert_str_eq(err.message, expected);
    cr_assert_null(s);
}

Test(safetensors, what_is_written_is_read_back)
{
    const char *directory = files_directory(), *path = files_path(directory, "out.safetensors");
    float f32[6] = {1, 2, 3, 4, 5, -0.5f};
    unsigned short f16[2] = {0x3c00, 0xc000}, bf16[2] = {0x3f80, 0x4049};
    double f64[1] = {1.0 / 3};
    tensor tensors[] = {
        {.name = "b", .type = TENSOR_F32, .rank = 2, .shape = {2, 3}, .data = f32, .bytes = sizeof f32},
        {.name = "a", .type = TENSOR_F16, .rank = 1, .shape = {2}, .data = f16, .bytes = sizeof f16},
        {.name = "c", .type = TENSOR_BF16, .rank = 1, .shape = {2}, .data = bf16, .bytes = sizeof bf16},
        {.name = "d \"quoted\"", .type = TENSOR_F64, .rank = 0, .data = f64, .bytes = sizeof f64},
        {.name = "empty", .type = TENSOR_F32, .rank = 2, .shape = {0, 7}, .data = f32, .bytes = 0},
    };
    safetensors *s;
    const tensor *t;
    float *values;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_write(path, tensors, 5, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(files_count(directory), 1, "a temporary file stayed behind");
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(safetensors_count(s), 5);

    cr_assert_eq(safetensors_need(s, "b", &t, &err), XQ_OK);
    cr_assert(t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3);
    cr_assert_eq(tensor_to_floats(t, 1, &values, &err), XQ_OK);
    cr_assert_eq(memcmp(values, f32, sizeof f32), 0);
    free(values);
    cr_assert_eq(tensor_to_floats(safetensors_find(s, "a"), 1, &values, &err), XQ_OK);
    cr_assert(values[0] == 1 && values[1] == -2);
    free(values);
    cr_assert_eq(tensor_to_floats(safetensors_find(s, "c"), 1, &values, &err), XQ_OK);
    cr_assert(values[0] == 1 && values[1] == 3.140625f);
    free(values);
    cr_assert_eq(tensor_to_floats(safetensors_find(s, "d \"quoted\""), 1, &values, &err), XQ_OK);
    cr_assert_eq(values[0], (float)(1.0 / 3));
    free(values);
    safetensors_close(s);
}

Test(safetensors, reads_the_layout_of_the_format_description)
{
    const char *path = file_with("{\"__metadata__\":{\"k\":\"v\"},\"x\":{\"dtype\":\"I8\",\"shape\":[2,2],"
                                 "\"data_offsets\":[0,4]}}   ",
                                 4);
    safetensors *s;
    float *values;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_OK, "%s", err.message);
    const tensor *t = safetensors_find(s, "x");
    cr_assert_eq(((const unsigned char *)t->data)[3], 3);
    cr_assert_eq(tensor_to_floats(t, 0, &values, &err), XQ_ERROR_FORMAT);
    cr_assert(strstr(err.message, "tensor x has type I8, needs F32, F16, BF16 or F64"), "%s", err.message);
    safetensors_close(s);
}

#define X(offsets, shape) "{\"x\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

Test(safetensors, refuses_a_truncated_file)
{
    const char *path = files_path(files_directory(), "short");
    files_write(path, "abc", 3);
    refused(path, "truncated: 3 bytes are no safetensors file");
    files_write(path, "", 0);
    refused(path, "truncated: 0 bytes are no safetensors file");
    files_write(path, "\x20\0\0\0\0\0\0\0{}", 10);
    refused(path, "truncated: the header has 32 bytes, and the file has 10");
    refused(file_with(X("[0,16]", "[4]"), 15),
            "tensor x ends at byte 16 of 15: the file is truncated or damaged");
}

Test(safetensors, truncation_at_any_byte_is_an_error)
{
    const char *header = "{\"x\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
    size_t size;
    char *whole = files_read(file_with(header, 4), &size);
    const char *path = files_path(files_directory(), "cut");
    for (size_t n = 0; n < size; n++) {
        safetensors *s;
        error err = ERROR_INIT;
        files_write(path, whole, n);
        cr_assert_eq(safetensors_open(path, &s, &err), XQ_ERROR_FORMAT, "%zu bytes", n);
        cr_assert(!strchr(err.message, '\n') && strstr(err.message, path));
    }
    free(whole);
}

/* Random bytes are changed. Opening the file, and reading what opened, must succeed or fail with one
 * line. */
Test(safetensors, a_damaged_file_never_crashes_the_reader)
{
    const char *header =
        "{\"__metadata__\":{\"k\":\"v\"},\"x\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
        "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}";
    const char *path = files_path(files_directory(), "damaged");
    size_t size;
    char *data = files_read(file_with(header, 16), &size);
    srand48(7);
    for (int round = 0; round < 3000; round++) {
        char *copy = malloc(size);
        memcpy(copy, data, size);
        for (int i = 1 + (int)(lrand48() % 3); i > 0; i--)
            copy[lrand48() % (long)size] = (char)"\"{}[]:,0189-F\\\377"[lrand48() % 16];
        files_write(path, copy, size);
        free(copy);
        safetensors *s;
        error err = ERROR_INIT;
        if (safetensors_open(path, &s, &err) != XQ_OK) {
            cr_assert(strstr(err.message, path) && !strchr(err.message, '\n'), "%s", err.message);
            continue;
        }
        for (int i = 0; i < safetensors_count(s); i++) {
            float *values = NULL;
            error_clear(&err);
            tensor_to_floats(safetensors_at(s, i), 0, &values, &err);
            free(values);
        }
        safetensors_close(s);
    }
    free(data);
}

Test(safetensors, refuses_a_header_that_is_too_large)
{
    const char *path = files_path(files_directory(), "huge");
    files_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    refused(path, "the header has 18446744073709551615 bytes, and at most 100000000 are allowed; is this a "
                  "safetensors file?");
}

/* The place in the header stands after the path. */
static void refused_at(const char *path, const char *place_and_message)
{
    safetensors *s = NULL;
    error err = ERROR_INIT;
    char expected[1200];
    snprintf(expected, sizeof expected, "%s:%s", path, place_and_message);
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_ERROR_FORMAT, "opened, or failed otherwise: %s",
                 err.message);
    cr_assert_eq(strncmp(err.message, expected, strlen(expected)), 0, "%s", err.message);
    cr_assert_str_eq(err.stage, "file");
    cr_assert_null(s);
}

Test(safetensors, refuses_a_header_that_is_no_object)
{
    refused(file_with("[1,2]", 0),
            "the header does not begin with '{', as the header of a safetensors file does");
    refused(file_with(" {}", 0),
            "the header does not begin with '{', as the header of a safetensors file does");
    refused_at(file_with("{\"x\":", 0), "1:6: malformed JSON: it ends too early");
    refused_at(file_with("{} {}", 0), "1:4: malformed JSON: nothing more is expected");
    refused_at(file_with("", 0), "1:1: malformed JSON: it ends too early");
    refused_at(file_with("{\n\"x\" 1}", 0), "2:5: malformed JSON: ':' is expected");
}

/* A reader that takes one of two values, or only a part of a name, would read another file than was
 * written. */
Test(safetensors, refuses_what_strict_json_refuses)
{
#define REST "\"shape\":[1],\"data_offsets\":[0,4]}}"
    refused_at(file_with("{\"x\":{\"dtype\":\"F32\",\"dtype\":\"I32\"," REST, 4),
               "1:21: dtype: given twice in one JSON object");
    refused_at(file_with("{\"x\":{\"dtype\":\"F32\",\"shape\":[1]," REST, 4), "1:33: shape: given twice");
    refused_at(file_with("{\"x\\u0000y\":{\"dtype\":\"F32\"," REST, 4),
               "1:4: a string has a NUL character");
    refused_at(file_with("{\"x\xff\":{\"dtype\":\"F32\"," REST, 4), "1:4: byte ff is not UTF-8");
    refused_at(file_with("{\"x\":{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}}", 4), "1:31: ");
    refused_at(file_with("{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}", 0), "1:26: k: given twice");
    refused(file_with("{\"__metadata__\":{\"k\":1}}", 0), "__metadata__ has a value that is not a text: k");
    refused(file_with("{\"__metadata__\":[]}", 0), "__metadata__ is not an object");
}

Test(safetensors, refuses_offsets_that_do_not_fit)
{
    refused(file_with(X("[0,8]", "[4]"), 8), "tensor x has 8 bytes, its type and shape need 16");
    refused(file_with(X("[16,0]", "[4]"), 16),
            "tensor x needs \"data_offsets\": [begin, end] with begin <= end");
    refused(file_with(X("[-4,12]", "[4]"), 16),
            "tensor x needs \"data_offsets\": [begin, end] with begin <= end");
    refused(file_with(X("[0.5,16.5]", "[4]"), 17),
            "tensor x needs \"data_offsets\": [begin, end] with begin <= end");
    refused(file_with(X("[4,20]", "[4]"), 20), "tensor x begins at byte 4, after a gap");
    refused(file_with(X("[0,16]", "[4]"), 20), "4 bytes follow the last tensor");
}

Test(safetensors, refuses_overlapping_tensors)
{
    refused(file_with("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                      "\"y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
                      12),
            "tensor y overlaps tensor x");
}

Test(safetensors, refuses_duplicate_names)
{
    refused_at(file_with("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                         "\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                         8),
               "1:55: x: given twice in one JSON object");
}

Test(safetensors, refuses_shapes_and_types_it_cannot_hold)
{
    refused(file_with(X("[0,16]", "[4294967296,4294967296]"), 16),
            "tensor x has a \"shape\" larger than its file");
    refused(file_with(X("[0,16]", "[-4]"), 16),
            "tensor x has a \"shape\" with something other than whole numbers");
    refused(file_with(X("[0,16]", "4"), 16), "tensor x needs a \"shape\" of at most 8 numbers");
    refused(file_with("{\"x\":{\"dtype\":12,\"shape\":[1],\"data_offsets\":[0,4]}}", 4),
            "tensor x needs a \"dtype\", a text");
    refused(file_with("{\"x\":[]}", 0), "tensor x is not described by an object");
}

/* Two elements of this tensor share a byte. */
Test(safetensors, a_tensor_of_an_unknown_type_matters_only_where_it_is_read)
{
    safetensors *s;
    error err = ERROR_INIT;
    float *values = NULL;
    const char *path = file_with("{\"odd\":{\"dtype\":\"F4\",\"shape\":[8],\"data_offsets\":[0,4]},"
                                 "\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                                 8);
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(tensor_to_floats(safetensors_find(s, "x"), 0, &values, &err), XQ_OK, "%s", err.message);
    free(values);
    cr_assert_eq(tensor_to_floats(safetensors_find(s, "odd"), 0, &values, &err), XQ_ERROR_FORMAT);
    cr_assert(strstr(err.message, "tensor odd has type F4, needs F32, F16, BF16 or F64"), "%s",
              err.message);
    safetensors_close(s);
}

/* Opening the FIFO would wait for a writer that never comes. */
Test(safetensors, a_fifo_is_refused_at_once, .timeout = 10)
{
    const char *path = files_path(files_directory(), "pipe.safetensors");
    cr_assert_eq(mkfifo(path, 0600), 0);
    safetensors *s = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_ERROR_IO);
    cr_assert(strstr(err.message, "no regular file"), "%s", err.message);
}

Test(safetensors, names_a_missing_file_and_a_missing_tensor)
{
    safetensors *s;
    const tensor *t;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_open("/nonexistent/m.safetensors", &s, &err), XQ_ERROR_IO);
    cr_assert_str_eq(err.message, "cannot read /nonexistent/m.safetensors: No such file or directory");
    error_clear(&err);
    const char *path = file_with(X("[0,16]", "[4]"), 16);
    char expected[512];
    cr_assert_eq(safetensors_open(path, &s, &err), XQ_OK);
    cr_assert_eq(safetensors_need(s, "wk", &t, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s: there is no tensor wk among its 1", path);
    cr_assert_str_eq(err.message, expected);
    cr_assert_str_eq(err.field, "wk");
    safetensors_close(s);
}

Test(safetensors, wrong_shape_names_found_and_needed)
{
    tensor t = {.name = "wk", .type = TENSOR_F32, .rank = 2, .shape = {3, 64}, .file = "in.safetensors"};
    int64_t right[2] = {-1, 64}, wrong[2] = {-1, 128};
    error err = ERROR_INIT;
    cr_assert_eq(tensor_expect_shape(&t, 2, right, &err), XQ_OK);
    cr_assert_eq(tensor_expect_shape(&t, 2, wrong, &err), XQ_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "in.safetensors: tensor wk has shape [3, 64], needs [any, 128]");
}

Test(safetensors, nan_and_infinity_are_refused_by_index)
{
    unsigned short values[3] = {0x3c00, 0x3c00, 0x7e00};
    float *floats;
    tensor t = {
        .name = "wv", .type = TENSOR_F16, .rank = 1, .shape = {3}, .data = values, .bytes = 6, .file = "m"};
    error err = ERROR_INIT;
    cr_assert_eq(tensor_to_floats(&t, 1, &floats, &err), XQ_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "m: tensor wv holds NaN at index 2; every value must be finite");
    error_clear(&err);
    values[1] = 0xfc00;
    cr_assert_eq(tensor_to_floats(&t, 1, &floats, &err), XQ_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "m: tensor wv holds an infinity at index 1; every value must be finite");
    error_clear(&err);
    cr_assert_eq(tensor_to_floats(&t, 0, &floats, &err), XQ_OK);
    free(floats);
}

Test(safetensors, a_number_beyond_f32_is_no_infinity)
{
    double values[2] = {-1e300, INFINITY};
    float *floats;
    tensor t = {.name = "wk",
                .type = TENSOR_F64,
                .rank = 1,
                .shape = {2},
                .data = values,
                .bytes = 16,
                .file = "m"};
    error err = ERROR_INIT;
    cr_assert_eq(tensor_to_floats(&t, 1, &floats, &err), XQ_ERROR_FORMAT);
    cr_assert_str_eq(err.message,
                     "m: tensor wk holds -1e+300 at index 0, beyond the range of F32; valid: values "
                     "up to 3.40282e+38");
    error_clear(&err);
    values[0] = 1;
    cr_assert_eq(tensor_to_floats(&t, 1, &floats, &err), XQ_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "m: tensor wk holds an infinity at index 1; every value must be finite");
}

/* ---------------------------------------------------------------- shards */

static void write_shard(const char *directory, const char *file, const char *name, float value)
{
    tensor t = {.name = name, .type = TENSOR_F32, .rank = 1, .shape = {1}, .data = &value, .bytes = 4};
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_write(files_path(directory, file), &t, 1, &err), XQ_OK);
}

static const char *sharded(const char *index)
{
    const char *directory = files_directory();
    write_shard(directory, "a.safetensors", "first", 1);
    write_shard(directory, "b.safetensors", "second", 2);
    files_write(files_path(directory, "model.safetensors.index.json"), index, strlen(index));
    return directory;
}

static void index_refused(const char *index, const char *file, const char *message)
{
    const char *directory = sharded(index);
    safetensors *s;
    error err = ERROR_INIT;
    char expected[1200];
    cr_assert_eq(safetensors_open(directory, &s, &err), XQ_ERROR_FORMAT);
    snprintf(expected, sizeof expected, "%s/%s: %s", directory, file, message);
    cr_assert_str_eq(err.message, expected);
}

Test(safetensors, shards_open_as_one)
{
    safetensors *s;
    error err = ERROR_INIT;
    const char *directory =
        sharded("{\"weight_map\":{\"first\":\"a.safetensors\",\"second\":\"b.safetensors\"}}");
    cr_assert_eq(safetensors_open(directory, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(safetensors_count(s), 2);
    cr_assert_eq(*(const unsigned *)safetensors_find(s, "second")->data, 0x40000000);
    safetensors_close(s);
}

Test(safetensors, a_damaged_index_is_refused)
{
    index_refused("[1]", "model.safetensors.index.json", "is not a JSON object");
    index_refused("{}", "model.safetensors.index.json", "needs a \"weight_map\" object");
    index_refused("{\"weight_map\":{\"first\":\"../a.safetensors\"}}", "model.safetensors.index.json",
                  "weight_map names no file of its folder for tensor first");
    index_refused("{\"weight_map\":{\"first\":\"a.safetensors\",\"second\":\"a.safetensors\"}}",
                  "a.safetensors", "missing tensor that model.safetensors.index.json places here: second");
    safetensors *s;
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_open(sharded("{"), &s, &err), XQ_ERROR_FORMAT);
    cr_assert(strstr(err.message, "/model.safetensors.index.json:1:2: malformed JSON: "), "%s",
              err.message);
}

/* The files are refused whether the shards are there or not, because one of the two checkpoints would be
 * ignored. */
Test(safetensors, a_whole_checkpoint_beside_an_index_of_another_is_refused)
{
    static const char *const indices[] = {
        "{\"weight_map\":{\"first\":\"a.safetensors\",\"second\":\"b.safetensors\"}}",
        "{\"weight_map\":{\"first\":\"model-00001-of-00001.safetensors\"}}", "{\"weight_map\":{}}"};
    for (size_t i = 0; i < sizeof indices / sizeof indices[0]; i++) {
        const char *directory = sharded(indices[i]);
        safetensors *s;
        error err = ERROR_INIT;
        char expected[1200];
        write_shard(directory, "model.safetensors", "first", 3);
        cr_expect_eq(safetensors_open(directory, &s, &err), XQ_ERROR_FORMAT);
        snprintf(expected, sizeof expected,
                 "%s/model.safetensors and %s/model.safetensors.index.json are different checkpoints, "
                 "because the index does not list the file; remove the one that is not the model's",
                 directory, directory);
        cr_expect_str_eq(err.message, expected);
        error_clear(&err);
    }
}

Test(safetensors, an_index_may_list_the_one_file_there_is)
{
    const char *directory = sharded("{\"weight_map\":{\"first\":\"model.safetensors\"}}");
    safetensors *s;
    error err = ERROR_INIT;
    write_shard(directory, "model.safetensors", "first", 3);
    cr_assert_eq(safetensors_open(directory, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(safetensors_count(s), 1);
    safetensors_close(s);
    files_write(files_path(directory, "model.safetensors.index.json"), "{", 1);
    cr_assert_eq(safetensors_open(directory, &s, &err), XQ_ERROR_FORMAT);
    error_clear(&err);
}

Test(safetensors, a_folder_without_weights_is_named)
{
    const char *directory = files_directory();
    safetensors *s;
    error err = ERROR_INIT;
    char expected[512];
    cr_assert_eq(safetensors_open(directory, &s, &err), XQ_ERROR_IO);
    snprintf(expected, sizeof expected,
             "%s holds neither model.safetensors nor model.safetensors.index.json", directory);
    cr_assert_str_eq(err.message, expected);
}

Test(safetensors, a_failed_write_leaves_nothing)
{
    const char *directory = files_directory();
    float value = 1;
    tensor t = {.name = "x", .type = TENSOR_F32, .rank = 1, .shape = {1}, .data = &value, .bytes = 4};
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_write(files_path(directory, "no/such/file"), &t, 1, &err), XQ_ERROR_IO);
    error_clear(&err);
    t.bytes = 8;
    cr_assert_eq(safetensors_write(files_path(directory, "x"), &t, 1, &err), XQ_ERROR_ARGUMENT);
    cr_assert_eq(files_count(directory), 0);
}
