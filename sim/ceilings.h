/* What the GPUs that the software device stands in for can do at best, from public datasheets. The model
 * of model.h turns counters into times with these; on a real GPU the ceilings are measured instead. */
#ifndef SIM_CEILINGS_H
#define SIM_CEILINGS_H

#include "../runtime/device/device.h"

struct sim_ceilings {
    const char *gpu;  /* "h100" */
    const char *name; /* "NVIDIA H100 SXM5 80GB" */
    const char *arch; /* "sm_90" */
    int sm_count;
    int max_threads_per_sm, max_blocks_per_sm;
    int registers_per_sm;
    size_t shared_bytes_per_sm, shared_bytes_per_block; /* per block: the opt-in maximum */
    size_t memory_bytes, l2_bytes;
    double clock_hz; /* boost clock, at which the rates below hold */
    double memory_bytes_per_second;
    double l2_bytes_per_second; /* an estimate: no datasheet states it */
    /* Dense matrix rates with f32 (s8: s32) accumulation; 0: the GPU has no such instruction. */
    double matrix_flops_per_second[MATRIX_TYPES];
    /* Part of those rates that warp-level mma.sync reaches. */
    double mma_sync_fraction;
    /* Warp instructions that one SM finishes per clock, by class; 0: see other limits. */
    double instructions_per_clock[INSTRUCTION_CLASSES];
};

/* `gpu` NULL: "h100". NULL if there is none of that name. */
const struct sim_ceilings *sim_ceilings_find(const char *gpu);

/* Names for error messages: "h100, h200, a100, rtx4090". */
const char *sim_ceilings_names(void);

/* The table's entries, in order; NULL past the end. */
const struct sim_ceilings *sim_ceilings_at(size_t index);

/* What device_properties says of the software device with these ceilings. */
void sim_ceilings_properties(const struct sim_ceilings *ceilings, device_properties *out);

#endif
