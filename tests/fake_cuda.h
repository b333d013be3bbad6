/* The fake CUDA driver (tests/fake/fake_cuda.c) as tests see it: what it is, and what was called. */
#ifndef TESTS_FAKE_CUDA_H
#define TESTS_FAKE_CUDA_H

#include <stddef.h>
#include <stdint.h>

enum { FAKE_CUDA_FUNCTIONS = 64, FAKE_CUDA_LAUNCHES = 16 };

/* What a launch takes by itself, and within a graph. */
#define FAKE_CUDA_LAUNCH_MS 1.5
#define FAKE_CUDA_GRAPH_MS  1.0

/* The UUID of device 0, as its name is written. */
#define FAKE_CUDA_UUID "00112233-4455-6677-8899-aabbccddee00"

struct fake_cuda_function {
    char name[64]; /* "" where there is none */
    void *module;
    int shared_bytes; /* as set by cuFuncSetAttribute */
};

struct fake_cuda_launch {
    char name[64];
    unsigned grid[3], block[3], shared_bytes;
    unsigned cluster[3];   /* 0: launched without the attribute */
    void *stream, *module; /* module: of tests/fake/fake_cuda_kernels.h */
    unsigned char params[512];
    size_t params_bytes;
};

/* For programs that a test starts, FAKE_CUDA_CAPABILITIES=70,90 makes devices of these capabilities, and
 * FAKE_CUDA_LOG=FILE writes a line for everything that happens to launches: "begin" and "end" of a capture,
 * "record KERNEL GRID PARAMETERS" within one, "replay" before the launches of a graph, "run KERNEL GRID
 * PARAMETERS"; PARAMETERS is a hash. Modules are ELF files, or PTX of a .target that is no newer than the
 * device. */
struct fake_cuda_state {
    /* What the driver pretends; a test may change it. */
    int device_count, major, minor, sm_count, registers, shared_bytes_block;
    int capability[8];         /* of each device, e.g. 75; 0: major and minor */
    const char *fail_function; /* this call fails */
    int fail_result;           /* with this result */
    /* What happened. */
    char calls[8192]; /* names, each followed by a space */
    int retained, modules, events, launch_count;
    int streams, graphs; /* that exist */
    double clock;        /* milliseconds of all launches */
    int ptx_modules;     /* how many of all modules so far were PTX */
    struct fake_cuda_function functions[FAKE_CUDA_FUNCTIONS];
    struct fake_cuda_launch launches[FAKE_CUDA_LAUNCHES]; /* launch i is at i % FAKE_CUDA_LAUNCHES */
};

/* Points XQ_LIBCUDA at the fake driver beside the test program, loads it, and returns its state; fails
 * the test when it is not there. Unless XQ_LOCK_DIR is set, it becomes the same folder. */
struct fake_cuda_state *fake_cuda_use(void);

/* The calling thread's context stack. */
int fake_cuda_context_depth_of_thread(void);

/* The latest launch, `back` launches ago (0: the last). */
const struct fake_cuda_launch *fake_cuda_launched(const struct fake_cuda_state *state, int back);

#endif
