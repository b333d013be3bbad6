#include "plans.h"
#include "../runtime/launch/plan_kernels.h"
#include "choices.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A search for plans in progress. */
struct finding {
    gen *g;
    const struct cli_plan_choice *o;
    struct cli_plans *plans;
};

/* ------------------------------------------------------------------- names */

static void append(char *name, size_t size, const char *part)
{
    size_t length = strlen(name);
    if (*part)
        snprintf(name + length, size - length, "%s%s", length ? "-" : "", part);
}

static bool is_taken(const struct finding *f, const char *name)
{
    for (int i = 0; i < f->plans->count; i++)
        if (strcmp(f->plans->plans[i].name, name) == 0)
            return true;
    return false;
}

static const char *text_at(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

/* Names a plan by the properties that distinguish it and its width: "4bit", "sliding-4bit",
 * "full-base-4bit", "short-2bit". `crosses`: the method is a cross-layer one. */
static xq_status name_plan(const struct finding *f, bool crosses, const char *completed, char name[64],
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
    if (is_taken(f, name))
        return error_set(err, XQ_ERROR_INTERNAL, "spec", "two plans have the name %s", name);
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

/* Adds a layer to a list: layer 7 turns "0-4, 6" into "0-4, 6-7". */
static xq_status add_layer(struct cli_plan *p, int layer, error *err)
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

static struct cli_plan *find_plan(struct finding *f, const char *spec)
{
    for (int i = 0; i < f->plans->count; i++)
        if (strcmp(f->plans->plans[i].spec, spec) == 0)
            return &f->plans->plans[i];
    return NULL;
}

/* Takes `spec`. `layer` is negative where it is not known how many layers the model has; the plan is then
 * for "all". */
static xq_status add_plan(struct finding *f, bool crosses, char *spec, int layer, error *err)
{
    struct cli_plan *p = find_plan(f, spec);
    char *completed = NULL;
    if (!p && f->plans->count == CLI_MOST_PLANS) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "the spec needs more than %d plans; give fewer bit widths", CLI_MOST_PLANS);
    } else if (!p && cli_complete_sizes(f->g, spec, &completed, err) == XQ_OK) {
        struct cli_plan new = {.spec = spec};
        if (name_plan(f, crosses, completed, new.name, err) == XQ_OK) {
            p = &f->plans->plans[f->plans->count++];
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

/* Whether a layer has no plan because it keeps no keys and values, or is of another kind than the one that
 * was asked for. */
static bool is_left_out(const error *err)
{
    return err->status == XQ_ERROR_ARGUMENT &&
           (strcmp(err->field, "layer") == 0 || strcmp(err->field, "model.layer_kind") == 0);
}

/* Adds the plans of a spec that has its bit width and its LongRoPE table. */
static xq_status add_layers(struct finding *f, const char *spec_json, error *err)
{
    struct cli_choices chosen;
    char *any = NULL;
    struct cli_traits traits;
    cli_choices_read(spec_json, &chosen);
    if (cli_any_layer_choices(f->g, spec_json, &any, err) == XQ_OK)
        cli_traits_read(f->g, any, &traits, err);
    free(any);
    if (err->status == XQ_OK && f->o->base_given && !layer_is_cross(&traits.shape))
        cli_refuse_base(&traits.shape, err);
    const bool counted = err->status == XQ_OK && traits.layers < LAYER_MOST_LAYERS;
    if (counted && chosen.cross_layer)
        cli_check_base(f->o->base_layer, traits.layers, err);
    const int count = counted ? traits.layers : chosen.cross_layer ? (int)f->o->base_layer + 2 : 1;
    for (int layer = 0; layer < count && err->status == XQ_OK; layer++) {
        char *spec = NULL;
        const int number = counted || chosen.cross_layer ? layer : -1;
        if (cli_layer_spec(f->g, spec_json, number, (int)f->o->base_layer, false, &spec, err) == XQ_OK)
            add_plan(f, chosen.cross_layer, spec, counted ? layer : -1, err);
        else if (counted && is_left_out(err))
            error_clear(err);
    }
    return err->status;
}

/* The spec with one more value. `text` becomes a number where it is one. */
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

/* With LongRoPE, each of the model's two tables has plans of its own, unless the spec chooses a table. */
static xq_status add_tables(struct finding *f, const char *spec_json, error *err)
{
    static const char *const tables[] = {"short", "long"};
    struct cli_choices chosen;
    cli_choices_read(spec_json, &chosen);
    if (!chosen.lacks_table)
        return add_layers(f, spec_json, err);
    for (int i = 0; i < 2 && err->status == XQ_OK; i++) {
        char *spec = NULL;
        if (with(f->g, spec_json, "model.rope_scaling.table", tables[i], &spec, err) == XQ_OK)
            add_layers(f, spec, err);
        free(spec);
    }
    return err->status;
}

/* --set must not tune families that no plan runs. */
static xq_status check_tuning(const struct finding *f, error *err)
{
    const char *names[CLI_MOST_PLANS * SHAPE_IMPLEMENTATIONS * PLAN_MOST_FAMILIES + 2] = {"merge",
                                                                                          "dequantize"};
    int count = 2;
    for (int i = 0; i < f->plans->count && err->status == XQ_OK; i++) {
        char *completed = NULL;
        struct spec_view view;
        if (cli_complete_sizes(f->g, f->plans->plans[i].spec, &completed, err) == XQ_OK &&
            spec_view_read(completed, &view, err) == XQ_OK)
            for (int k = 0; k < SHAPE_IMPLEMENTATIONS; k++)
                if (f->o->implementations[k])
                    count += plan_families(&view.shape, (xq_implementation)k, names + count);
        free(completed);
    }
    return err->status == XQ_OK ? cli_spec_check_tuning(f->o->spec, names, count, err) : err->status;
}

/* Adds plans for each width of --bits, or for the spec's own width. */
static xq_status add_widths(struct finding *f, const char *spec_json, error *err)
{
    const struct cli_list *bits = f->o->bits;
    if (bits->count == 0)
        return add_tables(f, spec_json, err);
    for (int i = 0; i < bits->count && err->status == XQ_OK; i++) {
        char *own = NULL;
        if (with(f->g, spec_json, "cache.bits", bits->items[i], &own, err) == XQ_OK)
            add_tables(f, own, err);
        free(own);
    }
    return err->status;
}

xq_status cli_plans_find(gen *g, const struct cli_plan_choice *choice, const struct cli_common *common,
                         struct cli_plans *plans, error *err)
{
    char *spec = NULL;
    struct finding f = {.g = g, .o = choice, .plans = plans};
    if (cli_spec_json(choice->spec, common, &spec, err) == XQ_OK)
        add_widths(&f, spec, err);
    free(spec);
    if (err->status == XQ_OK && plans->count == 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "model.layer_kind: the model has no layer of this kind");
        error_field(err, "model.layer_kind");
    }
    return err->status == XQ_OK ? check_tuning(&f, err) : err->status;
}

void cli_plans_free(struct cli_plans *plans)
{
    for (int i = 0; i < plans->count; i++) {
        free(plans->plans[i].spec);
        free(plans->plans[i].layers);
    }
    plans->count = 0;
}
