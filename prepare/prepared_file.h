/* Reads prepared weights (prepared_head.h describes the file, prepared_write.h writes it). Files are
 * mapped. Opening a file checks that it is complete; a tensor's checksum is checked when the tensor is
 * handed out. */
#ifndef PREPARE_PREPARED_FILE_H
#define PREPARE_PREPARED_FILE_H

#include "prepared_head.h"

typedef struct prepared_file prepared_file;

/* Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a file that is damaged, truncated or unfinished, that xq did not
 * prepare, that has another version, or in which some layer does not have exactly the tensors of its
 * method, in their shapes. */
xq_status prepared_file_open(const char *path, prepared_file **out, error *err);
void prepared_file_close(prepared_file *f);

const prepared_head *prepared_file_head(const prepared_file *f);
/* A value of __metadata__, or NULL. */
const char *prepared_file_metadata(const prepared_file *f, const char *key);

/* The layer's index among the layers in the file; -1 and XQ_ERROR_ARGUMENT if the file lacks the layer. */
int prepared_file_place(const prepared_file *f, int layer, error *err);

/* Checks that the layer was prepared for this shape. XQ_ERROR_ARGUMENT if the file lacks the layer,
 * XQ_ERROR_FORMAT naming what differs. */
xq_status prepared_file_expect(const prepared_file *f, int layer, const layer_shape *needed, error *err);

/* Reads a layer's parts as f32 into the empty *out (free with layer_weights_free). XQ_ERROR_ARGUMENT if the
 * file lacks the layer, or has only packed weights of it. */
xq_status prepared_file_layer(const prepared_file *f, int layer, layer_weights *out, error *err);

/* A layer's packed weights, for plans of this completed spec. XQ_ERROR_ARGUMENT, with the field, if the
 * spec needs other packed weights. `check` says whether their checksum is checked. */
xq_status prepared_file_packed(const prepared_file *f, int layer, const char *completed_json, bool check,
                               const void **data, size_t *bytes, error *err);

/* A tensor of the layer at index `place`, by prepared_tensor.which, and its offset in the file. The head
 * must say that the layer has the tensor. The tensor's checksum is checked. */
xq_status prepared_file_tensor(const prepared_file *f, int place, int which, const tensor **out,
                               uint64_t *offset, error *err);

#endif
