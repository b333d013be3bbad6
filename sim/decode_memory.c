/* Decodes loads, stores, atomics, asynchronous copies and address conversions. */
#include "decode.h"
#include "exec.h"

#include <string.h>

static enum sim_space take_space(decoder *dc)
{
    static const struct {
        const char *name;
        enum sim_space space;
    } spaces[] = {{"global", SIM_SPACE_GLOBAL},      {"shared", SIM_SPACE_SHARED},
                  {"shared::cta", SIM_SPACE_SHARED}, {"local", SIM_SPACE_LOCAL},
                  {"const", SIM_SPACE_CONST},        {"param", SIM_SPACE_PARAM},
                  {"param::entry", SIM_SPACE_PARAM}, {"param::func", SIM_SPACE_PARAM}};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (decode_take(dc, spaces[i].name))
            return spaces[i].space;
    return SIM_SPACE_GENERIC;
}

/* Takes the modifiers for caching, ordering and scope. They change nothing here, because every access is
 * coherent, and ordered as the host's accesses are. Returns whether the access is volatile or ordered: two
 * such accesses are no race. */
static bool take_hints(decoder *dc)
{
    static const char *const strong[] = {"volatile", "relaxed", "acquire", "release"};
    bool is_strong = false;
    for (size_t i = 0; i < sizeof strong / sizeof *strong; i++)
        is_strong |= decode_take(dc, strong[i]);
    static const char *const hints[] = {"ca",   "cg",      "cs",  "lu",      "cv",  "wb",  "wt",   "nc",
                                        "weak", "acq_rel", "cta", "cluster", "gpu", "sys", "noftz"};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        decode_take(dc, hints[i]);
    for (int i = 1; i < dc->part_count; i++)
        if (!strncmp(dc->parts[i], "L1::", 4) || !strncmp(dc->parts[i], "L2::", 4)) {
            if (!strcmp(dc->parts[i], "L2::cache_hint"))
                decode_unknown(dc);
            decode_take(dc, dc->parts[i]);
            i--;
        }
    return is_strong;
}

static int take_count(decoder *dc)
{
    return decode_take(dc, "v2") ? 2 : decode_take(dc, "v4") ? 4 : decode_take(dc, "v8") ? 8 : 1;
}

struct address {
    sim_operand base;
    uint64_t offset;
    bool is_64;
};

static struct address decode_address(decoder *dc, const ptx_operand *o)
{
    if (o->kind != PTX_OPERAND_ADDRESS)
        decode_fail(dc, XQ_ERROR_DEVICE, "expected an address");
    const ptx_operand *e = &o->elements[0];
    if (e->kind == PTX_OPERAND_REGISTER) {
        bool is_64 = decode_width_of(dc, e, WIDTH_64) == WIDTH_64;
        return (struct address){decode_source(dc, e, is_64 ? WIDTH_64 : WIDTH_32), o->bits, is_64};
    }
    return (struct address){decode_source(dc, e, WIDTH_64), o->bits, true};
}

static int class_of(enum sim_space space)
{
    return space == SIM_SPACE_SHARED                                 ? INSTRUCTION_SHARED
           : space == SIM_SPACE_GLOBAL || space == SIM_SPACE_GENERIC ? INSTRUCTION_GLOBAL
                                                                     : INSTRUCTION_OTHER_MEMORY;
}

/* Parameters of called functions lie in local memory. Only the kernel's own parameters lie in parameter
 * space. */
static enum sim_space resolve_param(const decoder *dc, const ptx_operand *address)
{
    const ptx_operand *e = &address->elements[0];
    if (dc->frame->caller)
        return SIM_SPACE_LOCAL;
    if (e->kind == PTX_OPERAND_VARIABLE && e->variable->id >= dc->frame->function->param_count)
        return SIM_SPACE_LOCAL;
    return SIM_SPACE_PARAM;
}

/* A kernel parameter at a known offset is a constant of the launch. */
static sim_operand param_constant(decoder *dc, uint64_t at, int bytes, bool is_signed, bool wide)
{
    sim_program *p = dc->program;
    for (int i = 0; i < dc->constant_count; i++) {
        const decode_constant *c = &dc->constants[i];
        if (c->param >= 0 && c->wide == wide && p->param_uses[c->param].at == at &&
            p->param_uses[c->param].bytes == bytes && p->param_uses[c->param].is_signed == is_signed)
            return i * 2 + 1;
    }
    SIM_ARENA_GROW(dc->arena, p->param_uses, p->param_use_count, dc->param_capacity);
    p->param_uses[p->param_use_count] = (sim_param_use){0, (uint32_t)at, (uint8_t)bytes, wide, is_signed};
    SIM_ARENA_GROW(dc->arena, dc->constants, dc->constant_count, dc->constant_capacity);
    dc->constants[dc->constant_count] = (decode_constant){0, wide, p->param_use_count++};
    return dc->constant_count++ * 2 + 1;
}

static const ptx_operand *vector_element(const ptx_operand *o, int i)
{
    return o->kind == PTX_OPERAND_VECTOR ? &o->elements[i] : o;
}

static void load_param(decoder *dc, uint64_t at, enum ptx_type type, int count, bool is_signed)
{
    int bytes = ptx_type_bits(type) / 8;
    for (int i = 0; i < count; i++, at += (uint64_t)bytes) {
        const ptx_operand *o = vector_element(&dc->in->operands[0], i);
        if (o->kind == PTX_OPERAND_SINK)
            continue;
        if (at + (uint64_t)bytes > dc->program->param_bytes || at % (uint64_t)bytes)
            decode_fail(dc, XQ_ERROR_DEVICE, "reads outside the kernel's %zu bytes of parameters",
                        dc->program->param_bytes);
        enum decode_width width = decode_width_of(dc, o, decode_type_width(type));
        sim_operand d = decode_destination(dc, o, width);
        sim_instruction *e = decode_emit_lane(dc,
                                              width == WIDTH_64   ? LANE_mov_64
                                              : width == WIDTH_16 ? LANE_low_16
                                                                  : LANE_mov_32,
                                              width, i ? SIM_UNCOUNTED : INSTRUCTION_OTHER_MEMORY);
        e->d = d;
        sim_operand c = param_constant(dc, at, bytes, is_signed, width == WIDTH_64);
        dc->code[dc->code_count - 1].a = c;
    }
}

static bool is_signed_type(enum ptx_type t)
{
    return t >= PTX_S8 && t <= PTX_S64;
}

static void check_vector(decoder *dc, const ptx_operand *o, int count, enum ptx_type type)
{
    int bits = ptx_type_bits(type);
    if (bits < 8 || bits > 64 || bits * count > 128)
        decode_unknown(dc);
    if ((o->kind == PTX_OPERAND_VECTOR ? o->count : 1) != count)
        decode_fail(dc, XQ_ERROR_DEVICE, "the vector does not have %d elements", count);
}

/* Sets the fields that loads and stores have in common. */
static void set_access(sim_instruction *e, const struct address *address, enum sim_space space,
                       enum ptx_type type, int count, bool strong)
{
    e->a = address->base;
    e->immediate = address->offset;
    e->x[SIM_X_SPACE] = (uint8_t)space;
    e->x[SIM_X_BYTES] = (uint8_t)(ptx_type_bits(type) / 8);
    e->x[SIM_X_COUNT] = (uint8_t)count;
    e->x[SIM_X_ADDRESS_64] = address->is_64;
    e->x[SIM_X_STRONG] = strong;
}

static void decode_ld(decoder *dc)
{
    enum sim_space space = take_space(dc);
    bool strong = take_hints(dc);
    int count = take_count(dc);
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 2);
    const ptx_operand *o = dc->in->operands;
    check_vector(dc, &o[0], count, type);
    struct address address = {0};
    if (o[1].kind != PTX_OPERAND_ADDRESS)
        decode_fail(dc, XQ_ERROR_DEVICE, "expected an address");
    if (space == SIM_SPACE_PARAM) {
        space = resolve_param(dc, &o[1]);
        const ptx_operand *e = &o[1].elements[0];
        if (space == SIM_SPACE_PARAM && e->kind == PTX_OPERAND_VARIABLE) {
            load_param(dc, decode_variable(dc, e->variable) + o[1].bits, type, count, is_signed_type(type));
            return;
        }
    }
    address = decode_address(dc, &o[1]);
    enum decode_width width = decode_width_of(dc, vector_element(&o[0], 0), decode_type_width(type));
    sim_operand d[8];
    for (int i = 0; i < count; i++) {
        const ptx_operand *e = vector_element(&o[0], i);
        if (decode_width_of(dc, e, width) != width && width != WIDTH_32)
            decode_fail(dc, XQ_ERROR_DEVICE, "registers of different widths");
        d[i] = decode_destination(dc, e, width);
    }
    sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->load, class_of(space));
    set_access(e, &address, space, type, count, strong);
    e->x[SIM_X_SIGNED] = is_signed_type(type);
    e->x[SIM_X_REGISTER_BITS] = width == WIDTH_64 ? 64 : width == WIDTH_16 ? 16 : 32;
    e->list_defs = (uint8_t)count;
    for (int i = 0; i < count; i++)
        decode_list(dc, d[i]);
}

static void decode_st(decoder *dc)
{
    enum sim_space space = take_space(dc);
    bool strong = take_hints(dc);
    int count = take_count(dc);
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 2);
    const ptx_operand *o = dc->in->operands;
    check_vector(dc, &o[1], count, type);
    if (space == SIM_SPACE_CONST)
        decode_unknown(dc);
    if (space == SIM_SPACE_PARAM)
        space = SIM_SPACE_LOCAL; /* arguments of a call, results of a function */
    struct address address = decode_address(dc, &o[0]);
    sim_operand v[8];
    for (int i = 0; i < count; i++)
        v[i] = decode_source(dc, vector_element(&o[1], i), decode_type_width(type));
    sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->store, class_of(space));
    set_access(e, &address, space, type, count, strong);
    for (int i = 0; i < count; i++)
        decode_list(dc, v[i]);
}

static bool atomic_known(enum sim_atomic op, enum ptx_type t)
{
    int bits = ptx_type_bits(t);
    switch (op) {
    case SIM_ATOMIC_AND:
    case SIM_ATOMIC_OR:
    case SIM_ATOMIC_XOR:
        return t == PTX_B32 || t == PTX_B64;
    case SIM_ATOMIC_CAS:
        return t == PTX_B16 || bits == 32 || bits == 64;
    case SIM_ATOMIC_EXCH:
        return bits == 32 || bits == 64;
    case SIM_ATOMIC_INC:
    case SIM_ATOMIC_DEC:
        return t == PTX_U32;
    case SIM_ATOMIC_ADD:
        return t == PTX_U32 || t == PTX_S32 || t == PTX_U64 || t == PTX_S64 ||
               (t >= PTX_F16 && t <= PTX_F64);
    default:
        return t == PTX_U32 || t == PTX_S32 || t == PTX_U64 || t == PTX_S64;
    }
}

static int take_atomic(decoder *dc)
{
    static const char *const names[] = {"and", "or",  "xor", "cas", "exch",
                                        "add", "inc", "dec", "min", "max"};
    for (int i = 0; i <= SIM_ATOMIC_MAX; i++)
        if (decode_take(dc, names[i]))
            return i;
    decode_unknown(dc);
}

static void decode_atom(decoder *dc)
{
    bool returns = !strcmp(dc->parts[0], "atom");
    enum sim_space space = take_space(dc);
    take_hints(dc);
    enum sim_atomic op = (enum sim_atomic)take_atomic(dc);
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 2 + returns + (op == SIM_ATOMIC_CAS));
    if (!atomic_known(op, type) ||
        (space != SIM_SPACE_GENERIC && space != SIM_SPACE_GLOBAL && space != SIM_SPACE_SHARED))
        decode_unknown(dc);
    const ptx_operand *o = dc->in->operands;
    enum decode_width width = decode_type_width(type);
    struct address address = decode_address(dc, &o[returns]);
    sim_operand b = decode_source(dc, &o[returns + 1], width);
    sim_operand c = op == SIM_ATOMIC_CAS ? decode_source(dc, &o[returns + 2], width) : SIM_ZERO;
    sim_operand d = returns ? decode_destination(dc, &o[0], width) : decode_temporary(dc, width);
    sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->atomic, class_of(space));
    decode_operands(e, d, address.base, b, c);
    e->immediate = address.offset;
    e->x[SIM_X_SPACE] = (uint8_t)space;
    e->x[1] = (uint8_t)op;
    e->x[2] = (uint8_t)type;
    e->x[3] = returns;
    e->x[SIM_X_ADDRESS_64] = address.is_64;
}

static void decode_copy(decoder *dc)
{
    bool cg = decode_take(dc, "cg");
    if (!cg && !decode_take(dc, "ca"))
        decode_unknown(dc);
    if (!decode_take(dc, "shared") && !decode_take(dc, "shared::cta"))
        decode_unknown(dc);
    if (!decode_take(dc, "global"))
        decode_unknown(dc);
    take_hints(dc);
    decode_all_taken(dc);
    if (dc->in->count != 3)
        decode_arity(dc, 4);
    const ptx_operand *o = dc->in->operands;
    struct address to = decode_address(dc, &o[0]), from = decode_address(dc, &o[1]);
    uint64_t bytes = decode_integer(dc, &o[2]);
    if (bytes != 16 && (cg || (bytes != 4 && bytes != 8)))
        decode_fail(dc, XQ_ERROR_DEVICE, "cp.async%s copies %s bytes", cg ? ".cg" : ".ca",
                    cg ? "16" : "4, 8 or 16");
    bool ignore = dc->in->count == 4 && decode_width_of(dc, &o[3], WIDTH_32) == WIDTH_PRED;
    sim_operand size = dc->in->count == 3 ? decode_constant_value(dc, bytes, false)
                       : ignore           ? decode_predicate(dc, &o[3])
                                          : decode_source(dc, &o[3], WIDTH_32);
    sim_operand offset = decode_constant_value(dc, from.offset, true);
    sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->copy, INSTRUCTION_GLOBAL);
    e->a = to.base;
    e->immediate = to.offset;
    e->b = from.base;
    e->x[0] = ignore;
    e->x[1] = (uint8_t)bytes;
    e->x[2] = to.is_64;
    e->x[3] = from.is_64;
    decode_list(dc, size);
    decode_list(dc, offset);
}

static void decode_cp(decoder *dc)
{
    if (!decode_take(dc, "async"))
        decode_unknown(dc);
    if (decode_take(dc, "commit_group")) {
        decode_all_taken(dc);
        decode_arity(dc, 0);
        decode_emit_handler(dc, dc->lanes->handlers->commit, INSTRUCTION_SYNC);
    } else if (decode_take(dc, "wait_group")) {
        decode_all_taken(dc);
        decode_arity(dc, 1);
        uint64_t pending = decode_integer(dc, &dc->in->operands[0]);
        decode_emit_handler(dc, dc->lanes->handlers->wait, INSTRUCTION_SYNC)->immediate = pending;
    } else if (decode_take(dc, "wait_all")) {
        decode_all_taken(dc);
        decode_arity(dc, 0);
        sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->wait, INSTRUCTION_SYNC);
        e->x[0] = true; /* it waits for uncommitted copies too */
    } else
        decode_copy(dc);
}

static uint64_t space_base(decoder *dc, enum sim_space space)
{
    switch (space) {
    case SIM_SPACE_GLOBAL:
    case SIM_SPACE_CONST:
        return 0;
    case SIM_SPACE_SHARED:
        return SIM_SHARED_BASE;
    case SIM_SPACE_LOCAL:
        return SIM_LOCAL_BASE;
    case SIM_SPACE_PARAM:
        return dc->frame->caller ? SIM_LOCAL_BASE : SIM_PARAM_BASE;
    default:
        decode_unknown(dc);
    }
}

static void decode_cvta(decoder *dc)
{
    bool to = decode_take(dc, "to");
    uint64_t base = space_base(dc, take_space(dc));
    if (!decode_take(dc, "u64"))
        decode_unknown(dc);
    decode_all_taken(dc);
    decode_arity(dc, 2);
    sim_operand a = decode_source(dc, &dc->in->operands[1], WIDTH_64);
    sim_operand d = decode_destination(dc, &dc->in->operands[0], WIDTH_64);
    sim_operand c = decode_constant_value(dc, to ? -base : base, true);
    sim_instruction *e =
        decode_emit_lane(dc, base ? LANE_add_64 : LANE_mov_64, WIDTH_64, INSTRUCTION_INTEGER);
    decode_operands(e, d, a, c, SIM_ZERO);
}

static void decode_isspacep(decoder *dc)
{
    enum sim_space space = take_space(dc);
    decode_all_taken(dc);
    decode_arity(dc, 2);
    sim_operand a = decode_source(dc, &dc->in->operands[1], WIDTH_64);
    sim_operand d = decode_destination(dc, &dc->in->operands[0], WIDTH_PRED);
    sim_instruction *e = decode_emit_handler(dc, dc->lanes->handlers->isspacep, INSTRUCTION_INTEGER);
    decode_operands(e, d, a, SIM_ZERO, SIM_ZERO);
    e->x[0] = (uint8_t)space;
}

static void decode_prefetch(decoder *dc)
{
    decode_emit_handler(dc, sim_exec_nothing, INSTRUCTION_GLOBAL);
}

const decode_opcode decode_memory_opcodes[] = {{"ld", decode_ld},
                                               {"ldu", decode_ld},
                                               {"st", decode_st},
                                               {"atom", decode_atom},
                                               {"red", decode_atom},
                                               {"cp", decode_cp},
                                               {"cvta", decode_cvta},
                                               {"isspacep", decode_isspacep},
                                               {"prefetch", decode_prefetch},
                                               {"prefetchu", decode_prefetch},
                                               {"discard", decode_prefetch},
                                               {"applypriority", decode_prefetch},
                                               {NULL, NULL}};
