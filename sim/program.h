/* A kernel in the form that is executed: calls are inlined, registers are placed, and each instruction is a
 * record of 64 bytes. sim_decode makes a program, which is immutable afterwards. */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include "../runtime/device/device.h"
#include "lanes.h"
#include "ptx.h"

struct sim_warp;
struct sim_instruction;

/* How the warp goes on after a handler. */
enum sim_outcome { SIM_NEXT, SIM_JUMPED, SIM_BLOCKED, SIM_DONE, SIM_FAULT };

/* Executes `in` for the lanes of `mask`, which is never empty. SIM_JUMPED means that the handler set pc.
 * SIM_BLOCKED means that it advanced pc and that the warp waits. */
typedef enum sim_outcome sim_handler(struct sim_warp *warp, const struct sim_instruction *in,
                                     uint32_t mask);

enum sim_kind {
    SIM_LANES_32,   /* d (32-bit slot) = lane(a, b, c) */
    SIM_LANES_64,   /* d (64-bit slot) = lane(a, b, c) */
    SIM_LANES_PRED, /* d (predicate) = lane(a, b, c) */
    SIM_BRANCH,     /* to `target`; lanes that diverge here meet at `join` */
    SIM_MEET,       /* lanes that diverged meet here; not an instruction of the PTX */
    SIM_HANDLER
};

/* An operand is a register if it is even, and a constant if it is odd. While decoding, it is 2 * the number
 * of the register, or 2 * the number of the constant + 1. In the finished program, (operand & ~1) is a byte
 * offset into the warp's registers or into the constants. */
typedef int32_t sim_operand;

/* Class of the instructions that the decoder adds. No counter reports them. */
enum { SIM_UNCOUNTED = INSTRUCTION_CLASSES };

enum { SIM_NO_GUARD = -1, SIM_ZERO = 1 /* the constant 0, for operands that are not used */ };

typedef struct sim_instruction {
    union {
        sim_lane_fn *lane;
        sim_handler *handler;
    };
    uint64_t immediate;
    sim_operand d, a, b, c;
    sim_operand guard;
    int32_t target, join;          /* SIM_BRANCH */
    int32_t list;                  /* index of its first further operand in the program's list */
    uint8_t list_count, list_defs; /* the first list_defs operands of the list are written */
    uint8_t kind, class;
    bool guard_negated;
    uint8_t x[7]; /* parameters of the handler (exec.h) */
} sim_instruction;

/* The origin of an instruction, which messages show. */
typedef struct sim_origin {
    const char *text; /* PTX statement */
    int line;         /* PTX line */
    const char *file; /* "" if unknown */
    int source_line;
    const char *caller_file; /* the call by which source_line is inlined; "" and 0 if it is not */
    int caller_line;
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

/* A constant that is taken from the kernel's parameters at launch. */
typedef struct sim_param_use {
    int32_t offset; /* byte offset in the constants */
    uint32_t at;    /* byte offset in the parameter block */
    uint8_t bytes, wide, is_signed;
} sim_param_use;

typedef struct sim_program {
    const char *name;
    sim_instruction *code;
    sim_origin *origins;
    int count;
    sim_operand *list;
    int list_count;
    uint8_t *constants; /* each repeated for 32 lanes: 128 or 256 bytes */
    size_t constants_bytes;
    sim_param_use *param_uses;
    int param_use_count;
    size_t param_bytes;
    size_t register_bytes;         /* bytes of a warp's registers */
    int32_t special[SIM_SPECIALS]; /* byte offset in the registers, or -1 */
    int registers;                 /* 32-bit registers per thread, as placed */
    uint32_t shared_static;        /* bytes of static shared memory */
    uint32_t shared_dynamic;       /* offset of dynamic shared memory, which follows at its alignment */
    uint32_t local_bytes;          /* bytes of local memory per thread */
    int max_threads;
} sim_program;

/* Addresses. Every device allocation has a window of 2^SIM_WINDOW_BITS addresses and begins SIM_LEAD bytes
 * into it. Shared, local and parameter memory have windows of their own in the generic space. */
#define SIM_WINDOW_BITS 40
#define SIM_LEAD        (1ull << 32)
#define SIM_SHARED_BASE (0x400000ull << SIM_WINDOW_BITS)
#define SIM_LOCAL_BASE  (0x410000ull << SIM_WINDOW_BITS)
#define SIM_PARAM_BASE  (0x420000ull << SIM_WINDOW_BITS)

/* Returns the address of a module variable, or 0 if it has none. `context` is what sim_decode was given. */
typedef uint64_t sim_address_of(void *context, const ptx_variable *variable);

/* Decodes the entry `function` of `module` into the module's arena. A failure jumps to the arena's escape;
 * its error names the instruction, its PTX line, and its line in the template. */
sim_program *sim_decode(const ptx_module *module, const ptx_function *function,
                        const struct sim_lanes *lanes, sim_address_of *address_of, void *context);

#endif
