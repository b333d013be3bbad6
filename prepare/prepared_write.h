/* Writes prepared weights (prepared_head.h) layer by layer. A writer that was killed can be resumed.
 *
 * The sizes and offsets of all tensors are known before the first layer is made. So the header is written
 * first, with zeros for checksums, and a layer's checksums are filled in once its tensors are written. An
 * unfinished file therefore tells which of its layers are complete. */
#ifndef PREPARE_PREPARED_WRITE_H
#define PREPARE_PREPARED_WRITE_H

#include "../runtime/base/publish.h"
#include "prepared_head.h"

typedef struct prepared_contents {
    /* Completed specs: specs[0] serves layers from base_layer on; specs[1] serves earlier ones, or is NULL.
     * Only the parts that weights depend on are stored. */
    const char *specs[PREPARED_MOST_METHODS];
    int base_layer;
    const int *layers; /* ascending */
    int layer_count;
    tensor_type store; /* type of the matrices: TENSOR_F16, TENSOR_BF16, TENSOR_F32; TENSOR_OTHER: there are
                          no matrices */
    bool packed;       /* also packed weights for fused plans, in the specs' type */
    uint64_t source;   /* a hash of everything that the layers are made of */
} prepared_contents;

typedef struct prepared_writer prepared_writer;

/* Writes into a file that publish_resume has begun. The writer owns the file, even when this call fails.
 * Nothing appears under the file's name before prepared_commit; until then finished layers are in
 * PATH.partial. If PATH.partial already holds undamaged layers of the very same contents, they are kept. */
xq_status prepared_create(publication *file, const prepared_contents *contents, prepared_writer **out,
                          error *err);

/* The number of finished layers, which are the first ones of `layers`; each prepared_add_layer adds one. */
int prepared_done(const prepared_writer *w);
/* One line that says what became of an existing PATH.partial, or why this writer cannot be resumed; ""
 * otherwise. */
const char *prepared_note(const prepared_writer *w);
/* `lost` of a finished layer, as layer_factor defines it; `index` counts in `layers`. */
void prepared_lost(const prepared_writer *w, int index, double lost[2]);

/* Adds the next layer as a whole. `given` must have all parts of the layer's method. They are rounded to
 * the type in which they are stored (vectors: f32), and packed after that. Errors: XQ_ERROR_ARGUMENT for a
 * value that the type cannot hold. */
xq_status prepared_add_layer(prepared_writer *w, const layer_weights *given, const double lost[2],
                             error *err);

/* Each of these ends the writer. prepared_commit makes the file appear, or leaves PATH.partial if it fails;
 * prepared_abandon leaves nothing; prepared_keep leaves PATH.partial. */
xq_status prepared_commit(prepared_writer *w, error *err);
void prepared_abandon(prepared_writer *w);
void prepared_keep(prepared_writer *w);

/* ------------------------------------------------------- parts of the writer */

/* The beginning of the file up to its first tensor, and all tensors with their paddings, in the file's
 * order (prepared_header.c). */
typedef struct prepared_header {
    cJSON *metadata;
    prepared_head head; /* points into metadata */
    char *text;
    size_t bytes;
    struct prepared_placed {
        prepared_tensor tensor;
        uint64_t at;    /* offset in the file */
        int index;      /* the layer's index in `layers` */
        char *checksum; /* its 16 digits in `text`; NULL for padding */
    } * tensors;
    int count;
    char *checksum; /* the header's own 16 digits in `text` */
} prepared_header;
xq_status prepared_header_make(const char *path, const prepared_contents *contents, prepared_header *out,
                               error *err);
void prepared_header_free(prepared_header *h);
/* Writes `hash` as 16 digits at `digits`. */
void prepared_put_digits(char *digits, uint64_t hash);

/* Makes the bytes of a layer's tensors, indexed by prepared_tensor.which; NULL where there is no such
 * tensor. Caller frees each, even after a failure (prepared_encode.c). */
struct shape;
xq_status prepared_encode(const char *path, int layer, const layer_shape *shape, tensor_type store,
                          const struct shape *packing /* NULL: nothing is packed */,
                          const layer_weights *given, const double lost[2],
                          void *data[PREPARED_MOST_TENSORS], error *err);

/* Looks for complete layers in an unfinished file of these contents (prepared_resume.c). Returns the number
 * of tensors that belong to complete layers, fills their checksums into the header, and reads `lost` of
 * these layers. Returns -1 with XQ_ERROR_FORMAT for an unfinished file that is of no use, and may be
 * overwritten; with XQ_ERROR_ARGUMENT for any other file, which must not be overwritten; with
 * XQ_ERROR_IO. */
int prepared_resume(const char *partial, prepared_header *header, double (*lost)[2], error *err);

#endif
