#include "layers.h"
#include "../runtime/base/half.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ specs */

static xq_status set_number(cJSON *overrides, const char *key, int value, error *err)
{
    return cli_override(overrides, key, cJSON_CreateNumber(value), err);
}

static xq_status set_text(cJSON *overrides, const char *key, const char *value, error *err)
{
    return cli_override(overrides, key, cJSON_CreateString(value), err);
}

/* Sets the values of a cross-layer method that differ from layer to layer. */
static xq_status choose_method(cJSON *overrides, const struct cli_choices *chosen, int layer, int base,
                               error *err)
{
    static const char *const others[] = {"cache.base", "cache.accumulator_bits", "cache.rank_k",
                                         "cache.rank_v", "tuning.accumulate"};
    if (!chosen->cross_layer)
        return XQ_OK;
    if (layer <= base)
        set_number(overrides, "cache.bits", CLI_BASE_BITS, err);
    if (layer >= base)
        return cli_override(overrides, "cache.base", cJSON_CreateBool(layer == base), err);
    set_text(overrides, "cache.method", layer_method_name(chosen->of_x ? LAYER_X : LAYER_LATENT), err);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        cli_override(overrides, others[i], cJSON_CreateNull(), err);
    /* Defaults are those of the cross-layer layers; a prepared file has packed weights of one type. */
    if (!chosen->has_rotation)
        cli_override(overrides, "cache.rotation", cJSON_CreateFalse(), err);
    if (!chosen->has_weights)
        set_text(overrides, "weights", "f16", err);
    return err->status;
}

/* Chooses the kind of this layer (negative: of any layer). Chooses nothing where all layers of the model
 * are alike. */
static xq_status choose_kind(gen *g, cJSON *overrides, const char *spec_json, const char *given, int layer,
                             error *err)
{
    char *kind = NULL;
    if ((layer < 0 ? gen_any_layer_kind(g, spec_json, &kind, err)
                   : gen_layer_kind(g, spec_json, layer, &kind, err)) != XQ_OK)
        return err->status;
    if (*kind && *given && strcmp(given, kind) != 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "model.layer_kind: layer %d is %s, not %s; leave --layer-kind out", layer, kind, given);
        error_field(err, "model.layer_kind");
    } else if (*kind) {
        set_text(overrides, "model.layer_kind", kind, err);
    }
    free(kind);
    return err->status;
}

/* The spec with these overrides, which are deleted. After an earlier error they are only deleted. */
static xq_status apply(gen *g, const char *spec_json, cJSON *overrides, char **out, error *err)
{
    if (err->status == XQ_OK)
        return cli_spec_override(g, spec_json, overrides, out, err);
    cJSON_Delete(overrides);
    return err->status;
}

xq_status cli_any_layer_choices(gen *g, const char *spec_json, char **out, error *err)
{
    struct cli_choices chosen;
    cJSON *overrides = cJSON_CreateObject();
    cli_choices_read(spec_json, &chosen);
    if (!*chosen.layer_kind)
        choose_kind(g, overrides, spec_json, "", -1, err);
    return apply(g, spec_json, overrides, out, err);
}

xq_status cli_complete_sizes(gen *g, const char *spec_json, char **completed, error *err)
{
    char *untuned = NULL;
    cJSON *overrides = cJSON_CreateObject();
    cJSON_AddNullToObject(overrides, "tuning");
    if (cli_spec_override(g, spec_json, overrides, &untuned, err) == XQ_OK)
        gen_complete(g, untuned, completed, err);
    free(untuned);
    return err->status;
}

xq_status cli_any_layer_spec(gen *g, const char *spec_json, char **completed, error *err)
{
    char *text = NULL;
    if (cli_any_layer_choices(g, spec_json, &text, err) == XQ_OK)
        cli_complete_sizes(g, text, completed, err);
    free(text);
    return err->status;
}

xq_status cli_layer_kind_spec(gen *g, const char *spec_json, int layer, char **out, error *err)
{
    struct cli_choices chosen;
    cJSON *overrides = cJSON_CreateObject();
    cli_choices_read(spec_json, &chosen);
    choose_kind(g, overrides, spec_json, chosen.layer_kind, layer, err);
    return apply(g, spec_json, overrides, out, err);
}

xq_status cli_layer_spec(gen *g, const char *spec_json, int layer, int base, bool many, char **out,
                         error *err)
{
    struct cli_choices chosen;
    cJSON *overrides = cJSON_CreateObject();
    cli_choices_read(spec_json, &chosen);
    if (layer >= 0)
        choose_kind(g, overrides, spec_json, chosen.layer_kind, layer, err);
    if (err->status == XQ_OK)
        choose_method(overrides, &chosen, layer, base, err);
    if (err->status == XQ_OK && many)
        set_text(overrides, "queries", "many", err);
    return apply(g, spec_json, overrides, out, err);
}

xq_status cli_traits_of(const char *completed, struct cli_traits *out, error *err)
{
    struct spec_view v;
    if (spec_view_read(completed, &v, err) != XQ_OK)
        return err->status;
    *out = (struct cli_traits){
        .shape = v.layer,
        .layers = v.layers > 0 ? v.layers : LAYER_MOST_LAYERS,
        .bits = v.bits,
        .page = v.shape.page,
        .bfloat = v.bf16,
        .costs = {.base = v.shape.base,
                  .remat_columns = v.layer.k_norm ? v.layer.head_dim : v.rotated,
                  .window = v.window},
    };
    snprintf(out->costs.weights, sizeof out->costs.weights, "%s", v.weights);
    snprintf(out->model_name, sizeof out->model_name, "%s", v.model_name);
    return XQ_OK;
}

xq_status cli_traits_read(gen *g, const char *spec_json, struct cli_traits *out, error *err)
{
    char *completed = NULL;
    if (cli_complete_sizes(g, spec_json, &completed, err) == XQ_OK)
        cli_traits_of(completed, out, err);
    free(completed);
    return err->status;
}

/* ---------------------------------------------------------------- weights */

xq_status cli_prepared_factors(const prepared_file *file, int layer, const layer_shape *shape,
                               layer_weights *w, error *err)
{
    layer_weights p;
    if (prepared_file_expect(file, layer, shape, err) != XQ_OK ||
        prepared_file_layer(file, layer, &p, err) != XQ_OK)
        return err->status;
    float **to[] = {&w->uk, &w->ak, &w->uv, &w->av, &w->ukv, &w->k_cost};
    float **from[] = {&p.uk, &p.ak, &p.uv, &p.av, &p.ukv, &p.k_cost};
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        *to[i] = *from[i];
        *from[i] = NULL;
    }
    layer_weights_free(&p);
    return XQ_OK;
}

bool cli_has_factors(const layer_shape *shape)
{
    return layer_is_factored(shape) || shape->method == LAYER_LATENT_CL;
}

xq_status cli_refuse_prepared(const layer_shape *shape, error *err)
{
    return cli_misuse(err, "--prepared: method %s%s has no factors to take from the file; leave it out",
                      layer_method_name(shape->method),
                      shape->method == LAYER_X ? " without rotation" : "");
}

/* ------------------------------------------------------------- activations */

xq_status cli_round_activations(const float *values, size_t count, bool bfloat, const char *file,
                                const char *what, uint16_t *out, error *err)
{
    const uint16_t exponent = bfloat ? 0x7f80 : 0x7c00;
    for (size_t i = 0; i < count; i++) {
        out[i] = bfloat ? half_to_bfloat(values[i]) : half_from_float(values[i]);
        if ((out[i] & exponent) == exponent)
            return error_set(err, XQ_ERROR_FORMAT, "file",
                             "%s: %s holds %g at index %zu; valid: finite values up to %s in size (%s)",
                             file, what, (double)values[i], i, bfloat ? "3.39e38" : "65504",
                             bfloat ? "bf16" : "f16");
    }
    return XQ_OK;
}

/* ---------------------------------------------------------------- numbers */

xq_status cli_check_base(int64_t base, int layers, error *err)
{
    if (base < 0 || base >= layers)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "--base-layer: %lld; valid: 0 to %d",
                         (long long)base, layers - 1);
    return XQ_OK;
}

xq_status cli_refuse_base(const layer_shape *shape, error *err)
{
    return cli_misuse(
        err, "--base-layer: method %s has no base layer, only x-cl and latent-cl have one; leave it out",
        layer_method_name(shape->method));
}

static int by_number(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

void cli_sort_layers(int *layers, int count)
{
    qsort(layers, (size_t)count, sizeof *layers, by_number);
}

xq_status cli_layers_in_file(const safetensors *file, int **layers, int *count, error *err)
{
    int most = safetensors_count(file), *found = malloc(sizeof *found * (size_t)(most + 1)), used = 0;
    if (!found)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    for (int i = 0; i < most; i++) {
        const char *name = safetensors_at(file, i)->name;
        int64_t number;
        if (strncmp(name, "x.", 2) == 0 && cli_read_whole(name + 2, &number) == CLI_NUMBER && number >= 0 &&
            number <= INT_MAX)
            found[used++] = (int)number;
    }
    cli_sort_layers(found, used);
    *layers = found;
    *count = used;
    return XQ_OK;
}

xq_status cli_layers(const struct cli_list *list, int count, int **layers, int *layer_count, error *err)
{
    int wanted = list->count ? list->count : count;
    int *out = malloc(sizeof *out * (size_t)(wanted + 1));
    if (!out)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    for (int i = 0; i < wanted; i++) {
        int64_t layer = i;
        bool number = !list->count || cli_read_whole(list->items[i], &layer) == CLI_NUMBER;
        bool twice = false;
        for (int j = 0; j < i; j++)
            twice |= number && out[j] == layer;
        if (!number || layer < 0 || layer >= count || twice) {
            free(out);
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "--layers: '%s' %s; valid: layers 0 to %d, each once", list->items[i],
                             twice ? "comes twice" : "is no layer of the model", count - 1);
        }
        out[i] = (int)layer;
    }
    *layers = out;
    *layer_count = wanted;
    return XQ_OK;
}
