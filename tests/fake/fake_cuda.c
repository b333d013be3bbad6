/* A stand-in for libcuda.so.1 that needs no GPU. XQ_LIBCUDA names the library that is built of this file.
 * It has the calls of the driver API that runtime/device/cuda_api.h declares, and those of
 * examples/cuda-graph. It records every call and every launch, so that tests can look at them
 * (tests/support/fake_cuda.h). It refuses what a driver refuses: a call without a current context, an
 * unknown kernel, a grid of size zero.
 *
 * In libfake_cuda.so, device memory is memory of the host, and kernels do not run. In libsim_cuda.so, both
 * are those of the software device (fake_cuda_kernels.h). */
#include "../support/fake_cuda.h"
#include "fake_cuda_kernels.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cuda.h has prototypes of these functions. It is not needed here. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT __attribute__((visibility("default")))

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    UNSUPPORTED_PTX = 222,
    ILLEGAL_ADDRESS = 700,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    INVALID_CLUSTER_SIZE = 912
};

static struct fake_cuda_state state = {.device_count = 1,
                                       .major = 9,
                                       .minor = 0,
                                       .sm_count = 132,
                                       .registers = 128,
                                       .shared_bytes_block = 232448};

static FILE *log_file; /* NULL if FAKE_CUDA_LOG is not set */

/* Programs that a test starts get their settings from environment variables. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("FAKE_CUDA_CAPABILITIES"), *log_path = getenv("FAKE_CUDA_LOG");
    char *end;
    if (log_path && !(log_file = fopen(log_path, "w")))
        abort();
    for (int count = 0; text && *text && count < 8; text = *end ? end + 1 : end) {
        state.capability[count] = (int)strtol(text, &end, 10);
        state.device_count = ++count;
    }
}

static int device_in_use;             /* the device whose primary context was retained last */
static int context_object;            /* its address is the primary context */
static _Thread_local void *stack[16]; /* the thread's stack of contexts, from the bottom */
static _Thread_local int depth;

EXPORT struct fake_cuda_state *fake_cuda_get_state(void)
{
    return &state;
}

EXPORT int fake_cuda_context_depth(void)
{
    return depth;
}

/* Guards `state`, because many threads may call a driver. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Adds the name of a call to the record. Returns the failure that a test has planted for the call, or OK.
 */
static int enter(const char *name)
{
    pthread_mutex_lock(&lock);
    size_t n = strlen(state.calls);
    snprintf(state.calls + n, sizeof state.calls - n, "%s ", name);
    pthread_mutex_unlock(&lock);
    if (state.fail_function && strcmp(state.fail_function, name) == 0)
        return state.fail_result;
    return OK;
}

/* Does the same for a call that needs a current context. */
static int enter_context(const char *name)
{
    int result = enter(name);
    if (result == OK && (depth == 0 || stack[depth - 1] != &context_object))
        return INVALID_CONTEXT;
    return result;
}

#define ENTER(name)                                                                                        \
    do {                                                                                                   \
        int result_ = enter(name);                                                                         \
        if (result_ != OK)                                                                                 \
            return result_;                                                                                \
    } while (0)
#define ENTER_CONTEXT(name)                                                                                \
    do {                                                                                                   \
        int result_ = enter_context(name);                                                                 \
        if (result_ != OK)                                                                                 \
            return result_;                                                                                \
    } while (0)

/* ------------------------------------------------------- driver and device */

EXPORT int cuInit(unsigned flags)
{
    ENTER("cuInit");
    return flags == 0 ? OK : INVALID_VALUE;
}

EXPORT int cuDriverGetVersion(int *version)
{
    *version = 12040;
    return OK;
}

EXPORT int cuGetErrorName(int result, const char **text)
{
    switch (result) {
    case OUT_OF_MEMORY:
        *text = "CUDA_ERROR_OUT_OF_MEMORY";
        return OK;
    case NO_DEVICE:
        *text = "CUDA_ERROR_NO_DEVICE";
        return OK;
    case INVALID_IMAGE:
        *text = "CUDA_ERROR_INVALID_IMAGE";
        return OK;
    case ILLEGAL_ADDRESS:
        *text = "CUDA_ERROR_ILLEGAL_ADDRESS";
        return OK;
    case INVALID_CLUSTER_SIZE:
        *text = "CUDA_ERROR_INVALID_CLUSTER_SIZE";
        return OK;
    case CAPTURE_INVALIDATED:
        *text = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
        return OK;
    case NOT_FOUND:
        *text = "CUDA_ERROR_NOT_FOUND";
        return OK;
    default:
        *text = NULL;
        return INVALID_VALUE;
    }
}

EXPORT int cuGetErrorString(int result, const char **text)
{
    *text = result == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "some words";
    return OK;
}

EXPORT int cuDeviceGetCount(int *count)
{
    ENTER("cuDeviceGetCount");
    *count = state.device_count;
    return OK;
}

EXPORT int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return ordinal < state.device_count ? OK : INVALID_DEVICE;
}

EXPORT int cuDeviceGetName(char *name, int size, int device)
{
    snprintf(name, (size_t)size, "Fake GPU %d", device);
    return OK;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char uuid[16], int device)
{
    ENTER("cuDeviceGetUuid");
    for (int i = 0; i < 16; i++)
        uuid[i] = (unsigned char)(17 * i);
    uuid[15] = (unsigned char)device;
    return OK;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    (void)device;
    *bytes = (size_t)80 << 30;
    return OK;
}

static int capability_of(int device)
{
    return state.capability[device % 8] ? state.capability[device % 8] : 10 * state.major + state.minor;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    int capability = capability_of(device);
    const int table[][2] = {{13, 1980000},
                            {16, state.sm_count},
                            {38, 50 << 20},
                            {39, 2048},
                            {75, capability / 10},
                            {76, capability % 10},
                            {81, state.shared_bytes_block + 1024},
                            {82, 65536},
                            {97, state.shared_bytes_block},
                            {120, capability >= 90}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i][0] == attribute) {
            *value = table[i][1];
            return OK;
        }
    return INVALID_VALUE;
}

/* ---------------------------------------------------------------- contexts */

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device)
{
    ENTER("cuDevicePrimaryCtxRetain");
    device_in_use = device;
    *context = &context_object;
    state.retained++;
    return OK;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    state.retained--;
    return OK;
}

EXPORT int cuCtxGetCurrent(void **context)
{
    *context = depth > 0 ? stack[depth - 1] : NULL;
    return OK;
}

EXPORT int cuCtxPushCurrent_v2(void *context)
{
    ENTER("cuCtxPushCurrent");
    stack[depth++] = context;
    return OK;
}

EXPORT int cuCtxPopCurrent_v2(void **context)
{
    ENTER("cuCtxPopCurrent");
    if (depth == 0)
        return INVALID_CONTEXT;
    *context = stack[--depth];
    return OK;
}

/* ------------------------------------------------------- streams and graphs
 * A launch runs at once on any stream, unless the stream captures: then the graph keeps the launch. A call
 * that waits breaks the capture of its thread, as in CU_STREAM_CAPTURE_MODE_THREAD_LOCAL. */

struct graph {
    struct fake_cuda_launch *launches; /* their capacity is the next power of two */
    int count;
};

struct stream {
    struct graph *captures; /* the graph of a capture that is under way, or NULL */
    bool broken;
};

static _Thread_local struct stream *capturing; /* the stream of the thread that captures, or NULL */

static void append(struct graph *g, const struct fake_cuda_launch *l)
{
    if ((g->count & (g->count - 1)) == 0)
        g->launches = realloc(g->launches, sizeof *l * (g->count ? 2 * (size_t)g->count : 1));
    g->launches[g->count++] = *l;
}

static void free_graph(struct graph *g)
{
    free(g->launches);
    free(g);
}

/* Writes a line of FAKE_CUDA_LOG. `l` may be NULL. */
static void write_log(const char *what, const struct fake_cuda_launch *l)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    if (!log_file)
        return;
    for (size_t i = 0; l && i < l->params_bytes; i++)
        hash = (hash ^ l->params[i]) * 0x100000001b3;
    if (l)
        fprintf(log_file, "%s %s %ux%ux%u %016llx\n", what, l->name, l->grid[0], l->grid[1], l->grid[2],
                (unsigned long long)hash);
    else
        fprintf(log_file, "%s\n", what);
    fflush(log_file);
}

static int break_capture(void)
{
    if (!capturing)
        return OK;
    capturing->broken = true;
    return CAPTURE_UNSUPPORTED;
}

EXPORT int cuCtxSynchronize(void)
{
    ENTER_CONTEXT("cuCtxSynchronize");
    return break_capture();
}

EXPORT int cuStreamCreate(void **stream, unsigned flags)
{
    ENTER_CONTEXT("cuStreamCreate");
    if (flags != 1) /* CU_STREAM_NON_BLOCKING */
        return INVALID_VALUE;
    *stream = calloc(1, sizeof(struct stream));
    state.streams++;
    return OK;
}

EXPORT int cuStreamSynchronize(void *stream)
{
    (void)stream;
    ENTER_CONTEXT("cuStreamSynchronize");
    return break_capture();
}

EXPORT int cuStreamDestroy_v2(void *stream)
{
    ENTER_CONTEXT("cuStreamDestroy");
    free(stream);
    state.streams--;
    return OK;
}

EXPORT int cuStreamBeginCapture_v2(void *stream, int mode)
{
    ENTER_CONTEXT("cuStreamBeginCapture");
    struct stream *s = stream;
    if (!s || mode != 1) /* the default stream, or a mode other than THREAD_LOCAL */
        return s ? INVALID_VALUE : CAPTURE_UNSUPPORTED;
    if (s->captures)
        return CAPTURE_UNSUPPORTED;
    s->captures = calloc(1, sizeof *s->captures);
    s->broken = false;
    capturing = s;
    write_log("begin", NULL);
    return OK;
}

/* Ends the capture even if the call fails. */
EXPORT int cuStreamEndCapture(void *stream, void **graph)
{
    struct stream *s = stream;
    *graph = NULL;
    if (!s || !s->captures)
        return INVALID_VALUE;
    struct graph *captured = s->captures;
    s->captures = NULL;
    capturing = NULL;
    int result = enter_context("cuStreamEndCapture");
    if (result == OK && s->broken)
        result = CAPTURE_INVALIDATED;
    if (result != OK) {
        free_graph(captured);
        return result;
    }
    *graph = captured;
    state.graphs++;
    write_log("end", NULL);
    return OK;
}

EXPORT int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags)
{
    ENTER_CONTEXT("cuGraphInstantiate");
    if (flags || !graph)
        return INVALID_VALUE;
    struct graph *copy = calloc(1, sizeof *copy);
    for (int i = 0; i < ((struct graph *)graph)->count; i++)
        append(copy, &((struct graph *)graph)->launches[i]);
    *executable = copy;
    state.graphs++;
    return OK;
}

EXPORT int cuGraphDestroy(void *graph)
{
    ENTER_CONTEXT("cuGraphDestroy");
    free_graph(graph);
    state.graphs--;
    return OK;
}

EXPORT int cuGraphExecDestroy(void *executable)
{
    ENTER_CONTEXT("cuGraphExecDestroy");
    free_graph(executable);
    state.graphs--;
    return OK;
}

static int run(const struct fake_cuda_launch *l, double milliseconds)
{
    pthread_mutex_lock(&lock);
    state.launches[state.launch_count++ % FAKE_CUDA_LAUNCHES] = *l;
    state.clock += milliseconds;
    write_log("run", l);
    pthread_mutex_unlock(&lock);
    return fake_cuda_kernels && !fake_cuda_kernels->launch(l) ? ILLEGAL_ADDRESS : OK;
}

EXPORT int cuGraphLaunch(void *executable, void *stream)
{
    ENTER_CONTEXT("cuGraphLaunch");
    const struct graph *g = executable;
    if (!stream)
        return INVALID_VALUE;
    write_log("replay", NULL);
    for (int i = 0; i < g->count; i++) {
        int result = run(&g->launches[i], FAKE_CUDA_GRAPH_MS);
        if (result != OK)
            return result;
    }
    return OK;
}

/* ------------------------------------------------------------------ memory */

EXPORT int cuMemAlloc_v2(uint64_t *pointer, size_t bytes)
{
    ENTER_CONTEXT("cuMemAlloc");
    if (bytes > (size_t)1 << 34)
        return OUT_OF_MEMORY;
    if (fake_cuda_kernels)
        *pointer = fake_cuda_kernels->alloc(bytes);
    else
        *pointer = (uint64_t)(uintptr_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *pointer ? OK : OUT_OF_MEMORY;
}

EXPORT int cuMemFree_v2(uint64_t pointer)
{
    ENTER_CONTEXT("cuMemFree");
    if (fake_cuda_kernels)
        fake_cuda_kernels->free(pointer);
    else
        free((void *)(uintptr_t)pointer);
    return OK;
}

static int write_memory(uint64_t destination, const void *source, size_t bytes)
{
    if (fake_cuda_kernels)
        return fake_cuda_kernels->write(destination, source, bytes) ? OK : INVALID_VALUE;
    memcpy((void *)(uintptr_t)destination, source, bytes);
    return OK;
}

EXPORT int cuMemcpyHtoD_v2(uint64_t destination, const void *source, size_t bytes)
{
    ENTER_CONTEXT("cuMemcpyHtoD");
    return write_memory(destination, source, bytes);
}

/* A driver would record the copy in a capture. Here it breaks the capture, because graphs hold launches
 * alone. */
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t destination, const void *source, size_t bytes, void *stream)
{
    (void)stream;
    ENTER_CONTEXT("cuMemcpyHtoDAsync");
    int result = break_capture();
    return result == OK ? write_memory(destination, source, bytes) : result;
}

EXPORT int cuMemcpyDtoH_v2(void *destination, uint64_t source, size_t bytes)
{
    ENTER_CONTEXT("cuMemcpyDtoH");
    if (fake_cuda_kernels)
        return fake_cuda_kernels->read(destination, source, bytes) ? OK : INVALID_VALUE;
    memcpy(destination, (const void *)(uintptr_t)source, bytes);
    return OK;
}

EXPORT int cuMemsetD8_v2(uint64_t pointer, unsigned char value, size_t count)
{
    ENTER_CONTEXT("cuMemsetD8");
    if (fake_cuda_kernels)
        return fake_cuda_kernels->fill(pointer, value, count) ? OK : INVALID_VALUE;
    memset((void *)(uintptr_t)pointer, value, count);
    return OK;
}

/* All memory belongs to the only context. */
EXPORT int cuPointerGetAttribute(void *value, int attribute, uint64_t pointer)
{
    ENTER("cuPointerGetAttribute");
    if (attribute != 1 || !pointer) /* CU_POINTER_ATTRIBUTE_CONTEXT */
        return INVALID_VALUE;
    *(void **)value = &context_object;
    return OK;
}

EXPORT int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    ENTER_CONTEXT("cuMemHostAlloc");
    if (flags & ~3u) /* PORTABLE, DEVICEMAP */
        return INVALID_VALUE;
    *pointer = malloc(bytes);
    return *pointer ? OK : OUT_OF_MEMORY;
}

EXPORT int cuMemFreeHost(void *pointer)
{
    ENTER_CONTEXT("cuMemFreeHost");
    free(pointer);
    return OK;
}

EXPORT int cuMemHostGetDevicePointer_v2(uint64_t *pointer, void *host, unsigned flags)
{
    ENTER_CONTEXT("cuMemHostGetDevicePointer");
    *pointer = (uint64_t)(uintptr_t)host;
    return flags != 0 ? INVALID_VALUE : fake_cuda_kernels ? NOT_SUPPORTED : OK;
}

/* ------------------------------------------------------ modules and kernels
 * The image of a module is an ELF file, or PTX for an architecture that is no newer than the device. */

struct module {
    void *kernels; /* the module that fake_cuda_kernels loaded, or NULL */
};

/* The number of the .target of PTX, such as 90; 0 if the image is not PTX. */
static int ptx_target(const char *image)
{
    const char *target = strstr(image, ".target sm_");
    return target ? atoi(target + strlen(".target sm_")) : 0;
}

EXPORT int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *names, void **values)
{
    ENTER_CONTEXT("cuModuleLoadDataEx");
    bool machine_code = memcmp(image, "\177ELF", 4) == 0;
    if (machine_code && fake_cuda_kernels)
        return INVALID_IMAGE;
    if (!machine_code) {
        int target = ptx_target(image);
        for (unsigned i = 0; i < count && target == 0; i++)
            if (names[i] == 5) /* CU_JIT_ERROR_LOG_BUFFER; name 6 is the size of this buffer */
                snprintf(values[i], 64, "this is no cubin");
        if (target == 0 || target > capability_of(device_in_use))
            return target ? UNSUPPORTED_PTX : INVALID_IMAGE;
        __atomic_add_fetch(&state.ptx_modules, 1, __ATOMIC_RELAXED);
    }
    struct module *m = calloc(1, sizeof *m);
    if (fake_cuda_kernels && !(m->kernels = fake_cuda_kernels->load(image))) {
        free(m);
        return INVALID_IMAGE;
    }
    *module = m;
    __atomic_add_fetch(&state.modules, 1, __ATOMIC_RELAXED);
    return OK;
}

EXPORT int cuModuleUnload(void *module)
{
    ENTER_CONTEXT("cuModuleUnload");
    pthread_mutex_lock(&lock);
    for (int i = 0; i < FAKE_CUDA_FUNCTIONS; i++)
        if (state.functions[i].module == module)
            state.functions[i] = (struct fake_cuda_function){0};
    pthread_mutex_unlock(&lock);
    if (fake_cuda_kernels)
        fake_cuda_kernels->unload(((struct module *)module)->kernels);
    free(module);
    __atomic_sub_fetch(&state.modules, 1, __ATOMIC_RELAXED);
    return OK;
}

static struct fake_cuda_function *find_function(void *module, const char *name)
{
    for (int i = 0; i < FAKE_CUDA_FUNCTIONS; i++) {
        struct fake_cuda_function *f = &state.functions[i];
        if (f->name[0] && (f->module != module || strcmp(f->name, name) != 0))
            continue;
        snprintf(f->name, sizeof f->name, "%s", name);
        f->module = module;
        return f;
    }
    return NULL;
}

EXPORT int cuModuleGetFunction(void **function, void *module, const char *name)
{
    ENTER_CONTEXT("cuModuleGetFunction");
    if (strncmp(name, "xq_", 3) != 0)
        return NOT_FOUND;
    pthread_mutex_lock(&lock);
    *function = find_function(module, name);
    pthread_mutex_unlock(&lock);
    return *function ? OK : NOT_FOUND;
}

EXPORT int cuFuncSetAttribute(void *function, int attribute, int value)
{
    ENTER_CONTEXT("cuFuncSetAttribute");
    if (attribute != 8) /* MAX_DYNAMIC_SHARED_SIZE_BYTES */
        return INVALID_VALUE;
    __atomic_store_n(&((struct fake_cuda_function *)function)->shared_bytes, value, __ATOMIC_RELAXED);
    return OK;
}

EXPORT int cuFuncGetAttribute(int *value, int attribute, void *function)
{
    (void)function;
    ENTER_CONTEXT("cuFuncGetAttribute");
    *value = attribute == 4 ? state.registers : attribute == 0 ? 1024 : 0;
    return OK;
}

/* Copies the parameters that `extra` describes. It holds pairs of a key and a pointer, up to the key
 * CU_LAUNCH_PARAM_END, which is 0. */
static int copy_params(struct fake_cuda_launch *l, void **extra)
{
    const void *buffer = NULL;
    for (; *extra; extra += 2) {
        if ((uintptr_t)extra[0] == 1)
            buffer = extra[1];
        else if ((uintptr_t)extra[0] == 2)
            l->params_bytes = *(size_t *)extra[1];
        else
            return INVALID_VALUE;
    }
    if (!buffer || l->params_bytes > sizeof l->params)
        return INVALID_VALUE;
    memcpy(l->params, buffer, l->params_bytes);
    return OK;
}

static int launch(void *function, struct fake_cuda_launch *l, void **parameters, void **extra)
{
    struct fake_cuda_function *f = function;
    int most_shared = __atomic_load_n(&f->shared_bytes, __ATOMIC_RELAXED);
    const unsigned *grid = l->grid;
    if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535 ||
        (int)l->shared_bytes > most_shared || parameters)
        return INVALID_VALUE;
    if (copy_params(l, extra) != OK)
        return INVALID_VALUE;
    snprintf(l->name, sizeof l->name, "%s", f->name);
    l->module = ((struct module *)f->module)->kernels;
    struct stream *s = l->stream;
    struct graph *g = capturing && s == capturing ? s->captures : NULL;
    if (!g)
        return run(l, FAKE_CUDA_LAUNCH_MS);
    append(g, l);
    write_log("record", l);
    return OK;
}

EXPORT int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared_bytes, void *stream, void **parameters, void **extra)
{
    ENTER_CONTEXT("cuLaunchKernel");
    struct fake_cuda_launch l = {
        .grid = {gx, gy, gz}, .block = {bx, by, bz}, .shared_bytes = shared_bytes, .stream = stream};
    return launch(function, &l, parameters, extra);
}

/* CUlaunchAttribute and CUlaunchConfig. They are declared here again, because the tests are to find
 * mistakes in the declarations of runtime/device/cuda_api.h. */
struct launch_attribute {
    unsigned id, padding, value[16];
};
struct launch_config {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    const struct launch_attribute *attributes;
    unsigned attribute_count;
};

/* Refuses clusters of more than 8 blocks, which is the size that every GPU with clusters supports. */
EXPORT int cuLaunchKernelEx(const struct launch_config *config, void *function, void **parameters,
                            void **extra)
{
    ENTER_CONTEXT("cuLaunchKernelEx");
    struct fake_cuda_launch l = {.shared_bytes = config->shared_bytes, .stream = config->stream};
    memcpy(l.grid, config->grid, sizeof l.grid);
    memcpy(l.block, config->block, sizeof l.block);
    for (unsigned i = 0; i < config->attribute_count; i++) {
        if (config->attributes[i].id != 4) /* CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION */
            return INVALID_VALUE;
        memcpy(l.cluster, config->attributes[i].value, sizeof l.cluster);
        for (int k = 0; k < 3; k++)
            if (l.cluster[k] == 0 || l.grid[k] % l.cluster[k])
                return INVALID_CLUSTER_SIZE;
        if (l.cluster[0] * l.cluster[1] * l.cluster[2] > 8)
            return INVALID_CLUSTER_SIZE;
    }
    return launch(function, &l, parameters, extra);
}

/* ------------------------------------------------------------------ events */

EXPORT int cuEventCreate(void **event, unsigned flags)
{
    ENTER_CONTEXT("cuEventCreate");
    *event = calloc(1, sizeof(double));
    state.events++;
    return flags == 0 ? OK : INVALID_VALUE;
}

EXPORT int cuEventDestroy_v2(void *event)
{
    ENTER_CONTEXT("cuEventDestroy");
    free(event);
    state.events--;
    return OK;
}

EXPORT int cuEventRecord(void *event, void *stream)
{
    (void)stream;
    ENTER_CONTEXT("cuEventRecord");
    *(double *)event = state.clock;
    return OK;
}

EXPORT int cuEventSynchronize(void *event)
{
    (void)event;
    ENTER_CONTEXT("cuEventSynchronize");
    return break_capture();
}

EXPORT int cuEventElapsedTime(float *milliseconds, void *from, void *to)
{
    ENTER_CONTEXT("cuEventElapsedTime");
    *milliseconds = (float)(*(double *)to - *(double *)from);
    return OK;
}
