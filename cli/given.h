/* Refuses tensors of an input file that run and compare would leave out. */
#ifndef CLI_GIVEN_H
#define CLI_GIVEN_H

#include "../prepare/layer.h"
#include "../prepare/safetensors.h"

/* Refuses tensors of a layer's weights, named NAME + `suffix`, that would not be used: vectors that the
 * spec has no use for, and, if the weights are taken from the model directory `model`, all weights in the
 * file. `why` says why they are taken from there. Errors: XQ_ERROR_FORMAT with the tensor in `field`. */
xq_status cli_refuse_unread(const safetensors *file, const layer_shape *shape, const char *suffix,
                            const char *model, const char *why, error *err);

#endif
