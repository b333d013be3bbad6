/* Tests how commands treat the files and streams that they write: these are tried before the work and
 * checked after it, and nothing is destroyed. */
#include "../support/command.h"
#include "../support/fake_nvrtc.h"
#include "../support/files.h"
#include "../support/layer_files.h"
#include "../support/model_files.h"
#include "../support/shell.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Returns an empty kernel cache that only this test uses. */
static const char *empty_cache(void)
{
    static const char *folder;
    if (!folder)
        folder = files_directory();
    return folder;
}

/* Runs a line of shell with an empty kernel cache. $xq stands for the program. */
static int shell(char **output, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int shell(char **output, const char *format, ...)
{
    char command[6000], line[7000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    snprintf(line, sizeof line, "xq='%s' XQ_CACHE_DIR='%s'; export XQ_CACHE_DIR; ( %s )", command_program(),
             empty_cache(), command);
    return shell_run(line, output);
}

static void assert_holds(const char *path, const char *text)
{
    size_t size;
    char *data = files_read(path, &size);
    cr_assert_str_eq(data, text, "%s", path);
    free(data);
}

static bool is_json(const char *text)
{
    cJSON *json = cJSON_Parse(text);
    cJSON_Delete(json);
    return json != NULL;
}

/* --------------------------------------------------------- standard output */

#define SPEC "--model smollm2-135m"
static const char *const printing[] = {
    "--version",
    "--help",
    "info --help",
    "gen --help",
    "prepare --help",
    "run --help",
    "compare --help",
    "verify --help",
    "cache --help",
    "info --device sim",
    "info --device sim --json -",
    "gen --list-models",
    "gen --features",
    "gen --print-spec " SPEC,
    "gen --family attend " SPEC,
    "cache list",
    "cache list --json -",
    "cache verify",
    "cache clear",
    "cache prune --older-than 1",
    "cache clear --json -",
};
enum { PRINTING = sizeof printing / sizeof printing[0] };

/* The command must end with status 1 and one line that says why. */
static void assert_unwritable(const char *arguments, const char *redirection, const char *why)
{
    char *said, expected[256];
    int status = shell(&said, "$xq %s %s", arguments, redirection);
    const char *name = arguments[0] == '-' ? "" : arguments;
    snprintf(expected, sizeof expected, "xq%s%.*s: cannot write to standard output: %s\n", *name ? " " : "",
             (int)strcspn(name, " "), name, why);
    cr_assert_eq(status, 1, "xq %s %s: exit status %d", arguments, redirection, status);
    cr_assert_str_eq(said, expected, "xq %s %s", arguments, redirection);
    free(said);
}

Test(outputs, a_full_standard_output_is_an_error, .timeout = 120)
{
    for (int i = 0; i < PRINTING; i++)
        assert_unwritable(printing[i], ">/dev/full", "No space left on device");
}

Test(outputs, a_closed_standard_output_is_an_error, .timeout = 120)
{
    for (int i = 0; i < PRINTING; i++)
        assert_unwritable(printing[i], ">&-", "Bad file descriptor");
}

/* The report cannot be printed, but the work is done: the files are complete, and the message says so. */
static void keeps(const char *file, const char *said_of_files, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void keeps(const char *file, const char *said_of_files, const char *format, ...)
{
    char arguments[2048], expected[1024], *said;
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    snprintf(expected, sizeof expected,
             "xq %.*s: cannot write to standard output: No space left on device; %s\n",
             (int)strcspn(arguments, " "), arguments, said_of_files);
    cr_assert_eq(shell(&said, "$xq %s >/dev/full", arguments), 1, "%s", said);
    cr_assert_str_eq(said, expected);
    cr_assert_eq(access(file, R_OK), 0, "%s", file);
    free(said);
}

Test(outputs, a_full_standard_output_loses_no_file, .timeout = 120)
{
    char folder[256], file[300], json[300], text[700], model[256];
    const struct layer layer = layer_random(5, 1);
    const struct model_change nothing = {0};
    snprintf(folder, sizeof folder, "%s", layer_files_write(&layer, "x", 4));
    snprintf(model, sizeof model, "%s", model_files(&nothing));
    snprintf(file, sizeof file, "%s/out.safetensors", folder);
    snprintf(json, sizeof json, "%s/out.json", folder);
    snprintf(text, sizeof text, "%s is complete", file);
    keeps(file, text, "prepare %s --out %s", model, file);
    struct command_result r = command_run("prepare --show %s", file);
    cr_assert_eq(r.status, 0, "%s", r.err);
    keeps(file, text, "run --spec %s/spec.json --input %s/in.safetensors --output %s --device sim", folder,
          folder, file);
    snprintf(text, sizeof text, "%s and 1 more file are complete", file);
    keeps(json, text, "prepare %s --out %s --json %s", model, file, json);
    snprintf(text, sizeof text, "%s is complete", json);
    keeps(json, text, "compare --synthetic --tokens 32 --bits 4 --device sim " SPEC " --json %s", json);
    keeps(json, text, "info --device sim --json %s", json);
    keeps(json, text, "cache list --json %s", json);
    snprintf(text, sizeof text, "%s/gen/gemm.sm_80.cu and ", folder);
    char *said;
    cr_assert_eq(shell(&said, "$xq gen --family gemm " SPEC " --out %s/gen >/dev/full", folder), 1);
    cr_assert(strstr(said, text) && strstr(said, " more files are complete\n"), "%s", said);
    free(said);
}

/* The signal of this limit would otherwise end the command without a message and leave half a file. */
Test(outputs, a_limit_on_the_size_of_files_is_a_full_disk, .timeout = 60)
{
    static const char *const commands[] = {
        "gen --list-parameters --json %s/out.json",
        "gen --quiet " SPEC " --out %s/gen",
        "gen --list-parameters >%s/listed",
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const char *folder = files_directory();
        char command[600], *said;
        snprintf(command, sizeof command, commands[i], folder);
        cr_expect_eq(shell(&said, "ulimit -f 2; $xq %s", command), 1, "%s", command);
        cr_expect(strstr(said, ": File too large\n"), "%s", said);
        cr_expect_eq(files_count(folder), strchr(command, '>') ? 1 : 0, "%s", command);
        free(said);
    }
}

/* The next file that is opened could get the descriptor of the closed stream. */
Test(outputs, with_closed_streams_files_hold_what_they_should)
{
    const char *folder = files_directory(), *path = files_path(folder, "out.json");
    char *said;
    size_t size;
    cr_assert_eq(shell(&said, "$xq cache list --quiet --json %s <&- >&- 2>&-", path), 1);
    cr_assert_str_empty(said);
    free(said);
    cr_assert_eq(shell(&said, "$xq gen --quiet --out %s/gen " SPEC " --json %s <&- >&- 2>&-", folder, path),
                 0);
    free(said);
    char *text = files_read(path, &size);
    cr_assert(is_json(text), "%s", text);
    free(text);
}

/* Under a name such as /dev/stdin, a closed stream is neither an empty input nor an output in which a
 * result vanishes. */
Test(outputs, a_closed_stream_is_neither_read_nor_written_by_name, .timeout = 60)
{
    static const char *const commands[][2] = {
        {"gen --print-spec --spec /dev/stdin <&-", "cannot open /dev/stdin: this stream is closed\n"},
        {"gen --print-spec --spec /dev/fd/0 <&-", "cannot open /dev/fd/0: this stream is closed\n"},
        {"gen --print-spec --model /dev/stdin <&-", "cannot open /dev/stdin: this stream is closed\n"},
        {"gen --print-spec --spec /dev/stdout >&-", "cannot open /dev/stdout: this stream is closed\n"},
        {"prepare --show /dev/stdin <&-", "cannot read /dev/stdin: this stream is closed\n"},
        {"run --input /dev/stdin --output o " SPEC " <&-",
         "cannot read /dev/stdin: this stream is closed\n"},
        {"cache list --json /dev/stdin <&-", "cannot write /dev/stdin: Bad file descriptor\n"},
        {"cache list --json /proc/self/fd/0 <&-", "cannot write /proc/self/fd/0: Bad file descriptor\n"},
        {"cache list --json /dev/stdout >&-", "cannot write /dev/stdout: Bad file descriptor\n"},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char *said;
        cr_expect_eq(shell(&said, "$xq %s", commands[i][0]), 1, "%s", commands[i][0]);
        cr_expect(strstr(said, commands[i][1]), "%s: %s", commands[i][0], said);
        free(said);
    }
}

Test(outputs, a_reader_that_has_enough_is_no_error)
{
    char *said;
    cr_assert_eq(shell(&said, "$xq gen --list-models | head -n 1"), 0);
    cr_assert_eq(strchr(said, '\n'), said + strlen(said) - 1, "%s", said);
    free(said);
}

Test(outputs, a_closed_standard_output_is_not_taken_for_a_file_that_is_written)
{
    const char *null = files_path(files_directory(), "null");
    char *said;
    if (mknod(null, S_IFCHR | 0600, makedev(1, 3)) != 0)
        cr_skip_test("device nodes cannot be made here");
    cr_assert_eq(
        shell(&said, "$xq gen --quiet --family gemm --out %s.d --json %s " SPEC " >&-", null, null), 0);
    cr_assert_str_empty(said);
    free(said);
}

/* -------------------------------------------------------------- before the work */

/* The command must refuse at once, even if the work would also fail or take long. It prints one line with
 * the reason and ends with status 1. */
static void refused_first(const char *arguments, const char *line)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    command_refuses(arguments, 1, line);
    clock_gettime(CLOCK_MONOTONIC, &after);
    cr_assert_lt(after.tv_sec - before.tv_sec, 5, "xq %s", arguments);
}

Test(outputs, wrong_paths_are_errors_before_the_work, .timeout = 60)
{
#define NOWHERE "/nonexistent/x: No such file or directory"
    refused_first("verify --device sim --tier exhaustive --json /nonexistent/x",
                  "xq verify: cannot write " NOWHERE);
    refused_first("compare --device sim --synthetic --model llama-3.1-8b --json /nonexistent/x",
                  "xq compare: cannot write " NOWHERE);
    refused_first("run --input /missing --output /nonexistent/x " SPEC, "xq run: cannot write " NOWHERE);
    refused_first("prepare /missing -o /nonexistent/x", "xq prepare: cannot write " NOWHERE);
    refused_first("info --json /nonexistent/x", "xq info: cannot write " NOWHERE);
    refused_first("cache list --json /nonexistent/x", "xq cache: cannot write " NOWHERE);
    refused_first("gen --model /missing --out /nonexistent/x",
                  "xq gen: cannot write into the folder " NOWHERE);
    refused_first("gen --model /missing --out /dev/null",
                  "xq gen: cannot write into the folder /dev/null: Not a directory");
}

/* Prepared weights are patched once they are complete, which is impossible in a pipe. */
Test(outputs, prepare_needs_a_regular_file)
{
    char arguments[600], line[600];
    const char *fifo = files_path(files_directory(), "fifo");
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    snprintf(arguments, sizeof arguments, "prepare /missing -o %s", fifo);
    snprintf(line, sizeof line,
             "xq prepare: cannot write %s: it is no regular file, which this output must be", fifo);
    refused_first(arguments, line);
}

/* A FIFO without a reader must not block a command that has nothing to write. */
Test(outputs, a_fifo_is_opened_after_all_values_are_known_to_be_good, .timeout = 60)
{
    char arguments[600];
    const char *fifo = files_path(files_directory(), "fifo");
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    static const char *const commands[] = {
        "run --input /missing --output %s --model smollm2-135m --bits 99",
        "run --input /missing --output %s --model smollm2-135m --device foo",
        "compare --synthetic --model smollm2-135m --json %s --group 99",
        "prepare /missing --out /tmp/x.safetensors --json %s",
        "verify --device foo --json %s",
        "info --device foo --json %s",
        "gen --family rope --out /tmp/x --model smollm2-135m --bits 99 --json %s",
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(arguments, sizeof arguments, commands[i], fifo);
        struct command_result r = command_run("%s", arguments);
        cr_expect_eq(r.status, 1, "xq %s: %s", arguments, r.err);
    }
}

/* `-` means standard output for --output, as it does for --json. Options that need a file or a folder
 * refuse it. */
Test(outputs, a_dash_is_standard_output_or_refused, .timeout = 60)
{
    command_refuses(
        "prepare d --out -", 1,
        "xq prepare: --out: '-' is standard output, and prepared weights are not written in order; "
        "valid: a file");
    command_refuses(
        "gen " SPEC " --out -", 1,
        "xq gen: --out: '-' is standard output; valid: a folder. Leave --out out to print one --family "
        "there");
    struct layer layer = layer_random(5, 1);
    const char *folder = layer_files_write(&layer, "x", 4);
    char *said;
    cr_assert_eq(shell(&said,
                       "cd %s; run=\"$xq run --device sim --spec spec.json --input in.safetensors\"; "
                       "$run --output file --quiet && $run --output - | cmp - file && "
                       "$run --output /dev/stdout | cmp - file; test ! -e ./-",
                       folder),
                 0, "%s", said);
    cr_assert_str_empty(said);
    free(said);
    cr_assert_eq(shell(&said,
                       "cd %s; $xq run --spec spec.json --input in.safetensors --output - --json - | cat",
                       folder),
                 0);
    cr_assert(strstr(said, "xq run: --json - is the same file as --output; give another path"), "%s", said);
    free(said);
}

/* The command must fail, keep the old file, and add no files. */
static void fails_without_a_trace(const char *folder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void fails_without_a_trace(const char *folder, const char *format, ...)
{
    char arguments[4096];
    int count = files_count(folder);
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    struct command_result r = command_run("%s", arguments);
    cr_assert_eq(r.status, 1, "xq %s: exit status %d", arguments, r.status);
    cr_assert_eq(files_count(folder), count, "xq %s left something", arguments);
    assert_holds(files_path(folder, "old"), "old");
}

Test(outputs, a_run_that_fails_leaves_no_trace)
{
    char folder[256];
    snprintf(folder, sizeof folder, "%s", files_directory());
    files_write(files_path(folder, "old"), "old", 3);
    fails_without_a_trace(folder, "run --input /missing --output %s/old " SPEC, folder);
    fails_without_a_trace(folder, "run --input /missing --output %s/new --json %s/old " SPEC, folder,
                          folder);
    fails_without_a_trace(folder, "compare --activations /missing --json %s/old " SPEC, folder);
    fails_without_a_trace(folder, "prepare /missing -o %s/old --json %s/new", folder, folder);
    fails_without_a_trace(folder, "gen --model /missing --out %s/new", folder);
    fails_without_a_trace(folder, "gen " SPEC " --out %s --arch sm_1", folder);
    fails_without_a_trace(folder, "cache list --cache-dir /dev/null --json %s/old", folder);
}

/* If one of many files cannot be written, none is written. */
Test(outputs, gen_writes_all_files_or_none)
{
    char folder[256];
    snprintf(folder, sizeof folder, "%s", files_directory());
    files_write(files_path(folder, "old"), "old", 3);
    cr_assert_eq(mkdir(files_path(folder, "spec.sm_80.json"), 0777), 0);
    fails_without_a_trace(folder, "gen " SPEC " --out %s", folder);
    cr_assert_eq(rmdir(files_path(folder, "spec.sm_80.json")), 0);
    struct command_result r = command_run("gen " SPEC " --family gemm --arch sm_80 --out %s", folder);
    cr_assert_eq(r.status, 0, "%s", r.err);
}

/* -------------------------------------------------------------- inputs and outputs */

static void is_the_same(const char *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void is_the_same(const char *line, const char *format, ...)
{
    char arguments[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    command_refuses(arguments, 1, line);
}

#define LINE(FORMAT, ...) (snprintf(line, sizeof line, FORMAT "; give another path", __VA_ARGS__), line)

Test(outputs, an_input_is_no_output)
{
    char f[256], g[300], line[2048], hard[300];
    const char *folder = files_directory();
    snprintf(f, sizeof f, "%s/old", folder);
    snprintf(g, sizeof g, "%s/link", folder);
    snprintf(hard, sizeof hard, "%s/hard", folder);
    files_write(f, "old", 3);
    cr_assert_eq(symlink("old", g), 0);
    cr_assert_eq(link(f, hard), 0);
    is_the_same(LINE("xq run: --output %s is the same file as --input %s", f, f),
                "run --input %s --output %s " SPEC, f, f);
    is_the_same(LINE("xq run: --output %s is the same file as --input %s", g, f),
                "run --input %s --output %s " SPEC, f, g);
    is_the_same(LINE("xq run: --output %s is the same file as --input %s", f, hard),
                "run --input %s --output %s " SPEC, hard, f);
    is_the_same(LINE("xq run: --output %s is the same file as --prepared %s", f, f),
                "run --input x --prepared %s --output %s " SPEC, f, f);
    is_the_same(LINE("xq run: --json %s is the same file as --spec %s", f, g),
                "run --input x --output %s.new --spec %s --json %s", f, g, f);
    is_the_same(LINE("xq run: --json %s is the same file as --output", f),
                "run --input x --output %s --json %s " SPEC, g, f);
    is_the_same(LINE("xq run: --json %s/./new is the same file as --output", folder),
                "run --input x --output %s/new --json %s/./new " SPEC, folder, folder);
    is_the_same(LINE("xq compare: --json %s is the same file as --activations %s", f, f),
                "compare --activations %s --json %s " SPEC, f, f);
    is_the_same(LINE("xq compare: --json %s is the same file as --model %s", f, g),
                "compare --synthetic --model %s --json %s", g, f);
    is_the_same(LINE("xq prepare: --json %s is the same file as --out", f), "prepare x --out %s --json %s",
                f, f);
    is_the_same(LINE("xq prepare: --out %s is the same file as --calibration %s", f, f),
                "prepare x --calibration %s --out %s", f, f);
    is_the_same(LINE("xq gen: --json %s is the same file as --spec %s", f, f),
                "gen --spec %s --out %s.d --json %s", f, f, f);
    assert_holds(f, "old");
    cr_assert_eq(files_count(folder), 3);
}

Test(outputs, files_that_are_read_of_a_model_directory_are_no_output)
{
    char folder[256], line[2048];
    snprintf(folder, sizeof folder, "%s", files_directory());
    files_write(files_path(folder, "config.json"), "{}", 2);
    files_write(files_path(folder, "model-00001-of-00002.safetensors"), "x", 1);
    files_write(files_path(folder, "prepared.safetensors"), "an earlier result", 17);
    is_the_same(
        LINE("xq prepare: --out %s/config.json is a file that is read from MODEL_DIR %s", folder, folder),
        "prepare %s --out %s/config.json", folder, folder);
    is_the_same(
        LINE("xq run: --output %s/model-00001-of-00002.safetensors is a file that is read from --model %s",
             folder, folder),
        "run --model %s --input x --output %s/model-00001-of-00002.safetensors", folder, folder);
    files_write(files_path(folder, "out.safetensors"), "an earlier result", 17);
    struct command_result r =
        command_run("run --model %s --input x --output %s/out.safetensors", folder, folder);
    cr_assert(strstr(r.err, "config.json"), "an earlier result in the folder may be replaced: %s", r.err);
    is_the_same(LINE("xq prepare: --out %s/model.safetensors is a file that is read from MODEL_DIR %s",
                     folder, folder),
                "prepare %s --out %s/model.safetensors", folder, folder); /* this would hide the shards */
    cr_assert_eq(files_count(folder), 4);
    r = command_run("prepare %s --out %s/prepared.safetensors", folder, folder);
    cr_assert(strstr(r.err, "config.json"), "an earlier result in the folder may be replaced: %s", r.err);
    assert_holds(files_path(folder, "config.json"), "{}");
}

Test(outputs, gen_does_not_write_over_its_spec)
{
    char folder[256], line[2048];
    snprintf(folder, sizeof folder, "%s", files_directory());
    cr_assert_eq(command_run("gen --family gemm " SPEC " --out %s", folder).status, 0);
    int count = files_count(folder);
    is_the_same(LINE("xq gen: --out %s/spec.sm_80.json is the same file as --spec %s/spec.sm_80.json",
                     folder, folder),
                "gen --family gemm --spec %s/spec.sm_80.json --out %s", folder, folder);
    cr_assert_eq(files_count(folder), count);
}

/* ------------------------------------------------------------- in place, links, modes */

Test(outputs, json_goes_into_whatever_the_path_is, .timeout = 60)
{
    char folder[256], *said;
    struct stat st;
    snprintf(folder, sizeof folder, "%s", files_directory());
    cr_assert_eq(mkfifo(files_path(folder, "fifo"), 0600), 0);
    cr_assert_eq(shell(&said, "cat %s/fifo & $xq cache list --quiet --json %s/fifo >/dev/null; wait",
                       folder, folder),
                 0);
    cr_assert(is_json(said), "%s", said);
    cr_assert_eq(lstat(files_path(folder, "fifo"), &st), 0);
    cr_assert(S_ISFIFO(st.st_mode));
    free(said);

    cr_assert_eq(shell(&said, "$xq cache list --json /dev/stdout"), 0);
    cr_assert(is_json(said), "the table is there too: %s", said);
    free(said);

    cr_assert_eq(shell(&said, "$xq cache list --json /dev/fd/3 3>&1 >/dev/null"), 0);
    cr_assert(is_json(said), "%s", said);
    free(said);

    cr_assert_eq(shell(&said, "echo before >%s/file; $xq cache list --json %s/file >>%s/file; cat %s/file",
                       folder, folder, folder, folder),
                 0);
    cr_assert(strncmp(said, "before\n", 7) == 0 && is_json(said + 7), "%s", said);
    free(said);

    files_write(files_path(folder, "private"), "old", 3);
    cr_assert_eq(chmod(files_path(folder, "private"), 0600), 0);
    cr_assert_eq(symlink("private", files_path(folder, "link")), 0);
    cr_assert_eq(shell(&said, "$xq cache list --quiet --json %s/link >/dev/null", folder), 0);
    free(said);
    cr_assert_eq(lstat(files_path(folder, "link"), &st), 0);
    cr_assert(S_ISLNK(st.st_mode));
    cr_assert_eq(lstat(files_path(folder, "private"), &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_gt(st.st_size, 3);
    cr_assert_eq(files_count(folder), 4);
}

Test(outputs, devices_stay_devices)
{
    const char *folder = files_directory(), *null = files_path(folder, "null");
    char *said;
    struct stat st;
    if (mknod(null, S_IFCHR | 0600, makedev(1, 3)) != 0)
        cr_skip_test("device nodes cannot be made here");
    cr_assert_eq(shell(&said, "$xq cache list --json %s >/dev/null", null), 0);
    free(said);
    cr_assert_eq(stat(null, &st), 0);
    cr_assert(S_ISCHR(st.st_mode));
    cr_assert_eq(shell(&said, "$xq prepare /missing -o %s", null), 1);
    free(said);
    cr_assert_eq(stat(null, &st), 0);
    cr_assert(S_ISCHR(st.st_mode));
    cr_assert_eq(files_count(folder), 1);
}

/* If the JSON file cannot be written, the results of minutes of work are not lost with it. */
Test(outputs, tables_are_printed_also_where_their_json_cannot_be_written, .timeout = 300)
{
    const char *full = files_path(files_directory(), "full");
    if (mknod(full, S_IFCHR | 0600, makedev(1, 7)) != 0)
        cr_skip_test("device nodes cannot be made here");
    static const char *const commands[][2] = {
        {"compare --synthetic --tokens 32 --bits 4 --device sim " SPEC, "fused"},
        {"verify --cases 1 --device sim", "fused"},
        {"cache list", "kernels"},
        {"info --device sim", "cache"},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct command_result r = command_run("%s --quiet --json %s", commands[i][0], full);
        cr_assert_eq(r.status, 1, "%s", commands[i][0]);
        cr_assert(strstr(r.out, commands[i][1]), "%s: %s", commands[i][0], r.out);
        cr_assert(strstr(r.err, "No space left on device"), "%s: %s", commands[i][0], r.err);
    }
}

/* ----------------------------------------------------------------- signals */

static void wait_for_file(const char *path)
{
    const struct timespec moment = {0, 1000000};
    for (int i = 0; i < 10000 && access(path, F_OK) != 0; i++)
        nanosleep(&moment, NULL);
}

/* Makes the fake NVRTC compile without end. Returns the name of a file that appears when it begins to
 * compile. */
static const char *compile_without_end(void)
{
    const char *mark = files_path(files_directory(), "compiling");
    setenv("FAKE_NVRTC_COMPILING", mark, 1);
    setenv("XQ_CACHE_DIR", "", 1);
    return mark;
}

/* Long work that a signal ends must leave no temporary file. `mark` is a file that appears when the work
 * may be ended; with NULL, this is the temporary file of the output. */
static void ends_without_a_trace(int signal_number, const char *mark)
{
    const char *folder = files_directory();
    const struct timespec moment = {0, 1000000};
    const struct rlimit none = {0, 0};
    int status;
    setrlimit(RLIMIT_CORE, &none);  /* SIGQUIT would leave a core file */
    signal(signal_number, SIG_DFL); /* shells and nohup make background programs ignore some signals */
    pid_t pid = command_start("verify --device sim --tier exhaustive --json %s/out", folder);
    for (int i = 0; i < 10000 && !mark && files_count(folder) == 0; i++)
        nanosleep(&moment, NULL);
    if (mark)
        wait_for_file(mark);
    cr_assert_eq(files_count(folder), 1, "the output is not begun before the work");
    cr_assert_eq(kill(pid, signal_number), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status), "it ended with status %d, not by signal %d", WEXITSTATUS(status),
              signal_number);
    cr_assert_eq(WTERMSIG(status), signal_number);
    cr_assert_eq(files_count(folder), 0);
}

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};
enum { ENDING_SIGNALS = sizeof ending_signals / sizeof ending_signals[0] };

Test(outputs, signals_leave_no_temporary_file, .timeout = 60)
{
    for (int i = 0; i < ENDING_SIGNALS; i++)
        ends_without_a_trace(ending_signals[i], NULL);
}

/* NVRTC has its own signal handlers while it compiles. */
Test(outputs, signals_leave_no_temporary_file_while_kernels_compile, .timeout = 60)
{
    fake_nvrtc_use(NULL);
    for (int i = 0; i < ENDING_SIGNALS; i++)
        ends_without_a_trace(ending_signals[i], compile_without_end());
}

Test(outputs, signals_that_are_ignored_stay_so, .timeout = 60)
{
    const struct timespec moment = {0, 50000000};
    fake_nvrtc_use(NULL);
    const char *mark = compile_without_end();
    signal(SIGHUP, SIG_IGN);
    pid_t pid = command_start("verify --device sim --tier exhaustive");
    wait_for_file(mark);
    cr_assert_eq(kill(pid, SIGHUP), 0);
    nanosleep(&moment, NULL);
    cr_assert_eq(waitpid(pid, NULL, WNOHANG), 0, "SIGHUP ended what nohup started");
    kill(pid, SIGKILL);
    command_wait(pid);
}
