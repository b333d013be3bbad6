/* Internals of the decoder, for decode.c, flow.c and the files decode_*.c, each of which decodes one group
 * of instructions. */
#ifndef SIM_DECODE_H
#define SIM_DECODE_H

#include "program.h"

enum { DECODE_PARTS = 24, DECODE_INLINE_DEPTH = 32 };

/* The kind of value in the slot of an operand. A value of 16 bits or fewer lies in a 32-bit slot. */
enum decode_width { WIDTH_PRED, WIDTH_16, WIDTH_32, WIDTH_64 };

typedef struct decode_constant {
    uint64_t value;
    bool wide;
    int param; /* index in the program's param_uses, or -1 */
} decode_constant;

/* A function that is being decoded: the kernel, or a callee that is copied into it. */
typedef struct decode_frame {
    const ptx_function *function;
    struct decode_frame *caller;
    int register_base;
    int64_t *offsets; /* offset of each variable in its state space */
    int *starts;      /* for each PTX instruction, the index of its first instruction in the code */
    int depth;
} decode_frame;

/* A branch target that is filled in once all code is decoded. */
typedef struct decode_fixup {
    int at; /* index of the branch in the code, or of the entry in the list */
    bool in_list;
    const decode_frame *frame;
    int target; /* index of an instruction in the frame's function, or its count for the end */
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
    uint8_t *widths; /* width of each register: enum decode_width */
    int register_count, register_capacity;
    decode_constant *constants;
    int constant_count, constant_capacity;
    int param_capacity;
    decode_fixup *fixups;
    int fixup_count, fixup_capacity;
    int special[SIM_SPECIALS]; /* number of the register that holds the value, or -1 */
    uint32_t local_bytes;

    /* the PTX instruction that is being decoded */
    decode_frame *frame;
    const ptx_instruction *in;
    int part_count;
    const char *parts[DECODE_PARTS];
} decoder;

_Noreturn void decode_fail(decoder *dc, xq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void decode_unknown(decoder *dc); /* fails with "unknown instruction" */

/* Fails unless the instruction has exactly `count` operands. */
void decode_arity(decoder *dc, int count);
/* Removes the modifier if the instruction has it, and returns whether it did. */
bool decode_take(decoder *dc, const char *modifier);
/* Removes and returns the first remaining modifier that names a type; fails if there is none. */
enum ptx_type decode_take_type(decoder *dc);
/* Fails with "unknown instruction" if modifiers remain that nobody took. */
void decode_all_taken(decoder *dc);

/* Emits a helper instruction d = lane(a, b, c), where d is a new temporary, and returns d. The PTX does not
 * contain this instruction, and it is not counted. */
sim_operand decode_helper(decoder *dc, enum sim_lane lane, enum decode_width result, sim_operand a,
                          sim_operand b, sim_operand c);
/* Appends an instruction to the code. It gets the guard of the PTX instruction, and its operands are
 * SIM_ZERO. The pointer is valid until the next instruction is appended. */
sim_instruction *decode_emit(decoder *dc, enum sim_kind kind, int class);
sim_instruction *decode_emit_handler(decoder *dc, sim_handler *handler, int class);
sim_instruction *decode_emit_lane(decoder *dc, enum sim_lane lane, enum decode_width result, int class);

/* Sets the result and the sources of an instruction; SIM_ZERO stands for an operand that is absent. */
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
/* A predicate source. A helper instruction negates it if the operand is negated. */
sim_operand decode_predicate(decoder *dc, const ptx_operand *o);
/* Width of a register operand; `otherwise` for any other operand. */
enum decode_width decode_width_of(decoder *dc, const ptx_operand *o, enum decode_width otherwise);
/* Appends an operand to the list of the instruction that was emitted last. */
void decode_list(decoder *dc, sim_operand o);
/* The value of an integer operand; fails for any other operand. */
uint64_t decode_integer(decoder *dc, const ptx_operand *o);
/* Offset of a variable in its state space, or its address if it lies in device memory. The variable belongs
 * to a function or to the module. */
uint64_t decode_variable(decoder *dc, const ptx_variable *v);
enum decode_width decode_type_width(enum ptx_type type);

/* Decodes an instruction that has a row in the table of decode_arithmetic.c, or that has the modifier .cc.
 * Returns false if it has neither. */
bool decode_arithmetic(decoder *dc);
const char *decode_arithmetic_key(size_t index); /* NULL past the end */
void decode_carry(decoder *dc);                  /* add.cc and all others that read or write CC.CF */
void decode_call(decoder *dc);
/* An opcode with a decoder of its own. */
typedef struct decode_opcode {
    const char *base;
    void (*decode)(decoder *);
} decode_opcode;
extern const decode_opcode decode_memory_opcodes[], decode_logic_opcodes[], decode_warp_opcodes[],
    decode_control_opcodes[];

/* Analyzes control flow and places registers. This turns the decoder's code into the program's. */
void decode_flow(decoder *dc);

#endif
