/* The types of packed weights, and the rounding to each. 8-bit types have one scale for each column of a
 * matrix. */
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

#define WEIGHT_COLUMNS 16 /* columns that weight_encode_columns takes; it rounds each on its own */

/* Rounds WEIGHT_COLUMNS columns: w [rows, WEIGHT_COLUMNS], finite -> codes of the same shape, and the scale
 * of each column, which is 1 for 16-bit types. Let `base` be the column's largest magnitude divided by the
 * largest code, 127 or 448. All scales are rounded up to 16 significant bits, so that their products with
 * 1.5 * 2^23, which attend_folded.cuh makes, are exact in f32.
 *   - f16, bf16: to nearest, ties to even.
 *   - e4m3: the scale is `base`; w / scale to nearest, ties to even.
 *   - int8: the sum of the codes of each block of 64 rows, counted from row 0, is the whole number nearest
 *     to the sum of w / scale. Cached values have a large mean over the channels of a quantization group,
 *     and such a sum multiplies it, so errors must not add up over the rows. The scale is one of 256
 *     candidates from `base` to 1.1 * base: the one whose sums over blocks are nearest to whole numbers.
 *     Columns of more than 64 blocks have the scale `base`. A code differs by at most one from w / scale
 *     rounded to nearest.
 *
 * A weight of 0 has code 0. So rows of zeros that fill up the last block change neither scales nor other
 * codes. */
void weight_encode_columns(enum weight_type type, int64_t rows, const float *w, float *scales,
                           uint16_t *codes);

/* Returns the value of a code: scale * its number. */
float weight_decode(enum weight_type type, uint16_t code, float scale);

#endif
