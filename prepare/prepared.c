/* The public API of prepared weights. */
#include "../runtime/base/check.h"
#include "../runtime/base/descriptor.h"
#include "../runtime/launch/context.h"
#include "../runtime/launch/plan.h"
#include "prepared_file.h"

#include <pthread.h>
#include <stdlib.h>

struct xq_prepared {
    xq_context *context;
    prepared_file *file;
    pthread_mutex_t lock; /* guards the layers */
    struct prepared_layer {
        layer_weights weights;
        bool there;    /* the weights have been loaded */
        bool verified; /* the checksum of the packed weights has been checked */
    } * layers;        /* by the layer's index in the file */
};

static xq_status finish(const xq_prepared *p, error *err)
{
    return err->status == XQ_OK ? XQ_OK : context_fail(p->context, err);
}

/* --------------------------------------------------------------- lifetime */

static xq_status open_file(xq_prepared *p, const char *path, error *err)
{
    if (prepared_file_open(path, &p->file, err) != XQ_OK)
        return err->status;
    p->layers = calloc((size_t)prepared_file_head(p->file)->layer_count, sizeof *p->layers);
    if (!p->layers)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    return XQ_OK;
}

xq_status xq_prepared_open(xq_context *context, const char *path, xq_prepared **prepared)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (!check_not_null("path", path, &err) || !check_not_null("prepared", prepared, &err))
        return context_fail(context, &err);
    xq_prepared *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(&err, XQ_ERROR_MEMORY, "file", "out of memory");
        return context_fail(context, &err);
    }
    p->context = context_retain(context);
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
    for (int i = 0; p->layers && i < prepared_file_head(p->file)->layer_count; i++)
        layer_weights_free(&p->layers[i].weights);
    free(p->layers);
    prepared_file_close(p->file);
    pthread_mutex_destroy(&p->lock);
    context_release(p->context);
    free(p);
}

/* -------------------------------------------------------------- questions */

xq_status xq_prepared_query(const xq_prepared *p, xq_prepared_info *info)
{
    if (!p)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    const prepared_head *head = prepared_file_head(p->file);
    xq_prepared_info full = {
        .struct_size = sizeof full,
        .spec_json = head->methods[0].spec,
        .layers = head->model_layers,
        .weights = head->weights,
        .base_layer = head->base_layer,
    };
    descriptor_write(info, &full, sizeof full, sizeof full, "info", &err);
    return finish(p, &err);
}

const char *xq_prepared_layer_spec(const xq_prepared *p, int32_t layer)
{
    error absent = ERROR_INIT;
    if (!p || prepared_file_place(p->file, layer, &absent) < 0)
        return NULL;
    return prepared_method_of(prepared_file_head(p->file), layer)->spec;
}

/* ---------------------------------------------------------------- weights */

/* Returns the layer's matrices, and loads them on first use. The caller holds the lock. */
static const layer_weights *loaded(xq_prepared *p, int32_t layer, error *err)
{
    int place = prepared_file_place(p->file, layer, err);
    if (place < 0)
        return NULL;
    if (!p->layers[place].there &&
        prepared_file_layer(p->file, layer, &p->layers[place].weights, err) == XQ_OK)
        p->layers[place].there = true;
    return &p->layers[place].weights;
}

xq_status xq_prepared_layer(xq_prepared *p, int32_t layer, xq_weights *weights)
{
    if (!p)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    pthread_mutex_lock(&p->lock);
    const layer_weights *found = loaded(p, layer, &err);
    if (err.status == XQ_OK) {
        xq_weights full = layer_api_weights(found);
        descriptor_write(weights, &full, sizeof full, DESCRIPTOR_UP_TO(xq_weights, ukv), "weights", &err);
    }
    pthread_mutex_unlock(&p->lock);
    return finish(p, &err);
}

static xq_status check_packed_arguments(const xq_plan *plan, const void *packed, const void *bytes,
                                        error *err)
{
    if (!check_not_null("plan", plan, err) || !check_not_null("packed", packed, err) ||
        !check_not_null("bytes", bytes, err))
        return err->status;
    if (plan->implementation == XQ_FUSED)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "plan has another implementation than XQ_FUSED, which packed weights are for; "
              "xq_plan_pack_weights packs for the others");
    return error_field(err, "plan");
}

xq_status xq_prepared_packed(xq_prepared *p, xq_plan *plan, int32_t layer, const void **packed,
                             size_t *bytes)
{
    if (!p)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (check_packed_arguments(plan, packed, bytes, &err) == XQ_OK) {
        pthread_mutex_lock(&p->lock);
        int place = prepared_file_place(p->file, layer, &err);
        if (place >= 0 && prepared_file_packed(p->file, layer, plan->spec, !p->layers[place].verified,
                                               packed, bytes, &err) == XQ_OK)
            p->layers[place].verified = true;
        pthread_mutex_unlock(&p->lock);
    }
    return finish(p, &err);
}
