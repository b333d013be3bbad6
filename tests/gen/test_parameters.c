/* Tests the list of tunable parameters that `xq gen --list-parameters` prints. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Returns the list for a spec, or without a spec if it is NULL; the caller deletes the list. */
static cJSON *list_of(const char *spec)
{
    error err = ERROR_INIT;
    char *json = NULL;
    gen_parameters(generator(), NULL, 0, spec, &json, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", spec ? spec : "", err.message);
    cJSON *list = cJSON_Parse(json);
    cr_assert_not_null(list, "%s", json);
    free(json);
    return list;
}

static const char *text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static bool is_sentence(const char *string)
{
    return string && strlen(string) >= 8;
}

Test(parameters, every_family_and_parameter_says_what_it_means)
{
    cJSON *list = list_of(NULL);
    const cJSON *family, *parameter, *value;
    int families = 0, parameters = 0;
    cJSON_ArrayForEach(family, list)
    {
        families++;
        cr_expect(is_sentence(text(family, "summary")), "%s", text(family, "family"));
        cJSON_ArrayForEach(parameter, cJSON_GetObjectItemCaseSensitive(family, "parameters"))
        {
            const cJSON *initial = cJSON_GetObjectItemCaseSensitive(parameter, "default");
            bool among = false;
            parameters++;
            cr_expect(is_sentence(text(parameter, "meaning")), "%s.%s has no doc", text(family, "family"),
                      text(parameter, "name"));
            cJSON_ArrayForEach(value, cJSON_GetObjectItemCaseSensitive(parameter, "values")) among |=
                cJSON_Compare(value, initial, true);
            cr_expect(among, "%s.%s", text(family, "family"), text(parameter, "name"));
            cr_expect(!cJSON_HasObjectItem(parameter, "chosen"));
        }
    }
    cr_expect_geq(families, 12);
    cr_expect_geq(parameters, 25);
    cJSON_Delete(list);
}

/* If a spec changed a default, the list must say that the default depends on specs. */
static void check_choices(const char *spec)
{
    cJSON *list = list_of(spec);
    const cJSON *family, *parameter;
    cJSON_ArrayForEach(family, list)
        cJSON_ArrayForEach(parameter, cJSON_GetObjectItemCaseSensitive(family, "parameters"))
    {
        const cJSON *chosen = cJSON_GetObjectItemCaseSensitive(parameter, "chosen");
        bool refused = cJSON_HasObjectItem(family, "refused");
        cr_expect(refused || chosen, "%s: %s", spec, text(family, "family"));
        if (chosen && !cJSON_Compare(chosen, cJSON_GetObjectItemCaseSensitive(parameter, "default"), true))
            cr_expect(is_sentence(text(parameter, "depends_on")), "%s: %s.%s", spec, text(family, "family"),
                      text(parameter, "name"));
    }
    cJSON_Delete(list);
}

Test(parameters, a_default_that_specs_change_says_on_what_it_depends, .timeout = 120)
{
    static const char *const models[] = {"llama-3.1-8b", "llama-2-7b", "smollm2-135m", "gemma-7b",
                                         "qwen3-0.6b",   "phi-2",      "olmo-2-7b"};
    static const char *const caches[] = {
        "{\"method\": \"x\"}", "{\"method\": \"x-cl\"}",
        "{\"method\": \"latent-cl\", \"accumulator_bits\": 4, \"group\": 256}",
        "{\"method\": \"latent-cl\"}", "{\"method\": \"latent\"}"};
    const char *presets = gen_presets(generator());
    int checked = 0;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (size_t c = 0; strstr(presets, models[m]) && c < sizeof caches / sizeof *caches; c++)
            for (int many = 0; many < 2; many++) {
                char spec[512];
                snprintf(spec, sizeof spec, "{\"model\": \"%s\", \"cache\": %s, \"queries\": \"%s\"}",
                         models[m], caches[c], many ? "many" : "one");
                check_choices(spec);
                checked++;
            }
    cr_expect_geq(checked, 50);
}

/* ----------------------------------------------------------------- the command */

static const cJSON *family_of(const cJSON *root, const char *name)
{
    const cJSON *family;
    cJSON_ArrayForEach(
        family, cJSON_GetObjectItemCaseSensitive(root, "families")) if (strcmp(text(family, "family"),
                                                                               name) == 0) return family;
    return NULL;
}

Test(parameters, the_command_needs_no_model)
{
    struct command_result r = command_run("gen --list-parameters");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "\nattend: ") && strstr(r.out, "\nmerge: ") && strstr(r.out, "  warps "), "%s",
              r.out);
    cr_expect(strstr(r.out, "values 4, 8, 16; default 8"), "%s", r.out);
    cr_expect(strstr(r.out, "the default depends on"), "%s", r.out);
    cr_expect(!strstr(r.out, "for this spec"));
}

Test(parameters, the_command_lists_the_families_asked_for_as_json)
{
    cJSON *root = command_json("gen --list-parameters --family gemm,rope --json -");
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "families")), 2);
    const cJSON *rows = cJSON_GetArrayItem(cJSON_GetObjectItem(family_of(root, "gemm"), "parameters"), 0);
    cr_expect_str_eq(text(rows, "name"), "rows");
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(rows, "values")), 4);
    cr_expect_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(rows, "default")), 128);
    cr_expect_str_eq(text(rows, "meaning"), "rows of y in a block's tile");
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(family_of(root, "rope"), "parameters")), 0);
    cJSON_Delete(root);
    command_refuses(
        "gen --list-parameters --family rop", 1,
        "xq gen: family: 'rop' is not known; did you mean 'rope'? valid: absorb, accumulate, append, "
        "append_channel, attend, check, dequantize, gemm, gemm_kv, key_norms, kv_append, kv_append_e4m3, "
        "kv_attend, kv_attend_e4m3, merge, rope");
}

static int number(const cJSON *object, const char *name)
{
    return (int)cJSON_GetNumberValue(cJSON_GetObjectItem(object, name));
}

/* Tries every combination of gemm's values in a spec that chooses it. Returns the number of accepted
 * combinations. */
static int try_all_of_gemm(int *tried)
{
    static const int values[5][4] = {
        {32, 64, 128, 256}, {64, 128, 256}, {16, 32, 64}, {16, 32, 64}, {2, 3, 4, 5}};
    static const int counts[5] = {4, 3, 3, 3, 4};
    int taken = 0, v[5];
    for (*tried = 0; *tried < 4 * 3 * 3 * 3 * 4; ++*tried) {
        for (int i = 4, rest = *tried; i >= 0; rest /= counts[i--])
            v[i] = values[i][rest % counts[i]];
        char spec[512], *completed = NULL;
        error err = ERROR_INIT;
        snprintf(spec, sizeof spec,
                 "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\"}, "
                 "\"tuning\": {\"gemm\": {\"rows\": %d, \"cols\": %d, \"warp_rows\": %d, "
                 "\"warp_cols\": %d, \"stages\": %d}}}",
                 v[0], v[1], v[2], v[3], v[4]);
        taken += gen_complete(generator(), spec, &completed, &err) == XQ_OK;
        error_clear(&err);
        free(completed);
    }
    return taken;
}

Test(parameters, combinations_are_counted_as_specs_take_them)
{
    char *json = NULL;
    error err = ERROR_INIT;
    const char *family = "gemm";
    cr_assert_eq(gen_parameters(generator(), &family, 1,
                                "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\"}}", &json,
                                &err),
                 XQ_OK, "%s", err.message);
    cJSON *list = cJSON_Parse(json);
    const cJSON *counted = cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "combinations"), *item;
    int tried, taken = try_all_of_gemm(&tried), removed = 0;
    cr_expect_eq(number(counted, "all"), tried);
    cr_expect_eq(number(counted, "valid"), taken);
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(counted, "removed"))
    {
        removed += number(item, "combinations");
    }
    cr_expect_eq(removed, tried - taken);
    cr_expect(taken > 0 && removed > 0);
    cJSON_Delete(list);
    free(json);
}

/* Tests the space that is searched: the number of valid combinations is right, a spec may choose each of
 * them, and the default is one of them. */
Test(parameters, candidates_are_the_valid_combinations)
{
    static const char spec[] = "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\"}}";
    char *json = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_space(generator(), spec, "attend", &json, &err), XQ_OK, "%s", err.message);
    cJSON *space = cJSON_Parse(json);
    const cJSON *candidates = cJSON_GetObjectItem(space, "candidates"), *candidate;
    int defaults = 0, tried = 0;
    cr_assert_eq(cJSON_GetArraySize(candidates),
                 number(cJSON_GetObjectItem(space, "combinations"), "valid"));
    cJSON_ArrayForEach(candidate, candidates)
    {
        const cJSON *parameters = cJSON_GetObjectItem(candidate, "parameters"),
                    *resources = cJSON_GetObjectItem(candidate, "resources");
        defaults += cJSON_Compare(parameters, cJSON_GetObjectItem(space, "chosen"), 1);
        cr_expect_eq(number(resources, "threads"), 32 * number(parameters, "warps"));
        if (tried++ % 10 != 0)
            continue;
        char overrides[512], *changed = NULL, *text = cJSON_PrintUnformatted(parameters);
        snprintf(overrides, sizeof overrides, "{\"tuning\": {\"attend\": %s}}", text);
        const gen_overrides o = {.spec_json = spec, .overrides_json = overrides};
        char *completed = NULL;
        cr_expect_eq(gen_override(generator(), &o, &changed, &err), XQ_OK, "%s", err.message);
        cr_expect_eq(gen_complete(generator(), changed, &completed, &err), XQ_OK, "%s", err.message);
        free(changed);
        free(completed);
        free(text);
    }
    cr_expect_eq(defaults, 1);
    cJSON_Delete(space);
    free(json);
}

/* The parameters that a seed draws for a spec; the caller deletes them. */
static cJSON *drawn(const char *spec, int seed)
{
    char *json = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_draw_tuning(generator(), spec, seed, &json, &err), XQ_OK, "%s", err.message);
    cJSON *tuning = cJSON_Parse(json);
    cr_assert_not_null(tuning, "%s", json);
    free(json);
    return tuning;
}

Test(parameters, every_valid_combination_can_be_drawn_and_no_other)
{
    static const char spec[] = "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\"}}";
    enum { SEEDS = 400, MOST = 20 };
    char *json = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_space(generator(), spec, "append", &json, &err), XQ_OK, "%s", err.message);
    cJSON *space = cJSON_Parse(json);
    const cJSON *candidates = cJSON_GetObjectItem(space, "candidates");
    const int count = cJSON_GetArraySize(candidates);
    int times[MOST] = {0}, others = 0;
    cr_assert(count > 1 && count <= MOST, "%d", count);
    for (int seed = 0; seed < SEEDS; seed++) {
        cJSON *tuning = drawn(spec, seed);
        int found = 0;
        for (int i = 0; i < count; i++) {
            const cJSON *parameters = cJSON_GetObjectItem(cJSON_GetArrayItem(candidates, i), "parameters");
            const bool is = cJSON_Compare(parameters, cJSON_GetObjectItem(tuning, "append"), true);
            times[i] += is;
            found += is;
        }
        others += found != 1;
        cJSON_Delete(tuning);
    }
    cr_expect_eq(others, 0);
    for (int i = 0; i < count; i++)
        cr_expect(times[i] > SEEDS / count / 2 && times[i] < SEEDS / count * 2,
                  "candidate %d of %d: %d times", i, count, times[i]);
    cJSON_Delete(space);
    free(json);
}

Test(parameters, a_spec_takes_what_is_drawn_for_all_of_its_families, .timeout = 60)
{
    static const char *const specs[] = {
        "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\"}}",
        "{\"model\": \"llama-3.1-8b\", \"queries\": \"many\", \"weights\": \"int8\"}",
        "{\"model\": \"llama-2-7b\", \"cache\": {\"method\": \"x-cl\", \"bits\": 3}}",
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (int seed = 0; seed < 20; seed++) {
            error err = ERROR_INIT;
            char *completed = NULL, *overrides = NULL, *changed = NULL;
            cJSON *tuning = drawn(specs[i], seed), *again = drawn(specs[i], seed),
                  *other = drawn(specs[i], seed + 1), *given = cJSON_CreateObject();
            cr_expect(cJSON_Compare(tuning, again, true));
            cr_expect(!cJSON_Compare(tuning, other, true));
            cJSON_AddItemReferenceToObject(given, "tuning", tuning);
            overrides = cJSON_PrintUnformatted(given);
            const gen_overrides o = {.spec_json = specs[i], .overrides_json = overrides};
            cr_assert_eq(gen_override(generator(), &o, &changed, &err), XQ_OK, "%s", err.message);
            cr_assert_eq(gen_complete(generator(), changed, &completed, &err), XQ_OK, "%s", err.message);
            cJSON *spec = cJSON_Parse(completed);
            cr_expect(cJSON_Compare(tuning, cJSON_GetObjectItem(spec, "tuning"), true), "%s\n%s", overrides,
                      completed);
            cJSON_Delete(spec);
            cJSON_Delete(given);
            cJSON_Delete(tuning);
            cJSON_Delete(again);
            cJSON_Delete(other);
            free(overrides);
            free(changed);
            free(completed);
        }
    error err = ERROR_INIT;
    char *json = NULL;
    cr_expect_eq(gen_draw_tuning(generator(), NULL, 0, &json, &err), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(err.field, "spec_json");
    error_clear(&err);
    err = (error)ERROR_INIT;
    cr_expect_eq(gen_draw_tuning(generator(), "{\"modl\": 1}", 0, &json, &err), XQ_ERROR_SPEC);
    error_clear(&err);
    cr_expect_null(json);
}

Test(parameters, a_family_that_cannot_serve_has_no_space)
{
    static const char spec[] = "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\"}}";
    char *json = NULL;
    error err = ERROR_INIT;
    cr_expect_eq(gen_space(generator(), spec, "accumulate", &json, &err), XQ_ERROR_UNSUPPORTED);
    cr_expect(strstr(err.message, "accumulate cannot serve this spec: "), "%s", err.message);
    error_clear(&err);
    err = (error)ERROR_INIT;
    cr_expect_eq(gen_space(generator(), spec, "atend", &json, &err), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(err.field, "family");
    error_clear(&err);
    cr_expect_null(json);
}

Test(parameters, the_command_shows_what_is_chosen_for_a_model)
{
    struct command_result r =
        command_run("gen --list-parameters --model smollm2-135m --json - --arch sm_90a");
    cJSON *root = command_json_of(&r);
    const cJSON *cols = cJSON_GetArrayItem(cJSON_GetObjectItem(family_of(root, "gemm"), "parameters"), 1);
    cr_expect_str_eq(text(cols, "name"), "cols");
    cr_expect_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(cols, "chosen")), 64, "192 columns");
    cr_expect(strstr(text(family_of(root, "accumulate"), "refused"), "x-cl"));
    cJSON_Delete(root);
    r = command_run("gen --list-parameters --model smollm2-135m --family gemm,accumulate");
    cr_expect(strstr(r.out, " of 432 combinations are valid for this spec\n"), "%s", r.out);
    cr_expect(strstr(r.out, " ruled out: warp_rows must divide rows\n"), "%s", r.out);
    cr_expect(strstr(r.out, "default 128; for this spec 64"), "%s", r.out);
    cr_expect(strstr(r.out, "cannot serve this spec: "), "%s", r.out);
}

/* Returns the hash of a family's sources after a file is replaced by this text. */
static gen_hash hash_of(const char *family, const char *file, const char *text)
{
    const char *folder = files_directory();
    gen *g = NULL;
    gen_hash hash;
    error err = ERROR_INIT;
    mkdir(files_path(folder, "lib"), 0777);
    files_write(files_path(folder, file), text, strlen(text));
    cr_assert_eq(gen_create(folder, &g, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_family_source(g, family, &hash, &err), XQ_OK);
    gen_destroy(g);
    return hash;
}

static gen_hash hash_with(const char *file, const char *text)
{
    return hash_of("gemm", file, text);
}

Test(parameters, the_source_of_a_family_is_its_template_its_spec_and_the_headers)
{
    gen_hash built_in, again;
    error err = ERROR_INIT;
    cr_assert_eq(gen_family_source(generator(), "gemm", &built_in, &err), XQ_OK);
    cr_assert_eq(gen_family_source(generator(), "gemm", &again, &err), XQ_OK);
    cr_expect_eq(strlen(built_in.hex), 16);
    cr_expect_str_eq(built_in.hex, again.hex);
    cr_expect_str_neq(hash_with("gemm.cu.lt", "changed;\n").hex, built_in.hex);
    cr_expect_str_neq(hash_with("lib/ptx.cuh", "changed;\n").hex, built_in.hex);
    cr_expect_str_eq(hash_with("rope.cu.lt", "changed;\n").hex, built_in.hex, "that is another family");
    cr_expect_eq(gen_family_source(generator(), "gem", &again, &err), XQ_ERROR_ARGUMENT);
    error_clear(&err);
}

Test(parameters, a_variant_is_rendered_from_the_template_of_its_family)
{
    static const char changed[] = "changed;\n", same[] = "return family_of(\"kv_attend\", \"e4m3\")\n";
    gen_hash family, variant;
    error err = ERROR_INIT;
    cr_assert_eq(gen_family_source(generator(), "kv_attend", &family, &err), XQ_OK);
    cr_assert_eq(gen_family_source(generator(), "kv_attend_e4m3", &variant, &err), XQ_OK);
    cr_expect_str_neq(variant.hex, family.hex);
    cr_expect_str_neq(hash_of("kv_attend_e4m3", "kv_attend.cu.lt", changed).hex, variant.hex);
    cr_expect_str_neq(hash_of("kv_attend_e4m3", "kv_attend.spec.lua", changed).hex, variant.hex);
    cr_expect_str_neq(hash_of("kv_attend_e4m3", "kv_attend_e4m3.spec.lua", same).hex, variant.hex);
    cr_expect_str_eq(hash_of("kv_attend", "kv_attend_e4m3.spec.lua", same).hex, family.hex);
    cr_expect_str_eq(hash_of("kv_attend_e4m3", "kv_append.cu.lt", changed).hex, variant.hex);
}

Test(parameters, comments_are_no_part_of_a_familys_source)
{
    static const char code[] = "% if a // 2 then\nint i = 4; // four\n% end\ni--;\n";
    static const char *const same[] = {
        "% if a // 2 then\nint i = 4;\n% end\ni--;\n",
        "/* What\n * it is. */\n  % if a // 2 then -- half\n\tint i = 4; /* four */\n\n% end\ni--;",
        "// It's \"quoted.\n% if a // 2 then\nint i = 4;   \n% end\n% -- don't\ni--; // --\n",
    };
    static const char *const others[] = {
        "% if a // 3 then\nint i = 4;\n% end\ni--;\n",
        "% if a // 2 then\nint i = 4;\n% end\ni;\n",
        "% if a // 2 then\nint i = 4 /;\n% end\ni--;\n",
        "% if a // 2 then\nint i = 4;\n% end\ni--; \"// four\"\n",
    };
    const gen_hash expected = hash_with("gemm.cu.lt", code);
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        cr_expect_str_eq(hash_with("gemm.cu.lt", same[i]).hex, expected.hex, "%s", same[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        cr_expect_str_neq(hash_with("gemm.cu.lt", others[i]).hex, expected.hex, "%s", others[i]);
    /* A string is no comment, up to its closing quote. */
    cr_expect_str_neq(hash_with("gemm.cu.lt", "\"// a\";\n").hex,
                      hash_with("gemm.cu.lt", "\"// b\";\n").hex);
    cr_expect_str_eq(hash_with("gemm.cu.lt", "\"\\\"\"; // a\n").hex,
                     hash_with("gemm.cu.lt", "\"\\\"\";\n").hex);
    /* In a file of Lua alone, only Lua's comments are comments. */
    cr_expect_str_eq(hash_with("gemm.spec.lua", "return 1 -- one\n").hex,
                     hash_with("gemm.spec.lua", "return 1\n").hex);
    cr_expect_str_neq(hash_with("gemm.spec.lua", "return 7 // 2\n").hex,
                      hash_with("gemm.spec.lua", "return 7\n").hex);
}
