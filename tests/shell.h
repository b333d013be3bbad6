/* Running commands in the repository's root, where all tests run. */
#ifndef TESTS_SHELL_H
#define TESTS_SHELL_H

/* The folder that holds tests/test_x of the running program, and the libraries. */
const char *shell_build_folder(void);

/* Runs a command; returns its exit status (-1 for a signal), and what it printed, both streams, in *output,
 * to be freed. */
int shell_run(const char *command, char **output);

/* What the libraries were built with, a program that links them must be built with. */
#if defined(__SANITIZE_ADDRESS__)
#define SHELL_SANITIZER "-fsanitize=address,undefined"
#elif defined(__SANITIZE_THREAD__)
#define SHELL_SANITIZER "-fsanitize=thread"
#else
#define SHELL_SANITIZER ""
#endif

#endif
