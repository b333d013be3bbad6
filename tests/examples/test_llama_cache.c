/* examples/llama: the cache whose arithmetic runs on the host, compared with the same cache with kernels on
 * the software device. Both get the same rows. What they store must be equal bit for bit, and the results
 * of attention must be equal except for rounding. */
#include "../../examples/llama/cache_device.h"
#include "../../examples/llama/cache_host.h"
#include "../../runtime/base/random.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 128, DKV = 128, LAYERS = 5, FIRST = 3, TOKENS = 110 };

static const int pieces[] = {45, 1, 1, 30, 33};

static const char llama[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 128, \"intermediate_size\": 64, "
    "\"num_hidden_layers\": 5, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 64, "
    "\"vocab_size\": 16, \"rope_theta\": 10000.0, \"rms_norm_eps\": 1e-5}";
static const char gemma[] =
    "{\"model_type\": \"gemma3_text\", \"hidden_size\": 128, \"intermediate_size\": 64, "
    "\"num_hidden_layers\": 5, \"num_attention_heads\": 4, \"num_key_value_heads\": 1, \"head_dim\": 128, "
    "\"vocab_size\": 16, \"rope_theta\": 1000000.0, \"rope_local_base_freq\": 10000.0, "
    "\"rms_norm_eps\": 1e-6, \"query_pre_attn_scalar\": 128, \"sliding_window\": 40, "
    "\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\", "
    "\"sliding_attention\", \"full_attention\"]}";

/* ---------------------------------------------------------------- weights
 * A column of the factors of latents has four entries of one half, so that sums are exact in any order.
 * Then both sides quantize the same values. */
struct sources {
    xq_weights weights; /* weights of all kinds of layers */
    xq_weights layer;   /* those of the layer that was asked for */
    const formats *formats;
    float *matrix[8];
};

const xq_weights *sources_layer(sources *s, int layer)
{
    const format *f = &s->formats->layer[layer];
    xq_weights *w = &s->layer;
    *w = s->weights;
    if (f->method == CACHE_LATENT || f->rotated)
        w->wk = w->wv = NULL;
    else
        w->uk = w->ak = w->av = NULL;
    if (f->method != CACHE_LATENT)
        w->uv = NULL;
    if (f->method != CACHE_LATENT_CL)
        w->ukv = NULL;
    return w;
}

const void *sources_packed(sources *s, xq_plan *plan, int layer)
{
    (void)s;
    (void)plan;
    (void)layer;
    return NULL;
}

static float *random_matrix(int rows, int cols, uint64_t seed)
{
    random_stream r = random_begin(seed, 2);
    float *w = calloc((size_t)(rows * cols), sizeof *w);
    for (int i = 0; i < rows * cols; i++)
        w[i] = random_normal(&r) / sqrtf((float)rows);
    return w;
}

static float *factor(int cols)
{
    static const int sign[4][4] = {{1, 1, 1, 1}, {1, -1, 1, -1}, {1, 1, -1, -1}, {1, -1, -1, 1}};
    float *u = calloc((size_t)(D * cols), sizeof *u);
    for (int j = 0; j < cols; j++)
        for (int i = 0; i < 4; i++)
            u[(j % D / 4 * 4 + i) * cols + j] = 0.5f * (float)sign[i][j % 4];
    return u;
}

/* The ranks are those of the formats. A layer before the base layer shares the matrices that it needs. */
static sources make_sources(const config *c, const formats *f)
{
    int rank[2] = {D, D}, joint = D, groups[2] = {1, 1};
    for (int l = 0; l < LAYERS; l++) {
        const format *layer = &f->layer[l];
        if (layer->method == CACHE_LATENT) {
            rank[0] = layer->stream[0].width;
            rank[1] = layer->stream[1].width;
            groups[0] = layer->stream[0].quantizer.latents;
            groups[1] = layer->stream[1].quantizer.latents;
        }
        if (layer->method == CACHE_LATENT_CL)
            joint = layer->stream[0].width;
    }
    sources s = {.weights = XQ_WEIGHTS_INIT, .formats = f};
    s.weights.wk = s.matrix[0] = random_matrix(D, DKV, 1);
    s.weights.wv = s.matrix[1] = random_matrix(D, DKV, 2);
    s.weights.uk = s.matrix[2] = factor(rank[0]);
    s.weights.uv = s.matrix[3] = factor(rank[1]);
    s.weights.ak = s.matrix[4] = random_matrix(rank[0] / groups[0], DKV, 3);
    s.weights.av = s.matrix[5] = random_matrix(rank[1] / groups[1], DKV, 4);
    s.weights.ukv = s.matrix[6] = factor(joint);
    if (c->gemma) {
        s.weights.k_norm = s.matrix[7] = random_matrix(c->head_dim, 1, 5);
        for (int i = 0; i < c->head_dim; i++)
            s.matrix[7][i] = 1 + s.matrix[7][i];
    }
    return s;
}

/* ----------------------------------------------------------------- inputs */

/* Makes rows of a layer: f16 numbers of few bits, which change little from layer to layer. */
static void make_rows(float *x, int layer)
{
    for (int l = 0; l <= layer; l++) {
        random_stream r = random_begin((uint64_t)l, 7);
        for (int i = 0; i < TOKENS * D; i++) {
            float outlier = i % D == 5 ? 8 : 1;
            float change = rintf(random_normal(&r) * (l == 0 ? 64 : 8) * outlier) / 64;
            x[i] = l == 0 ? change : x[i] + change;
        }
    }
}

static double relative_error(const float *got, const float *expected, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)got[i] - (double)expected[i], 2);
        norm += pow((double)expected[i], 2);
    }
    return sqrt(difference / norm);
}

/* ----------------------------------------------------------------- compare */

typedef struct pair {
    cache *host, *device;
    const formats *formats;
    const config *config;
    int length;
} pair;

static void compare_rows(const pair *p, int layer, const char *what)
{
    static float rows[2][TOKENS * 2 * D];
    for (int stream = 0; stream < 2; stream++) {
        int width = p->host->read(p->host, layer, stream, rows[0]);
        cr_assert_eq(p->device->read(p->device, layer, stream, rows[1]), width);
        for (int i = 0; i < p->length * width; i++)
            cr_assert_eq(rows[0][i], rows[1][i],
                         "%s: layer %d, stream %d, token %d, channel %d: host %a, device %a", what, layer,
                         stream, i / width, i % width, (double)rows[0][i], (double)rows[1][i]);
    }
}

/* Appends a piece to a layer of both caches, attends in both, and compares the results. */
static void step(const pair *p, int layer, const float *x, int count, double bound, const char *what)
{
    static float q[TOKENS * 4 * D], out[2][TOKENS * 4 * D];
    const int width = p->config->heads * p->config->head_dim;
    random_stream r = random_begin((uint64_t)(layer * 1000 + p->length), 8);
    for (int i = 0; i < count * width; i++)
        q[i] = (float)random_between(&r, -512, 512) / 256;
    cache *both[] = {p->host, p->device};
    for (int i = 0; i < 2; i++) {
        both[i]->append(both[i], layer, x + p->length * D, count);
        both[i]->attend(both[i], layer, q, count, out[i]);
    }
    double error = relative_error(out[1], out[0], (size_t)(count * width));
    cr_assert(error <= bound, "%s: layer %d, %d tokens after %d: relative error %g", what, layer, count,
              p->length, error);
}

/* Compares both caches. `options` holds members of the spec's cache. */
static void compare(const char *text, method m, const char *options, const char *type, double bound)
{
    static float x[LAYERS][TOKENS * D];
    const char *folder = files_directory();
    char what[256];
    config c;
    xq_context *context = NULL;
    xq_context_options settings = XQ_CONTEXT_OPTIONS_INIT;
    snprintf(what, sizeof what, "%s %s %s", method_name(m), options, type ? type : "default");
    files_write(files_path(folder, "config.json"), text, strlen(text));
    config_read(folder, &c);
    settings.device = "sim";
    cr_assert_eq(xq_context_create(&settings, &context), XQ_OK);
    choice wanted = {.method = m, .bits = 3, .first_layers = FIRST, .first_bits = 4, .weights = type};
    wanted.cache = cJSON_Parse(options);
    cr_assert_not_null(wanted.cache);
    formats *f = formats_make(&c, &wanted, context, NULL, TOKENS);
    sources s = make_sources(&c, f);
    pair p = {cache_host_open(&c, f, &s, TOKENS), cache_device_open(context, &c, f, &s, TOKENS, 45), f, &c,
              0};
    for (int l = 0; l < LAYERS; l++)
        make_rows(x[l], l);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0] && p.length + pieces[i] <= TOKENS; i++) {
        for (int l = 0; l < LAYERS; l++)
            step(&p, l, x[l], pieces[i], bound, what);
        p.host->advance(p.host, pieces[i]);
        p.device->advance(p.device, pieces[i]);
        p.length += pieces[i];
        for (int l = 0; l < LAYERS; l++)
            if (m >= CACHE_X &&
                (!f->layer[l].cross || l == LAYERS - 1)) /* an accumulator belongs to the last layer */
                compare_rows(&p, l, what);
    }
    p.host->close(p.host);
    p.device->close(p.device);
    for (size_t i = 0; i < 8; i++)
        free(s.matrix[i]);
    formats_free(f);
    cJSON_Delete(wanted.cache);
    config_free(&c);
    xq_context_destroy(context);
}

#define BOUND 2e-3

Test(llama_cache, fp16_on_the_host_is_fp16_on_a_device)
{
    compare(llama, CACHE_FP16, "{}", "f16", BOUND);
    compare(gemma, CACHE_FP16, "{}", "f16", BOUND);
    compare(llama, CACHE_FP16, "{}", "int8", BOUND); /* 8-bit weights are for other caches */
}

Test(llama_cache, x_on_the_host_is_x_on_a_device)
{
    compare(llama, CACHE_X, "{\"group\": 64}", "f16", BOUND);
    compare(llama, CACHE_X, "{\"group\": 32, \"axis_k\": \"channel\", \"zero_point\": \"integer\"}", "f16",
            BOUND);
    compare(gemma, CACHE_X, "{\"group\": 32, \"axis_k\": \"channel\", \"clip\": 0.9}", "f16", BOUND);
}

Test(llama_cache, rotated_x_on_the_host_is_rotated_x_on_a_device)
{
    compare(llama, CACHE_X, "{\"rotation\": true, \"group\": 64}", "f16", BOUND);
    compare(llama, CACHE_X, "{\"rotation\": true, \"group\": 32, \"axis_k\": \"channel\"}", "int8", BOUND);
    compare(llama, CACHE_X, "{\"group\": 64, \"feedback\": true}", "f16", BOUND);
    compare(gemma, CACHE_X, "{\"rotation\": true, \"group\": \"row\", \"zero_point\": \"integer\"}", "f16",
            BOUND);
}

Test(llama_cache, latents_on_the_host_are_latents_on_a_device)
{
    compare(llama, CACHE_LATENT, "{\"group\": 64, \"axis_k\": \"channel\"}", "f16", BOUND);
    compare(llama, CACHE_LATENT, "{\"group\": 128, \"groups\": 2, \"rank_k\": 100, \"feedback\": true}",
            "f16", BOUND);
    compare(llama, CACHE_LATENT, "{\"group\": \"row\", \"groups\": 2, \"rank_k\": 96, \"rank_v\": 100}",
            "f16", BOUND);
    compare(gemma, CACHE_LATENT, "{\"group\": 32, \"axis_k\": \"channel\", \"axis_v\": \"channel\"}", "f16",
            BOUND);
}

Test(llama_cache, deltas_on_the_host_are_deltas_on_a_device)
{
    compare(llama, CACHE_X_CL, "{\"group\": 64}", "f16", BOUND);
    compare(llama, CACHE_X_CL,
            "{\"group\": 32, \"axis_k\": \"channel\", \"accumulator_bits\": 4, \"clip\": 0.8}", "f16",
            BOUND);
    compare(gemma, CACHE_X_CL, "{\"group\": 32, \"accumulator_bits\": 8, \"zero_point\": \"integer\"}",
            "f16", BOUND);
}

Test(llama_cache, deltas_of_latents_on_the_host_are_those_on_a_device)
{
    compare(llama, CACHE_LATENT_CL, "{\"group\": 64, \"rank_k\": 96}", "f16", BOUND);
    compare(llama, CACHE_LATENT_CL, "{\"group\": 32, \"axis_k\": \"channel\", \"accumulator_bits\": 8}",
            "f16", BOUND);
    compare(gemma, CACHE_LATENT_CL, "{\"group\": \"row\", \"accumulator_bits\": 4}", "f16", BOUND);
}

Test(llama_cache, eight_bit_weights_are_those_of_the_kernels)
{
    compare(llama, CACHE_X, "{\"group\": 64, \"rotation\": false}", "int8", BOUND);
    compare(llama, CACHE_LATENT, "{\"group\": 64}", "e4m3", BOUND);
    compare(llama, CACHE_LATENT, "{\"group\": 64}", "int8", BOUND);
    compare(llama, CACHE_X, "{\"group\": 64, \"rotation\": false}", "bf16", 1e-2);
}

/* int8 for the latents, and f16 for the layers before the base of a cross-layer cache, as for those after
 * it. */
Test(llama_cache, weights_have_the_type_that_specs_have_by_default)
{
    compare(llama, CACHE_LATENT, "{}", NULL, BOUND);
    compare(gemma, CACHE_LATENT, "{}", NULL, BOUND);
    compare(llama, CACHE_LATENT_CL, "{\"group\": 64}", NULL, BOUND);
    compare(llama, CACHE_X, "{\"group\": 64}", NULL, BOUND);
    compare(llama, CACHE_FP16, "{}", NULL, BOUND);
}
