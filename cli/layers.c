#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ specs */

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
}

/* Method x-cl or latent-cl → x or latent; 0 for another method. */
static int strip_method(cJSON *cache, bool plain)
{
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cache, "method"));
    if (!method || (strcmp(method, "x-cl") != 0 && strcmp(method, "latent-cl") != 0))
        return 0;
    if (plain) {
        static const char *const others[] = {"base", "accumulator_bits", "rank_k", "rank_v"};
        cJSON *name = cJSON_CreateString(strcmp(method, "x-cl") == 0 ? "x" : "latent");
        cJSON_ReplaceItemInObjectCaseSensitive(cache, "method", name);
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            cJSON_DeleteItemFromObjectCaseSensitive(cache, others[i]);
    }
    return 1;
}

static void set(cJSON *object, const char *name, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddItemToObject(object, name, value);
}

static const char *given_kind(const cJSON *spec)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(spec, "model");
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "layer_kind"));
}

/* Chooses the kind of this layer (negative: of any); nothing where all layers of the model are alike. */
static xq_status choose_kind(gen *g, const char *spec_json, int layer, cJSON *spec, error *err)
{
    char *kind = NULL;
    const char *given = given_kind(spec);
    if ((layer < 0 ? gen_any_layer_kind(g, spec_json, &kind, err)
                   : gen_layer_kind(g, spec_json, layer, &kind, err)) != XQ_OK)
        return err->status;
    if (*kind && given && strcmp(given, kind) != 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "model.layer_kind: layer %d is %s, not %s; leave --layer-kind out", layer, kind, given);
        error_field(err, "model.layer_kind");
    } else if (*kind && !given) {
        cli_spec_set_kind(spec, kind);
    }
    free(kind);
    return err->status;
}

xq_status cli_any_layer_spec(gen *g, const char *spec_json, char **completed, error *err)
{
    cJSON *spec = cJSON_Parse(spec_json);
    char *text = NULL;
    if (given_kind(spec) || choose_kind(g, spec_json, -1, spec, err) == XQ_OK) {
        text = cJSON_PrintUnformatted(spec);
        if (!text)
            no_memory(err);
        else
            gen_complete(g, text, completed, err);
    }
    cJSON_Delete(spec);
    free(text);
    return err->status;
}

xq_status cli_layer_spec(gen *g, const char *spec_json, int layer, int base, bool many, char **out,
                         error *err)
{
    cJSON *spec = cJSON_Parse(spec_json);
    cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    if (layer >= 0 && choose_kind(g, spec_json, layer, spec, err) != XQ_OK) {
        cJSON_Delete(spec);
        return err->status;
    }
    if (strip_method(cache, layer < base)) {
        if (layer <= base)
            set(cache, "bits", cJSON_CreateNumber(CLI_BASE_BITS));
        if (layer >= base)
            set(cache, "base", cJSON_CreateBool(layer == base));
        else if (!cJSON_HasObjectItem(cache, "rotation")) /* as the layers after it */
            set(cache, "rotation", cJSON_CreateFalse());
    }
    if (many)
        set(spec, "queries", cJSON_CreateString("many"));
    *out = spec ? cJSON_PrintUnformatted(spec) : NULL;
    cJSON_Delete(spec);
    return *out ? XQ_OK : no_memory(err);
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
    if (gen_complete(g, spec_json, &completed, err) != XQ_OK ||
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
    t.base = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(cache, "base"));
    t.remat_columns = t.shape.k_norm ? t.shape.head_dim
                                     : 2 * integer(cJSON_GetObjectItemCaseSensitive(spec, "keys"), "pairs");
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(model, "sliding_window");
    t.window = cJSON_IsNumber(window) ? (int64_t)window->valuedouble : 0;
    snprintf(t.weights, sizeof t.weights, "%s", type ? type : "f16");
    cJSON_Delete(spec);
    free(completed);
    if (t.page < 1)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "not a completed spec");
    *out = t;
    return XQ_OK;
}

/* ---------------------------------------------------------------- weights */

xq_status cli_prepared_factors(const xqw *file, int layer, const layer_shape *shape, layer_weights *w,
                               error *err)
{
    layer_weights p;
    if (xqw_expect(file, layer, shape, err) != XQ_OK || xqw_layer(file, layer, &p, err) != XQ_OK)
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

/* ---------------------------------------------------------------- numbers */

xq_status cli_layers(const struct cli_list *list, int count, int **layers, int *layer_count, error *err)
{
    int wanted = list->count ? list->count : count;
    int *out = malloc(sizeof *out * (size_t)(wanted + 1));
    if (!out)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    for (int i = 0; i < wanted; i++) {
        char *end = NULL;
        long layer = list->count ? strtol(list->items[i], &end, 10) : i;
        bool number = !list->count || (end != list->items[i] && !*end);
        bool twice = false;
        for (int j = 0; j < i; j++)
            twice |= out[j] == layer;
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
