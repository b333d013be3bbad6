/* Signs that other processes, or heat, disturbed measurements. */
#ifndef AUTOTUNE_MEASURE_NOTICED_H
#define AUTOTUNE_MEASURE_NOTICED_H

#include <stdbool.h>
#include <stdint.h>

/* Reasons for lower clocks, as bits of nvmlClocksEventReasons. Its other bits are no reason to doubt a
 * time: the GPU was idle, or somebody chose its clocks. */
enum {
    MEASURE_POWER_LIMIT = 0x04,
    MEASURE_SLOWDOWN = 0x08,
    MEASURE_SOFTWARE_HEAT = 0x20,
    MEASURE_HARDWARE_HEAT = 0x40,
    MEASURE_POWER_BRAKE = 0x80
};

/* Figures from NVML. A figure that NVML does not report is negative. */
typedef struct measure_load {
    bool known;    /* NVML is available, and the other members are set */
    int processes; /* the most other processes at one time with a compute context on the GPU */
    int busy;      /* percent of the time in which kernels ran, before the first measurement */
    int sm_low, sm_high, memory_low, memory_high; /* clocks at the end of measurements, in MHz */
    uint64_t lowered; /* all reasons for lower clocks at the end of measurements */
} measure_load;

typedef struct measure_noticed {
    char unlocked[256]; /* why a measurement did not wait for its turn (turn.h); "": all did */
    measure_load load;
} measure_noticed;

/* Adds later observations, perhaps of another process, to earlier ones. */
void measure_noticed_add(measure_noticed *to, const measure_noticed *later);

#endif
