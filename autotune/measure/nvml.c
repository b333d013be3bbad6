#include "nvml.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The parts of nvml.h that are used here. Names, values and layouts are those of the NVML API reference. */
typedef struct nvmlDevice_st *gpu;
enum { NVML_SUCCESS = 0, NVML_ERROR_INSUFFICIENT_SIZE = 7 };
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2 };

/* nvmlProcessInfo_t of nvmlDeviceGetComputeRunningProcesses, and of its second and third version. */
struct process_1 {
    unsigned pid;
    unsigned long long memory;
};
struct process_2 {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

struct utilization {
    unsigned gpu, memory; /* percent */
};

typedef int list_call(gpu, unsigned *count, void *processes);

struct nvml {
    void *library;
    gpu gpu;
    int (*shutdown)(void);
    list_call *list;
    size_t process_bytes;
    int (*utilization)(gpu, struct utilization *);
    int (*clock)(gpu, int which, unsigned *mhz);
    int (*reasons)(gpu, unsigned long long *);
};

/* ----------------------------------------------------------------- opening */

/* Fills the function pointer at `pointer`; false if the library has no such function. */
static bool resolve(const nvml *n, const char *name, void *pointer)
{
    void *symbol = dlsym(n->library, name);
    memcpy(pointer, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* Drivers differ in the functions that they have. Figures of missing functions are unknown. */
static void resolve_all(nvml *n)
{
    n->process_bytes = sizeof(struct process_2);
    if (!resolve(n, "nvmlDeviceGetComputeRunningProcesses_v3", &n->list) &&
        !resolve(n, "nvmlDeviceGetComputeRunningProcesses_v2", &n->list)) {
        n->process_bytes = sizeof(struct process_1);
        resolve(n, "nvmlDeviceGetComputeRunningProcesses", &n->list);
    }
    resolve(n, "nvmlDeviceGetUtilizationRates", &n->utilization);
    resolve(n, "nvmlDeviceGetClockInfo", &n->clock);
    if (!resolve(n, "nvmlDeviceGetCurrentClocksEventReasons", &n->reasons))
        resolve(n, "nvmlDeviceGetCurrentClocksThrottleReasons", &n->reasons);
}

/* The driver's UUID is that of the GPU, or in MIG mode that of the instance. */
static bool find_gpu(nvml *n, const char *uuid)
{
    static const char *const kinds[] = {"GPU", "MIG"};
    int (*by_uuid)(const char *, gpu *);
    char name[80];
    if (!resolve(n, "nvmlDeviceGetHandleByUUID", &by_uuid))
        return false;
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s-%s", kinds[i], uuid);
        if (by_uuid(name, &n->gpu) == NVML_SUCCESS)
            return true;
    }
    return false;
}

nvml *nvml_open(const char *uuid)
{
    const char *chosen = getenv("XQ_NVML");
    int (*init)(void);
    nvml *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->library = dlopen(chosen && *chosen ? chosen : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (n->library && resolve(n, "nvmlInit_v2", &init) && resolve(n, "nvmlShutdown", &n->shutdown) &&
        init() == NVML_SUCCESS) {
        resolve_all(n);
        if (find_gpu(n, uuid))
            return n;
        n->shutdown();
    }
    if (n->library)
        dlclose(n->library);
    free(n);
    return NULL;
}

void nvml_close(nvml *n)
{
    if (!n)
        return;
    n->shutdown();
    dlclose(n->library);
    free(n);
}

/* ----------------------------------------------------------------- reading figures */

/* Counts the other processes. In a container the list has the numbers of another PID namespace, so that
 * this process's own number is missing: then one of the listed processes is this one under another
 * number. */
static int count_others(const nvml *n, const char *processes, unsigned count)
{
    int others = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned pid;
        memcpy(&pid, processes + i * n->process_bytes, sizeof pid);
        others += pid != (unsigned)getpid();
    }
    return others > 0 && others == (int)count ? others - 1 : others;
}

/* Tries several times, because processes may start and end between the call for their number and the call
 * for the list. */
static int look_for_others(const nvml *n)
{
    enum { ATTEMPTS = 5, SLACK = 16 };
    unsigned count = 0;
    int result = n->list ? n->list(n->gpu, &count, NULL) : -1;
    if (result == NVML_SUCCESS)
        return 0;
    for (int i = 0; i < ATTEMPTS && result == NVML_ERROR_INSUFFICIENT_SIZE; i++) {
        count += SLACK;
        /* Drivers of version 530 write a wider third version, beyond the size of the second. */
        char *processes = malloc((size_t)count * (sizeof(struct process_2) + 8));
        if (!processes)
            return -1;
        result = n->list(n->gpu, &count, processes);
        int others = result == NVML_SUCCESS ? count_others(n, processes, count) : -1;
        free(processes);
        if (result == NVML_SUCCESS)
            return others;
    }
    return -1;
}

static int look_at_clock(const nvml *n, int which)
{
    unsigned mhz;
    return n->clock && n->clock(n->gpu, which, &mhz) == NVML_SUCCESS ? (int)mhz : -1;
}

nvml_state nvml_look(nvml *n)
{
    struct utilization u;
    unsigned long long reasons;
    nvml_state s = {.processes = look_for_others(n),
                    .busy = -1,
                    .sm = look_at_clock(n, NVML_CLOCK_SM),
                    .memory = look_at_clock(n, NVML_CLOCK_MEM)};
    if (n->utilization && n->utilization(n->gpu, &u) == NVML_SUCCESS)
        s.busy = (int)u.gpu;
    if (n->reasons && n->reasons(n->gpu, &reasons) == NVML_SUCCESS)
        s.lowered = reasons;
    return s;
}
