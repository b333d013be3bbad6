#include "emitted.h"
#include "command.h"
#include "files.h"
#include "shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *emitted_keep(const char *text)
{
    static char *kept[64];
    static size_t count;
    cr_assert_lt(count, sizeof kept / sizeof kept[0]);
    kept[count] = strdup(text);
    return kept[count++];
}

const char *emitted_spec(const char *rest)
{
    char text[1024];
    static int count;
    snprintf(text, sizeof text, "spec-%d.json", count++);
    const char *path = emitted_keep(files_path(files_directory(), text));
    int length = snprintf(text, sizeof text, "{" SESSION_MODEL ", %s}", rest);
    files_write(path, text, (size_t)length);
    return path;
}

const char *emitted(const char *spec, const char *name, const char *options)
{
    static int count;
    char folder[32];
    snprintf(folder, sizeof folder, "bundle-%d", count++);
    const char *path = files_path(files_directory(), folder);
    struct command_result r =
        command_run("emit --spec %s --name %s --out %s " EMITTED_LIMITS " %s", spec, name, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_empty(r.err);
    return path;
}

bool emitted_has(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

const char *emitted_library(const char *folder, const char *name, const char *compiler, bool software)
{
    static char library[4096];
    char capitals[64];
    size_t i = 0;
    for (; name[i]; i++)
        capitals[i] = name[i] == '_' ? '_' : (char)(name[i] - 'a' + 'A');
    capitals[i] = 0;
    snprintf(library, sizeof library, "%s/lib%s%s.so", folder, name, software ? "_sim" : "");
    free(shell_output("cd %s && %s " SHELL_SANITIZER
                      " -Wall -Wextra -Werror -O1 -fPIC -shared %s%s%s %s.c %s_plans.c "
                      "-x none %s%s -o %s -lpthread -ldl -lm",
                      folder, compiler, software ? "-D" : "", software ? capitals : "",
                      software ? "_SOFTWARE_DEVICE=device_sim_open" : "", name, name,
                      software ? shell_build_folder() : "", software ? "/tests/sim.a" : "", library));
    return library;
}
