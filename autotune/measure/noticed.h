/* Signs that other processes, or heat, disturbed measurements. */
#ifndef AUTOTUNE_MEASURE_NOTICED_H
#define AUTOTUNE_MEASURE_NOTICED_H

#include <stdbool.h>
#include <stdint.h>

/* Reasons for lower clocks, of nvmlClocksEventReasons. Others of its bits are no reason to doubt a time:
 * the GPU is idle, or somebody chose its clocks. */
enum {
    MEASURE_POWER_LIMIT = 0x04,
    MEASURE_SLOWDOWN = 0x08,
    MEASURE_SOFTWARE_HEAT = 0x20,
    MEASURE_HARDWARE_HEAT = 0x40,
    MEASURE_POWER_BRAKE = 0x80
};

/* Figures of NVML; one that it does not tell is negative. */
typedef struct measure_load {
    bool known;    /* NVML is there: the others are set */
    int processes; /* other processes with a compute context on the GPU: the most that there were */
    int busy;      /* percent of the time in which kernels ran, before the first measurement */
    int sm_low, sm_high, memory_low, memory_high; /* clocks at the end of measurements, in MHz */
    uint64_t lowered;                             /* all reasons for lower clocks, at the same moments */
} measure_load;

typedef struct measure_noticed {
    char unlocked[256]; /* why a measurement did not wait for its turn (turn.h); "": all did */
    measure_load load;
} measure_noticed;

/* Adds what was noticed later, maybe by another process. */
void measure_noticed_add(measure_noticed *to, const measure_noticed *later);

#endif
