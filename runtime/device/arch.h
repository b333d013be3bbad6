/* Names of GPU architectures: "sm_90", "sm_90a", "compute_90". */
#ifndef RUNTIME_DEVICE_ARCH_H
#define RUNTIME_DEVICE_ARCH_H

#include <stdbool.h>

/* The compute capability in a name, times ten: 90 for "sm_90a" and "compute_90"; 0 where it has none. */
int arch_number(const char *arch);

/* Whether a GPU of architecture `device` ("sm_86") runs machine code, or PTX through its driver, that was
 * compiled for `target`. Machine code runs on GPUs of the same major number that are not older. PTX runs on
 * all that are not older. Targets that end in "a" run on exactly that GPU, and those that end in "f" on
 * newer ones of the same major number (CUDA C++ Programming Guide, "Compute Capabilities"). */
bool arch_runs_code(const char *device, const char *target);
bool arch_runs_ptx(const char *device, const char *target);

#endif
