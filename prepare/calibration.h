/* Calibration by a text: the activations at a model's attention inputs, as tools/models.py records them,
 * and their moments, from which latents are calibrated (basis.h, docs/prepare.md). */
#ifndef PREPARE_CALIBRATION_H
#define PREPARE_CALIBRATION_H

#include "layer.h"

#include <stdint.h>

typedef struct calibration calibration;

/* Opens a safetensors file with tensors of each layer L: x.L [tokens, d]; for method latent also q.L
 * [tokens, H, dh] (queries before RoPE) or k_cost.L [H, dh, dh] (the cost of errors in keys, for each query
 * head). The tokens are one sequence from its first token on. Errors: those of safetensors_open. */
xq_status calibration_open(const char *path, calibration **out, error *err);
void calibration_close(calibration *c);

/* A hash of the whole file. */
uint64_t calibration_hash(const calibration *c);

/* Makes the layer's factors in calibrated coordinates from wk and wv: uk, ak, uv, av of method latent, and
 * with feedback k_cost; uk (square), ak, av of method x. `lost` is as layer_factor gives it. Without a
 * calibration (c NULL; only for method x) all directions of x are treated alike. Several threads may call
 * this at once. Errors: XQ_ERROR_FORMAT naming a tensor that is missing, has another shape, is not finite
 * or has too few tokens; XQ_ERROR_ARGUMENT for projections or activations that are zero;
 * XQ_ERROR_UNSUPPORTED for other methods, and without rotation. */
xq_status calibration_factor(const calibration *c, int layer, const layer_shape *shape, layer_weights *w,
                             double lost[2], error *err);

/* Refuses what calibration_factor does not support, before any layer is begun. */
xq_status calibration_check(const layer_shape *shape, error *err);

#endif
