/* Plants each fault that the software device promises to find, and reads the error. Beside each faulty
 * kernel stands a corrected one, which must run. The faulty line of PTX carries the mark //!, and .loc says
 * that it comes from line 42 of a template. */
#include "../sim/sim.h"
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every kernel gets a buffer of 1020 bytes of device memory, and the address of an allocation that was
 * freed. */
struct fault_params {
    uint64_t buffer, freed;
};
enum { BUFFER_BYTES = 1020 };

struct fault {
    const char *name;
    const char *faulty, *sound; /* kernel bodies; sound is NULL if there is no corrected one */
    const char *says;           /* words of the message, separated by | */
    uint32_t grid, block;       /* 0 stands for 1 and 32 */
    int at_block, at_thread;    /* where the fault must be found, plus 1; 0: anywhere */
    uint32_t shared_bytes;
};

static const char head[] =
    ".version 8.4\n.target sm_80\n.address_size 64\n.file 1 \"templates/fault.cu.lt\"\n"
    ".extern .shared .align 16 .b8 dynamic[];\n"
    ".visible .entry fault_kernel(.param .align 8 .b8 params[16])\n{\n"
    "    .shared .align 16 .b8 memory[2048];\n    .local .align 16 .b8 frame[64];\n"
    "    .reg .pred %p<8>;\n    .reg .b16 %h<4>;\n    .reg .b32 %r<20>, %me, %warp, %lane, %block;\n"
    "    .reg .b64 %l<8>, %buffer, %freed, %mine;\n"
    "    ld.param.u64 %buffer, [params];\n    ld.param.u64 %freed, [params+8];\n"
    "    mov.u32 %me, %tid.x;\n    shr.u32 %warp, %me, 5;\n    and.b32 %lane, %me, 31;\n"
    "    mov.u32 %block, %ctaid.x;\n    mul.wide.u32 %mine, %me, 4;\n    add.s64 %mine, %mine, %buffer;\n"
    "    mov.u32 %r0, memory;\n    shl.b32 %r1, %me, 4;\n    add.s32 %r1, %r1, %r0;\n"
    "    .loc 1 7 0\n";

static char *module_of(const char *body)
{
    size_t bytes = sizeof head + strlen(body) + 64;
    char *text = malloc(bytes);
    cr_assert_not_null(text);
    snprintf(text, bytes, "%s%s\n    ret;\n}\n", head, body);
    return text;
}

/* Whether the message names one of the lines that carry the mark. */
static bool names_marked_line(const char *text, const char *message)
{
    int line = 1;
    for (const char *c = text; *c; c++) {
        char expected[32];
        snprintf(expected, sizeof expected, "line %d ", line);
        if (strncmp(c, "//!", 3) == 0 && strstr(message, expected))
            return true;
        line += *c == '\n';
    }
    return false;
}

/* Errors of the parser contain "line N:". N may also be the next line, where the next token is. */
static bool names_line_near(const char *text, const char *message)
{
    const char *mark = strstr(text, "//!");
    int line = 1;
    for (const char *c = text; mark && c < mark; c++)
        line += *c == '\n';
    for (int i = 0; mark && i < 2; i++) {
        char expected[32];
        snprintf(expected, sizeof expected, "line %d:", line + i);
        if (strstr(message, expected))
            return true;
    }
    return !mark;
}

static xq_status run_body(device *sim, const struct fault *fault, const char *body, error *err)
{
    const device_ops *ops = sim->ops;
    struct fault_params params = {0};
    error setup = ERROR_INIT;
    ops->alloc(sim, BUFFER_BYTES, &params.buffer, &setup);
    ops->alloc(sim, 256, &params.freed, &setup);
    ops->fill(sim, params.buffer, 0, BUFFER_BYTES, &setup);
    ops->free(sim, params.freed, &setup);
    cr_assert_eq(setup.status, XQ_OK, "%s", setup.message);
    char *text = module_of(body);
    struct ptx_launch launch = {.ptx = text,
                                .entry = "fault_kernel",
                                .grid = fault->grid ? fault->grid : 1,
                                .block = fault->block ? fault->block : 32,
                                .shared_bytes = fault->shared_bytes,
                                .params = &params,
                                .params_bytes = sizeof params};
    xq_status status = ptx_run(sim, &launch, err);
    ops->free(sim, params.buffer, &setup);
    error_clear(&setup);
    free(text);
    return status;
}

static bool contains_all(const char *message, const char *words)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, "|"); word; word = strtok(NULL, "|"))
        if (!strcasestr(message, word))
            return false;
    return true;
}

static void expect_fault(device *sim, const struct fault *fault)
{
    error err = ERROR_INIT;
    char *text = module_of(fault->faulty);
    run_body(sim, fault, fault->faulty, &err);
    cr_expect_eq(err.status, XQ_ERROR_DEVICE, "%s: status %d (%s)", fault->name, err.status, err.message);
    cr_expect(contains_all(err.message, fault->says), "%s: '%s' does not say %s", fault->name, err.message,
              fault->says);
    cr_expect(contains_all(err.message, "fault_kernel"), "%s: no kernel in '%s'", fault->name, err.message);
    char expected[64];
    if (strstr(fault->faulty, "//!")) {
        cr_expect(names_marked_line(text, err.message) || names_line_near(text, err.message),
                  "%s: not the marked line in '%s'", fault->name, err.message);
        cr_expect(err.line == 42 && strcmp(err.file, "templates/fault.cu.lt") == 0, "%s: at %s:%d",
                  fault->name, err.file, err.line);
    }
    free(text);
    if (fault->at_block > 0) {
        snprintf(expected, sizeof expected, "block (%d, 0, 0)", fault->at_block - 1);
        cr_expect(contains_all(err.message, expected), "%s: not %s in '%s'", fault->name, expected,
                  err.message);
    }
    if (fault->at_thread > 0) {
        snprintf(expected, sizeof expected, "thread (%d, 0, 0)", fault->at_thread - 1);
        cr_expect(contains_all(err.message, expected), "%s: not %s in '%s'", fault->name, expected,
                  err.message);
    }
    error_clear(&err);
    if (!fault->sound)
        return;
    run_body(sim, fault, fault->sound, &err);
    cr_expect_eq(err.status, XQ_OK, "%s, put right: %s", fault->name, err.message);
    error_clear(&err);
}

static void expect_faults(const struct fault *faults, size_t count)
{
    device *sim = ptx_device();
    sim_set_instruction_budget(sim, 1000000); /* the longest sound kernel needs 300,000 */
    /* all faults, on each of the host's instruction sets that the checks are compiled for */
    for (int level = 0; sim_set_lanes(sim, level); level++)
        for (size_t i = 0; i < count; i++)
            expect_fault(sim, &faults[i]);
    sim->ops->destroy(sim);
}

#define EXPECT_FAULTS(faults) expect_faults(faults, sizeof(faults) / sizeof *(faults))
#define LOC                   "    .loc 1 42 0\n    "
#define BAD                   " //!\n"

Test(sim_faults, device_memory_accesses_stay_in_their_allocation)
{
    static const struct fault faults[] = {
        {.name = "read past the end",
         .faulty = LOC "ld.global.u32 %r2, [%mine+900];" BAD,
         .sound = LOC "ld.global.u32 %r2, [%mine+892];" BAD,
         .says = "bounds|4 bytes",
         .grid = 3,
         .at_block = 1 + 0,
         .at_thread = 1 + 30},
        {.name = "read across the end",
         .faulty = LOC "ld.global.u64 %l0, [%buffer+1016];" BAD,
         .sound = LOC "ld.global.u64 %l0, [%buffer+1008];" BAD,
         .says = "bounds|8 bytes"},
        {.name = "vector read across the end",
         .faulty = LOC "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%buffer+1008];" BAD,
         .sound = LOC "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%buffer+992];" BAD,
         .says = "bounds|16 bytes"},
        {.name = "read before the start",
         .faulty = LOC "ld.global.u32 %r2, [%buffer+-4];" BAD,
         .sound = LOC "ld.global.u32 %r2, [%buffer];" BAD,
         .says = "bounds"},
        {.name = "write past the end",
         .faulty = LOC "st.global.u32 [%buffer+1020], %me;" BAD,
         .sound = LOC "st.global.u32 [%mine], %me;" BAD,
         .says = "bounds"},
        {.name = "atomic past the end",
         .faulty = LOC "atom.global.add.u32 %r2, [%buffer+1024], 1;" BAD,
         .sound = LOC "atom.global.add.u32 %r2, [%buffer+1016], 1;" BAD,
         .says = "bounds"},
        {.name = "asynchronous copy past the end",
         .faulty =
             LOC "cp.async.cg.shared.global [%r1], [%buffer+1008], 16;" BAD "    cp.async.wait_all;\n",
         .sound = LOC "cp.async.cg.shared.global [%r1], [%buffer+992], 16;" BAD "    cp.async.wait_all;\n",
         .says = "bounds"},
        {.name = "null",
         .faulty = "    mov.u64 %l0, 0;\n" LOC "ld.global.u32 %r2, [%l0];" BAD,
         .says = "outside|0x0"},
        {.name = "wild",
         .faulty = "    mov.u64 %l0, 0x7fffffffffffff00;\n" LOC "st.global.u32 [%l0], %me;" BAD,
         .says = "outside"},
        {.name = "generic address past the end",
         .faulty = LOC "ld.u32 %r2, [%buffer+1020];" BAD,
         .sound = LOC "ld.u32 %r2, [%buffer+1016];" BAD,
         .says = "bounds"},
        {.name = "one lane of one block",
         .faulty = "    setp.eq.u32 %p0, %block, 2;\n    setp.eq.and.u32 %p0, %me, 45, %p0;\n"
                   "    selp.b64 %l0, 4096, 0, %p0;\n    add.s64 %l0, %l0, %mine;\n" LOC
                   "st.global.u32 [%l0], %me;" BAD,
         .sound = LOC "st.global.u32 [%mine], %me;" BAD,
         .says = "bounds",
         .grid = 4,
         .block = 64,
         .at_block = 1 + 2,
         .at_thread = 1 + 45},
        {.name = "freed memory",
         .faulty = LOC "ld.global.u32 %r2, [%freed];" BAD,
         .sound = LOC "ld.global.u32 %r2, [%buffer];" BAD,
         .says = "free"},
        {.name = "freed memory, written",
         .faulty = LOC "st.global.u32 [%freed+12], %r1;" BAD,
         .sound = LOC "st.global.u32 [%mine+12], %r1;" BAD,
         .says = "free"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, accesses_are_aligned)
{
    static const struct fault faults[] = {
        {.name = "global 4 bytes",
         .faulty = LOC "ld.global.u32 %r2, [%buffer+2];" BAD,
         .sound = LOC "ld.global.u16 %h0, [%buffer+2];" BAD,
         .says = "aligned"},
        {.name = "global vector",
         .faulty = LOC "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%buffer+8];" BAD,
         .sound = LOC "ld.global.v2.u32 {%r2,%r3}, [%buffer+8];" BAD,
         .says = "aligned|16"},
        {.name = "global store of one lane",
         .faulty = "    setp.eq.u32 %p0, %me, 9;\n    selp.b64 %l0, 1, 0, %p0;\n    add.s64 %l0, %l0, "
                   "%mine;\n" LOC "st.global.u32 [%l0], %me;" BAD,
         .sound = LOC "st.global.u32 [%mine], %me;" BAD,
         .says = "aligned",
         .at_thread = 1 + 9},
        {.name = "shared",
         .faulty = LOC "st.shared.v4.b32 [%r1+8], {%me,%me,%me,%me};" BAD,
         .sound = LOC "st.shared.v2.b32 [%r1+8], {%me,%me};" BAD,
         .says = "aligned"},
        {.name = "asynchronous copy",
         .faulty = LOC "cp.async.cg.shared.global [%r1], [%buffer+8], 16;" BAD "    cp.async.wait_all;\n",
         .sound = LOC "cp.async.ca.shared.global [%r1], [%buffer+8], 8;" BAD "    cp.async.wait_all;\n",
         .says = "aligned"},
        {.name = "ldmatrix",
         .faulty = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
                   "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1+8];" BAD,
         .sound = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.warp.sync -1;\n" LOC
                  "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];" BAD,
         .says = "aligned"},
        {.name = "atomic",
         .faulty = LOC "atom.global.add.u64 %l0, [%buffer+4], 1;" BAD,
         .sound = LOC "atom.global.add.u64 %l0, [%buffer+8], 1;" BAD,
         .says = "aligned"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, shared_and_local_accesses_stay_in_bounds)
{
    static const struct fault faults[] = {
        {.name = "past the static end",
         .faulty = LOC "st.shared.b32 [%r1+2024], %me;" BAD,
         .sound = LOC "st.shared.b32 [%r1+500], %me;" BAD,
         .says = "shared|bounds",
         .at_thread = 1 + 2},
        {.name = "past the dynamic end",
         .faulty = "    mov.u32 %r2, dynamic;\n" LOC "st.shared.b32 [%r2+256], %me;" BAD,
         .sound = "    mov.u32 %r2, dynamic;\n" LOC "st.shared.b32 [%r2+252], 7;" BAD,
         .says = "shared|bounds",
         .shared_bytes = 256},
        {.name = "below",
         .faulty = "    mov.u32 %r2, 0;\n" LOC "st.shared.b32 [%r2+-16], 7;" BAD,
         .says = "shared|bounds"},
        {.name = "ldmatrix past the end",
         .faulty = LOC "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1+2048];" BAD,
         .says = "shared|bounds"},
        {.name = "local past the end",
         .faulty = "    mov.u64 %l0, frame;\n" LOC "st.local.b32 [%l0+64], %me;" BAD,
         .sound = "    mov.u64 %l0, frame;\n" LOC "st.local.b32 [%l0+60], %me;" BAD,
         .says = "local|bounds"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, shared_memory_is_written_before_it_is_read)
{
    static const struct fault faults[] = {
        {.name = "never written",
         .faulty = LOC "ld.shared.b32 %r2, [%r1];" BAD,
         .sound = "    st.shared.b32 [%r1], 0;\n" LOC "ld.shared.b32 %r2, [%r1];" BAD,
         .says = "uninitialized|shared"},
        {.name = "dynamic, never written",
         .faulty = "    mov.u32 %r2, dynamic;\n" LOC "ld.shared.b32 %r2, [%r2];" BAD,
         .says = "uninitialized|shared",
         .shared_bytes = 512},
        {.name = "written in part",
         .faulty = "    st.shared.b8 [%r1], %me;\n    st.shared.b16 [%r1+2], %h0;\n" LOC
                   "ld.shared.b32 %r2, [%r1];" BAD,
         .sound =
             "    mov.u16 %h0, 1;\n    st.shared.b16 [%r1], %h0;\n    st.shared.b16 [%r1+2], %h0;\n" LOC
             "ld.shared.b32 %r2, [%r1];" BAD,
         .says = "uninitialized|shared"},
        {.name = "one lane of a vector",
         .faulty =
             "    setp.ne.u32 %p0, %me, 13;\n    @%p0 st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
             "ld.shared.v4.b32 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .sound = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
                  "ld.shared.v4.b32 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .says = "uninitialized|shared",
         .at_thread = 1 + 13},
        {.name = "ldmatrix",
         .faulty = "    st.shared.v2.b32 [%r1], {%me,%me};\n    bar.warp.sync -1;\n" LOC
                   "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .sound = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.warp.sync -1;\n" LOC
                  "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .says = "uninitialized|shared"},
        {.name = "atomic",
         .faulty = LOC "atom.shared.add.u32 %r2, [%r1], 1;" BAD,
         .sound = "    st.shared.b32 [%r1], 0;\n" LOC "atom.shared.add.u32 %r2, [%r1], 1;" BAD,
         .says = "uninitialized|shared"},
        {.name = "written by the block before",
         .faulty = "    setp.eq.u32 %p0, %block, 0;\n    @%p0 st.shared.b32 [%r1], 0;\n" LOC
                   "ld.shared.b32 %r2, [%r1];" BAD,
         .sound = "    st.shared.b32 [%r1], 0;\n" LOC "ld.shared.b32 %r2, [%r1];" BAD,
         .says = "uninitialized|shared",
         .grid = 2,
         .at_block = 1 + 1},
    };
    EXPECT_FAULTS(faults);
}

/* Sets %r3 to the address of the neighbour warp's word. */
#define OTHER_WARP "    xor.b32 %r2, %me, 32;\n    shl.b32 %r3, %r2, 4;\n    add.s32 %r3, %r3, %r0;\n"

Test(sim_faults, warps_share_data_only_across_a_barrier)
{
    static const struct fault faults[] = {
        {.name = "read after write",
         .faulty = OTHER_WARP "    st.shared.b32 [%r1], %me;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP "    st.shared.b32 [%r1], %me;\n    bar.sync 0;\n" LOC
                             "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 64,
         .at_block = 1 + 0},
        {.name = "write after read",
         .faulty = OTHER_WARP "    st.shared.b32 [%r1], %me;\n    bar.sync 0;\n" LOC
                              "ld.shared.b32 %r4, [%r3];" BAD "" LOC "st.shared.b32 [%r1], 5;" BAD,
         .sound =
             OTHER_WARP "    st.shared.b32 [%r1], %me;\n    bar.sync 0;\n    ld.shared.b32 %r4, [%r3];\n"
                        "    bar.sync 0;\n" LOC "st.shared.b32 [%r1], 5;" BAD,
         .says = "race|shared",
         .block = 64,
         .at_block = 1 + 0},
        {.name = "write after write",
         .faulty = LOC "st.shared.b32 [memory], %me;" BAD,
         .sound = "    setp.eq.u32 %p0, %me, 0;\n" LOC "@%p0 st.shared.b32 [memory], %me;" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a barrier that not all warps pass",
         .faulty = OTHER_WARP "    st.shared.b32 [%r1], %me;\n    setp.lt.u32 %p0, %warp, 2;\n"
                              "    @%p0 bar.sync 1, 64;\n    @%p0 ret;\n    xor.b32 %r2, %me, 96;\n"
                              "    shl.b32 %r3, %r2, 4;\n    add.s32 %r3, %r3, %r0;\n" LOC
                              "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP "    setp.ge.u32 %p0, %me, 64;\n    @%p0 ret;\n    st.shared.b32 [%r1], %me;\n"
                             "    bar.sync 1, 64;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 96},
        {.name = "atomic and plain read",
         .faulty = "    setp.eq.u32 %p0, %me, 0;\n    @%p0 st.shared.b32 [memory], 0;\n    bar.sync 0;\n"
                   "" LOC "red.shared.add.u32 [memory], 1;" BAD "" LOC "ld.shared.b32 %r4, [memory];" BAD,
         .sound = "    setp.eq.u32 %p0, %me, 0;\n    @%p0 st.shared.b32 [memory], 0;\n    bar.sync 0;\n"
                  "    red.shared.add.u32 [memory], 1;\n    bar.sync 0;\n" LOC
                  "ld.shared.b32 %r4, [memory];" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "buffer reused without a second barrier",
         .faulty =
             OTHER_WARP "    mov.u32 %r5, 0;\nLOOP:\n" LOC "st.shared.b32 [%r1], %r5;" BAD
                        "    bar.sync 0;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD "    add.s32 %r5, %r5, 1;\n"
                        "    setp.lt.u32 %p0, %r5, 3;\n    @%p0 bra LOOP;\n",
         .sound = OTHER_WARP "    mov.u32 %r5, 0;\nLOOP:\n" LOC "st.shared.b32 [%r1], %r5;" BAD
                             "    bar.sync 0;\n    ld.shared.b32 %r4, [%r3];\n    bar.sync 0;\n"
                             "    add.s32 %r5, %r5, 1;\n    setp.lt.u32 %p0, %r5, 3;\n    @%p0 bra LOOP;\n",
         .says = "shared",
         .block = 64},
    };
    EXPECT_FAULTS(faults);
}

/* Rows of 16 bytes are checked as one if they are accessed as a whole. */
#define OWN_WORD "    shl.b32 %r5, %lane, 2;\n    add.s32 %r5, %r5, %r0;\n    setp.eq.u32 %p0, %warp, 1;\n"
#define OWN_ROW  "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.sync 0;\n"

Test(sim_faults, words_of_one_row_are_told_apart)
{
    static const struct fault faults[] = {
        {.name = "the lane that wrote a word",
         .faulty = OWN_WORD "    @%p0 ld.shared.b32 %r4, [memory+52];\n" LOC
                            "@!%p0 st.shared.b32 [%r5], %me;" BAD,
         .sound = OWN_WORD "    @!%p0 st.shared.b32 [%r5], %me;\n    bar.sync 0;\n"
                           "    @%p0 ld.shared.b32 %r4, [memory+52];\n",
         .says = "race|shared|52",
         .block = 64,
         .at_thread = 1 + 13},
        {.name = "a word of a row that another warp reads a word of",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.b32 %r4, [%r1];\n" LOC
                                               "@%p0 st.shared.b32 [%r3], 5;" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.b32 %r4, [%r1];\n" LOC
                                              "@%p0 st.shared.b32 [%r3+4], 5;" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a word of a row that another warp reads whole",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];\n" LOC
                                               "@%p0 st.shared.b32 [%r3+12], 5;" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];\n"
                                              "    bar.sync 0;\n" LOC "@%p0 st.shared.b32 [%r3+12], 5;" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a row of which another warp wrote a word",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 st.shared.b32 [%r3+8], 5;\n" LOC
                                               "@%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 st.shared.b32 [%r3+8], 5;\n    bar.sync 0;\n" LOC
                                              "@%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a matrix of rows of which another warp writes a byte",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW
         "    @%p0 bra BYTE;\n    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4,%r6,%r7,%r8}, [%r1];\n"
         "    bra DONE;\nBYTE:\n" LOC "st.shared.b8 [%r3+7], %me;" BAD "DONE:\n",
         .sound = OTHER_WARP OWN_WORD OWN_ROW
         "    @%p0 bra BYTE;\n    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4,%r6,%r7,%r8}, [%r1];\n"
         "    bar.sync 0;\n    bra DONE;\nBYTE:\n    bar.sync 0;\n" LOC "st.shared.b8 [%r3+7], %me;" BAD
         "DONE:\n",
         .says = "race|shared",
         .block = 64},
        {.name = "a row written whole after its parts",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW
         "    st.shared.b8 [%r1+3], %me;\n    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
         "ld.shared.b32 %r4, [%r3+12];" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW
         "    st.shared.b8 [%r1+3], %me;\n    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n"
         "    bar.sync 0;\n" LOC "ld.shared.b32 %r4, [%r3+12];" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "two lanes copy to one row",
         .faulty = "    xor.b32 %r2, %lane, 1;\n    setp.eq.u32 %p1, %lane, 20;\n"
                   "    selp.b32 %r2, 5, %lane, %p1;\n    shl.b32 %r2, %r2, 4;\n"
                   "    add.s32 %r2, %r2, %r0;\n" LOC "cp.async.cg.shared.global [%r2], [%buffer], 16;" BAD
                   "    cp.async.wait_all;\n",
         .sound = LOC "cp.async.cg.shared.global [%r1], [%buffer], 16;" BAD "    cp.async.wait_all;\n",
         .says = "cp.async"},
        {.name = "copies in another order than the lanes'",
         .faulty = "    xor.b32 %r2, %lane, 5;\n    shl.b32 %r2, %r2, 4;\n    add.s32 %r2, %r2, %r0;\n"
                   "    cp.async.cg.shared.global [%r2], [%buffer], 16;\n    cp.async.wait_all;\n" LOC
                   "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = "    xor.b32 %r2, %lane, 5;\n    shl.b32 %r2, %r2, 4;\n    add.s32 %r2, %r2, %r0;\n"
                  "    cp.async.cg.shared.global [%r2], [%buffer], 16;\n    cp.async.wait_all;\n" LOC
                  "ld.shared.b32 %r4, [%r2];" BAD,
         .says = "cp.async|lane 5"},
    };
    EXPECT_FAULTS(faults);
}

#define COPY_OWN "    cp.async.cg.shared.global [%r1], [%buffer+16], 16;\n"

Test(sim_faults, asynchronous_copies_are_waited_for)
{
    static const struct fault faults[] = {
        {.name = "no wait",
         .faulty = COPY_OWN "    cp.async.commit_group;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n" LOC
                           "ld.shared.b32 %r4, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "never committed",
         .faulty = COPY_OWN "    cp.async.wait_group 0;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = COPY_OWN "    cp.async.wait_all;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "waited for an older group",
         .faulty = COPY_OWN
         "    cp.async.commit_group;\n    cp.async.ca.shared.global [%r1+512], [%buffer], 4;\n"
         "    cp.async.commit_group;\n    cp.async.wait_group 1;\n    ld.shared.b32 %r5, [%r1];\n" LOC
         "ld.shared.b32 %r4, [%r1+512];" BAD,
         .sound = COPY_OWN
         "    cp.async.commit_group;\n    cp.async.ca.shared.global [%r1+512], [%buffer], 4;\n"
         "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    ld.shared.b32 %r5, [%r1];\n" LOC
         "ld.shared.b32 %r4, [%r1+512];" BAD,
         .says = "cp.async"},
        {.name = "a barrier is no wait",
         .faulty =
             COPY_OWN "    cp.async.commit_group;\n    bar.sync 0;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    bar.sync 0;\n" LOC
                           "ld.shared.b32 %r4, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "ldmatrix of a copy under way",
         .faulty = COPY_OWN "    cp.async.commit_group;\n" LOC
                            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .sound =
             COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    bar.warp.sync -1;\n" LOC
                      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "another warp's copy without a barrier",
         .faulty = OTHER_WARP COPY_OWN "    cp.async.wait_all;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP COPY_OWN "    cp.async.wait_all;\n    bar.sync 0;\n" LOC
                                      "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 64},
        {.name = "another warp's copy that it does not wait for",
         .faulty = OTHER_WARP COPY_OWN
         "    cp.async.commit_group;\n    bar.sync 0;\n    cp.async.wait_group 0;\n" LOC
         "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP COPY_OWN
         "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    bar.sync 0;\n" LOC
         "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 64},
        {.name = "another lane's copy without a barrier",
         .faulty = "    xor.b32 %r2, %r1, 16;\n" COPY_OWN
                   "    setp.lt.u32 %p0, %me, 16;\n    @%p0 cp.async.wait_all;\n" LOC
                   "ld.shared.b32 %r4, [%r2];" BAD,
         .sound = "    xor.b32 %r2, %r1, 16;\n" COPY_OWN
                  "    cp.async.wait_all;\n    bar.warp.sync -1;\n" LOC "ld.shared.b32 %r4, [%r2];" BAD,
         .says = "cp.async"},
        {.name = "written over while under way",
         .faulty = COPY_OWN "    cp.async.commit_group;\n" LOC "st.shared.b32 [%r1+4], %me;" BAD
                            "    cp.async.wait_group 0;\n",
         .sound = COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n" LOC
                           "st.shared.b32 [%r1+4], %me;" BAD,
         .says = "cp.async"},
        {.name = "copied over what another warp reads",
         .faulty =
             OTHER_WARP "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.sync 0;\n"
                        "" LOC "ld.shared.b32 %r4, [%r3];" BAD "" LOC
                        "cp.async.cg.shared.global [%r1], [%buffer+16], 16;" BAD "    cp.async.wait_all;\n",
         .sound =
             OTHER_WARP "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.sync 0;\n"
                        "    ld.shared.b32 %r4, [%r3];\n    bar.sync 0;\n" LOC
                        "cp.async.cg.shared.global [%r1], [%buffer+16], 16;" BAD "    cp.async.wait_all;\n",
         .says = "shared",
         .block = 64},
    };
    EXPECT_FAULTS(faults);
}

#define HALF_WARP "    setp.lt.u32 %p0, %lane, 16;\n    mov.u32 %r2, 1;\n"

Test(sim_faults, collective_instructions_are_executed_by_all_their_lanes)
{
    static const struct fault faults[] = {
        {.name = "shuffle",
         .faulty = HALF_WARP LOC "@%p0 shfl.sync.bfly.b32 %r3|%p1, %r2, 1, 31, -1;" BAD,
         .sound = HALF_WARP LOC "shfl.sync.bfly.b32 %r3|%p1, %r2, 1, 31, -1;" BAD,
         .says = "shfl"},
        {.name = "shuffle in a branch",
         .faulty =
             HALF_WARP "    @%p0 bra SKIP;\n" LOC "shfl.sync.idx.b32 %r3, %r2, 1, 31, -1;" BAD "SKIP:\n",
         .sound = HALF_WARP "    @%p0 bra SKIP;\n" LOC "shfl.sync.idx.b32 %r3, %r2, 17, 31, 0xffff0000;" BAD
                            "SKIP:\n",
         .says = "shfl"},
        {.name = "shuffle from a lane that takes no part",
         .faulty = HALF_WARP "    @%p0 bra SKIP;\n" LOC "shfl.sync.idx.b32 %r3, %r2, 1, 31, 0xffff0000;" BAD
                             "SKIP:\n",
         .sound = HALF_WARP "    @%p0 bra SKIP;\n" LOC "shfl.sync.idx.b32 %r3, %r2, 31, 31, 0xffff0000;" BAD
                            "SKIP:\n",
         .says = "shfl"},
        {.name = "a lane that is not in the mask",
         .faulty = HALF_WARP LOC "vote.sync.any.pred %p1, %p0, 0xffff;" BAD,
         .sound = HALF_WARP LOC "@%p0 vote.sync.any.pred %p1, %p0, 0xffff;" BAD,
         .says = "vote"},
        {.name = "reduction",
         .faulty = HALF_WARP LOC "@%p0 redux.sync.add.s32 %r3, %r2, -1;" BAD,
         .sound = HALF_WARP LOC "@%p0 redux.sync.add.s32 %r3, %r2, 0xffff;" BAD,
         .says = "redux"},
        {.name = "match",
         .faulty = HALF_WARP LOC "@%p0 match.any.sync.b32 %r3, %r2, -1;" BAD,
         .sound = HALF_WARP LOC "@%p0 match.any.sync.b32 %r3, %r2, 0xffff;" BAD,
         .says = "match"},
        {.name = "matrix instruction",
         .faulty = HALF_WARP LOC
         "@%p0 mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r4,%r5,%r6,%r7}, {%r2,%r2,%r2,%r2}, "
         "{%r2,%r2}, {%r2,%r2,%r2,%r2};" BAD,
         .sound = HALF_WARP LOC
         "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r4,%r5,%r6,%r7}, {%r2,%r2,%r2,%r2}, "
         "{%r2,%r2}, {%r2,%r2,%r2,%r2};" BAD,
         .says = "mma"},
        {.name = "ldmatrix",
         .faulty = HALF_WARP "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.warp.sync -1;\n" LOC
                             "@!%p0 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r1];" BAD,
         .sound = HALF_WARP "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.warp.sync -1;\n" LOC
                            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r1];" BAD,
         .says = "ldmatrix"},
        {.name = "movmatrix",
         .faulty = HALF_WARP LOC "@%p0 movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r2;" BAD,
         .sound = HALF_WARP LOC "movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r2;" BAD,
         .says = "movmatrix"},
        {.name = "barrier in a branch",
         .faulty = HALF_WARP "    @%p0 bra SKIP;\n" LOC "bar.sync 0;" BAD "SKIP:\n",
         .sound = HALF_WARP "    @%p0 bra SKIP;\nSKIP:\n" LOC "bar.sync 0;" BAD,
         .says = "bar",
         .block = 64},
        {.name = "warp barrier",
         .faulty = HALF_WARP LOC "@%p0 bar.warp.sync -1;" BAD,
         .sound = HALF_WARP LOC "@%p0 bar.warp.sync 0xffff;" BAD,
         .says = "bar.warp"},
        {.name = "shuffle from a lane that exited",
         .faulty = HALF_WARP "    @%p0 exit;\n" LOC "shfl.sync.idx.b32 %r3, %r2, 1, 31, -1;" BAD,
         .sound = HALF_WARP "    @%p0 exit;\n" LOC "shfl.sync.idx.b32 %r3, %r2, 17, 31, -1;" BAD,
         .says = "shfl"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, barriers_that_never_complete_are_found)
{
    static const struct fault faults[] = {
        {.name = "two warps at different barriers",
         .faulty = "    setp.eq.u32 %p0, %warp, 0;\n    @%p0 bra SKIP;\n    bar.sync 1;\n    bra.uni "
                   "END;\nSKIP:\n"
                   "    bar.sync 2;\nEND:\n",
         .sound = "    setp.eq.u32 %p0, %warp, 0;\n    @%p0 bra SKIP;\n    bar.sync 1;\n    bra.uni "
                  "END;\nSKIP:\n"
                  "    bar.sync 1;\nEND:\n",
         .says = "barrier",
         .block = 64,
         .at_block = 1 + 0},
        {.name = "too few threads arrive",
         .faulty = "    setp.eq.u32 %p0, %warp, 0;\n    @%p0 ret;\n" LOC "bar.sync 1, 96;" BAD,
         .sound = "    setp.eq.u32 %p0, %warp, 0;\n    @%p0 ret;\n" LOC "bar.sync 1, 64;" BAD,
         .says = "barrier",
         .block = 96,
         .at_block = 1 + 0},
        {.name = "one warp asks once more",
         .faulty = "    setp.eq.u32 %p0, %warp, 0;\n    bar.sync 1, 64;\n    @%p0 bar.sync 1, 64;\n",
         .sound = "    setp.eq.u32 %p0, %warp, 0;\n    bar.sync 1, 64;\n    @%p0 bar.sync 1, 32;\n",
         .says = "barrier",
         .block = 64},
        {.name = "different thread counts at one barrier",
         .faulty = "    setp.eq.u32 %p0, %warp, 0;\n    @%p0 bra SKIP;\n    bar.sync 1, 64;\n    bra.uni "
                   "END;\nSKIP:\n"
                   "    bar.sync 1, 96;\nEND:\n",
         .says = "barrier",
         .block = 96},
        {.name = "a count that is no multiple of a warp",
         .faulty = LOC "bar.sync 1, 40;" BAD,
         .sound = LOC "bar.sync 1, 64;" BAD,
         .says = "bar",
         .block = 64},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, endless_loops_end_and_traps_are_told)
{
    static const struct fault faults[] = {
        {.name = "endless loop",
         .faulty = "LOOP:\n    add.s32 %r2, %r2, 1;\n    bra.uni LOOP;\n",
         .sound =
             "    mov.u32 %r2, 0;\nLOOP:\n    add.s32 %r2, %r2, 1;\n    setp.lt.u32 %p0, %r2, 100000;\n"
             "    @%p0 bra LOOP;\n",
         .says = "instructions",
         .at_block = 1 + 0},
        {.name = "waits for a flag that nobody sets",
         .faulty = "LOOP:\n    ld.volatile.global.u32 %r2, [%buffer];\n    setp.eq.u32 %p0, %r2, 0;\n"
                   "    @%p0 bra LOOP;\n",
         .says = "instructions"},
        {.name = "breakpoint",
         .faulty = "    setp.eq.u32 %p0, %me, 5;\n" LOC "@%p0 brkpt;" BAD,
         .says = "brkpt",
         .at_thread = 1 + 5},
        {.name = "trap",
         .faulty = "    setp.eq.u32 %p0, %me, 5;\n" LOC "@%p0 trap;" BAD,
         .sound = "    setp.eq.u32 %p0, %me, 50;\n" LOC "@%p0 trap;" BAD,
         .says = "trap",
         .at_thread = 1 + 5},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, unknown_instructions_are_errors)
{
    static const char *const unknown[] = {
        "frobnicate.b32 %r2, %r3;",
        "add.s33 %r2, %r3, %r4;",
        "add.sideways.s32 %r2, %r3, %r4;",
        ("mma.sync.aligned.m16n8k12.row.col.f32.f16.f16.f32 {%r4,%r5,%r6,%r7}, {%r2,%r2,%r2,%r2}, "
         "{%r2,%r2}, {%r2,%r2,%r2,%r2};"),
        "cvt.rn.f16.f17 %h0, %r2;",
        "wgmma.fence.sync.aligned;",
        "ld.imaginary.u32 %r2, [%buffer];",
        "sqrt.approx.f16 %h0, %h1;",
        "shl.s32 %r2, %r3, 1;",
    };
    device *sim = ptx_device();
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        char body[512];
        snprintf(body, sizeof body, "    @%%p0 bra SKIP;\n" LOC "%s" BAD "SKIP:\n", unknown[i]);
        struct fault fault = {.name = unknown[i], .faulty = body, .says = "unknown"};
        expect_fault(sim, &fault);
    }
    sim->ops->destroy(sim);
}

Test(sim_faults, bad_ptx_is_an_error_with_its_line)
{
    static const struct {
        const char *body;
        bool whole; /* body is a whole module */
    } bad[] = {
        {"    add.s32 %r2, %r3, %r4 //!\n    add.s32 %r2, %r3, %r4;", false},
        {"    add.s32 %r2, %r3, %nothing; //!\n", false},
        {"    add.s32 %r2, %r3; //!\n", false},
        {"    add.s32 %r2, %r3, %r4, %r5; //!\n", false},
        {"    add.s32 %r2, %r3, [%r4; //!\n", false},
        {"    bra NOWHERE; //!\n", false},
        {"    ld.global.u32 %r2, [%buffer+]; //!\n", false},
        {"    mov.b64 %l0, {%r2,%r3; //!\n", false},
        {"    .reg .b33 %x; //!\n", false},
        {"    add.s32 %r2, %r3, 0x; //!\n", false},
        {"    add.s32 %r999, %r3, 1; //!\n", false},
        {"    add.s64 %l0, %r3, 1; //!\n", false},
        {"    @%r2 add.s32 %r2, %r3, 1; //!\n", false},
        {"    mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r4,%r5,%r6}, {%r2,%r2,%r2,%r2}, "
         "{%r2,%r2}, "
         "{%r2,%r2,%r2,%r2}; //!\n",
         false},
        {"", true},
        {"not PTX at all", true},
        {".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry fault_kernel(.param .b8 "
         "params[16])\n{",
         true},
        {".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry other()\n{\nret;\n}\n", true},
        {".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry fault_kernel(", true},
        {".version 8.4\n.target sm_80\n.address_size 64\n/* no end", true},
        {".version 8.4\n.target sm_80\n.address_size 64\n.const .b8 x[99999999999999999999];", true},
        {".version 8.4\n.target sm_80\n.address_size 64\n.global .b8 \"x", true},
    };
    device *sim = ptx_device();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = ERROR_INIT;
        struct fault fault = {0};
        char *text = module_of(bad[i].body);
        if (bad[i].whole) {
            struct fault_params params = {0};
            struct ptx_launch launch = {.ptx = bad[i].body,
                                        .entry = "fault_kernel",
                                        .grid = 1,
                                        .block = 32,
                                        .params = &params,
                                        .params_bytes = sizeof params};
            ptx_run(sim, &launch, &err);
        } else {
            run_body(sim, &fault, bad[i].body, &err);
        }
        cr_expect_neq(err.status, XQ_OK, "accepted: %s", bad[i].body);
        cr_expect_neq(err.message[0], '\0', "no message: %s", bad[i].body);
        cr_expect(names_line_near(text, err.message), "not the marked line in '%s' for %s", err.message,
                  bad[i].body);
        free(text);
        error_clear(&err);
    }
    sim->ops->destroy(sim);
}

static xq_status launch_with(device *sim, uint32_t grid, uint32_t block, uint32_t shared_bytes,
                             size_t params_bytes, error *err)
{
    struct fault_params params = {0};
    char *text = module_of("    mov.u32 %r2, dynamic;\n");
    struct ptx_launch launch = {.ptx = text,
                                .entry = "fault_kernel",
                                .grid = grid,
                                .block = block,
                                .shared_bytes = shared_bytes,
                                .params = &params,
                                .params_bytes = params_bytes};
    xq_status status = ptx_run(sim, &launch, err);
    free(text);
    return status;
}

Test(sim_faults, launches_that_no_gpu_would_take_are_refused)
{
    static const struct {
        const char *name;
        uint32_t grid, block, shared_bytes;
        size_t params_bytes;
        bool good;
    } launches[] = {
        {"right", 1, 32, 0, 16, true},
        {"largest block", 1, 1024, 0, 16, true},
        {"largest shared memory", 1, 32, 227 * 1024 - 2048, 16, true},
        {"no blocks", 0, 32, 0, 16, false},
        {"no threads", 1, 0, 0, 16, false},
        {"too many threads", 1, 1025, 0, 16, false},
        {"too much shared memory", 1, 32, 227 * 1024 - 2047, 16, false},
        {"short parameters", 1, 32, 0, 8, false},
        {"long parameters", 1, 32, 0, 40, false},
    };
    device *sim = ptx_device();
    for (size_t i = 0; i < sizeof launches / sizeof *launches; i++) {
        error err = ERROR_INIT;
        launch_with(sim, launches[i].grid, launches[i].block, launches[i].shared_bytes,
                    launches[i].params_bytes, &err);
        cr_expect_eq(err.status == XQ_OK, launches[i].good, "%s: %s", launches[i].name, err.message);
        error_clear(&err);
    }
    sim->ops->destroy(sim);
}

Test(sim_faults, host_accesses_to_device_memory_are_checked)
{
    device *sim = ptx_device();
    const device_ops *ops = sim->ops;
    error err = ERROR_INIT;
    uint64_t pointer = 0, other = 0;
    char bytes[128] = {0};
    cr_assert_eq(ops->alloc(sim, 100, &pointer, &err), XQ_OK);
    cr_expect_eq(pointer % 256, 0);
    cr_expect_eq(ops->write(sim, pointer, bytes, 100, &err), XQ_OK);
    cr_expect_eq(ops->read(sim, bytes, pointer + 50, 50, &err), XQ_OK);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
#define EXPECT_REFUSED(call)                                                                               \
    cr_expect_neq(call, XQ_OK, "%s", #call);                                                               \
    cr_expect_neq(err.message[0], '\0');                                                                   \
    error_clear(&err)
    EXPECT_REFUSED(ops->write(sim, pointer, bytes, 101, &err));
    EXPECT_REFUSED(ops->read(sim, bytes, pointer + 1, 100, &err));
    EXPECT_REFUSED(ops->fill(sim, pointer - 1, 0, 1, &err));
    EXPECT_REFUSED(ops->read(sim, bytes, 0, 1, &err));
    EXPECT_REFUSED(ops->free(sim, pointer + 8, &err));
    cr_expect_eq(ops->free(sim, pointer, &err), XQ_OK);
    EXPECT_REFUSED(ops->free(sim, pointer, &err));
    EXPECT_REFUSED(ops->write(sim, pointer, bytes, 1, &err));
    cr_expect_eq(ops->alloc(sim, sim->properties.memory_bytes + 1, &other, &err), XQ_ERROR_DEVICE_MEMORY);
    error_clear(&err);
    device *none = NULL;
    cr_expect_eq(device_sim_open("gtx480", &none, &err), XQ_ERROR_ARGUMENT);
    cr_expect(contains_all(err.message, "h100|a100"), "%s", err.message);
    error_clear(&err);
    ops->destroy(sim);
}

/* All blocks fault at once, in several threads of the host. A block that a thread has taken runs even if a
 * later block has faulted meanwhile. */
Test(sim_faults, the_fault_of_the_lowest_block_is_reported)
{
    static const struct fault fault = {.name = "every block traps",
                                       .faulty = LOC "trap;" BAD,
                                       .says = "trap",
                                       .grid = 64,
                                       .at_block = 1 + 0};
    device *sim = ptx_device();
    for (int i = 0; i < 2000; i++)
        expect_fault(sim, &fault);
    sim->ops->destroy(sim);
}

/* After a fault, the device can be used further: the next launch works as on a new device. */
Test(sim_faults, a_fault_does_not_spoil_the_device)
{
    static const struct fault fault = {.name = "fault then right",
                                       .faulty = LOC "st.global.u32 [%buffer+1020], 1;" BAD,
                                       .sound = "    st.global.u32 [%mine], 1;\n",
                                       .says = "bounds"};
    device *sim = ptx_device();
    for (int i = 0; i < 20; i++)
        expect_fault(sim, &fault);
    sim->ops->destroy(sim);
}
