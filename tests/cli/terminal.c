#include "terminal.h"

#include "../support/command.h"

#include <criterion/criterion.h>
#include <pty.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reads until the other end is closed. */
static char *read_all(int fd)
{
    size_t size = 0, capacity = 1 << 16;
    char *text = malloc(capacity);
    cr_assert_not_null(text);
    for (;;) {
        ssize_t got = read(fd, text + size, capacity - size - 1);
        if (got <= 0)
            break;
        size += (size_t)got;
        if (capacity - size < 4096) {
            char *larger = realloc(text, capacity *= 2);
            cr_assert_not_null(larger);
            text = larger;
        }
    }
    text[size] = 0;
    return text;
}

const char *terminal_run(int *status, const char *format, ...)
{
    static char *text;
    const struct winsize size = {.ws_row = 24, .ws_col = 80};
    char arguments[4096], line[2 * 4096];
    int fd, ended;
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(line, sizeof line, "exec '%s' %s", command_program(), arguments);
    pid_t pid = forkpty(&fd, NULL, NULL, &size);
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    free(text);
    text = read_all(fd);
    close(fd);
    cr_assert_eq(waitpid(pid, &ended, 0), pid);
    *status = WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
    return text;
}
