/* Tests xq tune replay: how near to the best the search comes, in spaces that were recorded on the software
 * device. All times are modelled. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACES "docs/results/space-"

static const char *const spaces[] = {
    SPACES "smollm2-135m-4bit-512-rtx4090.json",   SPACES "llama-3.2-1b-4bit-1024-h100.json",
    SPACES "smollm2-135m-x-2bit-256x4-a100.json",  SPACES "smollm2-135m-4bit-1024x16-rtx4090.json",
    SPACES "gemm-smollm2-135m-4bit-512-a100.json",
};
enum { COUNT = sizeof spaces / sizeof spaces[0] };

static double after(const cJSON *space, int measurements, const char *strategy)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(space, "after"))
    {
        if (cJSON_GetNumberValue(cJSON_GetObjectItem(row, "measurements")) == measurements)
            return cJSON_GetNumberValue(cJSON_GetObjectItem(row, strategy));
    }
    cr_expect_fail("nothing is said of %d measurements", measurements);
    return 0;
}

/* docs/tuning.md must have the table that scripts/plot-replay.py prints. */
static void expect_in_page(const char *page, const cJSON *space)
{
    char row[512];
    const int counts[] = {8, 16, 32};
    int at =
        snprintf(row, sizeof row, "| %s | %g |", cJSON_GetStringValue(cJSON_GetObjectItem(space, "space")),
                 cJSON_GetNumberValue(cJSON_GetObjectItem(space, "candidates")));
    for (int i = 0; i < 3; i++)
        at += snprintf(row + at, sizeof row - (size_t)at, " %.1f / %.1f |",
                       100 * after(space, counts[i], "model"), 100 * after(space, counts[i], "random"));
    cr_expect(strstr(page, row), "docs/tuning.md lacks '%s'; run scripts/plot-replay.py", row);
}

/* The goal is 97 % of the best after 16 measurements. */
Test(tune_replay, sixteen_measurements_find_nearly_the_best)
{
    size_t size;
    char *page = files_read("docs/tuning.md", &size);
    for (int i = 0; i < COUNT; i++) {
        cJSON *root = command_json("tune replay %s --json -", spaces[i]);
        const cJSON *space = cJSON_GetArrayItem(root, 0);
        cr_assert_not_null(space);
        cr_expect_geq(after(space, 16, "model"), 0.97, "%s", spaces[i]);
        cr_expect_leq(after(space, 16, "model"), 1);
        cr_expect_float_eq(after(space, 1, "model"), after(space, 1, "random"), 1e-9,
                           "the default is the first of both");
        cr_expect_gt(after(space, 16, "model"), after(space, 16, "random"), "%s", spaces[i]);
        expect_in_page(page, space);
        cJSON_Delete(root);
    }
    free(page);
}

Test(tune_replay, the_table_names_each_space)
{
    struct command_result r = command_run("tune replay %s %s", spaces[0], spaces[2]);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(
        strstr(r.out,
               "attend, smollm2-135m, 4 bits, 1 x 512 tokens, sm_89: 144 candidates, best 3.574 us\n"),
        "%s", r.out);
    cr_expect(strstr(r.out, "attend, smollm2-135m, x, 2 bits, 4 x 256 tokens, sm_80: 144 candidates"), "%s",
              r.out);
    cr_expect(strstr(r.out, "\n  measurements      1      2      4      6      8     12     16"), "%s",
              r.out);
}

/* Returns a copy of a recorded space in which `from` is replaced by `to`. */
static const char *changed(const char *from, const char *to)
{
    size_t size;
    char *text = files_read(spaces[0], &size), *place = strstr(text, from);
    cr_assert_not_null(place, "%s", from);
    char *all = malloc(size + strlen(to) + 1);
    sprintf(all, "%.*s%s%s", (int)(place - text), text, to, place + strlen(from));
    const char *path = files_path(files_directory(), "space.json");
    files_write(path, all, strlen(all));
    free(all);
    free(text);
    return path;
}

Test(tune_replay, a_file_that_is_no_whole_space_is_refused)
{
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"jobs\":", "\"works\":", "it is no result of xq tune --json"},
        {"\"valid\":144", "\"valid\":145",
         "some candidates of a job were not tried; record the space with --strategy exhaustive"},
        {"\"time_us\":", "\"hours\":", "a measured trial has no time_us above 0"},
        {"\"default\":", "\"usual\":", "a job has no measured default among its trials"},
        {"\"multiprocessors\":", "\"processors\":", "\"model\" lacks multiprocessors"},
        {"\"work\":", "\"play\":", "a trial has no \"work\" for the cost model"},
        {"\"tokens\":512", "\"tokens\":0", "tokens, batch and queries must be at least 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct command_result r = command_run("tune replay %s", changed(cases[i].from, cases[i].to));
        cr_expect_eq(r.status, 1, "%s", cases[i].from);
        cr_expect(strstr(r.err, cases[i].message), "%s: %s", cases[i].from, r.err);
    }
    command_refuses("tune replay", 2,
                    "xq tune replay: missing argument; usage: xq tune replay FILE... [options]");
    struct command_result r = command_run("tune replay none.json");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "none.json"), "%s", r.err);
}

/* Numbers of a recording that no kernel can have are refused, and a recording is not overwritten by an
 * output. */
Test(tune_replay, a_recording_is_checked_and_stays)
{
    static const char *const faults[][3] = {{"work", "query_rows", "0"},
                                            {"work", "query_rows", "-1"},
                                            {"resources", "tile_tokens", "1e308"},
                                            {"resources", "tile_tokens", "1152921504606846976"}};
    size_t size;
    char *text = files_read(spaces[0], &size);
    char path[1024];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "space.json"));
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        cJSON *root = cJSON_Parse(text);
        cJSON *job = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "jobs"), 0),
              *trial = cJSON_GetArrayItem(cJSON_GetObjectItem(job, "trials"), 0);
        cJSON_ReplaceItemInObject(cJSON_GetObjectItem(trial, faults[i][0]), faults[i][1],
                                  cJSON_CreateNumber(atof(faults[i][2])));
        char *changed = cJSON_PrintUnformatted(root);
        files_write(path, changed, strlen(changed));
        struct command_result r = command_run("tune replay %s", path);
        cr_expect_eq(r.status, 1, "%s: %s", faults[i][1], faults[i][2]);
        cr_expect(strstr(r.err, faults[i][1]), "%s", r.err);
        cJSON_free(changed);
        cJSON_Delete(root);
    }
    files_write(path, text, size);
    struct command_result r = command_run("tune replay %s --json %s", path, path);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "is the same file as"), "%s", r.err);
    char *after_it = files_read(path, &size);
    cr_expect_str_eq(after_it, text);
    free(after_it);
    free(text);
}
