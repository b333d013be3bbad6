/* Parts of xq prepare. */
#ifndef CLI_PREPARE_H
#define CLI_PREPARE_H

#include "../prepare/layer.h"
#include "cli.h"

/* Prints "method latent, ranks 64 and 64, rotated" on standard output. */
void prepare_say_method(const layer_shape *s, bool calibrated);

/* Verifies a file of prepared weights and prints its contents; returns the exit status. */
int prepare_show(const struct cli_common *common, const char *path);

#endif
