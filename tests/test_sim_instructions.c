/* Every instruction of the software device against independent C arithmetic: the CASEs of ptx_cases_*.c. */
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_cases_of(const char *file)
{
    device *sim = ptx_device();
    const char *only = getenv("PTX_CASE");
    int count = 0;
    for (const struct ptx_case *const *test = __start_ptx_cases; test < __stop_ptx_cases; test++) {
        if (!strstr((*test)->file, file) || (only && !strstr((*test)->name, only)))
            continue;
        char message[2048];
        cr_expect(ptx_case_run(sim, *test, message, sizeof message), "%s", message);
        count++;
    }
    cr_expect(count > 0 || only, "no cases in %s", file);
    sim->ops->destroy(sim);
}

Test(sim_instructions, integer_and_logic_match_the_reference)
{
    run_cases_of("ptx_cases_integer.c");
}

Test(sim_instructions, fp32_and_fp64_match_the_reference)
{
    run_cases_of("ptx_cases_float.c");
}

Test(sim_instructions, fp16_and_bf16_match_the_reference)
{
    run_cases_of("ptx_cases_half.c");
}

Test(sim_instructions, conversions_match_the_reference)
{
    run_cases_of("ptx_cases_convert.c");
}

Test(sim_instructions, warp_exchanges_match_the_reference)
{
    run_cases_of("ptx_cases_warp.c");
}

Test(sim_instructions, matrix_instructions_match_the_reference)
{
    run_cases_of("ptx_cases_matrix.c");
}

Test(sim_instructions, memory_and_control_flow_match_the_reference)
{
    run_cases_of("ptx_cases_memory.c");
}
