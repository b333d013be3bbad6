/* Tests files of prepared weights whose writing was interrupted: writing goes on behind the layers that are
 * done. */
#include "../../runtime/base/publish.h"
#include "../support/files.h"
#include "sample_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Leaves the files of a writer that was killed after `done` layers. */
static const char *left(const prepared_contents *c, int done)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    prepared_writer *w = sample_create(path, c);
    for (int i = 0; i < done; i++)
        sample_add(w, &sample_layer);
    prepared_keep(w);
    return path;
}

Test(prepared_unfinished, goes_on_behind_the_layers_that_are_done)
{
    for (int done = 0; done <= 2; done++) {
        const prepared_contents c = sample_contents(TENSOR_F16);
        const char *whole = sample_written(TENSOR_F16), *path = left(&c, done);
        char note[4300];
        double kept[2];
        prepared_writer *w = sample_create(path, &c);
        cr_assert_eq(prepared_done(w), done);
        snprintf(note, sizeof note, "%s.partial: %d of 2 layers are done", path, done);
        cr_assert_str_eq(prepared_note(w), note);
        for (int i = done; i < 2; i++)
            sample_add(w, &sample_layer);
        prepared_lost(w, 0, kept);
        cr_assert(kept[0] == sample_lost[0] && kept[1] == sample_lost[1]);
        sample_commit(w);
        files_assert_same(path, whole);
    }
}

/* However the file was cut or damaged, the layers that are kept are whole, and the finished file is the
 * same. */
Test(prepared_unfinished, cut_or_damaged_anywhere_it_ends_in_the_same_file)
{
    const prepared_contents c = sample_contents(TENSOR_BF16);
    const char *whole = sample_written(TENSOR_BF16), *path = left(&c, 2);
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
        prepared_writer *w = sample_create(path, &c);
        while (prepared_done(w) < 2)
            sample_add(w, &sample_layer);
        sample_commit(w);
        files_assert_same(path, whole);
    }
    free(data);
}

/* The writer was killed after its last write, before the file got its name. */
Test(prepared_unfinished, a_file_that_lacks_its_name_alone_gets_it)
{
    const prepared_contents c = sample_contents(TENSOR_F32);
    const char *whole = sample_written(TENSOR_F32), *path = left(&c, 0);
    char name[4300];
    size_t size;
    char *data = files_read(whole, &size);
    snprintf(name, sizeof name, "%s.partial", path);
    files_write(name, data, size);
    prepared_writer *w = sample_create(path, &c);
    cr_assert_eq(prepared_done(w), 2, "%s", prepared_note(w));
    sample_commit(w);
    files_assert_same(path, whole);
    free(data);
}

/* The first kept layer belongs to contents c. A writer with other contents must not use it. */
static void starts_anew(const prepared_contents *other, const char *why)
{
    const prepared_contents c = sample_contents(TENSOR_F16);
    const char *path = left(&c, 1);
    char note[4400];
    prepared_writer *w = sample_create(path, other);
    cr_assert_eq(prepared_done(w), 0);
    snprintf(note, sizeof note, "%s.partial: another command wrote it (%s); starting anew", path, why);
    cr_assert_str_eq(prepared_note(w), note);
    prepared_abandon(w);
}

Test(prepared_unfinished, another_command_starts_anew_and_says_why)
{
    static const int others[] = {2, 8};
    static const char unbiased[] =
        "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":1},"
        "\"cache\":{\"method\":\"latent\",\"groups_k\":1,\"groups_v\":1,\"rank_k\":3,\"rank_v\":1,"
        "\"rotation\":true}}";
    static const char plain[] = SAMPLE_MODEL
        "\"method\":\"latent\",\"bits\":4,\"groups_k\":1,\"groups_v\":1,\"rank_k\":2,\"rank_v\":1}}";
    prepared_contents c = sample_contents(TENSOR_BF16);
    starts_anew(&c, "another type of matrices");
    c = sample_contents(TENSOR_F16);
    c.source++;
    starts_anew(&c, "other weights of the model");
    c = sample_contents(TENSOR_F16);
    c.specs[0] = unbiased;
    starts_anew(&c, "another model or method, or other options of it");
    c = sample_contents(TENSOR_F16);
    c.layers = others;
    starts_anew(&c, "other layers");
    c = sample_contents(TENSOR_F16);
    c.specs[0] = plain;
    starts_anew(&c, "another model or method, or other options of it");
    c = sample_contents(TENSOR_F16);
    c.specs[1] = sample_cross_spec;
    c.base_layer = 1;
    starts_anew(&c, "another base layer");
}

/* If the file in the way was not left by an unfinished writer, it is refused and stays as it is. */
static void refuses_what_is_in_the_way(const char *data, size_t size)
{
    const prepared_contents c = sample_contents(TENSOR_F16);
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

Test(prepared_unfinished, what_is_no_unfinished_file_stays)
{
    size_t size;
    refuses_what_is_in_the_way("something else", 14);
    refuses_what_is_in_the_way("{}", 2);
    char *finished =
        files_read(sample_written(TENSOR_BF16), &size); /* the finished file of another command */
    refuses_what_is_in_the_way(finished, size);
    free(finished);
}

/* The writer was killed while it wrote its header. */
Test(prepared_unfinished, a_torn_header_is_written_anew)
{
    const prepared_contents c = sample_contents(TENSOR_F16);
    const char *whole = sample_written(TENSOR_F16), *path = left(&c, 1);
    char name[4300], note[4400];
    size_t size;
    snprintf(name, sizeof name, "%s.partial", path);
    char *data = files_read(name, &size);
    files_write(name, data, 40);
    free(data);
    prepared_writer *w = sample_create(path, &c);
    snprintf(note, sizeof note, "%s: its header is not complete; starting anew", name);
    cr_assert_str_eq(prepared_note(w), note);
    sample_add(w, &sample_layer);
    sample_add(w, &sample_layer);
    sample_commit(w);
    files_assert_same(path, whole);
}

Test(prepared_unfinished, two_writers_at_once_do_not_meet)
{
    const prepared_contents c = sample_contents(TENSOR_F16);
    const char *whole = sample_written(TENSOR_F16), *directory = files_directory(),
               *path = files_path(directory, "w.safetensors");
    char note[4400];
    prepared_writer *first = sample_create(path, &c), *second = sample_create(path, &c);
    cr_assert_str_eq(prepared_note(first), "");
    snprintf(note, sizeof note, "%s: another process is preparing this file; this run cannot be resumed",
             path);
    cr_assert_str_eq(prepared_note(second), note);
    sample_add(first, &sample_layer);
    sample_add(second, &sample_layer);
    sample_add(second, &sample_layer);
    sample_commit(second);
    files_assert_same(path, whole);
    prepared_writer *third = sample_create(path, &c); /* the first writer still has PATH.partial */
    cr_assert_eq(prepared_done(third), 0);
    prepared_keep(third);
    sample_add(first, &sample_layer);
    sample_commit(first);
    files_assert_same(path, whole);
    cr_assert_eq(files_count(directory), 1);
}
