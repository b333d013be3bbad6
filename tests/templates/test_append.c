/* Tests append and append_channel on the software device: every byte of pages and tails is compared with
 * those of an independent quantizer (append_run.h). Dense projections have cases of their own. */
#include "../../runtime/base/half.h"
#include "../support/spec_text.h"
#include "append_run.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- bit for bit */

struct append_case {
    int hidden, heads;
    char rest[64];   /* further members of the spec, after a comma */
    char cache[256]; /* members of the spec's "cache" */
};

/* The first cases are x by token with several widths and groups, x by channel, rotated x, latents,
 * cross-layer methods, and feedback. */
// clang-format off
static struct append_case cases[] = {
    {192, 3, "", TEXT("method": "x", "rotation": false, "bits": 2, "group": 32, "page": 16, "clip": 0.6)},
    {192, 3, "", TEXT("method": "x", "rotation": false, "bits": 3, "group": 64, "page": 48)},
    {576, 9, "", TEXT("method": "x", "rotation": false, "bits": 4, "group": "row", "page": 64)},
    {320, 5, "", TEXT("method": "x", "rotation": false, "bits": 8, "group": 256, "page": 256)},
    {192, 3, "",
     TEXT("method": "x", "rotation": false, "bits": 2, "group": 128, "page": 32, "zero_point": "integer")},
    {192, 3, BF16,
     TEXT("method": "x", "rotation": false, "bits": 3, "group": 32, "page": 64, "zero_point": "integer",
         "clip": 0.83)},
    {320, 5, "",
     TEXT("method": "x", "rotation": false, "bits": 4, "group": 64, "page": 16, "zero_point": "integer")},
    {320, 5, BF16,
     TEXT("method": "x", "rotation": false, "bits": 8, "group": "row", "page": 64,
         "zero_point": "integer")},
    {192, 3, "",
     TEXT("method": "x", "rotation": false, "bits": 4, "group": 32, "page": 16, "axis_k": "channel")},
    {192, 3, BF16,
     TEXT("method": "x", "rotation": false, "bits": 2, "group": 128, "page": 32, "axis_k": "channel",
         "clip": 0.7)},
    {192, 3, "",
     TEXT("method": "x", "rotation": false, "bits": 3, "group": 64, "page": 256, "axis_k": "channel",
         "zero_point": "integer", "clip": 0.55)},
    {128, 2, "",
     TEXT("method": "x", "rotation": false, "bits": 8, "group": 256, "page": 64, "axis_k": "channel",
         "zero_point": "integer")},
    {320, 5, "", TEXT("method": "x", "rotation": true, "bits": 2, "group": 128, "page": 16)},
    {576, 9, BF16,
     TEXT("method": "x", "rotation": true, "bits": 4, "group": "row", "page": 64,
         "zero_point": "integer", "clip": 0.7)},
    {192, 3, BF16 BF16_WEIGHTS, TEXT("method": "x", "rotation": true, "bits": 3, "group": 32, "page": 48)},
    {192, 3, "",
     TEXT("method": "x", "rotation": true, "bits": 8, "group": 64, "page": 32, "axis_k": "channel",
         "zero_point": "integer")},
    {320, 5, BF16 BF16_WEIGHTS,
     TEXT("method": "x", "rotation": true, "bits": 2, "group": 32, "page": 64, "axis_k": "channel")},
    {192, 4, "",
     TEXT("method": "latent", "bits": 3, "group": 64, "page": 32, "groups": 2, "rank_k": 100,
         "rank_v": 192)},
    {640, 4, BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 2, "group": "row", "page": 32, "groups": 4, "rank_k": 44,
         "rank_v": 256, "zero_point": "integer", "clip": 0.65)},
    {192, 4, BF16, TEXT("method": "latent", "bits": 4, "group": 32, "page": 64, "rank_k": 65, "rank_v": 1)},
    {640, 4, "", TEXT("method": "latent", "bits": 4, "group": 128, "page": 64, "axis_k": "channel")},
    {192, 4, BF16 BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 3, "group": 32, "page": 16, "axis_k": "channel",
         "axis_v": "channel", "groups": 2, "rank_k": 100, "rank_v": 70, "zero_point": "integer")},
    {192, 4, BF16,
     TEXT("method": "latent", "bits": 2, "group": 64, "page": 192, "axis_k": "token", "axis_v": "channel")},
    {192, 4, BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 8, "group": 256, "page": 128, "axis_k": "channel",
         "axis_v": "token", "groups": 4)},
    {192, 3, "", TEXT("method": "x-cl", "bits": 3, "group": 64, "page": 32, "base": true)},
    {192, 3, "",
     TEXT("method": "x-cl", "bits": 2, "group": 32, "page": 32, "accumulator_bits": 16, "clip": 0.7)},
    {320, 5, BF16,
     TEXT("method": "x-cl", "bits": 4, "group": "row", "page": 32, "accumulator_bits": 4,
         "zero_point": "integer")},
    {192, 3, "",
     TEXT("method": "x-cl", "bits": 4, "group": 32, "page": 64, "accumulator_bits": 8,
         "axis_k": "channel")},
    {192, 3, "",
     TEXT("method": "x-cl", "bits": 2, "group": 128, "page": 16, "accumulator_bits": 4,
         "axis_k": "channel", "clip": 0.75)},
    {192, 3, "",
     TEXT("method": "x-cl", "bits": 8, "group": 64, "page": 16, "base": true, "axis_k": "channel")},
    {640, 2, "", TEXT("method": "latent-cl", "bits": 4, "group": 64, "page": 16, "accumulator_bits": 16)},
    {192, 2, BF16 BF16_WEIGHTS,
     TEXT("method": "latent-cl", "bits": 3, "group": 128, "page": 64, "accumulator_bits": 8,
         "zero_point": "integer")},
    {192, 2, BF16,
     TEXT("method": "latent-cl", "bits": 8, "group": 32, "page": 64, "base": true, "rank_k": 90)},
    {640, 2, "",
     TEXT("method": "latent-cl", "bits": 2, "group": 32, "page": 16, "accumulator_bits": 16,
         "axis_k": "channel")},
    {192, 2, BF16,
     TEXT("method": "latent-cl", "bits": 3, "group": 64, "page": 128, "accumulator_bits": 4,
         "axis_k": "channel", "rank_k": 90, "clip": 0.8, "zero_point": "integer")},
    {192, 2, BF16_WEIGHTS,
     TEXT("method": "latent-cl", "bits": 4, "group": 128, "page": 64, "base": true, "axis_k": "channel")},
    {192, 3, "", TEXT("method": "latent", "bits": 2, "group": 128, "page": 64, "feedback": true)},
    {192, 4, BF16 BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 3, "group": 128, "page": 16, "groups": 2, "rank_k": 100,
         "rank_v": 96, "feedback": true)},
    {192, 3, "",
     TEXT("method": "latent", "bits": 4, "group": 32, "page": 32, "rank_k": 75, "zero_point": "integer",
         "clip": 0.7, "feedback": true)},
    /* Groups of channels that end with their latent, such as groups of 128 in latents of 64 and 192. Keys
     * and values have different numbers of latents. */
    {640, 4, "", TEXT("method": "latent", "bits": 4, "group": 128, "page": 64, "groups_k": 4)},
    {256, 6, BF16 BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 3, "group": 128, "page": 32, "groups_k": 2, "groups_v": 6,
         "rank_k": 350, "zero_point": "integer")},
    {192, 6, "", TEXT("method": "latent", "bits": 2, "group": "row", "page": 16, "groups_v": 2)},
    {192, 4, "",
     TEXT("method": "latent", "bits": 8, "group": 256, "page": 64, "groups_k": 4, "axis_v": "channel")},
    {192, 3, "",
     TEXT("method": "latent", "bits": 2, "group": 128, "page": 64, "groups_k": 3, "groups_v": 1,
         "feedback": true)},
    {256, 6, "",
     TEXT("method": "latent", "bits": 4, "group": 128, "page": 64, "groups_k": 1, "groups_v": 2,
         "rank_v": 360, "feedback": true)},
    {640, 10, "", TEXT("method": "x", "bits": 3, "group": 256, "page": 64, "feedback": true)},
    {192, 3, "",
     TEXT("method": "x", "bits": 8, "group": 64, "page": 48, "clip": 1, "zero_point": "integer",
         "feedback": true)},
};
// clang-format on

static const char *case_spec(const struct append_case *c)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": 64, \"rope_theta\": 10000.0}, \"cache\": {%s}%s}",
             c->hidden, c->heads, c->heads, c->cache, c->rest);
    return text;
}

ParameterizedTestParameters(append, leaves_every_byte_as_documented)
{
    return cr_make_param_array(struct append_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct append_case *c, append, leaves_every_byte_as_documented)
{
    append_run t;
    append_run_open(&t, case_spec(c), 5, false);
    append_run_all(&t, APPEND_MAX_CALLS);
    append_run_close(&t);
}

/* ---------------------------------------------------------------- dense projections */

/* Largest distance of a cached latent from the product: half a step, the error of the rounded scale over
 * all codes, and the rounding of the latent itself. */
static double tolerance(double value, double scale, int bits)
{
    return scale * (0.5 + ldexp(1, bits - 11)) + fabs(value) * 0x1p-10 + 1e-4;
}

/* Compares every latent of a sequence in one stream, also in the tail. Returns how many were compared. */
static size_t compare_latents(const append_run *t, const uint8_t *tails, int s, int b)
{
    const page_stream *stream = &t->cache.codec->stream[s];
    size_t compared = 0;
    int quantized =
        stream->by_channel ? t->lengths[b] / t->cache.codec->group * t->cache.codec->group : t->lengths[b];
    for (int token = 0; token < t->lengths[b]; token++)
        for (int c = 0; c < stream->width; c++) {
            if (expected_is_padding(stream, c))
                continue;
            double value = append_run_value(t, s, b, token, c), scale = 0, got;
            if (token < quantized) {
                got = expected_value(&t->cache, s, t->pages[b], token, c, &scale);
            } else {
                uint16_t half;
                memcpy(&half,
                       tails + t->slots[b] * (int)t->cache.codec->tail_bytes + stream->tail_offset +
                           2 * (token % t->cache.codec->group * stream->tail_width + c),
                       2);
                got = half_to_float(half);
            }
            cr_assert(fabs(got - value) <= tolerance(value, scale, stream->format.bits),
                      "stream %s, token %d, channel %d: %g, not %g (scale %g)", stream->name, token, c, got,
                      value, scale);
            compared++;
        }
    return compared;
}

// clang-format off
static struct append_case dense_cases[] = {
    {640, 10, "", TEXT("method": "x", "rotation": true, "bits": 2, "group": 128, "clip": 1, "page": 32)},
    {192, 3, BF16,
     TEXT("method": "x", "rotation": true, "bits": 4, "group": 64, "clip": 1, "page": 16,
         "axis_k": "channel")},
    {640, 4, "",
     TEXT("method": "latent", "bits": 4, "group": 64, "clip": 1, "page": 32, "axis_k": "channel",
         "groups": 2, "rank_k": 100)},
    {192, 4, BF16 BF16_WEIGHTS,
     TEXT("method": "latent", "bits": 8, "group": 32, "clip": 1, "page": 64, "axis_v": "channel",
         "zero_point": "integer")},
    {256, 2, "",
     TEXT("method": "latent-cl", "bits": 8, "group": 64, "clip": 1, "page": 16, "accumulator_bits": 16,
         "rank_k": 128)},
};
// clang-format on

ParameterizedTestParameters(append, leaves_latents_within_half_a_step)
{
    return cr_make_param_array(struct append_case, dense_cases, sizeof dense_cases / sizeof *dense_cases);
}

ParameterizedTest(struct append_case *c, append, leaves_latents_within_half_a_step)
{
    append_run t;
    append_run_open(&t, case_spec(c), 6, true);
    append_run_tokens(&t, (const int[APPEND_BATCH]){70, 0, 33});
    uint8_t *pages = fixture_download(&t.f, t.device_pages, t.cache.bytes);
    uint8_t *tails = fixture_download(&t.f, t.device_tails, t.tails_bytes);
    memcpy(t.cache.pages, pages, t.cache.bytes);
    size_t compared = 0, real = 0;
    for (int s = 0; s < t.cache.codec->streams; s++) {
        const page_stream *stream = &t.cache.codec->stream[s];
        for (int b = 0; b < APPEND_BATCH; b++)
            compared += compare_latents(&t, tails, s, b);
        real += 103 * (size_t)(stream->width / stream->latent_width * stream->rank);
    }
    cr_expect_eq(compared, real);
    free(pages);
    free(tails);
    append_run_close(&t);
}

/* A token with a NaN gets parameters that are NaN; other tokens keep theirs, unless they share a group with
 * it. */
Test(append, nan_shows_in_every_latent_of_its_token)
{
    append_run t;
    // clang-format off
    const struct append_case c = {
        192, 4, "", TEXT("method": "latent", "bits": 4, "group": 32, "page": 16, "axis_v": "channel")};
    // clang-format on
    append_run_open(&t, case_spec(&c), 7, false);
    for (int i = 0; i < t.hidden; i++) /* 0 * NaN is NaN, so one NaN reaches every latent */
        t.x[0][5 * t.hidden + i] = i == 77 ? 0x7fff : 0;
    append_run_tokens(&t, (const int[APPEND_BATCH]){32, 0, 0});
    uint8_t *pages = fixture_download(&t.f, t.device_pages, t.cache.bytes);
    memcpy(t.cache.pages, pages, t.cache.bytes);
    for (int token = 0; token < 32; token++)
        for (int channel = 0; channel < t.cache.codec->stream[0].width; channel++)
            cr_assert_eq(isnan(expected_value(&t.cache, 0, t.pages[0], token, channel, NULL)), token == 5,
                         "token %d", token);
    for (int channel = 0; channel < t.cache.codec->stream[1].width; channel++)
        cr_assert(isnan(expected_value(&t.cache, 1, t.pages[0], 0, channel, NULL)),
                  "groups of tokens have it too");
    free(pages);
    append_run_close(&t);
}

/* A sequence without new tokens does not change, and a call without tokens changes nothing. */
Test(append, nothing_is_appended_to_sequences_without_new_tokens)
{
    append_run t;
    // clang-format off
    const struct append_case c = {192, 3, "", TEXT("method": "x", "rotation": false, "bits": 4, "group": 32,
                                                   "page": 16, "axis_k": "channel")};
    // clang-format on
    append_run_open(&t, case_spec(&c), 8, false);
    append_run_tokens(&t, (const int[APPEND_BATCH]){0, 0, 0});
    append_run_check(&t);
    append_run_tokens(&t, (const int[APPEND_BATCH]){0, 45, 0});
    append_run_expect(&t, 0, 1, 0, 45);
    append_run_tokens(&t, (const int[APPEND_BATCH]){0, 0, 0});
    append_run_check(&t);
    append_run_close(&t);
}
