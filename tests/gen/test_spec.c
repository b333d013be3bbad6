#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MHA "{\"hidden_size\": 256, \"num_attention_heads\": 4}"
#define GQA "{\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 4}"

/* ---------------------------------------------------------------- completion */

Test(spec, defaults_are_filled_in)
{
    cJSON *spec = generator_complete_parsed("{\"model\": " MHA "}");
    cr_assert_eq(generator_number(spec, "model.num_key_value_heads"), 4);
    cr_assert_eq(generator_number(spec, "model.head_dim"), 64);
    cr_assert_str_eq(generator_string(spec, "model.rope.type"), "neox");
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 10000);
    cr_assert_str_eq(generator_string(spec, "cache.method"), "x");
    cr_assert_eq(generator_number(spec, "cache.bits"), 4);
    cr_assert_eq(generator_number(spec, "cache.group"), 128);
    cr_assert_eq(generator_number(spec, "cache.page"), 64);
    cr_assert_eq(generator_number(spec, "cache.rank_k"), 256);
    cr_assert_eq(generator_number(spec, "cache.rank_v"), 0);
    cr_assert_str_eq(generator_string(spec, "dtype"), "f16");
    cr_assert_str_eq(generator_string(spec, "arch"), "sm_80");
    cJSON_Delete(spec);
}

Test(spec, method_defaults_to_latent_where_heads_are_grouped)
{
    cJSON *spec = generator_complete_parsed("{\"model\": " GQA "}");
    cr_assert_str_eq(generator_string(spec, "cache.method"), "latent");
    cr_assert_eq(generator_number(spec, "cache.rank_k"), 256);
    cr_assert_eq(generator_number(spec, "cache.rank_v"), 256);
    cJSON_Delete(spec);
}

/* Checks the default of `groups_k` and of `groups_v`. */
static void check_latents(const char *spec_json, int k, int v)
{
    cJSON *spec = generator_complete_parsed(spec_json);
    cr_expect_eq(generator_number(spec, "cache.groups_k"), k, "%s", spec_json);
    cr_expect_eq(generator_number(spec, "cache.groups_v"), v, "%s", spec_json);
    cJSON_Delete(spec);
}

Test(spec, each_kv_head_has_latents_of_its_own_where_they_take_no_more_memory)
{
    check_latents("{\"model\": \"llama-3.1-8b\"}", 8, 8);
    check_latents("{\"model\": \"llama-2-7b\", \"cache\": {\"method\": \"latent\"}}", 32, 32);
    check_latents("{\"model\": \"llama-2-7b\"}", 1, 1); /* method x */
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\"}}", 1, 1);
    /* Heads share a latent in threes: six latents of 80 channels would be stored as 768 channels, three of
     * 160 as 576, but two of 240 are stored as 512, as one of 480 is. */
    check_latents("{\"model\": {\"hidden_size\": 960, \"num_attention_heads\": 12, "
                  "\"num_key_value_heads\": 6, \"head_dim\": 80}}",
                  2, 2);
    /* All share one, of 320 channels: two of 160 would be stored as 384. */
    check_latents("{\"model\": {\"hidden_size\": 640, \"num_attention_heads\": 8, "
                  "\"num_key_value_heads\": 4, \"head_dim\": 80}}",
                  1, 1);
    /* Heads share a latent in pairs: 96 channels are stored as 128, and 192 as they are. */
    check_latents("{\"model\": {\"hidden_size\": 768, \"num_attention_heads\": 8, "
                  "\"num_key_value_heads\": 4, \"head_dim\": 96}}",
                  2, 2);
}

Test(spec, a_reduced_rank_keeps_one_latent_for_what_it_reduces)
{
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"rank_k\": 512}}", 1, 8);
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"rank_v\": 512}}", 8, 1);
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"rank_k\": 512, \"rank_v\": 512}}", 1, 1);
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"groups\": 1}}", 1, 1);
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"groups_v\": 1}}", 8, 1);
    check_latents("{\"model\": \"llama-3.1-8b\", \"cache\": {\"groups\": 4, \"groups_v\": 2}}", 4, 2);
}

static void check_weights(const char *spec_json, const char *weights)
{
    cJSON *spec = generator_complete_parsed(spec_json);
    cr_expect_str_eq(generator_string(spec, "weights"), weights, "%s", spec_json);
    cJSON_Delete(spec);
}

#define LLAMA(CACHE) "{\"model\": \"llama-3.1-8b\", \"cache\": {" CACHE "}}"

Test(spec, weights_default_to_int8_where_scores_come_straight_from_codes)
{
    check_weights(LLAMA(""), "int8");
    check_weights(LLAMA("\"bits\": 2"), "int8");
    check_weights(LLAMA("\"bits\": 3, \"group\": \"row\""), "int8");
    check_weights(LLAMA("\"bits\": 8"), "f16"); /* the loss of weights is not small beside that of codes */
    check_weights(LLAMA("\"groups\": 1, \"group\": \"row\""), "int8");
    check_weights("{\"model\": \"qwen3-8b\"}", "int8");      /* keys are normalized over heads */
    check_weights(LLAMA("\"axis_v\": \"channel\""), "int8"); /* keys decide */
    check_weights("{\"model\": \"llama-3.1-8b\", \"dtype\": \"bf16\", \"queries\": \"many\"}", "int8");
    check_weights("{\"model\": \"llama-2-7b\", \"cache\": {\"method\": \"latent\"}}", "int8");
    /* A latent has several groups. */
    check_weights(LLAMA("\"groups\": 1"), "f16");
    check_weights(LLAMA("\"rank_k\": 512, \"rank_v\": 512"), "f16");
    /* Keys are normalized over the row. */
    check_weights("{\"model\": \"olmo-2-7b\", \"cache\": {\"method\": \"latent\"}}", "f16");
    /* Tokens of a channel share a scale, or fewer channels of a token do. */
    check_weights(LLAMA("\"axis_k\": \"channel\""), "f16");
    check_weights(LLAMA("\"group\": 32"), "f16");
    /* Other methods */
    check_weights("{\"model\": \"llama-2-7b\"}", "f16");
    check_weights(LLAMA("\"method\": \"latent-cl\""), "f16");
    check_weights(LLAMA("\"method\": \"latent-cl\", \"accumulator_bits\": 8"), "f16");
    /* Part of the dimensions, or all of them, are absorbed. */
    check_weights("{\"model\": \"phi-2\", \"cache\": {\"method\": \"latent\"}}", "f16");
    check_weights("{\"model\": {\"preset\": \"smollm3-3b\", \"layer_kind\": \"nope\"}}", "f16");
    /* A latent of 256 channels has two groups, whose sums would be in registers beside those of both. */
    check_weights("{\"model\": {\"preset\": \"gemma-3-270m\", \"layer_kind\": \"full\"}}", "f16");
}

Test(spec, weights_that_are_given_win)
{
    check_weights("{\"model\": \"llama-3.1-8b\", \"weights\": \"f16\"}", "f16");
    check_weights("{\"model\": \"llama-3.1-8b\", \"weights\": \"bf16\"}", "bf16");
    check_weights("{\"model\": \"llama-3.1-8b\", \"cache\": {\"group\": 32}, \"weights\": \"int8\"}",
                  "int8");
    generator_refuses("{\"model\": \"llama-3.1-8b\", \"weights\": \"int4\"}", XQ_ERROR_SPEC, "weights",
                      "valid: f16, bf16, int8, e4m3");
}

/* A default follows when the choices that it depends on are changed. */
Test(spec, the_default_of_weights_is_derived_again)
{
    char *completed = generator_complete("{\"model\": \"llama-3.1-8b\"}");
    const gen_overrides o = {.spec_json = completed,
                             .overrides_json = "{\"cache\": {\"axis_k\": \"channel\"}}"};
    char *text = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_override(generator(), &o, &text, &err), XQ_OK, "%s", err.message);
    check_weights(text, "f16");
    free(text);
    free(completed);
}

Test(spec, group_row_is_the_widest_row)
{
    cJSON *spec = generator_complete_parsed(
        "{\"model\": " GQA ", \"cache\": {\"group\": \"row\", \"rank_k\": 192, \"groups_v\": 1}}");
    cr_assert_eq(generator_number(spec, "cache.group"), 256);
    cr_assert_eq(generator_number(spec, "layout.streams.0.groups"), 1);
    cr_assert_eq(generator_number(spec, "layout.streams.1.groups"), 1);
    cJSON_Delete(spec);
}

Test(spec, a_completed_spec_completes_to_itself)
{
    static const char *const specs[] = {
        "{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 8, \"rank_k\": 512}, \"arch\": \"sm_90a\"}",
        "{\"model\": \"llama-2-7b\", \"cache\": {\"group\": \"row\"}}",
        "{\"model\": \"smollm2-135m\"}",
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"rope\": {\"type\": \"none\"}}}",
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        char *once = generator_complete(specs[i]), *twice = generator_complete(once);
        cr_assert_str_eq(once, twice);
        free(once);
        free(twice);
    }
}

Test(spec, computed_parts_that_differ_are_refused)
{
    char *text = generator_complete("{\"model\": " MHA "}");
    char *page = strstr(text, "\"page_bytes\":");
    cr_assert_not_null(page);
    page[strlen("\"page_bytes\":")] ^= 1; /* changes the first digit */
    generator_refuses(text, XQ_ERROR_SPEC, "layout.page_bytes", "leave layout out");
    free(text);
}

Test(spec, rope_may_be_given_in_the_names_of_config_json)
{
    char *ours = generator_complete_values(
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"rope\": {\"theta\": 5e5, "
        "\"scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
        "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}}}");
    char *theirs =
        generator_complete_values("{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, "
                                  "\"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", "
                                  "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                                  "\"original_max_position_embeddings\": 8192}}}");
    cr_assert_str_eq(ours, theirs);
    free(ours);
    free(theirs);
}

/* ---------------------------------------------------------------- refusals */

static void refuses_model(const char *members, xq_status status, const char *field, const char *text)
{
    char spec[1024];
    snprintf(spec, sizeof spec, "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8%s%s}}",
             *members ? ", " : "", members);
    generator_refuses(spec, status, field, text);
}

static void refuses_cache(const char *members, xq_status status, const char *field, const char *text)
{
    char spec[1024];
    snprintf(spec, sizeof spec, "{\"model\": " GQA ", \"cache\": {%s}}", members);
    generator_refuses(spec, status, field, text);
}

Test(spec, features_that_no_kernel_knows_are_refused_by_name)
{
    static const struct {
        const char *member, *field;
    } features[] = {
        {"\"clip_qkv\": 8.0", "model.clip_qkv"},
        {"\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 4}", "model.rope_scaling"},
        {"\"rope_scaling\": {\"rope_type\": \"su\", \"factor\": 4}", "model.rope_scaling"},
        {"\"rope_scaling\": {\"type\": \"su\", \"factor\": 4}", "model.rope_scaling"},
        {"\"head_dim\": 72", "model.head_dim"},
    };
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        refuses_model(features[i].member, XQ_ERROR_UNSUPPORTED, features[i].field, "not supported");
    generator_refuses("{\"model\": {\"hidden_size\": 96, \"num_attention_heads\": 1, \"head_dim\": 64}}",
                      XQ_ERROR_UNSUPPORTED, "model.hidden_size", "multiples of 64");
}

Test(spec, features_that_are_off_are_accepted)
{
    char *plain = generator_complete_values("{\"model\": " GQA "}");
    char *off = generator_complete_values(
        "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, "
        "\"attention_bias\": false, \"sliding_window\": null, \"rope_scaling\": null, \"qk_norm\": false, "
        "\"partial_rotary_factor\": 1.0, \"alibi\": false}}");
    cr_assert_str_eq(plain, off);
    free(plain);
    free(off);
}

Test(spec, impossible_values_are_refused_with_the_valid_ones)
{
    refuses_cache("\"bits\": 5", XQ_ERROR_SPEC, "cache.bits", "valid: 2, 3, 4, 8");
    refuses_cache("\"bits\": \"4\"", XQ_ERROR_SPEC, "cache.bits", "valid: 2, 3, 4, 8");
    refuses_cache("\"bits\": 4.5", XQ_ERROR_SPEC, "cache.bits", "whole number");
    refuses_cache("\"method\": \"kv\"", XQ_ERROR_SPEC, "cache.method", "valid: x, latent, x-cl, latent-cl");
    refuses_cache("\"group\": 100", XQ_ERROR_SPEC, "cache.group", "32, 64, 128, 256");
    refuses_cache("\"group\": \"column\"", XQ_ERROR_SPEC, "cache.group", "\"row\"");
    refuses_cache("\"page\": 20", XQ_ERROR_SPEC, "cache.page", "multiples of 16 from 16 to 256");
    refuses_cache("\"page\": 272", XQ_ERROR_SPEC, "cache.page", "multiples of 16 from 16 to 256");
    refuses_cache("\"page\": 0", XQ_ERROR_SPEC, "cache.page", "valid");
    refuses_cache("\"rank_k\": 320", XQ_ERROR_SPEC, "cache.rank_k", "1 to 256");
    refuses_cache("\"rank_v\": 101, \"groups\": 2", XQ_ERROR_SPEC, "cache.rank_v",
                  "multiples of groups_v (2)");
    refuses_cache("\"rank_k\": 101, \"groups_k\": 2", XQ_ERROR_SPEC, "cache.rank_k",
                  "multiples of groups_k (2)");
    refuses_cache("\"groups_k\": 3", XQ_ERROR_SPEC, "cache.groups_k",
                  "does not divide num_key_value_heads (4); valid: 1, 2, 4");
    refuses_cache("\"method\": \"x\", \"groups_v\": 2", XQ_ERROR_SPEC, "cache.groups_v",
                  "no grouped latents");
    refuses_cache("\"groups_v\": 8", XQ_ERROR_SPEC, "cache.groups_v", "valid: 1, 2, 4");
    refuses_cache("\"groups\": 4, \"groups_k\": 4, \"groups_v\": 1", XQ_ERROR_SPEC, "cache.groups",
                  "no effect beside groups_k (4) and groups_v (1); leave it out");
    refuses_cache("\"groups\": 3", XQ_ERROR_SPEC, "cache.groups",
                  "does not divide num_key_value_heads (4)");
    refuses_cache("\"axis_k\": \"channel\", \"group\": \"row\", \"rank_k\": 192, \"rank_v\": 192",
                  XQ_ERROR_SPEC, "cache.group", "axis channel");
    refuses_cache("\"axis_k\": \"channel\", \"page\": 48", XQ_ERROR_SPEC, "cache.page",
                  "multiples and divisors");
    refuses_cache("\"base\": true", XQ_ERROR_SPEC, "cache.base", "cross-layer");
    refuses_cache("\"method\": \"x\", \"rotation\": false, \"axis_v\": \"channel\"", XQ_ERROR_SPEC,
                  "cache.axis_v", "axis_k");
    refuses_cache("\"method\": \"x-cl\", \"rotation\": true", XQ_ERROR_SPEC, "cache.rotation",
                  "valid for x, latent, latent-cl");
    refuses_cache("\"method\": \"latent-cl\", \"feedback\": true", XQ_ERROR_SPEC, "cache.feedback",
                  "for methods x and latent, with rotation");
    refuses_cache("\"rotation\": false, \"feedback\": true", XQ_ERROR_SPEC, "cache.feedback",
                  "with rotation");
    refuses_cache("\"axis_v\": \"channel\", \"feedback\": true", XQ_ERROR_SPEC, "cache.feedback",
                  "axis token");
    refuses_cache("\"group\": \"row\", \"rank_k\": 192, \"rank_v\": 192, \"feedback\": true", XQ_ERROR_SPEC,
                  "cache.feedback", "groups of 32, 64, 128, 256");
    refuses_cache("\"feedback\": 1", XQ_ERROR_SPEC, "cache.feedback", "true or false");
    refuses_cache("\"method\": \"x\", \"rotation\": false, \"rank_k\": 64", XQ_ERROR_SPEC, "cache.rank_k",
                  "leave it out");
    refuses_model("\"num_key_value_heads\": 3", XQ_ERROR_SPEC, "model.num_key_value_heads", "divide");
    refuses_model("\"num_key_value_heads\": 0", XQ_ERROR_SPEC, "model.num_key_value_heads", "valid");
    refuses_model("\"rope_theta\": -1", XQ_ERROR_SPEC, "model.rope_theta", "valid");
    refuses_model("\"rope_theta\": 1e999", XQ_ERROR_SPEC, "model.rope_theta", "valid");
    refuses_model("\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}", XQ_ERROR_SPEC,
                  "model.rope_scaling.low_freq_factor", "is missing");
    refuses_model("\"rope_scaling\": {\"rope_type\": \"llama4\"}", XQ_ERROR_SPEC,
                  "model.rope_scaling.rope_type", "llama3");
    refuses_model("\"rope\": {\"type\": \"none\", \"theta\": 10}", XQ_ERROR_SPEC, "model.rope.theta",
                  "leave it out");
    refuses_model("\"rope\": {}, \"rope_theta\": 10", XQ_ERROR_SPEC, "model.rope",
                  "beside model.rope_theta");
    generator_refuses("{\"model\": {\"num_attention_heads\": 8}}", XQ_ERROR_SPEC, "model.hidden_size",
                      "missing");
    generator_refuses("{\"model\": {\"hidden_size\": 100, \"num_attention_heads\": 3}}", XQ_ERROR_SPEC,
                      "model.head_dim", "divide");
    generator_refuses("{}", XQ_ERROR_SPEC, "model", "missing");
    generator_refuses("{\"model\": 7}", XQ_ERROR_SPEC, "model", "preset");
    generator_refuses("[1]", XQ_ERROR_SPEC, "spec", "an object");
    generator_refuses("{\"model\": " GQA ", \"arch\": \"sm_75\"}", XQ_ERROR_SPEC, "arch", "sm_80");
    generator_refuses("{\"model\": " GQA ", \"arch\": 80}", XQ_ERROR_SPEC, "arch", "string");
}

/* Replaces the first `from` in a completed spec by `to`, which has the same length. The spec must then be
 * refused. */
static void refuses_replaced(const char *from, const char *to, const char *field)
{
    char *text = generator_complete("{\"model\": " GQA "}"), *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    memcpy(at, to, strlen(to));
    generator_refuses(text, XQ_ERROR_SPEC, field, "");
    free(text);
}

Test(spec, an_empty_object_is_no_list_and_an_empty_list_no_object)
{
    refuses_replaced("\"absorbed\":[]", "\"absorbed\":{}", "keys.absorbed");
    refuses_replaced("\"vectors\":[]", "\"vectors\":{}", "weights_layout.vectors");
    refuses_replaced("\"rope\":{}", "\"rope\":[]", "tuning.rope");
    static const char *const objects[] = {"model", "cache", "tuning", "keys", "layout", "choices"};
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        char text[256];
        snprintf(text, sizeof text, "{%s%s\"%s\": []}", i ? "\"model\": " GQA : "", i ? ", " : "",
                 objects[i]);
        generator_refuses(text, XQ_ERROR_SPEC, objects[i], "");
    }
    generator_refuses("[]", XQ_ERROR_SPEC, "spec", "not a list");
    refuses_model("\"rope\": []", XQ_ERROR_SPEC, "model.rope", "not a list");
    refuses_model("\"rope_scaling\": []", XQ_ERROR_SPEC, "model.rope_scaling", "not a list");
    refuses_model("\"rope\": {\"scaling\": []}", XQ_ERROR_SPEC, "model.rope.scaling", "not a list");
    refuses_model("\"layer_types\": {}", XQ_ERROR_SPEC, "model.layer_types", "not an object");
}

Test(spec, unknown_keys_are_refused_with_the_nearest)
{
    refuses_cache("\"bit\": 4", XQ_ERROR_SPEC, "cache.bit", "did you mean 'bits'?");
    refuses_cache("\"page_size\": 64", XQ_ERROR_SPEC, "cache.page_size", "valid: method, bits");
    refuses_model("\"num_heads\": 4", XQ_ERROR_SPEC, "model.num_heads", "valid: ");
    generator_refuses("{\"model\": " GQA ", \"cashe\": {}}", XQ_ERROR_SPEC, "cashe",
                      "did you mean 'cache'?");
    generator_refuses("{\"model\": \"llama-3.1-8bb\"}", XQ_ERROR_SPEC, "model",
                      "did you mean 'llama-3.1-8b'?");
    generator_refuses("{\"model\": " GQA ", \"tuning\": {\"atend\": {}}}", XQ_ERROR_SPEC, "tuning.atend",
                      "did you mean 'attend'?");
    generator_refuses("{\"model\": " GQA ", \"bits\": 4}", XQ_ERROR_SPEC, "bits",
                      "did you mean 'cache.bits'?");
    generator_refuses("{\"model\": " GQA ", \"attend\": {}}", XQ_ERROR_SPEC, "attend",
                      "did you mean 'tuning.attend'?");
    generator_refuses("{\"model\": " GQA ", \"head_dim\": 64}", XQ_ERROR_SPEC, "head_dim",
                      "did you mean 'model.head_dim'?");
    refuses_cache("\"dtype\": \"f16\"", XQ_ERROR_SPEC, "cache.dtype", "did you mean 'dtype'?");
    refuses_cache("\"bits\": 4, \"bits\": 8", XQ_ERROR_SPEC, "bits", "given twice");
}

Test(spec, malformed_json_names_its_line)
{
    error err = ERROR_INIT;
    char *completed = NULL;
    cr_assert_eq(
        gen_complete(generator(), "{\n\"model\": \"llama-2-7b\",\n\"cache\": {bits}\n}", &completed, &err),
        XQ_ERROR_SPEC);
    cr_assert_eq(err.line, 3, "%s", err.message);
    cr_assert(strstr(err.message, "spec:3:11: malformed JSON"), "%s", err.message);
    error_clear(&err);
    cr_assert_eq(gen_complete(generator(), "{\"model\":\n\"llama-2-7b\"", &completed, &err), XQ_ERROR_SPEC);
    cr_assert(strstr(err.message, "ends too early"), "%s", err.message);
    error_clear(&err);
    cr_assert_eq(gen_complete(generator(), "", &completed, &err), XQ_ERROR_SPEC);
    error_clear(&err);
    cr_assert_eq(gen_complete(generator(), "{\"model\": \"llama-2-7b\"} x", &completed, &err),
                 XQ_ERROR_SPEC);
    error_clear(&err);
    cr_assert_eq(gen_complete(generator(), NULL, &completed, &err), XQ_ERROR_ARGUMENT);
}

Test(spec, deep_nesting_is_refused)
{
    char spec[4096] = "{\"model\": ", *end = spec + strlen(spec);
    for (int i = 0; i < 500; i++)
        end = stpcpy(end, "[");
    for (int i = 0; i < 500; i++)
        end = stpcpy(end, "]");
    strcpy(end, "}");
    error err = ERROR_INIT;
    char *completed = NULL;
    cr_assert_eq(gen_complete(generator(), spec, &completed, &err), XQ_ERROR_SPEC);
    cr_assert(strstr(err.message, "nested"), "%s", err.message);
}

/* ---------------------------------------------------------------- tuning */

Test(tuning, given_parameters_override_defaults)
{
    cJSON *spec = generator_complete_parsed(
        "{\"model\": \"llama-3.1-8b\", \"tuning\": {\"append\": {\"warps\": 4}}}");
    cr_assert_eq(generator_number(spec, "tuning.append.warps"), 4);
    generator_number(spec, "tuning.append.stages");
    cJSON_Delete(spec);
}

Test(tuning, values_outside_their_domain_are_refused)
{
    generator_refuses("{\"model\": \"llama-3.1-8b\", \"tuning\": {\"append\": {\"warps\": 5}}}",
                      XQ_ERROR_SPEC, "tuning.append.warps", "valid: 4, 8");
    generator_refuses("{\"model\": \"llama-3.1-8b\", \"tuning\": {\"append\": {\"warp\": 4}}}",
                      XQ_ERROR_SPEC, "tuning.append.warp", "did you mean 'warps'?");
    generator_refuses("{\"model\": \"llama-3.1-8b\", \"tuning\": {\"append\": 4}}", XQ_ERROR_SPEC,
                      "tuning.append", "object");
}

/* Every family must find its parameters for every shape: queries per KV head, head_dim, bits, groups,
 * GPU. */
Test(tuning, every_family_serves_every_supported_shape, .timeout = 60)
{
    static const char *const families[] = {"append",  "attend",    "dequantize", "gemm",
                                           "gemm_kv", "kv_append", "kv_attend",  "rope"};
    static const char *const archs[] = {"sm_80", "sm_86", "sm_90a", "sm_120"};
    static const char *const groups[] = {"32", "128", "\"row\""};
    for (int i = 0; i < 2 * 8 * 2 * 2 * 3 * 4; i++) {
        int head_dim = i % 2 ? 128 : 64, queries = 1 << i / 2 % 8, bits = i / 16 % 2 ? 8 : 4,
            x = i / 32 % 2;
        int kv_heads = queries > 64 ? 1 : 3;
        if (queries > 64 && head_dim == 128)
            continue; /* the scores of attend do not fit if a block has 99 KiB */
        char text[512];
        snprintf(
            text, sizeof text,
            "{\"model\": {\"hidden_size\": 576, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
            "\"head_dim\": %d}, \"cache\": {\"method\": \"%s\", \"bits\": %d, \"group\": %s}, "
            "\"arch\": \"%s\"}",
            queries * kv_heads, kv_heads, head_dim, x ? "x" : "latent", bits, groups[i / 64 % 3],
            archs[i / 192]);
        cJSON *spec = generator_complete_parsed(text);
        for (size_t f = 0; f < sizeof families / sizeof *families; f++)
            cr_assert(cJSON_HasObjectItem(generator_member(spec, "tuning"), families[f]), "%s: %s",
                      families[f], text);
        cJSON_Delete(spec);
    }
}
