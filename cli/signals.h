/* The signals that end a command, and what they must clean up.
 *
 * NVRTC puts its own handlers of SIGINT and SIGTERM in place while it compiles; they end the process at
 * once, with status 4. So these signals are blocked in every thread (main.c), and one thread waits for
 * them: a signal that is waited for calls no handler.
 *
 * A signal that the caller has the command ignore, as nohup does, stays ignored. */
#ifndef XQ_CLI_SIGNALS_H
#define XQ_CLI_SIGNALS_H

/* Begins to wait. Call it once, from the first thread. `clean_up` is called with the signal that ends the
 * process, before it ends: on a thread of its own, or for SIGPIPE within a handler. */
void cli_signals_start(void (*clean_up)(int signal_number));

/* From now on the first SIGINT calls `interrupt`, on a thread of its own, and the next one ends the process
 * as others do. NULL: each SIGINT ends it. */
void cli_signals_on_interrupt(void (*interrupt)(void));

/* For a child process that another command ends: it ignores SIGINT, and any other signal ends it without
 * cleaning up. */
void cli_signals_forget(void);

#endif
