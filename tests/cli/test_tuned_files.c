/* Tests the files of tuned parameters that commands read, and those that `xq tune export` writes from a
 * store. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "../support/generator.h"
#include "../support/tuned_plans.h"
#include "../support/tuned_table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ------------------------------------------------------------- the user's files */

static const char *write_table(const char *folder, const char *name, const struct tuned_result *results,
                               int count)
{
    const char *path = files_path(folder, name),
               *text = tuned_table(TUNED_SPEC_FOR("sm_80"), results, count);
    files_write(path, text, strlen(text));
    return path;
}

Test(tuned_files, tables_are_looked_for_in_two_places)
{
    const struct tuned_result four = {.device = "In the folder"}, eight = {.device = "Named", .warps = 8};
    const char *config = files_directory();
    char home[1024], named[1024];
    snprintf(home, sizeof home, "%s", files_directory());
    cr_assert_eq(mkdir(files_path(config, "xq"), 0777), 0);
    snprintf(named, sizeof named, "%s", write_table(config, "named.json", &eight, 1));
    write_table(files_path(config, "xq"), "tuned.json", &four, 1);
    unsetenv("XQ_TUNED");
    setenv("HOME", home, 1);
    unsetenv("XDG_CONFIG_HOME");
    tuned_gen_prints("\"tuned\":\t{\n\t},");
    setenv("XDG_CONFIG_HOME", config, 1);
    tuned_gen_prints("\"device\":\t\"In the folder\"");
    setenv("XQ_TUNED", named, 1);
    tuned_gen_prints("\"device\":\t\"Named\"");
    setenv("XQ_TUNED", "", 1);
    tuned_gen_prints("\"tuned\":\t{\n\t},");
    setenv("XDG_CONFIG_HOME", "relative", 1); /* it is ignored, as the XDG specification demands */
    unsetenv("XQ_TUNED");
    tuned_gen_prints("\"tuned\":\t{\n\t},");
    char command[8192];
    snprintf(command, sizeof command, "mkdir -p %s/.config/xq && cp %s %s/.config/xq/tuned.json", home,
             named, home);
    cr_assert_eq(system(command), 0);
    tuned_gen_prints("\"device\":\t\"Named\"");
}

Test(tuned_files, a_table_that_cannot_be_read_is_an_error)
{
    const char *folder = files_directory();
    char line[4096];
    setenv("XQ_TUNED", "/nowhere/tuned.json", 1);
    command_refuses(
        "gen --print-spec --model smollm2-135m", 1,
        "xq gen: XQ_TUNED: table of tuned parameters /nowhere/tuned.json: No such file or directory");
    setenv("XQ_TUNED", folder, 1);
    snprintf(line, sizeof line, "xq gen: XQ_TUNED: table of tuned parameters %s: is no regular file",
             folder);
    command_refuses("gen --print-spec --model smollm2-135m", 1, line);
    files_write(files_path(folder, "bad.json"), "{\"xq_tuned\": 1}", 15);
    setenv("XQ_TUNED", files_path(folder, "bad.json"), 1);
    struct command_result r = command_run("run --help");
    cr_expect_eq(r.status, 0, "%s", r.err);
    r = command_run("info --device sim --json -");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "\"tuned_error\"") && strstr(r.out, "bad.json: results: is missing"), "%s",
              r.out);
    xq_context *context;
    xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
    o.device = "sim";
    cr_assert_eq(xq_context_create(&o, &context), XQ_OK);
    char *completed;
    cr_expect_eq(xq_spec_complete(context, TUNED_SPEC_FOR("sm_80"), &completed), XQ_ERROR_FORMAT);
    xq_context_destroy(context);
}

Test(tuned_files, info_tells_how_many_results_are_for_the_device)
{
    const struct tuned_result results[] = {
        {.device = "NVIDIA GeForce RTX 4090 (software device)", .multiprocessors = 128},
        {.device = "NVIDIA GeForce RTX 4090 (software device)"},
        {.capability = 80},
        {.capability = 90},
        {.source = "0123456789abcdef"}};
    tuned_table_use(TUNED_SPEC_FOR("sm_80"), results, 5);
    struct command_result r = command_run("info --device sim:rtx4090");
    cr_expect(
        strstr(r.out,
               "t.json: 5 results, for this device 1, for others of its capability 1, of its family 1; "
               "1 are for kernels that have changed since\n"),
        "%s", r.out);
}

/* ---------------------------------------------------------------------- export */

static const char *tuned_store(const char *more)
{
    const char *path = files_path(files_directory(), "store.db");
    struct command_result r = command_run("tune --spec %s --device sim:rtx4090 --most 6 --store %s %s",
                                          tuned_spec_file(), path, more);
    cr_assert_eq(r.status, 0, "%s", r.err);
    return path;
}

Test(tuned_files, a_store_becomes_a_table_that_is_used, .timeout = 300)
{
    char store[1024], table[1024];
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 200,2000 --queries 1"));
    snprintf(table, sizeof table, "%s", files_path(files_directory(), "table.json"));
    setenv("XQ_TUNED", "/nowhere", 1); /* must not be read */
    struct command_result r = command_run("tune export --store %s --out %s", store, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strncmp(r.out, "2 results: ", 11) == 0, "%s", r.out);
    size_t size;
    char *text = files_read(table, &size);
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    cr_expect_eq(lines, 4, "one line a result: %s", text);
    cJSON *root = cJSON_Parse(text);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "results")), 2);
    for (int i = 0; i < 2; i++) {
        const cJSON *result = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "results"), i);
        cr_expect_eq(generator_number(result, "tokens"), i ? 2000 : 200);
        cr_expect_leq(generator_number(result, "seconds"), generator_number(result, "default_seconds"));
    }
    cJSON_Delete(root);
    free(text);
    setenv("XQ_TUNED", table, 1);
    r = command_run("info --device sim:rtx4090");
    cr_expect(strstr(r.out, "2 results, for this device 2"), "%s", r.out);
    xq_context *context = tuned_context(NULL);
    xq_plan *plan = tuned_plan(context, TUNED_SPEC_FOR("sm_89"), 2000);
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    cr_expect_eq(info.parameters_from, XQ_FROM_DEVICE);
    xq_plan_destroy(plan);
    xq_context_destroy(context);

    /* The tuner compares with the families' own defaults, whatever the tables say. */
    cJSON *again = command_json("tune --spec %s --device sim:rtx4090 --most 2 --contexts 2000 --json -",
                                tuned_spec_file());
    cr_expect_eq(generator_number(again, "jobs.0.default.parameters.warps"), 8);
    cJSON_Delete(again);
}

Test(tuned_files, many_queries_are_of_a_shape_of_their_own, .timeout = 300)
{
    char store[1024], table[1024];
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 200 --queries 4"));
    snprintf(table, sizeof table, "%s", files_path(files_directory(), "table.json"));
    struct command_result r = command_run("tune export --quiet --store %s --out %s", store, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_str_eq(r.out, "");
    setenv("XQ_TUNED", table, 1);
    r = command_run("gen --print-spec --spec %s --set 'queries=\"many\"'", tuned_spec_file());
    cr_expect(strstr(r.out, "\"queries\":\t4"), "%s", r.out);
    tuned_gen_prints("\"tuned\":\t{\n\t},");
}

/* A store may hold what a table cannot. The rows that can be used are exported. */
Test(tuned_files, rows_that_cannot_be_used_are_left_out, .timeout = 120)
{
    static const char script[] =
        "import sqlite3, sys\n"
        "d = sqlite3.connect(sys.argv[1])\n"
        "d.execute('update measurement set seconds = 1e-12 where tokens = 100')\n"
        "d.execute('insert into spec values (9, ?)', ('{\"model\":\"gone-1b\"}',))\n"
        "d.execute('update measurement set spec = 9 where tokens = 200')\n"
        "d.execute('update measurement set family = ? where tokens = 300', ('nope',))\n"
        "d.commit()\n";
    char store[1024], table[1024], command[4096];
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 100,200,300,400"));
    snprintf(table, sizeof table, "%s", files_path(files_directory(), "table.json"));
    const char *path = files_path(files_directory(), "change.py");
    files_write(path, script, sizeof script - 1);
    snprintf(command, sizeof command, "python3 %s %s", path, store);
    cr_assert_eq(system(command), 0);
    struct command_result r = command_run("tune export --store %s --out %s", store, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strncmp(r.out, "1 result: ", 10) == 0, "%s", r.out);
    cr_expect(strstr(r.out, "left out: 3 results that this xq cannot use"), "%s", r.out);
    setenv("XQ_TUNED", table, 1);
    tuned_gen_prints("\"tokens\":\t400");
}

Test(tuned_files, exporting_refuses_what_it_cannot_use, .timeout = 120)
{
    const char *folder = files_directory();
    char command[8192], line[8192], store[1024];
    command_refuses("tune export", 2, "xq tune export: there is no store to export; give --store FILE");
    command_refuses("tune export --store x.db", 2,
                    "xq tune export: there is no file for the table; give --out FILE");
    snprintf(command, sizeof command, "tune export --store /nowhere.db --out %s/t.json", folder);
    cr_expect_eq(command_run("%s", command).status, 1);
    snprintf(store, sizeof store, "%s", tuned_store("--contexts 200"));
    snprintf(command, sizeof command, "tune export --store %s --out %s", store, store);
    snprintf(line, sizeof line,
             "xq tune export: --out %s is the same file as --store %s; give another path", store, store);
    command_refuses(command, 1, line);

    /* The kernels have changed since they were measured. */
    snprintf(command, sizeof command,
             "cp templates/attend.cu.lt templates/attend.spec.lua %s/ && echo ';' >>%s/attend.cu.lt",
             folder, folder);
    cr_assert_eq(system(command), 0);
    snprintf(command, sizeof command, "tune export --store %s --out %s/t.json --templates %s", store,
             folder, folder);
    snprintf(line, sizeof line,
             "xq tune export: %s has nothing to export; results of kernels that have changed since: 1; "
             "results without a "
             "measured default: 0; results that this xq cannot use: 0",
             store);
    command_refuses(command, 1, line);
    cr_expect_eq(files_count(folder), 2, "a table was begun, and stayed");
}
