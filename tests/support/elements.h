/* Arrays of f16 or bf16, as the dtype of a spec asks, for kernel tests; and weights packed in fragment
 * order. */
#ifndef TESTS_ELEMENTS_H
#define TESTS_ELEMENTS_H

#include "../../runtime/base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The caller frees the arrays that these functions return. */
uint16_t *elements_normals(random_stream *r, bool bf16, size_t count, float deviation);
double *elements_doubles(const uint16_t *bits, bool bf16, size_t count);

/* Rounds values as an e4m3 cache does, in units of `scale`, a power of two, so that 16 bits hold the
 * results. `codes` receives the codes, unless it is NULL. */
void elements_narrow(uint16_t *bits, bool bf16, size_t count, float scale, uint8_t *codes);

/* Packs W [rows, cols], whose elements have `bytes` (1 or 2) bytes, in the order of docs/layout.md. */
void *elements_packed(const void *w, int rows, int cols, int bytes);

#endif
