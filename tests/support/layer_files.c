#include "layer_files.h"

#include "../../prepare/safetensors.h"
#include "files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* These arrays stay reachable until the process ends, which releases them. */
static float *kept[256];
static int kept_count;

float *layer_floats(size_t count, double size)
{
    float *values = malloc(sizeof *values * (count + 1));
    cr_assert(values && kept_count < 256);
    kept[kept_count++] = values;
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((drand48() + drand48() + drand48() - 1.5) * 2 * size);
    return values;
}

struct layer layer_random(int64_t tokens, int64_t queries)
{
    srand48(tokens * 31 + queries);
    struct layer layer = {.tokens = tokens, .queries = queries, .suffix = "", .wk_cols = LAYER_DKV};
    layer.x = layer_floats((size_t)tokens * LAYER_D, 1);
    layer.wk = layer_floats((size_t)LAYER_D * LAYER_DKV, 0.1);
    layer.wv = layer_floats((size_t)LAYER_D * LAYER_DKV, 0.1);
    layer.q = layer_floats((size_t)queries * LAYER_HEADS * LAYER_DH, 1);
    return layer;
}

/* Adds the tensors of one layer, from index `count` on. Their names are stored in `names`. */
static int add_tensors(const struct layer *layer, tensor *tensors, char (*names)[32], int count)
{
    const struct {
        const char *name;
        int rank;
        int64_t shape[3];
        const float *data;
    } all[] = {
        {"x", 2, {layer->tokens, LAYER_D}, layer->x},
        {"wk", 2, {LAYER_D, layer->wk_cols}, layer->wk},
        {"wv", 2, {LAYER_D, LAYER_DKV}, layer->wv},
        {"q", 3, {layer->queries, LAYER_HEADS, LAYER_DH}, layer->q},
        {"bk", 1, {LAYER_DKV}, layer->bk},
        {"bv", 1, {LAYER_DKV}, layer->bv},
        {"k_norm", 1, {LAYER_DH}, layer->k_norm},
        {"sinks", 1, {LAYER_HEADS}, layer->sinks},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!all[i].data || (layer->drop && strcmp(layer->drop, all[i].name) == 0))
            continue;
        snprintf(names[count], sizeof names[count], "%s%s", all[i].name, layer->suffix);
        tensor t = {.name = names[count], .type = TENSOR_F32, .rank = all[i].rank, .data = all[i].data};
        memcpy(t.shape, all[i].shape, sizeof all[i].shape);
        t.bytes = 4 * tensor_count(&t);
        tensors[count++] = t;
    }
    if (layer->extra)
        tensors[count++] = (tensor){.name = layer->extra,
                                    .type = TENSOR_F32,
                                    .rank = 1,
                                    .shape = {1},
                                    .data = layer->x,
                                    .bytes = 4};
    return count;
}

const char *layer_files_write_all(const struct layer *layers, int layer_count, const char *model,
                                  const char *cache)
{
    enum { MOST_LAYERS = 48, MOST = 9 * MOST_LAYERS };
    static char names[MOST][32];
    tensor tensors[MOST];
    char spec[1024];
    int count = 0;
    error err = ERROR_INIT;
    cr_assert_leq(layer_count, MOST_LAYERS);
    for (int i = 0; i < layer_count; i++)
        count = add_tensors(&layers[i], tensors, names, count);
    const char *directory = files_directory();
    cr_assert_eq(safetensors_write(files_path(directory, "in.safetensors"), tensors, count, &err), XQ_OK);
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d, \"rope_theta\": 10000.0%s}, \"cache\": {\"page\": 16, \"group\": 32, %s}}",
             LAYER_D, LAYER_HEADS, LAYER_KV, LAYER_DH, model, cache);
    files_write(files_path(directory, "spec.json"), spec, strlen(spec));
    return directory;
}

const char *layer_files_write(const struct layer *layer, const char *method, int bits)
{
    char cache[64];
    snprintf(cache, sizeof cache, "\"method\": \"%s\", \"bits\": %d", method, bits);
    return layer_files_write_all(layer, 1, "", cache);
}

struct command_result layer_files_run(const char *directory, const char *options)
{
    return command_run("run --device sim --input %s/in.safetensors --output %s/out.safetensors "
                       "--spec %s/spec.json %s",
                       directory, directory, directory, options);
}

void layer_files_draw(struct layer *layers, char (*suffixes)[8], int count, int first)
{
    for (int l = 0; l < count; l++) {
        layers[l] = layer_random(40, 2 + l % 2);
        snprintf(suffixes[l], sizeof suffixes[l], ".%d", first + l);
        layers[l].suffix = suffixes[l];
        layers[l].wk = layer_floats((size_t)LAYER_D * LAYER_DKV, 0.1);
        layers[l].wv = layer_floats((size_t)LAYER_D * LAYER_DKV, 0.1);
        const float *drift = layer_floats(40 * LAYER_D, 0.3);
        for (int i = 0; l > 0 && i < 40 * LAYER_D; i++)
            layers[l].x[i] = layers[l - 1].x[i] + drift[i];
    }
}
