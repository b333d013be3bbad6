/* Makes the matrices of a cache method from a layer's projections. This needs LAPACK, on which the library
 * does not depend. */
#ifndef PREPARE_LAYER_FACTOR_H
#define PREPARE_LAYER_FACTOR_H

#include "layer.h"

/* Makes the factors of the method from wk and wv, unless they exist already. lost (may be NULL) is the loss
 * of K's and of V's projection as factor.h defines it; in latent-cl both are the same. Errors: those of
 * factor.h; XQ_ERROR_ARGUMENT where method x with rotation has projections that are zero (field "wk,
 * wv"). */
xq_status layer_factor(const layer_shape *shape, layer_weights *w, double lost[2], error *err);

#endif
