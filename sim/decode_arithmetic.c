/* Decodes arithmetic and logic with a table that has a row for each opcode and type. The key of a row
 * leaves out modifiers that its format allows: rounding, .ftz, .sat and .relu. */
#include "decode.h"
#include "exec.h"

#include <string.h>

struct row {
    const char *key;
    const char *signature; /* result, then sources; h, w, x: 16, 32, 64 bits; p: predicate */
    enum sim_lane lane;
    enum instruction_class class;
    enum sim_format format;
    uint64_t immediate;
};

#define I         INSTRUCTION_INTEGER
#define F         INSTRUCTION_FLOAT
#define HALF      INSTRUCTION_HALF
#define S         INSTRUCTION_SPECIAL
#define NO_FORMAT SIM_FORMAT_NONE
#define R(key, signature, lane, class, format, immediate)                                                  \
    {key, signature, LANE_##lane, class, format, immediate},
/* one lane function for both signs */
#define SIZES(op, lane)                                                                                    \
    R(op ".u16", "hhh", lane##_16, I, NO_FORMAT, 0)                                                        \
    R(op ".s16", "hhh", lane##_16, I, NO_FORMAT, 0)                                                        \
    R(op ".u32", "www", lane##_32, I, NO_FORMAT, 0)                                                        \
    R(op ".s32", "www", lane##_32, I, NO_FORMAT, 0)                                                        \
    R(op ".u64", "xxx", lane##_64, I, NO_FORMAT, 0)                                                        \
    R(op ".s64", "xxx", lane##_64, I, NO_FORMAT, 0)
#define SIGNED_TYPES(op, lane, extra)                                                                      \
    R(op ".u16", "hhh" extra, lane##_u16, I, NO_FORMAT, 0)                                                 \
    R(op ".s16", "hhh" extra, lane##_s16, I, NO_FORMAT, 0)                                                 \
    R(op ".u32", "www" extra, lane##_u32, I, NO_FORMAT, 0)                                                 \
    R(op ".s32", "www" extra, lane##_s32, I, NO_FORMAT, 0)
#define SIGNED_64(op, lane, signature)                                                                     \
    R(op ".u64", signature, lane##_u64, I, NO_FORMAT, 0)                                                   \
    R(op ".s64", signature, lane##_s64, I, NO_FORMAT, 0)
#define BITS(op, lane)                                                                                     \
    R(op ".b16", "hhh", lane##_32, I, NO_FORMAT, 0)                                                        \
    R(op ".b32", "www", lane##_32, I, NO_FORMAT, 0)                                                        \
    R(op ".b64", "xxx", lane##_64, I, NO_FORMAT, 0)                                                        \
    R(op ".pred", "ppp", lane##_pred, I, NO_FORMAT, 0)
#define FLOATS(op, lane, w, x)                                                                             \
    R(op ".f32", w, lane##_f32, F, SIM_FORMAT_F32, 0)                                                      \
    R(op ".f64", x, lane##_f64, F, SIM_FORMAT_F64, 0)
#define HALVES(op, lane, h, w, class)                                                                      \
    R(op ".f16", h, lane##_f16, class, SIM_FORMAT_F16, 0)                                                  \
    R(op ".f16x2", w, lane##_f16x2, class, SIM_FORMAT_F16X2, 0)                                            \
    R(op ".bf16", h, lane##_bf16, class, SIM_FORMAT_BF16, 0)                                               \
    R(op ".bf16x2", w, lane##_bf16x2, class, SIM_FORMAT_BF16X2, 0)
#define APPROX(op, lane) R(op ".approx.f32", "ww", lane##_f32, S, SIM_FORMAT_F32, 0)

// clang-format off
static const struct row rows[] = {
    /* integers */
    SIZES("add", add) SIZES("sub", sub) SIZES("mul.lo", mul_lo) SIGNED_TYPES("mul.hi", mul_hi, "")
    SIGNED_64("mul.hi", mul_hi, "xxx")
    R("mul.wide.u16", "whh", mul_wide_u16, I, NO_FORMAT, 0)
    R("mul.wide.s16", "whh", mul_wide_s16, I, NO_FORMAT, 0)
    R("mul.wide.u32", "xww", mul_wide_u32, I, NO_FORMAT, 0)
    R("mul.wide.s32", "xww", mul_wide_s32, I, NO_FORMAT, 0)
    R("mad.lo.u16", "hhhh", mad_lo_16, I, NO_FORMAT, 0)
    R("mad.lo.s16", "hhhh", mad_lo_16, I, NO_FORMAT, 0)
    R("mad.lo.u32", "wwww", mad_lo_32, I, NO_FORMAT, 0)
    R("mad.lo.s32", "wwww", mad_lo_32, I, NO_FORMAT, 0)
    R("mad.lo.u64", "xxxx", mad_lo_64, I, NO_FORMAT, 0)
    R("mad.lo.s64", "xxxx", mad_lo_64, I, NO_FORMAT, 0)
    R("mad.hi.u32", "wwww", mad_hi_u32, I, NO_FORMAT, 0)
    R("mad.hi.s32", "wwww", mad_hi_s32, I, NO_FORMAT, 0)
    R("mad.hi.sat.s32", "wwww", mad_hi_sat_s32, I, NO_FORMAT, 0)
    SIGNED_64("mad.hi", mad_hi, "xxxx")
    R("mad.wide.u16", "whhw", mad_wide_u16, I, NO_FORMAT, 0)
    R("mad.wide.s16", "whhw", mad_wide_s16, I, NO_FORMAT, 0)
    R("mad.wide.u32", "xwwx", mad_wide_u32, I, NO_FORMAT, 0)
    R("mad.wide.s32", "xwwx", mad_wide_s32, I, NO_FORMAT, 0)
    R("mul24.lo.u32", "www", mul24_lo_u32, I, NO_FORMAT, 0)
    R("mul24.lo.s32", "www", mul24_lo_s32, I, NO_FORMAT, 0)
    R("mul24.hi.u32", "www", mul24_hi_u32, I, NO_FORMAT, 0)
    R("mul24.hi.s32", "www", mul24_hi_s32, I, NO_FORMAT, 0)
    R("mad24.lo.u32", "wwww", mad24_lo_u32, I, NO_FORMAT, 0)
    R("mad24.lo.s32", "wwww", mad24_lo_s32, I, NO_FORMAT, 0)
    R("mad24.hi.u32", "wwww", mad24_hi_u32, I, NO_FORMAT, 0)
    R("mad24.hi.s32", "wwww", mad24_hi_s32, I, NO_FORMAT, 0)
    R("sad.u16", "hhhh", sad_u16, I, NO_FORMAT, 0)
    R("sad.s16", "hhhh", sad_s16, I, NO_FORMAT, 0)
    R("sad.u32", "wwww", sad_u32, I, NO_FORMAT, 0)
    R("sad.s32", "wwww", sad_s32, I, NO_FORMAT, 0)
    SIGNED_64("sad", sad, "xxxx") SIGNED_TYPES("div", div, "") SIGNED_64("div", div, "xxx")
    SIGNED_TYPES("rem", rem, "") SIGNED_64("rem", rem, "xxx") SIGNED_TYPES("min", min, "")
    SIGNED_64("min", min, "xxx") SIGNED_TYPES("max", max, "") SIGNED_64("max", max, "xxx")
    R("abs.s16", "hh", abs_16, I, NO_FORMAT, 0)
    R("neg.s16", "hh", neg_16, I, NO_FORMAT, 0)
    R("abs.s32", "ww", abs_32, I, NO_FORMAT, 0)
    R("neg.s32", "ww", neg_32, I, NO_FORMAT, 0)
    R("abs.s64", "xx", abs_64, I, NO_FORMAT, 0)
    R("neg.s64", "xx", neg_64, I, NO_FORMAT, 0)
    R("add.sat.s32", "www", add_sat_s32, I, NO_FORMAT, 0)
    R("sub.sat.s32", "www", sub_sat_s32, I, NO_FORMAT, 0)
    /* bits */
    BITS("and", and) BITS("or", or) BITS("xor", xor)
    R("not.b16", "hh", not_16, I, NO_FORMAT, 0)
    R("not.b32", "ww", not_32, I, NO_FORMAT, 0)
    R("not.b64", "xx", not_64, I, NO_FORMAT, 0)
    R("not.pred", "pp", not_pred, I, NO_FORMAT, 0)
    R("cnot.b16", "hh", cnot_32, I, NO_FORMAT, 0)
    R("cnot.b32", "ww", cnot_32, I, NO_FORMAT, 0)
    R("cnot.b64", "xx", cnot_64, I, NO_FORMAT, 0)
    R("shl.b16", "hhw", shl_16, I, NO_FORMAT, 0)
    R("shl.b32", "www", shl_32, I, NO_FORMAT, 0)
    R("shl.b64", "xxw", shl_64, I, NO_FORMAT, 0)
    R("shr.b16", "hhw", shr_u16, I, NO_FORMAT, 0)
    R("shr.b32", "www", shr_u32, I, NO_FORMAT, 0)
    R("shr.b64", "xxw", shr_u64, I, NO_FORMAT, 0)
    R("shr.u16", "hhw", shr_u16, I, NO_FORMAT, 0)
    R("shr.u32", "www", shr_u32, I, NO_FORMAT, 0)
    R("shr.u64", "xxw", shr_u64, I, NO_FORMAT, 0)
    R("shr.s16", "hhw", shr_s16, I, NO_FORMAT, 0)
    R("shr.s32", "www", shr_s32, I, NO_FORMAT, 0)
    R("shr.s64", "xxw", shr_s64, I, NO_FORMAT, 0)
    R("shf.l.wrap.b32", "wwww", shf_l_wrap, I, NO_FORMAT, 0)
    R("shf.r.wrap.b32", "wwww", shf_r_wrap, I, NO_FORMAT, 0)
    R("shf.l.clamp.b32", "wwww", shf_l_clamp, I, NO_FORMAT, 0)
    R("shf.r.clamp.b32", "wwww", shf_r_clamp, I, NO_FORMAT, 0)
    R("popc.b32", "ww", popc_32, I, NO_FORMAT, 0)
    R("popc.b64", "wx", popc_64, I, NO_FORMAT, 0)
    R("clz.b32", "ww", clz_32, I, NO_FORMAT, 0)
    R("clz.b64", "wx", clz_64, I, NO_FORMAT, 0)
    R("bfind.u32", "ww", bfind_u32, I, NO_FORMAT, 0)
    R("bfind.s32", "ww", bfind_s32, I, NO_FORMAT, 0)
    R("bfind.u64", "wx", bfind_u64, I, NO_FORMAT, 0)
    R("bfind.s64", "wx", bfind_s64, I, NO_FORMAT, 0)
    R("bfind.shiftamt.u32", "ww", bfind_u32, I, NO_FORMAT, 1)
    R("bfind.shiftamt.s32", "ww", bfind_s32, I, NO_FORMAT, 1)
    R("bfind.shiftamt.u64", "wx", bfind_u64, I, NO_FORMAT, 1)
    R("bfind.shiftamt.s64", "wx", bfind_s64, I, NO_FORMAT, 1)
    R("brev.b32", "ww", brev_32, I, NO_FORMAT, 0)
    R("brev.b64", "xx", brev_64, I, NO_FORMAT, 0)
    R("bfe.u32", "wwww", bfe_u32, I, NO_FORMAT, 0)
    R("bfe.s32", "wwww", bfe_s32, I, NO_FORMAT, 0)
    R("bfe.u64", "xxww", bfe_u64, I, NO_FORMAT, 0)
    R("bfe.s64", "xxww", bfe_s64, I, NO_FORMAT, 0)
    R("prmt.b32", "wwww", prmt_32, I, NO_FORMAT, 0)
    R("prmt.b32.f4e", "wwww", prmt_f4e, I, NO_FORMAT, 0)
    R("prmt.b32.b4e", "wwww", prmt_b4e, I, NO_FORMAT, 0)
    R("prmt.b32.rc8", "wwww", prmt_rc8, I, NO_FORMAT, 0)
    R("prmt.b32.ecl", "wwww", prmt_ecl, I, NO_FORMAT, 0)
    R("prmt.b32.ecr", "wwww", prmt_ecr, I, NO_FORMAT, 0)
    R("prmt.b32.rc16", "wwww", prmt_rc16, I, NO_FORMAT, 0)
    R("dp4a.u32.u32", "wwww", dp4a, I, NO_FORMAT, 0)
    R("dp4a.s32.u32", "wwww", dp4a, I, NO_FORMAT, 1)
    R("dp4a.u32.s32", "wwww", dp4a, I, NO_FORMAT, 2)
    R("dp4a.s32.s32", "wwww", dp4a, I, NO_FORMAT, 3)
    R("dp2a.lo.u32.u32", "wwww", dp2a, I, NO_FORMAT, 0)
    R("dp2a.lo.s32.u32", "wwww", dp2a, I, NO_FORMAT, 1)
    R("dp2a.lo.u32.s32", "wwww", dp2a, I, NO_FORMAT, 2)
    R("dp2a.lo.s32.s32", "wwww", dp2a, I, NO_FORMAT, 3)
    R("dp2a.hi.u32.u32", "wwww", dp2a, I, NO_FORMAT, 4)
    R("dp2a.hi.s32.u32", "wwww", dp2a, I, NO_FORMAT, 5)
    R("dp2a.hi.u32.s32", "wwww", dp2a, I, NO_FORMAT, 6)
    R("dp2a.hi.s32.s32", "wwww", dp2a, I, NO_FORMAT, 7)
    R("fns.b32", "wwww", fns_32, I, NO_FORMAT, 0)
    /* selects */
    R("selp.b16", "hhhp", selp_32, I, NO_FORMAT, 0)
    R("selp.u16", "hhhp", selp_32, I, NO_FORMAT, 0)
    R("selp.s16", "hhhp", selp_32, I, NO_FORMAT, 0)
    R("selp.b32", "wwwp", selp_32, I, NO_FORMAT, 0)
    R("selp.u32", "wwwp", selp_32, I, NO_FORMAT, 0)
    R("selp.s32", "wwwp", selp_32, I, NO_FORMAT, 0)
    R("selp.f32", "wwwp", selp_32, I, NO_FORMAT, 0)
    R("selp.b64", "xxxp", selp_64, I, NO_FORMAT, 0)
    R("selp.u64", "xxxp", selp_64, I, NO_FORMAT, 0)
    R("selp.s64", "xxxp", selp_64, I, NO_FORMAT, 0)
    R("selp.f64", "xxxp", selp_64, I, NO_FORMAT, 0)
#define SLCT(type, w, size) \
    R("slct." type ".s32", w w w "w", slct_##size##_s32, I, NO_FORMAT, 0) \
    R("slct." type ".f32", w w w "w", slct_##size##_f32, I, SIM_FORMAT_F32, 0)
    SLCT("b16", "h", 32) SLCT("u16", "h", 32) SLCT("s16", "h", 32) SLCT("b32", "w", 32)
    SLCT("u32", "w", 32) SLCT("s32", "w", 32) SLCT("f32", "w", 32) SLCT("b64", "x", 64)
    SLCT("u64", "x", 64) SLCT("s64", "x", 64) SLCT("f64", "x", 64)
    /* fp32, fp64 */
    FLOATS("add", add, "www", "xxx") FLOATS("sub", sub, "www", "xxx")
    FLOATS("mul", mul, "www", "xxx") FLOATS("fma", fma, "wwww", "xxxx")
    FLOATS("mad", fma, "wwww", "xxxx") FLOATS("div", div, "www", "xxx")
    FLOATS("neg", neg, "ww", "xx") FLOATS("abs", abs, "ww", "xx") FLOATS("min", min, "www", "xxx")
    FLOATS("max", max, "www", "xxx") FLOATS("rcp", rcp, "ww", "xx") FLOATS("sqrt", sqrt, "ww", "xx")
    FLOATS("copysign", copysign, "www", "xxx")
    R("min.NaN.f32", "www", min_nan_f32, F, SIM_FORMAT_F32, 0)
    R("max.NaN.f32", "www", max_nan_f32, F, SIM_FORMAT_F32, 0)
    R("min.xorsign.abs.f32", "www", min_xorsign_f32, F, SIM_FORMAT_F32, 0)
    R("max.xorsign.abs.f32", "www", max_xorsign_f32, F, SIM_FORMAT_F32, 0)
    R("min.NaN.xorsign.abs.f32", "www", min_nan_xorsign_f32, F, SIM_FORMAT_F32, 0)
    R("max.NaN.xorsign.abs.f32", "www", max_nan_xorsign_f32, F, SIM_FORMAT_F32, 0)
    R("div.full.f32", "www", div_f32, F, SIM_FORMAT_F32, 0)
    R("div.approx.f32", "www", div_approx_f32, S, SIM_FORMAT_F32, 0)
    APPROX("rcp", rcp) APPROX("sqrt", sqrt) APPROX("rsqrt", rsqrt) APPROX("ex2", ex2)
    APPROX("lg2", lg2) APPROX("sin", sin) APPROX("cos", cos) APPROX("tanh", tanh)
    R("rsqrt.approx.f64", "xx", rsqrt_f64, S, SIM_FORMAT_F64, 0)
    R("rcp.approx.ftz.f64", "xx", rcp_ftz_f64, S, NO_FORMAT, 0)
    R("rsqrt.approx.ftz.f64", "xx", rsqrt_ftz_f64, S, NO_FORMAT, 0)
#define TEST(what, WHAT) \
    R("testp." what ".f32", "pw", testp_f32, F, NO_FORMAT, LANE_TEST_##WHAT) \
    R("testp." what ".f64", "px", testp_f64, F, NO_FORMAT, LANE_TEST_##WHAT)
    TEST("finite", FINITE) TEST("infinite", INFINITE) TEST("number", NUMBER) TEST("notanumber", NAN)
    TEST("normal", NORMAL) TEST("subnormal", SUBNORMAL)
    /* f16, bf16 */
    HALVES("add", add, "hhh", "www", HALF) HALVES("sub", sub, "hhh", "www", HALF)
    HALVES("mul", mul, "hhh", "www", HALF) HALVES("fma", fma, "hhhh", "wwww", HALF)
    HALVES("neg", neg, "hh", "ww", HALF) HALVES("abs", abs, "hh", "ww", HALF)
    HALVES("min", min, "hhh", "www", HALF) HALVES("max", max, "hhh", "www", HALF)
    HALVES("min.NaN", min_nan, "hhh", "www", HALF) HALVES("max.NaN", max_nan, "hhh", "www", HALF)
    HALVES("ex2.approx", ex2, "hh", "ww", S) HALVES("tanh.approx", tanh, "hh", "ww", S)
};
// clang-format on

const char *decode_arithmetic_key(size_t index)
{
    return index < sizeof rows / sizeof *rows ? rows[index].key : NULL;
}

static const struct row *find(const char *key)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].key, key))
            return &rows[i];
    return NULL;
}

/* The modifiers that a key leaves out. */
struct modifiers {
    int rounding; /* enum sim_rounding, or -1 if none is given */
    bool ftz, sat, relu;
};

static const struct row *find_with_modifiers(decoder *dc, struct modifiers *m)
{
    static const char *const roundings[] = {"rn", "rz", "rm", "rp"};
    *m = (struct modifiers){.rounding = -1};
    const struct row *exact = find(dc->in->opcode);
    if (exact)
        return exact;
    for (int i = 0; i < 4; i++)
        if (decode_take(dc, roundings[i]))
            m->rounding = i;
    m->ftz = decode_take(dc, "ftz");
    m->sat = decode_take(dc, "sat");
    m->relu = decode_take(dc, "relu");
    char key[128] = "";
    for (int i = 0; i < dc->part_count; i++) {
        size_t n = strlen(key);
        if (n + strlen(dc->parts[i]) + 2 > sizeof key)
            return NULL;
        strcpy(key + n, i ? "." : "");
        strcat(key, dc->parts[i]);
    }
    const struct row *row = find(key);
    bool any = m->rounding >= 0 || m->ftz || m->sat || m->relu;
    bool is_half = row && row->format >= SIM_FORMAT_F16;
    if (!row || (any && row->format == SIM_FORMAT_NONE) || (is_half && m->rounding > 0) ||
        (m->relu && !is_half))
        return NULL;
    return row;
}

static enum decode_width letter_width(char letter)
{
    return letter == 'h' ? WIDTH_16 : letter == 'w' ? WIDTH_32 : letter == 'x' ? WIDTH_64 : WIDTH_PRED;
}

bool decode_arithmetic(decoder *dc)
{
    for (int i = 1; i < dc->part_count; i++)
        if (!strcmp(dc->parts[i], "cc")) {
            decode_carry(dc);
            return true;
        }
    struct modifiers m;
    const struct row *row = find_with_modifiers(dc, &m);
    if (!row)
        return false;
    int count = (int)strlen(row->signature);
    decode_arity(dc, count);
    sim_operand o[4] = {SIM_ZERO, SIM_ZERO, SIM_ZERO, SIM_ZERO};
    for (int i = 1; i < count; i++)
        o[i] = decode_source(dc, &dc->in->operands[i], letter_width(row->signature[i]));
    if (m.ftz && !strcmp(dc->parts[0], "slct")) { /* flushes the compared value only */
        o[3] = decode_helper(dc, LANE_flush_f32, WIDTH_32, o[3], SIM_ZERO, SIM_ZERO);
        m.ftz = false;
    }
    enum decode_width width = letter_width(row->signature[0]);
    o[0] = decode_destination(dc, &dc->in->operands[0], width);
    sim_instruction *e;
    if (m.rounding > 0 || m.ftz || m.sat || m.relu) {
        e = decode_emit_handler(dc, sim_exec_modified, row->class);
        e->target = row->lane;
        e->x[0] = (uint8_t)row->format;
        e->x[1] = m.rounding > 0 ? (uint8_t)m.rounding : 0;
        e->x[2] = m.ftz;
        e->x[3] = m.sat;
        e->x[4] = m.relu;
    } else
        e = decode_emit_lane(dc, row->lane, width, row->class);
    e->immediate = row->immediate;
    decode_operands(e, o[0], o[1], o[2], o[3]);
    return true;
}
