/* A bench in a process of its own. Parent and worker talk through a pair of sockets. First the worker
 * reports whether its bench is set up. Then each request is a text of parameters, and each reply is a
 * trial. In between, the worker tells when it begins and ends to wait for measurements of other
 * processes. */
#include "../autotune/measure/watch.h"
#include "signals.h"
#include "tune.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct tune_worker {
    const struct tune_job *job;
    pid_t process; /* 0: there is no process */
    int fd;
};

/* The requests to a worker. The parameters follow as text. */
enum question { EXPECT, /* tune_bench_expect: there is no reply */ TRY, CONFIRM };
struct request {
    enum question question;
    bool brief; /* TRY: with few repeats */
    size_t bytes;
};

/* Every message of a worker begins with its kind. */
enum message { WAITS, GOES_ON, SAYS_HELLO, HAS_TRIED };

/* The first message of a worker. The space follows as text. */
struct hello {
    error err; /* without its log */
    xq_device_info device;
    size_t space_bytes;
};

/* ---------------------------------------------------------------- messages */

static bool send_all(int fd, const void *data, size_t bytes)
{
    for (size_t sent = 0; sent < bytes;) {
        ssize_t n = send(fd, (const char *)data + sent, bytes - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    return true;
}

enum received { RECEIVED, CLOSED, LATE, STOPPED };

/* `until` is a time on the clock of cli_seconds(); `stop` may be NULL. */
static enum received receive_all(int fd, void *data, size_t bytes, double until, bool (*stop)(void))
{
    for (size_t got = 0; got < bytes;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (stop && stop())
            return STOPPED;
        if (cli_seconds() > until)
            return LATE;
        if (poll(&wait, 1, 100) <= 0)
            continue;
        ssize_t n = recv(fd, (char *)data + got, bytes - got, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return CLOSED;
        got += (size_t)n;
    }
    return RECEIVED;
}

/* ------------------------------------------------------------ the process */

static bool say(int fd, enum message what, const void *data, size_t bytes)
{
    return send_all(fd, &what, sizeof what) && send_all(fd, data, bytes);
}

static void tell_waiting(void *user, bool waits)
{
    say(*(const int *)user, waits ? WAITS : GOES_ON, NULL, 0); /* the next message shows whether sending
                                                                  fails */
}

static void serve(struct tune_bench *bench, int fd)
{
    struct request r;
    bool goes_on = true;
    while (goes_on && receive_all(fd, &r, sizeof r, 1e18, NULL) == RECEIVED) {
        char *parameters = calloc(1, r.bytes + 1);
        struct tune_trial trial;
        goes_on = parameters && receive_all(fd, parameters, r.bytes, 1e18, NULL) == RECEIVED;
        if (goes_on && r.question == EXPECT) {
            tune_bench_expect(bench, parameters);
        } else if (goes_on) {
            if (r.question == TRY)
                tune_bench_try(bench, parameters, r.brief, &trial);
            else
                tune_bench_confirm(bench, parameters, &trial);
            goes_on = say(fd, HAS_TRIED, &trial, sizeof trial) && trial.outcome != TUNE_CRASHED;
        }
        free(parameters);
    }
}

/* Runs a worker. It ignores the terminal's interrupt, which is for the command; the command ends its
 * workers. */
static void be_a_worker(const struct tune_job *job, int fd)
{
    struct hello hello = {.err = ERROR_INIT, .device = XQ_DEVICE_INFO_INIT};
    struct tune_bench *bench = NULL;
    measure_watch watch = {.waits = tell_waiting, .user = &fd};
    char *space = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cli_signals_forget();
    cli_progress_forget();
    if (tune_bench_open(job, &watch, &bench, &hello.device, &space, &hello.err) == XQ_OK)
        hello.space_bytes = strlen(space);
    free(hello.err.log);
    hello.err.log = NULL;
    bool told =
        say(fd, SAYS_HELLO, &hello, sizeof hello) && (!space || send_all(fd, space, hello.space_bytes));
    free(space);
    if (bench && told)
        serve(bench, fd);
    tune_bench_close(bench);
    measure_watch_close(&watch);
}

/* --------------------------------------------------------------- the parent */

/* Waits for a process that ends by itself. Returns the status of waitpid. */
static int wait_for_process(struct tune_worker *w)
{
    int status = 0;
    close(w->fd);
    while (waitpid(w->process, &status, 0) < 0 && errno == EINTR)
        ;
    w->process = 0;
    return status;
}

static void end_process(struct tune_worker *w)
{
    if (!w->process)
        return;
    kill(w->process, SIGKILL);
    wait_for_process(w);
}

static xq_status start_process(struct tune_worker *w, error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "cannot start a process for measurements: %s",
                         strerror(errno));
    fflush(NULL);
    w->process = fork();
    if (w->process == 0) {
        close(ends[0]);
        be_a_worker(w->job, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    w->fd = ends[0];
    if (w->process > 0)
        return XQ_OK;
    w->process = 0;
    close(ends[0]);
    return error_set(err, XQ_ERROR_INTERNAL, "argument", "cannot start a process for measurements: %s",
                     strerror(errno));
}

/* Describes how a worker that no longer answers has ended. */
static void describe_death(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(text, size, "its process was ended by signal %d, %s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(text, size, "its process ended with status %d", WEXITSTATUS(status));
}

/* How long an answer may take: until `own`, which moves on while the worker waits for other measurements,
 * and at most until `whole`. Both are times on the clock of cli_seconds(). */
struct patience {
    double own, whole, waited;
};

static struct patience patience_of(const struct tune_limit *limit)
{
    const double now = cli_seconds();
    return (struct patience){.own = now + limit->own, .whole = now + limit->whole};
}

/* Receives the answer of kind `expected`, which has `bytes` bytes. */
static enum received receive_answer(const struct tune_worker *w, struct patience *p, bool (*stop)(void),
                                    enum message expected, void *data, size_t bytes)
{
    double waits_since = 0; /* 0: the worker does not wait */
    for (;;) {
        enum message what;
        const double until = waits_since > 0 || p->own > p->whole ? p->whole : p->own;
        enum received got = receive_all(w->fd, &what, sizeof what, until, stop);
        if (got == RECEIVED && what == expected)
            got = receive_all(w->fd, data, bytes, until, stop);
        else if (got == RECEIVED)
            cli_show_waiting(NULL, what == WAITS);
        if (waits_since > 0) {
            p->own += cli_seconds() - waits_since;
            p->waited += cli_seconds() - waits_since;
        }
        if (got != RECEIVED || what == expected)
            return got;
        waits_since = what == WAITS ? cli_seconds() : 0;
    }
}

/* Receives the worker's first message. After CLOSED, *err has the reason. After LATE and STOPPED the
 * process is ended, and *err is unchanged. */
static enum received greet(struct tune_worker *w, struct patience *p, bool (*stop)(void),
                           xq_device_info *info, char **space, error *err)
{
    struct hello hello;
    char *text = NULL;
    enum received got = receive_answer(w, p, stop, SAYS_HELLO, &hello, sizeof hello);
    if (got == RECEIVED && hello.err.status != XQ_OK) {
        *err = hello.err;
        return CLOSED;
    }
    if (got == RECEIVED) {
        text = calloc(1, hello.space_bytes + 1);
        if (!text) {
            error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
            return CLOSED;
        }
        got = receive_all(w->fd, text, hello.space_bytes, p->own, stop);
    }
    if (got == RECEIVED) {
        *info = hello.device;
        *space = text;
        return got;
    }
    free(text);
    if (got == CLOSED) {
        char why[128];
        describe_death(wait_for_process(w), why, sizeof why);
        error_set(err, XQ_ERROR_DEVICE, "device", "the bench could not be set up: %s", why);
    }
    end_process(w);
    return got;
}

static enum received restart(struct tune_worker *w, struct patience *p, bool (*stop)(void), error *err)
{
    xq_device_info info;
    char *space = NULL;
    if (start_process(w, err) != XQ_OK)
        return CLOSED;
    enum received got = greet(w, p, stop, &info, &space, err);
    free(space);
    return got;
}

xq_status tune_worker_start(const struct tune_job *job, double seconds, bool (*stop)(void),
                            struct tune_worker **out, xq_device_info *info, char **space, error *err)
{
    struct tune_worker *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    w->job = job;
    enum received got = CLOSED;
    struct patience p = patience_of(&(struct tune_limit){seconds, seconds});
    if (start_process(w, err) == XQ_OK)
        got = greet(w, &p, stop, info, space, err);
    if (got == LATE) {
        error_set(err, XQ_ERROR_DEVICE, "device", "the bench was not set up within %.3g s", seconds);
        error_field(err, "budget");
    }
    if (got == STOPPED)
        error_set(err, XQ_ERROR_DEVICE, "device", "setting up the bench was interrupted");
    if (got == RECEIVED)
        *out = w;
    else
        tune_worker_end(w);
    return err->status;
}

static bool ask(const struct tune_worker *w, enum question question, bool brief, const char *parameters)
{
    struct request r;
    memset(&r, 0, sizeof r);
    r.question = question;
    r.brief = brief;
    r.bytes = strlen(parameters);
    return send_all(w->fd, &r, sizeof r) && send_all(w->fd, parameters, r.bytes);
}

void tune_worker_expect(struct tune_worker *w, const char *parameters)
{
    if (w->process)
        ask(w, EXPECT, false, parameters); /* a worker that has ended shows it at the next trial */
}

static bool have_answered(struct tune_worker *w, enum question question, bool brief, const char *parameters,
                          const struct tune_limit *limit, bool (*stop)(void), struct tune_trial *out,
                          error *err)
{
    struct patience p = patience_of(limit);
    enum received got = w->process ? RECEIVED : restart(w, &p, stop, err);
    *out = (struct tune_trial){.outcome = TUNE_CRASHED};
    if (err->status != XQ_OK)
        return false;
    if (got == RECEIVED)
        got = ask(w, question, brief, parameters) ? receive_answer(w, &p, stop, HAS_TRIED, out, sizeof *out)
                                                  : CLOSED;
    out->waited = p.waited;
    if (got == RECEIVED && out->outcome != TUNE_CRASHED)
        return true;
    if (got == CLOSED) { /* the worker ends by itself, and its status tells why */
        *out = (struct tune_trial){.outcome = TUNE_CRASHED, .waited = p.waited};
        describe_death(wait_for_process(w), out->reason, sizeof out->reason);
        return true;
    }
    end_process(w);
    if (got == LATE) {
        *out = (struct tune_trial){.outcome = TUNE_HUNG, .waited = p.waited};
        snprintf(out->reason, sizeof out->reason, "there was no result within %.0f s", limit->own);
    }
    return got != STOPPED;
}

bool tune_worker_try(struct tune_worker *w, const char *parameters, bool brief,
                     const struct tune_limit *limit, bool (*stop)(void), struct tune_trial *out, error *err)
{
    return have_answered(w, TRY, brief, parameters, limit, stop, out, err);
}

bool tune_worker_confirm(struct tune_worker *w, const char *parameters, const struct tune_limit *limit,
                         bool (*stop)(void), struct tune_trial *out, error *err)
{
    return have_answered(w, CONFIRM, false, parameters, limit, stop, out, err);
}

void tune_worker_end(struct tune_worker *w)
{
    if (!w)
        return;
    end_process(w);
    free(w);
}
