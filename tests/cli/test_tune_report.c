/* Tests what xq tune report says of stores whose answers are known: its data, its text, and its errors. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "report_store.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- results */

static cJSON *report(const char *path)
{
    struct command_result r = command_run("tune report --store %s --json -", path);
    cr_assert_str_empty(r.err);
    cJSON *root = command_json_of(&r);
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

/* ------------------------------------------------------------------- data */

Test(tune_report, gain_is_the_time_of_the_default_over_the_best)
{
    cJSON *root = report(report_store());
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
    cr_expect_eq(number(c, "candidates"), report_candidates());
    cr_expect_eq(number(root, "answers"), 6);
    cr_expect_str_eq(text(at(root, "devices", 0), "time_kind"), "modelled");
    cJSON_Delete(root);
}

Test(tune_report, sensitivity_is_the_best_time_with_the_worst_value_over_that_with_the_best)
{
    cJSON *root = report(report_store());
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
    cJSON *root = report(report_store());
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
    cJSON *run = command_json_file(json), *root = report(path);
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
    store_device device = report_software;
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
}

Test(tune_report, the_limit_follows_from_the_ceilings_that_the_store_has)
{
    const char *path;
    store *s = report_new_store(&path);
    store_device unlisted = report_gpu;
    unlisted.name = "NVIDIA Unheard-of";
    report_add_time(s, &unlisted, "{}", 10);
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
    store *s = report_new_store(&path);
    report_fill(s);
    store_row row = report_row(&report_software, "{\"warps\":4}");
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
    report_has(r.out,
               ": 7 answers, taken 2023-11-14 22:13 to 2023-11-14 22:15 UTC.\n"
               "1 of them belongs to other sources of the kernels than this xq has (1 other state), and "
               "is left out below.\n");
}

Test(tune_report, a_store_of_other_sources_alone_leaves_nothing)
{
    const char *path;
    store *s = report_new_store(&path);
    store_row row = store_fixture_row(1);
    store_fixture_add(s, &row);
    store_close(s);
    struct command_result r = command_run("tune report --store %s --html %s.html", path, path);
    cr_expect_eq(r.status, 0, "%s", r.err);
    report_has(r.out, "1 answer, taken 2023-11-14 22:13 UTC.\n1 of them belongs to other sources");
    report_has(r.out, "\nNothing is left to report.\n");
    char name[4200];
    size_t size;
    snprintf(name, sizeof name, "%s.html", path);
    char *html = files_read(name, &size);
    report_has(html, "<p>Nothing is left to report.</p>");
    cr_expect_not(strstr(html, "<table"));
    free(html);
}

Test(tune_report, a_gain_within_the_spread_is_no_gain)
{
    const char *path;
    store *s = report_new_store(&path);
    report_add_time(s, &report_gpu, "{}", 10.2);
    report_add_time(s, &report_gpu, "{\"warps\":4}", 10);
    store_close(s);
    cJSON *root = report(path);
    expect_near(number(at(root, "contests", 0), "gain"), 1.02);
    cr_expect(cJSON_IsFalse(cJSON_GetObjectItem(at(root, "contests", 0), "beyond_spread")));
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    report_has(r.out, " 1.020 ~ ");
    report_has(r.out, "choose   the default: nothing is faster beyond the spread\n");
    cr_expect_not(strstr(r.out, "--set"));
}

Test(tune_report, modelled_times_are_held_against_measured_ones)
{
    const char *path;
    store *s = report_new_store(&path);
    report_fill(s);
    report_add_time(s, &report_gpu, "{}", 20);
    report_add_time(s, &report_gpu, "{\"warps\":4}", 18);
    report_add_time(s, &report_gpu, "{\"warps\":4,\"stages\":2}", 22);
    report_add_time(s, &report_gpu, "{\"warps\":16}", 30); /* the software device finds this one wrong */
    store_device other = report_gpu;
    other.capability = 90;
    report_add_time(s, &other, "{}", 20);
    store_close(s);
    cJSON *root = report(path);
    const cJSON *m = at(root, "modelled_against_measured", 0);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "modelled_against_measured")), 1);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(m, "pairs_us")), 3);
    expect_near(number(m, "median_measured_over_modelled"), 2.25);
    expect_near(number(m, "rank_correlation"), 0.5);
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    report_has(r.out, ": 3 choices, 2.25, 0.500\n");
}

Test(tune_report, a_default_that_was_not_tried_or_is_not_known_is_said)
{
    const char *path;
    store *s = report_new_store(&path);
    report_add_time(s, &report_software, "{\"warps\":4}", 8);
    store_row row = report_row(&report_software, "{\"warps\":4}");
    row.question.spec = "{\"model\":\"no-such-model\"}";
    row.answer = (store_answer){.seconds = 1e-6, .repeats = 1, .taken = 1700000000};
    store_fixture_add(s, &row);
    row = report_row(&report_software, "{\"warps\":4}");
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
    report_has(text(at(root, "contests", 2), "default_unknown"), "arch: 'odd' is not known; ");
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(known, "default")));
    cr_expect(cJSON_IsObject(cJSON_GetObjectItem(known, "default_parameters")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(known, "gain")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(unknown, "default_parameters")));
    report_has(text(unknown, "default_unknown"), "no-such-model");
    expect_near(number(cJSON_GetObjectItem(unknown, "best"), "time_us"), 1);
    cJSON_Delete(root);
    struct command_result r = command_run("tune report --store %s", path);
    report_has(r.out, "  default  was not tried: {");
    report_has(r.out, "  default  not known: ");
}

/* -------------------------------------------------------------------- text */

Test(tune_report, text_says_the_same_as_the_data)
{
    struct command_result r = command_run("tune report --store %s", report_store());
    char counts[32];
    cr_assert_eq(r.status, 0, "%s", r.err);
    report_has(r.out,
               "NVIDIA GeForce RTX 4090 (software device): sm_89, 128 multiprocessors, 24.0 GiB, NVRTC "
               "12.8, xq 0.1.0; times are MODELLED\n");
    report_has(r.out, "attend           512      2        1          10           8  1.250  ");
    snprintf(counts, sizeof counts, "  3, 2, 1 of %d\n", report_candidates());
    report_has(r.out, counts);
    report_has(r.out,
               "\n1. attend: 512 tokens, batch 2, 1 query; fused, launched one after another, L2 cold; "
               "spec 1 on device 1\n");
    report_has(r.out, "  choose   --set 'tuning.attend={\"warps\":4}'\n");
    report_has(r.out, "   1.250   warps          4: 8, 8: 10, 16: -\n");
    report_has(r.out, "   1.125   stages         2: 9, 3: 8, 4: -\n");
    report_has(
        r.out,
        "  one value only: key_warps, m_tiles, query_rows, split_tokens, stage_steps, value_tiles\n");
    report_has(r.out, "       2   wrong: outputs differ by #, at most 0.001 is right\n"
                      "       1   refused: needs 123456 bytes of shared memory\n");
    report_has(r.out, "Modelled against measured: the store has no question that both");
}

Test(tune_report, hostile_texts_reach_a_terminal_as_one_printable_line)
{
    const char *path = report_store();
    store_fixture_execute(path, REPORT_HOSTILE);
    struct command_result r = command_run("tune report --store %s", path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    for (const char *c = r.out; *c; c++)
        cr_assert((unsigned char)*c >= 0x20 || *c == '\n', "\\x%02x", (unsigned char)*c);
    cr_expect_not(strstr(r.out, "--set"), "a quote would end the word in a shell: %s", r.out);
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
    store_close(report_new_store(&path));
    snprintf(command, sizeof command, "tune report --store %s", path);
    snprintf(line, sizeof line,
             "xq tune report: --store: %s holds no measurements yet; `xq tune --store` adds some", path);
    command_refuses(command, 1, line);
    store *s = store_fixture_open(path, STORE_WRITE);
    report_fill(s);
    store_close(s);
    size_t size;
    char *bytes = files_read(path, &size);
    memset(bytes + size / 2, 0xff, size / 4);
    files_write(path, bytes, size);
    free(bytes);
    struct command_result r = command_run("%s", command);
    cr_expect_eq(r.status, 1);
    report_has(r.err, " is damaged: ");
    cr_expect_str_empty(r.out);
}

Test(tune_report, the_store_is_no_output)
{
    const char *path = report_store();
    static const char *const options[] = {"json", "html"};
    for (int i = 0; i < 2; i++) {
        struct command_result r = command_run("tune report --store %s --%s %s", path, options[i], path);
        cr_expect_eq(r.status, 1);
        report_has(r.err, "is the same file as --store ");
    }
    store *s = store_fixture_open(path, STORE_READ);
    cr_expect_eq(store_fixture_count(s), 6);
    store_close(s);
}

Test(tune_report, a_store_of_thousands_of_answers)
{
    const char *path;
    char sql[512];
    store *s = report_new_store(&path);
    report_add_time(s, &report_software, "{}", 10);
    store_close(s);
    snprintf(
        sql, sizeof sql,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        "INSERT INTO measurement (device, spec, implementation, family, tokens, batch, queries, source,"
        " cold_l2, in_graph, parameters, outcome, taken, reason) SELECT device, spec, implementation,"
        " family, tokens + i %% 100, batch, queries, source, cold_l2, in_graph, '{\"warps\":' || i || '}',"
        " 'refused', taken, 'reason ' || i FROM measurement, n WHERE outcome = 'measured'");
    store_fixture_execute(path, sql);
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
    report_has(r.out, "xq tune report --store FILE");
}
