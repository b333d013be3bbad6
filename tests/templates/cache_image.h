/* Cache pages and tails on the host, in any layout: filled with random codes, and decoded in double
 * precision. page_codec says where each value is. Bytes that no kernel may read hold NaN. */
#ifndef TESTS_CACHE_IMAGE_H
#define TESTS_CACHE_IMAGE_H

#include "../../autotune/engine/page_codec.h"
#include "../support/kernel_fixture.h"

typedef struct cache_image {
    const paged *paged;
    page_codec *codec;
    uint8_t *pages, *tails;
    size_t pages_size, tails_size;
    int32_t slots[FIXTURE_MAX_BATCH]; /* slot of each sequence in the tail pool */
} cache_image;

/* Makes an image in the layout of the cache, or of the accumulator. All its pages and tails are NaN. */
void cache_image_open(cache_image *image, const fixture *f, bool accumulator, const paged *p);
void cache_image_close(cache_image *image);

/* Describes a sequence for page_codec. */
page_sequence cache_image_sequence(const cache_image *image, int sequence);

/* Draws random codes, parameters and tails for every token. The padding of latents is as append leaves
 * it. */
void cache_image_draw(cache_image *image, random_stream *r);

/* Makes one token of eight in the last stream zero: its codes are at their zero points, and its scale is
 * near the largest of f16. The other tokens get small scales. The stream must have integer zero points. */
void cache_image_spread_scales(cache_image *image);

/* Whether a token is in the tail. Only streams with groups of tokens have tails. */
bool cache_image_in_tail(const cache_image *image, int stream, int sequence, int token);

/* A cached value in double precision. For a token in the tail it is the tail's value. */
double cache_image_value(const cache_image *image, int stream, int sequence, int token, int channel);

/* Rows [length, width] of a sequence in one stream; the caller frees them. */
double *cache_image_rows(const cache_image *image, int stream, int sequence);

struct xq_tails cache_image_upload_tails(fixture *f, const cache_image *image);

/* Launches dequantize. The rows of stream s are then at rows[s]; rows that the kernel did not write are
 * NaN. */
void cache_image_dequantize(fixture *f, const test_kernel *k, const cache_image *image, uint64_t rows[2]);

#endif
