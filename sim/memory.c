#include "memory.h"

#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* New memory is filled with NaN at once, so an allocation beyond the host's memory would end the
 * process. */
static bool host_has(uint64_t bytes)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages <= 0 || size <= 0 || bytes < (uint64_t)pages * (uint64_t)size / 8 * 7;
}

xq_status sim_memory_alloc(sim_memory *m, uint64_t bytes, const char *name, sim_allocation **out,
                           error *err)
{
    if (bytes > m->bytes_max - m->bytes_in_use || bytes > (1ull << (SIM_WINDOW_BITS - 1)))
        return error_set(err, XQ_ERROR_DEVICE_MEMORY, "device",
                         "out of device memory: %llu bytes are needed, and %llu of %llu are free",
                         (unsigned long long)bytes, (unsigned long long)(m->bytes_max - m->bytes_in_use),
                         (unsigned long long)m->bytes_max);
    if (m->count == m->capacity) {
        uint64_t room = m->capacity ? m->capacity * 2 : 64;
        sim_allocation **list = realloc(m->list, room * sizeof *list);
        if (!list)
            return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
        m->list = list;
        m->capacity = room;
    }
    sim_allocation *a = calloc(1, sizeof *a);
    uint8_t *data = aligned_alloc(256, (bytes + 511) & ~255ull);
    if (!a || !data || !host_has(m->bytes_in_use + bytes) || m->count + 1 >= (1u << 21)) {
        free(a);
        free(data);
        return error_set(err, XQ_ERROR_DEVICE_MEMORY, "device", "out of host memory for %llu bytes",
                         (unsigned long long)bytes);
    }
    memset(data, 0xff, bytes); /* NaN in every float format, so that values that were never written show */
    a->address = ((m->count + 1) << SIM_WINDOW_BITS) + SIM_LEAD;
    a->bytes = bytes;
    a->data = data;
    a->name = name;
    m->list[m->count++] = a;
    m->bytes_in_use += bytes;
    *out = a;
    return XQ_OK;
}

static void free_sectors(sim_allocation *a)
{
    for (int i = 0; i < 2; i++) {
        free((void *)atomic_load(&a->sectors[i]));
        atomic_store(&a->sectors[i], NULL);
    }
}

static void release(sim_memory *m, sim_allocation *a)
{
    free_sectors(a);
    free(a->data);
    a->data = NULL;
    a->name = NULL; /* the name belongs to its module, which may go away */
    m->bytes_in_use -= a->bytes;
}

xq_status sim_memory_free(sim_memory *m, uint64_t address, error *err)
{
    sim_allocation *a = sim_memory_find(m, address);
    if (!a || a->address != address)
        return error_set(err, XQ_ERROR_DEVICE, "device", "free of 0x%llx, which was not allocated",
                         (unsigned long long)address);
    if (!a->data)
        return error_set(err, XQ_ERROR_DEVICE, "device", "double free of 0x%llx",
                         (unsigned long long)address);
    release(m, a);
    return XQ_OK;
}

void sim_memory_destroy(sim_memory *m)
{
    for (uint64_t i = 0; i < m->count; i++) {
        if (m->list[i]->data)
            release(m, m->list[i]);
        free(m->list[i]);
    }
    free(m->list);
}

sim_allocation *sim_memory_find(const sim_memory *m, uint64_t address)
{
    uint64_t window = address >> SIM_WINDOW_BITS;
    return window && window <= m->count ? m->list[window - 1] : NULL;
}

uint8_t *sim_memory_host(const sim_memory *m, uint64_t address, uint64_t bytes, char why[256])
{
    unsigned long long at = address, n = bytes;
    sim_allocation *a = sim_memory_find(m, address);
    if (!a) {
        snprintf(why, 256, "out of bounds: %llu bytes at 0x%llx are outside every allocation", n, at);
        return NULL;
    }
    const char *what = a->name ? "variable " : "the allocation of ";
    char subject[128];
    if (a->name)
        snprintf(subject, sizeof subject, "%s%.80s (%llu bytes)", what, a->name,
                 (unsigned long long)a->bytes);
    else
        snprintf(subject, sizeof subject, "%s%llu bytes at 0x%llx", what, (unsigned long long)a->bytes,
                 (unsigned long long)a->address);
    uint64_t offset = address - a->address;
    if (a->data && offset <= a->bytes && bytes <= a->bytes - offset)
        return a->data + offset;
    if (!a->data)
        snprintf(why, 256, "use after free: %llu bytes at 0x%llx are in %s, which was freed", n, at,
                 subject);
    else if (address < a->address)
        snprintf(why, 256, "out of bounds: %llu bytes at 0x%llx start %llu bytes before %s", n, at,
                 (unsigned long long)(a->address - address), subject);
    else
        snprintf(why, 256, "out of bounds: %llu bytes at 0x%llx (offset %llu) are beyond %s", n, at,
                 (unsigned long long)offset, subject);
    return NULL;
}

static size_t bitmap_bytes(const sim_allocation *a)
{
    return ((a->bytes + 31) / 32 + 63) / 64 * 8 + 8;
}

void sim_memory_clear_sectors(sim_memory *m)
{
    for (uint64_t i = 0; i < m->count; i++)
        for (int k = 0; k < 2; k++) {
            _Atomic uint64_t *bits = atomic_load(&m->list[i]->sectors[k]);
            if (bits)
                memset((void *)bits, 0, bitmap_bytes(m->list[i]));
        }
}

static _Atomic uint64_t *bitmap(sim_allocation *a, int written)
{
    _Atomic uint64_t *bits = atomic_load_explicit(&a->sectors[written], memory_order_acquire);
    if (bits)
        return bits;
    _Atomic uint64_t *fresh = calloc(1, bitmap_bytes(a));
    if (!fresh)
        return NULL;
    if (atomic_compare_exchange_strong(&a->sectors[written], &bits, fresh))
        return fresh;
    free((void *)fresh);
    return bits;
}

uint64_t sim_memory_touch(sim_allocation *a, int written, uint64_t first, uint64_t count)
{
    _Atomic uint64_t *bits = bitmap(a, written);
    uint64_t fresh = 0;
    while (count && bits) {
        uint64_t at = first & 63, n = 64 - at < count ? 64 - at : count;
        uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << at;
        _Atomic uint64_t *word = &bits[first >> 6];
        if ((atomic_load_explicit(word, memory_order_relaxed) & mask) != mask)
            fresh += (uint64_t)__builtin_popcountll(
                mask & ~atomic_fetch_or_explicit(word, mask, memory_order_relaxed));
        first += n;
        count -= n;
    }
    return fresh;
}
