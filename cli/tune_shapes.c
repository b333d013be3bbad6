#include "tune_shapes.h"
#include "../runtime/base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES = 2, MOST_SEQUENCES = 4, MOST_TOKENS = 200 };

struct small_shape {
    int64_t lengths[MOST_SEQUENCES];
    int sequences;
    driver driver; /* its cache is filled, unless the driver was never used */
    struct compare_expected expected;
};

struct tune_shapes {
    struct small_shape shapes[SHAPES];
};

/* ----------------------------------------------------------------- drawing */

/* The length is odd where possible, so that it fills no page and no tile. */
static int64_t draw_length(random_stream *r, int least, int most)
{
    int length = random_between(r, least, most) | 1;
    return length <= most ? length : most;
}

static void draw(struct small_shape *s, int sequences, const struct compare_layer *layer, random_stream *r)
{
    int most = layer->text_tokens < MOST_TOKENS ? (int)layer->text_tokens : MOST_TOKENS;
    const int least = layer->queries < 1 ? 1 : layer->queries;
    if (most < least)
        most = least;
    s->sequences = sequences;
    for (int i = 0; i < sequences; i++)
        s->lengths[i] = i == 1 ? least : draw_length(r, least, most);
}

struct tune_shapes *tune_shapes_create(const struct compare_layer *layer, uint64_t seed)
{
    struct tune_shapes *s = calloc(1, sizeof *s);
    random_stream r = random_begin(seed, 12);
    if (s) {
        draw(&s->shapes[0], random_between(&r, 3, MOST_SEQUENCES), layer, &r);
        draw(&s->shapes[1], 1, layer, &r);
    }
    return s;
}

void tune_shapes_destroy(struct tune_shapes *s)
{
    for (int i = 0; s && i < SHAPES; i++) {
        driver_close(&s->shapes[i].driver);
        compare_expected_free(&s->shapes[i].expected);
    }
    free(s);
}

/* ---------------------------------------------------------------- checking */

static void describe(const struct small_shape *s, const struct compare_row *row, char *text, size_t size)
{
    size_t length =
        (size_t)snprintf(text, size, "with %d sequence%s of ", s->sequences, s->sequences == 1 ? "" : "s");
    for (int i = 0; i < s->sequences && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%lld", i ? ", " : "",
                                   (long long)s->lengths[i]);
    if (length < size)
        snprintf(text + length, size - length,
                 " tokens outputs differ from the reference by %.3g, and log-sum-exps by %.3g",
                 row->kernel_error, row->lse_error);
}

static xq_status attend(struct small_shape *s, const struct compare_task *of,
                        xq_implementation implementation, struct compare_row *row, error *err)
{
    struct compare_layer layer = *of->layer;
    struct compare_task task = *of;
    layer.batch = layer.distinct = s->sequences;
    layer.lengths = s->lengths;
    layer.tokens = 0;
    for (int i = 0; i < s->sequences; i++)
        layer.tokens = s->lengths[i] > layer.tokens ? s->lengths[i] : layer.tokens;
    task.layer = &layer;
    task.expected = &s->expected;
    const bool cached = s->driver.layer_count > 0 && !layer_is_cross(&task.traits.shape);
    if (compare_attend(&task, implementation, &s->driver, cached, 1, row, err) != XQ_OK)
        driver_close(&s->driver); /* its cache may be incomplete */
    return err->status;
}

xq_status tune_shapes_check(struct tune_shapes *shapes, const struct compare_task *task,
                            xq_implementation implementation, double bound, bool *wrong, char *reason,
                            size_t reason_bytes, error *err)
{
    *wrong = false;
    for (int i = 0; i < SHAPES && !*wrong; i++) {
        struct compare_row row;
        if (attend(&shapes->shapes[i], task, implementation, &row, err) != XQ_OK)
            return err->status;
        *wrong = !(row.kernel_error <= bound && row.lse_error <= 2 * bound);
        if (*wrong)
            describe(&shapes->shapes[i], &row, reason, reason_bytes);
    }
    return XQ_OK;
}
