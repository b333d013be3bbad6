/* Cache pages on the host: reads and writes the contents of pages and tails, as docs/layout.md draws them.
 *
 * The codec reads the page itself, and asks no kernel what it stored: tests compare the codes in a page
 * with the host quantizer, and references start from the values that the codec reads. The layout comes from
 * the completed spec and from gen_unit_map; nothing is repeated here. */
#ifndef AUTOTUNE_ENGINE_PAGE_CODEC_H
#define AUTOTUNE_ENGINE_PAGE_CODEC_H

#include "../../gen/gen.h"
#include "../../runtime/host/quantizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_MAX_STREAMS 2

typedef struct page_stream {
    char name[8]; /* "x", "k", "v" or "delta" */
    int width;    /* stored channels of a token: latents * latent_width */
    int latents, rank, latent_width;
    bool by_channel;  /* a group is tokens of one channel; else channels of one token */
    int groups;       /* groups of a token; 0 where by_channel, and in streams of f16 values */
    quantizer format; /* bits 16: f16 values instead of codes */
    size_t codes_offset, params_offset, zeros_offset; /* within a tile record */
    size_t slots_offset, slot_bytes;                  /* by_channel: parameters, within a page */
    int chunk_pages, page_groups, page_chunks;
    size_t tail_offset; /* by_channel: within a sequence's tail */
    int tail_width;
    int32_t *bit_offset; /* gen_unit_map: [16 tokens][64 channels][bits] */
    bool in_one_piece;   /* each code's bits are consecutive: within one byte, or as two whole bytes */
} page_stream;

typedef struct page_codec {
    int bits, group; /* as in the spec: elements per quantization group, at most */
    int page_tokens, tile_tokens, unit_channels;
    size_t tile_bytes, page_bytes, tail_bytes;
    int streams;
    page_stream stream[PAGE_MAX_STREAMS];
} page_codec;

/* The codec of the cache, and that of the accumulator of cross-layer methods. Errors: XQ_ERROR_SPEC for a
 * text that is no completed spec, or that has no accumulator; those of gen_unit_map. */
xq_status page_codec_create(gen *g, const char *completed_json, page_codec **codec, error *err);
xq_status page_codec_create_accumulator(gen *g, const char *completed_json, page_codec **codec, error *err);
void page_codec_destroy(page_codec *codec);

/* ---------------------------------------------------------------- one page
 * For streams with groups of channels: reads token `token` of a page. codes is [width]; scale and zero are
 * [groups], as for quantizer_encode. */
void page_codec_read(const page_codec *codec, int stream, const uint8_t *page, int token, uint8_t *codes,
                     uint16_t *scale, uint16_t *zero);

/* For streams of f16 values: reads the values of a token, [width]. */
void page_codec_read_halves(const page_codec *codec, int stream, const uint8_t *page, int token,
                            uint16_t *values);

/* ---------------------------------------------------------------- one sequence */
typedef struct page_sequence {
    uint8_t *pool;        /* all pages, page_bytes apart */
    const int32_t *pages; /* the sequence's page numbers, in order */
    int length;           /* tokens */
    uint8_t *tail;        /* tail_bytes; NULL where no stream is by_channel */
} page_sequence;

/* One value of a page: its code (in streams of f16 values, the bits of the value), and its group's
 * parameters. */
unsigned page_codec_code(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                         int channel);
void page_codec_set_code(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                         int channel, unsigned code);
void page_codec_params(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                       int channel, uint16_t *scale, uint16_t *zero);
void page_codec_set_params(const page_codec *codec, int stream, const page_sequence *sequence, int token,
                           int channel, uint16_t scale, uint16_t zero);

/* The first token in the tail; the tokens before it are in pages. */
int page_codec_tail_begin(const page_codec *codec, int stream, const page_sequence *sequence);

/* by_channel: reads group number `group` of the sequence. With G = codec->group tokens in a group, codes is
 * [G, width]; scale and zero are [width]. */
void page_codec_read_group(const page_codec *codec, int stream, const page_sequence *sequence, int group,
                           uint8_t *codes, uint16_t *scale, uint16_t *zero);

/* The row of the tail that holds token `token`: [tail_width] f16. */
uint16_t *page_codec_tail_row(const page_codec *codec, int stream, const page_sequence *sequence,
                              int token);

/* Reads x̂ [width] of token `token` in double precision, from a page with either kind of groups, or from
 * the tail, which is exact. Padding is 0. Must not be used for tokens in the tail of a cross-layer cache,
 * because that tail holds activations and not deltas. */
void page_codec_dequantize_token(const page_codec *codec, int stream, const page_sequence *sequence,
                                 int token, double *x_hat);

#endif
