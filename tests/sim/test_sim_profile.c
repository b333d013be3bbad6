/* Profiles of the software device, on a kernel whose counts are known by hand. Each statement has a line of
 * its own in the template, by .loc. */
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <string.h>

struct buffers {
    uint64_t in, out;
};
enum { GRID = 3, WARPS = 2, BLOCK = WARPS * 32, BUFFER_BYTES = 1 << 16 };

#define MMA                                                                                                \
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, "       \
    "{%r4, %r5}, {%f0, %f1, %f2, %f3};\n"
#define MMA_BESIDE                                                                                         \
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f4, %f5, %f6, %f7}, {%r0, %r1, %r2, %r3}, "       \
    "{%r6, %r7}, {%f4, %f5, %f6, %f7};\n"

static const char kernel[] =
    ".version 8.4\n.target sm_80\n.address_size 64\n.file 1 \"templates/a.cu.lt\"\n"
    ".file 2 \"templates/lib/b.cuh\"\n"
    ".visible .entry test(.param .align 8 .b8 params[16])\n{\n"
    "    .shared .align 128 .b8 memory[8192];\n"
    "    .reg .pred %p<4>;\n    .reg .f32 %f<8>;\n    .reg .b32 %r<12>, %me, %lane, %warp, %block, %i;\n"
    "    .reg .b64 %l<8>, %in, %out;\n"
    "    .loc 1 1 0\n    ld.param.u64 %in, [params];\n    ld.param.u64 %out, [params+8];\n"
    "    .loc 1 2 0\n    mov.u32 %me, %tid.x;\n    mov.u32 %block, %ctaid.x;\n"
    "    and.b32 %lane, %me, 31;\n    shr.u32 %warp, %me, 5;\n"
    /* a loop */
    "    .loc 1 10 0\n    mov.u32 %i, 0;\nLOOP:\n"
    "    .loc 1 11 0\n    add.s32 %i, %i, 1;\n"
    "    .loc 1 12 0\n    setp.lt.s32 %p0, %i, 10;\n    @%p0 bra LOOP;\n"
    /* lanes that diverge: either side is issued once */
    "    .loc 1 20 0\n    setp.lt.u32 %p1, %lane, 8;\n    @%p1 bra TAKEN;\n"
    "    .loc 1 21 0\n    cvt.rn.f32.u32 %f0, %lane;\n    bra JOIN;\nTAKEN:\n"
    "    .loc 1 22 0\n    ex2.approx.f32 %f0, %f0;\n    ex2.approx.f32 %f0, %f0;\nJOIN:\n"
    /* a guard that no lane passes, and one that a lane passes */
    "    .loc 1 30 0\n    setp.gt.u32 %p2, %me, 1000;\n    setp.eq.u32 %p3, %lane, 0;\n"
    "    .loc 1 31 0\n    @%p2 ld.global.u32 %r10, [%in];\n"
    "    .loc 1 32 0\n    @%p3 ld.global.u32 %r10, [%in];\n"
    /* shared memory: all lanes in one bank, then each in its own */
    "    .loc 1 40 0\n    mov.u32 %r8, memory;\n    shl.b32 %r9, %lane, 7;\n    add.s32 %r8, %r8, %r9;\n"
    "    shl.b32 %r9, %warp, 2;\n    add.s32 %r8, %r8, %r9;\n"
    "    .loc 1 41 0\n    st.shared.b32 [%r8], 1;\n"
    "    .loc 1 42 0\n    mov.u32 %r8, memory;\n    shl.b32 %r9, %me, 2;\n    add.s32 %r8, %r8, %r9;\n"
    "    .loc 1 43 0\n    st.shared.b32 [%r8+4096], 1;\n"
    /* device memory: a sector for each lane, then four for a warp */
    "    .loc 1 50 0\n    mul.wide.u32 %l0, %me, 32;\n    add.s64 %l0, %l0, %in;\n"
    "    mul.wide.u32 %l1, %me, 4;\n    add.s64 %l1, %l1, %out;\n"
    "    .loc 1 51 0\n    ld.global.u32 %r10, [%l0];\n"
    "    .loc 1 52 0\n    st.global.u32 [%l1], %r10;\n"
    /* matrix instructions that the software device executes in one, in a function that is inlined */
    "    .loc 2 7 0, function_name $L__name, inlined_at 1 55 9\n    " MMA
    "    .loc 2 8 0, function_name $L__name+16, inlined_at 1 55 9\n    " MMA_BESIDE
    "    .loc 1 60 0\n    bar.sync 0;\n"
    "    ret;\n}\n";

static device *sim;
static struct buffers buffers;
static error err = ERROR_INIT;

static void set_up(void)
{
    sim = ptx_device();
    sim->ops->alloc(sim, BUFFER_BYTES, &buffers.in, &err);
    sim->ops->alloc(sim, BUFFER_BYTES, &buffers.out, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
}

static void tear_down(void)
{
    sim->ops->destroy(sim);
}

#define PROFILE_TEST(name) Test(sim_profile, name, .init = set_up, .fini = tear_down)

static void profile(bool on)
{
    cr_assert_eq(sim->ops->profile(sim, on, &err), XQ_OK, "%s", err.message);
}

/* Loads the kernel, launches it, and unloads it. */
static void launch(const char *ptx)
{
    const struct ptx_launch l = {
        .ptx = ptx, .grid = GRID, .block = BLOCK, .params = &buffers, .params_bytes = sizeof buffers};
    cr_assert_eq(ptx_run(sim, &l, &err), XQ_OK, "%s", err.message);
}

/* ------------------------------------------------------------------ reading */

/* Counts of one line of the template, for a warp of one launch. */
struct line {
    const char *file;
    int number, launches;
    double issued, read_sectors, write_sectors, shared_passes, shared_conflicts;
};

static void add_line(void *user, const device_profile_entry *e)
{
    struct line *line = user;
    const double warps = line->launches * GRID * WARPS;
    if (strcmp(e->file, line->file) != 0 || e->line != line->number)
        return;
    line->issued += (double)e->issued / warps;
    line->read_sectors += (double)e->read_sectors / warps;
    line->write_sectors += (double)e->write_sectors / warps;
    line->shared_passes += (double)e->shared_passes / warps;
    line->shared_conflicts += (double)e->shared_conflicts / warps;
}

static struct line line_of(const char *file, int number, int launches)
{
    struct line line = {.file = file, .number = number, .launches = launches};
    cr_assert_eq(sim->ops->profile_read(sim, add_line, &line, &err), XQ_OK);
    return line;
}

static void expect_issued(int number, double issued)
{
    const struct line line = line_of("templates/a.cu.lt", number, 1);
    cr_expect_eq(line.issued, issued, "line %d: %g, not %g", number, line.issued, issued);
}

static void count_entry(void *user, const device_profile_entry *e)
{
    (void)e;
    ++*(int *)user;
}

static int entries(void)
{
    int count = 0;
    cr_assert_eq(sim->ops->profile_read(sim, count_entry, &count, &err), XQ_OK);
    return count;
}

/* ------------------------------------------------------------------- counts */

PROFILE_TEST(instructions_are_counted_by_line)
{
    profile(true);
    launch(kernel);
    expect_issued(2, 4);
    expect_issued(10, 1);
    expect_issued(11, 10);
    expect_issued(12, 20);
    expect_issued(20, 2);
    expect_issued(21, 2);
    expect_issued(22, 2);
    expect_issued(30, 2);
    expect_issued(31, 1);
    expect_issued(60, 2);
    cr_expect_eq(line_of("templates/lib/b.cuh", 7, 1).issued, 1);
    cr_expect_eq(line_of("templates/lib/b.cuh", 8, 1).issued, 1);
}

PROFILE_TEST(sectors_and_bank_conflicts_are_those_of_the_line)
{
    static const struct line expected[] = {
        {.number = 31},
        {.number = 32, .read_sectors = 1},
        {.number = 41, .shared_passes = 32, .shared_conflicts = 31},
        {.number = 43, .shared_passes = 1},
        {.number = 51, .read_sectors = 32},
        {.number = 52, .write_sectors = 4},
    };
    profile(true);
    launch(kernel);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct line *e = &expected[i], line = line_of("templates/a.cu.lt", e->number, 1);
        cr_expect_eq(line.read_sectors, e->read_sectors, "line %d: %g", e->number, line.read_sectors);
        cr_expect_eq(line.write_sectors, e->write_sectors, "line %d: %g", e->number, line.write_sectors);
        cr_expect_eq(line.shared_passes, e->shared_passes, "line %d: %g", e->number, line.shared_passes);
        cr_expect_eq(line.shared_conflicts, e->shared_conflicts, "line %d: %g", e->number,
                     line.shared_conflicts);
    }
}

static void add_to_counters(void *user, const device_profile_entry *e)
{
    device_counters *sum = user;
    sum->instructions[e->kind] += e->issued;
    sum->read_sectors += e->read_sectors;
    sum->write_sectors += e->write_sectors;
    sum->shared_passes += e->shared_passes;
    sum->shared_conflicts += e->shared_conflicts;
}

PROFILE_TEST(sums_are_those_of_the_counters)
{
    device_counters sum = {0}, counted;
    profile(true);
    sim->ops->counters_reset(sim, &err);
    launch(kernel);
    sim->ops->counters(sim, &counted, &err);
    sim->ops->profile_read(sim, add_to_counters, &sum, &err);
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        cr_expect_eq(sum.instructions[i], counted.instructions[i], "class %d", i);
    cr_expect_eq(sum.instructions[INSTRUCTION_MATRIX], 2 * GRID * WARPS);
    cr_expect_eq(sum.read_sectors, counted.read_sectors);
    cr_expect_eq(sum.write_sectors, counted.write_sectors);
    cr_expect_eq(sum.shared_passes, counted.shared_passes);
    cr_expect_eq(sum.shared_conflicts, counted.shared_conflicts);
}

static void expect_entry(void *user, const device_profile_entry *e)
{
    if (e->kind != INSTRUCTION_SYNC)
        return;
    ++*(int *)user;
    cr_expect_str_eq(e->kernel, "test");
    cr_expect_str_eq(e->ptx, "bar.sync 0");
    cr_expect_gt(e->ptx_line, 50);
}

PROFILE_TEST(an_entry_has_the_kernel_and_the_statement)
{
    int barriers = 0;
    profile(true);
    launch(kernel);
    sim->ops->profile_read(sim, expect_entry, &barriers, &err);
    cr_expect_eq(barriers, 1);
}

static void expect_caller(void *user, const device_profile_entry *e)
{
    const bool is_inlined = strcmp(e->file, "templates/lib/b.cuh") == 0;
    *(int *)user += is_inlined;
    cr_expect_str_eq(e->caller_file, is_inlined ? "templates/a.cu.lt" : "");
    cr_expect_eq(e->caller_line, is_inlined ? 55 : 0);
}

PROFILE_TEST(an_entry_has_the_line_that_it_is_inlined_from)
{
    int inlined = 0;
    profile(true);
    launch(kernel);
    sim->ops->profile_read(sim, expect_caller, &inlined, &err);
    cr_expect_eq(inlined, 2);
}

/* ----------------------------------------------------------------- launches */

PROFILE_TEST(launches_add_up_also_where_the_kernel_is_loaded_again)
{
    profile(true);
    launch(kernel);
    const int once = entries();
    launch(kernel);
    cr_expect_eq(entries(), once);
    cr_expect_eq(line_of("templates/a.cu.lt", 11, 2).issued, 10);
    cr_expect_eq(line_of("templates/a.cu.lt", 41, 2).shared_conflicts, 31);
}

PROFILE_TEST(nothing_is_counted_unless_asked_for)
{
    launch(kernel);
    cr_expect_eq(entries(), 0);
    profile(true);
    launch(kernel);
    cr_expect_gt(entries(), 0);
    profile(true);
    cr_expect_eq(entries(), 0, "what was counted before is forgotten");
    launch(kernel);
    profile(false);
    launch(kernel);
    cr_expect_eq(entries(), 0);
}

PROFILE_TEST(other_kernels_of_the_same_name_are_kept_apart)
{
    static const char other[] =
        ".version 8.4\n.target sm_80\n.address_size 64\n.file 1 \"templates/a.cu.lt\"\n"
        ".visible .entry test(.param .align 8 .b8 params[16])\n{\n    .reg .b32 %r<2>;\n"
        "    .loc 1 11 0\n    mov.u32 %r0, 1;\n    ret;\n}\n";
    profile(true);
    launch(kernel);
    launch(other);
    cr_expect_eq(line_of("templates/a.cu.lt", 11, 1).issued, 10 + 2);
}

PROFILE_TEST(a_launch_that_failed_counts_as_little_as_in_the_counters)
{
    static const char faulty[] =
        ".version 8.4\n.target sm_80\n.address_size 64\n"
        ".visible .entry test(.param .align 8 .b8 params[16])\n{\n    .reg .b32 %r<2>;\n"
        "    mov.u32 %r0, 1;\n    trap;\n}\n";
    const struct ptx_launch l = {
        .ptx = faulty, .grid = GRID, .block = BLOCK, .params = &buffers, .params_bytes = sizeof buffers};
    device_counters counted;
    profile(true);
    sim->ops->counters_reset(sim, &err);
    cr_assert_eq(ptx_run(sim, &l, &err), XQ_ERROR_DEVICE);
    error_clear(&err);
    sim->ops->counters(sim, &counted, &err);
    cr_expect_eq(counted.instructions[INSTRUCTION_INTEGER], 0);
    cr_expect_eq(entries(), 0);
}
