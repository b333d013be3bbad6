/* A Hugging Face model directory: config.json, and safetensors with the projections of each layer. */
#ifndef PREPARE_MODEL_H
#define PREPARE_MODEL_H

#include "../gen/gen.h"
#include "layer.h"
#include "safetensors.h"

typedef struct model {
    char *json; /* the `model` object of a spec */
    layer_shape shape;
    bool norm_plus_one; /* norms are stored less one, as Gemma's are */
    int layers;
    bool *attends;   /* [layers]: whether the layer keeps keys and values */
    char method[48]; /* how config.json says that the checkpoint is quantized; "" if it does not */
    safetensors *weights;
} model;

/* Errors: XQ_ERROR_IO, XQ_ERROR_FORMAT for files; XQ_ERROR_UNSUPPORTED for a checkpoint whose projections
 * are quantized, with the method's name; those of gen_model_from_config. */
xq_status model_open(gen *g, const char *directory, model **out, error *err);
void model_close(model *m);

/* Whether the model's tensors have the sizes of a spec's model, which options may have changed:
 * model_layer's matrices are read by them. Errors: XQ_ERROR_SPEC with the field. */
xq_status model_expect(const model *m, const layer_shape *shape, error *err);

/* Projections of a layer, x·W as docs/method.md writes them (files hold transposes, some with the query's
 * in the same matrix), and the biases, key norms and sinks that the model has. Caller frees with
 * layer_weights_free. A missing tensor, one that config.json says nothing of, a wrong shape, a NaN or an
 * infinity are refused by the tensor's name. Errors: XQ_ERROR_FORMAT, XQ_ERROR_UNSUPPORTED,
 * XQ_ERROR_ARGUMENT (layer), XQ_ERROR_MEMORY. */
xq_status model_layer(const model *m, int layer, layer_weights *out, error *err);

/* The tensor that K's (V's) projection of a layer is read from; NULL where the files lack it. */
const tensor *model_projection(const model *m, int layer, bool value);

/* A hash of all tensors that these layers are read from: names, types, shapes and bytes. Errors:
 * XQ_ERROR_MEMORY. */
xq_status model_hash(const model *m, const int *layers, int count, uint64_t *hash, error *err);

#endif
