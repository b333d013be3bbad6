/* NVIDIA's management library, where it can be loaded: reports the clocks of a GPU, and what other
 * processes do on it. */
#ifndef AUTOTUNE_MEASURE_NVML_H
#define AUTOTUNE_MEASURE_NVML_H

#include <stdint.h>

/* One GPU, or one instance of a GPU in MIG mode. */
typedef struct nvml nvml;

/* Loads $XQ_NVML, or else libnvidia-ml.so.1, and finds the GPU with this UUID. Returns NULL where the
 * library or the GPU is missing. */
nvml *nvml_open(const char *uuid);

/* `n` may be NULL. */
void nvml_close(nvml *n);

/* A figure that cannot be had is negative; `lowered` is then 0. */
typedef struct nvml_state {
    int processes; /* other processes with a compute context */
    int busy; /* percent of the last second (on some GPUs, of the last sixth of a second) in which kernels
                 ran */
    int sm, memory;   /* clocks, in MHz */
    uint64_t lowered; /* reasons for lower clocks: nvmlClocksEventReasons */
} nvml_state;

/* This process must hold a context on the GPU, so that NVML lists it among the processes. */
nvml_state nvml_look(nvml *n);

#endif
