/* Profiles of rows: the instructions of a step by the lines of the templates that they come from. Only the
 * software device has them (device_ops.profile). */
#ifndef CLI_COMPARE_PROFILE_H
#define CLI_COMPARE_PROFILE_H

#include "../runtime/device/device.h"
#include "compare.h"

/* A place in the templates; "" and 0 where the PTX names none. */
struct compare_place {
    char *file;
    int line;
};

/* The counts of one line of a template in one kernel. A line of a function that is inlined counts apart for
 * each caller. */
struct compare_profile_line {
    const char *kernel; /* its entry function */
    struct compare_place place, caller;
    uint64_t issued, by_class[INSTRUCTION_CLASSES]; /* instructions of warps; their sum, and each class */
    uint64_t read_sectors, write_sectors, shared_passes, shared_conflicts;
};

/* A kernel has the lines first to first + count, the one with the most instructions first. */
struct compare_profile_kernel {
    char *name;
    int first, count;
    uint64_t issued;
};

/* One step. Kernels are sorted by their instructions, too. */
struct compare_profile {
    struct compare_profile *next;
    double tokens;            /* cached, of all sequences */
    device_counters counters; /* of the same launches */
    struct compare_profile_kernel *kernels;
    struct compare_profile_line *lines;
    int kernel_count, line_count, line_capacity;
};

/* Keeps the profiles that rows point to. Zero-initialize. */
struct compare_profiles {
    struct compare_profile *first;
};

/* Reads what the device has counted since it began to profile. `counters` are of the same launches. */
xq_status compare_profile_read(struct compare_profiles *profiles, device *d, double tokens,
                               const device_counters *counters, const struct compare_profile **out,
                               error *err);
void compare_profiles_free(struct compare_profiles *profiles);

/* Writes the hottest lines of each row's kernels to standard output. Does nothing where rows have no
 * profile. */
void compare_profile_print(const struct compare_result *result);

/* All lines of one profile. */
cJSON *compare_profile_json(const struct compare_profile *profile, const gen *generator);

#endif
