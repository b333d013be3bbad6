#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- presets */

/* The shape of each preset, and the number of its layers with a sliding window (0: none; -1: all). */
static const struct preset {
    const char *name;
    int hidden_size, heads, kv_heads, head_dim, layers, sliding;
} presets[] = {
    {"bloom-560m", 1024, 16, 16, 64, 24, 0},
    {"bloom-7b1", 4096, 32, 32, 128, 30, 0},
    {"command-r", 8192, 64, 64, 128, 40, 0},
    {"command-r7b", 4096, 32, 8, 128, 32, 24},
    {"exaone-4.0-32b", 5120, 40, 8, 128, 64, 48},
    {"falcon-7b", 4544, 71, 1, 64, 32, 0},
    {"falcon-40b", 8192, 128, 8, 64, 60, 0},
    {"falcon-rw-1b", 2048, 32, 32, 64, 24, 0},
    {"gemma-2-2b", 2304, 8, 4, 256, 26, 13},
    {"gemma-2-9b", 3584, 16, 8, 256, 42, 21},
    {"gemma-2-27b", 4608, 32, 16, 128, 46, 23},
    {"gemma-3-270m", 640, 4, 1, 256, 18, 15},
    {"gemma-3-1b", 1152, 4, 1, 256, 26, 22},
    {"gemma-3-4b", 2560, 8, 4, 256, 34, 29},
    {"gemma-3-12b", 3840, 16, 8, 256, 48, 40},
    {"gemma-3-27b", 5376, 32, 16, 128, 62, 52},
    {"glm-4-9b", 4096, 32, 2, 128, 40, 0},
    {"gpt-neox-20b", 6144, 64, 64, 96, 44, 0},
    {"gpt-oss-20b", 2880, 64, 8, 64, 24, 12},
    {"gpt-oss-120b", 2880, 64, 8, 64, 36, 18},
    {"llama-2-7b", 4096, 32, 32, 128, 32, 0},
    {"llama-2-13b", 5120, 40, 40, 128, 40, 0},
    {"llama-3.1-8b", 4096, 32, 8, 128, 32, 0},
    {"llama-3.1-70b", 8192, 64, 8, 128, 80, 0},
    {"llama-3.2-1b", 2048, 32, 8, 64, 16, 0},
    {"llama-3.2-3b", 3072, 24, 8, 128, 28, 0},
    {"mistral-7b", 4096, 32, 8, 128, 32, 0},
    {"mixtral-8x7b", 4096, 32, 8, 128, 32, 0},
    {"mpt-7b", 4096, 32, 32, 128, 32, 0},
    {"olmo-1b", 2048, 16, 16, 128, 16, 0},
    {"olmo-2-1b", 2048, 16, 16, 128, 16, 0},
    {"olmo-2-7b", 4096, 32, 32, 128, 32, 0},
    {"olmo-2-13b", 5120, 40, 40, 128, 40, 0},
    {"olmo-2-32b", 5120, 40, 8, 128, 64, 0},
    {"phi-1.5", 2048, 32, 32, 64, 24, 0},
    {"phi-2", 2560, 32, 32, 80, 32, 0},
    {"phi-3-mini", 3072, 32, 32, 96, 32, -1},
    {"phi-3-medium", 5120, 40, 10, 128, 40, -1},
    {"phi-4", 5120, 40, 10, 128, 40, 0},
    {"phi-4-mini-4k", 3072, 24, 8, 128, 32, -1},
    {"phi-4-mini-128k", 3072, 24, 8, 128, 32, -1},
    {"pythia-410m", 1024, 16, 16, 64, 24, 0},
    {"pythia-1.4b", 2048, 16, 16, 128, 24, 0},
    {"pythia-6.9b", 4096, 32, 32, 128, 32, 0},
    {"qwen2-0.5b", 896, 14, 2, 64, 24, 0},
    {"qwen2-1.5b", 1536, 12, 2, 128, 28, 0},
    {"qwen2-7b", 3584, 28, 4, 128, 28, 0},
    {"qwen2-72b", 8192, 64, 8, 128, 80, 0},
    {"qwen2.5-0.5b", 896, 14, 2, 64, 24, 0},
    {"qwen2.5-3b", 2048, 16, 2, 128, 36, 0},
    {"qwen2.5-7b", 3584, 28, 4, 128, 28, 0},
    {"qwen2.5-14b", 5120, 40, 8, 128, 48, 0},
    {"qwen2.5-32b", 5120, 40, 8, 128, 64, 0},
    {"qwen2.5-72b", 8192, 64, 8, 128, 80, 0},
    {"qwen3-0.6b", 1024, 16, 8, 128, 28, 0},
    {"qwen3-1.7b", 2048, 16, 8, 128, 28, 0},
    {"qwen3-4b", 2560, 32, 8, 128, 36, 0},
    {"qwen3-8b", 4096, 32, 8, 128, 36, 0},
    {"qwen3-14b", 5120, 40, 8, 128, 40, 0},
    {"qwen3-32b", 5120, 64, 8, 128, 64, 0},
    {"qwen3-30b-a3b", 2048, 32, 4, 128, 48, 0},
    {"qwen3-235b-a22b", 4096, 64, 4, 128, 94, 0},
    {"qwen3-next-80b-a3b", 2048, 16, 2, 256, 48, 0},
    {"smollm-135m", 576, 9, 3, 64, 30, 0},
    {"smollm-360m", 960, 15, 5, 64, 32, 0},
    {"smollm-1.7b", 2048, 32, 32, 64, 24, 0},
    {"smollm2-135m", 576, 9, 3, 64, 30, 0},
    {"smollm2-360m", 960, 15, 5, 64, 32, 0},
    {"smollm2-1.7b", 2048, 32, 32, 64, 24, 0},
    {"smollm3-3b", 2048, 16, 4, 128, 36, 0},
};

enum { PRESETS = sizeof presets / sizeof *presets };

/* Presets with layers that have no RoPE, or that keep no keys and values. */
static const struct other {
    const char *name;
    int nope, linear;
} others[] = {{"command-r7b", 8, 0},
              {"exaone-4.0-32b", 16, 0},
              {"qwen3-next-80b-a3b", 0, 36},
              {"smollm3-3b", 9, 0}},
  no_others = {NULL, 0, 0};

static const struct other *others_of(const char *name)
{
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i].name, name) == 0)
            return &others[i];
    return &no_others;
}

static cJSON *complete_kind(const char *name, const char *kind)
{
    char spec[160];
    snprintf(spec, sizeof spec,
             kind ? "{\"model\": {\"preset\": \"%s\", \"layer_kind\": \"%s\"}}" : "{\"model\": \"%s\"}",
             name, kind);
    return generator_complete_parsed(spec);
}

static void check_shape(const cJSON *completed, const struct preset *p)
{
    cr_assert_str_eq(generator_string(completed, "model.name"), p->name);
    cr_assert_eq(generator_number(completed, "model.hidden_size"), p->hidden_size, "%s", p->name);
    cr_assert_eq(generator_number(completed, "model.num_attention_heads"), p->heads, "%s", p->name);
    cr_assert_eq(generator_number(completed, "model.num_key_value_heads"), p->kv_heads, "%s", p->name);
    cr_assert_eq(generator_number(completed, "model.head_dim"), p->head_dim, "%s", p->name);
    cr_assert_eq(generator_number(completed, "model.num_hidden_layers"), p->layers, "%s", p->name);
}

static int count_types(const cJSON *completed, const char *name)
{
    int count = 0;
    const cJSON *type;
    cJSON_ArrayForEach(type, generator_member(completed, "model.layer_types")) count +=
        strcmp(type->valuestring, name) == 0;
    return count;
}

static void check_types(const cJSON *completed, const struct preset *p)
{
    cr_assert_eq(count_types(completed, "sliding_attention"), p->sliding, "%s", p->name);
    cr_assert_eq(count_types(completed, "nope_attention"), others_of(p->name)->nope, "%s", p->name);
    cr_assert_eq(count_types(completed, "linear_attention"), others_of(p->name)->linear, "%s", p->name);
}

static void check_mixed(const struct preset *p)
{
    static const char *const kinds[] = {"full", "sliding", "nope"};
    const int counts[] = {p->layers - p->sliding - others_of(p->name)->nope, p->sliding,
                          others_of(p->name)->nope};
    char spec[96], text[64];
    snprintf(spec, sizeof spec, "{\"model\": \"%s\"}", p->name);
    snprintf(text, sizeof text, "%d %s and %d %s layers", counts[!!p->sliding], kinds[!!p->sliding],
             counts[others_of(p->name)->nope ? 2 : 0], kinds[others_of(p->name)->nope ? 2 : 0]);
    generator_refuses(spec, XQ_ERROR_SPEC, "model.layer_kind", text);
    for (int k = 0; k < 3; k++) {
        if (!counts[k])
            continue;
        cJSON *completed = complete_kind(p->name, kinds[k]);
        check_shape(completed, p);
        check_types(completed, p);
        cr_assert_eq(cJSON_HasObjectItem(generator_member(completed, "model"), "sliding_window"), k == 1);
        cr_assert_eq(strcmp(generator_string(completed, "model.rope.type"), "none") == 0, k == 2);
        cJSON_Delete(completed);
    }
}

Test(models, every_preset_completes, .timeout = 60)
{
    for (int i = 0; i < PRESETS; i++) {
        const struct preset *p = &presets[i];
        if (p->sliding > 0 || others_of(p->name)->nope > 0) {
            check_mixed(p);
            continue;
        }
        cJSON *completed = complete_kind(p->name, NULL);
        check_shape(completed, p);
        const cJSON *model = generator_member(completed, "model");
        cr_assert_eq(cJSON_HasObjectItem(model, "sliding_window"), p->sliding < 0, "%s", p->name);
        cr_assert_eq(cJSON_HasObjectItem(model, "layer_types"), others_of(p->name)->linear > 0, "%s",
                     p->name);
        if (others_of(p->name)->linear)
            check_types(completed, p);
        cJSON_Delete(completed);
    }
}

Test(models, presets_are_listed_in_order)
{
    char expected[4096] = "";
    for (int i = 0; i < PRESETS; i++) {
        strcat(expected, presets[i].name);
        strcat(expected, "\n");
    }
    cr_assert_str_eq(gen_presets(generator()), expected);
}

Test(models, preset_names_match_in_any_case)
{
    char *lower = generator_complete_values("{\"model\": \"llama-3.1-8b\"}");
    char *upper = generator_complete_values("{\"model\": \"Llama-3.1-8B\"}");
    cr_assert_str_eq(lower, upper);
    free(lower);
    free(upper);
}

Test(models, keys_beside_a_preset_replace_its_values)
{
    cJSON *spec = generator_complete_parsed(
        "{\"model\": {\"preset\": \"llama-3.1-8b\", \"num_key_value_heads\": 4, \"rope_scaling\": null}}");
    cr_assert_eq(generator_number(spec, "model.num_key_value_heads"), 4);
    cr_assert_eq(generator_number(spec, "model.hidden_size"), 4096);
    cr_assert_not(cJSON_HasObjectItem(generator_member(spec, "model"), "preset"));
    cJSON_Delete(spec);
    generator_refuses("{\"model\": {\"preset\": \"llama-3.1-8bb\"}}", XQ_ERROR_SPEC, "model.preset",
                      "did you mean 'llama-3.1-8b'?");
    generator_refuses("{\"model\": {\"preset\": 8}}", XQ_ERROR_SPEC, "model.preset", "a preset's name");
}

/* Values that the presets of a family have in addition to the shape, at paths of the completed spec. */
Test(models, presets_have_the_features_of_their_families)
{
    static const struct {
        const char *name, *kind, *path;
        double value;
    } cases[] = {
        {"gemma-2-9b", "full", "model.attn_logit_softcapping", 50},
        {"gemma-2-9b", "sliding", "model.sliding_window", 4096},
        {"gemma-2-27b", "full", "model.attention_scale", 1.0 / 12},
        {"gemma-3-1b", "sliding", "model.sliding_window", 512},
        {"gemma-3-1b", "sliding", "model.rope.theta", 1e4},
        {"gemma-3-1b", "full", "model.rope.theta", 1e6},
        {"gemma-3-1b", "full", "model.rms_norm_eps", 1e-6},
        {"gemma-3-4b", "full", "model.rope.scaling.factor", 8},
        {"gemma-3-4b", "full", "model.attention_scale", 1.0 / 16},
        {"glm-4-9b", NULL, "model.rope.rotary_dim", 64},
        {"gpt-neox-20b", NULL, "model.rope.rotary_dim", 24},
        {"gpt-oss-20b", "sliding", "model.sliding_window", 128},
        {"gpt-oss-20b", "sliding", "model.rope.scaling.factor", 32},
        {"gpt-oss-20b", "full", "model.rope.scaling.original_max_position_embeddings", 4096},
        {"falcon-rw-1b", NULL, "model.alibi_scale", 0.125},
        {"phi-2", NULL, "model.rope.rotary_dim", 32},
        {"phi-3-mini", NULL, "model.sliding_window", 2047},
        {"phi-4", NULL, "model.rope.theta", 250000},
        {"smollm2-1.7b", NULL, "model.rope.theta", 130000},
        {"llama-3.2-1b", NULL, "model.rope.scaling.factor", 32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *spec = complete_kind(cases[i].name, cases[i].kind);
        cr_assert_float_eq(generator_number(spec, cases[i].path), cases[i].value, 1e-12 * cases[i].value,
                           "%s %s", cases[i].name, cases[i].path);
        cJSON_Delete(spec);
    }
    cJSON *olmo = complete_kind("olmo-2-7b", NULL), *glm = complete_kind("glm-4-9b", NULL),
          *bloom = complete_kind("bloom-7b1", NULL), *oss = complete_kind("gpt-oss-20b", "full"),
          *gemma = complete_kind("gemma-3-4b", "sliding");
    cr_assert_str_eq(generator_string(olmo, "model.qk_norm"), "row");
    cr_assert_str_eq(generator_string(glm, "model.rope.type"), "interleaved");
    cr_assert_str_eq(generator_string(bloom, "model.rope.type"), "none");
    cr_assert(cJSON_IsTrue(generator_member(bloom, "model.alibi")));
    cr_assert(cJSON_IsTrue(generator_member(oss, "model.attention_sinks")));
    cr_assert_not(cJSON_HasObjectItem(generator_member(gemma, "model.rope"), "scaling"));
    cJSON_Delete(olmo);
    cJSON_Delete(glm);
    cJSON_Delete(bloom);
    cJSON_Delete(oss);
    cJSON_Delete(gemma);
}

/* ---------------------------------------------------------------- config.json */

/* Compares a file of tests/configs with the preset of the same model. `kind` is NULL if all layers are
 * alike. `table` chooses a table of LongRoPE, or is NULL. */
static void check_published(const char *file, const char *name, const char *kind, const char *table)
{
    size_t size;
    char path[128];
    snprintf(path, sizeof path, "tests/configs/%s.json", file);
    char *text = files_read(path, &size);
    cJSON *spec = generator_config(text), *ours = complete_kind(name, kind);
    if (kind)
        cJSON_AddStringToObject(cJSON_GetObjectItem(spec, "model"), "layer_kind", kind);
    if (table)
        cJSON_AddStringToObject((cJSON *)generator_member(spec, "model.rope_scaling"), "table", table);
    char *json = cJSON_PrintUnformatted(spec);
    cJSON *theirs = generator_complete_parsed(json);
    cJSON *model = cJSON_GetObjectItem(ours, "model"), *read = cJSON_GetObjectItem(theirs, "model");
    generator_string(read, "model_type");
    cJSON_DeleteItemFromObject(model, "name");
    cJSON_DeleteItemFromObject(read, "model_type");
    cJSON_DeleteItemFromObject(ours, "choices");
    cJSON_DeleteItemFromObject(theirs, "choices");
    char *a = cJSON_PrintUnformatted(model), *b = cJSON_PrintUnformatted(read);
    cr_assert_str_eq(a, b, "%s", name);
    cr_assert(cJSON_Compare(ours, theirs, 1), "%s", name);
    free(a);
    free(b);
    free(json);
    free(text);
    cJSON_Delete(spec);
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
}

Test(models, published_configs_read_as_their_presets, .timeout = 60)
{
    static const char *const names[] = {
        "bloom-560m",    "command-r",          "falcon-7b",    "falcon-40b",  "falcon-rw-1b", "glm-4-9b",
        "gpt-neox-20b",  "llama-3.1-8b",       "mixtral-8x7b", "mpt-7b",      "olmo-1b",      "olmo-2-7b",
        "phi-2",         "phi-3-mini",         "phi-4",        "pythia-1.4b", "qwen2.5-7b",   "qwen3-8b",
        "qwen3-30b-a3b", "qwen3-next-80b-a3b", "smollm2-135m"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_published(names[i], names[i], NULL, NULL);
}

Test(models, published_configs_of_mixed_models_read_as_their_presets, .timeout = 60)
{
    static const struct {
        const char *name, *kinds[2];
    } mixed[] = {{"command-r7b", {"sliding", "nope"}}, {"exaone-4.0-32b", {"sliding", "nope"}},
                 {"gemma-2-9b", {"full", "sliding"}},  {"gemma-2-27b", {"full", "sliding"}},
                 {"gemma-3-1b", {"full", "sliding"}},  {"gemma-3-4b", {"full", "sliding"}},
                 {"gemma-3-27b", {"full", "sliding"}}, {"gpt-oss-20b", {"full", "sliding"}},
                 {"smollm3-3b", {"full", "nope"}}};
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++)
        for (int k = 0; k < 2; k++)
            check_published(mixed[i].name, mixed[i].name, mixed[i].kinds[k], NULL);
    check_published("phi-4-mini", "phi-4-mini-4k", NULL, "short");
    check_published("phi-4-mini", "phi-4-mini-128k", NULL, "long");
}

/* Contexts of up to max_position_embeddings can be served without the scaling, because it changes nothing
 * there. */
Test(models, dynamic_scaling_of_a_published_config_is_refused_with_a_way_out)
{
    size_t size;
    char *text = files_read("tests/configs/internlm2.5-7b.json", &size);
    cJSON *spec = generator_config(text);
    char *json = cJSON_PrintUnformatted(spec);
    generator_refuses(json, XQ_ERROR_UNSUPPORTED, "model.rope_scaling", "Set it to null");
    free(json);
    cJSON_DeleteItemFromObject(cJSON_GetObjectItem(spec, "model"), "rope_scaling");
    json = cJSON_PrintUnformatted(spec);
    cJSON *completed = generator_complete_parsed(json);
    cr_assert_eq(generator_number(completed, "model.rope.theta"), 1e6);
    cr_assert_eq(generator_number(completed, "model.num_key_value_heads"), 8);
    cJSON_Delete(completed);
    cJSON_Delete(spec);
    free(json);
    free(text);
}
