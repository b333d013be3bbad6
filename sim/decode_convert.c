/* Decodes cvt. Common conversions become one lane function, and the others use the general handler. */
#include "decode.h"
#include "exec.h"

#include <string.h>

void decode_cvt(decoder *dc);

struct fast {
    enum ptx_type to, from;
    int rounding; /* enum sim_convert_rounding */
    enum sim_lane lane;
};

static const struct fast fast_table[] = {{PTX_F32, PTX_F16, SIM_CVT_NONE, LANE_cvt_f32_f16},
                                         {PTX_F16, PTX_F32, SIM_CVT_RN, LANE_cvt_f16_f32},
                                         {PTX_F32, PTX_BF16, SIM_CVT_NONE, LANE_cvt_f32_bf16},
                                         {PTX_BF16, PTX_F32, SIM_CVT_RN, LANE_cvt_bf16_f32},
                                         {PTX_F32, PTX_S32, SIM_CVT_RN, LANE_cvt_f32_s32},
                                         {PTX_F32, PTX_U32, SIM_CVT_RN, LANE_cvt_f32_u32},
                                         {PTX_F32, PTX_U16, SIM_CVT_RN, LANE_cvt_f32_u32},
                                         {PTX_F64, PTX_F32, SIM_CVT_NONE, LANE_cvt_f64_f32},
                                         {PTX_F32, PTX_F64, SIM_CVT_RN, LANE_cvt_f32_f64},
                                         {PTX_F64, PTX_S32, SIM_CVT_RN, LANE_cvt_f64_s32},
                                         {PTX_F64, PTX_U32, SIM_CVT_RN, LANE_cvt_f64_u32},
                                         {PTX_F64, PTX_S64, SIM_CVT_RN, LANE_cvt_f64_s64},
                                         {PTX_F64, PTX_U64, SIM_CVT_RN, LANE_cvt_f64_u64},
                                         {PTX_F32, PTX_S64, SIM_CVT_RN, LANE_cvt_f32_s64},
                                         {PTX_F32, PTX_U64, SIM_CVT_RN, LANE_cvt_f32_u64},
                                         {PTX_F32, PTX_F32, SIM_CVT_RNI, LANE_cvt_rni_f32},
                                         {PTX_S32, PTX_F32, SIM_CVT_RZI, LANE_cvt_rzi_s32_f32},
                                         {PTX_S32, PTX_F32, SIM_CVT_RNI, LANE_cvt_rni_s32_f32}};

static const struct fast pair_table[] = {{PTX_F16X2, PTX_F32, SIM_CVT_RN, LANE_cvt_f16x2_f32},
                                         {PTX_BF16X2, PTX_F32, SIM_CVT_RN, LANE_cvt_bf16x2_f32}};

static bool is_integer(enum ptx_type t)
{
    return t >= PTX_U8 && t <= PTX_S64;
}

static bool is_signed(enum ptx_type t)
{
    return t >= PTX_S8 && t <= PTX_S64;
}

static bool is_float(enum ptx_type t)
{
    return t == PTX_F16 || t == PTX_BF16 || t == PTX_F32 || t == PTX_F64 || t == PTX_TF32;
}

static int take_rounding(decoder *dc)
{
    static const char *const names[] = {"rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi"};
    for (int i = 0; i < SIM_CVT_NONE; i++)
        if (decode_take(dc, names[i]))
            return i;
    return SIM_CVT_NONE;
}

/* The lane function that extends the low `bits` of an integer to a register of `width`. */
static int extension(int bits, bool sign, enum decode_width width)
{
    if (width == WIDTH_64) {
        static const int wide[3][2] = {{LANE_extend_u8_64, LANE_extend_s8_64},
                                       {LANE_extend_u16_64, LANE_extend_s16_64},
                                       {LANE_extend_u32_64, LANE_extend_s32_64}};
        return bits == 64 ? LANE_mov_64 : wide[bits == 8 ? 0 : bits == 16 ? 1 : 2][sign];
    }
    if (bits == 8)
        return !sign ? LANE_low_8 : width == WIDTH_16 ? LANE_extend_s8_16 : LANE_extend_s8_32;
    if (bits == 16)
        return sign && width == WIDTH_32 ? LANE_extend_s16_32 : LANE_low_16;
    return LANE_mov_32;
}

static void integers(decoder *dc, enum ptx_type to, enum ptx_type from, enum decode_width width)
{
    int to_bits = ptx_type_bits(to), from_bits = ptx_type_bits(from);
    enum ptx_type narrow = from_bits < to_bits ? from : to;
    if (from_bits < to_bits && is_signed(from) && !is_signed(to) && to_bits <= 16)
        width = WIDTH_16; /* the sign is extended to the width of the result's type */
    int bits = ptx_type_bits(narrow);
    const ptx_operand *o = dc->in->operands;
    sim_operand s = decode_source(dc, &o[1],
                                  bits == 64        ? WIDTH_64
                                  : from_bits == 64 ? WIDTH_32
                                                    : decode_type_width(from));
    enum decode_width have = decode_width_of(dc, &o[0], width);
    sim_operand d = decode_destination(dc, &o[0], have);
    sim_instruction *e = decode_emit_lane(dc, (enum sim_lane)extension(bits, is_signed(narrow), width),
                                          width, INSTRUCTION_CONVERT);
    decode_operands(e, d, s, SIM_ZERO, SIM_ZERO);
}

static const struct fast *find_fast(const struct fast *table, size_t count, enum ptx_type to,
                                    enum ptx_type from, int rounding)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].to == to && table[i].from == from && table[i].rounding == rounding)
            return &table[i];
    return NULL;
}

static bool known(enum ptx_type to, enum ptx_type from, bool pair, int rounding)
{
    bool to_fp8 = to == PTX_E4M3X2 || to == PTX_E5M2X2, from_fp8 = from == PTX_E4M3X2 || from == PTX_E5M2X2;
    if (pair)
        return from == PTX_F32 && (to == PTX_F16X2 || to == PTX_BF16X2 || to_fp8) &&
               (rounding == SIM_CVT_RN || (rounding == SIM_CVT_RZ && !to_fp8));
    if (to_fp8)
        return from == PTX_F16X2 && rounding == SIM_CVT_RN;
    if (from_fp8)
        return to == PTX_F16X2 && rounding == SIM_CVT_RN;
    if (!(is_integer(to) || is_float(to)) || !(is_integer(from) || is_float(from)) || from == PTX_TF32)
        return false;
    if (is_integer(to) && is_float(from))
        return rounding >= SIM_CVT_RNI && rounding <= SIM_CVT_RPI;
    if (to == PTX_TF32)
        return from == PTX_F32 &&
               (rounding == SIM_CVT_RNA || rounding == SIM_CVT_RN || rounding == SIM_CVT_RZ);
    if (is_integer(to))
        return rounding == SIM_CVT_NONE;
    if (is_integer(from))
        return rounding <= SIM_CVT_RP;
    /* Float to float: there must be a rounding where bits can be lost. Where the type stays the same, there
     * may be a rounding to integer. */
    int to_bits = ptx_type_bits(to), from_bits = ptx_type_bits(from);
    if (to == from)
        return rounding >= SIM_CVT_RNI;
    return to_bits > from_bits ? rounding == SIM_CVT_NONE : rounding <= SIM_CVT_RP;
}

void decode_cvt(decoder *dc)
{
    int rounding = take_rounding(dc), flags = 0;
    flags |= decode_take(dc, "ftz") ? SIM_CONVERT_FTZ : 0;
    flags |= decode_take(dc, "sat") ? SIM_CONVERT_SAT : 0;
    flags |= decode_take(dc, "relu") ? SIM_CONVERT_RELU : 0;
    bool satfinite = decode_take(dc, "satfinite");
    enum ptx_type to = decode_take_type(dc), from = decode_take_type(dc);
    decode_all_taken(dc);
    bool pair = dc->in->count == 3, to_fp8 = to == PTX_E4M3X2 || to == PTX_E5M2X2;
    if (!pair)
        decode_arity(dc, 2);
    if (!known(to, from, pair, rounding) || satfinite != to_fp8)
        decode_unknown(dc);
    const ptx_operand *o = dc->in->operands;
    enum decode_width width = decode_width_of(dc, &o[0], decode_type_width(to));
    if (is_integer(to) && is_integer(from) && !flags) {
        integers(dc, to, from, width);
        return;
    }
    const struct fast *fast =
        pair ? find_fast(pair_table, sizeof pair_table / sizeof *pair_table, to, from, rounding)
             : find_fast(fast_table, sizeof fast_table / sizeof *fast_table, to, from, rounding);
    sim_operand a = decode_source(dc, &o[1], decode_type_width(from));
    sim_operand b = pair ? decode_source(dc, &o[2], decode_type_width(from)) : SIM_ZERO;
    sim_operand d = decode_destination(dc, &o[0], width);
    sim_instruction *e;
    if (fast && !flags)
        e = decode_emit_lane(dc, fast->lane, width, INSTRUCTION_CONVERT);
    else {
        e = decode_emit_handler(dc, sim_exec_convert, INSTRUCTION_CONVERT);
        e->x[0] = (uint8_t)to;
        e->x[1] = (uint8_t)from;
        e->x[2] = (uint8_t)rounding;
        e->x[3] = (uint8_t)(flags | (pair ? SIM_CONVERT_PAIR : 0));
        e->x[4] = width == WIDTH_64 ? 64 : width == WIDTH_16 ? 16 : 32;
    }
    decode_operands(e, d, a, b, SIM_ZERO);
}
