#include "layers.h"

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

static const char *member(const cJSON *spec, const char *object, const char *name)
{
    const cJSON *members = cJSON_GetObjectItemCaseSensitive(spec, object);
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(members, name));
}

/* Methods x-cl and latent-cl: what this layer has of its own. */
static xq_status choose_method(cJSON *overrides, const cJSON *spec, int layer, int base, error *err)
{
    static const char *const others[] = {"cache.base", "cache.accumulator_bits", "cache.rank_k",
                                         "cache.rank_v", "tuning.accumulate"};
    const char *method = member(spec, "cache", "method");
    bool x = method && strcmp(method, "x-cl") == 0;
    if (!x && (!method || strcmp(method, "latent-cl") != 0))
        return XQ_OK;
    if (layer <= base)
        set_number(overrides, "cache.bits", CLI_BASE_BITS, err);
    if (layer >= base)
        return cli_override(overrides, "cache.base", cJSON_CreateBool(layer == base), err);
    set_text(overrides, "cache.method", x ? "x" : "latent", err);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        cli_override(overrides, others[i], cJSON_CreateNull(), err);
    if (!cJSON_HasObjectItem(cJSON_GetObjectItemCaseSensitive(spec, "cache"), "rotation"))
        cli_override(overrides, "cache.rotation", cJSON_CreateFalse(), err); /* as the layers after it */
    return err->status;
}

/* Chooses the kind of this layer (negative: of any); nothing where all layers of the model are alike. */
static xq_status choose_kind(gen *g, cJSON *overrides, const char *spec_json, const cJSON *spec, int layer,
                             error *err)
{
    char *kind = NULL;
    const char *given = member(spec, "model", "layer_kind");
    if ((layer < 0 ? gen_any_layer_kind(g, spec_json, &kind, err)
                   : gen_layer_kind(g, spec_json, layer, &kind, err)) != XQ_OK)
        return err->status;
    if (*kind && given && strcmp(given, kind) != 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "model.layer_kind: layer %d is %s, not %s; leave --layer-kind out", layer, kind, given);
        error_field(err, "model.layer_kind");
    } else if (*kind) {
        set_text(overrides, "model.layer_kind", kind, err);
    }
    free(kind);
    return err->status;
}

xq_status cli_any_layer_choices(gen *g, const char *spec_json, char **out, error *err)
{
    cJSON *spec = cJSON_Parse(spec_json), *overrides = cJSON_CreateObject();
    if (member(spec, "model", "layer_kind") || choose_kind(g, overrides, spec_json, spec, -1, err) == XQ_OK)
        cli_spec_override(g, spec_json, overrides, out, err);
    else
        cJSON_Delete(overrides);
    cJSON_Delete(spec);
    return err->status;
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

xq_status cli_layer_spec(gen *g, const char *spec_json, int layer, int base, bool many, char **out,
                         error *err)
{
    cJSON *spec = cJSON_Parse(spec_json), *overrides = cJSON_CreateObject();
    if (layer >= 0)
        choose_kind(g, overrides, spec_json, spec, layer, err);
    if (err->status == XQ_OK)
        choose_method(overrides, spec, layer, base, err);
    if (err->status == XQ_OK && many)
        set_text(overrides, "queries", "many", err);
    if (err->status == XQ_OK)
        cli_spec_override(g, spec_json, overrides, out, err);
    else
        cJSON_Delete(overrides);
    cJSON_Delete(spec);
    return err->status;
}

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valueint : 0;
}

xq_status cli_traits_read(gen *g, const char *spec_json, struct cli_traits *out, error *err)
{
    char *completed = NULL;
    struct cli_traits t = {0};
    if (cli_complete_sizes(g, spec_json, &completed, err) != XQ_OK ||
        layer_shape_read(completed, &t.shape, err) != XQ_OK) {
        free(completed);
        return err->status;
    }
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const char *dtype = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "dtype"));
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "weights"));
    t.bits = integer(cache, "bits");
    t.page = integer(cache, "page");
    t.bfloat = dtype && strcmp(dtype, "bf16") == 0;
    t.costs.base = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(cache, "base"));
    t.costs.remat_columns = t.shape.k_norm
                                ? t.shape.head_dim
                                : 2 * integer(cJSON_GetObjectItemCaseSensitive(spec, "keys"), "pairs");
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(model, "sliding_window");
    t.layers = integer(model, "num_hidden_layers");
    t.layers = t.layers > 0 ? t.layers : CLI_MOST_LAYERS;
    t.costs.window = cJSON_IsNumber(window) ? (int64_t)window->valuedouble : 0;
    snprintf(t.costs.weights, sizeof t.costs.weights, "%s", type ? type : "f16");
    cJSON_Delete(spec);
    free(completed);
    if (t.page < 1)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "not a completed spec");
    *out = t;
    return XQ_OK;
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
    return cli_misuse(err, "--prepared: method %s%s has no factors to take from it; leave it out",
                      layer_method_name(shape->method),
                      shape->method == LAYER_X ? " without rotation" : "");
}

/* ---------------------------------------------------------------- numbers */

xq_status cli_refuse_base(const layer_shape *shape, error *err)
{
    return cli_misuse(err, "--base-layer: method %s has none; valid with x-cl, latent-cl; leave it out",
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
                             "--layers: '%s' %s; valid are layers 0 .. %d, each once", list->items[i],
                             twice ? "comes twice" : "is no layer of the model", count - 1);
        }
        out[i] = (int)layer;
    }
    *layers = out;
    *layer_count = wanted;
    return XQ_OK;
}
