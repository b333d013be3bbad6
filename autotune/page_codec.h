/* Cache pages on the host: reads, and writes, the rows of a page as docs/spec.md lays them out.
 *
 * A kernel is never asked what it stored: tests compare what this finds in a page with the host quantizer,
 * and references start from what it reads. The layout itself comes from the completed spec and from
 * gen_unit_map; nothing is repeated here. */
#ifndef AUTOTUNE_PAGE_CODEC_H
#define AUTOTUNE_PAGE_CODEC_H

#include "../gen/gen.h"

#include <stddef.h>
#include <stdint.h>

#define PAGE_MAX_STREAMS 2

typedef struct page_stream {
    char name[8]; /* "x", or "k" and "v" */
    int width, groups;
    size_t codes_offset, params_offset; /* within a tile record */
    int32_t *bit_offset;                /* gen_unit_map: [16 tokens][64 channels] */
} page_stream;

typedef struct page_codec {
    int bits, group; /* channels per quantization group */
    int page_tokens, tile_tokens, unit_channels;
    size_t tile_bytes, page_bytes;
    int streams;
    page_stream stream[PAGE_MAX_STREAMS];
} page_codec;

/* Errors: XQ_ERROR_SPEC for a text that is no completed spec, those of gen_unit_map. */
xq_status page_codec_create(gen *g, const char *completed_json, page_codec **codec, error *err);
void page_codec_destroy(page_codec *codec);

/* Token `token` of a page: codes [width], scale and offset [groups] f16, as for quantizer_encode. */
void page_codec_read(const page_codec *codec, int stream, const uint8_t *page, int token, uint8_t *codes,
                     uint16_t *scale, uint16_t *offset);
void page_codec_write(const page_codec *codec, int stream, uint8_t *page, int token, const uint8_t *codes,
                      const uint16_t *scale, const uint16_t *offset);

/* x̂ [width] of a token, in double precision. */
void page_codec_dequantize(const page_codec *codec, int stream, const uint8_t *page, int token,
                           double *x_hat);

#endif
