/* Decodes exchanges between lanes, barriers, fences and matrix instructions. */
#include "decode.h"
#include "exec.h"

#include <string.h>

static int take_one_of(decoder *dc, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (decode_take(dc, names[i]))
            return i;
    decode_unknown(dc);
}

static void need(decoder *dc, const char *modifier)
{
    if (!decode_take(dc, modifier))
        decode_unknown(dc);
}

/* ---------------------------------------------------------------- exchanges */

static void decode_shfl(decoder *dc)
{
    static const char *const modes[] = {"up", "down", "bfly", "idx"};
    need(dc, "sync");
    int mode = take_one_of(dc, modes, 4);
    need(dc, "b32");
    decode_all_taken(dc);
    decode_arity(dc, 5);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], WIDTH_32), b = decode_source(dc, &o[2], WIDTH_32);
    sim_operand c = decode_source(dc, &o[3], WIDTH_32), members = decode_source(dc, &o[4], WIDTH_32);
    sim_operand d = decode_destination(dc, &o[0], WIDTH_32);
    sim_operand p =
        o[0].second ? decode_destination(dc, o[0].second, WIDTH_PRED) : decode_temporary(dc, WIDTH_PRED);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_shuffle, INSTRUCTION_EXCHANGE);
    decode_operands(e, d, a, b, c);
    e->x[0] = (uint8_t)mode;
    e->list_defs = 1;
    decode_list(dc, p);
    decode_list(dc, members);
}

static void decode_vote(decoder *dc)
{
    static const char *const modes[] = {"all", "any", "uni", "ballot"};
    need(dc, "sync");
    int mode = take_one_of(dc, modes, 4);
    need(dc, mode == SIM_VOTE_BALLOT ? "b32" : "pred");
    decode_all_taken(dc);
    decode_arity(dc, 3);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_predicate(dc, &o[1]), members = decode_source(dc, &o[2], WIDTH_32);
    sim_operand d = decode_destination(dc, &o[0], mode == SIM_VOTE_BALLOT ? WIDTH_32 : WIDTH_PRED);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_vote, INSTRUCTION_EXCHANGE);
    decode_operands(e, d, a, members, SIM_ZERO);
    e->x[0] = (uint8_t)mode;
}

static void decode_match(decoder *dc)
{
    bool all = decode_take(dc, "all");
    if (!all)
        need(dc, "any");
    need(dc, "sync");
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 3);
    if (type != PTX_B32 && type != PTX_B64)
        decode_unknown(dc);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], decode_type_width(type)),
                members = decode_source(dc, &o[2], WIDTH_32);
    sim_operand d = decode_destination(dc, &o[0], WIDTH_32);
    sim_operand p = all && o[0].second ? decode_destination(dc, o[0].second, WIDTH_PRED)
                                       : decode_temporary(dc, WIDTH_PRED);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_match, INSTRUCTION_EXCHANGE);
    decode_operands(e, d, a, members, SIM_ZERO);
    e->x[0] = all;
    e->x[1] = type == PTX_B64;
    e->list_defs = 1;
    decode_list(dc, p);
}

static void decode_redux(decoder *dc)
{
    static const char *const names[] = {"and", "or",  "xor", "cas", "exch",
                                        "add", "inc", "dec", "min", "max"};
    need(dc, "sync");
    int op = take_one_of(dc, names, SIM_ATOMIC_MAX + 1);
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 3);
    bool bits = op <= SIM_ATOMIC_XOR;
    if (bits ? type != PTX_B32
             : (op != SIM_ATOMIC_ADD && op < SIM_ATOMIC_MIN) || (type != PTX_U32 && type != PTX_S32))
        decode_unknown(dc);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], WIDTH_32), members = decode_source(dc, &o[2], WIDTH_32);
    sim_operand d = decode_destination(dc, &o[0], WIDTH_32);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_reduce, INSTRUCTION_EXCHANGE);
    decode_operands(e, d, a, members, SIM_ZERO);
    e->x[0] = (uint8_t)op;
    e->x[1] = type == PTX_S32;
}

/* elect.sync d|p, members: the lowest lane becomes the leader. */
static void decode_elect(decoder *dc)
{
    need(dc, "sync");
    decode_all_taken(dc);
    decode_arity(dc, 2);
    const ptx_operand *o = dc->in->operands;
    sim_operand members = decode_source(dc, &o[1], WIDTH_32), d = decode_destination(dc, &o[0], WIDTH_32);
    sim_operand p =
        o[0].second ? decode_destination(dc, o[0].second, WIDTH_PRED) : decode_temporary(dc, WIDTH_PRED);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_elect, INSTRUCTION_EXCHANGE);
    decode_operands(e, d, SIM_ZERO, members, SIM_ZERO);
    e->list_defs = 1;
    decode_list(dc, p);
}

static void decode_activemask(decoder *dc)
{
    need(dc, "b32");
    decode_all_taken(dc);
    decode_arity(dc, 1);
    sim_operand d = decode_destination(dc, &dc->in->operands[0], WIDTH_32);
    decode_emit_handler(dc, sim_exec_activemask, INSTRUCTION_EXCHANGE)->d = d;
}

/* ---------------------------------------------------------------- barriers, fences */

static void barrier_red(decoder *dc)
{
    static const char *const names[] = {"popc", "and", "or"};
    int kind = SIM_BARRIER_POPC + take_one_of(dc, names, 3);
    need(dc, kind == SIM_BARRIER_POPC ? "u32" : "pred");
    decode_take(dc, "aligned");
    decode_all_taken(dc);
    if (dc->in->count != 3)
        decode_arity(dc, 4);
    bool counted = dc->in->count == 4;
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], WIDTH_32);
    sim_operand b = counted ? decode_source(dc, &o[2], WIDTH_32) : SIM_ZERO;
    sim_operand c = decode_predicate(dc, &o[2 + counted]);
    sim_operand d = decode_destination(dc, &o[0], kind == SIM_BARRIER_POPC ? WIDTH_32 : WIDTH_PRED);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_barrier, INSTRUCTION_SYNC);
    decode_operands(e, d, a, b, c);
    e->x[0] = (uint8_t)kind;
    e->x[1] = counted;
}

static void decode_bar(decoder *dc)
{
    decode_take(dc, "cta");
    if (decode_take(dc, "warp")) {
        need(dc, "sync");
        decode_all_taken(dc);
        decode_arity(dc, 1);
        sim_operand members = decode_source(dc, &dc->in->operands[0], WIDTH_32);
        decode_emit_handler(dc, sim_exec_warp_sync, INSTRUCTION_SYNC)->b = members;
        return;
    }
    if (decode_take(dc, "red")) {
        barrier_red(dc);
        return;
    }
    bool arrive = decode_take(dc, "arrive");
    if (!arrive)
        need(dc, "sync");
    decode_take(dc, "aligned");
    decode_all_taken(dc);
    if (dc->in->count != 2)
        decode_arity(dc, arrive ? 2 : 1);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[0], WIDTH_32);
    sim_operand b = dc->in->count == 2 ? decode_source(dc, &o[1], WIDTH_32) : SIM_ZERO;
    sim_instruction *e = decode_emit_handler(dc, sim_exec_barrier, INSTRUCTION_SYNC);
    decode_operands(e, SIM_ZERO, a, b, SIM_ZERO);
    e->x[0] = arrive ? SIM_BARRIER_ARRIVE : SIM_BARRIER_SYNC;
    e->x[1] = dc->in->count == 2;
}

static void decode_fence(decoder *dc)
{
    static const char *const known[] = {"gl", "cta", "gpu", "sys", "sc", "acq_rel", "cluster"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        decode_take(dc, known[i]);
    decode_all_taken(dc);
    decode_arity(dc, 0);
    decode_emit_handler(dc, sim_exec_fence, INSTRUCTION_SYNC);
}

/* ---------------------------------------------------------------- matrices */

static sim_operand matrix_address(decoder *dc, const ptx_operand *o, uint64_t *offset, bool *is_64)
{
    if (o->kind != PTX_OPERAND_ADDRESS)
        decode_fail(dc, XQ_ERROR_DEVICE, "expected an address");
    const ptx_operand *e = &o->elements[0];
    *is_64 = decode_width_of(dc, e, WIDTH_64) == WIDTH_64;
    *offset = o->bits;
    return decode_source(dc, e, *is_64 ? WIDTH_64 : WIDTH_32);
}

static void decode_ldmatrix(decoder *dc)
{
    static const char *const counts[] = {"x1", "x2", "", "x4"};
    bool store = !strcmp(dc->parts[0], "stmatrix");
    need(dc, "sync");
    need(dc, "aligned");
    need(dc, "m8n8");
    int count = 1 + take_one_of(dc, counts, 4);
    bool trans = decode_take(dc, "trans");
    if (!decode_take(dc, "shared"))
        need(dc, "shared::cta");
    need(dc, "b16");
    decode_all_taken(dc);
    decode_arity(dc, 2);
    const ptx_operand *registers = &dc->in->operands[store], *single = registers;
    if (registers->kind == PTX_OPERAND_VECTOR ? registers->count != count : count != 1)
        decode_fail(dc, XQ_ERROR_DEVICE, "expected %d registers", count);
    uint64_t offset;
    bool is_64;
    sim_operand address = matrix_address(dc, &dc->in->operands[!store], &offset, &is_64), r[4];
    for (int i = 0; i < count; i++) {
        const ptx_operand *o = registers->kind == PTX_OPERAND_VECTOR ? &registers->elements[i] : single;
        r[i] = store ? decode_source(dc, o, WIDTH_32) : decode_destination(dc, o, WIDTH_32);
    }
    sim_instruction *e = decode_emit_handler(
        dc, store ? dc->lanes->handlers->stmatrix : dc->lanes->handlers->ldmatrix, INSTRUCTION_SHARED);
    e->a = address;
    e->immediate = offset;
    e->x[0] = (uint8_t)count;
    e->x[1] = trans;
    e->x[SIM_X_ADDRESS_64] = is_64;
    e->list_defs = store ? 0 : (uint8_t)count;
    for (int i = 0; i < count; i++)
        decode_list(dc, r[i]);
}

static void decode_movmatrix(decoder *dc)
{
    need(dc, "sync");
    need(dc, "aligned");
    need(dc, "m8n8");
    need(dc, "trans");
    need(dc, "b16");
    decode_all_taken(dc);
    decode_arity(dc, 2);
    sim_operand a = decode_source(dc, &dc->in->operands[1], WIDTH_32);
    sim_operand d = decode_destination(dc, &dc->in->operands[0], WIDTH_32);
    sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->movmatrix, INSTRUCTION_EXCHANGE);
    decode_operands(e, d, a, SIM_ZERO, SIM_ZERO);
}

struct shape {
    const char *name;
    int k;
    enum ptx_type a, b, c;     /* c: also the type of d */
    enum sim_lane_matrix lane; /* for s8 and u8: the signs, as mma_integer takes them (exec.h) */
    enum matrix_type counted;
};

#define S8S8(name, k)                                                                                      \
    {name, k, PTX_S8, PTX_S8, PTX_S32, 3, MATRIX_S8}, {name, k, PTX_U8, PTX_U8, PTX_S32, 0, MATRIX_S8},    \
        {name, k, PTX_S8, PTX_U8, PTX_S32, 1, MATRIX_S8},                                                  \
    {                                                                                                      \
        name, k, PTX_U8, PTX_S8, PTX_S32, 2, MATRIX_S8                                                     \
    }
#define FP8(a, b, lane)                                                                                    \
    {                                                                                                      \
        "m16n8k32", 32, a, b, PTX_F32, lane, MATRIX_E4M3                                                   \
    }
static const struct shape shapes[] = {
    {"m16n8k16", 16, PTX_F16, PTX_F16, PTX_F32, LANE_MATRIX_F16, MATRIX_F16},
    {"m16n8k16", 16, PTX_F16, PTX_F16, PTX_F16, LANE_MATRIX_F16, MATRIX_F16},
    {"m16n8k8", 8, PTX_F16, PTX_F16, PTX_F32, LANE_MATRIX_F16, MATRIX_F16},
    {"m16n8k8", 8, PTX_F16, PTX_F16, PTX_F16, LANE_MATRIX_F16, MATRIX_F16},
    {"m16n8k16", 16, PTX_BF16, PTX_BF16, PTX_F32, LANE_MATRIX_BF16, MATRIX_BF16},
    {"m16n8k8", 8, PTX_BF16, PTX_BF16, PTX_F32, LANE_MATRIX_BF16, MATRIX_BF16},
    FP8(PTX_E4M3, PTX_E4M3, LANE_MATRIX_E4M3),
    FP8(PTX_E5M2, PTX_E5M2, LANE_MATRIX_E5M2),
    S8S8("m16n8k16", 16),
    S8S8("m16n8k32", 32),
};

static const struct shape *find_shape(decoder *dc)
{
    const char *name = "";
    for (int i = 1; i < dc->part_count; i++)
        if (dc->parts[i][0] == 'm' && strchr(dc->parts[i], 'n'))
            name = dc->parts[i];
    enum ptx_type t[4];
    for (int i = 0; i < 4; i++)
        t[i] = decode_take_type(dc);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        if (!strcmp(s->name, name) && s->c == t[0] && s->a == t[1] && s->b == t[2] && s->c == t[3]) {
            decode_take(dc, s->name);
            return s;
        }
    }
    decode_unknown(dc);
}

static void decode_mma(decoder *dc)
{
    need(dc, "sync");
    need(dc, "aligned");
    need(dc, "row");
    need(dc, "col");
    bool satfinite = decode_take(dc, "satfinite");
    const struct shape *s = find_shape(dc);
    decode_take(dc, "kind::f8f6f4");
    decode_all_taken(dc);
    decode_arity(dc, 4);
    bool integer = s->c == PTX_S32;
    if (satfinite && !integer)
        decode_unknown(dc);
    int per_word = 32 / ptx_type_bits(s->a);
    int counts[4] = {s->c == PTX_F16 ? 2 : 4, 16 * s->k / 32 / per_word, 8 * s->k / 32 / per_word, 0};
    counts[3] = counts[0];
    sim_operand r[16];
    int n = 0;
    for (int i = 0; i < 4; i++) {
        const ptx_operand *o = &dc->in->operands[i];
        if (o->kind == PTX_OPERAND_VECTOR ? o->count != counts[i] : counts[i] != 1)
            decode_fail(dc, XQ_ERROR_DEVICE, "operand %d of mma does not have %d registers", i + 1,
                        counts[i]);
        for (int k = 0; k < counts[i]; k++) {
            const ptx_operand *e = o->kind == PTX_OPERAND_VECTOR ? &o->elements[k] : o;
            r[n++] = i ? decode_source(dc, e, WIDTH_32) : decode_destination(dc, e, WIDTH_32);
        }
    }
    sim_instruction *e =
        decode_emit_handler(dc, integer ? dc->lanes->handlers->mma_integer : dc->lanes->handlers->mma_float,
                            INSTRUCTION_MATRIX);
    e->x[0] = (uint8_t)s->lane;
    e->x[1] = (uint8_t)s->k;
    e->x[2] = integer ? satfinite : s->c == PTX_F16;
    e->x[3] = (uint8_t)counts[0];
    e->x[4] = (uint8_t)counts[1];
    e->x[5] = (uint8_t)counts[2];
    e->x[6] = (uint8_t)s->counted;
    e->list_defs = (uint8_t)counts[0];
    for (int i = 0; i < n; i++)
        decode_list(dc, r[i]);
}

const decode_opcode decode_warp_opcodes[] = {{"shfl", decode_shfl},
                                             {"vote", decode_vote},
                                             {"match", decode_match},
                                             {"redux", decode_redux},
                                             {"elect", decode_elect},
                                             {"activemask", decode_activemask},
                                             {"bar", decode_bar},
                                             {"barrier", decode_bar},
                                             {"membar", decode_fence},
                                             {"fence", decode_fence},
                                             {"ldmatrix", decode_ldmatrix},
                                             {"stmatrix", decode_ldmatrix},
                                             {"movmatrix", decode_movmatrix},
                                             {"mma", decode_mma},
                                             {NULL, NULL}};
