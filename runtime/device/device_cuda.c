/* NVIDIA GPUs through the driver API. The device uses the GPU's primary context. The CUDA runtime and
 * every framework built on it use this context too, so their pointers and streams are valid here. Each
 * call makes the context current for its duration and then restores the caller's. */
#include "cuda_api.h"
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARKS = 64 };

struct cuda_device {
    device base;
    cuda_api api;
    cuda_ordinal ordinal;
    cuda_context context; /* NULL until retained */
    bool clusters;        /* blocks can be launched in clusters */
    cuda_event marks[MARKS];
};

struct device_module {
    struct cuda_device *device;
    cuda_module handle;
    char name[64];
    struct device_function *functions; /* a list, released with the module */
};

struct device_function {
    struct device_function *next;
    device_module *module;
    cuda_function handle;
    char entry[128];
};

/* ---------------------------------------------------------------- context */

/* Makes the device's context current; *pushed says whether leave() has to undo it. */
static xq_status enter(struct cuda_device *d, bool *pushed, error *err)
{
    cuda_context current = NULL;
    *pushed = false;
    if (d->api.context_current(&current) == CUDA_RESULT_SUCCESS && current == d->context)
        return XQ_OK;
    xq_status status =
        cuda_api_check(&d->api, d->api.context_push(d->context), XQ_ERROR_DEVICE, "cuCtxPushCurrent", err);
    *pushed = status == XQ_OK;
    return status;
}

static void leave(struct cuda_device *d, bool pushed)
{
    cuda_context ignored;
    if (pushed)
        d->api.context_pop(&ignored);
}

/* Runs one driver call inside the context, and turns its result into a status. */
#define IN_CONTEXT(d, what, err, call)                                                                     \
    do {                                                                                                   \
        bool pushed_;                                                                                      \
        if (enter(d, &pushed_, err) == XQ_OK) {                                                            \
            cuda_result result_ = (call);                                                                  \
            leave(d, pushed_);                                                                             \
            cuda_api_check(&(d)->api, result_, XQ_ERROR_DEVICE, what, err);                                \
        }                                                                                                  \
    } while (0)

/* ----------------------------------------------------------------- memory */

static xq_status cuda_alloc(device *base, size_t bytes, uint64_t *pointer, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    cuda_pointer p = 0;
    IN_CONTEXT(d, "cuMemAlloc", err, d->api.memory_alloc(&p, bytes)); /* aligned to 256 bytes at least */
    if (err->status == XQ_OK)
        *pointer = p;
    return err->status;
}

static xq_status cuda_free(device *base, uint64_t pointer, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    IN_CONTEXT(d, "cuMemFree", err, d->api.memory_free(pointer));
    return err->status;
}

static xq_status cuda_shared_free(device *base, uint64_t pointer, void *host, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    (void)pointer;
    IN_CONTEXT(d, "cuMemFreeHost", err, d->api.host_free(host));
    return err->status;
}

static xq_status cuda_shared_alloc(device *base, size_t bytes, uint64_t *pointer, void **host, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    void *memory = NULL;
    cuda_pointer p = 0;
    IN_CONTEXT(d, "cuMemHostAlloc", err,
               d->api.host_alloc(&memory, bytes, CUDA_HOST_PORTABLE | CUDA_HOST_DEVICEMAP));
    if (err->status != XQ_OK)
        return err->status;
    IN_CONTEXT(d, "cuMemHostGetDevicePointer", err, d->api.host_pointer(&p, memory, 0));
    if (err->status != XQ_OK) {
        error ignored = ERROR_INIT;
        cuda_shared_free(base, 0, memory, &ignored);
        error_clear(&ignored);
        return err->status;
    }
    memset(memory, 0, bytes);
    *host = memory;
    *pointer = p;
    return XQ_OK;
}

/* Copies and fills use the default stream, and other streams need not wait for it. So copies and fills
 * wait for the whole device: then they come after all earlier launches and before all later ones. */
static xq_status cuda_synchronize(device *base, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    IN_CONTEXT(d, "a kernel launched earlier failed: cuCtxSynchronize", err, d->api.context_synchronize());
    return err->status;
}

static xq_status cuda_write(device *base, uint64_t destination, const void *source, size_t bytes,
                            error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    if (cuda_synchronize(base, err) == XQ_OK)
        IN_CONTEXT(d, "cuMemcpyHtoD", err, d->api.memory_write(destination, source, bytes));
    return err->status == XQ_OK ? cuda_synchronize(base, err) : err->status;
}

static xq_status cuda_read(device *base, void *destination, uint64_t source, size_t bytes, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    if (cuda_synchronize(base, err) == XQ_OK)
        IN_CONTEXT(d, "cuMemcpyDtoH", err, d->api.memory_read(destination, source, bytes));
    return err->status;
}

static xq_status cuda_fill(device *base, uint64_t destination, uint8_t value, size_t bytes, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    if (cuda_synchronize(base, err) == XQ_OK)
        IN_CONTEXT(d, "cuMemsetD8", err, d->api.memory_fill(destination, value, bytes));
    return err->status == XQ_OK ? cuda_synchronize(base, err) : err->status;
}

/* ---------------------------------------------------------------- modules */

static xq_status cuda_module_load(device *base, const void *image, size_t bytes, const char *name,
                                  device_module **out, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    (void)bytes; /* a cubin states its own size, and PTX ends with NUL */
    char log[8192] = "", what[160];
    int names[] = {CUDA_JIT_ERROR_LOG_BUFFER, CUDA_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    device_module *m = (device_module *)calloc(1, sizeof *m);
    if (!m)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    m->device = d;
    snprintf(m->name, sizeof m->name, "%s", name);
    snprintf(what, sizeof what, "cannot load kernel %s on %s: cuModuleLoadDataEx", m->name,
             base->properties.arch);
    IN_CONTEXT(d, what, err, d->api.module_load(&m->handle, image, 2, names, values));
    if (err->status == XQ_OK) {
        *out = m;
        return XQ_OK;
    }
    log[sizeof log - 1] = 0;
    if (log[0])
        error_log(err, log);
    free(m);
    return err->status;
}

static void cuda_module_unload(device_module *m)
{
    struct cuda_device *d = m->device;
    error ignored = ERROR_INIT; /* unloading fails only after a fault that was reported already */
    IN_CONTEXT(d, "cuModuleUnload", &ignored, d->api.module_unload(m->handle));
    error_clear(&ignored);
    while (m->functions) {
        device_function *f = m->functions;
        m->functions = f->next;
        free(f);
    }
    free(m);
}

static xq_status cuda_function_get(device_module *m, const char *entry, size_t shared_bytes,
                                   device_function **out, error *err)
{
    struct cuda_device *d = m->device;
    char what[256];
    device_function *f = (device_function *)calloc(1, sizeof *f);
    if (!f)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    f->module = m;
    snprintf(f->entry, sizeof f->entry, "%s", entry);
    snprintf(what, sizeof what, "kernel %s has no entry %s: cuModuleGetFunction", m->name, f->entry);
    IN_CONTEXT(d, what, err, d->api.module_function(&f->handle, m->handle, entry));
    if (err->status == XQ_OK && shared_bytes > 0) {
        snprintf(what, sizeof what,
                 "kernel %s needs %zu bytes of dynamic shared memory: cuFuncSetAttribute", m->name,
                 shared_bytes);
        IN_CONTEXT(
            d, what, err,
            d->api.function_set(f->handle, CUDA_FUNCTION_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared_bytes));
    }
    if (err->status != XQ_OK) {
        free(f);
        return err->status;
    }
    f->next = m->functions;
    m->functions = f;
    *out = f;
    return XQ_OK;
}

static xq_status cuda_function_attributes(const device_function *f, device_function_attributes *out,
                                          error *err)
{
    struct cuda_device *d = f->module->device;
    device_function_attributes a = {0};
    const struct {
        int attribute;
        int *value;
    } wanted[] = {
        {CUDA_FUNCTION_NUM_REGS, &a.registers},
        {CUDA_FUNCTION_SHARED_SIZE_BYTES, &a.shared_bytes_static},
        {CUDA_FUNCTION_LOCAL_SIZE_BYTES, &a.local_bytes},
        {CUDA_FUNCTION_MAX_THREADS_PER_BLOCK, &a.max_threads},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && err->status == XQ_OK; i++)
        IN_CONTEXT(d, "cuFuncGetAttribute", err,
                   d->api.function_get(wanted[i].value, wanted[i].attribute, f->handle));
    if (err->status == XQ_OK)
        *out = a;
    return err->status;
}

/* ----------------------------------------------------------------- launch */

static xq_status launch_failed(struct cuda_device *d, const device_launch *l, cuda_result result,
                               error *err)
{
    char what[320], clusters[48] = "";
    if (l->cluster > 1)
        snprintf(clusters, sizeof clusters, " in clusters of %u", l->cluster);
    snprintf(what, sizeof what,
             "cannot launch %s with grid %ux%ux%u%s, block %ux%ux%u, %u shared bytes: cuLaunchKernel%s",
             l->function->entry, l->grid[0], l->grid[1], l->grid[2], clusters, l->block[0], l->block[1],
             l->block[2], l->shared_bytes, l->cluster > 1 ? "Ex" : "");
    return cuda_api_check(&d->api, result, XQ_ERROR_DEVICE, what, err);
}

/* The driver's `extra` argument, which tells where a kernel's parameters are. */
#define LAUNCH_PARAMS(l, bytes)                                                                            \
    {                                                                                                      \
        (void *)(uintptr_t)CUDA_LAUNCH_PARAM_BUFFER_POINTER, (void *)(uintptr_t)(l)->params,               \
            (void *)(uintptr_t)CUDA_LAUNCH_PARAM_BUFFER_SIZE, (bytes),                                     \
            (void *)(uintptr_t)CUDA_LAUNCH_PARAM_END                                                       \
    }

/* Launches in clusters, which only the extended call supports. It is apart from cuda_launch so that other
 * launches have no extra cost. */
static __attribute__((noinline)) xq_status launch_clusters(struct cuda_device *d, const device_launch *l,
                                                           error *err)
{
    bool pushed;
    size_t bytes = l->params_bytes;
    void *extra[] = LAUNCH_PARAMS(l, &bytes);
    cuda_launch_attribute cluster = {.id = CUDA_LAUNCH_CLUSTER_DIMENSION,
                                     .value = {.cluster = {l->cluster, 1, 1}}};
    const cuda_launch_config config = {
        .grid_x = l->grid[0],
        .grid_y = l->grid[1],
        .grid_z = l->grid[2],
        .block_x = l->block[0],
        .block_y = l->block[1],
        .block_z = l->block[2],
        .shared_bytes = l->shared_bytes,
        .stream = (cuda_stream)l->stream,
        .attributes = &cluster,
        .attribute_count = 1,
    };
    if (!d->clusters)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                         "kernel %s is launched in clusters of %u blocks, and %s (%s) has no clusters",
                         l->function->entry, l->cluster, d->base.properties.name, d->base.properties.arch);
    if (enter(d, &pushed, err) != XQ_OK)
        return err->status;
    cuda_result result = d->api.launch_configured(&config, l->function->handle, NULL, extra);
    leave(d, pushed);
    return result == CUDA_RESULT_SUCCESS ? XQ_OK : launch_failed(d, l, result, err);
}

static xq_status cuda_launch(device *base, const device_launch *l, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    bool pushed;
    size_t bytes = l->params_bytes;
    void *extra[] = LAUNCH_PARAMS(l, &bytes);
    if (l->cluster > 1)
        return launch_clusters(d, l, err);
    if (enter(d, &pushed, err) != XQ_OK)
        return err->status;
    cuda_result result =
        d->api.launch(l->function->handle, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
                      l->block[2], l->shared_bytes, (cuda_stream)l->stream, NULL, extra);
    leave(d, pushed);
    return result == CUDA_RESULT_SUCCESS ? XQ_OK : launch_failed(d, l, result, err);
}

/* ------------------------------------------------------- streams and graphs */

struct device_graph {
    struct cuda_device *device;
    cuda_graph_exec handle;
};

/* The legacy default stream cannot be captured, and would wait for all streams that lack the non-blocking
 * flag. */
static xq_status cuda_stream_create(device *base, void **stream, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    cuda_stream s = NULL;
    IN_CONTEXT(d, "cuStreamCreate", err, d->api.stream_create(&s, CUDA_STREAM_NON_BLOCKING));
    if (err->status == XQ_OK)
        *stream = s;
    return err->status;
}

static void cuda_stream_destroy(device *base, void *stream)
{
    struct cuda_device *d = (struct cuda_device *)base;
    error ignored = ERROR_INIT; /* this fails only after a fault that was reported already */
    IN_CONTEXT(d, "cuStreamDestroy", &ignored, d->api.stream_destroy((cuda_stream)stream));
    error_clear(&ignored);
}

/* A capture is ended whatever happens within it, because the stream takes no other work until then. The
 * driver discards what a broken capture recorded. */
static xq_status capture(struct cuda_device *d, void *stream, device_record *record, void *user,
                         cuda_graph *recorded, error *err)
{
    error at_end = ERROR_INIT;
    IN_CONTEXT(d, "cuStreamBeginCapture", err,
               d->api.capture_begin((cuda_stream)stream, CUDA_CAPTURE_THREAD_LOCAL));
    if (err->status != XQ_OK)
        return err->status;
    record(user, stream, err);
    IN_CONTEXT(d, "cuStreamEndCapture", &at_end, d->api.capture_end((cuda_stream)stream, recorded));
    if (err->status == XQ_OK)
        *err = at_end;
    else
        error_clear(&at_end);
    return err->status;
}

static xq_status cuda_graph_record(device *base, void *stream, device_record *record, void *user,
                                   device_graph **out, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    device_graph *g = (device_graph *)calloc(1, sizeof *g);
    cuda_graph recorded = NULL;
    error ignored = ERROR_INIT;
    if (!g)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    g->device = d;
    if (capture(d, stream, record, user, &recorded, err) == XQ_OK)
        IN_CONTEXT(d, "cuGraphInstantiate", err, d->api.graph_instantiate(&g->handle, recorded, 0));
    if (recorded)
        IN_CONTEXT(d, "cuGraphDestroy", &ignored, d->api.graph_destroy(recorded));
    error_clear(&ignored);
    if (err->status == XQ_OK)
        *out = g;
    else
        free(g);
    return err->status;
}

static xq_status cuda_graph_launch(device_graph *g, void *stream, error *err)
{
    struct cuda_device *d = g->device;
    IN_CONTEXT(d, "cuGraphLaunch", err, d->api.graph_launch(g->handle, (cuda_stream)stream));
    return err->status;
}

static void cuda_graph_destroy(device_graph *g)
{
    struct cuda_device *d = g->device;
    error ignored = ERROR_INIT;
    IN_CONTEXT(d, "cuGraphExecDestroy", &ignored, d->api.graph_exec_destroy(g->handle));
    error_clear(&ignored);
    free(g);
}

/* ------------------------------------------------------------------ times */

static xq_status bad_mark(int index, error *err)
{
    return error_set(err, XQ_ERROR_ARGUMENT, "device",
                     "mark %d is out of range, or was not set; valid: 0 to %d", index, MARKS - 1);
}

static xq_status cuda_mark(device *base, void *stream, int index, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    if (index < 0 || index >= MARKS)
        return bad_mark(index, err);
    if (!d->marks[index])
        IN_CONTEXT(d, "cuEventCreate", err, d->api.event_create(&d->marks[index], 0));
    if (err->status == XQ_OK)
        IN_CONTEXT(d, "cuEventRecord", err, d->api.event_record(d->marks[index], (cuda_stream)stream));
    return err->status;
}

static xq_status cuda_elapsed(device *base, int from, int to, double *milliseconds, error *err)
{
    struct cuda_device *d = (struct cuda_device *)base;
    float value = 0;
    const int indices[] = {from, to};
    for (int i = 0; i < 2; i++)
        if (indices[i] < 0 || indices[i] >= MARKS || !d->marks[indices[i]])
            return bad_mark(indices[i], err);
    IN_CONTEXT(d, "cuEventSynchronize", err, d->api.event_synchronize(d->marks[to]));
    if (err->status == XQ_OK)
        IN_CONTEXT(d, "cuEventElapsedTime", err,
                   d->api.event_elapsed(&value, d->marks[from], d->marks[to]));
    if (err->status == XQ_OK)
        *milliseconds = (double)value;
    return err->status;
}

static xq_status no_counters(error *err)
{
    return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                     "a GPU does not count what kernels do; use the software device (--device sim)");
}

static xq_status cuda_counters(device *base, device_counters *out, error *err)
{
    (void)base;
    (void)out;
    return no_counters(err);
}

static xq_status cuda_counters_reset(device *base, error *err)
{
    (void)base;
    return no_counters(err);
}

static xq_status no_profile(error *err)
{
    return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                     "a GPU keeps no profile of instructions; use the software device (--device sim)");
}

static xq_status cuda_profile(device *base, bool on, error *err)
{
    (void)base;
    (void)on;
    return no_profile(err);
}

static xq_status cuda_profile_read(device *base, device_profile_visit *visit, void *user, error *err)
{
    (void)base;
    (void)visit;
    (void)user;
    return no_profile(err);
}

/* ---------------------------------------------------------------- opening */

static void cuda_destroy(device *base)
{
    struct cuda_device *d = (struct cuda_device *)base;
    error ignored = ERROR_INIT;
    for (int i = 0; i < MARKS; i++)
        if (d->marks[i])
            IN_CONTEXT(d, "cuEventDestroy", &ignored, d->api.event_destroy(d->marks[i]));
    if (d->context)
        d->api.context_release(d->ordinal);
    error_clear(&ignored);
    free(d);
}

static xq_status count_gpus(const cuda_api *api, int *count, error *err)
{
    *count = 0;
    if (cuda_api_check(api, api->device_count(count), XQ_ERROR_NO_DEVICE, "cuDeviceGetCount", err) ==
            XQ_OK &&
        *count == 0)
        error_set(err, XQ_ERROR_NO_DEVICE, "device", "the driver sees no GPU%s",
                  device_software ? "; use --device sim" : "");
    return err->status;
}

xq_status device_cuda_count(int *count, error *err)
{
    cuda_api api;
    return cuda_api_load(&api, err) == XQ_OK ? count_gpus(&api, count, err) : err->status;
}

static xq_status find_gpu(struct cuda_device *d, int ordinal, error *err)
{
    int count = 0;
    if (count_gpus(&d->api, &count, err) != XQ_OK)
        return err->status;
    if (ordinal >= count) {
        error_set(err, XQ_ERROR_NO_DEVICE, "device", "there is no GPU %d; valid: 0 to %d", ordinal,
                  count - 1);
        return error_field(err, "device");
    }
    d->base.properties.ordinal = ordinal;
    return cuda_api_check(&d->api, d->api.device_get(&d->ordinal, ordinal), XQ_ERROR_NO_DEVICE,
                          "cuDeviceGet", err);
}

static int attribute(const struct cuda_device *d, int which)
{
    int value = 0;
    return d->api.device_attribute(&value, which, d->ordinal) == CUDA_RESULT_SUCCESS ? value : 0;
}

static void read_uuid(struct cuda_device *d)
{
    unsigned char bytes[16];
    char *text = d->base.properties.uuid;
    if (d->api.device_uuid(bytes, d->ordinal) != CUDA_RESULT_SUCCESS)
        return;
    for (int i = 0; i < 16; i++)
        text += sprintf(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

static xq_status read_properties(struct cuda_device *d, error *err)
{
    device_properties *p = &d->base.properties;
    int major = attribute(d, CUDA_DEVICE_COMPUTE_CAPABILITY_MAJOR);
    int minor = attribute(d, CUDA_DEVICE_COMPUTE_CAPABILITY_MINOR);
    if (d->api.device_name(p->name, sizeof p->name, d->ordinal) != CUDA_RESULT_SUCCESS)
        snprintf(p->name, sizeof p->name, "NVIDIA GPU %d", d->ordinal);
    if (major < 8)
        return error_set(err, XQ_ERROR_NO_DEVICE, "device",
                         "%s has compute capability %d.%d; 8.0 (Ampere) or newer is needed", p->name, major,
                         minor);
    snprintf(p->arch, sizeof p->arch, "sm_%d", 10 * major + minor);
    snprintf(p->ptx_target, sizeof p->ptx_target, "compute_%d", 10 * major + minor);
    read_uuid(d);
    if (d->api.driver_version(&p->driver) != CUDA_RESULT_SUCCESS)
        p->driver = 0;
    if (d->api.device_memory(&p->memory_bytes, d->ordinal) != CUDA_RESULT_SUCCESS)
        p->memory_bytes = 0;
    p->sm_count = attribute(d, CUDA_DEVICE_MULTIPROCESSOR_COUNT);
    p->max_threads_per_sm = attribute(d, CUDA_DEVICE_MAX_THREADS_PER_MULTIPROCESSOR);
    p->l2_bytes = (size_t)attribute(d, CUDA_DEVICE_L2_CACHE_SIZE);
    p->shared_bytes_per_block = (size_t)attribute(d, CUDA_DEVICE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    p->shared_bytes_per_sm = (size_t)attribute(d, CUDA_DEVICE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    p->registers_per_sm = attribute(d, CUDA_DEVICE_MAX_REGISTERS_PER_MULTIPROCESSOR);
    p->graphs = true;
    p->clock_hz = 1e3 * attribute(d, CUDA_DEVICE_CLOCK_RATE);
    d->clusters = attribute(d, CUDA_DEVICE_CLUSTER_LAUNCH) > 0;
    return XQ_OK;
}

xq_status device_cuda_open(int ordinal, device **out, error *err)
{
    static const device_ops ops = {
        .destroy = cuda_destroy,
        .alloc = cuda_alloc,
        .free = cuda_free,
        .write = cuda_write,
        .read = cuda_read,
        .fill = cuda_fill,
        .shared_alloc = cuda_shared_alloc,
        .shared_free = cuda_shared_free,
        .module_load = cuda_module_load,
        .module_unload = cuda_module_unload,
        .function_get = cuda_function_get,
        .function_attributes = cuda_function_attributes,
        .launch = cuda_launch,
        .synchronize = cuda_synchronize,
        .stream_create = cuda_stream_create,
        .stream_destroy = cuda_stream_destroy,
        .graph_record = cuda_graph_record,
        .graph_launch = cuda_graph_launch,
        .graph_destroy = cuda_graph_destroy,
        .mark = cuda_mark,
        .elapsed = cuda_elapsed,
        .counters = cuda_counters,
        .counters_reset = cuda_counters_reset,
        .profile = cuda_profile,
        .profile_read = cuda_profile_read,
    };
    struct cuda_device *d = (struct cuda_device *)calloc(1, sizeof *d);
    if (!d)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    d->base.ops = &ops;
    if (cuda_api_load(&d->api, err) == XQ_OK && find_gpu(d, ordinal, err) == XQ_OK &&
        read_properties(d, err) == XQ_OK)
        cuda_api_check(&d->api, d->api.context_retain(&d->context, d->ordinal), XQ_ERROR_NO_DEVICE,
                       "cuDevicePrimaryCtxRetain", err);
    if (err->status != XQ_OK) {
        cuda_destroy(&d->base);
        return err->status;
    }
    *out = &d->base;
    return XQ_OK;
}

xq_status device_cuda_open_first(device **out, error *err)
{
    char reasons[sizeof err->message];
    int count = 0, length = 0;
    if (device_cuda_count(&count, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < count; i++) {
        error why = ERROR_INIT;
        if (device_cuda_open(i, out, &why) == XQ_OK)
            return XQ_OK;
        if (count == 1) {
            *err = why;
            return err->status;
        }
        int room = (int)sizeof reasons - length;
        int more = snprintf(reasons + length, (size_t)room, "%scuda:%d: %s", i ? "; " : "", i, why.message);
        length += more < room ? more : room - 1;
        error_clear(&why);
    }
    return error_set(err, XQ_ERROR_NO_DEVICE, "device", "%s", reasons);
}
