/* Names of GPU architectures: "sm_90", "sm_90a", "compute_90". */
#ifndef RUNTIME_DEVICE_ARCH_H
#define RUNTIME_DEVICE_ARCH_H

#include <stdbool.h>

/* The compute capability in a name, times ten: 90 for "sm_90a" and "compute_90"; 0 if the name has none. */
int arch_number(const char *arch);

/* Whether a GPU of architecture `device` ("sm_86") runs machine code (or PTX, through its driver) that was
 * compiled for `target`. Machine code runs on GPUs of the same major number that are not older. PTX runs
 * on all GPUs that are not older. Code for a target that ends in "a" runs on exactly that GPU. Code for a
 * target that ends in "f" also runs on newer GPUs of the same major number (CUDA C++ Programming Guide,
 * "Compute Capabilities"). */
bool arch_runs_code(const char *device, const char *target);
bool arch_runs_ptx(const char *device, const char *target);

#endif
