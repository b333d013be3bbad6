/* Computes on the host what a layer of a cross-layer cache must hold, from what it held before. The
 * quantizer and the order of the roundings are those of docs/layout.md and docs/method-x-cl.md. Failures
 * end the test. */
#ifndef TESTS_CROSS_LAYER_MODEL_H
#define TESTS_CROSS_LAYER_MODEL_H

#include "../../autotune/engine/page_codec.h"
#include "../../autotune/reference/reference.h"

/* One layer of the stack: its kind, and the codecs that read its bytes. */
typedef struct model_layer_kind {
    bool cross, base, latent; /* latent: the method is latent or latent-cl */
    page_codec *codec, *accumulator;
    reference_model model;
    reference_layer layer; /* weights as kernels see them */
    const double *uk;      /* latent-cl: Ukv [d, width of the stored latent], its padding zero */
} model_layer_kind;

/* Decodes x̂ [length, d] from an accumulator. */
void model_accumulated(const model_layer_kind *kind, const page_sequence *accumulator, double *x_hat);

/* Checks the tokens from `begin` on, which were appended last. They must be quantized correctly against the
 * accumulator of the layers before, or still be in the tail unchanged. x [length, d] f16 holds all tokens
 * of the layer. The check is bit for bit where x itself or its delta is cached, and within half a step
 * where it is projected. */
void model_check_append(const model_layer_kind *kind, const page_sequence *cache, const double *before,
                        const uint16_t *x, int begin);

/* Checks the accumulator after this layer, for all tokens: bit for bit for method x-cl, else within
 * rounding. */
void model_check_accumulate(const model_layer_kind *kind, const page_sequence *cache, const double *before,
                            const uint16_t *x, const page_sequence *after);

/* Checks the output [count, H, dh] and lse [count, H] of the last `count` positions against double
 * precision. The layer attends over the accumulator; a layer before the base layer attends over its own
 * cache. */
void model_check_attend(const model_layer_kind *kind, const page_sequence *cache, int count,
                        const uint16_t *q, const uint16_t *out, const float *lse);

#endif
