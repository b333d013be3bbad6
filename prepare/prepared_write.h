/* Writing prepared weights (prepared_head.h), layer by layer; a writer that was killed goes on where it
 * was.
 *
 * Sizes and places of all tensors are known before the first layer is made, so the header is written first,
 * with zeros for checksums; those of a layer are filled in once its tensors are there. So an unfinished
 * file tells which of its layers are whole. */
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
    tensor_type
        store;   /* of the matrices: TENSOR_F16, TENSOR_BF16, TENSOR_F32; TENSOR_OTHER: there are none */
    bool packed; /* packed weights of the fused plans, of the specs' type */
    uint64_t source; /* a hash of what the layers are made of */
} prepared_contents;

typedef struct prepared_writer prepared_writer;

/* Writes into a file that publish_resume has begun; it becomes the writer's, also when this fails. Nothing
 * appears under its name before prepared_commit. What is done is in PATH.partial; when that holds layers of
 * the very same contents, undamaged, they are kept. */
xq_status prepared_create(publication *file, const prepared_contents *contents, prepared_writer **out,
                          error *err);

/* Layers that there are, the first ones of `layers`; more with each prepared_add_layer. */
int prepared_done(const prepared_writer *w);
/* What became of a PATH.partial that was there, or why this writer has none: one line; "" without any. */
const char *prepared_note(const prepared_writer *w);
/* Of a layer that is done, as layer_factor says. */
void prepared_lost(const prepared_writer *w, int index, double lost[2]);

/* The next layer, whole: the parts of its method, all of which `given` must have, rounded to the type that
 * they are stored in (vectors: f32), and packed after that. Errors: XQ_ERROR_ARGUMENT for a value that a
 * type does not hold. */
xq_status prepared_add_layer(prepared_writer *w, const layer_weights *given, const double lost[2],
                             error *err);

/* Each ends the writer: the file appears, or PATH.partial is left; nothing is left; PATH.partial is left.
 */
xq_status prepared_commit(prepared_writer *w, error *err);
void prepared_abandon(prepared_writer *w);
void prepared_keep(prepared_writer *w);

/* ------------------------------------------------------- parts of the writer */

/* The file up to its first tensor, and all tensors, paddings among them, in the file's order
 * (prepared_header.c). */
typedef struct prepared_header {
    cJSON *metadata;
    prepared_head head; /* points into metadata */
    char *text;
    size_t bytes;
    struct prepared_placed {
        prepared_tensor tensor;
        uint64_t at;    /* of the file */
        int index;      /* of the layer, in `layers` */
        char *checksum; /* its 16 digits in `text`; NULL: padding */
    } * tensors;
    int count;
    char *checksum; /* of the header */
} prepared_header;
xq_status prepared_header_make(const char *path, const prepared_contents *contents, prepared_header *out,
                               error *err);
void prepared_header_free(prepared_header *h);
/* `hash` as 16 digits at `digits`. */
void prepared_put_digits(char *digits, uint64_t hash);

/* The bytes of a layer's tensors, by prepared_tensor.which; NULL: there is none. Caller frees each, also
 * after failure (prepared_encode.c). */
struct shape;
xq_status prepared_encode(const char *path, int layer, const layer_shape *shape, tensor_type store,
                          const struct shape *packing /* NULL: nothing is packed */,
                          const layer_weights *given, const double lost[2],
                          void *data[PREPARED_MOST_TENSORS], error *err);

/* What an unfinished file holds of these contents (prepared_resume.c): the number of its tensors that
 * belong to whole layers, whose checksums are filled into the header, and `lost` of these layers. -1: none.
 * XQ_ERROR_FORMAT for an unfinished file that is of no use, and may be written over; XQ_ERROR_ARGUMENT for
 * any other file, which may not; XQ_ERROR_IO. */
int prepared_resume(const char *partial, prepared_header *header, double (*lost)[2], error *err);

#endif
