/* `xq prepare` on directories with files that it cannot use, and on models whose layers differ. */
#include "../../prepare/safetensors.h"
#include "../support/command.h"
#include "../support/files.h"
#include "../support/model_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZES                                                                                              \
    "\"hidden_size\": 128, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 64, "     \
    "\"num_hidden_layers\": 2"
#define POINTER                                                                                            \
    "version https://git-lfs.github.com/spec/v1\noid "                                                     \
    "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 1234\n"

static void refused(const char *directory, const char *options, const char *first, const char *second)
{
    struct command_result r =
        command_run("prepare %s --out %s/out.safetensors %s", directory, directory, options);
    cr_assert_eq(r.status, 1, "%s", r.err);
    cr_assert(strstr(r.err, first) && strstr(r.err, second), "%s", r.err);
    cr_assert_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "%s", r.err);
}

static const char *with_config(const char *config)
{
    return model_files(&(struct model_change){.config = config});
}

/* ---------------------------------------------------------------- quantized checkpoints */

/* Writes tensors of layer 0 that have the names of a quantized checkpoint. */
static const char *quantized(const char *config, const char *const names[], int count)
{
    static const uint8_t zeros[64];
    tensor tensors[4];
    char all[4][96];
    error err = ERROR_INIT;
    const char *directory = with_config(config);
    for (int i = 0; i < count; i++) {
        snprintf(all[i], sizeof all[i], "model.layers.0.self_attn.%s", names[i]);
        tensors[i] = (tensor){
            .name = all[i], .type = TENSOR_F32, .rank = 1, .shape = {16}, .data = zeros, .bytes = 64};
    }
    safetensors_write(files_path(directory, "model.safetensors"), tensors, count, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    return directory;
}

Test(checkpoints, quantized_projections_are_named_as_what_they_are)
{
    static const struct {
        const char *config, *names[2], *method;
    } cases[] = {
        {"{\"model_type\": \"llama\", " SIZES "}", {"k_proj.qweight", "k_proj.qzeros"}, "GPTQ or AWQ"},
        {"{\"model_type\": \"llama\", " SIZES ", \"quantization_config\": {\"quant_method\": \"awq\"}}",
         {"k_proj.qweight", "k_proj.qzeros"},
         "(awq)"},
        {"{\"model_type\": \"llama\", " SIZES "}", {"k_proj.weight", "k_proj.SCB"}, "bitsandbytes, 8 bits"},
        {"{\"model_type\": \"llama\", " SIZES "}",
         {"k_proj.weight", "k_proj.weight.absmax"},
         "bitsandbytes, 4 bits"},
        {"{\"model_type\": \"llama\", " SIZES "}",
         {"k_proj.weight_packed", "k_proj.weight_scale"},
         "compressed-tensors"},
        {"{\"model_type\": \"phi3\", " SIZES "}",
         {"qkv_proj.weight", "qkv_proj.weight_scale_inv"},
         "scales"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(quantized(cases[i].config, cases[i].names, 2), "", "the checkpoint is quantized",
                cases[i].method);
}

/* In gpt-oss only the experts are quantized. */
Test(checkpoints, quantization_elsewhere_does_not_matter)
{
    const char *directory = with_config("{\"model_type\": \"llama\", " SIZES ", "
                                        "\"quantization_config\": {\"quant_method\": \"mxfp4\"}}");
    struct command_result r = command_run("prepare %s --out %s/out.safetensors", directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
}

/* ---------------------------------------------------------------- tensors that would be ignored */

/* In any layer, one of the two tensors would be read, and the other ignored. */
Test(checkpoints, two_tensors_of_one_projection_are_both_named)
{
    static const char *const cases[][2] = {
        {"model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.self_attn.k_proj.weight"},
        {"model.layers.1.self_attn.qkv_proj.weight", "model.layers.1.self_attn.k_proj.weight"},
        {"model.layers.1.self_attn.qkv_proj.bias", "model.layers.1.self_attn.k_proj.weight"},
        {"layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.weight"},
        {"layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.k_proj.weight"},
        {"model.language_model.layers.0.self_attn.v_proj.bias", "model.layers.0.self_attn.k_proj.weight"},
        {"model.layers.1.attention.wqkv.weight", "model.layers.1.self_attn.k_proj.weight"},
        {"model.layers.0.self_attn.v_proj.qweight", "model.layers.0.self_attn.v_proj.weight"},
        {"model.layers.1.self_attn.k_proj.qweight", "model.layers.1.self_attn.k_proj.weight"},
        {"model.layers.1.self_attn.v_proj.weight_packed", "model.layers.1.self_attn.v_proj.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(model_files(&(struct model_change){.extra = cases[i][0]}), "", cases[i][0], cases[i][1]);
}

Test(checkpoints, parts_of_a_projection_that_are_not_read_are_named)
{
    static const char *const cases[] = {
        "model.layers.1.self_attn.k_proj.lora_A.weight",
        "model.layers.0.self_attn.v_proj.lora_B.default.weight",
        "model.layers.0.self_attn.v_proj.base_layer.weight",
        "model.layers.1.self_attn.k_proj.parametrizations.weight.original0",
        "model.layers.1.self_attn.k_proj.output_scale",
        "layers.1.self_attn.k_proj.lora_A.weight",
        "model.layers.1.self_attn.qkv_proj.lora_A.weight",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(model_files(&(struct model_change){.extra = cases[i]}), "", cases[i],
                "only the weight and bias of a projection are read");
}

/* Heads that predict several tokens are stored as layers after those of the model. */
Test(checkpoints, tensors_of_other_layers_do_not_matter)
{
    const char *directory =
        model_files(&(struct model_change){.extra = "layers.2.self_attn.k_proj.weight"});
    struct command_result r = command_run("prepare %s --out %s/out.safetensors", directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    static const char *const others[] = {
        "model.layers.2.self_attn.k_proj.lora_A.weight", "model.layers.1.self_attn.q_proj.lora_A.weight",
        "model.layers.1.cross_attn.k_proj.scale", "model.layers.x.self_attn.k_proj.s"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        directory = model_files(&(struct model_change){.extra = others[i]});
        r = command_run("prepare %s --out %s/out.safetensors", directory, directory);
        cr_expect_eq(r.status, 0, "%s", r.err);
    }
}

/* ---------------------------------------------------------------- pointers */

Test(checkpoints, git_lfs_pointers_are_named)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        const char *directory = model_files(&(struct model_change){0});
        files_write(files_path(directory, files[i]), POINTER, sizeof POINTER - 1);
        refused(directory, "", files[i], "a Git LFS pointer, not the file itself");
    }
    const char *directory = model_files(&(struct model_change){0});
    remove(files_path(directory, "model.safetensors"));
    files_write(files_path(directory, "model.safetensors.index.json"), POINTER, sizeof POINTER - 1);
    refused(directory, "", "model.safetensors.index.json", "a Git LFS pointer, not the file itself");
}

/* ---------------------------------------------------------------- faults of the model */

Test(checkpoints, a_fault_of_the_model_names_its_file)
{
    const char *directory =
        with_config("{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 2, "
                    "\"head_dim\": 65, \"num_hidden_layers\": 2}");
    refused(directory, "", "config.json: ", "model.head_dim: 65 is not supported");
    static const char *const commands[] = {"gen --print-spec", "compare --synthetic --device sim"};
    for (int i = 0; i < 2; i++) {
        struct command_result r = command_run("%s --model %s", commands[i], directory);
        cr_assert_eq(r.status, 1, "%s", r.err);
        cr_assert(strstr(r.err, directory) && strstr(r.err, "model.head_dim"), "%s", r.err);
    }
}

/* prepare/layer.h and gen/schema.lua agree on the range. */
Test(checkpoints, a_missing_size_is_named_with_its_valid_values)
{
    static const char *const layers[] = {"", ", \"num_hidden_layers\": null"};
    char config[256];
    for (int i = 0; i < 2; i++) {
        snprintf(config, sizeof config,
                 "{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 2%s}",
                 layers[i]);
        refused(with_config(config), "", "config.json: num_hidden_layers is missing", "from 1 to 10000");
    }
    refused(with_config("{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_hidden_layers\": 2}"), "",
            "num_attention_heads",
            "is missing; it must be a whole number (query heads, H); valid: 1 to 1024");
    refused(with_config("{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 2, "
                        "\"num_hidden_layers\": 10001}"),
            "", "num_hidden_layers", "valid: 1 to 10000");
}

/* ---------------------------------------------------------------- layers that differ */

Test(checkpoints, layers_of_linear_attention_are_left_out)
{
    static const char config[] =
        "{\"model_type\": \"qwen3_next\", \"hidden_size\": 128, \"num_attention_heads\": 2, "
        "\"num_key_value_heads\": 1, \"head_dim\": 64, \"num_hidden_layers\": 2, "
        "\"full_attention_interval\": 2}";
    const char *directory = model_files(
        &(struct model_change){.config = config, .extra = "model.layers.1.self_attn.k_norm.weight"});
    refused(directory, "--layers 0,1", "layer 0 has linear attention", "no keys and values");
    refused(directory, "", "model.layers.1.self_attn.k_norm.weight",
            "needs [64]"); /* it reached the right layer */
}

/* Layer 0 has RoPE and layer 1 has none, so the columns of their K are packed in different orders. */
Test(checkpoints, a_packed_file_is_for_one_order_of_columns)
{
    const char *directory =
        with_config("{\"model_type\": \"smollm3\", " SIZES ", \"no_rope_layer_interval\": 2}");
    refused(directory, "--pack", "layers 0 and 1 pack their weights differently", "--layers");
    static const char *const options[] = {"", "--pack --layers 0", "--pack --layers 1"};
    for (int i = 0; i < 3; i++) {
        struct command_result r =
            command_run("prepare %s --out %s/%d.safetensors %s", directory, directory, i, options[i]);
        cr_assert_eq(r.status, 0, "%s", r.err);
    }
}

#define EIGHT   "1, 2, 3, 4, 5, 6, 7, 8"
#define FACTORS "[" EIGHT ", " EIGHT ", " EIGHT ", " EIGHT "]"

Test(checkpoints, longrope_needs_no_table_to_be_prepared)
{
    const char *directory =
        with_config("{\"model_type\": \"phi3\", " SIZES ", \"max_position_embeddings\": 8192, "
                    "\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": " FACTORS
                    ", \"long_factor\": " FACTORS "}}");
    struct command_result r = command_run("gen --print-spec --model %s", directory);
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.err, "model.rope_scaling.table: is missing"), "%s", r.err);
    r = command_run("prepare %s --out %s/out.safetensors", directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
}
