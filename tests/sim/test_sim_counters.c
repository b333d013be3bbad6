/* Tests the counters of the software device with kernels whose counts are known by hand. */
#include "../../sim/model.h"
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct buffers {
    uint64_t in, out;
};
enum { BUFFER_BYTES = 1 << 20, SHARED_BYTES = 16384 };

static const char head[] =
    ".address_size 64\n.visible .entry test(.param .align 8 .b8 params[16])\n{\n"
    "    .shared .align 128 .b8 memory[16384];\n"
    "    .reg .pred %p<8>;\n    .reg .b32 %r<40>, %me, %block, %base;\n    .reg .b64 %l<12>, %in, %out;\n"
    "    ld.param.u64 %in, [params];\n    ld.param.u64 %out, [params+8];\n"
    "    mov.u32 %me, %tid.x;\n    mov.u32 %block, %ctaid.x;\n    mov.u32 %base, memory;\n";

/* Zeroes all of shared memory. Each warp writes 128 bytes per step, without conflicts. */
#define CLEAR_SHARED                                                                                       \
    "    mov.u32 %r39, %me;\nCLEAR:\n    shl.b32 %r38, %r39, 2;\n    add.s32 %r38, %r38, %base;\n"         \
    "    st.shared.b32 [%r38], 0;\n    mov.u32 %r37, %ntid.x;\n    add.s32 %r39, %r39, %r37;\n"            \
    "    setp.lt.u32 %p7, %r39, 4096;\n    @%p7 bra CLEAR;\n    bar.sync 0;\n"

static device *sim;
static struct buffers buffers;

static void set_up(void)
{
    error err = ERROR_INIT;
    sim = ptx_device();
    sim->ops->alloc(sim, BUFFER_BYTES, &buffers.in, &err);
    sim->ops->alloc(sim, BUFFER_BYTES, &buffers.out, &err);
    sim->ops->fill(sim, buffers.in, 0, BUFFER_BYTES, &err);
    sim->ops->fill(sim, buffers.out, 0, BUFFER_BYTES, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
}

static void tear_down(void)
{
    sim->ops->destroy(sim);
}

static device_counters count_on(const char *target, const char *body, uint32_t grid, uint32_t block)
{
    size_t bytes = sizeof head + strlen(body) + 128;
    char *text = malloc(bytes);
    cr_assert_not_null(text);
    snprintf(text, bytes, ".version 8.4\n.target %s\n%s%s    ret;\n}\n", target, head, body);
    struct ptx_launch launch = {
        .ptx = text, .grid = grid, .block = block, .params = &buffers, .params_bytes = sizeof buffers};
    error err = ERROR_INIT;
    device_counters counters = {0};
    sim->ops->counters_reset(sim, &err);
    ptx_run(sim, &launch, &err);
    sim->ops->counters(sim, &counters, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    error_clear(&err);
    free(text);
    return counters;
}

static device_counters count(const char *body, uint32_t grid, uint32_t block)
{
    return count_on("sm_80", body, grid, block);
}

/* Returns the counts that `body` adds to those of a kernel without it. */
static device_counters difference(const char *before, const char *body, uint32_t grid, uint32_t block)
{
    char both[4096];
    snprintf(both, sizeof both, "%s%s", before, body);
    device_counters with = count(both, grid, block), without = count(before, grid, block);
    with.shared_requests -= without.shared_requests;
    with.shared_passes -= without.shared_passes;
    with.shared_conflicts -= without.shared_conflicts;
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        with.instructions[i] -= without.instructions[i];
    with.barriers -= without.barriers;
    return with;
}

#define SIM_TEST(name) Test(sim_counters, name, .init = set_up, .fini = tear_down)

#define ADDRESS(shift)                                                                                     \
    "    shl.b32 %r1, %me, " #shift ";\n    cvt.u64.u32 %l0, %r1;\n    add.s64 %l1, %in, %l0;\n"           \
    "    add.s64 %l2, %out, %l0;\n"

SIM_TEST(sectors_of_reads)
{
    static const struct {
        const char *name, *body;
        uint32_t grid, block;
        uint64_t total, unique;
    } cases[] = {
        {"coalesced 4 bytes", ADDRESS(2) "ld.global.u32 %r2, [%l1];\n", 1, 32, 4, 4},
        {"coalesced, four warps", ADDRESS(2) "ld.global.u32 %r2, [%l1];\n", 1, 128, 16, 16},
        {"the same by three blocks", ADDRESS(2) "ld.global.u32 %r2, [%l1];\n", 3, 128, 48, 16},
        {"twice", ADDRESS(2) "ld.global.u32 %r2, [%l1];\nld.global.u32 %r3, [%l1];\n", 1, 32, 8, 4},
        {"coalesced 16 bytes", ADDRESS(4) "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%l1];\n", 1, 32, 16, 16},
        {"coalesced 1 byte", ADDRESS(0) "ld.global.u8 %r2, [%l1];\n", 1, 32, 1, 1},
        {"one sector a lane", ADDRESS(5) "ld.global.u32 %r2, [%l1];\n", 1, 32, 32, 32},
        {"every other sector", ADDRESS(6) "ld.global.u32 %r2, [%l1];\n", 1, 32, 32, 32},
        {"two lanes a sector", ADDRESS(4) "ld.global.u32 %r2, [%l1];\n", 1, 32, 16, 16},
        {"broadcast", "ld.global.u32 %r2, [%in];\n", 1, 32, 1, 1},
        {"broadcast to four warps of two blocks", "ld.global.u32 %r2, [%in];\n", 2, 128, 8, 1},
        {"off by 16 bytes", ADDRESS(2) "ld.global.u32 %r2, [%l1+16];\n", 1, 32, 5, 5},
        {"half the lanes", ADDRESS(2) "setp.lt.u32 %p0, %me, 16;\n@%p0 ld.global.u32 %r2, [%l1];\n", 1, 32,
         2, 2},
        {"no lane", ADDRESS(2) "setp.gt.u32 %p0, %me, 99;\n@%p0 ld.global.u32 %r2, [%l1];\n", 1, 32, 0, 0},
        {"read-only path", ADDRESS(4) "ld.global.nc.v4.u32 {%r2,%r3,%r4,%r5}, [%l1];\n", 1, 32, 16, 16},
        {"generic", ADDRESS(2) "ld.u32 %r2, [%l1];\n", 1, 32, 4, 4},
        {"asynchronous copy",
         ADDRESS(4) "shl.b32 %r2, %me, 4;\nadd.s32 %r2, %r2, %base;\n"
                    "cp.async.cg.shared.global [%r2], [%l1], 16;\ncp.async.wait_all;\n",
         1, 32, 16, 16},
        {"asynchronous copy of nothing",
         ADDRESS(4) "shl.b32 %r2, %me, 4;\nadd.s32 %r2, %r2, %base;\nmov.u32 %r3, 0;\n"
                    "cp.async.cg.shared.global [%r2], [%l1], 16, %r3;\ncp.async.wait_all;\n",
         1, 32, 0, 0},
        {"none", "", 4, 64, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        device_counters counted = count(cases[i].body, cases[i].grid, cases[i].block);
        cr_expect_eq(counted.read_sectors, cases[i].total, "%s: %lu in all, not %lu", cases[i].name,
                     counted.read_sectors, cases[i].total);
        cr_expect_eq(counted.read_sectors_unique, cases[i].unique, "%s: %lu unique, not %lu", cases[i].name,
                     counted.read_sectors_unique, cases[i].unique);
        cr_expect_eq(counted.write_sectors + counted.write_sectors_unique, 0, "%s", cases[i].name);
    }
}

SIM_TEST(sectors_of_writes)
{
    static const struct {
        const char *name, *body;
        uint32_t grid, block;
        uint64_t total, unique;
    } cases[] = {
        {"coalesced", ADDRESS(2) "st.global.u32 [%l2], %me;\n", 1, 64, 8, 8},
        {"16 bytes", ADDRESS(4) "st.global.v4.u32 [%l2], {%me,%me,%me,%me};\n", 1, 32, 16, 16},
        {"strided", ADDRESS(7) "st.global.u32 [%l2], %me;\n", 1, 32, 32, 32},
        {"to one place", "st.global.u32 [%out], 1;\n", 1, 64, 2, 1},
        {"by two blocks", ADDRESS(2) "st.global.u32 [%l2], %me;\n", 2, 64, 16, 8},
        {"2 bytes", ADDRESS(1) "cvt.u16.u32 %h, %me;\nst.global.u16 [%l2], %h;\n", 1, 32, 2, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[1024];
        snprintf(body, sizeof body, "    .reg .b16 %%h;\n%s", cases[i].body);
        device_counters counted = count(body, cases[i].grid, cases[i].block);
        cr_expect_eq(counted.write_sectors, cases[i].total, "%s: %lu in all, not %lu", cases[i].name,
                     counted.write_sectors, cases[i].total);
        cr_expect_eq(counted.write_sectors_unique, cases[i].unique, "%s: %lu unique, not %lu",
                     cases[i].name, counted.write_sectors_unique, cases[i].unique);
        cr_expect_eq(counted.read_sectors, 0, "%s", cases[i].name);
    }
}

SIM_TEST(unique_sectors_start_anew_with_each_launch)
{
    error err = ERROR_INIT;
    device_counters counted;
    const char body[] = ADDRESS(2) "ld.global.u32 %r2, [%l1];\nst.global.u32 [%l2], %r2;\n";
    cr_expect_eq(count(body, 1, 32).read_sectors_unique, 4);
    cr_expect_eq(count(body, 1, 32).write_sectors_unique, 4);
    char text[2048];
    snprintf(text, sizeof text, ".version 8.4\n.target sm_80\n%s%s    ret;\n}\n", head, body);
    struct ptx_launch launch = {
        .ptx = text, .grid = 1, .block = 32, .params = &buffers, .params_bytes = sizeof buffers};
    sim->ops->counters_reset(sim, &err);
    for (int i = 0; i < 3; i++)
        ptx_run(sim, &launch, &err);
    sim->ops->counters(sim, &counted, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    cr_expect_eq(counted.launches, 3);
    cr_expect_eq(counted.read_sectors_unique, 12);
    cr_expect_eq(counted.write_sectors_unique, 12);
    error_clear(&err);
}

/* The address in shared memory of a lane's access: lane * stride bytes. */
#define STRIDED(stride) "    mad.lo.s32 %r1, %me, " #stride ", %base;\n"

SIM_TEST(shared_memory_passes_and_conflicts)
{
    static const struct {
        const char *name, *body;
        uint64_t requests, passes, conflicts;
    } cases[] = {
        {"consecutive words", STRIDED(4) "ld.shared.b32 %r2, [%r1];\n", 1, 1, 0},
        {"consecutive words, stored", STRIDED(4) "st.shared.b32 [%r1], %me;\n", 1, 1, 0},
        {"2-way", STRIDED(8) "ld.shared.b32 %r2, [%r1];\n", 1, 2, 1},
        {"4-way", STRIDED(16) "ld.shared.b32 %r2, [%r1];\n", 1, 4, 3},
        {"8-way", STRIDED(32) "ld.shared.b32 %r2, [%r1];\n", 1, 8, 7},
        {"16-way", STRIDED(64) "st.shared.b32 [%r1], %me;\n", 1, 16, 15},
        {"32-way", STRIDED(128) "ld.shared.b32 %r2, [%r1];\n", 1, 32, 31},
        {"odd stride", STRIDED(132) "ld.shared.b32 %r2, [%r1];\n", 1, 1, 0},
        {"stride of three words", STRIDED(12) "ld.shared.b32 %r2, [%r1];\n", 1, 1, 0},
        {"broadcast", "ld.shared.b32 %r2, [%base+64];\n", 1, 1, 0},
        {"bytes of words", STRIDED(1) "ld.shared.u8 %r2, [%r1];\n", 1, 1, 0},
        {"halves of words", STRIDED(2) "ld.shared.u16 %h, [%r1];\n", 1, 1, 0},
        {"two words of a bank, each to half the warp",
         "    and.b32 %r1, %me, 1;\n    mad.lo.s32 %r1, %r1, 128, %base;\nld.shared.b32 %r2, [%r1];\n", 1,
         2, 1},
        {"64 bits, consecutive", STRIDED(8) "ld.shared.b64 %l0, [%r1];\n", 1, 2, 0},
        {"64 bits, 2-way", STRIDED(16) "ld.shared.b64 %l0, [%r1];\n", 1, 4, 2},
        {"64 bits, stored as a vector", STRIDED(8) "st.shared.v2.b32 [%r1], {%me,%me};\n", 1, 2, 0},
        {"128 bits, consecutive", STRIDED(16) "ld.shared.v4.b32 {%r2,%r3,%r4,%r5}, [%r1];\n", 1, 4, 0},
        {"128 bits, 2-way", STRIDED(32) "ld.shared.v4.b32 {%r2,%r3,%r4,%r5}, [%r1];\n", 1, 8, 4},
        {"128 bits, 8-way", STRIDED(128) "st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n", 1, 32, 28},
        {"half the lanes", STRIDED(8) "setp.lt.u32 %p0, %me, 16;\n@%p0 ld.shared.b32 %r2, [%r1];\n", 1, 1,
         0},
        {"ldmatrix, rows 16 bytes apart",
         STRIDED(16) "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];\n", 1, 4, 0},
        {"ldmatrix, rows 128 bytes apart",
         STRIDED(128) "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];\n", 1, 32, 28},
        {"ldmatrix of one matrix", STRIDED(16) "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];\n",
         1, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        device_counters counted = difference("    .reg .b16 %h;\n" CLEAR_SHARED, cases[i].body, 1, 32);
        cr_expect_eq(counted.shared_requests, cases[i].requests, "%s: %lu requests, not %lu", cases[i].name,
                     counted.shared_requests, cases[i].requests);
        cr_expect_eq(counted.shared_passes, cases[i].passes, "%s: %lu passes, not %lu", cases[i].name,
                     counted.shared_passes, cases[i].passes);
        cr_expect_eq(counted.shared_conflicts, cases[i].conflicts, "%s: %lu conflicts, not %lu",
                     cases[i].name, counted.shared_conflicts, cases[i].conflicts);
        cr_expect_eq(counted.read_sectors + counted.write_sectors, 0, "%s", cases[i].name);
    }
}

#define REGISTERS4 "{%r4,%r5,%r6,%r7}, {%r8,%r9,%r10,%r11}, {%r12,%r13}, {%r4,%r5,%r6,%r7};\n"
#define REGISTERS2 "{%r4,%r5,%r6,%r7}, {%r8,%r9}, {%r12}, {%r4,%r5,%r6,%r7};\n"
#define ZEROES                                                                                             \
    "    mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u32 %r8, 0; mov.u32 %r9, "    \
    "0;\n"                                                                                                 \
    "    mov.u32 %r10, 0; mov.u32 %r11, 0; mov.u32 %r12, 0; mov.u32 %r13, 0;\n"

SIM_TEST(matrix_flops_by_type)
{
    static const struct {
        const char *target, *body;
        enum matrix_type type;
        uint64_t flops; /* per warp */
    } cases[] = {
        {"sm_80", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 " REGISTERS4, MATRIX_F16, 4096},
        {"sm_80", "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 " REGISTERS2, MATRIX_F16, 2048},
        {"sm_80", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 " REGISTERS4, MATRIX_BF16, 4096},
        {"sm_80", "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 " REGISTERS4, MATRIX_S8, 8192},
        {"sm_80", "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 " REGISTERS4, MATRIX_S8, 8192},
        {"sm_89", "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 " REGISTERS4, MATRIX_E4M3, 8192},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[1024];
        snprintf(body, sizeof body, "%s%s", ZEROES, cases[i].body);
        device_counters counted = count_on(cases[i].target, body, 5, 64);
        for (int type = 0; type < MATRIX_TYPES; type++)
            cr_expect_eq(counted.matrix_flops[type], type == (int)cases[i].type ? 10 * cases[i].flops : 0,
                         "%s: type %d: %lu", cases[i].body, type, counted.matrix_flops[type]);
        cr_expect_eq(counted.instructions[INSTRUCTION_MATRIX], 10);
    }
}

SIM_TEST(instructions_by_class)
{
    static const struct {
        const char *body;
        enum instruction_class class;
        uint64_t per_warp;
    } cases[] = {
        {"add.s32 %r2, %me, 1;\nxor.b32 %r2, %r2, %me;\nsetp.eq.s32 %p0, %r2, 0;\nselp.b32 %r3, 1, 2, "
         "%p0;\n",
         INSTRUCTION_INTEGER, 4},
        {"prmt.b32 %r2, %me, %me, 0x5410;\nlop3.b32 %r2, %me, %me, %me, 0xea;\n", INSTRUCTION_INTEGER, 2},
        {"add.f32 %r2, %me, %me;\nfma.rn.f32 %r2, %r2, %r2, %r2;\nmul.f32 %r2, %r2, %r2;\n",
         INSTRUCTION_FLOAT, 3},
        {"fma.rn.f16x2 %r2, %me, %me, %me;\nsub.rn.f16x2 %r2, %r2, %r2;\n", INSTRUCTION_HALF, 2},
        {"cvt.rn.f32.s32 %r2, %me;\ncvt.rn.f16x2.f32 %r2, %r2, %r2;\n", INSTRUCTION_CONVERT, 2},
        {"ex2.approx.ftz.f32 %r2, %me;\nrcp.approx.ftz.f32 %r2, %r2;\nlg2.approx.f32 %r2, %r2;\n",
         INSTRUCTION_SPECIAL, 3},
        {"ld.global.u32 %r2, [%in];\nst.global.u32 [%out], 0;\natom.global.add.u32 %r2, [%out], 0;\n",
         INSTRUCTION_GLOBAL, 3},
        {"st.shared.u32 [%base], 0;\nbar.warp.sync -1;\nld.shared.u32 %r2, [%base];\n", INSTRUCTION_SHARED,
         2},
        {"shfl.sync.bfly.b32 %r2, %me, 1, 31, -1;\nvote.sync.ballot.b32 %r2, 1, -1;\n"
         "movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r2;\n",
         INSTRUCTION_EXCHANGE, 3},
        {"bar.sync 0;\nmembar.gl;\nbar.warp.sync -1;\n", INSTRUCTION_SYNC, 3},
        {"bra.uni NEXT;\nNEXT:\n", INSTRUCTION_CONTROL, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t warps = cases[i].class == INSTRUCTION_SHARED ? 1 : 3;
        device_counters counted = difference("", cases[i].body, 7, warps * 32);
        cr_expect_eq(counted.instructions[cases[i].class], 7 * warps * cases[i].per_warp, "%s: %lu",
                     cases[i].body, counted.instructions[cases[i].class]);
    }
}

SIM_TEST(a_diverged_branch_issues_both_sides)
{
    const char body[] =
        "    setp.lt.u32 %p0, %me, 7;\n    mov.u32 %r2, 1;\n    @%p0 bra SMALL;\n"
        "    add.f32 %r2, %r2, %r2;\n    bra.uni DONE;\nSMALL:\n    mul.f32 %r2, %r2, %r2;\nDONE:\n";
    /* Only the first of the two warps diverges. */
    cr_expect_eq(count(body, 1, 64).instructions[INSTRUCTION_FLOAT], 3);
}

SIM_TEST(barriers_are_counted_per_block)
{
    cr_expect_eq(count("bar.sync 0;\nbar.sync 0;\nbar.sync 0;\n", 5, 128).barriers, 15);
    cr_expect_eq(count("bar.warp.sync -1;\n", 5, 128).barriers, 0);
    cr_expect_eq(count("bar.sync 1, 64;\n", 2, 64).barriers, 2);
}

SIM_TEST(atomics_of_all_blocks_add_up)
{
    error err = ERROR_INIT;
    uint32_t sums[4] = {0};
    count("    st.shared.b32 [%base], 0;\n    bar.sync 0;\n    atom.global.add.u32 %r2, [%out], %me;\n"
          "    red.global.max.u32 [%out+4], %block;\n    red.global.add.u32 [%out+8], 1;\n"
          "    atom.global.inc.u32 %r3, [%out+12], 1000000;\n",
          200, 32);
    sim->ops->read(sim, sums, buffers.out, sizeof sums, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    cr_expect_eq(sums[0], 200 * 496);
    cr_expect_eq(sums[1], 199);
    cr_expect_eq(sums[2], 6400);
    cr_expect_eq(sums[3], 6400);
}

/* The last block to arrive sees what the others wrote before their fence. The merge of splits in attention
 * relies on this. */
SIM_TEST(the_last_block_sees_the_work_of_all)
{
    error err = ERROR_INIT;
    uint32_t sum = 0;
    count("    .reg .pred %q;\n    setp.ne.u32 %q, %me, 0;\n    mul.wide.u32 %l0, %block, 4;\n    add.s64 "
          "%l1, %out, %l0;\n"
          "    add.s32 %r1, %block, 1;\n    @!%q st.global.u32 [%l1+16], %r1;\n    membar.gl;\n"
          "    mov.u32 %r2, 0;\n    @!%q atom.global.add.u32 %r2, [%out], 1;\n"
          "    shfl.sync.idx.b32 %r2, %r2, 0, 31, -1;\n    setp.ne.u32 %p0, %r2, 99;\n    @%p0 ret;\n    "
          "membar.gl;\n"
          "    mov.u32 %r3, 0;\n    mov.u32 %r4, 0;\n    mov.u64 %l3, %out;\nSUM:\n"
          "    ld.global.cg.u32 %r5, [%l3+16];\n    add.s32 %r4, %r4, %r5;\n    add.s64 %l3, %l3, 4;\n"
          "    add.s32 %r3, %r3, 1;\n    setp.lt.u32 %p1, %r3, 100;\n    @%p1 bra SUM;\n"
          "    @!%q st.global.u32 [%out+8], %r4;\n",
          100, 32);
    sim->ops->read(sim, &sum, buffers.out + 8, sizeof sum, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    cr_expect_eq(sum, 5050, "%u", sum);
}

static const char busy[] = CLEAR_SHARED ADDRESS(2) ZEROES
    "    mov.u32 %r20, 0;\nAGAIN:\n    ld.global.u32 %r21, [%l1];\n    red.global.add.u32 [%l2], %me;\n"
    "    mad.lo.s32 %r22, %me, 8, %base;\n    st.shared.b32 [%r22], %r21;\n    bar.sync 0;\n"
    "    mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 " REGISTERS4
    "    add.s32 %r20, %r20, 1;\n    add.s32 %r23, %block, 3;\n    setp.lt.u32 %p1, %r20, %r23;\n    @%p1 "
    "bra AGAIN;\n";

SIM_TEST(counters_and_results_are_the_same_every_time_and_on_one_core)
{
    error err = ERROR_INIT;
    device_counters first = count(busy, 37, 96);
    uint32_t results[2][96];
    sim->ops->read(sim, results[0], buffers.out, sizeof results[0], &err);
    cr_expect_gt(first.instructions[INSTRUCTION_MATRIX], 0);
    cpu_set_t all, one;
    CPU_ZERO(&one);
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    for (int i = 0; i < 4; i++) {
        sim->ops->fill(sim, buffers.out, 0, BUFFER_BYTES, &err);
        cr_assert_eq(sched_setaffinity(0, sizeof all, i < 2 ? &all : &one), 0);
        device_counters again = count(busy, 37, 96);
        cr_expect_eq(memcmp(&first, &again, sizeof first), 0, "run %d", i);
        sim->ops->read(sim, results[1], buffers.out, sizeof results[1], &err);
        cr_expect_eq(memcmp(results[0], results[1], sizeof results[0]), 0, "run %d", i);
    }
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
}

SIM_TEST(the_modelled_time_is_the_models)
{
    device_counters counted = count(busy, 37, 96);
    device_launch launch = {.grid = {37, 1, 1}, .block = {96, 1, 1}, .shared_bytes = SHARED_BYTES};
    struct sim_model model;
    sim_model_evaluate(sim_ceilings_find("h100"), &counted, &launch, &model);
    cr_expect(fabs(counted.modelled_seconds - model.seconds) <= 1e-9 * model.seconds, "%g, not %g",
              counted.modelled_seconds, model.seconds);
}

SIM_TEST(a_launch_waits_for_its_beginning_and_for_one_limit)
{
    device_counters counted = count(busy, 37, 96);
    double sum = 0;
    int limits = 0;
    for (int i = 0; i < DEVICE_LIMITS; i++) {
        sum += counted.limit_seconds[i];
        limits += counted.limit_seconds[i] > 0;
    }
    cr_expect_eq(limits, 2);
    cr_expect_gt(counted.limit_seconds[LIMIT_LAUNCHES], 0);
    cr_expect_float_eq(sum, counted.modelled_seconds, 1e-12 * sum);
}

SIM_TEST(marks_measure_modelled_time)
{
    error err = ERROR_INIT;
    double milliseconds = -1, none = -1;
    sim->ops->mark(sim, NULL, 3, &err);
    device_counters one = count(busy, 10, 64);
    device_counters two = count(busy, 20, 64);
    sim->ops->mark(sim, NULL, 9, &err);
    sim->ops->elapsed(sim, 3, 9, &milliseconds, &err);
    sim->ops->elapsed(sim, 9, 9, &none, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    double expected = (one.modelled_seconds + two.modelled_seconds) * 1e3;
    cr_expect(fabs(milliseconds - expected) <= 1e-6 * expected, "%g ms, not %g", milliseconds, expected);
    cr_expect_eq(none, 0);
    cr_expect_neq(sim->ops->mark(sim, NULL, 64, &err), XQ_OK);
    error_clear(&err);
}

SIM_TEST(a_reset_sets_everything_to_zero)
{
    error err = ERROR_INIT;
    device_counters zero = {0}, counted;
    count(busy, 3, 64);
    sim->ops->counters_reset(sim, &err);
    sim->ops->counters(sim, &counted, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    cr_expect_eq(memcmp(&zero, &counted, sizeof zero), 0);
}
