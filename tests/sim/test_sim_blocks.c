/* Tests blocks, warps that are not full, barriers between parts of a block, and launches one after another
 * and from several threads. */
#include "../../sim/sim.h"
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 4096 };

static const char head[] =
    ".version 8.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n"
    ".global .align 4 .u32 launches;\n.const .align 4 .u32 fixed = 5;\n"
    ".visible .entry test(.param .align 8 .b8 params[8])\n{\n"
    "    .shared .align 16 .b8 memory[4096];\n"
    "    .reg .pred %p<8>;\n    .reg .b32 %r<30>, %me, %warp, %lane;\n    .reg .b64 %l<8>, %out, %mine;\n"
    "    ld.param.u64 %out, [params];\n    mov.u32 %me, %tid.x;\n    shr.u32 %warp, %me, 5;\n"
    "    mov.u32 %lane, %laneid;\n    mul.wide.u32 %mine, %me, 4;\n    add.s64 %mine, %mine, %out;\n"
    "    mov.u32 %r0, memory;\n    shl.b32 %r1, %me, 2;\n    add.s32 %r1, %r1, %r0;\n";

static struct {
    device *sim;
    uint64_t out;
    uint32_t words[WORDS];
} m;

static void set_up(void)
{
    error err = ERROR_INIT;
    m.sim = ptx_device();
    m.sim->ops->alloc(m.sim, sizeof m.words, &m.out, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
}

static void tear_down(void)
{
    m.sim->ops->destroy(m.sim);
}

#define SIM_TEST(name) Test(sim_blocks, name, .init = set_up, .fini = tear_down)

static xq_status try_run(const char *body, struct ptx_launch launch, error *err)
{
    size_t bytes = sizeof head + strlen(body) + 32;
    char *text = malloc(bytes);
    cr_assert_not_null(text);
    snprintf(text, bytes, "%s%s\n    ret;\n}\n", head, body);
    launch.ptx = text;
    launch.params = &m.out;
    launch.params_bytes = sizeof m.out;
    m.sim->ops->fill(m.sim, m.out, 0xee, sizeof m.words, err);
    if (ptx_run(m.sim, &launch, err) == XQ_OK)
        m.sim->ops->read(m.sim, m.words, m.out, sizeof m.words, err);
    free(text);
    return err->status;
}

static void run(const char *body, struct ptx_launch launch)
{
    error err = ERROR_INIT;
    try_run(body, launch, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
}

static void expect_fault(const char *body, struct ptx_launch launch, const char *says)
{
    error err = ERROR_INIT;
    cr_expect_eq(try_run(body, launch, &err), XQ_ERROR_DEVICE);
    cr_expect(strstr(err.message, says), "'%s' does not say %s", err.message, says);
    error_clear(&err);
}

SIM_TEST(clusters_of_more_than_one_block_are_refused)
{
    error err = ERROR_INIT;
    run("", (struct ptx_launch){.grid = 2, .block = 32, .cluster = 1});
    xq_status status = try_run("", (struct ptx_launch){.grid = 2, .block = 32, .cluster = 2}, &err);
    cr_assert_eq(status, XQ_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "clusters of 2") && strstr(err.message, "valid: 1"), "%s", err.message);
    error_clear(&err);
}

/* Computes the place of each thread in the grid, with x fastest. */
#define PLACE                                                                                              \
    "    mov.u32 %r2, %ctaid.z;\n    mov.u32 %r3, %nctaid.y;\n    mov.u32 %r4, %ctaid.y;\n"                \
    "    mad.lo.u32 %r2, %r2, %r3, %r4;\n    mov.u32 %r3, %nctaid.x;\n    mov.u32 %r4, %ctaid.x;\n"        \
    "    mad.lo.u32 %r2, %r2, %r3, %r4;\n    mov.u32 %r3, %ntid.z;\n    mov.u32 %r4, %tid.z;\n"            \
    "    mad.lo.u32 %r2, %r2, %r3, %r4;\n    mov.u32 %r3, %ntid.y;\n    mov.u32 %r4, %tid.y;\n"            \
    "    mad.lo.u32 %r2, %r2, %r3, %r4;\n    mov.u32 %r3, %ntid.x;\n    mad.lo.u32 %r2, %r2, %r3, %me;\n"  \
    "    mul.wide.u32 %l0, %r2, 4;\n    add.s64 %l0, %l0, %out;\n"

SIM_TEST(threads_know_their_place_in_three_dimensions)
{
    struct ptx_launch launch = {.grid = 3, .grid_yz = {2, 4}, .block = 5, .block_yz = {3, 7}};
    run(PLACE "    shl.b32 %r5, %r2, 8;\n    or.b32 %r5, %r5, %lane;\n    st.global.u32 [%l0], %r5;\n",
        launch);
    for (uint32_t i = 0; i < 3 * 2 * 4 * 5 * 3 * 7; i++)
        cr_assert_eq(m.words[i], i << 8 | i % 105 % 32, "%u: %x", i, m.words[i]);
}

SIM_TEST(a_fault_names_block_and_thread_in_three_dimensions)
{
    struct ptx_launch launch = {.grid = 3, .grid_yz = {2, 2}, .block = 4, .block_yz = {2, 2}};
    const char body[] = PLACE "    setp.eq.u32 %p0, %r2, 123;\n    @%p0 st.global.u32 [%l0+1], %r2;\n";
    /* 123 = 7 * 16 + 11: block 7 is (1, 0, 1), and thread 11 is (3, 0, 1). */
    expect_fault(body, launch, "block (1, 0, 1), thread (3, 0, 1)");
}

SIM_TEST(the_last_warp_may_be_short)
{
    static const uint32_t sizes[] = {1, 31, 33, 63, 65, 100};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        uint32_t n = sizes[k];
        run("    setp.ge.u32 %p0, %me, 0;\n    vote.sync.ballot.b32 %r2, %p0, -1;\n    bar.sync 0;\n"
            "    bar.red.popc.u32 %r3, 0, %p0;\n    redux.sync.add.u32 %r4, %lane, -1;\n"
            "    shfl.sync.bfly.b32 %r5, %me, 0, 31, -1;\n    popc.b32 %r2, %r2;\n    mad.lo.u32 %r2, %r3, "
            "1000, %r2;\n"
            "    mad.lo.u32 %r2, %r4, 1000000, %r2;\n    sub.u32 %r5, %r5, %me;\n    add.u32 %r2, %r2, "
            "%r5;\n"
            "    st.global.u32 [%mine], %r2;\n",
            (struct ptx_launch){.grid = 2, .block = n});
        for (uint32_t i = 0; i < n; i++) {
            uint32_t lanes = i / 32 == n / 32 ? n % 32 : 32;
            uint32_t expected = lanes * (lanes - 1) / 2 * 1000000 + n * 1000 + lanes;
            cr_assert_eq(m.words[i], expected, "%u of %u: %u", i, n, m.words[i]);
        }
        cr_expect_eq(m.words[n], 0xeeeeeeee);
    }
}

SIM_TEST(producers_arrive_and_consumers_wait)
{
    /* Warp 0 fills a buffer of 32 words eight times, and warp 1 adds it up. Barrier 1 says that the buffer
     * is full, barrier 2 that it is empty. */
    run("    mov.u32 %r2, 0;\n    mov.u32 %r3, 0;\n    shl.b32 %r4, %lane, 2;\n    add.s32 %r4, %r4, %r0;\n"
        "    setp.eq.u32 %p0, %warp, 1;\n    @%p0 bra CONSUME;\n"
        "PRODUCE:\n    setp.eq.u32 %p1, %r2, 0;\n    @%p1 bra.uni FILL;\n    bar.sync 2, 64;\nFILL:\n"
        "    mad.lo.u32 %r5, %r2, 100, %lane;\n    st.shared.u32 [%r4], %r5;\n    bar.arrive 1, 64;\n"
        "    add.u32 %r2, %r2, 1;\n    setp.lt.u32 %p2, %r2, 8;\n    @%p2 bra PRODUCE;\n    bra.uni END;\n"
        "CONSUME:\n    bar.sync 1, 64;\n    ld.shared.u32 %r5, [%r4];\n    add.u32 %r3, %r3, %r5;\n"
        "    add.u32 %r2, %r2, 1;\n    setp.eq.u32 %p2, %r2, 8;\n    @%p2 bra.uni STORE;\n    bar.arrive "
        "2, 64;\n"
        "    bra.uni CONSUME;\nSTORE:\n    st.global.u32 [%mine], %r3;\nEND:\n",
        (struct ptx_launch){.grid = 3, .block = 64});
    for (uint32_t lane = 0; lane < 32; lane++)
        cr_expect_eq(m.words[32 + lane], 2800 + 8 * lane, "%u", m.words[32 + lane]);
}

SIM_TEST(a_producer_that_does_not_wait_for_empty_is_a_race)
{
    expect_fault("    shl.b32 %r4, %lane, 2;\n    add.s32 %r4, %r4, %r0;\n    setp.eq.u32 %p0, %warp, 1;\n"
                 "    @%p0 bra CONSUME;\n    st.shared.u32 [%r4], 1;\n    bar.arrive 1, 64;\n"
                 "    st.shared.u32 [%r4], 2;\n    ret;\nCONSUME:\n    bar.sync 1, 64;\n    ld.shared.u32 "
                 "%r5, [%r4];\n",
                 (struct ptx_launch){.grid = 1, .block = 64}, "race");
}

SIM_TEST(barriers_reduce_over_all_warps)
{
    run("    and.b32 %r2, %me, 3;\n    setp.eq.u32 %p0, %r2, 1;\n    setp.lt.u32 %p1, %me, 96;\n"
        "    setp.lt.u32 %p2, %me, 95;\n    bar.red.popc.u32 %r3, 3, %p0;\n    bar.red.and.pred %p3, 3, "
        "%p1;\n"
        "    bar.red.and.pred %p4, 3, %p2;\n    bar.red.or.pred %p5, 4, !%p2;\n    bar.red.or.pred %p6, 4, "
        "!%p1;\n"
        "    selp.u32 %r4, 1, 0, %p3;\n    selp.u32 %r5, 1, 0, %p4;\n    selp.u32 %r6, 1, 0, %p5;\n"
        "    selp.u32 %r7, 1, 0, %p6;\n    mad.lo.u32 %r3, %r3, 10, %r4;\n    mad.lo.u32 %r3, %r3, 10, "
        "%r5;\n"
        "    mad.lo.u32 %r3, %r3, 10, %r6;\n    mad.lo.u32 %r3, %r3, 10, %r7;\n    st.global.u32 [%mine], "
        "%r3;\n",
        (struct ptx_launch){.grid = 1, .block = 96});
    for (int i = 0; i < 96; i++)
        cr_assert_eq(m.words[i], 241010, "%u", m.words[i]);
}

SIM_TEST(warps_that_exited_do_not_hold_up_a_barrier)
{
    run("    setp.eq.u32 %p0, %warp, 1;\n    @%p0 exit;\n    st.shared.u32 [%r1], %me;\n    bar.sync 0;\n"
        "    xor.b32 %r2, %me, 64;\n    shl.b32 %r2, %r2, 2;\n    add.s32 %r2, %r2, %r0;\n"
        "    ld.shared.u32 %r3, [%r2];\n    st.global.u32 [%mine], %r3;\n",
        (struct ptx_launch){.grid = 1, .block = 96});
    cr_expect_eq(m.words[5], 69);
    cr_expect_eq(m.words[40], 0xeeeeeeee);
    cr_expect_eq(m.words[70], 6);
}

/* Two warps exchange words 70,000 times, with the barriers right. The test then does so once without
 * barriers. */
#define MANY_BARRIERS                                                                                      \
    "    xor.b32 %r2, %me, 32;\n    shl.b32 %r2, %r2, 2;\n    add.s32 %r2, %r2, %r0;\n    mov.u32 %r3, "   \
    "0;\n"                                                                                                 \
    "LOOP:\n    st.shared.u32 [%r1], %r3;\n    bar.sync 0;\n    ld.shared.u32 %r4, [%r2];\n    bar.sync "  \
    "0;\n"                                                                                                 \
    "    add.u32 %r3, %r3, 1;\n    setp.lt.u32 %p0, %r3, 70000;\n    @%p0 bra LOOP;\n"

SIM_TEST(races_are_told_from_order_after_any_number_of_barriers)
{
    run(MANY_BARRIERS "    st.global.u32 [%mine], %r4;\n", (struct ptx_launch){.grid = 1, .block = 64});
    cr_expect_eq(m.words[0], 69999);
    expect_fault(MANY_BARRIERS "    st.shared.u32 [%r1], 1;\n    ld.shared.u32 %r4, [%r2];\n",
                 (struct ptx_launch){.grid = 1, .block = 64}, "race");
}

/* A write that was long ago is ordered before a read now. A word that was never written is still found to
 * be uninitialized. */
SIM_TEST(old_writes_stay_known)
{
    run("    st.shared.u32 [%r1+2048], %me;\n" MANY_BARRIERS "    ld.shared.u32 %r5, [%r2+2048];\n"
        "    st.global.u32 [%mine], %r5;\n",
        (struct ptx_launch){.grid = 1, .block = 64});
    cr_expect_eq(m.words[3], 35);
    expect_fault(MANY_BARRIERS "    ld.shared.u32 %r5, [%r2+2048];\n",
                 (struct ptx_launch){.grid = 1, .block = 64}, "uninitialized");
}

SIM_TEST(launches_start_with_uninitialized_shared_memory)
{
    struct ptx_launch launch = {.grid = 4, .block = 64, .shared_bytes = 1024};
    run("    mov.u32 %r2, dynamic;\n    add.u32 %r2, %r2, %r1;\n    sub.u32 %r2, %r2, %r0;\n"
        "    st.shared.u32 [%r2], 1;\n    st.shared.u32 [%r1], 1;\n",
        launch);
    expect_fault("    ld.shared.u32 %r3, [%r1];\n", launch, "uninitialized");
    expect_fault("    ld.shared.u32 %r3, [dynamic];\n", launch, "uninitialized");
}

SIM_TEST(module_variables_last_as_long_as_their_module)
{
    error err = ERROR_INIT;
    char text[4096];
    snprintf(text, sizeof text,
             "%s    atom.global.add.u32 %%r2, [launches], 1;\n    ld.const.u32 %%r3, [fixed];\n"
             "    mad.lo.u32 %%r2, %%r2, 10, %%r3;\n    st.global.u32 [%%mine], %%r2;\n    ret;\n}\n",
             head);
    const device_ops *ops = m.sim->ops;
    device_module *modules[2];
    device_function *function;
    for (int i = 0; i < 2; i++)
        cr_assert_eq(ops->module_load(m.sim, text, strlen(text) + 1, "m.ptx", &modules[i], &err), XQ_OK,
                     "%s", err.message);
    static const uint32_t expected[] = {5, 15, 5, 25};
    static const int order[] = {0, 0, 1, 0};
    for (int i = 0; i < 4; i++) {
        ops->function_get(modules[order[i]], "test", 0, &function, &err);
        device_launch launch = {.function = function,
                                .grid = {1, 1, 1},
                                .block = {1, 1, 1},
                                .params = &m.out,
                                .params_bytes = sizeof m.out};
        ops->launch(m.sim, &launch, &err);
        ops->read(m.sim, m.words, m.out, 4, &err);
        cr_expect_eq(err.status, XQ_OK, "%s", err.message);
        cr_expect_eq(m.words[0], expected[i], "launch %d: %u", i, m.words[0]);
    }
    ops->module_unload(modules[0]);
    ops->module_unload(modules[1]);
    expect_fault("    mov.u64 %l0, fixed;\n    cvta.const.u64 %l0, %l0;\n    st.u32 [%l0], 1;\n",
                 (struct ptx_launch){.grid = 1, .block = 1}, "line");
}

struct job {
    device *sim;
    uint32_t seed, sum;
    xq_status status;
};

/* Sums seed + thread over 8 blocks, 20 times. */
static void *run_job(void *argument)
{
    struct job *job = argument;
    error err = ERROR_INIT;
    uint64_t out = 0;
    char text[4096];
    snprintf(text, sizeof text,
             "%s    add.u32 %%r2, %%me, %u;\n    red.global.add.u32 [%%out], %%r2;\n    ret;\n}\n", head,
             job->seed);
    job->sim->ops->alloc(job->sim, 4, &out, &err);
    job->sim->ops->fill(job->sim, out, 0, 4, &err);
    struct ptx_launch launch = {
        .ptx = text, .grid = 8, .block = 64, .params = &out, .params_bytes = sizeof out};
    for (int i = 0; i < 20; i++)
        ptx_run(job->sim, &launch, &err);
    job->sim->ops->read(job->sim, &job->sum, out, 4, &err);
    job->status = err.status;
    error_clear(&err);
    return NULL;
}

static void run_jobs(device *const sims[4])
{
    pthread_t threads[4];
    struct job jobs[4];
    for (uint32_t i = 0; i < 4; i++) {
        jobs[i] = (struct job){sims[i], i * 1000, 0, XQ_OK};
        cr_assert_eq(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(jobs[i].status, XQ_OK);
        cr_expect_eq(jobs[i].sum, 20 * 8 * (64 * i * 1000 + 2016), "%u", jobs[i].sum);
    }
}

Test(sim_blocks, one_device_may_be_used_from_several_threads)
{
    device *sim = ptx_device();
    run_jobs((device *const[4]){sim, sim, sim, sim});
    device_counters counters;
    error err = ERROR_INIT;
    sim->ops->counters(sim, &counters, &err);
    cr_expect_eq(counters.launches, 80);
    sim->ops->destroy(sim);
}

Test(sim_blocks, devices_do_not_share_state)
{
    device *sims[4];
    for (int i = 0; i < 4; i++)
        sims[i] = ptx_device();
    run_jobs(sims);
    for (int i = 0; i < 4; i++)
        sims[i]->ops->destroy(sims[i]);
}
