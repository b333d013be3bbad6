/* The types of packed weights, and the rounding to each. 8-bit types have one scale for each column of a
 * matrix, chosen so that the column's largest value has the largest code. */
#ifndef RUNTIME_BASE_WEIGHTS_H
#define RUNTIME_BASE_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

enum weight_type { WEIGHT_F16, WEIGHT_BF16, WEIGHT_INT8, WEIGHT_E4M3 };

/* Finds the type that specs call "f16", "bf16", "int8" or "e4m3". */
bool weight_type_find(const char *name, enum weight_type *type);

/* Bytes of a code. */
int weight_bytes(enum weight_type type);

/* The smallest magnitude that cannot be represented: values from there on round to infinity. For 8-bit
 * types it is infinity itself. */
float weight_limit(enum weight_type type);

/* Returns the scale of a column whose largest magnitude is `largest`; 1 for 16-bit types. */
float weight_scale(enum weight_type type, float largest);

/* Rounds value / scale to nearest, ties to even; a scale of 0 gives code 0. */
uint16_t weight_encode(enum weight_type type, float value, float scale);

/* Returns the value of a code: scale * its number. */
float weight_decode(enum weight_type type, uint16_t code, float scale);

#endif
