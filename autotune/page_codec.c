#include "page_codec.h"

#include "../runtime/half.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* A positive integer member; 0 when missing. */
static size_t integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (size_t)item->valuedouble : 0;
}

static xq_status read_stream(gen *g, const cJSON *json, int bits, page_stream *out, error *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "name"));
    const char *order = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "order"));
    out->width = (int)integer(json, "width");
    out->groups = (int)integer(json, "groups");
    out->codes_offset = integer(json, "codes_offset");
    out->params_offset = integer(json, "params_offset");
    if (!name || !order || strlen(name) >= sizeof out->name || !out->width || !out->groups)
        return error_set(err, XQ_ERROR_SPEC, "spec", "layout.streams: not that of a completed spec");
    strcpy(out->name, name);
    return gen_unit_map(g, order, bits, &out->bit_offset, err);
}

static xq_status read_layout(gen *g, const cJSON *spec, page_codec *codec, error *err)
{
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const cJSON *layout = cJSON_GetObjectItemCaseSensitive(spec, "layout");
    const cJSON *streams = cJSON_GetObjectItemCaseSensitive(layout, "streams");
    codec->bits = (int)integer(cache, "bits");
    codec->group = (int)integer(cache, "group");
    codec->page_tokens = (int)integer(cache, "page");
    codec->tile_tokens = (int)integer(layout, "tile_tokens");
    codec->unit_channels = (int)integer(layout, "unit_channels");
    codec->tile_bytes = integer(layout, "tile_bytes");
    codec->page_bytes = integer(layout, "page_bytes");
    int count = cJSON_GetArraySize(streams);
    if (!codec->bits || !codec->group || !codec->page_tokens || !codec->tile_tokens ||
        !codec->unit_channels || !codec->tile_bytes || !codec->page_bytes || count < 1 ||
        count > PAGE_MAX_STREAMS)
        return error_set(err, XQ_ERROR_SPEC, "spec", "layout: not that of a completed spec");
    for (codec->streams = 0; codec->streams < count; codec->streams++) {
        xq_status status = read_stream(g, cJSON_GetArrayItem(streams, codec->streams), codec->bits,
                                       &codec->stream[codec->streams], err);
        if (status != XQ_OK)
            return status;
    }
    return XQ_OK;
}

xq_status page_codec_create(gen *g, const char *completed_json, page_codec **out, error *err)
{
    page_codec *codec = calloc(1, sizeof *codec);
    cJSON *spec = cJSON_Parse(completed_json);
    xq_status status = !codec  ? error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory")
                       : !spec ? error_set(err, XQ_ERROR_SPEC, "spec", "not a completed spec: not JSON")
                               : read_layout(g, spec, codec, err);
    cJSON_Delete(spec);
    if (status == XQ_OK)
        *out = codec;
    else
        page_codec_destroy(codec);
    return status;
}

void page_codec_destroy(page_codec *codec)
{
    for (int s = 0; codec && s < PAGE_MAX_STREAMS; s++)
        free(codec->stream[s].bit_offset);
    free(codec);
}

/* Where things of a token are in its page. */
static size_t record(const page_codec *codec, int token)
{
    return (size_t)(token / codec->tile_tokens) * codec->tile_bytes;
}

static size_t code_bit(const page_codec *codec, const page_stream *stream, int token, int channel)
{
    size_t unit_bits = (size_t)codec->tile_tokens * (size_t)codec->unit_channels * (size_t)codec->bits;
    int in_unit = token % codec->tile_tokens * codec->unit_channels + channel % codec->unit_channels;
    return 8 * (record(codec, token) + stream->codes_offset) +
           (size_t)(channel / codec->unit_channels) * unit_bits +
           (size_t)stream->bit_offset[in_unit * codec->bits];
}

/* which: 0 the scale, 1 the offset. Each group holds tile_tokens scales, then as many offsets. */
static size_t param_byte(const page_codec *codec, const page_stream *stream, int token, int group,
                         int which)
{
    size_t vector = 2 * (size_t)codec->tile_tokens;
    return record(codec, token) + stream->params_offset + (size_t)(2 * group + which) * vector +
           2 * (size_t)(token % codec->tile_tokens);
}

void page_codec_read(const page_codec *codec, int stream, const uint8_t *page, int token, uint8_t *codes,
                     uint16_t *scale, uint16_t *offset)
{
    const page_stream *s = &codec->stream[stream];
    for (int c = 0; c < s->width; c++) {
        size_t bit = code_bit(codec, s, token, c);
        codes[c] = (uint8_t)(page[bit / 8] >> bit % 8 & ((1 << codec->bits) - 1));
    }
    for (int g = 0; g < s->groups; g++) {
        memcpy(scale + g, page + param_byte(codec, s, token, g, 0), sizeof *scale);
        memcpy(offset + g, page + param_byte(codec, s, token, g, 1), sizeof *offset);
    }
}

void page_codec_write(const page_codec *codec, int stream, uint8_t *page, int token, const uint8_t *codes,
                      const uint16_t *scale, const uint16_t *offset)
{
    const page_stream *s = &codec->stream[stream];
    for (int c = 0; c < s->width; c++) {
        size_t bit = code_bit(codec, s, token, c);
        int mask = (1 << codec->bits) - 1;
        page[bit / 8] = (uint8_t)((page[bit / 8] & ~(mask << bit % 8)) | (codes[c] & mask) << bit % 8);
    }
    for (int g = 0; g < s->groups; g++) {
        memcpy(page + param_byte(codec, s, token, g, 0), scale + g, sizeof *scale);
        memcpy(page + param_byte(codec, s, token, g, 1), offset + g, sizeof *offset);
    }
}

void page_codec_dequantize(const page_codec *codec, int stream, const uint8_t *page, int token,
                           double *x_hat)
{
    const page_stream *s = &codec->stream[stream];
    for (int c = 0; c < s->width; c++) {
        size_t bit = code_bit(codec, s, token, c);
        int code = page[bit / 8] >> bit % 8 & ((1 << codec->bits) - 1);
        uint16_t scale, offset;
        memcpy(&scale, page + param_byte(codec, s, token, c / codec->group, 0), sizeof scale);
        memcpy(&offset, page + param_byte(codec, s, token, c / codec->group, 1), sizeof offset);
        x_hat[c] = (double)half_to_float(scale) * code + half_to_float(offset);
    }
}
