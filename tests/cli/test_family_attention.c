/* A small model of each family, from its config.json to attention: the three implementations of `xq
 * compare` on the software device, compared with double precision over the same cache. Windows are shorter
 * than the context. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS "\"num_hidden_layers\": 2, \"max_position_embeddings\": 4096, "
#define HEADS(D, H, HKV)                                                                                   \
    "\"hidden_size\": " #D ", \"num_attention_heads\": " #H ", \"num_key_value_heads\": " #HKV ", " LAYERS

/* The 70 tokens exceed the original context of 64. There is a factor for each of 32 pairs. */
#define FOUR(F)             F ", " F ", " F ", " F
#define EIGHT(F)            FOUR(F) ", " FOUR(F)
#define FACTORS(A, B, C, D) "[" EIGHT(A) ", " EIGHT(B) ", " EIGHT(C) ", " EIGHT(D) "]"
#define LONGROPE(TABLE)                                                                                    \
    "\"original_max_position_embeddings\": 64, \"rope_scaling\": {\"type\": \"longrope\", "                \
    "\"short_factor\": " FACTORS("1", "1.05", "1.1", "1.2") ", \"long_factor\": " FACTORS(                 \
        "1", "2.5", "9", "60") ", \"table\": \"" TABLE "\"}"

static const struct family {
    const char *config;
    const char *layers;
} families[] = {
    {"\"model_type\": \"llama\", " HEADS(256, 4,
                                         2) "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
                                            "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                                            "\"original_max_position_embeddings\": 512}",
     "0"},
    {"\"model_type\": \"mistral\", " HEADS(256, 4, 2) "\"sliding_window\": 20", "0"},
    {"\"model_type\": \"qwen2\", " HEADS(896, 14, 2) "\"rope_theta\": 1000000", "0"},
    {"\"model_type\": \"qwen3\", " HEADS(256, 4, 2) "\"rope_theta\": 1000000", "0"},
    {"\"model_type\": \"gemma2\", " HEADS(256, 2, 1) "\"sliding_window\": 20", "0,1"},
    {"\"model_type\": \"gemma3_text\", " HEADS(
         256, 2, 1) "\"sliding_window\": 20, \"sliding_window_pattern\": 2, "
                    "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}",
     "0,1"},
    {"\"model_type\": \"phi\", " HEADS(320, 4, 4) "\"partial_rotary_factor\": 0.4", "0"},
    {"\"model_type\": \"phi3\", " HEADS(384, 4, 2) "\"sliding_window\": 20", "0"},
    {"\"model_type\": \"glm4\", " HEADS(512, 4, 2) "\"attention_bias\": true", "0"},
    {"\"model_type\": \"gpt_neox\", \"hidden_size\": 192, \"num_attention_heads\": 2, " LAYERS
     "\"rotary_pct\": 0.25",
     "0"},
    {"\"model_type\": \"gpt_oss\", " HEADS(256, 16, 2) "\"sliding_window\": 20", "0,1"},
    {"\"model_type\": \"falcon\", \"hidden_size\": 320, \"num_attention_heads\": 5, " LAYERS
     "\"multi_query\": true",
     "0"},
    {"\"model_type\": \"falcon\", \"hidden_size\": 256, \"num_attention_heads\": 4, " LAYERS
     "\"multi_query\": false, \"alibi\": true, \"bias\": true",
     "0"},
    {"\"model_type\": \"bloom\", \"n_embed\": 384, \"n_head\": 6, \"n_layer\": 2", "0"},
    {"\"model_type\": \"mpt\", \"d_model\": 256, \"n_heads\": 2, \"n_layers\": 2", "0"},
    {"\"model_type\": \"olmo2\", " HEADS(256, 4, 4) "\"rope_theta\": 500000", "0"},
    {"\"model_type\": \"cohere2\", " HEADS(256, 4,
                                           2) "\"sliding_window\": 20, \"sliding_window_pattern\": 2",
     "0,1"},
    {"\"model_type\": \"smollm3\", " HEADS(256, 4, 2) "\"no_rope_layer_interval\": 2", "0,1"},
    {"\"model_type\": \"exaone4\", " HEADS(256, 4,
                                           2) "\"sliding_window\": 20, \"sliding_window_pattern\": \"LG\"",
     "0,1"},
    {"\"model_type\": \"qwen3_next\", " HEADS(256, 2, 1) "\"full_attention_interval\": 2", "1"},
    {"\"model_type\": \"phi3\", " HEADS(128, 2, 2) LONGROPE("short"), "0"},
    {"\"model_type\": \"phi3\", " HEADS(128, 2, 2) LONGROPE("long"), "0"},
};

enum { FAMILIES = sizeof families / sizeof *families, PARTS = 4 };

static void check_family(const struct family *f)
{
    char config[1024];
    const char *directory = files_directory();
    snprintf(config, sizeof config, "{%s}", f->config);
    files_write(files_path(directory, "config.json"), config, strlen(config));
    struct command_result r =
        command_run("compare --synthetic --model %s/config.json --layers %s --tokens 70 --bits 4 "
                    "--device sim --quiet --json %s/out.json",
                    directory, f->layers, directory);
    cr_assert_eq(r.status, 0, "%s: %s", f->config, r.err);
    cJSON *json = command_json_file(files_path(directory, "out.json")), *row,
          *rows = cJSON_GetObjectItem(json, "rows");
    cr_assert_eq(cJSON_GetArraySize(rows), strchr(f->layers, ',') ? 8 : 4, "%s", f->config);
    cJSON_ArrayForEach(row, rows)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(row, "name"));
        double error = cJSON_GetObjectItem(row, "kernel_rel_err")->valuedouble;
        cr_assert(error < 2e-3, "%s: %s errs by %g", f->config, name, error);
    }
    cJSON_Delete(json);
}

/* Checks every PARTS-th family from number `first` on, so that tests can run in parallel. */
static void check_families(int first)
{
    for (int i = first; i < FAMILIES; i += PARTS)
        check_family(&families[i]);
}

Test(family_attention, of_the_first_families_is_within_bounds)
{
    check_families(0);
}

Test(family_attention, of_the_second_families_is_within_bounds)
{
    check_families(1);
}

Test(family_attention, of_the_third_families_is_within_bounds)
{
    check_families(2);
}

Test(family_attention, of_the_fourth_families_is_within_bounds)
{
    check_families(3);
}
