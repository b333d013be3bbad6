#include "model_files.h"

#include "../../prepare/safetensors.h"
#include "../../runtime/base/half.h"
#include "files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char good_config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 2, "
    "\"num_key_value_heads\": 1,"
    " \"num_hidden_layers\": 2, \"rope_theta\": 10000.0, \"torch_dtype\": \"float16\"}";

float model_value(int layer, int is_v, int out, int in)
{
    unsigned hash =
        (unsigned)(layer * 2 + is_v) * 40503u + (unsigned)out * 2654435761u + (unsigned)in * 2246822519u;
    hash ^= hash >> 15;
    hash *= 2654435761u;
    return half_round((float)(hash >> 16) / 65536.0f - 0.5f) / 8;
}

static int same(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

const char *model_files(const struct model_change *change)
{
    const char *directory = files_directory(), *config = change->config ? change->config : good_config;
    static char names[2 * MODEL_LAYERS][64];
    static uint16_t values[2 * MODEL_LAYERS][MODEL_DKV * MODEL_D];
    tensor tensors[2 * MODEL_LAYERS + 1];
    int count = 0;
    for (int i = 0; i < 2 * MODEL_LAYERS; i++) {
        snprintf(names[i], sizeof names[i], "model.layers.%d.self_attn.%c_proj.weight", i / 2, "kv"[i % 2]);
        for (int e = 0; e < MODEL_DKV * MODEL_D; e++)
            values[i][e] = half_from_float(model_value(i / 2, i % 2, e / MODEL_D, e % MODEL_D));
        if (change->zero && strncmp(names[i], change->zero, strlen(change->zero)) == 0)
            memset(values[i], 0, sizeof values[i]);
        int64_t rows = same(change->narrow, names[i]) ? MODEL_DKV - 1 : MODEL_DKV;
        if (same(change->nan, names[i]))
            values[i][5] = 0x7e00;
        if (!same(change->drop, names[i]))
            tensors[count++] = (tensor){.name = names[i],
                                        .type = TENSOR_F16,
                                        .rank = 2,
                                        .shape = {rows, MODEL_D},
                                        .data = values[i],
                                        .bytes = 2 * (size_t)rows * MODEL_D};
    }
    if (change->extra)
        tensors[count++] = (tensor){
            .name = change->extra, .type = TENSOR_F16, .rank = 1, .shape = {1}, .data = values, .bytes = 2};
    error err = ERROR_INIT;
    cr_assert_eq(safetensors_write(files_path(directory, "model.safetensors"), tensors, count, &err),
                 XQ_OK);
    files_write(files_path(directory, "config.json"), config, strlen(config));
    return directory;
}
