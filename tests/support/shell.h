/* Runs commands in the repository's root, where all tests run. */
#ifndef TESTS_SHELL_H
#define TESTS_SHELL_H

/* The folder that holds tests/test_x, the running program, and the libraries. */
const char *shell_build_folder(void);

/* Runs a command and returns its exit status (-1 if a signal ended it). *output receives the text of both
 * output streams; the caller frees it. */
int shell_run(const char *command, char **output);

/* Flags of the sanitizer that the libraries were built with. Programs that link them need the same
 * flags. */
#if defined(__SANITIZE_ADDRESS__)
#define SHELL_SANITIZER "-fsanitize=address,undefined"
#elif defined(__SANITIZE_THREAD__)
#define SHELL_SANITIZER "-fsanitize=thread"
#else
#define SHELL_SANITIZER ""
#endif

/* Output of a command that must succeed; the caller frees it. */
char *shell_output(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
