#include "../autotune/engine/page_codec.h"
#include "../runtime/base/half.h"
#include "../runtime/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_BYTE 0xab

/* ---------------------------------------------------------------- a sequence in scattered pages */

/* Two sequences that fill a pool of pages, in turns; the second one's length is given. */
typedef struct cache {
    page_codec *codec;
    int32_t pages[2][16];
    int pool_pages;
    uint8_t *pool, *tails;
    page_sequence sequence[2];
} cache;

static page_codec *codec_of(const char *spec, bool accumulator)
{
    gen *g;
    char *completed;
    page_codec *codec;
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_complete(g, spec, &completed, &err), XQ_OK, "%s: %s", spec, err.message);
    cr_assert_eq(
        (accumulator ? page_codec_create_accumulator : page_codec_create)(g, completed, &codec, &err),
        XQ_OK, "%s", err.message);
    free(completed);
    gen_destroy(g);
    return codec;
}

static void cache_open(cache *c, const char *spec, bool accumulator, int pages, int length)
{
    c->codec = codec_of(spec, accumulator);
    c->pool_pages = 2 * pages;
    c->pool = malloc((size_t)c->pool_pages * c->codec->page_bytes);
    c->tails = malloc(2 * c->codec->tail_bytes + 1);
    memset(c->pool, NO_BYTE, (size_t)c->pool_pages * c->codec->page_bytes);
    memset(c->tails, NO_BYTE, 2 * c->codec->tail_bytes + 1);
    for (int i = 0; i < 2; i++) {
        for (int p = 0; p < pages; p++)
            c->pages[i][p] = (2 * p + i + 3) % c->pool_pages;
        c->sequence[i] = (page_sequence){c->pool, c->pages[i], length, c->tails + i * c->codec->tail_bytes};
    }
    c->sequence[0].length = pages * c->codec->page_tokens;
}

static void cache_close(cache *c)
{
    free(c->pool);
    free(c->tails);
    page_codec_destroy(c->codec);
}

static uint16_t *random_rows(const page_stream *s, int rows, uint64_t seed)
{
    random_stream r = random_begin(seed, 0);
    size_t count = (size_t)rows * (size_t)s->width;
    uint16_t *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = quantizer_is_data(&s->format, i % (size_t)s->width) ? half_from_float(random_normal(&r)) : 0;
    return x;
}

/* x̂ of token t, by quantizing anew what should have been quantized together. */
static void expect_row(const page_codec *codec, const page_stream *s, const uint16_t *x, int length, int t,
                       double *x_hat)
{
    size_t width = (size_t)s->width, group = (size_t)codec->group;
    const uint16_t *row = x + (size_t)t * width;
    bool whole = s->format.bits == 16 || (s->by_channel && t >= length / codec->group * codec->group);
    uint8_t *codes = malloc(width * group), *code = codes;
    uint16_t *scale = malloc(width * 2), *zero = malloc(width * 2);
    if (s->by_channel && !whole) {
        quantizer_encode_channels(&s->format, row - (size_t)t % group * width, width, codes, scale, zero);
        code += (size_t)t % group * width;
    } else if (!whole) {
        quantizer_encode(&s->format, row, width, codes, scale, zero);
    }
    for (size_t c = 0; c < width; c++) {
        size_t shared = s->by_channel ? c : c / group; /* whose scale and zero */
        x_hat[c] = !quantizer_is_data(&s->format, c) ? 0
                   : whole                           ? (double)half_to_float(row[c])
                           : quantizer_value(&s->format, code[c], scale[shared], zero[shared]);
    }
    free(codes);
    free(scale);
    free(zero);
}

/* Stores both sequences, all streams; then everything must read back: nothing may lie on anything else. */
static void round_trip(const char *spec, bool accumulator, int pages, int length)
{
    cache c;
    error err = ERROR_INIT;
    cache_open(&c, spec, accumulator, pages, length);
    uint16_t *x[2][PAGE_MAX_STREAMS];
    for (int i = 0; i < 2; i++)
        for (int s = 0; s < c.codec->streams; s++) {
            x[i][s] = random_rows(&c.codec->stream[s], c.sequence[i].length, (uint64_t)(2 * i + s));
            cr_assert_eq(page_codec_store(c.codec, s, &c.sequence[i], x[i][s], &err), XQ_OK);
        }
    for (int i = 0; i < 2; i++)
        for (int s = 0; s < c.codec->streams; s++) {
            const page_stream *stream = &c.codec->stream[s];
            size_t width = (size_t)stream->width;
            double *x_hat = malloc(2 * width * sizeof *x_hat), *wanted = x_hat + width;
            for (int t = 0; t < c.sequence[i].length; t++) {
                page_codec_dequantize_token(c.codec, s, &c.sequence[i], t, x_hat);
                expect_row(c.codec, stream, x[i][s], c.sequence[i].length, t, wanted);
                for (size_t channel = 0; channel < width; channel++)
                    cr_assert_eq(x_hat[channel], wanted[channel],
                                 "%s: stream %s, token %d of %d, channel %zu", spec, stream->name, t,
                                 c.sequence[i].length, channel);
            }
            free(x_hat);
            free(x[i][s]);
        }
    cache_close(&c);
}

#define SMOL(cache) "{\"model\": \"smollm2-135m\", \"cache\": {" cache "}}"

Test(page_codec, tokens_read_back_whatever_the_bits_and_zero_points)
{
    static const char *const zeros[] = {"float", "integer"};
    for (int bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4)
        for (int z = 0; z < 2; z++) {
            char spec[256];
            snprintf(spec, sizeof spec,
                     SMOL("\"method\": \"latent\", \"bits\": %d, \"zero_point\": \"%s\", \"page\": 48"),
                     bits, zeros[z]);
            round_trip(spec, false, 2, 50);
        }
    round_trip(SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": 4, \"group\": \"row\""), false, 1,
               64);
    round_trip(SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": 8, \"group\": 32"), false, 1, 1);
}

Test(page_codec, channel_groups_read_back_with_pages_smaller_equal_and_larger)
{
    static const struct {
        int group, page, pages;
    } sizes[] = {{32, 32, 3},  {32, 64, 2},  {32, 256, 1}, {64, 16, 8},
                 {128, 32, 8}, {128, 64, 4}, {256, 256, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4) {
            char spec[512];
            int length = sizes[i].pages * sizes[i].page - sizes[i].group / 2 + bits;
            snprintf(
                spec, sizeof spec,
                SMOL("\"method\": \"latent\", \"bits\": %d, \"axis_k\": \"channel\", \"axis_v\": \"%s\", "
                     "\"zero_point\": \"%s\", \"group\": %d, \"page\": %d"),
                bits, i % 2 ? "channel" : "token", ((int)i + bits) % 2 ? "integer" : "float",
                sizes[i].group, sizes[i].page);
            round_trip(spec, false, sizes[i].pages, length);
        }
}

Test(page_codec, padded_latents_read_back_as_zeros_in_their_padding)
{
    round_trip(SMOL("\"method\": \"latent\", \"rank_k\": 40, \"rank_v\": 100, \"group\": 32"), false, 1,
               20);
    round_trip(
        SMOL("\"method\": \"latent\", \"groups\": 3, \"rank_k\": 120, \"rank_v\": 150, \"group\": 32, "
             "\"bits\": 3, "
             "\"axis_k\": \"channel\", \"axis_v\": \"channel\", \"page\": 32, \"zero_point\": \"integer\""),
        false, 3, 75);
}

Test(page_codec, accumulators_read_back)
{
    round_trip(SMOL("\"method\": \"x-cl\", \"bits\": 2, \"accumulator_bits\": 16"), true, 2, 70);
    round_trip(SMOL("\"method\": \"x-cl\", \"bits\": 2, \"accumulator_bits\": 8"), true, 2, 70);
    round_trip(
        SMOL(
            "\"method\": \"latent-cl\", \"bits\": 2, \"accumulator_bits\": 4, \"zero_point\": \"integer\""),
        true, 2, 70);
}

/* ---------------------------------------------------------------- bytes */

/* How many bits of a page differ from NO_BYTE's once all tokens are written with codes and parameters of
 * ones, or of zeros: those that were changed by either are what the page's layout uses. */
static size_t used_bits(const char *spec, int pages)
{
    cache c;
    size_t used = 0, bytes;
    cache_open(&c, spec, false, pages, 0);
    bytes = (size_t)c.pool_pages * c.codec->page_bytes;
    uint8_t *ones = malloc(bytes);
    for (int value = 1; value >= 0; value--) {
        memset(c.pool, value ? 0 : 0xff, bytes);
        for (int s = 0; s < c.codec->streams; s++) {
            const page_stream *stream = &c.codec->stream[s];
            size_t count = (size_t)stream->width * (size_t)c.codec->group;
            uint8_t *codes = malloc(count);
            uint16_t *params = malloc(count * 2);
            memset(codes, value ? 0xff : 0, count);
            memset(params, value ? 0xff : 0, count * 2);
            if (stream->by_channel)
                for (int g = 0; g < c.sequence[0].length / c.codec->group; g++)
                    page_codec_write_group(c.codec, s, &c.sequence[0], g, codes, params, params);
            else
                for (int t = 0; t < c.sequence[0].length; t++)
                    page_codec_write(c.codec, s,
                                     c.pool +
                                         (size_t)c.pages[0][t / c.codec->page_tokens] * c.codec->page_bytes,
                                     t % c.codec->page_tokens, codes, params, params);
            free(codes);
            free(params);
        }
        if (value)
            memcpy(ones, c.pool, bytes);
    }
    for (size_t i = 0; i < bytes; i++) {
        cr_assert_eq((uint8_t)~c.pool[i], ones[i], "a bit that is not written by every token alike");
        used += (size_t)__builtin_popcount(ones[i]);
    }
    free(ones);
    cache_close(&c);
    return used;
}

Test(page_codec, every_bit_of_a_token_is_its_own)
{
    /* SmolLM2-135M: d = 576 and 3 KV heads of 64. 64 tokens a page; groups of 64: 9, or 3 and 3, a token.
     */
    cr_assert_eq(used_bits(SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": 3, \"group\": 64"), 1),
                 64 * (576 * 3 + 9 * 32));
    cr_assert_eq(
        used_bits(SMOL("\"method\": \"latent\", \"bits\": 2, \"group\": 64, \"zero_point\": \"integer\""),
                  1),
        64 * (384 * 2 + 6 * (16 + 2)));
    cr_assert_eq(
        used_bits(SMOL("\"method\": \"latent\", \"bits\": 3, \"group\": 64, \"zero_point\": \"integer\""),
                  1),
        64 * (384 * 3 + 6 * (16 + 3)));
    /* Two groups of 32 tokens in a page, for each of 576 channels; and one group in four pages, of 16
     * tokens. */
    cr_assert_eq(used_bits(SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": 4, \"group\": 32, "
                                "\"axis_k\": \"channel\""),
                           1),
                 64 * 576 * 4 + 2 * 576 * 32);
    cr_assert_eq(used_bits(SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": 3, \"group\": 64, "
                                "\"axis_k\": \"channel\", \"page\": 16, "
                                "\"zero_point\": \"integer\""),
                           4),
                 64 * 576 * 3 + 576 * (16 + 3));
}

/* ---------------------------------------------------------------- places, by the rules of docs/layout.md
 */

/* Register pair and lane of token and channel in order k, written out anew. */
typedef struct fragment_place {
    int fragment, lane, pair, element;
} fragment_place;

static fragment_place place_of(int token, int channel)
{
    int k = channel % 16, row = token % 16;
    return (fragment_place){channel % 64 / 16, row % 8 * 4 + k % 8 / 2, 2 * (row / 8) + k / 8, k % 2};
}

static uint32_t word_at(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

/* The code of a token and channel, from the unit's bytes. */
static int code_at(const uint8_t *unit, int bits, int token, int channel)
{
    fragment_place p = place_of(token, channel);
    switch (bits) {
    case 2: { /* a word has two fragments: in each byte of a half-word, two codes of one and two of the next
               */
        uint32_t word = word_at(unit + p.lane * 8 + p.fragment / 2 * 4);
        return (int)(word >> (16 * p.element + 8 * (p.pair / 2) + 4 * (p.fragment % 2) + 2 * (p.pair % 2)) &
                     3);
    }
    case 3: { /* 256 bytes of low bits as for 2, then a word a lane of high bits: all four fragments */
        uint32_t word = word_at(unit + 256 + p.lane * 4);
        int high = (int)(word >> (16 * p.element + 8 * (p.pair / 2) + 2 * p.fragment + p.pair % 2) & 1);
        return code_at(unit, 2, token, channel) | high << 2;
    }
    case 4: {
        uint32_t word = word_at(unit + p.lane * 16 + p.fragment * 4);
        return (int)(word >> (16 * p.element + 4 * p.pair) & 15);
    }
    default:
        return unit[p.fragment / 2 * 512 + p.lane * 16 + p.fragment % 2 * 8 + 2 * p.pair + p.element];
    }
}

Test(page_codec, codes_are_where_the_fragment_rules_put_them)
{
    for (int bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4) {
        char spec[256];
        snprintf(spec, sizeof spec, SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": %d"), bits);
        page_codec *codec = codec_of(spec, false);
        int width = codec->stream[0].width, mask = (1 << bits) - 1;
        uint8_t *page = calloc(1, codec->page_bytes), codes[1024];
        uint16_t params[64] = {0};
        for (int token = 0; token < codec->page_tokens; token++) {
            for (int c = 0; c < width; c++)
                codes[c] = (uint8_t)((token * 7 + c * 3 + c / 16) & mask);
            page_codec_write(codec, 0, page, token, codes, params, params);
        }
        for (int token = 0; token < codec->page_tokens; token++)
            for (int c = 0; c < width; c++) {
                const uint8_t *unit =
                    page + (size_t)(token / 16) * codec->tile_bytes + (size_t)(c / 64 * 128 * bits);
                cr_assert_eq(code_at(unit, bits, token, c), (token * 7 + c * 3 + c / 16) & mask, "%d bits",
                             bits);
            }
        free(page);
        page_codec_destroy(codec);
    }
}

Test(page_codec, f16_values_are_an_operand_of_the_matrix_instruction)
{
    page_codec *codec = codec_of(SMOL("\"method\": \"x-cl\""), true);
    uint8_t *page = calloc(1, codec->page_bytes);
    uint16_t row[1024], value;
    for (int token = 0; token < 64; token++) {
        for (int c = 0; c < 576; c++)
            row[c] = (uint16_t)(token * 576 + c);
        page_codec_write_halves(codec, 0, page, token, row);
    }
    for (int token = 0; token < 64; token++)
        for (int c = 0; c < 576; c++) {
            fragment_place p = place_of(token, c);
            int reg =
                p.pair / 2 + 2 * (p.pair % 2); /* rows 8.. in register 1, channels 8.. in register 2 */
            size_t at = (size_t)(token / 16) * codec->tile_bytes + (size_t)(c / 16) * 512 +
                        (size_t)p.lane * 16 + (size_t)reg * 4 + (size_t)p.element * 2;
            memcpy(&value, page + at, 2);
            cr_assert_eq(value, (uint16_t)(token * 576 + c));
        }
    free(page);
    page_codec_destroy(codec);
}

Test(page_codec, parameters_of_tokens_are_where_the_layout_says)
{
    page_codec *codec = codec_of(
        SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": 3, \"zero_point\": \"integer\""), false);
    uint8_t *page = calloc(1, codec->page_bytes), codes[1024] = {0};
    uint16_t scale[8] = {0}, zero[8] = {0};
    cr_assert_eq(codec->stream[0].groups, 5);
    scale[3] = 0x1234;
    zero[3] = 5;
    page_codec_write(codec, 0, page, 16 + 11, codes, scale, zero);
    const uint8_t *params = page + codec->tile_bytes + 576 * 16 * 3 / 8;
    size_t bit = (3 * 16 + 11) * 3; /* 177: bits 1.. of byte 22 */
    uint16_t found;
    memcpy(&found, params + (3 * 16 + 11) * 2, 2);
    cr_assert_eq(found, 0x1234);
    cr_assert_eq(params[5 * 32 + bit / 8], 5 << bit % 8);
    free(page);
    page_codec_destroy(codec);
}

Test(page_codec, parameters_of_channels_are_spread_over_the_pages_of_their_group)
{
    cache c;
    cache_open(&c,
               SMOL("\"method\": \"x\", \"rotation\": false, \"axis_k\": \"channel\", \"group\": 128, "
                    "\"page\": 64"),
               false, 4, 0);
    uint8_t *codes = calloc(128, 576);
    uint16_t scale[576], zero[576], found;
    for (int i = 0; i < 576; i++)
        scale[i] = (uint16_t)(1000 + i), zero[i] = (uint16_t)(5000 + i);
    page_codec_write_group(c.codec, 0, &c.sequence[0], 1, codes, scale, zero);
    for (int i = 0; i < 576; i++) {
        int chunk = i / 64, page = c.pages[0][2 + chunk % 2], slot = chunk / 2; /* group 1: pages 2 and 3 */
        const uint8_t *at = c.pool + (size_t)page * c.codec->page_bytes + 64 * 576 / 2 + (size_t)slot * 256;
        memcpy(&found, at + i % 64 * 2, 2);
        cr_assert_eq(found, 1000 + i);
        memcpy(&found, at + 128 + i % 64 * 2, 2);
        cr_assert_eq(found, 5000 + i);
    }
    free(codes);
    cache_close(&c);
}

Test(page_codec, tail_rows_follow_one_another_and_start_anew_with_each_group)
{
    cache c;
    cache_open(&c,
               SMOL("\"method\": \"latent\", \"axis_k\": \"channel\", \"axis_v\": \"channel\", \"group\": "
                    "32, \"page\": 32"),
               false, 3, 70);
    cr_assert_eq(c.codec->tail_bytes, 2 * 32 * 192 * 2);
    cr_assert_eq(page_codec_tail_begin(c.codec, 0, &c.sequence[1]), 64);
    cr_assert_eq((uint8_t *)page_codec_tail_row(c.codec, 1, &c.sequence[1], 69),
                 c.sequence[1].tail + 32 * 192 * 2 + 5 * 192 * 2);
    cr_assert_eq(page_codec_tail_begin(c.codec, 0, &c.sequence[0]), 96, "a full group is in pages");
    cache_close(&c);
}

/* ---------------------------------------------------------------- errors */

Test(page_codec, a_text_that_is_no_completed_spec_is_refused)
{
    gen *g;
    char *completed;
    page_codec *codec;
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK);
    cr_assert_eq(page_codec_create(g, "{\"model\": \"smollm2-135m\"}", &codec, &err), XQ_ERROR_INTERNAL);
    cr_assert_str_eq(err.message, "not a completed spec");
    error_clear(&err);
    err = (error)ERROR_INIT;
    cr_assert_eq(gen_complete(g, SMOL("\"method\": \"x\", \"rotation\": false"), &completed, &err), XQ_OK);
    cr_assert_eq(page_codec_create_accumulator(g, completed, &codec, &err), XQ_ERROR_SPEC,
                 "x has no accumulator");
    free(completed);
    gen_destroy(g);
}
