/* Builds on the host what append must leave in the cache, bit for bit: its pages. The quantizer here is
 * independent of the library's; page_codec says where each value is, and
 * tests/autotune/engine/test_page_codec.c checks page_codec against docs/layout.md. Failures end the test.
 */
#ifndef TESTS_EXPECTED_CACHE_H
#define TESTS_EXPECTED_CACHE_H

#include "../../autotune/engine/page_codec.h"

typedef struct expected_cache {
    page_codec *codec;
    /* [groups][room][room]: factors by which the error of a channel is added to the other channels of its
     * group, where room is expected_feedback_room. NULL: no feedback. The test owns the array. */
    float *feedback[PAGE_MAX_STREAMS];
    uint8_t *pages; /* bytes that were never written are 0xff */
    size_t bytes;
} expected_cache;

/* Makes an image of `pool` pages of a completed spec's cache, or of its accumulator. */
void expected_open(expected_cache *c, gen *g, const char *completed, bool accumulator, int pool);
void expected_close(expected_cache *c);

/* Number of channels that packed feedback has room for in each group: the size of the largest group of any
 * stream. */
int expected_feedback_room(const page_codec *codec);

/* Whether a channel of a stream is padding. */
static inline bool expected_is_padding(const page_stream *s, int channel)
{
    return !quantizer_is_data(&s->format, (size_t)channel);
}

/* Writes token t of a sequence whose pages in the pool are `pages`. `row` [width] holds f16 values, finite
 * or NaN, which are quantized in groups. */
void expected_write_token(expected_cache *c, int stream, const int32_t *pages, int t, const uint16_t *row);
/* Writes one group of tokens; values [group][width] are f16. */
void expected_write_group(expected_cache *c, int stream, const int32_t *pages, int group,
                          const uint16_t *values);

/* The value x^ of a token that was quantized: exact, and as the kernels see it. In a stream with
 * parameters *scale, unless NULL, becomes the scale of the value's group. */
double expected_value(const expected_cache *c, int stream, const int32_t *pages, int t, int channel,
                      double *scale);
uint16_t expected_half(const expected_cache *c, int stream, const int32_t *pages, int t, int channel);

/* The f16 nearest to a number, ties to even; at most 65504 unless NaN. */
uint16_t expected_round_half(double value);

#endif
