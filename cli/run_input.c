/* Reads the layers of xq run from a safetensors file. */
#include "../prepare/layer_factor.h"
#include "../runtime/launch/shape.h"
#include "given.h"
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ----------------------------------------------------------------- layers */

static bool cross_layer(const struct run *r)
{
    struct cli_choices chosen;
    cli_choices_read(r->spec, &chosen);
    return chosen.cross_layer && !shape_is_kv(run_implementation(r->o));
}

/* The layers of --layers. Without it, the layer of --layer, or the tensors without a number, or else all
 * layers of the file. */
static xq_status choose_numbers(struct run *r, int **numbers, int *count, error *err)
{
    const struct run_options *o = r->o;
    if (o->layers.count) {
        r->numbered = true;
        if (cli_layers(&o->layers, LAYER_MOST_LAYERS, numbers, count, err) == XQ_OK)
            cli_sort_layers(*numbers, *count);
        return err->status;
    }
    if (cli_layers_in_file(r->file, numbers, count, err) != XQ_OK)
        return err->status;
    if (o->layer < 0 && *count > 0 && safetensors_find(r->file, "x"))
        return error_set(err, XQ_ERROR_FORMAT, "file",
                         "%s: the file has tensors x and x.%d, and one of them would be ignored; choose "
                         "layers with --layers, or name the tensors in one way",
                         o->input, (*numbers)[0]);
    r->numbered = o->layer < 0 && *count > 0;
    if (!r->numbered) {
        (*numbers)[0] = (int)o->layer;
        *count = 1;
    }
    return XQ_OK;
}

/* A cross-layer cache needs every layer from the base on. */
static xq_status check_chain(const struct run *r, const int *numbers, int count, error *err)
{
    const char *file = r->o->input;
    int base = (int)r->o->base_layer, at = -1;
    if (!r->numbered)
        return error_set(err, XQ_ERROR_ARGUMENT, "file",
                         "%s: the file has only tensor x, and a cross-layer method runs several layers in "
                         "order; give tensors x.0, x.1, ... (--layers)",
                         file);
    for (int i = 0; i < count; i++)
        at = numbers[i] == base ? i : at;
    if (at < 0)
        return error_set(err, XQ_ERROR_ARGUMENT, "file",
                         "--base-layer: layer %d, which starts the accumulator, is not among the %d layers "
                         "from %s (%d to %d)",
                         base, count, file, numbers[0], numbers[count - 1]);
    for (int i = at + 1; i < count; i++)
        if (numbers[i] != numbers[i - 1] + 1)
            return error_set(err, XQ_ERROR_ARGUMENT, "file",
                             "layer %d comes after layer %d: cross-layer methods need every layer from the "
                             "base layer (%d) on",
                             numbers[i], numbers[i - 1], base);
    return XQ_OK;
}

/* ---------------------------------------------------------------- tensors */

static xq_status find(const struct run *r, const struct run_layer *l, const char *name, int rank,
                      const int64_t *shape, const tensor **out, error *err)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, l->suffix);
    if (safetensors_need(r->file, full, out, err) != XQ_OK)
        return err->status;
    return tensor_expect_shape(*out, rank, shape, err);
}

static xq_status find_part(const struct run *r, const struct run_layer *l, const layer_part *part,
                           const tensor **out, error *err)
{
    const int64_t shape[2] = {part->rows, part->cols};
    bool vector = part->rows == 1;
    return find(r, l, part->name, vector ? 1 : 2, shape + vector, out, err);
}

/* Whether a layer's weights come from the model directory. Weights in the input file take precedence. */
static bool from_model(const struct run *r, const struct run_layer *l)
{
    char full[64];
    snprintf(full, sizeof full, "wk%s", l->suffix);
    return r->source && l->number >= 0 && !safetensors_find(r->file, full);
}

static xq_status check_tensors(const struct run *r, struct run_layer *l, error *err)
{
    const layer_shape *s = &l->traits.shape;
    const int64_t x_shape[2] = {-1, s->hidden_size}, q_shape[3] = {-1, s->heads, s->head_dim};
    layer_part parts[LAYER_MOST_PARTS];
    const tensor *x, *q, *t;
    int count = layer_given(s, parts);
    if (from_model(r, l) && model_expect(r->source, s, err) != XQ_OK)
        return err->status;
    if (cli_refuse_unread(r->file, s, l->suffix, from_model(r, l) ? r->o->spec.model : NULL,
                          "because the file has no wk of it", err) != XQ_OK ||
        find(r, l, "x", 2, x_shape, &x, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < count && err->status == XQ_OK && !from_model(r, l); i++)
        find_part(r, l, &parts[i], &t, err);
    if (err->status != XQ_OK || find(r, l, "q", 3, q_shape, &q, err) != XQ_OK)
        return err->status;
    l->tokens = x->shape[0];
    l->queries = q->shape[0];
    if (l->tokens < 1 || l->queries < 1 || l->queries > l->tokens) {
        error_set(err, XQ_ERROR_FORMAT, "file",
                  "%s: %lld queries over %lld tokens; valid: at least 1 token, and from 1 query to as many "
                  "as tokens",
                  q->file, (long long)l->queries, (long long)l->tokens);
        return error_at(err, q->file, 0);
    }
    if (l->tokens != r->layers[0].tokens) {
        error_set(err, XQ_ERROR_FORMAT, "file",
                  "%s: tensor %s has %lld tokens, and the tensor of layer %d has %lld; valid: as many in "
                  "each layer",
                  x->file, x->name, (long long)l->tokens, r->layers[0].number,
                  (long long)r->layers[0].tokens);
        return error_at(err, x->file, 0);
    }
    return XQ_OK;
}

/* ---------------------------------------------------------------- opening */

static xq_status read_spec(const struct run *r, struct run_layer *l, bool many, error *err)
{
    free(l->spec);
    l->spec = NULL;
    if (cli_layer_spec(r->generator, r->spec, l->number, (int)r->o->base_layer, many, &l->spec, err) !=
        XQ_OK)
        return err->status;
    return cli_traits_read(r->generator, l->spec, &l->traits, err);
}

/* The spec depends on the number of queries, which only the shapes of the tensors tell. So a layer with
 * many queries reads its spec twice. */
static xq_status open_layer(struct run *r, struct run_layer *l, int number, error *err)
{
    l->number = number;
    if (number >= 0)
        snprintf(l->suffix, sizeof l->suffix, ".%d", number);
    if (r->factors && number < 0)
        return cli_misuse(err,
                          "--prepared: the file holds layers by number; give tensors x.L, or --layer L");
    if (read_spec(r, l, false, err) != XQ_OK && strcmp(err->field, "layer") == 0)
        return error_within(err, "%s: tensor x%s", r->o->input, l->suffix);
    if (err->status != XQ_OK ||
        (r->factors && prepared_file_expect(r->factors, number, &l->traits.shape, err) != XQ_OK))
        return err->status;
    if (check_tensors(r, l, err) != XQ_OK || l->queries == 1)
        return err->status;
    return read_spec(r, l, true, err);
}

/* Refuses options that no layer has a use for. */
static xq_status refuse_useless(const struct run *r, error *err)
{
    const layer_shape *last = &r->layers[r->layer_count - 1].traits.shape;
    bool factors = false;
    for (int i = 0; i < r->layer_count; i++)
        factors |= cli_has_factors(&r->layers[i].traits.shape);
    if (r->o->base_given && !cross_layer(r))
        return cli_refuse_base(last, err);
    return r->factors && !factors ? cli_refuse_prepared(last, err) : XQ_OK;
}

xq_status run_input_open(struct run *r, error *err)
{
    int *numbers = NULL, count = 0;
    const char *directory = r->o->spec.model;
    struct stat st;
    if (directory && stat(directory, &st) == 0 && S_ISDIR(st.st_mode) &&
        model_open(r->generator, directory, &r->source, err) != XQ_OK)
        return err->status;
    if (r->o->prepared && prepared_file_open(r->o->prepared, &r->factors, err) != XQ_OK)
        return err->status;
    if (safetensors_open(r->o->input, &r->file, err) == XQ_OK &&
        choose_numbers(r, &numbers, &count, err) == XQ_OK && cross_layer(r))
        check_chain(r, numbers, count, err);
    r->layers = calloc((size_t)count + 1, sizeof *r->layers);
    if (!r->layers)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    for (int i = 0; i < count && err->status == XQ_OK; i++) {
        r->layer_count = i + 1;
        open_layer(r, &r->layers[i], numbers[i], err);
    }
    free(numbers);
    if (err->status == XQ_OK)
        refuse_useless(r, err);
    return err->status;
}

/* ---------------------------------------------------------------- loading */

/* Converts values to the spec's dtype, and refuses values that it cannot hold. */
static xq_status read_activations(const tensor *t, bool bfloat, uint16_t **out, error *err)
{
    float *values;
    size_t count = tensor_count(t);
    if (tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    uint16_t *halves = malloc(2 * count + 1);
    char what[256];
    snprintf(what, sizeof what, "tensor %s", t->name);
    if (!halves)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    else if (cli_round_activations(values, count, bfloat, t->file, what, halves, err) != XQ_OK)
        error_field(err, t->name);
    free(values);
    if (err->status == XQ_OK)
        *out = halves;
    else
        free(halves);
    return err->status;
}

/* A scale of an fp8 KV cache: f32 [1], or 1 where the file has none. */
static xq_status read_scale(const struct run *r, const struct run_layer *l, const char *name, float *scale,
                            error *err)
{
    const int64_t one = 1;
    const tensor *t;
    float *values;
    char full[64];
    *scale = 1;
    snprintf(full, sizeof full, "%s%s", name, l->suffix);
    if (!r->o->fp8_kv || !safetensors_find(r->file, full))
        return XQ_OK;
    if (find(r, l, name, 1, &one, &t, err) != XQ_OK || tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    *scale = values[0];
    free(values);
    return XQ_OK;
}

xq_status run_layer_load(const struct run *r, struct run_layer *l, error *err)
{
    const layer_shape *s = &l->traits.shape;
    const int64_t x_shape[2] = {-1, s->hidden_size}, q_shape[3] = {-1, s->heads, s->head_dim};
    layer_part parts[LAYER_MOST_PARTS];
    const tensor *t;
    int count = layer_given(s, parts);
    if (from_model(r, l) && model_layer(r->source, l->number, &l->weights, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < count && !from_model(r, l); i++)
        if (find_part(r, l, &parts[i], &t, err) != XQ_OK ||
            tensor_to_floats(t, 1, layer_member(&l->weights, &parts[i]), err) != XQ_OK)
            return err->status;
    if (find(r, l, "x", 2, x_shape, &t, err) != XQ_OK ||
        read_activations(t, l->traits.bfloat, &l->x, err) != XQ_OK ||
        find(r, l, "q", 3, q_shape, &t, err) != XQ_OK ||
        read_activations(t, l->traits.bfloat, &l->q, err) != XQ_OK ||
        read_scale(r, l, "k_scale", &l->k_scale, err) != XQ_OK ||
        read_scale(r, l, "v_scale", &l->v_scale, err) != XQ_OK ||
        (r->factors && cli_prepared_factors(r->factors, l->number, s, &l->weights, err) != XQ_OK))
        return err->status;
    if (layer_factor(s, &l->weights, NULL, err) != XQ_OK) {
        error_field(err, "");
        error_within(err, "%s: tensors wk%s, wv%s", from_model(r, l) ? r->o->spec.model : r->o->input,
                     l->suffix, l->suffix);
    }
    return err->status;
}

void run_layer_unload(struct run_layer *l)
{
    layer_weights_free(&l->weights);
    free(l->x);
    free(l->q);
    l->x = l->q = NULL;
}
