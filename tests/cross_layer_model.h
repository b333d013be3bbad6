/* What a layer of a cross-layer cache must hold, worked out on the host from what it held before: the
 * quantizer and the order of the roundings as docs/layout.md and docs/method-x-cl.md give them. Failures
 * end the test. */
#ifndef TESTS_CROSS_LAYER_MODEL_H
#define TESTS_CROSS_LAYER_MODEL_H

#include "../autotune/engine/page_codec.h"
#include "../autotune/reference/reference.h"

/* One layer of the stack: its kind, and how its bytes are read. */
typedef struct model_layer_kind {
    bool cross, base, latent; /* latent: method latent or latent-cl */
    page_codec *codec, *accumulator;
    reference_model model;
    reference_layer layer; /* weights as kernels see them */
    const double *uk;      /* latent-cl: Ukv [d, width of the stored latent], its padding zero */
} model_layer_kind;

/* x̂ [length, d] that an accumulator holds. */
void model_accumulated(const model_layer_kind *kind, const page_sequence *accumulator, double *x_hat);

/* The tokens from `begin` on, appended last (x [length, d] f16: all tokens of the layer), are quantized (or
 * still whole in the tail) as they must be against the accumulator of the layers before. Bit for bit where
 * x itself or its delta is cached; within half a step where it is projected. */
void model_check_append(const model_layer_kind *kind, const page_sequence *cache, const double *before,
                        const uint16_t *x, int begin);

/* The accumulator after this layer, for all tokens: bit for bit of method x-cl, else within rounding. */
void model_check_accumulate(const model_layer_kind *kind, const page_sequence *cache, const double *before,
                            const uint16_t *x, const page_sequence *after);

/* Output [count, H, dh] and lse [count, H] of the last `count` positions against double precision over the
 * cache that the layer attends over: the accumulator, or its own of the layers before the base. */
void model_check_attend(const model_layer_kind *kind, const page_sequence *cache, int count,
                        const uint16_t *q, const uint16_t *out, const float *lse);

#endif
