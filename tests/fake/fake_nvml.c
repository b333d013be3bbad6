/* A stand-in for libnvidia-ml.so.1, which XQ_NVML names. Environment variables set its answers:
 *
 *   FAKE_NVML_PROCESSES  the PIDs of processes that have a context on the GPU; "self" is the caller's
 *   FAKE_NVML_BUSY       the utilization of the GPU, in percent
 *   FAKE_NVML_CLOCKS     the SM and memory clocks in MHz: "1980,1410". Each query lowers the SM clock by 1
 *   FAKE_NVML_REASONS    the reasons for lower clocks, as a number
 *   FAKE_NVML_UUID       the UUID of the GPU, with GPU- or MIG- before it
 *   FAKE_NVML_FAILS      the name of a call that fails
 *
 * A query of utilization, clocks or reasons is not supported if its variable is not set. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* nvml.h has prototypes of these functions. It is not needed here. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };

struct process_info {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

static int gpu; /* its address is the handle of the GPU */
static int opened, clock_looks;

#define ENTER(name)                                                                                        \
    do {                                                                                                   \
        const char *fails_ = getenv("FAKE_NVML_FAILS");                                                    \
        if (fails_ && strcmp(fails_, name) == 0)                                                           \
            return UNKNOWN;                                                                                \
    } while (0)

EXPORT int nvmlInit_v2(void)
{
    ENTER("nvmlInit");
    opened++;
    return OK;
}

EXPORT int nvmlShutdown(void)
{
    return opened-- > 0 ? OK : UNKNOWN;
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    const char *own = getenv("FAKE_NVML_UUID");
    ENTER("nvmlDeviceGetHandleByUUID");
    *device = &gpu;
    return opened && own && strcmp(uuid, own) == 0 ? OK : NOT_FOUND;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count,
                                                   struct process_info *infos)
{
    const char *text = getenv("FAKE_NVML_PROCESSES");
    unsigned found = 0, room = *count;
    ENTER("nvmlDeviceGetComputeRunningProcesses");
    if (device != &gpu || !opened)
        return UNKNOWN;
    for (; text && *text; found++) {
        char *end;
        unsigned pid = (unsigned)strtoul(text, &end, 10);
        if (strncmp(text, "self", 4) == 0) {
            pid = (unsigned)getpid();
            end += 4;
        }
        if (found < room)
            infos[found] = (struct process_info){.pid = pid, .memory = 1 << 20};
        text = *end ? end + 1 : end;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

EXPORT int nvmlDeviceGetUtilizationRates(void *device, unsigned rates[2])
{
    const char *busy = getenv("FAKE_NVML_BUSY");
    if (device != &gpu || !busy)
        return NOT_SUPPORTED;
    rates[0] = (unsigned)atoi(busy);
    rates[1] = 0;
    return OK;
}

EXPORT int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz)
{
    const char *clocks = getenv("FAKE_NVML_CLOCKS");
    if (device != &gpu || !clocks || which < 1 || which > 2)
        return NOT_SUPPORTED;
    const char *second = strchr(clocks, ',');
    *mhz = (unsigned)atoi(which == 2 && second ? second + 1 : clocks);
    if (which == 1)
        *mhz -= (unsigned)clock_looks++; /* as if the GPU grew warm */
    return OK;
}

EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons)
{
    const char *text = getenv("FAKE_NVML_REASONS");
    if (device != &gpu || !text)
        return NOT_SUPPORTED;
    *reasons = strtoull(text, NULL, 0);
    return OK;
}
