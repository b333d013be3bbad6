/* xq compare: compares an fp16 KV cache, an fp8 KV cache, unfused and fused rematerialization side by side.
 */
#include "compare.h"
#include "compare_plot.h"
#include "compare_profile.h"

#include "../autotune/measure/watch.h"
#include "../runtime/launch/shape.h"
#include "../runtime/plan/toolchain.h"
#include "noticed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "For each layer and bit width, runs one step with each implementation, and prints its error,\n"
    "memory, traffic, arithmetic and time, and how far the time is from the least possible. A step\n"
    "attends with the queries at the last positions. A cross-layer method also adds the layer's deltas\n"
    "to the accumulator, which the layers from the base on fill first.\n\n"
    "--tokens and --batch take lists. Every combination is compared, and one table shows them all;\n"
    "--plot draws it. --json has every figure of each combination.\n\n"
    "Activations come from a safetensors file with x.L [tokens, d] and q.L [tokens, H, dh] for layers\n"
    "L, as tools/models.py writes it. Weights come from the model directory, or else from wk.L and wv.L\n"
    "of that file. --synthetic draws all of them from a seed.";

enum { MOST_BITS = 8 };
/* fp8 KV comes after fp16 KV, because its scales are found in the cache of fp16 KV; fused comes after
 * unfused, because it takes over the cache of unfused. */
static const xq_implementation order[COMPARE_IMPLEMENTATIONS] = {
    [COMPARE_FP16] = XQ_FP16_KV,
    [COMPARE_FP8] = XQ_FP8_KV,
    [COMPARE_UNFUSED] = XQ_UNFUSED,
    [COMPARE_FUSED] = XQ_FUSED,
};

struct comparison {
    struct compare_options o;
    struct compare_sizes sizes;
    struct compare_plot plot;
    bool profile;
    struct compare_profiles profiles;
    xq_context *context;
    gen *generator;
    struct compare_input *input;
    int bits[MOST_BITS], bit_count;
    char *specs[MOST_BITS]; /* one for each of `bits`; plans complete them for their device */
    char *completed;        /* the first of `specs`, completed */
    int *layers, layer_count;
    struct cli_traits traits[MOST_BITS];
    struct compare_row *rows;
    int row_count;      /* number of rows when all are done */
    double tokens_done; /* tokens of all sequences of the finished rows, which their work grows with */
    struct cli_progress progress;
    measure_watch watch;
};

/* --------------------------------------------------------------- settings */

static xq_status read_bits(struct comparison *c, const char *spec_json, error *err)
{
    const struct cli_list *list = &c->o.bits;
    struct cli_choices chosen;
    cli_choices_read(spec_json, &chosen);
    for (int i = 0; i < list->count; i++) {
        int64_t bits;
        if (cli_read_whole(list->items[i], &bits) != CLI_NUMBER || bits < 1 || bits > 16)
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "--bits: '%s' is no bit width; valid: 2, 3, 4, 8", list->items[i]);
        if (c->bit_count == MOST_BITS)
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "--bits: too many bit widths; valid: at most %d", MOST_BITS);
        c->bits[c->bit_count++] = (int)bits;
    }
    if (c->bit_count == 0 && (c->o.spec.spec_file || chosen.has_bits)) {
        c->bits[c->bit_count++] = 0; /* the width of the spec */
    } else if (c->bit_count == 0) {
        c->bits[c->bit_count++] = 4;
        c->bits[c->bit_count++] = 8;
    }
    return XQ_OK;
}

/* The spec with these bits, and for the kernels that --queries needs. */
static xq_status spec_with_bits(const struct comparison *c, const char *spec_json, int bits, char **out,
                                error *err)
{
    cJSON *overrides = cJSON_CreateObject();
    if (bits)
        cli_override(overrides, "cache.bits", cJSON_CreateNumber(bits), err);
    if (c->o.queries > 1 && err->status == XQ_OK)
        cli_override(overrides, "queries", cJSON_CreateString("many"), err);
    if (err->status != XQ_OK) {
        cJSON_Delete(overrides);
        return err->status;
    }
    return cli_spec_override(c->generator, spec_json, overrides, out, err);
}

/* Reads specs before any device is opened, so that sizes are known and bad input is found early. */
static xq_status read_specs(struct comparison *c, struct compare_task *task, const char *spec_json,
                            error *err)
{
    for (int i = c->bit_count; i-- > 0;) {
        free(c->completed);
        c->completed = NULL;
        if (spec_with_bits(c, spec_json, c->bits[i], &c->specs[i], err) != XQ_OK ||
            cli_any_layer_spec(c->generator, c->specs[i], &c->completed, err) != XQ_OK ||
            cli_traits_of(c->completed, &c->traits[i], err) != XQ_OK)
            return err->status;
    }
    task->traits = c->traits[0];
    return reference_model_read(c->completed, &task->reference, err);
}

/* Reads the reference of a layer, because a layer may have a window and a rotary embedding of its own. */
static xq_status read_reference(const struct comparison *c, struct compare_task *task, int number,
                                error *err)
{
    char *spec = NULL, *completed = NULL;
    if (cli_layer_spec(c->generator, c->specs[0], number, task->base_layer, false, &spec, err) == XQ_OK &&
        cli_complete_sizes(c->generator, spec, &completed, err) == XQ_OK)
        reference_model_read(completed, &task->reference, err);
    free(completed);
    free(spec);
    return err->status;
}

/* Checks the tuning for each layer and bit width, and that --set tunes only kernels that run. */
static xq_status check_tuning(struct comparison *c, const struct compare_task *task, error *err)
{
    struct cli_families families = {0};
    for (int i = 0; i < c->layer_count * c->bit_count; i++) {
        char *spec = NULL;
        if (cli_layer_spec(c->generator, c->specs[i % c->bit_count], c->layers[i / c->bit_count],
                           task->base_layer, false, &spec, err) == XQ_OK)
            cli_check_tuning(c->context, spec, order, COMPARE_IMPLEMENTATIONS, &families, err);
        free(spec);
        if (err->status != XQ_OK)
            return err->status;
    }
    return cli_spec_check_tuning(&c->o.spec, families.names, families.count, err);
}

/* Completes the spec that results name for the device, after a check of the tuning for the device. */
static xq_status complete_for_device(struct comparison *c, const struct compare_task *task, error *err)
{
    char *spec = NULL, *completed = NULL;
    struct cli_choices chosen;
    cli_choices_read(c->specs[0], &chosen);
    if ((!chosen.is_tuned || check_tuning(c, task, err) == XQ_OK) &&
        cli_any_layer_choices(c->generator, c->specs[0], &spec, err) == XQ_OK &&
        context_complete(c->context, spec, &completed, err) == XQ_OK) {
        free(c->completed);
        c->completed = completed;
    }
    free(spec);
    return err->status;
}

/* ------------------------------------------------------------------- work */

static void show_progress(struct comparison *c, int layer, const struct compare_size *size,
                          const char *what)
{
    char at[64] = "", detail[160];
    const double tokens = c->sizes.tokens_sum * c->layer_count * c->bit_count * COMPARE_IMPLEMENTATIONS;
    if (c->sizes.count > 1)
        snprintf(at, sizeof at, "%lld tokens, batch %d, ", (long long)size->tokens, size->batch);
    snprintf(detail, sizeof detail, "layer %d, %s%s", layer, at, what);
    cli_progress_update(&c->progress, c->tokens_done / tokens, detail);
}

static void show_row(struct comparison *c, int layer, const struct compare_size *size, int bits,
                     xq_implementation implementation)
{
    char what[48];
    snprintf(what, sizeof what, "%d bits, %s", bits, compare_name(implementation));
    show_progress(c, layer, size, what);
}

/* Compares at one bit width, whose rows are `rows`. KV caches are the same at any width: they are
 * measured once for each size, and their rows are repeated beside each width. */
static xq_status compare_bits(struct comparison *c, struct compare_task *task,
                              const struct compare_size *size, int which, struct compare_row *rows,
                              error *err)
{
    char *spec = NULL;
    if (cli_layer_spec(c->generator, c->specs[which], task->layer->number, task->base_layer,
                       c->o.queries > 1, &spec, err) != XQ_OK ||
        cli_traits_read(c->generator, spec, &task->traits, err) != XQ_OK) {
        free(spec);
        return err->status;
    }
    task->spec = c->specs[which];
    task->layer_spec = spec;
    int bits = c->traits[which].bits; /* width of the comparison; a base layer has its own */
    driver d = {0};
    struct compare_expected expected = {0};
    struct compare_scales scales = {0};
    task->expected = &expected;
    task->scales = &scales;
    for (int i = 0; i < COMPARE_IMPLEMENTATIONS; i++) {
        struct compare_row *row = &rows[i];
        if (shape_is_kv(order[i]) && which > 0) {
            *row = row[-COMPARE_IMPLEMENTATIONS];
        } else {
            show_row(c, task->layer->number, size, bits, order[i]);
            bool cached = order[i] == XQ_FUSED && !layer_is_cross(&task->traits.shape);
            if (compare_measure(task, order[i], &d, cached, row, err) != XQ_OK)
                break;
        }
        row->bits = bits;
        c->tokens_done += (double)size->tokens * size->batch;
    }
    driver_close(&d);
    compare_expected_free(&expected);
    free(spec);
    task->layer_spec = NULL;
    task->expected = NULL;
    task->scales = NULL;
    return err->status;
}

/* Compares at one size, for which the layer has texts already. `rows`: the rows of this size. */
static xq_status compare_at(struct comparison *c, struct compare_task *task,
                            const struct compare_size *size, struct compare_row *rows, error *err)
{
    double *exact = NULL;
    show_progress(c, task->layer->number, size, "exact attention");
    if (compare_exact(task, &exact, err) == XQ_OK) {
        task->exact = exact;
        for (int i = 0; i < c->bit_count && err->status == XQ_OK; i++)
            compare_bits(c, task, size, i, rows + i * COMPARE_IMPLEMENTATIONS, err);
    }
    free(exact);
    task->exact = NULL;
    return err->status;
}

/* Compares one layer, whose rows are `rows`. Its weights serve all sizes; it has texts and caches of one
 * size at a time. */
static xq_status compare_layer(struct comparison *c, struct compare_task *task, int number,
                               struct compare_row *rows, error *err)
{
    struct compare_layer layer = {0};
    read_reference(c, task, number, err);
    for (int i = 0; i < c->sizes.count && err->status == XQ_OK; i++) {
        const struct compare_size *size = &c->sizes.items[i];
        show_progress(c, number, size, "preparing its inputs");
        if (compare_input_resize(c->input, size->tokens, size->batch, err) == XQ_OK &&
            (i == 0 ? compare_input_layer(c->input, number, &c->traits[0], &layer, err)
                    : compare_input_texts(c->input, &c->traits[0], &layer, err)) == XQ_OK) {
            task->layer = &layer;
            compare_at(c, task, size, rows + size->place * c->bit_count * COMPARE_IMPLEMENTATIONS, err);
        }
    }
    compare_layer_free(&layer);
    task->layer = NULL;
    return err->status;
}

static xq_status compare_all(struct comparison *c, struct compare_task *task, error *err)
{
    const int of_layer = COMPARE_IMPLEMENTATIONS * c->sizes.count * c->bit_count;
    c->row_count = of_layer * c->layer_count;
    c->rows = calloc((size_t)c->row_count, sizeof *c->rows);
    if (!c->rows)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    for (int i = 0; i < c->layer_count && err->status == XQ_OK; i++)
        compare_layer(c, task, c->layers[i], c->rows + i * of_layer, err);
    return err->status;
}

/* Refuses several layers, because their curves would lie on each other. */
static xq_status begin_plot(struct comparison *c, error *err)
{
    if (!c->plot.path)
        return XQ_OK;
    if (c->layer_count > 1)
        return cli_misuse(err, "--plot: draws one layer, and there are %d; choose one with --layers L",
                          c->layer_count);
    return compare_plot_begin(&c->plot, err);
}

static xq_status prepare(struct comparison *c, struct compare_task *task, error *err)
{
    char *spec = NULL;
    int64_t tokens;
    cli_reads_common(&c->o.common, &c->o.spec);
    cli_reads("--activations", c->o.activations);
    cli_reads("--prepared", c->o.prepared);
    if (cli_begin_json(&c->o.common, err) == XQ_OK &&
        cli_spec_json(&c->o.spec, &c->o.common, &spec, err) == XQ_OK && read_bits(c, spec, err) == XQ_OK &&
        compare_sizes_read(&c->sizes, &c->o, err) == XQ_OK &&
        gen_create(c->o.common.templates, &c->generator, err) == XQ_OK)
        read_specs(c, task, spec, err);
    free(spec);
    if (err->status != XQ_OK)
        return err->status;
    task->generator = c->generator;
    task->seed = (uint64_t)c->o.common.seed;
    task->base_layer = (int)c->o.base_layer;
    if (compare_input_open(&c->o, c->generator, &task->traits, &c->input, &c->layers, &c->layer_count,
                           &tokens, err) != XQ_OK ||
        compare_sizes_make(&c->sizes, c->input, tokens, err) != XQ_OK)
        return err->status;
    return begin_plot(c, err);
}

static xq_status use_device(struct comparison *c, struct compare_task *task, error *err)
{
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    xq_context_device(c->context, &info);
    if (c->profile && !info.is_sim)
        return cli_misuse(
            err,
            "--profile: only the software device counts instructions, and %s does not; give --device sim",
            info.name);
    task->input = c->input;
    task->context = c->context;
    task->profiles = c->profile ? &c->profiles : NULL;
    if (complete_for_device(c, task, err) != XQ_OK)
        return err->status;
    cli_progress_update(&c->progress, 0, "measuring the ceilings");
    c->watch.waits = cli_show_waiting;
    task->watch = &c->watch;
    return ceilings_find(c->context, &c->watch, &task->ceilings, err);
}

/* ----------------------------------------------------------------- output */

static const char *model_name(const struct comparison *c)
{
    const char *name = c->traits[0].model_name;
    return c->o.spec.model ? c->o.spec.model : *name ? name : c->o.spec.spec_file;
}

static xq_status report(const struct comparison *c, const struct compare_task *task, error *err)
{
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    struct compare_result result = {.rows = c->rows,
                                    .count = c->row_count,
                                    .sizes = c->sizes.count,
                                    .widths = c->bit_count,
                                    .device = &info,
                                    .ceilings = &task->ceilings,
                                    .traits = &c->traits[0],
                                    .spec = c->completed,
                                    .generator = c->generator,
                                    .model_name = model_name(c),
                                    .input_name = c->o.synthetic ? "synthetic" : c->o.activations};
    xq_context_device(c->context, &info);
    if (c->plot.path && compare_plot_write(&c->plot, &result, err) != XQ_OK)
        return err->status;
    if (!cli_json_to_stdout(&c->o.common)) {
        compare_print(&result);
        compare_profile_print(&result);
    }
    cJSON *json = compare_json(&result);
    cli_add_load(json, &c->watch.noticed);
    cli_write_json(&c->o.common, json, err);
    cJSON_Delete(json);
    return err->status;
}

static void release(struct comparison *c)
{
    compare_input_close(c->input);
    gen_destroy(c->generator);
    for (int i = 0; i < MOST_BITS; i++)
        free(c->specs[i]);
    free(c->completed);
    free(c->layers);
    free(c->rows);
    compare_profiles_free(&c->profiles);
    cli_list_free(&c->o.layers);
    cli_list_free(&c->o.bits);
    compare_sizes_free(&c->sizes);
    xq_context_destroy(c->context);
    measure_watch_close(&c->watch);
}

static const cli_bounds bounds[] = {
    {"--tokens", 1, 1 << 24},
    {"--batch", 1, 65535},
    {"--queries", 1, 65536},
    {"--base-layer", 0, LAYER_MOST_LAYERS - 1},
    {NULL, 0, 0},
};

static int check_usage(const cli_command *command, const struct comparison *c)
{
    const struct compare_options *o = &c->o;
    if (c->plot.path && c->sizes.tokens.count < 2)
        return cli_usage("compare", "--plot: draws time and memory against cached tokens; give two or more "
                                    "numbers of tokens, for example --tokens 1024,8192");
    if (cli_excludes_set(command, "--bits", "cache.bits") != CLI_OK ||
        cli_excludes_set(command, "--queries", "queries") != CLI_OK)
        return CLI_USAGE;
    if (o->synthetic && o->activations)
        return cli_usage("compare", "--synthetic and --activations: give one of them");
    if (cli_needs_model(command) != CLI_OK)
        return CLI_USAGE;
    if (!o->activations && !o->synthetic)
        return cli_usage("compare",
                         "there is nothing to attend over; give --activations FILE or --synthetic");
    return CLI_OK;
}

const char cli_compare_summary[] = "compare fp16 KV, fp8 KV, unfused and fused side by side";

int cli_compare(int argc, char **argv)
{
    struct comparison c = {
        .o = {.tokens = COMPARE_ALL_TOKENS, .batch = 1, .queries = 1, .base_layer = CLI_BASE_LAYER}};
    struct compare_options *o = &c.o;
    const cli_option own[] = {
        {"--activations", CLI_STRING, &o->activations, "FILE", "safetensors file with x.L and q.L"},
        {"--synthetic", CLI_FLAG, &o->synthetic, NULL, "draw inputs from --seed, shaped like a model's"},
        {"--prepared", CLI_STRING, &o->prepared, "FILE", "factors that `xq prepare` wrote (computed now)"},
        {"--layers", CLI_LIST, &o->layers, "L,L...",
         "layers to compare (all in the file; 0 with --synthetic)"},
        {"--bits", CLI_LIST, &o->bits, "N,N...",
         "bit widths to compare: 2, 3, 4, 8 (4,8; with --spec, the file's)"},
        {"--tokens", CLI_LIST, &c.sizes.tokens, "N,N...",
         "cached tokens of each sequence (all in the file; 1024 with --synthetic)"},
        {"--batch", CLI_LIST, &c.sizes.batches, "N,N...", "sequences of a call (1)"},
        {"--queries", CLI_INT, &o->queries, "N", "queries of each sequence, at its last positions (1)"},
        {"--base-layer", CLI_INT, &o->base_layer, "L",
         "cross-layer: the layer that starts the accumulator (2)"},
        {"--plot", CLI_STRING, &c.plot.path, "FILE",
         "SVG plot of time and memory against --tokens; needs gnuplot; - is stdout"},
        {"--profile", CLI_FLAG, &c.profile, NULL,
         "print the template lines with the most instructions; needs --device sim"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {.name = "compare",
                           .summary = cli_compare_summary,
                           .description = description,
                           .options = own,
                           .bounds = bounds,
                           .common = &o->common,
                           .spec = &o->spec,
                           .unused = (const cli_unused[]){{"--base", "--base-layer names the layer"},
                                                          {"arch", "the device determines it"},
                                                          {NULL, NULL}}};
    struct compare_task task = {0};
    error err = ERROR_INIT;
    int status;
    if (cli_parse(&command, argc, argv, &status) && (status = check_usage(&command, &c)) == CLI_OK) {
        o->base_given = cli_given(&command, "--base-layer");
        cli_progress_begin(&c.progress, &o->common, "comparing");
        cli_progress_update(&c.progress, 0, "opening the inputs");
        if (prepare(&c, &task, &err) == XQ_OK &&
            (status = cli_open("compare", &o->common, &c.context)) == CLI_OK &&
            use_device(&c, &task, &err) == XQ_OK && compare_all(&c, &task, &err) == XQ_OK) {
            cli_progress_end(&c.progress);
            cli_warn_noticed("compare", &o->common, &c.watch.noticed);
            report(&c, &task, &err);
        }
        cli_progress_end(&c.progress);
        if (err.status != XQ_OK)
            status = cli_fail("compare", &o->common, &err);
    }
    error_clear(&err);
    release(&c);
    return status;
}
