/* What a text showed of a model's attention inputs: activations as tools/models.py records them, and their
 * moments, by which latents are calibrated (basis.h, docs/prepare.md). */
#ifndef PREPARE_CALIBRATION_H
#define PREPARE_CALIBRATION_H

#include "layer.h"

#include <stdint.h>

typedef struct calibration calibration;

/* A safetensors file with x.L [tokens, d] of each layer L, and q.L [tokens, H, dh] (queries before RoPE)
 * for method latent: one sequence from its first token on. Errors: those of safetensors_open. */
xq_status calibration_open(const char *path, calibration **out, error *err);
void calibration_close(calibration *c);

/* A hash of all that is in the file. */
uint64_t calibration_hash(const calibration *c);

/* Makes the layer's factors from wk and wv, in calibrated coordinates: uk, ak, uv, av of method latent; uk
 * (square), ak, av of method x. lost as layer_factor gives it. Without a calibration (c NULL; method x
 * alone) all directions of x count as alike. May be called from several threads. Errors: XQ_ERROR_FORMAT
 * naming a tensor that is missing, of another shape, not finite or too short; XQ_ERROR_UNSUPPORTED for
 * other methods, and without rotation. */
xq_status calibration_factor(const calibration *c, int layer, const layer_shape *shape, layer_weights *w,
                             double lost[2], error *err);

/* The same refusals, before any layer is begun. */
xq_status calibration_check(const layer_shape *shape, error *err);

#endif
