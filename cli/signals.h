/* The signals that end a command, and the cleaning up before the end.
 *
 * NVRTC installs its own handlers of SIGINT and SIGTERM while it compiles; they end the process at once,
 * with status 4. So these signals are blocked in every thread (main.c), and one thread waits for them: a
 * signal that a thread waits for calls no handler.
 *
 * A signal that the caller makes the command ignore, as nohup does, stays ignored. */
#ifndef XQ_CLI_SIGNALS_H
#define XQ_CLI_SIGNALS_H

/* Starts the thread that waits. Call it once, from the first thread. `clean_up` is called with the signal
 * that ends the process, before the end: on the waiting thread, or within a handler for SIGPIPE. */
void cli_signals_start(void (*clean_up)(int signal_number));

/* From now on the first SIGINT calls `interrupt` on the waiting thread, and the next one ends the process
 * as other signals do. NULL: each SIGINT ends it. */
void cli_signals_on_interrupt(void (*interrupt)(void));

/* For a child process that its parent ends: it ignores SIGINT, and any other signal ends it without
 * cleaning up. */
void cli_signals_forget(void);

#endif
