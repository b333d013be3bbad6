#include "sources.h"
#include "fail.h"

#include <stdlib.h>
#include <string.h>

struct sources {
    const model *model;
    const formats *formats;
    const choice *choice;
    xq_context *context;
    xq_prepared *prepared;
    xq_weights *layer;
    const char *packed; /* type of the prepared file's packed weights; NULL: it has none */
};

xq_prepared *prepared_open(const choice *wanted, const config *c, xq_context *context)
{
    xq_prepared *prepared = NULL;
    xq_prepared_info info = XQ_PREPARED_INFO_INIT;
    if (!wanted->prepared)
        return NULL;
    if (wanted->method < CACHE_X)
        fail(EXIT_USAGE, "--prepared: has no effect with --cache %s; leave it out",
             method_name(wanted->method));
    check(context, xq_prepared_open(context, wanted->prepared, &prepared), wanted->prepared);
    check(context, xq_prepared_query(prepared, &info), wanted->prepared);
    if (info.layers != c->layers)
        fail(EXIT_INPUT, "%s: the file was prepared from a model of %d layers; this one has %d",
             wanted->prepared, info.layers, c->layers);
    return prepared;
}

sources *sources_make(const model *m, const formats *f, const choice *wanted, xq_context *context,
                      xq_prepared *prepared)
{
    sources *s = room(1, sizeof *s);
    xq_prepared_info info = XQ_PREPARED_INFO_INIT;
    *s = (sources){.model = m, .formats = f, .choice = wanted, .context = context, .prepared = prepared};
    s->layer = room((size_t)f->layers, sizeof *s->layer);
    if (prepared) {
        check(context, xq_prepared_query(prepared, &info), wanted->prepared);
        s->packed = info.weights;
    }
    return s;
}

void sources_free(sources *s)
{
    xq_prepared_close(s->prepared);
    free(s->layer);
    free(s);
}

const xq_weights *sources_layer(sources *s, int layer)
{
    xq_weights *w = &s->layer[layer];
    const char *name = method_name(s->choice->method);
    if (w->struct_size)
        return w;
    *w = (xq_weights)XQ_WEIGHTS_INIT;
    if (s->prepared) {
        check(s->context, xq_prepared_layer(s->prepared, layer, w), s->choice->prepared);
        return w;
    }
    const format *f = &s->formats->layer[layer];
    if (f->latent || f->rotated)
        fail(EXIT_INPUT,
             "--cache %s needs factors of the projections: --prepared FILE, which `xq prepare MODEL "
             "--method %s "
             "--out FILE` writes%s",
             name, name, f->rotated ? "; or --no-rotation" : "");
    w->wk = s->model->layers[layer].wk;
    w->wv = s->model->layers[layer].wv;
    w->k_norm = s->model->layers[layer].k_norm;
    return w;
}

const void *sources_packed(sources *s, xq_plan *plan, int layer)
{
    const void *packed = NULL;
    size_t bytes;
    if (s->packed && strcmp(s->packed, s->formats->layer[layer].weights) == 0)
        check(s->context, xq_prepared_packed(s->prepared, plan, layer, &packed, &bytes),
              s->choice->prepared);
    return packed;
}
