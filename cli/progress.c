/* A line on the terminal that shows the current work. A thread draws it, because the work is often one long
 * call, of a kernel on the software device or of NVRTC, during which nothing else could draw it. */
#include "cli.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const double silence = 2, interval = 0.2; /* seconds until the line shows, and between two updates */

/* A process has one terminal, so it has one line. */
static struct line {
    pthread_mutex_t lock; /* guards the members below, and stderr while the line may show */
    pthread_cond_t change;
    pthread_t thread;
    bool running, visible;
    const char *what;
    char detail[96], step[96];
    double fraction;       /* part of the work that is done; 0: not known */
    double started, since; /* when the work began; when `fraction` was set */
} line = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

static double seconds_on(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double cli_seconds(void)
{
    return seconds_on(CLOCK_MONOTONIC);
}

/* The clock that condition variables use. */
static double now(void)
{
    return seconds_on(CLOCK_REALTIME);
}

static size_t columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

/* The lock is held in all functions from here to "calls". */
static void erase(void)
{
    if (line.visible)
        fputs("\r\033[K", stderr);
    line.visible = false;
}

/* Cuts the line at the width of the terminal, because a longer line could not be erased. */
static void draw(double t)
{
    char text[320], time[64];
    double passed = line.since - line.started, left = 0;
    if (line.fraction > 0)
        left = passed * (1 - line.fraction) / line.fraction - (t - line.since);
    if (left >= 0.5)
        snprintf(time, sizeof time, "%.0f %%, %.0f s left", 100 * line.fraction, left);
    else if (line.fraction > 0)
        snprintf(time, sizeof time, "%.0f %%, %.0f s so far", 100 * line.fraction, t - line.started);
    else
        snprintf(time, sizeof time, "%.0f s", t - line.started);
    snprintf(text, sizeof text, "%s: %s  %s%s%s", line.what, time, line.detail,
             *line.detail && *line.step ? ": " : "", line.step);
    fprintf(stderr, "\r%.*s\033[K", (int)columns() - 1, text);
    fflush(stderr);
    line.visible = true;
}

static struct timespec after(double t, double seconds)
{
    t += seconds;
    return (struct timespec){(time_t)t, (long)((t - (double)(time_t)t) * 1e9)};
}

static void *run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&line.lock);
    while (line.running) {
        double t = now(), wait = line.started + silence - t;
        if (wait <= 0) {
            draw(t);
            wait = interval;
        }
        struct timespec until = after(t, wait);
        pthread_cond_timedwait(&line.change, &line.lock, &until);
    }
    erase();
    fflush(stderr);
    pthread_mutex_unlock(&line.lock);
    return NULL;
}

/* ------------------------------------------------------------------ calls */

void cli_progress_begin(struct cli_progress *p, const struct cli_common *common, const char *what)
{
    *p = (struct cli_progress){false};
    if (common->quiet || !isatty(STDERR_FILENO))
        return;
    pthread_mutex_lock(&line.lock);
    line.what = what;
    *line.detail = *line.step = 0;
    line.fraction = 0;
    line.started = line.since = now();
    line.running = true;
    line.running = p->running = pthread_create(&line.thread, NULL, run, NULL) == 0;
    pthread_mutex_unlock(&line.lock);
}

void cli_progress_update(struct cli_progress *p, double fraction, const char *detail)
{
    if (!p->running)
        return;
    pthread_mutex_lock(&line.lock);
    line.fraction = fraction;
    line.since = now();
    snprintf(line.detail, sizeof line.detail, "%s", detail ? detail : "");
    *line.step = 0;
    pthread_mutex_unlock(&line.lock);
}

void cli_progress_step(const char *step)
{
    pthread_mutex_lock(&line.lock);
    snprintf(line.step, sizeof line.step, "%s", step ? step : "");
    pthread_mutex_unlock(&line.lock);
}

void cli_show_waiting(void *unused, bool waits)
{
    (void)unused;
    cli_progress_step(waits ? "waiting for another measurement on this GPU" : "timing");
}

void cli_progress_end(struct cli_progress *p)
{
    if (!p->running)
        return;
    pthread_mutex_lock(&line.lock);
    line.running = p->running = false;
    pthread_cond_signal(&line.change);
    pthread_mutex_unlock(&line.lock);
    pthread_join(line.thread, NULL);
}

void cli_progress_forget(void)
{
    line = (struct line){.running = false};
    pthread_mutex_init(&line.lock, NULL);
    pthread_cond_init(&line.change, NULL);
}

void cli_progress_pause(void)
{
    pthread_mutex_lock(&line.lock);
    erase();
}

void cli_progress_resume(void)
{
    pthread_mutex_unlock(&line.lock);
}
