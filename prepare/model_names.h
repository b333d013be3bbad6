/* What checkpoints call the tensors of an attention layer, and how they keep keys and values in them. */
#ifndef PREPARE_MODEL_NAMES_H
#define PREPARE_MODEL_NAMES_H

#include "model.h"

/* How files keep the rows of K's and V's projections: matrices of their own, or one of query, key and
 * value; then either all queries, all keys, all values, or so for each KV head in turn. */
typedef enum packing_order { SEPARATE, IN_BLOCKS, BY_HEAD } packing_order;

/* PREFIX.N.ATTENTION.PROJECTION */
typedef struct naming {
    const char *prefix, *attention, *fused;
    packing_order packing;
} naming;

typedef struct layer_name {
    const model *m;
    const naming *naming;
    int layer;
} layer_name;

/* The first naming that fits the first layer with keys and values; the very first when none does, for
 * errors. */
const naming *model_naming(const model *m);

void model_tensor_name(const layer_name *l, const char *what, char *name, size_t size);

/* NULL where the files have no such tensor. */
const tensor *model_find(const layer_name *l, const char *what);

/* What would be ignored, or cannot be read, in any layer with keys and values: XQ_ERROR_UNSUPPORTED with
 * the tensor and the method where projections are quantized (GPTQ, AWQ, bitsandbytes and others), or have
 * other parts than a weight and a bias (LoRA);
 * XQ_ERROR_FORMAT with both tensors where a layer has projections by two namings. */
xq_status model_check_names(const model *m, error *err);

#endif
