/* Attention in double precision on the host: kernels are judged against its results.
 *
 * Nothing here shares code with the kernels or the generator: RoPE angles, ALiBi slopes, softmax and
 * products are computed from their definitions (docs/method.md §3). Matrices are row major. */
#ifndef AUTOTUNE_REFERENCE_REFERENCE_H
#define AUTOTUNE_REFERENCE_REFERENCE_H

#include "../../runtime/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REFERENCE_MAX_PAIRS 512
#define REFERENCE_MAX_HEADS 1024

typedef enum reference_norm { REFERENCE_NO_NORM, REFERENCE_NORM_HEAD, REFERENCE_NORM_ROW } reference_norm;

/* The parts of a model that attention depends on. */
typedef struct reference_model {
    int hidden_size, heads, kv_heads, head_dim;
    double scale;                                 /* factor of q·k */
    int pairs;                                    /* rotated pairs; 0: no RoPE */
    bool interleaved;                             /* pairs are (2i, 2i + 1), else (i, i + pairs) */
    long double frequencies[REFERENCE_MAX_PAIRS]; /* radians per position */
    double attention_factor; /* RoPE scaling multiplies rotated queries and keys by it; 0: 1 */
    reference_norm norm;     /* of keys, before RoPE: over a head, or over a row of all heads */
    double norm_epsilon;
    double softcap;          /* scores become softcap * tanh(score / softcap); 0: no soft-cap */
    int64_t window;          /* tokens that a query sees, its own among them; 0: no limit */
    bool bias, sinks, alibi; /* whether keys and values have a bias, softmax a sink, scores ALiBi */
    double slopes[REFERENCE_MAX_HEADS]; /* alibi, per head: how much a score falls for each position of
                                           distance */
} reference_model;

/* Reads the model of a completed spec. Errors: XQ_ERROR_SPEC for a text that is no completed spec;
 * XQ_ERROR_UNSUPPORTED for a model feature that the reference does not compute. */
xq_status reference_model_read(const char *completed_json, reference_model *model, error *err);

/* Applies RoPE in place, without the attention factor. Row r of data [rows, heads, head_dim] is at position
 * first + r. */
void reference_rotate(const reference_model *model, double *data, int64_t rows, int heads, int64_t first);

/* y [rows, cols] = x [rows, inner] * w [inner, cols]. */
void reference_multiply(const double *x, const double *w, double *y, int64_t rows, int inner, int cols);

/* ---------------------------------------------------------------- a layer */

/* The projections of a layer as kernels have them, rounded to their type. Keys are made of xk [tokens,
 * latents_k * inner_k]: the columns of KV head h multiply latent number h * latents_k / kv_heads. Values
 * are made of xv in the same way. Vectors may be NULL where the model has none. */
typedef struct reference_layer {
    const double *wk, *wv; /* [inner_k, dkv], [inner_v, dkv] */
    int inner_k, inner_v;
    int latents_k, latents_v;
    const double *bk, *bv; /* [dkv] */
    const double *k_norm;  /* [head_dim], or [dkv] for REFERENCE_NORM_ROW */
    const double *sinks;   /* [heads] */
} reference_layer;

/* reference_keys computes keys as queries meet them: projected, biased, normalized, and rotated to
 * positions [tokens]. reference_values computes values: projected and biased. */
xq_status reference_keys(const reference_model *model, const reference_layer *layer, int64_t tokens,
                         const double *xk, const int64_t *positions, double *k, error *err);
xq_status reference_values(const reference_model *model, const reference_layer *layer, int64_t tokens,
                           const double *xv, double *v, error *err);

/* The queries of one sequence (struct xq_attend_args in xq/xq.h). */
typedef struct reference_queries {
    int64_t count;
    const double *q;           /* [count, heads, head_dim] before RoPE */
    const int64_t *positions;  /* [count]; NULL: the last positions, in order */
    int64_t token_offset;      /* position of token 0 */
    const uint32_t *tree_mask; /* [count, mask_words], or NULL */
    int mask_words;
    bool without_sinks;
} reference_queries;

/* The positions of tokens: token_offset + t; drafts of a tree have the positions of their queries. */
void reference_token_positions(const reference_queries *queries, int64_t tokens, int64_t *positions);

/* Attends over k (from reference_keys) and v, both [tokens, kv_heads, head_dim]. out is [count, heads,
 * head_dim]. lse [count, heads] is ln Σ exp(score), in which a sink counts where it is used. A query that
 * sees no token gets zeros and an lse of -inf. Errors: XQ_ERROR_MEMORY. */
xq_status reference_attend_queries(const reference_model *model, const reference_layer *layer,
                                   int64_t tokens, const double *k, const double *v,
                                   const reference_queries *queries, double *out, double *lse, error *err);

/* Attends without values: it projects weighted sums of the rows xv from which values are made, (P·X)·Wv
 * instead of P·(X·Wv). This takes a fraction of the time where a long sequence has few queries. */
xq_status reference_attend_rows(const reference_model *model, const reference_layer *layer, int64_t tokens,
                                const double *k, const double *xv, const reference_queries *queries,
                                double *out, double *lse, error *err);

/* Computes a whole attention layer from the cached rows xk and xv. */
xq_status reference_attend_layer(const reference_model *model, const reference_layer *layer, int64_t tokens,
                                 const double *xk, const double *xv, const reference_queries *queries,
                                 double *out, double *lse, error *err);

/* Joins two results over different tokens by their log-sum-exp, and stores the joined result in the first:
 * out [rows, width], lse [rows]. */
void reference_merge(double *out_a, double *lse_a, const double *out_b, const double *lse_b, int64_t rows,
                     int width);

/* The relative L2 error ‖got - expected‖ / ‖expected‖. It is infinity if any value of either array is not
 * finite. Where expected is zero, it is 0 if got is zero too, else infinity. */
double reference_error(const double *expected, const double *got, size_t count);

#endif
