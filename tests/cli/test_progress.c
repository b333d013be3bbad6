/* Tests what a terminal shows during work that takes longer than two seconds. An empty kernel cache makes
 * commands slow, because NVRTC compiles for them. */
#include "../support/command.h"
#include "../support/files.h"
#include "terminal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* Returns the text after the last erasing of the line, or NULL if nothing was erased. */
static const char *after_erasing(const char *text)
{
    const char *last = NULL;
    for (const char *at = text; (at = strstr(at, "\r\033[K")); at++)
        last = at + 4;
    return last;
}

/* Every piece of progress must begin the line anew and fit into it. */
static void lines_fit(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strchr(at, '\r')); at++)
        if (strncmp(at + 1, what, strlen(what)) == 0) {
            cr_assert_lt(strcspn(at + 1, "\033"), 80, "%.100s", at + 1);
            count++;
        }
    cr_assert_gt(count, 0, "%s", text);
}

static void contains(const char *text, const char *part)
{
    cr_assert(strstr(text, part), "'%s' is not in\n%s", part, text);
}

Test(progress, names_the_part_and_the_kernel_that_is_compiled_and_is_erased)
{
    int status;
    const char *text = terminal_run(&status,
                                    "compare --device sim --synthetic --model smollm2-135m --method latent "
                                    "--tokens 500 --bits 8,3,2,4 --cache-dir %s/cache",
                                    files_directory());
    cr_assert_eq(status, 0, "%s", text);
    lines_fit(text, "comparing: ");
    contains(text, "layer 0, 4 bits, ");
    contains(text, "fused: compiling attend");
    const char *rest = after_erasing(text);
    cr_assert(strncmp(rest, "smollm2-135m: ", 14) == 0, "%s", rest);
}

#define GEN                                                                                                \
    "gen --model smollm2-135m --method latent --family attend,append --arch sm_80,sm_86,sm_89,sm_90 "      \
    "--cubin"

Test(progress, of_gen_names_the_kernel_and_the_architecture)
{
    int status;
    const char *text = terminal_run(&status, GEN " --out %s", files_directory());
    cr_assert_eq(status, 0, "%s", text);
    lines_fit(text, "compiling: ");
    contains(text, "attend for sm_90");
    const char *rest = after_erasing(text);
    contains(rest, " files in ");
}

Test(progress, is_not_for_the_quiet_nor_for_files)
{
    int status;
    const char *directory = files_directory(),
               *text = terminal_run(&status, GEN " --quiet --out %s", directory);
    cr_assert_eq(status, 0, "%s", text);
    cr_assert_str_eq(text, "");
    struct command_result r = command_run(GEN " --out %s", directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
}

Test(progress, does_not_stand_before_an_error)
{
    int status;
    const char *text =
        terminal_run(&status, "compare --synthetic --model smollm2-135m --bits 4 --cache-dir /dev/null/x "
                              "--tokens 999999999");
    cr_assert_eq(status, 1);
    cr_assert_str_eq(text, "xq compare: --tokens: 999999999; valid: 1 to 16777216\r\n");
}
