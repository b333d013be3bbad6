/* Completed specs that are changed and given back. Values that follow from the choices are derived again,
 * so that the result equals, byte for byte, a spec with all these choices from the beginning. */
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- overrides */

static char * override(const char *spec, const char *overrides)
{
    error err = ERROR_INIT;
    char *out = NULL;
    const gen_overrides o = {.spec_json = spec, .overrides_json = overrides};
    gen_override(generator(), &o, &out, &err);
    cr_assert_eq(err.status, XQ_OK, "%s + %s: %s", spec, overrides, err.message);
    return out;
}

/* Completes a spec, overrides the result, and completes it again. */
static char *change(const char *spec, const char *overrides)
{
    char *completed = generator_complete(spec), *chosen = override(completed, overrides),
         *changed = generator_complete(chosen);
    free(completed);
    free(chosen);
    return changed;
}

static void changes_to(const char *spec, const char *overrides, const char *expected)
{
    char *changed = change(spec, overrides), *direct = generator_complete(expected);
    cr_assert_str_eq(changed, direct, "%s + %s", spec, overrides);
    free(changed);
    free(direct);
}

Test(choices, overriding_a_completed_spec_is_choosing_from_the_beginning, .timeout = 60)
{
    static const char *const cases[][3] = {
        {"{\"model\": \"smollm2-135m\"}", "{\"cache\": {\"bits\": 8}}",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8}}"},
        {"{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 4, \"clip\": 0.95}}",
         "{\"cache\": {\"bits\": 2}}",
         "{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 2, \"clip\": 0.95}}"},
        {"{\"model\": \"llama-3.1-8b\", \"cache\": {\"group\": \"row\", \"rank_k\": 512}}",
         "{\"cache\": {\"rank_v\": 256}, \"weights\": \"int8\"}",
         "{\"cache\": {\"rank_v\": 256, \"rank_k\": 512, \"group\": \"row\"}, \"weights\": \"int8\", "
         "\"model\": \"llama-3.1-8b\"}"},
        {"{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\"}}",
         "{\"cache\": {\"method\": \"x\"}}",
         "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"x\"}}"},
        {"{\"model\": \"llama-3.1-8b\", \"arch\": \"sm_90a\", \"queries\": \"many\"}",
         "{\"arch\": \"sm_86\"}",
         "{\"model\": \"llama-3.1-8b\", \"arch\": \"sm_86\", \"queries\": \"many\"}"},
        {"{\"model\": \"llama-3.1-8b\", \"tuning\": {\"attend\": {\"warps\": 4}}}",
         "{\"tuning\": {\"append\": {\"warps\": 4}}, \"cache\": {\"bits\": 3}}",
         "{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 3}, \"tuning\": {\"append\": {\"warps\": 4}, "
         "\"attend\": {\"warps\": 4}}}"},
        /* A value that is overridden counts as chosen, even if it equals the derived one. */
        {"{\"model\": \"llama-3.1-8b\"}", "{\"cache\": {\"clip\": 0.95}}",
         "{\"model\": \"llama-3.1-8b\", \"cache\": {\"clip\": 0.95}}"},
        {"{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 8, \"page\": 32}}",
         "{\"cache\": {\"bits\": null, \"page\": null}}", "{\"model\": \"llama-3.1-8b\"}"},
        {"{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 8}}", "{\"cache\": null}",
         "{\"model\": \"llama-3.1-8b\"}"},
        {"{\"model\": \"llama-3.1-8b\"}", "{}",
         "{\"model\": \"llama-3.1-8b\", \"cache\": {}, \"tuning\": {\"attend\": {}}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        changes_to(cases[i][0], cases[i][1], cases[i][2]);
}

Test(choices, a_preset_stays_beside_what_is_overridden)
{
    static const char *const cases[][3] = {
        {"{\"model\": {\"preset\": \"gemma-3-1b\", \"layer_kind\": \"full\"}}",
         "{\"model\": {\"layer_kind\": \"sliding\"}}",
         "{\"model\": {\"preset\": \"gemma-3-1b\", \"layer_kind\": \"sliding\"}}"},
        {"{\"model\": \"llama-3.1-8b\"}", "{\"model\": {\"rope_theta\": 1e6}}",
         "{\"model\": {\"rope_theta\": 1000000, \"preset\": \"llama-3.1-8b\"}}"},
        {"{\"model\": \"llama-3.1-8b\"}", "{\"model\": \"smollm2-135m\"}", "{\"model\": \"smollm2-135m\"}"},
        {"{\"model\": {\"preset\": \"llama-3.1-8b\", \"rope_theta\": 1e6}}",
         "{\"model\": {\"rope_theta\": null}}",
         "{\"model\": {\"preset\": \"llama-3.1-8b\", \"rope_theta\": null}}"},
        {"{\"model\": \"llama-3.1-8b\"}", "{\"model\": {\"rope_scaling\": {\"factor\": 16}}}",
         "{\"model\": {\"preset\": \"llama-3.1-8b\", \"rope_scaling\": {\"factor\": 16, "
         "\"rope_type\": \"llama3\", \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
         "\"original_max_position_embeddings\": 8192}}}"},
        {"{\"model\": \"llama-3.1-8b\"}", "{\"model\": {\"rope_scaling\": null}}",
         "{\"model\": {\"preset\": \"llama-3.1-8b\", \"rope_scaling\": null}}"},
        {"{\"model\": \"llama-3.1-8b\"}", "{\"model\": {\"attn_logit_softcapping\": null}}",
         "{\"model\": \"llama-3.1-8b\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        changes_to(cases[i][0], cases[i][1], cases[i][2]);
}

Test(choices, null_beside_a_preset_takes_away_what_it_says)
{
    cJSON *plain = generator_complete_parsed(
        "{\"model\": {\"preset\": \"llama-3.1-8b\", \"rope_scaling\": null, \"sliding_window\": null}}");
    cr_assert_not(cJSON_HasObjectItem(generator_member(plain, "model.rope"), "scaling"));
    cr_assert_eq(generator_number(plain, "model.rope.theta"), 500000);
    cr_assert(cJSON_IsNull(generator_member(plain, "choices.model.rope_scaling")));
    cr_assert_not(cJSON_HasObjectItem(generator_member(plain, "choices.model"), "sliding_window"));
    cJSON_Delete(plain);
}

Test(choices, choices_are_as_given_whatever_their_order)
{
    cJSON *spec = generator_complete_parsed("{\"weights\": \"f16\", \"cache\": {\"page\": 64, "
                                            "\"group\": \"row\", \"bits\": 4, \"clip\": null}, "
                                            "\"model\": \"Llama-2-7B\"}");
    char *text = cJSON_PrintUnformatted(generator_member(spec, "choices"));
    cr_assert_str_eq(text, "{\"model\":\"Llama-2-7B\",\"cache\":{\"bits\":4,\"group\":\"row\",\"page\":64},"
                           "\"weights\":\"f16\",\"arch\":\"sm_80\"}");
    cJSON_free(text);
    cJSON_Delete(spec);
}

static void override_refused(const char *spec, const char *overrides, const char *field, const char *text)
{
    error err = ERROR_INIT;
    char *out = NULL, *completed = NULL;
    const gen_overrides o = {.spec_json = spec, .overrides_json = overrides};
    if (gen_override(generator(), &o, &out, &err) == XQ_OK)
        gen_complete(generator(), out, &completed, &err);
    cr_assert_eq(err.status, XQ_ERROR_SPEC, "%s + %s: %s", spec, overrides, completed);
    cr_assert_str_eq(err.field, field, "%s", err.message);
    cr_assert(strstr(err.message, text), "%s", err.message);
    free(out);
}

Test(choices, overrides_are_checked)
{
    const char *spec = "{\"model\": \"llama-3.1-8b\"}";
    override_refused(spec, "{\"cache\": {\"bits\": 0}}", "cache.bits", "valid: 2, 3, 4, 8");
    override_refused(spec, "{\"cache\": {\"clip\": 1e400}}", "cache.clip",
                     "inf is not valid; valid: 0.1 to 1");
    override_refused(spec, "{\"cache\": []}", "cache", "an object");
    override_refused(spec, "{\"cashe\": {}}", "cashe", "did you mean 'cache'?");
    override_refused(spec, "[]", "overrides", "must be an object, not a list");
    override_refused(spec, "null", "overrides", "must be an object, not null");
    override_refused(spec, "{\"layout\": {}}", "layout", "cannot be overridden");
    override_refused(spec, "{\"choices\": {}}", "choices", "cannot be overridden");
    override_refused(spec, "{\"model\": null}", "model", "missing");
    override_refused(spec, "{\"model\": {\"preset\": null}}", "model.hidden_size", "missing");
    override_refused(spec, "{\"model\": {\"rope\": {\"theta\": 1e6}}}", "model.rope", "model.rope_theta");
    override_refused(spec, "{\"cache\": {\"bits\": 4, \"bits\": 8}}", "bits", "overrides:1:23: ");
    override_refused("{\n\"model\": }", "{}", "", "spec:2:10: malformed JSON");
    override_refused("[]", "{}", "spec", "must be an object");
}

/* null removes a choice, but the name must be known. */
Test(choices, names_of_nulls_are_checked, .timeout = 60)
{
    static const char *const cases[][3] = {
        /* members of a spec, and of its overrides */
        {"\"foo\": null", "foo", "is not known"},
        {"\"bits\": null", "bits", "did you mean 'cache.bits'?"},
        {"\"cache\": {\"clipp\": null}", "cache.clipp", "did you mean 'clip'?"},
        {"\"cache\": {\"warps\": null, \"bits\": 8}", "cache.warps", "is not known"},
        {"\"tuning\": {\"foo\": null}", "tuning.foo", "is not known"},
        {"\"tuning\": {\"gemm\": {\"x\": null}}", "tuning.gemm.x", "is not known"},
        {"\"tuning\": {\"attend\": {\"warpz\": null, \"warps\": 4}}", "tuning.attend.warpz",
         "did you mean 'warps'?"},
    };
    static const char *const of_models[][3] = {
        {"\"softcap\": null", "model.softcap", "is not known"},
        {"\"rope_scaling\": {\"factr\": null}", "model.rope_scaling.factr", "did you mean 'factor'?"},
        {"\"rope\": {\"thta\": null}", "model.rope.thta", "did you mean 'theta'?"},
        {"\"rope\": {\"scaling\": {\"factr\": null}}", "model.rope.scaling.factr",
         "did you mean 'factor'?"},
        {"\"layer_kinds\": {\"ful\": null}", "model.layer_kinds.ful", "did you mean 'full'?"},
        {"\"layer_kinds\": {\"full\": {\"rop\": null}}", "model.layer_kinds.full.rop",
         "did you mean 'rope'?"},
    };
    char text[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{\"model\": \"smollm2-135m\", %s}", cases[i][0]);
        generator_refuses(text, XQ_ERROR_SPEC, cases[i][1], cases[i][2]);
        snprintf(text, sizeof text, "{%s}", cases[i][0]);
        override_refused("{\"model\": \"smollm2-135m\"}", text, cases[i][1], cases[i][2]);
    }
    for (size_t i = 0; i < sizeof of_models / sizeof *of_models; i++) {
        snprintf(text, sizeof text, "{\"model\": {\"preset\": \"smollm2-135m\", %s}}", of_models[i][0]);
        generator_refuses(text, XQ_ERROR_SPEC, of_models[i][1], of_models[i][2]);
        snprintf(text, sizeof text, "{\"model\": {%s}}", of_models[i][0]);
        override_refused("{\"model\": \"smollm2-135m\"}", text, of_models[i][1], of_models[i][2]);
    }
}

Test(choices, nulls_of_known_names_count_as_absent, .timeout = 60)
{
    changes_to("{\"model\": \"smollm2-135m\", \"tuning\": {\"append\": {\"warps\": 4}}}",
               "{\"tuning\": {\"append\": {\"warps\": null}, \"accumulate\": null, \"attend\": null}, "
               "\"cache\": {\"base\": null, \"accumulator_bits\": null}, \"weights\": null}",
               "{\"model\": \"smollm2-135m\"}");
    /* from one kind of scaling to another, which lacks some of its keys */
    changes_to("{\"model\": \"llama-3.1-8b\"}",
               "{\"model\": {\"rope_scaling\": {\"rope_type\": \"linear\", \"low_freq_factor\": null, "
               "\"high_freq_factor\": null, \"original_max_position_embeddings\": null}}}",
               "{\"model\": {\"preset\": \"llama-3.1-8b\", \"rope_scaling\": {\"rope_type\": \"linear\", "
               "\"factor\": 8}}}");
}

/* The name of a family asks for it, even without parameters. */
Test(choices, empty_tuning_of_a_family_that_cannot_serve_is_refused, .timeout = 60)
{
    static const char *const families[] = {"accumulate", "append_channel", "check", "key_norms"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char tuning[64], spec[128], field[64];
        snprintf(tuning, sizeof tuning, "\"tuning\": {\"%s\": {}}", families[i]);
        snprintf(spec, sizeof spec, "{\"model\": \"smollm2-135m\", %s}", tuning);
        snprintf(field, sizeof field, "tuning.%s", families[i]);
        generator_refuses(spec, XQ_ERROR_UNSUPPORTED, field, "");
        error err = ERROR_INIT;
        snprintf(tuning, sizeof tuning, "{\"tuning\": {\"%s\": {}}}", families[i]);
        char *out = override("{\"model\": \"smollm2-135m\"}", tuning), *completed = NULL;
        cr_assert_eq(gen_complete(generator(), out, &completed, &err), XQ_ERROR_UNSUPPORTED, "%s", tuning);
        cr_assert_str_eq(err.field, field);
        error_clear(&err);
        free(out);
    }
}

/* ---------------------------------------------------------------- edits by hand */

/* The completed spec with the member at `path` replaced by `value`, or removed if `value` is NULL. */
static char *edit(const char *spec, const char *path, const char *value)
{
    cJSON *root = generator_complete_parsed(spec), *object = root;
    char copy[128], *name = copy, *dot;
    snprintf(copy, sizeof copy, "%s", path);
    for (; (dot = strchr(name, '.')); name = dot + 1) {
        *dot = 0;
        object = cJSON_GetObjectItemCaseSensitive(object, name);
        cr_assert_not_null(object, "%s", path);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    if (value)
        cJSON_AddItemToObject(object, name, cJSON_Parse(value));
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

static void edited_to(const char *spec, const char *path, const char *value, const char *expected)
{
    char *edited = edit(spec, path, value), *changed = generator_complete(edited),
         *direct = generator_complete(expected);
    cr_assert_str_eq(changed, direct, "%s, %s: %s", spec, path, value);
    free(edited);
    free(changed);
    free(direct);
}

#define GEMMA(KIND, MORE) "{\"model\": {\"preset\": \"gemma-3-1b\", \"layer_kind\": \"" KIND "\"" MORE "}}"
#define LLAMA3_OFF        "\"rope_scaling\": null, \"rope_theta\": null"

Test(choices, what_is_edited_by_hand_becomes_a_choice, .timeout = 60)
{
    static const char *const cases[][4] = {
        {"{\"model\": \"smollm2-135m\"}", "cache.bits", "8",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8}}"},
        {"{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8}}", "cache.bits", "3",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 3}}"},
        {"{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8}}", "cache.bits", NULL,
         "{\"model\": \"smollm2-135m\"}"},
        {"{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8}}", "cache", NULL,
         "{\"model\": \"smollm2-135m\"}"},
        {"{\"model\": \"smollm2-135m\"}", "cache.method", "\"x\"",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x\"}}"},
        {"{\"model\": \"smollm2-135m\", \"cache\": {\"group\": \"row\"}}", "cache.rank_k", "64",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"group\": \"row\", \"rank_k\": 64}}"},
        {"{\"model\": \"smollm2-135m\"}", "arch", "\"sm_120\"",
         "{\"model\": \"smollm2-135m\", \"arch\": \"sm_120\"}"},
        {"{\"model\": \"smollm2-135m\", \"arch\": \"sm_120\"}", "arch", NULL,
         "{\"model\": \"smollm2-135m\"}"},
        {"{\"model\": \"smollm2-135m\"}", "tuning.append.warps", "4",
         "{\"model\": \"smollm2-135m\", \"tuning\": {\"append\": {\"warps\": 4}}}"},
        {"{\"model\": \"smollm2-135m\", \"tuning\": {\"append\": {\"warps\": 4}}}", "tuning", NULL,
         "{\"model\": \"smollm2-135m\"}"},
        {"{\"model\": \"smollm2-135m\"}", "model", "\"llama-3.1-8b\"", "{\"model\": \"llama-3.1-8b\"}"},
        {"{\"model\": \"smollm2-135m\"}", "model.num_key_value_heads", "9",
         "{\"model\": {\"preset\": \"smollm2-135m\", \"num_key_value_heads\": 9}}"},
        {"{\"model\": \"smollm2-135m\"}", "model.head_dim", "128",
         "{\"model\": {\"preset\": \"smollm2-135m\", \"head_dim\": 128}}"},
        {"{\"model\": \"smollm2-135m\"}", "layout", NULL, "{\"model\": \"smollm2-135m\"}"},
        /* Parameters of a family that does not serve the new spec do not count as chosen. */
        {"{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x-cl\"}}", "cache", "{\"method\": \"x\"}",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x\"}}"},
        /* Values of a preset count as choices. */
        {"{\"model\": \"llama-3.1-8b\"}", "model.name", NULL,
         "{\"model\": {\"preset\": \"llama-3.1-8b\", \"name\": null}}"},
        {"{\"model\": \"llama-3.1-8b\"}", "model.rope",
         "{\"type\": \"neox\", \"theta\": 7000, \"rotary_dim\": 128}",
         "{\"model\": {\"preset\": \"llama-3.1-8b\", " LLAMA3_OFF
         ", \"rope\": {\"type\": \"neox\", \"theta\": 7000, \"rotary_dim\": 128}}}"},
        {GEMMA("full", ""), "model.attention_scale", "0.5",
         GEMMA("full", ", \"attention_scale\": 0.5, \"query_pre_attn_scalar\": null")},
        /* layer_kind determines the window and the rotary embedding. */
        {GEMMA("full", ""), "model.layer_kind", "\"sliding\"", GEMMA("sliding", "")},
        {GEMMA("sliding", ""), "model.layer_kind", "\"full\"", GEMMA("full", "")},
        {GEMMA("sliding", ""), "model.sliding_window", "99", GEMMA("sliding", ", \"sliding_window\": 99")},
        {GEMMA("sliding", ""), "model.sliding_window", NULL, GEMMA("sliding", "")},
        {GEMMA("sliding", ""), "model.rope", NULL, GEMMA("sliding", "")},
        {GEMMA("sliding", ""), "model.layer_kinds", NULL, GEMMA("sliding", "")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        edited_to(cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
}

Test(choices, kinds_of_layers_can_be_edited)
{
    char *edited = edit(GEMMA("full", ""), "model.layer_kinds.sliding.sliding_window", "99");
    cJSON *spec = generator_complete_parsed(edited);
    cr_assert_eq(generator_number(spec, "model.layer_kinds.sliding.sliding_window"), 99);
    cr_assert_eq(generator_number(spec, "model.layer_kinds.sliding.rope.theta"), 10000);
    cr_assert_eq(generator_number(spec, "model.rope.theta"), 1000000);
    cJSON_Delete(spec);
    free(edited);
}

static void edit_refused(const char *spec, const char *path, const char *value, const char *field,
                         const char *text)
{
    char *edited = edit(spec, path, value);
    generator_refuses(edited, XQ_ERROR_SPEC, field, text);
    free(edited);
}

Test(choices, impossible_edits_are_refused)
{
    const char *spec = "{\"model\": \"smollm2-135m\"}";
    edit_refused(spec, "cache.bits", "5", "cache.bits", "valid: 2, 3, 4, 8");
    edit_refused(spec, "cache.bitz", "4", "cache.bitz", "did you mean 'bits'?");
    edit_refused(spec, "layout.page_bytes", "1", "layout.page_bytes", "leave layout out");
    edit_refused(spec, "keys.pairs", "1", "keys.pairs", "leave keys out");
    edit_refused(spec, "keys.paris", "null", "keys.paris", "leave keys out");
    edit_refused(spec, "weights_layout.bytes", "1", "weights_layout.bytes", "leave weights_layout out");
    edit_refused(spec, "layout.streams", "[]", "layout.streams[0]", "leave layout out");
    edit_refused(spec, "accumulator", "{}", "accumulator", "leave it out");
    edit_refused(spec, "model", NULL, "model", "missing");
    edit_refused(spec, "cache", "[]", "cache", "an object");
    edit_refused(spec, "choices", "[]", "choices", "an object");
    edit_refused(spec, "choices.layout", "{}", "choices.layout", "leave it out");
    edit_refused(spec, "choices.choices", "{}", "choices.choices", "leave it out");
    edit_refused(spec, "choices.cache", "{\"bits\": 8}", "choices", "leave choices as they were");
    edit_refused(GEMMA("full", ""), "model.rope.theta", "5", "model.rope", "layer_kinds");
}

/* A whole model may be written in place of the completed one. */
Test(choices, another_model_may_take_the_place)
{
    const char *model = "{\"hidden_size\": 512, \"num_attention_heads\": 8}";
    char *edited = edit("{\"model\": \"llama-3.1-8b\"}", "model", model),
         *ours = generator_complete_values(edited),
         *direct =
             generator_complete_values("{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8}}");
    cr_assert_str_eq(ours, direct);
    free(edited);
    free(ours);
    free(direct);
}

/* Without `choices` every member counts as chosen, as in a spec that a person wrote. */
Test(choices, a_spec_without_them_is_all_choices)
{
    char *edited = edit("{\"model\": \"smollm2-135m\"}", "choices", NULL),
         *changed = override(edited, "{}"), *values = generator_complete_values(edited),
         *expected = generator_complete_values("{\"model\": \"smollm2-135m\"}");
    cr_assert_str_eq(values, expected);
    cr_assert(strstr(changed, "\"clip\":0.95") && !strstr(changed, "layout"), "%s", changed);
    override_refused(edited, "{\"cache\": {\"bits\": 8}, \"tuning\": {\"attend\": {\"warps\": 5}}}",
                     "tuning.attend.warps", "valid: ");
    free(edited);
    free(changed);
    free(values);
    free(expected);
}

/* ---------------------------------------------------------------- the public call */

Test(choices, the_library_overrides_for_its_device)
{
    xq_context *context;
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = "sim:h100";
    options.cache_dir = "";
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    const char *prepared =
        "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\", \"rank_k\": 64}}";
    char *completed = NULL, *again = NULL, *direct = NULL;
    cr_assert_eq(xq_spec_override(context, prepared, "{\"cache\": {\"bits\": 8}}", &completed), XQ_OK);
    cr_assert_eq(xq_spec_override(context, completed, "{\"cache\": {\"bits\": 2}}", &again), XQ_OK);
    cr_assert_eq(xq_spec_complete(context,
                                  "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\", "
                                  "\"rank_k\": 64, \"bits\": 2}}",
                                  &direct),
                 XQ_OK);
    cr_assert_str_eq(again, direct);
    cr_assert(strstr(again, "\"arch\":\"sm_90\""), "%s", again);
    xq_string_free(completed);
    xq_string_free(again);
    xq_string_free(direct);

    char *untouched = NULL;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_spec_override(context, prepared, "{\"cache\": {\"bits\": 5}}", &untouched),
                 XQ_ERROR_SPEC);
    xq_last_error(context, &detail);
    cr_assert_str_eq(detail.field, "cache.bits");
    cr_assert_eq(xq_spec_override(context, prepared, "{\"cache\":\n{bits}}", &untouched), XQ_ERROR_SPEC);
    xq_last_error(context, &detail);
    cr_assert_eq(detail.line, 2);
    cr_assert(strstr(detail.message, "overrides:2:2: malformed JSON"), "%s", detail.message);
    static const char *const fields[] = {"spec_json", "overrides_json", "completed"};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(xq_spec_override(context, i == 0 ? NULL : prepared, i == 1 ? NULL : "{}",
                                      i == 2 ? NULL : &untouched),
                     XQ_ERROR_ARGUMENT);
        xq_last_error(context, &detail);
        cr_assert_str_eq(detail.field, fields[i]);
    }
    cr_assert_eq(xq_spec_override(NULL, prepared, "{}", &untouched), XQ_ERROR_ARGUMENT);
    cr_assert_null(untouched);
    xq_context_destroy(context);
}
