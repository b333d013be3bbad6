/* A bench: one layer with its cache on a device, over which the candidates of a kernel family attend. */
#include "../autotune/measure/watch.h"
#include "../autotune/verify/verify.h"
#include "../runtime/launch/last_error.h"
#include "../runtime/plan/toolchain.h"
#include "tune.h"
#include "tune_ahead.h"
#include "tune_model.h"
#include "tune_shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

const char *const tune_outcome_names[] = {"measured", "wrong", "refused", "crashed", "hung"};

static const struct {
    const char *name;
    xq_implementation implementation;
} families[] = {{"attend", XQ_FUSED},       {"append", XQ_FUSED},      {"accumulate", XQ_FUSED},
                {"key_norms", XQ_FUSED},    {"kv_attend", XQ_FP16_KV}, {"kv_attend_e4m3", XQ_FP8_KV},
                {"dequantize", XQ_UNFUSED}, {"gemm", XQ_UNFUSED},      {"rope", XQ_UNFUSED}};
const char tune_families[] =
    "attend, append, accumulate, key_norms, kv_attend, kv_attend_e4m3, dequantize, gemm, rope";

bool tune_appends(const char *family)
{
    return strcmp(family, "append") == 0;
}

bool tune_family(const char *name, xq_implementation *implementation)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(name, families[i].name) == 0) {
            *implementation = families[i].implementation;
            return true;
        }
    return false;
}

const char *tune_family_of_step(xq_implementation implementation, int number)
{
    static const char *const steps[][5] = {
        [XQ_FUSED] = {"attend", "absorb", "accumulate", "key_norms", "append"},
        [XQ_UNFUSED] = {"accumulate", "dequantize", "gemm", "rope", "kv_attend"},
        [XQ_FP16_KV] = {"kv_attend"},
        [XQ_FP8_KV] = {"kv_attend_e4m3"},
    };
    return number < 5 ? steps[implementation][number] : NULL;
}

bool tune_in_graph(const struct tune_job *job, bool is_sim)
{
    return !is_sim && (!job->launch || strcmp(job->launch, "graph") == 0);
}

struct tune_bench {
    const struct tune_job *job;
    gen *generator;
    xq_context *context;
    struct compare_input *input;
    struct compare_layer layer;
    struct compare_task task;
    struct compare_expected expected;
    struct compare_scales scales;
    driver driver;
    uint64_t pages;   /* a hash of the pages that the first candidate of append wrote; 0: none yet */
    char *layer_spec; /* spec of the layer, without the candidate's parameters */
    bool cached;      /* the driver holds the layer's tokens */
    double bound;     /* allowed error (autotune/verify/verify.h) */
    double best;      /* seconds of the fastest candidate that is right; 0: none yet */
    struct tune_shapes *shapes;
    struct tune_ahead *ahead; /* NULL before the first candidate is expected */
};

/* ----------------------------------------------------------------- opening */

static xq_status open_context(struct tune_bench *b, error *err)
{
    const struct cli_common *common = &b->job->options->common;
    xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
    o.device = common->device;
    o.cache_dir = common->cache_dir;
    o.template_dir = common->templates;
    o.kernels = common->kernels;
    o.no_compile = common->no_compile;
    xq_status status = xq_context_create(&o, &b->context);
    if (status != XQ_OK)
        return last_error_read(b->context, status, err);
    if (b->job->launch && b->context->device->properties.is_sim)
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "--launch: has no effect on the software device, whose times are modelled");
    context_ignore_tables(b->context); /* candidates are compared with the family's own defaults */
    return err->status;
}

/* Finds the layer to attend over: the first one, or the first one that a cross-layer method stores deltas
 * of. */
static xq_status open_input(struct tune_bench *b, int *layer, error *err)
{
    char *spec = NULL;
    struct cli_traits traits;
    int *layers = NULL, count = 0;
    int64_t tokens;
    if (cli_any_layer_choices(b->generator, b->job->spec, &spec, err) == XQ_OK &&
        cli_traits_read(b->generator, spec, &traits, err) == XQ_OK &&
        compare_input_open(b->job->options, b->generator, &traits, &b->input, &layers, &count, &tokens,
                           err) == XQ_OK)
        *layer = layers[0];
    free(layers);
    free(spec);
    return err->status;
}

static xq_status set_bound(struct tune_bench *b, error *err)
{
    const struct cli_traits *t = &b->task.traits;
    rounding_type weights;
    if (rounding_type_named(t->costs.weights, &weights, err) == XQ_OK)
        b->bound = verify_bound(b->job->implementation, t->bfloat, weights, false,
                                verify_logit_scale(&b->task.reference));
    return err->status;
}

static xq_status open_layer(struct tune_bench *b, char **space, error *err)
{
    const struct compare_options *o = b->job->options;
    char *completed = NULL;
    int number = 0;
    if (open_input(b, &number, err) == XQ_OK &&
        cli_layer_spec(b->generator, b->job->spec, number, (int)o->base_layer, o->queries > 1,
                       &b->layer_spec, err) == XQ_OK &&
        cli_traits_read(b->generator, b->layer_spec, &b->task.traits, err) == XQ_OK &&
        context_complete(b->context, b->layer_spec, &completed, err) == XQ_OK &&
        context_space(b->context, completed, b->job->family, space, err) == XQ_OK &&
        reference_model_read(completed, &b->task.reference, err) == XQ_OK && set_bound(b, err) == XQ_OK &&
        ceilings_find(b->context, b->task.watch, &b->task.ceilings, err) == XQ_OK &&
        tune_predict(space, &b->context->device->properties, &b->task.ceilings, o, err) == XQ_OK)
        compare_input_layer(b->input, number, &b->task.traits, &b->layer, err);
    free(completed);
    return err->status;
}

xq_status tune_bench_open(const struct tune_job *job, measure_watch *watch, struct tune_bench **out,
                          xq_device_info *info, char **space, error *err)
{
    struct tune_bench *b = calloc(1, sizeof *b);
    if (!b)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    b->job = job;
    b->task.watch = watch;
    char *listed = NULL;
    if (gen_create(job->options->common.templates, &b->generator, err) == XQ_OK &&
        open_context(b, err) == XQ_OK && cli_require_toolchain(b->context, err) == XQ_OK)
        open_layer(b, &listed, err);
    if (err->status != XQ_OK) {
        free(listed);
        tune_bench_close(b);
        return err->status;
    }
    b->task.context = b->context;
    b->task.generator = b->generator;
    b->task.input = b->input;
    b->task.spec = job->spec;
    b->task.base_layer = (int)job->options->base_layer;
    b->task.seed = (uint64_t)job->options->common.seed;
    b->task.launches =
        tune_in_graph(job, b->context->device->properties.is_sim) ? COMPARE_GRAPH : COMPARE_STREAM;
    b->task.appends = tune_appends(job->family);
    b->task.layer = &b->layer;
    b->task.expected = &b->expected;
    b->task.scales = &b->scales;
    b->shapes = tune_shapes_create(&b->layer, b->task.seed);
    if (!b->shapes) {
        free(listed);
        tune_bench_close(b);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    }
    xq_context_device(b->context, info);
    *space = listed;
    *out = b;
    return XQ_OK;
}

void tune_bench_close(struct tune_bench *b)
{
    if (!b)
        return;
    tune_ahead_end(b->ahead);
    tune_shapes_destroy(b->shapes);
    driver_close(&b->driver);
    compare_expected_free(&b->expected);
    compare_layer_free(&b->layer);
    compare_input_close(b->input);
    gen_destroy(b->generator);
    xq_context_destroy(b->context);
    free(b->layer_spec);
    free(b);
}

/* ------------------------------------------------------------------ trials */

static xq_status with_parameters(struct tune_bench *b, const char *parameters, char **spec, error *err)
{
    cJSON *overrides = cJSON_CreateObject(), *tuning = cJSON_AddObjectToObject(overrides, "tuning");
    cJSON_AddItemToObject(tuning, b->job->family, cJSON_Parse(parameters));
    return cli_spec_override(b->generator, b->layer_spec, overrides, spec, err);
}

/* Without a kernel cache, compiled kernels could not be kept until they are tried. */
void tune_bench_expect(struct tune_bench *b, const char *parameters)
{
    char *spec = NULL;
    error err = ERROR_INIT;
    if (!*cache_dir(b->context->toolchain->cache))
        return;
    if (!b->ahead)
        b->ahead = tune_ahead_start(b->context, b->job->family);
    if (with_parameters(b, parameters, &spec, &err) == XQ_OK)
        tune_ahead_add(b->ahead, spec);
    error_clear(&err);
}

/* A step of a cross-layer method adds to the accumulator, and a step of append writes pages, so each of
 * their trials needs a cache of its own. */
static xq_status measure(struct tune_bench *b, struct compare_row *row, error *err)
{
    const bool cached = b->cached && !layer_is_cross(&b->task.traits.shape) && !b->task.appends;
    compare_measure(&b->task, b->job->implementation, &b->driver, cached, row, err);
    b->cached = b->cached || err->status == XQ_OK;
    return err->status;
}

/* Append writes the same bytes whatever its parameters are, so all candidates must agree with the first one
 * that this process has tried. It is the default, unless that was in the store or an earlier worker has
 * ended. */
static xq_status check_pages(struct tune_bench *b, struct tune_trial *out, error *err)
{
    const driver *d = &b->driver;
    const int layer = d->layer_count - 1;
    const size_t bytes = d->layers[layer].info.page_bytes;
    const int64_t tokens = b->job->options->tokens, page = b->task.traits.page,
                  pages = b->layer.batch * ((tokens + page - 1) / page);
    unsigned char *data = malloc(bytes);
    uint64_t hash = 1;
    xq_status status = data ? XQ_OK : XQ_ERROR_MEMORY;
    for (int64_t i = 0; i < pages && status == XQ_OK; i++) {
        status = driver_read_page(&b->driver, layer, i, data);
        hash = status == XQ_OK ? XXH3_64bits_withSeed(data, bytes, hash) : hash;
    }
    free(data);
    if (status != XQ_OK)
        return last_error_read(b->context, status, err);
    b->pages = b->pages ? b->pages : hash;
    if (hash != b->pages) {
        out->outcome = TUNE_WRONG;
        snprintf(out->reason, sizeof out->reason,
                 "the pages that it wrote differ from those of the first candidate of its process");
    }
    return XQ_OK;
}

static xq_status check_shapes(struct tune_bench *b, struct tune_trial *out, error *err)
{
    bool wrong;
    if (tune_shapes_check(b->shapes, &b->task, b->job->implementation, b->bound, &wrong, out->reason,
                          sizeof out->reason, err) == XQ_OK &&
        wrong)
        out->outcome = TUNE_WRONG;
    return err->status;
}

/* `when` stands before the sentence that describes the error. */
static void check_errors(const struct tune_bench *b, const struct compare_row *row, const char *when,
                         struct tune_trial *out)
{
    out->error = row->kernel_error;
    out->lse_error = row->lse_error;
    if (row->kernel_error <= b->bound && row->lse_error <= 2 * b->bound)
        return;
    out->outcome = TUNE_WRONG;
    snprintf(out->reason, sizeof out->reason,
             "%soutputs differ from the reference by %.3g, and log-sum-exps by %.3g; at most %.3g and %.3g "
             "are allowed",
             when, row->kernel_error, row->lse_error, b->bound, 2 * b->bound);
}

static void judge(const struct tune_bench *b, const struct compare_row *row, struct tune_trial *out)
{
    const bool in_graph = row->measured && b->task.launches == COMPARE_GRAPH;
    out->modelled = !row->measured;
    out->repeats = row->repeats;
    out->median = in_graph ? row->graph_seconds : row->seconds;
    out->low = in_graph ? row->graph_seconds_low : row->seconds_low;
    out->high = in_graph ? row->graph_seconds_high : row->seconds_high;
    out->limit = row->limit.seconds;
    out->ceilings = b->task.ceilings;
    check_errors(b, row, "", out);
}

static xq_status try(struct tune_bench *b, struct tune_trial *out, error *err)
{
    struct compare_row row;
    if (measure(b, &row, err) != XQ_OK)
        return err->status;
    judge(b, &row, out);
    if (b->task.appends && out->outcome == TUNE_MEASURED && check_pages(b, out, err) != XQ_OK)
        return err->status;
    if (out->outcome != TUNE_MEASURED || (b->best > 0 && out->median >= b->best))
        return XQ_OK;
    if (check_shapes(b, out, err) == XQ_OK && out->outcome == TUNE_MEASURED)
        b->best = out->median;
    return err->status;
}

static xq_status confirm(struct tune_bench *b, struct tune_trial *out, error *err)
{
    struct compare_row row;
    if (measure(b, &row, err) != XQ_OK)
        return err->status;
    judge(b, &row, out);
    if (out->outcome == TUNE_MEASURED && compare_repeat(&b->task, &b->driver, &row, err) == XQ_OK)
        check_errors(b, &row, "after it was measured, ", out);
    if (out->outcome == TUNE_MEASURED && err->status == XQ_OK)
        check_shapes(b, out, err);
    return err->status;
}

static void with_spec(struct tune_bench *b, const char *parameters,
                      xq_status (*work)(struct tune_bench *, struct tune_trial *, error *),
                      struct tune_trial *out)
{
    error err = ERROR_INIT;
    *out = (struct tune_trial){.outcome = TUNE_MEASURED, .error = NAN, .lse_error = NAN};
    if (with_parameters(b, parameters, &b->task.layer_spec, &err) == XQ_OK)
        work(b, out, &err);
    if (err.status != XQ_OK) {
        /* A device fault stays with its context, so the process cannot go on. */
        out->outcome = err.status == XQ_ERROR_DEVICE ? TUNE_CRASHED : TUNE_REFUSED;
        snprintf(out->reason, sizeof out->reason, "%.399s", err.message);
    }
    out->noticed = b->task.watch->noticed;
    error_clear(&err);
    free(b->task.layer_spec);
    b->task.layer_spec = NULL;
}

void tune_bench_try(struct tune_bench *b, const char *parameters, bool brief, struct tune_trial *out)
{
    b->task.brief = brief;
    with_spec(b, parameters, try, out);
}

void tune_bench_confirm(struct tune_bench *b, const char *parameters, struct tune_trial *out)
{
    b->task.brief = false;
    with_spec(b, parameters, confirm, out);
}
