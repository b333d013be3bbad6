/* The interface of a device. It has two implementations: device_cuda.c, over a dlopen'd libcuda, and sim/,
 * the software device. Kernels take one struct by value as their only parameter. */
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
    char uuid[37];       /* UUID of the GPU, or of its MIG instance, as 8-4-4-4-12 digits; "": not known */
    char arch[16];       /* the device's own architecture: "sm_90" */
    char ptx_target[24]; /* the newest target that PTX for it may be compiled for: "compute_90" */
    int ordinal;         /* the GPU's number, as the driver counts them; -1 for sim */
    bool is_sim;
    bool reads_are_cheap; /* launches have ended when they return, and reads are copies within the host: the
                             arrays of a call can be checked before it launches */
    bool graphs;          /* launches can be recorded as graphs */
    int driver;           /* 0 for sim */
    int sm_count;
    int max_threads_per_sm;
    size_t memory_bytes, l2_bytes;
    size_t shared_bytes_per_block; /* opt-in maximum */
    size_t shared_bytes_per_sm;
    int registers_per_sm;
    double clock_hz; /* maximum clock of the multiprocessors; 0: not known */
    /* Ceilings: measured on cuda (0 until measured), datasheet figures on sim. */
    double copy_bytes_per_second;
    double matrix_flops_per_second[MATRIX_TYPES];
} device_properties;

/* Counters of the software device since the last reset. A sector is 32 bytes of device memory. The
 * "unique" counters count each sector once per launch, and are summed over launches. */
typedef struct device_counters {
    uint64_t launches;
    uint64_t read_sectors, read_sectors_unique;
    uint64_t write_sectors, write_sectors_unique;
    uint64_t shared_requests;  /* warp-level shared-memory accesses */
    uint64_t shared_passes;    /* 128-byte passes for those accesses: 64-bit accesses of a full warp need 2,
                                  128-bit ones 4, and conflicts come on top */
    uint64_t shared_conflicts; /* passes that bank conflicts added */
    uint64_t matrix_flops[MATRIX_TYPES];        /* 2 per multiply-add */
    uint64_t instructions[INSTRUCTION_CLASSES]; /* per warp */
    uint64_t barriers;                          /* per block */
    double modelled_seconds; /* from the counters above and the ceilings; sum over launches */
    /* Parts of modelled_seconds. A launch takes its fixed cost (LIMIT_LAUNCHES), and then as long as its
     * busiest resource; that time counts for this resource alone. */
    double limit_seconds[DEVICE_LIMITS];
} device_counters;

/* One instruction of a kernel's PTX, with what the software device counted of it while it profiled. */
typedef struct device_profile_entry {
    const char *kernel; /* the entry function */
    const char *ptx;    /* the PTX statement */
    int ptx_line;
    const char *file; /* the file of the template, or of templates/lib; "" where it is not known */
    int line;
    const char *caller_file; /* the call by which that line is inlined; "" and 0 where it is not */
    int caller_line;
    enum instruction_class kind;
    uint64_t issued;                                                       /* by warps */
    uint64_t read_sectors, write_sectors, shared_passes, shared_conflicts; /* as in device_counters */
} device_profile_entry;

/* The texts of the entry are valid during the call. */
typedef void device_profile_visit(void *user, const device_profile_entry *entry);

typedef struct device_launch {
    const device_function *function;
    uint32_t grid[3], block[3];
    uint32_t cluster;      /* blocks of a cluster, along x: a divisor of grid[0]; 0 and 1: no clusters */
    uint32_t shared_bytes; /* dynamic shared memory */
    void *stream;          /* NULL: the default stream */
    const void *params;    /* the kernel's one parameter */
    size_t params_bytes;
} device_launch;

typedef struct device_function_attributes {
    int registers, shared_bytes_static, local_bytes, max_threads;
} device_function_attributes;

/* Makes on `stream` the launches that a graph is to hold. */
typedef xq_status device_record(void *user, void *stream, error *err);

typedef struct device_ops {
    void (*destroy)(device *);
    xq_status (*alloc)(device *, size_t bytes, uint64_t *pointer, error *); /* 256-byte aligned */
    xq_status (*free)(device *, uint64_t pointer, error *);
    xq_status (*write)(device *, uint64_t destination, const void *source, size_t bytes, error *);
    xq_status (*read)(device *, void *destination, uint64_t source, size_t bytes, error *);
    xq_status (*fill)(device *, uint64_t destination, uint8_t value, size_t bytes, error *);
    /* Allocates zeroed memory that the host and kernels both see, without copies or waiting: the host at
     * *host, kernels at *pointer. Freed with shared_free. */
    xq_status (*shared_alloc)(device *, size_t bytes, uint64_t *pointer, void **host, error *);
    xq_status (*shared_free)(device *, uint64_t pointer, void *host, error *);
    /* `image` is a cubin, or PTX text that ends with a NUL; sim takes only PTX. `name` appears in errors.
     */
    xq_status (*module_load)(device *, const void *image, size_t bytes, const char *name, device_module **,
                             error *);
    void (*module_unload)(device_module *);
    /* The function belongs to its module. shared_bytes is the most dynamic shared memory that it will use.
     */
    xq_status (*function_get)(device_module *, const char *entry, size_t shared_bytes, device_function **,
                              error *);
    xq_status (*function_attributes)(const device_function *, device_function_attributes *, error *);
    xq_status (*launch)(device *, const device_launch *, error *);
    xq_status (*synchronize)(device *, error *);
    /* Creates a stream for launches. It does not wait for other streams, not even the default stream, and
     * they do not wait for it. */
    xq_status (*stream_create)(device *, void **stream, error *);
    void (*stream_destroy)(device *, void *stream);
    /* A graph holds launches that are recorded once, and then launched together. graph_record calls
     * `record` once; the launches that it makes on `stream` (from stream_create) do not run. The
     * parameters of the kernels are copied; their functions and memory must outlive the graph. If `record`
     * fails, its error stays, and the stream takes launches as before. XQ_ERROR_UNSUPPORTED if
     * properties.graphs is false. */
    xq_status (*graph_record)(device *, void *stream, device_record *record, void *user, device_graph **,
                              error *);
    xq_status (*graph_launch)(device_graph *, void *stream, error *);
    void (*graph_destroy)(device_graph *); /* call it when the graph's launches have ended */
    /* elapsed gives the milliseconds between two marks on a stream. On cuda marks are events; on sim the
     * time is the modelled time of the launches in between. */
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

/* The object of every implementation starts with this struct. */
struct device {
    const device_ops *ops;
    device_properties properties;
};

/* Opens GPU number `ordinal`. Errors: XQ_ERROR_NO_DEVICE. */
xq_status device_cuda_open(int ordinal, device **out, error *err);

/* Counts the GPUs that the driver has; there is at least one on success. Errors: XQ_ERROR_NO_DEVICE. */
xq_status device_cuda_count(int *count, error *err);

/* Opens the first GPU that can be opened. Errors: XQ_ERROR_NO_DEVICE, which gives the reason for each
 * GPU. */
xq_status device_cuda_open_first(device **out, error *err);

/* Opens the software device for a context, with the ceilings of `gpu`: "h100" (default for NULL), "h200",
 * "a100", "rtx4090". Errors: XQ_ERROR_ARGUMENT naming the valid names. device_software is NULL in a library
 * without a software device. Each library is linked with one file that defines it, such as
 * sim/registration.c or runtime/device/without_sim.c. */
typedef xq_status device_opener(const char *gpu, device **out, error *err);
extern device_opener *const device_software;

#endif
