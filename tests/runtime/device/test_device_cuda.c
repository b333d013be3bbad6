/* The CUDA device on the fake driver: what it passes to the driver, how failures of the driver come back,
 * and that the caller's context stays as it was. */
#include "../../../runtime/device/device.h"
#include "../../support/fake_cuda.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_cuda_state *fake;
static error err = ERROR_INIT;

static device *open_fake(void)
{
    device *d = NULL;
    fake = fake_cuda_use();
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_OK, "%s", err.message);
    return d;
}

static const char cubin[] = "\177ELF and so on";

Test(device_cuda, missing_driver_is_named)
{
    device *d = NULL;
    setenv("XQ_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "/nowhere/libcuda.so.1"), "%s", err.message);
    cr_assert_null(d);
}

Test(device_cuda, a_file_that_is_no_library_is_not_called_missing)
{
    device *d = NULL;
    setenv("XQ_LIBCUDA", "/etc/passwd", 1);
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "that XQ_LIBCUDA names cannot be loaded: /etc/passwd: "), "%s",
              err.message);
}

Test(device_cuda, library_that_is_no_driver_is_refused)
{
    device *d = NULL;
    setenv("XQ_LIBCUDA", "libm.so.6", 1);
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "cuInit"), "%s", err.message);
}

Test(device_cuda, failing_init_and_no_gpu_are_no_device)
{
    device *d = NULL;
    fake = fake_cuda_use();
    fake->fail_function = "cuInit";
    fake->fail_result = 100;
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "CUDA_ERROR_NO_DEVICE"), "%s", err.message);
    fake->fail_function = NULL;
    fake->device_count = 0;
    error_clear(&err);
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "no GPU"), "%s", err.message);
    cr_assert_eq(fake->retained, 0);
}

Test(device_cuda, ordinal_beyond_the_last_names_the_valid_ones)
{
    device *d = NULL;
    fake = fake_cuda_use();
    fake->device_count = 2;
    cr_assert_eq(device_cuda_open(2, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "0 to 1"), "%s", err.message);
}

Test(device_cuda, gpu_older_than_ampere_is_refused)
{
    device *d = NULL;
    fake = fake_cuda_use();
    fake->major = 7;
    fake->minor = 5;
    cr_assert_eq(device_cuda_open(0, &d, &err), XQ_ERROR_NO_DEVICE);
    cr_assert(strstr(err.message, "7.5") && strstr(err.message, "8.0"), "%s", err.message);
}

Test(device_cuda, the_first_gpu_that_works_is_taken)
{
    device *d = NULL;
    fake = fake_cuda_use();
    fake->device_count = 3;
    fake->capability[0] = 70;
    fake->capability[1] = 75;
    cr_assert_eq(device_cuda_open_first(&d, &err), XQ_OK, "%s", err.message);
    cr_assert_str_eq(d->properties.name, "Fake GPU 2");
    cr_assert_str_eq(d->properties.uuid + 34, "02");
    d->ops->destroy(d);
    fake->capability[2] = 61;
    cr_assert_eq(device_cuda_open_first(&d, &err), XQ_ERROR_NO_DEVICE);
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "cuda:%d: Fake GPU %d has", i, i);
        cr_assert(strstr(err.message, name), "%s", err.message);
    }
    cr_assert_eq(fake->retained, 0);
}

Test(device_cuda, properties_come_from_the_driver)
{
    device *d = open_fake();
    cr_assert_str_eq(d->properties.name, "Fake GPU 0");
    cr_assert_str_eq(d->properties.uuid, FAKE_CUDA_UUID);
    cr_assert_str_eq(d->properties.arch, "sm_90");
    cr_assert_str_eq(d->properties.ptx_target, "compute_90");
    cr_assert_not(d->properties.is_sim);
    cr_assert_eq(d->properties.driver, 12040);
    cr_assert_eq(d->properties.sm_count, 132);
    cr_assert_eq(d->properties.max_threads_per_sm, 2048);
    cr_assert_eq(d->properties.memory_bytes, (size_t)80 << 30);
    cr_assert_eq(d->properties.l2_bytes, 50 << 20);
    cr_assert_eq(d->properties.shared_bytes_per_block, 232448);
    cr_assert_eq(d->properties.shared_bytes_per_sm, 233472);
    cr_assert_eq(d->properties.registers_per_sm, 65536);
    cr_assert_eq(d->properties.clock_hz, 1.98e9);
    d->ops->destroy(d);
    cr_assert_eq(fake->retained, 0);
}

Test(device_cuda, memory_is_written_filled_and_read_back)
{
    device *d = open_fake();
    uint64_t p = 0;
    char in[300], out[300];
    for (int i = 0; i < 300; i++)
        in[i] = (char)i;
    cr_assert_eq(d->ops->alloc(d, sizeof in, &p, &err), XQ_OK);
    cr_assert_eq(p % 256, 0);
    cr_assert_eq(d->ops->write(d, p, in, sizeof in, &err), XQ_OK);
    cr_assert_eq(d->ops->fill(d, p + 10, 0xab, 5, &err), XQ_OK);
    memset(in + 10, 0xab, 5);
    cr_assert_eq(d->ops->read(d, out, p, sizeof out, &err), XQ_OK);
    cr_assert_arr_eq(in, out, sizeof in);
    cr_assert_eq(d->ops->free(d, p, &err), XQ_OK);
    d->ops->destroy(d);
}

Test(device_cuda, reading_waits_for_launches_and_reports_their_faults)
{
    device *d = open_fake();
    uint64_t p = 0;
    char byte;
    cr_assert_eq(d->ops->alloc(d, 1, &p, &err), XQ_OK);
    fake->calls[0] = 0;
    cr_assert_eq(d->ops->read(d, &byte, p, 1, &err), XQ_OK);
    cr_assert(strstr(fake->calls, "cuCtxSynchronize") < strstr(fake->calls, "cuMemcpyDtoH"), "%s",
              fake->calls);
    fake->fail_function = "cuCtxSynchronize";
    fake->fail_result = 700;
    cr_assert_eq(d->ops->read(d, &byte, p, 1, &err), XQ_ERROR_DEVICE);
    cr_assert(strstr(err.message, "CUDA_ERROR_ILLEGAL_ADDRESS") && strstr(err.message, "launched earlier"),
              "%s", err.message);
    cr_assert_eq(fake_cuda_context_depth_of_thread(), 0);
    error_clear(&err);
    fake->fail_function = NULL;
    cr_assert_eq(d->ops->free(d, p, &err), XQ_OK);
    d->ops->destroy(d);
}

Test(device_cuda, writes_and_fills_come_after_launches_before_and_before_launches_after)
{
    device *d = open_fake();
    uint64_t p = 0;
    char byte = 1;
    cr_assert_eq(d->ops->alloc(d, 1, &p, &err), XQ_OK);
    fake->calls[0] = 0;
    cr_assert_eq(d->ops->write(d, p, &byte, 1, &err), XQ_OK);
    cr_assert_eq(d->ops->fill(d, p, 2, 1, &err), XQ_OK);
    char calls[sizeof fake->calls], *order = calls; /* without the context switches */
    char *copy = strdup(fake->calls), *rest = NULL;
    for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        if (!strstr(name, "Current"))
            order += sprintf(order, "%s ", name);
    free(copy);
    cr_assert_str_eq(calls, "cuCtxSynchronize cuMemcpyHtoD cuCtxSynchronize "
                            "cuCtxSynchronize cuMemsetD8 cuCtxSynchronize ");
    cr_assert_eq(d->ops->free(d, p, &err), XQ_OK);
    d->ops->destroy(d);
}

Test(device_cuda, shared_memory_is_zero_and_seen_by_host_and_kernels)
{
    device *d = open_fake();
    uint64_t p = 0;
    void *host = NULL;
    static const char zeros[100];
    fake->calls[0] = 0;
    cr_assert_eq(d->ops->shared_alloc(d, sizeof zeros, &p, &host, &err), XQ_OK);
    cr_assert_arr_eq(host, zeros, sizeof zeros);
    cr_assert_eq(p, (uint64_t)(uintptr_t)host, "the fake driver's addresses are the host's");
    cr_assert_eq(d->ops->shared_free(d, p, host, &err), XQ_OK);
    cr_assert(strstr(fake->calls, "cuMemHostAlloc") && strstr(fake->calls, "cuMemFreeHost"));
    cr_assert(!d->properties.reads_are_cheap);
    d->ops->destroy(d);
}

Test(device_cuda, too_large_an_allocation_is_out_of_device_memory)
{
    device *d = open_fake();
    uint64_t p = 77;
    cr_assert_eq(d->ops->alloc(d, (size_t)1 << 40, &p, &err), XQ_ERROR_DEVICE_MEMORY);
    cr_assert_eq(p, 77);
    cr_assert(strstr(err.message, "CUDA_ERROR_OUT_OF_MEMORY"), "%s", err.message);
    d->ops->destroy(d);
}

Test(device_cuda, image_that_the_driver_refuses_carries_its_log)
{
    device *d = open_fake();
    device_module *m = NULL;
    cr_assert_eq(d->ops->module_load(d, "not a cubin", 12, "attend", &m, &err), XQ_ERROR_DEVICE);
    cr_assert_null(m);
    cr_assert(strstr(err.message, "attend") && strstr(err.message, "CUDA_ERROR_INVALID_IMAGE"), "%s",
              err.message);
    cr_assert_str_eq(err.log, "this is no cubin");
    error_clear(&err);
    d->ops->destroy(d);
}

Test(device_cuda, ptx_is_loaded_too_unless_it_is_for_a_newer_gpu)
{
    static const char good[] = ".version 8.0\n.target sm_90\n", newer[] = ".version 8.6\n.target sm_100\n";
    device *d = open_fake();
    device_module *m = NULL;
    cr_assert_eq(d->ops->module_load(d, good, strlen(good), "attend", &m, &err), XQ_OK, "%s", err.message);
    d->ops->module_unload(m);
    cr_assert_eq(fake->ptx_modules, 1);
    cr_assert_eq(d->ops->module_load(d, newer, strlen(newer), "attend", &m, &err), XQ_ERROR_DEVICE);
    cr_assert(strstr(err.message, "attend on sm_90") && strstr(err.message, "222"), "%s", err.message);
    error_clear(&err);
    d->ops->destroy(d);
}

Test(device_cuda, unknown_entry_is_named)
{
    device *d = open_fake();
    device_module *m;
    device_function *f = NULL;
    cr_assert_eq(d->ops->module_load(d, cubin, sizeof cubin, "attend", &m, &err), XQ_OK);
    cr_assert_eq(d->ops->function_get(m, "nothing", 0, &f, &err), XQ_ERROR_DEVICE);
    cr_assert(strstr(err.message, "nothing"), "%s", err.message);
    d->ops->module_unload(m);
    d->ops->destroy(d);
    cr_assert_eq(fake->modules, 0);
}

Test(device_cuda, launch_passes_geometry_stream_and_params)
{
    device *d = open_fake();
    device_module *m;
    device_function *f;
    struct {
        uint64_t pointer;
        int number;
    } params = {0x123456789abcdef0u, 42};
    cr_assert_eq(d->ops->module_load(d, cubin, sizeof cubin, "attend", &m, &err), XQ_OK);
    cr_assert_eq(d->ops->function_get(m, "xq_attend", 70000, &f, &err), XQ_OK);
    device_launch l = {.function = f,
                       .grid = {3, 8, 2},
                       .block = {256, 1, 1},
                       .shared_bytes = 70000,
                       .stream = (void *)0x77,
                       .params = &params,
                       .params_bytes = sizeof params};
    cr_assert_eq(d->ops->launch(d, &l, &err), XQ_OK, "%s", err.message);
    const struct fake_cuda_launch *seen = fake_cuda_launched(fake, 0);
    cr_assert_str_eq(seen->name, "xq_attend");
    cr_assert_arr_eq(seen->grid, l.grid, sizeof l.grid);
    cr_assert_arr_eq(seen->block, l.block, sizeof l.block);
    cr_assert_eq(seen->shared_bytes, 70000);
    cr_assert_eq(seen->stream, (void *)0x77);
    cr_assert_eq(seen->params_bytes, sizeof params);
    cr_assert_arr_eq(seen->params, (unsigned char *)&params, sizeof params);

    l.grid[2] = 0; /* the driver refuses this: the message says what was launched */
    cr_assert_eq(d->ops->launch(d, &l, &err), XQ_ERROR_DEVICE);
    cr_assert(strstr(err.message, "xq_attend") && strstr(err.message, "grid 3x8x0"), "%s", err.message);
    d->ops->module_unload(m);
    d->ops->destroy(d);
}

/* Launches 6 x 8 x 2 blocks in clusters of `cluster` blocks. */
static xq_status launch_in_clusters(device *d, uint32_t cluster)
{
    device_module *m;
    device_function *f;
    const int params = 42;
    cr_assert_eq(d->ops->module_load(d, cubin, sizeof cubin, "attend", &m, &err), XQ_OK);
    cr_assert_eq(d->ops->function_get(m, "xq_attend", 70000, &f, &err), XQ_OK);
    const device_launch l = {.function = f,
                             .grid = {6, 8, 2},
                             .block = {256, 1, 1},
                             .cluster = cluster,
                             .shared_bytes = 70000,
                             .stream = (void *)0x77,
                             .params = &params,
                             .params_bytes = sizeof params};
    d->ops->launch(d, &l, &err);
    d->ops->module_unload(m);
    cr_assert_eq(fake_cuda_context_depth_of_thread(), 0);
    return err.status;
}

Test(device_cuda, cluster_is_an_attribute_of_the_extended_launch)
{
    device *d = open_fake();
    fake->calls[0] = 0;
    cr_assert_eq(launch_in_clusters(d, 3), XQ_OK, "%s", err.message);
    cr_assert(strstr(fake->calls, "cuLaunchKernelEx "), "%s", fake->calls);
    const struct fake_cuda_launch *seen = fake_cuda_launched(fake, 0);
    static const unsigned grid[] = {6, 8, 2}, block[] = {256, 1, 1}, cluster[] = {3, 1, 1};
    cr_assert_str_eq(seen->name, "xq_attend");
    cr_assert_arr_eq(seen->grid, grid, sizeof grid);
    cr_assert_arr_eq(seen->block, block, sizeof block);
    cr_assert_arr_eq(seen->cluster, cluster, sizeof cluster);
    cr_assert_eq(seen->shared_bytes, 70000);
    cr_assert_eq(seen->stream, (void *)0x77);
    cr_assert_eq(*(const int *)seen->params, 42);
    cr_assert_eq(launch_in_clusters(d, 4), XQ_ERROR_DEVICE); /* 4 does not divide 6 */
    cr_assert(strstr(err.message, "grid 6x8x2 in clusters of 4") && strstr(err.message, "cuLaunchKernelEx"),
              "%s", err.message);
    error_clear(&err);
    d->ops->destroy(d);
}

Test(device_cuda, cluster_of_one_is_a_plain_launch)
{
    device *d = open_fake();
    fake->calls[0] = 0;
    for (uint32_t cluster = 0; cluster < 2; cluster++) {
        cr_assert_eq(launch_in_clusters(d, cluster), XQ_OK, "%s", err.message);
        cr_assert_eq(fake_cuda_launched(fake, 0)->cluster[0], 0);
    }
    cr_assert_null(strstr(fake->calls, "cuLaunchKernelEx"));
    d->ops->destroy(d);
}

Test(device_cuda, gpu_without_clusters_refuses_them)
{
    fake = fake_cuda_use();
    fake->major = 8;
    device *d = open_fake();
    cr_assert_eq(launch_in_clusters(d, 2), XQ_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "xq_attend") && strstr(err.message, "clusters of 2") &&
                  strstr(err.message, "sm_80"),
              "%s", err.message);
    cr_assert_eq(fake->launch_count, 0);
    error_clear(&err);
    d->ops->destroy(d);
}

Test(device_cuda, callers_context_is_left_as_it_was)
{
    device *d = open_fake();
    uint64_t p;
    cr_assert_eq(fake_cuda_context_depth_of_thread(), 0);
    cr_assert_eq(d->ops->alloc(d, 16, &p, &err), XQ_OK);
    cr_assert_eq(fake_cuda_context_depth_of_thread(), 0);
    fake->fail_function = "cuMemFree";
    fake->fail_result = 1;
    cr_assert_eq(d->ops->free(d, p, &err), XQ_ERROR_DEVICE);
    cr_assert_eq(fake_cuda_context_depth_of_thread(), 0);
    error_clear(&err);
    fake->fail_function = NULL;
    cr_assert_eq(d->ops->free(d, p, &err), XQ_OK);
    d->ops->destroy(d);
}

Test(device_cuda, context_that_is_current_already_is_not_pushed_again)
{
    device *d = open_fake();
    void *library = dlopen(getenv("XQ_LIBCUDA"), RTLD_NOW | RTLD_LOCAL), *found, *context;
    int (*retain)(void **, int), (*push)(void *);
    found = dlsym(library, "cuDevicePrimaryCtxRetain");
    memcpy(&retain, &found, sizeof retain);
    found = dlsym(library, "cuCtxPushCurrent_v2");
    memcpy(&push, &found, sizeof push);
    cr_assert_eq(retain(&context, 0), 0);
    cr_assert_eq(push(context), 0);
    fake->calls[0] = 0;
    cr_assert_eq(d->ops->synchronize(d, &err), XQ_OK);
    cr_assert_str_eq(fake->calls, "cuCtxSynchronize ");
    cr_assert_eq(fake_cuda_context_depth_of_thread(), 1);
    d->ops->destroy(d);
}

Test(device_cuda, marks_measure_what_was_launched_between)
{
    device *d = open_fake();
    device_module *m;
    device_function *f;
    double milliseconds = -1;
    int params = 0;
    d->ops->module_load(d, cubin, sizeof cubin, "rope", &m, &err);
    d->ops->function_get(m, "xq_rope", 0, &f, &err);
    device_launch l = {.function = f,
                       .grid = {1, 1, 1},
                       .block = {32, 1, 1},
                       .params = &params,
                       .params_bytes = sizeof params};
    cr_assert_eq(d->ops->mark(d, NULL, 0, &err), XQ_OK);
    d->ops->launch(d, &l, &err);
    d->ops->launch(d, &l, &err);
    cr_assert_eq(d->ops->mark(d, NULL, 63, &err), XQ_OK);
    cr_assert_eq(d->ops->elapsed(d, 0, 63, &milliseconds, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(milliseconds, 3.0);
    cr_assert_eq(d->ops->mark(d, NULL, 64, &err), XQ_ERROR_ARGUMENT);
    error_clear(&err);
    cr_assert_eq(d->ops->elapsed(d, 0, 5, &milliseconds, &err), XQ_ERROR_ARGUMENT);
    d->ops->module_unload(m);
    d->ops->destroy(d);
    cr_assert_eq(fake->events, 0);
}

/* ------------------------------------------------------------------ graphs */

struct recorded {
    device *device;
    device_module *module;
    device_function *function;
    int launches;
    bool fails; /* whether recording fails after the launches */
    bool waits; /* whether it waits before them, which no capture allows */
};

static struct recorded make_recorded(device *d)
{
    struct recorded r = {.device = d, .launches = 2};
    cr_assert_eq(d->ops->module_load(d, cubin, sizeof cubin, "attend", &r.module, &err), XQ_OK);
    cr_assert_eq(d->ops->function_get(r.module, "xq_attend", 0, &r.function, &err), XQ_OK);
    return r;
}

static xq_status record(void *user, void *stream, error *e)
{
    struct recorded *r = user;
    if (r->waits)
        r->device->ops->synchronize(r->device, e);
    for (int i = 0; i < r->launches && e->status == XQ_OK; i++) {
        int params = 40 + i;
        const device_launch l = {.function = r->function,
                                 .grid = {1, 1, 1},
                                 .block = {32, 1, 1},
                                 .stream = stream,
                                 .params = &params,
                                 .params_bytes = sizeof params};
        r->device->ops->launch(r->device, &l, e);
    }
    return r->fails ? error_set(e, XQ_ERROR_ARGUMENT, "argument", "the step fails") : e->status;
}

static void end_recorded(struct recorded *r, void *stream)
{
    r->device->ops->stream_destroy(r->device, stream);
    r->device->ops->module_unload(r->module);
    r->device->ops->destroy(r->device);
    cr_expect_eq(fake->streams, 0);
    cr_expect_eq(fake->graphs, 0);
    cr_expect_eq(fake_cuda_context_depth_of_thread(), 0);
}

Test(device_cuda, a_graph_launches_what_was_recorded)
{
    device *d = open_fake();
    struct recorded r = make_recorded(d);
    device_graph *graph = NULL;
    void *stream = NULL;
    double milliseconds;
    cr_assert(d->properties.graphs);
    cr_assert_eq(d->ops->stream_create(d, &stream, &err), XQ_OK);
    fake->calls[0] = 0;
    cr_assert_eq(d->ops->graph_record(d, stream, record, &r, &graph, &err), XQ_OK, "%s", err.message);
    cr_expect(strstr(fake->calls, "cuStreamBeginCapture cuCtxPopCurrent "), "%s", fake->calls);
    cr_expect_eq(fake->launch_count, 0, "recording runs nothing");
    cr_expect_eq(fake->graphs, 1, "the recording goes, what was made of it stays");
    d->ops->mark(d, stream, 0, &err);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(d->ops->graph_launch(graph, stream, &err), XQ_OK, "%s", err.message);
    d->ops->mark(d, stream, 1, &err);
    cr_expect_eq(fake->launch_count, 6);
    cr_expect_eq(*(const int *)fake_cuda_launched(fake, 0)->params, 41);
    cr_expect_eq(*(const int *)fake_cuda_launched(fake, 1)->params, 40);
    cr_assert_eq(d->ops->elapsed(d, 0, 1, &milliseconds, &err), XQ_OK);
    cr_expect_eq(milliseconds, 6 * FAKE_CUDA_GRAPH_MS);
    d->ops->graph_destroy(graph);
    end_recorded(&r, stream);
}

/* Checks that the stream takes launches again, and can be recorded again. */
static void expect_usable(struct recorded *r, void *stream)
{
    device *d = r->device;
    device_graph *graph = NULL;
    r->fails = r->waits = false;
    cr_expect_eq(fake->graphs, 0);
    int before = fake->launch_count;
    cr_expect_eq(record(r, stream, &err), XQ_OK, "%s", err.message);
    cr_expect_eq(fake->launch_count, before + r->launches);
    cr_assert_eq(d->ops->graph_record(d, stream, record, r, &graph, &err), XQ_OK, "%s", err.message);
    d->ops->graph_destroy(graph);
}

Test(device_cuda, a_failure_within_a_recording_leaves_the_stream_usable)
{
    device *d = open_fake();
    struct recorded r = make_recorded(d);
    device_graph *graph = NULL;
    void *stream = NULL;
    cr_assert_eq(d->ops->stream_create(d, &stream, &err), XQ_OK);
    r.fails = true;
    cr_expect_eq(d->ops->graph_record(d, stream, record, &r, &graph, &err), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(err.message, "the step fails");
    cr_expect_null(graph);
    error_clear(&err);
    expect_usable(&r, stream);

    r.waits = true; /* the driver breaks the capture */
    cr_expect_eq(d->ops->graph_record(d, stream, record, &r, &graph, &err), XQ_ERROR_DEVICE);
    cr_expect(strstr(err.message, "cuCtxSynchronize"), "the first failure is told: %s", err.message);
    cr_expect_null(graph);
    error_clear(&err);
    expect_usable(&r, stream);
    end_recorded(&r, stream);
}

Test(device_cuda, what_the_driver_refuses_of_a_graph_is_told)
{
    static const char *const calls[] = {"cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"};
    device *d = open_fake();
    struct recorded r = make_recorded(d);
    device_graph *graph = NULL;
    void *stream = NULL;
    cr_assert_eq(d->ops->stream_create(d, &stream, &err), XQ_OK);
    for (int i = 0; i < 3; i++) {
        fake->fail_function = calls[i];
        fake->fail_result = 901;
        cr_expect_eq(d->ops->graph_record(d, stream, record, &r, &graph, &err), XQ_ERROR_DEVICE);
        cr_expect(strstr(err.message, calls[i]) &&
                      strstr(err.message, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"),
                  "%s", err.message);
        cr_expect_null(graph);
        error_clear(&err);
        fake->fail_function = NULL;
        expect_usable(&r, stream);
    }
    cr_expect_eq(d->ops->graph_record(d, NULL, record, &r, &graph, &err), XQ_ERROR_DEVICE,
                 "the default stream cannot be recorded");
    error_clear(&err);
    end_recorded(&r, stream);
}

Test(device_cuda, counters_are_the_software_devices)
{
    device *d = open_fake();
    device_counters c;
    cr_assert_eq(d->ops->counters(d, &c, &err), XQ_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "sim"), "%s", err.message);
    error_clear(&err);
    cr_assert_eq(d->ops->counters_reset(d, &err), XQ_ERROR_UNSUPPORTED);
    d->ops->destroy(d);
}

static void visit_nothing(void *user, const device_profile_entry *entry)
{
    (void)user;
    (void)entry;
}

Test(device_cuda, profiles_are_the_software_devices)
{
    device *d = open_fake();
    cr_assert_eq(d->ops->profile(d, true, &err), XQ_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "sim"), "%s", err.message);
    error_clear(&err);
    cr_assert_eq(d->ops->profile_read(d, visit_nothing, NULL, &err), XQ_ERROR_UNSUPPORTED);
    d->ops->destroy(d);
}
