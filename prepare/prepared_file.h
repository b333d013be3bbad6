/* Reading prepared weights (prepared_head.h: how the file is made up; prepared_write.h: writing). Files are
 * mapped. Opening one checks that it is complete; the checksum of a tensor is checked when it is handed
 * out. */
#ifndef PREPARE_PREPARED_FILE_H
#define PREPARE_PREPARED_FILE_H

#include "prepared_head.h"

typedef struct prepared_file prepared_file;

/* Errors: XQ_ERROR_IO; XQ_ERROR_FORMAT for a damaged, truncated or unfinished file, one that xq did not
 * prepare, one of another version, and one whose layers do not all have exactly the tensors of their
 * method, in their shapes. */
xq_status prepared_file_open(const char *path, prepared_file **out, error *err);
void prepared_file_close(prepared_file *f);

const prepared_head *prepared_file_head(const prepared_file *f);
/* A value of __metadata__, or NULL. */
const char *prepared_file_metadata(const prepared_file *f, const char *key);

/* The layer's place among those present; else -1 and XQ_ERROR_ARGUMENT. */
int prepared_file_place(const prepared_file *f, int layer, error *err);

/* XQ_ERROR_ARGUMENT for an absent layer, XQ_ERROR_FORMAT naming what differs, unless the layer was prepared
 * for this shape. */
xq_status prepared_file_expect(const prepared_file *f, int layer, const layer_shape *needed, error *err);

/* A layer's parts as f32 into the empty *out (layer_weights_free). XQ_ERROR_ARGUMENT for a layer that is
 * absent or has packed weights alone. */
xq_status prepared_file_layer(const prepared_file *f, int layer, layer_weights *out, error *err);

/* A layer's packed weights, for plans of this completed spec. XQ_ERROR_ARGUMENT, with the field, where it
 * takes others. With `check` their checksum is checked. */
xq_status prepared_file_packed(const prepared_file *f, int layer, const char *completed_json, bool check,
                               const void **data, size_t *bytes, error *err);

/* A tensor of the layer at this place, by prepared_tensor.which, where the head says that there is one, and
 * where it begins in the file. Its checksum is checked. */
xq_status prepared_file_tensor(const prepared_file *f, int place, int which, const tensor **out,
                               uint64_t *offset, error *err);

#endif
