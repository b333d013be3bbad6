#include "cache_image.h"

#include "../runtime/base/half.h"
#include "generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 16, UNIT = 64 };

/* ---------------------------------------------------------------- reading the layout */

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return item ? item->valueint : 0;
}

static void read_stream(image_stream *s, const cJSON *json)
{
    error err = ERROR_INIT;
    strcpy(s->name, generator_string(json, "name"));
    s->width = integer(json, "width");
    s->latent_width = integer(json, "latent_width");
    s->rank = integer(json, "rank");
    s->bits = integer(json, "bits");
    s->groups = integer(json, "groups");
    s->by_channel = s->bits < 16 && !strcmp(generator_string(json, "axis"), "channel");
    s->codes_offset = (size_t)integer(json, "codes_offset");
    s->params_offset = (size_t)integer(json, "params_offset");
    s->zeros_offset = (size_t)integer(json, "zeros_offset");
    s->slots_offset = (size_t)integer(json, "slots_offset");
    s->slot_bytes = (size_t)integer(json, "slot_bytes");
    s->chunk_pages = integer(json, "chunk_pages");
    s->page_groups = integer(json, "page_groups");
    s->page_chunks = integer(json, "page_chunks");
    s->tail_offset = (size_t)integer(json, "tail_offset");
    s->tail_width = integer(json, "tail_width");
    cr_assert_eq(gen_unit_map(generator(), generator_string(json, "order"), s->bits, &s->map, &err), XQ_OK,
                 "%s", err.message);
}

void cache_image_open(cache_image *image, const fixture *f, const char *which, const paged *p)
{
    memset(image, 0, sizeof *image);
    image->paged = p;
    cJSON *spec = cJSON_Parse(f->completed);
    const cJSON *layout = cJSON_GetObjectItem(spec, which),
                *streams = cJSON_GetObjectItem(layout, "streams");
    image->group = (int)generator_number(spec, "cache.group");
    image->integer_zero = !strcmp(generator_string(spec, "cache.zero_point"), "integer");
    image->tile_bytes = (size_t)integer(layout, "tile_bytes");
    image->page_bytes = (size_t)integer(layout, "page_bytes");
    image->tail_bytes = (size_t)integer(layout, "tail_bytes");
    image->streams = cJSON_GetArraySize(streams);
    for (int s = 0; s < image->streams; s++)
        read_stream(&image->stream[s], cJSON_GetArrayItem(streams, s));
    cJSON_Delete(spec);

    image->pages_size = image->page_bytes * (size_t)p->pool;
    image->tails_size = image->tail_bytes * (size_t)(p->batch + 1);
    image->pages = malloc(image->pages_size + 1);
    image->tails = malloc(image->tails_size + 1);
    cr_assert(image->pages && image->tails);
    memset(image->pages, 0xff, image->pages_size);
    memset(image->tails, 0xff, image->tails_size);
    for (int i = 0; i < p->batch; i++)
        image->slots[i] = p->batch - i; /* none has slot 0 */
}

void cache_image_close(cache_image *image)
{
    for (int s = 0; s < image->streams; s++)
        free(image->stream[s].map);
    free(image->pages);
    free(image->tails);
}

/* ---------------------------------------------------------------- places */

static uint8_t *page_at(const cache_image *image, int sequence, int page)
{
    return image->pages +
           image->page_bytes * (size_t)image->paged->indices[image->paged->indptr[sequence] + page];
}

static uint8_t *record_at(const cache_image *image, int sequence, int token)
{
    int size = image->paged->page;
    return page_at(image, sequence, token / size) + (size_t)(token % size / TILE) * image->tile_bytes;
}

/* Bits, little endian. */
static unsigned get_bits(const uint8_t *bytes, size_t first, int count)
{
    unsigned value = 0;
    for (int i = 0; i < count; i++)
        value |= (bytes[(first + (size_t)i) / 8] >> (first + (size_t)i) % 8 & 1u) << i;
    return value;
}

static void put_bits(uint8_t *bytes, size_t first, int count, unsigned value)
{
    for (int i = 0; i < count; i++) {
        uint8_t *byte = &bytes[(first + (size_t)i) / 8];
        int at = (int)((first + (size_t)i) % 8);
        *byte = (uint8_t)((*byte & ~(1 << at)) | (value >> i & 1) << at);
    }
}

static const int32_t *code_map(const image_stream *s, int token, int channel)
{
    return s->map + (token % TILE * UNIT + channel % UNIT) * s->bits;
}

static uint8_t *unit_at(const cache_image *image, const image_stream *s, int sequence, int token,
                        int channel)
{
    return record_at(image, sequence, token) + s->codes_offset +
           (size_t)(channel / UNIT) * (size_t)(TILE * UNIT * s->bits / 8);
}

/* Where a value's scale is, its offset, and, as a bit from `zeros` on, its zero point. */
struct place {
    uint8_t *scale, *offset, *zeros;
    size_t zero_bit;
};

static struct place params_at(const cache_image *image, const image_stream *s, int sequence, int token,
                              int channel)
{
    struct place at;
    if (!s->by_channel) {
        int group = channel / image->group;
        uint8_t *record = record_at(image, sequence, token), *params = record + s->params_offset;
        at.scale = params + (image->integer_zero ? 32 : 64) * group + token % TILE * 2;
        at.offset = at.scale + 32;
        at.zeros = record + s->zeros_offset;
        at.zero_bit = (size_t)((group * TILE + token % TILE) * s->bits);
        return at;
    }
    int group = token / image->group, chunk = channel / UNIT;
    int page =
        s->chunk_pages > 1 ? group * s->chunk_pages + chunk % s->chunk_pages : group / s->page_groups;
    int slot = group % s->page_groups * s->page_chunks + chunk / s->chunk_pages;
    at.scale = page_at(image, sequence, page) + s->slots_offset + (size_t)slot * s->slot_bytes +
               channel % UNIT * 2;
    at.offset = at.scale + UNIT * 2;
    at.zeros = at.scale - channel % UNIT * 2 + UNIT * 2;
    at.zero_bit = (size_t)(channel % UNIT * s->bits);
    return at;
}

static uint8_t *tail_at(const cache_image *image, const image_stream *s, int sequence, int token,
                        int channel)
{
    return image->tails + image->tail_bytes * (size_t)image->slots[sequence] + s->tail_offset +
           ((size_t)(token % image->group) * (size_t)s->tail_width + (size_t)channel) * 2;
}

static bool is_padding(const image_stream *s, int channel)
{
    return channel % s->latent_width >= s->rank;
}

bool cache_image_in_tail(const cache_image *image, int stream, int sequence, int token)
{
    return image->stream[stream].by_channel &&
           token >= image->paged->lengths[sequence] / image->group * image->group;
}

/* ---------------------------------------------------------------- drawing */

static void put_half(uint8_t *at, float value)
{
    uint16_t bits = half_from_float(value);
    memcpy(at, &bits, sizeof bits);
}

static void draw_params(const cache_image *image, const image_stream *s, random_stream *r, int sequence,
                        int token, int channel)
{
    struct place at = params_at(image, s, sequence, token, channel);
    int top = (1 << s->bits) - 1;
    put_half(at.scale, (0.5f + (float)random_between(r, 0, 1000) / 500) * 4 / (float)top);
    if (image->integer_zero)
        put_bits(at.zeros, at.zero_bit, s->bits, (unsigned)random_between(r, 0, top));
    else
        put_half(at.offset, random_normal(r) - 3);
}

static void put_code(const cache_image *image, const image_stream *s, int sequence, int token, int channel,
                     unsigned code)
{
    uint8_t *unit = unit_at(image, s, sequence, token, channel);
    const int32_t *map = code_map(s, token, channel);
    for (int i = 0; i < s->bits; i++)
        put_bits(unit, (size_t)map[i], 1, code >> i & 1);
}

static void draw_token(const cache_image *image, const image_stream *s, random_stream *r, int sequence,
                       int token)
{
    for (int c = 0; c < s->width; c++) {
        unsigned value = s->bits == 16 ? half_from_float(random_normal(r) * 3)
                                       : (unsigned)random_between(r, 0, (1 << s->bits) - 1);
        put_code(image, s, sequence, token, c, is_padding(s, c) ? 0 : value);
        if (s->bits < 16 && (s->by_channel ? token % image->group == 0 : c % image->group == 0))
            draw_params(image, s, r, sequence, token, c);
    }
}

static void draw_tail(const cache_image *image, const image_stream *s, random_stream *r, int sequence,
                      int token)
{
    for (int c = 0; c < s->tail_width; c++)
        put_half(tail_at(image, s, sequence, token, c),
                 s->tail_width == s->width && is_padding(s, c) ? 0 : random_normal(r) * 3);
}

void cache_image_draw(cache_image *image, random_stream *r)
{
    for (int s = 0; s < image->streams; s++)
        for (int i = 0; i < image->paged->batch; i++)
            for (int t = 0; t < image->paged->lengths[i]; t++) {
                if (cache_image_in_tail(image, s, i, t))
                    draw_tail(image, &image->stream[s], r, i, t);
                else
                    draw_token(image, &image->stream[s], r, i, t);
            }
}

void cache_image_set_code(cache_image *image, int stream, int sequence, int token, int channel, int code)
{
    put_code(image, &image->stream[stream], sequence, token, channel, (unsigned)code);
}

void cache_image_set_params(cache_image *image, int stream, int sequence, int token, int channel,
                            uint16_t scale, uint16_t offset)
{
    struct place at = params_at(image, &image->stream[stream], sequence, token, channel);
    memcpy(at.scale, &scale, sizeof scale);
    memcpy(at.offset, &offset, sizeof offset);
}

/* ---------------------------------------------------------------- decoding */

static double get_half(const uint8_t *at)
{
    uint16_t bits;
    memcpy(&bits, at, sizeof bits);
    return half_to_float(bits);
}

int cache_image_code(const cache_image *image, int stream, int sequence, int token, int channel)
{
    const image_stream *s = &image->stream[stream];
    const uint8_t *unit = unit_at(image, s, sequence, token, channel);
    const int32_t *map = code_map(s, token, channel);
    unsigned code = 0;
    for (int i = 0; i < s->bits; i++)
        code |= get_bits(unit, (size_t)map[i], 1) << i;
    return (int)code;
}

void cache_image_params(const cache_image *image, int stream, int sequence, int token, int channel,
                        double *scale, double *offset)
{
    const image_stream *s = &image->stream[stream];
    struct place at = params_at(image, s, sequence, token, channel);
    *scale = get_half(at.scale);
    *offset = image->integer_zero ? get_bits(at.zeros, at.zero_bit, s->bits) : get_half(at.offset);
}

double cache_image_value(const cache_image *image, int stream, int sequence, int token, int channel)
{
    double scale, offset;
    if (cache_image_in_tail(image, stream, sequence, token))
        return get_half(tail_at(image, &image->stream[stream], sequence, token, channel));
    int code = cache_image_code(image, stream, sequence, token, channel);
    if (image->stream[stream].bits == 16)
        return half_to_float((uint16_t)code);
    cache_image_params(image, stream, sequence, token, channel, &scale, &offset);
    return image->integer_zero ? scale * (code - offset) : scale * code + offset;
}

struct xq_tails cache_image_upload_tails(fixture *f, const cache_image *image)
{
    struct xq_tails tails = {0};
    if (image->tail_bytes) {
        tails.pool = fixture_upload(f, image->tails, image->tails_size);
        tails.slots = fixture_upload(f, image->slots, sizeof image->slots);
    }
    return tails;
}
