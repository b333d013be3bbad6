#include "model.h"

#define SECTOR_BYTES 32.0

/* Time from a launch to its first instruction, and from its last instruction to the next launch in the
 * stream. An empty kernel takes about 2 microseconds on every GPU of the table when launches follow each
 * other. */
#define LAUNCH_SECONDS 2e-6

/* An SM takes at most 64 bytes per clock from L2 (A100 whitepaper, "A100 L2 cache"), so that a few blocks
 * cannot draw the whole bandwidth. */
#define SM_BYTES_PER_CLOCK 64.0

/* On all GPUs of the table, an SM has four warp schedulers, which issue one warp instruction per clock
 * each. */
#define SCHEDULERS 4.0

/* How the blocks of a grid are spread over the GPU. The model takes the work as equal in all blocks. */
struct placement {
    double blocks, blocks_per_sm;
    double resident; /* blocks that run at once on the whole GPU */
    double rounds;   /* blocks that the busiest SM runs; work inside SMs takes as long as these do */
};

static double at_least_one(double value)
{
    return value < 1 ? 1 : value;
}

static double ceiling(double value)
{
    double whole = (double)(uint64_t)value;
    return whole < value ? whole + 1 : whole;
}

static struct placement place(const struct sim_ceilings *gpu, const device_launch *launch)
{
    double blocks = (double)launch->grid[0] * launch->grid[1] * launch->grid[2];
    uint64_t threads = (uint64_t)launch->block[0] * launch->block[1] * launch->block[2];
    uint64_t warps = (threads + 31) / 32;
    uint64_t fit = (uint64_t)gpu->max_blocks_per_sm;
    if (warps && (uint64_t)gpu->max_threads_per_sm / (warps * 32) < fit)
        fit = (uint64_t)gpu->max_threads_per_sm / (warps * 32);
    /* The system keeps 1 KiB of shared memory per block since compute capability 8.0. */
    uint64_t shared = launch->shared_bytes + 1024ul;
    if (gpu->shared_bytes_per_sm / shared < fit)
        fit = gpu->shared_bytes_per_sm / shared;
    double per_sm = at_least_one((double)fit);
    return (struct placement){
        .blocks = at_least_one(blocks),
        .blocks_per_sm = per_sm,
        .resident = per_sm * gpu->sm_count,
        .rounds = ceiling(at_least_one(blocks) / gpu->sm_count),
    };
}

/* Time to move `bytes` over a path that the SMs share. Whole waves of blocks move at full bandwidth, and
 * the last wave at the rate that its SMs can draw. */
static double shared_transfer(const struct sim_ceilings *gpu, const struct placement *place, double bytes,
                              double bytes_per_second)
{
    double per_block = bytes / place->blocks;
    double whole_waves = (double)(uint64_t)(place->blocks / place->resident);
    double rest = place->blocks - whole_waves * place->resident;
    double sms = rest < gpu->sm_count ? rest : gpu->sm_count;
    double drawn = sms * SM_BYTES_PER_CLOCK * gpu->clock_hz;
    double all = gpu->sm_count * SM_BYTES_PER_CLOCK * gpu->clock_hz;
    double rate = bytes_per_second < all ? bytes_per_second : all;
    double seconds = whole_waves * place->resident * per_block / rate;
    if (rest > 0)
        seconds += rest * per_block / (drawn < rate ? drawn : rate);
    return seconds;
}

/* Time of `work` that SMs do at `per_second` each. All blocks together have `work`, and the busiest SM does
 * that of `rounds` blocks. */
static double sm_work(const struct placement *place, double work, double per_second)
{
    return work / place->blocks * place->rounds / per_second;
}

static double issue_time(const struct sim_ceilings *gpu, const struct placement *place,
                         const device_counters *counted)
{
    double total = 0, longest = 0;
    for (int class = 0; class < INSTRUCTION_CLASSES; class ++) {
        double count = (double)counted->instructions[class];
        total += count;
        if (gpu->instructions_per_clock[class] == 0)
            continue;
        double seconds = sm_work(place, count, gpu->instructions_per_clock[class] * gpu->clock_hz);
        longest = seconds > longest ? seconds : longest;
    }
    double schedulers = sm_work(place, total, SCHEDULERS * gpu->clock_hz);
    return schedulers > longest ? schedulers : longest;
}

static double matrix_time(const struct sim_ceilings *gpu, const struct placement *place,
                          const device_counters *counted)
{
    double seconds = 0; /* all types share the same units, so their times add up */
    for (int type = 0; type < MATRIX_TYPES; type++) {
        double rate = gpu->matrix_flops_per_second[type];
        if (rate == 0) /* emulated: code for such a GPU converts to f16 first */
            rate = gpu->matrix_flops_per_second[MATRIX_F16];
        seconds += sm_work(place, (double)counted->matrix_flops[type],
                           rate * gpu->mma_sync_fraction / gpu->sm_count);
    }
    return seconds;
}

void sim_model_evaluate(const struct sim_ceilings *ceilings, const device_counters *one_launch,
                        const device_launch *launch, struct sim_model *out)
{
    struct placement where = place(ceilings, launch);
    double unique = (double)(one_launch->read_sectors_unique + one_launch->write_sectors_unique);
    double all = (double)(one_launch->read_sectors + one_launch->write_sectors);
    *out = (struct sim_model){
        .times = {[LIMIT_LAUNCHES] = LAUNCH_SECONDS},
        .limit = LIMIT_MEMORY,
        .blocks_per_sm = (int)where.blocks_per_sm,
    };
    out->times[LIMIT_MEMORY] =
        shared_transfer(ceilings, &where, unique * SECTOR_BYTES, ceilings->memory_bytes_per_second);
    out->times[LIMIT_L2] =
        shared_transfer(ceilings, &where, all * SECTOR_BYTES, ceilings->l2_bytes_per_second);
    out->times[LIMIT_SHARED] = sm_work(&where, (double)one_launch->shared_passes, ceilings->clock_hz);
    out->times[LIMIT_MATRIX] = matrix_time(ceilings, &where, one_launch);
    out->times[LIMIT_ISSUE] = issue_time(ceilings, &where, one_launch);
    for (int limit = LIMIT_MEMORY; limit < DEVICE_LIMITS; limit++)
        if (out->times[limit] > out->times[out->limit])
            out->limit = (enum device_limit)limit;
    out->seconds = out->times[LIMIT_LAUNCHES] + out->times[out->limit];
}
