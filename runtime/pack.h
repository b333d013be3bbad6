/* Weights in the order that the kernels read them (docs/layout.md), and what the kernels see of them. */
#ifndef RUNTIME_PACK_H
#define RUNTIME_PACK_H

#include "shape.h"

/* Fills `destination`, of as many bytes as the implementation's packed weights have. Everything is checked
 * before anything is written. Errors: XQ_ERROR_ARGUMENT naming the field of xq_weights; XQ_ERROR_MEMORY. */
xq_status pack_weights(const struct shape *shape, xq_implementation implementation,
                       const xq_weights *weights, void *destination, error *err);

/* The caller's matrix `source` ("wk", "ak", ...) after rounding to the weight type, exact and in the
 * caller's order: out [rows, cols] as xq_weights has it. 8-bit weights have a scale for each packed column:
 * of a rematerialized column of K, its own; of the columns that are absorbed into the query, a row's.
 * XQ_ERROR_ARGUMENT where the implementation packs no such matrix. */
xq_status pack_rounded(const struct shape *shape, xq_implementation implementation,
                       const xq_weights *weights, const char *source, double *out, error *err);

#endif
