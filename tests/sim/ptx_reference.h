/* Number formats and exact arithmetic for checking the software device. They follow the definitions of the
 * formats and the PTX ISA alone, and share no code with runtime/. Narrow results are formed from a double
 * that was itself rounded to odd, so rounding it again, to at most 51 bits, gives the same as rounding
 * once. */
#ifndef TESTS_PTX_REFERENCE_H
#define TESTS_PTX_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

enum ptx_rounding { RN, RZ, RM, RP };

/* A binary floating-point format. e4m3 has no infinity: its largest exponent holds finite values, and NaN
 * is all ones. */
struct ptx_format {
    int exponent_bits, mantissa_bits;
    bool has_infinity;
    uint32_t nan; /* bits that the GPU gives for a NaN result */
};
extern const struct ptx_format ptx_f32, ptx_f16, ptx_bf16, ptx_e4m3, ptx_e5m2;

double ptx_decode(uint32_t bits, const struct ptx_format *format);
/* Overflow gives infinity or the largest value, as the rounding mode says; in e4m3 it gives NaN. */
uint32_t ptx_encode(double value, const struct ptx_format *format, enum ptx_rounding rounding);
double ptx_largest(const struct ptx_format *format);
bool ptx_is_nan(uint32_t bits, const struct ptx_format *format);

/* These results are rounded to odd. Operands must be values of f32 or a narrower format. */
double ptx_add(double x, double y);
double ptx_fma(double x, double y, double z);
double ptx_divide(double x, double y);
double ptx_square_root(double x);

/* PTX min and max. -0 is less than +0. Of a NaN and a number the result is the number, or with `nan` (.NaN)
 * the NaN. */
double ptx_min(double x, double y, bool nan);
double ptx_max(double x, double y, bool nan);

/* The modifier .sat: clamps to [0, 1]; NaN becomes +0. */
double ptx_saturate(double x);
/* The modifier .relu: negative values and -0 become +0; NaN stays. */
double ptx_relu(double x);
/* The modifier .ftz: f32 subnormals become zero of the same sign. */
uint32_t ptx_flush(uint32_t f32_bits);

/* x rounded to an integer in a rounding mode of cvt (.rni .rzi .rmi .rpi), still as a double. */
double ptx_round_integer(double x, enum ptx_rounding rounding);

double ptx_double(uint64_t bits);
uint64_t ptx_double_bits(double value);

/* A small deterministic generator (splitmix64). */
uint64_t ptx_random(uint64_t *state);

#endif
