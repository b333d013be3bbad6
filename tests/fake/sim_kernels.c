/* libsim_cuda.so runs kernels on the software device. With it, tests can check the results of programs that
 * call the driver themselves and record graphs. It runs PTX alone. xq makes PTX for a GPU that NVRTC does
 * not know, so tests set FAKE_CUDA_CAPABILITIES=81. */
#include "../../sim/sim.h"
#include "fake_cuda_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static device *sim;

__attribute__((constructor)) static void open_sim(void)
{
    error err = ERROR_INIT;
    if (device_sim_open(NULL, &sim, &err) != XQ_OK)
        abort();
}

__attribute__((destructor)) static void close_sim(void)
{
    sim->ops->destroy(sim);
}

static bool succeeds(error *err)
{
    bool ok = err->status == XQ_OK;
    if (!ok)
        fprintf(stderr, "libsim_cuda.so: %s\n", err->message);
    error_clear(err);
    return ok;
}

static uint64_t allocate(size_t bytes)
{
    error err = ERROR_INIT;
    uint64_t pointer = 0;
    sim->ops->alloc(sim, bytes, &pointer, &err);
    return succeeds(&err) ? pointer : 0;
}

static void release(uint64_t pointer)
{
    error err = ERROR_INIT;
    sim->ops->free(sim, pointer, &err);
    succeeds(&err);
}

static bool write_memory(uint64_t destination, const void *source, size_t bytes)
{
    error err = ERROR_INIT;
    sim->ops->write(sim, destination, source, bytes, &err);
    return succeeds(&err);
}

static bool read_memory(void *destination, uint64_t source, size_t bytes)
{
    error err = ERROR_INIT;
    sim->ops->read(sim, destination, source, bytes, &err);
    return succeeds(&err);
}

static bool fill(uint64_t pointer, unsigned char value, size_t bytes)
{
    error err = ERROR_INIT;
    sim->ops->fill(sim, pointer, value, bytes, &err);
    return succeeds(&err);
}

static void *load(const char *ptx)
{
    error err = ERROR_INIT;
    device_module *module = NULL;
    sim->ops->module_load(sim, ptx, strlen(ptx), "a module of the stand-in driver", &module, &err);
    return succeeds(&err) ? module : NULL;
}

static void unload(void *module)
{
    sim->ops->module_unload(module);
}

static bool launch(const struct fake_cuda_launch *l)
{
    error err = ERROR_INIT;
    device_function *function = NULL;
    device_launch of_sim = {.cluster = l->cluster[0],
                            .shared_bytes = l->shared_bytes,
                            .params = l->params,
                            .params_bytes = l->params_bytes};
    memcpy(of_sim.grid, l->grid, sizeof of_sim.grid);
    memcpy(of_sim.block, l->block, sizeof of_sim.block);
    if (sim->ops->function_get(l->module, l->name, l->shared_bytes, &function, &err) == XQ_OK) {
        of_sim.function = function;
        sim->ops->launch(sim, &of_sim, &err);
    }
    return succeeds(&err);
}

static const struct fake_cuda_kernels kernels = {.alloc = allocate,
                                                 .free = release,
                                                 .write = write_memory,
                                                 .read = read_memory,
                                                 .fill = fill,
                                                 .load = load,
                                                 .unload = unload,
                                                 .launch = launch};
const struct fake_cuda_kernels *const fake_cuda_kernels = &kernels;
