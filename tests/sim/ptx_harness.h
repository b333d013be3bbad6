/* Runs PTX on the software device: whole modules, and single instructions over arrays of inputs, whose
 * results are checked against a reference in C.
 *
 * An instruction test is one CASE line: a snippet, its operands, and the results that it should give. The
 * snippet reads registers %a0, %a1, ... and writes %d0, %d1, ...; one letter per operand gives the size of
 * the register and the kind of values in it (see the operand letters below). The snippet may also use
 *     %lane          .b32: lane of the warp (every block is one warp)
 *     %scratch       .b64: 512 zeroed bytes of device memory of this warp
 *     %lane_scratch  .b64: 16 of those bytes, this lane's own
 *     %lane_shared   .b32: 16 bytes of shared memory of this lane, in `memory` (.shared, 4096 bytes)
 *     %lane_local    .b64: 64 bytes of local memory (generic address), in `frame` (.local)
 *     table          .const: 64 .u32, table[i] = i * 0x01010101
 *     %p0..%p7 .pred, %t0..%t7 .b32, %l0..%l7 .b64, %h0..%h7 .b16: temporaries */
#ifndef TESTS_PTX_HARNESS_H
#define TESTS_PTX_HARNESS_H

#include "../../sim/sim.h"
#include "ptx_reference.h"

#include <stddef.h>

enum { PTX_OPERANDS = 16, PTX_LANES = 32 };

/* Operand letters:
 *   r 32 bits      h 16 bits      l 64 bits       (edges and random bits; results compared exactly)
 *   f f32   d f64   H f16   B bf16   P f16 pair   Q bf16 pair   (NaN results must be the GPU's own NaN;
 *                                                               f64: any NaN)
 *   n f32   N f16   M f16 pair   b bf16   (results only: any NaN will do)
 *   s 32 bits, 0 .. 71: shift counts, positions           z 32 bits, never 0
 *   Z 64 bits, never 0   e e4m3 pair (16 bits)   i 32 bits, small signed integers
 *   u f32, moderate: 2^-20 .. 2^20, both signs   v f32, within +-64
 *   m f16 pair, small integers   M for inputs: f16 pair within +-4   w bf16 pair, small integers
 *   E four e4m3, 5 four e5m2, small integers   1 32 bits, 0 or 1   2 32 bits, 0..3 */
struct ptx_case {
    const char *name, *ptx, *in, *out;
    /* The reference: `lane` computes d of one lane from a. If `lane` is NULL, `warp` computes
     * d[operand][lane] of a whole warp from a[operand][lane]. */
    void (*lane)(const struct ptx_case *, const uint64_t *a, uint64_t *d);
    void (*warp)(const struct ptx_case *, uint64_t a[][PTX_LANES], uint64_t d[][PTX_LANES]);
    double relative, absolute; /* tolerance of floating-point results; 0: the bits must be equal */
    const char *target;        /* NULL: sm_80 */
    const char *module;        /* declarations before the kernel, or NULL */
    const void *context;       /* data for the reference function */
    const char *file;
    int line;
};

/* Every CASE of all tests/ptx_cases_*.c, in no particular order. */
extern const struct ptx_case *const __start_ptx_cases[], *const __stop_ptx_cases[];
size_t ptx_case_count(void);

#define PTX_LIST(ptx_case_name)                                                                            \
    static const struct ptx_case *const list_##ptx_case_name __attribute__((section("ptx_cases"), used)) = \
        &case_##ptx_case_name;

#define CASE_IN(identifier, module_text, ptx_text, in_letters, out_letters, rel, abs_, target_, ...)       \
    static void lane_##identifier(const struct ptx_case *self, const uint64_t *a, uint64_t *d)             \
    {                                                                                                      \
        (void)self, (void)a, (void)d;                                                                      \
        __VA_ARGS__;                                                                                       \
    }                                                                                                      \
    static const struct ptx_case case_##identifier = {.name = #identifier,                                 \
                                                      .ptx = ptx_text,                                     \
                                                      .in = in_letters,                                    \
                                                      .out = out_letters,                                  \
                                                      .lane = lane_##identifier,                           \
                                                      .relative = rel,                                     \
                                                      .absolute = abs_,                                    \
                                                      .target = target_,                                   \
                                                      .module = module_text,                               \
                                                      .file = __FILE__,                                    \
                                                      .line = __LINE__};                                   \
    PTX_LIST(identifier)

#define CASE_FULL(identifier, ...) CASE_IN(identifier, NULL, __VA_ARGS__)

/* The reference is an expression over the lane's operands (the macros below) that assigns d[0], ... */
#define CASE(identifier, ptx_text, in_letters, out_letters, ...)                                           \
    CASE_FULL(identifier, ptx_text, in_letters, out_letters, 0, 0, NULL, __VA_ARGS__)

#define CASE_NEAR(identifier, ptx_text, in_letters, out_letters, rel, abs_, ...)                           \
    CASE_FULL(identifier, ptx_text, in_letters, out_letters, rel, abs_, NULL, __VA_ARGS__)

#define CASE_SM89(identifier, ptx_text, in_letters, out_letters, ...)                                      \
    CASE_FULL(identifier, ptx_text, in_letters, out_letters, 0, 0, "sm_89", __VA_ARGS__)

#define CASE_SM90(identifier, ptx_text, in_letters, out_letters, ...)                                      \
    CASE_FULL(identifier, ptx_text, in_letters, out_letters, 0, 0, "sm_90", __VA_ARGS__)

/* A case with declarations at module scope. */
#define CASE_MODULE(identifier, module_text, ptx_text, in_letters, out_letters, ...)                       \
    CASE_IN(identifier, module_text, ptx_text, in_letters, out_letters, 0, 0, NULL, __VA_ARGS__)

/* The reference is a function that computes the whole warp. */
#define CASE_WARP_FULL(identifier, ptx_text, in_letters, out_letters, rel, abs_, target_, context_,        \
                       reference)                                                                          \
    static const struct ptx_case case_##identifier = {.name = #identifier,                                 \
                                                      .ptx = ptx_text,                                     \
                                                      .in = in_letters,                                    \
                                                      .out = out_letters,                                  \
                                                      .warp = reference,                                   \
                                                      .relative = rel,                                     \
                                                      .absolute = abs_,                                    \
                                                      .target = target_,                                   \
                                                      .context = context_,                                 \
                                                      .file = __FILE__,                                    \
                                                      .line = __LINE__};                                   \
    PTX_LIST(identifier)
#define CASE_WARP(identifier, ptx_text, in_letters, out_letters, reference)                                \
    CASE_WARP_FULL(identifier, ptx_text, in_letters, out_letters, 0, 0, NULL, NULL, reference)

/* Operands of a lane's reference: unsigned, signed, 64 bits wide, and as floating-point values. */
#define U(i)   ((uint32_t)a[i])
#define I(i)   ((int32_t)a[i])
#define U16(i) ((uint16_t)a[i])
#define I16(i) ((int16_t)a[i])
#define L(i)   (a[i])
#define S(i)   ((int64_t)a[i])
#define F(i)   ptx_decode((uint32_t)a[i], &ptx_f32)
#define FZ(i)  ptx_decode(ptx_flush((uint32_t)a[i]), &ptx_f32)
#define D(i)   ptx_double(a[i])
#define H(i)   ptx_decode((uint32_t)a[i] & 0xffff, &ptx_f16)
#define B(i)   ptx_decode((uint32_t)a[i] & 0xffff, &ptx_bf16)

/* Results. PAIR evaluates its expression for both halves; X, Y and Z are the halves of operands 0, 1 and
 * 2. */
#define R(value)             d[0] = (uint32_t)(value)
#define R16(value)           d[0] = (uint16_t)(value)
#define R64(value)           d[0] = (uint64_t)(value)
#define TO_F32(value, mode)  d[0] = ptx_encode(value, &ptx_f32, mode)
#define TO_FTZ(value, mode)  d[0] = ptx_flush(ptx_encode(value, &ptx_f32, mode))
#define TO_F16(value, mode)  d[0] = ptx_encode(value, &ptx_f16, mode)
#define TO_BF16(value, mode) d[0] = ptx_encode(value, &ptx_bf16, mode)
#define TO_F64(value)        d[0] = ptx_double_bits(value)
#define PAIR(format, value)                                                                                \
    d[0] = 0;                                                                                              \
    for (int half = 0; half < 2; half++) {                                                                 \
        double X = ptx_decode((uint32_t)(a[0] >> half * 16) & 0xffff, &format);                            \
        double Y = ptx_decode((uint32_t)(a[1] >> half * 16) & 0xffff, &format);                            \
        double Z = ptx_decode((uint32_t)(a[2] >> half * 16) & 0xffff, &format);                            \
        (void)X, (void)Y, (void)Z;                                                                         \
        d[0] |= (uint64_t)ptx_encode(value, &format, RN) << half * 16;                                     \
    }

/* Opens the software device; the test ends if that fails. */
device *ptx_device(void);

/* Runs one case over edge values and random inputs. If it returns false, `message` says what was wrong. */
bool ptx_case_run(device *sim, const struct ptx_case *test, char *message, size_t bytes);

/* The text of the module that ptx_case_run makes from a case; the caller frees it. */
char *ptx_case_module(const struct ptx_case *test);

/* One launch of a module's kernel with `params`. ptx_run loads the module, launches the kernel, and leaves
 * any error in *err, which the caller clears. */
struct ptx_launch {
    const char *ptx;
    const char *entry; /* NULL: "test" */
    uint32_t grid, block, shared_bytes;
    uint32_t grid_yz[2], block_yz[2]; /* 0 stands for 1 */
    uint32_t cluster;
    const void *params;
    size_t params_bytes;
};
xq_status ptx_run(device *sim, const struct ptx_launch *launch, error *err);

#endif
