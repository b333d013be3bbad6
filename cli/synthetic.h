/* Makes inputs of an attention layer from a seed that behave like those of a real model, for use without a
 * model.
 *
 * Activations are those after a normalization: they are correlated between neighbouring tokens, each
 * channel has its own mean, and a few outlier channels are many times larger than the rest, which makes
 * quantization hard. Projections are random, with a spectrum that decays as real ones do. Queries are
 * scaled so that scores spread by about 2. */
#ifndef CLI_SYNTHETIC_H
#define CLI_SYNTHETIC_H

#include "../prepare/layer.h"

#include <stdint.h>

/* Makes wk and wv of a layer, and the matrices that layer_factor would make of them for this shape: U·A is
 * W, truncated to the rank. The matrices differ between layers, methods and numbers of groups.
 * The allocated matrices belong to w, also after an error (XQ_ERROR_MEMORY). */
xq_status synthetic_projections(uint64_t seed, int layer, const layer_shape *shape, layer_weights *w,
                                error *err);

/* x [tokens, width]; every sequence is another text. */
void synthetic_activations(uint64_t seed, int sequence, int64_t tokens, int width, float *x);

/* x [tokens, width] of one of several layers. `common` is the seed of the part that the layers share, and
 * `own` that of this layer's own part, which has a tenth of the variance. */
xq_status synthetic_layer(uint64_t common, uint64_t own, int sequence, int64_t tokens, int width, float *x,
                          error *err);

/* v [count]: normally distributed around `mean`; every `which` gives another vector. */
void synthetic_vector(uint64_t seed, int which, int count, double mean, double deviation, float *v);

/* q [count]: normally distributed, with standard deviation `size`. */
void synthetic_queries(uint64_t seed, int sequence, int count, double size, float *q);

#endif
