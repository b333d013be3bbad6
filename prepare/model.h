/* A Hugging Face model directory: config.json, and safetensors with the projections of each layer. */
#ifndef PREPARE_MODEL_H
#define PREPARE_MODEL_H

#include "../gen/gen.h"
#include "safetensors.h"

typedef struct model {
    char *json; /* the `model` object of a spec */
    int hidden_size, kv_heads, head_dim, layers;
    safetensors *weights;
} model;

/* Errors: XQ_ERROR_IO, XQ_ERROR_FORMAT for files; those of gen_model_from_config. */
xq_status model_open(gen *g, const char *directory, model **out, error *err);
void model_close(model *m);

/* Projections of a layer, x·W as docs/method.md writes them: wk, wv [hidden_size, kv_heads * head_dim],
 * f32; the file holds their transposes. Caller frees both. A missing tensor, a wrong shape, a NaN or an
 * infinity, a bias or QK-norm (no kernel applies them yet) are refused by the tensor's name.
 * Errors: XQ_ERROR_FORMAT, XQ_ERROR_UNSUPPORTED, XQ_ERROR_ARGUMENT (layer), XQ_ERROR_MEMORY. */
xq_status model_layer(const model *m, int layer, float **wk, float **wv, error *err);

#endif
