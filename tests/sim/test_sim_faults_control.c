/* Plants each fault of instructions, of control flow and of launches that the software device promises to
 * find, and reads the error. Beside each faulty kernel stands a corrected one, which must run. */
#include "fault_check.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define HALF_WARP "    setp.lt.u32 %p0, %lane, 16;\n    mov.u32 %r2, 1;\n"

Test(sim_faults_control, collective_instructions_are_executed_by_all_their_lanes)
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

Test(sim_faults_control, barriers_that_never_complete_are_found)
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

Test(sim_faults_control, endless_loops_end_and_traps_are_told)
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

Test(sim_faults_control, unknown_instructions_are_errors)
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
        fault_expect(sim, &fault);
    }
    sim->ops->destroy(sim);
}

Test(sim_faults_control, bad_ptx_is_an_error_with_its_line)
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
        char *text = fault_module(bad[i].body);
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
            fault_run(sim, &fault, bad[i].body, &err);
        }
        cr_expect_neq(err.status, XQ_OK, "accepted: %s", bad[i].body);
        cr_expect_neq(err.message[0], '\0', "no message: %s", bad[i].body);
        cr_expect(fault_names_line(text, err.message), "not the marked line in '%s' for %s", err.message,
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
    char *text = fault_module("    mov.u32 %r2, dynamic;\n");
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

Test(sim_faults_control, launches_that_no_gpu_would_take_are_refused)
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

Test(sim_faults_control, host_accesses_to_device_memory_are_checked)
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
    cr_expect(fault_says_all(err.message, "h100|a100"), "%s", err.message);
    error_clear(&err);
    ops->destroy(sim);
}

/* After a fault, the device can be used further: the next launch works as on a new device. */
Test(sim_faults_control, a_fault_does_not_spoil_the_device)
{
    static const struct fault fault = {.name = "fault then right",
                                       .faulty = LOC "st.global.u32 [%buffer+1020], 1;" BAD,
                                       .sound = "    st.global.u32 [%mine], 1;\n",
                                       .says = "bounds"};
    device *sim = ptx_device();
    for (int i = 0; i < 20; i++)
        fault_expect(sim, &fault);
    sim->ops->destroy(sim);
}

/* All blocks fault at once, in several threads of the host. A block that a thread has taken runs even if a
 * later block has faulted meanwhile. */
Test(sim_faults_control, the_fault_of_the_lowest_block_is_reported)
{
    static const struct fault fault = {.name = "every block traps",
                                       .faulty = LOC "trap;" BAD,
                                       .says = "trap",
                                       .grid = 64,
                                       .at_block = 1 + 0};
    device *sim = ptx_device();
    for (int i = 0; i < 2000; i++)
        fault_expect(sim, &fault);
    sim->ops->destroy(sim);
}
