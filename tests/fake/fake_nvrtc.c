/* A stand-in for NVRTC, to test which one is chosen: it compiles nothing, and has the version that the end
 * of its file's name says, libnvrtc.so.12 or .13. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* The prototypes are nvrtc.h's, which is not needed here. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT __attribute__((visibility("default")))

EXPORT int nvrtcVersion(int *major, int *minor)
{
    Dl_info info;
    void *self = NULL;
    int (*function)(int *, int *) = nvrtcVersion;
    memcpy(&self, &function, sizeof self);
    if (!dladdr(self, &info))
        return 1;
    *major = atoi(strrchr(info.dli_fname, '.') + 1);
    *minor = 0;
    return 0;
}

EXPORT const char *nvrtcGetErrorString(int result)
{
    (void)result;
    return "a fake compiles nothing";
}

#define REFUSES(name)                                                                                      \
    EXPORT int name(void)                                                                                  \
    {                                                                                                      \
        return 6;                                                                                          \
    }
REFUSES(nvrtcCreateProgram)
REFUSES(nvrtcCompileProgram)
REFUSES(nvrtcDestroyProgram)
REFUSES(nvrtcGetProgramLogSize)
REFUSES(nvrtcGetProgramLog)
REFUSES(nvrtcGetPTXSize)
REFUSES(nvrtcGetPTX)
REFUSES(nvrtcGetCUBINSize)
REFUSES(nvrtcGetCUBIN)
