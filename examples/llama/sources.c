#include "sources.h"
#include "fail.h"

#include <stdlib.h>

xq_prepared *prepared_open(const choice *wanted, const config *c, xq_context *context)
{
    xq_prepared *prepared = NULL;
    xq_prepared_info info = XQ_PREPARED_INFO_INIT;
    if (!wanted->prepared)
        return NULL;
    check(context, xq_prepared_open(context, wanted->prepared, &prepared), wanted->prepared);
    check(context, xq_prepared_query(prepared, &info), wanted->prepared);
    if (info.layers != c->layers)
        fail(EXIT_INPUT, "%s: prepared from a model of %d layers; this one has %d", wanted->prepared,
             info.layers, c->layers);
    return prepared;
}

sources *sources_make(const model *m, const formats *f, const choice *wanted, xq_context *context,
                      xq_prepared *prepared)
{
    sources *s = room(1, sizeof *s);
    s->type = wanted->weights;
    s->prepared = prepared;
    s->layer = room((size_t)f->layers, sizeof *s->layer);
    for (int i = 0; i < f->layers; i++) {
        s->layer[i] = (xq_weights)XQ_WEIGHTS_INIT;
        if (prepared && f->layer[i].spec) {
            check(context, xq_prepared_layer(prepared, i, &s->layer[i]), wanted->prepared);
            continue;
        }
        if (f->layer[i].latent)
            fail(EXIT_INPUT,
                 "--cache %s needs factors of the projections: --prepared FILE, which `xq prepare MODEL "
                 "--method %s --out FILE` writes",
                 method_name(wanted->method), method_name(wanted->method));
        s->layer[i].wk = m->layers[i].wk;
        s->layer[i].wv = m->layers[i].wv;
        s->layer[i].k_norm = m->layers[i].k_norm;
    }
    return s;
}

void sources_free(sources *s)
{
    xq_prepared_close(s->prepared);
    free(s->layer);
    free(s);
}
