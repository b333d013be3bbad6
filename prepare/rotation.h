/* An orthogonal matrix R for any size n, which spreads each of n channels over all of them (docs/method.md,
 * identity 6).
 *
 * R = D·(H ⊗ C). D is a diagonal of signs from a fixed random sequence, H is the Hadamard matrix of the
 * largest power of two that divides n, and C is the orthonormal cosine transform (DCT-II) of the remaining
 * factor. No entry is larger than √(2/n), and the same n gives the same R everywhere. */
#ifndef PREPARE_ROTATION_H
#define PREPARE_ROTATION_H

#include "../runtime/base/error.h"

#include <stdint.h>

/* ±1: the top bit of number i of a fixed random sequence (splitmix64). */
double rotation_sign(uint64_t i);

/* x [rows, n] ← x·R, row major. Errors: XQ_ERROR_MEMORY. */
xq_status rotation_apply(double *x, int rows, int n, error *err);

/* x [rows, n] ← x·Rᵀ, which undoes rotation_apply. Errors: XQ_ERROR_MEMORY. */
xq_status rotation_undo(double *x, int rows, int n, error *err);

#endif
