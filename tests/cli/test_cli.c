/* The command line as a user sees it: exit statuses, and errors of one line that name the valid values.
 * Other tests check what each subcommand computes. */
#include "../support/command.h"
#include "../support/fake_cuda.h"
#include "../support/fake_nvrtc.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The test's folder. files_directory would make a new one at each call. */
static const char *folder_of_test(void)
{
    static const char *folder;
    if (!folder)
        folder = files_directory();
    return folder;
}

/* Runs `xq ARGUMENTS` with a kernel cache of the test's own. */
static struct command_result xq(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct command_result xq(const char *format, ...)
{
    char arguments[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    setenv("XQ_CACHE_DIR", files_path(folder_of_test(), "cache"), 1);
    return command_run("%s </dev/null", arguments);
}

/* Checks that stderr is one line that starts with `start` and contains `part`, and that stdout is empty. */
static void assert_error(struct command_result r, int status, const char *start, const char *part)
{
    cr_assert_eq(r.status, status, "exit status %d: %s", r.status, r.err);
    cr_assert_str_empty(r.out);
    cr_assert_eq(strncmp(r.err, start, strlen(start)), 0, "%s", r.err);
    cr_assert(strstr(r.err, part), "no '%s' in: %s", part, r.err);
    cr_assert_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "not one line: %s", r.err);
}

Test(cli, without_arguments_shows_help_and_is_wrong_usage)
{
    struct command_result r = xq("%s", "");
    cr_assert_eq(r.status, 2);
    cr_assert(strstr(r.err, "usage: xq SUBCOMMAND"), "%s", r.err);
}

Test(cli, every_subcommand_explains_itself)
{
    struct command_result r = xq("--help");
    cr_assert_eq(r.status, 0);
    int count = 0;
    char *list = strdup(r.out);
    *strstr(list, "\n\n`xq SUBCOMMAND --help`") = 0;
    for (const char *line = strstr(list, "\n  "); line; line = strstr(line + 1, "\n  ")) {
        char name[32];
        cr_assert_eq(sscanf(line, " %31s", name), 1);
        struct command_result help = xq("%s --help", name);
        cr_assert_eq(help.status, 0, "%s: %s", name, help.err);
        cr_assert(strstr(help.out, "usage: xq "), "%s", help.out);
        cr_assert(strstr(help.out, "--json"), "%s does not take the common options", name);
        cr_assert_str_empty(help.err);
        count++;
    }
    cr_assert_geq(count, 7);
    free(list);
}

Test(cli, unknown_subcommand_suggests_the_nearest)
{
    assert_error(xq("comprae"), 2, "xq: ", "did you mean 'compare'?");
    assert_error(xq("frobnicate"), 2, "xq: ", "`xq --help`");
}

Test(cli, unknown_option_suggests_the_nearest)
{
    assert_error(xq("info --devise sim"), 2, "xq info: ", "did you mean '--device'?");
    assert_error(xq("info --frobnicate"), 2, "xq info: ", "`xq info --help`");
    assert_error(xq("gen --bitz 4"), 2, "xq gen: ", "did you mean '--bits'?");
}

Test(cli, wrong_usage_says_what_is_expected)
{
    assert_error(xq("info --device"), 2, "xq info: ", "--device needs an argument");
    assert_error(xq("verify --seed four"), 1, "xq verify: ", "'four' is not an integer");
    assert_error(xq("info --quiet=yes"), 2, "xq info: ", "takes no argument");
    assert_error(xq("info extra"), 2, "xq info: ", "unexpected argument 'extra'");
    assert_error(xq("cache"), 2, "xq cache: ", "list|verify|export|prune|clear");
    assert_error(xq("cache lits"), 2, "xq cache: ", "did you mean 'list'?");
}

Test(cli, version_is_one_line)
{
    struct command_result r = xq("--version");
    cr_assert_eq(r.status, 0);
    cr_assert_str_eq(r.out, "xq 0.1.0\n");
}

Test(cli, bad_and_missing_devices)
{
    assert_error(xq("info --device gpu"), 1, "xq info: ", "cuda:N");
    assert_error(xq("info --device cuda:x"), 1, "xq info: ", "cuda:N");
    assert_error(xq("info --device 'cuda: 1'"), 1, "xq info: ", "cuda:N");
    assert_error(xq("info --device sim:foo"), 1, "xq info: ", "device 'sim:foo'");
    assert_error(xq("info --device ''"), 2, "xq info: ", "--device needs an argument");
    setenv("XQ_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    assert_error(xq("info --device cuda"), 3, "xq info: ", "/nowhere/libcuda.so.1");
}

Test(cli, info_says_whether_ceilings_are_measured)
{
    struct command_result r = xq("info --device sim:a100");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "A100") && strstr(r.out, "datasheet") && strstr(r.out, "sim:rtx4090"), "%s",
              r.out);
    fake_cuda_use();
    r = xq("info --json -");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "Fake GPU 0") && strstr(r.out, "measured") && strstr(r.out, "cuda:0"), "%s",
              r.out);
    setenv("XQ_NVRTC", "/nowhere/libnvrtc.so", 1); /* no toolchain is an answer here, not a failure */
    r = xq("info --cache-dir ''");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "not measured") && strstr(r.out, "/nowhere/libnvrtc.so"), "%s", r.out);
}

static void info_shows(const char *arguments, const char *line)
{
    struct command_result r = xq(arguments);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, line), "'%s' is not in %s", line, r.out);
}

Test(cli, info_says_what_is_compiled_for_and_why)
{
    info_shows("info --device sim",
               "\ncompiles   for compute_80: PTX, which the software device interprets");
    info_shows("info --device sim:a100 --json -", "\"target\":\t\"compute_80\"");
    fake_cuda_use();
    fake_nvrtc_use(NULL);
    info_shows("info", "\ncompiles   for sm_90a: a cubin, for the GPU's own architecture\ntuned ");
    setenv("FAKE_CUDA_CAPABILITIES", "130", 1);
    info_shows(
        "info",
        "\ncompiles   for compute_90: PTX, which the driver compiles: NVRTC 12.0 does not know "
        "sm_130\ntuning     as for sm_121, the nearest architecture to sm_130 that this version knows\n");
    info_shows("info --json -", "\"compilation\":\t{\n\t\t\"target\":\t\"compute_90\"");
    info_shows("info --json -", "\"tuned_as\":\t\"sm_121\"");
    setenv("FAKE_NVRTC_ARCHITECTURES", "140", 1);
    info_shows("info", "\ncompiles   nothing: NVRTC 12.0");
    info_shows("info --json -", "\"target\":\tnull");
}

Test(cli, info_says_why_no_gpu_was_taken)
{
    setenv("XQ_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    struct command_result r = xq("info");
    cr_assert_eq(r.status, 0, "%s", r.err);
    const char *line = strstr(r.out, "\nno GPU     ");
    cr_assert(line && strstr(line, "/nowhere/libcuda.so.1"), "%s", r.out);
    r = xq("info --json -");
    line = strstr(r.out, "\"no_gpu\":\t\"");
    cr_assert(line && strstr(line, "/nowhere/libcuda.so.1"), "%s", r.out);
    r = xq("info --device sim --json -"); /* a device that was asked for needs no reason */
    cr_assert(strstr(r.out, "\"no_gpu\":\tnull"), "%s", r.out);
}

Test(cli, the_first_gpu_that_works_is_taken_and_info_tells_of_each)
{
    fake_cuda_use();
    setenv("FAKE_CUDA_CAPABILITIES", "70,90,75", 1);
    static const char *const devices[] = {"", "--device cuda"};
    for (int i = 0; i < 2; i++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "info %s", devices[i]);
        struct command_result r = xq(arguments);
        cr_assert_eq(r.status, 0, "%s", r.err);
        cr_assert(strstr(r.out, "\ndevice     Fake GPU 1"), "%s", r.out);
        cr_assert(strstr(r.out, "\navailable  cuda:1        Fake GPU 1\n"), "%s", r.out);
        cr_assert(strstr(r.out, "\nunusable   cuda:0        Fake GPU 0 has compute capability 7.0"), "%s",
                  r.out);
        cr_assert(strstr(r.out, "\n           cuda:2        Fake GPU 2 has compute capability 7.5"), "%s",
                  r.out);
    }
    setenv("FAKE_CUDA_CAPABILITIES", "70,75", 1);
    struct command_result r = xq("info --json -");
    cr_assert(strstr(r.out, "\"kind\":\t\"sim\""), "%s", r.out);
    cr_assert(strstr(r.out, "\"no_gpu\":\t\"cuda:0: Fake GPU 0 has compute capability 7.0"), "%s", r.out);
    cr_assert(strstr(r.out, "\"unusable_gpus\""), "%s", r.out);
    r = xq("info --device cuda");
    cr_assert_eq(r.status, 3);
    cr_assert(strstr(r.err, "cuda:1: Fake GPU 1 has"), "%s", r.err);
}

Test(cli, work_without_a_toolchain_is_missing)
{
    setenv("XQ_NVRTC", "/nowhere/libnvrtc.so", 1);
    assert_error(xq("verify --device sim --cases 1 --quiet"), 3, "xq verify: ", "/nowhere/libnvrtc.so");
    assert_error(xq("compare --synthetic --model smollm2-135m --tokens 32 --device sim --quiet"), 3,
                 "xq compare: ", "/nowhere/libnvrtc.so");
    const char *out = files_path(folder_of_test(), "gen");
    assert_error(xq("gen --model smollm2-135m --ptx --out %s", out), 3, "xq gen: ", "/nowhere/libnvrtc.so");
}

Test(cli, impossible_specs_are_bad_input_with_the_field)
{
    assert_error(xq("gen --print-spec --model llama-3.1-8b --bits 5"), 1, "xq gen: ", "bits");
    assert_error(xq("gen --print-spec --model lama-3.1-8b"), 1, "xq gen: ", "llama-3.1-8b");
    assert_error(xq("gen --print-spec --model llama-3.1-8b --method latent --rank 1,x"), 1,
                 "xq gen: ", "--rank");
    assert_error(xq("gen --print-spec --model /nowhere/config.json"), 1,
                 "xq gen: ", "/nowhere/config.json");
    assert_error(xq("gen --print-spec --spec /nowhere/spec.json"), 1, "xq gen: ", "/nowhere/spec.json");
    assert_error(xq("gen --print-spec --method x"), 2, "xq gen: ", "--model");
    const char *path = files_path(folder_of_test(), "bad.json");
    files_write(path, "{\"model\": ", 10);
    assert_error(xq("gen --print-spec --spec %s", path), 1, "xq gen: ", "bad.json");
    assert_error(xq("gen --print-spec --model %s", path), 1, "xq gen: ", "bad.json");
}

Test(cli, cache_lists_verifies_and_clears)
{
    struct command_result r = xq("cache list");
    cr_assert_eq(r.status, 0);
    cr_assert(strstr(r.out, "0 kernels"), "%s", r.out);
    char command[4200];
    snprintf(command, sizeof command, "mkdir -p %s/cache/kernels/0123456789abcdef0123456789abcdef",
             folder_of_test());
    cr_assert_eq(system(command), 0);
    r = xq("cache verify");
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.out, "damaged") && strstr(r.err, "xq cache: "), "%s%s", r.out, r.err);
    r = xq("cache list --json -");
    cr_assert_eq(r.status, 0);
    cr_assert(strstr(r.out, "\"key\":\t\"0123456789abcdef0123456789abcdef\""), "%s", r.out);
    r = xq("cache clear");
    cr_assert_eq(r.status, 0);
    cr_assert(strstr(r.out, "removed 1 kernel"), "%s", r.out);
    r = xq("cache verify");
    cr_assert_eq(r.status, 0);
}

Test(cli, cache_prune_says_what_it_needs)
{
    assert_error(xq("cache prune"), 2, "xq cache: ", "--older-than DAYS, --larger-than SIZE");
    assert_error(xq("cache list --older-than 3"), 2, "xq cache: ", "--older-than: only prune takes it");
    assert_error(xq("cache clear --larger-than 3"), 2, "xq cache: ", "--larger-than: only prune takes it");
    static const char *const no_days[] = {"x", "1d", "-1", "nan", "inf", "1e400"};
    for (size_t i = 0; i < sizeof no_days / sizeof no_days[0]; i++)
        assert_error(xq("cache prune --older-than=%s", no_days[i]), 1,
                     "xq cache: ", "is no number of days");
    static const char *const no_sizes[] = {"G", "1GB", "1 G", "1P", "-1", "nan", "inf", "1e400"};
    for (size_t i = 0; i < sizeof no_sizes / sizeof no_sizes[0]; i++)
        assert_error(xq("cache prune --larger-than='%s'", no_sizes[i]), 1, "xq cache: ", "is no size");
}

/* Makes an entry of 1000 bytes that was last used `days` days ago. */
static void make_entry(char digit, int days)
{
    char command[8300];
    snprintf(command, sizeof command,
             "e=%s/cache/kernels/$(printf %%032d 0 | tr 0 %c); mkdir -p $e; head -c 1000 /dev/zero "
             ">$e/kernel.ptx; "
             "touch -d '%d days ago' $e",
             folder_of_test(), digit, days);
    cr_assert_eq(system(command), 0);
}

Test(cli, cache_prune_removes_what_is_old_and_what_is_too_much)
{
    for (int i = 0; i < 6; i++)
        make_entry((char)('1' + i), 10 * i);
    struct command_result r = xq("cache prune --older-than 44.5 --json -");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.out, "\"removed\":\t1,") && strstr(r.out, "\"left_bytes\":\t5000"), "%s", r.out);
    r = xq("cache prune --older-than 365 --larger-than 3K");
    cr_assert(strstr(r.out, "removed 2 kernels"), "%s", r.out);
    r = xq("cache list");
    cr_assert(strstr(r.out, "1111") && strstr(r.out, "2222") && strstr(r.out, "3333") &&
                  !strstr(r.out, "4444"),
              "those used last stay: %s", r.out);
    r = xq("cache prune --older-than 5 --larger-than 1T");
    cr_assert(strstr(r.out, "removed 2 kernels"), "%s", r.out);
    r = xq("cache prune --larger-than 0");
    cr_assert(strstr(r.out, "removed 1 kernel,"), "%s", r.out);
}

Test(cli, results_are_not_half_written)
{
    /* The folder does not exist. Nothing is left behind, and the error names the file. */
    struct command_result r = xq("cache list --json /nowhere/list.json");
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.err, "/nowhere/list.json"), "%s", r.err);
    const char *path = files_path(folder_of_test(), "list.json");
    r = xq("cache list --json %s", path);
    cr_assert_eq(r.status, 0);
    size_t size;
    char *text = files_read(path, &size);
    cr_assert_eq(text[0], '{');
    cr_assert_eq(text[strlen(text) - 1], '\n');
    free(text);
}
