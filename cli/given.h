/* Tensors of an input file that run and compare would leave out. */
#ifndef CLI_GIVEN_H
#define CLI_GIVEN_H

#include "../prepare/layer.h"
#include "../prepare/safetensors.h"

/* Refuses, of the tensors NAME + `suffix` of a layer's weights: vectors that the spec has no use for; and,
 * with `model`, the model directory that the weights are taken from, all of them. `why` says why that is
 * so. Errors: XQ_ERROR_FORMAT with the tensor in `field`. */
xq_status cli_refuse_unread(const safetensors *file, const layer_shape *shape, const char *suffix,
                            const char *model, const char *why, error *err);

#endif
