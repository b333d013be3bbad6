/* Weights in the order that the kernels read them. */
#ifndef RUNTIME_PACK_H
#define RUNTIME_PACK_H

#include "../gen/error.h"

/* Packs W [rows, cols], row major f32, as f16 in fragment order (docs/layout.md): tiles of 16 columns, in
 * each steps of 16 rows: what 32 lanes load with 16 bytes each. rows and cols are multiples of 16. `name`
 * is that of the argument, for errors: a value that is not finite in f16. Nothing is written on failure. */
xq_status pack_matrix(uint16_t *destination, const float *source, int32_t rows, int32_t cols,
                      const char *name, error *err);

#endif
