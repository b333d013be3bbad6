#include "append_run.h"
#include "../../runtime/base/half.h"
#include "../support/elements.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- one run */

static float operand_value(bool bf16, uint16_t bits)
{
    return bf16 ? half_from_bfloat(bits) : half_to_float(bits);
}

static uint16_t operand_bits(bool bf16, float value)
{
    return bf16 ? half_to_bfloat(value) : half_from_float(value);
}

/* A random number that both 16-bit types hold: it is a bf16 number, and 0 if it is too small for f16. */
static float draw_coarse(random_stream *r)
{
    float value = random_normal(r);
    value = fabsf(value) < 0.01f ? 0 : half_from_bfloat(half_to_bfloat(value));
    return value;
}

/* Draws a row of x. Where x is cached without a projection, there are also constant rows, infinities and
 * NaN. */
static void draw_row(append_run *t, uint16_t *row)
{
    int kind = random_between(&t->r, 0, 11);
    float constant = draw_coarse(&t->r), scale = kind == 1 ? 100 : 1;
    for (int i = 0; i < t->hidden; i++)
        row[i] = operand_bits(t->bf16_x, kind == 0 ? constant : draw_coarse(&t->r) * scale);
    if (t->u[0])
        return;
    int at = random_between(&t->r, 0, t->hidden - 1);
    if (kind == 2)
        row[at] = operand_bits(t->bf16_x, INFINITY);
    if (kind == 3)
        row[at] = operand_bits(t->bf16_x, -INFINITY);
    if (kind == 4)
        row[at] = t->bf16_x ? 0xffc1 : 0xfe01; /* NaN */
    if (kind == 5)
        row[at] = operand_bits(t->bf16_x, -3e4f); /* large, and still in the range of f16 */
    if (kind == 6 && t->bf16_x)
        row[at] = half_to_bfloat(1e30f); /* beyond f16 */
}

static uint16_t *draw_projection(append_run *t, const page_stream *s)
{
    uint16_t *u = calloc((size_t)(t->hidden * s->width), sizeof *u);
    for (int c = 0; c < s->width; c++) {
        if (expected_is_padding(s, c))
            continue;
        for (int i = 0; t->dense && i < t->hidden; i++)
            u[i * s->width + c] = operand_bits(t->bf16_u, random_normal(&t->r) / sqrtf((float)t->hidden));
        float power = ldexpf(random_between(&t->r, 0, 1) ? 1 : -1, random_between(&t->r, -1, 1));
        if (!t->dense)
            u[random_between(&t->r, 0, t->hidden - 1) * s->width + c] = operand_bits(t->bf16_u, power);
    }
    return u;
}

static uint64_t upload_projection(append_run *t, const uint16_t *u, int width)
{
    void *packed = elements_packed(u, t->hidden, width, 2);
    uint64_t pointer = fixture_upload(&t->f, packed, (size_t)(t->hidden * width) * 2);
    free(packed);
    return pointer;
}

/* Draws the factors by which errors are added to later channels, and packs them in the order of
 * docs/layout.md. There are also factors for earlier channels, and from and to padding, which the kernels
 * must ignore. */
static void draw_feedback(append_run *t, int stream, uint64_t *where)
{
    const int group = expected_feedback_room(t->cache.codec),
              groups = t->cache.codec->stream[stream].groups, lanes = group < 64 ? 8 : 16;
    const size_t count = (size_t)(groups * group * group);
    uint16_t *packed = malloc(count * sizeof *packed), *next = packed;
    float *feedback = t->cache.feedback[stream] = malloc(count * sizeof *feedback);
    for (size_t i = 0; i < count; i++)
        feedback[i] = half_round(random_normal(&t->r) * 0.3f);
    for (int j = 0; j < groups * group; j++)
        for (int lane = 0; lane < lanes; lane++)
            for (int v = 0; v < group / lanes; v++) {
                const int of_lane[] = {0, 1, 8, 9};
                int i = v / 4 * 64 + lane / 4 * 16 + lane % 4 * 2 + of_lane[v % 4];
                *next++ = half_from_float(feedback[j * group + i]);
            }
    *where = fixture_upload(&t->f, packed, count * sizeof *packed);
    free(packed);
}

static void assign_pages(append_run *t, int page)
{
    int each = APPEND_LONGEST / page + 1;
    t->pool = APPEND_BATCH * each + 2;
    int32_t *shuffled = malloc(sizeof *shuffled * (size_t)t->pool), slots[] = {0, 1, 2, 3};
    for (int i = 0; i < t->pool; i++)
        shuffled[i] = i;
    random_shuffle(&t->r, shuffled, (size_t)t->pool);
    random_shuffle(&t->r, slots, 4);
    for (int b = 0; b < APPEND_BATCH; b++) {
        for (int i = 0; i < each; i++)
            t->pages[b][i] = shuffled[b * each + i];
        t->slots[b] = slots[b];
    }
    free(shuffled);
}

static const char *text_at(const cJSON *spec, const char *path)
{
    const cJSON *item = generator_member(spec, path);
    return cJSON_GetStringValue(item);
}

void append_run_open(append_run *t, const char *spec_json, int seed, bool dense)
{
    memset(t, 0, sizeof *t);
    t->r = random_begin((uint64_t)seed, 77);
    t->dense = dense;
    fixture_open(&t->f, spec_json);
    cJSON *spec = cJSON_Parse(t->f.completed);
    const char *method = text_at(spec, "cache.method");
    const cJSON *base = cJSON_GetObjectItem(cJSON_GetObjectItem(spec, "cache"), "base");
    bool rotated = cJSON_IsTrue(generator_member(spec, "cache.rotation"));
    t->bf16_x = !strcmp(text_at(spec, "dtype"), "bf16");
    t->bf16_u = !strcmp(text_at(spec, "weights"), "bf16");
    t->hidden = (int)generator_number(spec, "model.hidden_size");
    t->subtracts = cJSON_IsFalse(base);
    assign_pages(t, (int)generator_number(spec, "cache.page"));
    expected_open(&t->cache, generator(), t->f.completed, false, t->pool);
    if (t->subtracts)
        expected_open(&t->held, generator(), t->f.completed, true, t->pool);
    bool any[2] = {false, false};
    for (int s = 0; s < t->cache.codec->streams; s++) {
        const page_stream *stream = &t->cache.codec->stream[s];
        any[stream->by_channel] = true;
        if (strncmp(method, "latent", 6) && !rotated)
            continue;
        t->u[s] = draw_projection(t, stream);
        t->device_u[s] = upload_projection(t, t->u[s], stream->width);
        if (cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetObjectItem(spec, "cache"), "feedback")))
            draw_feedback(t, s, &t->device_feedback[s]);
    }
    t->by_token = any[0] ? fixture_kernel(&t->f, "append") : NULL;
    t->by_channel = any[1] ? fixture_kernel(&t->f, "append_channel") : NULL;
    for (int b = 0; b < APPEND_BATCH; b++) {
        t->x[b] = malloc((size_t)(APPEND_LONGEST * t->hidden) * 2);
        for (int i = 0; i < APPEND_LONGEST; i++)
            draw_row(t, t->x[b] + i * t->hidden);
    }
    t->tails_bytes = (size_t)t->cache.codec->tail_bytes * 4;
    t->tails = malloc(t->tails_bytes + 1);
    memset(t->tails, 0xff, t->tails_bytes);
    t->device_pages = fixture_filled(&t->f, 0xff, t->cache.bytes);
    t->device_tails = fixture_filled(&t->f, 0xff, t->tails_bytes);
    t->device_held = t->subtracts ? fixture_filled(&t->f, 0xff, t->held.bytes) : 0;
    cJSON_Delete(spec);
}

void append_run_close(append_run *t)
{
    fixture_close(&t->f);
    expected_close(&t->cache);
    expected_close(&t->held);
    free(t->tails);
    for (int b = 0; b < APPEND_BATCH; b++)
        free(t->x[b]);
    for (int s = 0; s < PAGE_MAX_STREAMS; s++) {
        free(t->u[s]);
        free(t->cache.feedback[s]);
    }
}

/* ---------------------------------------------------------------- expected bytes */

/* x of a token, as it is cached: f16, saturated. */
static float activation(const append_run *t, int b, int token, int i)
{
    return half_to_float(expected_round_half(operand_value(t->bf16_x, t->x[b][token * t->hidden + i])));
}

/* x minus the accumulator, if the layer subtracts it. */
static float delta(const append_run *t, int b, int token, int i)
{
    float x = activation(t, b, token, i);
    if (!t->subtracts)
        return x;
    float held = half_to_float(expected_half(&t->held, 0, t->pages[b], token, i));
    return half_to_float(expected_round_half(x - held));
}

/* The value that the projection multiplies, in the type of the weights. */
static float projected(const append_run *t, int b, int token, int i)
{
    float value = t->subtracts || !t->bf16_x || !t->bf16_u
                      ? delta(t, b, token, i)
                      : half_from_bfloat(t->x[b][token * t->hidden + i]);
    return t->bf16_u ? half_from_bfloat(half_to_bfloat(value)) : value;
}

double append_run_value(const append_run *t, int s, int b, int token, int channel)
{
    const page_stream *stream = &t->cache.codec->stream[s];
    if (!t->u[s])
        return delta(t, b, token, channel);
    double sum = 0;
    for (int i = 0; i < t->hidden; i++) {
        uint16_t u = t->u[s][i * stream->width + channel];
        if (u)
            sum += (double)projected(t, b, token, i) * operand_value(t->bf16_u, u);
    }
    return sum;
}

static void stream_row(const append_run *t, int s, int b, int token, uint16_t *row)
{
    for (int c = 0; c < t->cache.codec->stream[s].width; c++)
        row[c] = expected_round_half(append_run_value(t, s, b, token, c));
}

/* Writes the row of a token into the expected tail of a stream. */
static void expect_tail(append_run *t, int s, int b, int token, const uint16_t *row)
{
    const page_stream *stream = &t->cache.codec->stream[s];
    bool of_x = stream->tail_width != stream->width || !strcmp(stream->name, "delta");
    uint8_t *at = t->tails + t->slots[b] * (int)t->cache.codec->tail_bytes + stream->tail_offset +
                  token % t->cache.codec->group * stream->tail_width * 2;
    for (int i = 0; i < stream->tail_width; i++) {
        uint16_t value = of_x ? expected_round_half(activation(t, b, token, i)) : row[i];
        memcpy(at + 2 * i, &value, 2);
    }
}

void append_run_expect(append_run *t, int s, int b, int start, int end)
{
    const page_stream *stream = &t->cache.codec->stream[s];
    int group = t->cache.codec->group, width = stream->width;
    uint16_t *rows = malloc((size_t)(group * width) * sizeof *rows);
    for (int token = start; !stream->by_channel && token < end; token++) {
        stream_row(t, s, b, token, rows);
        expected_write_token(&t->cache, s, t->pages[b], token, rows);
    }
    for (int g = start / group; stream->by_channel && g * group < end; g++) {
        bool fills = (g + 1) * group <= end;
        for (int i = 0; i < group && g * group + i < end; i++) {
            int token = g * group + i;
            if (fills || token >= start)
                stream_row(t, s, b, token, rows + i * width);
            if (!fills && token >= start)
                expect_tail(t, s, b, token, rows + i * width);
        }
        if (fills)
            expected_write_group(&t->cache, s, t->pages[b], g, rows);
    }
    free(rows);
}

/* ---------------------------------------------------------------- calls */

/* Draws new values of the accumulator, for all tokens that there are now. */
static void draw_accumulator(append_run *t)
{
    uint16_t *row = malloc((size_t)t->hidden * 2);
    for (int b = 0; b < APPEND_BATCH; b++)
        for (int token = 0; token < t->lengths[b]; token++) {
            for (int i = 0; i < t->hidden; i++) {
                float x = activation(t, b, token, i);
                row[i] = half_from_float((isnan(x) ? 0 : x * 0.5f) + 0.25f * random_normal(&t->r));
            }
            expected_write_token(&t->held, 0, t->pages[b], token, row);
        }
    xq_device_write(t->f.context, t->device_held, t->held.pages, t->held.bytes);
    free(row);
}

static struct xq_table upload_table(append_run *t)
{
    int32_t indptr[APPEND_BATCH + 1] = {0}, last[APPEND_BATCH],
                                  indices[APPEND_BATCH * (APPEND_LONGEST / 16 + 1) + 1];
    for (int b = 0; b < APPEND_BATCH; b++) {
        int pages = (t->lengths[b] + t->cache.codec->page_tokens - 1) / t->cache.codec->page_tokens;
        memcpy(indices + indptr[b], t->pages[b], sizeof *indices * (size_t)pages);
        indptr[b + 1] = indptr[b] + pages;
        last[b] = pages ? t->lengths[b] - (pages - 1) * t->cache.codec->page_tokens : 12345;
    }
    indices[indptr[APPEND_BATCH]] = 0x7ffffff0;
    struct xq_table table = {
        .indptr = fixture_upload(&t->f, indptr, sizeof indptr),
        .indices = fixture_upload(&t->f, indices, sizeof *indices * (size_t)(indptr[APPEND_BATCH] + 1)),
        .last_page_len = fixture_upload(&t->f, last, sizeof last),
    };
    return table;
}

void append_run_tokens(append_run *t, const int counts[APPEND_BATCH])
{
    int tokens = 0, most = 0, first_buffer = t->f.buffer_count;
    int32_t indptr[APPEND_BATCH + 1] = {0};
    for (int b = 0; b < APPEND_BATCH; b++) {
        tokens += counts[b];
        most = counts[b] > most ? counts[b] : most;
        indptr[b + 1] = tokens;
        t->lengths[b] += counts[b];
        cr_assert_leq(t->lengths[b], APPEND_LONGEST);
    }
    if (t->subtracts)
        draw_accumulator(t);
    int32_t *order = malloc(sizeof *order * (size_t)(tokens + 1)),
            *sequence = malloc(sizeof *order * (size_t)(tokens + 1)),
            *position = malloc(sizeof *order * (size_t)(tokens + 1));
    uint16_t *x = malloc((size_t)(tokens * t->hidden + 1) * 2);
    for (int i = 0; i < tokens; i++)
        order[i] = i;
    if (!t->by_channel)
        random_shuffle(&t->r, order, (size_t)tokens);
    for (int b = 0; b < APPEND_BATCH; b++)
        for (int i = 0; i < counts[b]; i++) {
            int row = order[indptr[b] + i], token = t->lengths[b] - counts[b] + i;
            sequence[row] = b;
            position[row] = token;
            memcpy(x + row * t->hidden, t->x[b] + token * t->hidden, (size_t)t->hidden * 2);
        }
    struct xq_append_params params = {
        .table = upload_table(t),
        .x = fixture_upload(&t->f, x, (size_t)(tokens * t->hidden) * 2),
        .token_sequence = fixture_upload(&t->f, sequence, sizeof *order * (size_t)tokens),
        .token_position = fixture_upload(&t->f, position, sizeof *order * (size_t)tokens),
        .append_indptr = fixture_upload(&t->f, indptr, sizeof indptr),
        .pages = t->device_pages,
        .tails = {t->device_tails, fixture_upload(&t->f, t->slots, sizeof t->slots)},
        .accumulator = t->device_held,
        .uk = {t->device_u[0], 0},
        .uv = {t->device_u[1], 0},
        .fk = t->device_feedback[0],
        .fv = t->device_feedback[1],
        .tokens = tokens,
    };
    if (t->by_token && tokens)
        fixture_launch(&t->f, t->by_token, (tokens + 15) / 16,
                       fixture_constant(t->by_token, "column_blocks"), 1, &params, sizeof params);
    if (t->by_channel) {
        int group = fixture_constant(t->by_channel, "group_tokens"),
            touched = (most + group - 2) / group + 1;
        int steps = fixture_constant(t->by_channel, "steps");
        int columns = random_between(&t->r, 0, 3) ? touched : 1; /* fewer blocks than groups are enough */
        for (params.step = 0; params.step < steps; params.step++)
            fixture_launch(&t->f, t->by_channel, columns, fixture_constant(t->by_channel, "column_blocks"),
                           APPEND_BATCH, &params, sizeof params);
    }
    while (t->f.buffer_count > first_buffer)
        xq_device_free(t->f.context, t->f.buffers[--t->f.buffer_count]);
    free(order);
    free(sequence);
    free(position);
    free(x);
}

static void require_same(const char *what, const uint8_t *expected, const uint8_t *got, size_t bytes,
                         int stride)
{
    for (size_t i = 0; i < bytes; i++)
        cr_assert_eq(expected[i], got[i], "%s: byte %zu (of %zu, number %zu) is %02x, not %02x", what,
                     i % (size_t)stride, (size_t)stride, i / (size_t)stride, got[i], expected[i]);
}

void append_run_check(append_run *t)
{
    uint8_t *pages = fixture_download(&t->f, t->device_pages, t->cache.bytes);
    uint8_t *tails = fixture_download(&t->f, t->device_tails, t->tails_bytes);
    require_same("pages", t->cache.pages, pages, t->cache.bytes, t->cache.codec->page_bytes);
    require_same("tails", t->tails, tails, t->tails_bytes, t->cache.codec->tail_bytes);
    free(pages);
    free(tails);
}

/* Number of tokens that a call appends to a sequence: up to 40, at most one, about the rest of a group, or
 * one group and more. */
static int draw_count(append_run *t, int call, int b)
{
    int group = t->cache.codec->group < 256 ? t->cache.codec->group : 256;
    int count = 0;
    switch ((call + b) % 4) {
    case 0:
        count = random_between(&t->r, 1, 40);
        break;
    case 1:
        count = random_between(&t->r, 0, 1);
        break;
    case 2: /* up to the end of a group, or to a token beside it */
        count = group - t->lengths[b] % group + random_between(&t->r, -1, 1);
        break;
    case 3:
        count = random_between(&t->r, group, 2 * group + 20);
        break;
    }
    return t->lengths[b] + count > APPEND_LONGEST ? 0 : count;
}

void append_run_all(append_run *t, int calls)
{
    for (int call = 0; call < calls; call++) {
        int counts[APPEND_BATCH], starts[APPEND_BATCH];
        for (int b = 0; b < APPEND_BATCH; b++) {
            counts[b] = draw_count(t, call, b);
            starts[b] = t->lengths[b];
        }
        append_run_tokens(t, counts);
        for (int s = 0; s < t->cache.codec->streams && !t->dense; s++)
            for (int b = 0; b < APPEND_BATCH; b++)
                append_run_expect(t, s, b, starts[b], t->lengths[b]);
        if (!t->dense)
            append_run_check(t);
    }
}
