/* How an .xqw file is made up, for its writer and its reader (docs/prepare.md).
 *
 * Little endian: a prefix of 64 bytes, then records, each at a multiple of 256 bytes: the head, which says
 * what the file holds, and one for each layer in order. A record is the size and checksum of a JSON text,
 * the text, and the blobs that the text places. So a file that was not finished tells which of its layers
 * are whole. */
#ifndef PREPARE_XQW_FORMAT_H
#define PREPARE_XQW_FORMAT_H

#include "layer.h"
#include "mapping.h"
#include "tensor.h"

#include <cjson/cJSON.h>
#include <stdint.h>

#define XQW_MAGIC        "XQWEIGHT"
#define XQW_VERSION      3
#define XQW_PREFIX_BYTES 64
#define XQW_ALIGN        256u /* of records and blobs */
#define XQW_AT_VERSION   8    /* u32 */
#define XQW_AT_BYTES     16   /* u64: of the file; 0 while it is being made */
#define XQW_AT_HASH      24   /* u64: XXH3 of what stands before it */
#define XQW_RECORD_BYTES 16   /* before a record's text: its size and its XXH3, u64 each */

/* What messages of damage begin with, and how `file` came to be: of a mapped file. */
typedef struct xqw_source {
    const char *path;
    mapping file;
} xqw_source;

uint64_t xqw_align(uint64_t position);

/* XQ_ERROR_FORMAT: "PATH: ...". */
xq_status xqw_bad(const xqw_source *s, error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Magic, version and checksum of the prefix; *bytes as it says. */
xq_status xqw_read_prefix(const xqw_source *s, uint64_t *bytes, error *err);

/* ---------------------------------------------------------------- records */

typedef struct xqw_record {
    const char *text;
    size_t size;
    uint64_t blobs; /* where the first may begin */
    cJSON *json;    /* an object; the caller deletes it */
} xqw_record;
/* The record at `at`, within the file and its checksum right. `what` names it in messages. */
xq_status xqw_read_record(const xqw_source *s, uint64_t at, const char *what, xqw_record *out, error *err);

/* ------------------------------------------------------------------- head */

enum { XQW_MOST_METHODS = 2 };

typedef struct xqw_method {
    char *spec; /* {"model", "cache"} */
    layer_shape shape;
    const cJSON *entry;  /* {"cache", "packing"} (packing.h), of the head's JSON */
    size_t packed_bytes; /* of a layer; 0: none is packed */
} xqw_method;

typedef struct xqw_head {
    cJSON *json;
    xqw_method methods[XQW_MOST_METHODS];
    int method_count;
    int base_layer; /* layers before it have the second method */
    int *layers, layer_count, model_layers;
    bool matrices;       /* else packed weights alone */
    const char *weights; /* type of the packed weights, or NULL */
} xqw_head;
/* Takes the record's JSON, also on failure. */
xq_status xqw_head_read(const xqw_source *s, cJSON *json, xqw_head *out, error *err);
void xqw_head_free(xqw_head *head);
const xqw_method *xqw_method_of(const xqw_head *head, int layer);

/* ----------------------------------------------------------------- layers */

typedef struct xqw_place {
    uint64_t offset, bytes, hash;
    const char *type; /* of a matrix; of the entry's JSON */
} xqw_place;

typedef struct xqw_entry {
    cJSON *json;
    xqw_place parts[LAYER_MOST_PARTS]; /* as layer_parts orders them */
    xqw_place packed;
    uint64_t text_end, end; /* of the record's text, of the layer */
    double lost[2];         /* as layer_factor says */
} xqw_entry;
/* The record of layer `layer` at `at`: exactly the matrices and the packed weights that the head says, all
 * within the file. Blobs are not looked at. */
xq_status xqw_entry_read(const xqw_source *s, const xqw_head *head, int layer, uint64_t at, xqw_entry *out,
                         error *err);
void xqw_entry_free(xqw_entry *entry);

/* Whether the blob's checksum is right; `what` names it. */
xq_status xqw_verify(const xqw_source *s, const xqw_place *place, int layer, const char *what, error *err);

#endif
