/* Tests the software device from end to end on PTX as NVRTC writes it, with the features that a kernel
 * author meets first. */
#include "../../sim/number.h"
#include "../../sim/sim.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"

static device *open_sim(void)
{
    error err = ERROR_INIT;
    device *sim = NULL;
    cr_assert_eq(device_sim_open(NULL, &sim, &err), XQ_OK, "%s", err.message);
    return sim;
}

static uint64_t upload(device *sim, const void *data, size_t bytes)
{
    error err = ERROR_INIT;
    uint64_t pointer = 0;
    sim->ops->alloc(sim, bytes, &pointer, &err);
    if (data)
        sim->ops->write(sim, pointer, data, bytes, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    return pointer;
}

static void run(device *sim, const char *ptx, uint32_t blocks, uint32_t threads, const void *params,
                size_t bytes, error *err)
{
    device_module *module = NULL;
    device_function *function = NULL;
    if (sim->ops->module_load(sim, ptx, strlen(ptx), "smoke.ptx", &module, err) == XQ_OK &&
        sim->ops->function_get(module, "kernel", 0, &function, err) == XQ_OK) {
        device_launch launch = {.function = function,
                                .grid = {blocks, 1, 1},
                                .block = {threads, 1, 1},
                                .params = params,
                                .params_bytes = bytes};
        sim->ops->launch(sim, &launch, err);
    }
    sim->ops->module_unload(module);
}

/* Computes y[i] += a x[i] for i < n, in a loop that strides by the grid. */
static const char axpy[] = HEAD
    ".visible .entry kernel(.param .align 8 .b8 p[24])\n{\n"
    ".reg .pred %p<3>;\n.reg .f32 %f<5>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<6>;\n"
    "ld.param.u64 %rd1, [p];\nld.param.u64 %rd2, [p+8];\nld.param.u32 %r1, [p+16];\nld.param.f32 %f1, "
    "[p+20];\n"
    "mov.u32 %r2, %ctaid.x;\nmov.u32 %r3, %ntid.x;\nmov.u32 %r4, %tid.x;\nmad.lo.s32 %r5, %r2, %r3, %r4;\n"
    "mov.u32 %r6, %nctaid.x;\nmul.lo.s32 %r7, %r6, %r3;\n"
    "setp.ge.s32 %p1, %r5, %r1;\n@%p1 bra $done;\n"
    "$loop:\nmul.wide.s32 %rd3, %r5, 4;\nadd.s64 %rd4, %rd1, %rd3;\nadd.s64 %rd5, %rd2, %rd3;\n"
    "ld.global.f32 %f2, [%rd4];\nld.global.f32 %f3, [%rd5];\nfma.rn.f32 %f4, %f1, %f2, %f3;\n"
    "st.global.f32 [%rd5], %f4;\nadd.s32 %r5, %r5, %r7;\nsetp.lt.s32 %p2, %r5, %r1;\n@%p2 bra $loop;\n"
    "$done:\nret;\n}\n";

struct axpy_params {
    uint64_t x, y;
    int n;
    float a;
};

Test(sim_smoke, a_strided_loop_covers_every_element_once)
{
    enum { N = 1000 };
    float x[N], y[N];
    for (int i = 0; i < N; i++) {
        x[i] = (float)i;
        y[i] = 1;
    }
    device *sim = open_sim();
    error err = ERROR_INIT;
    struct axpy_params p = {upload(sim, x, sizeof x), upload(sim, y, sizeof y), N, 0.5f};
    run(sim, axpy, 3, 96, &p, sizeof p, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    sim->ops->read(sim, y, p.y, sizeof y, &err);
    for (int i = 0; i < N; i++)
        cr_assert_eq(y[i], 1 + 0.5f * (float)i, "element %d", i);
    device_counters counted;
    sim->ops->counters(sim, &counted, &err);
    cr_expect_eq(counted.read_sectors_unique, 250); /* 2 x 1000 floats, 8 per sector */
    cr_expect_eq(counted.write_sectors_unique, 125);
    sim->ops->destroy(sim);
}

Test(sim_smoke, one_element_too_many_is_a_fault_with_its_thread)
{
    device *sim = open_sim();
    error err = ERROR_INIT;
    struct axpy_params p = {upload(sim, NULL, 400), upload(sim, NULL, 400), 101, 1};
    run(sim, axpy, 2, 64, &p, sizeof p, &err);
    cr_assert_eq(err.status, XQ_ERROR_DEVICE);
    cr_expect(strstr(err.message, "block (1, 0, 0), thread (36, 0, 0)"), "%s", err.message);
    cr_expect(strstr(err.message, "out of bounds"), "%s", err.message);
    error_clear(&err);
    /* The device can still be used. */
    p.n = 100;
    run(sim, axpy, 2, 64, &p, sizeof p, &err);
    cr_expect_eq(err.status, XQ_OK, "%s", err.message);
    sim->ops->destroy(sim);
}

/* Computes one tile of 16 x 8. A (16 x 16, in rows) and B (8 x 16, in columns) are copied by cp.async, and
 * fragments are loaded by ldmatrix. */
static const char tile[] = HEAD
    ".visible .entry kernel(.param .align 8 .b8 p[24])\n{\n"
    ".reg .pred %p<2>;\n.reg .f32 %f<5>;\n.reg .b32 %r<24>;\n.reg .b64 %rd<9>;\n"
    ".shared .align 16 .b8 a[512];\n.shared .align 16 .b8 b[256];\n"
    "ld.param.u64 %rd1, [p];\nld.param.u64 %rd2, [p+8];\nld.param.u64 %rd3, [p+16];\n"
    "mov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 4;\nmov.u32 %r3, a;\nmov.u32 %r4, b;\nadd.s32 %r5, %r3, %r2;\n"
    "cvt.u64.u32 %rd4, %r2;\nadd.s64 %rd5, %rd1, %rd4;\n"
    "cp.async.cg.shared.global [%r5], [%rd5], 16;\n"
    "setp.lt.u32 %p1, %r1, 16;\nadd.s32 %r6, %r4, %r2;\nadd.s64 %rd6, %rd2, %rd4;\n"
    "@%p1 cp.async.cg.shared.global [%r6], [%rd6], 16;\n"
    "cp.async.commit_group;\ncp.async.wait_group 0;\nbar.sync 0;\n"
    /* lane l reads row l % 16 of A, in its left or right half, and likewise row l % 8 of B */
    "and.b32 %r7, %r1, 15;\nshl.b32 %r8, %r7, 5;\nand.b32 %r9, %r1, 16;\nadd.s32 %r10, %r3, %r8;\n"
    "add.s32 %r10, %r10, %r9;\n"
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r11, %r12, %r13, %r14}, [%r10];\n"
    "and.b32 %r15, %r1, 7;\nshl.b32 %r16, %r15, 5;\nand.b32 %r17, %r1, 8;\nshl.b32 %r17, %r17, 1;\n"
    "add.s32 %r18, %r4, %r16;\nadd.s32 %r18, %r18, %r17;\n"
    "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r19, %r20}, [%r18];\n"
    "mov.f32 %f1, 0f00000000;\nmov.f32 %f2, %f1;\nmov.f32 %f3, %f1;\nmov.f32 %f4, %f1;\n"
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r11, %r12, %r13, %r14}, "
    "{%r19, %r20}, {%f1, %f2, %f3, %f4};\n"
    "shl.b32 %r21, %r1, 3;\ncvt.u64.u32 %rd7, %r21;\nadd.s64 %rd8, %rd3, %rd7;\n"
    "st.global.v2.f32 [%rd8], {%f1, %f2};\nst.global.v2.f32 [%rd8+256], {%f3, %f4};\nret;\n}\n";

Test(sim_smoke, a_tile_goes_through_the_matrix_units)
{
    uint16_t a[16][16], b[8][16];
    float c[16][8];
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            a[i][k] = (uint16_t)sim_float_to_half((float)((i * 7 + k * 3) % 11 - 5));
    for (int n = 0; n < 8; n++)
        for (int k = 0; k < 16; k++)
            b[n][k] = (uint16_t)sim_float_to_half((float)((n * 5 + k * 2) % 7 - 3));
    device *sim = open_sim();
    error err = ERROR_INIT;
    uint64_t p[3] = {upload(sim, a, sizeof a), upload(sim, b, sizeof b), upload(sim, NULL, sizeof c)};
    run(sim, tile, 1, 32, p, sizeof p, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    sim->ops->read(sim, c, p[2], sizeof c, &err);
    for (int i = 0; i < 16; i++)
        for (int n = 0; n < 8; n++) {
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += sim_half_to_float(a[i][k]) * sim_half_to_float(b[n][k]);
            cr_expect_eq(c[i][n], sum, "row %d, column %d: %g, not %g", i, n, (double)c[i][n], (double)sum);
        }
    device_counters counted;
    sim->ops->counters(sim, &counted, &err);
    cr_expect_eq(counted.matrix_flops[MATRIX_F16], 2 * 16 * 8 * 16);
    cr_expect_eq(counted.shared_conflicts, 4 + 2, "%lu", counted.shared_conflicts);
    sim->ops->destroy(sim);
}

/* Each block leaves a partial sum. The last block to finish adds up the sums and resets the counter. */
static const char last_block[] =
    HEAD ".global .align 4 .u32 finished;\n"
         ".visible .entry kernel(.param .align 8 .b8 p[16])\n{\n"
         ".reg .pred %p<5>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\n"
         "ld.param.u64 %rd1, [p];\nld.param.u64 %rd2, [p+8];\n"
         "mov.u32 %r1, %tid.x;\nmov.u32 %r2, %ctaid.x;\nmov.u32 %r3, %nctaid.x;\n"
         "add.s32 %r4, %r1, %r2;\nmov.u32 %r5, -1;\n"
         "redux.sync.add.s32 %r6, %r4, %r5;\n"
         "setp.ne.s32 %p1, %r1, 0;\n@%p1 bra $end;\n"
         "mul.wide.u32 %rd3, %r2, 4;\nadd.s64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r6;\n"
         "membar.gl;\nmov.u64 %rd5, finished;\natom.global.add.u32 %r7, [%rd5], 1;\n"
         "add.s32 %r8, %r3, -1;\nsetp.ne.s32 %p2, %r7, %r8;\n@%p2 bra $end;\n"
         "mov.u32 %r9, 0;\nmov.u32 %r10, 0;\n"
         "$loop:\nmul.wide.u32 %rd6, %r9, 4;\nadd.s64 %rd7, %rd1, %rd6;\nld.global.u32 %r11, [%rd7];\n"
         "add.s32 %r10, %r10, %r11;\nadd.s32 %r9, %r9, 1;\nsetp.lt.u32 %p3, %r9, %r3;\n@%p3 bra $loop;\n"
         "st.global.u32 [%rd2], %r10;\nst.global.u32 [%rd5], 0;\n"
         "$end:\nret;\n}\n";

Test(sim_smoke, the_last_block_sees_what_the_others_wrote)
{
    enum { BLOCKS = 500 };
    device *sim = open_sim();
    error err = ERROR_INIT;
    uint64_t p[2] = {upload(sim, NULL, BLOCKS * 4), upload(sim, NULL, 4)};
    device_module *module;
    device_function *function;
    cr_assert_eq(sim->ops->module_load(sim, last_block, strlen(last_block), "smoke.ptx", &module, &err),
                 XQ_OK, "%s", err.message);
    sim->ops->function_get(module, "kernel", 0, &function, &err);
    device_launch launch = {.function = function,
                            .grid = {BLOCKS, 1, 1},
                            .block = {32, 1, 1},
                            .params = p,
                            .params_bytes = sizeof p};
    for (int round = 0; round < 3; round++) {
        uint32_t sum = 0, expected = 0;
        for (uint32_t b = 0; b < BLOCKS; b++)
            expected += 32 * 31 / 2 + 32 * b;
        sim->ops->fill(sim, p[1], 0, 4, &err);
        cr_assert_eq(sim->ops->launch(sim, &launch, &err), XQ_OK, "%s", err.message);
        sim->ops->read(sim, &sum, p[1], 4, &err);
        cr_expect_eq(sum, expected);
    }
    sim->ops->module_unload(module);
    sim->ops->destroy(sim);
}

Test(sim_smoke, marks_measure_modelled_time)
{
    device *sim = open_sim();
    error err = ERROR_INIT;
    struct axpy_params p = {upload(sim, NULL, 4096), upload(sim, NULL, 4096), 1024, 1};
    double milliseconds = 0;
    device_counters counted;
    sim->ops->mark(sim, NULL, 0, &err);
    run(sim, axpy, 4, 256, &p, sizeof p, &err);
    run(sim, axpy, 4, 256, &p, sizeof p, &err);
    sim->ops->mark(sim, NULL, 1, &err);
    cr_assert_eq(sim->ops->elapsed(sim, 0, 1, &milliseconds, &err), XQ_OK, "%s", err.message);
    sim->ops->counters(sim, &counted, &err);
    cr_expect_gt(milliseconds, 0);
    cr_expect_lt(fabs(milliseconds - counted.modelled_seconds * 1e3), 1e-12);
    cr_expect_neq(sim->ops->elapsed(sim, 0, 2, &milliseconds, &err), XQ_OK);
    error_clear(&err);
    sim->ops->destroy(sim);
}

static xq_status record_nothing(void *user, void *stream, error *err)
{
    (void)stream;
    *(bool *)user = true;
    return err->status;
}

/* A modelled time is that of the kernels, however they are launched, so a graph would show nothing. */
Test(sim_smoke, graphs_are_not_pretended)
{
    device *sim = open_sim();
    error err = ERROR_INIT;
    void *stream = NULL;
    device_graph *graph = NULL;
    bool called = false;
    cr_expect_not(sim->properties.graphs);
    cr_assert_eq(sim->ops->stream_create(sim, &stream, &err), XQ_OK);
    cr_expect_eq(sim->ops->graph_record(sim, stream, record_nothing, &called, &graph, &err),
                 XQ_ERROR_UNSUPPORTED);
    cr_expect_str_eq(err.message, "the software device has no graphs");
    cr_expect_null(graph);
    cr_expect_not(called);
    sim->ops->stream_destroy(sim, stream);
    sim->ops->destroy(sim);
}
