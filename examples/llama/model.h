/* A decoder's forward pass in f32. Keys, values and attention are the work of the cache (cache.h). */
#ifndef LLAMA_MODEL_H
#define LLAMA_MODEL_H

#include "cache.h"
#include "config.h"

#include <stdint.h>

/* Projections are [out, in], as checkpoints store them, except wk and wv. Norms hold the gains that
 * multiply (for Gemma 1 + w). A matrix that the model does not have is NULL. */
typedef struct model_layer {
    float *attention_norm, *mlp_norm;             /* norms of a block's input */
    float *after_attention_norm, *after_mlp_norm; /* norms of a block's output (Gemma) */
    float *q, *o, *gate, *up, *down;
    float *q_norm, *k_norm; /* [dh] */
    float *wk, *wv;         /* [d, dkv]: y = x * w, as xq takes them */
} model_layer;

typedef struct model {
    config config;
    float *embedding, *output; /* [vocabulary, d]; the same pointer if they are tied */
    float *norm;
    model_layer *layers;
} model;

model *model_open(const char *directory);
void model_close(model *m);

/* Runs `ids`, the next `count` tokens of the cache's sequence, through all layers. Writes hidden [count,
 * d], the hidden states after the final norm. */
void model_forward(const model *m, cache *c, const int32_t *ids, int count, float *hidden);

/* Writes logits [count, vocabulary]. */
void model_logits(const model *m, const float *hidden, int count, float *logits);

#endif
