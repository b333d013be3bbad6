/* Cache pages and tails on the host, of any layout: filled with random codes, and decoded in double
 * precision, from what the completed spec and gen_unit_map say. What no kernel may look at is NaN. */
#ifndef TESTS_CACHE_IMAGE_H
#define TESTS_CACHE_IMAGE_H

#include "kernel_fixture.h"

typedef struct image_stream {
    char name[8];
    int width, latent_width, rank, bits, groups;
    bool by_channel;
    size_t codes_offset, params_offset, zeros_offset; /* in a tile record */
    size_t slots_offset, slot_bytes;                  /* in a page */
    int chunk_pages, page_groups, page_chunks;
    size_t tail_offset;
    int tail_width;
    int32_t *map; /* gen_unit_map */
} image_stream;

typedef struct cache_image {
    const paged *paged;
    int group;
    bool integer_zero;
    size_t tile_bytes, page_bytes, tail_bytes;
    int streams;
    image_stream stream[2];
    uint8_t *pages, *tails;
    size_t pages_size, tails_size;
    int32_t slots[FIXTURE_MAX_BATCH]; /* of the tails */
} cache_image;

/* `which`: "layout" or "accumulator". Pages and tails are all NaN. */
void cache_image_open(cache_image *image, const fixture *f, const char *which, const paged *p);
void cache_image_close(cache_image *image);

/* Random codes, parameters and tails for every token; latents' padding as append leaves it. */
void cache_image_draw(cache_image *image, random_stream *r);

/* Is this token in the tail? Streams with groups of tokens only. */
bool cache_image_in_tail(const cache_image *image, int stream, int sequence, int token);

/* A cached value in double precision; of a token in the tail, the tail's. */
double cache_image_value(const cache_image *image, int stream, int sequence, int token, int channel);

/* The parts of one, without tails: codes, scale and offset (or zero point). */
int cache_image_code(const cache_image *image, int stream, int sequence, int token, int channel);
void cache_image_params(const cache_image *image, int stream, int sequence, int token, int channel,
                        double *scale, double *offset);

/* Chosen instead of drawn: bits of a 16-bit value or a code; of a float scale and offset. */
void cache_image_set_code(cache_image *image, int stream, int sequence, int token, int channel, int code);
void cache_image_set_params(cache_image *image, int stream, int sequence, int token, int channel,
                            uint16_t scale, uint16_t offset);

struct xq_tails cache_image_upload_tails(fixture *f, const cache_image *image);

#endif
