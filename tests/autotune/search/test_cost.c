/* The tuner's cost model: the work that families state is compared with the counts of the software device,
 * and the effect of each term is checked. tests/cli/test_tune_replay.c compares predicted times with
 * modelled ones. */
#include "../../../autotune/search/cost.h"
#include "../../support/command.h"
#include "../../support/command_json.h"
#include "../../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cost_device gpu = {.multiprocessors = 100,
                                       .threads_sm = 2048,
                                       .registers_sm = 65536,
                                       .shared_bytes_sm = 164 << 10,
                                       .clock_hz = 1.5e9,
                                       .copy_bytes_per_second = 2e12,
                                       .matrix_flops_per_second = 300e12};

static struct cost predict(const cJSON *candidate, int64_t tokens, int64_t batch, int64_t queries)
{
    const struct cost_load load = {tokens, batch, queries};
    struct cost cost;
    error err = ERROR_INIT;
    cr_assert_eq(cost_predict(candidate, &gpu, &load, &cost, &err), XQ_OK, "%s", err.message);
    return cost;
}

/* ------------------------------------------------------------- stated work */

/* The candidate with the parameters that a spec has; the caller deletes *space. */
static const cJSON *chosen(const char *spec, const char *family, cJSON **space)
{
    char *text = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_space(generator(), spec, family, &text, &err), XQ_OK, "%s", err.message);
    *space = cJSON_Parse(text);
    free(text);
    const cJSON *parameters = cJSON_GetObjectItem(*space, "chosen"), *candidate;
    cJSON_ArrayForEach(candidate, cJSON_GetObjectItem(*space, "candidates"))
    {
        if (cJSON_Compare(cJSON_GetObjectItem(candidate, "parameters"), parameters, 1))
            return candidate;
    }
    cr_assert_fail("%s: the chosen parameters are no candidate", family);
    return NULL;
}

/* Counts of the software device for one step of an implementation. */
static void count(const char *arguments, const char *implementation, double *flops, double *l2_bytes)
{
    cJSON *root = command_json("compare --model smollm2-135m --bits 4 --synthetic --device sim --json - %s",
                               arguments),
          *row;
    *flops = *l2_bytes = 0;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(root, "rows"))
    {
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(row, "name")), implementation) != 0)
            continue;
        *flops = cJSON_GetNumberValue(cJSON_GetObjectItem(row, "matrix_flops"));
        *l2_bytes = cJSON_GetNumberValue(cJSON_GetObjectItem(row, "l2_read_bytes"));
    }
    cJSON_Delete(root);
    cr_assert_gt(*flops, 0, "%s", implementation);
}

static void expect_near(double stated, double counted, double tolerance, const char *what)
{
    cr_expect(stated > counted * (1 - tolerance) && stated < counted * (1 + tolerance),
              "%s: %g are stated, %g were counted", what, stated, counted);
}

/* The start of a spec. */
#define SMOLLM(CACHE) "{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 4" CACHE "}"

/* The stated matrix work is exact, except for rows of a tile without a query and for tiles that are not
 * full. The stated bytes leave out small terms: queries, tables, page indices. Where codes are operands of
 * both products, as by default, attend does somewhat more than it states. */
Test(cost, stated_work_is_what_the_software_device_counts, .timeout = 300)
{
    static const struct {
        const char *arguments, *spec;
        int tokens, queries;
        double flops, bytes; /* tolerances of attend's work */
    } cases[] = {
        {"--tokens 256", SMOLLM("") "}", 256, 1, 0.2, 0.2},
        {"--tokens 256 --groups 3,1", SMOLLM(", \"groups_v\": 1") "}", 256, 1, 0.1, 0.2},
        {"--tokens 256 --groups 3,1 --weights f16", SMOLLM(", \"groups_v\": 1") ", \"weights\": \"f16\"}",
         256, 1, 0.1, 0.2},
        {"--tokens 256 --queries 24", SMOLLM("") ", \"queries\": \"many\"}", 256, 24, 0.1, 0.35},
        {"--tokens 256 --queries 24 --groups 3,1 --weights f16",
         SMOLLM(", \"groups_v\": 1") ", \"weights\": \"f16\", \"queries\": \"many\"}", 256, 24, 0.1, 0.2},
        {"--tokens 128 --method x", SMOLLM(", \"method\": \"x\"") "}", 128, 1, 0.1, 0.2},
    };
    static const char *const unfused[] = {"dequantize", "gemm", "kv_attend"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *space;
        double flops, bytes, sum = 0;
        struct cost c =
            predict(chosen(cases[i].spec, "attend", &space), cases[i].tokens, 1, cases[i].queries);
        cJSON_Delete(space);
        count(cases[i].arguments, "fused", &flops, &bytes);
        expect_near(c.flops, flops, cases[i].flops, cases[i].arguments);
        expect_near(c.l2_bytes, bytes, cases[i].bytes, cases[i].arguments);
        c = predict(chosen(cases[i].spec, "kv_attend", &space), cases[i].tokens, 1, cases[i].queries);
        cJSON_Delete(space);
        count(cases[i].arguments, "fp16-kv", &flops, &bytes);
        expect_near(c.flops, flops, 0.1, cases[i].arguments);
        expect_near(c.l2_bytes, bytes, 0.4, cases[i].arguments);
        c = predict(chosen(cases[i].spec, "kv_attend_e4m3", &space), cases[i].tokens, 1, cases[i].queries);
        cJSON_Delete(space);
        count(cases[i].arguments, "fp8-kv", &flops, &bytes);
        expect_near(c.flops, flops, 0.1, cases[i].arguments);
        expect_near(c.l2_bytes, bytes, 0.4, cases[i].arguments);
        for (int k = 0; k < 3; k++) {
            sum += predict(chosen(cases[i].spec, unfused[k], &space), cases[i].tokens, 1, cases[i].queries)
                       .flops;
            cJSON_Delete(space);
        }
        count(cases[i].arguments, "unfused", &flops, &bytes);
        expect_near(sum, flops, 0.1, cases[i].arguments);
    }
}

/* These specs cover every family that can be tuned; all candidates of each are checked. */
Test(cost, all_candidates_have_a_prediction)
{
    static const char *const spec[][2] = {
        {"attend", "{\"model\": \"smollm2-135m\"}"},
        {"attend", "{\"model\": \"glm-4-9b\", \"cache\": {\"bits\": 3}, \"queries\": \"many\"}"},
        {"attend", "{\"model\": \"bloom-560m\", \"cache\": {\"method\": \"latent\"}}"},
        {"attend", "{\"model\": {\"preset\": \"gemma-3-270m\", \"layer_kind\": \"sliding\"}}"},
        {"accumulate", "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x-cl\"}}"},
        {"accumulate",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent-cl\", \"base\": true}}"},
        {"key_norms", "{\"model\": \"olmo-2-1b\"}"},
        {"kv_attend", "{\"model\": \"smollm2-135m\", \"queries\": \"many\"}"},
        {"kv_attend_e4m3", "{\"model\": \"llama-3.1-8b\", \"arch\": \"sm_90a\"}"},
        {"dequantize",
         "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x-cl\", \"accumulator_bits\": 8}}"},
        {"gemm", "{\"model\": \"llama-3.1-8b\", \"cache\": {\"groups\": 8}, \"weights\": \"int8\"}"},
    };
    for (size_t i = 0; i < sizeof spec / sizeof spec[0]; i++) {
        cJSON *space;
        const cJSON *candidate;
        chosen(spec[i][1], spec[i][0], &space);
        cJSON_ArrayForEach(candidate, cJSON_GetObjectItem(space, "candidates"))
        {
            struct cost c = predict(candidate, 3000, 5, 2);
            cr_assert(c.seconds > 2e-6 && c.seconds < 1, "%s: %g s", spec[i][0], c.seconds);
            cr_assert(c.blocks >= 1 && c.blocks_per_sm >= 1);
            for (int k = 0; k < COST_LIMITS; k++)
                cr_assert(c.times[k] >= 0 && c.times[k] <= c.seconds);
        }
        cJSON_Delete(space);
    }
}

/* ------------------------------------------------------------- effects of the terms */

/* A candidate whose blocks each take 64 tokens of one KV head. */
static cJSON *candidate(void)
{
    return cJSON_Parse(
        "{\"resources\": {\"threads\": 128, \"shared_bytes\": 16384},"
        " \"work\": {\"columns\": 1, \"block_tokens\": 64, \"token_bytes\": 100, \"bytes_in_flight\": 4096,"
        "  \"registers\": 64, \"block\": {\"instructions\": 1000},"
        "  \"tile\": {\"flops\": 1000000, \"instructions\": 1000, \"l2_bytes\": 4096}}}");
}

/* The prediction for this candidate with one number of "work" or "resources" changed. */
static struct cost with(const char *part, const char *name, double value, int64_t tokens)
{
    cJSON *c = candidate();
    cJSON *object = cJSON_GetObjectItem(c, part);
    cJSON_DeleteItemFromObject(object, name);
    cJSON_AddNumberToObject(object, name, value);
    struct cost cost = predict(c, tokens, 1, 1);
    cJSON_Delete(c);
    return cost;
}

Test(cost, the_last_wave_counts)
{
    /* There are 100 multiprocessors: one block for each, and then one more. */
    struct cost full = with("work", "columns", 1, 6400), more = with("work", "columns", 1, 6401);
    cr_expect_eq(full.blocks, 100);
    cr_expect_eq(more.blocks, 101);
    cr_expect_float_eq(more.times[COST_MATRIX], 2 * full.times[COST_MATRIX], 1e-12);
    cr_expect_float_eq(more.times[COST_ISSUE], 2 * full.times[COST_ISSUE], 1e-12);
    struct cost twice = with("work", "columns", 1, 12800);
    cr_expect_float_eq(more.times[COST_MATRIX], twice.times[COST_MATRIX], 1e-12);
}

Test(cost, a_multiprocessor_holds_what_threads_shared_memory_and_registers_allow)
{
    cr_expect_eq(with("work", "columns", 1, 64).blocks_per_sm, 8, "registers: 65536 / (128 * 64)");
    cr_expect_eq(with("work", "registers", 0, 64).blocks_per_sm, 9, "164 KiB / 17 KiB");
    cr_expect_eq(with("resources", "shared_bytes", 80 << 10, 64).blocks_per_sm, 2);
    cr_expect_eq(with("resources", "threads", 1024, 64).blocks_per_sm, 1);
    cr_expect_eq(with("resources", "shared_bytes", 400 << 10, 64).blocks_per_sm, 1, "at least one");
}

Test(cost, bytes_in_flight_hide_latency)
{
    struct cost some = with("work", "bytes_in_flight", 4096, 6400),
                few = with("work", "bytes_in_flight", 1024, 6400);
    cr_expect_float_eq(few.times[COST_LATENCY], 4 * some.times[COST_LATENCY], 1e-11);
    cr_expect_gt(few.seconds, some.seconds);
    cr_expect_eq(with("work", "bytes_in_flight", 0, 6400).times[COST_LATENCY], 0, "not stated");
}

Test(cost, more_warps_cover_more_of_what_waits)
{
    cr_expect_gt(with("resources", "threads", 128, 6400).seconds,
                 with("resources", "threads", 512, 6400).seconds);
    struct cost one = with("resources", "threads", 32, 6400);
    cr_expect_float_eq(one.times[COST_MATRIX], 4 * with("work", "columns", 1, 6400).times[COST_MATRIX],
                       1e-12, "one warp has one of the four matrix units");
}

/* Splits are made as in a plan. Each split reads the weights again. */
Test(cost, splits_read_weights_again_and_are_joined)
{
    cJSON *space;
    const cJSON *item, *short_splits = NULL, *long_splits = NULL;
    chosen("{\"model\": \"smollm2-135m\"}", "attend", &space);
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(space, "candidates"))
    {
        const cJSON *p = cJSON_GetObjectItem(item, "parameters");
        if (generator_number(p, "warps") != 4 || generator_number(p, "m_tiles") != 1 ||
            generator_number(p, "stages") != 2 || generator_number(p, "stage_steps") != 2)
            continue;
        if (generator_number(p, "split_tokens") == 64)
            short_splits = item;
        if (generator_number(p, "split_tokens") == 512)
            long_splits = item;
    }
    struct cost many = predict(short_splits, 32768, 8, 1), few = predict(long_splits, 32768, 8, 1);
    cr_expect_eq(many.blocks, 3 * 8 * 512);
    /* Fewer tokens than 512 where that fills the GPU better. */
    cr_expect(few.blocks >= 3 * 8 * 64 && few.blocks < 3 * 8 * 128, "%g blocks", (double)few.blocks);
    /* Each split adds work of its own: queries, tables, projections, and joining the results. */
    cr_expect_gt(many.instructions, few.instructions);
    cr_expect_gt(many.l2_bytes, few.l2_bytes);
    cr_expect_gt(many.times[COST_MEMORY], few.times[COST_MEMORY]);
    cJSON_Delete(space);
}

Test(cost, what_a_candidate_lacks_is_named)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"{\"resources\": {}, \"work\": {\"columns\": 1}}",
         "a candidate has no resources.threads from 1 to "},
        {"{\"resources\": {\"threads\": 32}, \"work\": {}}", "a candidate has no work.columns from 1 to "},
        {"{\"resources\": {\"threads\": 32}, \"work\": {\"columns\": 1}}",
         "a candidate has no resources.tile_tokens from 1 to "},
        {"{\"resources\": {\"threads\": 32, \"tile_tokens\": 16, \"split_tokens\": 64}, "
         "\"work\": {\"columns\": 1}}",
         "a candidate has no work.partial_bytes from 1 to "},
    };
    const struct cost_load load = {100, 1, 1};
    struct cost cost;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *c = cJSON_Parse(cases[i].json);
        error err = ERROR_INIT;
        cr_expect_eq(cost_predict(c, &gpu, &load, &cost, &err), XQ_ERROR_INTERNAL);
        cr_expect(strstr(err.message, cases[i].message), "%s", err.message);
        cJSON_Delete(c);
    }
    cJSON *silent = cJSON_Parse("{\"resources\": {\"threads\": 32}}");
    cr_expect_eq(predict(silent, 100, 1, 1).seconds, 0, "a family that states no work has no prediction");
    cJSON_Delete(silent);
}
