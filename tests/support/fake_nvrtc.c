#include "fake_nvrtc.h"
#include "files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fake_nvrtc_use(const char *architectures)
{
    fake_nvrtc_use_version(12, architectures);
}

void fake_nvrtc_use_version(int major, const char *architectures)
{
    char program[4096], name[32];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 32);
    cr_assert_gt(n, 0);
    program[n] = 0;
    strcpy(strrchr(program, '/') + 1, "libfake_nvrtc.so");
    size_t size;
    char *library = files_read(program, &size);
    snprintf(name, sizeof name, "libnvrtc.so.%d", major);
    const char *copy = files_path(files_directory(), name);
    files_write(copy, library, size);
    free(library);
    setenv("XQ_NVRTC", copy, 1);
    if (architectures)
        setenv("FAKE_NVRTC_ARCHITECTURES", architectures, 1);
}
