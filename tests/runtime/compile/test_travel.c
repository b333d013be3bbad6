/* Tests kernels that are compiled on one machine and used on another, from the build to the last bit of the
 * output. On the other machine everything is read-only, nobody has a home, and there is no NVRTC. Kernels
 * run on the software device. */
#include "../../support/command.h"
#include "../../support/files.h"
#include "../../support/layer_files.h"
#include "../../support/shell.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs a command. Its output stays valid until the next call. */
static const char *say(int expected, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *say(int expected, const char *format, ...)
{
    static char *output;
    char command[8000] = "{ ";
    va_list list;
    va_start(list, format);
    vsnprintf(command + 2, sizeof command - 8, format, list);
    va_end(list);
    strcat(command, "\n}"); /* the command's own redirections come first */
    free(output);
    int status = shell_run(command, &output);
    cr_assert_eq(status, expected, "%s: exit status %d: %s", command, status, output);
    return output;
}

/* The environment of a service in a container: no home, no toolchain, and nothing of the machine that
 * builds. */
#define SERVICE                                                                                            \
    "env -u HOME -u XDG_CACHE_HOME -u XQ_CACHE_DIR -u CUDA_HOME -u CUDA_PATH -u VIRTUAL_ENV XQ_TUNED= "    \
    "XQ_NVRTC=/nowhere/libnvrtc.so "

/* Returns the beginning of a command that makes every file system read-only for the rest of the command, in
 * a mount namespace of its own; "" if that is not permitted. Output goes to files that were opened
 * before. */
static const char *read_only(void)
{
    static const char script[] = "unshare --mount sh -c 'for m in $(cut -d\" \" -f2 /proc/mounts | grep -v "
                                 "\"^/\\(proc\\|sys\\|dev\\)\"); "
                                 "do mount -o remount,bind,ro \"$m\" 2>/dev/null; done; exec \"$@\"' sh ";
    char probe[8192], *output = NULL;
    const char *folder = files_directory();
    snprintf(probe, sizeof probe, "%s sh -c '! touch %s/file'", script, folder);
    bool works = shell_run(probe, &output) == 0 && files_count(folder) == 0;
    free(output);
    if (!works)
        cr_log_warn(
            "mount namespaces are not permitted here: that nothing is written shows in the store alone");
    return works ? script : "";
}

/* Lists the names, sizes, modes and times of everything in a folder, except the times of the last read. */
static char *snapshot(const char *folder)
{
    return strdup(say(0, "find '%s' -printf '%%p %%s %%m %%T@ %%C@\\n' | LC_ALL=C sort", folder));
}

static void is_unchanged(const char *folder, char *before)
{
    char *after = snapshot(folder);
    cr_expect(strcmp(after, before) == 0, "something in %s was changed", folder);
    free(before);
    free(after);
}

enum { TOKENS = 40, QUERIES = 3 };

/* Writes the files of a layer, and FOLDER/out.safetensors as this machine computes it. Returns the
 * folder. */
static const char *compute_here(void)
{
    struct layer layer = layer_random(TOKENS, QUERIES);
    const char *folder = layer_files_write(&layer, "latent", 4);
    struct command_result r = layer_files_run(folder, "");
    cr_assert_eq(r.status, 0, "%s", r.err);
    return folder;
}

static void export_plan(const char *folder)
{
    struct command_result r = command_run("cache export --to %s/store --spec %s/spec.json --device sim "
                                          "--max-tokens %d --max-queries %d",
                                          folder, folder, TOKENS, QUERIES);
    cr_assert_eq(r.status, 0, "%s", r.err);
}

static void is_same_output(const char *folder, const char *other)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/out.safetensors", folder);
    files_assert_same(path, other);
}

Test(travel, xq_run_in_a_container_is_bit_for_bit_that_of_the_build_machine)
{
    const char *folder = compute_here(), *seal = read_only();
    char store[PATH_MAX], there[PATH_MAX];
    export_plan(folder);
    snprintf(store, sizeof store, "%s/store", folder);
    snprintf(there, sizeof there, "%s/there.safetensors", folder);
    char *before = snapshot(store);
    const char *errors = say(0,
                             "%s " SERVICE "XQ_KERNELS='%s' XQ_NO_COMPILE=1 '%s' run --device sim --input "
                             "'%s/in.safetensors' --output - --spec '%s/spec.json' 2>&1 >'%s'",
                             seal, store, command_program(), folder, folder, there);
    cr_expect_str_empty(errors);
    is_same_output(folder, there);
    is_unchanged(store, before);
}

Test(travel, a_kernel_that_was_not_shipped_is_named)
{
    const char *folder = compute_here();
    export_plan(folder);
    const char *errors = say(3,
                             SERVICE "XQ_KERNELS='%s/store' XQ_NO_COMPILE=1 '%s' run --device sim --input "
                                     "'%s/in.safetensors' --output - --spec '%s/spec.json' --bits 8 "
                                     "2>&1 >'%s/there'",
                             folder, command_program(), folder, folder, folder);
    cr_expect(strstr(errors, "is neither in a kernel store nor in the cache") && strstr(errors, "8 bits") &&
                  strstr(errors, "/store"),
              "%s", errors);
    cr_expect_eq(strchr(errors, '\n'), errors + strlen(errors) - 1, "not one line: %s", errors);
    /* Options do the same as the environment. */
    errors = say(3,
                 SERVICE "'%s' run --kernels '%s/store' --no-compile --device sim --input "
                         "'%s/in.safetensors' --output - --spec '%s/spec.json' --bits 8 2>&1 >'%s/there'",
                 command_program(), folder, folder, folder, folder);
    cr_expect(strstr(errors, "no_compile forbids compiling it"), "%s", errors);
}

/* The program runs once where it is built. The cache of that run is exported, and the program runs
 * elsewhere. */
Test(travel, a_program_over_libxq_runs_with_the_kernels_of_an_earlier_run, .timeout = 120)
{
    const char *folder = files_directory(), *build = shell_build_folder(), *seal = read_only();
    char store[PATH_MAX];
    snprintf(store, sizeof store, "%s/store", folder);
    say(0,
        "cc " SHELL_SANITIZER " -Iinclude examples/minimal/minimal.c -o '%s/minimal' -L'%s' -lxq "
        "-Wl,-rpath,'%s'",
        folder, build, build);
    char *here = strdup(say(0, "XQ_CACHE_DIR='%s/cache' XQ_TUNED= '%s/minimal' sim", folder, folder));
    say(0, "XQ_CACHE_DIR='%s/cache' '%s' cache export --to '%s'", folder, command_program(), store);
    char *before = snapshot(store);
    const char *there =
        say(0, "%s " SERVICE "XQ_KERNELS='%s' XQ_NO_COMPILE=1 '%s/minimal' sim", seal, store, folder);
    cr_expect_str_eq(there, here);
    is_unchanged(store, before);
    free(here);
}

/* ------------------------------------------------------------ nowhere to write */

/* One kernel is missing in the store, and is compiled by this machine's NVRTC in this environment. Returns
 * the messages. */
static const char *compile_one(const char *environment)
{
    const char *folder = compute_here();
    char there[PATH_MAX];
    export_plan(folder);
    snprintf(there, sizeof there, "%s/there.safetensors", folder);
    say(0, "cd '%s/store/kernels' && rm -r $(grep -l 'name append' */options.txt | cut -d/ -f1)", folder);
    const char *errors = say(0,
                             "env -u XDG_CACHE_HOME -u XQ_CACHE_DIR %s XQ_TUNED= '%s' run --kernels "
                             "'%s/store' --device sim --input '%s/in.safetensors' --output - --spec "
                             "'%s/spec.json' 2>&1 >'%s'",
                             environment, command_program(), folder, folder, folder, there);
    is_same_output(folder, there);
    return errors;
}

static void says_once(const char *text, const char *part)
{
    const char *first = strstr(text, "warning: ");
    cr_expect(first && !strstr(first + 1, "warning: "), "not one warning: %s", text);
    cr_expect(strstr(text, part), "no '%s' in: %s", part, text);
}

Test(travel, without_a_home_kernels_live_in_memory_and_one_warning_says_so, .timeout = 120)
{
    says_once(compile_one("-u HOME"), "there is no kernel cache (HOME is not set");
}

Test(travel, a_home_that_does_not_exist_is_not_made, .timeout = 120)
{
    says_once(compile_one("HOME=/nonexistent"), "HOME is not a folder that exists: /nonexistent");
    say(1, "test -e /nonexistent");
}

Test(travel, a_cache_that_cannot_be_made_warns_once, .timeout = 120)
{
    says_once(compile_one("XQ_CACHE_DIR=/proc/xq"), "kernel cache /proc/xq cannot be written");
}

Test(travel, on_a_read_only_root_the_cache_warns_once, .timeout = 120)
{
    char environment[PATH_MAX];
    const char *seal = read_only(), *home = files_directory();
    if (!*seal)
        cr_skip_test("mount namespaces are not permitted here");
    snprintf(environment, sizeof environment, "HOME='%s' %s env", home, seal);
    says_once(compile_one(environment), "cannot be written (Read-only file system)");
    cr_expect_eq(files_count(home), 0);
}
