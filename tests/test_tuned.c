/* Tests tables of tuned parameters: what is looked up for which GPU, spec and size of calls, and what
 * becomes of results that cannot be used. */
#include "../autotune/search/share.h"
#include "../gen/embed.h"
#include "command.h"
#include "files.h"
#include "generator.h"
#include "tuned_table.h"
#include "xq/xq.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MODEL                                                                                              \
    "{\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 64}"
#define SPEC_FOR(arch)                                                                                     \
    "{\"model\": " MODEL ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": "    \
    "16}, \"arch\": \"" arch "\"}"

static error err = ERROR_INIT;

/* ------------------------------------------------------------------ fixtures */

static gen *generator_for_gpu(const char *gpu, const char *arch, int multiprocessors)
{
    const gen_arch device = {.name = arch, .gpu = gpu, .multiprocessors = multiprocessors};
    gen *g = NULL;
    cr_assert_eq(gen_create_for(NULL, gpu ? &device : NULL, &g, &err), XQ_OK, "%s", err.message);
    return g;
}

static void add(gen *g, const char *name, const struct tuned_result *results, int count)
{
    const char *text = tuned_table(SPEC_FOR("sm_80"), results, count);
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
    cJSON *spec = generator_complete_parsed(SPEC_FOR("sm_80"));
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
    expect(g, SPEC_FOR("sm_89"), "family", 4);
    expect(g, SPEC_FOR("sm_80"), "capability", 4);
    expect(g, SPEC_FOR("sm_90"), "", 8);
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 128);
    add(g, "family", &family, 1);
    add(g, "capability", &capability, 1);
    expect(g, SPEC_FOR("sm_89"), "capability", 8);
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 128);
    add(g, "family", &family, 1);
    add(g, "capability", &capability, 1);
    add(g, "device", &device, 1);
    expect(g, SPEC_FOR("sm_89"), "device", 4);
    expect(g, SPEC_FOR("sm_86"), "family", 4); /* the spec is for another GPU than the device */
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 128);
    const struct tuned_result misnamed = {.device = "Mine", .multiprocessors = 128, .capability = 80};
    add(g, "misnamed", &misnamed, 1);
    expect(g, SPEC_FOR("sm_89"), "family", 4); /* the result is not of the device's capability */
    gen_destroy(g);
    g = generator_for_gpu("Mine", "sm_89", 100); /* a part of the GPU, as MIG makes it */
    add(g, "device", &device, 1);
    expect(g, SPEC_FOR("sm_89"), "capability", 4);
    gen_destroy(g);
    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "device", &device, 1);
    expect(g, SPEC_FOR("sm_89"), "capability", 4);
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
    expect(g, SPEC_FOR("sm_89"), "capability", 8);
    gen_destroy(g);
    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "mixed", mixed, 2);
    expect(g, SPEC_FOR("sm_89"), "capability", 4);
    gen_destroy(g);
    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "sizes", sizes, 3);
    expect_for(g, SPEC_FOR("sm_89"), 600, 1, "capability", 8);
    expect_for(g, SPEC_FOR("sm_89"), 5000, 1, "capability", 4);
    expect_for(g, SPEC_FOR("sm_89"), 5000, 32, "capability", 8);
    gen_destroy(g);
}

Test(tuned, results_are_for_specs_of_one_shape)
{
    static const char labelled[] =
        "{\"model\": {\"name\": \"other\", \"hidden_size\": 128, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"head_dim\": 64, \"num_hidden_layers\": 3, \"rope_theta\": 5e5}, "
        "\"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}, \"arch\": "
        "\"sm_89\"}";
    static const char *const others[] = {
        "{\"model\": " MODEL
        ", \"cache\": {\"method\": \"latent\", \"bits\": 3, \"group\": 64, \"page\": 16}, "
        "\"arch\": \"sm_89\"}",
        "{\"model\": " MODEL
        ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}, "
        "\"arch\": \"sm_89\", \"weights\": \"int8\"}",
        "{\"model\": " MODEL
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
                      "{\"model\": " MODEL ", \"cache\": {\"method\": \"latent\", \"group\": 64, "
                      "\"page\": 16}, \"arch\": \"sm_89\", \"tuning\": {\"attend\": {\"stages\": 2}}}",
                      &(const gen_completion){0});
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), 8);
    cr_expect_eq(generator_number(spec, "tuning.attend.stages"), 2);
    cr_expect_null(cJSON_GetObjectItem(spec, "tuned")->child);
    cJSON_Delete(spec);
    static const char *const untuned[] = {"attend"};
    spec = complete_with(g, SPEC_FOR("sm_89"),
                         &(const gen_completion){.untuned = untuned, .untuned_count = 1});
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), 8);
    cJSON_Delete(spec);
    /* A family with an empty object of parameters chooses nothing. */
    spec =
        complete_with(g,
                      "{\"model\": " MODEL ", \"cache\": {\"method\": \"latent\", \"group\": 64, \"page\": "
                      "16}, \"arch\": \"sm_89\", \"tuning\": {\"attend\": {}}}",
                      &(const gen_completion){0});
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), 4);
    cJSON_Delete(spec);
    cr_assert_eq(gen_ignore_tables(g, &err), XQ_OK);
    expect(g, SPEC_FOR("sm_89"), "", 8);
    gen_destroy(g);
}

/* In a completed spec without `choices`, everything is a choice, also its tuning. */
Test(tuned, a_completed_spec_without_choices_chooses_its_parameters)
{
    const struct tuned_result usual = {0};
    gen *g = generator_for_gpu(NULL, NULL, 0);
    add(g, "table", &usual, 1);
    cJSON *spec = complete_with(g, SPEC_FOR("sm_89"), &(const gen_completion){0});
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
    cr_assert_eq(gen_complete(g, SPEC_FOR("sm_89"), &completed, &err), XQ_OK);
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
    char *completed = generator_complete(SPEC_FOR("sm_89"));
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
    expect(g, SPEC_FOR("sm_89"), "", 8);
    expect_note(
        g,
        "stale.json: its parameters for attend are not used, because that family's kernels have changed");
    expect_note(g, ""); /* the note is given once */
    expect(g, SPEC_FOR("sm_89"), "", 8);
    expect_note(g, "");
    gen_destroy(g);

    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "stale.json", stale, 2);
    add(g, "unknown.json", &unknown, 1);
    add(g, "invalid.json", &invalid, 1);
    add(g, "older.json", &older, 1);
    expect(g, SPEC_FOR("sm_89"), "family", 4);
    expect_note(g, "stale.json");
    expect_note(g, "did you mean 'warps'?");
    expect_note(g, "invalid.json: its parameters for attend on GPU are not used: warps 5");
    expect_note(g, "");
    gen_destroy(g);

    g = generator_for_gpu(NULL, NULL, 0);
    add(g, "unfit.json", &unfit, 1);
    cJSON *spec = complete_with(g, SPEC_FOR("sm_89"), &(const gen_completion){0});
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
        const char *good = tuned_table(SPEC_FOR("sm_80"), results, 2), *at = strstr(good, faults[i].old);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, faults[i].new,
                 at + strlen(faults[i].old));
        cr_expect_eq(gen_add_table(g, "t.json", text, strlen(text), &err), XQ_ERROR_FORMAT);
        cr_expect_str_eq(err.field, faults[i].field, "%s", err.message);
        error_clear(&err);
    }
    expect(g, SPEC_FOR("sm_89"), "", 8);
    gen_destroy(g);
}

/* ---------------------------------------------------------- one for several sizes */

static void shares(const struct share_time *times, int sizes, int kernels, const char *expected)
{
    int chosen[8];
    char text[9] = "";
    cr_assert_eq(share_kernels(times, sizes, kernels, chosen, &err), XQ_OK);
    for (int i = 0; i < sizes; i++)
        text[i] = (char)('0' + chosen[i]);
    cr_expect_str_eq(text, expected);
}

Test(tuned, as_few_kernels_as_possible_serve_several_sizes)
{
    const struct share_time within_one_percent[] = {{1.005, 0}, {1, 0}, {1.2, 0}, {1, 0}};
    shares(within_one_percent, 2, 2, "01");
    const struct share_time within_spread[] = {{1.05, 0.06}, {1, 0.06}, {1.05, 0.02}, {1, 0.02}};
    shares(within_spread, 2, 2, "01");
    /* Kernel 1 is best for two sizes, and about as good as the best for the third. If it has no time for
     * the third, it is not taken there. */
    const struct share_time third[] = {{2, 0},   {1, 0}, {1.5, 0},   {2, 0}, {1, 0},
                                       {1.5, 0}, {2, 0}, {1.004, 0}, {1, 0}};
    shares(third, 3, 3, "111");
    const struct share_time missing[] = {{2, 0},   {1, 0}, {1.5, 0}, {2, 0}, {1, 0},
                                         {1.5, 0}, {2, 0}, {0, 0},   {1, 0}};
    shares(missing, 3, 3, "112");
}

/* ------------------------------------------------------------- the user's files */

static const char *write_table(const char *folder, const char *name, const struct tuned_result *results,
                               int count)
{
    const char *path = files_path(folder, name), *text = tuned_table(SPEC_FOR("sm_80"), results, count);
    files_write(path, text, strlen(text));
    return path;
}

static const char *spec_file(void)
{
    static const char text[] = SPEC_FOR("sm_89");
    const char *path = files_path(files_directory(), "spec.json");
    files_write(path, text, strlen(text));
    return path;
}

static void gen_prints(const char *part)
{
    struct command_result r = command_run("gen --print-spec --spec %s", spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, part), "'%s' is not in %s", part, r.out);
}

Test(tuned, tables_are_looked_for_in_two_places)
{
    const struct tuned_result four = {.device = "In the folder"}, eight = {.device = "Named", .warps = 8};
    const char *config = files_directory();
    char home[1024], named[1024];
    snprintf(home, sizeof home, "%s", files_directory());
    cr_assert_eq(mkdir(files_path(config, "xq"), 0777), 0);
    snprintf(named, sizeof named, "%s", write_table(config, "named.json", &eight, 1));
    write_table(files_path(config, "xq"), "tuned.json", &four, 1);
    unsetenv("XQ_TUNED");
    setenv("HOME", home, 1);
    unsetenv("XDG_CONFIG_HOME");
    gen_prints("\"tuned\":\t{\n\t},");
    setenv("XDG_CONFIG_HOME", config, 1);
    gen_prints("\"device\":\t\"In the folder\"");
    setenv("XQ_TUNED", named, 1);
    gen_prints("\"device\":\t\"Named\"");
    setenv("XQ_TUNED", "", 1);
    gen_prints("\"tuned\":\t{\n\t},");
    setenv("XDG_CONFIG_HOME", "relative", 1); /* it is ignored, as the XDG specification demands */
    unsetenv("XQ_TUNED");
    gen_prints("\"tuned\":\t{\n\t},");
    char command[8192];
    snprintf(command, sizeof command, "mkdir -p %s/.config/xq && cp %s %s/.config/xq/tuned.json", home,
             named, home);
    cr_assert_eq(system(command), 0);
    gen_prints("\"device\":\t\"Named\"");
}

Test(tuned, a_table_that_cannot_be_read_is_an_error)
{
    const char *folder = files_directory();
    char line[4096];
    setenv("XQ_TUNED", "/nowhere/tuned.json", 1);
    command_refuses(
        "gen --print-spec --model smollm2-135m", 1,
        "xq gen: XQ_TUNED: table of tuned parameters /nowhere/tuned.json: No such file or directory");
    setenv("XQ_TUNED", folder, 1);
    snprintf(line, sizeof line, "xq gen: XQ_TUNED: table of tuned parameters %s: is no regular file",
             folder);
    command_refuses("gen --print-spec --model smollm2-135m", 1, line);
    files_write(files_path(folder, "bad.json"), "{\"xq_tuned\": 1}", 15);
    setenv("XQ_TUNED", files_path(folder, "bad.json"), 1);
    struct command_result r = command_run("run --help");
    cr_expect_eq(r.status, 0, "%s", r.err);
    r = command_run("info --device sim --json -");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "\"tuned_error\"") && strstr(r.out, "bad.json: results: is missing"), "%s",
              r.out);
    xq_context *context;
    xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
    o.device = "sim";
    cr_assert_eq(xq_context_create(&o, &context), XQ_OK);
    char *completed;
    cr_expect_eq(xq_spec_complete(context, SPEC_FOR("sm_80"), &completed), XQ_ERROR_FORMAT);
    xq_context_destroy(context);
}

Test(tuned, info_tells_how_many_results_are_for_the_device)
{
    const struct tuned_result results[] = {
        {.device = "NVIDIA GeForce RTX 4090 (software device)", .multiprocessors = 128},
        {.device = "NVIDIA GeForce RTX 4090 (software device)"},
        {.capability = 80},
        {.capability = 90},
        {.source = "0123456789abcdef"}};
    tuned_table_use(SPEC_FOR("sm_80"), results, 5);
    struct command_result r = command_run("info --device sim:rtx4090");
    cr_expect(
        strstr(r.out,
               "t.json: 5 results, for this device 1, for others of its capability 1, of its family 1; "
               "1 are for kernels that have changed since\n"),
        "%s", r.out);
}

/* ----------------------------------------------------------------------- plans */

static char log_text[4096];

static void keep_log(void *user, xq_log_level level, const char *message)
{
    (void)user;
    if (level == XQ_LOG_WARNING)
        snprintf(log_text + strlen(log_text), sizeof log_text - strlen(log_text), "%s\n", message);
}

static xq_context *open_context(const char *templates)
{
    xq_context *context;
    xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
    o.device = "sim:rtx4090";
    o.template_dir = templates;
    o.log = keep_log;
    cr_assert_eq(xq_context_create(&o, &context), XQ_OK);
    return context;
}

static xq_plan *plan_of(xq_context *context, const char *spec_json, int64_t tokens)
{
    xq_plan *plan = NULL;
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_error_detail detail = {.struct_size = sizeof detail};
    o.spec_json = spec_json;
    o.max_tokens = tokens;
    xq_status status = xq_plan_create(context, &o, &plan);
    if (status != XQ_OK)
        xq_last_error(context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return plan;
}

static void expect_plan(const xq_plan *plan, xq_parameters_from from, int warps)
{
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    cr_expect_eq(info.parameters_from, from);
    cJSON *spec = cJSON_Parse(xq_plan_spec(plan));
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), warps);
    cJSON_Delete(spec);
}

Test(tuned, plans_say_where_their_parameters_come_from, .timeout = 120)
{
    const struct tuned_result results[] = {
        {.device = "NVIDIA GeForce RTX 4090 (software device)", .multiprocessors = 128},
        {.device = "NVIDIA GeForce RTX 4090 (software device)",
         .multiprocessors = 128,
         .tokens = 256,
         .warps = 8},
    };
    tuned_table_use(SPEC_FOR("sm_80"), results, 2);
    xq_context *context = open_context(NULL);
    static const char spec[] = SPEC_FOR("sm_89");
    xq_plan *plan = plan_of(context, spec, 4096);
    expect_plan(plan, XQ_FROM_DEVICE, 4);

    /* A plan of this plan's completed spec, for another size, looks up its parameters again. */
    xq_plan *other = plan_of(context, xq_plan_spec(plan), 256);
    expect_plan(other, XQ_FROM_DEVICE, 8);
    xq_plan_destroy(other);

    /* An image keeps the parameters and their level. */
    size_t bytes;
    cr_assert_eq(xq_plan_save(plan, NULL, 0, &bytes), XQ_OK);
    void *image = malloc(bytes);
    cr_assert_eq(xq_plan_save(plan, image, bytes, &bytes), XQ_OK);
    cr_assert_eq(xq_plan_load(context, image, bytes, &other), XQ_OK);
    expect_plan(other, XQ_FROM_DEVICE, 4);
    xq_plan_destroy(other);
    free(image);
    xq_plan_destroy(plan);

    char *chosen;
    cr_assert_eq(xq_spec_override(context, spec, "{\"tuning\": {\"attend\": {\"warps\": 4}}}", &chosen),
                 XQ_OK);
    plan = plan_of(context, chosen, 4096);
    expect_plan(plan, XQ_FROM_SPEC, 4);
    xq_plan_destroy(plan);
    xq_string_free(chosen);
    plan = plan_of(context, SPEC_FOR("sm_80"), 4096); /* an older architecture than the device's */
    expect_plan(plan, XQ_FROM_FAMILY, 4);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    cr_expect_str_eq(log_text, "");
}

static void expect_built_in(bool used)
{
    xq_context *context = open_context(NULL);
    xq_plan *plan = plan_of(context, "{\"model\": \"smollm2-135m\"}", 512);
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    cr_expect_eq(info.parameters_from, used ? XQ_FROM_DEVICE : XQ_FROM_DEFAULT);
    cr_expect_eq(strstr(xq_plan_spec(plan), "\"table\":\"built in\"") != NULL, used);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}

Test(tuned, tables_that_are_built_in_serve_without_being_asked_for, .timeout = 120)
{
    setenv("XDG_CONFIG_HOME", files_directory(), 1);
    unsetenv("XQ_TUNED");
    expect_built_in(true);
    setenv("XQ_TUNED", "", 1);
    expect_built_in(false);
}

/* Makes a folder of templates in which attend does not compile with four warps, the number in the tuned
 * result. It compiles with the defaults. */
static const char *templates_that_fail(void)
{
    const char *folder = files_directory();
    char command[8192];
    snprintf(command, sizeof command,
             "cp templates/attend.cu.lt templates/attend.spec.lua %s/ && printf '%%s\\n' '%% if "
             "tuning.warps == 4 then' "
             "'#error four warps' '%% end' >>%s/attend.cu.lt",
             folder, folder);
    cr_assert_eq(system(command), 0);
    return folder;
}

Test(tuned, a_kernel_that_does_not_compile_gives_way_to_the_default, .timeout = 120)
{
    const char *templates = templates_that_fail();
    gen *g = NULL;
    cr_assert_eq(gen_create(templates, &g, &err), XQ_OK, "%s", err.message);
    const struct tuned_result result = {.source = tuned_source(g)};
    tuned_table_use(SPEC_FOR("sm_80"), &result, 1);
    gen_destroy(g);
    xq_context *context = open_context(templates);
    xq_plan *plan = plan_of(context, SPEC_FOR("sm_89"), 4096);
    expect_plan(plan, XQ_FROM_DEFAULT, 8);
    cr_expect(strstr(log_text, "attend: its parameters from a table of tuned parameters do not work here, "
                               "so its defaults are used: "),
              "%s", log_text);
    xq_plan_destroy(plan);

    /* If the spec chooses them, such parameters are an error. */
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    o.spec_json =
        "{\"model\": " MODEL ", \"cache\": {\"method\": \"latent\", \"group\": 64, \"page\": 16}, "
        "\"tuning\": {\"attend\": {\"warps\": 4}}}";
    cr_expect_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_COMPILE);
    xq_context_destroy(context);
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

/* ---------------------------------------------------------------------- export */

static const char *tuned_store(const char *more)
{
    const char *path = files_path(files_directory(), "store.db");
    struct command_result r =
        command_run("tune --spec %s --device sim:rtx4090 --most 6 --store %s %s", spec_file(), path, more);
    cr_assert_eq(r.status, 0, "%s", r.err);
    return path;
}

Test(tuned, a_store_becomes_a_table_that_is_used, .timeout = 300)
{
    char store[1024], table[1024];
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 200,2000 --queries 1"));
    snprintf(table, sizeof table, "%s", files_path(files_directory(), "table.json"));
    setenv("XQ_TUNED", "/nowhere", 1); /* must not be read */
    struct command_result r = command_run("tune export --store %s --out %s", store, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strncmp(r.out, "2 results: ", 11) == 0, "%s", r.out);
    size_t size;
    char *text = files_read(table, &size);
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    cr_expect_eq(lines, 4, "one line a result: %s", text);
    cJSON *root = cJSON_Parse(text);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "results")), 2);
    for (int i = 0; i < 2; i++) {
        const cJSON *result = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "results"), i);
        cr_expect_eq(generator_number(result, "tokens"), i ? 2000 : 200);
        cr_expect_leq(generator_number(result, "seconds"), generator_number(result, "default_seconds"));
    }
    cJSON_Delete(root);
    free(text);
    setenv("XQ_TUNED", table, 1);
    r = command_run("info --device sim:rtx4090");
    cr_expect(strstr(r.out, "2 results, for this device 2"), "%s", r.out);
    xq_context *context = open_context(NULL);
    xq_plan *plan = plan_of(context, SPEC_FOR("sm_89"), 2000);
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    cr_expect_eq(info.parameters_from, XQ_FROM_DEVICE);
    xq_plan_destroy(plan);
    xq_context_destroy(context);

    /* The tuner compares with the families' own defaults, whatever the tables say. */
    r = command_run("tune --spec %s --device sim:rtx4090 --most 2 --contexts 2000 --json -", spec_file());
    cJSON *again = cJSON_Parse(r.out);
    cr_assert_not_null(again, "%s", r.err);
    cr_expect_eq(generator_number(again, "jobs.0.default.parameters.warps"), 8, "%s", r.out);
    cJSON_Delete(again);
}

Test(tuned, many_queries_are_of_a_shape_of_their_own, .timeout = 300)
{
    char store[1024], table[1024];
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 200 --queries 4"));
    snprintf(table, sizeof table, "%s", files_path(files_directory(), "table.json"));
    struct command_result r = command_run("tune export --quiet --store %s --out %s", store, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_str_eq(r.out, "");
    setenv("XQ_TUNED", table, 1);
    r = command_run("gen --print-spec --spec %s --set 'queries=\"many\"'", spec_file());
    cr_expect(strstr(r.out, "\"queries\":\t4"), "%s", r.out);
    gen_prints("\"tuned\":\t{\n\t},");
}

/* A store may hold what a table cannot. The rows that can be used are exported. */
Test(tuned, rows_that_cannot_be_used_are_left_out, .timeout = 120)
{
    static const char script[] =
        "import sqlite3, sys\n"
        "d = sqlite3.connect(sys.argv[1])\n"
        "d.execute('update measurement set seconds = 1e-12 where tokens = 100')\n"
        "d.execute('insert into spec values (9, ?)', ('{\"model\":\"gone-1b\"}',))\n"
        "d.execute('update measurement set spec = 9 where tokens = 200')\n"
        "d.execute('update measurement set family = ? where tokens = 300', ('nope',))\n"
        "d.commit()\n";
    char store[1024], table[1024], command[4096];
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 100,200,300,400"));
    snprintf(table, sizeof table, "%s", files_path(files_directory(), "table.json"));
    const char *path = files_path(files_directory(), "change.py");
    files_write(path, script, sizeof script - 1);
    snprintf(command, sizeof command, "python3 %s %s", path, store);
    cr_assert_eq(system(command), 0);
    struct command_result r = command_run("tune export --store %s --out %s", store, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strncmp(r.out, "1 result: ", 10) == 0, "%s", r.out);
    cr_expect(strstr(r.out, "left out: 3 results that this xq cannot use"), "%s", r.out);
    setenv("XQ_TUNED", table, 1);
    gen_prints("\"tokens\":\t400");
}

Test(tuned, exporting_refuses_what_it_cannot_use, .timeout = 120)
{
    const char *folder = files_directory();
    char command[8192], line[8192], store[1024];
    command_refuses("tune export", 2, "xq tune export: there is no store to export; give --store FILE");
    command_refuses("tune export --store x.db", 2,
                    "xq tune export: there is no file for the table; give --out FILE");
    snprintf(command, sizeof command, "tune export --store /nowhere.db --out %s/t.json", folder);
    cr_expect_eq(command_run("%s", command).status, 1);
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 200"));
    snprintf(command, sizeof command, "tune export --store %s --out %s", store, store);
    snprintf(line, sizeof line,
             "xq tune export: --out %s is the same file as --store %s; give another path", store, store);
    command_refuses(command, 1, line);

    /* The kernels have changed since they were measured. */
    snprintf(command, sizeof command,
             "cp templates/attend.cu.lt templates/attend.spec.lua %s/ && echo ';' >>%s/attend.cu.lt",
             folder, folder);
    cr_assert_eq(system(command), 0);
    snprintf(command, sizeof command, "tune export --store %s --out %s/t.json --templates %s", store,
             folder, folder);
    snprintf(line, sizeof line,
             "xq tune export: %s has nothing to export; results of kernels that have changed since: 1; "
             "results without a "
             "measured default: 0; results that this xq cannot use: 0",
             store);
    command_refuses(command, 1, line);
    cr_expect_eq(files_count(folder), 2, "a table was begun, and stayed");
}
