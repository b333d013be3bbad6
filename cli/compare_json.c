/* Writes the output of compare for programs (--json). */
#include "compare_profile.h"

#include <math.h>

static void add(cJSON *o, const char *name, bool known, double value)
{
    if (known && isfinite(value))
        cJSON_AddNumberToObject(o, name, value);
    else
        cJSON_AddNullToObject(o, name);
}

/* Adds the parts of a modelled time. */
static void add_parts(cJSON *o, const struct compare_row *row)
{
    const char *bound = compare_bound(row);
    if (!bound) {
        cJSON_AddNullToObject(o, "bound_by");
        cJSON_AddNullToObject(o, "time_parts_us");
        return;
    }
    cJSON_AddStringToObject(o, "bound_by", bound);
    cJSON *parts = cJSON_AddObjectToObject(o, "time_parts_us");
    for (int i = 0; i < DEVICE_LIMITS; i++)
        add(parts, compare_limit_names[i], true, row->limit_seconds[i] * 1e6);
}

/* `fp16`: the fp16-kv row that belongs to `row`. */
static cJSON *row_json(const struct compare_row *row, const struct compare_row *fp16, const gen *generator)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", compare_name(row->implementation));
    cJSON_AddNumberToObject(o, "layer", row->layer);
    cJSON_AddNumberToObject(o, "bits", row->bits);
    cJSON_AddNumberToObject(o, "tokens", (double)row->tokens);
    cJSON_AddNumberToObject(o, "batch", row->batch);
    cJSON_AddNumberToObject(o, "queries", row->queries);
    add(o, "time_us", true, row->seconds * 1e6);
    cJSON_AddStringToObject(o, "time_kind", row->measured ? "measured" : "modelled");
    add(o, "time_us_low", row->measured, row->seconds_low * 1e6);
    add(o, "time_us_high", row->measured, row->seconds_high * 1e6);
    add(o, "graph_time_us", row->measured, row->graph_seconds * 1e6);
    add(o, "graph_time_us_low", row->measured, row->graph_seconds_low * 1e6);
    add(o, "graph_time_us_high", row->measured, row->graph_seconds_high * 1e6);
    add(o, "time_to_fp16_kv", true, row->seconds / fp16->seconds);
    add_parts(o, row);
    add(o, "limit_us", row->limit.seconds > 0, row->limit.seconds * 1e6);
    if (row->limit.seconds > 0)
        cJSON_AddStringToObject(o, "limit_by", row->limit.by_memory ? "memory" : "matrix");
    add(o, "limit_bytes", true, row->limit.bytes);
    add(o, "limit_flops", true, row->limit.flops);
    add(o, "time_to_limit", row->limit.seconds > 0, row->seconds / row->limit.seconds);
    add(o, "dram_read_bytes", row->counted, row->read_bytes);
    add(o, "dram_write_bytes", row->counted, row->write_bytes);
    add(o, "l2_read_bytes", row->counted, row->l2_read_bytes);
    add(o, "l2_write_bytes", row->counted, row->l2_write_bytes);
    add(o, "matrix_flops", row->counted, row->matrix_flops);
    add(o, "launches", row->counted, row->launches);
    add(o, "bytes_in_flight", true, row->bytes_in_flight);
    add(o, "cache_bytes_per_token", true, row->cache_bytes_per_token);
    add(o, "tail_bytes", true, row->tail_bytes);
    add(o, "accumulator_bytes_per_token", true, row->accumulator_bytes_per_token);
    add(o, "cache_bytes", true, compare_cache_bytes(row));
    add(o, "cache_saving", true, row->cache_saving);
    add(o, "k_scale", row->implementation == XQ_FP8_KV, row->k_scale);
    add(o, "v_scale", row->implementation == XQ_FP8_KV, row->v_scale);
    add(o, "kernel_rel_err", true, row->kernel_error);
    add(o, "method_rel_err", true, row->method_error);
    add(o, "lse_abs_err", true, row->lse_abs_error);
    if (row->profile)
        cJSON_AddItemToObject(o, "profile", compare_profile_json(row->profile, generator));
    return o;
}

cJSON *compare_json(const struct compare_result *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", r->device->name);
    cJSON_AddStringToObject(o, "device_kind", r->device->is_sim ? "sim" : "cuda");
    cJSON_AddStringToObject(o, "arch", r->device->arch);
    cJSON_AddNumberToObject(o, "driver", r->device->driver);
    cJSON_AddNumberToObject(o, "nvrtc", r->device->nvrtc);
    cJSON *best = cJSON_AddObjectToObject(o, "ceilings");
    add(best, "bytes_per_second", r->ceilings->copy_bytes_per_second > 0,
        r->ceilings->copy_bytes_per_second);
    add(best, "f16_flops_per_second", r->ceilings->f16_flops_per_second > 0,
        r->ceilings->f16_flops_per_second);
    cJSON_AddStringToObject(best, "source", r->ceilings->source);
    cJSON_AddStringToObject(o, "model", r->model_name);
    cJSON_AddStringToObject(o, "input", r->input_name);
    cJSON_AddItemToObject(o, "spec", cJSON_Parse(r->spec));
    cJSON *rows = cJSON_AddArrayToObject(o, "rows");
    for (int i = 0; i < r->count; i++)
        cJSON_AddItemToArray(
            rows, row_json(&r->rows[i], &r->rows[i - i % COMPARE_IMPLEMENTATIONS], r->generator));
    return o;
}
