#include "arch.h"

#include <stdlib.h>
#include <string.h>

int arch_number(const char *arch)
{
    return atoi(arch + strcspn(arch, "0123456789"));
}

/* Returns the letter at the end of a name, 'a' or 'f'; 0 if there is none. */
static char suffix_of(const char *arch)
{
    size_t length = strlen(arch);
    char last = length > 0 ? arch[length - 1] : 0;
    return last == 'a' || last == 'f' ? last : 0;
}

bool arch_runs_code(const char *device, const char *target)
{
    int have = arch_number(device), wanted = arch_number(target);
    if (suffix_of(target) == 'a')
        return have == wanted;
    return have / 10 == wanted / 10 && have >= wanted;
}

bool arch_runs_ptx(const char *device, const char *target)
{
    if (suffix_of(target))
        return arch_runs_code(device, target);
    return arch_number(device) >= arch_number(target);
}
