/* Tests tables of tuned parameters: what is looked up for which GPU, spec and size of calls, and what
 * becomes of results that cannot be used. */
#include "../../gen/embed.h"
#include "../support/generator.h"
#include "../support/tuned_plans.h"
#include "../support/tuned_table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static error err = ERROR_INIT;

static gen *generator_for_gpu(const char *gpu, const char *arch, int multiprocessors)
{
    const gen_arch device = {.name = arch, .gpu = gpu, .multiprocessors = multiprocessors};
    gen *g = NULL;
    cr_assert_eq(gen_create_for(NULL, gpu ? &device : NULL, &g, &err), XQ_OK, "%s", err.message);
    return g;
}

static void add(gen *g, const char *name, const struct tuned_result *results, int count)
{
    const char *text = tuned_table(TUNED_SPEC_FOR("sm_80"), results, count);
    cr_assert_eq(gen_add_table(g, name, text, strlen(text), &err), XQ_OK, "%s", err.message);
}

static cJSON *complete_with(gen *g, const char *spec_json, const gen_completion *how)
{
    char *completed = NULL;
    cr_assert_eq(gen_complete_with(g, spec_json, how, &completed, &err), XQ_OK, "%s", err.message);
    cJSON *spec = cJSON_Parse(completed);
    free(completed);
    return spec;
}

/* Completes the spec for calls of a size. Expects the level ("" for the defaults) and the number of
 * warps. */
static void expect_for(gen *g, const char *spec_json, int tokens, int batch, const char *from, int warps)
{
    const gen_completion how = {.calls = {tokens, batch, 1}};
    cJSON *spec = complete_with(g, spec_json, &how);
    const cJSON *used = cJSON_GetObjectItem(cJSON_GetObjectItem(spec, "tuned"), "attend");
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), warps);
    if (*from)
        cr_expect_str_eq(generator_string(spec, "tuned.attend.from"), from);
    else
        cr_expect_null(used);
    cJSON_Delete(spec);
}

static void expect(gen *g, const char *spec_json, const char *from, int warps)
{
    expect_for(g, spec_json, 4096, 1, from, warps);
}

static void expect_note(gen *g, const char *part)
{
    char *note = NULL;
    cr_assert_eq(gen_take_note(g, &note, &err), XQ_OK);
    cr_expect(*part ? strstr(note, part) != NULL : !*note, "'%s' is not in '%s'", part, note);
    free(note);
}

/* -------------------------------------------------------------------- lookup */

Test(tuned, the_default_of_the_tests_is_the_familys)
{
    cJSON *spec = generator_complete_parsed(TUNED_SPEC_FOR("sm_80"));
    cr_assert_eq(generator_number(spec, "tuning.attend.warps"), 8);
    cJSON_Delete(spec);
}

Test(tuned, the_nearest_gpu_is_taken)
{
    const struct tuned_result device = {.device = "Mine", .multiprocessors = 128},
                              capability = {.device = "Other", .multiprocessors = 64, .warps = 8},
                              family = {.device = "Older", .capability = 80};
    gen *g = generator_for_gpu("Mine", "sm_89", 128);
    add(g, "family", &family, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "family", 4);
    expect(g, TUNED_SPEC_FOR("sm_80"), "capability", 4);
    expect(g, TUNED_SPEC_FOR("sm_90"), "", 8);
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 128);
    add(g, "family", &family, 1);
    add(g, "capability", &capability, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "capability", 8);
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 128);
    add(g, "family", &family, 1);
    add(g, "capability", &capability, 1);
    add(g, "device", &device, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "device", 4);
    expect(g, TUNED_SPEC_FOR("sm_86"), "family", 4); /* the spec is for another GPU than the device */
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 128);
    const struct tuned_result misnamed = {.device = "Mine", .multiprocessors = 128, .capability = 80};
    add(g, "misnamed", &misnamed, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "family", 4); /* the result is not of the device's capability */
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 100); /* a part of the GPU, as MIG makes it */
    add(g, "device", &device, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "capability", 4);
    gen_destroy(g);
    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "device", &device, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "capability", 4);
    gen_destroy(g);
}

Test(tuned, of_equal_gpus_the_first_table_then_the_measured_then_the_nearest_size_serve)
{
    const struct tuned_result modelled[] = {{.warps = 8}},
                              mixed[] = {{.warps = 8}, {.measured = true, .tokens = 65536}},
                              sizes[] = {{.tokens = 512, .warps = 8},
                                         {.tokens = 8192},
                                         {.tokens = 8192, .batch = 64, .warps = 8}};
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "first", modelled, 1);
    add(g, "second", mixed, 2);
    expect(g, TUNED_SPEC_FOR("sm_89"), "capability", 8);
    gen_destroy(g);
    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "mixed", mixed, 2);
    expect(g, TUNED_SPEC_FOR("sm_89"), "capability", 4);
    gen_destroy(g);
    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "sizes", sizes, 3);
    expect_for(g, TUNED_SPEC_FOR("sm_89"), 600, 1, "capability", 8);
    expect_for(g, TUNED_SPEC_FOR("sm_89"), 5000, 1, "capability", 4);
    expect_for(g, TUNED_SPEC_FOR("sm_89"), 5000, 32, "capability", 8);
    gen_destroy(g);
}

Test(tuned, results_are_for_specs_of_one_shape)
{
    static const char labelled[] =
        "{\"model\": {\"name\": \"other\", \"hidden_size\": 128, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"head_dim\": 64, \"num_hidden_layers\": 3, \"rope_theta\": 5e5}, "
        "\"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}, "
        "\"arch\": \"sm_89\"}";
    static const char *const others[] = {
        "{\"model\": " TUNED_MODEL
        ", \"cache\": {\"method\": \"latent\", \"bits\": 3, \"group\": 64, \"page\": 16}, "
        "\"arch\": \"sm_89\"}",
        "{\"model\": " TUNED_MODEL
        ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}, "
        "\"arch\": \"sm_89\", \"weights\": \"f16\"}",
        "{\"model\": " TUNED_MODEL
        ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}, "
        "\"arch\": \"sm_89\", \"queries\": \"many\"}",
    };
    const struct tuned_result usual = {0};
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "table", &usual, 1);
    expect(g, labelled, "capability", 4);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        cJSON *spec = complete_with(g, others[i], &(const gen_completion){0});
        cr_expect_null(cJSON_GetObjectItem(spec, "tuned")->child, "%s", others[i]);
        cJSON_Delete(spec);
    }
    gen_destroy(g);
}

Test(tuned, what_a_spec_chooses_is_not_looked_up)
{
    const struct tuned_result usual = {0};
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "table", &usual, 1);
    cJSON *spec =
        complete_with(g,
                      "{\"model\": " TUNED_MODEL ", \"cache\": {\"method\": \"latent\", \"group\": 64, "
                      "\"page\": 16}, \"arch\": \"sm_89\", \"tuning\": {\"attend\": {\"stages\": 2}}}",
                      &(const gen_completion){0});
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), 8);
    cr_expect_eq(generator_number(spec, "tuning.attend.stages"), 2);
    cr_expect_null(cJSON_GetObjectItem(spec, "tuned")->child);
    cJSON_Delete(spec);
    static const char *const untuned[] = {"attend"};
    spec = complete_with(g, TUNED_SPEC_FOR("sm_89"),
                         &(const gen_completion){.untuned = untuned, .untuned_count = 1});
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), 8);
    cJSON_Delete(spec);
    /* A family with an empty object of parameters chooses nothing. */
    spec = complete_with(g,
                         "{\"model\": " TUNED_MODEL ", \"cache\": {\"method\": \"latent\", \"group\": 64, "
                         "\"page\": 16}, \"arch\": \"sm_89\", \"tuning\": {\"attend\": {}}}",
                         &(const gen_completion){0});
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), 4);
    cJSON_Delete(spec);
    cr_assert_eq(gen_ignore_tables(g, &err), XQ_OK);
    expect(g, TUNED_SPEC_FOR("sm_89"), "", 8);
    gen_destroy(g);
}

/* In a completed spec without `choices`, everything is a choice, also its tuning. */
Test(tuned, a_completed_spec_without_choices_chooses_its_parameters)
{
    const struct tuned_result usual = {0};
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "table", &usual, 1);
    cJSON *spec = complete_with(g, TUNED_SPEC_FOR("sm_89"), &(const gen_completion){0});
    cJSON_DeleteItemFromObject(spec, "choices");
    char *text = cJSON_PrintUnformatted(spec);
    cJSON *again = complete_with(generator(), text, &(const gen_completion){0});
    cr_expect_eq(generator_number(again, "choices.tuning.attend.warps"), 4);
    cr_expect_null(cJSON_GetObjectItem(again, "tuned")->child);
    cJSON_free(text);
    cJSON_Delete(again);

    cJSON_ReplaceItemInObject(cJSON_GetObjectItem(cJSON_GetObjectItem(spec, "tuning"), "attend"), "warps",
                              cJSON_CreateNumber(8));
    text = cJSON_PrintUnformatted(spec);
    generator_refuses(text, XQ_ERROR_SPEC, "tuned.attend", "differs from what the rest of the spec gives");
    cJSON_free(text);
    cJSON_Delete(spec);
    gen_destroy(g);
}

/* ------------------------------------------------------------ completed specs */

Test(tuned, a_completed_spec_keeps_its_parameters_wherever_it_goes)
{
    const struct tuned_result usual = {0};
    char *completed = NULL, *again = NULL, *edited = NULL;
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "table", &usual, 1);
    cr_assert_eq(gen_complete(g, TUNED_SPEC_FOR("sm_89"), &completed, &err), XQ_OK);
    cr_assert_eq(gen_complete(generator(), completed, &again, &err), XQ_OK, "%s", err.message);
    cr_expect_str_eq(again, completed);
    gen_kernel here, there;
    cr_assert_eq(gen_render(g, completed, "attend", &here, &err), XQ_OK);
    cr_assert_eq(gen_render(generator(), completed, "attend", &there, &err), XQ_OK);
    cr_expect_str_eq(here.source, there.source);
    cr_expect(strstr(here.source, "warps 4"), "%.400s", here.source);

    /* The parameters of a completed spec are not its choices. If a choice changes, they are derived
     * again. */
    const gen_overrides other = {.spec_json = completed, .overrides_json = "{\"cache\": {\"bits\": 3}}"};
    cr_assert_eq(gen_override(generator(), &other, &edited, &err), XQ_OK);
    cr_expect_null(strstr(edited, "tuning"), "%s", edited);
    expect(generator(), completed, "", 8); /* for calls of a size, they are looked up again */

    /* Parameters that were edited by hand are choices. */
    char *place = strstr(completed, "\"warps\":4");
    cr_assert_not_null(place);
    place[strlen("\"warps\":")] = '8';
    cJSON *spec = generator_complete_parsed(completed);
    cr_expect_eq(generator_number(spec, "choices.tuning.attend.warps"), 8);
    cJSON_Delete(spec);
    gen_kernel_free(&here);
    gen_kernel_free(&there);
    free(edited);
    free(again);
    free(completed);
    gen_destroy(g);
}

Test(tuned, what_a_completed_spec_says_of_tables_is_checked)
{
    static const struct {
        const char *tuned, *field, *text;
    } cases[] = {
        {"3", "tuned", "must be an object"},
        {"{\"atend\": {}}", "tuned.atend", "did you mean 'attend'?"},
        {"{\"attend\": 3}", "tuned.attend", "must be an object"},
        {"{\"attend\": {}}", "tuned.attend.parameters", "is missing"},
        {"{\"attend\": {\"parameters\": 3}}", "tuned.attend.parameters", "must be an object, not 3"},
        {"{\"attend\": {\"parameters\": {\"warps\": 5}}}", "tuned.attend", "warps 5 is not valid"},
        {"{\"attend\": {\"parameters\": {\"wraps\": 4}}}", "tuned.attend", "did you mean 'warps'?"},
    };
    char *completed = generator_complete(TUNED_SPEC_FOR("sm_89"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *spec = cJSON_Parse(completed);
        cJSON_ReplaceItemInObject(spec, "tuned", cJSON_Parse(cases[i].tuned));
        char *text = cJSON_PrintUnformatted(spec);
        generator_refuses(text, XQ_ERROR_SPEC, cases[i].field, cases[i].text);
        free(text);
        cJSON_Delete(spec);
    }
    free(completed);
}

/* -------------------------------------------------- results that do not serve */

Test(tuned, results_that_do_not_serve_are_said_and_the_next_one_is_taken)
{
    const struct tuned_result
        stale[] = {{.source = "0123456789abcdef"}, {.source = "0123456789abcdef", .tokens = 8192}},
        unknown = {.parameters = "{\"wraps\": 4}"}, invalid = {.parameters = "{\"warps\": 5}"},
        unfit = {.parameters = "{\"warps\": 8, \"m_tiles\": 4, \"stages\": 5, \"stage_steps\": 8, "
                               "\"split_tokens\": 4096}"},
        older = {.capability = 80};
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "stale.json", stale, 2);
    expect(g, TUNED_SPEC_FOR("sm_89"), "", 8);
    expect_note(
        g,
        "stale.json: its parameters for attend are not used, because that family's kernels have changed");
    expect_note(g, ""); /* the note is given once */
    expect(g, TUNED_SPEC_FOR("sm_89"), "", 8);
    expect_note(g, "");
    gen_destroy(g);

    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "stale.json", stale, 2);
    add(g, "unknown.json", &unknown, 1);
    add(g, "invalid.json", &invalid, 1);
    add(g, "older.json", &older, 1);
    expect(g, TUNED_SPEC_FOR("sm_89"), "family", 4);
    expect_note(g, "stale.json");
    expect_note(g, "did you mean 'warps'?");
    expect_note(g, "invalid.json: its parameters for attend on GPU are not used: warps 5");
    expect_note(g, "");
    gen_destroy(g);

    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "unfit.json", &unfit, 1);
    cJSON *spec = complete_with(g, TUNED_SPEC_FOR("sm_89"), &(const gen_completion){0});
    if (!cJSON_GetObjectItem(spec, "tuned")->child)
        expect_note(g, "unfit.json");
    cJSON_Delete(spec);
    gen_destroy(g);
}

Test(tuned, a_table_is_taken_whole_or_not_at_all)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "t.json:1:1: "},
        {"[]", "t.json: xq_tuned: is missing"},
        {"{\"results\": []}", "t.json: xq_tuned: is missing"},
        {"{\"xq_tuned\": 2, \"results\": []}",
         "xq_tuned: 2 is not valid; valid: 1 (a newer xq wrote this table)"},
        {"{\"xq_tuned\": \"1\", \"results\": []}", "xq_tuned: '1' is not valid; valid: 1"},
        {"{\"xq_tuned\": 1}", "t.json: results: is missing"},
        {"{\"xq_tuned\": 1, \"results\": {}}", "t.json: results: must be a list"},
        {"{\"xq_tuned\": 1, \"results\": [], \"more\": 1}", "t.json: more: is not known"},
        {"{\"xq_tuned\": 1, \"results\": [3]}", "t.json: results[0]: must be an object, not 3"},
        {"{\"xq_tuned\": 1,\n \"results\": [}", "t.json:2:"},
    };
    gen *g = generator_for_gpu(NULL, NULL, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(gen_add_table(g, "t.json", cases[i].text, strlen(cases[i].text), &err),
                     XQ_ERROR_FORMAT, "%s", cases[i].text);
        cr_expect(strstr(err.message, cases[i].message), "'%s' is not in '%s'", cases[i].message,
                  err.message);
        error_clear(&err);
    }
    /* Each fault changes one member of one of two results. */
    static const struct {
        const char *old, *new, *field;
    } faults[] = {
        {"\"tokens\": 8192", "\"tokens\": 0", "results[1].tokens"},
        {"\"tokens\": 8192", "\"token\": 8192", "results[1].token"},
        {"\"tokens\": 8192", "\"arch\": 8192", "results[1].arch"},
        {"\"tokens\": 8192", "\"tokens\": \"8192\"", "results[1].tokens"},
        {"\"tokens\": 8192", "\"tokens\": 1e999", "results[1].tokens"},
        {"\"tokens\": 8192, ", "", "results[1].tokens"},
    };
    const struct tuned_result results[] = {{0}, {.tokens = 8192}};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        char text[8192];
        const char *good = tuned_table(TUNED_SPEC_FOR("sm_80"), results, 2),
                   *at = strstr(good, faults[i].old);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, faults[i].new,
                 at + strlen(faults[i].old));
        cr_expect_eq(gen_add_table(g, "t.json", text, strlen(text), &err), XQ_ERROR_FORMAT);
        cr_expect_str_eq(err.field, faults[i].field, "%s", err.message);
        error_clear(&err);
    }
    expect(g, TUNED_SPEC_FOR("sm_89"), "", 8);
    gen_destroy(g);
}

/* -------------------------------------------------------------------- built in */

/* Expects that a result is of the kernels that its spec has today. Results that were measured may be of
 * older kernels. */
static void expect_current(const cJSON *result, const char *table)
{
    char *spec_json = cJSON_PrintUnformatted(cJSON_GetObjectItem(result, "spec"));
    const gen_overrides o = {
        .spec_json = spec_json,
        .overrides_json = generator_number(result, "queries") > 1 ? "{\"queries\": \"many\"}" : "{}"};
    char *text = NULL, *completed = NULL;
    gen_hash shape, source;
    cr_assert_eq(gen_override(generator(), &o, &text, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_complete(generator(), text, &completed, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_shape(generator(), completed, &shape, &err), XQ_OK);
    cr_assert_eq(gen_family_source(generator(), generator_string(result, "family"), &source, &err), XQ_OK);
    cr_expect_str_eq(generator_string(result, "shape"), shape.hex, "%s: %s: run `make tables`", table,
                     spec_json);
    cr_expect_str_eq(generator_string(result, "source"), source.hex,
                     "%s: kernels have changed since: run `make tables`", table);
    free(completed);
    free(text);
    cJSON_free(spec_json);
}

Test(tuned, tables_that_are_built_in_are_of_todays_kernels)
{
    for (const struct embed_file *file = embed_files; file->name; file++) {
        if (strncmp(file->name, "autotune/tuned/", 15) != 0)
            continue;
        gen *g = generator_for_gpu(NULL, NULL, 0);
        cr_assert_eq(gen_add_table(g, file->name, file->text, file->size, &err), XQ_OK, "%s", err.message);
        gen_destroy(g);
        cJSON *document = cJSON_Parse(file->text);
        const cJSON *result;
        cJSON_ArrayForEach(result, cJSON_GetObjectItem(document, "results"))
        {
            if (cJSON_IsTrue(cJSON_GetObjectItem(result, "modelled")))
                expect_current(result, file->name);
        }
        cJSON_Delete(document);
    }
}
