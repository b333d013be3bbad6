/* xq compare over several numbers of tokens and batch sizes, and the limit that bounds each row. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "../support/generator.h"
#include "../support/layer_files.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONE_LAYER "compare --device sim --synthetic --model smollm2-135m "

/* Runs a comparison and returns its JSON, which the caller deletes. */
static cJSON *compare(const char *options)
{
    return command_json(ONE_LAYER "--json - %s", options);
}

static const cJSON *row_of(const cJSON *json, int i)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), i);
}

/* ------------------------------------------------------------------ sweeps */

Test(compare_sweep, all_combinations_are_compared_in_order)
{
    static const char *const names[] = {"fp16-kv", "fp8-kv", "unfused", "fused"};
    static const int tokens[] = {48, 16}, batches[] = {2, 1}, bits[] = {4, 8}; /* in the order given */
    cJSON *json = compare("--tokens 48,16 --batch 2,1 --bits 4,8 --layers 0,3");
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "rows")), 2 * 2 * 2 * 2 * 4);
    for (int i = 0; i < 64; i++) {
        const cJSON *row = row_of(json, i);
        cr_expect_str_eq(generator_string(row, "name"), names[i % 4]);
        cr_expect_eq(generator_number(row, "bits"), bits[i / 4 % 2], "row %d", i);
        cr_expect_eq(generator_number(row, "tokens"), tokens[i / 8 % 2], "row %d", i);
        cr_expect_eq(generator_number(row, "batch"), batches[i / 16 % 2], "row %d", i);
        cr_expect_eq(generator_number(row, "layer"), i / 32 * 3, "row %d", i);
        cr_expect_eq(generator_number(row, "cache_bytes"),
                     batches[i / 16 % 2] * tokens[i / 8 % 2] *
                         generator_number(row, "cache_bytes_per_token"));
        cr_expect_float_eq(
            generator_number(row, "time_to_fp16_kv"),
            generator_number(row, "time_us") / generator_number(row_of(json, i - i % 4), "time_us"), 1e-12);
    }
    cJSON_Delete(json);
}

/* Data that a sweep keeps from one size to the next must not change results. */
static void sweep_gives_what_each_size_gives(const char *options)
{
    char all[256];
    snprintf(all, sizeof all, "--bits 4 %s --batch 1,2 --tokens 40,24", options);
    cJSON *sweep = compare(all);
    for (int size = 0; size < 4; size++) {
        snprintf(all, sizeof all, "--bits 4 %s --batch %d --tokens %d", options, 1 + size / 2,
                 size % 2 ? 24 : 40);
        cJSON *alone = compare(all);
        for (int i = 0; i < 4; i++)
            cr_expect(cJSON_Compare(row_of(sweep, 4 * size + i), row_of(alone, i), true), "%s, row %d", all,
                      i);
        cJSON_Delete(alone);
    }
    cJSON_Delete(sweep);
}

Test(compare_sweep, each_size_gives_what_it_gives_alone, .timeout = 120)
{
    sweep_gives_what_each_size_gives("--queries 3");
    sweep_gives_what_each_size_gives("--method latent-cl --layers 3");
}

Test(compare_sweep, one_table_has_a_line_for_each_size)
{
    struct command_result r = command_run(ONE_LAYER "--tokens 16,48 --batch 1,3 --bits 2,4");
    static const char *const needed[] = {"layer 0, 2 bits",    "layer 0, 4 bits", "    1       16 ",
                                         "    1       48 ",    "    3       16 ", "    3       48 ",
                                         "modelled",           "MODELLED",        "quantized",
                                         "kernel error up to", "fp8-kv"};
    cr_assert_eq(r.status, 0, "%s", r.err);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        cr_expect(strstr(r.out, needed[i]), "no '%s' in\n%s", needed[i], r.out);
    cr_expect_not(strstr(r.out, "B/token"), "the table of one size");
    int lines = 0;
    for (const char *at = r.out; (at = strstr(at, " launches")); at = strchr(at, '\n'))
        lines++;
    cr_expect_geq(lines, 2 * 4, "unfused is always bound by launches here");
}

/* ---------------------------------------------------------------- bound by */

/* Checks a row against its parts, and returns the name of the largest part. */
static const char *largest_part(const cJSON *row)
{
    const cJSON *parts = cJSON_GetObjectItem(row, "time_parts_us"), *part, *largest = NULL;
    double sum = 0;
    cJSON_ArrayForEach(part, parts)
    {
        sum += part->valuedouble;
        largest = !largest || part->valuedouble > largest->valuedouble ? part : largest;
    }
    cr_assert_eq(cJSON_GetArraySize(parts), 6);
    cr_expect_float_eq(sum, generator_number(row, "time_us"), 1e-9 * sum);
    cr_expect_float_eq(generator_number(parts, "launches"), 2 * generator_number(row, "launches"), 1e-9,
                       "an empty launch takes 2 us");
    return largest->string;
}

/* Checks the limits that bound fp16-kv, fp8-kv, unfused and fused (NULL: any). */
static void expect_bounds(const char *options, const char *const bounds[4])
{
    cJSON *json = compare(options);
    for (int i = 0; i < 4; i++) {
        cr_expect_str_eq(generator_string(row_of(json, i), "bound_by"), largest_part(row_of(json, i)));
        if (bounds[i])
            cr_expect_str_eq(generator_string(row_of(json, i), "bound_by"), bounds[i], "%s, row %d",
                             options, i);
    }
    cJSON_Delete(json);
}

/* A short step takes as long as its launches. A long step over fp16 keys and values takes as long as
 * reading them. */
Test(compare_sweep, a_row_is_bound_by_its_largest_part, .timeout = 120)
{
    expect_bounds("--tokens 32 --bits 4", (const char *const[]){"launches", "launches", "launches", NULL});
    expect_bounds("--tokens 4096 --batch 8 --bits 8 --page 256 --groups 3,1 --weights f16",
                  (const char *const[]){"memory", NULL, NULL, "issue"});
}

/* --------------------------------------------------------------- bad input */

static void refused(const char *options, int status, const char *message)
{
    char arguments[1024], line[1200];
    snprintf(arguments, sizeof arguments, "%s%s", ONE_LAYER, options);
    snprintf(line, sizeof line, "xq compare: %s", message);
    command_refuses(arguments, status, line);
}

Test(compare_sweep, bad_lists_are_named)
{
    refused("--tokens 64,0", 1, "--tokens: 0; valid: 1 to 16777216");
    refused("--tokens 64,1k", 1, "--tokens: '1k' is not an integer; valid: 1 to 16777216");
    refused("--tokens 64,,32", 1, "--tokens: '64,,32' has an empty item; valid: N,N...");
    refused("--batch 1,65536", 1, "--batch: 65536; valid: 1 to 65535");
    refused("--batch 1,8,1", 1, "--batch: '1' comes twice; give each once");
    refused("--tokens 64 --tokens 64", 1, "--tokens: '64' comes twice; give each once");
    refused("--tokens 64,3,32 --queries 4", 1, "--queries: 4; valid: 1 to 3, the number of tokens");
}

Test(compare_sweep, more_combinations_than_anyone_waits_for_are_refused)
{
    char options[2000] = "--tokens 1", *end = options + strlen(options);
    for (int i = 2; i <= 241; i++)
        end += sprintf(end, ",%d", i);
    end += sprintf(end, " --batch 1");
    for (int i = 2; i <= 17; i++)
        end += sprintf(end, ",%d", i);
    struct command_result r = command_run(ONE_LAYER "%s", options);
    cr_expect_eq(r.status, 1);
    cr_expect_str_eq(
        r.err, "xq compare: --tokens and --batch: they make 4097 combinations; valid: at most 4096\n");
}

/* The error comes before any work, although only the second layer lacks tokens. */
Test(compare_sweep, every_layer_must_have_the_most_tokens)
{
    struct layer layers[] = {layer_random(20, 20), layer_random(12, 12)};
    char options[512], line[512];
    layers[0].suffix = ".0";
    layers[1].suffix = ".1";
    const char *directory = layer_files_write_all(layers, 2, "", "\"method\": \"x\", \"bits\": 4");
    const char *format = "compare --device sim --spec %s/spec.json --activations %s/in.safetensors %s";
    snprintf(options, sizeof options, format, directory, directory, "--tokens 8,21,12");
    snprintf(line, sizeof line, "xq compare: --tokens: 21; valid: 1 to 20, as many as in %s/in.safetensors",
             directory);
    command_refuses(options, 1, line);
    snprintf(options, sizeof options, format, directory, directory, "--tokens 8,13");
    snprintf(line, sizeof line,
             "xq compare: %s/in.safetensors: tensors x.1 and q.1 have 12 and 12 tokens; valid: at "
             "least 13, and as many in both",
             directory);
    command_refuses(options, 1, line);
}

/* ------------------------------------------------------------------- plots */

/* Number of times that the SVG has this text between tags. */
static int count_text(const char *svg, const char *text)
{
    char element[128];
    int count = 0;
    snprintf(element, sizeof element, ">%s<", text);
    for (const char *at = svg; (at = strstr(at, element)); at++)
        count++;
    return count;
}

Test(compare_sweep, the_plot_names_every_curve_once)
{
    static const char *const names[] = {
        "fp16-kv, batch 1",         "fp16-kv, batch 2",         "fp8-kv, batch 1",
        "fp8-kv, batch 2",          "unfused, 4 bits, batch 1", "unfused, 4 bits, batch 2",
        "unfused, 8 bits, batch 1", "unfused, 8 bits, batch 2", "fused, 4 bits, batch 1",
        "fused, 4 bits, batch 2",   "fused, 8 bits, batch 1",   "fused, 8 bits, batch 2",
    };
    const char *folder = files_directory();
    char *path = strdup(files_path(folder, "a.svg"));
    size_t size;
    struct command_result r = command_run(ONE_LAYER "--tokens 16,48 --batch 1,2 --plot %s", path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(files_count(folder), 1);
    char *svg = files_read(path, &size);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_expect_eq(count_text(svg, names[i]), 1, "%s", names[i]);
    cr_expect_eq(count_text(svg, "time of a step, modelled, us"), 1);
    cr_expect_eq(count_text(svg, "cache of one layer, MB"), 1);
    cr_expect_eq(count_text(svg, "cached tokens"), 2);
    cr_expect_eq(count_text(svg, "48"), 2, "a tic in each panel");
    cr_expect(strstr(svg, "smollm2-135m, layer 0, NVIDIA H100"), "no title");
    free(svg);
    free(path);
}

/* With one bit width and one batch size, the names are those of the rows. A title from outside is
 * escaped. */
Test(compare_sweep, the_plot_of_one_batch_names_the_rows)
{
    struct layer layer = layer_random(20, 20);
    layer.suffix = ".0";
    const char *directory = layer_files_write(&layer, "x", 4);
    char *folder = strdup(files_path(directory, "a<b>&' [title]"));
    cr_assert_eq(mkdir(folder, 0777), 0);
    char *spec = strdup(files_path(folder, "spec.json")), *svg;
    size_t size;
    char *text = files_read(files_path(directory, "spec.json"), &size);
    files_write(spec, text, size);
    struct command_result r =
        command_run("compare --device sim --spec \"%s\" --activations %s/in.safetensors "
                    "--tokens 8,20 --plot - --seed 1",
                    spec, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    svg = strdup(r.out);
    cr_expect_eq(strncmp(svg, "<?xml", 5), 0, "the plot and nothing else: %.80s", svg);
    cr_expect_eq(count_text(svg, "fp16-kv"), 1);
    cr_expect_eq(count_text(svg, "fp8-kv"), 1);
    cr_expect_eq(count_text(svg, "unfused"), 1);
    cr_expect_eq(count_text(svg, "fused"), 1);
    cr_expect(strstr(svg, "a&#60;b&#62;&#38;&#39; [title]/spec.json, layer 0, 4 bits, batch 1, NVIDIA"));
    free(svg);
    free(text);
    free(spec);
    free(folder);
}

Test(compare_sweep, plots_that_would_show_nothing_or_too_much_are_refused)
{
    refused("--plot a.svg --tokens 64", 2,
            "--plot: draws time and memory against cached tokens; give two or more numbers of tokens, for "
            "example --tokens 1024,8192");
    refused("--plot a.svg --tokens 64,128 --layers 0,1", 2,
            "--plot: draws one layer, and there are 2; choose one with --layers L");
    refused("--plot - --json - --tokens 64,128", 1,
            "--plot /dev/stdout is the same file as --json; give another path");
}

Test(compare_sweep, without_gnuplot_the_plot_is_refused_before_the_work)
{
    const char *folder = files_directory();
    char arguments[1024];
    setenv("PATH", folder, 1);
    snprintf(arguments, sizeof arguments, ONE_LAYER "--tokens 64,16777216 --plot %s/a.svg", folder);
    command_refuses(arguments, 3,
                    "xq compare: plots need gnuplot, which is not on the PATH; install the package "
                    "gnuplot-nox (Debian, Ubuntu) or gnuplot");
    cr_expect_eq(files_count(folder), 0);
}

Test(compare_sweep, a_failing_gnuplot_leaves_the_old_plot)
{
    static const char script[] = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo gnuplot 5.4; exit 0; fi\n"
                                 "echo 'line 7: undefined variable: y' >&2; exit 3\n";
    const char *folder = files_directory();
    char arguments[1024], *path = strdup(files_path(folder, "a.svg"));
    size_t size;
    files_write(path, "old", 3);
    files_write(files_path(folder, "gnuplot"), script, strlen(script));
    cr_assert_eq(chmod(files_path(folder, "gnuplot"), 0755), 0);
    setenv("PATH", folder, 1);
    snprintf(arguments, sizeof arguments, ONE_LAYER "--bits 4 --tokens 8,16 --plot %s", path);
    command_refuses(arguments, 1,
                    "xq compare: gnuplot failed with status 3: line 7: undefined variable: y");
    char *text = files_read(path, &size);
    cr_expect_str_eq(text, "old");
    free(text);
    free(path);
}
