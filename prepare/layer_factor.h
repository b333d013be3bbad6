/* Making the matrices of a cache method from a layer's projections. Needs LAPACK, which the library does
 * not. */
#ifndef PREPARE_LAYER_FACTOR_H
#define PREPARE_LAYER_FACTOR_H

#include "layer.h"

/* Makes the factors of the method from wk and wv, unless they are there. lost (may be NULL): of K's and V's
 * projections (latent-cl: both the same), as factor.h says. Errors: those of factor.h; XQ_ERROR_ARGUMENT
 * where projections are zero that are to be rotated (fields "wk", "wv"). */
xq_status layer_factor(const layer_shape *shape, layer_weights *w, double lost[2], error *err);

#endif
