#include "report_store.h"
#include "../../gen/gen.h"
#include "../support/files.h"
#include "../support/generator.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *report_source(void)
{
    static const char *const families[] = {"attend", "absorb", "accumulate", "key_norms", "append"};
    static char source[STORE_TEXT + 1];
    for (int i = 0; i < 5 && strlen(source) < 84; i++) {
        gen_hash hash;
        error err = ERROR_INIT;
        cr_assert_eq(gen_family_source(generator(), families[i], &hash, &err), XQ_OK, "%s", err.message);
        sprintf(source + strlen(source), "%s%s", i ? "-" : "", hash.hex);
    }
    return source;
}

/* The parameters of attend on an RTX 4090 (gen_space). They belong to this file. */
static const cJSON *space_of_attend(void)
{
    static cJSON *root;
    error err = ERROR_INIT;
    char *completed = NULL, *space = NULL;
    if (root)
        return root;
    cr_assert_eq(gen_complete_with(generator(), REPORT_SPEC, &(const gen_completion){.arch = "sm_89"},
                                   &completed, &err),
                 XQ_OK, "%s", err.message);
    cr_assert_eq(gen_space(generator(), completed, "attend", &space, &err), XQ_OK, "%s", err.message);
    root = cJSON_Parse(space);
    free(completed);
    free(space);
    return root;
}

int report_candidates(void)
{
    return (int)generator_number(space_of_attend(), "combinations.valid");
}

/* Returns the default parameters of attend, with these changes. The text stays valid until the sixteenth
 * call after this one. */
static const char *parameters(const char *changes)
{
    static char texts[16][512];
    static unsigned next;
    cJSON *all = cJSON_Duplicate(cJSON_GetObjectItem(space_of_attend(), "chosen"), 1),
          *set = cJSON_Parse(changes), *item;
    while ((item = cJSON_DetachItemFromArray(set, 0))) {
        char name[64];
        snprintf(name, sizeof name, "%s", item->string);
        cJSON_DeleteItemFromObject(all, name);
        cJSON_AddItemToObject(all, name, item);
    }
    char *text = cJSON_PrintUnformatted(all), *out = texts[next++ % 16];
    snprintf(out, sizeof texts[0], "%s", text);
    free(text);
    cJSON_Delete(all);
    cJSON_Delete(set);
    return out;
}

const store_device report_software = {.name = "NVIDIA GeForce RTX 4090 (software device)",
                                      .arch = "sm_89",
                                      .capability = 89,
                                      .multiprocessors = 128,
                                      .memory_bytes = INT64_C(24) << 30,
                                      .is_sim = true,
                                      .nvrtc = 12080,
                                      .xq = "0.1.0"};
const store_device report_gpu = {.name = "NVIDIA GeForce RTX 4090",
                                 .arch = "sm_89",
                                 .capability = 89,
                                 .multiprocessors = 128,
                                 .memory_bytes = INT64_C(24) << 30,
                                 .driver = 12060,
                                 .nvrtc = 12080,
                                 .xq = "0.1.0"};

store_row report_row(const store_device *device, const char *changes)
{
    return (store_row){.question = {.device = *device,
                                    .spec = REPORT_SPEC,
                                    .implementation = XQ_FUSED,
                                    .family = "attend",
                                    .bucket = {.tokens = 512, .batch = 2, .queries = 1},
                                    .source = report_source(),
                                    .mode = {.cold_l2 = true},
                                    .parameters = parameters(changes)}};
}

void report_add_time(store *s, const store_device *device, const char *changes, double microseconds)
{
    store_row row = report_row(device, changes);
    row.answer = (store_answer){.seconds = 1e-6 * microseconds,
                                .spread = device->is_sim ? 0 : 0.5e-6,
                                .repeats = 30,
                                .taken = 1700000000};
    cr_assert(store_fixture_add(s, &row));
}

void report_add_failure(store *s, const store_device *device, const char *changes, store_outcome outcome,
                        const char *reason)
{
    store_row row = report_row(device, changes);
    row.answer = (store_answer){.outcome = outcome, .taken = 1700000100};
    snprintf(row.answer.reason, sizeof row.answer.reason, "%s", reason);
    cr_assert(store_fixture_add(s, &row));
}

store *report_new_store(const char **path)
{
    *path = files_path(files_directory(), "it.db");
    return store_fixture_open(*path, STORE_CREATE);
}

void report_fill(store *s)
{
    report_add_time(s, &report_software, "{}", 10);
    report_add_time(s, &report_software, "{\"warps\":4}", 8);
    report_add_time(s, &report_software, "{\"warps\":4,\"stages\":2}", 9);
    report_add_failure(s, &report_software, "{\"warps\":16}", STORE_WRONG,
                       "outputs differ by 0.5, at most 0.001 is right");
    report_add_failure(s, &report_software, "{\"warps\":16,\"stages\":2}", STORE_WRONG,
                       "outputs differ by 1.25e-02, at most 0.001 is right");
    report_add_failure(s, &report_software, "{\"stages\":4}", STORE_REFUSED,
                       "needs 123456 bytes of shared memory");
}

const char *report_store(void)
{
    const char *path;
    store *s = report_new_store(&path);
    report_fill(s);
    store_close(s);
    return path;
}

void report_has(const char *whole, const char *part)
{
    cr_expect(strstr(whole, part), "\"%s\" is not in: %s", part, whole);
}
