/* Writing .xqw files (xqw.h), layer by layer; a writer that was killed goes on where it was. */
#ifndef PREPARE_XQW_WRITE_H
#define PREPARE_XQW_WRITE_H

#include "../runtime/base/publish.h"
#include "layer.h"
#include "tensor.h"
#include "xqw_format.h"

typedef struct xqw_contents {
    /* Completed specs, of which what the weights depend on is kept: of all layers; or of those from
     * base_layer on, and of those before it (NULL: there are none such). */
    const char *specs[XQW_MOST_METHODS];
    int base_layer;
    const int *layers; /* ascending */
    int layer_count;
    tensor_type
        store;   /* of the matrices: TENSOR_F16, TENSOR_BF16, TENSOR_F32; TENSOR_OTHER: there are none */
    bool packed; /* packed weights of the fused plans, of the specs' type */
    uint64_t source; /* a hash of what the layers are made of */
} xqw_contents;

typedef struct xqw_writer xqw_writer;

/* Nothing appears under `path` before xqw_commit. What is done is in PATH.partial; when that holds layers
 * of the very same contents, undamaged, they are kept. */
xq_status xqw_create(const char *path, const xqw_contents *contents, xqw_writer **out, error *err);
/* The same in a file that publish_resume has begun; it becomes the writer's, also when this fails. */
xq_status xqw_create_in(publication *file, const xqw_contents *contents, xqw_writer **out, error *err);

/* Layers that there are, the first ones of `layers`; more with each xqw_add_layer. */
int xqw_done(const xqw_writer *w);
/* What became of a PATH.partial that was there, or why this writer has none: one line; "" without any. */
const char *xqw_note(const xqw_writer *w);
/* Of a layer that is done, as layer_factor says. */
void xqw_lost(const xqw_writer *w, int index, double lost[2]);

/* The next layer, whole: the parts of its method, all of which `given` must have, rounded to the type that
 * they are stored in (vectors: f32), and packed after that. Errors: XQ_ERROR_ARGUMENT for a value that a
 * type does not hold. */
xq_status xqw_add_layer(xqw_writer *w, const layer_weights *given, const double lost[2], error *err);

/* Each ends the writer: the file appears, or PATH.partial is left; nothing is left; PATH.partial is left.
 */
xq_status xqw_commit(xqw_writer *w, error *err);
void xqw_abandon(xqw_writer *w);
void xqw_keep(xqw_writer *w);

/* ------------------------------------------------------- parts of the writer */

/* Bytes of one layer, ready to be written (xqw_store.c). */
typedef struct xqw_blob {
    const char *name; /* of a matrix; NULL: the packed weights */
    const char *type; /* "F16" */
    int rows, cols;
    void *data;
    size_t bytes;
    uint64_t hash;
} xqw_blob;
enum { XQW_MOST_BLOBS = LAYER_MOST_PARTS + 1 };
struct shape;

/* `packing`: of the completed spec; NULL: nothing is packed. Caller frees with xqw_blobs_free, also after
 * failure. */
xq_status xqw_encode(const char *path, int layer, const layer_shape *shape, tensor_type store,
                     const struct shape *packing, const layer_weights *given,
                     xqw_blob blobs[XQW_MOST_BLOBS], int *count, error *err);
void xqw_blobs_free(xqw_blob *blobs, int count);
const char *xqw_type_name(tensor_type type); /* "F16"; NULL for TENSOR_OTHER */

/* What an unfinished file holds of these contents (xqw_resume.c): the number of layers that are whole, each
 * of which `lost` is filled for, and where they end. -1: it is of no use, and `why` says why. */
int xqw_resume(const char *partial, const char *head_text, double (*lost)[2], uint64_t *end, char *why,
               size_t why_size);

#endif
