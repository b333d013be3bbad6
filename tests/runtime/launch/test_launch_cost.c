/* The cost of a warmed-up call on the host, in instructions of this library. The test counts them by
 * stepping through a child process. Instructions of the driver do not count. */
#include "../../support/plan_fixture.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)

/* Instructions that a sanitizer adds are not the library's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ALLOWANCE = 20 };
#else
enum { ALLOWANCE = 1 };
#endif

struct range {
    unsigned long long first, end;
};

/* The address range of the fake driver's code. */
static struct range driver_code(void)
{
    struct range code = {0, 0};
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        struct range r;
        char flags[8];
        if (strstr(line, "libfake_cuda.so") &&
            sscanf(line, "%llx-%llx %7s", &r.first, &r.end, flags) == 3 && strchr(flags, 'x'))
            code = r;
    }
    fclose(maps);
    cr_assert_neq(code.first, 0);
    return code;
}

/* Steps the child until it stops itself again. Instructions of the driver, and of functions that it calls,
 * do not count. */
static long count_steps(pid_t child, struct range driver)
{
    long count = 0;
    unsigned long long inside = 0; /* stack pointer on entry to the driver; 0: outside */
    for (int status = 0;;) {
        struct user_regs_struct registers;
        cr_assert_eq(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSTOPPED(status), "the child ended: status %x", (unsigned)status);
        if (WSTOPSIG(status) == SIGSTOP)
            return count;
        cr_assert_eq(WSTOPSIG(status), SIGTRAP);
        cr_assert_eq(ptrace(PTRACE_GETREGS, child, NULL, &registers), 0);
        bool in_driver = registers.rip >= driver.first && registers.rip < driver.end;
        if (in_driver && !inside)
            inside = registers.rsp;
        else if (!in_driver && registers.rsp > inside)
            inside = 0;
        count += !inside;
    }
}

static void next_stop(pid_t child)
{
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "status %x", (unsigned)status);
}

struct call {
    xq_plan *plan;
    xq_append_args append;
    xq_attend_args attend;
};

static void nothing(struct call *c)
{
    (void)c;
}

static void attend(struct call *c)
{
    if (xq_plan_attend(c->plan, &c->attend, NULL) != XQ_OK)
        abort();
}

static void append(struct call *c)
{
    if (xq_plan_append(c->plan, &c->append, NULL) != XQ_OK)
        abort();
}

/* Counts instructions from one stop to the next: those of the call and those of stopping. */
static long count_between_stops(void (*call)(struct call *), struct call *c)
{
    struct range driver = driver_code();
    pid_t child = fork();
    if (child == 0) {
        call(c); /* warms up: symbols are bound */
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(1);
        raise(SIGSTOP);
        call(c);
        raise(SIGSTOP);
        _exit(0);
    }
    next_stop(child);
    long count = count_steps(child, driver);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return count;
}

static long instructions(void (*call)(struct call *), struct call *c)
{
    return count_between_stops(call, c) - count_between_stops(nothing, c);
}

/* `most` is the limit of instructions, for attend and for append. */
static void check(const char *name, xq_implementation implementation, long most)
{
    plan_open_stubs();
    struct call c = {.plan = plan_make(PLAN_LATENT, implementation)};
    c.append = plan_append_args(c.plan);
    c.attend = plan_attend_args(c.plan);
    long attending = instructions(attend, &c), appending = instructions(append, &c);
    printf("%s: attend %ld, append %ld instructions\n", name, attending, appending);
    cr_expect_gt(attending, 100, "%s", name);
    cr_expect_leq(attending, most * ALLOWANCE, "%s: attend takes %ld instructions", name, attending);
    cr_expect_leq(appending, most * ALLOWANCE, "%s: append takes %ld instructions", name, appending);
    plan_close(c.plan);
}

Test(launch_cost, of_a_fused_plan)
{
    check("fused", XQ_FUSED, 1500);
}

Test(launch_cost, of_an_unfused_plan)
{
    check("unfused", XQ_UNFUSED, 2500); /* five launches */
}

Test(launch_cost, of_an_fp16_cache)
{
    check("fp16 KV", XQ_FP16_KV, 1500); /* append: three launches */
}

#endif
