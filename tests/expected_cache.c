#include "expected_cache.h"

#include "../runtime/base/half.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HALF_NAN 0x7fff

static int number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return item ? item->valueint : 0;
}

static bool text_is(const cJSON *object, const char *name, const char *text)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return value && !strcmp(value, text);
}

static void read_stream(gen *g, const cJSON *json, expected_stream *s)
{
    error err = ERROR_INIT;
    *s = (expected_stream){
        .width = number(json, "width"),
        .rank = number(json, "rank"),
        .latent_width = number(json, "latent_width"),
        .bits = number(json, "bits"),
        .by_channel = text_is(json, "axis", "channel"),
        .codes_offset = number(json, "codes_offset"),
        .params_offset = number(json, "params_offset"),
        .zeros_offset = number(json, "zeros_offset"),
        .slots_offset = number(json, "slots_offset"),
        .slot_bytes = number(json, "slot_bytes"),
        .chunk_pages = number(json, "chunk_pages"),
        .page_groups = number(json, "page_groups"),
        .page_chunks = number(json, "page_chunks"),
        .tail_offset = number(json, "tail_offset"),
        .tail_width = number(json, "tail_width"),
    };
    strcpy(s->name, cJSON_GetStringValue(cJSON_GetObjectItem(json, "name")));
    xq_status status = gen_unit_map(g, text_is(json, "order", "v") ? "v" : "k", s->bits, &s->map, &err);
    cr_assert_eq(status, XQ_OK, "%s", err.message);
}

void expected_open(expected_cache *c, gen *g, const char *completed, const char *which, int pool)
{
    memset(c, 0, sizeof *c);
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *cache = cJSON_GetObjectItem(spec, "cache"), *layout = cJSON_GetObjectItem(spec, which);
    const cJSON *streams = cJSON_GetObjectItem(layout, "streams");
    c->group = number(cache, "group");
    c->page = number(cache, "page");
    c->integer_zero = text_is(cache, "zero_point", "integer");
    c->clip = 1;
    if (strcmp(which, "layout") == 0)
        c->clip = (float)cJSON_GetNumberValue(cJSON_GetObjectItem(cache, "clip"));
    c->tile_bytes = number(layout, "tile_bytes");
    c->page_bytes = number(layout, "page_bytes");
    c->tail_bytes = number(layout, "tail_bytes");
    c->streams = cJSON_GetArraySize(streams);
    for (int i = 0; i < c->streams; i++)
        read_stream(g, cJSON_GetArrayItem(streams, i), &c->stream[i]);
    c->bytes = (size_t)c->page_bytes * (size_t)pool;
    c->pages = malloc(c->bytes + 1);
    cr_assert(c->pages);
    memset(c->pages, 0xff, c->bytes);
    cJSON_Delete(spec);
}

void expected_close(expected_cache *c)
{
    for (int i = 0; i < c->streams; i++)
        free(c->stream[i].map);
    free(c->pages);
}

/* ---------------------------------------------------------------- the quantizer */

/* As PTX orders them: -0 below 0. */
static bool is_less(float a, float b)
{
    return a < b || (a == b && signbit(a) && !signbit(b));
}

static float clamped(float value, int most)
{
    float top = (float)most;
    return isnan(value) || value < 0 ? 0 : value > top ? top : value;
}

/* Scales near f16's limit (runtime/host/quantizer.h): n steps of the scale reach the end of the range,
 * `from`
 * + `length`; the sum must not round to infinity. */
static int find_end(float from, float length, int n, uint16_t *scale)
{
    const uint16_t rounded = *scale;
    for (int steps = n; steps > 0; steps--) {
        if (steps < n)
            *scale = half_from_float(length / (float)steps);
        if (half_to_float(*scale) * (float)steps + from < 65520)
            return steps;
    }
    *scale = (uint16_t)(rounded - 1);
    return n;
}

expected_params expected_find_params(const expected_cache *c, const float *values, int count, int bits)
{
    float low = count ? values[0] : 0, high = low;
    bool nan = false;
    for (int i = 0; i < count; i++) {
        nan |= isnan(values[i]);
        low = is_less(values[i], low) ? values[i] : low;
        high = is_less(high, values[i]) ? values[i] : high;
    }
    if (nan)
        return (expected_params){HALF_NAN, HALF_NAN, 0, 0};
    if (c->integer_zero) {
        low = fminf(low, 0);
        high = fmaxf(high, 0);
    }
    const int top = (1 << bits) - 1;
    const float span = (high - low) * c->clip, cut = ((high - low) - span) / 2;
    expected_params p = {half_from_float(span / (float)top), half_from_float(low + cut), 0, top};
    if (p.scale == 0)
        return p;
    if (!c->integer_zero) {
        p.most = find_end(half_to_float(p.offset), span, top, &p.scale);
        return p;
    }
    const float end = (-low > high ? -low : high) * c->clip;
    int n = find_end(0, end, (int)nearbyintf(end / half_to_float(p.scale)), &p.scale);
    float s = half_to_float(p.scale);
    p.zero = (int)clamped(nearbyintf(-(low * c->clip) / s), top);
    p.most = s * (float)(top - p.zero) < 65520 ? top : p.zero + n;
    return p;
}

int expected_find_code(float value, const expected_params *p, bool integer_zero)
{
    float s = half_to_float(p->scale);
    if (s == 0 || isnan(s))
        return 0;
    if (integer_zero)
        return (int)clamped(nearbyintf(value / s) + (float)p->zero, p->most);
    return (int)clamped(nearbyintf((value - half_to_float(p->offset)) / s), p->most);
}

int expected_feed_back(float value, float moved, const expected_params *p, bool integer_zero, float *e)
{
    const float s = half_to_float(p->scale), offset = integer_zero ? 0 : half_to_float(p->offset);
    int code = 0;
    if (s != 0 && !isnan(s))
        code = (int)clamped(nearbyintf((moved - offset) * (1 / s)) + (float)(integer_zero ? p->zero : 0),
                            p->most);
    *e = half_to_float(
        expected_round_half((float)(s * (float)(code - (integer_zero ? p->zero : 0)) + offset) - value));
    return code;
}

uint16_t expected_round_half(double value)
{
    if (isnan(value))
        return HALF_NAN;
    if (fabs(value) >= 65504)
        return value < 0 ? 0xfbff : 0x7bff;
    uint16_t best = half_from_float((float)value); /* rounded twice: look at the neighbours */
    for (int step = -1; step <= 1; step += 2) {
        uint16_t other = (uint16_t)(best + step);
        if ((other & 0x7fff) > 0x7bff)
            continue;
        double mine = fabs(half_to_float(best) - value), its = fabs(half_to_float(other) - value);
        if (its < mine || (its == mine && !(other & 1)))
            best = other;
    }
    return best;
}

/* ---------------------------------------------------------------- places */

bool expected_is_padding(const expected_stream *s, int channel)
{
    return channel % s->latent_width >= s->rank;
}

static size_t page_at(const expected_cache *c, const int32_t *pages, int t)
{
    return (size_t)pages[t / c->page] * (size_t)c->page_bytes;
}

static size_t record_at(const expected_cache *c, const int32_t *pages, int t)
{
    return page_at(c, pages, t) + (size_t)(t % c->page / 16) * (size_t)c->tile_bytes;
}

static size_t code_bit(const expected_cache *c, const expected_stream *s, const int32_t *pages, int t,
                       int channel, int i)
{
    size_t unit = record_at(c, pages, t) + (size_t)s->codes_offset + (size_t)(channel / 64 * 128 * s->bits);
    return unit * 8 + (size_t)s->map[(t % 16 * 64 + channel % 64) * s->bits + i];
}

static void put_bit(expected_cache *c, size_t at, int value)
{
    cr_assert_lt(at / 8, c->bytes);
    c->pages[at / 8] = (uint8_t)((c->pages[at / 8] & ~(1 << at % 8)) | value << at % 8);
}

static void put_bits(expected_cache *c, size_t at, int count, int value)
{
    for (int i = 0; i < count; i++)
        put_bit(c, at + (size_t)i, value >> i & 1);
}

static int get_bits(const expected_cache *c, size_t at, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++)
        value |= (c->pages[(at + (size_t)i) / 8] >> (at + (size_t)i) % 8 & 1) << i;
    return value;
}

/* First bits of a group's scale and of its second parameter, and how many the latter has. */
static void param_bits(const expected_cache *c, const expected_stream *s, const int32_t *pages, int t,
                       int channel, size_t *scale, size_t *zero, int *zero_bits)
{
    *zero_bits = c->integer_zero ? s->bits : 16;
    if (s->by_channel) {
        int group = t / c->group, chunk = channel / 64, lane = channel % 64;
        int page =
            s->chunk_pages > 1 ? group * s->chunk_pages + chunk % s->chunk_pages : group / s->page_groups;
        int slot = group % s->page_groups * s->page_chunks + chunk / s->chunk_pages;
        size_t at = page_at(c, pages, page * c->page) + (size_t)(s->slots_offset + slot * s->slot_bytes);
        *scale = at * 8 + (size_t)lane * 16;
        *zero = (at + 128) * 8 + (size_t)(lane * *zero_bits);
        return;
    }
    int group = channel / c->group;
    size_t record = record_at(c, pages, t);
    int row = group * 16 + t % 16;
    *scale =
        (record + (size_t)s->params_offset) * 8 + (size_t)(c->integer_zero ? row : row + group * 16) * 16;
    *zero =
        c->integer_zero ? (record + (size_t)s->zeros_offset) * 8 + (size_t)(row * s->bits) : *scale + 256;
}

static void put_params(expected_cache *c, const expected_stream *s, const int32_t *pages, int t,
                       int channel, const expected_params *p)
{
    size_t scale, zero;
    int zero_bits;
    param_bits(c, s, pages, t, channel, &scale, &zero, &zero_bits);
    put_bits(c, scale, 16, p->scale);
    put_bits(c, zero, zero_bits, c->integer_zero ? p->zero : p->offset);
}

static void put_code(expected_cache *c, const expected_stream *s, const int32_t *pages, int t, int channel,
                     int code)
{
    for (int i = 0; i < s->bits; i++)
        put_bit(c, code_bit(c, s, pages, t, channel, i), code >> i & 1);
}

/* ---------------------------------------------------------------- writing */

/* Channels begin .. end of a token, one after the other. */
static void write_fed_group(expected_cache *c, const expected_stream *s, const int32_t *pages, int t,
                            int begin, int end, const uint16_t *row, const expected_params *p)
{
    float moved[256], e;
    for (int i = begin; i < end; i++)
        moved[i - begin] = half_to_float(row[i]);
    for (int j = begin; j < end; j++) {
        int code = expected_feed_back(half_to_float(row[j]), moved[j - begin], p, c->integer_zero, &e);
        bool padding = expected_is_padding(s, j);
        put_code(c, s, pages, t, j, padding ? 0 : code);
        for (int i = j + 1; i < end && !padding; i++)
            moved[i - begin] += s->feedback[j * c->group + i - begin] * e;
    }
}

void expected_write_token(expected_cache *c, int stream, const int32_t *pages, int t, const uint16_t *row)
{
    const expected_stream *s = &c->stream[stream];
    float *values = malloc((size_t)s->width * sizeof *values);
    for (int begin = 0; begin < s->width; begin += s->bits == 16 ? 64 : c->group) {
        int end = begin + (s->bits == 16 ? 64 : c->group), count = 0;
        end = end < s->width ? end : s->width;
        expected_params p = {0};
        for (int i = begin; i < end; i++)
            if (!expected_is_padding(s, i))
                values[count++] = half_to_float(row[i]);
        if (s->bits < 16) {
            p = expected_find_params(c, values, count, s->bits);
            put_params(c, s, pages, t, begin, &p);
        }
        for (int i = begin; i < end && !s->feedback; i++) {
            int code = s->bits == 16 ? row[i]
                       : expected_is_padding(s, i)
                           ? 0
                           : expected_find_code(half_to_float(row[i]), &p, c->integer_zero);
            put_code(c, s, pages, t, i, code);
        }
        if (s->feedback)
            write_fed_group(c, s, pages, t, begin, end, row, &p);
    }
    free(values);
}

void expected_write_group(expected_cache *c, int stream, const int32_t *pages, int group,
                          const uint16_t *values)
{
    const expected_stream *s = &c->stream[stream];
    float *column = malloc((size_t)c->group * sizeof *column);
    for (int i = 0; i < s->width; i++) {
        for (int t = 0; t < c->group; t++)
            column[t] = expected_is_padding(s, i) ? 0 : half_to_float(values[t * s->width + i]);
        expected_params p = expected_find_params(c, column, c->group, s->bits);
        put_params(c, s, pages, group * c->group, i, &p);
        for (int t = 0; t < c->group; t++)
            put_code(c, s, pages, group * c->group + t, i,
                     expected_find_code(column[t], &p, c->integer_zero));
    }
    free(column);
}

/* ---------------------------------------------------------------- reading */

double expected_value(const expected_cache *c, int stream, const int32_t *pages, int t, int channel,
                      double *scale)
{
    const expected_stream *s = &c->stream[stream];
    int code = 0;
    for (int i = 0; i < s->bits; i++)
        code |= get_bits(c, code_bit(c, s, pages, t, channel, i), 1) << i;
    if (s->bits == 16)
        return half_to_float((uint16_t)code);
    size_t scale_at, zero_at;
    int zero_bits;
    param_bits(c, s, pages, t, channel, &scale_at, &zero_at, &zero_bits);
    double factor = half_to_float((uint16_t)get_bits(c, scale_at, 16));
    int zero = get_bits(c, zero_at, zero_bits);
    if (scale)
        *scale = factor;
    return c->integer_zero ? factor * (code - zero) : factor * code + half_to_float((uint16_t)zero);
}

uint16_t expected_half(const expected_cache *c, int stream, const int32_t *pages, int t, int channel)
{
    return expected_round_half(expected_value(c, stream, pages, t, channel, NULL));
}
