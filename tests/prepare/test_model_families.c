/* Tests reading model directories like the checkpoints of each family: names of tensors, fused projections,
 * biases, norms and sinks. */
#include "../../prepare/model.h"
#include "../../prepare/safetensors.h"
#include "../../runtime/base/half.h"
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 256, DH = 64, LAYERS = 2, MOST_TENSORS = 12 };

/* The order of the rows in the tensors that hold queries, keys and values. */
enum order {
    APART,  /* k_proj and v_proj are separate tensors */
    BLOCKS, /* all queries, all keys, all values: Phi-3's op_size slices, MPT's chunks */
    GROUPS  /* for each KV head: its queries, its key, its value; GPT-NeoX, BLOOM, Falcon, InternLM2 */
};

static const struct family {
    const char *config; /* members of config.json */
    const char *key;    /* name of the tensor with the keys of layer %d, without ".weight" */
    int heads, kv_heads;
    enum order order;
    bool bias, plus_one;
    int norms; /* elements of k_norm; 0: the model has none */
    bool sinks;
} families[] = {
#define SIZES "\"hidden_size\": 256, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
    {"\"model_type\": \"llama\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART},
    {"\"model_type\": \"qwen2\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART, .bias = true},
    {"\"model_type\": \"qwen3_moe\", " SIZES "\"num_key_value_heads\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .norms = DH},
    {"\"model_type\": \"gemma2\", " SIZES "\"num_key_value_heads\": 2, \"head_dim\": 64",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"gemma3_text\", " SIZES "\"num_key_value_heads\": 1, \"head_dim\": 64",
     "model.layers.%d.self_attn.k_proj", 4, 1, .order = APART, .norms = DH, .plus_one = true},
    {"\"model_type\": \"gemma3\", \"text_config\": {" SIZES "\"num_key_value_heads\": 1, \"head_dim\": 64}",
     "language_model.model.layers.%d.self_attn.k_proj", 4, 1, .order = APART, .norms = DH,
     .plus_one = true},
    {"\"model_type\": \"gemma3\", \"text_config\": {" SIZES "\"num_key_value_heads\": 1, \"head_dim\": 64}",
     "model.language_model.layers.%d.self_attn.k_proj", 4, 1, .order = APART, .norms = DH,
     .plus_one = true},
    {"\"model_type\": \"gpt_oss\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART, .bias = true, .sinks = true},
    {"\"model_type\": \"glm4\", " SIZES "\"num_key_value_heads\": 2, \"head_dim\": 64",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .bias = true},
    {"\"model_type\": \"olmo2\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART, .norms = 2 * DH},
    {"\"model_type\": \"phi\", " SIZES "\"num_key_value_heads\": 4", "model.layers.%d.self_attn.k_proj", 4,
     4, .order = APART, .bias = true},
    {"\"model_type\": \"phi3\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.qkv_proj",
     4, 2, .order = BLOCKS},
    {"\"model_type\": \"gpt_neox\", " SIZES "\"rotary_pct\": 0.25",
     "gpt_neox.layers.%d.attention.query_key_value", 4, 4, .order = GROUPS, .bias = true},
    {"\"model_type\": \"bloom\", \"n_embed\": 256, \"n_layer\": 2, \"n_head\": 4",
     "h.%d.self_attention.query_key_value", 4, 4, .order = GROUPS, .bias = true},
    {"\"model_type\": \"falcon\", " SIZES "\"multi_query\": true",
     "transformer.h.%d.self_attention.query_key_value", 4, 1, .order = GROUPS},
    {"\"model_type\": \"falcon\", " SIZES "\"new_decoder_architecture\": true, \"num_kv_heads\": 2",
     "transformer.h.%d.self_attention.query_key_value", 4, 2, .order = GROUPS},
    {"\"model_type\": \"falcon\", " SIZES "\"multi_query\": false, \"alibi\": true, \"bias\": true",
     "transformer.h.%d.self_attention.query_key_value", 4, 4, .order = GROUPS, .bias = true},
    {"\"model_type\": \"mistral\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART},
    {"\"model_type\": \"mixtral\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART},
    {"\"model_type\": \"granite\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART},
    {"\"model_type\": \"nemotron\", " SIZES "\"num_key_value_heads\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"stablelm\", " SIZES "\"num_key_value_heads\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"stablelm\", " SIZES "\"num_key_value_heads\": 2, \"use_qkv_bias\": true",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .bias = true},
    {"\"model_type\": \"starcoder2\", " SIZES "\"num_key_value_heads\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .bias = true},
    {"\"model_type\": \"gemma\", " SIZES "\"num_key_value_heads\": 2, \"head_dim\": 64",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"qwen3\", " SIZES "\"num_key_value_heads\": 2, \"head_dim\": 64",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .norms = DH},
    {"\"model_type\": \"olmoe\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART, .norms = 2 * DH},
    {"\"model_type\": \"olmo3\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART, .norms = 2 * DH},
    {"\"model_type\": \"glm\", " SIZES
     "\"num_key_value_heads\": 2, \"head_dim\": 64, \"attention_bias\": true",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .bias = true},
    {"\"model_type\": \"cohere\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj",
     4, 2, .order = APART},
    {"\"model_type\": \"cohere2\", " SIZES "\"num_key_value_heads\": 2, \"sliding_window_pattern\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"smollm3\", " SIZES "\"num_key_value_heads\": 2, \"no_rope_layer_interval\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"exaone4\", " SIZES "\"num_key_value_heads\": 2, \"sliding_window_pattern\": \"LG\"",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .norms = DH},
    {"\"model_type\": \"ministral\", " SIZES "\"num_key_value_heads\": 2",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART},
    {"\"model_type\": \"qwen3_next\", " SIZES
     "\"num_key_value_heads\": 2, \"head_dim\": 64, \"full_attention_interval\": 1",
     "model.layers.%d.self_attn.k_proj", 4, 2, .order = APART, .norms = DH, .plus_one = true},
    {"\"model_type\": \"olmo\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.self_attn.k_proj", 4,
     2, .order = APART},
    {"\"model_type\": \"internlm2\", " SIZES "\"num_key_value_heads\": 2, \"bias\": false",
     "model.layers.%d.attention.wqkv", 4, 2, .order = GROUPS},
    {"\"model_type\": \"internlm2\", " SIZES "\"num_key_value_heads\": 2", "model.layers.%d.attention.wqkv",
     4, 2, .order = GROUPS, .bias = true},
    {"\"model_type\": \"mpt\", \"d_model\": 256, \"n_layers\": 2, \"n_heads\": 4",
     "transformer.blocks.%d.attn.Wqkv", 4, 4, .order = BLOCKS},
};

/* ---------------------------------------------------------------- writing a directory */

struct directory {
    tensor tensors[LAYERS * MOST_TENSORS];
    char names[LAYERS * MOST_TENSORS][96];
    int count;
};

/* Value of an element. It is exact in f16, and differs between neighbouring rows, columns, tensors and
 * layers. */
static float value_of(int layer, const char *what, int row, int column)
{
    unsigned tag =
        (unsigned)layer * 977u + (unsigned)what[0] * 57u + (unsigned)what[strlen(what) - 1] * 31u;
    return (float)((tag + (unsigned)row * 131u + (unsigned)column * 3u) % 2039u) / 1024 - 1;
}

/* Adds the tensor `name`: a matrix, or a vector if `columns` is 0. `what` seeds its values. */
static void add(struct directory *d, int layer, const char *what, const char *name, int rows, int columns)
{
    int width = columns ? columns : 1;
    uint16_t *data = malloc(sizeof *data * (size_t)rows * (size_t)width);
    for (int i = 0; i < rows * width; i++)
        data[i] = half_from_float(value_of(layer, what, i / width, i % width));
    snprintf(d->names[d->count], sizeof d->names[0], "%s", name);
    d->tensors[d->count] = (tensor){.name = d->names[d->count],
                                    .type = TENSOR_F16,
                                    .rank = columns ? 2 : 1,
                                    .shape = {rows, columns},
                                    .data = (const uint8_t *)data,
                                    .bytes = 2 * (size_t)rows * (size_t)width};
    d->count++;
}

static void add_projection(struct directory *d, const struct family *f, int layer, const char *key,
                           const char *what, int rows)
{
    char name[96];
    snprintf(name, sizeof name, "%s.weight", key);
    add(d, layer, what, name, rows, D);
    snprintf(name, sizeof name, "%s.bias", key);
    if (f->bias)
        add(d, layer, what, name, rows, 0);
}

static void add_layer(struct directory *d, const struct family *f, int layer)
{
    char key[64], name[96];
    snprintf(key, sizeof key, f->key, layer);
    int attention = (int)(strrchr(key, '.') - key);
    if (f->order == APART) {
        add_projection(d, f, layer, key, "k", f->kv_heads * DH);
        snprintf(name, sizeof name, "%.*s.v_proj", attention, key);
        add_projection(d, f, layer, name, "v", f->kv_heads * DH);
    } else {
        add_projection(d, f, layer, key, "qkv", (f->heads + 2 * f->kv_heads) * DH);
    }
    snprintf(name, sizeof name, "%.*s.k_norm.weight", attention, key);
    if (f->norms)
        add(d, layer, "norm", name, f->norms, 0);
    snprintf(name, sizeof name, "%.*s.sinks", attention, key);
    if (f->sinks)
        add(d, layer, "sinks", name, f->heads, 0);
}

static const char *write_directory(const struct family *f)
{
    struct directory d = {.count = 0};
    char config[512];
    error err = ERROR_INIT;
    for (int layer = 0; layer < LAYERS; layer++)
        add_layer(&d, f, layer);
    const char *directory = files_directory();
    safetensors_write(files_path(directory, "model.safetensors"), d.tensors, d.count, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    snprintf(config, sizeof config, "{%s}", f->config);
    files_write(files_path(directory, "config.json"), config, strlen(config));
    for (int i = 0; i < d.count; i++)
        free((void *)d.tensors[i].data);
    return directory;
}

/* ---------------------------------------------------------------- reading it */

/* Expected value at dimension i of KV head h, computed from its place in the checkpoint's tensor. */
static float expected_value(const struct family *f, int layer, bool value, int h, int i, int column)
{
    int per_head = f->heads / f->kv_heads;
    switch (f->order) {
    case APART:
        return value_of(layer, value ? "v" : "k", h * DH + i, column);
    case BLOCKS:
        return value_of(layer, "qkv", (f->heads + (value ? f->kv_heads : 0) + h) * DH + i, column);
    default:
        return value_of(layer, "qkv", (h * (per_head + 2) + per_head + value) * DH + i, column);
    }
}

static void check_matrix(const struct family *f, int layer, bool value, const float *w, const float *bias)
{
    int dkv = f->kv_heads * DH;
    for (int c = 0; c < dkv; c++) {
        for (int in = 0; in < D; in++)
            cr_assert_eq(w[in * dkv + c], expected_value(f, layer, value, c / DH, c % DH, in),
                         "%s: %c column %d, row %d", f->config, value ? 'v' : 'k', c, in);
        if (f->bias)
            cr_assert_eq(bias[c], expected_value(f, layer, value, c / DH, c % DH, 0), "%s: bias %d",
                         f->config, c);
    }
    cr_assert_eq(bias != NULL, f->bias, "%s", f->config);
}

static void check_family(const struct family *f)
{
    model *m = NULL;
    error err = ERROR_INIT;
    const char *directory = write_directory(f);
    model_open(generator(), directory, &m, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", f->config, err.message);
    for (int layer = 0; layer < LAYERS; layer++) {
        layer_weights w = {0};
        model_layer(m, layer, &w, &err);
        cr_assert_eq(err.status, XQ_OK, "%s: %s", f->config, err.message);
        check_matrix(f, layer, false, w.wk, w.bk);
        check_matrix(f, layer, true, w.wv, w.bv);
        for (int i = 0; i < f->norms; i++)
            cr_assert_eq(w.k_norm[i], value_of(layer, "norm", i, 0) + f->plus_one, "%s", f->config);
        for (int h = 0; f->sinks && h < f->heads; h++)
            cr_assert_eq(w.sinks[h], value_of(layer, "sinks", h, 0), "%s", f->config);
        cr_assert(f->norms || !w.k_norm);
        cr_assert(f->sinks || !w.sinks);
        layer_weights_free(&w);
    }
    model_close(m);
}

enum { FAMILIES = sizeof families / sizeof *families };

/* Checks every third family from `first` on, because the number of directories of one test is limited. */
static void check_third(int first)
{
    for (int i = first; i < FAMILIES; i += 3)
        check_family(&families[i]);
}

Test(model_families, first_third_of_the_families_is_read_from_its_checkpoints)
{
    check_third(0);
}

Test(model_families, second_third_of_the_families_is_read_from_its_checkpoints)
{
    check_third(1);
}

Test(model_families, last_third_of_the_families_is_read_from_its_checkpoints)
{
    check_third(2);
}
