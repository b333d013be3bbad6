#include "../autotune/page_codec.h"
#include "../autotune/quantizer.h"
#include "../runtime/half.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static page_codec *codec_of(const char *spec)
{
    gen *g;
    char *completed;
    page_codec *codec;
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_complete(g, spec, &completed, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(page_codec_create(g, completed, &codec, &err), XQ_OK, "%s", err.message);
    free(completed);
    gen_destroy(g);
    return codec;
}

/* The place of a code by the fragment rules of docs/spec.md, written out anew: 4 bits, order k. */
static int nibble_of(const page_codec *codec, const uint8_t *page, int token, int channel)
{
    int unit = channel / 64, fragment = channel % 64 / 16, k = channel % 16, row = token % 16;
    int lane = row % 8 * 4 + k % 8 / 2, pair = 2 * (row / 8) + k / 8;
    size_t word = (size_t)(token / 16) * codec->tile_bytes + (size_t)unit * 512 + (size_t)lane * 16 +
                  (size_t)fragment * 4;
    uint32_t bits;
    memcpy(&bits, page + word, 4);
    return (int)(bits >> (16 * (k % 2) + 4 * pair) & 15);
}

static void round_trip(const char *spec)
{
    page_codec *codec = codec_of(spec);
    uint8_t *page = malloc(codec->page_bytes);
    memset(page, 0xff, codec->page_bytes);
    srand48(3);
    size_t used = 0;
    for (int pass = 0; pass < 2; pass++) { /* write all, then read all: nothing may overwrite another */
        srand48(9);
        for (int token = codec->page_tokens; token-- > 0;)
            for (int s = 0; s < codec->streams; s++) {
                int width = codec->stream[s].width;
                uint16_t x[1024], scale[32], offset[32], scale2[32], offset2[32];
                uint8_t codes[1024], codes2[1024];
                double x_hat[1024], x_hat2[1024];
                for (int c = 0; c < width; c++)
                    x[c] = half_from_float((float)(drand48() - 0.5));
                quantizer_encode(x, (size_t)width, codec->bits, (size_t)codec->group, codes, scale, offset);
                if (pass == 0) {
                    page_codec_write(codec, s, page, token, codes, scale, offset);
                    used += (size_t)(width * codec->bits / 8 + 4 * codec->stream[s].groups);
                    continue;
                }
                page_codec_read(codec, s, page, token, codes2, scale2, offset2);
                cr_assert_eq(memcmp(codes, codes2, (size_t)width), 0, "token %d", token);
                cr_assert_eq(memcmp(scale, scale2, 2 * (size_t)codec->stream[s].groups), 0);
                cr_assert_eq(memcmp(offset, offset2, 2 * (size_t)codec->stream[s].groups), 0);
                quantizer_decode(codes, scale, offset, (size_t)width, (size_t)codec->group, x_hat);
                page_codec_dequantize(codec, s, page, token, x_hat2);
                cr_assert_eq(memcmp(x_hat, x_hat2, sizeof *x_hat * (size_t)width), 0);
            }
    }
    cr_assert_eq(used, codec->page_bytes, "the page has bytes that no token uses");
    free(page);
    page_codec_destroy(codec);
}

Test(page_codec, every_token_reads_back_what_was_written)
{
    round_trip("{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\", \"bits\": 4}}");
    round_trip(
        "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\", \"bits\": 8, \"page\": 32}}");
    round_trip(
        "{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x\", \"bits\": 4, \"group\": \"row\"}}");
    round_trip("{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x\", \"bits\": 8, \"group\": 32}}");
    round_trip("{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"latent\", \"rank_k\": 64, "
               "\"rank_v\": 128}}");
}

Test(page_codec, codes_are_where_the_fragment_rules_put_them)
{
    page_codec *codec =
        codec_of("{\"model\": \"smollm2-135m\", \"cache\": {\"method\": \"x\", \"bits\": 4}}");
    int width = codec->stream[0].width;
    uint8_t *page = calloc(1, codec->page_bytes), codes[1024];
    uint16_t params[32] = {0};
    for (int token = 0; token < codec->page_tokens; token++) {
        for (int c = 0; c < width; c++)
            codes[c] = (uint8_t)((token * 7 + c * 3 + c / 16) % 16);
        page_codec_write(codec, 0, page, token, codes, params, params);
    }
    for (int token = 0; token < codec->page_tokens; token++)
        for (int c = 0; c < width; c++)
            cr_assert_eq(nibble_of(codec, page, token, c), (token * 7 + c * 3 + c / 16) % 16);
    free(page);
    page_codec_destroy(codec);
}

Test(page_codec, a_text_that_is_no_completed_spec_is_refused)
{
    gen *g;
    page_codec *codec;
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK);
    cr_assert_eq(page_codec_create(g, "{\"model\": \"smollm2-135m\"}", &codec, &err), XQ_ERROR_SPEC);
    cr_assert_str_eq(err.message, "layout: not that of a completed spec");
    gen_destroy(g);
}
