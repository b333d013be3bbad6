#include "ceilings.h"

#include <stdio.h>
#include <string.h>

/* Sources, by the letters at the figures:
 *
 *  [H]  NVIDIA H100 Tensor Core GPU Architecture whitepaper (2022), tables of GPU features and of peak
 *       rates, and the H100 datasheet. Dense tensor rates there are 989.4 TFLOP/s for f16 and bf16 and
 *       1978.9 for 8-bit types, which is 132 SMs x 4096 (8192) operations per clock at 1.83 GHz. The fp32
 *       rate is 66.9 TFLOP/s.
 *  [H2] NVIDIA H200 datasheet: the rates of the H100 SXM, 141 GB at 4.8 TB/s.
 *  [A]  NVIDIA A100 Tensor Core GPU Architecture whitepaper (2020) and A100 80GB datasheet.
 *  [R]  NVIDIA Ada GPU Architecture whitepaper, appendix A (GeForce RTX 4090). f16 and fp8 with f32
 *       accumulation run at half the rate of f16 accumulation there: 165.2 and 330.3 TFLOP/s.
 *  [C]  CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" for threads, blocks,
 *       registers and shared memory, and "Arithmetic Instructions", throughput of native arithmetic
 *       instructions in results per clock and SM. The table has the latter divided by 32, or by 64 for
 *       fp16, where a lane makes two results.
 *  [M]  Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture" (arXiv 2402.13499):
 *       mma.sync reaches 62.9 % of the H100's peak on average, and all of it on Ampere and Ada.
 *
 * L2 bandwidth is an estimate throughout. The A100's whitepaper gives 5120 bytes per clock between L2 and
 * the SMs, of which microbenchmarks see about two thirds at most. The same rate is assumed for Hopper,
 * whose L2 has the same two-partition build. For the RTX 4090, about 5 TB/s has been measured. */

#define KIB                1024ul
#define MIB                (1024ul * 1024)
#define GIB                (1024ul * 1024 * 1024)
#define L2_BYTES_PER_CLOCK (5120.0 * 2 / 3)

/* These are the figures of [C] for compute capability 9.0: 64 results per clock for integers and for
 * conversions, 16 for special functions, 32 for shuffles. For loads and stores, one warp instruction per
 * clock goes through the load/store unit of an SM. */
#define PIPES(float_rate, half_rate)                                                                       \
    {                                                                                                      \
        [INSTRUCTION_INTEGER] = 2, [INSTRUCTION_FLOAT] = float_rate, [INSTRUCTION_HALF] = half_rate,       \
        [INSTRUCTION_CONVERT] = 2, [INSTRUCTION_SPECIAL] = 0.5, [INSTRUCTION_GLOBAL] = 1,                  \
        [INSTRUCTION_OTHER_MEMORY] = 1, [INSTRUCTION_EXCHANGE] = 1                                         \
    }

static const struct sim_ceilings table[] = {
    {
        .gpu = "h100",
        .name = "NVIDIA H100 SXM5 80GB",
        .arch = "sm_90",
        .sm_count = 132,                                    /* [H] */
        .max_threads_per_sm = 2048,                         /* [C] */
        .max_blocks_per_sm = 32,                            /* [C] */
        .registers_per_sm = 65536,                          /* [C] */
        .shared_bytes_per_sm = 228 * KIB,                   /* [C] */
        .shared_bytes_per_block = 227 * KIB,                /* [C] */
        .memory_bytes = 80 * GIB,                           /* [H] */
        .l2_bytes = 50 * MIB,                               /* [H] */
        .clock_hz = 1.83e9,                                 /* [H], with the tensor cores busy */
        .memory_bytes_per_second = 3.35e12,                 /* [H] */
        .l2_bytes_per_second = L2_BYTES_PER_CLOCK * 1.83e9, /* estimate: 6.2 TB/s */
        .matrix_flops_per_second = {989.4e12, 989.4e12, 1978.9e12, 1978.9e12}, /* [H] */
        .mma_sync_fraction = 0.629,                                            /* [M] */
        .instructions_per_clock = PIPES(4, 4),                                 /* [C] 9.0 */
    },
    {
        .gpu = "h200",
        .name = "NVIDIA H200 SXM 141GB",
        .arch = "sm_90",
        .sm_count = 132, /* [H2]: the H100 SXM's processor */
        .max_threads_per_sm = 2048,
        .max_blocks_per_sm = 32,
        .registers_per_sm = 65536,
        .shared_bytes_per_sm = 228 * KIB,
        .shared_bytes_per_block = 227 * KIB,
        .memory_bytes = 141000000000ul, /* [H2] */
        .l2_bytes = 50 * MIB,
        .clock_hz = 1.83e9,
        .memory_bytes_per_second = 4.8e12,                  /* [H2] */
        .l2_bytes_per_second = L2_BYTES_PER_CLOCK * 1.83e9, /* estimate: 6.2 TB/s */
        .matrix_flops_per_second = {989.4e12, 989.4e12, 1978.9e12, 1978.9e12},
        .mma_sync_fraction = 0.629, /* [M] */
        .instructions_per_clock = PIPES(4, 4),
    },
    {
        .gpu = "a100",
        .name = "NVIDIA A100 SXM4 80GB",
        .arch = "sm_80",
        .sm_count = 108,                                        /* [A] */
        .max_threads_per_sm = 2048,                             /* [C] */
        .max_blocks_per_sm = 32,                                /* [C] */
        .registers_per_sm = 65536,                              /* [C] */
        .shared_bytes_per_sm = 164 * KIB,                       /* [C] */
        .shared_bytes_per_block = 163 * KIB,                    /* [C] */
        .memory_bytes = 80 * GIB,                               /* [A] */
        .l2_bytes = 40 * MIB,                                   /* [A] */
        .clock_hz = 1.41e9,                                     /* [A] */
        .memory_bytes_per_second = 2.039e12,                    /* [A] */
        .l2_bytes_per_second = L2_BYTES_PER_CLOCK * 1.41e9,     /* estimate: 4.8 TB/s */
        .matrix_flops_per_second = {312e12, 312e12, 624e12, 0}, /* [A]; no 8-bit floats */
        .mma_sync_fraction = 1,                                 /* [M] */
        .instructions_per_clock = PIPES(2, 4),                  /* [C] 8.0 */
    },
    {
        .gpu = "rtx4090",
        .name = "NVIDIA GeForce RTX 4090",
        .arch = "sm_89",
        .sm_count = 128,                                                     /* [R] */
        .max_threads_per_sm = 1536,                                          /* [C] */
        .max_blocks_per_sm = 24,                                             /* [C] */
        .registers_per_sm = 65536,                                           /* [C] */
        .shared_bytes_per_sm = 100 * KIB,                                    /* [C] */
        .shared_bytes_per_block = 99 * KIB,                                  /* [C] */
        .memory_bytes = 24 * GIB,                                            /* [R] */
        .l2_bytes = 72 * MIB,                                                /* [R] */
        .clock_hz = 2.52e9,                                                  /* [R] */
        .memory_bytes_per_second = 1.008e12,                                 /* [R] */
        .l2_bytes_per_second = 5.0e12,                                       /* estimate */
        .matrix_flops_per_second = {165.2e12, 165.2e12, 660.6e12, 330.3e12}, /* [R] */
        .mma_sync_fraction = 1,                                              /* [M] */
        .instructions_per_clock = PIPES(4, 2),                               /* [C] 8.9 */
    },
};

const struct sim_ceilings *sim_ceilings_at(size_t index)
{
    return index < sizeof table / sizeof *table ? &table[index] : NULL;
}

const struct sim_ceilings *sim_ceilings_find(const char *gpu)
{
    if (!gpu)
        return &table[0];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].gpu, gpu) == 0)
            return &table[i];
    return NULL;
}

const char *sim_ceilings_names(void)
{
    return "h100, h200, a100, rtx4090";
}

void sim_ceilings_properties(const struct sim_ceilings *ceilings, device_properties *out)
{
    *out = (device_properties){
        .ordinal = -1,
        .is_sim = true,
        .ptx_target = "compute_80", /* whichever GPU's ceilings the device has */
        .reads_are_cheap = true,
        .sm_count = ceilings->sm_count,
        .max_threads_per_sm = ceilings->max_threads_per_sm,
        .memory_bytes = ceilings->memory_bytes,
        .l2_bytes = ceilings->l2_bytes,
        .shared_bytes_per_block = ceilings->shared_bytes_per_block,
        .shared_bytes_per_sm = ceilings->shared_bytes_per_sm,
        .registers_per_sm = ceilings->registers_per_sm,
        .clock_hz = ceilings->clock_hz,
        .copy_bytes_per_second = ceilings->memory_bytes_per_second,
    };
    snprintf(out->name, sizeof out->name, "%s (software device)", ceilings->name);
    snprintf(out->arch, sizeof out->arch, "%s", ceilings->arch);
    for (int type = 0; type < MATRIX_TYPES; type++)
        out->matrix_flops_per_second[type] = ceilings->matrix_flops_per_second[type];
}
