/* Where compare's layers come from: a model directory, an .xqw file, an activations file, or a seed. */
#include "../prepare/model.h"
#include "../prepare/xqw.h"
#include "../runtime/half.h"
#include "compare.h"
#include "synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_DISTINCT = 4 }; /* texts of a batch: each is checked against a reference */

struct compare_input {
    const struct compare_options *o;
    struct cli_shape shape;
    model *source;
    xqw *prepared;
    safetensors *activations;
    int64_t tokens; /* of each sequence */
    int batch;
};

/* ---------------------------------------------------------------- opening */

static int member(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valueint : 0;
}

/* The file's shape must be the spec's: its factors would not fit otherwise. */
static xq_status check_prepared(const struct compare_input *in, error *err)
{
    cJSON *spec = cJSON_Parse(xqw_spec(in->prepared));
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "method"));
    const struct cli_shape *s = &in->shape;
    const char *wanted = s->latent ? "latent" : "x", *path = in->o->prepared;
    const struct {
        const char *name;
        int found, needed;
    } sizes[] = {
        {"hidden_size", member(m, "hidden_size"), s->hidden_size},
        {"num_key_value_heads", member(m, "num_key_value_heads"), s->kv_heads},
        {"head_dim", member(m, "head_dim"), s->head_dim},
        {"rank_k", member(c, "rank_k"), s->rank_k},
        {"rank_v", member(c, "rank_v"), s->rank_v},
    };
    if (!method || strcmp(method, wanted) != 0)
        error_set(err, XQ_ERROR_FORMAT, "file",
                  "%s: prepared for method %s, not %s; run `xq prepare` for it", path,
                  method ? method : "(none)", wanted);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].found != sizes[i].needed)
            error_set(err, XQ_ERROR_FORMAT, "file",
                      "%s: prepared for %s %d, not %d; run `xq prepare` for it", path, sizes[i].name,
                      sizes[i].found, sizes[i].needed);
    cJSON_Delete(spec);
    return err->status;
}

/* --layers, or else every layer that the activations file has; synthetic: layer 0. */
static xq_status choose_layers(const struct compare_input *in, int **layers, int *count, error *err)
{
    const struct compare_options *o = in->o;
    int most = in->source ? in->source->layers : 1000;
    if (o->layers.count || !in->activations)
        return cli_layers(&o->layers, o->layers.count ? most : 1, layers, count, err);
    struct cli_list found = {0};
    char name[32], item[16];
    for (int l = 0; l < most && found.count < 32; l++) {
        snprintf(name, sizeof name, "x.%d", l);
        snprintf(item, sizeof item, "%d", l);
        if (safetensors_find(in->activations, name))
            found.items[found.count++] = strdup(item);
    }
    if (found.count == 0)
        error_set(err, XQ_ERROR_FORMAT, "file", "%s: no tensor x.L of any layer L", o->activations);
    else
        cli_layers(&found, most, layers, count, err);
    cli_list_free(&found);
    return err->status;
}

/* --tokens, or else all that the file has. */
static xq_status choose_tokens(struct compare_input *in, int layer, error *err)
{
    const struct compare_options *o = in->o;
    int64_t most = 1 << 24;
    if (in->activations) {
        char name[32];
        const tensor *x;
        const int64_t shape[2] = {-1, in->shape.hidden_size};
        snprintf(name, sizeof name, "x.%d", layer);
        if (safetensors_need(in->activations, name, &x, err) != XQ_OK ||
            tensor_expect_shape(x, 2, shape, err) != XQ_OK)
            return err->status;
        most = x->shape[0];
    }
    in->tokens = o->tokens != COMPARE_ALL_TOKENS ? o->tokens : in->activations ? most : 1024;
    if (in->tokens < 1 || in->tokens > most)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "--tokens: %lld; valid are 1 .. %lld%s%s",
                         (long long)in->tokens, (long long)most, o->activations ? ", as many as in " : "",
                         o->activations ? o->activations : "");
    return XQ_OK;
}

static xq_status open_all(struct compare_input *in, gen *g, int **layers, int *count, error *err)
{
    const struct compare_options *o = in->o;
    struct stat st;
    if (!o->activations && !o->synthetic)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "nothing to attend over: give --activations FILE, or --synthetic");
    if (o->spec.model && stat(o->spec.model, &st) == 0 && S_ISDIR(st.st_mode) &&
        model_open(g, o->spec.model, &in->source, err) != XQ_OK)
        return err->status;
    if (o->prepared &&
        (xqw_open(o->prepared, &in->prepared, err) != XQ_OK || check_prepared(in, err) != XQ_OK))
        return err->status;
    if (o->activations && safetensors_open(o->activations, &in->activations, err) != XQ_OK)
        return err->status;
    if (choose_layers(in, layers, count, err) != XQ_OK)
        return err->status;
    return choose_tokens(in, (*layers)[0], err);
}

xq_status compare_input_open(const struct compare_options *o, gen *g, const struct cli_shape *shape,
                             struct compare_input **input, int **layers, int *layer_count, int64_t *tokens,
                             error *err)
{
    struct compare_input *in = calloc(1, sizeof *in);
    *layers = NULL;
    if (!in)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    in->o = o;
    in->shape = *shape;
    in->batch = (int)o->batch;
    if (open_all(in, g, layers, layer_count, err) == XQ_OK) {
        *input = in;
        *tokens = in->tokens;
    } else {
        compare_input_close(in);
        free(*layers);
        *layers = NULL;
    }
    return err->status;
}

void compare_input_close(struct compare_input *in)
{
    if (!in)
        return;
    model_close(in->source);
    xqw_close(in->prepared);
    safetensors_close(in->activations);
    free(in);
}

/* ---------------------------------------------------------------- weights */

static xq_status recorded(const struct compare_input *in, const char *name, int layer, int rank,
                          const int64_t *shape, float **values, const tensor **found, error *err)
{
    char full[32];
    snprintf(full, sizeof full, "%s.%d", name, layer);
    if (safetensors_need(in->activations, full, found, err) != XQ_OK ||
        tensor_expect_shape(*found, rank, shape, err) != XQ_OK)
        return err->status;
    return tensor_to_floats(*found, 1, values, err);
}

static xq_status synthetic_weights(const struct compare_input *in, int layer, struct cli_weights *w,
                                   error *err)
{
    const struct cli_shape *s = &in->shape;
    size_t count = (size_t)s->hidden_size * (size_t)s->kv_width;
    uint64_t seed = (uint64_t)in->o->common.seed;
    w->wk = malloc(sizeof *w->wk * count);
    w->wv = malloc(sizeof *w->wv * count);
    if (!w->wk || !w->wv)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for synthetic weights");
    if (synthetic_projection(seed, 2 * layer, s->hidden_size, s->kv_width, w->wk, err) == XQ_OK)
        synthetic_projection(seed, 2 * layer + 1, s->hidden_size, s->kv_width, w->wv, err);
    return err->status;
}

static xq_status load_weights(const struct compare_input *in, int layer, struct cli_weights *w, error *err)
{
    const struct cli_shape *s = &in->shape;
    const int64_t shape[2] = {s->hidden_size, s->kv_width};
    const tensor *t;
    if (in->source) {
        model_layer(in->source, layer, &w->wk, &w->wv, err);
    } else if (in->activations) {
        if (recorded(in, "wk", layer, 2, shape, &w->wk, &t, err) == XQ_OK)
            recorded(in, "wv", layer, 2, shape, &w->wv, &t, err);
    } else {
        synthetic_weights(in, layer, w, err);
    }
    if (err->status == XQ_OK && in->prepared && s->latent &&
        xqw_matrix(in->prepared, layer, "uk", s->hidden_size, s->rank_k, &w->uk, err) == XQ_OK &&
        xqw_matrix(in->prepared, layer, "ak", s->rank_k, s->kv_width, &w->ak, err) == XQ_OK &&
        xqw_matrix(in->prepared, layer, "uv", s->hidden_size, s->rank_v, &w->uv, err) == XQ_OK)
        xqw_matrix(in->prepared, layer, "av", s->rank_v, s->kv_width, &w->av, err);
    return err->status == XQ_OK ? cli_weights_factor(s, w, err) : err->status;
}

/* ------------------------------------------------------------ activations */

/* Sequences of a file start at different tokens of its text, as far as it reaches. */
static xq_status recorded_sequences(const struct compare_input *in, struct compare_layer *layer, error *err)
{
    const struct cli_shape *s = &in->shape;
    const int64_t x_shape[2] = {-1, s->hidden_size}, q_shape[3] = {-1, s->heads, s->head_dim};
    size_t d = (size_t)s->hidden_size, row = (size_t)s->heads * (size_t)s->head_dim;
    float *x = NULL, *q = NULL;
    const tensor *tx, *tq;
    if (recorded(in, "x", layer->number, 2, x_shape, &x, &tx, err) == XQ_OK &&
        recorded(in, "q", layer->number, 3, q_shape, &q, &tq, err) == XQ_OK &&
        (tx->shape[0] != tq->shape[0] || tx->shape[0] < layer->tokens))
        error_set(err, XQ_ERROR_FORMAT, "file",
                  "%s: tensors %s and %s have %lld and %lld tokens, need %lld each", in->o->activations,
                  tx->name, tq->name, (long long)tx->shape[0], (long long)tq->shape[0],
                  (long long)layer->tokens);
    for (int b = 0; b < layer->distinct && err->status == XQ_OK; b++) {
        int64_t start = (int64_t)b * 97 % (tx->shape[0] - layer->tokens + 1);
        memcpy(layer->x + (size_t)b * (size_t)layer->tokens * d, x + (size_t)start * d,
               sizeof *x * (size_t)layer->tokens * d);
        memcpy(layer->q + (size_t)b * row, q + (size_t)(start + layer->tokens - 1) * row, sizeof *q * row);
    }
    free(x);
    free(q);
    return err->status;
}

/* The root mean square of K, from the first tokens; 0 without memory. */
static double key_size(const struct cli_shape *s, const struct compare_layer *layer)
{
    int64_t rows = layer->tokens < 16 ? layer->tokens : 16;
    size_t cols = (size_t)s->kv_width;
    double sum = 0, *key = malloc(sizeof *key * cols);
    for (int64_t t = 0; key && t < rows; t++) {
        memset(key, 0, sizeof *key * cols);
        for (int c = 0; c < s->hidden_size; c++)
            for (size_t j = 0; j < cols; j++)
                key[j] +=
                    (double)layer->x[t * s->hidden_size + c] * layer->weights.wk[(size_t)c * cols + j];
        for (size_t j = 0; j < cols; j++)
            sum += key[j] * key[j];
    }
    free(key);
    return sqrt(sum / ((double)rows * (double)cols));
}

static void synthetic_sequences(const struct compare_input *in, struct compare_layer *layer)
{
    const struct cli_shape *s = &in->shape;
    uint64_t seed = (uint64_t)in->o->common.seed + 1000003u * (uint64_t)layer->number;
    size_t row = (size_t)s->heads * (size_t)s->head_dim;
    for (int b = 0; b < layer->distinct; b++)
        synthetic_activations(seed, b, layer->tokens, s->hidden_size,
                              layer->x + (size_t)b * (size_t)layer->tokens * (size_t)s->hidden_size);
    double size = key_size(s, layer);
    for (int b = 0; b < layer->distinct; b++)
        synthetic_queries(seed, b, (int)row, size > 0 ? 2 / size : 1, layer->q + (size_t)b * row);
}

static xq_status round_to_f16(const struct compare_input *in, const char *what, const float *values,
                              size_t count, uint16_t *out, error *err)
{
    half_from_floats(out, values, count);
    for (size_t i = 0; i < count; i++)
        if ((out[i] & 0x7c00) == 0x7c00)
            return error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s holds %g; f16 holds up to 65504",
                             in->o->activations ? in->o->activations : "synthetic input", what,
                             (double)values[i]);
    return XQ_OK;
}

xq_status compare_input_layer(struct compare_input *in, int number, struct compare_layer *out, error *err)
{
    const struct cli_shape *s = &in->shape;
    struct compare_layer layer = {.number = number, .batch = in->batch, .tokens = in->tokens};
    layer.distinct = in->batch < MOST_DISTINCT ? in->batch : MOST_DISTINCT;
    size_t rows = (size_t)layer.distinct * (size_t)in->tokens, x_count = rows * (size_t)s->hidden_size;
    size_t q_count = (size_t)layer.distinct * (size_t)s->heads * (size_t)s->head_dim;
    layer.x = malloc(sizeof *layer.x * x_count);
    layer.q = malloc(sizeof *layer.q * q_count);
    layer.x16 = malloc(sizeof *layer.x16 * x_count);
    layer.q16 = malloc(sizeof *layer.q16 * q_count);
    if (!layer.x || !layer.q || !layer.x16 || !layer.q16)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for %zu tokens", rows);
    else if (load_weights(in, number, &layer.weights, err) == XQ_OK) {
        if (in->activations && !in->o->synthetic)
            recorded_sequences(in, &layer, err);
        else
            synthetic_sequences(in, &layer);
    }
    if (err->status == XQ_OK && round_to_f16(in, "x", layer.x, x_count, layer.x16, err) == XQ_OK)
        round_to_f16(in, "q", layer.q, q_count, layer.q16, err);
    if (err->status == XQ_OK)
        *out = layer;
    else
        compare_layer_free(&layer);
    return err->status;
}

void compare_layer_free(struct compare_layer *layer)
{
    cli_weights_free(&layer->weights);
    free(layer->x);
    free(layer->q);
    free(layer->x16);
    free(layer->q16);
    *layer = (struct compare_layer){0};
}
