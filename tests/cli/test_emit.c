/* Tests xq emit: the contents of the folder, that compilers accept it, and what it refuses. This program
 * links no code of xq. */
#include "../support/command.h"
#include "../support/emitted.h"
#include "../support/files.h"
#include "../support/shell.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------- contents */

Test(emit, the_folder_holds_what_the_readme_says, .timeout = 300)
{
    static const char *const names[] = {"duo.h",
                                        "duo.c",
                                        "duo_plans.c",
                                        "example.c",
                                        "duo.mk",
                                        "README.md",
                                        "bundle.json",
                                        "CMakeLists.txt",
                                        "LICENSE",
                                        "LAYOUT.md",
                                        "kernels/lib/page.cuh",
                                        "kernels/2bit/sm_80/attend.cu",
                                        "kernels/4bit/sm_90a/append.cu"};
    const char *folder = emitted(emitted_spec(EMITTED_LATENT), "duo", "--bits 2,4 --arch sm_80,sm_90a");
    size_t size;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_expect(emitted_has(folder, names[i]), "%s", names[i]);
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `2bit` | all | latent | 2 |"), "%s", readme);
    cr_expect(strstr(readme, "| `4bit` | sm_90a | "));
    cr_expect(strstr(readme, "| `uk` | [256, 128] |") && strstr(readme, "| `av` | [64, 128] |"));
    cr_expect(strstr(readme, "[tokens, 256]") && strstr(readme, "| `max_tokens` | 512 |"));
    free(readme);
    char *kernel = files_read(files_path(folder, "kernels/2bit/sm_80/attend.cu"), &size);
    cr_expect(strstr(kernel, "2 bits") && strstr(kernel, "__global__"));
    free(kernel);
    /* The page about the layout has no links, which would lead nowhere. */
    char *layout = files_read(files_path(folder, "LAYOUT.md"), &size);
    cr_expect(strstr(layout, "## Cache pages") && !strstr(layout, ".md)"));
    free(layout);
}

Test(emit, weights_that_may_be_left_out_are_not_in_the_example, .timeout = 300)
{
    const char *folder = emitted(emitted_spec("\"cache\": {\"method\": \"latent\", \"feedback\": true}"),
                                 "fed", "--arch sm_80");
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size),
         *example = files_read(files_path(folder, "example.c"), &size);
    cr_expect(strstr(readme, "| `k_cost` | [128, 64] |"), "%s", readme);
    cr_expect(strstr(example, "weights.ak") && !strstr(example, "k_cost"), "%s", example);
    free(readme);
    free(example);
}

Test(emit, twice_gives_the_same_bytes, .timeout = 300)
{
    const char *spec = emitted_spec(EMITTED_LATENT);
    const char *first = emitted_keep(emitted(spec, "twin", "--arch sm_80")),
               *second = emitted(spec, "twin", "--arch sm_80");
    free(shell_output("diff -r %s %s", first, second));
    /* A bundle that is written over an earlier one removes that one's files, but no file of the user. */
    files_write(files_path(second, "mine.c"), "int mine;\n", 10);
    struct command_result r = command_run(
        "emit --spec %s --name twin --bits 2 --files --arch sm_80,sm_86 --out %s " EMITTED_LIMITS, spec,
        second);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(emitted_has(second, "plans/2bit.sm_86.xqplan") && !emitted_has(second, "kernels/4bit"));
    r = command_run("emit --spec %s --name twin --arch sm_80 --out %s " EMITTED_LIMITS, spec, second);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(emitted_has(second, "mine.c") && !emitted_has(second, "plans"));
    free(shell_output("diff -r -x mine.c %s %s", first, second));
}

static const char *const compilers[] = {"gcc -std=c99",          "gcc -std=c11",
                                        "clang -std=c99",        "clang -std=c11",
                                        "g++ -x c++ -std=c++17", "clang++ -x c++ -std=c++17"};

Test(emit, compilers_take_it_without_a_warning, .timeout = 300)
{
    const char *folder = emitted(emitted_spec(EMITTED_LATENT), "strict", "--arch sm_80");
    for (size_t i = 0; i < sizeof compilers / sizeof compilers[0]; i++)
        free(shell_output(
            "cd %s && for f in strict.c strict_plans.c example.c; do %s -Wall -Wextra -Werror -O1 -c $f "
            "-o out.o || exit 1; done",
            folder, compilers[i]));
}

Test(emit, exports_names_of_its_prefix_alone, .timeout = 300)
{
    const char *folder = emitted(emitted_spec(EMITTED_LATENT), "my_own", "--arch sm_80");
    char *names = shell_output(
        "cd %s && gcc -c my_own.c my_own_plans.c && nm -g --defined-only my_own.o my_own_plans.o | "
        "awk 'NF == 3 { print $3 }'",
        folder);
    cr_expect(strstr(names, "my_own_plan_attend\n") && strstr(names, "my_own_bundle_images\n"));
    for (char *name = strtok(names, "\n"); name; name = strtok(NULL, "\n"))
        cr_expect_eq(strncmp(name, "my_own_", 7), 0, "%s", name);
    free(names);
    free(shell_output(
        "cd %s && ! grep -n '\\bxq_[a-z]\\|[^$]\\bXQ_[A-Z]' my_own.h my_own_plans.c example.c && "
        "! grep -n '[$]MY_OWN' my_own.h my_own.c",
        folder));
    char *kept = shell_output("cd %s && grep -o '\\bXQ_[A-Z]*' my_own.c | sort -u", folder);
    cr_expect_str_eq(kept, "XQ_LIBCUDA\n");
    free(kept);
}

/* ---------------------------------------------------------------- kinds of layers */

Test(emit, each_kind_of_layer_has_a_plan, .timeout = 300)
{
    static const char *const types = "\"layer_types\": [\"sliding_attention\", \"sliding_attention\", "
                                     "\"full_attention\", \"sliding_attention\"]";
    char text[1024];
    int length = snprintf(
        text, sizeof text,
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64, \"num_hidden_layers\": 4, \"sliding_window\": 64, %s}}",
        types);
    const char *spec = files_path(files_directory(), "mixed.json");
    files_write(spec, text, (size_t)length);
    const char *folder = emitted(spec, "mixed", "--bits 4,8 --arch sm_80");
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `sliding-4bit` | 0-1, 3 |") && strstr(readme, "| `full-8bit` | 2 |"), "%s",
              readme);
    free(readme);
    folder = emitted(spec, "mixed", "--layer-kind full --arch sm_80");
    readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `full-4bit` | 2 |") && !strstr(readme, "sliding-4bit"), "%s", readme);
    free(readme);
}

Test(emit, a_cross_layer_cache_has_plans_before_and_after_its_base, .timeout = 300)
{
    const char *folder =
        emitted(emitted_spec("\"cache\": {\"method\": \"x-cl\", \"bits\": 2, \"page\": 32}"), "cl",
                "--arch sm_80 --base-layer 1");
    for (int i = 0; i < 3; i++)
        cr_expect(emitted_has(folder, (const char *[]){"kernels/plain-4bit/sm_80/attend.cu",
                                                       "kernels/base-4bit/sm_80/accumulate.cu",
                                                       "kernels/delta-2bit/sm_80/accumulate.cu"}[i]),
                  "%d", i);
    free(shell_output("cd %s && ! test -e kernels/plain-4bit/sm_80/accumulate.cu", folder));
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "**Accumulate** (`cl_plan_accumulate`)") && !strstr(readme, "`append_indptr`"),
              "%s", readme);
    free(readme);
    folder =
        emitted(emitted_spec(
                    "\"cache\": {\"method\": \"x\", \"axis_k\": \"channel\", \"group\": 32, \"page\": 32}"),
                "ch", "--arch sm_80");
    readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(!strstr(readme, "**Accumulate**") && strstr(readme, "`append_indptr`") &&
                  strstr(readme, " of the page, behind its records |"),
              "%s", readme);
    free(readme);
}

/* ---------------------------------------------------------------- tables */

Test(emit, parameters_come_from_tables, .timeout = 300)
{
    unsetenv("XQ_TUNED"); /* tests normally run without tables */
    const char *spec = emitted_spec(EMITTED_LATENT), *directory = files_directory(),
               *table = files_path(directory, "table.json");
    struct command_result r =
        command_run("tune --spec %s --families attend --contexts 64,512 --batches 1 --device sim:a100 "
                    "--strategy random --most 3 --store %s/s.db --quiet",
                    spec, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    r = command_run("tune export --store %s/s.db --out %s --quiet", directory, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    char options[4200];
    /* Shorter calls get other parameters, and therefore a kernel of their own. */
    free(shell_output("sed -i '/\"tokens\":64,/s/\"warps\":[0-9]*/\"warps\":4/; "
                      "/\"tokens\":512,/s/\"warps\":[0-9]*/\"warps\":8/' %s",
                      table));
    snprintf(options, sizeof options, "--arch sm_80 --table %s", table);
    const char *folder = emitted(spec, "tuned", options);
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `4bit` | sm_80 | ") && strstr(readme, "tuned on NVIDIA A100"), "%s",
              readme);
    free(readme);
}

/* ---------------------------------------------------------------- bad input */

Test(emit, bad_input_is_refused_before_the_work)
{
    static const struct {
        const char *arguments;
        int status;
        const char *line;
    } bad[] = {
        {"--model smollm2-135m", 2, "xq emit: --out DIR is missing; it names the folder to write to\n"},
        {"--model smollm2-135m --out -", 1, "xq emit: --out: '-' is standard output; valid: a folder\n"},
        {"--model smollm2-135m --out x --embed --files", 2,
         "xq emit: --embed and --files: give one of them\n"},
        {"--model smollm2-135m --out x --bits 4 --set cache.bits=2", 2,
         "xq emit: --bits and --set cache.bits: give one of them\n"},
        {"--model smollm2-135m --out x --arch sm_80 --set 'arch=\"sm_90\"'", 2,
         "xq emit: --set arch: --arch names the architectures\n"},
        {"--model smollm2-135m --out x --device cuda", 2,
         "xq emit: --device has no effect: --arch names the GPUs that the bundle is for\n"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct command_result r = command_run("emit %s", bad[i].arguments);
        cr_expect_eq(r.status, bad[i].status, "%s", bad[i].arguments);
        cr_expect(strncmp(r.err, bad[i].line, 12) == 0, "%s", r.err);
        if (i < 4)
            cr_expect_str_eq(r.err, bad[i].line);
        cr_expect_str_empty(r.out);
    }
    cr_expect_eq(access("x", F_OK), -1);
}

Test(emit, a_name_must_be_a_prefix_of_symbols)
{
    static const char *const names[] = {
        "Xq",   "9lives", "a-b",     "a__b",
        "a_",   "_a",     "example", "",
        "x",    "math",   "install", "plan",
        "cuda", "shape",  "without", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct command_result r = command_run("emit --model smollm2-135m --out x --name '%s'", names[i]);
        cr_expect_neq(r.status, 0, "%s", names[i]);
        cr_expect(strstr(r.err, "xq emit: --name"), "%s", r.err);
    }
}

/* The bytes do not depend on the folder. No kernel cache is used. */
Test(emit, bytes_do_not_depend_on_where_it_is_written, .timeout = 300)
{
    const char *spec = emitted_spec(EMITTED_LATENT), *folder = files_directory();
    free(shell_output(
        "cd %s && mkdir -p a b/longer && for f in a b/longer; do (cd $f && %s emit --spec %s --arch "
        "sm_80 --files "
        "--cache-dir '' --out bundle --quiet " EMITTED_LIMITS
        ") || exit 1; done && diff -r a/bundle b/longer/bundle",
        folder, command_program(), spec));
    free(shell_output("cd %s && ! grep -rla \"$PWD\" a/bundle", folder));
}

/* After a signal at any moment there is no bundle, a whole one, or one that the next emit completes. */
Test(emit, a_signal_leaves_no_half_bundle, .timeout = 300)
{
    const char *spec = emitted_spec(EMITTED_LATENT),
               *whole = emitted_keep(emitted(spec, "sig", "--arch sm_80"));
    for (int i = 0; i < 12; i++) {
        const char *folder = files_path(files_directory(), "bundle");
        if (i % 2)
            free(shell_output("cp -r %s %s && cd %s && mv sig.c old.c && sed -i s/sig.c/old.c/ bundle.json",
                              whole, folder, folder));
        pid_t pid =
            command_start("emit --spec %s --name sig --arch sm_80 --out %s " EMITTED_LIMITS, spec, folder);
        usleep((useconds_t)(i * 40000 + 20000));
        kill(pid, i % 3 ? SIGTERM : SIGINT);
        command_wait(pid);
        if (emitted_has(folder, "bundle.json") && !emitted_has(folder, "old.c"))
            free(shell_output("diff -r %s %s", whole, folder));
        else if (!emitted_has(folder, "bundle.json"))
            cr_expect_eq(access(folder, F_OK), -1);
        struct command_result r =
            command_run("emit --spec %s --name sig --arch sm_80 --out %s " EMITTED_LIMITS, spec, folder);
        cr_assert_eq(r.status, 0, "%s", r.err);
        free(shell_output("diff -r %s %s", whole, folder));
    }
}

Test(emit, one_process_at_a_time_writes_into_a_folder, .timeout = 120)
{
    const char *spec = emitted_spec(EMITTED_LATENT), *folder = files_path(files_directory(), "locked");
    char *output = NULL;
    char command[8192];
    snprintf(command, sizeof command, "mkdir %s && flock %s %s emit --spec %s --arch sm_80 --out %s",
             folder, folder, command_program(), spec, folder);
    cr_expect_eq(shell_run(command, &output), 1);
    cr_expect(strstr(output, "--out: another xq emit is writing into "), "%s", output);
    cr_expect_eq(files_count(folder), 0);
    free(output);
}

Test(emit, links_lead_nowhere_out_of_the_folder, .timeout = 120)
{
    const char *spec = emitted_spec(EMITTED_LATENT), *folder = emitted(spec, "linked", "--arch sm_80");
    const char *outside = emitted_keep(files_directory()),
               *precious = emitted_keep(files_path(outside, "precious"));
    files_write(precious, "mine\n", 5);
    /* The manifest lists a file that is reached through a link. That file is not removed. */
    free(shell_output(
        "cd %s && ln -s %s link && sed -i 's|\"bundle.json\"|\"link/precious\", &|' bundle.json && "
        "grep -q link/ bundle.json",
        folder, outside));
    struct command_result r =
        command_run("emit --spec %s --name linked --arch sm_80 --out %s " EMITTED_LIMITS, spec, folder);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(access(precious, F_OK), 0);
    /* A link in the place of a file is not written through. */
    free(shell_output("cd %s && ln -sf %s linked.c", folder, precious));
    r = command_run("emit --spec %s --name linked --arch sm_80 --out %s " EMITTED_LIMITS, spec, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "linked.c, and would replace it"), "%s", r.err);
    size_t size;
    char *kept = files_read(precious, &size);
    cr_expect_str_eq(kept, "mine\n");
    free(kept);
    /* The manifest belongs to another program. */
    const char *other = files_directory();
    files_write(files_path(other, "bundle.json"), "{\"plans\":[],\"files\":[\"notes.txt\"]}", 35);
    r = command_run("emit --spec %s --arch sm_80 --out %s", spec, other);
    cr_expect(r.status == 1 && strstr(r.err, "is no bundle that xq emit wrote"), "%s", r.err);
}

Test(emit, what_no_kernel_can_be_made_of_leaves_no_folder, .timeout = 120)
{
    static const char *const bad[][2] = {
        {"--arch sm_75", "'sm_75' is not known"},
        {"--bits 5", "cache.bits"},
        {"--layer-kind sliding", "layer_kind"},
        {"--base-layer 1", "--base-layer"},
        {"--set tuning.gemm.rows=64", "--set tuning.gemm: has no effect"},
        {"--table /nowhere.json", "/nowhere.json"},
        {"--max-batch 70000", "--max-batch"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *folder = files_path(files_directory(), "refused");
        struct command_result r = command_run("emit --model smollm2-135m --out %s %s", folder, bad[i][0]);
        cr_expect_neq(r.status, 0, "%s", bad[i][0]);
        cr_expect(strstr(r.err, bad[i][1]), "%s: %s", bad[i][0], r.err);
        cr_expect_eq(access(folder, F_OK), -1, "%s", bad[i][0]);
    }
}

Test(emit, files_that_are_no_bundles_are_not_replaced, .timeout = 120)
{
    const char *spec = emitted_spec(EMITTED_LATENT), *folder = files_directory();
    files_write(files_path(folder, "README.md"), "mine\n", 5);
    struct command_result r = command_run("emit --spec %s --arch sm_80 --out %s", spec, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "holds README.md, and is no bundle that xq emit wrote; valid: a new folder"),
              "%s", r.err);
    folder = emitted(spec, "mine", "--arch sm_80");
    files_write(files_path(folder, "other.h"), "mine\n", 5);
    r = command_run("emit --spec %s --arch sm_80 --name other --out %s", spec, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "other.h, and would replace it"), "%s", r.err);
    cr_expect(emitted_has(folder, "mine.h") && !emitted_has(folder, "other.c"));
}
