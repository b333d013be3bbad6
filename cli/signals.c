#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};
enum { ENDING = sizeof ending / sizeof ending[0] };

static void (*clean)(int);
static _Atomic(void (*)(void)) on_interrupt;
static sigset_t waited;

static void end_process(int signal_number)
{
    sigset_t one;
    clean(signal_number);
    signal(signal_number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, signal_number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(signal_number);
}

static void *wait_for_signals(void *unused)
{
    int signal_number;
    (void)unused;
    while (sigwait(&waited, &signal_number) == 0) {
        void (*interrupt)(void) = signal_number == SIGINT ? atomic_exchange(&on_interrupt, NULL) : NULL;
        if (interrupt)
            interrupt();
        else
            end_process(signal_number);
    }
    return NULL;
}

static bool is_ignored(int signal_number)
{
    struct sigaction now;
    return sigaction(signal_number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

void cli_signals_start(void (*clean_up)(int))
{
    pthread_t thread;
    clean = clean_up;
    sigemptyset(&waited);
    for (int i = 0; i < ENDING; i++)
        if (!is_ignored(ending[i]))
            sigaddset(&waited, ending[i]);
    pthread_sigmask(SIG_BLOCK, &waited, NULL);
    if (pthread_create(&thread, NULL, wait_for_signals, NULL) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &waited, NULL); /* signals then leave temporary files */
    if (!is_ignored(SIGPIPE))
        signal(SIGPIPE, end_process); /* the thread that wrote gets it; no other can wait for it */
}

void cli_signals_on_interrupt(void (*interrupt)(void))
{
    atomic_store(&on_interrupt, interrupt);
}

void cli_signals_forget(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &waited, NULL);
}
