/* Handlers of loads, stores, atomics and asynchronous copies; part of exec_body.h. They check the addresses
 * of the lanes and turn them into host addresses. */

/* ---------------------------------------------------------------- addresses */

/* Computes the address of every lane. Lanes outside `mask` get the address of the first lane in `mask`, so
 * that loops over lanes need no mask. */
static void lane_addresses(const sim_warp *warp, sim_operand o, bool is_64, uint64_t offset, uint32_t mask,
                           uint64_t *address)
{
    const void *base = sim_at(warp, o);
    if (is_64)
        for (int i = 0; i < 32; i++)
            address[i] = ((const uint64_t *)base)[i] + offset;
    else
        for (int i = 0; i < 32; i++)
            address[i] = (uint32_t)(((const uint32_t *)base)[i] + (uint32_t)offset);
    if (mask != 0xffffffffu) {
        uint64_t first = address[__builtin_ctz(mask)];
        for (int i = 0; i < 32; i++)
            address[i] = mask >> i & 1 ? address[i] : first;
    }
}

static enum sim_space space_of(uint64_t address)
{
    uint64_t window = address >> SIM_WINDOW_BITS;
    return window == SIM_SHARED_BASE >> SIM_WINDOW_BITS  ? SIM_SPACE_SHARED
           : window == SIM_LOCAL_BASE >> SIM_WINDOW_BITS ? SIM_SPACE_LOCAL
           : window == SIM_PARAM_BASE >> SIM_WINDOW_BITS ? SIM_SPACE_PARAM
                                                         : SIM_SPACE_GLOBAL;
}

static enum sim_outcome misaligned(sim_warp *warp, uint32_t mask, const uint64_t *address, uint32_t bytes)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (address[lane] & (bytes - 1))
            return sim_fault(warp, 1u << lane, "misaligned access of %u bytes at 0x%llx", bytes,
                             (unsigned long long)address[lane]);
    }
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- device memory */

/* Counts the sectors that the lanes touch, each once, and how many of them are read (or written) for the
 * first time in this launch. Accesses are aligned to their size, which is 16 bytes at most, so each lane
 * touches one sector. */
static void count_sectors(sim_warp *warp, sim_allocation *a, uint32_t mask, const uint64_t *address,
                          uint32_t bytes, bool writes)
{
    uint64_t list[32], last = ~0ull, most = 0;
    int count = 0;
    bool consecutive = mask == 0xffffffffu;
    for (int i = 1; i < 32; i++)
        consecutive &= address[i] == address[0] + (uint64_t)i * bytes;
    uint64_t total, fresh = 0, base = a->address;
    if (consecutive) {
        uint64_t first = (address[0] - base) >> 5, end = (address[31] + bytes - 1 - base) >> 5;
        total = end - first + 1;
        fresh = sim_memory_touch(a, writes, first, total);
    } else {
        uint64_t begin = 0, end = 0; /* the run of sectors that is still to be marked */
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
            uint64_t sector = (address[__builtin_ctz(rest)] - base) >> 5;
            if (sector == last)
                continue;
            last = sector;
            int k = 0;
            if (count && sector <= most)
                while (k < count && list[k] != sector)
                    k++;
            else
                k = count;
            if (k < count)
                continue;
            list[count++] = sector;
            most = sector > most || count == 1 ? sector : most;
            if (sector != end) {
                fresh += sim_memory_touch(a, writes, begin, end - begin);
                begin = sector;
            }
            end = sector + 1;
        }
        fresh += sim_memory_touch(a, writes, begin, end - begin);
        total = (uint64_t)count;
    }
    device_counters *c = &warp->block->worker->counters;
    if (writes) {
        c->write_sectors += total;
        c->write_sectors_unique += fresh;
    } else {
        c->read_sectors += total;
        c->read_sectors_unique += fresh;
    }
}

enum { ACCESS_READS = 1, ACCESS_WRITES = 2, ACCESS_UNCOUNTED = 4 };

static void count_access(sim_warp *warp, sim_allocation *a, uint32_t mask, const uint64_t *address,
                         uint32_t bytes, int access)
{
    if (access & ACCESS_UNCOUNTED)
        return;
    if (access & ACCESS_READS)
        count_sectors(warp, a, mask, address, bytes, false);
    if (access & ACCESS_WRITES)
        count_sectors(warp, a, mask, address, bytes, true);
}

static enum sim_outcome locate_global(sim_warp *warp, uint32_t mask, const uint64_t *address,
                                      uint32_t bytes, int access, uint8_t **host)
{
    sim_worker *worker = warp->block->worker;
    sim_memory *memory = worker->launch->memory;
    uint64_t low = address[0], high = address[0];
    for (int i = 0; i < 32; i++) {
        low = address[i] < low ? address[i] : low;
        high = address[i] > high ? address[i] : high;
    }
    sim_allocation *a = worker->recent;
    if (!a || low < a->address || low >= a->address + a->bytes)
        a = sim_memory_find(memory, low);
    if (a && a->data && low >= a->address && high - a->address + bytes <= a->bytes && high >= low &&
        !(a->read_only && access & ACCESS_WRITES)) {
        worker->recent = a;
        for (int i = 0; i < 32; i++)
            host[i] = a->data + (address[i] - a->address);
        count_access(warp, a, mask, address, bytes, access);
        return SIM_NEXT;
    }
    /* The lanes access several allocations, or one of them faults. */
    char why[256];
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        host[lane] = sim_memory_host(memory, address[lane], bytes, why);
        if (!host[lane])
            return sim_fault(warp, 1u << lane, "%s", why);
        if (sim_memory_find(memory, address[lane])->read_only && access & ACCESS_WRITES)
            return sim_fault(warp, 1u << lane, "write to constant memory at 0x%llx",
                             (unsigned long long)address[lane]);
    }
    for (uint32_t rest = mask; rest;) {
        a = sim_memory_find(memory, address[__builtin_ctz(rest)]);
        uint32_t same = 0;
        for (uint32_t r = rest; r; r &= r - 1)
            if (sim_memory_find(memory, address[__builtin_ctz(r)]) == a)
                same |= r & -r;
        uint64_t part[32];
        for (int i = 0; i < 32; i++)
            part[i] = same >> i & 1 ? address[i] : address[__builtin_ctz(same)];
        count_access(warp, a, same, part, bytes, access);
        rest &= ~same;
    }
    uint8_t *first = host[__builtin_ctz(mask)];
    for (int i = 0; i < 32; i++)
        host[i] = mask >> i & 1 ? host[i] : first;
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- the other spaces */

static enum sim_outcome locate_window(sim_warp *warp, uint32_t mask, const uint64_t *address,
                                      uint32_t bytes, uint64_t room, const char *space)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (address[lane] > room || bytes > room - address[lane])
            return sim_fault(
                warp, 1u << lane,
                "out of bounds: %u bytes at %s address %llu (0x%llx) are beyond its %llu bytes", bytes,
                space, (unsigned long long)address[lane], (unsigned long long)address[lane],
                (unsigned long long)room);
    }
    return SIM_NEXT;
}

static enum sim_outcome locate_shared(sim_warp *warp, uint32_t mask, const uint64_t *address,
                                      uint32_t bytes, enum sim_access access, uint8_t **host)
{
    sim_block *b = warp->block;
    uint32_t narrow[32];
    uint64_t high = 0;
    for (int i = 0; i < 32; i++) {
        high |= address[i] >> 32;
        narrow[i] = (uint32_t)address[i];
    }
    uint32_t most = 0;
    for (int i = 0; i < 32; i++)
        most = narrow[i] > most ? narrow[i] : most;
    if ((high || (uint64_t)most + bytes > b->shared_bytes) &&
        locate_window(warp, mask, address, bytes, b->shared_bytes, "shared") == SIM_FAULT)
        return SIM_FAULT;
    for (int i = 0; i < 32; i++)
        host[i] = b->shared + narrow[i];
    return shared_access(warp, mask, narrow, bytes, access);
}

static enum sim_outcome locate_space(sim_warp *warp, enum sim_space space, uint32_t mask, uint64_t *address,
                                     uint32_t bytes, int access, enum sim_access shared, uint8_t **host)
{
    const sim_program *p = warp->program;
    switch (space) {
    case SIM_SPACE_SHARED:
        return locate_shared(warp, mask, address, bytes, shared, host);
    case SIM_SPACE_LOCAL:
        if (locate_window(warp, mask, address, bytes, p->local_bytes, "local") == SIM_FAULT)
            return SIM_FAULT;
        for (int i = 0; i < 32; i++)
            host[i] = warp->block->local + (size_t)(warp->index * 32 + i) * p->local_bytes + address[i];
        return SIM_NEXT;
    case SIM_SPACE_PARAM:
        if (locate_window(warp, mask, address, bytes, p->param_bytes, "parameter") == SIM_FAULT)
            return SIM_FAULT;
        if (access & ACCESS_WRITES)
            return sim_fault(warp, mask, "write to the kernel's parameters");
        for (int i = 0; i < 32; i++)
            host[i] = (uint8_t *)(uintptr_t)warp->block->launch->params + address[i];
        return SIM_NEXT;
    case SIM_SPACE_CONST:
        return locate_global(warp, mask, address, bytes, access | ACCESS_UNCOUNTED, host);
    default:
        return locate_global(warp, mask, address, bytes, access, host);
    }
}

/* Checks and counts an access, and computes the host address of every lane. Lanes outside `mask` get some
 * valid address. */
static enum sim_outcome locate(sim_warp *warp, enum sim_space space, uint32_t mask, uint64_t *address,
                               uint32_t bytes, int access, enum sim_access shared, uint8_t **host)
{
    uint64_t low_bits = 0;
    for (int i = 0; i < 32; i++)
        low_bits |= address[i];
    if (low_bits & (bytes - 1) && misaligned(warp, mask, address, bytes) == SIM_FAULT)
        return SIM_FAULT;
    if (space != SIM_SPACE_GENERIC)
        return locate_space(warp, space, mask, address, bytes, access, shared, host);
    static const uint64_t bases[] = {[SIM_SPACE_SHARED] = SIM_SHARED_BASE,
                                     [SIM_SPACE_LOCAL] = SIM_LOCAL_BASE,
                                     [SIM_SPACE_PARAM] = SIM_PARAM_BASE};
    for (uint32_t rest = mask; rest;) {
        space = space_of(address[__builtin_ctz(rest)]);
        uint32_t same = 0;
        for (uint32_t r = rest; r; r &= r - 1)
            if (space_of(address[__builtin_ctz(r)]) == space)
                same |= r & -r;
        uint64_t base = space >= SIM_SPACE_SHARED ? bases[space] : 0, part[32];
        uint8_t *part_host[32];
        for (int i = 0; i < 32; i++)
            part[i] = (same >> i & 1 ? address[i] : address[__builtin_ctz(same)]) - base;
        if (locate_space(warp, space, same, part, bytes, access, shared, part_host) == SIM_FAULT)
            return SIM_FAULT;
        for (int i = 0; i < 32; i++)
            if (same >> i & 1 || same == mask)
                host[i] = part_host[i];
        rest &= ~same;
        if (!rest && same != mask)
            for (int i = 0; i < 32; i++)
                if (!(mask >> i & 1))
                    host[i] = part_host[0];
    }
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- loads and stores */

/* Kernels may race on device memory, as they may on hardware. Such a race is the kernel's fault and not the
 * interpreter's, so the thread sanitizer must not see these accesses. It also watches calls of memcpy, so
 * all copies here have constant sizes, which compile to plain loads and stores. */
#define RACY __attribute__((no_sanitize("thread")))

RACY static inline void copy_element(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    switch (bytes) {
    case 1:
        *to = *from;
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    default:
        memcpy(to, from, 8);
    }
}

RACY static inline uint64_t load_element(const uint8_t *p, uint32_t bytes, bool is_signed)
{
    uint64_t v = 0;
    copy_element((uint8_t *)&v, p, bytes); /* requires a little-endian host, as all of sim/ does */
    if (is_signed && bytes < 8 && v >> (bytes * 8 - 1) & 1)
        v |= ~0ull << bytes * 8;
    return v;
}

RACY static void read_narrow(const sim_instruction *in, uint8_t *const *host, uint32_t at, uint32_t *values)
{
    uint32_t bytes = in->x[SIM_X_BYTES], keep = in->x[SIM_X_REGISTER_BITS] == 16 ? 0xffff : ~0u;
    if (bytes == 4)
        for (int i = 0; i < 32; i++)
            memcpy(&values[i], host[i] + at, 4);
    else if (bytes == 2 && !in->x[SIM_X_SIGNED])
        for (int i = 0; i < 32; i++) {
            uint16_t v;
            memcpy(&v, host[i] + at, 2);
            values[i] = v;
        }
    else
        for (int i = 0; i < 32; i++)
            values[i] = (uint32_t)load_element(host[i] + at, bytes, in->x[SIM_X_SIGNED]) & keep;
}

/* Loads four words per lane and transposes them in vectors. Kernels use this form of load for most of the
 * values that they multiply. */
RACY static void read_four_words(uint8_t *const *host, uint32_t (*values)[32])
{
    for (int i = 0; i < 32; i += 4) {
        words4 lane[4], out[4];
        for (int k = 0; k < 4; k++)
            memcpy(&lane[k], host[i + k], 16);
        const words4 low01 = PICK(lane[0], lane[1], 0, 4, 1, 5), low23 = PICK(lane[2], lane[3], 0, 4, 1, 5);
        const words4 high01 = PICK(lane[0], lane[1], 2, 6, 3, 7),
                     high23 = PICK(lane[2], lane[3], 2, 6, 3, 7);
        out[0] = PICK(low01, low23, 0, 1, 4, 5);
        out[1] = PICK(low01, low23, 2, 3, 6, 7);
        out[2] = PICK(high01, high23, 0, 1, 4, 5);
        out[3] = PICK(high01, high23, 2, 3, 6, 7);
        for (int k = 0; k < 4; k++)
            memcpy(&values[k][i], &out[k], 16);
    }
}

RACY static enum sim_outcome exec_load(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint64_t address[32];
    uint8_t *host[32];
    uint32_t bytes = in->x[SIM_X_BYTES], count = in->x[SIM_X_COUNT];
    lane_addresses(warp, in->a, in->x[SIM_X_ADDRESS_64], in->immediate, mask, address);
    enum sim_access shared = in->x[SIM_X_STRONG] ? SIM_STRONG_READ : SIM_READ;
    if (locate(warp, in->x[SIM_X_SPACE], mask, address, bytes * count, ACCESS_READS, shared, host) ==
        SIM_FAULT)
        return SIM_FAULT;
    if (bytes == 4 && count == 4 && in->x[SIM_X_REGISTER_BITS] == 32) {
        uint32_t values[4][32];
        read_four_words(host, values);
        for (int k = 0; k < 4; k++)
            sim_write_32(warp, sim_listed(warp, in, k), values[k], mask);
        return SIM_NEXT;
    }
    for (uint32_t k = 0; k < count; k++) {
        sim_operand d = sim_listed(warp, in, (int)k);
        if (in->x[SIM_X_REGISTER_BITS] == 64) {
            uint64_t values[32];
            if (bytes == 8)
                for (int i = 0; i < 32; i++)
                    memcpy(&values[i], host[i] + k * 8, 8);
            else
                for (int i = 0; i < 32; i++)
                    values[i] = load_element(host[i] + k * bytes, bytes, in->x[SIM_X_SIGNED]);
            sim_write_64(warp, d, values, mask);
        } else {
            uint32_t values[32];
            read_narrow(in, host, k * bytes, values);
            sim_write_32(warp, d, values, mask);
        }
    }
    return SIM_NEXT;
}

/* Fails if two lanes wrote different values to the same shared bytes, because it is undefined which of the
 * values remains. */
static enum sim_outcome check_conflict(sim_warp *warp, const sim_instruction *in, uint32_t mask,
                                       uint8_t *const *host)
{
    uint32_t bytes = in->x[SIM_X_BYTES];
    for (uint32_t k = 0; k < in->x[SIM_X_COUNT]; k++) {
        const uint8_t *v = sim_at(warp, sim_listed(warp, in, (int)k));
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
            int lane = __builtin_ctz(rest);
            if (memcmp(host[lane] + k * bytes, v + lane * (bytes == 8 ? 8 : 4), bytes))
                return sim_fault(warp, 1u << lane,
                                 "shared-memory race: several lanes write different values to shared "
                                 "address %u in one instruction",
                                 (uint32_t)(host[lane] - warp->block->shared) + k * bytes);
        }
    }
    return SIM_NEXT;
}

RACY static enum sim_outcome exec_store(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint64_t address[32];
    uint8_t *host[32];
    uint32_t bytes = in->x[SIM_X_BYTES], count = in->x[SIM_X_COUNT];
    lane_addresses(warp, in->a, in->x[SIM_X_ADDRESS_64], in->immediate, mask, address);
    enum sim_access shared = in->x[SIM_X_STRONG] ? SIM_STRONG_WRITE : SIM_WRITE;
    if (locate(warp, in->x[SIM_X_SPACE], mask, address, bytes * count, ACCESS_WRITES, shared, host) ==
        SIM_FAULT)
        return SIM_FAULT;
    for (uint32_t k = 0; k < count; k++) {
        const uint8_t *v = sim_at(warp, sim_listed(warp, in, (int)k));
        if (bytes == 4) {
            for (uint32_t rest = mask; rest; rest &= rest - 1) {
                int lane = __builtin_ctz(rest);
                memcpy(host[lane] + k * 4, v + lane * 4, 4);
            }
            continue;
        }
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
            int lane = __builtin_ctz(rest);
            copy_element(host[lane] + k * bytes, v + lane * (bytes == 8 ? 8 : 4), bytes);
        }
    }
    if (in->x[SIM_X_SPACE] == SIM_SPACE_SHARED && !in->x[SIM_X_STRONG])
        return check_conflict(warp, in, mask, host);
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- atomics */

static uint64_t add_floats(enum ptx_type type, uint64_t old, uint64_t b)
{
    switch (type) {
    case PTX_F32:
        return sim_float_bits(sim_float((uint32_t)old) + sim_float((uint32_t)b));
    case PTX_F64:
        return sim_double_bits(sim_double(old) + sim_double(b));
    case PTX_F16:
        return sim_float_to_half(sim_half_to_float((uint32_t)old) + sim_half_to_float((uint32_t)b));
    case PTX_BF16:
        return sim_narrow((double)sim_bfloat_to_float((uint32_t)old) +
                              (double)sim_bfloat_to_float((uint32_t)b),
                          7, 8, SIM_RN);
    case PTX_F16X2:
    case PTX_BF16X2: {
        enum ptx_type half = type == PTX_F16X2 ? PTX_F16 : PTX_BF16;
        return add_floats(half, old & 0xffff, b & 0xffff) |
               add_floats(half, old >> 16 & 0xffff, b >> 16 & 0xffff) << 16;
    }
    default:
        return old + b;
    }
}

static uint64_t atomic_result(enum sim_atomic op, enum ptx_type type, uint64_t old, uint64_t b, uint64_t c)
{
    bool is_64 = ptx_type_bits(type) == 64;
    int64_t so = is_64 ? (int64_t)old : (int32_t)old, sb = is_64 ? (int64_t)b : (int32_t)b;
    bool is_signed = type == PTX_S32 || type == PTX_S64;
    switch (op) {
    case SIM_ATOMIC_AND:
        return old & b;
    case SIM_ATOMIC_OR:
        return old | b;
    case SIM_ATOMIC_XOR:
        return old ^ b;
    case SIM_ATOMIC_CAS:
        return old == b ? c : old;
    case SIM_ATOMIC_EXCH:
        return b;
    case SIM_ATOMIC_ADD:
        return add_floats(type, old, b);
    case SIM_ATOMIC_INC:
        return old >= b ? 0 : old + 1;
    case SIM_ATOMIC_DEC:
        return old == 0 || old > b ? b : old - 1;
    case SIM_ATOMIC_MIN:
        return (is_signed ? sb < so : b < old) ? b : old;
    default:
        return (is_signed ? sb > so : b > old) ? b : old;
    }
}

#define EXCHANGE_LOOP(T)                                                                                   \
    do {                                                                                                   \
        T old = __atomic_load_n((T *)(void *)p, __ATOMIC_SEQ_CST), fresh;                                  \
        do                                                                                                 \
            fresh = (T)atomic_result(op, type, old, (T)b, (T)c);                                           \
        while (!__atomic_compare_exchange_n((T *)(void *)p, &old, fresh, false, __ATOMIC_SEQ_CST,          \
                                            __ATOMIC_SEQ_CST));                                            \
        return old;                                                                                        \
    } while (0)

static uint64_t atomic_one(uint8_t *p, enum sim_atomic op, enum ptx_type type, uint64_t b, uint64_t c)
{
    switch (ptx_type_bits(type)) {
    case 16:
        EXCHANGE_LOOP(uint16_t);
    case 32:
        EXCHANGE_LOOP(uint32_t);
    default:
        EXCHANGE_LOOP(uint64_t);
    }
}

static enum sim_outcome exec_atomic(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint64_t address[32];
    uint8_t *host[32];
    enum ptx_type type = in->x[2];
    bool wide = ptx_type_bits(type) == 64;
    lane_addresses(warp, in->a, in->x[SIM_X_ADDRESS_64], in->immediate, mask, address);
    if (locate(warp, in->x[SIM_X_SPACE], mask, address, (uint32_t)ptx_type_bits(type) / 8,
               ACCESS_READS | ACCESS_WRITES, SIM_ATOMIC, host) == SIM_FAULT)
        return SIM_FAULT;
    const void *b = sim_at(warp, in->b), *c = sim_at(warp, in->c);
    uint64_t old[32] = {0};
    uint32_t narrow[32];
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        old[lane] = atomic_one(host[lane], in->x[1], type,
                               wide ? ((const uint64_t *)b)[lane] : ((const uint32_t *)b)[lane],
                               wide ? ((const uint64_t *)c)[lane] : ((const uint32_t *)c)[lane]);
    }
    if (!in->x[3])
        return SIM_NEXT;
    if (wide) {
        sim_write_64(warp, in->d, old, mask);
        return SIM_NEXT;
    }
    for (int i = 0; i < 32; i++)
        narrow[i] = (uint32_t)old[i];
    sim_write_32(warp, in->d, narrow, mask);
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- cp.async */

/* Returns a new entry of the warp's array of copies. Copies are mostly waited for in the order in which
 * they were made. So those that are done are left behind at the front until there is no room at the end. */
static sim_copy *new_copy(sim_warp *warp)
{
    if (warp->copy_first == warp->copy_count)
        warp->copy_first = warp->copy_count = 0;
    if (warp->copy_count == warp->copy_capacity && warp->copy_first > 0) {
        warp->copy_count -= warp->copy_first;
        memmove(warp->copies, warp->copies + warp->copy_first,
                (size_t)warp->copy_count * sizeof *warp->copies);
        warp->copy_first = 0;
    }
    if (warp->copy_count == warp->copy_capacity) {
        int room = warp->copy_capacity ? warp->copy_capacity * 2 : 64;
        sim_copy *copies = realloc(warp->copies, (size_t)room * sizeof *copies);
        if (!copies)
            return NULL;
        warp->copies = copies;
        warp->copy_capacity = room;
    }
    return &warp->copies[warp->copy_count++];
}

/* Copies the data at once, but its words stay pending until the lane waits for the copy's group. */
RACY static enum sim_outcome exec_copy(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint64_t to[32], from[32];
    uint32_t bytes = in->x[1], narrow[32];
    lane_addresses(warp, in->a, in->x[2], in->immediate, mask, to);
    uint64_t offset;
    memcpy(&offset, sim_at(warp, sim_listed(warp, in, 1)), 8);
    lane_addresses(warp, in->b, in->x[3], offset, mask, from);
    uint64_t all = 0, beyond = 0; /* address bits of any lane; whether any lane ends beyond shared memory */
    for (int i = 0; i < 32; i++) {
        all |= to[i] | from[i];
        beyond |= (uint64_t)(to[i] + bytes > warp->block->shared_bytes) | to[i] >> 32;
    }
    if (all & (bytes - 1) && (misaligned(warp, mask, to, bytes) == SIM_FAULT ||
                              misaligned(warp, mask, from, bytes) == SIM_FAULT))
        return SIM_FAULT;
    if (beyond && locate_window(warp, mask, to, bytes, warp->block->shared_bytes, "shared") == SIM_FAULT)
        return SIM_FAULT;
    uint32_t size[32], whole = 0, reads = 0;
    const uint32_t *given = sim_at(warp, sim_listed(warp, in, 0));
    for (int i = 0; i < 32; i++) {
        size[i] = in->x[0] ? (*given >> i & 1 ? 0 : bytes) : given[i];
        whole |= (uint32_t)(size[i] == bytes) << i;
        reads |= (uint32_t)(size[i] != 0) << i;
        narrow[i] = (uint32_t)to[i];
    }
    reads &= mask;
    for (uint32_t rest = reads & ~whole; rest; rest &= rest - 1)
        if (size[__builtin_ctz(rest)] > bytes)
            return sim_fault(warp, rest & -rest, "cp.async reads %u bytes into %u",
                             size[__builtin_ctz(rest)], bytes);
    uint8_t *host[32];
    if (reads) { /* lanes that read nothing may point anywhere */
        uint32_t first = (uint32_t)__builtin_ctz(reads);
        for (int i = 0; i < 32; i++)
            from[i] = reads >> i & 1 ? from[i] : from[first];
        uint32_t least = bytes;
        for (uint32_t rest = reads & ~whole; rest; rest &= rest - 1) {
            uint32_t n = size[__builtin_ctz(rest)];
            least = n < least ? n : least;
        }
        /* This checks the fewest bytes that any lane reads. If lanes read different numbers of bytes, the
         * loop below checks each lane for what it reads. */
        if (locate_global(warp, reads, from, least, ACCESS_READS, host) == SIM_FAULT)
            return SIM_FAULT;
        for (int i = 0; i < 32; i += 4) /* loads the data into the cache while shared memory is checked */
            __builtin_prefetch(host[i]);
        char why[256];
        for (uint32_t rest = least < bytes ? reads : 0; rest; rest &= rest - 1) {
            int lane = __builtin_ctz(rest);
            if (!sim_memory_host(warp->block->launch->memory, from[lane], size[lane], why))
                return sim_fault(warp, 1u << lane, "%s", why);
        }
    }
    if (shared_pending(warp, mask, narrow, bytes) == SIM_FAULT)
        return SIM_FAULT;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint8_t *d = warp->block->shared + narrow[lane];
        if (whole >> lane & 1 && bytes == 16) {
            memcpy(d, host[lane], 16);
            continue;
        }
        memset(d, 0, bytes);
        for (uint32_t i = 0; i < size[lane]; i++)
            d[i] = host[lane][i];
    }
    sim_copy *copy = new_copy(warp);
    if (!copy)
        return sim_fault(warp, mask, "out of host memory");
    copy->mask = mask;
    copy->bytes = bytes;
    copy->committed = 0;
    memset(copy->group, 0, sizeof copy->group);
    memcpy(copy->address, narrow, sizeof narrow);
    return SIM_NEXT;
}

/* Groups are counted per lane. The lanes of one copy can be in different groups only after divergence. */
static enum sim_outcome exec_commit(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    (void)in;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1)
            warp->groups[i]++;
    for (int i = warp->copy_count - 1; i >= warp->copy_first; i--) {
        sim_copy *copy = &warp->copies[i];
        uint32_t fresh = copy->mask & mask & ~copy->committed;
        if (!fresh && (copy->committed & mask & copy->mask) == (mask & copy->mask) && copy->committed)
            break; /* older copies were committed before or with this one */
        for (int l = 0; l < 32; l++)
            if (fresh >> l & 1)
                copy->group[l] = warp->groups[l];
        copy->committed |= fresh;
    }
    return SIM_NEXT;
}

static enum sim_outcome exec_wait(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    int kept = warp->copy_first;
    for (int i = warp->copy_first; i < warp->copy_count; i++) {
        sim_copy *copy = &warp->copies[i];
        uint32_t covered = 0;
        for (int lane = 0; lane < 32; lane++)
            covered |= (uint32_t)(copy->group[lane] + in->immediate <= warp->groups[lane]) << lane;
        const uint32_t done = copy->mask & mask & (in->x[0] ? ~0u : covered & copy->committed);
        if (done)
            shared_done(warp, done, copy->address, copy->bytes);
        copy->mask &= ~done;
        if (!copy->mask && kept == warp->copy_first)
            kept = ++warp->copy_first;
        else if (copy->mask) {
            if (kept != i)
                warp->copies[kept] = *copy;
            kept++;
        }
    }
    warp->copy_count = kept;
    return SIM_NEXT;
}

static enum sim_outcome exec_isspacep(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    const uint64_t *a = sim_at(warp, in->a);
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) {
        enum sim_space space = space_of(a[i]);
        if (space == SIM_SPACE_GLOBAL) {
            const sim_allocation *allocation = sim_memory_find(warp->block->launch->memory, a[i]);
            space = allocation && allocation->read_only ? SIM_SPACE_CONST : SIM_SPACE_GLOBAL;
        }
        bits |= (uint32_t)(space == (enum sim_space)in->x[0]) << i;
    }
    sim_write_predicate(warp, in->d, bits, mask);
    return SIM_NEXT;
}
