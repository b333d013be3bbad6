#include "occupancy.h"

enum {
    RESERVED_SHARED_BYTES = 1024, /* the system reserves these in every block, on sm_80 and later */
    REGISTER_UNIT = 256           /* a warp gets registers in units of this size */
};

static size_t lesser_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

xq_status occupancy_blocks_per_sm(const kernel *k, int *blocks, error *err)
{
    const device_properties *p = &k->device->properties;
    device_function_attributes a = {0};
    if (k->device->ops->function_attributes(k->function, &a, err) != XQ_OK)
        return err->status;
    size_t most = 32;
    if (p->max_threads_per_sm > 0)
        most = lesser_size(most, (size_t)p->max_threads_per_sm / k->threads);
    size_t shared = k->shared_bytes + (size_t)a.shared_bytes_static + RESERVED_SHARED_BYTES;
    if (p->shared_bytes_per_sm > 0)
        most = lesser_size(most, p->shared_bytes_per_sm / shared);
    size_t warp_registers = ((size_t)a.registers * 32 + REGISTER_UNIT - 1) / REGISTER_UNIT * REGISTER_UNIT;
    size_t registers = warp_registers * ((k->threads + 31) / 32);
    if (p->registers_per_sm > 0 && registers > 0)
        most = lesser_size(most, (size_t)p->registers_per_sm / registers);
    *blocks = most < 1 ? 1 : (int)most;
    return XQ_OK;
}
