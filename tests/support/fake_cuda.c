#include "fake_cuda.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *symbol(const char *name)
{
    void *library = dlopen(getenv("XQ_LIBCUDA"), RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(library, "the fake driver: %s", dlerror());
    void *found = dlsym(library, name);
    cr_assert_not_null(found, "%s", dlerror());
    return found;
}

struct fake_cuda_state *fake_cuda_use(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    cr_assert_gt(n, 0);
    path[n] = 0;
    *strrchr(path, '/') = 0;
    setenv("XQ_LOCK_DIR", path, 0);
    strcat(path, "/libfake_cuda.so");
    setenv("XQ_LIBCUDA", path, 1);
    struct fake_cuda_state *(*get)(void);
    void *found = symbol("fake_cuda_get_state");
    memcpy(&get, &found, sizeof get);
    return get();
}

int fake_cuda_context_depth_of_thread(void)
{
    int (*get)(void);
    void *found = symbol("fake_cuda_context_depth");
    memcpy(&get, &found, sizeof get);
    return get();
}

const struct fake_cuda_launch *fake_cuda_launched(const struct fake_cuda_state *state, int back)
{
    cr_assert_gt(state->launch_count, back, "only %d launches", state->launch_count);
    return &state->launches[(state->launch_count - 1 - back) % FAKE_CUDA_LAUNCHES];
}
