/* Models that mix layers with a sliding window and layers without. */
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHAPE "\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_hidden_layers\": 6"
#define MIXED SHAPE ", \"sliding_window\": 99, \"rope_theta\": 1e6, \"rope_local_base_freq\": 1e4"

static cJSON *complete_members(const char *members)
{
    char spec[1024];
    snprintf(spec, sizeof spec, "{\"model\": {%s}}", members);
    return generator_complete_parsed(spec);
}

static void refuses(const char *members, xq_status status, const char *field, const char *text)
{
    char spec[1024];
    snprintf(spec, sizeof spec, "{\"model\": {%s}}", members);
    generator_refuses(spec, status, field, text);
}

/* Checks layer_types of the completed model: f stands for full, s for sliding. */
static void check_pattern(const char *members, const char *pattern)
{
    cJSON *spec = complete_members(members);
    const cJSON *types = generator_member(spec, "model.layer_types");
    cr_assert_eq(cJSON_GetArraySize(types), (int)strlen(pattern));
    for (int i = 0; pattern[i]; i++)
        cr_assert_str_eq(cJSON_GetArrayItem(types, i)->valuestring,
                         pattern[i] == 's' ? "sliding_attention" : "full_attention", "%s, layer %d",
                         members, i);
    cJSON_Delete(spec);
}

Test(layers, patterns_of_config_json_become_a_list)
{
    check_pattern(MIXED ", \"layer_kind\": \"full\", \"sliding_window_pattern\": 3", "ssfssf");
    check_pattern(MIXED ", \"layer_kind\": \"full\", \"sliding_window_pattern\": 2", "sfsfsf");
    check_pattern(MIXED ", \"layer_kind\": \"full\", \"max_window_layers\": 4", "ffffss");
    check_pattern(MIXED
                  ", \"layer_kind\": \"full\", \"layer_types\": [\"full_attention\", \"full_attention\", "
                  "\"sliding_attention\", \"full_attention\", \"full_attention\", \"full_attention\"]",
                  "ffsfff");
}

Test(layers, the_kind_picks_window_and_rotary_embedding)
{
    cJSON *full = complete_members(MIXED ", \"layer_kind\": \"full\", \"sliding_window_pattern\": 3, "
                                         "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}"),
          *sliding = complete_members(MIXED ", \"layer_kind\": \"sliding\", \"sliding_window_pattern\": 3, "
                                            "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}");
    cr_assert_eq(generator_number(full, "model.rope.theta"), 1e6);
    cr_assert_eq(generator_number(full, "model.rope.scaling.factor"), 8);
    cr_assert_not(cJSON_HasObjectItem(generator_member(full, "model"), "sliding_window"));
    cr_assert_eq(generator_number(sliding, "model.rope.theta"), 1e4);
    cr_assert_not(cJSON_HasObjectItem(generator_member(sliding, "model.rope"), "scaling"));
    cr_assert_eq(generator_number(sliding, "model.sliding_window"), 99);
    cr_assert(cJSON_Compare(generator_member(full, "model.layer_kinds"),
                            generator_member(sliding, "model.layer_kinds"), 1));
    cJSON_Delete(full);
    cJSON_Delete(sliding);
}

/* gpt-oss and Gemma 2 have one rotary embedding for both kinds. */
Test(layers, kinds_may_share_a_rotary_embedding)
{
    cJSON *spec = complete_members(
        SHAPE ", \"sliding_window\": 99, \"rope_theta\": 5e5, \"sliding_window_pattern\": 2, "
              "\"layer_kind\": \"sliding\", \"rope_scaling\": {\"rope_type\": \"linear\", "
              "\"factor\": 8}");
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 5e5);
    cr_assert_eq(generator_number(spec, "model.rope.scaling.factor"), 8);
    cJSON_Delete(spec);
}

Test(layers, a_mixed_model_without_a_kind_is_an_error_that_counts_them)
{
    refuses(MIXED ", \"sliding_window_pattern\": 3", XQ_ERROR_SPEC, "model.layer_kind",
            "4 sliding and 2 full layers");
    refuses(MIXED ", \"sliding_window_pattern\": 3, \"layer_kind\": \"local\"", XQ_ERROR_SPEC,
            "model.layer_kind", "valid: full, sliding");
}

Test(layers, layers_that_are_all_alike_need_no_kind)
{
    char *plain = generator_complete_values("{\"model\": {" SHAPE ", \"rope_theta\": 1e6}}");
    char *alike = generator_complete_values("{\"model\": {" MIXED ", \"sliding_window_pattern\": 1}}");
    cr_assert_str_eq(plain, alike);
    free(plain);
    free(alike);
    cJSON *spec = complete_members(SHAPE ", \"sliding_window\": 99, \"layer_kind\": \"sliding\"");
    cr_assert_eq(generator_number(spec, "model.sliding_window"), 99);
    cr_assert_not(cJSON_HasObjectItem(generator_member(spec, "model"), "layer_kind"));
    cJSON_Delete(spec);
    refuses(SHAPE ", \"layer_kind\": \"sliding\"", XQ_ERROR_SPEC, "model.layer_kind",
            "all layers of this model are full");
    refuses(SHAPE ", \"sliding_window\": 99, \"layer_kind\": \"full\"", XQ_ERROR_SPEC, "model.layer_kind",
            "all layers of this model are sliding");
}

Test(layers, impossible_patterns_are_refused)
{
    refuses(SHAPE ", \"layer_types\": [\"full_attention\"]", XQ_ERROR_SPEC, "model.layer_types",
            "1 entries");
    refuses(SHAPE ", \"layer_types\": \"full_attention\"", XQ_ERROR_SPEC, "model.layer_types", "a list");
    refuses("\"hidden_size\": 512, \"num_attention_heads\": 8, \"layer_types\": [\"linear_attention\"]",
            XQ_ERROR_UNSUPPORTED, "model.layer_types", "no layer with keys and values");
    refuses("\"hidden_size\": 512, \"num_attention_heads\": 8, \"layer_types\": [\"full_attention\", "
            "\"chunked_attention\"]",
            XQ_ERROR_UNSUPPORTED, "model.layer_types", "'chunked_attention' (layer 1)");
    refuses("\"hidden_size\": 512, \"num_attention_heads\": 8, \"layer_types\": [7]", XQ_ERROR_UNSUPPORTED,
            "model.layer_types", "7 (layer 0)");
    refuses(MIXED ", \"sliding_window_pattern\": 3, \"max_window_layers\": 2", XQ_ERROR_SPEC,
            "model.max_window_layers", "cannot be given beside");
    refuses("\"hidden_size\": 512, \"num_attention_heads\": 8, \"sliding_window\": 4, "
            "\"sliding_window_pattern\": 2",
            XQ_ERROR_SPEC, "model.num_hidden_layers", "sliding_window_pattern needs it");
    refuses(SHAPE ", \"sliding_window_pattern\": 2, \"layer_kind\": \"full\"", XQ_ERROR_SPEC,
            "model.sliding_window", "missing");
    refuses(SHAPE ", \"rope\": {\"type\": \"none\"}, \"rope_local_base_freq\": 10000", XQ_ERROR_SPEC,
            "model.rope_local_base_freq", "without RoPE");
}

/* ---------------------------------------------------------------- completed specs */

Test(layers, a_completed_spec_of_a_kind_completes_to_itself)
{
    static const char *const names[] = {"gemma-2-2b", "gemma-3-1b", "gemma-3-4b", "gpt-oss-20b"};
    for (int i = 0; i < 8; i++) {
        char spec[160];
        snprintf(spec, sizeof spec, "{\"model\": {\"preset\": \"%s\", \"layer_kind\": \"%s\"}}",
                 names[i / 2], i % 2 ? "sliding" : "full");
        char *once = generator_complete(spec), *twice = generator_complete(once);
        cr_assert_str_eq(once, twice);
        free(once);
        free(twice);
    }
}

/* A completed spec of gemma-3-1b's full layers, for editing, and its model. Without `choices` all of it
 * counts as chosen. */
static cJSON *completed_gemma(cJSON **model)
{
    cJSON *spec =
        generator_complete_parsed("{\"model\": {\"preset\": \"gemma-3-1b\", \"layer_kind\": \"full\"}}");
    *model = cJSON_GetObjectItem(spec, "model");
    cJSON_DeleteItemFromObject(spec, "choices");
    return spec;
}

Test(layers, a_completed_spec_turns_to_the_other_kind_without_what_was_chosen)
{
    cJSON *model, *spec = completed_gemma(&model);
    cJSON_ReplaceItemInObject(model, "layer_kind", cJSON_CreateString("sliding"));
    char *text = cJSON_PrintUnformatted(spec);
    generator_refuses(text, XQ_ERROR_SPEC, "model.rope",
                      "differs from model.layer_kinds.sliding.rope; leave it out");
    free(text);
    cJSON_DeleteItemFromObject(model, "rope");
    text = cJSON_PrintUnformatted(spec);
    cJSON *turned = generator_complete_parsed(text),
          *direct = generator_complete_parsed(
              "{\"model\": {\"preset\": \"gemma-3-1b\", \"layer_kind\": \"sliding\"}}");
    cJSON_DeleteItemFromObject(turned, "choices");
    cJSON_DeleteItemFromObject(direct, "choices");
    cr_assert(cJSON_Compare(turned, direct, 1));
    cJSON_Delete(turned);
    cJSON_Delete(direct);
    cJSON_Delete(spec);
    free(text);
}

static void refuses_edited(cJSON *spec, const char *field, const char *text)
{
    char *json = cJSON_PrintUnformatted(spec);
    generator_refuses(json, XQ_ERROR_SPEC, field, text);
    free(json);
    cJSON_Delete(spec);
}

Test(layers, edited_kinds_are_checked_like_the_model)
{
    cJSON *model, *spec = completed_gemma(&model);
    cJSON *kinds = cJSON_GetObjectItem(model, "layer_kinds"),
          *sliding = cJSON_GetObjectItem(kinds, "sliding");
    cJSON_ReplaceItemInObject(cJSON_GetObjectItem(sliding, "rope"), "theta", cJSON_CreateNumber(-1));
    refuses_edited(spec, "model.layer_kinds.sliding.rope.theta", "valid: 1");
    spec = completed_gemma(&model);
    kinds = cJSON_GetObjectItem(model, "layer_kinds");
    cJSON_AddNumberToObject(cJSON_GetObjectItem(kinds, "full"), "sliding_window", 4);
    refuses_edited(spec, "model.layer_kinds.full.sliding_window", "leave it out");
    spec = completed_gemma(&model);
    cJSON_DeleteItemFromObject(cJSON_GetObjectItem(model, "layer_kinds"), "sliding");
    refuses_edited(spec, "model.layer_kinds.sliding", "missing");
    spec = completed_gemma(&model);
    cJSON_AddNumberToObject(model, "rope_local_base_freq", 4);
    refuses_edited(spec, "model.rope_local_base_freq", "beside model.layer_kinds");
    spec = completed_gemma(&model);
    cJSON_DeleteItemFromObject(model, "layer_types");
    refuses_edited(spec, "model.layer_kinds", "models that mix kinds");
}

/* ---------------------------------------------------------------- layers without RoPE, and without keys */

#define NOPE                                                                                               \
    "\"hidden_size\": 512, \"num_attention_heads\": 8, \"rope_theta\": 5000, \"layer_types\": "            \
    "[\"full_attention\", \"nope_attention\", \"full_attention\"]"

Test(layers, nope_layers_have_no_rope)
{
    cJSON *nope = complete_members(NOPE ", \"layer_kind\": \"nope\""),
          *full = complete_members(NOPE ", \"layer_kind\": \"full\"");
    cr_assert_str_eq(generator_string(nope, "model.rope.type"), "none");
    cr_assert_eq(generator_number(full, "model.rope.theta"), 5000);
    cr_assert_not(cJSON_HasObjectItem(generator_member(full, "model.layer_kinds"), "sliding"));
    cJSON_Delete(nope);
    cJSON_Delete(full);
    refuses(NOPE, XQ_ERROR_SPEC, "model.layer_kind", "2 full and 1 nope layers");
    refuses(NOPE ", \"layer_kind\": \"sliding\"", XQ_ERROR_SPEC, "model.layer_kind", "valid: full, nope");
}

Test(layers, three_kinds_are_told_apart)
{
#define THREE                                                                                              \
    "\"hidden_size\": 512, \"num_attention_heads\": 8, \"sliding_window\": 9, \"layer_types\": "           \
    "[\"full_attention\", \"nope_attention\", \"sliding_attention\", \"nope_attention\"]"
    refuses(THREE, XQ_ERROR_SPEC, "model.layer_kind", "1 sliding, 1 full and 2 nope layers");
    cJSON *spec = complete_members(THREE ", \"layer_kind\": \"sliding\"");
    cr_assert_eq(generator_number(spec, "model.sliding_window"), 9);
    cr_assert_eq(cJSON_GetArraySize(generator_member(spec, "model.layer_kinds")), 3);
    cJSON_Delete(spec);
}

Test(layers, layer_kinds_are_those_that_the_model_has)
{
    char *text = generator_complete("{\"model\": {" NOPE ", \"layer_kind\": \"nope\"}}");
    char *again = generator_complete(text);
    cr_assert_str_eq(text, again);
    cJSON *spec = cJSON_Parse(text), *model = cJSON_GetObjectItem(spec, "model"),
          *kinds = cJSON_GetObjectItem(model, "layer_kinds");
    cJSON_AddItemToObject(kinds, "sliding", cJSON_Duplicate(cJSON_GetObjectItem(kinds, "nope"), 1));
    refuses_edited(cJSON_Duplicate(spec, 1), "model.layer_kinds.sliding", "does not have");
    cJSON_DeleteItemFromObject(kinds, "sliding");
    cJSON_ReplaceItemInObject(kinds, "nope", cJSON_Duplicate(cJSON_GetObjectItem(kinds, "full"), 1));
    refuses_edited(spec, "model.layer_kinds.nope.rope.type", "valid: none");
    free(text);
    free(again);
}

#define LINEAR                                                                                             \
    "\"hidden_size\": 512, \"num_attention_heads\": 8, \"layer_types\": [\"linear_attention\", "           \
    "\"full_attention\", \"linear_attention\", \"full_attention\"]"

Test(layers, layers_of_linear_attention_are_kept_out_of_specs)
{
    cJSON *spec = complete_members(LINEAR);
    cr_assert_eq(cJSON_GetArraySize(generator_member(spec, "model.layer_types")), 4);
    cr_assert_not(cJSON_HasObjectItem(generator_member(spec, "model"), "layer_kind"));
    char *text = cJSON_PrintUnformatted(spec), *again = generator_complete(text), *kind = NULL;
    cJSON *twice = cJSON_Parse(again);
    cr_assert(cJSON_Compare(spec, twice, 1));
    error err = ERROR_INIT;
    cr_assert_eq(gen_layer_kind(generator(), text, 2, &kind, &err), XQ_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "linear_attention") && strstr(err.message, "valid: 1, 3"), "%s",
              err.message);
    cJSON_Delete(twice);
    cJSON_Delete(spec);
    free(text);
    free(again);
}

Test(layers, any_kind_is_that_of_the_first_layer_with_keys)
{
    error err = ERROR_INIT;
    char *kind = NULL;
    gen_any_layer_kind(generator(), "{\"model\": \"command-r7b\"}", &kind, &err);
    cr_assert_str_eq(kind, "sliding", "%s", err.message);
    free(kind);
    gen_any_layer_kind(generator(), "{\"model\": \"qwen3-next-80b-a3b\"}", &kind, &err);
    cr_assert_str_eq(kind, "", "%s", err.message);
    free(kind);
}

/* ---------------------------------------------------------------- finding the kind of a layer */

static void check_kind(const char *spec, int layer, const char *expected)
{
    error err = ERROR_INIT;
    char *kind = NULL;
    gen_layer_kind(generator(), spec, layer, &kind, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    cr_assert_str_eq(kind, expected, "%s, layer %d", spec, layer);
    free(kind);
}

Test(layers, the_kind_of_a_layer_is_found)
{
    check_kind("{\"model\": \"gemma-3-1b\"}", 0, "sliding");
    check_kind("{\"model\": \"gemma-3-1b\"}", 5, "full");
    check_kind("{\"model\": \"gemma-3-1b\"}", 25, "sliding");
    check_kind("{\"model\": \"gpt-oss-20b\"}", 23, "full");
    check_kind("{\"model\": \"llama-3.1-8b\"}", 31, "");
    char *completed =
        generator_complete("{\"model\": {\"preset\": \"gemma-3-1b\", \"layer_kind\": \"full\"}}");
    check_kind(completed, 4, "sliding");
    free(completed);
    static const int beyond[] = {-1, 26};
    for (int i = 0; i < 2; i++) {
        error err = ERROR_INIT;
        char *kind = NULL;
        cr_assert_eq(gen_layer_kind(generator(), "{\"model\": \"gemma-3-1b\"}", beyond[i], &kind, &err),
                     XQ_ERROR_ARGUMENT);
        cr_assert_str_eq(err.field, "layer");
        cr_assert(strstr(err.message, "0 to 25"), "%s", err.message);
        cr_assert_null(kind);
        error_clear(&err);
    }
}
