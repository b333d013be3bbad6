/* A parsed PTX module. Its declarations and operands are resolved, but opcodes are still text. The parser
 * knows the part of PTX ISA 8.x that NVRTC emits. Other syntax fails the parse, and the error names the
 * line. */
#ifndef SIM_PTX_H
#define SIM_PTX_H

#include "arena.h"

#include <stdbool.h>
#include <stdint.h>

/* Fundamental and packed types; ptx_type_table (ptx.c) has their suffixes and sizes. The decoder relies on
 * the order: U8 to S64 are the integers, S8 to S64 the signed ones, and F16 to F64 floats. */
enum ptx_type {
    PTX_NONE,
    PTX_B8,
    PTX_B16,
    PTX_B32,
    PTX_B64,
    PTX_B128,
    PTX_U8,
    PTX_U16,
    PTX_U32,
    PTX_U64,
    PTX_S8,
    PTX_S16,
    PTX_S32,
    PTX_S64,
    PTX_F16,
    PTX_F16X2,
    PTX_BF16,
    PTX_BF16X2,
    PTX_F32,
    PTX_F64,
    PTX_TF32,
    PTX_E4M3,
    PTX_E5M2,
    PTX_E4M3X2,
    PTX_E5M2X2,
    PTX_PRED,
    PTX_TYPES
};

/* Bits of a type; 1 for predicates and 0 for PTX_NONE. */
int ptx_type_bits(enum ptx_type type);
/* The type that a suffix such as "u32" names, or PTX_NONE. */
enum ptx_type ptx_type_named(const char *text, int length);

enum ptx_space { PTX_REG, PTX_PARAM, PTX_LOCAL, PTX_SHARED, PTX_GLOBAL, PTX_CONST, PTX_GENERIC };

/* Kinds of operands. Each comment names the fields of ptx_operand that the kind uses. */
enum ptx_operand_kind {
    PTX_OPERAND_REGISTER, /* index: register of the function */
    PTX_OPERAND_INTEGER,  /* bits */
    PTX_OPERAND_FLOAT32,  /* bits */
    PTX_OPERAND_FLOAT64,  /* bits */
    PTX_OPERAND_SPECIAL,  /* name: %tid.x and the like */
    PTX_OPERAND_VARIABLE, /* variable + bits */
    PTX_OPERAND_NAME,     /* a label or function: name, scope */
    PTX_OPERAND_ADDRESS,  /* [base + bits]; the one element is the base: a register, variable or integer */
    PTX_OPERAND_VECTOR,   /* {...} or (...): elements */
    PTX_OPERAND_SINK      /* _ */
};

typedef struct ptx_variable {
    const char *name;
    enum ptx_space space;
    int align;
    uint64_t bytes;   /* 0 for extern [] */
    uint8_t *initial; /* `bytes` of initial contents of a module variable, or NULL */
    bool is_extern;
    int id; /* index among the variables of its function or module */
    bool is_module;
    uint32_t shared_offset;             /* offset of a shared variable in the kernel that is decoded */
    struct ptx_relocation *relocations; /* places in `initial` that hold addresses of variables */
} ptx_variable;

typedef struct ptx_relocation {
    struct ptx_relocation *next;
    uint64_t offset;
    const char *name;
    int64_t addend;
    ptx_variable *target; /* set once the whole module is read */
} ptx_relocation;

typedef struct ptx_operand {
    enum ptx_operand_kind kind;
    bool negated; /* !p */
    int index;
    uint64_t bits;
    const char *name;
    int scope;
    ptx_variable *variable;
    int count; /* number of elements */
    struct ptx_operand *elements;
    struct ptx_operand *second; /* b of a|b */
} ptx_operand;

typedef struct ptx_instruction {
    const char *opcode;           /* with its modifiers, NUL-terminated */
    const char *text;             /* the statement, one line */
    int line;                     /* line of the PTX text */
    int file, source_line;        /* from .loc; 0 if unknown */
    int caller_file, caller_line; /* the line that it is inlined into, from .loc; 0: none */
    int guard;                    /* predicate register, or -1 */
    bool guard_negated;
    int count;
    ptx_operand *operands;
} ptx_instruction;

typedef struct ptx_label {
    const char *name;
    int scope, at; /* at: index of the instruction that follows the label */
} ptx_label;

/* The targets of a brx.idx, as declared by name: .branchtargets ... ; */
typedef struct ptx_targets {
    const char *name;
    int count;
    ptx_operand *labels;
} ptx_targets;

typedef struct ptx_function {
    const char *name;
    bool is_entry, is_defined;
    int line;
    int max_threads; /* from .maxntid or .reqntid; 0 if there is none */
    int register_count, register_capacity;
    uint8_t *register_types; /* enum ptx_type */
    int variable_count, variable_capacity;
    ptx_variable **variables; /* results, params, then locals and shared variables declared inside */
    int param_count, result_count;
    ptx_variable **params, **results;
    int instruction_count, instruction_capacity;
    ptx_instruction *instructions;
    int label_count, label_capacity;
    ptx_label *labels;
    int targets_count, targets_capacity;
    ptx_targets *targets;
    int scope_count, scope_capacity;
    int *scope_parent;
} ptx_function;

typedef struct ptx_module {
    const char *name;
    sim_arena *arena;
    int variable_count, variable_capacity;
    ptx_variable **variables;
    int function_count, function_capacity;
    ptx_function **functions;
    int file_count, file_capacity;
    const char **files; /* by .file number; NULL where there is none */
} ptx_module;

/* Parses NUL-terminated text. A failure jumps to the arena's escape; its error has `name` and the line. */
ptx_module *ptx_parse(sim_arena *arena, const char *text, const char *name);

ptx_function *ptx_module_function(const ptx_module *module, const char *name);
/* Index of the instruction that follows the label, as seen from `scope`, or -1. */
int ptx_function_label(const ptx_function *function, const char *name, int scope);

#endif
