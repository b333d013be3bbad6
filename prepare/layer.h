/* The host matrices that kernels need for one attention layer: which matrices a cache method has
 * (layer_factor.h makes them). All are f32, row major, and shaped as xq_weights says. */
#ifndef PREPARE_LAYER_H
#define PREPARE_LAYER_H

#include "../runtime/plan/spec_view.h"

#include <stdbool.h>
#include <stddef.h>

/* The most layers of a model, as in gen/schema.lua. */
enum { LAYER_MOST_LAYERS = 10000 };

bool layer_is_cross(const layer_shape *shape);
/* layer_is_rotated_x: method x with rotation. layer_is_factored: K and V are made with factors, as (x·U)·A,
 * instead of with wk and wv. */
bool layer_is_rotated_x(const layer_shape *shape);
bool layer_is_factored(const layer_shape *shape);

/* A pointer is NULL where the layer has no such matrix. */
typedef struct layer_weights {
    float *wk, *wv;           /* [d, dkv] */
    float *uk, *ak, *uv, *av; /* latent: [d, rank_k], [rank_k / groups_k, dkv], [d, rank_v], [rank_v /
                                 groups_v, dkv]; rotated x: [d, d], [d, dkv], none, [d, dkv] */
    float *ukv;               /* latent-cl: [d, rank_k] */
    float *bk, *bv;           /* [dkv] */
    float *k_cost;            /* [dkv, dh]; method latent with feedback */
    float *k_norm;            /* [dh], or [dkv] */
    float *sinks;             /* [H] */
} layer_weights;

/* One matrix or vector of a layer. */
typedef struct layer_part {
    const char *name;
    int rows, cols; /* a vector has one row */
    size_t member;  /* offset of its pointer in layer_weights */
    bool is_vector;
    bool keep_f32; /* small, and always used in f32: a vector, or the costs of errors */
} layer_part;
enum { LAYER_MOST_PARTS = 9 };
int layer_parts(const layer_shape *shape, layer_part parts[LAYER_MOST_PARTS]);
/* layer_parts lists what the kernels of the shape's method take. layer_given lists what the model's files
 * give, whatever the method: wk, wv, and the vectors. Both return the number of parts. */
int layer_given(const layer_shape *shape, layer_part parts[LAYER_MOST_PARTS]);
float **layer_member(layer_weights *w, const layer_part *part);

xq_weights layer_api_weights(const layer_weights *w); /* for API calls; points into w */
void layer_weights_free(layer_weights *w);

#endif
