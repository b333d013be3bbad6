/* Cache pages and tails on the host, of any layout: filled with random codes, and decoded in double
 * precision, where page_codec finds them. What no kernel may look at is NaN. */
#ifndef TESTS_CACHE_IMAGE_H
#define TESTS_CACHE_IMAGE_H

#include "../autotune/engine/page_codec.h"
#include "kernel_fixture.h"

typedef struct cache_image {
    const paged *paged;
    page_codec *codec;
    uint8_t *pages, *tails;
    size_t pages_size, tails_size;
    int32_t slots[FIXTURE_MAX_BATCH]; /* of the tails */
} cache_image;

/* The layout of the cache, or of the accumulator. Pages and tails are all NaN. */
void cache_image_open(cache_image *image, const fixture *f, bool accumulator, const paged *p);
void cache_image_close(cache_image *image);

/* A sequence as page_codec takes it. */
page_sequence cache_image_sequence(const cache_image *image, int sequence);

/* Random codes, parameters and tails for every token; latents' padding as append leaves it. */
void cache_image_draw(cache_image *image, random_stream *r);

/* Is this token in the tail? Streams with groups of tokens only. */
bool cache_image_in_tail(const cache_image *image, int stream, int sequence, int token);

/* A cached value in double precision; of a token in the tail, the tail's. */
double cache_image_value(const cache_image *image, int stream, int sequence, int token, int channel);

/* A sequence's rows [length, width] of a stream; the caller frees. */
double *cache_image_rows(const cache_image *image, int stream, int sequence);

struct xq_tails cache_image_upload_tails(fixture *f, const cache_image *image);

/* Launches dequantize; the rows of stream s are then at rows[s], all others NaN. */
void cache_image_dequantize(fixture *f, const test_kernel *k, const cache_image *image, uint64_t rows[2]);

#endif
