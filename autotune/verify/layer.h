/* A layer's projections in double precision, as each implementation has them. */
#ifndef AUTOTUNE_VERIFY_LAYER_H
#define AUTOTUNE_VERIFY_LAYER_H

#include "state.h"

/* A layer's projections as one implementation has them: rounded to their type. */
typedef struct verify_layer {
    reference_layer layer;
    double *wk, *wv, *vectors;
} verify_layer;
xq_status verify_layer_create(const verify_state *v, int implementation, int layer, verify_layer *out,
                              error *err);
void verify_layer_free(verify_layer *l);

#endif
