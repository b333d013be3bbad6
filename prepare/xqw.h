/* .xqw: the prepared weights of a model, layer by layer, ready to be packed (docs/prepare.md).
 *
 * Little endian: 64 bytes of prefix (magic "XQWEIGHT", version, place, size and checksum of the index),
 * matrices aligned to 256 bytes, and at the end the index, a JSON text that gives the spec and for each
 * matrix its layer, name, shape, type, place and checksum (XXH3, 64 bits). Files can be mapped; the reader
 * checks everything that it uses. */
#ifndef PREPARE_XQW_H
#define PREPARE_XQW_H

#include "tensor.h"

#define XQW_VERSION 1

/* ---------------------------------------------------------------- writing */

typedef struct xqw_writer xqw_writer;

/* spec: a completed spec, of which model and method are kept. type: TENSOR_F16 or TENSOR_F32.
 * Nothing appears under `path` before xqw_commit. */
xq_status xqw_create(const char *path, const char *spec_json, tensor_type type, xqw_writer **out,
                     error *err);

/* One matrix, "wk", "wv", "uk", "ak", "uv" or "av". Errors: XQ_ERROR_ARGUMENT for a value that f16 does
 * not hold. */
xq_status xqw_add(xqw_writer *w, int layer, const char *name, int rows, int cols, const float *values,
                  error *err);

/* Each ends the writer. */
xq_status xqw_commit(xqw_writer *w, error *err);
void xqw_abandon(xqw_writer *w);

/* ---------------------------------------------------------------- reading */

typedef struct xqw xqw;

/* Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a damaged, truncated or foreign file. */
xq_status xqw_open(const char *path, xqw **out, error *err);
void xqw_close(xqw *x);

/* The spec: {"model": …, "cache": {"method": …, …}}; belongs to x. */
const char *xqw_spec(const xqw *x);

/* The layers present, ascending; belongs to x. */
int xqw_layers(const xqw *x, const int **layers);

/* A matrix as f32, its checksum verified; caller frees *values. A wrong shape, an absent layer or matrix
 * are XQ_ERROR_FORMAT. */
xq_status xqw_matrix(const xqw *x, int layer, const char *name, int rows, int cols, float **values,
                     error *err);

#endif
