/* Prepared weights through the public API. */
#include "../runtime/check.h"
#include "../runtime/context.h"
#include "../runtime/descriptor.h"
#include "xqw.h"

#include <pthread.h>
#include <stdlib.h>

struct xq_prepared {
    xq_context *context;
    xqw *file;
    pthread_mutex_t lock;  /* guards what follows */
    layer_weights *loaded; /* by place in xqw_layers */
    bool *there;
};

static xq_status finish(const xq_prepared *p, error *err)
{
    return err->status == XQ_OK ? XQ_OK : context_fail(p->context, err);
}

/* --------------------------------------------------------------- lifetime */

static xq_status open_file(xq_prepared *p, const char *path, error *err)
{
    const int *layers;
    if (xqw_open(path, &p->file, err) != XQ_OK)
        return err->status;
    size_t count = (size_t)xqw_layers(p->file, &layers);
    p->loaded = calloc(count + 1, sizeof *p->loaded);
    p->there = calloc(count + 1, sizeof *p->there);
    if (!p->loaded || !p->there)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    return XQ_OK;
}

xq_status xq_prepared_open(xq_context *context, const char *path, xq_prepared **prepared)
{
    if (!context || !context->device)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (!check_not_null("path", path, &err) || !check_not_null("prepared", prepared, &err))
        return context_fail(context, &err);
    xq_prepared *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(&err, XQ_ERROR_MEMORY, "file", "out of memory");
        return context_fail(context, &err);
    }
    p->context = context;
    pthread_mutex_init(&p->lock, NULL);
    if (open_file(p, path, &err) != XQ_OK) {
        xq_prepared_close(p);
        return context_fail(context, &err);
    }
    *prepared = p;
    return XQ_OK;
}

void xq_prepared_close(xq_prepared *p)
{
    if (!p)
        return;
    const int *layers;
    for (int i = 0; p->loaded && i < xqw_layers(p->file, &layers); i++)
        layer_weights_free(&p->loaded[i]);
    free(p->loaded);
    free(p->there);
    xqw_close(p->file);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* -------------------------------------------------------------- questions */

xq_status xq_prepared_query(const xq_prepared *p, xq_prepared_info *info)
{
    if (!p)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_prepared_info full = {
        .struct_size = sizeof full,
        .spec_json = xqw_spec(p->file),
        .layers = xqw_model_layers(p->file),
    };
    descriptor_write(info, &full, sizeof full, "info", &err);
    return finish(p, &err);
}

/* The layer's place among those of the file; -1: it has none such. */
static int place_of(const xq_prepared *p, int32_t layer)
{
    const int *layers;
    int i = xqw_layers(p->file, &layers) - 1;
    while (i >= 0 && layers[i] != layer)
        i--;
    return i;
}

static int need_layer(const xq_prepared *p, int32_t layer, error *err)
{
    const int *layers;
    int place = place_of(p, layer);
    if (place < 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s: holds no layer %d; it has %d layers",
                  xqw_path(p->file), layer, xqw_layers(p->file, &layers));
        error_field(err, "layer");
    }
    return place;
}

const char *xq_prepared_layer_spec(const xq_prepared *p, int32_t layer)
{
    return p && place_of(p, layer) >= 0 ? xqw_spec(p->file) : NULL;
}

/* ---------------------------------------------------------------- weights */

xq_status xq_prepared_layer(xq_prepared *p, int32_t layer, xq_weights *weights)
{
    if (!p)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    pthread_mutex_lock(&p->lock);
    int place = need_layer(p, layer, &err);
    if (place >= 0 && !p->there[place]) {
        layer_weights fresh = {0};
        if (xqw_layer(p->file, layer, &fresh, &err) == XQ_OK) {
            p->loaded[place] = fresh;
            p->there[place] = true;
        }
    }
    if (err.status == XQ_OK) {
        xq_weights full = layer_api_weights(&p->loaded[place]);
        descriptor_write(weights, &full, sizeof full, "weights", &err);
    }
    pthread_mutex_unlock(&p->lock);
    return finish(p, &err);
}

xq_status xq_prepared_packed(xq_prepared *p, xq_plan *plan, int32_t layer, const void **packed,
                             size_t *bytes)
{
    if (!p)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (check_not_null("plan", plan, &err) && check_not_null("packed", packed, &err) &&
        check_not_null("bytes", bytes, &err)) {
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "the file has no packed weights of layer %d", layer);
        error_field(&err, "layer");
    }
    return finish(p, &err);
}
