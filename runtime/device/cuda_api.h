/* The CUDA driver API, loaded with dlopen: the functions that device_cuda.c uses, with prototypes of our
 * own so that no CUDA header is needed. Names, values and signatures are those of the CUDA Driver API
 * reference, whose binary interface is stable (symbols carry their version, "_v2"). */
#ifndef RUNTIME_DEVICE_CUDA_API_H
#define RUNTIME_DEVICE_CUDA_API_H

#include "../base/error.h"

typedef int cuda_result;       /* CUresult */
typedef int cuda_ordinal;      /* CUdevice */
typedef uint64_t cuda_pointer; /* CUdeviceptr */
typedef struct CUctx_st *cuda_context;
typedef struct CUmod_st *cuda_module;
typedef struct CUfunc_st *cuda_function;
typedef struct CUstream_st *cuda_stream;
typedef struct CUevent_st *cuda_event;
typedef struct CUgraph_st *cuda_graph;
typedef struct CUgraphExec_st *cuda_graph_exec;

enum {
    CUDA_RESULT_SUCCESS = 0,
    CUDA_RESULT_OUT_OF_MEMORY = 2,
};

/* CUdevice_attribute */
enum {
    CUDA_DEVICE_CLOCK_RATE = 13, /* kHz, at most */
    CUDA_DEVICE_MULTIPROCESSOR_COUNT = 16,
    CUDA_DEVICE_L2_CACHE_SIZE = 38,
    CUDA_DEVICE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
    CUDA_DEVICE_COMPUTE_CAPABILITY_MAJOR = 75,
    CUDA_DEVICE_COMPUTE_CAPABILITY_MINOR = 76,
    CUDA_DEVICE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
    CUDA_DEVICE_MAX_REGISTERS_PER_MULTIPROCESSOR = 82,
    CUDA_DEVICE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
    CUDA_DEVICE_CLUSTER_LAUNCH = 120,
};

/* CUfunction_attribute */
enum {
    CUDA_FUNCTION_MAX_THREADS_PER_BLOCK = 0,
    CUDA_FUNCTION_SHARED_SIZE_BYTES = 1,
    CUDA_FUNCTION_LOCAL_SIZE_BYTES = 3,
    CUDA_FUNCTION_NUM_REGS = 4,
    CUDA_FUNCTION_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
};

/* Flags of cuMemHostAlloc. */
enum { CUDA_HOST_PORTABLE = 1, CUDA_HOST_DEVICEMAP = 2 };

/* CUjit_option, and the keys of cuLaunchKernel's `extra` */
enum { CUDA_JIT_ERROR_LOG_BUFFER = 5, CUDA_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6 };
enum { CUDA_LAUNCH_PARAM_END = 0, CUDA_LAUNCH_PARAM_BUFFER_POINTER = 1, CUDA_LAUNCH_PARAM_BUFFER_SIZE = 2 };

/* Flags of cuStreamCreate; CUstreamCaptureMode: calls of other threads do not disturb the capture. */
enum { CUDA_STREAM_NON_BLOCKING = 1 };
enum { CUDA_CAPTURE_THREAD_LOCAL = 1 };

/* CUlaunchAttribute: an attribute of one launch. Only one value of CUlaunchAttributeID is used here. */
enum { CUDA_LAUNCH_CLUSTER_DIMENSION = 4 };
typedef struct cuda_launch_attribute {
    int id;
    char padding[4];
    union {
        uint32_t cluster[3]; /* blocks */
        char size[64];
    } value;
} cuda_launch_attribute;

/* CUlaunchConfig */
typedef struct cuda_launch_config {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    cuda_stream stream;
    cuda_launch_attribute *attributes;
    unsigned attribute_count;
} cuda_launch_config;

/* X(field, symbol, parameters) */
#define CUDA_API_FUNCTIONS(X)                                                                              \
    X(init, "cuInit", (unsigned flags))                                                                    \
    X(driver_version, "cuDriverGetVersion", (int *version))                                                \
    X(error_name, "cuGetErrorName", (cuda_result, const char **text))                                      \
    X(error_string, "cuGetErrorString", (cuda_result, const char **text))                                  \
    X(device_count, "cuDeviceGetCount", (int *count))                                                      \
    X(device_get, "cuDeviceGet", (cuda_ordinal *, int ordinal))                                            \
    X(device_name, "cuDeviceGetName", (char *name, int size, cuda_ordinal))                                \
    X(device_uuid, "cuDeviceGetUuid_v2", (unsigned char uuid[16], cuda_ordinal))                           \
    X(device_memory, "cuDeviceTotalMem_v2", (size_t * bytes, cuda_ordinal))                                \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, cuda_ordinal))                 \
    X(context_retain, "cuDevicePrimaryCtxRetain", (cuda_context *, cuda_ordinal))                          \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (cuda_ordinal))                                     \
    X(context_current, "cuCtxGetCurrent", (cuda_context *))                                                \
    X(context_push, "cuCtxPushCurrent_v2", (cuda_context))                                                 \
    X(context_pop, "cuCtxPopCurrent_v2", (cuda_context *))                                                 \
    X(context_synchronize, "cuCtxSynchronize", (void))                                                     \
    X(memory_alloc, "cuMemAlloc_v2", (cuda_pointer *, size_t bytes))                                       \
    X(memory_free, "cuMemFree_v2", (cuda_pointer))                                                         \
    X(memory_write, "cuMemcpyHtoD_v2", (cuda_pointer destination, const void *source, size_t bytes))       \
    X(memory_read, "cuMemcpyDtoH_v2", (void *destination, cuda_pointer source, size_t bytes))              \
    X(memory_fill, "cuMemsetD8_v2", (cuda_pointer, unsigned char value, size_t count))                     \
    X(host_alloc, "cuMemHostAlloc", (void **pointer, size_t bytes, unsigned flags))                        \
    X(host_free, "cuMemFreeHost", (void *pointer))                                                         \
    X(host_pointer, "cuMemHostGetDevicePointer_v2", (cuda_pointer *, void *pointer, unsigned flags))       \
    X(module_load, "cuModuleLoadDataEx",                                                                   \
      (cuda_module *, const void *image, unsigned options, int *names, void **values))                     \
    X(module_unload, "cuModuleUnload", (cuda_module))                                                      \
    X(module_function, "cuModuleGetFunction", (cuda_function *, cuda_module, const char *name))            \
    X(function_set, "cuFuncSetAttribute", (cuda_function, int attribute, int value))                       \
    X(function_get, "cuFuncGetAttribute", (int *value, int attribute, cuda_function))                      \
    X(launch, "cuLaunchKernel",                                                                            \
      (cuda_function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,                 \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, cuda_stream, void **parameters,          \
       void **extra))                                                                                      \
    X(launch_configured, "cuLaunchKernelEx",                                                               \
      (const cuda_launch_config *, cuda_function, void **parameters, void **extra))                        \
    X(stream_create, "cuStreamCreate", (cuda_stream *, unsigned flags))                                    \
    X(stream_destroy, "cuStreamDestroy_v2", (cuda_stream))                                                 \
    X(capture_begin, "cuStreamBeginCapture_v2", (cuda_stream, int mode))                                   \
    X(capture_end, "cuStreamEndCapture", (cuda_stream, cuda_graph *))                                      \
    X(graph_instantiate, "cuGraphInstantiateWithFlags",                                                    \
      (cuda_graph_exec *, cuda_graph, unsigned long long flags))                                           \
    X(graph_launch, "cuGraphLaunch", (cuda_graph_exec, cuda_stream))                                       \
    X(graph_exec_destroy, "cuGraphExecDestroy", (cuda_graph_exec))                                         \
    X(graph_destroy, "cuGraphDestroy", (cuda_graph))                                                       \
    X(event_create, "cuEventCreate", (cuda_event *, unsigned flags))                                       \
    X(event_destroy, "cuEventDestroy_v2", (cuda_event))                                                    \
    X(event_record, "cuEventRecord", (cuda_event, cuda_stream))                                            \
    X(event_synchronize, "cuEventSynchronize", (cuda_event))                                               \
    X(event_elapsed, "cuEventElapsedTime", (float *milliseconds, cuda_event from, cuda_event to))

typedef struct cuda_api {
#define CUDA_API_FIELD(field, symbol, parameters) cuda_result(*field) parameters;
    CUDA_API_FUNCTIONS(CUDA_API_FIELD)
#undef CUDA_API_FIELD
} cuda_api;

/* Loads $XQ_LIBCUDA, or else libcuda.so.1, and initializes the driver. The library stays loaded for the
 * life of the process: the driver runs threads of its own. Errors: XQ_ERROR_NO_DEVICE. */
xq_status cuda_api_load(cuda_api *api, error *err);

/* Returns XQ_OK, or an error that names `what` was done, and the driver's name and text for `result`. The
 * status is XQ_ERROR_DEVICE_MEMORY for out of memory, else `status`. */
xq_status cuda_api_check(const cuda_api *api, cuda_result result, xq_status status, const char *what,
                         error *err);

#endif
