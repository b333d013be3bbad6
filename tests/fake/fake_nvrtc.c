/* A stand-in for NVRTC (tests/support/fake_nvrtc.h). The name of its file states its version:
 * libnvrtc.so.12 or libnvrtc.so.13. It compiles every source to PTX, or to a cubin, that states the
 * architecture and holds no code. fake_cuda.c loads both.
 *
 * If FAKE_NVRTC_COMPILING names a file, the stand-in creates that file and then compiles without end. Its
 * handlers of SIGINT and SIGTERM end the process with status 4, as those of NVRTC do. */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* nvrtc.h has prototypes of these functions. It is not needed here. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, OUT_OF_MEMORY = 1, INVALID_OPTION = 5 };

static int architectures[16], architecture_count;

__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("FAKE_NVRTC_ARCHITECTURES");
    text = text ? text : "50,60,70,75,80,86,87,89,90";
    for (char *end; *text && architecture_count < 16; text = *end ? end + 1 : end)
        architectures[architecture_count++] = (int)strtol(text, &end, 10);
}

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
    return OK;
}

EXPORT int nvrtcGetNumSupportedArchs(int *count)
{
    *count = architecture_count;
    return OK;
}

EXPORT int nvrtcGetSupportedArchs(int *list)
{
    memcpy(list, architectures, (size_t)architecture_count * sizeof *list);
    return OK;
}

EXPORT const char *nvrtcGetErrorString(int result)
{
    return result == INVALID_OPTION ? "NVRTC_ERROR_INVALID_OPTION" : "an error of the fake";
}

/* ---------------------------------------------------------------- programs */

struct program {
    char ptx[128], cubin[64], log[128];
};

EXPORT int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers,
                              const char *const *texts, const char *const *names)
{
    (void)source, (void)name, (void)headers, (void)texts, (void)names;
    *program = calloc(1, sizeof(struct program));
    return *program ? OK : OUT_OF_MEMORY;
}

EXPORT int nvrtcDestroyProgram(void **program)
{
    free(*program);
    *program = NULL;
    return OK;
}

/* Compiles for an architecture such as compute_90 or sm_90a: to PTX, and for sm_ to a cubin as well. */
static int compile_for(struct program *p, const char *arch)
{
    int number = atoi(arch + strcspn(arch, "0123456789"));
    for (int i = 0; i < architecture_count; i++)
        if (architectures[i] == number) {
            snprintf(p->ptx, sizeof p->ptx, ".version 8.0\n.target sm_%d\n.address_size 64\n", number);
            if (strncmp(arch, "sm_", 3) == 0)
                snprintf(p->cubin, sizeof p->cubin, "\177ELF %s", arch);
            return OK;
        }
    snprintf(p->log, sizeof p->log, "nvrtc: error: invalid value for --gpu-architecture (-arch)");
    return INVALID_OPTION;
}

static void end_process(int signal_number)
{
    (void)signal_number;
    _exit(4);
}

static void compile_without_end(const char *mark)
{
    signal(SIGINT, end_process);
    signal(SIGTERM, end_process);
    FILE *file = fopen(mark, "w");
    if (file)
        fclose(file);
    for (;;)
        pause();
}

EXPORT int nvrtcCompileProgram(void *program, int count, const char *const *options)
{
    static const char name[] = "--gpu-architecture=";
    if (getenv("FAKE_NVRTC_COMPILING"))
        compile_without_end(getenv("FAKE_NVRTC_COMPILING"));
    for (int i = 0; i < count; i++)
        if (strncmp(options[i], name, sizeof name - 1) == 0)
            return compile_for(program, options[i] + sizeof name - 1);
    return INVALID_OPTION;
}

/* The size of a text includes its NUL. If there is no cubin, its size is 0. */
#define RESULT(get_size, get, member)                                                                      \
    EXPORT int get_size(const struct program *p, size_t *size)                                             \
    {                                                                                                      \
        *size = strlen(p->member) + 1;                                                                     \
        return OK;                                                                                         \
    }                                                                                                      \
    EXPORT int get(const struct program *p, char *out)                                                     \
    {                                                                                                      \
        strcpy(out, p->member);                                                                            \
        return OK;                                                                                         \
    }
RESULT(nvrtcGetProgramLogSize, nvrtcGetProgramLog, log)
RESULT(nvrtcGetPTXSize, nvrtcGetPTX, ptx)

EXPORT int nvrtcGetCUBINSize(const struct program *p, size_t *size)
{
    *size = p->cubin[0] ? strlen(p->cubin) + 1 : 0;
    return OK;
}

EXPORT int nvrtcGetCUBIN(const struct program *p, char *out)
{
    strcpy(out, p->cubin);
    return OK;
}
