/* What prepare, run and compare share: the shape of a completed spec, layer numbers, and the weights of
 * one layer as kernels and references take them. */
#ifndef CLI_LAYERS_H
#define CLI_LAYERS_H

#include "cli.h"

#include <stdint.h>

/* Sizes of a completed spec, by the names of docs/method.md. */
struct cli_shape {
    int hidden_size, heads, kv_heads, head_dim;
    int kv_width; /* dkv = kv_heads * head_dim */
    bool latent;  /* else method x */
    int bits, page;
    int rank_k, rank_v; /* x: hidden_size, 0 */
};
xq_status cli_shape_read(const char *completed_json, struct cli_shape *shape, error *err);

/* The layer numbers of --layers, all of 0 .. count-1 when it is empty. Caller frees *layers.
 * Errors: XQ_ERROR_ARGUMENT for what is no layer number. */
xq_status cli_layers(const struct cli_list *list, int count, int **layers, int *layer_count, error *err);

/* Projections of one layer: wk, wv always; for method latent their factors too. All f32 and row major. */
struct cli_weights {
    float *wk, *wv;           /* [d, dkv], as given */
    float *uk, *ak, *uv, *av; /* latent: [d, rank_k], [rank_k, dkv], [d, rank_v], [rank_v, dkv] */
};
/* Fills the factors that are NULL from wk and wv (latent). */
xq_status cli_weights_factor(const struct cli_shape *shape, struct cli_weights *w, error *err);
void cli_weights_free(struct cli_weights *w);

#endif
