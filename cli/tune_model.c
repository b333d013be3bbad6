#include "tune_model.h"
#include "../autotune/search/order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------- predictions */

static struct cost_device device_of(const device_properties *p, const ceilings *best)
{
    return (struct cost_device){
        .multiprocessors = p->sm_count > 0 ? p->sm_count : 1,
        .threads_sm = p->max_threads_per_sm,
        .registers_sm = p->registers_per_sm,
        .shared_bytes_sm = p->shared_bytes_per_sm,
        .clock_hz = p->clock_hz,
        .copy_bytes_per_second = best->copy_bytes_per_second,
        .matrix_flops_per_second = best->mma_flops_per_second,
    };
}

static cJSON *device_json(const struct cost_device *d)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "multiprocessors", d->multiprocessors);
    cJSON_AddNumberToObject(o, "threads_sm", d->threads_sm);
    cJSON_AddNumberToObject(o, "registers_sm", d->registers_sm);
    cJSON_AddNumberToObject(o, "shared_bytes_sm", (double)d->shared_bytes_sm);
    cJSON_AddNumberToObject(o, "clock_hz", d->clock_hz);
    cJSON_AddNumberToObject(o, "copy_bytes_per_second", d->copy_bytes_per_second);
    cJSON_AddNumberToObject(o, "matrix_flops_per_second", d->matrix_flops_per_second);
    return o;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static xq_status device_read(const cJSON *o, struct cost_device *d, error *err)
{
    *d = (struct cost_device){
        .multiprocessors = (int)number(o, "multiprocessors"),
        .threads_sm = (int)number(o, "threads_sm"),
        .registers_sm = (int)number(o, "registers_sm"),
        .shared_bytes_sm = (size_t)number(o, "shared_bytes_sm"),
        .clock_hz = number(o, "clock_hz"),
        .copy_bytes_per_second = number(o, "copy_bytes_per_second"),
        .matrix_flops_per_second = number(o, "matrix_flops_per_second"),
    };
    if (d->multiprocessors > 0 && d->copy_bytes_per_second > 0 && d->matrix_flops_per_second > 0)
        return XQ_OK;
    return error_set(err, XQ_ERROR_FORMAT, "file",
                     "\"model\" lacks multiprocessors, copy_bytes_per_second or matrix_flops_per_second");
}

static xq_status predict_all(cJSON *candidates, const struct cost_device *gpu, const struct cost_load *load,
                             error *err)
{
    cJSON *candidate;
    cJSON_ArrayForEach(candidate, candidates)
    {
        struct cost cost;
        if (cost_predict(candidate, gpu, load, &cost, err) != XQ_OK)
            return err->status;
        if (cost.seconds == 0)
            continue;
        cJSON_DeleteItemFromObjectCaseSensitive(candidate, "predicted");
        cJSON *predicted = cJSON_AddObjectToObject(candidate, "predicted");
        cJSON_AddNumberToObject(predicted, "us", 1e6 * cost.seconds);
        cJSON_AddStringToObject(predicted, "limit", cost_limit_names[cost.limit]);
    }
    return XQ_OK;
}

xq_status tune_predict(char **space, const device_properties *properties, const ceilings *best,
                       const struct compare_options *o, error *err)
{
    const struct cost_device gpu = device_of(properties, best);
    const struct cost_load load = {o->tokens, o->batch, o->queries};
    cJSON *parsed = cJSON_Parse(*space);
    if (predict_all(cJSON_GetObjectItemCaseSensitive(parsed, "candidates"), &gpu, &load, err) == XQ_OK) {
        cJSON_AddItemToObject(parsed, "model", device_json(&gpu));
        char *text = cJSON_PrintUnformatted(parsed);
        if (text) {
            free(*space);
            *space = text;
        } else {
            error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
        }
    }
    cJSON_Delete(parsed);
    return err->status;
}

xq_status tune_predict_recorded(cJSON *space, const cJSON *model, const struct cost_load *load, error *err)
{
    struct cost_device gpu;
    if (device_read(model, &gpu, err) != XQ_OK)
        return err->status;
    return predict_all(cJSON_GetObjectItemCaseSensitive(space, "candidates"), &gpu, load, err);
}

/* The predicted time in microseconds; 0 where there is none. */
static double predicted_us(const cJSON *candidate)
{
    const cJSON *item =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(candidate, "predicted"), "us");
    return item ? item->valuedouble : 0;
}

/* -------------------------------------------------------------- for a search */

static int resource(const cJSON *candidate, const char *name)
{
    const cJSON *item =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(candidate, "resources"), name);
    return item ? item->valueint : 0;
}

static double value_of(const cJSON *candidate, int parameter)
{
    const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(candidate, "parameters");
    return cJSON_GetNumberValue(cJSON_GetArrayItem(parameters, parameter));
}

/* Sets a parameter's place in every candidate: the number of different values that are smaller than its
 * own. A parameter has few values, so counting them is quick. `values` has room for one value of each
 * candidate. */
static void set_places(const cJSON *list, int parameter, const struct tune_known *known, double *values)
{
    const cJSON *item;
    int different = 0, index = 0;
    cJSON_ArrayForEach(item, list)
    {
        double value = value_of(item, parameter);
        int i = 0;
        while (i < different && values[i] != value)
            i++;
        values[i] = value;
        different += i == different;
    }
    cJSON_ArrayForEach(item, list)
    {
        int32_t *place = &known->places[index++ * known->parameters + parameter];
        for (int i = 0; i < different; i++)
            *place += values[i] < value_of(item, parameter);
    }
}

xq_status tune_known_make(const cJSON *space, struct tune_known *out, error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(space, "candidates"), *item;
    const size_t count = (size_t)cJSON_GetArraySize(list);
    int index = 0;
    *out = (struct tune_known){.parameters =
                                   cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(space, "chosen"))};
    out->candidates = calloc(count + 1, sizeof *out->candidates);
    out->places = calloc(count * (size_t)out->parameters + 1, sizeof *out->places);
    double *values = calloc(count + 1, sizeof *values);
    if (!out->candidates || !out->places || !values) {
        free(values);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    }
    cJSON_ArrayForEach(item, list)
    {
        out->candidates[index] = (struct search_candidate){.predicted = 1e-6 * predicted_us(item),
                                                           .shared_bytes = resource(item, "shared_bytes"),
                                                           .threads = resource(item, "threads"),
                                                           .places = out->places + index * out->parameters};
        index++;
    }
    for (int i = 0; i < out->parameters; i++)
        set_places(list, i, out, values);
    free(values);
    return XQ_OK;
}

void tune_known_free(struct tune_known *known)
{
    free(known->candidates);
    free(known->places);
}

void tune_candidate_json(const cJSON *candidate, cJSON *out)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, candidate)
    {
        cJSON *copy = cJSON_Duplicate(item, 1);
        cJSON_DeleteItemFromObjectCaseSensitive(copy, "shared_map");
        cJSON_AddItemToObject(out, item->string, copy);
    }
}

/* ------------------------------------------------------------------ dry runs */

static const char *limit_of(const cJSON *candidate)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(candidate, "predicted"), "limit"));
}

static cJSON *likely_json(const cJSON *candidate)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "parameters",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(candidate, "parameters"), 1));
    cJSON_AddNumberToObject(o, "predicted_us", predicted_us(candidate));
    cJSON_AddStringToObject(o, "limit", limit_of(candidate));
    return o;
}

xq_status tune_likely(const cJSON *space, cJSON **list, error *err)
{
    const cJSON *candidates = cJSON_GetObjectItemCaseSensitive(space, "candidates");
    struct tune_known known;
    int32_t likely[TUNE_LIKELY];
    int count = 0;
    *list = cJSON_CreateArray();
    if (tune_known_make(space, &known, err) == XQ_OK) {
        const struct search_options o = {.candidates = cJSON_GetArraySize(candidates),
                                         .known = known.candidates,
                                         .parameters = known.parameters};
        search_likely(&o, TUNE_LIKELY, likely, &count, err);
    }
    for (int i = 0; i < count; i++) {
        const cJSON *candidate = cJSON_GetArrayItem(candidates, likely[i]);
        if (predicted_us(candidate) > 0)
            cJSON_AddItemToArray(*list, likely_json(candidate));
    }
    tune_known_free(&known);
    return err->status;
}

void tune_print_likely(const cJSON *list)
{
    const cJSON *item, *parameter;
    if (cJSON_GetArraySize(list) == 0)
        return;
    printf("  the fastest by the cost model, which sees only this kernel; nothing was measured:\n"
           "    %12s  %-7s",
           "predicted us", "bound");
    cJSON_ArrayForEach(parameter, cJSON_GetObjectItemCaseSensitive(list->child, "parameters"))
    {
        printf("  %s", parameter->string);
    }
    cJSON_ArrayForEach(item, list)
    {
        printf("\n    %12.4g  %-7s",
               cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(item, "predicted_us")),
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "limit")));
        cJSON_ArrayForEach(parameter, cJSON_GetObjectItemCaseSensitive(item, "parameters"))
        {
            printf("  %*g", (int)strlen(parameter->string), parameter->valuedouble);
        }
    }
    putchar('\n');
}
