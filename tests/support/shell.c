#include "shell.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *shell_build_folder(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    cr_assert_gt(n, 0);
    path[n] = 0;
    for (int up = 0; up < 2; up++)
        *strrchr(path, '/') = 0;
    return path;
}

int shell_run(const char *command, char **output)
{
    char line[12400];
    size_t size = 0;
    snprintf(line, sizeof line, "%s 2>&1", command);
    FILE *pipe = popen(line, "r");
    cr_assert_not_null(pipe);
    FILE *text = open_memstream(output, &size);
    for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe))
        fputc(c, text);
    fclose(text);
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

char *shell_output(const char *format, ...)
{
    char command[12288], *output = NULL;
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    int status = shell_run(command, &output);
    cr_assert_eq(status, 0, "%s: %s", command, output);
    return output;
}
