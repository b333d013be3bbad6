/* Which plans a bundle has: one for each bit width, and each kind of layer that the model has. */
#include "choices.h"
#include "emit.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------- names */

static void append(char *name, size_t size, const char *part)
{
    size_t length = strlen(name);
    if (*part)
        snprintf(name + length, size - length, "%s%s", length ? "-" : "", part);
}

static bool is_taken(const struct emitting *e, const char *name)
{
    for (int i = 0; i < e->plan_count; i++)
        if (strcmp(e->plans[i].name, name) == 0)
            return true;
    return false;
}

static const char *text_at(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

/* "4bit", "sliding-4bit", "full-base-4bit", "short-2bit": what tells the bundle's plans apart, and the
 * width. `crosses`: the bundle is of a cross-layer method. */
static xq_status name_plan(const struct emitting *e, bool crosses, const char *completed, char name[64],
                           error *err)
{
    struct spec_view v;
    char bits[16];
    if (spec_view_read(completed, &v, err) != XQ_OK)
        return err->status;
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(spec, "model"),
                *rope = cJSON_GetObjectItemCaseSensitive(model, "rope"),
                *scaling = cJSON_GetObjectItemCaseSensitive(rope, "scaling");
    snprintf(bits, sizeof bits, "%dbit", v.bits);
    *name = 0;
    append(name, 64, text_at(model, "layer_kind"));
    append(name, 64, text_at(scaling, "table"));
    append(name, 64, !crosses ? "" : !v.shape.cross_layer ? "plain" : v.shape.base ? "base" : "delta");
    append(name, 64, bits);
    cJSON_Delete(spec);
    if (is_taken(e, name))
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "two plans of the bundle have the name %s", name);
    return XQ_OK;
}

/* ------------------------------------------------------------------ layers */

static bool ends_with_number(const char *layers, int number, size_t *at)
{
    size_t length = strlen(layers), digits = 0;
    while (digits < length && strchr("0123456789", layers[length - 1 - digits]))
        digits++;
    *at = length - digits;
    return digits > 0 && atoi(layers + *at) == number;
}

/* Adds a layer to "0-4, 6": "0-4, 6-7". */
static xq_status add_layer(struct emit_plan *p, int layer, error *err)
{
    size_t at;
    char *text = NULL;
    int length;
    if (!p->layers)
        length = asprintf(&text, "%d", layer);
    else if (!ends_with_number(p->layers, layer - 1, &at))
        length = asprintf(&text, "%s, %d", p->layers, layer);
    else if (at > 0 && p->layers[at - 1] == '-')
        length = asprintf(&text, "%.*s%d", (int)at, p->layers, layer);
    else
        length = asprintf(&text, "%s-%d", p->layers, layer);
    if (length < 0)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    free(p->layers);
    p->layers = text;
    return XQ_OK;
}

static struct emit_plan *find_plan(struct emitting *e, const char *spec)
{
    for (int i = 0; i < e->plan_count; i++)
        if (strcmp(e->plans[i].spec, spec) == 0)
            return &e->plans[i];
    return NULL;
}

/* Takes `spec`. `layer` negative: all layers are alike, and it is not known how many there are. */
static xq_status add_plan(struct emitting *e, bool crosses, char *spec, int layer, error *err)
{
    struct emit_plan *p = find_plan(e, spec);
    char *completed = NULL;
    if (!p && e->plan_count == EMIT_MOST_PLANS) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "more than %d plans in one bundle", EMIT_MOST_PLANS);
    } else if (!p && cli_complete_sizes(e->g, spec, &completed, err) == XQ_OK) {
        struct emit_plan new = {.spec = spec};
        if (name_plan(e, crosses, completed, new.name, err) == XQ_OK) {
            p = &e->plans[e->plan_count++];
            *p = new;
            spec = NULL;
        }
    }
    free(completed);
    free(spec);
    if (err->status != XQ_OK)
        return err->status;
    if (layer >= 0)
        return add_layer(p, layer, err);
    p->layers = strdup("all");
    return p->layers ? XQ_OK : error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
}

/* ------------------------------------------------------------------- specs */

/* Whether a layer has no plan: it keeps no keys and values, or is of another kind than the one that is
 * asked for. */
static bool is_left_out(const error *err)
{
    return err->status == XQ_ERROR_ARGUMENT &&
           (strcmp(err->field, "layer") == 0 || strcmp(err->field, "model.layer_kind") == 0);
}

/* The plans of a spec that has its width and its table. */
static xq_status add_layers(struct emitting *e, const char *spec_json, error *err)
{
    struct cli_choices chosen;
    char *any = NULL;
    struct cli_traits traits;
    cli_choices_read(spec_json, &chosen);
    if (cli_any_layer_choices(e->g, spec_json, &any, err) == XQ_OK)
        cli_traits_read(e->g, any, &traits, err);
    free(any);
    if (err->status == XQ_OK && e->o->base_given && !layer_is_cross(&traits.shape))
        cli_refuse_base(&traits.shape, err);
    const bool counted = err->status == XQ_OK && traits.layers < LAYER_MOST_LAYERS;
    if (counted && chosen.cross_layer && e->o->base_layer >= traits.layers)
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "--base-layer: %lld; the model has layers 0 .. %d",
                  (long long)e->o->base_layer, traits.layers - 1);
    const int count = counted ? traits.layers : chosen.cross_layer ? (int)e->o->base_layer + 2 : 1;
    for (int layer = 0; layer < count && err->status == XQ_OK; layer++) {
        char *spec = NULL;
        const int number = counted || chosen.cross_layer ? layer : -1;
        if (cli_layer_spec(e->g, spec_json, number, (int)e->o->base_layer, false, &spec, err) == XQ_OK)
            add_plan(e, chosen.cross_layer, spec, counted ? layer : -1, err);
        else if (counted && is_left_out(err))
            error_clear(err);
    }
    return err->status;
}

/* The spec with one value more; `text` is a number where it can be. */
static xq_status with(gen *g, const char *spec_json, const char *key, const char *text, char **out,
                      error *err)
{
    int64_t number;
    cJSON *overrides = cJSON_CreateObject();
    cJSON *value = cli_read_whole(text, &number) == CLI_NUMBER ? cJSON_CreateNumber((double)number)
                                                               : cJSON_CreateString(text);
    if (cli_override(overrides, key, value, err) == XQ_OK)
        return cli_spec_override(g, spec_json, overrides, out, err);
    cJSON_Delete(overrides);
    return err->status;
}

/* With LongRoPE each of the model's two tables has plans of its own, unless the spec chooses one. */
static xq_status add_tables(struct emitting *e, const char *spec_json, error *err)
{
    static const char *const tables[] = {"short", "long"};
    struct cli_choices chosen;
    cli_choices_read(spec_json, &chosen);
    if (!chosen.lacks_table)
        return add_layers(e, spec_json, err);
    for (int i = 0; i < 2 && err->status == XQ_OK; i++) {
        char *spec = NULL;
        if (with(e->g, spec_json, "model.rope_scaling.table", tables[i], &spec, err) == XQ_OK)
            add_layers(e, spec, err);
        free(spec);
    }
    return err->status;
}

/* --set must not tune what no plan runs. */
static xq_status check_tuning(const struct emitting *e, error *err)
{
    const char *names[EMIT_MOST_PLANS * PLAN_MOST_FAMILIES + 2] = {"merge", "dequantize"};
    int count = 2;
    for (int i = 0; i < e->plan_count && err->status == XQ_OK; i++) {
        char *completed = NULL;
        struct spec_view view;
        if (cli_complete_sizes(e->g, e->plans[i].spec, &completed, err) == XQ_OK &&
            spec_view_read(completed, &view, err) == XQ_OK)
            count += plan_families(&view.shape, XQ_FUSED, names + count);
        free(completed);
    }
    return err->status == XQ_OK ? cli_spec_check_tuning(&e->o->spec, names, count, err) : err->status;
}

xq_status emit_find_plans(struct emitting *e, error *err)
{
    const struct cli_list *bits = &e->o->bits;
    char *spec = NULL;
    if (cli_spec_json(&e->o->spec, &e->o->common, &spec, err) != XQ_OK)
        return err->status;
    if (bits->count == 0)
        add_tables(e, spec, err);
    for (int i = 0; i < bits->count && err->status == XQ_OK; i++) {
        char *own = NULL;
        if (with(e->g, spec, "cache.bits", bits->items[i], &own, err) == XQ_OK)
            add_tables(e, own, err);
        free(own);
    }
    free(spec);
    if (err->status == XQ_OK && e->plan_count == 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "model.layer_kind: the model has no layer of this kind");
        error_field(err, "model.layer_kind");
    }
    return err->status == XQ_OK ? check_tuning(e, err) : err->status;
}
