/* An orthogonal matrix R for any size n, which spreads each of n channels over all (docs/method.md §4.5).
 *
 * R = D·(H ⊗ C): D the signs of a fixed random number generator, H the Hadamard matrix of the largest power
 * of two that divides n, C the orthonormal cosine transform (DCT-II) of what remains. No entry is larger
 * than √(2/n), and the same n gives the same R everywhere. */
#ifndef PREPARE_ROTATION_H
#define PREPARE_ROTATION_H

#include "../runtime/base/error.h"

#include <stdint.h>

/* ±1: number i of a fixed random sequence, the top bit of splitmix64. */
double rotation_sign(uint64_t i);

/* x [rows, n] ← x·R, row major. Errors: XQ_ERROR_MEMORY. */
xq_status rotation_apply(double *x, int rows, int n, error *err);

/* x [rows, n] ← x·Rᵀ, which undoes it. Errors: XQ_ERROR_MEMORY. */
xq_status rotation_undo(double *x, int rows, int n, error *err);

#endif
