/* The least that a step of attention costs, whoever does it: every byte that it must read or write moved
 * once, and the FLOPs of the cheapest exact formulation (docs/method.md §4). */
#ifndef AUTOTUNE_MEASURE_ROOFLINE_H
#define AUTOTUNE_MEASURE_ROOFLINE_H

#include "../../prepare/layer.h"
#include "ceilings.h"

/* The properties of a layer, beside its shape, on which its cost depends. */
typedef struct roofline_layer {
    char weights[8];   /* type of packed weights, as a spec names it */
    bool base;         /* cross-layer: starts the accumulator */
    int remat_columns; /* of a head of K: those that turn or are normalized; the others can be absorbed */
    int64_t window;    /* tokens that a query sees; 0: all */
} roofline_layer;

typedef struct roofline_load {
    int64_t tokens;     /* of each sequence */
    int batch, queries; /* queries of each sequence, at its last positions */
    double page_bytes_per_token, accumulator_bytes_per_token;
} roofline_load;

typedef struct roofline_limit {
    double bytes, flops;
    double seconds; /* 0 when the device's ceilings are not known */
    bool by_memory; /* bytes bind, not FLOPs */
} roofline_limit;

/* `kv`: of a cache of keys and values. Ceilings of 0 are not known. */
void roofline(const layer_shape *shape, const roofline_layer *layer, bool kv, const roofline_load *load,
              const ceilings *best, roofline_limit *limit);

/* The same for appending `queries` tokens to each sequence: activations in, codes and scales out, and the
 * projection where the method has one. */
void roofline_append(const layer_shape *shape, const roofline_layer *layer, const roofline_load *load,
                     const ceilings *best, roofline_limit *limit);

#endif
