/* Prepared weights are a safetensors file (docs/prepare.md). Its reader and its writer share this header:
 * the keys of __metadata__, and the list of a layer's tensors.
 *
 * Tensors are named layers.LAYER.WHAT. WHAT is a matrix or vector of the method ("ak"), "packed" (U8:
 * packed weights for kernels) or "lost" (F64 [2]: what the ranks of K and V have cut off). If the next
 * tensor would begin off its alignment, a tensor of zeros fills the gap (U8, padding.0, padding.1, ...).
 * Every tensor except these paddings has its XXH3 in __metadata__, as 16 hexadecimal digits under
 * NAME.xxh3. */
#ifndef PREPARE_PREPARED_HEAD_H
#define PREPARE_PREPARED_HEAD_H

#include "layer.h"
#include "mapping.h"
#include "tensor.h"

#include <cjson/cJSON.h>

#define PREPARED_VERSION "2" /* version of this format; __metadata__.xq_prepared */
#define PREPARED_CHECKSUM                                                                                  \
    "header_xxh3" /* key of the header's hash, computed with zeros in place of its 16 digits */
#define PREPARED_PADDING "padding."
enum {
    PREPARED_DIGITS = 16,
    PREPARED_PACKED_ALIGN = 256, /* alignment of packed weights in the file, and of the header's size */
    PREPARED_ALIGN = 8,          /* alignment of the other tensors */
    PREPARED_MOST_METHODS = 2
};

/* Reports XQ_ERROR_FORMAT as "PATH: ...", with the tensor or the key of __metadata__ as its field (NULL:
 * none). */
xq_status prepared_bad(const char *path, const char *field, error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Finds the digits of a checksum in a header's text; NULL where it has no such key. The search cannot hit
 * text inside a value, because quotes have a backslash in front there. */
char *prepared_digits(char *text, size_t size, const char *key);

/* ------------------------------------------------------------------- head */

typedef struct prepared_method {
    const char *spec; /* {"model", "cache"}, a value of __metadata__ */
    cJSON *entry;     /* the same with "packing", for packing_expect */
    layer_shape shape;
    size_t packed_bytes; /* packed weights of one layer; 0: there are none */
} prepared_method;

/* The contents of __metadata__, except the checksums. */
typedef struct prepared_head {
    prepared_method methods[PREPARED_MOST_METHODS];
    int method_count;
    int base_layer; /* layers before it have the second method; 0: no layer has */
    int *layers, layer_count, model_layers;
    const char *store;   /* type of the matrices, e.g. "F16"; NULL: there are no matrices */
    const char *weights; /* type of the packed weights, e.g. "int8"; NULL: there are none */
} prepared_head;

/* The head points into `metadata`. Errors: XQ_ERROR_FORMAT naming the key, XQ_ERROR_MEMORY. */
xq_status prepared_head_read(const char *path, const cJSON *metadata, prepared_head *out, error *err);
void prepared_head_free(prepared_head *head);
const prepared_method *prepared_method_of(const prepared_head *head, int layer);

/* ---------------------------------------------------------------- tensors */

/* Identifies a tensor of a layer: a part's index in layer_parts, or one of these. */
enum { PREPARED_PACKED = LAYER_MOST_PARTS, PREPARED_LOST, PREPARED_MOST_TENSORS };

typedef struct prepared_tensor {
    char name[48];
    char key[56]; /* key of its checksum in __metadata__; "" for padding, which has none */
    tensor form;  /* type, shape and bytes; no name and no data */
    int which;
    size_t align; /* alignment of its offset in the file */
} prepared_tensor;

/* Lists a layer's tensors in the file's order, and returns their number: the parts in the order of
 * layer_parts, if the file has matrices; the packed weights, if it has any; and "lost". */
int prepared_tensors(const prepared_head *head, int layer, prepared_tensor out[PREPARED_MOST_TENSORS]);

#endif
