/* Makes one row of the comparison: runs an implementation on a layer, checks it, counts its work and times
 * it. */
#include "../autotune/engine/cache.h"
#include "../autotune/measure/time.h"
#include "../autotune/verify/verify.h"
#include "../runtime/base/half.h"
#include "../runtime/launch/context.h"
#include "../runtime/launch/last_error.h"
#include "../runtime/launch/occupancy.h"
#include "../runtime/launch/plan.h"
#include "../runtime/launch/shape.h"
#include "compare.h"
#include "compare_check.h"
#include "compare_profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *compare_name(xq_implementation implementation)
{
    return verify_implementation_names[implementation];
}

const char *const compare_limit_names[DEVICE_LIMITS] = {
    [LIMIT_LAUNCHES] = "launches", [LIMIT_MEMORY] = "memory", [LIMIT_L2] = "L2",
    [LIMIT_SHARED] = "shared",     [LIMIT_MATRIX] = "matrix", [LIMIT_ISSUE] = "issue",
};

const char *compare_bound(const struct compare_row *row)
{
    int most = 0;
    for (int i = 1; i < DEVICE_LIMITS; i++)
        if (row->limit_seconds[i] > row->limit_seconds[most])
            most = i;
    return row->measured ? NULL : compare_limit_names[most];
}

double compare_cache_bytes(const struct compare_row *row)
{
    return row->batch * (row->cache_bytes_per_token * (double)row->tokens + row->tail_bytes);
}

/* -------------------------------------------------------------------- run */

enum { APPEND = 16384 }; /* most tokens of one append when a cache is filled */

/* The tokens that one append adds to the sequences of a table. */
struct batch_rows {
    uint16_t *x;
    int32_t *sequence, *position;
};

static void rows_free(struct batch_rows *rows)
{
    free(rows->x);
    free(rows->sequence);
}

static bool rows_allocate(struct batch_rows *rows, size_t width)
{
    rows->x = malloc(sizeof *rows->x * APPEND * width);
    rows->sequence = malloc(2 * sizeof *rows->sequence * APPEND);
    rows->position = rows->sequence ? rows->sequence + APPEND : NULL;
    return rows->x && rows->sequence;
}

static int64_t pages_per_sequence(const struct compare_task *task)
{
    return (task->layer->tokens + task->traits.page - 1) / task->traits.page;
}

/* Gives each sequence b of a table lengths[b] tokens, in the pages of copy `table`. */
static xq_status set_lengths(const struct compare_task *task, driver *d, int table, int64_t *lengths)
{
    int batch = task->layer->batch;
    int64_t *first = malloc(sizeof *first * (size_t)batch);
    if (!first)
        return XQ_ERROR_MEMORY;
    for (int b = 0; b < batch; b++)
        first[b] = (table * (int64_t)batch + b) * pages_per_sequence(task);
    xq_status status = driver_set_table(d, table, batch, lengths, first);
    free(first);
    return status;
}

/* Appends to one sequence after the other, in runs of at most APPEND tokens. */
static xq_status append_table(const struct compare_task *task, driver *d, const struct compare_layer *layer,
                              int index, int table, struct batch_rows *rows)
{
    size_t width = (size_t)task->traits.shape.hidden_size;
    int64_t *lengths = calloc((size_t)layer->batch, sizeof *lengths);
    xq_status status = lengths ? XQ_OK : XQ_ERROR_MEMORY;
    for (int b = 0; b < layer->batch; b++) {
        const uint16_t *x = layer->x16 + (size_t)(b % layer->texts) * (size_t)layer->text_tokens * width;
        const int64_t length = compare_length(layer, b);
        for (int64_t begin = 0; begin < length && status == XQ_OK; begin += APPEND) {
            int64_t count = length - begin < APPEND ? length - begin : APPEND;
            for (int64_t i = 0; i < count; i++) {
                rows->sequence[i] = b;
                rows->position[i] = (int32_t)(begin + i);
            }
            lengths[b] = begin + count;
            status = set_lengths(task, d, table, lengths);
            if (status == XQ_OK)
                status = driver_append(d, index, table, count, x + (size_t)begin * width, rows->sequence,
                                       rows->position);
        }
    }
    free(lengths);
    return status;
}

/* Fills `copies` caches of a layer with the same tokens, each in pages of its own. */
static xq_status append_all(const struct compare_task *task, driver *d, const struct compare_layer *layer,
                            int index, int copies)
{
    struct batch_rows rows = {0};
    xq_status status =
        rows_allocate(&rows, (size_t)task->traits.shape.hidden_size) ? XQ_OK : XQ_ERROR_MEMORY;
    for (int c = 0; status == XQ_OK && c < copies; c++)
        status = append_table(task, d, layer, index, c, &rows);
    rows_free(&rows);
    return status;
}

/* The number of cache copies that a GPU's L2 cannot hold from one repeat to the next. */
static int copies_needed(const struct compare_task *task, xq_implementation implementation)
{
    const device_properties *p = &task->context->device->properties;
    const layer_shape *s = &task->traits.shape;
    if (p->is_sim)
        return 1;
    double per_token = implementation == XQ_FP16_KV  ? 4.0 * s->kv_width
                       : implementation == XQ_FP8_KV ? 2.0 * s->kv_width
                                                     : task->traits.bits / 8.0 * (s->rank_k + s->rank_v);
    double bytes =
        per_token * (double)task->layer->batch * (double)pages_per_sequence(task) * task->traits.page;
    double copies = ceil(4 * (double)p->l2_bytes / bytes);
    return copies < 2 ? 2 : copies > 256 ? 256 : (int)copies;
}

/* ------------------------------------------------------------------ layers */

/* Shows a step of the progress. `layer` is the compared layer, or one before it, whose number is then
 * shown. */
static void show_step(const struct compare_task *task, const struct compare_layer *layer, const char *what)
{
    char step[64];
    snprintf(step, sizeof step, "layer %d, %s", layer->number, what);
    cli_progress_step(layer->number == task->layer->number ? what : step);
}

static xq_weights weights_for(const struct compare_task *task, const struct compare_layer *layer,
                              xq_implementation implementation)
{
    xq_weights weights = layer_api_weights(&layer->weights);
    if (implementation == XQ_FP8_KV) {
        weights.k_scale = &task->scales->k;
        weights.v_scale = &task->scales->v;
    }
    return weights;
}

/* Adds a layer to the driver, and fills its caches. The compared layer is the last one to be added. */
static xq_status add_layer(const struct compare_task *task, driver *d, const char *spec,
                           const struct compare_layer *layer, xq_implementation implementation, int copies,
                           error *err)
{
    xq_weights weights = weights_for(task, layer, implementation);
    show_step(task, layer, "making the plan");
    xq_status status = driver_add_layer(d, spec, implementation, &weights);
    show_step(task, layer, "appending");
    if (status == XQ_OK)
        status = append_all(task, d, layer, d->layer_count - 1, copies);
    return status == XQ_OK ? XQ_OK : last_error_read(task->context, status, err);
}

/* Adds the layers of a cross-layer method from the base to the one before the compared layer. They fill the
 * accumulator that its deltas are relative to. */
static xq_status add_layers_before(const struct compare_task *task, driver *d,
                                   xq_implementation implementation, int copies, error *err)
{
    if (!layer_is_cross(&task->traits.shape) || shape_is_kv(implementation))
        return XQ_OK;
    for (int number = task->base_layer; number < task->layer->number && err->status == XQ_OK; number++) {
        struct compare_layer layer;
        struct cli_traits traits;
        char *spec = NULL;
        bool many = task->layer->queries > 1;
        if (cli_layer_spec(task->generator, task->spec, number, task->base_layer, many, &spec, err) ==
                XQ_OK &&
            cli_traits_read(task->generator, spec, &traits, err) == XQ_OK &&
            compare_input_layer(task->input, number, &traits, &layer, err) == XQ_OK) {
            layer.batch = task->layer->batch;
            layer.tokens = task->layer->tokens;
            layer.lengths = task->layer->lengths;
            add_layer(task, d, spec, &layer, implementation, copies, err);
            for (int c = 0; c < copies && err->status == XQ_OK; c++) {
                xq_status status = driver_accumulate(d, d->layer_count - 1, c);
                if (status != XQ_OK)
                    last_error_read(task->context, status, err);
            }
            compare_layer_free(&layer);
        }
        free(spec);
    }
    return err->status;
}

/* --------------------------------------------------------------------- row */

static xq_status set_queries(const struct compare_task *task, driver *d, error *err)
{
    const struct compare_layer *layer = task->layer;
    size_t row =
        (size_t)layer->queries * (size_t)task->traits.shape.heads * (size_t)task->traits.shape.head_dim;
    size_t batch = (size_t)layer->batch;
    uint16_t *q = malloc(sizeof *q * row * batch);
    int32_t *indptr = malloc(sizeof *indptr * (batch + 1));
    xq_status status = q && indptr ? XQ_OK : XQ_ERROR_MEMORY;
    for (size_t b = 0; status == XQ_OK && b <= batch; b++)
        indptr[b] = (int32_t)b * layer->queries;
    for (size_t b = 0; status == XQ_OK && b < batch; b++)
        memcpy(q + b * row, layer->q16 + b % (size_t)layer->texts * row, sizeof *q * row);
    const driver_queries queries = {(int64_t)layer->batch * layer->queries, q,
                                    layer->queries > 1 ? indptr : NULL, NULL};
    if (status == XQ_OK)
        status = driver_set_queries(d, layer->batch, &queries);
    free(q);
    free(indptr);
    return status == XQ_OK ? XQ_OK : last_error_read(task->context, status, err);
}

#define SECTOR 32.0 /* bytes of a sector */

/* A step of the driver's last layer: accumulates where the method has an accumulator, and attends. */
struct step {
    const struct compare_task *task;
    driver *driver;
};

static xq_status launch_step(void *user, void *stream, int table, error *err)
{
    const struct step *s = user;
    driver *d = s->driver;
    int layer = d->layer_count - 1;
    d->stream = stream;
    xq_status status =
        d->layers[layer].info.accumulator_page_bytes ? driver_accumulate(d, layer, table) : XQ_OK;
    status = status == XQ_OK ? driver_attend(d, layer, table) : status;
    d->stream = NULL;
    return status == XQ_OK ? XQ_OK : last_error_read(s->task->context, status, err);
}

static xq_status launch_append(void *user, void *stream, int table, error *err)
{
    const struct step *s = user;
    driver *d = s->driver;
    d->stream = stream;
    xq_status status = driver_append_again(d, d->layer_count - 1, table);
    d->stream = NULL;
    return status == XQ_OK ? XQ_OK : last_error_read(s->task->context, status, err);
}

/* Appends the newest token of each sequence of every copy once more; launch_append then repeats this
 * append. */
static xq_status append_newest(const struct compare_task *task, driver *d, int copies, error *err)
{
    const struct compare_layer *layer = task->layer;
    const size_t width = (size_t)task->traits.shape.hidden_size, batch = (size_t)layer->batch;
    uint16_t *x = malloc(sizeof *x * batch * width);
    int32_t *sequence = malloc(2 * sizeof *sequence * batch),
            *position = sequence ? sequence + batch : NULL;
    xq_status status = x && sequence ? XQ_OK : XQ_ERROR_MEMORY;
    for (size_t b = 0; status == XQ_OK && b < batch; b++) {
        const size_t newest = (size_t)compare_length(layer, (int)b) - 1;
        sequence[b] = (int32_t)b;
        position[b] = (int32_t)newest;
        memcpy(x + b * width,
               layer->x16 + (b % (size_t)layer->texts * (size_t)layer->text_tokens + newest) * width,
               sizeof *x * width);
    }
    for (int c = 0; c < copies && status == XQ_OK; c++)
        status = driver_append(d, d->layer_count - 1, c, layer->batch, x, sequence, position);
    free(x);
    free(sequence);
    return status == XQ_OK ? XQ_OK : last_error_read(task->context, status, err);
}

static double all_tokens(const struct compare_layer *layer)
{
    double tokens = 0;
    for (int b = 0; b < layer->batch; b++)
        tokens += (double)compare_length(layer, b);
    return tokens;
}

/* Counts a step, and with task->profiles also by instruction. */
static xq_status count_launches(const struct compare_task *task, const measure_step *step,
                                device_counters *c, const struct compare_profile **profile, error *err)
{
    device *d = task->context->device;
    if (!task->profiles)
        return measure_count(d, step, c, err);
    if (d->ops->profile(d, true, err) != XQ_OK || measure_count(d, step, c, err) != XQ_OK ||
        compare_profile_read(task->profiles, d, all_tokens(task->layer), c, profile, err) != XQ_OK)
        return err->status;
    return d->ops->profile(d, false, err);
}

static xq_status count_step(const struct compare_task *task, const measure_step *step,
                            struct compare_row *row, error *err)
{
    device_counters c;
    if (count_launches(task, step, &c, &row->profile, err) != XQ_OK)
        return err->status;
    row->counted = true;
    row->repeats = 1;
    row->read_bytes = SECTOR * (double)c.read_sectors_unique;
    row->write_bytes = SECTOR * (double)c.write_sectors_unique;
    row->l2_read_bytes = SECTOR * (double)c.read_sectors;
    row->l2_write_bytes = SECTOR * (double)c.write_sectors;
    for (int i = 0; i < MATRIX_TYPES; i++)
        row->matrix_flops += (double)c.matrix_flops[i];
    row->launches = (int)c.launches;
    row->seconds = row->seconds_low = row->seconds_high = c.modelled_seconds;
    memcpy(row->limit_seconds, c.limit_seconds, sizeof row->limit_seconds);
    return XQ_OK;
}

/* A repeat takes 300 us of launches, so that the cost of the events themselves is small. */
static xq_status time_step(const struct compare_task *task, const measure_step *step,
                           struct compare_row *row, error *err)
{
    device *d = task->context->device;
    const enum compare_launches launches = task->launches;
    const measure_repeats repeats = {.warm_up = 5,
                                     .repeats = task->brief ? COMPARE_BRIEF_REPEATS : COMPARE_REPEATS,
                                     .repeat_seconds = 300e-6,
                                     .watch = task->watch};
    measure_times one_by_one = {0}, in_graph = {0};
    if (launches != COMPARE_GRAPH && measure_time(d, step, &repeats, &one_by_one, err) != XQ_OK)
        return err->status;
    if (launches != COMPARE_STREAM && measure_time_in_graph(d, step, &repeats, &in_graph, err) != XQ_OK)
        return err->status;
    row->measured = true;
    row->repeats = repeats.repeats;
    row->seconds = one_by_one.median;
    row->seconds_low = one_by_one.low;
    row->seconds_high = one_by_one.high;
    row->graph_seconds = in_graph.median;
    row->graph_seconds_low = in_graph.low;
    row->graph_seconds_high = in_graph.high;
    return XQ_OK;
}

/* Results are checked before the step is timed, because repeats would add a cross-layer method's deltas
 * again and again. */
static xq_status measure(const struct compare_task *task, driver *driven, int copies,
                         struct compare_row *row, error *err)
{
    device *d = task->context->device;
    struct step state = {task, driven};
    const measure_step step = {task->appends ? launch_append : launch_step, &state, copies};
    if (set_queries(task, driven, err) != XQ_OK ||
        (task->appends && append_newest(task, driven, copies, err) != XQ_OK))
        return err->status;
    cli_progress_step("attending");
    if (d->properties.is_sim && count_step(task, &step, row, err) != XQ_OK)
        return err->status;
    if ((!d->properties.is_sim || task->appends) && launch_step(&state, NULL, 0, err) != XQ_OK)
        return err->status;
    cli_progress_step("checking");
    if (compare_check(task, driven, row, err) != XQ_OK || d->properties.is_sim)
        return err->status;
    cli_progress_step("timing");
    return time_step(task, &step, row, err);
}

/* Runs one step on a copy, and computes its errors. Every copy holds the same tokens. */
static xq_status attend_on(const struct compare_task *task, driver *d, int copy, struct compare_row *row,
                           error *err)
{
    struct step state = {task, d};
    cli_progress_step("attending");
    if (set_queries(task, d, err) != XQ_OK || launch_step(&state, NULL, copy, err) != XQ_OK)
        return err->status;
    cli_progress_step("checking");
    return compare_check(task, d, row, err);
}

/* A latency of L seconds leaves a bandwidth of bytes in flight / L, so a GPU starves where they are few. */
static xq_status find_bytes_in_flight(const struct compare_layer *layer, const xq_plan *plan,
                                      struct compare_row *row, error *err)
{
    const struct plan_attention *a =
        plan_pick(plan, layer->queries > 1 ? PLAN_MANY : PLAN_ONE, layer->batch, layer->tokens);
    int blocks;
    if (occupancy_blocks_per_sm(a->attend, &blocks, err) == XQ_OK)
        row->bytes_in_flight = (double)a->bytes_in_flight * blocks;
    return err->status;
}

static void describe(const struct compare_task *task, const xq_plan_info *info, struct compare_row *row)
{
    const struct compare_layer *layer = task->layer;
    double tokens = (double)layer->tokens;
    row->cache_bytes_per_token = info->cache_bytes_per_token;
    row->tail_bytes = (double)info->tail_bytes;
    row->accumulator_bytes_per_token = info->accumulator_bytes_per_token;
    row->cache_saving = 4.0 * task->traits.shape.kv_width * tokens /
                        (row->cache_bytes_per_token * tokens + row->tail_bytes);
    const roofline_load load = {layer->tokens, layer->batch, layer->queries, row->cache_bytes_per_token,
                                row->accumulator_bytes_per_token};
    if (task->appends)
        roofline_append(&task->traits.shape, &load, &task->ceilings, &row->limit);
    else
        roofline(&task->traits.shape, &task->traits.costs, shape_is_kv(row->implementation), &load,
                 &task->ceilings, &row->limit);
    if (row->implementation == XQ_FP8_KV) {
        row->k_scale = (double)task->scales->k;
        row->v_scale = (double)task->scales->v;
    }
}

/* The most tokens of one append: tokens of one sequence while the cache is filled, and one token of each
 * sequence in append_newest. */
static int64_t most_appended(const struct compare_layer *layer)
{
    int64_t most = layer->tokens < APPEND ? layer->tokens : APPEND;
    return most > layer->batch ? most : layer->batch;
}

/* Opens a new driver, and fills the layer's cache. */
static xq_status fill_cache(const struct compare_task *task, driver *d, xq_implementation implementation,
                            int copies, error *err)
{
    const struct compare_layer *layer = task->layer;
    const driver_size size = {.max_batch = layer->batch,
                              .max_tokens = layer->tokens,
                              .max_append = most_appended(layer),
                              .max_queries = layer->queries,
                              .tables = copies,
                              .pool_pages = copies * (int64_t)layer->batch * pages_per_sequence(task)};
    driver_close(d);
    if (driver_open(task->context, &size, task->seed, d) != XQ_OK)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    if (add_layers_before(task, d, implementation, copies, err) == XQ_OK)
        add_layer(task, d, task->layer_spec, layer, implementation, copies, err);
    return err->status;
}

static xq_status take_cache_over(const struct compare_task *task, driver *d,
                                 xq_implementation implementation, error *err)
{
    xq_weights weights = weights_for(task, task->layer, implementation);
    cli_progress_step("making the plan");
    xq_status status =
        driver_change_layer(d, d->layer_count - 1, task->layer_spec, implementation, &weights);
    return status == XQ_OK ? XQ_OK : last_error_read(task->context, status, err);
}

/* Finds the scales of fp8-kv in a cache of fp16-kv. */
static xq_status find_scales(const struct compare_task *task, xq_implementation implementation, driver *d,
                             error *err)
{
    if (implementation != XQ_FP8_KV || task->scales->known)
        return XQ_OK;
    const bool is_filled =
        d->layer_count > 0 && d->layers[d->layer_count - 1].info.implementation == XQ_FP16_KV;
    if (!is_filled && fill_cache(task, d, XQ_FP16_KV, 1, err) != XQ_OK)
        return err->status;
    return compare_find_scales(task, d, task->scales, err);
}

/* Makes the driver ready with the task's plan, and with `copies` copies of the cache. *row gets its sizes,
 * and no measurements. */
static xq_status make_ready(const struct compare_task *task, xq_implementation implementation, driver *d,
                            bool cached, int copies, struct compare_row *row, error *err)
{
    const struct compare_layer *layer = task->layer;
    *row = (struct compare_row){.layer = layer->number,
                                .bits = task->traits.bits,
                                .batch = layer->batch,
                                .queries = layer->queries,
                                .tokens = layer->tokens,
                                .implementation = implementation};
    if (find_scales(task, implementation, d, err) != XQ_OK)
        return err->status;
    if ((cached ? take_cache_over(task, d, implementation, err)
                : fill_cache(task, d, implementation, copies, err)) != XQ_OK)
        return err->status;
    const driver_layer *filled = &d->layers[d->layer_count - 1];
    describe(task, &filled->info, row);
    return find_bytes_in_flight(layer, filled->plan, row, err);
}

xq_status compare_measure(const struct compare_task *task, xq_implementation implementation, driver *d,
                          bool cached, struct compare_row *row, error *err)
{
    const int copies = copies_needed(task, implementation);
    return make_ready(task, implementation, d, cached, copies, row, err) == XQ_OK
               ? measure(task, d, copies, row, err)
               : err->status;
}

xq_status compare_attend(const struct compare_task *task, xq_implementation implementation, driver *d,
                         bool cached, int copies, struct compare_row *row, error *err)
{
    return make_ready(task, implementation, d, cached, copies, row, err) == XQ_OK
               ? attend_on(task, d, 0, row, err)
               : err->status;
}

static double larger(double a, double b)
{
    return isnan(b) || a <= b ? b : a; /* NaN counts as the largest */
}

xq_status compare_repeat(const struct compare_task *task, driver *d, struct compare_row *row, error *err)
{
    struct step state = {task, d};
    double error_most = row->kernel_error, lse_most = row->lse_error, lse_abs_most = row->lse_abs_error;
    /* A GPU was timed with many launches, but the software device has launched only once. */
    if (launch_step(&state, NULL, 0, err) != XQ_OK)
        return err->status;
    const int copies = d->size.tables;
    if (layer_is_cross(&task->traits.shape) &&
        fill_cache(task, d, row->implementation, copies, err) != XQ_OK)
        return err->status;
    for (int copy = 0; copy < copies && err->status == XQ_OK; copy++) {
        attend_on(task, d, copy, row, err);
        error_most = larger(row->kernel_error, error_most);
        lse_most = larger(row->lse_error, lse_most);
        lse_abs_most = larger(row->lse_abs_error, lse_abs_most);
    }
    row->kernel_error = error_most;
    row->lse_error = lse_most;
    row->lse_abs_error = lse_abs_most;
    return err->status;
}
