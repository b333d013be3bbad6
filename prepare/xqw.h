/* .xqw: the prepared weights of a model, layer by layer, ready to be packed (docs/prepare.md).
 *
 * Little endian: 64 bytes of prefix (magic "XQWEIGHT", version, place, size and checksum of the index),
 * matrices aligned to 256 bytes, and at the end the index, a JSON text that gives the spec and for each
 * matrix its layer, name, shape, type, place and checksum (XXH3, 64 bits). Files can be mapped; the reader
 * checks that they are complete, and everything that it uses. */
#ifndef PREPARE_XQW_H
#define PREPARE_XQW_H

#include "layer.h"
#include "tensor.h"

#define XQW_VERSION 2

/* ---------------------------------------------------------------- writing */

typedef struct xqw_writer xqw_writer;

/* spec: a completed spec, of which the model and what the matrices depend on are kept. type: of the
 * matrices, TENSOR_F16, TENSOR_BF16 or TENSOR_F32; vectors (biases, norms, sinks) are always F32. Nothing
 * appears under `path` before xqw_commit. */
xq_status xqw_create(const char *path, const char *spec_json, tensor_type type, xqw_writer **out,
                     error *err);

/* A layer whole: the parts of the spec's method, all of which `w` must have. Errors: XQ_ERROR_ARGUMENT for
 * a value that the type does not hold. */
xq_status xqw_add_layer(xqw_writer *w, int layer, const layer_weights *layer_weights, error *err);

/* Each ends the writer. */
xq_status xqw_commit(xqw_writer *w, error *err);
void xqw_abandon(xqw_writer *w);

/* ---------------------------------------------------------------- reading */

typedef struct xqw xqw;

/* Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a damaged, truncated or foreign file, and for one whose layers
 * do not all have exactly the matrices of its method, in their shapes. */
xq_status xqw_open(const char *path, xqw **out, error *err);
void xqw_close(xqw *x);

/* The spec: {"model": …, "cache": {"method": …, …}}; belongs to x. */
const char *xqw_spec(const xqw *x);
const layer_shape *xqw_shape(const xqw *x);
const char *xqw_path(const xqw *x);

/* Layers of the model, whether the file has them or not. */
int xqw_model_layers(const xqw *x);

/* XQ_ERROR_FORMAT, naming what differs, unless the file was prepared for this shape. */
xq_status xqw_expect_shape(const xqw *x, const layer_shape *needed, error *err);

/* The layers present, ascending; belongs to x. */
int xqw_layers(const xqw *x, const int **layers);

/* A layer's parts as f32, their checksums verified, into the empty *out (layer_weights_free). An absent
 * layer is XQ_ERROR_FORMAT. */
xq_status xqw_layer(const xqw *x, int layer, layer_weights *out, error *err);

#endif
