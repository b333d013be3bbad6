/* How each layer is cached: its spec, completed by xq, and what the host's arithmetic needs of it. */
#ifndef LLAMA_FORMAT_H
#define LLAMA_FORMAT_H

#include "choice.h"
#include "config.h"

#include <xq/xq.h>

#include <stdbool.h>

/* A cached matrix: rows of `width` values, without padding. */
typedef struct format_stream {
    int width;
    int tail_width; /* by channel: what the tail keeps of a token */
    xq_quantizer quantizer;
} format_stream;

typedef struct format {
    method method; /* of this layer: the first ones of a cross-layer cache have the plain one */
    bool cross, base;
    bool latent;  /* what is cached is projected: latent, latent-cl */
    bool rotated; /* and so it is here: x with rotation */
    bool feedback;
    char *spec; /* completed; NULL for f32 and kivi. Of fp16 that of any method: what counts is the model */
    int streams;
    format_stream stream[2];
    xq_quantizer accumulator; /* cross-layer methods */
} format;

typedef struct formats {
    int layers;
    format *layer;
    /* of one sequence of `tokens` tokens, all layers */
    double bytes, fp16_bytes;
    double memory;       /* bytes / fp16_bytes: everything included */
    double memory_paper; /* codes and parameters of whole groups alone, as the paper counts */
} formats;

/* `context` completes the specs: any device. What `choice` leaves open of a prepared file's layers (NULL:
 * none), the file decides. */
formats *formats_make(const config *c, const choice *wanted, xq_context *context,
                      const xq_prepared *prepared, int tokens);
void formats_free(formats *f);

/* Ends the program with the detail of a failed call. */
void check(xq_context *context, xq_status status, const char *what);

#endif
