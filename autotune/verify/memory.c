/* Device memory of a verification case, and host copies of it. */
#include "memory.h"
#include "../../runtime/launch/last_error.h"

#include <stdlib.h>
#include <string.h>

#define FILLED 0xff /* NaN when read as f16, bf16 or f32 */

uint64_t verify_memory_upload(verify_memory *m, const void *data, size_t bytes, error *err)
{
    xq_context *context = m->v->context;
    uint64_t pointer = 0;
    if (err->status != XQ_OK)
        return 0;
    if (m->count == sizeof m->pointers / sizeof m->pointers[0]) {
        error_set(err, XQ_ERROR_INTERNAL, "argument", "a verification case has too many buffers");
        return 0;
    }
    xq_status status = xq_device_alloc(context, bytes ? bytes : 1, &pointer);
    if (status == XQ_OK) {
        m->pointers[m->count++] = pointer;
        status = data ? xq_device_write(context, pointer, data, bytes)
                      : xq_device_fill(context, pointer, FILLED, bytes);
    }
    if (status != XQ_OK)
        last_error_read(context, status, err);
    return pointer;
}

xq_status verify_memory_create(verify_state *v, int implementation, const case_shape *shape,
                               verify_memory *m, error *err)
{
    const xq_plan_info *info = &v->plans[implementation].info[0];
    size_t pages = (size_t)shape->pool_pages, slots = (size_t)shape->sequences + 1;
    memset(m, 0, sizeof *m);
    m->v = v;
    m->shape = shape;
    m->kv = implementation == XQ_FP16_KV;
    m->layers = m->kv ? 1 : v->spec.layers;
    m->page_bytes = info->page_bytes;
    m->tail_bytes = info->tail_bytes;
    m->accumulator_bytes = info->accumulator_page_bytes;
    for (int layer = 0; layer < m->layers; layer++) {
        m->pages[layer] = verify_memory_upload(m, NULL, pages * m->page_bytes, err);
        if (m->tail_bytes)
            m->tails[layer] = verify_memory_upload(m, NULL, slots * m->tail_bytes, err);
    }
    if (m->accumulator_bytes)
        m->accumulator = verify_memory_upload(m, NULL, pages * m->accumulator_bytes, err);
    return err->status;
}

void verify_memory_free(verify_memory *m)
{
    for (int i = 0; i < m->count; i++)
        xq_device_free(m->v->context, m->pointers[i]);
    m->count = 0;
}

/* ---------------------------------------------------------------- host copies */

static uint8_t *download(verify_memory *m, uint64_t pointer, size_t bytes, error *err)
{
    uint8_t *data = NULL;
    if (err->status != XQ_OK || !pointer)
        return NULL;
    data = malloc(bytes + 1);
    if (!data) {
        verify_out_of_memory(err);
        return NULL;
    }
    xq_status status = xq_device_read(m->v->context, data, pointer, bytes);
    if (status != XQ_OK)
        last_error_read(m->v->context, status, err);
    return data;
}

xq_status verify_snapshot_take(verify_memory *m, int layer, verify_snapshot *s, error *err)
{
    size_t pages = (size_t)m->shape->pool_pages, slots = (size_t)m->shape->sequences + 1;
    s->pages = download(m, m->pages[layer], pages * m->page_bytes, err);
    s->tails = download(m, m->tails[layer], slots * m->tail_bytes, err);
    s->accumulator = download(m, m->accumulator, pages * m->accumulator_bytes, err);
    return err->status;
}

void verify_snapshot_free(verify_snapshot *s)
{
    free(s->pages);
    free(s->tails);
    free(s->accumulator);
    memset(s, 0, sizeof *s);
}

page_sequence verify_snapshot_sequence(const verify_state *v, const case_shape *shape,
                                       const verify_snapshot *s, int sequence, int length)
{
    const case_sequence *c = &shape->sequence[sequence];
    uint8_t *tail = s->tails ? s->tails + (size_t)c->slot * v->codec->tail_bytes : NULL;
    return (page_sequence){s->pages, c->pages, length, tail};
}

page_sequence verify_snapshot_accumulator(const case_shape *shape, const verify_snapshot *s, int sequence,
                                          int length)
{
    return (page_sequence){s->accumulator, shape->sequence[sequence].pages, length, NULL};
}

void verify_accumulator_row(const verify_state *v, const page_sequence *accumulator, int t, uint16_t *row)
{
    const page_stream *s = &v->accumulator->stream[0];
    const uint8_t *page =
        accumulator->pool + (size_t)accumulator->pages[t / v->spec.page] * v->accumulator->page_bytes;
    uint8_t codes[4096];
    uint16_t scale[256], zero[256];
    if (s->format.bits == 16) {
        page_codec_read_halves(v->accumulator, 0, page, t % v->spec.page, row);
        return;
    }
    page_codec_read(v->accumulator, 0, page, t % v->spec.page, codes, scale, zero);
    for (int c = 0; c < s->width; c++) {
        size_t g = quantizer_group_of(&s->format, (size_t)c);
        row[c] = quantizer_kernel_value(&s->format, codes[c], scale[g], zero[g]);
    }
}

static bool is_filled(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; bytes && i < count; i++)
        if (bytes[i] != FILLED)
            return false;
    return true;
}

bool verify_snapshot_untouched(const verify_memory *m, const verify_snapshot *s)
{
    for (int page = 0; page < m->shape->pool_pages; page++) {
        bool owned = false;
        for (int i = 0; i < m->shape->sequences; i++)
            for (int p = 0; p * m->v->spec.page < m->shape->sequence[i].length; p++)
                owned = owned || m->shape->sequence[i].pages[p] == page;
        if (owned)
            continue;
        if (!is_filled(s->pages + (size_t)page * m->page_bytes, m->page_bytes))
            return false;
        if (s->accumulator &&
            !is_filled(s->accumulator + (size_t)page * m->accumulator_bytes, m->accumulator_bytes))
            return false;
    }
    return is_filled(s->tails, m->tail_bytes); /* slot 0 belongs to no sequence */
}
