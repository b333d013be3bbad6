/* Prepared weights are a safetensors file (docs/prepare.md). Its reader and its writer share what stands
 * here: the keys of __metadata__, and which tensors a layer has.
 *
 * Tensors are named layers.LAYER.WHAT; WHAT is a matrix or vector of the method ("ak"), "packed" (U8: what
 * kernels take) or "lost" (F64 [2]: what the ranks of K and V have cut off). Where the next tensor's place
 * is not aligned, one of zeros fills the gap (U8, padding.0, padding.1, ...). Each tensor but these has its
 * XXH3 as 16 hexadecimal digits in __metadata__, under NAME.xxh3. */
#ifndef PREPARE_PREPARED_HEAD_H
#define PREPARE_PREPARED_HEAD_H

#include "layer.h"
#include "mapping.h"
#include "tensor.h"

#include <cjson/cJSON.h>

#define PREPARED_VERSION "2" /* of this form; __metadata__.xq_prepared */
#define PREPARED_CHECKSUM                                                                                  \
    "header_xxh3" /* of the file up to its first tensor, these 16 digits taken as zeros */
#define PREPARED_PADDING "padding."
enum {
    PREPARED_DIGITS = 16,
    PREPARED_PACKED_ALIGN = 256, /* of packed weights in the file; of the header */
    PREPARED_ALIGN = 8,          /* of the other tensors */
    PREPARED_MOST_METHODS = 2
};

/* XQ_ERROR_FORMAT: "PATH: ...", with the tensor or the key of __metadata__ as its field (NULL: none). */
xq_status prepared_bad(const char *path, const char *field, error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The digits of a checksum in a header's text, NULL where it has none. The key cannot be found within
 * another value, where quotes have a backslash in front. */
char *prepared_digits(char *text, size_t size, const char *key);

/* ------------------------------------------------------------------- head */

typedef struct prepared_method {
    const char *spec; /* {"model", "cache"}: of __metadata__ */
    cJSON *entry;     /* the same with "packing", for packing_expect */
    layer_shape shape;
    size_t packed_bytes; /* of a layer; 0: none is packed */
} prepared_method;

/* What __metadata__ says beside checksums. */
typedef struct prepared_head {
    prepared_method methods[PREPARED_MOST_METHODS];
    int method_count;
    int base_layer; /* layers before it have the second method; 0: none has */
    int *layers, layer_count, model_layers;
    const char *store;   /* type of the matrices, "F16"; NULL: there are none */
    const char *weights; /* type of the packed weights, "int8"; NULL: there are none */
} prepared_head;

/* The head points into `metadata`. Errors: XQ_ERROR_FORMAT naming the key, XQ_ERROR_MEMORY. */
xq_status prepared_head_read(const char *path, const cJSON *metadata, prepared_head *out, error *err);
void prepared_head_free(prepared_head *head);
const prepared_method *prepared_method_of(const prepared_head *head, int layer);

/* ---------------------------------------------------------------- tensors */

/* Which of a layer's tensors one is: a part's index in layer_parts, or one of these. */
enum { PREPARED_PACKED = LAYER_MOST_PARTS, PREPARED_LOST, PREPARED_MOST_TENSORS };

typedef struct prepared_tensor {
    char name[48];
    char key[56]; /* of its checksum in __metadata__; "" for padding, which has none */
    tensor form;  /* type, shape and bytes; no name and no data */
    int which;
    size_t align; /* of its place in the file */
} prepared_tensor;

/* A layer's tensors in the order of the file: the parts as layer_parts orders them, unless there are none,
 * packed weights, unless there are none, and what is lost. Returns their number. */
int prepared_tensors(const prepared_head *head, int layer, prepared_tensor out[PREPARED_MOST_TENSORS]);

#endif
