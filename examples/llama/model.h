/* A decoder's forward pass in f32, all of it but what the cache does: keys, values and attention. */
#ifndef LLAMA_MODEL_H
#define LLAMA_MODEL_H

#include "cache.h"
#include "config.h"

#include <stdint.h>

/* Projections are [out, in], as checkpoints store them; gains as they multiply (Gemma: 1 + w). Absent:
 * NULL. */
typedef struct model_layer {
    float *attention_norm, *mlp_norm;             /* of what enters a block */
    float *after_attention_norm, *after_mlp_norm; /* of what leaves it (Gemma) */
    float *q, *o, *gate, *up, *down;
    float *q_norm, *k_norm; /* [dh] */
    float *wk, *wv;         /* [d, dkv]: y = x * w, as xq takes them */
} model_layer;

typedef struct model {
    config config;
    float *embedding, *output; /* [vocabulary, d]; the same where tied */
    float *norm;
    model_layer *layers;
} model;

model *model_open(const char *directory);
void model_close(model *m);

/* The next `count` tokens of the cache's sequence, `ids`, through all layers: hidden [count, d],
 * normalized.
 */
void model_forward(const model *m, cache *c, const int32_t *ids, int count, float *hidden);

/* logits [count, vocabulary]. */
void model_logits(const model *m, const float *hidden, int count, float *logits);

#endif
