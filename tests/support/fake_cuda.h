/* The fake CUDA driver (tests/fake/fake_cuda.c) as tests see it: the devices that it pretends, and a record
 * of the calls. */
#ifndef TESTS_FAKE_CUDA_H
#define TESTS_FAKE_CUDA_H

#include <stddef.h>
#include <stdint.h>

enum { FAKE_CUDA_FUNCTIONS = 64, FAKE_CUDA_LAUNCHES = 16 };

/* Milliseconds that a launch takes on its own, and within a graph. */
#define FAKE_CUDA_LAUNCH_MS 1.5
#define FAKE_CUDA_GRAPH_MS  1.0

/* The UUID of device 0, as text. */
#define FAKE_CUDA_UUID "00112233-4455-6677-8899-aabbccddee00"

struct fake_cuda_function {
    char name[64]; /* "" in a free entry */
    void *module;
    int shared_bytes; /* as set by cuFuncSetAttribute */
};

struct fake_cuda_launch {
    char name[64];
    unsigned grid[3], block[3], shared_bytes;
    unsigned cluster[3];   /* 0: launched without the cluster attribute */
    void *stream, *module; /* module: one of tests/fake/fake_cuda_kernels.h */
    unsigned char params[512];
    size_t params_bytes;
};

/* Programs that a test starts are controlled by two variables. FAKE_CUDA_CAPABILITIES=70,90 makes devices
 * of these capabilities. FAKE_CUDA_LOG=FILE writes a line for every event of a launch: "begin" and "end" of
 * a capture, "record KERNEL GRID PARAMETERS" within a capture, "replay" before the launches of a graph, and
 * "run KERNEL GRID PARAMETERS"; PARAMETERS is a hash. The driver loads ELF files, and PTX whose .target is
 * no newer than the device. */
struct fake_cuda_state {
    /* Properties that the driver pretends; a test may change them. */
    int device_count, major, minor, sm_count, registers, shared_bytes_block;
    int capability[8];         /* capability of each device, e.g. 75; 0: the one of `major` and `minor` */
    const char *fail_function; /* name of the call that fails */
    int fail_result;           /* the result that it fails with */
    /* A record of what happened. */
    char calls[8192]; /* names of the calls, each followed by a space */
    int retained, modules, events, launch_count;
    int streams, graphs; /* streams and graphs that exist now */
    double clock;        /* milliseconds that all launches took together */
    int ptx_modules;     /* number of modules loaded so far that were PTX */
    struct fake_cuda_function functions[FAKE_CUDA_FUNCTIONS];
    struct fake_cuda_launch launches[FAKE_CUDA_LAUNCHES]; /* launch i is at i % FAKE_CUDA_LAUNCHES */
};

/* Points XQ_LIBCUDA at the fake driver beside the test program, loads it, and returns its state. The test
 * fails if the driver is not there. If XQ_LOCK_DIR is not set, it is set to the same folder. */
struct fake_cuda_state *fake_cuda_use(void);

/* Depth of the calling thread's context stack. */
int fake_cuda_context_depth_of_thread(void);

/* The launch `back` launches before the last one (0: the last one). */
const struct fake_cuda_launch *fake_cuda_launched(const struct fake_cuda_state *state, int back);

#endif
