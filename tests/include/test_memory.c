/* Tests running out of memory: every place in the library that allocates fails once, and the program that
 * uses the library gets an error. Allocations by Lua are among these places; after a failure, Lua collects
 * garbage and tries again. The test does not run under sanitizers, because they bring their own
 * allocators. */
#include "../support/shell.h"

#include <criterion/criterion.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include "../support/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs the example while allocation place number `place` fails at its first use. Returns false if the place
 * was not reached. The program, with the library linked statically, is in `folder`. */
static bool run_with_failure(const char *folder, int place)
{
    char command[8192], report[4200], *output = NULL;
    snprintf(report, sizeof report, "%s/report", folder);
    unlink(report);
    snprintf(command, sizeof command,
             "XQ_KERNELS=%s/store XQ_CACHE_DIR=%s/cache XQ_FAIL_REPORT=%s XQ_FAIL_PLACE=%d XQ_FAIL_USE=1 "
             "LD_PRELOAD=%s/tests/libfake_malloc.so %s/static/embed/embed sim",
             folder, folder, report, place, shell_build_folder(), folder);
    int status = shell_run(command, &output);
    bool failed = access(report, F_OK) == 0;
    if (status == 1) /* it printed the text of xq_last_error, or its own message about memory */
        cr_assert(strstr(output, "embed: xq_") || strstr(output, "embed: out of memory\n"), "place %d: %s",
                  place, output);
    else
        cr_assert_eq(status, 0, "place %d ended with %d: %s", place, status, output);
    cr_assert(failed || status == 0, "%s", output);
    free(output);
    return failed;
}

Test(memory, running_out_anywhere_is_an_error_and_no_crash, .timeout = 300)
{
    char command[8192], *output = NULL;
    const char *folder = files_directory();
    snprintf(command, sizeof command,
             "sh scripts/test-install.sh %s %s '%s' static/embed && cd %s && XQ_CACHE_DIR=cache "
             "static/embed/embed sim && "
             "cp -r cache store && rm -r $(ls -d store/kernels/* | head -n 1)", /* the cache still has it */
             shell_build_folder(), folder, SHELL_SANITIZER, folder);
    cr_assert_eq(shell_run(command, &output), 0, "%s", output);
    free(output);
    int places = 0, unreached = 0;
    for (int place = 1; unreached < 8; place++) {
        bool reached = run_with_failure(folder, place);
        places += reached;
        unreached = reached ? 0 : unreached + 1;
    }
    cr_assert_geq(places, 20, "only %d places allocate: the failing allocator does not work", places);
}

#endif
