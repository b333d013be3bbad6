/* Handlers of the matrix instructions; part of exec_body.h. The fragment layouts are those of the PTX ISA,
 * "Warp Level Matrix Multiply-Accumulate Instructions". */

static enum sim_outcome check_warp(sim_warp *warp, uint32_t mask)
{
    if (mask != 0xffffffffu)
        return sim_fault(warp, mask,
                         "diverged: a matrix instruction needs all 32 lanes, only 0x%08x are here", mask);
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- ldmatrix */

/* Computes and checks the addresses of the rows. Lane 8 i + r has the address of row r of matrix i. */
static enum sim_outcome row_addresses(sim_warp *warp, const sim_instruction *in, int rows,
                                      uint32_t *address)
{
    const void *a = sim_at(warp, in->a);
    if (!in->x[SIM_X_ADDRESS_64]) {
        uint32_t bits = 0, most = 0;
        for (int i = 0; i < rows; i++) {
            address[i] = ((const uint32_t *)a)[i] + (uint32_t)in->immediate;
            bits |= address[i];
            most = address[i] > most ? address[i] : most;
        }
        if (!(bits & 15) && (uint64_t)most + 16 <= warp->block->shared_bytes)
            return SIM_NEXT;
    }
    for (int i = 0; i < rows; i++) {
        uint64_t at = in->x[SIM_X_ADDRESS_64]
                          ? ((const uint64_t *)a)[i] + in->immediate
                          : (uint32_t)(((const uint32_t *)a)[i] + (uint32_t)in->immediate);
        if (at & 15)
            return sim_fault(warp, 1u << i, "misaligned matrix row at shared address %llu (0x%llx)",
                             (unsigned long long)at, (unsigned long long)at);
        if (at + 16 > warp->block->shared_bytes || at + 16 < 16)
            return sim_fault(warp, 1u << i,
                             "out of bounds: a matrix row at shared address %llu is beyond its %u bytes",
                             (unsigned long long)at, warp->block->shared_bytes);
        address[i] = (uint32_t)at;
    }
    return SIM_NEXT;
}

static void transpose(uint16_t m[8][8])
{
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < i; k++) {
            uint16_t t = m[i][k];
            m[i][k] = m[k][i];
            m[k][i] = t;
        }
}

static enum sim_outcome exec_ldmatrix(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint32_t address[32];
    int count = in->x[0], rows = count * 8;
    if (check_warp(warp, mask) == SIM_FAULT || row_addresses(warp, in, rows, address) == SIM_FAULT ||
        shared_rows(warp, rows, address, SIM_READ) == SIM_FAULT)
        return SIM_FAULT;
    const uint8_t *shared = warp->block->shared;
    for (int i = 0; i < count; i++) {
        uint8_t *d = sim_at(warp, sim_listed(warp, in, i)); /* row r: the values of lanes 4 r to 4 r + 3 */
        for (int r = 0; r < 8; r++) {
            words4 row;
            memcpy(&row, shared + address[i * 8 + r], 16);
            memcpy(d + r * 16, &row, 16);
        }
        if (in->x[1])
            transpose((void *)d);
    }
    return SIM_NEXT;
}

static enum sim_outcome exec_stmatrix(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint32_t address[32];
    int count = in->x[0], rows = count * 8;
    if (check_warp(warp, mask) == SIM_FAULT || row_addresses(warp, in, rows, address) == SIM_FAULT ||
        shared_rows(warp, rows, address, SIM_WRITE) == SIM_FAULT)
        return SIM_FAULT;
    for (int i = 0; i < count; i++) {
        uint16_t m[8][8];
        memcpy(m, sim_at(warp, sim_listed(warp, in, i)), 128);
        if (in->x[1])
            transpose(m);
        for (int r = 0; r < 8; r++)
            memcpy(warp->block->shared + address[i * 8 + r], m[r], 16);
    }
    return SIM_NEXT;
}

static enum sim_outcome exec_movmatrix(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    uint16_t m[8][8];
    if (check_warp(warp, mask) == SIM_FAULT)
        return SIM_FAULT;
    memcpy(m, sim_at(warp, in->a), 128);
    transpose(m);
    memcpy(sim_at(warp, in->d), m, 128);
    return SIM_NEXT;
}

/* ---------------------------------------------------------------- mma */

static void count_flops(sim_warp *warp, const sim_instruction *in)
{
    warp->block->worker->counters.matrix_flops[in->x[6]] += 2ull * 16 * 8 * in->x[1];
}

static inline void operands(const sim_warp *warp, const sim_instruction *in, int first, int count,
                            const uint32_t **registers)
{
    const sim_operand *listed = warp->program->list + in->list + first;
    for (int i = 0; i < count; i++)
        registers[i] = sim_at(warp, listed[i]);
}

/* A register of f16 accumulators holds two columns. `widen` turns two such registers into four registers of
 * f32, and `narrow` turns two registers of f32 back into one. */
static void widen(const uint32_t *const *half, uint32_t (*wide)[32])
{
    for (int e = 0; e < 4; e++)
        for (int lane = 0; lane < 32; lane++)
            wide[e][lane] = sim_float_bits(sim_half_to_float(half[e / 2][lane] >> 16 * (e & 1) & 0xffff));
}

static void narrow(uint32_t (*wide)[32], uint32_t *half, int first)
{
    for (int lane = 0; lane < 32; lane++)
        half[lane] = sim_float_to_half(sim_float(wide[first][lane])) |
                     sim_float_to_half(sim_float(wide[first + 1][lane])) << 16;
}

/* d and c have `accumulators` registers each; a has a_count and b has b_count. */
static inline void multiply(sim_warp *warp, const sim_instruction *in, int accumulators, int a_count,
                            int b_count)
{
    const uint32_t *a[4], *b[2], *c[4];
    uint32_t *d[4], wide[4][32];
    const sim_operand *listed = warp->program->list + in->list;
    sim_matrix_fn *matrix = warp->block->launch->lanes->matrix[in->x[0]];
    operands(warp, in, accumulators, a_count, a);
    operands(warp, in, accumulators + a_count, b_count, b);
    operands(warp, in, accumulators + a_count + b_count, accumulators, c);
    for (int i = 0; i < accumulators; i++)
        d[i] = sim_at(warp, listed[i]);
    if (in->x[2]) {
        uint32_t *narrowed[2] = {d[0], d[1]};
        widen(c, wide);
        for (int i = 0; i < 4; i++)
            c[i] = d[i] = wide[i];
        matrix(in->x[1], a, b, c, d);
        narrow(wide, narrowed[0], 0);
        narrow(wide, narrowed[1], 2);
    } else
        matrix(in->x[1], a, b, c, d);
}

static enum sim_outcome exec_mma_float(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    if (check_warp(warp, mask) == SIM_FAULT)
        return SIM_FAULT;
    if (in->x[3] == 4 && in->x[4] == 4 && in->x[5] == 2) /* the usual shape: loops of constant length */
        multiply(warp, in, 4, 4, 2);
    else
        multiply(warp, in, in->x[3], in->x[4], in->x[5]);
    count_flops(warp, in);
    return SIM_NEXT;
}

static inline void place_registers(const sim_warp *warp, const sim_operand *listed, int count,
                                   const uint32_t **registers)
{
    for (int i = 0; i < count; i++)
        registers[i] = (const void *)(warp->base[0] + listed[i]);
}

/* Requires that all operands are registers, not constants. */
static inline void multiply_pair(sim_warp *warp, const sim_instruction *in, int accumulators, int a_count,
                                 int b_count)
{
    const int at_a = accumulators, at_b = at_a + a_count, at_c = at_b + b_count;
    const sim_operand *listed = warp->program->list + in->list;
    const uint32_t *a[4], *b[2][2], *c[2][4], *d[2][4];
    place_registers(warp, listed + at_a, a_count, a);
    for (int n = 0; n < 2; n++) {
        listed = warp->program->list + in[n].list;
        place_registers(warp, listed, accumulators, d[n]);
        place_registers(warp, listed + at_b, b_count, b[n]);
        place_registers(warp, listed + at_c, accumulators, c[n]);
    }
    const uint32_t *const *b_of[2] = {b[0], b[1]}, *const * c_of[2] = {c[0], c[1]};
    uint32_t *const *d_of[2] = {(uint32_t *const *)d[0], (uint32_t *const *)d[1]};
    warp->block->launch->lanes->matrix_pair[in->x[0]](in->x[1], a, b_of, c_of, d_of);
}

static enum sim_outcome exec_mma_pair(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    if (check_warp(warp, mask) == SIM_FAULT)
        return SIM_FAULT;
    if (in->x[3] == 4 && in->x[4] == 4 && in->x[5] == 2)
        multiply_pair(warp, in, 4, 4, 2);
    else
        multiply_pair(warp, in, in->x[3], in->x[4], in->x[5]);
    count_flops(warp, in);
    count_flops(warp, in + 1);
    warp->block->worker->instructions[in[1].class]++; /* the interpreter's loop counts the first */
    warp->pc++;
    return SIM_NEXT;
}

static int32_t byte_of(uint32_t word, int i, bool is_signed)
{
    return is_signed ? (int8_t)(word >> 8 * i) : (uint8_t)(word >> 8 * i);
}

static enum sim_outcome exec_mma_integer(sim_warp *warp, const sim_instruction *in, uint32_t mask)
{
    const uint32_t *a[4], *b[2], *c[4];
    int32_t fa[16][32], fb[8][32];
    uint32_t d[4][32];
    if (check_warp(warp, mask) == SIM_FAULT)
        return SIM_FAULT;
    int at = in->x[3], k = in->x[1];
    operands(warp, in, at, in->x[4], a);
    operands(warp, in, at + in->x[4], in->x[5], b);
    operands(warp, in, at + in->x[4] + in->x[5], 4, c);
    /* Register r of a holds rows 0 to 7 if r is even, else rows 8 to 15. It holds bytes 16 (r / 2) to
     * 16 (r / 2) + 15 of k, as the registers of 16-bit types do. */
    for (int r = 0; r < in->x[4]; r++)
        for (int lane = 0; lane < 32; lane++)
            for (int e = 0; e < 4; e++)
                fa[r % 2 * 8 + lane / 4][r / 2 * 16 + lane % 4 * 4 + e] =
                    byte_of(a[r][lane], e, in->x[0] & 1);
    for (int r = 0; r < in->x[5]; r++)
        for (int lane = 0; lane < 32; lane++)
            for (int e = 0; e < 4; e++)
                fb[lane / 4][r * 16 + lane % 4 * 4 + e] = byte_of(b[r][lane], e, in->x[0] & 2);
    for (int r = 0; r < 4; r++)
        for (int lane = 0; lane < 32; lane++) {
            const int32_t *x = fa[lane / 4 + r / 2 * 8], *y = fb[lane % 4 * 2 + r % 2];
            int32_t dot = 0;
            for (int i = 0; i < k; i++)
                dot += x[i] * y[i];
            int64_t sum = (int64_t)(int32_t)c[r][lane] + dot;
            if (in->x[2])
                sum = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
            d[r][lane] = (uint32_t)sum;
        }
    for (int r = 0; r < 4; r++)
        memcpy(sim_at(warp, sim_listed(warp, in, r)), d[r], 128);
    count_flops(warp, in);
    return SIM_NEXT;
}
