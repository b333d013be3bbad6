/* How each layer is cached: its spec as xq completes it, and the parts of the spec that the host's
 * arithmetic needs. */
#ifndef LLAMA_FORMAT_H
#define LLAMA_FORMAT_H

#include "choice.h"
#include "config.h"

#include <xq/xq.h>

#include <stdbool.h>

/* A cached matrix of rows of `width` values. Padding is not counted. */
typedef struct format_stream {
    int width;
    xq_quantizer quantizer;
} format_stream;

typedef struct format {
    method method; /* method of this layer; the first layers of a cross-layer cache have the plain method */
    bool cross, base;
    bool latent;  /* methods latent and latent-cl: activations are projected before they are cached */
    bool rotated; /* method x with rotation: activations are multiplied by uk before they are cached */
    bool feedback;
    char weights[8]; /* type of the projections that rematerialize, where there is a quantized cache */
    char *spec;      /* completed spec; NULL for f32 and kivi. For fp16 only the model in it matters. */
    int streams;
    format_stream stream[2];
    xq_quantizer accumulator; /* quantizer of the accumulator, for cross-layer methods */
} format;

typedef struct formats {
    int layers;
    format *layer;
    /* Bytes of one sequence of `tokens` tokens in all layers: in this cache, and in fp16 keys and values */
    double bytes, fp16_bytes;
    double memory;       /* bytes / fp16_bytes, with everything included */
    double memory_paper; /* the same ratio as the paper counts: only codes and parameters of whole groups */
} formats;

/* `context` completes the specs, for which any device will do. `prepared` may be NULL. If it is given, it
 * decides those keys that its matrices depend on (such as ranks, groups and rotation) and that `wanted`
 * leaves open. */
formats *formats_make(const config *c, const choice *wanted, xq_context *context,
                      const xq_prepared *prepared, int tokens);
void formats_free(formats *f);

/* Ends the program with the error detail if a call failed. */
void check(xq_context *context, xq_status status, const char *what);

#endif
