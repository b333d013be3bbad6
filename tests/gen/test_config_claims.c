/* config.json files that ask for features that are not supported, contradict themselves, or state what
 * holds anyway. */
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHAPE                                                                                              \
    "\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 64, "     \
    "\"num_hidden_layers\": 8, \"max_position_embeddings\": 4096"
#define QWEN2     "\"model_type\": \"qwen2\", " SHAPE
#define LLAMA     "\"model_type\": \"llama\", " SHAPE
#define QWEN3_MOE "\"model_type\": \"qwen3_moe\", " SHAPE
#define PHI       "\"model_type\": \"phi\", " SHAPE ", \"partial_rotary_factor\": 0.5"
#define GEMMA2    "\"model_type\": \"gemma2\", " SHAPE
#define GEMMA3    "\"model_type\": \"gemma3_text\", " SHAPE
#define COHERE2   "\"model_type\": \"cohere2\", " SHAPE
#define SMOLLM3   "\"model_type\": \"smollm3\", " SHAPE
#define MPT       "\"model_type\": \"mpt\", \"d_model\": 512, \"n_heads\": 8, \"attn_config\": "

static cJSON *complete(const char *config, const char *kind)
{
    char text[2048];
    snprintf(text, sizeof text, "{%s}", config);
    return generator_complete_config(text, kind);
}

static void refuses(const char *config, xq_status status, const char *field, const char *message)
{
    char text[2048];
    snprintf(text, sizeof text, "{%s}", config);
    generator_refuses_config(text, status, field, message);
}

struct refusal {
    const char *config, *field, *text;
};

static void refuse_all(const struct refusal *list, size_t count, xq_status status)
{
    for (size_t i = 0; i < count; i++)
        refuses(list[i].config, status, list[i].field, list[i].text);
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Keys that no model type here knows, but whose names are about attention. */
Test(config_claims, unknown_words_of_attention_are_refused)
{
    static const char *const keys[] = {"softmax_temperature",
                                       "softmax_off_by_one",
                                       "swa_layers",
                                       "nope_layers",
                                       "use_nope",
                                       "pos_emb",
                                       "use_dynamic_ntk",
                                       "use_logn",
                                       "key_norm",
                                       "k_norm",
                                       "key_bias",
                                       "query_scale",
                                       "key_scale",
                                       "soft_cap",
                                       "num_global_tokens",
                                       "global_layers",
                                       "local_layers",
                                       "block_sparse",
                                       "cla_share_factor",
                                       "encoder_only",
                                       "layers_block_type",
                                       "hybrid_override_pattern",
                                       "positional_bias",
                                       "meta_tokens"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        char config[600];
        snprintf(config, sizeof config, LLAMA ", \"%s\": 2", keys[i]);
        refuses(config, XQ_ERROR_UNSUPPORTED, keys[i], "may change attention");
    }
}

Test(config_claims, layer_types_name_every_layer)
{
    refuses(LLAMA ", \"layer_types\": [\"full_attention\", \"full_attention\"]", XQ_ERROR_SPEC,
            "layer_types", "it has 2 entries, and num_hidden_layers is 8");
    refuses(LLAMA ", \"layer_types\": []", XQ_ERROR_SPEC, "layer_types", "it has 0");
}

Test(config_claims, attention_in_both_directions_is_refused_by_name)
{
    static const struct refusal list[] = {
        {"\"model_type\": \"falcon\", \"multi_query\": true, " SHAPE, "num_key_value_heads",
         "2 differs from what num_kv_heads, multi_query and new_decoder_architecture imply; supported: 1, "
         "or leave "
         "it out"},
        {QWEN2 ", \"is_causal\": false", "is_causal", "both directions"},
        {QWEN2 ", \"causal\": false", "causal", "both directions"},
        {QWEN2 ", \"use_causal_mask\": false", "use_causal_mask", "both directions"},
        {QWEN2 ", \"non_causal\": true", "non_causal", "both directions"},
        {QWEN2 ", \"is_bidirectional\": true", "is_bidirectional", "both directions"},
        {QWEN2 ", \"use_bidirectional_attention\": true", "use_bidirectional_attention", "both directions"},
        {QWEN2 ", \"is_encoder_decoder\": true", "is_encoder_decoder", "may change attention"},
        {QWEN2 ", \"prefix_lm\": true", "prefix_lm", "may change attention"},
        {"\"model_type\": \"gemma3\", \"is_causal\": false, \"text_config\": {}", "is_causal",
         "text_config"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_UNSUPPORTED);
}

/* For these keys, false is what asks for the feature. */
Test(config_claims, false_is_not_taken_for_absent)
{
    static const struct refusal list[] = {
        {LLAMA ", \"use_rope\": false", "use_rope", "(true)"},
        {LLAMA ", \"scale_attn_weights\": false", "scale_attn_weights", "(true)"},
        {LLAMA ", \"is_neox_style\": false", "is_neox_style", "(true)"},
        {QWEN3_MOE ", \"use_qk_norm\": false", "use_qk_norm", "(true)"},
        {QWEN2 ", \"qkv_bias\": false", "qkv_bias", "(true)"},
        {QWEN2 ", \"attention_bias\": false", "attention_bias", "fixes true"},
        {"\"model_type\": \"exaone4\", " SHAPE ", \"attention_bias\": true", "attention_bias",
         "fixes false"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_UNSUPPORTED);
}

/* The values come from published files: Qwen2 embedding models, Qwen3-Coder-480B, phi-1, Gemma-2-9b,
 * Yarn-Llama-2, Phi-4-mini. */
Test(config_claims, what_is_so_anyway_is_taken)
{
    static const struct {
        const char *config, *kind;
    } list[] = {
        {QWEN2 ", \"is_causal\": true", NULL},
        {QWEN2 ", \"is_causal\": null, \"use_bidirectional_attention\": false, \"qkv_bias\": true", NULL},
        {QWEN2 ", \"is_encoder_decoder\": false, \"is_decoder\": false", NULL},
        {QWEN3_MOE ", \"use_qk_norm\": true, \"qkv_bias\": false", NULL},
        {PHI ", \"rotary_dim\": 32", NULL},
        {GEMMA2 ", \"sliding_window\": 4096, \"sliding_window_size\": 4096", "full"},
        {LLAMA ", \"rope_scaling\": {\"factor\": 16.0, \"original_max_position_embeddings\": 4096, "
               "\"type\": \"yarn\", \"finetuned\": true}",
         NULL},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"attn_factor\": 1.0}", NULL},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4, "
               "\"original_max_position_embeddings\": 4096}",
         NULL},
        {LLAMA ", \"num_kv_heads\": 2, \"kv_channels\": 64, \"rotary_pct\": 1.0, \"use_rope\": true, "
               "\"position_embedding_type\": \"rope\", \"full_attn_mod\": 1, \"lm_head_bias\": false",
         NULL},
        {LLAMA ", \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\", "
               "\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\", "
               "\"full_attention\"]",
         NULL},
        {COHERE2 ", \"position_embedding_type\": \"rope_gptj\", \"rotary_pct\": 1.0, \"layer_switch\": 4, "
                 "\"order_of_interleaved_layers\": \"local_attn_first\"",
         "nope"},
        {MPT "{\"sliding_window_size\": -1, \"head_dim\": 64, \"kv_n_heads\": 8, \"rope\": false, "
             "\"attn_impl\": \"torch\", \"attn_pdrop\": 0.1, \"model_type\": \"\"}",
         NULL},
        {"\"model_type\": \"qwen3_next\", " SHAPE ", \"attn_output_gate\": true", NULL},
    };
    for (size_t i = 0; i < COUNT(list); i++)
        cJSON_Delete(complete(list[i].config, list[i].kind));
}

Test(config_claims, what_is_not_so_is_refused)
{
    static const struct refusal list[] = {
        {PHI ", \"rotary_dim\": 16", "rotary_dim", "(32)"},
        {GEMMA2 ", \"sliding_window_size\": 2048", "sliding_window_size", "(4096)"},
        {LLAMA ", \"num_kv_heads\": 4", "num_kv_heads", "(2)"},
        {LLAMA ", \"kv_channels\": 128", "kv_channels", "(64)"},
        {LLAMA ", \"attn_output_gate\": true", "attn_output_gate", "(false)"},
        {LLAMA ", \"position_embedding_type\": \"absolute\"", "position_embedding_type", "supported: rope"},
        {COHERE2 ", \"position_embedding_type\": \"rope_neox\"", "position_embedding_type", "rope_gptj"},
        {COHERE2 ", \"order_of_interleaved_layers\": \"global_attn_first\"", "order_of_interleaved_layers",
         "local_attn_first"},
        {COHERE2 ", \"layer_switch\": 3", "layer_switch", "sliding_window_pattern is 4"},
        {LLAMA ", \"layer_types\": [\"sliding_attention\", \"full_attention\", \"full_attention\", "
               "\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\", "
               "\"full_attention\"]",
         "layer_types", "all full_attention"},
        {MPT "{\"sliding_window_size\": 128}", "attn_config.sliding_window_size", "(none)"},
        {MPT "{\"attn_logit_softcapping\": 30}", "attn_config.attn_logit_softcapping", "(none)"},
        {MPT "{\"head_dim\": 128}", "attn_config.head_dim", "(64)"},
        {MPT "{\"kv_n_heads\": 2}", "attn_config.kv_n_heads", "(8)"},
        {MPT "{\"qk_gn\": true}", "attn_config.qk_gn", "is not known"},
        {MPT "{\"clip_qkv\": \"6\"}", "attn_config.clip_qkv", "numbers"},
        {MPT "{\"softmax_scale\": true}", "attn_config.softmax_scale", "numbers"},
        {MPT "[1]", "attn_config", "object"},
        {MPT "{}, \"no_bias\": \"yes\"", "no_bias", "true, false"},
        {"\"model_type\": \"gemma3\", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}, "
         "\"text_config\": {}",
         "rope_scaling", "differs from the same key in text_config"},
        {"\"model_type\": \"cohere\", " SHAPE ", \"use_qk_norm\": true", "use_qk_norm", "LayerNorm"},
        {"\"model_type\": \"olmo\", " SHAPE ", \"clip_qkv\": 8.0", "model.clip_qkv", "clipping"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_UNSUPPORTED);
}

Test(config_claims, attn_factor_has_no_agreed_meaning)
{
    refuses(LLAMA ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
                  "\"original_max_position_embeddings\": 32768, \"attn_factor\": 0.8782488562869419}",
            XQ_ERROR_UNSUPPORTED, "rope_scaling.attn_factor", "no meaning that engines agree on");
}

/* ---------------------------------------------------------------- keys that contradict each other */

Test(config_claims, type_of_rope_parameters_is_read_as_rope_type)
{
    static const struct {
        const char *config, *kind;
    } list[] = {
        {LLAMA ", \"rope_parameters\": {\"type\": \"yarn\", \"factor\": 4.0, "
               "\"original_max_position_embeddings\": 1024}",
         NULL},
        {LLAMA ", \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
               "\"original_max_position_embeddings\": 1024}",
         NULL},
        {GEMMA3
         ", \"rope_parameters\": {\"full_attention\": {\"type\": \"yarn\", \"factor\": 4.0, "
         "\"original_max_position_embeddings\": 1024}, \"sliding_attention\": {\"type\": \"default\"}}",
         "full"},
        {LLAMA ", \"rope_parameters\": {\"type\": \"yarn\", \"factor\": 4.0, "
               "\"original_max_position_embeddings\": 1024}, \"rope_scaling\": {\"rope_type\": \"yarn\", "
               "\"factor\": 4, \"original_max_position_embeddings\": 1024}",
         NULL},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        cJSON *spec = complete(list[i].config, list[i].kind);
        cr_assert_str_eq(generator_string(spec, "model.rope.scaling.type"), "yarn");
        cr_assert_eq(generator_number(spec, "model.rope.scaling.factor"), 4);
        cJSON_Delete(spec);
    }
    refuses(GEMMA3 ", \"rope_parameters\": {\"full_attention\": {}, "
                   "\"sliding_attention\": {\"type\": \"yarn\", \"factor\": 2}}",
            XQ_ERROR_UNSUPPORTED, "rope_parameters.sliding_attention", "sliding layers");
}

#define YARN(FACTOR) "{\"rope_type\": \"yarn\", \"factor\": " #FACTOR "}"

Test(config_claims, an_empty_list_is_no_object)
{
    refuses(LLAMA ", \"rope_parameters\": []", XQ_ERROR_SPEC, "rope_parameters", "must be an object");
    refuses("\"model_type\": \"mpt\", \"d_model\": 512, \"n_heads\": 8, \"attn_config\": []",
            XQ_ERROR_UNSUPPORTED, "attn_config", "must be an object");
}

Test(config_claims, contradictions_name_both_keys)
{
    static const struct refusal list[] = {
        {LLAMA ", \"rope_parameters\": " YARN(4) ", \"rope_scaling\": " YARN(8), "rope_scaling",
         "rope_parameters"},
        {LLAMA ", \"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_scaling\": " YARN(8),
         "rope_scaling", "rope_parameters"},
        {LLAMA ", \"rope_parameters\": {\"rope_theta\": 5e5}, \"rope_theta\": 10000",
         "rope_parameters.rope_theta", "rope_theta is 10000"},
        {LLAMA ", \"rope_theta\": 10000, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
               "\"rope_theta\": 5e5}",
         "rope_scaling.rope_theta", "rope_theta is 10000"},
        {PHI ", \"rope_parameters\": {\"partial_rotary_factor\": 0.25}",
         "rope_parameters.partial_rotary_factor", "partial_rotary_factor is 0.5"},
        {GEMMA3 ", \"rope_local_base_freq\": 1e4, "
                "\"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": 3e4}}",
         "rope_parameters.sliding_attention.rope_theta", "rope_local_base_freq is 10000"},
        {"\"model_type\": \"gpt_neox\", " SHAPE ", \"rotary_pct\": 0.25, \"partial_rotary_factor\": 0.5",
         "rotary_pct", "partial_rotary_factor is 0.5"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"linear\", \"type\": \"yarn\", \"factor\": 4}",
         "model.rope_scaling.type", "rope_type"},
        {LLAMA ", \"rope_scaling\": {\"factor\": 4}", "rope_scaling.rope_type", "missing"},
        {LLAMA ", \"rope_parameters\": {\"rope_theta\": 5e5, \"factor\": 4}", "rope_parameters.rope_type",
         "missing"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"default\", \"factor\": 4}",
         "model.rope_scaling.factor", "has no effect with rope_type"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_SPEC);
    refuses(GEMMA3 ", \"sliding_window_pattern\": 6, \"layer_types\": [\"full_attention\", "
                   "\"sliding_attention\", \"full_attention\", \"full_attention\", \"full_attention\", "
                   "\"full_attention\", \"full_attention\", \"full_attention\"]",
            XQ_ERROR_UNSUPPORTED, "sliding_window_pattern", "layer_types");
}

/* ---------------------------------------------------------------- invalid numbers and files */

Test(config_claims, numbers_that_are_not_finite_are_refused_where_they_are_read)
{
    refuses(LLAMA ", \"rope_theta\": Infinity", XQ_ERROR_SPEC, "rope_theta", "must be a finite number");
    refuses(LLAMA ", \"rope_theta\": NaN", XQ_ERROR_SPEC, "rope_theta", "must be a finite number");
    cJSON_Delete(complete(
        LLAMA ", \"time_step_limit\": [0.0, Infinity, -Infinity, NaN], \"x\": \"a \\\" Infinity\"", NULL));
    refuses("\"time_step_limit\": [0.0, Infinity], \"model_type\": \"mamba2\"", XQ_ERROR_UNSUPPORTED,
            "model_type", "'mamba2' is not supported");
}

/* The reader or the parser may refuse the number. The message must be one of ours and must not name a line
 * of Lua. */
Test(config_claims, a_number_that_overflows_gets_no_line_of_source)
{
    error err = ERROR_INIT;
    char *model = NULL;
    gen_model_from_config(generator(), "{" LLAMA ", \"rope_theta\": 1e999}", "dir/config.json", &model,
                          &err);
    cr_assert_neq(err.status, XQ_OK);
    cr_assert_null(strstr(err.message, ".lua"), "%s", err.message);
    cr_assert(strstr(err.message, "dir/config.json"), "%s", err.message);
    error_clear(&err);
}

Test(config_claims, a_git_lfs_pointer_is_named)
{
    generator_refuses_config("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 660\n",
                             XQ_ERROR_FORMAT, "", "Git LFS pointer");
}

/* ---------------------------------------------------------------- kinds of layers */

/* Checks the layer_types of a completed model by their first letters. */
static void check_types(const char *config, const char *kind, const char *expected)
{
    char letters[64] = "";
    const cJSON *type;
    cJSON *spec = complete(config, kind);
    cJSON_ArrayForEach(type, generator_member(spec, "model.layer_types"))
        strncat(letters, type->valuestring, 1);
    cr_assert_str_eq(letters, expected, "%s", config);
    cJSON_Delete(spec);
}

Test(config_claims, kinds_of_layers_follow_what_the_code_fixes)
{
    check_types(COHERE2, "nope", "sssnsssn");
    check_types(COHERE2 ", \"sliding_window_pattern\": 2", "sliding", "snsnsnsn");
    check_types(SMOLLM3, "full", "fffnfffn");
    check_types(SMOLLM3 ", \"no_rope_layer_interval\": 2", "nope", "fnfnfnfn");
    check_types(SMOLLM3 ", \"no_rope_layers\": [0, 1, 1, 1, 1, 1, 1, true]", "nope", "nfffffff");
    check_types("\"model_type\": \"exaone4\", " SHAPE ", \"sliding_window_pattern\": \"LLLLG\"", "nope",
                "ssssnsss");
    check_types("\"model_type\": \"qwen3_next\", " SHAPE, NULL, "lllflllf");
    cJSON *spec = complete("\"model_type\": \"exaone4\", " SHAPE ", \"sliding_window\": null", NULL);
    cr_assert_str_eq(generator_string(spec, "model.rope.type"), "neox");
    cJSON_Delete(spec);
    spec = complete(COHERE2 ", \"sliding_window\": null", NULL);
    cr_assert_str_eq(generator_string(spec, "model.rope.type"), "none");
    cJSON_Delete(spec);
}

Test(config_claims, kinds_that_no_kernel_serves_are_refused)
{
    static const struct refusal list[] = {
        {SMOLLM3 ", \"use_sliding_window\": true, \"sliding_window\": 512", "use_sliding_window",
         "layer 3"},
        {SMOLLM3 ", \"no_rope_layers\": [1, 0]", "no_rope_layers", "8 entries"},
        {SMOLLM3 ", \"no_rope_layers\": [1, 1, 1, 1, 1, 1, 1, 2]", "no_rope_layers", "(layer 7)"},
        {"\"model_type\": \"exaone4\", " SHAPE ", \"sliding_window_pattern\": \"LLXG\"",
         "sliding_window_pattern", "L and G"},
        {"\"model_type\": \"cohere2\", \"hidden_size\": 512, \"num_attention_heads\": 8",
         "num_hidden_layers", "whole number"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_UNSUPPORTED);
}

/* ---------------------------------------------------------------- LongRoPE */

#define EIGHT(F)    #F ", " #F ", " #F ", " #F ", " #F ", " #F ", " #F ", " #F
#define FACTORS(F)  "[" EIGHT(F) ", " EIGHT(F) ", " EIGHT(F) ", " EIGHT(F) "]"
#define LONGROPE(M) "\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": " FACTORS(1.5) ", " M "}"
#define PHI3        "\"model_type\": \"phi3\", " SHAPE ", \"original_max_position_embeddings\": 1024, "

Test(config_claims, longrope_has_a_spec_for_each_table)
{
    static const char *const tables[] = {"short", "long"};
    for (int i = 0; i < 2; i++) {
        char config[1800];
        snprintf(config, sizeof config, PHI3 LONGROPE("\"long_factor\": " FACTORS(3) ", \"table\": \"%s\""),
                 tables[i]);
        cJSON *spec = complete(config, NULL);
        cr_assert_str_eq(generator_string(spec, "model.rope.scaling.table"), tables[i]);
        cr_assert_eq(generator_number(spec, "model.rope.scaling.factor"), 4);
        cr_assert_float_eq(generator_number(spec, "model.rope.attention_factor"),
                           sqrt(1 + log(4) / log(1024)), 1e-14);
        char *text = cJSON_PrintUnformatted(spec), *again = generator_complete(text);
        cJSON *twice = cJSON_Parse(again);
        cr_assert(cJSON_Compare(spec, twice, 1));
        cJSON_Delete(twice);
        cJSON_Delete(spec);
        free(text);
        free(again);
    }
}

Test(config_claims, longrope_is_checked)
{
    static const struct refusal list[] = {
        {PHI3 LONGROPE("\"long_factor\": " FACTORS(3)), "model.rope_scaling.table",
         "up to 1024 tokens ('short')"},
        {PHI3 LONGROPE("\"long_factor\": " FACTORS(3) ", \"table\": \"longer\""),
         "model.rope_scaling.table", "valid: short, long"},
        {PHI3 LONGROPE("\"table\": \"long\""), "model.rope_scaling.long_factor", "missing"},
        {PHI3 LONGROPE("\"long_factor\": [1, 2], \"table\": \"long\""), "model.rope_scaling.long_factor",
         "2 entries, and there are 32"},
        {PHI3 LONGROPE("\"long_factor\": " FACTORS(0)), "model.rope_scaling.long_factor[0]", "0.001"},
        {PHI3 LONGROPE("\"long_factor\": " FACTORS(3) ", \"table\": \"long\", \"factor\": 8"),
         "model.rope_scaling.factor", "4"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_SPEC);
}

/* A bias of all products of a layer is also a bias of its projections. */
Test(config_claims, a_bias_of_the_whole_layer_is_a_claim)
{
    static const struct refusal list[] = {
        {LLAMA ", \"bias\": true", "bias", "and the rest of the file imply (false)"},
        {LLAMA ", \"use_bias\": true", "use_bias", "and the rest of the file imply (false)"},
        {QWEN2 ", \"use_bias\": false", "use_bias", "and the rest of the file imply (true)"},
    };
    refuse_all(list, COUNT(list), XQ_ERROR_UNSUPPORTED);
    cJSON_Delete(complete(LLAMA ", \"bias\": false, \"use_bias\": null", NULL));
    cJSON_Delete(complete(QWEN2 ", \"bias\": true", NULL));
    cJSON_Delete(complete(LLAMA ", \"attention_bias\": true, \"use_bias\": true", NULL));
}
