/* Reading a page_codec from a completed spec. */
#include "page_codec.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* An integer member; 0 when missing. */
static size_t integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (size_t)item->valuedouble : 0;
}

static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return value ? value : "";
}

static xq_status refuse(error *err)
{
    return error_set(err, XQ_ERROR_SPEC, "spec", "layout.streams: not that of a completed spec");
}

/* Where parameters are; false if the spec does not say. */
static bool read_places(const cJSON *json, page_stream *s)
{
    s->codes_offset = integer(json, "codes_offset");
    s->params_offset = integer(json, "params_offset");
    s->zeros_offset = integer(json, "zeros_offset");
    s->slots_offset = integer(json, "slots_offset");
    s->slot_bytes = integer(json, "slot_bytes");
    s->chunk_pages = (int)integer(json, "chunk_pages");
    s->page_groups = (int)integer(json, "page_groups");
    s->page_chunks = (int)integer(json, "page_chunks");
    s->tail_offset = integer(json, "tail_offset");
    s->tail_width = (int)integer(json, "tail_width");
    s->groups = (int)integer(json, "groups");
    if (s->by_channel)
        return s->slot_bytes && s->chunk_pages && s->page_groups && s->page_chunks && s->tail_width;
    return s->format.bits == 16 || s->groups;
}

static bool in_one_piece(const page_codec *codec, const page_stream *s)
{
    int bits = s->format.bits, codes = codec->tile_tokens * codec->unit_channels;
    for (int i = 0; i < codes; i++) {
        const int32_t *place = s->bit_offset + (size_t)i * (size_t)bits;
        for (int bit = 1; bit < bits; bit++)
            if (place[bit] != place[0] + bit)
                return false;
        if (bits == 16 ? place[0] % 8 != 0 : place[0] / 8 != place[bits - 1] / 8)
            return false;
    }
    return true;
}

static xq_status read_stream(gen *g, const cJSON *json, const cJSON *cache, page_stream *s, error *err)
{
    const char *name = text(json, "name");
    s->width = (int)integer(json, "width");
    s->latents = (int)integer(json, "latents");
    s->rank = (int)integer(json, "rank");
    s->latent_width = (int)integer(json, "latent_width");
    s->by_channel = strcmp(text(json, "axis"), "channel") == 0;
    s->format = (quantizer){
        .bits = (int)integer(json, "bits"),
        .group = integer(cache, "group"),
        .integer_zero = strcmp(text(cache, "zero_point"), "integer") == 0,
        .rank = (size_t)s->rank,
        .latent_width = (size_t)s->latent_width,
    };
    if (!*name || strlen(name) >= sizeof s->name || !s->width || !s->latents || !s->rank ||
        s->latents * s->latent_width != s->width || !s->format.bits || !read_places(json, s))
        return refuse(err);
    memcpy(s->name, name, strlen(name) + 1);
    return gen_unit_map(g, text(json, "order"), s->format.bits, &s->bit_offset, err);
}

static xq_status read_layout(gen *g, const cJSON *spec, const cJSON *layout, page_codec *codec, error *err)
{
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const cJSON *streams = cJSON_GetObjectItemCaseSensitive(layout, "streams");
    int count = cJSON_GetArraySize(streams);
    codec->group = (int)integer(cache, "group");
    codec->page_tokens = (int)integer(cache, "page");
    codec->tile_tokens = (int)integer(layout, "tile_tokens");
    codec->unit_channels = (int)integer(layout, "unit_channels");
    codec->tile_bytes = integer(layout, "tile_bytes");
    codec->page_bytes = integer(layout, "page_bytes");
    codec->tail_bytes = integer(layout, "tail_bytes");
    if (!codec->group || !codec->page_tokens || !codec->tile_tokens || !codec->unit_channels ||
        !codec->tile_bytes || !codec->page_bytes || count < 1 || count > PAGE_MAX_STREAMS)
        return error_set(err, XQ_ERROR_SPEC, "spec", "layout: not that of a completed spec");
    for (codec->streams = 0; codec->streams < count && err->status == XQ_OK; codec->streams++) {
        page_stream *s = &codec->stream[codec->streams];
        if (read_stream(g, cJSON_GetArrayItem(streams, codec->streams), cache, s, err) == XQ_OK)
            s->in_one_piece = in_one_piece(codec, s);
    }
    codec->bits = codec->stream[0].format.bits;
    return err->status;
}

/* Codes of the cache may span less than their group's range; those of an accumulator never do. */
static xq_status read_clip(const cJSON *spec, page_codec *codec, error *err)
{
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const cJSON *clip = cJSON_GetObjectItemCaseSensitive(cache, "clip");
    if (!cJSON_IsNumber(clip))
        return error_set(err, XQ_ERROR_SPEC, "spec", "cache.clip: not that of a completed spec");
    for (int i = 0; i < codec->streams; i++)
        codec->stream[i].format.clip = (float)clip->valuedouble;
    return XQ_OK;
}

static xq_status create(gen *g, const char *completed_json, const char *member, page_codec **out,
                        error *err)
{
    page_codec *codec = calloc(1, sizeof *codec);
    cJSON *spec = cJSON_Parse(completed_json);
    xq_status status =
        !codec  ? error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory")
        : !spec ? error_set(err, XQ_ERROR_SPEC, "spec", "not a completed spec: not JSON")
                : read_layout(g, spec, cJSON_GetObjectItemCaseSensitive(spec, member), codec, err);
    if (status == XQ_OK && strcmp(member, "layout") == 0)
        status = read_clip(spec, codec, err);
    cJSON_Delete(spec);
    if (status == XQ_OK)
        *out = codec;
    else
        page_codec_destroy(codec);
    return status;
}

xq_status page_codec_create(gen *g, const char *completed_json, page_codec **out, error *err)
{
    return create(g, completed_json, "layout", out, err);
}

xq_status page_codec_create_accumulator(gen *g, const char *completed_json, page_codec **out, error *err)
{
    return create(g, completed_json, "accumulator", out, err);
}

void page_codec_destroy(page_codec *codec)
{
    for (int s = 0; codec && s < PAGE_MAX_STREAMS; s++)
        free(codec->stream[s].bit_offset);
    free(codec);
}
