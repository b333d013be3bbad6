/* Runs the tests that have registered themselves. The last line of the output is the summary that
 * scripts/run-test.sh reads. */
#include "criterion/criterion.h"

#include <sys/wait.h>
#include <unistd.h>

static stand_in_test *tests;
static bool failed; /* whether the test of this process has failed */

void stand_in_add(stand_in_test *test)
{
    test->next = tests;
    tests = test;
}

void stand_in_fail(const char *file, int line, const char *what, bool fatal)
{
    fprintf(stderr, "[----] %s:%d: not so: %s\n", file, line, what);
    failed = true;
    if (fatal)
        exit(1);
}

static void run(const stand_in_test *test)
{
    if (test->init)
        test->init();
    if (test->params) {
        struct criterion_test_params p = test->params();
        for (size_t i = 0; i < p.length; i++)
            test->run_with((char *)p.params + i * p.size);
        if (p.cleanup)
            p.cleanup(&p);
    } else {
        test->run();
    }
    if (test->fini)
        test->fini();
    exit(failed);
}

int main(void)
{
    int count = 0, bad = 0;
    for (const stand_in_test *test = tests; test; test = test->next) {
        int status = 0;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            run(test);
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "[FAIL] %s::%s\n", test->suite, test->name);
            bad++;
        }
        count++;
    }
    fprintf(stderr, "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", count,
            count - bad, bad);
    return bad > 0;
}
