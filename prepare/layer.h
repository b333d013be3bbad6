/* What the kernels need of one attention layer, on the host: which matrices a cache method has
 * (layer_factor.h makes them). All f32, row major, shaped as xq_weights says. */
#ifndef PREPARE_LAYER_H
#define PREPARE_LAYER_H

#include "../runtime/plan/spec_view.h"

#include <stdbool.h>
#include <stddef.h>

/* Layers of a model, at most: as gen/schema.lua has it. */
enum { LAYER_MOST_LAYERS = 10000 };

bool layer_is_cross(const layer_shape *shape);
/* Method x with rotation; and whether K and V are made of factors, x·U and A, rather than of wk and wv. */
bool layer_is_rotated_x(const layer_shape *shape);
bool layer_is_factored(const layer_shape *shape);

/* NULL where there is none. */
typedef struct layer_weights {
    float *wk, *wv;           /* [d, dkv] */
    float *uk, *ak, *uv, *av; /* latent: [d, rank_k], [rank_k / groups, dkv], [d, rank_v], ...; rotated
                                 x: [d, d], [d, dkv], none, [d, dkv] */
    float *ukv;               /* latent-cl: [d, rank_k] */
    float *bk, *bv;           /* [dkv] */
    float *k_cost;            /* [dkv, dh]: latents with feedback */
    float *k_norm;            /* [dh], or [dkv] */
    float *sinks;             /* [H] */
} layer_weights;

/* The matrices and vectors that kernels of this method take, of a model as it comes: */
typedef struct layer_part {
    const char *name;
    int rows, cols; /* of a vector: one row */
    size_t member;  /* offset of its pointer in `weights` */
    bool is_vector;
    bool keep_f32; /* small, and always used in f32: vectors, and what errors cost */
} layer_part;
enum { LAYER_MOST_PARTS = 9 };
int layer_parts(const layer_shape *shape, layer_part parts[LAYER_MOST_PARTS]);
/* Those that the model's files give, whatever the method: wk, wv, and the vectors. */
int layer_given(const layer_shape *shape, layer_part parts[LAYER_MOST_PARTS]);
float **layer_member(layer_weights *w, const layer_part *part);

xq_weights layer_api_weights(const layer_weights *w); /* as the API takes them; points into w */
void layer_weights_free(layer_weights *w);

#endif
