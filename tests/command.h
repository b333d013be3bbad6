/* Running the xq that lies beside the test programs. */
#ifndef TESTS_COMMAND_H
#define TESTS_COMMAND_H

#include <sys/types.h>

/* What a command said and how it ended. The texts stay valid until the next command_run. */
struct command_result {
    int status; /* exit status; -1 for a signal */
    const char *out, *err;
};

/* Runs `xq ARGUMENTS` through the shell, with a kernel cache of this test process. */
struct command_result command_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Fails the test unless `xq ARGUMENTS` prints exactly this line on stderr, nothing on stdout, and ends
 * with this status. */
void command_refuses(const char *arguments, int status, const char *line);

/* Starts `xq ARGUMENTS` in the background; the process is the program itself. Its output is thrown away,
 * but for redirections among ARGUMENTS. */
pid_t command_start(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Its exit status; -1 for a signal. */
int command_wait(pid_t pid);

/* The program that is run. */
const char *command_program(void);

#endif
