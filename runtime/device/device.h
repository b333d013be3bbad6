/* What a device can do. Two implementations: device_cuda.c, over a dlopen'd libcuda, and sim/, the
 * software device. Kernels take one struct by value as their only parameter. */
#ifndef RUNTIME_DEVICE_DEVICE_H
#define RUNTIME_DEVICE_DEVICE_H

#include "../base/error.h"
#include "limits.h"

#include <stdbool.h>

typedef struct device device;
typedef struct device_module device_module;
typedef struct device_function device_function;
typedef struct device_graph device_graph;

/* Matrix operand types, for counters and ceilings. */
enum matrix_type { MATRIX_F16, MATRIX_BF16, MATRIX_S8, MATRIX_E4M3, MATRIX_TYPES };

/* Instruction classes of the counters. */
enum instruction_class {
    INSTRUCTION_INTEGER, /* integer and logic, selects, moves, predicates */
    INSTRUCTION_FLOAT,   /* fp32 and fp64 arithmetic */
    INSTRUCTION_HALF,    /* fp16 and bf16 arithmetic, packed or not */
    INSTRUCTION_CONVERT,
    INSTRUCTION_SPECIAL, /* ex2, lg2, rcp, rsqrt, sin, cos, ... */
    INSTRUCTION_MATRIX,
    INSTRUCTION_GLOBAL,       /* loads, stores and atomics of device memory, cp.async too */
    INSTRUCTION_SHARED,       /* loads, stores, ldmatrix and atomics of shared memory */
    INSTRUCTION_OTHER_MEMORY, /* local, const, param */
    INSTRUCTION_EXCHANGE,     /* shuffles, votes, matches, movmatrix */
    INSTRUCTION_CONTROL,      /* branches, calls, exits */
    INSTRUCTION_SYNC,         /* barriers, fences, waits */
    INSTRUCTION_CLASSES
};

typedef struct device_properties {
    char name[128];
    char uuid[37];       /* a GPU's, or that of its MIG instance, as 8-4-4-4-12 digits; "": not known */
    char arch[16];       /* the device's own architecture: "sm_90" */
    char ptx_target[24]; /* the newest that PTX for it may be compiled for: "compute_90" */
    int ordinal;         /* a GPU's number, as the driver counts them; -1 for sim */
    bool is_sim;
    bool reads_are_cheap; /* launches have ended when they return, and reads are copies within the host: the
                             arrays of a call can be looked at before it launches */
    bool graphs;          /* launches can be recorded as graphs */
    int driver;           /* 0 for sim */
    int sm_count;
    int max_threads_per_sm;
    size_t memory_bytes, l2_bytes;
    size_t shared_bytes_per_block; /* opt-in maximum */
    size_t shared_bytes_per_sm;
    int registers_per_sm;
    double clock_hz; /* of the multiprocessors, at most; 0: not known */
    /* Ceilings: measured on cuda (0 until measured), datasheet figures on sim. */
    double copy_bytes_per_second;
    double matrix_flops_per_second[MATRIX_TYPES];
} device_properties;

/* What the software device counted since the last reset. Sectors are 32-byte pieces of device memory.
 * "unique" counts each sector once per launch; launches add up. */
typedef struct device_counters {
    uint64_t launches;
    uint64_t read_sectors, read_sectors_unique;
    uint64_t write_sectors, write_sectors_unique;
    uint64_t shared_requests;  /* warp-level shared-memory accesses */
    uint64_t shared_passes;    /* 128-byte passes those took: 64-bit accesses of a full warp need 2,
                                  128-bit ones 4, and conflicts come on top */
    uint64_t shared_conflicts; /* of these, the extra ones because of bank conflicts */
    uint64_t matrix_flops[MATRIX_TYPES];        /* 2 per multiply-add */
    uint64_t instructions[INSTRUCTION_CLASSES]; /* per warp */
    uint64_t barriers;                          /* per block */
    double modelled_seconds;                    /* from the above and the ceilings; sum over launches */
    /* Parts of modelled_seconds: a launch takes its own cost, and then as long as its busiest resource, to
     * which that counts. */
    double limit_seconds[DEVICE_LIMITS];
} device_counters;

/* One instruction of a kernel's PTX, with what the software device counted of it while it profiled. */
typedef struct device_profile_entry {
    const char *kernel; /* the entry function */
    const char *ptx;    /* the PTX statement */
    int ptx_line;
    const char *file; /* the file of the template, or of templates/lib; "" where it is not known */
    int line;
    enum instruction_class class;
    uint64_t issued;                                                       /* by warps */
    uint64_t read_sectors, write_sectors, shared_passes, shared_conflicts; /* as in device_counters */
} device_profile_entry;

/* The texts of the entry are valid during the call. */
typedef void device_profile_visit(void *user, const device_profile_entry *entry);

typedef struct device_launch {
    const device_function *function;
    uint32_t grid[3], block[3];
    uint32_t cluster;      /* blocks of a cluster, along x: a divisor of grid[0]; 0 and 1: no clusters */
    uint32_t shared_bytes; /* dynamic */
    void *stream;          /* NULL: the default stream */
    const void *params;    /* the kernel's one parameter */
    size_t params_bytes;
} device_launch;

typedef struct device_function_attributes {
    int registers, shared_bytes_static, local_bytes, max_threads;
} device_function_attributes;

/* Launches on `stream` what a graph shall hold. */
typedef xq_status device_record(void *user, void *stream, error *err);

typedef struct device_ops {
    void (*destroy)(device *);
    xq_status (*alloc)(device *, size_t bytes, uint64_t *pointer, error *); /* 256-byte aligned */
    xq_status (*free)(device *, uint64_t pointer, error *);
    xq_status (*write)(device *, uint64_t destination, const void *source, size_t bytes, error *);
    xq_status (*read)(device *, void *destination, uint64_t source, size_t bytes, error *);
    xq_status (*fill)(device *, uint64_t destination, uint8_t value, size_t bytes, error *);
    /* Zeroed memory that the host and kernels both see, without copies or waiting: at *host, and for
     * kernels at *pointer. Freed with shared_free. */
    xq_status (*shared_alloc)(device *, size_t bytes, uint64_t *pointer, void **host, error *);
    xq_status (*shared_free)(device *, uint64_t pointer, void *host, error *);
    /* image: a cubin, or NUL-terminated PTX text, which is all that sim takes. `name` appears in errors. */
    xq_status (*module_load)(device *, const void *image, size_t bytes, const char *name, device_module **,
                             error *);
    void (*module_unload)(device_module *);
    /* The function belongs to its module. shared_bytes: the most dynamic shared memory it will use. */
    xq_status (*function_get)(device_module *, const char *entry, size_t shared_bytes, device_function **,
                              error *);
    xq_status (*function_attributes)(const device_function *, device_function_attributes *, error *);
    xq_status (*launch)(device *, const device_launch *, error *);
    xq_status (*synchronize)(device *, error *);
    /* A stream for launches. It waits for no other, the default stream included, and none waits for it. */
    xq_status (*stream_create)(device *, void **stream, error *);
    void (*stream_destroy)(device *, void *stream);
    /* Graphs: launches that are recorded once, and then launched together. `record` is called once; what it
     * launches on `stream` (of stream_create) does not run. The parameters of its kernels are copied, and
     * their functions and memory must outlive the graph. Where `record` fails, its error stays, and the
     * stream takes launches as before. XQ_ERROR_UNSUPPORTED where properties.graphs is false. */
    xq_status (*graph_record)(device *, void *stream, device_record *record, void *user, device_graph **,
                              error *);
    xq_status (*graph_launch)(device_graph *, void *stream, error *);
    void (*graph_destroy)(device_graph *); /* when it has ended */
    /* Milliseconds between two marks on a stream. cuda: events. sim: modelled time of what was launched
     * in between. */
    xq_status (*mark)(device *, void *stream, int index, error *); /* index 0 .. 63 */
    xq_status (*elapsed)(device *, int from, int to, double *milliseconds, error *);
    /* sim only; cuda returns XQ_ERROR_UNSUPPORTED. */
    xq_status (*counters)(device *, device_counters *, error *);
    xq_status (*counters_reset)(device *, error *);
    /* sim only, too. With `on`, launches from now on also count for each instruction, which takes time;
     * without, which is the default, they do not. Both forget what was counted before. */
    xq_status (*profile)(device *, bool on, error *);
    /* Visits every instruction that was issued since then, kernel by kernel, in the order of the PTX. The
     * sums are those of device_counters. */
    xq_status (*profile_read)(device *, device_profile_visit *visit, void *user, error *);
} device_ops;

/* Every implementation's object starts with this. */
struct device {
    const device_ops *ops;
    device_properties properties;
};

/* Opens GPU number `ordinal`. Errors: XQ_ERROR_NO_DEVICE. */
xq_status device_cuda_open(int ordinal, device **out, error *err);

/* How many GPUs the driver has, at least one. Errors: XQ_ERROR_NO_DEVICE. */
xq_status device_cuda_count(int *count, error *err);

/* Opens the first GPU that can be opened. Errors: XQ_ERROR_NO_DEVICE, which says of each GPU why not. */
xq_status device_cuda_open_first(device **out, error *err);

/* How a context opens the software device, with the ceilings of `gpu`: "h100" (default for NULL), "h200",
 * "a100", "rtx4090". Errors: XQ_ERROR_ARGUMENT naming the valid names. NULL in a library without it:
 * whoever links one defines it, as sim/registration.c or runtime/device/without_sim.c does. */
typedef xq_status device_opener(const char *gpu, device **out, error *err);
extern device_opener *const device_software;

#endif
