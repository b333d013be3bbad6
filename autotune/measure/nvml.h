/* NVIDIA's management library, where it can be loaded: what other processes do on a GPU, and its clocks. */
#ifndef AUTOTUNE_MEASURE_NVML_H
#define AUTOTUNE_MEASURE_NVML_H

#include <stdint.h>

/* One GPU, or an instance of one in MIG mode. */
typedef struct nvml nvml;

/* Loads $XQ_NVML, or else libnvidia-ml.so.1, and finds the GPU of this UUID. NULL: one or the other is not
 * there. */
nvml *nvml_open(const char *uuid);

/* NULL is fine. */
void nvml_close(nvml *n);

/* A figure that cannot be had is negative; reasons are then 0. */
typedef struct nvml_state {
    int processes;    /* with a compute context, but for this one */
    int busy;         /* percent of the last second (a sixth of one on some GPUs) in which kernels ran */
    int sm, memory;   /* clocks, in MHz */
    uint64_t lowered; /* reasons for lower clocks: nvmlClocksEventReasons */
} nvml_state;

/* This process holds a context on the GPU, so that it is one of those that NVML lists. */
nvml_state nvml_look(nvml *n);

#endif
