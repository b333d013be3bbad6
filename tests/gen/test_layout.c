/* The bytes of caches and weights, compared with the tables of docs/layout.md. */
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MHA "{\"hidden_size\": 256, \"num_attention_heads\": 4}"
#define GQA "{\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 4}"

Test(layout, a_4_bit_latent_record_adds_up)
{
    cJSON *spec = generator_complete_parsed("{\"model\": \"llama-3.1-8b\"}");
    cr_assert_eq(generator_number(spec, "layout.streams.0.codes_offset"), 0);
    cr_assert_eq(generator_number(spec, "layout.streams.0.params_offset"), 8192);
    cr_assert_eq(generator_number(spec, "layout.streams.1.codes_offset"), 8192 + 8 * 64);
    cr_assert_eq(generator_number(spec, "layout.streams.1.params_offset"), 2 * 8192 + 8 * 64);
    cr_assert_eq(generator_number(spec, "layout.tile_bytes"), 2 * (8192 + 8 * 64));
    cr_assert_eq(generator_number(spec, "layout.page_bytes"), 4 * 2 * (8192 + 8 * 64));
    cr_assert_eq(generator_number(spec, "layout.bytes_per_token"), 1088); /* method.md, section 5 */
    cr_assert_eq(generator_number(spec, "layout.kv_page_bytes"), 2 * 64 * 1024 * 2);
    cr_assert_eq(generator_number(spec, "layout.kv_e4m3_page_bytes"), 2 * 64 * 1024);
    cJSON_Delete(spec);
}

Test(layout, an_8_bit_record_with_a_shorter_last_group_adds_up)
{
    cJSON *spec = generator_complete_parsed(
        "{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 8, \"groups_v\": 1}}");
    cr_assert_eq(generator_number(spec, "layout.streams.0.width"), 192);
    cr_assert_eq(generator_number(spec, "layout.streams.0.groups"), 3); /* keys have three latents */
    cr_assert_eq(generator_number(spec, "layout.streams.1.groups"),
                 2); /* values have one of 192 channels */
    cr_assert_eq(generator_number(spec, "layout.streams.1.codes_offset"), 192 * 16 + 3 * 64);
    cr_assert_eq(generator_number(spec, "layout.tile_bytes"), 2 * 192 * 16 + 5 * 64);
    cJSON_Delete(spec);
}

Test(layout, weights_follow_each_other_aligned)
{
    cJSON *spec = generator_complete_parsed(
        "{\"model\": " GQA ", \"cache\": {\"rank_k\": 64, \"groups_v\": 1}, \"weights\": \"f16\"}");
    static const struct {
        const char *name;
        int rows, cols;
    } expected[] = {{"uk", 512, 64}, {"uv", 512, 256}, {"wk", 64, 256}, {"wv", 256, 256}};
    double offset = 0;
    for (int i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "weights_layout.matrices.%d", i);
        const cJSON *matrix = generator_member(spec, path);
        cr_assert_str_eq(generator_string(matrix, "name"), expected[i].name);
        cr_assert_eq(generator_number(matrix, "rows"), expected[i].rows);
        cr_assert_eq(generator_number(matrix, "cols"), expected[i].cols);
        cr_assert_eq(generator_number(matrix, "offset"), offset);
        offset += expected[i].rows * expected[i].cols * 2;
    }
    cr_assert_eq(generator_number(spec, "weights_layout.bytes"), offset);
    cr_assert_eq(generator_number(spec, "kv_weights_layout.bytes"), 2 * 512 * 256 * 2);
    cJSON_Delete(spec);
}

/* The registers of operand A of mma.m16n8k16 (PTX ISA): element a_i of a lane is at this row and column of
 * the 16 x 16 fragment. */
static void fragment_place(int lane, int i, int *row, int *k)
{
    *row = lane / 4 + (i / 2 % 2 ? 8 : 0);
    *k = lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0);
}

/* Places in a unit of the bits of element a_i of a lane's fragment, lowest bit first, from the tables of
 * docs/layout.md. Each byte of a lane's word holds codes of one token; within it pair p has number p %
 * 2. */
static void bits_of(const char *order, int bits, int lane, int fragment, int i, int *places)
{
    static const int pair_k[4] = {0, 2, 1, 3}, pair_v[4] = {0, 1, 2, 3}; /* numbers of (a0,a1) (a2,a3) … */
    int pair = (*order == 'k' ? pair_k : pair_v)[i / 2], half = i % 2 * 16, byte = pair / 2 * 8;
    int first;
    if (bits == 16)
        first = fragment * 512 * 8 + lane * 128 + i * 16;
    else if (bits == 8)
        first = fragment / 2 * 512 * 8 + lane * 128 + fragment % 2 * 64 + (2 * pair + i % 2) * 8;
    else if (bits == 4)
        first = lane * 128 + fragment * 32 + half + pair * 4;
    else
        first = lane * 64 + fragment / 2 * 32 + half + byte + fragment % 2 * 4 + pair % 2 * 2;
    for (int k = 0; k < bits; k++)
        places[k] = first + k;
    if (bits == 3)
        places[2] = 256 * 8 + lane * 32 + half + byte + fragment * 2 + pair % 2;
}

static void check_unit_map(const char *order, int bits)
{
    error err = ERROR_INIT;
    int32_t *map = NULL;
    gen_unit_map(generator(), order, bits, &map, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    for (int n = 0; n < 4 * 32 * 8; n++) {
        int fragment = n / 256, lane = n / 8 % 32, i = n % 8, row, k, places[16];
        fragment_place(lane, i, &row, &k);
        int token = *order == 'k' ? row : k, channel = fragment * 16 + (*order == 'k' ? k : row);
        bits_of(order, bits, lane, fragment, i, places);
        for (int bit = 0; bit < bits; bit++)
            cr_assert_eq(map[(token * 64 + channel) * bits + bit], places[bit],
                         "%s %d bits, token %d, channel %d, bit %d", order, bits, token, channel, bit);
    }
    free(map);
}

static const int all_bits[] = {2, 3, 4, 8, 16};

Test(layout, codes_lie_in_the_order_of_the_matrix_instruction)
{
    for (int i = 0; i < 5; i++) {
        check_unit_map("k", all_bits[i]);
        check_unit_map("v", all_bits[i]);
    }
}

Test(layout, every_byte_of_a_unit_belongs_to_one_token)
{
    for (int c = 0; c < 10; c++) {
        const char *order = c % 2 ? "v" : "k";
        int bits = all_bits[c / 2], owner[2048], used[2048] = {0};
        error err = ERROR_INIT;
        int32_t *map = NULL;
        cr_assert_eq(gen_unit_map(generator(), order, bits, &map, &err), XQ_OK);
        for (int i = 0; i < 1024 * bits; i++) {
            int byte = map[i] / 8, token = i / (64 * bits);
            cr_assert(map[i] >= 0 && byte < 128 * bits);
            cr_assert(!used[byte] || owner[byte] == token, "order %s, %d bits, byte %d", order, bits, byte);
            owner[byte] = token;
            used[byte]++;
        }
        for (int byte = 0; byte < 128 * bits; byte++)
            cr_assert_eq(used[byte], 8);
        free(map);
    }
}

Test(layout, unknown_orders_and_bits_are_refused)
{
    error err = ERROR_INIT;
    int32_t *map = NULL;
    cr_assert_eq(gen_unit_map(generator(), "x", 4, &map, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.field, "order");
    error_clear(&err);
    cr_assert_eq(gen_unit_map(generator(), "k", 5, &map, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.field, "bits");
    cr_assert_null(map);
}

/* ---------------------------------------------------------------- parameters, tails, accumulator */

static void check_number(const char *spec_json, const char *path, double value)
{
    cJSON *spec = generator_complete_parsed(spec_json);
    cr_assert_eq(generator_number(spec, path), value, "%s: %s is %g, not %g", spec_json, path,
                 generator_number(spec, path), value);
    cJSON_Delete(spec);
}

#define CHECK(SPEC, ...)                                                                                   \
    do {                                                                                                   \
        static const struct {                                                                              \
            const char *path;                                                                              \
            double value;                                                                                  \
        } list[] = {__VA_ARGS__};                                                                          \
        for (size_t n = 0; n < sizeof list / sizeof *list; n++)                                            \
            check_number(SPEC, list[n].path, list[n].value);                                               \
    } while (0)

Test(layout, integer_zero_points_follow_the_scales_and_are_padded)
{
    CHECK("{\"model\": \"smollm2-135m\", \"cache\": {\"zero_point\": \"integer\", \"bits\": 3, "
          "\"group\": 64}}",
          {"layout.streams.0.params_offset", 3 * 384}, {"layout.streams.0.zeros_offset", 3 * 384 + 3 * 32},
          {"layout.streams.1.codes_offset", 3 * 384 + 3 * 32 + 32}, /* 18 bytes of zero points */
          {"layout.tile_bytes", 2 * (3 * 384 + 3 * 32 + 32)});
}

Test(layout, channel_groups_larger_than_a_page_are_spread_over_its_pages)
{
    /* 1024 channels are 16 chunks. A group of 128 tokens spans 8 pages of 16 tokens, so each page has 2
     * slots of 256 bytes. */
    CHECK("{\"model\": \"llama-3.1-8b\", \"cache\": {\"axis_k\": \"channel\", \"page\": 16}}",
          {"layout.streams.0.slot_bytes", 256}, {"layout.streams.0.chunk_pages", 8},
          {"layout.streams.0.page_groups", 1}, {"layout.streams.0.page_chunks", 2},
          {"layout.streams.0.slots_offset", 2 * 8192 + 8 * 64},
          {"layout.page_bytes", 2 * 8192 + 8 * 64 + 2 * 256}, {"layout.tail_bytes", 128 * 1024 * 2});
}

Test(layout, channel_groups_smaller_than_a_page_lie_in_it)
{
    CHECK("{\"model\": \"llama-3.1-8b\", \"cache\": {\"axis_k\": \"channel\", \"axis_v\": \"channel\", "
          "\"group\": 32, \"zero_point\": \"integer\", \"bits\": 2}}",
          {"layout.streams.0.slot_bytes", 144}, {"layout.streams.1.page_groups", 2},
          {"layout.streams.1.page_chunks", 16}, {"layout.streams.0.slots_offset", 4 * 8192},
          {"layout.streams.1.slots_offset", 4 * 8192 + 32 * 144}, {"layout.tile_bytes", 8192},
          {"layout.page_bytes", 4 * 8192 + 64 * 144}, {"layout.streams.1.tail_offset", 32 * 1024 * 2},
          {"layout.tail_bytes", 2 * 32 * 1024 * 2});
}

Test(layout, deltas_have_a_tail_of_activations_and_an_accumulator)
{
    CHECK("{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\", \"axis_k\": \"channel\", "
          "\"bits\": 2, \"accumulator_bits\": 8}}",
          {"layout.streams.0.width", 2048}, {"layout.streams.0.tail_width", 4096},
          {"layout.tail_bytes", 128 * 4096 * 2}, {"accumulator.streams.0.width", 4096},
          {"accumulator.streams.0.bits", 8}, {"accumulator.streams.0.groups", 32},
          {"accumulator.bytes_per_token", 4096 + 32 * 4});
    CHECK("{\"model\": \"llama-2-7b\", \"cache\": {\"method\": \"x-cl\"}}",
          {"accumulator.page_bytes", 64 * 4096 * 2}, {"accumulator.streams.0.bits", 16});
}

Test(layout, latents_of_groups_are_padded_apart)
{
    CHECK("{\"model\": \"llama-3.1-8b\", \"cache\": {\"groups\": 4, \"rank_k\": 400}}",
          {"layout.streams.0.latents", 4}, {"layout.streams.0.rank", 100},
          {"layout.streams.0.latent_width", 128}, {"layout.streams.0.width", 512},
          {"layout.streams.1.rank", 256}, {"layout.streams.1.width", 1024});
}

Test(layout, groups_of_channels_end_with_their_latent)
{
    CHECK("{\"model\": \"llama-3.1-8b\", \"cache\": {\"groups_k\": 8, \"groups_v\": 1, \"rank_k\": 1000, "
          "\"group\": 256}}",
          {"layout.streams.0.latents", 8}, {"layout.streams.0.latent_width", 128},
          {"layout.streams.0.group", 128}, {"layout.streams.0.groups", 8}, {"layout.streams.1.latents", 1},
          {"layout.streams.1.group", 256}, {"layout.streams.1.groups", 4});
    CHECK("{\"model\": \"smollm2-135m\", \"cache\": {\"groups_k\": 1, \"groups_v\": 3}}",
          {"layout.streams.0.groups", 2}, {"layout.streams.1.group", 64}, {"layout.streams.1.groups", 3});
    CHECK("{\"model\": \"smollm2-135m\", \"cache\": {\"groups\": 3, \"group\": \"row\"}}",
          {"cache.group", 64}, {"cache.groups_k", 3}, {"cache.groups_v", 3},
          {"layout.streams.0.groups", 3});
    CHECK("{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 6, \"num_key_value_heads\": 6, "
          "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"groups_k\": 2, \"groups_v\": 3, "
          "\"group\": 128}}",
          {"layout.streams.0.group", 128}, {"layout.streams.0.groups", 4}, {"layout.streams.1.group", 128},
          {"layout.streams.1.groups", 3});
    /* Groups of tokens keep their size. */
    CHECK("{\"model\": \"smollm2-135m\", \"cache\": {\"groups_k\": 3, \"groups_v\": 1, \"axis_k\": "
          "\"channel\"}}",
          {"layout.streams.0.group", 128}, {"layout.streams.1.group", 128});
}

/* ---------------------------------------------------------------- columns of K */

static void check_columns(const char *model, const char *path, const char *expected)
{
    char spec[256];
    snprintf(spec, sizeof spec, "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8, %s}}",
             model);
    cJSON *completed = generator_complete_parsed(spec);
    char *list = cJSON_PrintUnformatted(generator_member(completed, path));
    cr_assert_str_eq(list, expected, "%s: %s", model, path);
    free(list);
    cJSON_Delete(completed);
}

#define EIGHTEEN "\"head_dim\": 80, \"rope\": {\"rotary_dim\": 18}"

Test(layout, first_members_of_rotary_pairs_come_before_their_partners)
{
    check_columns(
        EIGHTEEN, "keys.rematerialized",
        "[0,1,2,3,4,5,6,7,8,-1,-1,-1,-1,-1,-1,-1,9,10,11,12,13,14,15,16,17,-1,-1,-1,-1,-1,-1,-1]");
    check_columns("\"rope\": {\"type\": \"interleaved\", \"rotary_dim\": 16}", "keys.rematerialized",
                  "[0,2,4,6,8,10,12,14,1,3,5,7,9,11,13,15]");
}

Test(layout, what_does_not_turn_is_absorbed_unless_it_is_normalized)
{
    check_columns("\"rope\": {\"rotary_dim\": 50}", "keys.absorbed",
                  "[50,51,52,53,54,55,56,57,58,59,60,61,62,63,-1,-1]");
    check_columns("\"rope\": {\"rotary_dim\": 48}, \"qk_norm\": true", "keys.absorbed", "[]");
    check_columns("\"rope\": {\"rotary_dim\": 48}, \"qk_norm\": true", "keys.columns", "64");
    check_columns("\"rope\": {\"type\": \"none\"}", "keys.rematerialized", "[]");
    check_columns("\"rope\": {\"type\": \"none\"}", "keys.absorbed_columns", "64");
}

static void check_product(const char *spec, const char *expected)
{
    cJSON *completed = generator_complete_parsed(spec);
    cr_assert_str_eq(generator_member(completed, "keys.product")->valuestring, expected, "%s", spec);
    cJSON_Delete(completed);
}

#define SMOLLM "{\"model\": \"smollm2-135m\", \"weights\": \"int8\""

Test(layout, keys_are_products_of_codes_where_scales_allow_it)
{
    check_product("{\"model\": \"smollm2-135m\", \"weights\": \"f16\"}", "f16");
    check_product("{\"model\": \"smollm2-135m\", \"weights\": \"e4m3\"}", "f16");
    check_product(SMOLLM "}", "int8");
    check_product(SMOLLM ", \"cache\": {\"bits\": 8, \"group\": 64, \"groups\": 1}}", "int8");
    check_product(SMOLLM
                  ", \"cache\": {\"method\": \"x\", \"group\": \"row\", \"zero_point\": \"integer\"}}",
                  "int8");
    check_product(SMOLLM ", \"cache\": {\"group\": 32}}", "f16");
    check_product(SMOLLM ", \"cache\": {\"axis_k\": \"channel\"}}", "f16");
    check_product(SMOLLM ", \"cache\": {\"method\": \"latent-cl\"}}", "f16");
    check_product(SMOLLM ", \"cache\": {\"method\": \"latent-cl\", \"accumulator_bits\": 8}}", "int8");
    /* Part of the dimensions is absorbed. */
    check_product("{\"model\": \"phi-2\", \"weights\": \"int8\", \"cache\": {\"method\": \"latent\"}}",
                  "f16");
    /* 256 columns: sums of a group, and of all groups, would be in registers. */
    check_product(
        "{\"model\": {\"preset\": \"gemma-3-270m\", \"layer_kind\": \"full\"}, \"weights\": \"int8\"}",
        "f16");
    check_product("{\"model\": {\"preset\": \"gemma-3-270m\", \"layer_kind\": \"full\"}, "
                  "\"weights\": \"int8\", \"cache\": {\"group\": 256}}",
                  "int8");
}

/* ---------------------------------------------------------------- packed weights */

/* Describes weights: "name source columns rows cols type" in a line for each matrix, then "name columns
 * count" for each vector. */
static void describe_weights(const cJSON *layout, char *text, size_t size)
{
    const cJSON *item;
    size_t used = 0;
    cJSON_ArrayForEach(item, generator_member(layout, "matrices")) used += (size_t)snprintf(
        text + used, size - used, "%s %s %s %g %g %s\n", generator_string(item, "name"),
        generator_string(item, "source"), generator_string(item, "columns"), generator_number(item, "rows"),
        generator_number(item, "cols"), generator_string(item, "type"));
    cJSON_ArrayForEach(item, generator_member(layout, "vectors")) used +=
        (size_t)snprintf(text + used, size - used, "%s %s %g\n", generator_string(item, "name"),
                         generator_string(item, "columns"), generator_number(item, "count"));
}

static void check_weights(const char *spec, const char *layout, const char *expected)
{
    char text[1024] = "";
    cJSON *completed = generator_complete_parsed(spec);
    describe_weights(generator_member(completed, layout), text, sizeof text);
    cr_assert_str_eq(text, expected, "%s: %s", spec, layout);
    cJSON_Delete(completed);
}

/* 8 heads of 64 dimensions, of which 16 have RoPE. */
#define PARTIAL                                                                                            \
    "{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, "          \
    "\"partial_rotary_factor\": 0.25, \"attention_bias\": true, \"attention_sinks\": true}, "

Test(layout, each_pipeline_has_its_own_weights)
{
    static const char spec[] =
        PARTIAL "\"weights\": \"int8\", \"cache\": {\"rank_k\": 96, \"groups_v\": 1}}";
    check_weights(spec, "weights_layout",
                  "uk uk all 512 128 f16\nuv uv all 512 256 f16\nwk ak keys 128 64 int8\n"
                  "wk_absorb ak absorbed 192 128 int8\nwv av all 256 256 int8\n"
                  "bk keys 64\nbk_absorb absorbed 192\nbv all 256\nsinks all 8\n");
    check_weights(
        spec, "unfused_weights_layout",
        "uk uk all 512 128 f16\nuv uv all 512 256 f16\nwk ak all 128 256 int8\nwv av all 256 256 int8\n"
        "bk all 256\nbv all 256\nsinks all 8\n");
    check_weights(spec, "kv_weights_layout",
                  "wk wk all 512 256 f16\nwv wv all 512 256 f16\nbk all 256\nbv all 256\nsinks all 8\n");
    check_weights(spec, "kv_e4m3_weights_layout",
                  "wk wk all 512 256 f16\nwv wv all 512 256 f16\nbk all 256\nbv all 256\nsinks all 8\n"
                  "k_scale all 1\nv_scale all 1\n");
}

Test(layout, projections_of_kv_caches_have_16_bits_whatever_the_weights_are)
{
    static const char *const weights[][2] = {
        {"f16", "f16"}, {"bf16", "bf16"}, {"int8", "f16"}, {"e4m3", "f16"}};
    char spec[256], expected[128];
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        snprintf(spec, sizeof spec, "{\"model\": \"smollm2-135m\", \"weights\": \"%s\"}", weights[i][0]);
        snprintf(expected, sizeof expected, "wk wk all 576 192 %s\nwv wv all 576 192 %s\n", weights[i][1],
                 weights[i][1]);
        check_weights(spec, "kv_weights_layout", expected);
    }
}

Test(layout, rotated_activations_take_one_square_matrix_and_the_projections_behind_it)
{
    static const char spec[] =
        PARTIAL "\"weights\": \"int8\", \"cache\": {\"method\": \"x\", \"rotation\": true}}";
    check_weights(spec, "weights_layout",
                  "uk uk all 512 512 f16\nwk ak keys 512 64 int8\nwk_absorb ak absorbed 192 512 int8\n"
                  "wv av all 512 256 int8\nbk keys 64\nbk_absorb absorbed 192\nbv all 256\nsinks all 8\n");
    check_weights(spec, "unfused_weights_layout",
                  "uk uk all 512 512 f16\nwk ak all 512 256 int8\nwv av all 512 256 int8\n"
                  "bk all 256\nbv all 256\nsinks all 8\n");
    check_weights(spec, "kv_weights_layout",
                  "wk wk all 512 256 f16\nwv wv all 512 256 f16\nbk all 256\nbv all 256\nsinks all 8\n");
}

Test(layout, rotation_changes_no_byte_of_the_pages)
{
    static const char *const axes[] = {"token", "channel"};
    for (int i = 0; i < 2; i++) {
        char text[2][256], *layouts[2];
        for (int rotated = 0; rotated < 2; rotated++) {
            snprintf(text[rotated], sizeof text[rotated],
                     "{\"model\": " MHA ", \"cache\": {\"method\": \"x\", \"bits\": 2, \"axis_k\": \"%s\", "
                     "\"rotation\": %s}}",
                     axes[i], rotated ? "true" : "false");
            cJSON *spec = generator_complete_parsed(text[rotated]);
            layouts[rotated] = cJSON_PrintUnformatted(generator_member(spec, "layout"));
            cJSON_Delete(spec);
        }
        cr_assert_str_eq(layouts[0], layouts[1]);
        free(layouts[0]);
        free(layouts[1]);
    }
}

Test(layout, cross_layer_weights_go_down_and_up)
{
    check_weights("{\"model\": " GQA ", \"weights\": \"bf16\", \"cache\": {\"method\": \"latent-cl\"}}",
                  "weights_layout",
                  "ukv ukv all 512 512 bf16\nukvt ukv transposed 512 512 bf16\nwk wk keys 512 256 bf16\n"
                  "wv wv all 512 256 bf16\n");
    check_weights("{\"model\": " MHA ", \"weights\": \"e4m3\", \"cache\": {\"method\": \"x-cl\"}}",
                  "weights_layout", "wk wk keys 256 256 e4m3\nwv wv all 256 256 e4m3\n");
}

Test(layout, eight_bit_weights_have_a_scale_for_each_column)
{
    CHECK("{\"model\": " MHA ", \"weights\": \"e4m3\", \"cache\": {\"rotation\": false}}",
          {"weights_layout.matrices.0.offset", 0}, {"weights_layout.matrices.0.scale_offset", 256 * 256},
          {"weights_layout.matrices.1.offset", 256 * 256 + 256 * 4},
          {"weights_layout.bytes", 2 * (256 * 256 + 256 * 4)});
}

Test(layout, products_of_codes_take_sums_of_the_weights)
{
    /* 3 heads of 64 columns, one latent of 192 channels in groups of 128. */
    CHECK(SMOLLM ", \"cache\": {\"groups\": 1}}", {"weights_layout.matrices.2.rows", 192},
          {"weights_layout.matrices.2.cols", 192}, {"weights_layout.matrices.2.sum_rows", 128});
    CHECK(SMOLLM "}", {"weights_layout.matrices.2.rows", 64}, {"weights_layout.matrices.2.sum_rows", 64});
}

Test(layout, normalized_keys_bring_the_factors_of_a_head_or_of_all)
{
    check_weights("{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"qk_norm\": true}, "
                  "\"cache\": {\"rotation\": false}}",
                  "unfused_weights_layout",
                  "wk wk all 256 256 f16\nwv wv all 256 256 f16\nk_norm all 64\n");
    check_weights("{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"qk_norm\": \"row\"}, "
                  "\"cache\": {\"rotation\": false}}",
                  "weights_layout", "wk wk keys 256 256 f16\nwv wv all 256 256 f16\nk_norm keys 256\n");
}
