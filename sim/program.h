/* A kernel in the form that is executed: calls inlined, registers placed, one 64-byte record an
 * instruction. Made by sim_decode; immutable afterwards. */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include "../runtime/device/device.h"
#include "lanes.h"
#include "ptx.h"

struct sim_warp;
struct sim_instruction;

/* What a handler leaves the warp to do. */
enum sim_outcome { SIM_NEXT, SIM_JUMPED, SIM_BLOCKED, SIM_DONE, SIM_FAULT };

/* Executes `in` for the lanes of `mask` (never empty). SIM_JUMPED: pc was set. SIM_BLOCKED: pc was
 * advanced and the warp waits. */
typedef enum sim_outcome sim_handler(struct sim_warp *warp, const struct sim_instruction *in,
                                     uint32_t mask);

enum sim_kind {
    SIM_LANES_32,   /* d (32-bit slot) = lane(a, b, c) */
    SIM_LANES_64,   /* d (64-bit slot) = lane(a, b, c) */
    SIM_LANES_PRED, /* d (predicate) = lane(a, b, c) */
    SIM_BRANCH,     /* to target; diverging lanes meet at join */
    SIM_MEET,       /* where lanes that diverged meet: not an instruction of the PTX */
    SIM_HANDLER
};

/* An operand: twice a register (decoding: its number, executing: half its offset), or twice a constant
 * plus 1. Executing, (operand & ~1) is a byte offset into the warp's registers or the program's constants.
 */
typedef int32_t sim_operand;

/* Class of instructions that the decoder adds: counted nowhere. */
enum { SIM_UNCOUNTED = INSTRUCTION_CLASSES };

enum { SIM_NO_GUARD = -1, SIM_ZERO = 1 /* the constant 0, for operands not used */ };

typedef struct sim_instruction {
    union {
        sim_lane_fn *lane;
        sim_handler *handler;
    };
    uint64_t immediate;
    sim_operand d, a, b, c;
    sim_operand guard;
    int32_t target, join;          /* SIM_BRANCH */
    int32_t list;                  /* first of more operands in the program's list */
    uint8_t list_count, list_defs; /* the first list_defs are written */
    uint8_t kind, class;
    bool guard_negated;
    uint8_t x[7]; /* the handler's */
} sim_instruction;

/* Where an instruction came from, for messages. */
typedef struct sim_origin {
    const char *text; /* PTX statement */
    int line;         /* PTX line */
    const char *file; /* "" if unknown */
    int source_line;
} sim_origin;

/* Values that every warp finds in registers when it starts. */
enum sim_special {
    SIM_TID_X,
    SIM_TID_Y,
    SIM_TID_Z,
    SIM_NTID_X,
    SIM_NTID_Y,
    SIM_NTID_Z,
    SIM_CTAID_X,
    SIM_CTAID_Y,
    SIM_CTAID_Z,
    SIM_NCTAID_X,
    SIM_NCTAID_Y,
    SIM_NCTAID_Z,
    SIM_LANEID,
    SIM_WARPID,
    SIM_NWARPID,
    SIM_SMID,
    SIM_NSMID,
    SIM_GRIDID,
    SIM_LANEMASK_EQ,
    SIM_LANEMASK_LE,
    SIM_LANEMASK_LT,
    SIM_LANEMASK_GE,
    SIM_LANEMASK_GT,
    SIM_DYNAMIC_SMEM_SIZE,
    SIM_TOTAL_SMEM_SIZE,
    SIM_SPECIALS
};

/* A constant taken from the kernel's parameters at launch. */
typedef struct sim_param_use {
    int32_t offset; /* in the constants */
    uint32_t at;    /* in the parameter block */
    uint8_t bytes, wide, is_signed;
} sim_param_use;

typedef struct sim_program {
    const char *name;
    sim_instruction *code;
    sim_origin *origins;
    int count;
    sim_operand *list;
    int list_count;
    uint8_t *constants; /* broadcast: 128 or 256 bytes each */
    size_t constants_bytes;
    sim_param_use *param_uses;
    int param_use_count;
    size_t param_bytes;
    size_t register_bytes;         /* of a warp */
    int32_t special[SIM_SPECIALS]; /* offset in the registers, or -1 */
    int registers;                 /* 32-bit ones a thread, as allocated */
    uint32_t shared_static;        /* bytes; dynamic shared memory follows, at its alignment */
    uint32_t shared_dynamic;       /* offset of dynamic shared memory */
    uint32_t local_bytes;          /* a thread */
    int max_threads;
} sim_program;

/* Addresses. Device allocations: SIM_WINDOW each, from SIM_LEAD into it. Shared, local and parameter
 * memory have windows of their own in the generic space. */
#define SIM_WINDOW_BITS 40
#define SIM_LEAD        (1ull << 32)
#define SIM_SHARED_BASE (0x400000ull << SIM_WINDOW_BITS)
#define SIM_LOCAL_BASE  (0x410000ull << SIM_WINDOW_BITS)
#define SIM_PARAM_BASE  (0x420000ull << SIM_WINDOW_BITS)

/* Address of a module variable (`context` is the module's), 0 if it has none. */
typedef uint64_t sim_address_of(void *context, const ptx_variable *variable);

/* Decodes entry `function` of `module` into the arena. Fails by the arena's escape, naming the
 * instruction, its PTX line and where the template has it. */
sim_program *sim_decode(const ptx_module *module, const ptx_function *function,
                        const struct sim_lanes *lanes, sim_address_of *address_of, void *context);

#endif
