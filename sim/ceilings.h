/* Ceilings are the peak rates and the sizes of the GPUs that the software device can stand in for. They
 * come mostly from public datasheets; ceilings.c names the sources. model.h turns counters into times with
 * them. On a real GPU the ceilings are measured instead. */
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
    /* Dense matrix rates with f32 accumulation (s32 for s8); 0 if the GPU has no such instruction. */
    double matrix_flops_per_second[MATRIX_TYPES];
    /* Fraction of those rates that warp-level mma.sync reaches. */
    double mma_sync_fraction;
    /* Warp instructions per clock that one SM finishes, by class; 0 if only other limits apply. */
    double instructions_per_clock[INSTRUCTION_CLASSES];
};

/* Finds a GPU by its short name; NULL stands for "h100". Returns NULL if no GPU has that name. */
const struct sim_ceilings *sim_ceilings_find(const char *gpu);

/* The valid names, for error messages: "h100, h200, a100, rtx4090". */
const char *sim_ceilings_names(void);

/* Entry `index` of the table; NULL past the end. */
const struct sim_ceilings *sim_ceilings_at(size_t index);

/* Fills the properties of a software device that has these ceilings. */
void sim_ceilings_properties(const struct sim_ceilings *ceilings, device_properties *out);

#endif
