/* Tests xq tune with a store: what it answers, and runs that are interrupted, merged or divided. */
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"
#include "tuning_run.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Interrupts a long run once it has measured the default. Returns the exit status of the run. */
static int interrupted_run(const char *arguments, const char *output)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "one.db"));
    pid_t pid = command_start("tune --spec %s --device sim --contexts 2000 --batches 4 --store %s %s %s",
                              tuning_spec(), path, arguments, output);
    tuning_wait_for_a_row(path);
    kill(pid, SIGINT);
    return command_wait(pid);
}

Test(tune_store, an_interrupt_ends_it_with_what_there_is, .timeout = 300)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "out.json"));
    cr_expect_eq(interrupted_run("--json", path), 1);
    cJSON *root = command_json_file(path);
    const cJSON *job = tuning_job(root, 0);
    cr_assert_not_null(job);
    cr_expect(!cJSON_IsTrue(cJSON_GetObjectItem(job, "complete")));
    cJSON_Delete(root);
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "out.txt"));
    cr_expect_eq(interrupted_run(">", path), 1);
    size_t size;
    char *table = files_read(path, &size);
    cr_expect(strstr(table, ", interrupted\n"), "%s", table);
    free(table);
}

/* Returns the number of trials that a run took from the store. */
static int from_store(const char *path, const char *arguments)
{
    struct command_result r =
        command_run("tune --spec %s --device sim --store %s %s", tuning_spec(), path, arguments);
    cr_assert_eq(r.status, 0, "%s", r.err);
    const char *found = strstr(r.out, " from the store");
    while (found && found > r.out && found[-1] != ' ')
        found--;
    return found ? atoi(found) : 0;
}

Test(tune_store, a_store_answers_what_was_measured_before, .timeout = 300)
{
    const char *folder = files_directory();
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(folder, "one.db"));
    cr_expect_eq(from_store(path, "--contexts 50 --most 4"), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --most 4"), 4);
    cr_expect_eq(from_store(path, "--contexts 50 --most 6"), 4, "the order is the same, and longer");
    cr_expect_eq(from_store(path, "--contexts 51 --most 4"), 0, "another size");
    cr_expect_eq(from_store(path, "--contexts 50 --most 4 --bits 2"), 0, "another spec");
    cr_expect_eq(from_store(path, "--contexts 50 --most 4 --families kv_attend"), 0, "another family");
    const char *again = "--contexts 50 --most 4 --json - --store ";
    char arguments[4300];
    snprintf(arguments, sizeof arguments, "%s%s", again, path);
    cJSON *root = tuning_run(arguments);
    cr_expect_gt(tuning_number(tuning_job(root, 0), "limit_us"), 0, "the last rounds are measured");
    cJSON_Delete(root);
    /* A step of the unfused pipeline runs other families too. */
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 1);
    struct command_result r =
        command_run("tune --spec %s --device sim --store %s --contexts 50 --families rope "
                    "--set tuning.gemm.stages=2",
                    tuning_spec(), path);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "tuning.gemm: a store records the parameters of rope only"), "%s", r.err);
    r = command_run("tune --spec %s --device sim --contexts 50 --families rope --set tuning.gemm.stages=2",
                    tuning_spec());
    cr_expect_eq(r.status, 0, "%s", r.err);
    /* Tuning in the spec is where the search begins; it does not make another question. */
    cr_expect_geq(from_store(path, "--contexts 50 --most 4 --set tuning.attend.stages=2"), 2);
}

/* The kernels of a changed template are other kernels. */
Test(tune_store, a_store_does_not_answer_for_a_changed_template, .timeout = 300)
{
    const char *folder = files_directory();
    char path[4096], arguments[4200];
    snprintf(path, sizeof path, "%s", files_path(folder, "one.db"));
    cr_expect_eq(from_store(path, "--contexts 50 --most 3"), 0);
    const char *changed_folder = tuning_templates("templates/attend.cu.lt", "{${guard}", "{${guard} ;");
    snprintf(arguments, sizeof arguments, "--contexts 50 --most 3 --templates %s", changed_folder);
    cr_expect_eq(from_store(path, arguments), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --most 3"), 3);
    /* A step of rope runs gemm too. */
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 0);
    changed_folder = tuning_templates("templates/gemm.cu.lt", "{${guard}", "{${guard} ;");
    snprintf(arguments, sizeof arguments, "--contexts 50 --families rope --templates %s", changed_folder);
    cr_expect_eq(from_store(path, arguments), 0);
    cr_expect_eq(from_store(path, "--contexts 50 --families rope"), 1);
}

Test(tune_store, a_killed_run_goes_on_where_it_was, .timeout = 300)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", files_path(files_directory(), "one.db"));
    pid_t pid = command_start("tune --spec %s --device sim --contexts 300 --strategy exhaustive --store %s",
                              tuning_spec(), path);
    tuning_wait_for_a_row(path);
    kill(pid, SIGKILL);
    cr_expect_eq(command_wait(pid), -1);
    cr_expect_geq(from_store(path, "--contexts 300 --strategy exhaustive --most 4"), 1);
}

Test(tune_store, stores_are_merged, .timeout = 300)
{
    const char *folder = files_directory();
    char stores[3][4096];
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.db", i);
        snprintf(stores[i], sizeof stores[i], "%s", files_path(folder, name));
    }
    from_store(stores[0], "--contexts 50 --most 3");
    from_store(stores[1], "--contexts 60 --most 2");
    struct command_result r = command_run("tune merge %s %s --out %s", stores[0], stores[1], stores[2]);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "5 rows read, 5 kept: "), "%s", r.out);
    sleep(1); /* later measurements must be newer, and times are whole seconds */
    cr_expect_eq(from_store(stores[2], "--contexts 50 --most 3"), 3);
    cr_expect_eq(from_store(stores[2], "--contexts 60 --most 2"), 2);
    r = command_run("tune merge $(for i in $(seq 40); do cp %s %s/copy$i; echo %s/copy$i; done) --out %s",
                    stores[0], folder, folder, stores[2]);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "120 rows read, 0 kept: "), "%s", r.out);
    command_refuses("tune merge $(seq 1025) --out a.db", 2,
                    "xq tune merge: '1025' is one argument too many; valid: at most 1024 arguments");
    command_refuses("tune merge a.db", 2, "xq tune merge: there is no store for the rows; give --out FILE");
    r = command_run("tune merge %s/none.db --out %s/new.db", folder, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "none.db: No such file or directory"), "%s", r.err);
}

/* A cluster works like this: each machine takes one part of the candidates, and one store is made out of
 * all. */
Test(tune_store, shards_together_are_the_whole, .timeout = 300)
{
    const char *folder = files_directory();
    int tried = 0;
    for (int i = 1; i <= 2; i++) {
        cJSON *root = command_json("tune --spec %s --device sim --contexts 33 --strategy exhaustive "
                                   "--shard %d/12 --store %s/%d.db --json -",
                                   tuning_spec(), i, folder, i);
        tried += cJSON_GetArraySize(cJSON_GetObjectItem(tuning_job(root, 0), "trials"));
        cJSON_Delete(root);
    }
    cr_expect_gt(tried, 4);
    struct command_result r =
        command_run("tune merge %s/1.db %s/2.db --out %s/all.db", folder, folder, folder);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(atoi(r.out), tried, "%s", r.out);
}

Test(tune_store, a_foreign_store_is_refused_before_any_work)
{
    const char *path = tuning_spec();
    struct command_result r =
        command_run("tune --spec %s --device sim --contexts 50 --store %s", tuning_spec(), path);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "spec.json"), "%s", r.err);
    r = command_run("tune --spec %s --dry-run --store x.db", tuning_spec());
    cr_expect_eq(r.status, 2);
    cr_expect(strstr(r.err, "--store: has no effect with --dry-run"), "%s", r.err);
}
