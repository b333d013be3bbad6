/* Tests every instruction of the software device against independent C arithmetic: the CASEs of
 * ptx_cases_*.c. PTX_CASE=WORD runs only the cases whose names contain WORD. */
#include "../../sim/sim.h"
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_cases(device *sim, const char *file, int level)
{
    const char *only = getenv("PTX_CASE");
    int count = 0;
    for (const struct ptx_case *const *test = __start_ptx_cases; test < __stop_ptx_cases; test++) {
        if (!strstr((*test)->file, file) || (only && !strstr((*test)->name, only)))
            continue;
        char message[2048];
        cr_expect(ptx_case_run(sim, *test, message, sizeof message), "level %d: %s", level, message);
        count++;
    }
    return count + (only != NULL);
}

/* Runs the cases on each of the host's instruction sets that the lanes are compiled for. */
static void run_cases_of(const char *file)
{
    device *sim = ptx_device();
    cr_assert(sim_set_lanes(sim, 0));
    for (int level = 0; sim_set_lanes(sim, level); level++)
        cr_expect(run_cases(sim, file, level) > 0, "no cases in %s", file);
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

/* ---------------------------------------------------------------- coverage */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_.:%$", c);
}

/* Copies the opcode at `word` without the modifiers that sim_opcode_name leaves out. With `base`, copies it
 * only up to the first dot. */
static void reduce(const char *word, size_t length, bool base, char *out, size_t room)
{
    static const char *const modifiers[] = {"rn", "rz", "rm", "rp", "ftz", "sat", "relu"};
    size_t used = 0;
    for (size_t at = 0; at < length;) {
        size_t part = 0;
        while (at + part < length && word[at + part] != '.')
            part++;
        bool skip = base && at > 0;
        for (size_t i = 0; i < sizeof modifiers / sizeof *modifiers; i++)
            skip |= strlen(modifiers[i]) == part && memcmp(word + at, modifiers[i], part) == 0;
        if (!skip && used + part + 2 < room) {
            if (used)
                out[used++] = '.';
            memcpy(out + used, word + at, part);
            used += part;
        }
        at += part + 1;
    }
    out[used] = '\0';
}

static bool mentions(const char *text, const char *opcode)
{
    bool base = !strchr(opcode, '.');
    for (const char *word = text; *word;) {
        size_t length = 0;
        while (word[length] && is_word(word[length]))
            length++;
        char reduced[128];
        reduce(word, length, base, reduced, sizeof reduced);
        bool whole = length == strlen(opcode) && memcmp(word, opcode, length) == 0;
        if (whole || (length && strcmp(reduced, opcode) == 0))
            return true;
        word += length ? length : 1;
    }
    return false;
}

static bool is_covered(const char *opcode)
{
    /* These two end a kernel; test_sim_faults.c tests them. */
    if (strcmp(opcode, "trap") == 0 || strcmp(opcode, "brkpt") == 0)
        return true;
    for (const struct ptx_case *const *test = __start_ptx_cases; test < __stop_ptx_cases; test++)
        if (mentions((*test)->ptx, opcode))
            return true;
    return false;
}

Test(sim_instructions, every_opcode_of_the_software_device_has_a_case)
{
    size_t count = 0;
    for (; sim_opcode_name(count); count++)
        cr_expect(is_covered(sim_opcode_name(count)), "no CASE for %s", sim_opcode_name(count));
    cr_expect(count > 300, "%zu opcodes", count);
    cr_expect_not(mentions("add.s32 %d0, %a0;", "add.s16"));
    cr_expect(mentions("@%p0 fma.rn.ftz.f32 %d0;", "fma.f32"));
    cr_expect(mentions("}cp.async.wait_all;", "cp"));
}
