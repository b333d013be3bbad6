/* Tests the table of ceilings, and the time model that uses it. */
#include "../../sim/model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const uint64_t mebi = 1024 * 1024;

static device_launch launch_of(uint32_t blocks, uint32_t threads, uint32_t shared_bytes)
{
    return (device_launch){.grid = {blocks, 1, 1}, .block = {threads, 1, 1}, .shared_bytes = shared_bytes};
}

static struct sim_model evaluate(const char *gpu, const device_counters *counters, device_launch launch)
{
    struct sim_model model;
    sim_model_evaluate(sim_ceilings_find(gpu), counters, &launch, &model);
    return model;
}

#define EXPECT_NEAR(actual, expected, relative)                                                            \
    cr_expect(fabs((actual) - (expected)) <= (relative)*fabs(expected), "%s: %g, not %g", #actual,         \
              (double)(actual), (double)(expected))

Test(sim_ceilings, every_listed_name_is_found_and_no_other)
{
    char names[128];
    snprintf(names, sizeof names, "%s", sim_ceilings_names());
    size_t count = 0;
    for (char *name = strtok(names, ", "); name; name = strtok(NULL, ", "), count++) {
        const struct sim_ceilings *found = sim_ceilings_find(name);
        cr_assert_not_null(found, "%s", name);
        cr_expect_str_eq(found->gpu, name);
        cr_expect_eq(found, sim_ceilings_at(count));
    }
    cr_expect_null(sim_ceilings_at(count));
    cr_expect_eq(sim_ceilings_find(NULL), sim_ceilings_find("h100"));
    cr_expect_null(sim_ceilings_find("v100"));
    cr_expect_null(sim_ceilings_find(""));
}

Test(sim_ceilings, matrix_rates_are_the_units_rate_times_the_clock)
{
    /* Dense f16 FLOPs per clock and SM are 4096 on Hopper, 2048 on A100 and 512 on the RTX 4090. */
    static const struct {
        const char *gpu;
        double per_clock;
    } rates[] = {{"h100", 4096}, {"h200", 4096}, {"a100", 2048}, {"rtx4090", 512}};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        const struct sim_ceilings *gpu = sim_ceilings_find(rates[i].gpu);
        EXPECT_NEAR(gpu->matrix_flops_per_second[MATRIX_F16],
                    rates[i].per_clock * gpu->sm_count * gpu->clock_hz, 0.005);
        cr_expect_eq(gpu->matrix_flops_per_second[MATRIX_F16], gpu->matrix_flops_per_second[MATRIX_BF16]);
    }
    cr_expect_eq(sim_ceilings_find("a100")->matrix_flops_per_second[MATRIX_E4M3], 0);
}

Test(sim_ceilings, properties_state_the_gpu_and_that_it_is_software)
{
    device_properties properties;
    sim_ceilings_properties(sim_ceilings_find("rtx4090"), &properties);
    cr_expect(properties.is_sim);
    cr_expect_str_eq(properties.arch, "sm_89");
    cr_expect_eq(properties.sm_count, 128);
    cr_expect_eq(properties.shared_bytes_per_block, 99 * 1024);
    cr_expect_not_null(strstr(properties.name, "RTX 4090"));
    cr_expect_not_null(strstr(properties.name, "software"));
    EXPECT_NEAR(properties.matrix_flops_per_second[MATRIX_E4M3], 330.3e12, 1e-9);
}

Test(sim_model, an_empty_launch_costs_the_overhead)
{
    device_counters none = {0};
    struct sim_model model = evaluate("h100", &none, launch_of(1, 32, 0));
    cr_expect_gt(model.times[LIMIT_LAUNCHES], 0);
    cr_expect_eq(model.seconds, model.times[LIMIT_LAUNCHES]);
    cr_expect(isfinite(evaluate("a100", &none, launch_of(0, 0, 0)).seconds));
}

Test(sim_model, a_full_grid_that_streams_is_bound_by_memory_bandwidth)
{
    device_counters counters = {.read_sectors = 32 * mebi,
                                .read_sectors_unique = 32 * mebi,
                                .write_sectors = mebi,
                                .write_sectors_unique = mebi};
    struct sim_model model = evaluate("h100", &counters, launch_of(132 * 8, 256, 0));
    cr_expect_eq(model.limit, LIMIT_MEMORY);
    EXPECT_NEAR(model.seconds - model.times[LIMIT_LAUNCHES], 33.0 * (double)mebi * 32 / 3.35e12, 1e-9);
    cr_expect_eq(model.blocks_per_sm, 8);
}

Test(sim_model, reads_again_cost_l2_bandwidth_not_memory)
{
    device_counters counters = {.read_sectors = 100 * mebi, .read_sectors_unique = mebi};
    struct sim_model model = evaluate("a100", &counters, launch_of(108 * 8, 256, 0));
    cr_expect_eq(model.limit, LIMIT_L2);
    EXPECT_NEAR(model.times[LIMIT_MEMORY], 32.0 * (double)mebi / 2.039e12, 1e-9);
    EXPECT_NEAR(model.seconds - model.times[LIMIT_LAUNCHES],
                3200.0 * (double)mebi / sim_ceilings_find("a100")->l2_bytes_per_second, 1e-9);
}

Test(sim_model, one_block_cannot_draw_the_whole_bandwidth)
{
    device_counters counters = {.read_sectors = mebi, .read_sectors_unique = mebi};
    struct sim_model one = evaluate("h100", &counters, launch_of(1, 1024, 0));
    EXPECT_NEAR(one.times[LIMIT_MEMORY], 32.0 * (double)mebi / (64 * 1.83e9), 1e-9);
}

Test(sim_model, a_partial_last_wave_costs_a_whole_round_of_sm_work)
{
    device_counters counters = {.matrix_flops[MATRIX_F16] = 1000000000000};
    double rate = 312e12;
    struct sim_model full = evaluate("a100", &counters, launch_of(108, 256, 0));
    struct sim_model over = evaluate("a100", &counters, launch_of(109, 256, 0));
    cr_expect_eq(full.limit, LIMIT_MATRIX);
    EXPECT_NEAR(full.times[LIMIT_MATRIX], 1e12 / rate, 1e-9);
    EXPECT_NEAR(over.times[LIMIT_MATRIX], 1e12 / rate * 2 * 108 / 109, 1e-9);
}

Test(sim_model, warp_level_matrix_instructions_reach_part_of_hoppers_rate)
{
    device_counters counters = {.matrix_flops[MATRIX_BF16] = 1000000000000};
    struct sim_model model = evaluate("h200", &counters, launch_of(132, 256, 0));
    EXPECT_NEAR(model.times[LIMIT_MATRIX], 1e12 / (989.4e12 * 0.629), 1e-9);
}

Test(sim_model, eight_bit_floats_run_at_the_f16_rate_where_there_are_none)
{
    device_counters counters = {.matrix_flops[MATRIX_E4M3] = 1000000000};
    struct sim_model none = evaluate("a100", &counters, launch_of(108, 32, 0));
    struct sim_model some = evaluate("rtx4090", &counters, launch_of(128, 32, 0));
    EXPECT_NEAR(none.times[LIMIT_MATRIX], 1e9 / 312e12, 1e-9);
    EXPECT_NEAR(some.times[LIMIT_MATRIX], 1e9 / 330.3e12, 1e-9);
}

Test(sim_model, shared_memory_takes_one_pass_per_clock_and_sm)
{
    device_counters counters = {.shared_requests = 132000, .shared_passes = 132000000};
    struct sim_model model = evaluate("h100", &counters, launch_of(132, 128, 0));
    cr_expect_eq(model.limit, LIMIT_SHARED);
    EXPECT_NEAR(model.times[LIMIT_SHARED], 1e6 / 1.83e9, 1e-9);
}

Test(sim_model, issue_is_bound_by_the_schedulers_or_by_one_pipe)
{
    /* An SM issues 4 warp instructions per clock in all, but only one special function in two clocks. */
    device_counters mixed = {.instructions = {[INSTRUCTION_INTEGER] = 108000000,
                                              [INSTRUCTION_FLOAT] = 108000000,
                                              [INSTRUCTION_CONTROL] = 108000000,
                                              [INSTRUCTION_HALF] = 108000000}};
    struct sim_model model = evaluate("a100", &mixed, launch_of(108, 128, 0));
    cr_expect_eq(model.limit, LIMIT_ISSUE);
    EXPECT_NEAR(model.times[LIMIT_ISSUE], 1e6 / 1.41e9, 1e-9);
    device_counters special = {.instructions = {[INSTRUCTION_SPECIAL] = 108000000}};
    model = evaluate("a100", &special, launch_of(108, 128, 0));
    EXPECT_NEAR(model.times[LIMIT_ISSUE], 2e6 / 1.41e9, 1e-9);
}

Test(sim_model, shared_memory_and_threads_limit_resident_blocks)
{
    static const struct {
        const char *gpu;
        uint32_t threads, shared_bytes;
        int blocks;
    } cases[] = {{"h100", 32, 0, 32},         {"h100", 33, 0, 32},         {"h100", 1024, 0, 2},
                 {"rtx4090", 1024, 0, 1},     {"h100", 128, 75 * 1024, 3}, {"h100", 128, 76 * 1024, 2},
                 {"h100", 128, 227 * 1024, 1}};
    device_counters none = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_eq(evaluate(cases[i].gpu, &none, launch_of(1, cases[i].threads, cases[i].shared_bytes))
                         .blocks_per_sm,
                     cases[i].blocks, "case %zu", i);
}
