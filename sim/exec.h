/* Handlers of the instructions that are more than an elementwise function over lanes. A handler finds its
 * parameters in the fields of sim_instruction; the comments here say what it expects in x[], in the list
 * and elsewhere. */
#ifndef SIM_EXEC_H
#define SIM_EXEC_H

#include "program.h"

/* Number formats of arithmetic with modifiers, which sim_exec_modified executes. x: enum sim_format, enum
 * sim_rounding, whether .ftz, .sat and .relu are given. `target` is the lane function. */
enum sim_format {
    SIM_FORMAT_NONE,
    SIM_FORMAT_F32,
    SIM_FORMAT_F64,
    SIM_FORMAT_F16,
    SIM_FORMAT_F16X2,
    SIM_FORMAT_BF16,
    SIM_FORMAT_BF16X2
};
sim_handler sim_exec_modified;

/* Defined in exec_logic.c. sim_exec_insert executes bfi: `target` is the lane function, the list holds the
 * length, and x[0] says whether the type has 64 bits. */
enum sim_carry { SIM_CARRY_ADD, SIM_CARRY_SUB, SIM_CARRY_MAD_LO, SIM_CARRY_MAD_HI };
sim_handler sim_exec_insert;
sim_handler sim_exec_carry; /* x: enum sim_carry, whether it reads CC.CF, writes it, is 64-bit, is signed */
sim_handler sim_exec_clock; /* x: whether the result has 64 bits */

/* sim_exec_convert (exec_convert.c) executes any cvt. x: types of the result and of the source, enum
 * sim_convert_rounding, SIM_CONVERT_... flags, bits of the result's register. With SIM_CONVERT_PAIR, the
 * conversions of a and b become the high and the low half of the result. */
enum sim_convert_rounding {
    SIM_CVT_RN,
    SIM_CVT_RZ,
    SIM_CVT_RM,
    SIM_CVT_RP,
    SIM_CVT_RNA,
    SIM_CVT_RNI,
    SIM_CVT_RZI,
    SIM_CVT_RMI,
    SIM_CVT_RPI,
    SIM_CVT_NONE
};
enum { SIM_CONVERT_FTZ = 1, SIM_CONVERT_SAT = 2, SIM_CONVERT_RELU = 4, SIM_CONVERT_PAIR = 8 };
sim_handler sim_exec_convert;

enum sim_space {
    SIM_SPACE_GENERIC,
    SIM_SPACE_GLOBAL,
    SIM_SPACE_CONST,
    SIM_SPACE_SHARED,
    SIM_SPACE_LOCAL,
    SIM_SPACE_PARAM
};

/* Exchanges between lanes, defined in exec_warp.c. */
enum sim_shuffle { SIM_SHUFFLE_UP, SIM_SHUFFLE_DOWN, SIM_SHUFFLE_BFLY, SIM_SHUFFLE_IDX };
sim_handler sim_exec_shuffle; /* x: enum sim_shuffle; list: predicate that is written, member mask */
enum sim_vote { SIM_VOTE_ALL, SIM_VOTE_ANY, SIM_VOTE_UNI, SIM_VOTE_BALLOT };
sim_handler sim_exec_vote;   /* x: enum sim_vote; a: predicate; b: member mask */
sim_handler sim_exec_match;  /* x: whether .all, 64-bit; a: value; b: member mask; list: predicate (.all) */
sim_handler sim_exec_reduce; /* x: enum sim_atomic, whether signed; a: value; b: member mask */
sim_handler sim_exec_elect;  /* b: member mask; list: predicate that is written */
sim_handler sim_exec_activemask, sim_exec_warp_sync, sim_exec_fence, sim_exec_nothing;
/* Barriers, defined in block.c. a: index of the barrier; b: number of threads; c: predicate; x: enum
 * sim_barrier_kind, whether b is given. */
enum sim_barrier_kind {
    SIM_BARRIER_SYNC,
    SIM_BARRIER_ARRIVE,
    SIM_BARRIER_POPC,
    SIM_BARRIER_AND,
    SIM_BARRIER_OR
};
sim_handler sim_exec_barrier;

/* Defined in warp.c, as is sim_exec_nothing. sim_exec_switch executes brx.idx. */
sim_handler sim_exec_exit, sim_exec_trap, sim_exec_switch, sim_exec_sleep;

/* The handlers of exec_body.h work on the memory of all lanes at once. They are compiled for each
 * instruction-set level of sim_lanes.
 *
 * load, store: x[] is indexed by SIM_X_...; the address is a + immediate; the list holds the results or the
 * values. */
enum {
    SIM_X_SPACE,
    SIM_X_BYTES,
    SIM_X_COUNT,
    SIM_X_SIGNED,
    SIM_X_REGISTER_BITS,
    SIM_X_ADDRESS_64,
    SIM_X_STRONG
};
/* atomic: x[SIM_X_SPACE] is the space, x[1] enum sim_atomic, x[2] enum ptx_type, x[3] whether there is a
 * result, and x[SIM_X_ADDRESS_64] whether the address has 64 bits. The values are in b and c. */
enum sim_atomic {
    SIM_ATOMIC_AND,
    SIM_ATOMIC_OR,
    SIM_ATOMIC_XOR,
    SIM_ATOMIC_CAS,
    SIM_ATOMIC_EXCH,
    SIM_ATOMIC_ADD,
    SIM_ATOMIC_INC,
    SIM_ATOMIC_DEC,
    SIM_ATOMIC_MIN,
    SIM_ATOMIC_MAX
};
/* copy (cp.async): copies x[1] bytes from the global address b + list[1] to the shared address a +
 * immediate. Only list[0] bytes are read, and the others become zero. If x[0] is set, list[0] is instead a
 * predicate that says whether to ignore the source. x[2] and x[3] say whether the shared and the global
 * address have 64 bits.
 *
 * commit, wait: close a group of copies, and wait for groups. After a wait, at most `immediate` groups are
 * pending. If x[0] is set, no copy is pending, whether committed or not.
 *
 * isspacep: x[0] is the space.
 *
 * ldmatrix, stmatrix: x[0] is the number of matrices, x[1] says whether they are transposed, and
 * x[SIM_X_ADDRESS_64] whether the address has 64 bits. The list holds the registers.
 *
 * mma_float, mma_integer: the list holds the registers of d, a, b and c. x[0] is enum sim_lane_matrix
 * (mma_integer: bit 0 is set if a is signed, bit 1 if b is), x[1] is k, x[2] says whether the accumulators
 * are f16 (mma_integer: whether to saturate), x[3], x[4] and x[5] are the numbers of registers of d, a and
 * b, and x[6] is enum matrix_type.
 *
 * mma_pair: executes its instruction and the next one together. Both are mma_float with the same a, and
 * their operands are all registers (decode.c). */
// clang-format off
#define SIM_HANDLERS(X) \
    X(load) X(store) X(atomic) X(copy) X(commit) X(wait) X(isspacep) X(ldmatrix) X(stmatrix) X(movmatrix) \
    X(mma_float) X(mma_pair) X(mma_integer)
// clang-format on
#define SIM_HANDLER_FIELD(name) sim_handler *name;
struct sim_handlers {
    SIM_HANDLERS(SIM_HANDLER_FIELD)
};
#undef SIM_HANDLER_FIELD

#endif
