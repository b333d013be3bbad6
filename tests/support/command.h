/* Runs the xq that lies beside the test programs. */
#ifndef TESTS_COMMAND_H
#define TESTS_COMMAND_H

#include <sys/types.h>

/* Output and exit status of a command. The texts stay valid until the next command_run. */
struct command_result {
    int status; /* exit status; -1 if a signal ended the command */
    const char *out, *err;
};

/* Runs `xq ARGUMENTS` through the shell. */
struct command_result command_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Fails the test unless `xq ARGUMENTS` prints exactly this line on stderr, nothing on stdout, and ends
 * with this status. */
void command_refuses(const char *arguments, int status, const char *line);

/* Starts `xq ARGUMENTS` in the background; the process is the program itself. Its output is discarded
 * unless ARGUMENTS redirect it. */
pid_t command_start(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Waits for the process and returns its exit status; -1 if a signal ended it. */
int command_wait(pid_t pid);

/* Path of the program that is run. */
const char *command_program(void);

#endif
