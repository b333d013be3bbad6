/* Rounding to the number types of activations and weights, from the definition of a floating-point number:
 * the nearest multiple of a power of two, ties to even. References use it because it is independent of
 * runtime/base/half.c; it is slow. */
#ifndef AUTOTUNE_REFERENCE_ROUNDING_H
#define AUTOTUNE_REFERENCE_ROUNDING_H

#include "../../runtime/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Infinities and numbers beyond ±65504 become ±65504; a NaN stays a NaN. */
double rounding_saturated(double x);

/* The nearest f16 (infinity beyond the range, as cvt.rn rounds), the nearest bf16, and the nearest e4m3
 * (saturating at 448). */
double rounding_half(double x);
double rounding_bfloat(double x);
double rounding_e4m3(double x);

uint16_t rounding_to_half(double x);   /* bits of rounding_half(x); a NaN is 0x7fff */
uint16_t rounding_to_bfloat(double x); /* bits of rounding_bfloat(x); a NaN is 0x7fff */

/* Converts a bf16 activation to f16, saturating, as kernels do. */
uint16_t rounding_bfloat_to_half(uint16_t bits);

typedef enum rounding_type { ROUNDING_F16, ROUNDING_BF16, ROUNDING_INT8, ROUNDING_E4M3 } rounding_type;

/* Finds a type by its name in a spec: "f16", "bf16", "int8" or "e4m3". Errors: XQ_ERROR_SPEC. */
xq_status rounding_type_named(const char *name, rounding_type *type, error *err);

/* Rounds each value of w [rows, cols] as the type keeps it. The 8-bit types have an f32 scale for each
 * column, or with `by_row` for each row, and keep scale * code. e4m3 has the largest magnitude divided by
 * 448, rounded up to 16 significant bits, and the nearest codes. int8 keeps the sums of blocks of 64 values
 * of a column, or row, by the rule of runtime/base/weights.h. So w must have the columns of zeros that pad
 * the others. */
void rounding_matrix(rounding_type type, const float *w, size_t rows, size_t cols, int by_row,
                     double *rounded);

#endif
