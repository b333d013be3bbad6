#include "../../../autotune/engine/page_codec.h"
#include "../../../runtime/base/half.h"
#include "../../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_BYTE 0xab

/* ---------------------------------------------------------------- a sequence in scattered pages */

/* Two sequences whose pages alternate in a pool and fill it. The first sequence fills its pages; the length
 * of the second is given. */
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

/* Draws what a stream holds of a sequence, always the same: codes, parameters, and rows of the tail. Writes
 * these values, or with `check` expects to read them. */
static void draw_or_check(const cache *c, int sequence, int stream, const char *spec, bool check)
{
    const page_sequence *seq = &c->sequence[sequence];
    const page_stream *s = &c->codec->stream[stream];
    const int bits = s->format.bits, top = (1 << bits) - 1, group = c->codec->group,
              tail = page_codec_tail_begin(c->codec, stream, seq);
    random_stream r = random_begin((uint64_t)(2 * sequence + stream), 0);
    double *x_hat = malloc((size_t)s->width * sizeof *x_hat);
    uint16_t *scale = calloc((size_t)s->width, 2), *zero = calloc((size_t)s->width, 2);
    for (int t = 0; t < seq->length; t++) {
        if (check)
            page_codec_dequantize_token(c->codec, stream, seq, t, x_hat);
        for (int i = 0; i < s->width; i++) {
            const bool data = quantizer_is_data(&s->format, (size_t)i), half = bits == 16 || t >= tail;
            const size_t at = (size_t)i, own = s->by_channel ? at : quantizer_group_of(&s->format, at);
            const bool begins =
                s->by_channel ? t % group == 0 : i == 0 || own != quantizer_group_of(&s->format, at - 1);
            unsigned code =
                half ? half_from_float(random_normal(&r)) : (unsigned)random_between(&r, 0, top);
            code = data ? code : 0;
            if (!half && begins) {
                scale[own] = half_from_float(random_normal(&r));
                zero[own] = s->format.integer_zero ? (uint16_t)random_between(&r, 0, top)
                                                   : half_from_float(random_normal(&r));
                if (!check)
                    page_codec_set_params(c->codec, stream, seq, t, i, scale[own], zero[own]);
            }
            if (check)
                cr_assert_eq(x_hat[i],
                             !data  ? 0
                             : half ? (double)half_to_float((uint16_t)code)
                                    : quantizer_value(&s->format, (int)code, scale[own], zero[own]),
                             "%s: stream %s, token %d of %d, channel %d", spec, s->name, t, seq->length, i);
            else if (t >= tail)
                page_codec_tail_row(c->codec, stream, seq, t)[i] = (uint16_t)code;
            else
                page_codec_set_code(c->codec, stream, seq, t, i, code);
        }
    }
    free(x_hat);
    free(scale);
    free(zero);
}

/* Fills all streams of both sequences, and then reads everything back: no value may overwrite another. */
static void round_trip(const char *spec, bool accumulator, int pages, int length)
{
    cache c;
    cache_open(&c, spec, accumulator, pages, length);
    for (int check = 0; check < 2; check++)
        for (int i = 0; i < 2; i++)
            for (int s = 0; s < c.codec->streams; s++)
                draw_or_check(&c, i, s, spec, check);
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
             "\"bits\": 3, \"axis_k\": \"channel\", \"axis_v\": \"channel\", \"page\": 32, "
             "\"zero_point\": \"integer\""),
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

/* Counts the bits of the pages that the layout uses. Writing codes and parameters of all ones, for all
 * tokens, sets these bits; writing zeros clears them. */
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
            for (int t = 0; t < c.sequence[0].length; t++)
                for (int i = 0; i < stream->width; i++) {
                    page_codec_set_code(c.codec, s, &c.sequence[0], t, i, value ? 0xffff : 0);
                    page_codec_set_params(c.codec, s, &c.sequence[0], t, i, value ? 0xffff : 0,
                                          value ? 0xffff : 0);
                }
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
    /* SmolLM2-135M has d = 576 and 3 KV heads of 64. A page has 64 tokens. With groups of 64, a token has 9
     * groups, or 3 in each of two streams. */
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
    /* The first case has two groups of 32 tokens in a page, for each of 576 channels. The second case has
     * one group in four pages of 16 tokens. */
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

/* The place of a token and channel in the fragments of order k. It is derived here again, independently of
 * the library. */
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

/* Reads the code of a token and channel from the bytes of its unit. */
static int code_at(const uint8_t *unit, int bits, int token, int channel)
{
    fragment_place p = place_of(token, channel);
    switch (bits) {
    case 2: { /* a word holds two fragments; each byte holds two codes of one, then two of the next */
        uint32_t word = word_at(unit + p.lane * 8 + p.fragment / 2 * 4);
        return (int)(word >> (16 * p.element + 8 * (p.pair / 2) + 4 * (p.fragment % 2) + 2 * (p.pair % 2)) &
                     3);
    }
    case 3: { /* 256 bytes of low bits as for 2 bits, then a word per lane of high bits of all fragments */
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

static const int32_t first_page = 0;

Test(page_codec, codes_are_where_the_fragment_rules_put_them)
{
    for (int bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4) {
        char spec[256];
        snprintf(spec, sizeof spec, SMOL("\"method\": \"x\", \"rotation\": false, \"bits\": %d"), bits);
        page_codec *codec = codec_of(spec, false);
        int width = codec->stream[0].width, mask = (1 << bits) - 1;
        uint8_t *page = calloc(1, codec->page_bytes);
        const page_sequence alone = {page, &first_page, codec->page_tokens, NULL};
        for (int token = 0; token < codec->page_tokens; token++)
            for (int c = 0; c < width; c++)
                page_codec_set_code(codec, 0, &alone, token, c,
                                    (unsigned)((token * 7 + c * 3 + c / 16) & mask));
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
    const page_sequence alone = {page, &first_page, 64, NULL};
    uint16_t value;
    for (int token = 0; token < 64; token++)
        for (int c = 0; c < 576; c++)
            page_codec_set_code(codec, 0, &alone, token, c, (uint16_t)(token * 576 + c));
    for (int token = 0; token < 64; token++)
        for (int c = 0; c < 576; c++) {
            fragment_place p = place_of(token, c);
            int reg = p.pair / 2 + 2 * (p.pair % 2); /* register 1: rows from 8 on; 2: channels from 8 on */
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
    uint8_t *page = calloc(1, codec->page_bytes);
    const page_sequence alone = {page, &first_page, 64, NULL};
    cr_assert_eq(codec->stream[0].groups, 5);
    page_codec_set_params(codec, 0, &alone, 16 + 11, 3 * codec->group, 0x1234, 5);
    const uint8_t *params = page + codec->tile_bytes + 576 * 16 * 3 / 8;
    size_t bit = (3 * 16 + 11) * 3; /* bit 177: the code takes byte 22 from its bit 1 on */
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
    uint16_t found;
    for (int i = 0; i < 576; i++)
        page_codec_set_params(c.codec, 0, &c.sequence[0], 128, i, (uint16_t)(1000 + i),
                              (uint16_t)(5000 + i));
    for (int i = 0; i < 576; i++) {
        int chunk = i / 64, page = c.pages[0][2 + chunk % 2], slot = chunk / 2; /* group 1: pages 2 and 3 */
        const uint8_t *at = c.pool + (size_t)page * c.codec->page_bytes + 64 * 576 / 2 + (size_t)slot * 256;
        memcpy(&found, at + i % 64 * 2, 2);
        cr_assert_eq(found, 1000 + i);
        memcpy(&found, at + 128 + i % 64 * 2, 2);
        cr_assert_eq(found, 5000 + i);
    }
    cache_close(&c);
}

Test(page_codec, tail_rows_follow_one_another_and_start_anew_with_each_group)
{
    cache c;
    cache_open(&c,
               SMOL("\"method\": \"latent\", \"axis_k\": \"channel\", \"axis_v\": \"channel\", "
                    "\"group\": 32, \"page\": 32"),
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
    cr_assert_str_eq(err.message, "the spec is not a completed spec");
    error_clear(&err);
    err = (error)ERROR_INIT;
    cr_assert_eq(gen_complete(g, SMOL("\"method\": \"x\", \"rotation\": false"), &completed, &err), XQ_OK);
    cr_assert_eq(page_codec_create_accumulator(g, completed, &codec, &err), XQ_ERROR_SPEC,
                 "x has no accumulator");
    free(completed);
    gen_destroy(g);
}
