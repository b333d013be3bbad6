#include "generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- presets */

/* What each preset completes to, or which field refuses it. */
static const struct preset {
    const char *name;
    int hidden_size, heads, kv_heads, head_dim;
    double theta, factor; /* factor: of llama3 scaling; 0: none */
    const char *refused;
} presets[] = {
    {"gemma-3-1b", 0, 0, 0, 0, 0, 0, "model.rope_local_base_freq"},
    {"gpt-oss-20b", 0, 0, 0, 0, 0, 0, "model.rope_scaling"},
    {"llama-2-7b", 4096, 32, 32, 128, 1e4, 0, NULL},
    {"llama-2-13b", 5120, 40, 40, 128, 1e4, 0, NULL},
    {"llama-3.1-8b", 4096, 32, 8, 128, 5e5, 8, NULL},
    {"llama-3.1-70b", 8192, 64, 8, 128, 5e5, 8, NULL},
    {"llama-3.2-1b", 2048, 32, 8, 64, 5e5, 32, NULL},
    {"llama-3.2-3b", 3072, 24, 8, 128, 5e5, 32, NULL},
    {"mistral-7b", 4096, 32, 8, 128, 1e6, 0, NULL},
    {"phi-3-mini", 3072, 32, 32, 96, 1e4, 0, NULL},
    {"qwen2.5-0.5b", 896, 14, 2, 64, 1e6, 0, NULL},
    {"qwen2.5-7b", 3584, 28, 4, 128, 1e6, 0, NULL},
    {"qwen3-0.6b", 1024, 16, 8, 128, 1e6, 0, NULL},
    {"qwen3-8b", 4096, 32, 8, 128, 1e6, 0, NULL},
    {"qwen3-30b-a3b", 2048, 32, 4, 128, 1e6, 0, NULL},
    {"smollm2-135m", 576, 9, 3, 64, 1e5, 0, NULL},
    {"smollm2-360m", 960, 15, 5, 64, 1e5, 0, NULL},
};

enum { PRESETS = sizeof presets / sizeof *presets };

Test(models, every_preset_completes_or_is_refused_with_its_feature)
{
    for (int i = 0; i < PRESETS; i++) {
        const struct preset *p = &presets[i];
        char spec[128];
        snprintf(spec, sizeof spec, "{\"model\": \"%s\"}", p->name);
        if (p->refused) {
            generator_refuses(spec, XQ_ERROR_UNSUPPORTED, p->refused, "not supported yet");
            continue;
        }
        cJSON *completed = generator_complete_parsed(spec);
        cr_assert_str_eq(generator_string(completed, "model.name"), p->name);
        cr_assert_eq(generator_number(completed, "model.hidden_size"), p->hidden_size);
        cr_assert_eq(generator_number(completed, "model.num_attention_heads"), p->heads);
        cr_assert_eq(generator_number(completed, "model.num_key_value_heads"), p->kv_heads);
        cr_assert_eq(generator_number(completed, "model.head_dim"), p->head_dim);
        cr_assert_eq(generator_number(completed, "model.rope.theta"), p->theta);
        const cJSON *rope = generator_member(completed, "model.rope");
        cr_assert_eq(cJSON_HasObjectItem(rope, "scaling"), p->factor != 0);
        if (p->factor != 0)
            cr_assert_eq(generator_number(rope, "scaling.factor"), p->factor);
        cJSON_Delete(completed);
    }
}

Test(models, presets_are_listed_in_order)
{
    char expected[1024] = "";
    for (int i = 0; i < PRESETS; i++) {
        strcat(expected, presets[i].name);
        strcat(expected, "\n");
    }
    cr_assert_str_eq(gen_presets(generator()), expected);
}

Test(models, preset_names_match_in_any_case)
{
    char *lower = generator_complete("{\"model\": \"llama-3.1-8b\"}");
    char *upper = generator_complete("{\"model\": \"Llama-3.1-8B\"}");
    cr_assert_str_eq(lower, upper);
    free(lower);
    free(upper);
}

/* ---------------------------------------------------------------- config.json */

#define LLAMA_31                                                                                           \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false, \"attention_dropout\": 0.0, "  \
    "\"bos_token_id\": 128000, \"eos_token_id\": 128001, \"hidden_act\": \"silu\", \"hidden_size\": "      \
    "4096, "                                                                                               \
    "\"initializer_range\": 0.02, \"intermediate_size\": 14336, \"max_position_embeddings\": 131072, "     \
    "\"mlp_bias\": false, \"model_type\": \"llama\", \"num_attention_heads\": 32, "                        \
    "\"num_hidden_layers\": 32, \"num_key_value_heads\": 8, \"pretraining_tp\": 1, "                       \
    "\"rms_norm_eps\": 1e-05, \"rope_scaling\": {\"factor\": 8.0, \"low_freq_factor\": 1.0, "              \
    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}, "  \
    "\"rope_theta\": 500000.0, \"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\", "            \
    "\"transformers_version\": \"4.43.0.dev0\", \"use_cache\": true, \"vocab_size\": 128256}"

static cJSON *read_config(const char *config)
{
    error err = ERROR_INIT;
    char *model = NULL;
    gen_model_from_config(generator(), config, "dir/config.json", &model, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", config, err.message);
    cJSON *spec = cJSON_CreateObject();
    cJSON_AddItemToObject(spec, "model", cJSON_Parse(model));
    free(model);
    return spec;
}

static cJSON *complete_config(const char *config)
{
    cJSON *spec = read_config(config);
    char *text = cJSON_PrintUnformatted(spec);
    cJSON *completed = generator_complete_parsed(text);
    free(text);
    cJSON_Delete(spec);
    return completed;
}

/* Reading the config, or completing its model, fails with this field. */
static void config_refused(const char *config, xq_status status, const char *field, const char *text)
{
    error err = ERROR_INIT;
    char *model = NULL, *completed = NULL;
    if (gen_model_from_config(generator(), config, "dir/config.json", &model, &err) == XQ_OK) {
        char *spec = malloc(strlen(model) + 32);
        sprintf(spec, "{\"model\": %s}", model);
        gen_complete(generator(), spec, &completed, &err);
        free(spec);
    } else {
        cr_assert_null(model);
        cr_assert_str_eq(err.file, "dir/config.json", "%s", err.message);
        cr_assert(strstr(err.message, "dir/config.json"), "%s", err.message);
    }
    cr_assert_eq(err.status, status, "%s: %s", config, err.message);
    cr_assert_str_eq(err.field, field, "%s: %s", config, err.message);
    cr_assert(strstr(err.message, text), "%s", err.message);
    cr_assert_null(completed);
    free(model);
}

Test(config, llama_reads_as_its_preset)
{
    cJSON *ours = generator_complete_parsed("{\"model\": \"llama-3.1-8b\"}"),
          *theirs = complete_config(LLAMA_31);
    cJSON *model = cJSON_GetObjectItem(ours, "model"), *read = cJSON_GetObjectItem(theirs, "model");
    cr_assert_str_eq(generator_string(read, "model_type"), "llama");
    cJSON_DeleteItemFromObject(model, "name");
    cJSON_DeleteItemFromObject(read, "model_type");
    cr_assert(cJSON_Compare(ours, theirs, 1));
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
}

#define SHAPE                                                                                              \
    "\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 64"

Test(config, mistral_without_window_completes)
{
    cJSON *spec = complete_config("{\"model_type\": \"mistral\", " SHAPE
                                  ", \"sliding_window\": null, \"rope_theta\": 1000000.0}");
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 1e6);
    cJSON_Delete(spec);
}

Test(config, missing_keys_mean_what_transformers_takes_them_for)
{
    cJSON *spec = read_config("{\"model_type\": \"mistral\", " SHAPE "}");
    cr_assert_eq(generator_number(spec, "model.sliding_window"), 4096);
    cJSON_Delete(spec);
    spec = read_config("{\"model_type\": \"qwen2\", " SHAPE ", \"sliding_window\": 4096}");
    cr_assert(cJSON_IsTrue(generator_member(spec, "model.attention_bias")));
    cr_assert_not(cJSON_HasObjectItem(generator_member(spec, "model"), "sliding_window"));
    cJSON_Delete(spec);
    spec = read_config("{\"model_type\": \"qwen3\", \"hidden_size\": 1024, \"num_attention_heads\": 16}");
    cr_assert_eq(generator_number(spec, "model.head_dim"), 128);
    cr_assert(cJSON_IsTrue(generator_member(spec, "model.qk_norm")));
    cJSON_Delete(spec);
}

Test(config, unknown_model_types_are_refused_with_those_known)
{
    config_refused("{\"model_type\": \"lama\", " SHAPE "}", XQ_ERROR_UNSUPPORTED, "model_type",
                   "did you mean 'llama'?");
    config_refused("{\"model_type\": \"deepseek_v3\", " SHAPE "}", XQ_ERROR_UNSUPPORTED, "model_type",
                   "qwen3_moe");
    config_refused("{" SHAPE "}", XQ_ERROR_SPEC, "model_type", "missing");
}

Test(config, unknown_keys_that_may_change_attention_are_refused)
{
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"attn_output_gate\": true}",
                   XQ_ERROR_UNSUPPORTED, "attn_output_gate", "may change attention");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"sliding_window\": 4096}", XQ_ERROR_UNSUPPORTED,
                   "sliding_window", "may change attention");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"layer_types\": [\"linear_attention\"]}",
                   XQ_ERROR_UNSUPPORTED, "layer_types", "linear_attention");
    cJSON_Delete(
        complete_config("{\"model_type\": \"llama\", " SHAPE ", \"attn_output_gate\": false, "
                        "\"rope_interleaved\": false, \"alibi\": null, \"vision_tower\": \"none\", "
                        "\"layer_types\": [\"full_attention\", \"full_attention\"]}"));
}

/* What transformers writes when it saves every default. */
Test(config, keys_that_only_sound_like_attention_are_ignored)
{
    cJSON_Delete(complete_config(
        "{\"model_type\": \"llama\", " SHAPE
        ", \"pruned_heads\": {}, \"output_attentions\": true, \"chunk_size_feed_forward\": 8, "
        "\"cross_attention_hidden_size\": null, \"add_cross_attention\": false, \"attention_dropout\": "
        "0.1, "
        "\"_attn_implementation_autoset\": true, \"use_mrope\": false, \"max_position_embeddings\": 4096, "
        "\"original_max_position_embeddings\": 4096, \"id2label\": {\"0\": \"LABEL_0\"}, "
        "\"architectures\": []}"));
}

Test(config, rope_parameters_say_what_theta_and_scaling_say)
{
    cJSON *spec =
        complete_config("{\"model_type\": \"llama\", " SHAPE ", \"rope_parameters\": {\"rope_theta\": "
                        "500000.0, \"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, "
                        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}");
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 5e5);
    cr_assert_eq(generator_number(spec, "model.rope.scaling.factor"), 32);
    cJSON_Delete(spec);
    spec = complete_config("{\"model_type\": \"llama\", " SHAPE
                           ", \"rope_parameters\": {\"rope_theta\": 1000.0, \"rope_type\": \"default\"}}");
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 1e3);
    cJSON_Delete(spec);
    config_refused("{\"model_type\": \"gemma3_text\", " SHAPE ", \"rope_parameters\": {\"full_attention\": "
                   "{\"rope_theta\": 1}}}",
                   XQ_ERROR_UNSUPPORTED, "rope_parameters", "local layers");
}

Test(config, wrong_values_name_their_field)
{
    config_refused("{\"model_type\": \"llama\", \"hidden_size\": \"big\", \"num_attention_heads\": 8}",
                   XQ_ERROR_SPEC, "model.hidden_size", "whole number");
    config_refused("{\"model_type\": \"llama\", \"num_attention_heads\": 8}", XQ_ERROR_SPEC, "hidden_size",
                   "missing");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"rope_scaling\": 4}", XQ_ERROR_SPEC,
                   "model.rope_scaling", "object");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"rope_parameters\": 4}", XQ_ERROR_SPEC,
                   "rope_parameters", "object");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"layer_types\": 4}", XQ_ERROR_SPEC,
                   "layer_types", "list");
    config_refused("[1, 2]", XQ_ERROR_FORMAT, "config", "object");
}

Test(config, malformed_files_name_file_and_line)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\n  \"model_type\": \"llama\",\n  \"hidden_size\": 4096,,\n}",
         "dir/config.json:3: malformed JSON"},
        {"{\n  \"model_type\": \"llama\",\n  \"hidden_size\": 40", "dir/config.json:3: malformed JSON"},
        {"", "dir/config.json:1: malformed JSON"},
        {"\x7f"
         "ELF",
         "dir/config.json:1: malformed JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        error err = ERROR_INIT;
        char *model = NULL;
        cr_assert_eq(gen_model_from_config(generator(), cases[i].text, "dir/config.json", &model, &err),
                     XQ_ERROR_FORMAT);
        cr_assert_null(model);
        cr_assert(strstr(err.message, cases[i].message), "%s", err.message);
        cr_assert_str_eq(err.file, "dir/config.json");
    }
}

Test(config, every_truncation_is_refused)
{
    char text[sizeof LLAMA_31];
    for (size_t size = 0; size < sizeof LLAMA_31 - 1; size++) {
        memcpy(text, LLAMA_31, size);
        text[size] = 0;
        error err = ERROR_INIT;
        char *model = NULL;
        cr_assert_eq(gen_model_from_config(generator(), text, NULL, &model, &err), XQ_ERROR_FORMAT, "%s",
                     text);
        cr_assert_null(model);
        error_clear(&err);
    }
}
