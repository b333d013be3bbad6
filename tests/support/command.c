#include "command.h"

#include "files.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* FOLDER/tests/test_x → FOLDER/xq */
const char *command_program(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 8);
    cr_assert_gt(n, 0);
    path[n] = 0;
    *strrchr(path, '/') = 0;
    strcpy(strrchr(path, '/'), "/xq");
    cr_assert_eq(access(path, X_OK), 0, "%s is not built", path);
    return path;
}

struct command_result command_run(const char *format, ...)
{
    static const char *directory;
    static char *texts[2];
    char arguments[4096], line[3 * 4096];
    va_list list;
    if (!directory)
        directory = files_directory();
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(line, sizeof line, "'%s' %s >'%s/out' 2>'%s/err'", command_program(), arguments, directory,
             directory);
    int status = system(line);
    for (int i = 0; i < 2; i++) {
        size_t size;
        free(texts[i]);
        texts[i] = files_read(files_path(directory, i ? "err" : "out"), &size);
    }
    return (struct command_result){WIFEXITED(status) ? WEXITSTATUS(status) : -1, texts[0], texts[1]};
}

pid_t command_start(const char *format, ...)
{
    char arguments[4096], line[2 * 4096];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(line, sizeof line, "exec '%s' >/dev/null 2>&1 %s", command_program(), arguments);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    return pid;
}

int command_wait(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void command_refuses(const char *arguments, int status, const char *line)
{
    struct command_result r = command_run("%s", arguments);
    char expected[2048];
    snprintf(expected, sizeof expected, "%s\n", line);
    cr_assert_str_eq(r.err, expected, "xq %s", arguments);
    cr_assert_str_eq(r.out, "", "xq %s", arguments);
    cr_assert_eq(r.status, status, "xq %s: exit status %d", arguments, r.status);
}
