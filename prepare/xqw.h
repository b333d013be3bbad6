/* .xqw: the prepared weights of a model, layer by layer (docs/prepare.md; xqw_format.h: how it is made up,
 * xqw_write.h: writing). Files are mapped; the reader checks that they are complete when it opens them, and
 * the checksum of everything that it hands out. */
#ifndef PREPARE_XQW_H
#define PREPARE_XQW_H

#include "layer.h"

typedef struct xqw xqw;

/* Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a damaged, truncated, unfinished or foreign file, one of another
 * version, and one whose layers do not all have exactly the matrices of their method, in their shapes. */
xq_status xqw_open(const char *path, xqw **out, error *err);
void xqw_close(xqw *x);

/* What belongs to x: */
const char *xqw_path(const xqw *x);
const char *xqw_spec(const xqw *x);                  /* {"model": …, "cache": {"method": …, …}} */
const char *xqw_layer_spec(const xqw *x, int layer); /* the same of a layer: those before the base differ */
const char *xqw_weights(const xqw *x);               /* type of the packed weights; NULL: none */
int xqw_base_layer(const xqw *x);                    /* the first layer that has the method of xqw_spec */
int xqw_model_layers(const xqw *x);                  /* of the model, whether the file has them or not */
int xqw_layers(const xqw *x, const int **layers);    /* those present, ascending */

/* The layer's place among those present; else -1 and XQ_ERROR_ARGUMENT. */
int xqw_place_of(const xqw *x, int layer, error *err);

/* XQ_ERROR_ARGUMENT for an absent layer, XQ_ERROR_FORMAT naming what differs, unless the layer was prepared
 * for this shape. */
xq_status xqw_expect(const xqw *x, int layer, const layer_shape *needed, error *err);

/* A layer's parts as f32 into the empty *out (layer_weights_free). XQ_ERROR_ARGUMENT for a layer that is
 * absent or has packed weights alone. */
xq_status xqw_layer(const xqw *x, int layer, layer_weights *out, error *err);

/* A layer's packed weights, for plans of this completed spec. XQ_ERROR_ARGUMENT, with the field, where it
 * takes others. With `verify` their checksum is checked. */
xq_status xqw_packed(const xqw *x, int layer, const char *completed_json, bool verify, const void **data,
                     size_t *bytes, error *err);

#endif
