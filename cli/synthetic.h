/* Inputs of an attention layer that behave like a real model's, from a seed: for when no model is at hand.
 *
 * Activations after a normalization: correlated between neighbouring tokens, with a mean per channel, and
 * with a few outlier channels many times larger than the rest, which is what makes quantization hard.
 * Projections: random, with a spectrum that decays as real ones do. Queries are scaled so that scores
 * spread by about 2. */
#ifndef CLI_SYNTHETIC_H
#define CLI_SYNTHETIC_H

#include "../prepare/layer.h"

#include <stdint.h>

/* wk and wv of a layer, and the matrices that layer_factor would make of them for this shape: U·A is W,
 * truncated to the rank. Other layers have other matrices, and so have methods and numbers of groups. What
 * was allocated is w's, also after an error (XQ_ERROR_MEMORY). */
xq_status synthetic_projections(uint64_t seed, int layer, const layer_shape *shape, layer_weights *w,
                                error *err);

/* x [tokens, width]; sequence: another text for each. */
void synthetic_activations(uint64_t seed, int sequence, int64_t tokens, int width, float *x);

/* x [tokens, width] of a layer among layers: `common` and `own` are seeds of what layers share, and of this
 * one's own part, a tenth of the variance. */
xq_status synthetic_layer(uint64_t common, uint64_t own, int sequence, int64_t tokens, int width, float *x,
                          error *err);

/* v [count]: normally distributed around `mean`; another vector for each `which`. */
void synthetic_vector(uint64_t seed, int which, int count, double mean, double deviation, float *v);

/* q [count]: normally distributed, of standard deviation `size`. */
void synthetic_queries(uint64_t seed, int sequence, int count, double size, float *q);

#endif
