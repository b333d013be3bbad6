/* The results of `xq run`: its output file, and the report. */
#include "../autotune/verify/verify.h"
#include "../runtime/launch/shape.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void run_add(struct run_layer *l, const char *name, tensor_type type, int rank, const int64_t *shape,
             void *data)
{
    struct run_tensor *out = &l->out[l->out_count++];
    snprintf(out->name, sizeof out->name, "%s", name);
    out->t = (tensor){.type = type, .rank = rank};
    for (int i = 0; i < rank; i++)
        out->t.shape[i] = shape[i];
    out->t.bytes = tensor_count(&out->t) * (type == TENSOR_F32 ? 4 : 2);
    out->t.data = out->data = data;
}

xq_status run_write(struct run *r, error *err)
{
    tensor *all = malloc(sizeof *all * (size_t)r->layer_count * RUN_MOST_TENSORS);
    int count = 0;
    if (!all)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    cli_progress_update(&r->progress, 1, "writing the output");
    for (int i = 0; i < r->layer_count; i++)
        for (int j = 0; j < r->layers[i].out_count; j++) {
            struct run_tensor *out = &r->layers[i].out[j];
            size_t used = strlen(out->name);
            if (r->numbered)
                snprintf(out->name + used, sizeof out->name - used, "%s", r->layers[i].suffix);
            all[count] = out->t;
            all[count++].name = out->name;
        }
    if (safetensors_write_to(r->output, all, count, err) == XQ_OK)
        cli_commit_output(r->output, err);
    free(all);
    return err->status;
}

static const char *implementation_name(const struct run_options *o)
{
    return verify_implementation_names[run_implementation(o)];
}

static cJSON *layer_json(const struct run *r, const struct run_layer *l)
{
    cJSON *json = cJSON_CreateObject();
    if (l->number >= 0)
        cJSON_AddNumberToObject(json, "layer", l->number);
    if (!shape_is_kv(run_implementation(r->o))) {
        cJSON_AddStringToObject(json, "method", layer_method_name(l->traits.shape.method));
        cJSON_AddNumberToObject(json, "bits", l->traits.bits);
    }
    cJSON_AddNumberToObject(json, "queries", (double)l->queries);
    cJSON_AddNumberToObject(json, "cache_bytes_per_token", l->info.cache_bytes_per_token);
    cJSON_AddNumberToObject(json, "tail_bytes", (double)l->info.tail_bytes);
    return json;
}

/* "40", or "39 to 40" where layers differ. */
static const char *queries_of_all(const struct run *r, char *text, size_t size)
{
    int64_t least = r->layers[0].queries, most = least;
    for (int i = 1; i < r->layer_count; i++) {
        const int64_t queries = r->layers[i].queries;
        least = queries < least ? queries : least;
        most = queries > most ? queries : most;
    }
    if (least == most)
        snprintf(text, size, "%lld", (long long)most);
    else
        snprintf(text, size, "%lld to %lld", (long long)least, (long long)most);
    return text;
}

xq_status run_report(const struct run *r, error *err)
{
    const struct run_layer *last = &r->layers[r->layer_count - 1];
    double bytes = last->info.accumulator_bytes_per_token;
    cJSON *json = cJSON_CreateObject(), *layers;
    cJSON_AddStringToObject(json, "output", r->o->output);
    cJSON_AddStringToObject(json, "implementation", implementation_name(r->o));
    cJSON_AddNumberToObject(json, "tokens", (double)last->tokens);
    cJSON_AddNumberToObject(json, "queries", (double)last->queries);
    layers = cJSON_AddArrayToObject(json, "layers");
    for (int i = 0; i < r->layer_count; i++) {
        cJSON_AddItemToArray(layers, layer_json(r, &r->layers[i]));
        bytes += r->layers[i].info.cache_bytes_per_token;
    }
    cJSON_AddNumberToObject(json, "accumulator_bytes_per_token", last->info.accumulator_bytes_per_token);
    cJSON_AddNumberToObject(json, "cache_bytes_per_token", bytes);
    cli_write_json(&r->o->common, json, err);
    cJSON_Delete(json);
    if (err->status != XQ_OK || r->o->common.quiet || cli_json_to_stdout(&r->o->common))
        return err->status;
    char queries[48];
    queries_of_all(r, queries, sizeof queries);
    printf("%s: %s attention of %s quer%s over %lld tokens", cli_show(r->o->output).text,
           implementation_name(r->o), queries, strcmp(queries, "1") == 0 ? "y" : "ies",
           (long long)last->tokens);
    if (r->layer_count > 1)
        printf(" in %d layers", r->layer_count);
    printf("; the cache takes %.4g bytes a token%s\n", bytes,
           last->info.accumulator_page_bytes ? ", accumulator included" : "");
    return err->status;
}
