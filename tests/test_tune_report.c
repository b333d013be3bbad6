/* Tests what xq tune report says of stores whose answers are known. */
#include "../gen/gen.h"
#include "command.h"
#include "files.h"
#include "generator.h"
#include "store_fixture.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPEC "{\"cache\":{\"bits\":4},\"model\":\"smollm2-135m\"}"

/* Returns the hashes of the sources of a fused step, as xq tune stores them. */
static const char *today(void)
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

/* Returns the default parameters of attend on an RTX 4090, with these changes. The text stays valid until
 * the sixteenth call after this one. */
static const char *parameters(const char *changes)
{
    static cJSON *chosen;
    static char texts[16][512];
    static unsigned next;
    error err = ERROR_INIT;
    if (!chosen) {
        char *completed = NULL, *space = NULL;
        cr_assert_eq(gen_complete_with(generator(), SPEC, &(const gen_completion){.arch = "sm_89"},
                                       &completed, &err),
                     XQ_OK, "%s", err.message);
        cr_assert_eq(gen_space(generator(), completed, "attend", &space, &err), XQ_OK, "%s", err.message);
        cJSON *root = cJSON_Parse(space);
        chosen = cJSON_DetachItemFromObject(root, "chosen");
        cJSON_Delete(root);
        free(completed);
        free(space);
    }
    cJSON *all = cJSON_Duplicate(chosen, 1), *set = cJSON_Parse(changes), *item;
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

static const store_device software = {.name = "NVIDIA GeForce RTX 4090 (software device)",
                                      .arch = "sm_89",
                                      .capability = 89,
                                      .multiprocessors = 128,
                                      .memory_bytes = INT64_C(24) << 30,
                                      .is_sim = true,
                                      .nvrtc = 12080,
                                      .xq = "0.1.0"};
static const store_device gpu = {.name = "NVIDIA GeForce RTX 4090",
                                 .arch = "sm_89",
                                 .capability = 89,
                                 .multiprocessors = 128,
                                 .memory_bytes = INT64_C(24) << 30,
                                 .driver = 12060,
                                 .nvrtc = 12080,
                                 .xq = "0.1.0"};

static store_row row_of(const store_device *device, const char *changes)
{
    return (store_row){.question = {.device = *device,
                                    .spec = SPEC,
                                    .implementation = XQ_FUSED,
                                    .family = "attend",
                                    .bucket = {.tokens = 512, .batch = 2, .queries = 1},
                                    .source = today(),
                                    .mode = {.cold_l2 = true},
                                    .parameters = parameters(changes)}};
}

static void add_time(store *s, const store_device *device, const char *changes, double microseconds)
{
    store_row row = row_of(device, changes);
    row.answer = (store_answer){.seconds = 1e-6 * microseconds,
                                .spread = device->is_sim ? 0 : 0.5e-6,
                                .repeats = 30,
                                .taken = 1700000000};
    cr_assert(store_fixture_add(s, &row));
}

static void add_failure(store *s, const store_device *device, const char *changes, store_outcome outcome,
                        const char *reason)
{
    store_row row = row_of(device, changes);
    row.answer = (store_answer){.outcome = outcome, .taken = 1700000100};
    snprintf(row.answer.reason, sizeof row.answer.reason, "%s", reason);
    cr_assert(store_fixture_add(s, &row));
}

static store *new_store(const char **path)
{
    *path = files_path(files_directory(), "it.db");
    return store_fixture_open(*path, STORE_CREATE);
}

static void fill_software(store *s)
{
    add_time(s, &software, "{}", 10);
    add_time(s, &software, "{\"warps\":4}", 8);
    add_time(s, &software, "{\"warps\":4,\"stages\":2}", 9);
    add_failure(s, &software, "{\"warps\":16}", STORE_WRONG,
                "outputs differ by 0.5, at most 0.001 is right");
    add_failure(s, &software, "{\"warps\":16,\"stages\":2}", STORE_WRONG,
                "outputs differ by 1.25e-02, at most 0.001 is right");
    add_failure(s, &software, "{\"stages\":4}", STORE_REFUSED, "needs 123456 bytes of shared memory");
}

static const char *software_store(void)
{
    const char *path;
    store *s = new_store(&path);
    fill_software(s);
    store_close(s);
    return path;
}

/* ----------------------------------------------------------------- results */

static cJSON *report(const char *path)
{
    struct command_result r = command_run("tune report --store %s --json -", path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_empty(r.err);
    cJSON *root = cJSON_Parse(r.out);
    cr_assert_not_null(root, "%s", r.out);
    return root;
}

static const cJSON *at(const cJSON *root, const char *list, int index)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(root, list), index);
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    cr_assert(cJSON_IsNumber(item), "%s is no number", name);
    return item->valuedouble;
}

static const char *text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(object, name));
}

static void expect_near(double value, double expected)
{
    cr_expect(fabs(value - expected) <= 1e-9 * fabs(expected), "%.17g and %.17g", value, expected);
}

static void expect_has(const char *whole, const char *part)
{
    cr_expect(strstr(whole, part), "\"%s\" is not in: %s", part, whole);
}

/* ------------------------------------------------------------------- data */

Test(tune_report, gain_is_the_time_of_the_default_over_the_best)
{
    cJSON *root = report(software_store());
    const cJSON *c = at(root, "contests", 0);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "contests")), 1);
    expect_near(number(c, "gain"), 1.25);
    expect_near(number(cJSON_GetObjectItem(c, "default"), "time_us"), 10);
    expect_near(number(cJSON_GetObjectItem(c, "best"), "time_us"), 8);
    cr_expect_eq(number(cJSON_GetObjectItem(cJSON_GetObjectItem(c, "best"), "parameters"), "warps"), 4);
    cr_expect(cJSON_IsTrue(cJSON_GetObjectItem(c, "beyond_spread")));
    cr_expect_eq(number(c, "measured"), 3);
    cr_expect_eq(number(c, "wrong"), 2);
    cr_expect_eq(number(c, "failed"), 1);
    cr_expect_eq(number(c, "candidates"), 138);
    cr_expect_eq(number(root, "answers"), 6);
    cr_expect_str_eq(text(at(root, "devices", 0), "time_kind"), "modelled");
    cJSON_Delete(root);
}

Test(tune_report, sensitivity_is_the_best_time_with_the_worst_value_over_that_with_the_best)
{
    cJSON *root = report(software_store());
    const cJSON *c = at(root, "contests", 0), *warps = at(c, "sensitivity", 0),
                *stages = at(c, "sensitivity", 1);
    cr_expect_str_eq(text(warps, "parameter"), "warps");
    expect_near(number(warps, "worst_over_best"), 10.0 / 8);
    cr_expect_str_eq(text(stages, "parameter"), "stages");
    expect_near(number(stages, "worst_over_best"), 9.0 / 8);
    static const struct {
        double value, best;
        int measured, other;
    } expected[] = {{4, 8, 2, 0}, {8, 10, 1, 1}, {16, 0, 0, 2}};
    for (int i = 0; i < 3; i++) {
        const cJSON *v = at(warps, "values", i);
        cr_expect_eq(number(v, "value"), expected[i].value);
        cr_expect_eq(number(v, "measured"), expected[i].measured);
        cr_expect_eq(number(v, "not_measured"), expected[i].other);
        if (expected[i].measured)
            expect_near(number(v, "best_us"), expected[i].best);
        else
            cr_expect(cJSON_IsNull(cJSON_GetObjectItem(v, "best_us")));
    }
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(at(c, "sensitivity", 2), "worst_over_best")),
              "a parameter that had one value says nothing");
    cJSON_Delete(root);
}

Test(tune_report, reasons_that_differ_in_numbers_are_one)
{
    cJSON *root = report(software_store());
    const cJSON *c = at(root, "contests", 0), *first = at(c, "reasons", 0), *second = at(c, "reasons", 1);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(c, "reasons")), 2);
    cr_expect_str_eq(text(first, "outcome"), "wrong");
    cr_expect_str_eq(text(first, "reason"), "outputs differ by #, at most 0.001 is right");
    cr_expect_eq(number(first, "answers"), 2);
    cr_expect_str_eq(text(second, "outcome"), "refused");
    cr_expect_str_eq(text(second, "reason"), "needs 123456 bytes of shared memory");
    cr_expect_eq(number(second, "answers"), 1);
    cJSON_Delete(root);
}

/* The report must agree with what xq tune says of the same run. */
Test(tune_report, agrees_with_the_run_that_made_the_store, .timeout = 300)
{
    const char *folder = files_directory(), *path = files_path(folder, "it.db"),
               *json = files_path(folder, "run.json");
    struct command_result r = command_run("tune --model smollm2-135m --bits 4 --contexts 100 --device "
                                          "sim:rtx4090 --most 5 --store %s --json %s",
                                          path, json);
    cr_assert_eq(r.status, 0, "%s", r.err);
    size_t size;
    char *bytes = files_read(json, &size);
    cJSON *run = cJSON_Parse(bytes), *root = report(path);
    const cJSON *job = at(run, "jobs", 0), *c = at(root, "contests", 0);
    expect_near(number(c, "gain"), number(job, "gain"));
    expect_near(number(c, "limit_us"), number(job, "limit_us"));
    expect_near(number(c, "candidates"), number(cJSON_GetObjectItem(job, "combinations"), "valid"));
    cr_expect_eq(number(c, "measured"), 5);
    const cJSON *ceilings = cJSON_GetObjectItem(at(root, "devices", 0), "ceilings");
    expect_near(number(ceilings, "copy_bytes_per_second"), 1.008e12);
    cr_expect_str_eq(text(ceilings, "source"), "from the GPU's datasheet");
    store *s = store_fixture_open(path, STORE_READ);
    store_ceilings kept = {0};
    store_device device = software;
    bool found = false;
    error err = ERROR_INIT;
    device.nvrtc = (int)number(at(root, "devices", 0), "nvrtc");
    store_find_ceilings(s, &device, &kept, &found, &err);
    cr_expect(found, "the run keeps the ceilings in the store");
    store_close(s);
    cr_expect(cJSON_Compare(cJSON_GetObjectItem(c, "default_parameters"),
                            cJSON_GetObjectItem(cJSON_GetObjectItem(job, "default"), "parameters"), 1));
    cJSON_Delete(run);
    cJSON_Delete(root);
    free(bytes);
}

Test(tune_report, the_limit_follows_from_the_ceilings_that_the_store_has)
{
    const char *path;
    store *s = new_store(&path);
    store_device unlisted = gpu;
    unlisted.name = "NVIDIA Unheard-of";
    add_time(s, &unlisted, "{}", 10);
    const store_ceilings c = {1e11, 1e16, "both measured", 1700000000};
    error err = ERROR_INIT;
    cr_assert_eq(store_add_ceilings(s, &unlisted, &c, &err), XQ_OK, "%s", err.message);
    store_close(s);
    cJSON *root = report(path);
    const cJSON *contest = at(root, "contests", 0);
    expect_near(number(contest, "limit_us"), 1e6 * number(contest, "limit_bytes") / 1e11);
    cr_expect_str_eq(text(contest, "limited_by"), "bytes");
    cr_expect_str_eq(text(cJSON_GetObjectItem(at(root, "devices", 0), "ceilings"), "source"),
                     "both measured");
    cJSON_Delete(root);
}

Test(tune_report, answers_for_other_sources_are_counted_and_not_mixed_in)
{
    const char *path;
    store *s = new_store(&path);
    fill_software(s);
    store_row row = row_of(&software, "{\"warps\":4}");
    row.question.source = "0123456789abcdef";
    row.answer = (store_answer){.seconds = 1e-9, .repeats = 1, .taken = 1700000000};
    store_fixture_add(s, &row);
    store_close(s);
    cJSON *root = report(path);
    const cJSON *other = at(root, "other_sources", 0);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "contests")), 1);
    expect_near(number(at(root, "contests", 0), "gain"), 1.25);
    cr_expect_str_eq(text(other, "source"), "0123456789abcdef");
    cr_expect_eq(number(other, "answers"), 1);
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    expect_has(r.out,
               ": 7 answers, taken 2023-11-14 22:13 to 2023-11-14 22:15 UTC.\n"
               "1 of them belongs to other sources of the kernels than this xq has (1 other state), and "
               "is left out below.\n");
}

Test(tune_report, a_store_of_other_sources_alone_leaves_nothing)
{
    const char *path;
    store *s = new_store(&path);
    store_row row = store_fixture_row(1);
    store_fixture_add(s, &row);
    store_close(s);
    struct command_result r = command_run("tune report --store %s --html %s.html", path, path);
    cr_expect_eq(r.status, 0, "%s", r.err);
    expect_has(r.out, "1 answer, taken 2023-11-14 22:13 UTC.\n1 of them belongs to other sources");
    expect_has(r.out, "\nNothing is left to report.\n");
    char name[4200];
    size_t size;
    snprintf(name, sizeof name, "%s.html", path);
    char *html = files_read(name, &size);
    expect_has(html, "<p>Nothing is left to report.</p>");
    cr_expect_not(strstr(html, "<table"));
    free(html);
}

Test(tune_report, a_gain_within_the_spread_is_no_gain)
{
    const char *path;
    store *s = new_store(&path);
    add_time(s, &gpu, "{}", 10.2);
    add_time(s, &gpu, "{\"warps\":4}", 10);
    store_close(s);
    cJSON *root = report(path);
    expect_near(number(at(root, "contests", 0), "gain"), 1.02);
    cr_expect(cJSON_IsFalse(cJSON_GetObjectItem(at(root, "contests", 0), "beyond_spread")));
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    expect_has(r.out, " 1.020 ~ ");
    expect_has(r.out, "choose   the default: nothing is faster beyond the spread\n");
    cr_expect_not(strstr(r.out, "--set"));
}

Test(tune_report, modelled_times_are_held_against_measured_ones)
{
    const char *path;
    store *s = new_store(&path);
    fill_software(s);
    add_time(s, &gpu, "{}", 20);
    add_time(s, &gpu, "{\"warps\":4}", 18);
    add_time(s, &gpu, "{\"warps\":4,\"stages\":2}", 22);
    add_time(s, &gpu, "{\"warps\":16}", 30); /* the software device finds this one wrong */
    store_device other = gpu;
    other.capability = 90;
    add_time(s, &other, "{}", 20);
    store_close(s);
    cJSON *root = report(path);
    const cJSON *m = at(root, "modelled_against_measured", 0);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "modelled_against_measured")), 1);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(m, "pairs_us")), 3);
    expect_near(number(m, "median_measured_over_modelled"), 2.25);
    expect_near(number(m, "rank_correlation"), 0.5);
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    expect_has(r.out, ": 3 choices, 2.25, 0.500\n");
}

Test(tune_report, a_default_that_was_not_tried_or_is_not_known_is_said)
{
    const char *path;
    store *s = new_store(&path);
    add_time(s, &software, "{\"warps\":4}", 8);
    store_row row = row_of(&software, "{\"warps\":4}");
    row.question.spec = "{\"model\":\"no-such-model\"}";
    row.answer = (store_answer){.seconds = 1e-6, .repeats = 1, .taken = 1700000000};
    store_fixture_add(s, &row);
    row = row_of(&software, "{\"warps\":4}");
    row.answer = (store_answer){.seconds = 1e-6, .repeats = 1, .taken = 1700000000};
    row.question.device.name = "later in the list";
    row.question.device.arch = "sm_123"; /* not listed, so it is tuned as the nearest that is */
    store_fixture_add(s, &row);
    row.question.device.name = "last in the list";
    row.question.device.arch = "odd";
    store_fixture_add(s, &row);
    store_close(s);
    cJSON *root = report(path);
    const cJSON *known = at(root, "contests", 0), *unknown = at(root, "contests", 1);
    cr_expect(cJSON_IsObject(cJSON_GetObjectItem(at(root, "contests", 3), "default_parameters")));
    expect_has(text(at(root, "contests", 2), "default_unknown"), "arch: 'odd' is not known; ");
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(known, "default")));
    cr_expect(cJSON_IsObject(cJSON_GetObjectItem(known, "default_parameters")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(known, "gain")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(unknown, "default_parameters")));
    expect_has(text(unknown, "default_unknown"), "no-such-model");
    expect_near(number(cJSON_GetObjectItem(unknown, "best"), "time_us"), 1);
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    expect_has(r.out, "  default  was not tried: {");
    expect_has(r.out, "  default  not known: ");
}

/* -------------------------------------------------------------------- text */

Test(tune_report, text_says_the_same_as_the_data)
{
    struct command_result r = command_run("tune report --store %s", software_store());
    cr_assert_eq(r.status, 0, "%s", r.err);
    expect_has(r.out,
               "NVIDIA GeForce RTX 4090 (software device): sm_89, 128 multiprocessors, 24.0 GiB, NVRTC "
               "12.8, xq 0.1.0; times are MODELLED\n");
    expect_has(r.out, "attend           512      2        1          10           8  1.250  ");
    expect_has(r.out, "  3, 2, 1 of 138\n");
    expect_has(r.out,
               "\n1. attend: 512 tokens, batch 2, 1 query; fused, launched one after another, L2 cold; "
               "spec 1 on device 1\n");
    expect_has(r.out, "  choose   --set 'tuning.attend={\"warps\":4}'\n");
    expect_has(r.out, "   1.250   warps          4: 8, 8: 10, 16: -\n");
    expect_has(r.out, "   1.125   stages         2: 9, 3: 8, 4: -\n");
    expect_has(
        r.out,
        "  one value only: key_warps, m_tiles, query_rows, split_tokens, stage_steps, value_tiles\n");
    expect_has(r.out, "       2   wrong: outputs differ by #, at most 0.001 is right\n"
                      "       1   refused: needs 123456 bytes of shared memory\n");
    expect_has(r.out, "Modelled against measured: the store has no question that both");
}

/* Changes a store through SQLite, because the store's own functions refuse such texts. */
static void spoil(const char *path, const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(db);
}

#define HOSTILE                                                                                            \
    "UPDATE device SET name = '</title><script>alert(1)</script>&\"' || char(39, 27, 10, 7) || '[0]`id`';" \
    "UPDATE measurement SET reason = '<b>' || char(27) || '[2J&amp;' WHERE reason IS NOT NULL;"            \
    "UPDATE measurement SET parameters ="                                                                  \
    "  replace(parameters, '\"warps\":4', '\"warps\":\"<i>''; touch pwned; ''\\u001b\"')"

Test(tune_report, hostile_texts_reach_a_terminal_as_one_printable_line)
{
    const char *path = software_store();
    spoil(path, HOSTILE);
    struct command_result r = command_run("tune report --store %s", path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    for (const char *c = r.out; *c; c++)
        cr_assert((unsigned char)*c >= 0x20 || *c == '\n', "\\x%02x", (unsigned char)*c);
    cr_expect_not(strstr(r.out, "--set"), "a quote would end the word in a shell: %s", r.out);
}

/* -------------------------------------------------------------------- page */

/* Returns the HTML page of a store; the caller frees it. */
static char *page(const char *store_path)
{
    const char *path = files_path(files_directory(), "page.html");
    struct command_result r = command_run("tune report --store %s --html %s", store_path, path);
    size_t size;
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_empty(r.err);
    return files_read(path, &size);
}

static int occurrences(const char *whole, const char *part)
{
    int count = 0;
    while ((whole = strstr(whole, part))) {
        whole += strlen(part);
        count++;
    }
    return count;
}

/* The page must be XML without scripts. Ids must be unique, and references must name them. */
static void expect_valid(const char *html)
{
    static const char program[] =
        "import sys, xml.dom.minidom as m\n"
        "e = m.parse(sys.argv[1]).getElementsByTagName('*')\n"
        "ids = [x.getAttribute('id') for x in e if x.hasAttribute('id')]\n"
        "refs = [x.getAttribute(a)[1:] for x in e for a in ('href', 'xlink:href') if x.hasAttribute(a)]\n"
        "sys.exit(len(ids) != len(set(ids)) or not set(refs) <= set(ids) or\n"
        "         any(x.tagName == 'script' for x in e))\n";
    const char *folder = files_directory();
    char command[9000];
    files_write(files_path(folder, "it.html"), html, strlen(html));
    files_write(files_path(folder, "check.py"), program, strlen(program));
    snprintf(command, sizeof command, "python3 %s/check.py %s/it.html", folder, folder);
    cr_expect_eq(system(command), 0, "%s", html);
}

Test(tune_report, page_says_the_same_as_the_data)
{
    char *html = page(software_store());
    expect_valid(html);
    expect_has(html, "<td>attend</td><td class=\"n\">512</td><td class=\"n\">2</td><td class=\"n\">1</td>"
                     "<td class=\"n\">10</td><td class=\"n\">8</td><td class=\"n\">1.250</td>");
    expect_has(html, "<td class=\"n\">3</td><td class=\"n\">2</td><td class=\"n\">1</td><td "
                     "class=\"n\">138</td></tr>");
    expect_has(html, "<td>warps</td><td class=\"n\">1.250</td><td>4: 8 (2), 8: 10 (1), 16: no time (0 of "
                     "2)</td>");
    expect_has(html,
               "<td class=\"n\">2</td><td>wrong</td><td>outputs differ by #, at most 0.001 is right</td>");
    expect_has(html, "6 answers, taken 2023-11-14 22:13 to 2023-11-14 22:15 UTC");
    expect_has(html, "<p>The store has no question that both a software device and a GPU");
    cr_expect_eq(occurrences(html, "<svg "), 4, "gains, roofline, parameters, reasons");
    cr_expect_eq(occurrences(html, "<svg role=\"img\" aria-label="), 4);
    expect_has(html, "<text>1. attend: 512 tokens, batch 2, 1 query</text>");
    free(html);
}

Test(tune_report, page_of_many_contests_says_which_it_draws)
{
    const char *path;
    store *s = new_store(&path);
    for (int i = 0; i < 101; i++) {
        store_row row = row_of(&software, "{}");
        row.question.bucket.tokens += i;
        row.answer = (store_answer){.seconds = 1e-5, .repeats = 1, .taken = 1700000000};
        store_fixture_add(s, &row);
    }
    store_close(s);
    char *html = page(path);
    expect_has(html, "The first 100 are drawn; the table has all.");
    expect_has(html, "<text>100. attend: 611 tokens, batch 2, 1 query</text>");
    cr_expect_not(strstr(html, "<text>101. "));
    expect_has(html, ">101. attend: 612 tokens, batch 2, 1 query</h3>");
    free(html);
}

Test(tune_report, page_goes_to_standard_output_alone)
{
    const char *path = software_store();
    struct command_result r = command_run("tune report --store %s --html -", path);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(strncmp(r.out, "<!DOCTYPE html>\n", 16), 0);
    cr_expect_str_eq(r.out + strlen(r.out) - 8, "</html>\n");
    r = command_run("tune report --store %s --html - --json -", path);
    cr_expect_eq(r.status, 1);
    expect_has(r.err, "is the same file as --json; give another path\n");
}

Test(tune_report, page_plots_modelled_against_measured_times)
{
    const char *path;
    store *s = new_store(&path);
    fill_software(s);
    add_time(s, &gpu, "{}", 20);
    add_time(s, &gpu, "{\"warps\":4}", 18);
    store_close(s);
    char *html = page(path);
    expect_valid(html);
    expect_has(html, "<text>1 against 2</text>"); /* the GPU's name comes first */
    expect_has(html, "<td class=\"n\">1</td><td class=\"n\">2</td><td class=\"n\">2</td><td "
                     "class=\"n\">2.12</td><td class=\"n\">-</td>");
    free(html);
}

Test(tune_report, page_of_a_gpu_without_a_datasheet_says_so)
{
    const char *path;
    store *s = new_store(&path);
    store_device unlisted = gpu;
    unlisted.name = "NVIDIA Unheard-of";
    add_time(s, &unlisted, "{}", 10);
    store_close(s);
    char *html = page(path);
    expect_valid(html);
    expect_has(html, "<td>not known</td></tr>");
    expect_has(html, "The device&#39;s ceilings are not known");
    free(html);
}

Test(tune_report, page_escapes_hostile_texts_and_gnuplot_sees_none)
{
    const char *path = software_store();
    spoil(path, HOSTILE);
    char *html = page(path);
    expect_valid(html);
    cr_expect_not(strstr(html, "<script") || strstr(html, "<i>") || strstr(html, "<b>"));
    for (const char *c = html; *c; c++)
        cr_assert((unsigned char)*c >= 0x20 || strchr("\n\t", *c), "\\x%02x", (unsigned char)*c);
    expect_has(
        html, "&#60;/title&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#38;&#34;&#39;\\x1b\\x0a\\x07[0]");
    cr_expect_neq(access("pwned", F_OK), 0);
    free(html);
}

Test(tune_report, page_is_the_same_for_the_same_store)
{
    const char *path = software_store();
    char *first = page(path), *second = page(path);
    cr_expect_str_eq(first, second);
    free(first);
    free(second);
}

/* --------------------------------------------------------------- gnuplot */

/* From now on, commands find only this gnuplot, or none if it is NULL. */
static void only_gnuplot(const char *script)
{
    const char *folder = files_directory();
    if (script) {
        files_write(files_path(folder, "gnuplot"), script, strlen(script));
        cr_assert_eq(chmod(files_path(folder, "gnuplot"), 0755), 0);
    }
    setenv("PATH", folder, 1);
}

#define FAKE "#!/bin/sh\nif [ \"$1\" = --version ]; then echo gnuplot 5.4; exit 0; fi\n"

Test(tune_report, text_needs_no_gnuplot_and_the_page_names_its_package)
{
    const char *path = software_store(), *folder = files_directory(), *html = files_path(folder, "it.html");
    char command[9000];
    only_gnuplot(NULL);
    struct command_result r = command_run("tune report --store %s", path);
    cr_expect_eq(r.status, 0, "%s", r.err);
    snprintf(command, sizeof command, "tune report --store %s --html %s", path, html);
    command_refuses(command, 3,
                    "xq tune report: plots need gnuplot, which is not on the PATH; install the package "
                    "gnuplot-nox (Debian, Ubuntu) or gnuplot");
    cr_expect_eq(files_count(folder), 0);
}

Test(tune_report, a_failing_gnuplot_is_heard_and_the_old_page_stays)
{
    const char *path = software_store();
    char *html = strdup(files_path(files_directory(), "it.html")), command[9000];
    files_write(html, "old", 3);
    snprintf(command, sizeof command, "tune report --store %s --html %s", path, html);
    only_gnuplot(FAKE "printf '\\nplot y\\n     ^\\nline 7: undefined variable: y\\n' >&2; exit 3\n");
    command_refuses(command, 1,
                    "xq tune report: gnuplot failed with status 3: line 7: undefined variable: y");
    only_gnuplot(FAKE "kill -9 $$\n");
    command_refuses(command, 1, "xq tune report: gnuplot was ended by signal 9, Killed");
    only_gnuplot(FAKE "echo '<svg></svg>'\n");
    command_refuses(command, 1, "xq tune report: gnuplot made 1 of 4 plots and gave no reason");
    size_t size;
    char *text = files_read(html, &size);
    cr_expect_str_eq(text, "old");
    free(text);
    free(html);
}

Test(tune_report, gnuplot_does_not_outlive_the_command, .timeout = 60)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGKILL};
    const char *path = software_store(), *folder = files_directory(), *said = files_path(folder, "pid");
    char script[5000];
    snprintf(script, sizeof script, FAKE "echo $$ > %s.new\nmv %s.new %s\nexec sleep 1000\n", said, said,
             said);
    char *old = strdup(getenv("PATH"));
    only_gnuplot(script);
    char both[9000];
    snprintf(both, sizeof both, "%s:%s", getenv("PATH"), old);
    setenv("PATH", both, 1);
    cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* orphans become this test's children */
    for (int i = 0; i < 3; i++) {
        pid_t command = command_start("tune report --store %s --html %s/it.html", path, folder);
        while (access(said, F_OK) != 0)
            usleep(10000);
        size_t size;
        char *text = files_read(said, &size);
        pid_t gnuplot = (pid_t)strtol(text, NULL, 10);
        cr_assert_eq(unlink(said), 0);
        cr_assert_eq(kill(command, signals[i]), 0);
        cr_expect_eq(command_wait(command), -1);
        int status;
        cr_expect_eq(waitpid(gnuplot, &status, 0), gnuplot);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        free(text);
    }
    free(old);
}

/* ------------------------------------------------------------------ errors */

Test(tune_report, what_is_no_store_is_refused)
{
    const char *folder = files_directory();
    char line[4300], command[4300];
    command_refuses("tune report", 2, "xq tune report: there is no store to report; give --store FILE");
    command_refuses("tune report --stor x", 2,
                    "xq tune report: unknown option '--stor'; did you mean '--store'?");
    command_refuses("tune report --store x --device sim", 2,
                    "xq tune report: --device: nothing is measured; leave it out");
    command_refuses("tune report --store x y", 2,
                    "xq tune report: unexpected argument 'y'; usage: xq tune report [options]");
    command_refuses("tune report --store x --html /nowhere/x.html", 1,
                    "xq tune report: cannot write /nowhere/x.html: No such file or directory");
    command_refuses("tune report --store /nowhere/x.db", 1,
                    "xq tune report: cannot read /nowhere/x.db: No such file or directory");
    files_write(files_path(folder, "text"), "text", 4);
    snprintf(command, sizeof command, "tune report --store %s/text", folder);
    struct command_result r = command_run("%s", command);
    cr_expect_eq(r.status, 1);
    snprintf(line, sizeof line, "xq tune report: %s/text is ", folder);
    cr_expect_eq(strncmp(r.err, line, strlen(line)), 0, "%s", r.err);
    cr_expect_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1);
}

Test(tune_report, an_empty_and_a_damaged_store_are_refused)
{
    const char *path;
    char line[4300], command[4300];
    store_close(new_store(&path));
    snprintf(command, sizeof command, "tune report --store %s", path);
    snprintf(line, sizeof line,
             "xq tune report: --store: %s holds no measurements yet; `xq tune --store` adds some", path);
    command_refuses(command, 1, line);
    store *s = store_fixture_open(path, STORE_WRITE);
    fill_software(s);
    store_close(s);
    size_t size;
    char *bytes = files_read(path, &size);
    memset(bytes + size / 2, 0xff, size / 4);
    files_write(path, bytes, size);
    free(bytes);
    struct command_result r = command_run("%s", command);
    cr_expect_eq(r.status, 1);
    expect_has(r.err, " is damaged: ");
    cr_expect_str_empty(r.out);
}

Test(tune_report, the_store_is_no_output)
{
    const char *path = software_store();
    static const char *const options[] = {"json", "html"};
    for (int i = 0; i < 2; i++) {
        struct command_result r = command_run("tune report --store %s --%s %s", path, options[i], path);
        cr_expect_eq(r.status, 1);
        expect_has(r.err, "is the same file as --store ");
    }
    store *s = store_fixture_open(path, STORE_READ);
    cr_expect_eq(store_fixture_count(s), 6);
    store_close(s);
}

Test(tune_report, a_store_of_thousands_of_answers)
{
    const char *path;
    char sql[512];
    store *s = new_store(&path);
    add_time(s, &software, "{}", 10);
    store_close(s);
    snprintf(
        sql, sizeof sql,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        "INSERT INTO measurement (device, spec, implementation, family, tokens, batch, queries, source,"
        " cold_l2, in_graph, parameters, outcome, taken, reason) SELECT device, spec, implementation,"
        " family, tokens + i %% 100, batch, queries, source, cold_l2, in_graph, '{\"warps\":' || i || '}',"
        " 'refused', taken, 'reason ' || i FROM measurement, n WHERE outcome = 'measured'");
    spoil(path, sql);
    cJSON *root = report(path);
    cr_expect_eq(number(root, "answers"), 20001);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "contests")), 100);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "reasons")), 1);
    cr_expect_eq(number(at(root, "reasons", 0), "answers"), 20000);
    cJSON_Delete(root);
}

/* -------------------------------------------------------------------- help */

Test(tune_report, help_of_a_part_is_that_of_its_option)
{
    static const char *const parts[] = {"merge", "report"};
    for (int i = 0; i < 2; i++) {
        struct command_result r = command_run("tune %s --help", parts[i]);
        char *option = strdup(r.out);
        r = command_run("help tune %s", parts[i]);
        cr_expect_eq(r.status, 0, "%s", r.err);
        cr_expect_str_eq(r.out, option);
        cr_expect(strstr(r.out, "usage: xq tune "));
        free(option);
    }
    command_refuses("help tune x", 2, "xq: unexpected argument 'x'; usage: xq help [SUBCOMMAND]");
    command_refuses("help info report", 2, "xq: unexpected argument 'report'; usage: xq help [SUBCOMMAND]");
    struct command_result r = command_run("tune --help");
    expect_has(r.out, "xq tune report --store FILE");
}
