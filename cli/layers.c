#include "layers.h"

#include "../prepare/svd.h"

#include <stdlib.h>
#include <string.h>

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valueint : 0;
}

xq_status cli_shape_read(const char *completed_json, struct cli_shape *shape, error *err)
{
    cJSON *spec = cJSON_Parse(completed_json);
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "method"));
    struct cli_shape s = {
        .hidden_size = integer(m, "hidden_size"),
        .heads = integer(m, "num_attention_heads"),
        .kv_heads = integer(m, "num_key_value_heads"),
        .head_dim = integer(m, "head_dim"),
        .latent = method && strcmp(method, "latent") == 0,
        .bits = integer(c, "bits"),
        .page = integer(c, "page"),
        .rank_k = integer(c, "rank_k"),
        .rank_v = integer(c, "rank_v"),
    };
    s.kv_width = s.kv_heads * s.head_dim;
    cJSON_Delete(spec);
    if (s.hidden_size < 1 || s.heads < 1 || s.kv_width < 1 || s.page < 1)
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "not a completed spec");
    *shape = s;
    return XQ_OK;
}

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

/* u [d, rank], a [rank, dkv] of w [d, dkv] */
static xq_status factor(const struct cli_shape *shape, const float *w, int rank, float **u, float **a,
                        error *err)
{
    *u = malloc(sizeof **u * (size_t)shape->hidden_size * (size_t)rank);
    *a = malloc(sizeof **a * (size_t)rank * (size_t)shape->kv_width);
    if (!*u || !*a)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    return svd_factor(w, shape->hidden_size, shape->kv_width, rank, *u, *a, NULL, err);
}

xq_status cli_weights_factor(const struct cli_shape *shape, struct cli_weights *w, error *err)
{
    if (!shape->latent)
        return XQ_OK;
    if (!w->uk && factor(shape, w->wk, shape->rank_k, &w->uk, &w->ak, err) != XQ_OK)
        return err->status;
    if (!w->uv)
        factor(shape, w->wv, shape->rank_v, &w->uv, &w->av, err);
    return err->status;
}

void cli_weights_free(struct cli_weights *w)
{
    float *all[] = {w->wk, w->wv, w->uk, w->ak, w->uv, w->av};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    *w = (struct cli_weights){0};
}
