/* The table of architectures, and the entries that serve architectures that it does not list. */
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
static const char spec[] = "{" MODEL ", \"cache\": {\"method\": \"latent\"}}";
/* For this spec the parameters of attend depend on the shared memory of a block. */
static const char wide[] =
    "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\"}, \"queries\": \"many\"}";

static error err = ERROR_INIT;

/* A generator for a device of this architecture, whose blocks may have this much shared memory (0: not
 * stated). */
static gen *generator_for(const char *name, size_t shared_bytes)
{
    const gen_arch own = {.name = name,
                          .shared_bytes = shared_bytes,
                          .shared_bytes_sm = shared_bytes ? shared_bytes + 1024 : 0};
    gen *g = NULL;
    cr_assert_eq(gen_create_for(NULL, &own, &g, &err), XQ_OK, "%s", err.message);
    return g;
}

/* `tuning` of a completed spec for an architecture; the caller deletes it. */
static cJSON *tuning_for(gen *g, const char *arch)
{
    char *completed = NULL;
    cr_assert_eq(gen_complete_with(g, wide, &(const gen_completion){.arch = arch}, &completed, &err), XQ_OK,
                 "%s", err.message);
    cJSON *root = cJSON_Parse(completed), *tuning = cJSON_DetachItemFromObject(root, "tuning");
    free(completed);
    cJSON_Delete(root);
    cr_assert_not_null(tuning);
    return tuning;
}

Test(arch, nearest_lower_of_the_same_family_serves_else_the_newest)
{
    static const char *const nearest[][2] = {
        {"sm_80", "sm_80"},   {"sm_90a", "sm_90a"}, {"sm_81", "sm_80"},   {"sm_88", "sm_88"},
        {"sm_91", "sm_90"},   {"sm_101", "sm_100"}, {"sm_109", "sm_103"}, {"sm_110", "sm_110"},
        {"sm_111", "sm_110"}, {"sm_129", "sm_121"}, {"sm_130", "sm_121"}, {"sm_200", "sm_121"},
    };
    for (size_t i = 0; i < sizeof nearest / sizeof *nearest; i++) {
        gen *g = generator_for(nearest[i][0], 0);
        cr_expect_str_eq(gen_tuned_as(g), nearest[i][1], "%s is tuned as %s, not %s", nearest[i][0],
                         gen_tuned_as(g), nearest[i][1]);
        gen_destroy(g);
    }
    cr_assert_null(gen_tuned_as(generator()));
}

Test(arch, table_knows_8_8_and_11_0)
{
    static const char *const same[][2] = {{"sm_88", "sm_86"}, {"sm_110", "sm_100"}};
    for (int i = 0; i < 2; i++) {
        cJSON *own = tuning_for(generator(), same[i][0]), *other = tuning_for(generator(), same[i][1]);
        cr_expect(cJSON_Compare(own, other, true), "%s is not tuned as %s", same[i][0], same[i][1]);
        cJSON_Delete(own);
        cJSON_Delete(other);
    }
}

Test(arch, resources_of_an_unlisted_architecture_are_the_devices)
{
    static const struct {
        size_t shared_bytes;
        const char *like;
    } devices[] = {{99 << 10, "sm_120"}, {227 << 10, "sm_90"}, {0, "sm_121"}};
    cJSON *small = tuning_for(generator(), "sm_120"), *large = tuning_for(generator(), "sm_90");
    cr_assert(!cJSON_Compare(small, large, true), "the spec does not tell them apart");
    cJSON_Delete(small);
    cJSON_Delete(large);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        gen *g = generator_for("sm_130", devices[i].shared_bytes);
        cJSON *tuning = tuning_for(g, "sm_130"), *like = tuning_for(g, devices[i].like);
        cr_expect(cJSON_Compare(tuning, like, true), "%zu bytes are not those of %s",
                  devices[i].shared_bytes, devices[i].like);
        cJSON_Delete(tuning);
        cJSON_Delete(like);
        gen_destroy(g);
    }
}

Test(arch, listed_architecture_stays_as_listed)
{
    gen *g = generator_for("sm_90", 50 << 10);
    cJSON *tuning = tuning_for(g, "sm_90"), *listed = tuning_for(generator(), "sm_90");
    cr_assert(cJSON_Compare(tuning, listed, true));
    cJSON_Delete(tuning);
    cJSON_Delete(listed);
    gen_destroy(g);
}

/* The architecture of a device is valid for the generator of that device, and for no other. */
Test(arch, unlisted_architecture_is_valid_only_beside_its_device)
{
    char *completed = NULL;
    gen *g = generator_for("sm_130", 0);
    cr_assert_eq(gen_complete_with(g, spec, &(const gen_completion){.arch = "sm_131"}, &completed, &err),
                 XQ_ERROR_SPEC);
    cr_assert(strstr(err.message, "sm_121, sm_130"), "%s", err.message);
    error_clear(&err);
    gen_destroy(g);
    generator_refuses("{" MODEL ", \"arch\": \"sm_130\"}", XQ_ERROR_SPEC, "arch", "sm_121");
}
