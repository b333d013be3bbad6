/* What append must leave in the cache, bit for bit: pages and tails built on the host with a quantizer of
 * their own, where page_codec puts things (tests/test_page_codec.c holds that against docs/layout.md).
 * Failures end the test. */
#ifndef TESTS_EXPECTED_CACHE_H
#define TESTS_EXPECTED_CACHE_H

#include "../autotune/engine/page_codec.h"

typedef struct expected_cache {
    page_codec *codec;
    float *feedback[PAGE_MAX_STREAMS]; /* [groups][room][room]: what a channel's error adds to those of its
                                          group (expected_feedback_room); NULL: nothing. The test's own */
    uint8_t *pages;                    /* all bits set where nothing was written */
    size_t bytes;
} expected_cache;

/* An image of `pool` pages of a completed spec's cache, or of its accumulator. */
void expected_open(expected_cache *c, gen *g, const char *completed, bool accumulator, int pool);
void expected_close(expected_cache *c);

/* Channels that packed feedback has room for in each group: those of the largest group of all streams. */
int expected_feedback_room(const page_codec *codec);

/* Whether a channel of a stream is padding. */
static inline bool expected_is_padding(const page_stream *s, int channel)
{
    return !quantizer_is_data(&s->format, (size_t)channel);
}

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
