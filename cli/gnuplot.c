#include "gnuplot.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The streams of the process. They are files in memory, so that neither side ever waits for the other. */
enum stream { SCRIPT, OUTPUT, MESSAGES, STREAMS };

struct process {
    int streams[STREAMS];
    int status;      /* as waitpid gives it */
    int not_started; /* errno of exec; 0: the program was started */
};

static void close_all(struct process *p)
{
    for (int i = 0; i < STREAMS; i++)
        if (p->streams[i] >= 0)
            close(p->streams[i]);
}

static xq_status failed(const char *what, error *err)
{
    return error_set(err, XQ_ERROR_IO, "file", "cannot %s gnuplot: %s", what, strerror(errno));
}

static xq_status open_all(struct process *p, const char *script, size_t bytes, error *err)
{
    *p = (struct process){.streams = {-1, -1, -1}};
    for (int i = 0; i < STREAMS; i++)
        if ((p->streams[i] = memfd_create("gnuplot", MFD_CLOEXEC)) < 0)
            return failed("start", err);
    for (size_t written = 0; written < bytes;) {
        ssize_t n = write(p->streams[SCRIPT], script + written, bytes - written);
        if (n < 0)
            return failed("write to", err);
        written += (size_t)n;
    }
    lseek(p->streams[SCRIPT], 0, SEEK_SET);
    return XQ_OK;
}

/* Becomes gnuplot in the child process. `parent` is the process id of xq, which may have ended before the
 * child could ask to end with it. */
static _Noreturn void be_gnuplot(const struct process *p, char *const argv[], pid_t parent, int tell)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cli_signals_forget();
    if (getppid() == parent) {
        for (int i = 0; i < STREAMS; i++)
            dup2(p->streams[i], i);
        execvp(argv[0], argv);
        int why = errno;
        (void)!write(tell, &why, sizeof why);
    }
    _exit(127);
}

static xq_status start_and_wait(struct process *p, char *const argv[], error *err)
{
    int ends[2];
    const pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        return failed("start", err);
    pid_t child = fork();
    if (child == 0)
        be_gnuplot(p, argv, parent, ends[1]);
    close(ends[1]);
    if (child < 0)
        failed("start", err);
    else if (read(ends[0], &p->not_started, sizeof p->not_started) != sizeof p->not_started)
        p->not_started = 0; /* exec succeeded and closed the other end */
    close(ends[0]);
    while (child > 0 && waitpid(child, &p->status, 0) < 0 && errno == EINTR)
        ;
    return err->status;
}

/* The whole contents of a file, NUL-terminated; caller frees. */
static char *read_all(int fd, error *err)
{
    off_t bytes = lseek(fd, 0, SEEK_END);
    char *text = bytes >= 0 ? malloc((size_t)bytes + 1) : NULL;
    ssize_t got = text ? pread(fd, text, (size_t)bytes, 0) : -1;
    if (got < 0) {
        free(text);
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory reading what gnuplot wrote");
        return NULL;
    }
    text[got] = 0;
    return text;
}

/* The last line of text, which has the message. gnuplot draws a pointer into the script above it. */
static const char *last_line(char *messages)
{
    size_t length = strlen(messages);
    while (length && strchr(" \n", messages[length - 1]))
        messages[--length] = 0;
    const char *line = strrchr(messages, '\n');
    return line ? line + 1 : messages;
}

static xq_status report_failure(const struct process *p, char *messages, error *err)
{
    char *all = strdup(messages);
    const char *said = last_line(messages);
    if (WIFSIGNALED(p->status))
        error_set(err, XQ_ERROR_INTERNAL, "argument", "gnuplot was ended by signal %d, %s%s%s",
                  WTERMSIG(p->status), strsignal(WTERMSIG(p->status)), *said ? ": " : "", said);
    else
        error_set(err, XQ_ERROR_INTERNAL, "argument", "gnuplot failed with status %d%s%s",
                  WEXITSTATUS(p->status), *said ? ": " : "", said);
    if (all)
        error_log(err, all);
    free(all);
    return err->status;
}

xq_status gnuplot_run(const char *script, size_t bytes, char **out, error *err)
{
    static char program[] = "gnuplot", no_settings[] = "-d";
    struct process p;
    char *messages = NULL, *output = NULL;
    if (open_all(&p, script, bytes, err) == XQ_OK &&
        start_and_wait(&p, (char *[]){program, no_settings, NULL}, err) == XQ_OK) {
        errno = p.not_started;
        messages = read_all(p.streams[MESSAGES], err);
        output = read_all(p.streams[OUTPUT], err);
        if (p.not_started)
            failed("start", err);
        else if (messages && p.status != 0)
            report_failure(&p, messages, err);
    }
    close_all(&p);
    free(messages);
    if (err->status == XQ_OK)
        *out = output;
    else
        free(output);
    return err->status;
}

xq_status gnuplot_find(gnuplot_version *out, error *err)
{
    static char program[] = "gnuplot", version[] = "--version";
    struct process p;
    char *output = NULL;
    if (open_all(&p, "", 0, err) == XQ_OK &&
        start_and_wait(&p, (char *[]){program, version, NULL}, err) == XQ_OK)
        output = read_all(p.streams[OUTPUT], err);
    close_all(&p);
    if (output && (p.not_started || p.status != 0))
        error_set(
            err, XQ_ERROR_NO_TOOLCHAIN, "toolchain",
            "plots need gnuplot, which %s%s; install the package gnuplot-nox (Debian, Ubuntu) or gnuplot",
            p.not_started == ENOENT ? "is not on the PATH" : "does not run: ",
            p.not_started == ENOENT ? ""
            : p.not_started         ? strerror(p.not_started)
                                    : "`gnuplot --version` fails");
    if (output)
        snprintf(out->text, sizeof out->text, "%.*s", (int)strcspn(output, "\n"), output);
    free(output);
    return err->status;
}
