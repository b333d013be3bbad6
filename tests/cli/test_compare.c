#include "../../prepare/safetensors.h"
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/fake_cuda.h"
#include "../support/files.h"
#include "../support/generator.h"
#include "../support/layer_files.h"
#include "../support/model_files.h"
#include "../support/shell.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- results */

/* Runs `xq compare` over the layer's files with these options. Returns the parsed JSON, which the caller
 * deletes. */
static cJSON *compare(const char *directory, const char *options)
{
    struct command_result r =
        command_run("compare --device sim:a100 --spec %s/spec.json --activations %s/in.safetensors "
                    "--json - %s",
                    directory, directory, options);
    cr_assert_str_eq(r.err, "");
    cJSON *json = command_json_of(&r);
    cr_assert_not_null(json, "not JSON: %s", r.out);
    return json;
}

/* compare needs as many queries as tokens, and uses those of the last positions. */
static struct layer layer_of(int64_t tokens)
{
    struct layer layer = layer_random(tokens, tokens);
    layer.suffix = ".5";
    return layer;
}

/* Times both ways to launch a step, on a driver whose kernels do nothing. */
Test(compare, a_gpu_is_timed_one_by_one_and_within_a_graph)
{
    static const int launches[] = {1, 1, 5, 1};
    struct layer layer = layer_of(100);
    const char *directory = layer_files_write(&layer, "latent", 4);
    fake_cuda_use();
    setenv("XQ_LOCK_DIR", files_directory(), 1);
    struct command_result r = command_run(
        "compare --device cuda --spec %s/spec.json --activations %s/in.safetensors --bits 4 --json -",
        directory, directory);
    cr_expect_str_eq(r.err, "");
    cr_expect_eq(files_count(getenv("XQ_LOCK_DIR")), 1, "measurements took turns");
    cr_expect(strstr(r.out, "\"load\":null") || strstr(r.out, "\"load\":\tnull"), "%s", r.out);
    cJSON *json = command_json_of(&r);
    for (int i = 0; i < 4; i++) {
        const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), i);
        cr_expect_str_eq(generator_string(row, "time_kind"), "measured");
        cr_expect_eq(generator_number(row, "time_us"), 1e3 * FAKE_CUDA_LAUNCH_MS * launches[i]);
        cr_expect_eq(generator_number(row, "graph_time_us"), 1e3 * FAKE_CUDA_GRAPH_MS * launches[i]);
        cr_expect_eq(generator_number(row, "graph_time_us_low"), generator_number(row, "graph_time_us"));
        cr_expect(cJSON_IsNull(cJSON_GetObjectItem(row, "bound_by")));
        cr_expect(cJSON_IsNull(cJSON_GetObjectItem(row, "time_parts_us")));
    }
    cJSON_Delete(json);
    setenv("XQ_LOCK_DIR", "/nowhere", 1);
    r = command_run("compare --device cuda --spec %s/spec.json --activations %s/in.safetensors --bits 4",
                    directory, directory);
    cr_expect_eq(r.status, 0);
    cr_expect_str_eq(r.err, "xq compare: warning: times may be off: measurements did not wait for other "
                            "processes that measure: "
                            "/nowhere/xq-gpu-" FAKE_CUDA_UUID
                            ".lock cannot be locked: No such file or directory\n");
}

Test(compare, a_load_on_the_gpu_is_told)
{
    struct layer layer = layer_of(100);
    const char *directory = layer_files_write(&layer, "latent", 4);
    char library[4096];
    fake_cuda_use();
    snprintf(library, sizeof library, "%s", getenv("XQ_LIBCUDA"));
    strcpy(strstr(library, "libfake_cuda.so"), "libfake_nvml.so");
    setenv("XQ_NVML", library, 1);
    setenv("FAKE_NVML_UUID", "GPU-" FAKE_CUDA_UUID, 1);
    setenv("FAKE_NVML_PROCESSES", "self,1,2", 1);
    setenv("FAKE_NVML_BUSY", "64", 1);
    setenv("FAKE_NVML_CLOCKS", "1980,2619", 1);
    setenv("FAKE_NVML_REASONS", "0x45", 1);
    struct command_result r = command_run(
        "compare --device cuda --spec %s/spec.json --activations %s/in.safetensors --bits 4 --json -",
        directory, directory);
    cr_expect_str_eq(r.err, "xq compare: warning: times may be off: 2 other processes use the GPU; the GPU "
                            "was busy for 64 % of the time before the first measurement; its clocks were "
                            "lowered: temperature (hardware)\n");
    cJSON *json = command_json_of(&r), *load = cJSON_GetObjectItem(json, "load");
    cr_expect_eq(generator_number(load, "processes"), 2);
    cr_expect_eq(generator_number(load, "busy_percent"), 64);
    cr_expect_lt(generator_number(load, "sm_mhz_low"), generator_number(load, "sm_mhz_high"));
    cr_expect_eq(generator_number(load, "memory_mhz_high"), 2619);
    const cJSON *names = cJSON_GetObjectItem(load, "clocks_lowered_by");
    cr_assert_eq(cJSON_GetArraySize(names), 2);
    cr_expect_str_eq(cJSON_GetArrayItem(names, 0)->valuestring, "power limit");
    cJSON_Delete(json);
    setenv("FAKE_NVML_BUSY", "9", 1); /* the load of a desktop */
    setenv("FAKE_NVML_PROCESSES", "self", 1);
    setenv("FAKE_NVML_REASONS", "0x5", 1);
    r = command_run("compare --device cuda --spec %s/spec.json --activations %s/in.safetensors --bits 4",
                    directory, directory);
    cr_expect_str_eq(r.err, "");
}

Test(compare, json_has_four_rows_for_each_bit_width_and_small_errors)
{
    struct layer layer = layer_of(100);
    const char *directory = layer_files_write(&layer, "latent", 4);
    const char *names[4] = {"fp16-kv", "fp8-kv", "unfused", "fused"};
    /* 4 groups of 32, 4 bytes each, K and V */
    const double quantized[2] = {2 * (64 + 16), 2 * (128 + 16)}, quantized_most[2] = {0.2, 2e-2};
    cJSON *json = compare(directory, "--bits 4,8 --tokens 90");
    cr_assert_str_eq(generator_string(json, "device_kind"), "sim");
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "rows")), 8);
    for (int i = 0; i < 8; i++) {
        const double bytes = i % 4 == 0 ? 512 : i % 4 == 1 ? 256 : quantized[i / 4];
        const double most = i % 4 == 0 ? 2e-3 : i % 4 == 1 ? 5e-2 : quantized_most[i / 4];
        const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), i);
        cr_assert_str_eq(generator_string(row, "name"), names[i % 4]);
        cr_assert_str_eq(generator_string(row, "time_kind"), "modelled");
        cr_assert(cJSON_IsNull(cJSON_GetObjectItem(row, "graph_time_us")));
        cr_assert(generator_number(row, "layer") == 5 && generator_number(row, "bits") == (i < 4 ? 4 : 8));
        cr_assert(generator_number(row, "tokens") == 90 && generator_number(row, "batch") == 1);
        cr_assert_lt(generator_number(row, "kernel_rel_err"), 2e-3);
        cr_assert_lt(generator_number(row, "lse_abs_err"), 2e-2);
        cr_assert_lt(generator_number(row, "method_rel_err"), most);
        cr_assert_eq(generator_number(row, "cache_bytes_per_token"), bytes);
        cr_assert_float_eq(generator_number(row, "cache_saving"), 512 / bytes, 1e-12);
        cr_assert_eq(cJSON_IsNumber(cJSON_GetObjectItem(row, "k_scale")), i % 4 == 1);
        cr_assert_eq(cJSON_IsNumber(cJSON_GetObjectItem(row, "v_scale")), i % 4 == 1);
        cr_assert_gt(generator_number(row, "matrix_flops"), 0);
        cr_assert_gt(generator_number(row, "bytes_in_flight"), 0);
        cr_assert_gt(generator_number(row, "time_us"), generator_number(row, "limit_us"));
    }
    cJSON_Delete(json);
}

/* The fused step reads its cache, weights, query and tables, writes its output, and moves little else. */
Test(compare, fused_traffic_is_near_the_least_possible)
{
    struct layer layer = layer_of(256);
    const char *directory = layer_files_write(&layer, "latent", 8);
    cJSON *json = compare(directory, "");
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), 3);
    double moved = generator_number(row, "dram_read_bytes") + generator_number(row, "dram_write_bytes");
    double least = 256 * 2 * (128 + 16) + 2 * (64 + 64) * 128 + 2 * 2 * 256 + 16; /* weights are f16 */
    cr_assert_eq(generator_number(row, "limit_bytes"), least);
    cr_assert(moved >= least && moved < 1.05 * least, "%g of %g bytes", moved, least);
    cJSON_Delete(json);
}

Test(compare, limits_are_those_of_the_cheapest_exact_formulation)
{
    struct layer layer = layer_of(64);
    cJSON *json = compare(layer_files_write(&layer, "x", 8), "");
    const cJSON *rows = cJSON_GetObjectItem(json, "rows");
    /* 4 heads of 64, d = dkv = 128. For each token, scores take 2*256 FLOPs, rematerializing K 2*128*128
     * and absorbed V 2*4*128; the absorbed V takes 2*4*128*64 once more. */
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 0), "limit_flops"), 64 * 2 * 2 * 256);
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 1), "limit_flops"), 64 * 2 * 2 * 256);
    for (int i = 2; i < 4; i++)
        cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, i), "limit_flops"),
                     64 * (2 * 128 * 128 + 2 * 256 + 2 * 4 * 128) + 2 * 4 * 128 * 64);
    cJSON_Delete(json);
}

/* Runs `xq compare --synthetic` and checks the errors of every row. Returns the parsed JSON. */
static cJSON *synthetic(const char *options)
{
    cJSON *json = command_json("compare --device sim --synthetic --json - %s", options), *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "rows"))
    {
        const char *name = generator_string(row, "name");
        cr_assert_lt(generator_number(row, "kernel_rel_err"), 2e-3, "%s: %s", options, name);
        cr_assert_lt(generator_number(row, "lse_abs_err"), 2e-2, "%s: %s", options, name);
        cr_assert_lt(generator_number(row, "method_rel_err"), strcmp(name, "fp16-kv") ? 0.3 : 2e-3,
                     "%s: %s", options, name);
    }
    return json;
}

static cJSON *synthetic_model(const char *model, const char *options)
{
    char spec[1024], all[1024];
    const char *path = files_path(files_directory(), "spec.json");
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 6, \"num_key_value_heads\": 2, "
             "\"head_dim\": 64, %s}}",
             model);
    files_write(path, spec, strlen(spec));
    snprintf(all, sizeof all, "--spec %s %s %s", path,
             strstr(options, "--method") ? "" : "--method latent --bits 8", options);
    return synthetic(all);
}

Test(compare, every_row_is_right_for_models_with_more_than_rope)
{
    cJSON_Delete(
        synthetic_model("\"attention_bias\": true, \"partial_rotary_factor\": 0.25", "--tokens 40"));
    cJSON_Delete(
        synthetic_model("\"qk_norm\": true, \"attn_logit_softcapping\": 30.0, \"attention_sinks\": true",
                        "--tokens 40 --queries 3 --batch 2"));
    cJSON_Delete(synthetic_model("\"alibi\": true", "--tokens 33 --queries 33"));
}

/* Layer 1 sees only the last 8 tokens, and has a rotary embedding of its own. */
Test(compare, each_layer_of_a_mixed_model_is_of_its_kind)
{
    cJSON *json = synthetic_model("\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", "
                                  "\"sliding_attention\"], \"sliding_window\": 8, \"rope_theta\": 1e6, "
                                  "\"rope_local_base_freq\": 1e4",
                                  "--tokens 40 --layers 0,1");
    const cJSON *rows = cJSON_GetObjectItem(json, "rows");
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 0), "limit_flops"), 4 * 6 * 64 * 40);
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 4), "limit_flops"), 4 * 6 * 64 * 8);
    cJSON_Delete(json);
}

/* Loss and bytes of the fused row at 2 bits, for a synthetic layer whose channels have outliers. */
static void outliers_at_2_bits(const char *options, double *loss, double *bytes)
{
    char all[128];
    const char *path = files_path(files_directory(), "spec.json");
    const char *spec = "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"head_dim\": 64}}";
    files_write(path, spec, strlen(spec));
    snprintf(all, sizeof all, "--method x --bits 2 --tokens 60 %s", options);
    cJSON *json = command_json("compare --device sim --synthetic --json - --spec %s %s", path, all);
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), 3);
    cr_assert_lt(generator_number(row, "kernel_rel_err"), 2e-3);
    *loss = generator_number(row, "method_rel_err");
    *bytes = generator_number(row, "cache_bytes_per_token");
    cJSON_Delete(json);
}

Test(compare, rotation_spreads_the_outliers_of_activations_at_no_memory)
{
    double plain, rotated, bytes[2];
    outliers_at_2_bits("--no-rotation", &plain, &bytes[0]);
    outliers_at_2_bits("", &rotated, &bytes[1]);
    cr_assert_lt(rotated, 0.7 * plain, "%g rotated, %g as they are", rotated, plain);
    cr_assert_eq(bytes[0], bytes[1]);
}

/* Columns without RoPE are absorbed into the query. From a few tokens on that costs less than
 * rematerializing them. */
Test(compare, limits_absorb_what_does_not_turn)
{
    cJSON *json = synthetic_model("\"partial_rotary_factor\": 0.25", "--tokens 400");
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), 3);
    double h = 6, k = 64, v = 64; /* each of two KV heads has latents of its own */
    double turning = 16, still = 48, tokens = 400;
    cr_assert_eq(generator_number(row, "limit_flops"),
                 2 * k * 2 * turning * tokens + 2 * h * turning * tokens + 2 * h * still * k +
                     2 * h * k * tokens + 2 * h * v * tokens + 2 * h * v * 64);
    cJSON_Delete(json);
}

/* Layer 4 of a stack whose base layer is 2: the accumulator comes from three layers. Of the 80 tokens, 64
 * are in groups of 32 and 16 are in the tail. */
Test(compare, cross_layer_rows_count_the_tail_and_the_accumulator)
{
    cJSON *json =
        synthetic_model("\"rope_theta\": 10000.0",
                        "--method latent-cl --layers 4 --tokens 80 --bits 4 --axis-k channel --group 32 "
                        "--accumulator-bits 8");
    const cJSON *rows = cJSON_GetObjectItem(json, "rows");
    const double pages = 128 / 2.0 + 4 * 128 / 32.0, tail = 32 * 128 * 2, accumulator = 128 + 4 * 4;
    for (int i = 2; i < 4; i++) {
        const cJSON *row = cJSON_GetArrayItem(rows, i);
        cr_assert_eq(generator_number(row, "cache_bytes_per_token"), pages);
        cr_assert_eq(generator_number(row, "tail_bytes"), tail);
        cr_assert_eq(generator_number(row, "accumulator_bytes_per_token"), accumulator);
        cr_assert_float_eq(generator_number(row, "cache_saving"), 512 * 80 / (pages * 80 + tail), 1e-9);
        /* the deltas once, the accumulator in and out, Wk, Wv and Ukv, a query, its output and its lse */
        cr_assert_eq(generator_number(row, "limit_bytes"), 80 * (pages + 2 * accumulator) +
                                                               2 * 2 * 128 * 128 + 2 * 128 * 128 +
                                                               4 * 6 * 64 + 4 * 6);
        cr_assert_lt(generator_number(row, "method_rel_err"), 0.15);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, i), "accumulator_bytes_per_token"), 0);
    cJSON_Delete(json);
}

Test(compare, limits_count_the_pairs_that_queries_see)
{
    cJSON *json = synthetic("--model smollm2-135m --method latent --tokens 10 --bits 4 --queries 4");
    const cJSON *rows = cJSON_GetObjectItem(json, "rows");
    /* 9 heads of 64, 3 KV heads with latents of 64. There are 7 + 8 + 9 + 10 pairs. K is rematerialized
     * once for all queries, and so is V if that is cheaper than absorbing it. Weights are int8, with
     * scales. */
    double pairs = 34, plain = 2 * 9 * 64 * pairs, remat = 2 * 64 * 192.0 * 10;
    double absorbed = 2 * 9 * 64 * pairs + 2 * 9 * 64 * 64 * 4;
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 0), "limit_flops"), 2 * plain);
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 3), "limit_flops"),
                 remat + plain + fmin(remat + plain, absorbed));
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 3), "queries"), 4);
    cr_assert_eq(generator_number(cJSON_GetArrayItem(rows, 3), "limit_bytes"),
                 10 * 216 + 4 * (4 * 576 + 4 * 9) + (64 + 64.0) * 192 + 2 * 4 * 192);
    cJSON_Delete(json);
}

Test(compare, batches_and_synthetic_inputs_work_from_a_seed)
{
    struct command_result r =
        command_run("compare --device sim --model smollm2-135m --synthetic --seed 3 --tokens 40 "
                    "--batch 2 --bits 8 --json -");
    char *first = strdup(r.out);
    cJSON *json = command_json_of(&r), *row = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "rows"), 3);
    cr_assert_eq(generator_number(row, "batch"), 2);
    cr_assert_lt(generator_number(row, "kernel_rel_err"), 2e-3);
    cr_assert_lt(generator_number(row, "method_rel_err"), 5e-2);
    cJSON_Delete(json);
    r = command_run("compare --device sim --model smollm2-135m --synthetic --seed 3 --tokens 40 --batch 2 "
                    "--bits 8 --json -");
    cr_assert_str_eq(r.out, first, "the same seed gave other results");
    free(first);
}

/* Checks that the method error of layer 1 is the same with factors that compare makes and with factors of a
 * prepared file. The file is prepared and used with these options. Weights are f16, because int8 weights
 * that are made of a file's f16 matrices are rounded twice. */
static void prepared_gives_the_same(const char *prepare_options, const char *compare_options)
{
    const char *directory = model_files(&(struct model_change){0});
    struct command_result r =
        command_run("prepare %s --out %s/w.safetensors %s", directory, directory, prepare_options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    double errors[2];
    for (int i = 0; i < 2; i++) {
        char prepared[512];
        snprintf(prepared, sizeof prepared, "--prepared %s/w.safetensors", directory);
        cJSON *json = command_json(
            "compare --device sim --model %s --synthetic %s --weights f16 --tokens 48 --bits 4 --layers 1 "
            "--json - %s",
            directory, compare_options, i ? prepared : "");
        errors[i] = generator_number(json, "rows.3.method_rel_err");
        cJSON_Delete(json);
    }
    cr_assert_float_eq(errors[0], errors[1], 1e-4);
}

Test(compare, prepared_factors_give_what_factors_made_here_give)
{
    prepared_gives_the_same("--method latent", "--method latent");
    prepared_gives_the_same("--method latent-cl --base-layer 0", "--method latent-cl --base-layer 0");
    prepared_gives_the_same("--method latent-cl --base-layer 1 --pack",
                            "--method latent-cl --base-layer 1");
}

Test(compare, the_table_says_what_was_modelled)
{
    struct command_result r =
        command_run("compare --device sim --model smollm2-135m --synthetic --tokens 32 --bits 4");
    cr_assert_eq(r.status, 0, "%s", r.err);
    const char *needed[] = {
        "fp16-kv",      "fp8-kv",  "unfused",         "fused",   "MODELLED, not measured",
        "time / limit", "B/token", "layer 0, 4 bits", "bound by"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        cr_assert(strstr(r.out, needed[i]), "%s is not in\n%s", needed[i], r.out);
}

Test(compare, every_layer_of_a_file_is_compared, .timeout = 120)
{
    enum { LAYERS = 34 };
    struct layer layers[LAYERS];
    char suffixes[LAYERS][8];
    for (int i = 0; i < LAYERS; i++) {
        layers[i] = layer_random(8, 8);
        snprintf(suffixes[i], sizeof suffixes[i], ".%d", 1000 + 3 * i);
        layers[i].suffix = suffixes[i];
    }
    cJSON *json = compare(layer_files_write_all(layers, LAYERS, "", "\"method\": \"x\", \"bits\": 4"), "");
    const cJSON *rows = cJSON_GetObjectItem(json, "rows");
    cr_assert_eq(cJSON_GetArraySize(rows), 4 * LAYERS);
    cr_expect_eq(generator_number(cJSON_GetArrayItem(rows, 0), "layer"), 1000);
    cr_expect_eq(generator_number(cJSON_GetArrayItem(rows, 4 * LAYERS - 1), "layer"),
                 1000 + 3 * (LAYERS - 1));
    cJSON_Delete(json);
}

/* -------------------------------------------------------------- bad input */

static void refused(const char *arguments, const char *message)
{
    char line[1200];
    snprintf(line, sizeof line, "xq compare: %s", message);
    command_refuses(arguments, 1, line);
}

/* Checks for exit status 1 and an error that contains this text. */
static void refused_with(const char *arguments, const char *text)
{
    struct command_result r = command_run("%s", arguments);
    cr_expect_eq(r.status, 1, "xq %s: %s", arguments, r.err);
    cr_expect(strstr(r.err, text), "xq %s: no '%s' in: %s", arguments, text, r.err);
}

/* 24 rows do not fit on sm_80, the architecture that the generator assumes by default. */
Test(compare, tuning_is_checked_for_the_kernels_and_the_device_that_run_it, .timeout = 120)
{
#define TUNED                                                                                              \
    "--model smollm2-135m --tokens 64 --bits 4 --set tuning.attend.split_tokens=1024 "                     \
    "--set tuning.attend.query_rows=24 --set tuning.attend.value_tiles=1 --set tuning.attend.stages=4 "
    cJSON *json = synthetic(TUNED "--queries 4");
    cr_expect_eq(generator_number(json, "spec.tuning.attend.query_rows"), 24);
    cr_expect_str_eq(generator_string(json, "spec.queries"), "many");
    cr_expect_str_eq(generator_string(json, "spec.arch"), "sm_90");
    cJSON_Delete(json);
    refused_with("compare --synthetic --device sim:a100 " TUNED "--queries 4", "of shared memory on sm_80");
    refused_with("compare --synthetic --device sim " TUNED,
                 "tuning.attend: with one query, query_rows must");
}

/* Memory is needed for the sequences that differ, not for the batch. */
Test(compare, an_input_that_memory_does_not_hold_is_named_by_its_size)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("sanitizers need more addresses than this leaves");
#endif
    char command[5000], *said;
    snprintf(
        command, sizeof command,
        "ulimit -v 8000000; '%s' compare --synthetic --model smollm2-135m --tokens 16777216 --batch 65535",
        command_program());
    cr_assert_eq(shell_run(command, &said), 1, "%s", said);
    cr_assert_str_eq(said, "xq compare: out of memory for --tokens 16777216 and --batch 65535: the inputs "
                           "of 4 sequences take 232 GB\n");
    free(said);
}

Test(compare, tuning_of_kernels_that_do_not_run_is_refused)
{
#define ONE_LAYER "compare --synthetic --device sim --model smollm2-135m --tokens 32 --bits 4 "
    struct command_result r = command_run("%s", ONE_LAYER "--set tuning.merge.threads=64");
    cr_expect_eq(r.status, 2, "%s", r.err);
    cr_expect(strstr(r.err, "--set tuning.merge: has no effect, because no such kernel runs here; valid: "),
              "%s", r.err);
    command_refuses(ONE_LAYER "--queries 2 --set 'queries=\"one\"'", 2,
                    "xq compare: --queries and --set queries: give one of them");
}

Test(compare, impossible_settings_are_named)
{
    command_refuses("compare --model smollm2-135m", 2,
                    "xq compare: there is nothing to attend over; give --activations FILE or --synthetic");
    refused("compare --model smollm2-135m --synthetic --bits 4,7",
            "cache.bits: 7 is not valid; valid: 2, 3, 4, 8");
    refused("compare --model smollm2-135m --synthetic --bits 4,x",
            "--bits: 'x' is no bit width; valid: 2, 3, 4, 8");
    refused("compare --model smollm2-135m --synthetic --layers 1,1",
            "--layers: '1' comes twice; give each once");
    refused("compare --model smollm2-135m --synthetic --tokens 0", "--tokens: 0; valid: 1 to 16777216");
    refused("compare --model smollm2-135m --synthetic --tokens -3", "--tokens: -3; valid: 1 to 16777216");
    refused("compare --model smollm2-135m --synthetic --tokens 3 --queries 4",
            "--queries: 4; valid: 1 to 3, the number of tokens");
    refused("compare --model llama-2-7b --synthetic --method x-cl --layers 1",
            "--layers: layer 1 comes before the base layer (--base-layer 2), and method x-cl begins at "
            "the base layer");
    command_refuses("compare --model smollm2-135m --synthetic --prepared f.safetensors", 2,
                    "xq compare: --prepared: the factors belong to a model's projections, not to synthetic "
                    "ones; give --model DIR, the model that was prepared");
    command_refuses("compare --model smollm2-135m --synthetic --queries 0", 1,
                    "xq compare: --queries: 0; valid: 1 to 65536");
    command_refuses("compare --model smollm2-135m --synthetic --batch 0", 1,
                    "xq compare: --batch: 0; valid: 1 to 65535");
    command_refuses("compare --model smollm2-135m --synthetic --activations f", 2,
                    "xq compare: --synthetic and --activations: give one of them");
}

Test(compare, unfit_activations_are_named)
{
    struct layer layer = layer_of(10);
    const char *directory = layer_files_write(&layer, "x", 4);
    char arguments[1024], line[1024];
    const char *format = "compare --spec %s/spec.json --activations %s/in.safetensors %s";
    snprintf(arguments, sizeof arguments, format, directory, directory, "--tokens 11");
    snprintf(line, sizeof line, "--tokens: 11; valid: 1 to 10, as many as in %s/in.safetensors", directory);
    refused(arguments, line);
    snprintf(arguments, sizeof arguments, format, directory, directory, "--layers 4");
    snprintf(line, sizeof line, "%s/in.safetensors: there is no tensor x.4 among its 4", directory);
    refused(arguments, line);
    snprintf(arguments, sizeof arguments, format, directory, directory, "--model llama-2-7b");
    snprintf(line, sizeof line, "%s/in.safetensors: tensor x.5 has shape [10, 128], needs [any, 4096]",
             directory);
    refused(arguments, line);
}

Test(compare, unfit_prepared_weights_are_named)
{
    const char *directory = model_files(&(struct model_change){0}),
               *path = files_path(directory, "w.safetensors");
    struct command_result r = command_run("prepare %s --method x --layers 0 -o %s", directory, path);
    char arguments[1024], line[1024];
    size_t size;
    cr_assert_eq(r.status, 0, "%s", r.err);
    snprintf(arguments, sizeof arguments, "compare --model %s --synthetic --method latent --prepared %s",
             directory, path);
    snprintf(line, sizeof line, "%s: layer 0 is prepared for method x, not latent; run `xq prepare` for it",
             path);
    refused(arguments, line);
    snprintf(arguments, sizeof arguments,
             "compare --model %s --synthetic --method x --no-rotation --prepared %s", directory, path);
    command_refuses(arguments, 2,
                    "xq compare: --prepared: method x without rotation has no factors to take from the "
                    "file; leave it out");
    snprintf(arguments, sizeof arguments, "compare --model %s --synthetic --method latent --prepared %s",
             directory, path);
    char *data = files_read(path, &size);
    uint64_t header;
    memcpy(&header, data, sizeof header);
    size_t all = size - 8 - (size_t)header, left = all / 2;
    files_write(path, data, 8 + (size_t)header + left);
    snprintf(line, sizeof line,
             "%s: tensor layers.0.ak ends at byte %d of %zu: the file is truncated or damaged", path,
             2 * (MODEL_D * MODEL_D + MODEL_D * MODEL_DKV), left);
    refused(arguments, line);
    free(data);
}

/* Writes an activations file for layer 0 of the tests' model with one additional tensor, and runs compare
 * on it. */
static struct command_result compare_with(const char *directory, const char *name, float *values)
{
    tensor all[] = {{.name = "x.0", .rank = 2, .shape = {16, MODEL_D}},
                    {.name = "q.0", .rank = 3, .shape = {16, MODEL_HEADS, 64}},
                    {.name = name, .rank = 2, .shape = {MODEL_D, MODEL_DKV}, .data = values}};
    error err = ERROR_INIT;
    for (int k = 0; k < 3; k++) {
        all[k].bytes = 4 * tensor_count(&all[k]);
        all[k].data = all[k].data ? all[k].data : layer_floats(tensor_count(&all[k]), 1);
    }
    cr_assert_eq(safetensors_write(files_path(directory, "act"), all, 3, &err), XQ_OK);
    return command_run("compare --device sim --activations %s/act --model %s --method latent --bits 4",
                       directory, directory);
}

/* Weights that differ from those of the model directory would be ignored, and so would a vector that the
 * spec does not have. */
Test(compare, tensors_that_would_be_ignored_are_refused)
{
    static const char *const names[] = {"wk.0", "wv.0", "bk.0", "k_norm.0", "sinks.0"};
    const char *directory = model_files(&(struct model_change){0});
    for (int i = 0; i < 5; i++) {
        char expected[64];
        struct command_result r = compare_with(directory, names[i], layer_floats(MODEL_D * MODEL_DKV, 1));
        snprintf(expected, sizeof expected,
                 i < 2 ? "tensor %s differs from the weights of the model directory"
                       : "tensor %s: the spec has no ",
                 names[i]);
        cr_expect_eq(r.status, 1, "%s: %s", names[i], r.err);
        cr_expect(strstr(r.err, expected), "%s", r.err);
    }
}

/* tools/models.py records a model's projections with its activations. */
Test(compare, a_model_directory_takes_files_that_record_its_own_weights, .timeout = 120)
{
    const char *directory = model_files(&(struct model_change){0});
    for (int is_v = 0; is_v < 2; is_v++) {
        float *w = layer_floats(MODEL_D * MODEL_DKV, 1);
        for (int i = 0; i < MODEL_D * MODEL_DKV; i++)
            w[i] = model_value(0, is_v, i % MODEL_DKV, i / MODEL_DKV);
        struct command_result r = compare_with(directory, is_v ? "wv.0" : "wk.0", w);
        cr_expect_eq(r.status, 0, "%s", r.err);
        w[MODEL_D * MODEL_DKV - 1] += 0.125f;
        r = compare_with(directory, is_v ? "wv.0" : "wk.0", w);
        cr_expect_eq(r.status, 1, "the last element differs");
    }
}

/* The model's own matrices would be read with wrong sizes. */
Test(compare, sizes_of_a_model_directory_cannot_be_overridden)
{
    static const char *const sets[] = {
        "hidden_size=256",     "num_key_value_heads=2", "num_attention_heads=1", "head_dim=128",
        "attention_bias=true", "attention_sinks=true",  "qk_norm=true",
    };
    const char *directory = model_files(&(struct model_change){0});
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char expected[96];
        struct command_result r =
            command_run("compare --device sim --synthetic --tokens 32 --bits 4 --model %s --set model.%s",
                        directory, sets[i]);
        snprintf(expected, sizeof expected, "model.%.*s: differs from the model directory's",
                 (int)strcspn(sets[i], "="), sets[i]);
        cr_expect_eq(r.status, 1, "%s: %s", sets[i], r.err);
        cr_expect(strstr(r.err, expected), "%s: %s", sets[i], r.err);
    }
}
