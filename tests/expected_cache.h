/* What append must leave in the cache, bit for bit: pages and tails built on the host from the completed
 * spec's numbers, and a quantizer of their own, so that kernels are compared with the documentation rather
 * than with themselves. Failures end the test. */
#ifndef TESTS_EXPECTED_CACHE_H
#define TESTS_EXPECTED_CACHE_H

#include "../gen/gen.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

#define EXPECTED_MAX_STREAMS 2

typedef struct expected_stream {
    char name[8];
    int width, rank, latent_width, bits;
    bool by_channel; /* axis: groups of tokens of one channel */
    int codes_offset, params_offset, zeros_offset;
    int slots_offset, slot_bytes, chunk_pages, page_groups, page_chunks;
    int tail_offset, tail_width;
    int32_t *map;    /* gen_unit_map */
    float *feedback; /* [stored channels, up to whole groups][group]: what a channel's error adds to those
                        of its group; NULL: nothing. The test's own */
} expected_stream;

typedef struct expected_cache {
    int group, page, tile_bytes, page_bytes, tail_bytes;
    bool integer_zero;
    float clip; /* of codes; an accumulator has none */
    int streams;
    expected_stream stream[EXPECTED_MAX_STREAMS];
    uint8_t *pages; /* all bits set where nothing was written */
    size_t bytes;
} expected_cache;

/* An image of `pool` pages of `which`, "layout" or "accumulator" of a completed spec. */
void expected_open(expected_cache *c, gen *g, const char *completed, const char *which, int pool);
void expected_close(expected_cache *c);

/* What a group of values becomes. */
typedef struct expected_params {
    uint16_t scale, offset; /* f16; offset where the zero point is a float */
    int zero;               /* where it is an integer */
    int most;               /* the largest code */
} expected_params;
expected_params expected_find_params(const expected_cache *c, const float *values, int count, int bits);
int expected_find_code(float value, const expected_params *params, bool integer_zero);

/* The same with feedback: by a product with 1 / scale. *e is what the code's value is off, f16. */
int expected_feed_back(float value, float moved, const expected_params *params, bool integer_zero,
                       float *e);

/* Whether a channel of a stream is padding. */
bool expected_is_padding(const expected_stream *s, int channel);

/* Writes token t of a sequence, which has the pages `pages` of the pool: groups of its `row` [width] f16,
 * finite or NaN. */
void expected_write_token(expected_cache *c, int stream, const int32_t *pages, int t, const uint16_t *row);
/* Writes a group of tokens: values [group][width] f16. */
void expected_write_group(expected_cache *c, int stream, const int32_t *pages, int group,
                          const uint16_t *values);

/* What the cache holds of a token that was quantized: x^, exact, and as the kernels see it. */
double expected_value(const expected_cache *c, int stream, const int32_t *pages, int t, int channel,
                      double *scale);
uint16_t expected_half(const expected_cache *c, int stream, const int32_t *pages, int t, int channel);

/* The f16 nearest to a number, ties to even; at most 65504 unless NaN. */
uint16_t expected_round_half(double value);

#endif
