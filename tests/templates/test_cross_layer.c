/* A stack of eight layers with a cross-layer cache. The test drives it as an engine does, through the
 * public API (autotune/engine/driver.h is the engine's part): two sequences, a prefill in two chunks, and
 * 300 decode steps. Every layer is compared with what it must hold and return (cross_layer_model.h).
 *
 * Each call does the following for each layer, in this order. Append caches the delta of the layer's
 * input against the accumulator. Accumulate adds the delta to the accumulator, which then holds this
 * layer's activations for all tokens. Attend follows. The accumulator passes from layer to layer, and
 * starts anew at the base layer of the next call. */
#include "../../autotune/engine/cache.h"
#include "../../autotune/reference/seen.h"
#include "../../prepare/layer_factor.h"
#include "../../runtime/base/half.h"
#include "../../runtime/base/random.h"
#include "../support/generator.h"
#include "cross_layer_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sanitizers look for faults of memory, not of arithmetic, and are slow. Fewer steps are enough for them,
 * and groups of 32 tokens still fill. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEPS = 40 };
#else
enum { STEPS = 300 };
#endif
enum {
    LAYERS = 8,
    BASE = 2,      /* layers 0 and 1 have a plain cache */
    SEQUENCES = 2, /* two of different length, so that groups of tokens fill at different steps */
    D = 128,
    HEAD_DIM = 64,
    PAGE = 16
};
static const int prefill[SEQUENCES] = {37, 64};
enum { LONGEST = 64 + STEPS };

/* Choices of a case. */
struct stack {
    bool latent, by_channel, unfused, integer_zero, many;
    int bits, accumulator_bits;
};

struct layer {
    char spec[768];
    layer_shape shape;
    layer_weights weights;
    double *wk, *wv, *ukv; /* values as the kernels see them */
    model_layer_kind kind;
    uint16_t *x[SEQUENCES]; /* [LONGEST, D]: inputs for all tokens of the sequence */
};

struct engine {
    const struct stack *stack;
    xq_context *context;
    driver driver;
    struct layer layers[LAYERS];
    int64_t lengths[SEQUENCES];
    int heads;
    random_stream random;
};

#define MUST(call)                                                                                         \
    do {                                                                                                   \
        xq_status must_status = (call);                                                                    \
        xq_error_detail must_detail = XQ_ERROR_DETAIL_INIT;                                                \
        if (must_status != XQ_OK)                                                                          \
            xq_last_error(e->context, &must_detail);                                                       \
        cr_assert_eq(must_status, XQ_OK, "%s: %s", #call, must_detail.message);                            \
    } while (0)

/* ---------------------------------------------------------------- the model */

/* Layers before the base layer have a plain method at 4 bits. The base layer has 4 bits too. Later layers
 * have deltas. */
static void write_spec(const struct engine *e, int number, char *text, size_t size)
{
    const struct stack *s = e->stack;
    char cross[96] = "";
    if (number >= BASE)
        snprintf(cross, sizeof cross, ", \"base\": %s, \"accumulator_bits\": %d",
                 number == BASE ? "true" : "false", s->accumulator_bits);
    else if (!s->latent)
        snprintf(cross, sizeof cross, ", \"rotation\": false");
    snprintf(
        text, size,
        "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": 2, \"num_key_value_heads\": %d, "
        "\"head_dim\": %d, \"rope_theta\": 10000.0}, \"cache\": {\"method\": \"%s%s\", \"bits\": %d, "
        "\"group\": 32, \"axis_k\": \"%s\", \"zero_point\": \"%s\", \"page\": %d%s}, \"queries\": \"%s\"}",
        D, s->latent ? 1 : 2, HEAD_DIM, s->latent ? "latent" : "x", number < BASE ? "" : "-cl",
        number <= BASE ? 4 : s->bits, s->by_channel ? "channel" : "token",
        s->integer_zero ? "integer" : "float", PAGE, cross, s->many ? "many" : "one");
}

static float *random_matrix(random_stream *r, int rows, int cols)
{
    float *w = malloc(sizeof *w * (size_t)(rows * cols));
    cr_assert_not_null(w);
    for (int i = 0; i < rows * cols; i++)
        w[i] = half_round(random_normal(r) / sqrtf((float)rows));
    return w;
}

/* The activations drift from layer to layer, as a residual stream does; channel 5 is an outlier. */
static void draw_inputs(struct engine *e)
{
    for (int s = 0; s < SEQUENCES; s++) {
        float *x = malloc(sizeof *x * LONGEST * D);
        cr_assert_not_null(x);
        for (int i = 0; i < LONGEST * D; i++)
            x[i] = random_normal(&e->random) + (i % D == 5 ? 12.0f : 0);
        for (int l = 0; l < LAYERS; l++) {
            e->layers[l].x[s] = malloc(2 * LONGEST * D);
            cr_assert_not_null(e->layers[l].x[s]);
            for (int i = 0; i < LONGEST * D; i++)
                x[i] = 0.98f * x[i] + 0.2f * random_normal(&e->random);
            half_from_floats(e->layers[l].x[s], x, LONGEST * D);
        }
        free(x);
    }
}

static double *as_seen(const struct layer *l, const char *completed, const char *name, const float *w,
                       int rows)
{
    double *out = calloc((size_t)rows * (size_t)l->shape.kv_width, sizeof *out);
    error err = ERROR_INIT;
    cr_assert_not_null(out);
    cr_assert_eq(
        seen_matrix(completed, XQ_FUSED, name, w, (size_t)rows, (size_t)l->shape.kv_width, out, NULL, &err),
        XQ_OK, "%s", err.message);
    return out;
}

/* Describes how the host reads the layer's bytes, and the weights that the host computes with. */
static void describe(struct layer *l, const char *completed)
{
    model_layer_kind *k = &l->kind;
    bool latent = l->shape.method == LAYER_LATENT;
    error err = ERROR_INIT;
    k->cross = layer_is_cross(&l->shape);
    k->latent = latent || l->shape.method == LAYER_LATENT_CL;
    k->base = strstr(l->spec, "\"base\": true") != NULL;
    cr_assert_eq(page_codec_create(generator(), completed, &k->codec, &err), XQ_OK, "%s", err.message);
    if (k->cross)
        cr_assert_eq(page_codec_create_accumulator(generator(), completed, &k->accumulator, &err), XQ_OK);
    cr_assert_eq(reference_model_read(completed, &k->model, &err), XQ_OK, "%s", err.message);
    int rows = latent ? l->shape.rank_k : D, cached = k->codec->stream[0].width;
    l->wk = as_seen(l, completed, latent ? "ak" : "wk", latent ? l->weights.ak : l->weights.wk, rows);
    l->wv = as_seen(l, completed, latent ? "av" : "wv", latent ? l->weights.av : l->weights.wv, rows);
    k->layer = (reference_layer){
        .wk = l->wk, .wv = l->wv, .inner_k = rows, .inner_v = rows, .latents_k = 1, .latents_v = 1};
    if (l->shape.method == LAYER_LATENT_CL) {
        l->ukv = calloc((size_t)D * (size_t)cached, sizeof *l->ukv);
        cr_assert_not_null(l->ukv);
        for (int i = 0; i < D; i++)
            for (int j = 0; j < l->shape.rank_k; j++)
                l->ukv[i * cached + j] = half_round(l->weights.ukv[i * l->shape.rank_k + j]);
        k->uk = l->ukv;
    }
}

/* --------------------------------------------------------------- the engine */

static void open_layer(struct engine *e, int number)
{
    struct layer *l = &e->layers[number];
    error err = ERROR_INIT;
    write_spec(e, number, l->spec, sizeof l->spec);
    char *completed = generator_complete(l->spec);
    cr_assert_eq(layer_shape_read(completed, &l->shape, &err), XQ_OK, "%s", err.message);
    l->weights.wk = random_matrix(&e->random, D, l->shape.kv_width);
    l->weights.wv = random_matrix(&e->random, D, l->shape.kv_width);
    cr_assert_eq(layer_factor(&l->shape, &l->weights, NULL, &err), XQ_OK, "%s", err.message);
    describe(l, completed);
    free(completed);
    const xq_weights weights = layer_api_weights(&l->weights);
    MUST(driver_add_layer(&e->driver, l->spec, e->stack->unfused ? XQ_UNFUSED : XQ_FUSED, &weights));
}

enum { PAGES = (LONGEST + PAGE - 1) / PAGE };

static void engine_open(struct engine *e, const struct stack *stack)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    const driver_size size = {.max_batch = SEQUENCES,
                              .max_tokens = LONGEST,
                              .max_append = LONGEST,
                              .max_queries = stack->many ? LONGEST : 1,
                              .pool_pages = SEQUENCES * PAGES,
                              .tables = 1};
    *e = (struct engine){.stack = stack, .heads = 2, .random = random_begin(7, (uint64_t)stack->bits)};
    options.device = "sim";
    cr_assert_eq(xq_context_create(&options, &e->context), XQ_OK);
    MUST(driver_open(e->context, &size, 1, &e->driver));
    draw_inputs(e);
    for (int l = 0; l < LAYERS; l++)
        open_layer(e, l);
}

static void engine_close(struct engine *e)
{
    driver_close(&e->driver);
    for (int i = 0; i < LAYERS; i++) {
        struct layer *l = &e->layers[i];
        page_codec_destroy(l->kind.codec);
        page_codec_destroy(l->kind.accumulator);
        layer_weights_free(&l->weights);
        free(l->wk);
        free(l->wv);
        free(l->ukv);
        for (int s = 0; s < SEQUENCES; s++)
            free(l->x[s]);
    }
    xq_context_destroy(e->context);
}

/* New tokens of one call: counts[s] for sequence s, and the queries. */
struct call {
    int counts[SEQUENCES], tokens;
    int32_t indptr[SEQUENCES + 1];
    int32_t sequence[SEQUENCES * LONGEST], position[SEQUENCES * LONGEST];
    uint16_t x[SEQUENCES * LONGEST * D], q[SEQUENCES * LONGEST * 2 * HEAD_DIM];
    uint16_t out[SEQUENCES * LONGEST * 2 * HEAD_DIM];
    float lse[SEQUENCES * LONGEST * 2];
    int queries[SEQUENCES]; /* queries of each sequence: one for each new token, or one */
};

/* Sets the page table first: every layer of the call uses it, and it includes the new tokens. */
static void begin_call(struct engine *e, struct call *c, const int counts[SEQUENCES])
{
    const int64_t first[SEQUENCES] = {0, PAGES};
    c->tokens = 0;
    c->indptr[0] = 0;
    for (int s = 0; s < SEQUENCES; s++) {
        c->counts[s] = counts[s];
        c->queries[s] = e->stack->many ? counts[s] : 1;
        c->indptr[s + 1] = c->indptr[s] + c->queries[s];
        for (int i = 0; i < counts[s]; i++, c->tokens++) {
            c->sequence[c->tokens] = s;
            c->position[c->tokens] = (int32_t)e->lengths[s] + i;
        }
        e->lengths[s] += counts[s];
    }
    MUST(driver_set_table(&e->driver, 0, SEQUENCES, e->lengths, first));
}

/* Runs one layer of a call, as an engine does. Attention changes no state, so it is left out without
 * `attend`, to save time. */
static void run_layer(struct engine *e, struct call *c, int number, bool attend)
{
    struct layer *l = &e->layers[number];
    uint16_t *x = c->x;
    for (int s = 0; s < SEQUENCES; s++) {
        size_t count = (size_t)c->counts[s] * D;
        memcpy(x, l->x[s] + (size_t)(e->lengths[s] - c->counts[s]) * D, 2 * count);
        x += count;
    }
    MUST(driver_append(&e->driver, number, 0, c->tokens, c->x, c->sequence, c->position));
    if (number >= BASE)
        MUST(driver_accumulate(&e->driver, number, 0));
    if (!attend)
        return;
    for (int i = 0; i < c->indptr[SEQUENCES] * e->heads * HEAD_DIM; i++)
        c->q[i] = half_from_float(random_normal(&e->random));
    const driver_queries queries = {c->indptr[SEQUENCES], c->q, e->stack->many ? c->indptr : NULL, NULL};
    MUST(driver_set_queries(&e->driver, SEQUENCES, &queries));
    MUST(driver_attend(&e->driver, number, 0));
    MUST(driver_results(&e->driver, c->out, c->lse));
}

/* ----------------------------------------------------------------- checks */

static void read_accumulated(struct engine *e, int number, int s, page_sequence *out)
{
    MUST(driver_read_accumulated(&e->driver, number, s * PAGES, e->lengths[s], out));
}

/* The accumulator of a sequence before a layer, [length, D]; the caller frees it. */
static double *accumulated_before(struct engine *e, int number, int s)
{
    page_sequence before;
    double *x = malloc(sizeof *x * LONGEST * D);
    cr_assert_not_null(x);
    const model_layer_kind *kind = &e->layers[number].kind;
    if (kind->cross && !kind->base) {
        read_accumulated(e, number, s, &before);
        model_accumulated(kind, &before, x);
        driver_free_cache(&before);
    }
    return x;
}

static void check_sequence(struct engine *e, const struct call *c, int number, int s, const double *before)
{
    struct layer *l = &e->layers[number];
    page_sequence cache, after = {0};
    size_t row = (size_t)c->indptr[s] * (size_t)e->heads;
    MUST(driver_read_cache(&e->driver, number, 0, s, s * PAGES, e->lengths[s], &cache));
    if (number >= BASE) {
        read_accumulated(e, number, s, &after);
        model_check_append(&l->kind, &cache, before, l->x[s], (int)e->lengths[s] - c->counts[s]);
        model_check_accumulate(&l->kind, &cache, before, l->x[s], &after);
    }
    model_check_attend(&l->kind, number >= BASE ? &after : &cache, c->queries[s], c->q + row * HEAD_DIM,
                       c->out + row * HEAD_DIM, c->lse + row);
    driver_free_cache(&cache);
    driver_free_cache(&after);
}

/* Runs one call through all layers. With `check` it checks the cache, the accumulator and the output of
 * every layer. */
static void step(struct engine *e, struct call *c, const int counts[SEQUENCES], bool check)
{
    begin_call(e, c, counts);
    for (int l = 0; l < LAYERS; l++) {
        double *before[SEQUENCES] = {0};
        for (int s = 0; check && s < SEQUENCES; s++)
            before[s] = accumulated_before(e, l, s);
        run_layer(e, c, l, check);
        for (int s = 0; check && s < SEQUENCES; s++) {
            check_sequence(e, c, l, s, before[s]);
            free(before[s]);
        }
    }
}

/* Returns ‖x̂ - x‖ / ‖x‖ for the accumulator after the last layer. Because of error feedback, eight layers
 * lose no more than the quantization of the last delta and the rounding of the accumulator. */
static double accumulated_error(struct engine *e)
{
    double difference = 0, norm = 0, *x_hat = malloc(sizeof *x_hat * LONGEST * D);
    cr_assert_not_null(x_hat);
    for (int s = 0; s < SEQUENCES; s++) {
        page_sequence after;
        read_accumulated(e, LAYERS - 1, s, &after);
        model_accumulated(&e->layers[LAYERS - 1].kind, &after, x_hat);
        driver_free_cache(&after);
        for (int i = 0; i < (int)e->lengths[s] * D; i++) {
            double x = half_to_float(e->layers[LAYERS - 1].x[s][i]);
            difference += (x_hat[i] - x) * (x_hat[i] - x);
            norm += x * x;
        }
    }
    free(x_hat);
    return sqrt(difference / norm);
}

/* Whether a step is checked: every 61st step, the last, and those around the filling of every third group
 * of 32 tokens. */
static bool looked_at(const struct engine *e, int i)
{
    bool edge = false;
    for (int s = 0; s < SEQUENCES; s++)
        edge |= e->lengths[s] % 96 >= 94; /* the next token, or the one after it, fills a group */
    return edge || i % 61 == 0 || i == STEPS - 1;
}

static void drive(const struct stack *stack, double most_lost)
{
    const int first[SEQUENCES] = {20, 33}, second[SEQUENCES] = {prefill[0] - 20, prefill[1] - 33};
    const int one[SEQUENCES] = {1, 1};
    struct engine *e = malloc(sizeof *e);
    struct call *c = calloc(1, sizeof *c);
    cr_assert(e && c);
    engine_open(e, stack);
    step(e, c, first, true);
    step(e, c, second, true);
    for (int i = 0; i < STEPS; i++)
        step(e, c, one, looked_at(e, i));
    double lost = accumulated_error(e);
    cr_assert_lt(lost, most_lost, "the accumulator lost %g", lost);
    engine_close(e);
    free(c);
    free(e);
}

/* ------------------------------------------------------------------ cases */

Test(cross_layer, x_by_token_with_a_whole_accumulator)
{
    drive(&(struct stack){.bits = 3, .accumulator_bits = 16}, 0.05);
}

Test(cross_layer, x_by_channel_with_an_8_bit_accumulator)
{
    drive(&(struct stack){.bits = 2, .accumulator_bits = 8, .by_channel = true, .many = true}, 0.1);
}

Test(cross_layer, x_by_channel_unfused_with_a_4_bit_accumulator)
{
    drive(&(struct stack){.bits = 4, .accumulator_bits = 4, .by_channel = true, .unfused = true}, 0.2);
}

Test(cross_layer, x_by_token_with_integer_zero_points)
{
    drive(&(struct stack){.bits = 4, .accumulator_bits = 4, .integer_zero = true}, 0.2);
}

Test(cross_layer, latent_by_token_with_a_4_bit_accumulator)
{
    drive(&(struct stack){.latent = true, .bits = 4, .accumulator_bits = 4}, 0.3);
}

Test(cross_layer, latent_by_channel_with_a_whole_accumulator)
{
    drive(
        &(struct stack){
            .latent = true, .bits = 3, .accumulator_bits = 16, .by_channel = true, .many = true},
        0.2);
}

Test(cross_layer, latent_by_token_unfused_with_an_8_bit_accumulator)
{
    drive(&(struct stack){.latent = true, .bits = 2, .accumulator_bits = 8, .unfused = true}, 0.3);
}
