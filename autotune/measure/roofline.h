/* The least that a step of attention can cost in any implementation: every byte that it must read or write
 * is moved once, and the FLOPs are those of the cheapest exact formulation (docs/method.md §4). */
#ifndef AUTOTUNE_MEASURE_ROOFLINE_H
#define AUTOTUNE_MEASURE_ROOFLINE_H

#include "../../prepare/layer.h"
#include "ceilings.h"

/* The properties of a layer, besides its shape, on which its cost depends. */
typedef struct roofline_layer {
    char weights[8];   /* type of the packed weights, as a spec names it */
    bool base;         /* cross-layer methods: the layer starts the accumulator */
    int remat_columns; /* columns of a head of K that RoPE rotates or that are normalized; the others can be
                          absorbed */
    int64_t window;    /* tokens that a query sees; 0: all */
} roofline_layer;

typedef struct roofline_load {
    int64_t tokens;     /* tokens of each sequence */
    int batch, queries; /* queries of each sequence, at its last positions */
    double page_bytes_per_token, accumulator_bytes_per_token;
} roofline_load;

typedef struct roofline_limit {
    double bytes, flops;
    double seconds; /* 0 if the device's ceilings are not known */
    bool by_memory; /* the bytes take longer than the FLOPs */
} roofline_limit;

/* `kv`: the limit of a cache of keys and values. Ceilings of 0 are unknown. */
void roofline(const layer_shape *shape, const roofline_layer *layer, bool kv, const roofline_load *load,
              const ceilings *best, roofline_limit *limit);

/* The limit of appending `queries` tokens to each sequence: it reads activations, writes codes and scales,
 * and computes the projection where the method has one. The projection has 16-bit weights, whatever the
 * type of the others is. */
void roofline_append(const layer_shape *shape, const roofline_load *load, const ceilings *best,
                     roofline_limit *limit);

#endif
