/* Attention in double precision on the host: what kernels are judged against.
 *
 * Nothing here shares code with the kernels or the generator: RoPE angles, softmax and products are
 * computed from the definitions (docs/method.md §3). Matrices are row major. */
#ifndef AUTOTUNE_REFERENCE_H
#define AUTOTUNE_REFERENCE_H

#include "../gen/error.h"

#include <stddef.h>
#include <stdint.h>

#define REFERENCE_MAX_PAIRS 256

/* What attention needs to know of a model. */
typedef struct reference_model {
    int hidden_size, heads, kv_heads, head_dim;
    double scale;                            /* of q·k */
    int pairs;                               /* rotated pairs (i, i + head_dim / 2); 0: no RoPE */
    double frequencies[REFERENCE_MAX_PAIRS]; /* radians per position */
} reference_model;

/* From a completed spec. Errors: XQ_ERROR_SPEC for a text that is none, XQ_ERROR_UNSUPPORTED for a
 * model feature that the reference does not compute. */
xq_status reference_model_read(const char *completed_json, reference_model *model, error *err);

/* RoPE in place: row r of data [rows, heads, head_dim] is at position first + r. */
void reference_rotate(const reference_model *model, double *data, int64_t rows, int heads, int64_t first);

/* y [rows, cols] = x [rows, inner] * w [inner, cols]. */
void reference_multiply(const double *x, const double *w, double *y, int64_t rows, int inner, int cols);

/* One query over `tokens` cached tokens: k (rotated) and v [tokens, kv_heads, head_dim], q (rotated)
 * [heads, head_dim] → out [heads, head_dim], lse [heads] = ln Σ exp(scale q·k). No tokens: zeros and -inf.
 * Errors: XQ_ERROR_MEMORY. */
xq_status reference_attend(const reference_model *model, int64_t tokens, const double *k, const double *v,
                           const double *q, double *out, double *lse, error *err);

/* The same from factors: K = xk [tokens, inner_k] * wk [inner_k, dkv], V likewise, K and q rotated as
 * their positions say; the query is at position tokens - 1. */
typedef struct reference_factors {
    const double *xk, *xv; /* may be the same matrix */
    const double *wk, *wv;
    int inner_k, inner_v;
} reference_factors;
xq_status reference_attend_factors(const reference_model *model, int64_t tokens,
                                   const reference_factors *factors, const double *q, double *out,
                                   double *lse, error *err);

/* ‖got - expected‖ / ‖expected‖ (L2); infinity if any value of `got` is not finite. Against an expected
 * zero: 0 if got is zero too, else infinity. */
double reference_error(const double *expected, const double *got, size_t count);

#endif
