/* Filling pages as append should. */
#include "page_codec.h"

#include <stdlib.h>
#include <string.h>

static void store_tokens(const page_codec *codec, int stream, const page_sequence *sequence,
                         const uint16_t *x, uint8_t *codes, uint16_t *params)
{
    const page_stream *s = &codec->stream[stream];
    size_t width = (size_t)s->width;
    for (int t = 0; t < sequence->length; t++, x += width) {
        uint8_t *page =
            sequence->pool + (size_t)sequence->pages[t / codec->page_tokens] * codec->page_bytes;
        if (s->format.bits == 16) {
            page_codec_write_halves(codec, stream, page, t % codec->page_tokens, x);
            continue;
        }
        quantizer_encode(&s->format, x, width, codes, params, params + s->groups);
        page_codec_write(codec, stream, page, t % codec->page_tokens, codes, params, params + s->groups);
    }
}

static void store_groups(const page_codec *codec, int stream, const page_sequence *sequence,
                         const uint16_t *x, uint8_t *codes, uint16_t *params)
{
    const page_stream *s = &codec->stream[stream];
    size_t width = (size_t)s->width;
    int begin = page_codec_tail_begin(codec, stream, sequence);
    for (int g = 0; g < begin / codec->group; g++) {
        const uint16_t *rows = x + (size_t)g * (size_t)codec->group * width;
        quantizer_encode_channels(&s->format, rows, width, codes, params, params + width);
        page_codec_write_group(codec, stream, sequence, g, codes, params, params + width);
    }
    for (int t = begin; t < sequence->length; t++)
        memcpy(page_codec_tail_row(codec, stream, sequence, t), x + (size_t)t * width, width * sizeof *x);
}

xq_status page_codec_store(const page_codec *codec, int stream, const page_sequence *sequence,
                           const uint16_t *x, error *err)
{
    const page_stream *s = &codec->stream[stream];
    size_t width = (size_t)s->width;
    uint8_t *codes = malloc(width * (s->by_channel ? (size_t)codec->group : 1));
    uint16_t *params = malloc(2 * width * sizeof *params);
    if (codes && params)
        (s->by_channel ? store_groups : store_tokens)(codec, stream, sequence, x, codes, params);
    else
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for cache pages");
    free(codes);
    free(params);
    return err->status;
}
