#include "progress.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    pthread_t thread;
    bool running;
    char what[160], step[64];
} line = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

double progress_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Cuts the text at the terminal's width, because a line that wraps could not be erased. */
static void draw(double passed)
{
    struct winsize size = {0};
    char text[320];
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    snprintf(text, sizeof text, "llama: %.0f s, %s%s%s", passed, line.what, *line.step ? ": " : "",
             line.step);
    fprintf(stderr, "\r%.*s\033[K", size.ws_col > 1 ? size.ws_col - 1 : 79, text);
    fflush(stderr);
}

static void *run(void *unused)
{
    const double begun = progress_seconds();
    bool visible = false;
    (void)unused;
    pthread_mutex_lock(&line.lock);
    while (line.running) {
        struct timespec until;
        if (progress_seconds() - begun >= 2) {
            draw(progress_seconds() - begun);
            visible = true;
        }
        clock_gettime(CLOCK_REALTIME, &until); /* pthread_cond_timedwait uses this clock */
        until.tv_nsec += 200000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&line.change, &line.lock, &until);
    }
    if (visible)
        fputs("\r\033[K", stderr);
    pthread_mutex_unlock(&line.lock);
    return NULL;
}

void progress_begin(bool quiet)
{
    if (quiet || !isatty(STDERR_FILENO))
        return;
    line.running = true;
    line.running = pthread_create(&line.thread, NULL, run, NULL) == 0;
}

void progress_say(const char *format, ...)
{
    va_list args;
    pthread_mutex_lock(&line.lock);
    va_start(args, format);
    vsnprintf(line.what, sizeof line.what, format, args);
    va_end(args);
    line.step[0] = '\0';
    pthread_mutex_unlock(&line.lock);
}

void progress_step(const char *step)
{
    pthread_mutex_lock(&line.lock);
    snprintf(line.step, sizeof line.step, "%s", step ? step : "");
    pthread_mutex_unlock(&line.lock);
}

void progress_end(void)
{
    pthread_mutex_lock(&line.lock);
    const bool was_running = line.running;
    line.running = false;
    pthread_cond_signal(&line.change);
    pthread_mutex_unlock(&line.lock);
    if (was_running)
        pthread_join(line.thread, NULL);
}
