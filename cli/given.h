/* Refuses tensors of an input file that run and compare would leave out. */
#ifndef CLI_GIVEN_H
#define CLI_GIVEN_H

#include "../prepare/layer.h"
#include "../prepare/safetensors.h"

/* Refuses tensors of a layer's weights, named NAME + `suffix`, that would not be used. These are vectors
 * that the spec has no use for. With `model`, the model directory that the weights are taken from, they are
 * all tensors of weights; `why` says why the weights come from there. Errors: XQ_ERROR_FORMAT with the
 * tensor in `field`. */
xq_status cli_refuse_unread(const safetensors *file, const layer_shape *shape, const char *suffix,
                            const char *model, const char *why, error *err);

#endif
