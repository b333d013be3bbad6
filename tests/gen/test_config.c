#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void config_refused(const char *config, xq_status status, const char *field, const char *text)
{
    generator_refuses_config(config, status, field, text);
}

#define SHAPE                                                                                              \
    "\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 64"

Test(config, mistral_without_window_completes)
{
    cJSON *spec = generator_complete_config("{\"model_type\": \"mistral\", " SHAPE
                                            ", \"sliding_window\": null, \"rope_theta\": 1000000.0}",
                                            NULL);
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 1e6);
    cJSON_Delete(spec);
}

Test(config, missing_keys_mean_what_transformers_takes_them_for)
{
    cJSON *spec = generator_config("{\"model_type\": \"mistral\", " SHAPE "}");
    cr_assert_eq(generator_number(spec, "model.sliding_window"), 4096);
    cJSON_Delete(spec);
    spec = generator_config("{\"model_type\": \"qwen2\", " SHAPE ", \"sliding_window\": 4096}");
    cr_assert(cJSON_IsTrue(generator_member(spec, "model.attention_bias")));
    cr_assert_not(cJSON_HasObjectItem(generator_member(spec, "model"), "sliding_window"));
    cJSON_Delete(spec);
    spec =
        generator_config("{\"model_type\": \"qwen3\", \"hidden_size\": 1024, \"num_attention_heads\": 16}");
    cr_assert_eq(generator_number(spec, "model.head_dim"), 128);
    cr_assert(cJSON_IsTrue(generator_member(spec, "model.qk_norm")));
    cJSON_Delete(spec);
}

/* These keys are not in the spec, but they decide the meaning of others. Lua takes 0 and "no" for true. */
Test(config, flags_of_another_type_are_refused)
{
    static const char *const files[][2] = {{"qwen2", "use_sliding_window"},
                                           {"qwen3_moe", "use_sliding_window"},
                                           {"smollm3", "use_sliding_window"},
                                           {"falcon", "multi_query"},
                                           {"falcon", "new_decoder_architecture"}};
    static const char *const values[] = {"0", "1", "\"no\"", "[]", "{}"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            char config[512];
            snprintf(config, sizeof config,
                     "{\"model_type\": \"%s\", " SHAPE ", \"num_hidden_layers\": 4, \"%s\": %s}",
                     files[i][0], files[i][1], values[k]);
            config_refused(config, XQ_ERROR_SPEC, files[i][1], "must be true or false, not ");
        }
    }
}

Test(config, unknown_model_types_are_refused_with_those_known)
{
    config_refused("{\"model_type\": \"lama\", " SHAPE "}", XQ_ERROR_UNSUPPORTED, "model_type",
                   "did you mean 'llama'?");
    config_refused("{\"model_type\": \"deepseek_v3\", " SHAPE "}", XQ_ERROR_UNSUPPORTED, "model_type",
                   "qwen3_moe");
    config_refused("{" SHAPE "}", XQ_ERROR_SPEC, "model_type", "missing");
    config_refused("{\"model_type\": [\"llama\"], " SHAPE "}", XQ_ERROR_SPEC, "model_type",
                   "must be a string, not a list");
}

Test(config, unknown_keys_that_may_change_attention_are_refused)
{
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"attn_output_gate\": true}",
                   XQ_ERROR_UNSUPPORTED, "attn_output_gate", "may change attention");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"sliding_window\": 4096}", XQ_ERROR_UNSUPPORTED,
                   "sliding_window", "may change attention");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"layer_types\": [\"linear_attention\"]}",
                   XQ_ERROR_UNSUPPORTED, "layer_types", "linear_attention");
    cJSON_Delete(generator_complete_config(
        "{\"model_type\": \"llama\", " SHAPE ", \"attn_output_gate\": false, "
        "\"rope_interleaved\": false, \"alibi\": null, \"vision_tower\": \"none\", "
        "\"layer_types\": [\"full_attention\", \"full_attention\"]}",
        NULL));
}

/* transformers writes such keys when it saves every default. */
Test(config, keys_that_only_sound_like_attention_are_ignored)
{
    cJSON_Delete(generator_complete_config(
        "{\"model_type\": \"llama\", " SHAPE
        ", \"pruned_heads\": {}, \"output_attentions\": true, \"chunk_size_feed_forward\": 8, "
        "\"cross_attention_hidden_size\": null, \"add_cross_attention\": false, "
        "\"attention_dropout\": 0.1, \"_attn_implementation_autoset\": true, \"use_mrope\": false, "
        "\"max_position_embeddings\": 4096, \"original_max_position_embeddings\": 4096, "
        "\"id2label\": {\"0\": \"LABEL_0\"}, \"architectures\": []}",
        NULL));
}

Test(config, rope_parameters_say_what_theta_and_scaling_say)
{
    cJSON *spec = generator_complete_config(
        "{\"model_type\": \"llama\", " SHAPE ", \"rope_parameters\": {\"rope_theta\": 500000.0, "
        "\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
        "\"original_max_position_embeddings\": 8192}}",
        NULL);
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 5e5);
    cr_assert_eq(generator_number(spec, "model.rope.scaling.factor"), 32);
    cJSON_Delete(spec);
    spec = generator_complete_config(
        "{\"model_type\": \"llama\", " SHAPE
        ", \"rope_parameters\": {\"rope_theta\": 1000.0, \"rope_type\": \"default\"}}",
        NULL);
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 1e3);
    cJSON_Delete(spec);
}

/* transformers 5 has rope_parameters for each kind of layer. */
Test(config, rope_parameters_of_each_kind_of_layer_are_told_apart)
{
    cJSON *spec = generator_complete_config(
        "{\"model_type\": \"gemma3_text\", " SHAPE
        ", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 2e6, \"rope_type\": \"linear\", "
        "\"factor\": 8.0}, \"sliding_attention\": {\"rope_theta\": 3e4, \"rope_type\": \"default\"}}}",
        "full");
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 2e6);
    cr_assert_eq(generator_number(spec, "model.rope.scaling.factor"), 8);
    cr_assert_eq(generator_number(spec, "model.layer_kinds.sliding.rope.theta"), 3e4);
    cr_assert_not(cJSON_HasObjectItem(generator_member(spec, "model.layer_kinds.sliding.rope"), "scaling"));
    cJSON_Delete(spec);
    config_refused("{\"model_type\": \"gemma3_text\", " SHAPE
                   ", \"rope_parameters\": {\"full_attention\": {}, "
                   "\"sliding_attention\": {\"rope_type\": \"yarn\", \"factor\": 2}}}",
                   XQ_ERROR_UNSUPPORTED, "rope_parameters.sliding_attention", "sliding layers");
    config_refused("{\"model_type\": \"gemma3_text\", " SHAPE
                   ", \"rope_parameters\": {\"full_attention\": {}, \"chunked_attention\": {}}}",
                   XQ_ERROR_UNSUPPORTED, "rope_parameters", "chunked_attention");
    config_refused("{\"model_type\": \"gemma3_text\", " SHAPE
                   ", \"rope_parameters\": {\"full_attention\": 4}}",
                   XQ_ERROR_SPEC, "rope_parameters.full_attention", "object");
}

/* Members of a config.json; kind of layer, or NULL; path in the completed spec; number there (NAN: the path
 * must be absent). */
static const struct {
    const char *config, *kind, *path;
    double value;
} meanings[] = {
    {"\"model_type\": \"mistral\", " SHAPE, NULL, "model.sliding_window", 4096},
    {"\"model_type\": \"mistral\", " SHAPE ", \"sliding_window\": null", NULL, "model.sliding_window", NAN},
    {"\"model_type\": \"qwen2\", " SHAPE ", \"num_hidden_layers\": 4, \"use_sliding_window\": true, "
     "\"max_window_layers\": 3, \"sliding_window\": 99",
     "sliding", "model.sliding_window", 99},
    {"\"model_type\": \"qwen2\", " SHAPE ", \"num_hidden_layers\": 4, \"use_sliding_window\": true, "
     "\"max_window_layers\": 4, \"sliding_window\": 99",
     NULL, "model.sliding_window", NAN},
    {"\"model_type\": \"qwen3_moe\", " SHAPE ", \"use_sliding_window\": true, \"sliding_window\": 99, "
     "\"max_window_layers\": 3",
     NULL, "model.sliding_window", 99},
    {"\"model_type\": \"gemma2\", " SHAPE ", \"num_hidden_layers\": 4, \"sliding_window\": null", NULL,
     "model.sliding_window", NAN},
    {"\"model_type\": \"gemma2\", " SHAPE ", \"num_hidden_layers\": 4", "full",
     "model.attn_logit_softcapping", 50},
    {"\"model_type\": \"gemma2\", " SHAPE ", \"num_hidden_layers\": 4, \"attn_logit_softcapping\": null",
     "full", "model.attn_logit_softcapping", NAN},
    {"\"model_type\": \"gemma3\", \"text_config\": {\"rope_theta\": 5}", "full", "model.hidden_size", 2304},
    {"\"model_type\": \"gpt_oss\", " SHAPE
     ", \"num_hidden_layers\": 4, \"max_position_embeddings\": 131072",
     "full", "model.rope.scaling.factor", 32},
    {"\"model_type\": \"gpt_oss\", " SHAPE ", \"num_hidden_layers\": 4, \"rope_scaling\": null", "full",
     "model.rope.scaling.factor", NAN},
    {"\"model_type\": \"glm\", " SHAPE, NULL, "model.rope.rotary_dim", 32},
    {"\"model_type\": \"phi\", " SHAPE, NULL, "model.rope.rotary_dim", 32},
    {"\"model_type\": \"gpt_neox\", " SHAPE ", \"rotary_pct\": 1.0", NULL, "model.rope.rotary_dim", 64},
    {"\"model_type\": \"gpt_neox\", " SHAPE ", \"rotary_emb_base\": 500", NULL, "model.rope.theta", 500},
    {"\"model_type\": \"gpt_neox\", " SHAPE ", \"attention_bias\": false", NULL, "model.attention_bias",
     NAN},
    {"\"model_type\": \"falcon\", \"n_embed\": 512, \"n_head\": 8, \"multi_query\": false", NULL,
     "model.num_key_value_heads", 8},
    {"\"model_type\": \"falcon\", \"hidden_size\": 512, \"num_attention_heads\": 8, \"num_kv_heads\": 8",
     NULL, "model.num_key_value_heads", 1},
    {"\"model_type\": \"falcon\", \"hidden_size\": 512, \"num_attention_heads\": 8, \"n_head_kv\": 4, "
     "\"new_decoder_architecture\": true",
     NULL, "model.num_key_value_heads", 4},
    {"\"model_type\": \"falcon\", \"hidden_size\": 512, \"num_attention_heads\": 8, \"alibi\": true", NULL,
     "model.alibi_scale", 0.125},
    {"\"model_type\": \"bloom\", \"n_embed\": 512, \"num_attention_heads\": 8", NULL, "model.alibi_scale",
     NAN},
    {"\"model_type\": \"mpt\", \"d_model\": 512, \"n_heads\": 8, \"attn_config\": {\"softmax_scale\": 0.5}",
     NULL, "model.attention_scale", 0.5},
    {"\"model_type\": \"granite\", " SHAPE ", \"attention_multiplier\": 0.0078125", NULL,
     "model.attention_scale", 0.0078125},
    {"\"model_type\": \"granite\", " SHAPE, NULL, "model.attention_scale", 1},
    {"\"model_type\": \"nemotron\", " SHAPE, NULL, "model.rope.rotary_dim", 32},
    {"\"model_type\": \"stablelm\", " SHAPE, NULL, "model.rope.rotary_dim", 16},
    {"\"model_type\": \"stablelm\", " SHAPE, NULL, "model.attention_bias", NAN},
    {"\"model_type\": \"starcoder2\", " SHAPE ", \"sliding_window\": 4096", NULL, "model.sliding_window",
     4096},
    {"\"model_type\": \"starcoder2\", " SHAPE ", \"use_bias\": false", NULL, "model.attention_bias", NAN},
    {"\"model_type\": \"olmoe\", " SHAPE ", \"clip_qkv\": null", NULL, "model.rms_norm_eps", 1e-5},
    {"\"model_type\": \"olmo2\", " SHAPE, NULL, "model.rms_norm_eps", 1e-5},
    {"\"model_type\": \"olmo3\", " SHAPE
     ", \"num_hidden_layers\": 8, \"rope_scaling\": {\"rope_type\": \"linear\", "
     "\"factor\": 2}",
     "full", "model.rope.scaling.factor", 2},
    {"\"model_type\": \"olmo3\", " SHAPE
     ", \"num_hidden_layers\": 8, \"rope_scaling\": {\"rope_type\": \"linear\", "
     "\"factor\": 2}",
     "sliding", "model.rope.scaling.factor", NAN},
    {"\"model_type\": \"olmo3\", " SHAPE ", \"num_hidden_layers\": 8", "sliding", "model.rope.theta", 5e5},
};

static const cJSON *find(const cJSON *at, const char *path)
{
    char copy[128];
    strcpy(copy, path);
    for (char *rest = copy, *name; at && (name = strsep(&rest, "."));)
        at = cJSON_GetObjectItemCaseSensitive(at, name);
    return at;
}

Test(config, keys_of_each_family_mean_what_its_code_takes_them_for, .timeout = 60)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        char text[1024];
        snprintf(text, sizeof text, "{%s}", meanings[i].config);
        cJSON *spec = generator_complete_config(text, meanings[i].kind);
        const cJSON *value = find(spec, meanings[i].path);
        if (isnan(meanings[i].value))
            cr_assert_null(value, "%s: %s", text, meanings[i].path);
        else
            cr_assert(cJSON_IsNumber(value) && value->valuedouble == meanings[i].value, "%s: %s is %g",
                      text, meanings[i].path, value ? value->valuedouble : NAN);
        cJSON_Delete(spec);
    }
}

Test(config, what_families_cannot_do_here_is_refused_by_name)
{
    config_refused("{\"model_type\": \"phi\", " SHAPE ", \"qk_layernorm\": true}", XQ_ERROR_UNSUPPORTED,
                   "qk_layernorm", "may change attention");
    config_refused(
        "{\"model_type\": \"phi3\", " SHAPE
        ", \"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [1.0], \"short_factor\": [1.0]}}",
        XQ_ERROR_SPEC, "model.rope_scaling.short_factor", "1 entries, and there are 32 rotary pairs");
    config_refused("{\"model_type\": \"phi3\", " SHAPE
                   ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}}",
                   XQ_ERROR_SPEC, "model.rope_scaling.short_factor", "missing");
    config_refused("{\"model_type\": \"llama\", " SHAPE
                   ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}",
                   XQ_ERROR_UNSUPPORTED, "model.rope_scaling", "dynamic");
    config_refused("{\"model_type\": \"gemma3_text\", " SHAPE ", \"use_bidirectional_attention\": true}",
                   XQ_ERROR_UNSUPPORTED, "use_bidirectional_attention", "both directions");
    config_refused("{\"model_type\": \"gemma3\", \"text_config\": {\"model_type\": \"gemma4_text\"}}",
                   XQ_ERROR_UNSUPPORTED, "text_config.model_type", "gemma3_text");
    config_refused("{\"model_type\": \"olmoe\", " SHAPE ", \"clip_qkv\": 8.0}", XQ_ERROR_UNSUPPORTED,
                   "model.clip_qkv", "clipping");
    config_refused("{\"model_type\": \"stablelm\", " SHAPE ", \"qk_layernorm\": true}",
                   XQ_ERROR_UNSUPPORTED, "qk_layernorm", "may change attention");
    config_refused("{\"model_type\": \"gemma3\"}", XQ_ERROR_SPEC, "text_config", "missing");
    static const struct {
        const char *options, *field;
    } mpt[] = {{"\"attn_type\": \"multiquery_attention\"", "attn_config.attn_type"},
               {"\"qk_ln\": true", "attn_config.qk_ln"},
               {"\"prefix_lm\": true", "attn_config.prefix_lm"},
               {"\"alibi\": false", "attn_config.alibi"},
               {"\"alibi_bias_max\": 16", "attn_config.alibi_bias_max"},
               {"\"clip_qkv\": 6.0", "model.clip_qkv"}};
    for (size_t i = 0; i < sizeof mpt / sizeof *mpt; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "{\"model_type\": \"mpt\", \"d_model\": 512, \"n_heads\": 8, \"attn_config\": {%s}}",
                 mpt[i].options);
        config_refused(text, XQ_ERROR_UNSUPPORTED, mpt[i].field, "not supported");
    }
    config_refused("{\"model_type\": \"mpt\", \"d_model\": 768, \"n_heads\": 12}", XQ_ERROR_UNSUPPORTED,
                   "n_heads", "powers of two");
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
    config_refused("[]", XQ_ERROR_FORMAT, "config", "object");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"rope_scaling\": []}", XQ_ERROR_SPEC,
                   "model.rope_scaling", "object");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"rope_parameters\": []}", XQ_ERROR_SPEC,
                   "rope_parameters", "object");
    config_refused("{\"model_type\": \"llama\", " SHAPE ", \"layer_types\": {}}", XQ_ERROR_SPEC,
                   "layer_types", "not an object");
    config_refused("{\"model_type\": \"gemma3\", \"text_config\": []}", XQ_ERROR_SPEC, "text_config",
                   "is a list; it must be an object");
    config_refused("{\"model_type\": \"mpt\", \"d_model\": 512, \"n_heads\": 8, \"attn_config\": []}",
                   XQ_ERROR_UNSUPPORTED, "attn_config", "object");
}

Test(config, malformed_files_name_file_and_line)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\n  \"model_type\": \"llama\",\n  \"hidden_size\": 4096,,\n}",
         "dir/config.json:3:23: malformed JSON"},
        {"{\n  \"model_type\": \"llama\",\n  \"hidden_size\": 40", "dir/config.json:3:20: malformed JSON"},
        {"", "dir/config.json:1:1: malformed JSON"},
        {"\x7f"
         "ELF",
         "dir/config.json:1:1: malformed JSON"},
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
