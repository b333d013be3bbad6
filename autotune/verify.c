#include "verify.h"

#include "../runtime/half.h"
#include "../runtime/last_error.h"
#include "page_codec.h"
#include "quantizer.h"
#include "reference.h"
#include "verify_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMPLEMENTATIONS = 3 };

struct verifier {
    xq_context *context;
    gen *generator;
    uint64_t seed;
    /* What the cases of one spec share. */
    int64_t spec_index; /* -1: none */
    case_spec spec;
    case_weights weights;
    reference_model model;
    page_codec *codec;
    xq_plan *plan[IMPLEMENTATIONS];
    xq_plan_info info[IMPLEMENTATIONS];
    uint64_t device_weights[IMPLEMENTATIONS];
};

/* Device buffers of one case, freed together. */
typedef struct buffers {
    xq_context *context;
    uint64_t pointers[32];
    int count;
    xq_status status;
} buffers;

/* `bytes` of device memory holding `data` (or NaN patterns where NULL); 0 once anything has failed. */
static uint64_t buffer(buffers *b, const void *data, size_t bytes)
{
    uint64_t pointer = 0;
    if (b->status == XQ_OK)
        b->status = xq_device_alloc(b->context, bytes ? bytes : 1, &pointer);
    if (b->status != XQ_OK)
        return 0;
    b->pointers[b->count++] = pointer;
    b->status = data ? xq_device_write(b->context, pointer, data, bytes)
                     : xq_device_fill(b->context, pointer, 0xff, bytes);
    return pointer;
}

static void buffers_free(buffers *b)
{
    for (int i = 0; i < b->count; i++)
        xq_device_free(b->context, b->pointers[i]);
}

static xq_status out_of_memory(error *err)
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
        return out_of_memory(err);
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

/* ------------------------------------------------------------------ one run on the device */

/* A cache filled by append, and what attend made of it. */
typedef struct run {
    const case_shape *shape;
    uint8_t *pages; /* pool, host copy */
    double *out;    /* [batch, heads, head_dim] */
    float *lse;     /* [batch, heads] */
} run;

static void run_free(run *r)
{
    free(r->pages);
    free(r->out);
    free(r->lse);
    memset(r, 0, sizeof *r);
}

static xq_status append_all(verifier *v, int implementation, const case_shape *shape, xq_append_args args)
{
    const uint64_t x = args.x, sequence = args.token_sequence, position = args.token_position;
    for (int i = 0; i < shape->appends; i++) {
        int first = shape->tokens * i / shape->appends, end = shape->tokens * (i + 1) / shape->appends;
        args.tokens = end - first;
        args.x = x + (uint64_t)first * (uint64_t)v->spec.hidden * 2;
        args.token_sequence = sequence + (uint64_t)first * 4;
        args.token_position = position + (uint64_t)first * 4;
        xq_status status = xq_plan_append(v->plan[implementation], &args, NULL);
        if (status != XQ_OK)
            return status;
    }
    return XQ_OK;
}

/* Appends (into `pages`, a pool of NaN) unless the pool is filled already, then attends. */
static xq_status run_device(verifier *v, int implementation, const case_shape *shape, const uint8_t *filled,
                            run *out, error *err)
{
    const xq_plan_info *info = &v->info[implementation];
    size_t pool = (size_t)shape->pool_pages * info->page_bytes;
    size_t heads = (size_t)shape->batch * (size_t)v->spec.heads, values = heads * (size_t)v->spec.head_dim;
    buffers b = {.context = v->context};
    xq_append_args append = XQ_APPEND_ARGS_INIT;
    xq_attend_args attend = XQ_ATTEND_ARGS_INIT;
    append.table.batch = shape->batch;
    append.table.indptr = buffer(&b, shape->indptr, (size_t)(shape->batch + 1) * 4);
    append.table.indices = buffer(&b, shape->indices, (size_t)(shape->table_entries + 4) * 4);
    append.table.last_page_len = buffer(&b, shape->last_page_len, (size_t)shape->batch * 4);
    append.x = buffer(&b, shape->x, (size_t)shape->tokens * (size_t)v->spec.hidden * 2);
    append.token_sequence = buffer(&b, shape->token_sequence, (size_t)shape->tokens * 4);
    append.token_position = buffer(&b, shape->token_position, (size_t)shape->tokens * 4);
    append.pages = buffer(&b, filled, pool);
    append.weights = v->device_weights[implementation];
    append.workspace = buffer(&b, NULL, info->workspace_bytes);
    append.workspace_bytes = info->workspace_bytes;
    if (b.status == XQ_OK && info->workspace_bytes)
        b.status = xq_device_fill(v->context, append.workspace, 0, info->workspace_bytes);
    attend.max_tokens = shape->longest;
    attend.q = buffer(&b, shape->q, values * 2);
    attend.out = buffer(&b, NULL, values * 2);
    attend.lse = buffer(&b, NULL, heads * 4);
    attend.table = append.table;
    attend.pages = append.pages;
    attend.weights = append.weights;
    attend.workspace = append.workspace;
    attend.workspace_bytes = append.workspace_bytes;

    if (b.status == XQ_OK && !filled)
        b.status = append_all(v, implementation, shape, append);
    if (b.status == XQ_OK)
        b.status = xq_plan_attend(v->plan[implementation], &attend, NULL);
    if (b.status == XQ_OK)
        b.status = xq_device_synchronize(v->context);

    out->shape = shape;
    out->pages = malloc(pool);
    out->out = malloc(values * sizeof *out->out);
    out->lse = malloc(heads * sizeof *out->lse);
    uint16_t *halves = malloc(values * sizeof *halves);
    int complete = out->pages && out->out && out->lse && halves;
    if (b.status == XQ_OK && complete)
        b.status = xq_device_read(v->context, out->pages, append.pages, pool);
    if (b.status == XQ_OK && complete)
        b.status = xq_device_read(v->context, halves, attend.out, values * 2);
    if (b.status == XQ_OK && complete)
        b.status = xq_device_read(v->context, out->lse, attend.lse, heads * 4);
    if (b.status != XQ_OK)
        last_error_read(v->context, b.status, err);
    else if (!complete)
        out_of_memory(err);
    else
        half_to_doubles(out->out, halves, values);
    free(halves);
    buffers_free(&b);
    if (err->status != XQ_OK)
        run_free(out);
    return err->status;
}

/* ------------------------------------------------------------------ comparison */

static const uint8_t *page_of(const verifier *v, const run *r, int implementation, int sequence,
                              int position)
{
    int entry = r->shape->indptr[sequence] + position / v->spec.page;
    return r->pages + (size_t)r->shape->indices[entry] * v->info[implementation].page_bytes;
}

/* Method x stores the quantized input itself: every code, scale and offset must be the host's. */
static int quantizer_mismatches(const verifier *v, const run *r, int t)
{
    const case_shape *shape = r->shape;
    const int width = v->spec.hidden, group = v->codec->group;
    size_t groups = quantizer_groups((size_t)width, (size_t)group);
    uint8_t expected[8192], got[8192];
    uint16_t params[4][512];
    int position = shape->token_position[t], mismatches = 0;
    const uint8_t *page = page_of(v, r, XQ_FUSED, shape->token_sequence[t], position);
    quantizer_encode(shape->x + (size_t)t * (size_t)width, (size_t)width, v->codec->bits, (size_t)group,
                     expected, params[0], params[1]);
    page_codec_read(v->codec, 0, page, position % v->spec.page, got, params[2], params[3]);
    for (int c = 0; c < width; c++)
        mismatches += expected[c] != got[c];
    for (size_t g = 0; g < groups; g++)
        mismatches +=
            params[0][g] != params[2][g] || half_to_float(params[1][g]) != half_to_float(params[3][g]);
    return mismatches;
}

/* Latents: the projection's own rounding keeps codes from being predictable bit for bit. The largest
 * distance between the cached and the exact value, in quantization steps, beyond what rounding of the
 * latent to f16 explains; 0.5 is a perfect quantizer. */
static double latent_error(const verifier *v, const run *r, int stream, int t)
{
    const case_shape *shape = r->shape;
    const int width = v->codec->stream[stream].width, position = shape->token_position[t];
    const float *u = stream ? v->weights.uv : v->weights.uk;
    const uint16_t *x = shape->x + (size_t)t * (size_t)v->spec.hidden;
    uint8_t codes[8192];
    uint16_t scale[512], offset[512];
    double worst = 0;
    page_codec_read(v->codec, stream, page_of(v, r, XQ_FUSED, shape->token_sequence[t], position),
                    position % v->spec.page, codes, scale, offset);
    for (int c = 0; c < width; c++) {
        double exact = 0, magnitude = 0, s = half_to_float(scale[c / v->codec->group]);
        for (int i = 0; i < v->spec.hidden; i++) {
            double term = (double)half_to_float(x[i]) * (double)u[(size_t)i * (size_t)width + (size_t)c];
            exact += term;
            magnitude += fabs(term);
        }
        double cached = s * codes[c] + half_to_float(offset[c / v->codec->group]);
        double rounding = fabs(exact) * 0x1p-10 + magnitude * 0x1p-20 + 255 * s * 0x1p-10;
        double steps = (fabs(cached - exact) - rounding) / (s > 0 ? s : 0x1p-14);
        if (!(steps <= worst)) /* a NaN is the worst of all */
            worst = steps;
    }
    return worst;
}

static void check_append(const verifier *v, const run *r, verify_result *result)
{
    for (int t = 0; t < r->shape->tokens; t++) {
        if (!v->spec.latent) {
            result->quantizer_mismatches += quantizer_mismatches(v, r, t);
        } else if (t % 29 == 0) { /* a projection in double precision is slow: some tokens only */
            for (int stream = 0; stream < 2; stream++) {
                double steps = latent_error(v, r, stream, t);
                if (!(steps <= result->append_error))
                    result->append_error = steps;
            }
        }
    }
}

/* Rows of one sequence as cached: x̂ (or L̂k) and L̂v. */
static void read_sequence(const verifier *v, const run *r, int sequence, double *xk, double *xv)
{
    for (int t = 0; t < r->shape->lengths[sequence]; t++) {
        const uint8_t *page = page_of(v, r, XQ_FUSED, sequence, t);
        page_codec_dequantize(v->codec, 0, page, t % v->spec.page,
                              xk + (size_t)t * (size_t)v->codec->stream[0].width);
        if (v->spec.latent)
            page_codec_dequantize(v->codec, 1, page, t % v->spec.page,
                                  xv + (size_t)t * (size_t)v->codec->stream[1].width);
    }
}

/* Keys (rotated) and values of one sequence from fp16 KV pages [2, page, Hkv, dh]. */
static void read_kv_sequence(const verifier *v, const run *r, int sequence, double *k, double *value)
{
    const size_t row = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim;
    for (int t = 0; t < r->shape->lengths[sequence]; t++) {
        const uint16_t *page = (const uint16_t *)page_of(v, r, XQ_FP16_KV, sequence, t);
        half_to_doubles(k + (size_t)t * row, page + (size_t)(t % v->spec.page) * row, row);
        half_to_doubles(value + (size_t)t * row, page + (size_t)(v->spec.page + t % v->spec.page) * row,
                        row);
    }
}

static double *to_doubles(const float *m, size_t count)
{
    double *d = malloc(count * sizeof *d);
    for (size_t i = 0; d && i < count; i++)
        d[i] = m[i];
    return d;
}

/* Compares one sequence of a run; NaN or a wrong infinity counts as an infinite error. */
static void compare_sequence(const verifier *v, const run *r, int implementation, int sequence,
                             const double *out, const double *lse, verify_result *result)
{
    size_t heads = (size_t)v->spec.heads, values = heads * (size_t)v->spec.head_dim;
    double e = reference_error(out, r->out + (size_t)sequence * values, values);
    if (!(e <= result->out_error[implementation]))
        result->out_error[implementation] = e;
    for (size_t h = 0; h < heads; h++) {
        double got = r->lse[(size_t)sequence * heads + h];
        double difference = got == lse[h] ? 0 : fabs(got - lse[h]); /* -inf for an empty sequence */
        if (!(difference <= result->lse_error[implementation]))
            result->lse_error[implementation] = difference;
    }
}

/* Working memory of the comparison, for the longest sequence of a case. */
typedef struct scratch {
    double *xk, *xv, *wk, *wv, *q, *out, *lse;
} scratch;

static void scratch_free(scratch *s)
{
    free(s->xk);
    free(s->xv);
    free(s->wk);
    free(s->wv);
    free(s->q);
    free(s->out);
    free(s->lse);
}

static xq_status scratch_create(const verifier *v, const case_shape *shape, scratch *s, error *err)
{
    const case_spec *spec = &v->spec;
    const int dkv = spec->kv_heads * spec->head_dim;
    const int inner_k = spec->latent ? spec->rank_k : spec->hidden,
              inner_v = spec->latent ? spec->rank_v : spec->hidden;
    const int widest = spec->hidden > dkv ? spec->hidden : dkv;
    size_t rows = (size_t)shape->longest + 1, values = (size_t)spec->heads * (size_t)spec->head_dim;
    s->xk = malloc(rows * (size_t)widest * sizeof(double));
    s->xv = malloc(rows * (size_t)widest * sizeof(double));
    s->wk = to_doubles(spec->latent ? v->weights.ak : v->weights.wk, (size_t)inner_k * (size_t)dkv);
    s->wv = to_doubles(spec->latent ? v->weights.av : v->weights.wv, (size_t)inner_v * (size_t)dkv);
    s->q = malloc(values * sizeof(double));
    s->out = malloc(values * sizeof(double));
    s->lse = malloc((size_t)spec->heads * sizeof(double));
    if (s->xk && s->xv && s->wk && s->wv && s->q && s->out && s->lse)
        return XQ_OK;
    scratch_free(s);
    return out_of_memory(err);
}

static void load_query(const verifier *v, const case_shape *shape, int sequence, double *q)
{
    size_t values = (size_t)v->spec.heads * (size_t)v->spec.head_dim;
    half_to_doubles(q, shape->q + (size_t)sequence * values, values);
}

/* Both quantized implementations against the reference on the cache that append filled. */
static xq_status compare_quantized(const verifier *v, const run *fused, const run *unfused, scratch *s,
                                   verify_result *result, error *err)
{
    const case_spec *spec = &v->spec;
    reference_factors factors = {s->xk,
                                 spec->latent ? s->xv : s->xk,
                                 s->wk,
                                 s->wv,
                                 spec->latent ? spec->rank_k : spec->hidden,
                                 spec->latent ? spec->rank_v : spec->hidden};
    for (int i = 0; i < fused->shape->batch; i++) {
        read_sequence(v, fused, i, s->xk, s->xv);
        load_query(v, fused->shape, i, s->q);
        if (reference_attend_factors(&v->model, fused->shape->lengths[i], &factors, s->q, s->out, s->lse,
                                     err) != XQ_OK)
            return err->status;
        compare_sequence(v, fused, XQ_FUSED, i, s->out, s->lse, result);
        compare_sequence(v, unfused, XQ_UNFUSED, i, s->out, s->lse, result);
    }
    return XQ_OK;
}

/* Keys and values that the fp16 cache should hold: x * Wk rotated, x * Wv. */
static void check_kv_append(const verifier *v, const run *r, int sequence, const double *k,
                            const double *value, verify_result *result)
{
    const case_shape *shape = r->shape;
    const int hidden = v->spec.hidden;
    const size_t row = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim;
    double *expected = malloc(2 * row * sizeof *expected);
    for (int t = 0; expected && t < shape->tokens; t += 41) {
        if (shape->token_sequence[t] != sequence)
            continue;
        const uint16_t *x = shape->x + (size_t)t * (size_t)hidden;
        memset(expected, 0, 2 * row * sizeof *expected);
        for (int i = 0; i < hidden; i++) {
            for (size_t c = 0; c < row; c++) {
                expected[c] += (double)half_to_float(x[i]) * (double)v->weights.wk[(size_t)i * row + c];
                expected[row + c] +=
                    (double)half_to_float(x[i]) * (double)v->weights.wv[(size_t)i * row + c];
            }
        }
        int position = shape->token_position[t];
        reference_rotate(&v->model, expected, 1, v->spec.kv_heads, position);
        double ek = reference_error(expected, k + (size_t)position * row, row);
        double ev = reference_error(expected + row, value + (size_t)position * row, row);
        double e = ek > ev || isnan(ek) ? ek : ev;
        if (!(e <= result->kv_append_error))
            result->kv_append_error = e;
    }
    if (!expected)
        result->kv_append_error = INFINITY;
    free(expected);
}

static xq_status compare_kv(const verifier *v, const run *kv, scratch *s, verify_result *result, error *err)
{
    for (int i = 0; i < kv->shape->batch; i++) {
        int length = kv->shape->lengths[i];
        read_kv_sequence(v, kv, i, s->xk, s->xv);
        check_kv_append(v, kv, i, s->xk, s->xv, result);
        load_query(v, kv->shape, i, s->q);
        reference_rotate(&v->model, s->q, 1, v->spec.heads, length - 1);
        if (reference_attend(&v->model, length, s->xk, s->xv, s->q, s->out, s->lse, err) != XQ_OK)
            return err->status;
        compare_sequence(v, kv, XQ_FP16_KV, i, s->out, s->lse, result);
    }
    return XQ_OK;
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
    run runs[IMPLEMENTATIONS] = {0};
    scratch s = {0};
    xq_status status = run_device(v, XQ_FUSED, shape, NULL, &runs[XQ_FUSED], err);
    if (status == XQ_OK)
        status = run_device(v, XQ_UNFUSED, shape, runs[XQ_FUSED].pages, &runs[XQ_UNFUSED], err);
    if (status == XQ_OK)
        status = run_device(v, XQ_FP16_KV, shape, NULL, &runs[XQ_FP16_KV], err);
    if (status == XQ_OK)
        status = scratch_create(v, shape, &s, err);
    if (status == XQ_OK) {
        check_append(v, &runs[XQ_FUSED], result);
        status = compare_quantized(v, &runs[XQ_FUSED], &runs[XQ_UNFUSED], &s, result, err);
        if (status == XQ_OK)
            status = compare_kv(v, &runs[XQ_FP16_KV], &s, result, err);
        scratch_free(&s);
    }
    for (int i = 0; i < IMPLEMENTATIONS; i++)
        run_free(&runs[i]);
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
        return out_of_memory(err);
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
