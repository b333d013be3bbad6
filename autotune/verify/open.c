/* Opens specs: their plans on the device, their weights, and everything that references need. */
#include "open.h"
#include "../../runtime/launch/last_error.h"
#include "../engine/call.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void close_plans(verify_state *v, verify_plans *p)
{
    for (int layer = 0; layer < CASE_MAX_LAYERS; layer++)
        if (p->weights[layer])
            xq_device_free(v->context, p->weights[layer]);
    xq_plan_destroy(p->plan[0]);
    xq_plan_destroy(p->plan[1]);
    memset(p, 0, sizeof *p);
}

void verify_close(verify_state *v)
{
    for (int i = 0; i < IMPLEMENTATIONS; i++)
        close_plans(v, &v->plans[i]);
    for (int layer = 0; layer < CASE_MAX_LAYERS; layer++)
        case_weights_free(&v->weights[layer]);
    page_codec_destroy(v->codec);
    page_codec_destroy(v->accumulator);
    v->codec = v->accumulator = NULL;
    v->spec_index = -1;
}

static xq_status open_plan(verify_state *v, int implementation, int which, error *err)
{
    verify_plans *p = &v->plans[implementation];
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = which ? v->spec.delta_json : v->spec.json;
    options.implementation = (xq_implementation)implementation;
    options.max_batch = CASE_MAX_SEQUENCES;
    options.max_tokens = CASE_MAX_TOKENS;
    options.max_append = CASE_MAX_TOKENS * CASE_MAX_SEQUENCES;
    options.max_queries = v->spec.many_queries ? CASE_MAX_QUERIES : 1;
    options.max_total_queries = v->spec.many_queries ? CASE_MAX_TOTAL_QUERIES : CASE_MAX_SEQUENCES;
    xq_status status = xq_plan_create(v->context, &options, &p->plan[which]);
    p->info[which] = (xq_plan_info)XQ_PLAN_INFO_INIT;
    if (status == XQ_OK)
        status = xq_plan_query(p->plan[which], &p->info[which]);
    return status == XQ_OK ? XQ_OK : last_error_read(v->context, status, err);
}

static xq_status upload_weights(verify_state *v, int implementation, int layer, error *err)
{
    verify_plans *p = &v->plans[implementation];
    const case_weights *m = &v->weights[layer];
    xq_weights w = XQ_WEIGHTS_INIT;
    w.wk = m->wk, w.wv = m->wv, w.uk = m->uk, w.ak = m->ak, w.uv = m->uv, w.av = m->av, w.ukv = m->ukv;
    w.k_cost = m->k_cost;
    w.bk = m->bk, w.bv = m->bv, w.k_norm = m->k_norm, w.sinks = m->sinks;
    if (implementation == XQ_FP8_KV)
        w.k_scale = &v->k_scale, w.v_scale = &v->v_scale;
    xq_status status =
        call_upload_weights(v->context, verify_plan(v, implementation, layer), &w, &p->weights[layer]);
    return status == XQ_OK ? XQ_OK : last_error_read(v->context, status, err);
}

/* Draws scales with which some values saturate and others become 0, from a stream of their own. */
static void draw_scales(verify_state *v, int64_t index)
{
    random_stream r = random_begin(v->seed ^ 0xf8, (uint64_t)index);
    v->k_scale = exp2f((float)random_between(&r, -90, -20) / 10);
    v->v_scale = exp2f((float)random_between(&r, -90, -20) / 10);
}

/* Opens the plans of one implementation. A failure is noted, and the other implementations are tried
 * anyway. */
static void open_implementation(verify_state *v, int implementation)
{
    verify_plans *p = &v->plans[implementation];
    error err = ERROR_INIT;
    int layers = verify_is_kv(implementation) ? 1 : v->spec.layers;
    for (int which = 0; which < (layers > 1 ? 2 : 1) && err.status == XQ_OK; which++)
        open_plan(v, implementation, which, &err);
    for (int layer = 0; layer < layers && err.status == XQ_OK; layer++)
        upload_weights(v, implementation, layer, &err);
    if (err.status != XQ_OK) {
        close_plans(v, p);
        p->outcome = err.status == XQ_ERROR_UNSUPPORTED ? VERIFY_UNSUPPORTED : VERIFY_FAILED;
        snprintf(p->message, sizeof p->message, "%s%s%.300s", err.field, *err.field ? ": " : "",
                 err.message);
    }
    error_clear(&err);
}

/* Adds drawn parameters to a spec, as its last member. */
static xq_status draw_tuning(const verify_state *v, char *json, size_t size, int seed, error *err)
{
    char *tuning = NULL;
    if (gen_draw_tuning(v->generator, json, seed, &tuning, err) != XQ_OK)
        return err->status;
    const size_t end = strlen(json) - 1; /* of the last brace */
    const int added = snprintf(json + end, size - end, ", \"tuning\": %s}", tuning);
    if ((size_t)added >= size - end)
        error_set(err, XQ_ERROR_INTERNAL, "argument", "the spec of a case does not fit %zu bytes", size);
    free(tuning);
    return err->status;
}

/* Draws the parameters of the kernels, from a stream of their own. The layers after the base layer have
 * kernels of their own. */
static xq_status draw_schedules(verify_state *v, int64_t index, error *err)
{
    case_spec *s = &v->spec;
    if (!verify_chosen(&s->choice, AXIS_SCHEDULE, "drawn"))
        return XQ_OK;
    random_stream r = random_begin(v->seed ^ 0x5c4ed, (uint64_t)index);
    if (draw_tuning(v, s->json, sizeof s->json, random_between(&r, 0, INT_MAX - 1), err) == XQ_OK &&
        s->cross_layer)
        draw_tuning(v, s->delta_json, sizeof s->delta_json, random_between(&r, 0, INT_MAX - 1), err);
    return err->status;
}

/* Reads the spec for the reference. The base layer's spec serves all layers. */
static xq_status read_spec(verify_state *v, error *err)
{
    char *completed = NULL;
    if (gen_complete(v->generator, v->spec.json, &completed, err) == XQ_OK &&
        page_codec_create(v->generator, completed, &v->codec, err) == XQ_OK &&
        reference_model_read(completed, &v->model, err) == XQ_OK && v->spec.cross_layer)
        page_codec_create_accumulator(v->generator, completed, &v->accumulator, err);
    free(completed);
    return err->status;
}

xq_status verify_open(verify_state *v, int64_t index, error *err)
{
    if (v->spec_index == index)
        return XQ_OK;
    verify_close(v);
    case_spec_make(v->seed, index, verify_sequence_at(v->choices, index), &v->spec);
    random_stream r = random_begin(v->seed ^ 0x5eed, (uint64_t)index);
    if (draw_schedules(v, index, err) != XQ_OK || read_spec(v, err) != XQ_OK)
        return err->status;
    for (int layer = 0; layer < v->spec.layers; layer++)
        if (case_weights_draw(&r, &v->spec, &v->weights[layer], err) != XQ_OK)
            return err->status;
    draw_scales(v, index);
    for (int i = 0; i < IMPLEMENTATIONS; i++)
        open_implementation(v, i);
    v->spec_index = index;
    return XQ_OK;
}
