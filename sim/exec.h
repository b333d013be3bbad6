/* Handlers of the instructions that are more than a function of lanes. */
#ifndef SIM_EXEC_H
#define SIM_EXEC_H

#include "program.h"

/* Number formats of modified arithmetic; sim_exec_modified reads x[]: format, rounding, ftz, sat, relu;
 * `target` is the lane function. */
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

/* exec_logic.c. bfi: lane function `target`, length in the list. */
enum sim_carry { SIM_CARRY_ADD, SIM_CARRY_SUB, SIM_CARRY_MAD_LO, SIM_CARRY_MAD_HI };
sim_handler sim_exec_insert;
sim_handler sim_exec_carry; /* x: enum sim_carry, reads, writes CC.CF, 64-bit, signed */
sim_handler sim_exec_clock; /* x: 64-bit */

/* cvt in general, exec_convert.c. x: types of result and source, enum sim_convert_rounding, flags,
 * bits of the result's register. With SIM_CONVERT_PAIR, a and b become the high and low half. */
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

/* exec_warp.c */
enum sim_shuffle { SIM_SHUFFLE_UP, SIM_SHUFFLE_DOWN, SIM_SHUFFLE_BFLY, SIM_SHUFFLE_IDX };
sim_handler sim_exec_shuffle; /* x: mode; list: predicate written, member mask */
enum sim_vote { SIM_VOTE_ALL, SIM_VOTE_ANY, SIM_VOTE_UNI, SIM_VOTE_BALLOT };
sim_handler sim_exec_vote;   /* x: enum sim_vote; a predicate, b member mask */
sim_handler sim_exec_match;  /* x: all, 64-bit; a value, b member mask; list: predicate written (all) */
sim_handler sim_exec_reduce; /* x: enum sim_atomic, signed; a value, b member mask */
sim_handler sim_exec_elect;  /* b member mask; list: predicate written */
sim_handler sim_exec_activemask, sim_exec_warp_sync, sim_exec_fence, sim_exec_nothing;
/* a index, b threads, c predicate; x: enum, whether b is given */
enum sim_barrier_kind {
    SIM_BARRIER_SYNC,
    SIM_BARRIER_ARRIVE,
    SIM_BARRIER_POPC,
    SIM_BARRIER_AND,
    SIM_BARRIER_OR
};
sim_handler sim_exec_barrier;

/* warp.c */
sim_handler sim_exec_exit, sim_exec_trap, sim_exec_switch, sim_exec_sleep;

/* exec_body.h: handlers over all lanes' memory, compiled for each level of sim_lanes.
 *
 * load, store: x[] as SIM_X_...; the address is a + immediate; results or values are the list. */
enum {
    SIM_X_SPACE,
    SIM_X_BYTES,
    SIM_X_COUNT,
    SIM_X_SIGNED,
    SIM_X_REGISTER_BITS,
    SIM_X_ADDRESS_64,
    SIM_X_STRONG
};
/* atomic: x: space, enum sim_atomic, enum ptx_type, whether there is a result, -, SIM_X_ADDRESS_64. Values
 * in b, c. */
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
/* copy (cp.async): to a + immediate (shared) from b + list[1] (global) x[1] bytes, of which list[0] are
 * read; x[0], the source size is a predicate that ignores the source; x[2], x[3] 64-bit addresses. commit,
 * wait: its groups; immediate groups may be pending, x[0] none at all. isspacep: x: space. ldmatrix,
 * stmatrix: x: matrices, transposed, -, -, -, SIM_X_ADDRESS_64. mma_float, mma_integer: list: d, a, b, c
 * registers. x: enum sim_lane_matrix or signs (bit 0: a, bit 1: b), k, f16 accumulators or satfinite, d
 * registers, a registers, b registers, enum matrix_type.
 * mma_pair: the instruction and the next, both mma_float of the same a, of registers alone (decode.c). */
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
