/* The names that checkpoints give to the tensors of an attention layer, and how those tensors store keys
 * and values. */
#ifndef PREPARE_MODEL_NAMES_H
#define PREPARE_MODEL_NAMES_H

#include "model.h"

/* How files store the rows of K's and V's projections. SEPARATE: each projection is a matrix of its own.
 * Otherwise query, key and value share a matrix. IN_BLOCKS: it holds all queries, then all keys, then all
 * values. BY_HEAD: it holds the queries, key and value of one KV head after the other. */
typedef enum packing_order { SEPARATE, IN_BLOCKS, BY_HEAD } packing_order;

/* Tensors are named PREFIX.N.ATTENTION.PROJECTION. */
typedef struct naming {
    const char *prefix, *attention, *fused;
    packing_order packing;
} naming;

typedef struct layer_name {
    const model *m;
    const naming *naming;
    int layer;
} layer_name;

/* The first naming that fits the first layer with keys and values. If none fits, the very first naming, for
 * error messages. */
const naming *model_naming(const model *m);

void model_tensor_name(const layer_name *l, const char *what, char *name, size_t size);

/* NULL where the files have no such tensor. */
const tensor *model_find(const layer_name *l, const char *what);

/* Refuses tensors that would be ignored or cannot be read, in any layer with keys and values. Errors:
 * XQ_ERROR_UNSUPPORTED with the tensor and the method where projections are quantized (GPTQ, AWQ,
 * bitsandbytes and others), or with the tensor where a projection has parts other than a weight and a bias
 * (LoRA); XQ_ERROR_FORMAT with both tensors where a layer has projections by two namings. */
xq_status model_check_names(const model *m, error *err);

#endif
