/* The sources of compare's layers: a model directory, prepared weights, an activations file, or a seed. */
#include "../prepare/layer_factor.h"
#include "../prepare/model.h"
#include "../prepare/prepared_file.h"
#include "compare.h"
#include "given.h"
#include "synthetic.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct compare_input {
    const struct compare_options *o;
    layer_shape shape;
    model *source;
    prepared_file *prepared;
    safetensors *activations;
    int model_layers;
    int64_t tokens, most_tokens; /* tokens of each sequence; tokens that the input has */
    int batch;
};

/* ---------------------------------------------------------------- opening */

/* Chooses the layers of --layers, or else every layer of the activations file, or layer 0 of synthetic
 * input. */
static xq_status choose_layers(const struct compare_input *in, int **layers, int *count, error *err)
{
    const struct compare_options *o = in->o;
    int most = in->model_layers, first = 0;
    bool cross = layer_is_cross(&in->shape);
    const bool chosen =
        o->layers.count || in->activations; /* if not, the layer after the base is compared */
    const int bases = chosen ? most : most - 1;
    if (cross && cli_check_base(o->base_layer, bases, err) != XQ_OK)
        return err->status;
    if (o->layers.count || !in->activations) {
        if (cli_layers(&o->layers, o->layers.count ? most : 1, layers, count, err) == XQ_OK &&
            !o->layers.count && cross)
            (*layers)[0] = (int)o->base_layer + 1;
        return err->status;
    }
    if (cli_layers_in_file(in->activations, layers, count, err) != XQ_OK)
        return err->status;
    while (cross && first < *count && (*layers)[first] < o->base_layer)
        first++;
    *count -= first;
    memmove(*layers, *layers + first, sizeof **layers * (size_t)*count);
    if (*count == 0)
        error_set(err, XQ_ERROR_FORMAT, "file", "%s: there is no tensor x.L of any layer L to compare",
                  o->activations);
    else if ((*layers)[*count - 1] >= most)
        error_set(err, XQ_ERROR_FORMAT, "file",
                  "%s: tensor x.%d belongs to no layer of the model; valid: layers 0 to %d", o->activations,
                  (*layers)[*count - 1], most - 1);
    return err->status;
}

xq_status compare_input_resize(struct compare_input *in, int64_t tokens, int batch, error *err)
{
    const struct compare_options *o = in->o;
    in->tokens = tokens;
    in->batch = batch;
    if (tokens < 1 || tokens > in->most_tokens)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "--tokens: %lld; valid: 1 to %lld%s%s",
                         (long long)tokens, (long long)in->most_tokens,
                         o->activations ? ", as many as in " : "", o->activations ? o->activations : "");
    if (o->queries > tokens)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "--queries: %lld; valid: 1 to %lld, the number of tokens", (long long)o->queries,
                         (long long)tokens);
    return XQ_OK;
}

/* Uses --tokens, or else all tokens of the file. */
static xq_status choose_size(struct compare_input *in, int layer, error *err)
{
    const struct compare_options *o = in->o;
    in->most_tokens = 1 << 24;
    if (in->activations) {
        char name[32];
        const tensor *x;
        const int64_t shape[2] = {-1, in->shape.hidden_size};
        snprintf(name, sizeof name, "x.%d", layer);
        if (safetensors_need(in->activations, name, &x, err) != XQ_OK ||
            tensor_expect_shape(x, 2, shape, err) != XQ_OK)
            return err->status;
        in->most_tokens = x->shape[0];
    }
    const int64_t all = in->activations ? in->most_tokens : 1024;
    return compare_input_resize(in, o->tokens != COMPARE_ALL_TOKENS ? o->tokens : all, (int)o->batch, err);
}

/* Every layer of a file must have as many tokens as are compared, which are those of the first layer. */
static xq_status expect_tokens(const struct compare_input *in, int layer, error *err)
{
    char x_name[32], q_name[32];
    const tensor *x, *q;
    snprintf(x_name, sizeof x_name, "x.%d", layer);
    snprintf(q_name, sizeof q_name, "q.%d", layer);
    if (safetensors_need(in->activations, x_name, &x, err) != XQ_OK ||
        safetensors_need(in->activations, q_name, &q, err) != XQ_OK)
        return err->status;
    if (x->shape[0] != q->shape[0] || x->shape[0] < in->tokens)
        error_set(
            err, XQ_ERROR_FORMAT, "file",
            "%s: tensors %s and %s have %lld and %lld tokens; valid: at least %lld, and as many in both",
            in->o->activations, x->name, q->name, (long long)x->shape[0], (long long)q->shape[0],
            (long long)in->tokens);
    return err->status;
}

/* Files that record a model also hold its weights. They must be equal to those of the model directory,
 * which are the ones that are used. */
static xq_status expect_same(const struct compare_input *in, const layer_part *part, const tensor *t,
                             const float *taken, error *err)
{
    const int64_t shape[2] = {part->rows, part->cols};
    const bool vector = part->rows == 1;
    const size_t count = (size_t)part->rows * (size_t)part->cols;
    float *values = NULL;
    if (tensor_expect_shape(t, vector ? 1 : 2, shape + vector, err) != XQ_OK ||
        tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    size_t same = 0;
    while (same < count && values[same] == taken[same])
        same++;
    free(values);
    if (same == count)
        return XQ_OK;
    error_set(err, XQ_ERROR_FORMAT, "file",
              "%s: tensor %s differs from the weights of the model directory --model %s, which would be "
              "used; to use the file's weights, give the directory's config.json as --model",
              t->file, t->name, in->o->spec.model);
    return error_field(err, t->name);
}

static xq_status expect_same_weights(const struct compare_input *in, int layer, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    layer_weights w = {0};
    bool loaded = false;
    for (int i = 0, count = layer_given(&in->shape, parts); i < count && err->status == XQ_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.%d", parts[i].name, layer);
        const tensor *t = safetensors_find(in->activations, name);
        if (t && (loaded || model_layer(in->source, layer, &w, err) == XQ_OK)) {
            loaded = true;
            expect_same(in, &parts[i], t, *layer_member(&w, &parts[i]), err);
        }
    }
    layer_weights_free(&w);
    return err->status;
}

/* Checks the activations of a layer. For a cross-layer method it checks those of all layers from the base
 * on, because these are filled first. */
static xq_status check_activations(const struct compare_input *in, int layer, error *err)
{
    int first = layer_is_cross(&in->shape) ? (int)in->o->base_layer : layer;
    for (int i = first; i <= layer && err->status == XQ_OK; i++) {
        char suffix[16];
        snprintf(suffix, sizeof suffix, ".%d", i);
        if (cli_refuse_unread(in->activations, &in->shape, suffix, NULL, NULL, err) == XQ_OK &&
            expect_tokens(in, i, err) == XQ_OK && in->source)
            expect_same_weights(in, i, err);
    }
    return err->status;
}

static xq_status open_all(struct compare_input *in, gen *g, int **layers, int *count, error *err)
{
    const struct compare_options *o = in->o;
    struct stat st;
    if (o->spec.model && stat(o->spec.model, &st) == 0 && S_ISDIR(st.st_mode) &&
        model_open(g, o->spec.model, &in->source, err) != XQ_OK)
        return err->status;
    if (in->source && model_expect(in->source, &in->shape, err) != XQ_OK)
        return err->status;
    if (o->prepared && o->synthetic && !in->source)
        return cli_misuse(err, "--prepared: the factors belong to a model's projections, not to synthetic "
                               "ones; give --model DIR, the model that was prepared");
    if (o->prepared && prepared_file_open(o->prepared, &in->prepared, err) != XQ_OK)
        return err->status;
    if (o->activations && safetensors_open(o->activations, &in->activations, err) != XQ_OK)
        return err->status;
    if (o->base_given && !layer_is_cross(&in->shape))
        return cli_refuse_base(&in->shape, err);
    if (o->prepared && !cli_has_factors(&in->shape))
        return cli_refuse_prepared(&in->shape, err);
    if (choose_layers(in, layers, count, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < *count && layer_is_cross(&in->shape); i++)
        if ((*layers)[i] < o->base_layer)
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "--layers: layer %d comes before the base layer (--base-layer %lld), and "
                             "method %s begins at the base layer",
                             (*layers)[i], (long long)o->base_layer, layer_method_name(in->shape.method));
    for (int i = 0; i < *count && in->prepared; i++)
        if (prepared_file_expect(in->prepared, (*layers)[i], &in->shape, err) != XQ_OK)
            return err->status;
    if (choose_size(in, (*layers)[0], err) != XQ_OK)
        return err->status;
    for (int i = 0; i < *count && in->activations; i++)
        if (check_activations(in, (*layers)[i], err) != XQ_OK)
            return err->status;
    return XQ_OK;
}

xq_status compare_input_open(const struct compare_options *o, gen *g, const struct cli_traits *traits,
                             struct compare_input **input, int **layers, int *layer_count, int64_t *tokens,
                             error *err)
{
    struct compare_input *in = calloc(1, sizeof *in);
    *layers = NULL;
    if (!in)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    in->o = o;
    in->shape = traits->shape;
    in->model_layers = traits->layers;
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
    prepared_file_close(in->prepared);
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

/* Draws a vector of the model from a normal distribution. */
static xq_status draw_vector(uint64_t seed, int which, int count, double mean, double deviation, float **v,
                             error *err)
{
    *v = malloc(sizeof **v * (size_t)count);
    if (!*v)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for synthetic weights");
    synthetic_vector(seed, which, count, mean, deviation, *v);
    return XQ_OK;
}

static xq_status synthetic_weights(const struct compare_input *in, int layer, const layer_shape *s,
                                   layer_weights *w, error *err)
{
    uint64_t seed = (uint64_t)in->o->common.seed;
    const struct {
        float **v;
        int count;
        double mean, deviation;
    } vectors[] = {{&w->bk, s->bias ? s->kv_width : 0, 0, 0.5},
                   {&w->bv, s->bias ? s->kv_width : 0, 0, 0.1},
                   {&w->k_norm, s->k_norm, 1, 0.1},
                   {&w->sinks, s->sinks ? s->heads : 0, 1, 0.5}};
    for (int i = 0; i < 4 && err->status == XQ_OK; i++)
        if (vectors[i].count)
            draw_vector(seed, 4 * layer + i, vectors[i].count, vectors[i].mean, vectors[i].deviation,
                        vectors[i].v, err);
    return err->status == XQ_OK ? synthetic_projections(seed, layer, s, w, err) : err->status;
}

static xq_status recorded_weights(const struct compare_input *in, int layer, layer_weights *w, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    const tensor *t;
    for (int i = 0, count = layer_given(&in->shape, parts); i < count && err->status == XQ_OK; i++) {
        const int64_t shape[2] = {parts[i].rows, parts[i].cols};
        bool vector = parts[i].rows == 1;
        recorded(in, parts[i].name, layer, vector ? 1 : 2, shape + vector, layer_member(w, &parts[i]), &t,
                 err);
    }
    return err->status;
}

static xq_status load_weights(const struct compare_input *in, int layer, const layer_shape *shape,
                              layer_weights *w, error *err)
{
    if (in->source)
        model_layer(in->source, layer, w, err);
    else if (in->activations)
        recorded_weights(in, layer, w, err);
    else
        synthetic_weights(in, layer, shape, w, err);
    if (err->status == XQ_OK && in->prepared)
        cli_prepared_factors(in->prepared, layer, shape, w, err);
    if (err->status == XQ_OK && layer_factor(shape, w, NULL, err) != XQ_OK) {
        error_field(err, "");
        error_within(err, "layer %d", layer);
    }
    return err->status;
}

/* ------------------------------------------------------------ activations */

/* Sequences of a file start at different tokens of its text, as far as the text is long enough. */
static xq_status recorded_sequences(const struct compare_input *in, struct compare_layer *layer, error *err)
{
    const layer_shape *s = &in->shape;
    const int64_t x_shape[2] = {-1, s->hidden_size}, q_shape[3] = {-1, s->heads, s->head_dim};
    size_t d = (size_t)s->hidden_size, row = (size_t)s->heads * (size_t)s->head_dim;
    size_t queries = (size_t)layer->queries;
    float *x = NULL, *q = NULL;
    const tensor *tx, *tq;
    if (recorded(in, "x", layer->number, 2, x_shape, &x, &tx, err) == XQ_OK)
        recorded(in, "q", layer->number, 3, q_shape, &q, &tq, err);
    for (int b = 0; b < layer->distinct && err->status == XQ_OK; b++) {
        int64_t start = (int64_t)b * 97 % (tx->shape[0] - layer->tokens + 1);
        memcpy(layer->x + (size_t)b * (size_t)layer->tokens * d, x + (size_t)start * d,
               sizeof *x * (size_t)layer->tokens * d);
        memcpy(layer->q + (size_t)b * queries * row,
               q + (size_t)(start + layer->tokens - layer->queries) * row, sizeof *q * queries * row);
    }
    free(x);
    free(q);
    return err->status;
}

/* The root mean square of K over the first tokens; 0 when out of memory. */
static double key_size(const layer_shape *s, const struct compare_layer *layer)
{
    int rows = layer->tokens < 16 ? (int)layer->tokens : 16;
    size_t count = (size_t)rows * (size_t)s->kv_width;
    double sum = 0;
    float *keys = malloc(sizeof *keys * count);
    if (keys)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, s->kv_width, s->hidden_size, 1,
                    layer->x, s->hidden_size, layer->weights.wk, s->kv_width, 0, keys, s->kv_width);
    for (size_t i = 0; keys && i < count; i++)
        sum += (double)keys[i] * keys[i];
    free(keys);
    return sqrt(sum / (double)count);
}

/* Layers of a cross-layer cache share most of their activations, as layers of real models do. */
static xq_status synthetic_sequences(const struct compare_input *in, struct compare_layer *layer,
                                     error *err)
{
    const layer_shape *s = &in->shape;
    uint64_t common = (uint64_t)in->o->common.seed, own = common + 1000003u * (uint64_t)layer->number;
    size_t row = (size_t)layer->queries * (size_t)s->heads * (size_t)s->head_dim;
    size_t count = (size_t)layer->tokens * (size_t)s->hidden_size;
    for (int b = 0; b < layer->distinct; b++) {
        float *x = layer->x + (size_t)b * count;
        if (layer_is_cross(s)) {
            if (synthetic_layer(common, own, b, layer->tokens, s->hidden_size, x, err) != XQ_OK)
                return err->status;
        } else {
            synthetic_activations(own, b, layer->tokens, s->hidden_size, x);
        }
    }
    double size = s->k_norm ? 1 : key_size(s, layer);
    for (int b = 0; b < layer->distinct; b++)
        synthetic_queries(own, b, (int)row, size > 0 ? 2 / size : 1, layer->q + (size_t)b * row);
    return XQ_OK;
}

static xq_status round_activations(const struct compare_input *in, bool bfloat, const char *what,
                                   const float *values, size_t count, uint16_t *out, error *err)
{
    const char *file = in->o->activations ? in->o->activations : "synthetic input";
    return cli_round_activations(values, count, bfloat, file, what, out, err);
}

static void free_texts(struct compare_layer *layer)
{
    free(layer->x);
    free(layer->q);
    free(layer->x16);
    free(layer->q16);
    layer->x = layer->q = NULL;
    layer->x16 = layer->q16 = NULL;
}

static size_t count_x(const struct compare_input *in, const struct compare_layer *l)
{
    return (size_t)l->distinct * (size_t)l->tokens * (size_t)in->shape.hidden_size;
}

static size_t count_q(const struct compare_input *in, const struct compare_layer *l)
{
    return (size_t)(l->distinct * l->queries) * (size_t)in->shape.heads * (size_t)in->shape.head_dim;
}

/* Allocates the texts of a layer of the input's size. */
static xq_status allocate_texts(const struct compare_input *in, struct compare_layer *l, error *err)
{
    l->batch = in->batch;
    l->distinct = l->texts = in->batch < COMPARE_MOST_DISTINCT ? in->batch : COMPARE_MOST_DISTINCT;
    l->tokens = l->text_tokens = in->tokens;
    const size_t x = count_x(in, l), q = count_q(in, l);
    l->x = malloc(sizeof *l->x * x);
    l->q = malloc(sizeof *l->q * q);
    l->x16 = malloc(sizeof *l->x16 * x);
    l->q16 = malloc(sizeof *l->q16 * q);
    if (!l->x || !l->q || !l->x16 || !l->q16)
        error_set(err, XQ_ERROR_MEMORY, "argument",
                  "out of memory for --tokens %lld and --batch %d: the inputs of %d sequences take %.3g GB",
                  (long long)in->tokens, in->batch, l->distinct, 6e-9 * (double)(x + q));
    return err->status;
}

static xq_status fill_texts(const struct compare_input *in, const struct cli_traits *traits,
                            struct compare_layer *layer, error *err)
{
    if (in->activations)
        recorded_sequences(in, layer, err);
    else
        synthetic_sequences(in, layer, err);
    if (err->status == XQ_OK &&
        round_activations(in, traits->bfloat, "x", layer->x, count_x(in, layer), layer->x16, err) == XQ_OK)
        round_activations(in, traits->bfloat, "q", layer->q, count_q(in, layer), layer->q16, err);
    return err->status;
}

xq_status compare_input_layer(struct compare_input *in, int number, const struct cli_traits *traits,
                              struct compare_layer *out, error *err)
{
    struct compare_layer layer = {.number = number, .queries = (int)in->o->queries};
    if (allocate_texts(in, &layer, err) == XQ_OK &&
        load_weights(in, number, &traits->shape, &layer.weights, err) == XQ_OK &&
        fill_texts(in, traits, &layer, err) == XQ_OK)
        *out = layer;
    else
        compare_layer_free(&layer);
    return err->status;
}

xq_status compare_input_texts(struct compare_input *in, const struct cli_traits *traits,
                              struct compare_layer *layer, error *err)
{
    free_texts(layer);
    return allocate_texts(in, layer, err) == XQ_OK ? fill_texts(in, traits, layer, err) : err->status;
}

void compare_layer_free(struct compare_layer *layer)
{
    layer_weights_free(&layer->weights);
    free_texts(layer);
    *layer = (struct compare_layer){0};
}
