#include "verify.h"

#include "../runtime/last_error.h"
#include "verify_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xq_status verify_out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory while verifying");
}

/* ------------------------------------------------------------------ specs */

static void release_spec(verifier *v)
{
    for (int i = 0; i < IMPLEMENTATIONS; i++) {
        if (v->device_weights[i])
            xq_device_free(v->context, v->device_weights[i]);
        xq_plan_destroy(v->plan[i]);
        v->device_weights[i] = 0;
        v->plan[i] = NULL;
    }
    page_codec_destroy(v->codec);
    v->codec = NULL;
    case_weights_free(&v->weights);
    v->spec_index = -1;
}

static xq_status open_plan(verifier *v, int implementation, error *err)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = v->spec.json;
    options.implementation = (xq_implementation)implementation;
    options.max_batch = CASE_MAX_BATCH;
    options.max_tokens = 1024;
    options.max_append = 1024 * CASE_MAX_BATCH;
    xq_status status = xq_plan_create(v->context, &options, &v->plan[implementation]);
    if (status != XQ_OK)
        return last_error_read(v->context, status, err);
    xq_plan_info *info = &v->info[implementation];
    *info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    status = xq_plan_query(v->plan[implementation], info);
    if (status != XQ_OK)
        return last_error_read(v->context, status, err);

    xq_weights w = XQ_WEIGHTS_INIT;
    const case_weights *m = &v->weights;
    if (v->spec.latent && implementation != XQ_FP16_KV) {
        w.uk = m->uk, w.ak = m->ak, w.uv = m->uv, w.av = m->av;
    } else {
        w.wk = m->wk, w.wv = m->wv;
    }
    void *packed = malloc(info->weights_bytes);
    if (!packed)
        return verify_out_of_memory(err);
    status = xq_plan_pack_weights(v->plan[implementation], &w, packed, info->weights_bytes);
    if (status == XQ_OK)
        status = xq_device_alloc(v->context, info->weights_bytes, &v->device_weights[implementation]);
    if (status == XQ_OK)
        status =
            xq_device_write(v->context, v->device_weights[implementation], packed, info->weights_bytes);
    free(packed);
    return status == XQ_OK ? XQ_OK : last_error_read(v->context, status, err);
}

static xq_status open_spec(verifier *v, int64_t index, error *err)
{
    if (v->spec_index == index)
        return XQ_OK;
    release_spec(v);
    random_stream r = random_begin(v->seed, (uint64_t)index * 2);
    case_spec_draw(&r, &v->spec);
    xq_status status = case_weights_draw(&r, &v->spec, &v->weights, err);
    for (int i = 0; i < IMPLEMENTATIONS && status == XQ_OK; i++)
        status = open_plan(v, i, err);
    if (status == XQ_OK)
        status = page_codec_create(v->generator, xq_plan_spec(v->plan[XQ_FUSED]), &v->codec, err);
    if (status == XQ_OK)
        status = reference_model_read(xq_plan_spec(v->plan[XQ_FUSED]), &v->model, err);
    if (status == XQ_OK)
        v->spec_index = index;
    else
        release_spec(v);
    return status;
}

/* ------------------------------------------------------------------ cases */

static void describe(const verifier *v, const case_shape *shape, verify_result *result)
{
    int used = snprintf(result->description, sizeof result->description, "%s lengths [", v->spec.json);
    for (int i = 0; i < shape->batch && used < (int)sizeof result->description; i++)
        used += snprintf(result->description + used, sizeof result->description - (size_t)used,
                         i ? ", %d" : "%d", shape->lengths[i]);
    if (used < (int)sizeof result->description)
        snprintf(result->description + used, sizeof result->description - (size_t)used, "]");
}

static int within_bounds(const verify_result *result)
{
    int good = result->quantizer_mismatches == 0 && result->append_error <= 0.51 &&
               result->kv_append_error <= VERIFY_BOUND;
    for (int i = 0; i < IMPLEMENTATIONS; i++)
        good = good && result->out_error[i] <= VERIFY_BOUND && result->lse_error[i] <= VERIFY_BOUND * 2;
    return good;
}

static xq_status run_case(verifier *v, const case_shape *shape, verify_result *result, error *err)
{
    verify_run runs[IMPLEMENTATIONS] = {0};
    xq_status status = verify_run_device(v, XQ_FUSED, shape, NULL, &runs[XQ_FUSED], err);
    if (status == XQ_OK)
        status = verify_run_device(v, XQ_UNFUSED, shape, runs[XQ_FUSED].pages, &runs[XQ_UNFUSED], err);
    if (status == XQ_OK)
        status = verify_run_device(v, XQ_FP16_KV, shape, NULL, &runs[XQ_FP16_KV], err);
    if (status == XQ_OK)
        status = verify_compare(v, runs, result, err);
    for (int i = 0; i < IMPLEMENTATIONS; i++)
        verify_run_free(&runs[i]);
    return status;
}

xq_status verifier_run(verifier *v, int64_t index, verify_result *result, error *err)
{
    memset(result, 0, sizeof *result);
    snprintf(result->description, sizeof result->description, "%s", "a spec that could not be opened");
    if (open_spec(v, index / VERIFY_SHAPES_PER_SPEC, err) != XQ_OK) {
        snprintf(result->description, sizeof result->description, "%.500s", v->spec.json);
        return err->status;
    }
    case_shape shape;
    random_stream r = random_begin(v->seed, (uint64_t)index * 2 + 1);
    if (case_shape_draw(&r, &v->spec, &shape, err) != XQ_OK)
        return err->status;
    describe(v, &shape, result);
    if (run_case(v, &shape, result, err) == XQ_OK)
        result->passed = within_bounds(result);
    case_shape_free(&shape);
    return err->status;
}

xq_status verifier_create(xq_context *context, const char *template_dir, uint64_t seed, verifier **out,
                          error *err)
{
    verifier *v = calloc(1, sizeof *v);
    if (!v)
        return verify_out_of_memory(err);
    v->context = context;
    v->seed = seed;
    v->spec_index = -1;
    if (gen_create(template_dir, &v->generator, err) != XQ_OK) {
        free(v);
        return err->status;
    }
    *out = v;
    return XQ_OK;
}

void verifier_destroy(verifier *v)
{
    if (!v)
        return;
    release_spec(v);
    gen_destroy(v->generator);
    free(v);
}
