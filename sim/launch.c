#include "launch.h"
#include "shared.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void sim_launch_lock(sim_launch *launch)
{
    pthread_mutex_lock(&launch->lock);
}

void sim_launch_unlock(sim_launch *launch)
{
    pthread_mutex_unlock(&launch->lock);
}

uint64_t sim_block_number(const sim_block *b)
{
    const uint32_t *grid = b->launch->grid;
    return b->id[0] + grid[0] * (b->id[1] + (uint64_t)grid[1] * b->id[2]);
}

bool sim_launch_stopped(sim_block *b)
{
    if (!atomic_load_explicit(&b->launch->stop, memory_order_relaxed))
        return false;
    sim_launch_lock(b->launch);
    bool stopped = sim_block_number(b) > b->launch->fault_block;
    sim_launch_unlock(b->launch);
    return stopped;
}

static void *aligned(size_t bytes)
{
    return aligned_alloc(64, (bytes + 127) & ~(size_t)63);
}

static void worker_free(sim_worker *worker)
{
    sim_block *b = &worker->block;
    for (int w = 0; b->warps && w < b->warp_count; w++)
        free(b->warps[w].copies);
    free(b->warps);
    free(b->shared);
    free(b->row_written);
    free(b->row_read);
    free(b->row_written_at);
    free(b->row_read_at);
    free(b->written);
    free(b->read);
    free(b->written_at);
    free(b->read_at);
    free(b->written_bytes);
    free(b->read_bytes);
    free(b->local);
    free(worker->registers);
    free(worker->profile);
    free(worker);
}

static sim_worker *worker_new(sim_launch *launch)
{
    const sim_program *p = launch->program;
    sim_worker *worker = aligned(sizeof *worker);
    if (!worker)
        return NULL;
    memset(worker, 0, sizeof *worker);
    worker->launch = launch;
    sim_block *b = &worker->block;
    b->launch = launch;
    b->worker = worker;
    b->threads = (int)(launch->block[0] * launch->block[1] * launch->block[2]);
    b->warp_count = (b->threads + 31) / 32;
    b->shared_bytes = p->shared_dynamic + launch->shared_bytes;
    if (!launch->shared_bytes)
        b->shared_bytes = p->shared_static;
    size_t words = b->shared_bytes / 4 + 8, registers = (p->register_bytes + 255) & ~(size_t)63;
    b->warps = calloc((size_t)b->warp_count, sizeof *b->warps);
    b->shared = aligned(b->shared_bytes + 16);
    b->row_written = calloc(words / 4 + 1, 4);
    b->row_read = calloc(words / 4 + 1, 4);
    b->row_written_at = calloc(words / 4 + 1, 4);
    b->row_read_at = calloc(words / 4 + 1, 4);
    b->written = calloc(words, 4);
    b->read = calloc(words, 4);
    b->written_at = calloc(words, 4);
    b->read_at = calloc(words, 4);
    b->local = calloc((size_t)b->warp_count * 32 * p->local_bytes + 16, 1);
    worker->registers = aligned(registers * (size_t)b->warp_count);
    worker->profile = launch->profile ? calloc((size_t)p->count, sizeof *worker->profile) : NULL;
    if (!b->warps || !b->shared || !b->row_written || !b->row_read || !b->row_written_at ||
        !b->row_read_at || !b->written || !b->read || !b->written_at || !b->read_at || !b->local ||
        !worker->registers || (launch->profile && !worker->profile)) {
        worker_free(worker);
        return NULL;
    }
    memset(worker->registers, 0, registers * (size_t)b->warp_count);
    for (int w = 0; w < b->warp_count; w++) {
        sim_warp *warp = &b->warps[w];
        warp->base[0] = worker->registers + registers * (size_t)w;
        warp->base[1] = (uint8_t *)(uintptr_t)launch->constants;
        warp->block = b;
        warp->program = p;
        warp->index = w;
    }
    return worker;
}

static void *work(void *context)
{
    sim_worker *worker = context;
    sim_launch *launch = worker->launch;
    for (;;) {
        uint64_t n = atomic_fetch_add(&launch->next_block, 1);
        if (n >= launch->blocks)
            return NULL;
        worker->block.id[0] = (uint32_t)(n % launch->grid[0]);
        worker->block.id[1] = (uint32_t)(n / launch->grid[0] % launch->grid[1]);
        worker->block.id[2] = (uint32_t)(n / launch->grid[0] / launch->grid[1]);
        /* A block before the one that faulted runs, so that the fault of the lowest block is reported. */
        if (sim_launch_stopped(&worker->block) || !sim_block_run(&worker->block))
            return NULL;
    }
}

void sim_counters_add(device_counters *to, const device_counters *from)
{
    to->launches += from->launches;
    to->read_sectors += from->read_sectors;
    to->read_sectors_unique += from->read_sectors_unique;
    to->write_sectors += from->write_sectors;
    to->write_sectors_unique += from->write_sectors_unique;
    to->shared_requests += from->shared_requests;
    to->shared_passes += from->shared_passes;
    to->shared_conflicts += from->shared_conflicts;
    to->barriers += from->barriers;
    to->modelled_seconds += from->modelled_seconds;
    for (int i = 0; i < DEVICE_LIMITS; i++)
        to->limit_seconds[i] += from->limit_seconds[i];
    for (int i = 0; i < MATRIX_TYPES; i++)
        to->matrix_flops[i] += from->matrix_flops[i];
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        to->instructions[i] += from->instructions[i];
}

/* A worker counts instructions apart from the other counters, in an array that has a place for the
 * uncounted class. */
static void add_worker(device_counters *to, const sim_worker *worker)
{
    device_counters counted = worker->counters;
    memcpy(counted.instructions, worker->instructions, sizeof counted.instructions);
    sim_counters_add(to, &counted);
}

xq_status sim_launch_run(sim_launch *launch, device_counters *counters)
{
    enum { WORKERS_MAX = 256 };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t wanted = cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : (uint64_t)cores;
    if (wanted > launch->blocks)
        wanted = launch->blocks;
    sim_worker *workers[WORKERS_MAX];
    pthread_t threads[WORKERS_MAX];
    uint64_t count = 0, started = 1;
    while (count < wanted && (workers[count] = worker_new(launch)))
        count++;
    if (!count)
        return error_set(launch->err, XQ_ERROR_MEMORY, "device", "out of memory launching %s",
                         launch->program->name);
    while (started < count && !pthread_create(&threads[started], NULL, work, workers[started]))
        started++;
    work(workers[0]);
    for (uint64_t i = 1; i < started; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t i = 0; i < count; i++) {
        add_worker(counters, workers[i]);
        if (launch->profile && launch->err->status == XQ_OK)
            sim_tally_add(launch->profile, workers[i]->profile, launch->program->count);
        worker_free(workers[i]);
    }
    return launch->err->status;
}
