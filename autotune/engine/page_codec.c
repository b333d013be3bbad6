#include "page_codec.h"

#include "../../runtime/base/half.h"

#include <string.h>

/* ---------------------------------------------------------------- codes */

/* The offset in the page of the tile record that holds a token. */
static size_t record(const page_codec *codec, int token)
{
    return (size_t)(token / codec->tile_tokens) * codec->tile_bytes;
}

/* Finds a code: *unit is the offset of its unit in the page; the result lists the offset of each of its
 * bits within the unit. */
static const int32_t *find_code(const page_codec *codec, const page_stream *s, int token, int channel,
                                size_t *unit)
{
    size_t unit_bytes =
        (size_t)codec->tile_tokens * (size_t)codec->unit_channels * (size_t)s->format.bits / 8;
    int in_unit = token % codec->tile_tokens * codec->unit_channels + channel % codec->unit_channels;
    *unit = record(codec, token) + s->codes_offset + (size_t)(channel / codec->unit_channels) * unit_bytes;
    return s->bit_offset + (size_t)in_unit * (size_t)s->format.bits;
}

static unsigned get_code(const page_codec *codec, const page_stream *s, const uint8_t *page, int token,
                         int channel)
{
    size_t unit;
    const int32_t *place = find_code(codec, s, token, channel, &unit);
    unsigned code = 0;
    if (s->in_one_piece) { /* true of most layouts, and faster */
        const uint8_t *at = page + unit + (size_t)place[0] / 8;
        return s->format.bits == 16 ? (unsigned)(at[0] | at[1] << 8)
                                    : at[0] >> place[0] % 8 & ((1u << s->format.bits) - 1);
    }
    for (int i = 0; i < s->format.bits; i++)
        code |= (unsigned)(page[unit + (size_t)place[i] / 8] >> place[i] % 8 & 1) << i;
    return code;
}

static void put_bit(uint8_t *bytes, size_t place, unsigned bit)
{
    uint8_t mask = (uint8_t)(1u << place % 8);
    bytes[place / 8] = (uint8_t)(bit ? bytes[place / 8] | mask : bytes[place / 8] & ~mask);
}

static void put_code(const page_codec *codec, const page_stream *s, uint8_t *page, int token, int channel,
                     unsigned code)
{
    size_t unit;
    const int32_t *place = find_code(codec, s, token, channel, &unit);
    for (int i = 0; i < s->format.bits; i++)
        put_bit(page + unit, (size_t)place[i], code >> i & 1);
}

/* ---------------------------------------------------------------- parameters
 * Parameters are scales (f16) and zeros, which are f16, or codes packed without gaps. A param_place names
 * one scale and its zero. */
typedef struct param_place {
    size_t scale, zero;       /* offsets in the page of the first scale, and of the first zero */
    size_t scale_at, zero_at; /* index of this scale, and of this zero */
} param_place;

/* The place of the parameters of a token's group of channels. */
static param_place param_of_token(const page_codec *codec, const page_stream *s, int token, int group)
{
    size_t tile = (size_t)codec->tile_tokens, g = (size_t)group, t = (size_t)token % tile;
    size_t params = record(codec, token) + s->params_offset;
    if (s->format.integer_zero)
        return (param_place){params, record(codec, token) + s->zeros_offset, g * tile + t, g * tile + t};
    return (param_place){params, params, 2 * g * tile + t, (2 * g + 1) * tile + t};
}

/* The place of the parameters of a channel's group of tokens; *page is the index of the page that holds
 * them, among the sequence's pages. */
static param_place param_of_channel(const page_codec *codec, const page_stream *s, int channel, int group,
                                    int *page)
{
    int chunk = channel / codec->unit_channels;
    *page = s->chunk_pages > 1 ? group * s->chunk_pages + chunk % s->chunk_pages : group / s->page_groups;
    int slot = group % s->page_groups * s->page_chunks + chunk / s->chunk_pages;
    size_t scales = s->slots_offset + (size_t)slot * s->slot_bytes,
           c = (size_t)(channel % codec->unit_channels);
    return (param_place){scales, scales + 2 * (size_t)codec->unit_channels, c, c};
}

static void get_params(const page_stream *s, const uint8_t *page, param_place at, uint16_t *scale,
                       uint16_t *zero)
{
    memcpy(scale, page + at.scale + 2 * at.scale_at, sizeof *scale);
    if (!s->format.integer_zero) {
        memcpy(zero, page + at.zero + 2 * at.zero_at, sizeof *zero);
        return;
    }
    *zero = 0;
    for (int i = 0; i < s->format.bits; i++) {
        size_t bit = at.zero_at * (size_t)s->format.bits + (size_t)i;
        *zero = (uint16_t)(*zero | (page[at.zero + bit / 8] >> bit % 8 & 1) << i);
    }
}

static void put_params(const page_stream *s, uint8_t *page, param_place at, uint16_t scale, uint16_t zero)
{
    memcpy(page + at.scale + 2 * at.scale_at, &scale, sizeof scale);
    if (!s->format.integer_zero) {
        memcpy(page + at.zero + 2 * at.zero_at, &zero, sizeof zero);
        return;
    }
    for (int i = 0; i < s->format.bits; i++)
        put_bit(page + at.zero, at.zero_at * (size_t)s->format.bits + (size_t)i, zero >> i & 1u);
}

/* ---------------------------------------------------------------- one page */

void page_codec_read(const page_codec *codec, int stream, const uint8_t *page, int token, uint8_t *codes,
                     uint16_t *scale, uint16_t *zero)
{
    const page_stream *s = &codec->stream[stream];
    for (int c = 0; c < s->width; c++)
        codes[c] = (uint8_t)get_code(codec, s, page, token, c);
    for (int g = 0; g < s->groups; g++)
        get_params(s, page, param_of_token(codec, s, token, g), scale + g, zero + g);
}

void page_codec_read_halves(const page_codec *codec, int stream, const uint8_t *page, int token,
                            uint16_t *values)
{
    for (int c = 0; c < codec->stream[stream].width; c++)
        values[c] = (uint16_t)get_code(codec, &codec->stream[stream], page, token, c);
}

/* ---------------------------------------------------------------- one sequence */

static uint8_t *page_at(const page_codec *codec, const page_sequence *sequence, int page)
{
    return sequence->pool + (size_t)sequence->pages[page] * codec->page_bytes;
}

/* The place of the parameters of one value; *page is the page that holds them. */
static param_place param_of(const page_codec *codec, const page_stream *s, const page_sequence *sequence,
                            int token, int channel, uint8_t **page)
{
    int number = token / codec->page_tokens;
    param_place at = s->by_channel ? param_of_channel(codec, s, channel, token / codec->group, &number)
                                   : param_of_token(codec, s, token % codec->page_tokens,
                                                    (int)quantizer_group_of(&s->format, (size_t)channel));
    *page = page_at(codec, sequence, number);
    return at;
}

unsigned page_codec_code(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                         int channel)
{
    return get_code(codec, &codec->stream[stream], page_at(codec, sequence, token / codec->page_tokens),
                    token % codec->page_tokens, channel);
}

void page_codec_set_code(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                         int channel, unsigned code)
{
    put_code(codec, &codec->stream[stream], page_at(codec, sequence, token / codec->page_tokens),
             token % codec->page_tokens, channel, code);
}

void page_codec_params(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                       int channel, uint16_t *scale, uint16_t *zero)
{
    uint8_t *page;
    param_place at = param_of(codec, &codec->stream[stream], sequence, token, channel, &page);
    get_params(&codec->stream[stream], page, at, scale, zero);
}

void page_codec_set_params(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                           int channel, uint16_t scale, uint16_t zero)
{
    uint8_t *page;
    param_place at = param_of(codec, &codec->stream[stream], sequence, token, channel, &page);
    put_params(&codec->stream[stream], page, at, scale, zero);
}

int page_codec_tail_begin(const page_codec *codec, int stream, const page_sequence *sequence)
{
    return codec->stream[stream].by_channel ? sequence->length / codec->group * codec->group
                                            : sequence->length;
}

void page_codec_read_group(const page_codec *codec, int stream, const page_sequence *sequence, int group,
                           uint8_t *codes, uint16_t *scale, uint16_t *zero)
{
    const page_stream *s = &codec->stream[stream];
    for (int i = 0; i < codec->group; i++) {
        int t = group * codec->group + i;
        const uint8_t *page = page_at(codec, sequence, t / codec->page_tokens);
        for (int c = 0; c < s->width; c++)
            codes[(size_t)i * (size_t)s->width + (size_t)c] =
                (uint8_t)get_code(codec, s, page, t % codec->page_tokens, c);
    }
    for (int c = 0; c < s->width; c++)
        page_codec_params(codec, stream, sequence, group * codec->group, c, scale + c, zero + c);
}

uint16_t *page_codec_tail_row(const page_codec *codec, int stream, const page_sequence *sequence, int token)
{
    const page_stream *s = &codec->stream[stream];
    return (uint16_t *)(void *)(sequence->tail + s->tail_offset) +
           (size_t)(token % codec->group) * (size_t)s->tail_width;
}

void page_codec_dequantize_token(const page_codec *codec, int stream, const page_sequence *sequence,
                                 int token, double *x_hat)
{
    const page_stream *s = &codec->stream[stream];
    const bool in_tail = token >= page_codec_tail_begin(codec, stream, sequence);
    const uint16_t *row = in_tail ? page_codec_tail_row(codec, stream, sequence, token) : NULL;
    const uint8_t *page = in_tail ? NULL : page_at(codec, sequence, token / codec->page_tokens);
    uint16_t scale = 0, zero = 0;
    size_t group_end = 0; /* groups of channels: the first channel after the current group */
    for (int c = 0; c < s->width; c++) {
        const unsigned code = in_tail ? row[c] : get_code(codec, s, page, token % codec->page_tokens, c);
        const bool is_half = in_tail || s->format.bits == 16;
        if (!is_half && (s->by_channel || (size_t)c == group_end)) {
            page_codec_params(codec, stream, sequence, token, c, &scale, &zero);
            group_end = quantizer_group_end(&s->format, (size_t)c, (size_t)s->width);
        }
        x_hat[c] = !quantizer_is_data(&s->format, (size_t)c) ? 0
                   : is_half                                 ? (double)half_to_float((uint16_t)code)
                             : quantizer_value(&s->format, (int)code, scale, zero);
    }
}
