#include "cache_image.h"

#include "../../runtime/base/half.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

void cache_image_open(cache_image *image, const fixture *f, bool accumulator, const paged *p)
{
    error err = ERROR_INIT;
    memset(image, 0, sizeof *image);
    image->paged = p;
    cr_assert_eq((accumulator ? page_codec_create_accumulator
                              : page_codec_create)(generator(), f->completed, &image->codec, &err),
                 XQ_OK, "%s", err.message);
    image->pages_size = image->codec->page_bytes * (size_t)p->pool;
    image->tails_size = image->codec->tail_bytes * (size_t)(p->batch + 1);
    image->pages = malloc(image->pages_size + 1);
    image->tails = malloc(image->tails_size + 1);
    cr_assert(image->pages && image->tails);
    memset(image->pages, 0xff, image->pages_size);
    memset(image->tails, 0xff, image->tails_size);
    for (int i = 0; i < p->batch; i++)
        image->slots[i] = p->batch - i; /* no sequence has slot 0 */
}

void cache_image_close(cache_image *image)
{
    page_codec_destroy(image->codec);
    free(image->pages);
    free(image->tails);
}

page_sequence cache_image_sequence(const cache_image *image, int sequence)
{
    const paged *p = image->paged;
    return (page_sequence){image->pages, p->indices + p->indptr[sequence], p->lengths[sequence],
                           image->tails + image->codec->tail_bytes * (size_t)image->slots[sequence]};
}

bool cache_image_in_tail(const cache_image *image, int stream, int sequence, int token)
{
    const page_sequence s = cache_image_sequence(image, sequence);
    return token >= page_codec_tail_begin(image->codec, stream, &s);
}

/* ---------------------------------------------------------------- drawing */

static void draw_params(const page_codec *codec, int stream, random_stream *r, const page_sequence *s,
                        int token, int channel)
{
    const quantizer *q = &codec->stream[stream].format;
    int top = (1 << q->bits) - 1;
    uint16_t scale = half_from_float((0.5f + (float)random_between(r, 0, 1000) / 500) * 4 / (float)top);
    uint16_t zero =
        q->integer_zero ? (uint16_t)random_between(r, 0, top) : half_from_float(random_normal(r) - 3);
    page_codec_set_params(codec, stream, s, token, channel, scale, zero);
}

static void draw_token(const page_codec *codec, int stream, random_stream *r, const page_sequence *s,
                       int token)
{
    const page_stream *of = &codec->stream[stream];
    const int bits = of->format.bits;
    for (int c = 0; c < of->width; c++) {
        unsigned code = bits == 16 ? half_from_float(random_normal(r) * 3)
                                   : (unsigned)random_between(r, 0, (1 << bits) - 1);
        if (!quantizer_is_data(&of->format, (size_t)c))
            code = 0;
        page_codec_set_code(codec, stream, s, token, c, code);
        const size_t at = (size_t)c;
        const bool begins = of->by_channel ? token % codec->group == 0
                                           : at == 0 || quantizer_group_of(&of->format, at) !=
                                                            quantizer_group_of(&of->format, at - 1);
        if (bits < 16 && begins)
            draw_params(codec, stream, r, s, token, c);
    }
}

static void draw_tail(const page_codec *codec, int stream, random_stream *r, const page_sequence *s,
                      int token)
{
    const page_stream *of = &codec->stream[stream];
    uint16_t *row = page_codec_tail_row(codec, stream, s, token);
    for (int c = 0; c < of->tail_width; c++)
        row[c] = of->tail_width == of->width && !quantizer_is_data(&of->format, (size_t)c)
                     ? 0
                     : half_from_float(random_normal(r) * 3);
}

void cache_image_draw(cache_image *image, random_stream *r)
{
    for (int stream = 0; stream < image->codec->streams; stream++)
        for (int i = 0; i < image->paged->batch; i++) {
            const page_sequence s = cache_image_sequence(image, i);
            for (int t = 0; t < s.length; t++)
                (cache_image_in_tail(image, stream, i, t) ? draw_tail : draw_token)(image->codec, stream, r,
                                                                                    &s, t);
        }
}

void cache_image_spread_scales(cache_image *image)
{
    const int stream = image->codec->streams - 1;
    const page_stream *of = &image->codec->stream[stream];
    cr_assert(of->format.integer_zero && !of->by_channel);
    for (int i = 0; i < image->paged->batch; i++) {
        const page_sequence s = cache_image_sequence(image, i);
        for (int t = 0; t < s.length; t++)
            for (int c = 0; c < of->width; c++) {
                uint16_t scale, zero;
                page_codec_params(image->codec, stream, &s, t, c, &scale, &zero);
                if (t % 8 == 3)
                    page_codec_set_code(image->codec, stream, &s, t, c, zero);
                page_codec_set_params(image->codec, stream, &s, t, c,
                                      half_from_float(t % 8 == 3 ? 60000.0f : 0.25f), zero);
            }
    }
}

/* ---------------------------------------------------------------- decoding */

double cache_image_value(const cache_image *image, int stream, int sequence, int token, int channel)
{
    const quantizer *q = &image->codec->stream[stream].format;
    const page_sequence s = cache_image_sequence(image, sequence);
    uint16_t scale, zero;
    if (cache_image_in_tail(image, stream, sequence, token))
        return half_to_float(page_codec_tail_row(image->codec, stream, &s, token)[channel]);
    unsigned code = page_codec_code(image->codec, stream, &s, token, channel);
    if (q->bits == 16)
        return half_to_float((uint16_t)code);
    page_codec_params(image->codec, stream, &s, token, channel, &scale, &zero);
    return quantizer_value(q, (int)code, scale, zero);
}

double *cache_image_rows(const cache_image *image, int stream, int sequence)
{
    const page_sequence s = cache_image_sequence(image, sequence);
    const size_t width = (size_t)image->codec->stream[stream].width;
    double *rows = malloc(((size_t)s.length * width + 1) * sizeof *rows);
    for (int t = 0; t < s.length; t++)
        page_codec_dequantize_token(image->codec, stream, &s, t, rows + (size_t)t * width);
    return rows;
}

struct xq_tails cache_image_upload_tails(fixture *f, const cache_image *image)
{
    struct xq_tails tails = {0};
    if (image->tails_size) {
        tails.pool = fixture_upload(f, image->tails, image->tails_size);
        tails.slots = fixture_upload(f, image->slots, sizeof image->slots);
    }
    return tails;
}

void cache_image_dequantize(fixture *f, const test_kernel *k, const cache_image *image, uint64_t rows[2])
{
    const paged *p = image->paged;
    for (int s = 0; s < 2; s++) {
        size_t width = s < image->codec->streams ? (size_t)image->codec->stream[s].width : 0;
        rows[s] = fixture_filled(f, 0xff, (size_t)(p->entries * p->page) * width * 2);
    }
    struct xq_dequantize_params args = {0};
    args.table = paged_upload(f, p, false);
    args.pages = fixture_upload(f, image->pages, image->pages_size);
    args.tails = cache_image_upload_tails(f, image);
    args.k = rows[0];
    args.v = rows[1];
    args.batch = p->batch;
    args.entries = p->entries + 2; /* an upper bound: the grid may be larger than the table */
    fixture_launch(f, k, args.entries * p->page / 16, fixture_constant(k, "column_blocks"), 1, &args,
                   sizeof args);
}
