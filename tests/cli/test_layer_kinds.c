/* The command line with models that mix full and sliding layers: each layer gets the plan of its kind. */
#include "../support/command.h"
#include "../support/files.h"
#include "../support/layer_files.h"
#include "../support/model_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Layers 0 and 2 have a sliding window, which is shorter than the cache; layers 1 and 3 have none. */
static const char mixed[] =
    "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64, \"num_hidden_layers\": 4, \"sliding_window_pattern\": 2, \"sliding_window\": 20, "
    "\"rope_theta\": 1e6, \"rope_local_base_freq\": 1e4}, \"cache\": {\"method\": \"latent\", "
    "\"bits\": 8}}";

/* Writes the same tensors with the name suffix `suffix`, and the mixed spec. */
static const char *write_layer(const char *suffix)
{
    struct layer layer = layer_random(70, 1);
    layer.suffix = suffix;
    const char *directory = layer_files_write(&layer, "latent", 8);
    files_write(files_path(directory, "spec.json"), mixed, sizeof mixed - 1);
    return directory;
}

/* The file that `xq run` writes; the caller frees it. */
static char *output_of(const char *directory, const char *options, size_t *size)
{
    struct command_result r = layer_files_run(directory, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    return files_read(files_path(directory, "out.safetensors"), size);
}

static bool same_output(const char *directory, const char *options, const char *other_directory,
                        const char *other_options)
{
    size_t size, other_size;
    char *output = output_of(directory, options, &size),
         *other = output_of(other_directory, other_options, &other_size);
    bool same = size == other_size && memcmp(output, other, size) == 0;
    free(output);
    free(other);
    return same;
}

Test(layer_kinds, run_takes_the_kind_of_the_layer, .timeout = 120)
{
    const char *plain = write_layer(""), *zero = write_layer(".0"), *one = write_layer(".1");
    cr_assert(same_output(zero, "--layer 0", plain, "--layer-kind sliding"));
    cr_assert(same_output(one, "--layer 1", plain, "--layer-kind full"));
    cr_assert_not(same_output(plain, "--layer-kind sliding", plain, "--layer-kind full"));
}

static void expect_error(const char *directory, const char *options, const char *message)
{
    struct command_result r = layer_files_run(directory, options);
    cr_assert_eq(r.status, 1, "%s", r.err);
    cr_assert(strstr(r.err, message), "%s", r.err);
}

Test(layer_kinds, a_layer_of_another_kind_than_given_is_refused)
{
    expect_error(write_layer(".0"), "--layer 0 --layer-kind full", "layer 0 is sliding, not full");
    expect_error(write_layer(".4"), "--layer 4", "valid: 0 to 3");
    expect_error(write_layer(""), "", "2 sliding and 2 full layers");
}

Test(layer_kinds, prepare_needs_no_kind)
{
    static const char config[] =
        "{\"model_type\": \"gemma2\", \"hidden_size\": 128, \"num_attention_heads\": 2, "
        "\"num_key_value_heads\": 1, \"num_hidden_layers\": 2, \"head_dim\": 64, "
        "\"sliding_window\": 20}";
    const char *directory = model_files(&(struct model_change){.config = config});
    struct command_result r = command_run("prepare %s --out %s/out.safetensors", directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "2 layers"), "%s", r.out);
}
