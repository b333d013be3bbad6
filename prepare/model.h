/* A Hugging Face model directory: config.json, and safetensors with the projections of each layer. */
#ifndef PREPARE_MODEL_H
#define PREPARE_MODEL_H

#include "../gen/gen.h"
#include "layer.h"
#include "safetensors.h"

typedef struct model {
    char *json; /* the `model` object of a spec */
    layer_shape shape;
    bool norm_plus_one; /* checkpoints store the norms' factors minus one, as Gemma's do */
    int layers;
    bool *attends;   /* [layers]: whether the layer keeps keys and values */
    char method[48]; /* how the checkpoint is quantized, according to config.json; "" if it does not say */
    safetensors *weights;
} model;

/* Opens a model directory. Errors: XQ_ERROR_IO and XQ_ERROR_FORMAT for files; XQ_ERROR_UNSUPPORTED, with
 * the method's name, for a checkpoint whose projections are quantized; those of gen_model_from_config. */
xq_status model_open(gen *g, const char *directory, model **out, error *err);
void model_close(model *m);

/* Checks that the model's tensors have the sizes in a spec's model, which options may have changed:
 * model_layer reads the matrices by the directory's own sizes. Errors: XQ_ERROR_SPEC with the field. */
xq_status model_expect(const model *m, const layer_shape *shape, error *err);
/* Sets this error for a field of the spec. */
xq_status model_differs(const char *field, error *err);

/* Reads a layer's projections as the W of x·W (docs/method.md); files hold transposes, some in one matrix
 * with the query's projection. It also reads the biases, key norms and sinks that the model has. Caller
 * frees with layer_weights_free. It refuses a tensor that is missing, that config.json does not announce,
 * or that has a wrong shape, a NaN or an infinity, and names the tensor in the error. Errors:
 * XQ_ERROR_FORMAT, XQ_ERROR_UNSUPPORTED, XQ_ERROR_ARGUMENT (layer), XQ_ERROR_MEMORY. */
xq_status model_layer(const model *m, int layer, layer_weights *out, error *err);

/* The tensor from which a layer's projection of K (or V) is read; NULL where the files lack it. */
const tensor *model_projection(const model *m, int layer, bool value);

/* A hash of all tensors from which these layers are read: their names, types, shapes and bytes. Errors:
 * XQ_ERROR_MEMORY. */
xq_status model_hash(const model *m, const int *layers, int count, uint64_t *hash, error *err);

#endif
