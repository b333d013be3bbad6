/* The sum over ranks that follows the row-parallel output projection. NCCL, loaded at run time, adds up if
 * each rank has a GPU of its own and libnccl.so.2 is found; otherwise the ranks add up in shared memory.
 * The NCCL path has run against stand-ins only, never on two GPUs. */
#ifndef TENSOR_PARALLEL_REDUCE_H
#define TENSOR_PARALLEL_REDUCE_H

#include "../cuda-graph/driver.h"
#include "ranks.h"

enum { NCCL_FLOAT32 = 7, NCCL_SUM = 0, MOST_SUMS = 4096 };

/* ncclUniqueId */
struct nccl_id {
    char bytes[128];
};

static struct nccl {
    int (*get_unique_id)(struct nccl_id *id);
    int (*init_rank)(void **communicator, int ranks, struct nccl_id id, int rank);
    int (*all_reduce)(const void *from, void *to, size_t count, int type, int operation, void *communicator,
                      void *stream);
    int (*destroy)(void *communicator);
    const char *(*error_string)(int result);
} nccl;

/* The data that ranks share. */
struct reduction {
    struct nccl_id id;
    float parts[RANKS][MOST_SUMS];
};
static struct reduction *reduction; /* from shared_memory, before ranks start */

static void *communicator; /* NULL: sums go through shared memory */

static inline void need_nccl(int result, const char *call)
{
    if (result != 0) {
        fprintf(stderr, PROGRAM ": rank %d: %s: %s\n", rank, call, nccl.error_string(result));
        exit(1);
    }
}

/* Loads NCCL. Returns 1 if all functions are found. */
static inline int load_nccl(void)
{
    const struct {
        const char *name;
        void *pointer; /* address of the function pointer to fill */
    } symbols[] = {
        {"ncclGetUniqueId", &nccl.get_unique_id},   {"ncclCommInitRank", &nccl.init_rank},
        {"ncclAllReduce", &nccl.all_reduce},        {"ncclCommDestroy", &nccl.destroy},
        {"ncclGetErrorString", &nccl.error_string},
    };
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = library ? dlsym(library, symbols[i].name) : NULL;
        if (!symbol)
            return 0;
        memcpy(symbols[i].pointer, &symbol, sizeof symbol);
    }
    return 1;
}

/* Decides between NCCL and shared memory, the same on both ranks. NCCL uses the GPU of the current context,
 * which is found from `memory`, any device memory of xq's. */
static inline void open_reduction(int has_own_gpu, uint64_t memory)
{
    int can = has_own_gpu && load_nccl();
    if (!(exchange((char)can) && can))
        return;
    void *primary = NULL;
    load_driver();
    need(driver.pointer_attribute(&primary, POINTER_CONTEXT, memory), "cuPointerGetAttribute");
    need(driver.context_push(primary), "cuCtxPushCurrent");
    if (rank == 0)
        need_nccl(nccl.get_unique_id(&reduction->id), "ncclGetUniqueId");
    exchange(1); /* the id is written */
    need_nccl(nccl.init_rank(&communicator, RANKS, reduction->id, rank), "ncclCommInitRank");
}

static inline void close_reduction(void)
{
    if (communicator)
        need_nccl(nccl.destroy(communicator), "ncclCommDestroy");
}

/* Replaces `count` values by their sums over all ranks. The sums are the same bits on each rank.
 * `on_device` is device memory with room for the values. */
static inline void all_reduce(float *values, int count, uint64_t on_device)
{
    const size_t bytes = sizeof *values * (size_t)count;
    if (communicator) {
        void *memory = (void *)(uintptr_t)on_device; /* in an engine the values are already there */
        write_device(on_device, values, bytes);
        need_nccl(
            nccl.all_reduce(memory, memory, (size_t)count, NCCL_FLOAT32, NCCL_SUM, communicator, NULL),
            "ncclAllReduce");
        check(xq_device_read(context, values, on_device, bytes), "ncclAllReduce");
        return;
    }
    memcpy(reduction->parts[rank], values, bytes);
    exchange(1); /* both parts are there */
    for (int i = 0; i < count; i++)
        values[i] = reduction->parts[0][i] + reduction->parts[1][i];
    exchange(1); /* both parts were read, so the next call may overwrite them */
}

#endif
