/* The CUDA driver calls that a graph needs, loaded at run time, so that building needs no CUDA. Names and
 * signatures follow cuda.h. Handles are void *, like the streams in xq.h. An engine that includes cuda.h
 * makes these calls directly, or uses the CUDA runtime. */
#ifndef CUDA_GRAPH_DRIVER_H
#define CUDA_GRAPH_DRIVER_H

#include "../embed/common.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTER_CONTEXT = 1, STREAM_NON_BLOCKING = 1, CAPTURE_THREAD_LOCAL = 1 };

static struct driver {
    int (*error_name)(int result, const char **name);
    int (*pointer_attribute)(void *value, int attribute, uint64_t pointer);
    int (*context_push)(void *context);
    int (*context_pop)(void **context);
    int (*host_alloc)(void **memory, size_t bytes, unsigned flags);
    int (*host_free)(void *memory);
    int (*copy_to_device)(uint64_t destination, const void *source, size_t bytes, void *stream);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_synchronize)(void *stream);
    int (*stream_destroy)(void *stream);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*graph_instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*graph_launch)(void *executable, void *stream);
    int (*executable_destroy)(void *executable);
    int (*graph_destroy)(void *graph);
} driver;

/* Ends the program if a driver call failed. */
static inline void need(int result, const char *call)
{
    const char *name = NULL;
    if (result == 0)
        return;
    if (driver.error_name(result, &name) != 0 || !name)
        name = "unknown error";
    fprintf(stderr, PROGRAM ": %s: %s (%d)\n", call, name, result);
    exit(1);
}

/* Loads the calls from the driver library. xq has loaded the same library, since a context on a GPU is
 * open. */
static inline void load_driver(void)
{
    const struct {
        const char *name;
        void *pointer; /* address of the function pointer to fill */
    } symbols[] = {
        {"cuGetErrorName", &driver.error_name},
        {"cuPointerGetAttribute", &driver.pointer_attribute},
        {"cuCtxPushCurrent_v2", &driver.context_push},
        {"cuCtxPopCurrent_v2", &driver.context_pop},
        {"cuMemHostAlloc", &driver.host_alloc},
        {"cuMemFreeHost", &driver.host_free},
        {"cuMemcpyHtoDAsync_v2", &driver.copy_to_device},
        {"cuStreamCreate", &driver.stream_create},
        {"cuStreamSynchronize", &driver.stream_synchronize},
        {"cuStreamDestroy_v2", &driver.stream_destroy},
        {"cuStreamBeginCapture_v2", &driver.capture_begin},
        {"cuStreamEndCapture", &driver.capture_end},
        {"cuGraphInstantiateWithFlags", &driver.graph_instantiate},
        {"cuGraphLaunch", &driver.graph_launch},
        {"cuGraphExecDestroy", &driver.executable_destroy},
        {"cuGraphDestroy", &driver.graph_destroy},
    };
    const char *chosen = getenv("XQ_LIBCUDA"); /* xq reads this variable, too */
    void *library = dlopen(chosen && *chosen ? chosen : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = library ? dlsym(library, symbols[i].name) : NULL;
        if (!symbol) {
            fprintf(stderr, PROGRAM ": the driver has no %s: %s\n", symbols[i].name, dlerror());
            exit(1);
        }
        memcpy(symbols[i].pointer, &symbol, sizeof symbol);
    }
}

#endif
