/* The work of xq run on the device. */
#include "../runtime/launch/last_error.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>

static xq_status append(struct run *r, const struct run_layer *l, int index)
{
    int32_t *sequence = calloc((size_t)l->tokens, 2 * sizeof *sequence);
    if (!sequence)
        return XQ_ERROR_MEMORY;
    int32_t *position = sequence + l->tokens;
    for (int64_t t = 0; t < l->tokens; t++)
        position[t] = (int32_t)t;
    xq_status status = driver_append(&r->driver, index, 0, l->tokens, l->x, sequence, position);
    free(sequence);
    return status;
}

/* Attends with `count` queries from `begin` on, each at the position of its token. */
static xq_status attend_chunk(struct run *r, const struct run_layer *l, int index, int64_t begin,
                              int64_t count, uint16_t *out, float *lse)
{
    size_t row = (size_t)l->traits.shape.heads * (size_t)l->traits.shape.head_dim;
    int32_t indptr[2] = {0, (int32_t)count}, *position = malloc(sizeof *position * (size_t)count);
    if (!position)
        return XQ_ERROR_MEMORY;
    for (int64_t i = 0; i < count; i++)
        position[i] = (int32_t)(l->tokens - l->queries + begin + i);
    bool many = l->queries > 1;
    const driver_queries queries = {count, l->q + (size_t)begin * row, many ? indptr : NULL,
                                    many ? position : NULL};
    xq_status status = driver_set_queries(&r->driver, 1, &queries);
    free(position);
    if (status == XQ_OK)
        status = driver_attend(&r->driver, index, 0);
    if (status == XQ_OK)
        status = driver_results(&r->driver, out + (size_t)begin * row, lse + begin * l->traits.shape.heads);
    return status;
}

static xq_status attend(struct run *r, struct run_layer *l, int index)
{
    const layer_shape *s = &l->traits.shape;
    const int64_t o_shape[3] = {l->queries, s->heads, s->head_dim};
    size_t rows = (size_t)l->queries * (size_t)s->heads;
    uint16_t *out = malloc(2 * rows * (size_t)s->head_dim);
    float *lse = malloc(4 * rows);
    run_add(l, "o", l->traits.bfloat ? TENSOR_BF16 : TENSOR_F16, 3, o_shape, out);
    run_add(l, "lse", TENSOR_F32, 2, o_shape, lse);
    if (!out || !lse)
        return XQ_ERROR_MEMORY;
    xq_status status = XQ_OK;
    char step[96];
    for (int64_t begin = 0; begin < l->queries && status == XQ_OK; begin += r->o->chunk) {
        int64_t rest = l->queries - begin;
        snprintf(step, sizeof step, "attending, %lld of %lld queries done", (long long)begin,
                 (long long)l->queries);
        cli_progress_step(l->queries > 1 ? step : "attending");
        status = attend_chunk(r, l, index, begin, rest < r->o->chunk ? rest : r->o->chunk, out, lse);
    }
    return status;
}

static xq_status work(struct run *r, struct run_layer *l, int index)
{
    const int64_t first = 0;
    cli_progress_step("making the plan");
    const xq_implementation implementation = run_implementation(r->o);
    xq_weights weights = layer_api_weights(&l->weights);
    if (implementation == XQ_FP8_KV) {
        weights.k_scale = &l->k_scale;
        weights.v_scale = &l->v_scale;
    }
    xq_status status = driver_add_layer(&r->driver, l->spec, implementation, &weights);
    if (status == XQ_OK && index == 0)
        status = driver_set_table(&r->driver, 0, 1, &l->tokens, &first);
    cli_progress_step("appending");
    if (status == XQ_OK)
        status = append(r, l, index);
    if (status == XQ_OK && r->driver.layers[index].info.accumulator_page_bytes)
        status = driver_accumulate(&r->driver, index, 0);
    if (status == XQ_OK)
        status = attend(r, l, index);
    if (status == XQ_OK)
        l->info = r->driver.layers[index].info;
    return status;
}

static xq_status open_driver(struct run *r, error *err)
{
    const struct run_layer *l = &r->layers[0];
    int64_t most = 1, page = l->traits.page;
    for (int i = 0; i < r->layer_count; i++)
        most = r->layers[i].queries > most ? r->layers[i].queries : most;
    const driver_size size = {.max_batch = 1,
                              .max_tokens = l->tokens,
                              .max_append = l->tokens,
                              .max_queries = most < r->o->chunk ? most : r->o->chunk,
                              .pool_pages = (l->tokens + page - 1) / page,
                              .tables = 1};
    if (driver_open(r->context, &size, (uint64_t)r->o->common.seed, &r->driver) != XQ_OK)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    return XQ_OK;
}

/* Checks that --set tunes only kernels that will run, because other parameters have no effect. */
static xq_status check_tuning(const struct run *r, error *err)
{
    const xq_implementation implementation = run_implementation(r->o);
    struct cli_families families = {0};
    struct cli_choices chosen;
    cli_choices_read(r->spec, &chosen);
    if (!chosen.is_tuned)
        return XQ_OK;
    for (int i = 0; i < r->layer_count; i++)
        if (cli_check_tuning(r->context, r->layers[i].spec, &implementation, 1, &families, err) != XQ_OK)
            return err->status;
    if (r->o->dump && implementation == XQ_FUSED)
        families.names[families.count++] = "dequantize";
    return cli_spec_check_tuning(&r->o->spec, families.names, families.count, err);
}

xq_status run_compute(struct run *r, error *err)
{
    char detail[32];
    if (check_tuning(r, err) != XQ_OK || open_driver(r, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < r->layer_count && err->status == XQ_OK; i++) {
        struct run_layer *l = &r->layers[i];
        snprintf(detail, sizeof detail, "layer %d", l->number);
        cli_progress_update(&r->progress, (double)i / r->layer_count, l->number >= 0 ? detail : "");
        cli_progress_step("preparing the weights");
        if (run_layer_load(r, l, err) == XQ_OK) {
            xq_status status = work(r, l, i);
            if (status != XQ_OK)
                last_error_read(r->context, status, err);
            else if (r->o->dump)
                run_dump(r, l, i, err);
        }
        run_layer_unload(l);
    }
    return err->status;
}
