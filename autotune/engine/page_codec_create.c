/* Creates a page_codec from a completed spec. */
#include "../../runtime/plan/spec_view.h"
#include "page_codec.h"

#include <stdlib.h>
#include <string.h>

/* Whether the spec says where the stream's parameters are. */
static bool has_places(const struct spec_stream *s)
{
    if (s->by_channel)
        return s->slot_bytes && s->chunk_pages && s->page_groups && s->page_chunks && s->tail_width;
    return s->bits == 16 || s->groups;
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

static xq_status set_stream(gen *g, const struct spec_view *v, const struct spec_stream *from,
                            page_stream *s, error *err)
{
    *s = (page_stream){
        .width = from->width,
        .latents = from->latents,
        .rank = from->rank,
        .latent_width = from->latent_width,
        .by_channel = from->by_channel,
        .groups = from->groups,
        .format = {.bits = from->bits,
                   .group = (size_t)from->group,
                   .integer_zero = v->integer_zero,
                   .rank = (size_t)from->rank,
                   .latent_width = (size_t)from->latent_width},
        .codes_offset = from->codes_offset,
        .params_offset = from->params_offset,
        .zeros_offset = from->zeros_offset,
        .slots_offset = from->slots_offset,
        .slot_bytes = from->slot_bytes,
        .chunk_pages = from->chunk_pages,
        .page_groups = from->page_groups,
        .page_chunks = from->page_chunks,
        .tail_offset = from->tail_offset,
        .tail_width = from->tail_width,
    };
    memcpy(s->name, from->name, sizeof s->name);
    if (!*s->name || s->latents * s->latent_width != s->width || !has_places(from))
        return error_set(err, XQ_ERROR_SPEC, "spec", "layout.streams is not the one of a completed spec");
    return gen_unit_map(g, from->order, from->bits, &s->bit_offset, err);
}

static xq_status set_layout(gen *g, const struct spec_view *v, const struct spec_layout *l,
                            page_codec *codec, error *err)
{
    codec->group = v->group;
    codec->page_tokens = v->shape.page;
    codec->tile_tokens = l->tile_tokens;
    codec->unit_channels = l->unit_channels;
    codec->tile_bytes = l->tile_bytes;
    codec->page_bytes = l->page_bytes;
    codec->tail_bytes = l->tail_bytes;
    if (l->stream_count == 0 || !v->group || !l->tile_tokens || !l->unit_channels || !l->tile_bytes ||
        !l->page_bytes)
        return error_set(err, XQ_ERROR_SPEC, "spec", "layout is not the one of a completed spec");
    for (codec->streams = 0; codec->streams < l->stream_count && err->status == XQ_OK; codec->streams++) {
        page_stream *s = &codec->stream[codec->streams];
        if (set_stream(g, v, &l->streams[codec->streams], s, err) == XQ_OK)
            s->in_one_piece = in_one_piece(codec, s);
    }
    codec->bits = codec->stream[0].format.bits;
    return err->status;
}

static xq_status create(gen *g, const char *completed_json, bool accumulator, page_codec **out, error *err)
{
    struct spec_view v;
    if (spec_view_read(completed_json, &v, err) != XQ_OK)
        return err->status;
    page_codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
    if (set_layout(g, &v, accumulator ? &v.accumulator : &v.layout, codec, err) != XQ_OK) {
        page_codec_destroy(codec);
        return err->status;
    }
    /* The cache's codes may span less than the range of their group; the accumulator's codes never do. */
    for (int i = 0; i < codec->streams && !accumulator; i++)
        codec->stream[i].format.clip = v.clip;
    *out = codec;
    return XQ_OK;
}

xq_status page_codec_create(gen *g, const char *completed_json, page_codec **out, error *err)
{
    return create(g, completed_json, false, out, err);
}

xq_status page_codec_create_accumulator(gen *g, const char *completed_json, page_codec **out, error *err)
{
    return create(g, completed_json, true, out, err);
}

void page_codec_destroy(page_codec *codec)
{
    for (int s = 0; codec && s < PAGE_MAX_STREAMS; s++)
        free(codec->stream[s].bit_offset);
    free(codec);
}
