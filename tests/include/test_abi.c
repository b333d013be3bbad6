/* The symbols that the libraries export, and programs that use the installed libraries. The test runs in
 * the repository's root, as all tests do; the libraries lie one folder above the test program. */
#include "../support/files.h"
#include "../support/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_output(const char *command, const char *expected, const char *what)
{
    char *output = NULL;
    cr_assert_eq(shell_run(command, &output), 0, "%s: %s", command, output);
    cr_assert_str_eq(output, expected, "%s", what);
    free(output);
}

static char *abi(void)
{
    size_t size;
    return files_read("tests/include/abi.txt", &size);
}

Test(abi, shared_library_exports_the_reviewed_symbols_alone)
{
    char command[8192], *expected = abi();
    snprintf(
        command, sizeof command,
        "nm -D --defined-only %s/libxq.so | awk '{ print $NF }' | grep -v '^__[atu]*san' | LC_ALL=C sort",
        shell_build_folder());
    assert_output(command, expected,
                  "tests/include/abi.txt does not list what libxq.so exports; if that is meant, change it");
    free(expected);
}

Test(abi, static_library_defines_no_other_global_symbol)
{
    char command[8192], *expected = abi();
    snprintf(command, sizeof command,
             "nm -g --defined-only %s/libxq.a | awk 'NF == 3 { print $3 }' | LC_ALL=C sort",
             shell_build_folder());
    assert_output(command, expected, "libxq.a");
    free(expected);
}

Test(abi, every_declared_function_is_listed)
{
    char *expected = abi();
    assert_output("sed -n 's/^XQ_API .*\\(xq_[a-z0-9_]*\\)(.*/\\1/p' include/xq/xq.h | LC_ALL=C sort",
                  expected, "include/xq/xq.h and tests/include/abi.txt differ");
    free(expected);
}

Test(abi, soname_is_the_major_version)
{
    char command[8192];
    snprintf(command, sizeof command, "objdump -p %s/libxq.so | awk '/SONAME/ { print $2 }'",
             shell_build_folder());
    assert_output(command, "libxq.so.0\n", "the soname");
}

Test(abi, header_compiles_alone_as_c_and_cpp)
{
    static const char *const commands[] = {
        "echo '#include <xq/xq.h>' | cc -std=c99 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only "
        "-x c -",
        "printf '#include <xq/xq.h>\\nxq_plan_options o = XQ_PLAN_OPTIONS_INIT;\\n"
        "xq_attend_args a = XQ_ATTEND_ARGS_INIT;\\n' | "
        "c++ -std=c++11 -Wall -Werror -Iinclude -fsyntax-only -x c++ -",
    };
    for (int i = 0; i < 2; i++)
        assert_output(commands[i], "", commands[i]);
}

Test(install, examples_build_and_run_against_the_installed_libraries, .timeout = 180)
{
    char command[8192], *output = NULL;
    const char *folder = files_directory();
    snprintf(command, sizeof command, "sh scripts/test-install.sh %s %s '%s'", shell_build_folder(), folder,
             SHELL_SANITIZER);
    cr_assert_eq(shell_run(command, &output), 0, "%s", output);
    free(output);
    static const char *const kinds[] = {"shared", "static"};
    for (int i = 0; i < 2; i++) { /* an impossible device: the library is found, loads, and answers */
        snprintf(command, sizeof command, "%s/%s/embed/embed nothing", folder, kinds[i]);
        cr_assert_eq(shell_run(command, &output), 1, "%s: %s", kinds[i], output);
        cr_assert(strstr(output, "XQ_ERROR_ARGUMENT") && strstr(output, "'nothing'"), "%s: %s", kinds[i],
                  output);
        free(output);
    }
    static const char *const programs[] = {"embed", "layers"};
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "XQ_CACHE_DIR=%s/cache %s/static/embed/%s sim", folder, folder,
                 programs[i]);
        cr_assert_eq(shell_run(command, &output), 0, "%s", output);
        cr_assert(strstr(output, "software device") && strstr(output, "relative error"), "%s", output);
        free(output);
    }
    snprintf(command, sizeof command,
             "cd %s/shared/minimal && export XQ_CACHE_DIR=%s/cache && ./minimal sim && ./minimal-cpp sim",
             folder, folder);
    assert_output(command,
                  "68 bytes a token instead of 512; first outputs, as f16: 3442 b953 3990 b89d\n"
                  "68 bytes a token instead of 512; first outputs, as f16: 3442 b953 3990 b89d\n",
                  "examples/minimal");
    snprintf(command, sizeof command, "%s/shared/llama/llama --help", folder);
    cr_assert_eq(shell_run(command, &output), 0, "%s", output);
    cr_assert(strstr(output, "perplexity") && strstr(output, "latent-cl"), "%s", output);
    free(output);
    snprintf(command, sizeof command, "%s/shared/llama/llama generate %s --prompt x --python true", folder,
             folder);
    cr_assert_eq(shell_run(command, &output), 1, "%s", output);
    cr_assert_str_eq(output, "llama: --prompt: it has no tokens\n");
    free(output);
    snprintf(command, sizeof command, "PKG_CONFIG_PATH=%s/lib/pkgconfig pkg-config --modversion xq",
             folder);
    assert_output(command, "0.1.0\n", "the version in xq.pc");
}

/* The page shows the program unchanged, so that readers copy the same code that the tests of this file
 * build and run. */
Test(docs, embedding_page_shows_the_minimal_program)
{
    assert_output(
        "sed -n '/<!-- minimal.c -->/,/<!-- end -->/p' docs/embedding.md | sed -n 's/^    //p; /^$/p' | "
        "sed -e '1{/^$/d}' -e '${/^$/d}' | diff - examples/minimal/minimal.c",
        "", "docs/embedding.md and examples/minimal/minimal.c differ");
}
