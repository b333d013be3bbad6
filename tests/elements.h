/* Arrays of f16 or bf16, by a spec's dtype, for kernel tests; and weights packed in fragment order. */
#ifndef TESTS_ELEMENTS_H
#define TESTS_ELEMENTS_H

#include "../runtime/base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The caller frees what these return. */
uint16_t *elements_normals(random_stream *r, bool bf16, size_t count, float deviation);
double *elements_doubles(const uint16_t *bits, bool bf16, size_t count);

/* Rounds values to what an e4m3 cache holds of them, in units of `scale`: a power of two, so that 16 bits
 * have the results. The codes; NULL: none are wanted. */
void elements_narrow(uint16_t *bits, bool bf16, size_t count, float scale, uint8_t *codes);

/* W [rows, cols], `bytes` (1 or 2) an element, in the order that docs/layout.md gives packed weights. */
void *elements_packed(const void *w, int rows, int cols, int bytes);

#endif
