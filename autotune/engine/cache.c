#include "cache.h"

#include "private.h"

#include <stdlib.h>
#include <string.h>

void driver_free_cache(page_sequence *s)
{
    free(s->pool);
    free((void *)s->pages);
    free(s->tail);
    memset(s, 0, sizeof *s);
}

/* Allocates a copy with pages 0 .. pages - 1, one after the other. Their contents are not set. */
static xq_status allocate(page_sequence *s, int64_t pages, size_t page_bytes, size_t tail_bytes,
                          int64_t length)
{
    int32_t *numbers = malloc(sizeof *numbers * (size_t)(pages + 1));
    *s = (page_sequence){.pool = malloc((size_t)pages * page_bytes + 1),
                         .pages = numbers,
                         .length = (int)length,
                         .tail = tail_bytes ? malloc(tail_bytes) : NULL};
    for (int64_t p = 0; numbers && p < pages; p++)
        numbers[p] = (int32_t)p;
    if (s->pool && numbers && (s->tail || !tail_bytes))
        return XQ_OK;
    driver_free_cache(s);
    return XQ_ERROR_MEMORY;
}

/* Copies a sequence of the layer with its tail, or a sequence of the accumulator, which has no tails. */
static xq_status copy(driver *d, int layer, bool accumulated, int table, int sequence, int64_t first,
                      int64_t length, page_sequence *out)
{
    const xq_plan_info *info = &d->layers[layer].info;
    const size_t page_bytes = accumulated ? info->accumulator_page_bytes : info->page_bytes;
    const int64_t pages = driver_pages(d, length);
    page_sequence s;
    xq_status status = allocate(&s, pages, page_bytes, accumulated ? 0 : info->tail_bytes, length);
    for (int64_t p = 0; p < pages && status == XQ_OK; p++)
        status = (accumulated ? driver_read_accumulator
                              : driver_read_page)(d, layer, first + p, s.pool + (size_t)p * page_bytes);
    if (status == XQ_OK && s.tail)
        status = driver_read_tail(d, layer, table, sequence, s.tail);
    if (status == XQ_OK)
        *out = s;
    else
        driver_free_cache(&s);
    return status;
}

xq_status driver_read_cache(driver *d, int layer, int table, int sequence, int64_t first, int64_t length,
                            page_sequence *out)
{
    return copy(d, layer, false, table, sequence, first, length, out);
}

xq_status driver_read_accumulated(driver *d, int layer, int64_t first, int64_t length, page_sequence *out)
{
    return copy(d, layer, true, 0, 0, first, length, out);
}

void driver_decode(const page_codec *codec, int stream, const page_sequence *sequence, double *x_hat)
{
    size_t width = (size_t)codec->stream[stream].width;
    for (int t = 0; t < sequence->length; t++)
        page_codec_dequantize_token(codec, stream, sequence, t, x_hat + (size_t)t * width);
}
