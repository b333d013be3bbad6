/* The decoder's inside: shared by the files that decode groups of instructions. */
#ifndef SIM_DECODE_H
#define SIM_DECODE_H

#include "program.h"

enum { DECODE_PARTS = 24, DECODE_INLINE_DEPTH = 32 };

/* What an operand's slot is. 16-bit and narrower values live in 32-bit slots. */
enum decode_width { WIDTH_PRED, WIDTH_16, WIDTH_32, WIDTH_64 };

typedef struct decode_constant {
    uint64_t value;
    bool wide;
    int param; /* index of the param use, or -1 */
} decode_constant;

/* A function being decoded: the kernel, or a callee copied into it. */
typedef struct decode_frame {
    const ptx_function *function;
    struct decode_frame *caller;
    int register_base;
    int64_t *offsets; /* of its variables, in their space */
    int *starts;      /* instruction of the PTX -> first of the code */
    int depth;
} decode_frame;

typedef struct decode_fixup {
    int at; /* branch in the code, or entry in the list */
    bool in_list;
    const decode_frame *frame;
    int target; /* instruction of the frame's function; its count for the end */
} decode_fixup;

typedef struct decoder {
    sim_arena *arena;
    const ptx_module *module;
    const ptx_function *entry;
    const struct sim_lanes *lanes;
    sim_address_of *address_of;
    void *context;
    sim_program *program;

    sim_instruction *code;
    sim_origin *origins;
    int code_count, code_capacity, origin_capacity;
    sim_operand *list;
    int list_count, list_capacity;
    uint8_t *widths; /* of registers; enum decode_width */
    int register_count, register_capacity;
    decode_constant *constants;
    int constant_count, constant_capacity;
    int param_capacity;
    decode_fixup *fixups;
    int fixup_count, fixup_capacity;
    int special[SIM_SPECIALS]; /* register, or -1 */
    uint32_t local_bytes;

    /* the instruction at hand */
    decode_frame *frame;
    const ptx_instruction *in;
    int part_count;
    const char *parts[DECODE_PARTS];
} decoder;

_Noreturn void decode_fail(decoder *dc, xq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void decode_unknown(decoder *dc); /* "unknown instruction" */

/* The instruction has exactly `count` operands. */
void decode_arity(decoder *dc, int count);
/* Removes the modifier if it is there. */
bool decode_take(decoder *dc, const char *modifier);
/* The first remaining modifier that names a type, removed; fails if there is none. */
enum ptx_type decode_take_type(decoder *dc);
/* Fails as unknown if modifiers remain that nobody took. */
void decode_all_taken(decoder *dc);

/* A helper that is in no PTX: d = lane(a, b, c), uncounted. Returns d. */
sim_operand decode_helper(decoder *dc, enum sim_lane lane, enum decode_width result, sim_operand a,
                          sim_operand b, sim_operand c);
/* A new instruction of the code with this guard, its operands SIM_ZERO. Valid until the next. */
sim_instruction *decode_emit(decoder *dc, enum sim_kind kind, int class);
sim_instruction *decode_emit_handler(decoder *dc, sim_handler *handler, int class);
sim_instruction *decode_emit_lane(decoder *dc, enum sim_lane lane, enum decode_width result, int class);

/* Its result and its sources; SIM_ZERO for those that it has not. */
static inline void decode_operands(sim_instruction *e, sim_operand d, sim_operand a, sim_operand b,
                                   sim_operand c)
{
    e->d = d;
    e->a = a;
    e->b = b;
    e->c = c;
}

sim_operand decode_temporary(decoder *dc, enum decode_width width);
sim_operand decode_constant_value(decoder *dc, uint64_t value, bool wide);
sim_operand decode_source(decoder *dc, const ptx_operand *o, enum decode_width width);
sim_operand decode_destination(decoder *dc, const ptx_operand *o, enum decode_width width);
/* A predicate source, negated by an instruction of its own where the operand is. */
sim_operand decode_predicate(decoder *dc, const ptx_operand *o);
/* Width of a register operand; of others, `otherwise`. */
enum decode_width decode_width_of(decoder *dc, const ptx_operand *o, enum decode_width otherwise);
/* Appends to the list of the instruction last emitted. */
void decode_list(decoder *dc, sim_operand o);
/* The integer that an operand is; fails for others. */
uint64_t decode_integer(decoder *dc, const ptx_operand *o);
/* Offset of a function's or module's variable in its space, or its address in device memory. */
uint64_t decode_variable(decoder *dc, const ptx_variable *v);
enum decode_width decode_type_width(enum ptx_type type);

/* Rows of decode_arithmetic.c. */
bool decode_arithmetic(decoder *dc);
const char *decode_arithmetic_key(size_t index); /* NULL past the end */
void decode_carry(decoder *dc);                  /* add.cc and the rest that read or write CC.CF */
void decode_call(decoder *dc);
/* An opcode with a decoder of its own. */
typedef struct decode_opcode {
    const char *base;
    void (*decode)(decoder *);
} decode_opcode;
extern const decode_opcode decode_memory_opcodes[], decode_logic_opcodes[], decode_warp_opcodes[],
    decode_control_opcodes[];

/* Control flow, registers: turns the decoder's code into the program's. */
void decode_flow(decoder *dc);

#endif
