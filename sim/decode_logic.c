/* Decodes setp, set, mov, lop3, bfi and carries, whose opcodes do not fit a row of the table in
 * decode_arithmetic.c. */
#include "decode.h"
#include "exec.h"

#include <string.h>

/* ---------------------------------------------------------------- comparisons */

struct comparison {
    const char *name;
    const char *integer; /* the comparison that integers use, or NULL if only floats have it */
    enum sim_lane u32, s32, s16, u64, s64, f32, f64;
};

#define ORDER(name, op)                                                                                    \
    {                                                                                                      \
        name, #op, LANE_##op##_u32, LANE_##op##_s32, LANE_##op##_s16, LANE_##op##_u64, LANE_##op##_s64,    \
            LANE_##op##_f32, LANE_##op##_f64                                                               \
    }
#define EQUAL(op)                                                                                          \
    {                                                                                                      \
#op, #op, LANE_##op##_32, LANE_##op##_32, LANE_##op##_32, LANE_##op##_64, LANE_##op##_64,          \
            LANE_##op##_f32, LANE_##op##_f64                                                               \
    }
#define UNORDERED(op)                                                                                      \
    {                                                                                                      \
#op, NULL, 0, 0, 0, 0, 0, LANE_##op##_f32, LANE_##op##_f64                                         \
    }
static const struct comparison comparisons[] = {
    EQUAL(eq),       EQUAL(ne),       ORDER("lt", lt), ORDER("le", le), ORDER("gt", gt), ORDER("ge", ge),
    ORDER("lo", lt), ORDER("ls", le), ORDER("hi", gt), ORDER("hs", ge), UNORDERED(equ),  UNORDERED(neu),
    UNORDERED(ltu),  UNORDERED(leu),  UNORDERED(gtu),  UNORDERED(geu),  UNORDERED(num),  UNORDERED(nan)};

static const struct comparison *take_comparison(decoder *dc)
{
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++)
        if (decode_take(dc, comparisons[i].name))
            return &comparisons[i];
    decode_unknown(dc);
}

static bool is_half(enum ptx_type t)
{
    return t == PTX_F16 || t == PTX_BF16 || t == PTX_F16X2 || t == PTX_BF16X2;
}

static enum sim_lane comparison_lane(decoder *dc, const struct comparison *c, enum ptx_type type)
{
    if (type != PTX_F32 && type != PTX_F64 && !is_half(type) && !c->integer)
        decode_unknown(dc);
    bool unsigned_only = !strcmp(c->name, "lo") || !strcmp(c->name, "ls") || !strcmp(c->name, "hi") ||
                         !strcmp(c->name, "hs");
    bool equality = !strcmp(c->name, "eq") || !strcmp(c->name, "ne");
    switch (type) {
    case PTX_B16:
    case PTX_B32:
    case PTX_B64:
        if (!equality)
            decode_unknown(dc);
        return type == PTX_B64 ? c->u64 : c->u32;
    case PTX_U16:
    case PTX_U32:
        return c->u32;
    case PTX_U64:
        return c->u64;
    case PTX_S16:
    case PTX_S32:
    case PTX_S64:
        if (unsigned_only)
            decode_unknown(dc);
        return type == PTX_S16 ? c->s16 : type == PTX_S32 ? c->s32 : c->s64;
    case PTX_F64:
        return c->f64;
    case PTX_F32:
    case PTX_F16:
    case PTX_F16X2:
    case PTX_BF16:
    case PTX_BF16X2:
        if (unsigned_only)
            decode_unknown(dc);
        return c->f32;
    default:
        decode_unknown(dc);
    }
}

/* Converts a source to the form in which it is compared. Halves become f32; `part` 1 is the upper half of a
 * pair. `ftz` flushes the subnormals of f32 and f16. */
static sim_operand compared(decoder *dc, const ptx_operand *o, enum ptx_type type, int part, bool ftz)
{
    enum decode_width width = decode_type_width(type);
    sim_operand s = decode_source(dc, o, width);
    if (type == PTX_F32)
        return ftz ? decode_helper(dc, LANE_flush_f32, WIDTH_32, s, SIM_ZERO, SIM_ZERO) : s;
    if (!is_half(type))
        return s;
    if (type == PTX_F16X2 || type == PTX_BF16X2)
        s = decode_helper(dc, part ? LANE_high_16 : LANE_low_16, WIDTH_16, s, SIM_ZERO, SIM_ZERO);
    if (type == PTX_BF16 || type == PTX_BF16X2)
        return decode_helper(dc, LANE_cvt_f32_bf16, WIDTH_32, s, SIM_ZERO, SIM_ZERO);
    if (ftz)
        s = decode_helper(dc, LANE_flush_f16, WIDTH_16, s, SIM_ZERO, SIM_ZERO);
    return decode_helper(dc, LANE_cvt_f32_f16, WIDTH_32, s, SIM_ZERO, SIM_ZERO);
}

struct test {
    enum ptx_type type;
    enum sim_lane lane;
    bool ftz;
    int boolean; /* LANE_and_pred, LANE_or_pred, LANE_xor_pred, or -1 for none */
    const ptx_operand *with;
};

static int class_of(enum ptx_type type)
{
    return is_half(type)                        ? INSTRUCTION_HALF
           : type == PTX_F32 || type == PTX_F64 ? INSTRUCTION_FLOAT
                                                : INSTRUCTION_INTEGER;
}

/* Emits p = compare(a, b) for one part. The result is negated if `negate`, and then combined with a
 * predicate if the test has one. It counts as an instruction only if `counted`. */
static void emit_test(decoder *dc, const struct test *t, sim_operand p, int part, bool negate, bool counted)
{
    const ptx_operand *o = dc->in->operands;
    sim_operand a = compared(dc, &o[1], t->type, part, t->ftz),
                b = compared(dc, &o[2], t->type, part, t->ftz);
    bool simple = t->boolean < 0 && !negate;
    sim_operand with = t->boolean >= 0 ? decode_predicate(dc, t->with) : SIM_ZERO;
    sim_operand raw = simple ? p : decode_temporary(dc, WIDTH_PRED);
    sim_instruction *e =
        decode_emit_lane(dc, t->lane, WIDTH_PRED, counted ? class_of(t->type) : SIM_UNCOUNTED);
    decode_operands(e, raw, a, b, SIM_ZERO);
    if (simple)
        return;
    if (negate)
        raw = decode_helper(dc, LANE_not_pred, WIDTH_PRED, raw, SIM_ZERO, SIM_ZERO);
    e = decode_emit_lane(dc, t->boolean < 0 ? LANE_mov_pred : (enum sim_lane)t->boolean, WIDTH_PRED,
                         SIM_UNCOUNTED);
    decode_operands(e, p, raw, with, SIM_ZERO);
}

/* Takes .and, .or or .xor, which combine the result with a predicate, the fourth operand. */
static void take_boolean(decoder *dc, struct test *t)
{
    static const struct {
        const char *name;
        enum sim_lane lane;
    } booleans[] = {{"and", LANE_and_pred}, {"or", LANE_or_pred}, {"xor", LANE_xor_pred}};
    for (int i = 0; i < 3; i++)
        if (decode_take(dc, booleans[i].name)) {
            t->boolean = (int)booleans[i].lane;
            decode_arity(dc, 4);
            t->with = &dc->in->operands[3];
            return;
        }
    decode_arity(dc, 3);
}

/* Takes the modifiers of set and setp. `result` receives the type that set writes, which stands before the
 * type of the operands. It is NULL for setp. */
static struct test take_test(decoder *dc, enum ptx_type *result)
{
    struct test t = {.boolean = -1};
    const struct comparison *c = take_comparison(dc);
    take_boolean(dc, &t);
    t.ftz = decode_take(dc, "ftz");
    if (result)
        *result = decode_take_type(dc);
    t.type = decode_take_type(dc);
    t.lane = comparison_lane(dc, c, t.type);
    decode_all_taken(dc);
    return t;
}

static void decode_setp(decoder *dc)
{
    struct test t = take_test(dc, NULL);
    const ptx_operand *o = dc->in->operands;
    bool pair = t.type == PTX_F16X2 || t.type == PTX_BF16X2;
    if (pair && !o->second)
        decode_fail(dc, XQ_ERROR_DEVICE, "setp of pairs writes p|q");
    /* p may be the predicate that the second test is combined with. So it is computed aside, and moved at
     * the end. */
    sim_operand p = decode_destination(dc, o, WIDTH_PRED);
    if (!o->second) {
        emit_test(dc, &t, p, 0, false, true);
        return;
    }
    sim_operand q = decode_destination(dc, o->second, WIDTH_PRED), aside = decode_temporary(dc, WIDTH_PRED);
    emit_test(dc, &t, aside, 0, false, true);
    emit_test(dc, &t, q, pair, !pair, false);
    sim_instruction *e = decode_emit_lane(dc, LANE_mov_pred, WIDTH_PRED, SIM_UNCOUNTED);
    decode_operands(e, p, aside, SIM_ZERO, SIM_ZERO);
}

static void decode_set(decoder *dc)
{
    enum ptx_type result;
    struct test t = take_test(dc, &result);
    uint64_t yes = result == PTX_F32                            ? 0x3f800000
                   : result == PTX_F16 || result == PTX_F16X2   ? 0x3c00
                   : result == PTX_BF16 || result == PTX_BF16X2 ? 0x3f80
                                                                : 0xffffffff;
    enum decode_width width = decode_type_width(result);
    if (width == WIDTH_64)
        decode_unknown(dc);
    bool pair = t.type == PTX_F16X2 || t.type == PTX_BF16X2;
    if (width == WIDTH_16 || pair)
        yes &= 0xffff;
    sim_operand parts[2] = {SIM_ZERO, SIM_ZERO};
    sim_operand constant = decode_constant_value(dc, yes, false);
    for (int i = 0; i < 1 + pair; i++) {
        sim_operand p = decode_temporary(dc, WIDTH_PRED);
        emit_test(dc, &t, p, i, false, i == 0);
        parts[i] = decode_helper(dc, LANE_selp_32, WIDTH_32, constant, SIM_ZERO, p);
    }
    sim_operand d = decode_destination(dc, &dc->in->operands[0], width);
    sim_instruction *e = decode_emit_lane(dc, pair ? LANE_pack_16 : LANE_mov_32, WIDTH_32, SIM_UNCOUNTED);
    decode_operands(e, d, parts[0], parts[1], SIM_ZERO);
}

/* ---------------------------------------------------------------- moves */

static bool is_clock(const ptx_operand *o)
{
    return o->kind == PTX_OPERAND_SPECIAL &&
           (!strcmp(o->name, "%clock") || !strcmp(o->name, "%clock64") || !strcmp(o->name, "%clock_hi") ||
            !strcmp(o->name, "%globaltimer"));
}

static void emit_move(decoder *dc, sim_operand d, sim_operand a, enum sim_lane lane,
                      enum decode_width width, uint64_t immediate, bool counted)
{
    sim_instruction *e = decode_emit_lane(dc, lane, width, counted ? INSTRUCTION_INTEGER : SIM_UNCOUNTED);
    decode_operands(e, d, a, SIM_ZERO, SIM_ZERO);
    e->immediate = immediate;
}

/* mov.b32 {a, b}, c and the like: one instruction for each part. The parts are registers that are narrower
 * than c, so none of them overwrites c. */
static void move_unpack(decoder *dc, int bits)
{
    const ptx_operand *to = &dc->in->operands[0];
    if (to->count != 2 && to->count != 4)
        decode_unknown(dc);
    int part = bits / to->count;
    sim_operand s = decode_source(dc, &dc->in->operands[1], bits == 64 ? WIDTH_64 : WIDTH_32);
    if ((bits == 32 && part != 16) || (bits == 64 && part != 32 && part != 16) || bits < 32)
        decode_unknown(dc);
    for (int i = 0; i < to->count; i++) {
        if (to->elements[i].kind == PTX_OPERAND_SINK)
            continue;
        enum sim_lane lane = bits == 32   ? (i ? LANE_high_16 : LANE_low_16)
                             : part == 32 ? (i ? LANE_high_32 : LANE_low_32)
                                          : LANE_part_16;
        sim_operand d = decode_destination(dc, &to->elements[i], part == 32 ? WIDTH_32 : WIDTH_16);
        emit_move(dc, d, s, lane, WIDTH_32, (uint64_t)(i * part), i == 0);
    }
}

static void move_pack(decoder *dc, int bits)
{
    const ptx_operand *from = &dc->in->operands[1];
    if (from->count != 2 && from->count != 4)
        decode_unknown(dc);
    int part = bits / from->count;
    if ((bits == 32 && part != 16) || (bits == 64 && part != 32 && part != 16) || bits < 32)
        decode_unknown(dc);
    sim_operand s[4] = {SIM_ZERO, SIM_ZERO, SIM_ZERO, SIM_ZERO};
    for (int i = 0; i < from->count; i++)
        s[i] = decode_source(dc, &from->elements[i], part == 32 ? WIDTH_32 : WIDTH_16);
    if (from->count == 4) {
        s[0] = decode_helper(dc, LANE_pack_16, WIDTH_32, s[0], s[1], SIM_ZERO);
        s[1] = decode_helper(dc, LANE_pack_16, WIDTH_32, s[2], s[3], SIM_ZERO);
    }
    sim_operand d = decode_destination(dc, &dc->in->operands[0], bits == 64 ? WIDTH_64 : WIDTH_32);
    sim_instruction *e = decode_emit_lane(dc, bits == 64 ? LANE_pack_32 : LANE_pack_16,
                                          bits == 64 ? WIDTH_64 : WIDTH_32, INSTRUCTION_INTEGER);
    decode_operands(e, d, s[0], s[1], SIM_ZERO);
}

static void decode_mov(decoder *dc)
{
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 2);
    const ptx_operand *to = &dc->in->operands[0], *from = &dc->in->operands[1];
    int bits = ptx_type_bits(type);
    if (to->kind == PTX_OPERAND_VECTOR) {
        move_unpack(dc, bits);
        return;
    }
    if (from->kind == PTX_OPERAND_VECTOR) {
        move_pack(dc, bits);
        return;
    }
    if (from->kind == PTX_OPERAND_NAME)
        decode_fail(dc, XQ_ERROR_DEVICE,
                    "%s is not declared, or is the address of a function (not supported)", from->name);
    enum decode_width width = decode_type_width(type);
    if (is_clock(from)) {
        sim_operand d = decode_destination(dc, to, width);
        sim_instruction *e = decode_emit_handler(dc, sim_exec_clock, INSTRUCTION_INTEGER);
        e->d = d;
        e->x[0] = width == WIDTH_64;
        return;
    }
    if (bits > 64)
        decode_unknown(dc);
    bool narrow_special = from->kind == PTX_OPERAND_SPECIAL && width == WIDTH_64;
    sim_operand s = decode_source(dc, from, narrow_special ? WIDTH_32 : width);
    enum sim_lane lane = width == WIDTH_PRED ? LANE_mov_pred
                         : narrow_special    ? LANE_extend_u32_64
                         : width == WIDTH_64 ? LANE_mov_64
                         : width == WIDTH_16 ? LANE_low_16
                                             : LANE_mov_32;
    emit_move(dc, decode_destination(dc, to, width), s, lane, width, 0, true);
}

/* ---------------------------------------------------------------- the rest */

static void decode_lop3(decoder *dc)
{
    if (!decode_take(dc, "b32"))
        decode_unknown(dc);
    decode_all_taken(dc);
    decode_arity(dc, 5);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], WIDTH_32), b = decode_source(dc, &o[2], WIDTH_32);
    sim_operand c = decode_source(dc, &o[3], WIDTH_32), d = decode_destination(dc, &o[0], WIDTH_32);
    uint64_t table = decode_integer(dc, &o[4]);
    sim_instruction *e = decode_emit_lane(dc, LANE_lop3_32, WIDTH_32, INSTRUCTION_INTEGER);
    decode_operands(e, d, a, b, c);
    e->immediate = table;
}

static void decode_bfi(decoder *dc)
{
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, 5);
    if (type != PTX_B32 && type != PTX_B64)
        decode_unknown(dc);
    enum decode_width width = decode_type_width(type);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], width), b = decode_source(dc, &o[2], width);
    sim_operand c = decode_source(dc, &o[3], WIDTH_32), length = decode_source(dc, &o[4], WIDTH_32);
    sim_operand d = decode_destination(dc, &o[0], width);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_insert, INSTRUCTION_INTEGER);
    decode_operands(e, d, a, b, c);
    e->x[0] = type == PTX_B64;
    e->target = type == PTX_B64 ? LANE_bfi_64 : LANE_bfi_32;
    decode_list(dc, length);
}

void decode_carry(decoder *dc)
{
    const char *base = dc->parts[0];
    bool reads = base[strlen(base) - 1] == 'c', writes = decode_take(dc, "cc");
    bool is_mad = !strncmp(base, "mad", 3), hi = is_mad && decode_take(dc, "hi");
    if (is_mad && !hi && !decode_take(dc, "lo"))
        decode_unknown(dc);
    enum ptx_type type = decode_take_type(dc);
    decode_all_taken(dc);
    decode_arity(dc, is_mad ? 4 : 3);
    if (type != PTX_U32 && type != PTX_S32 && type != PTX_U64 && type != PTX_S64)
        decode_unknown(dc);
    enum decode_width width = decode_type_width(type);
    const ptx_operand *o = dc->in->operands;
    sim_operand a = decode_source(dc, &o[1], width), b = decode_source(dc, &o[2], width);
    sim_operand c = is_mad ? decode_source(dc, &o[3], width) : SIM_ZERO,
                d = decode_destination(dc, &o[0], width);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_carry, INSTRUCTION_INTEGER);
    decode_operands(e, d, a, b, c);
    e->x[0] = !strncmp(base, "add", 3) ? SIM_CARRY_ADD
              : is_mad                 ? (hi ? SIM_CARRY_MAD_HI : SIM_CARRY_MAD_LO)
                                       : SIM_CARRY_SUB;
    e->x[1] = reads;
    e->x[2] = writes;
    e->x[3] = width == WIDTH_64;
    e->x[4] = type == PTX_S32 || type == PTX_S64;
}

void decode_cvt(decoder *dc); /* decode_convert.c */

const decode_opcode decode_logic_opcodes[] = {{"setp", decode_setp},  {"set", decode_set},
                                              {"mov", decode_mov},    {"lop3", decode_lop3},
                                              {"bfi", decode_bfi},    {"addc", decode_carry},
                                              {"subc", decode_carry}, {"madc", decode_carry},
                                              {"cvt", decode_cvt},    {NULL, NULL}};
