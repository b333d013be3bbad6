/* The resources that a launch's modelled time is spent on. This is separate from device.h for code that
 * reports times and sees no device. */
#ifndef RUNTIME_DEVICE_LIMITS_H
#define RUNTIME_DEVICE_LIMITS_H

enum device_limit {
    LIMIT_LAUNCHES, /* beginning and ending launches, whatever they do */
    LIMIT_MEMORY,   /* device memory: each 32-byte sector touched moves once */
    LIMIT_L2,       /* L2: every sector requested */
    LIMIT_SHARED,   /* passes through shared memory, 128 bytes per clock and SM */
    LIMIT_MATRIX,   /* matrix units */
    LIMIT_ISSUE,    /* warp schedulers, and the pipe of each instruction class */
    DEVICE_LIMITS
};

#endif
