#include "model.h"

#include "mapping.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---------------------------------------------------------------- opening */

static xq_status read_file(const char *path, char **text, error *err)
{
    mapping file;
    if (mapping_open(path, &file, err) != XQ_OK)
        return err->status;
    *text = malloc(file.size + 1);
    if (*text) {
        if (file.size)
            memcpy(*text, file.data, file.size);
        (*text)[file.size] = 0;
    }
    mapping_close(&file);
    return *text ? XQ_OK : error_set(err, XQ_ERROR_MEMORY, "file", "out of memory reading %s", path);
}

/* The completed spec, which has what config.json leaves to its defaults. Of a model that mixes layers, that
 * of one kind: sizes are the same for both. */
static xq_status complete_spec(gen *g, const model *m, char **completed, error *err)
{
    char *kind = NULL, *text = NULL;
    cJSON *spec = cJSON_CreateObject(), *json = cJSON_Parse(m->json);
    cJSON_AddItemToObject(spec, "model", json);
    text = cJSON_PrintUnformatted(spec);
    if (text && gen_layer_kind(g, text, 0, &kind, err) == XQ_OK && *kind) {
        free(text);
        cJSON_AddStringToObject(json, "layer_kind", kind);
        text = cJSON_PrintUnformatted(spec);
    }
    if (!text)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    else if (err->status == XQ_OK)
        gen_complete(g, text, completed, err);
    cJSON_Delete(spec);
    free(kind);
    free(text);
    return err->status;
}

static xq_status read_sizes(gen *g, model *m, const char *path, error *err)
{
    char *completed = NULL;
    if (complete_spec(g, m, &completed, err) != XQ_OK)
        return err->file[0] ? err->status : error_at(err, path, 0);
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *json = cJSON_GetObjectItemCaseSensitive(spec, "model");
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(json, "num_hidden_layers");
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "model_type"));
    m->layers = cJSON_IsNumber(layers) ? layers->valueint : 0;
    m->norm_plus_one = type && strncmp(type, "gemma", 5) == 0;
    layer_shape_read(completed, &m->shape, err);
    cJSON_Delete(spec);
    free(completed);
    if (m->layers || err->status != XQ_OK)
        return err->status;
    error_set(err, XQ_ERROR_FORMAT, "spec", "%s: num_hidden_layers must be a positive integer", path);
    error_at(err, path, 0);
    return error_field(err, "num_hidden_layers");
}

xq_status model_open(gen *g, const char *directory, model **out, error *err)
{
    char path[4096], *text = NULL;
    model *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    snprintf(path, sizeof path, "%s/config.json", directory);
    if (read_file(path, &text, err) == XQ_OK &&
        gen_model_from_config(g, text, path, &m->json, err) == XQ_OK &&
        read_sizes(g, m, path, err) == XQ_OK)
        safetensors_open(directory, &m->weights, err);
    free(text);
    if (err->status == XQ_OK)
        *out = m;
    else
        model_close(m);
    return err->status;
}

void model_close(model *m)
{
    if (!m)
        return;
    safetensors_close(m->weights);
    free(m->json);
    free(m);
}

/* ------------------------------------------------------------------ names */

/* How files keep the rows of K's and V's projections: matrices of their own, or one of query, key and
 * value; then either all queries, all keys, all values, or so for each KV head in turn. */
enum packing { SEPARATE, IN_BLOCKS, BY_HEAD };

/* What Hugging Face calls the attention of a decoder layer, by model class: PREFIX.N.ATTENTION.PROJECTION.
 */
static const struct naming {
    const char *prefix, *attention, *fused;
    enum packing packing;
} namings[] = {
    {"model.layers", "self_attn", NULL, SEPARATE},
    {"model.language_model.layers", "self_attn", NULL, SEPARATE},
    {"language_model.model.layers", "self_attn", NULL, SEPARATE},
    {"layers", "self_attn", NULL, SEPARATE},
    {"transformer.h", "self_attn", NULL, SEPARATE},
    {"model.layers", "self_attn", "qkv_proj", IN_BLOCKS},
    {"gpt_neox.layers", "attention", "query_key_value", BY_HEAD},
    {"transformer.h", "self_attention", "query_key_value", BY_HEAD},
    {"h", "self_attention", "query_key_value", BY_HEAD},
    {"transformer.blocks", "attn", "Wqkv", IN_BLOCKS},
};

struct layer_name {
    const model *m;
    const struct naming *naming;
    int layer;
};

static void tensor_name(const struct layer_name *l, const char *what, char *name, size_t size)
{
    snprintf(name, size, "%s.%d.%s.%s", l->naming->prefix, l->layer, l->naming->attention, what);
}

static const tensor *find(const struct layer_name *l, const char *what)
{
    char name[128];
    tensor_name(l, what, name, sizeof name);
    return safetensors_find(l->m->weights, name);
}

/* The first naming that fits; the very first when none does, for errors. */
static const struct naming *naming_of(const model *m)
{
    for (size_t i = 0; i < sizeof namings / sizeof namings[0]; i++) {
        const struct layer_name first = {m, &namings[i], 0};
        char what[64];
        snprintf(what, sizeof what, "%s.weight", namings[i].fused ? namings[i].fused : "k_proj");
        if (find(&first, what))
            return &namings[i];
    }
    return &namings[0];
}

/* ----------------------------------------------------------------- layers */

/* Where rows of a KV head's keys (or values) begin in the tensor that holds them. */
static int first_row(const layer_shape *s, enum packing packing, bool value, int head)
{
    int per_kv = s->heads / s->kv_heads;
    if (packing == SEPARATE)
        return head * s->head_dim;
    if (packing == IN_BLOCKS)
        return (s->heads + (value ? s->kv_heads : 0) + head) * s->head_dim;
    return (head * (per_kv + 2) + per_kv + value) * s->head_dim;
}

/* K's (V's) rows of a tensor [rows, inner] as columns: [inner, dkv]; a bias has inner 1. */
static xq_status take(const struct layer_name *l, const char *suffix, bool value, int inner, float **out,
                      error *err)
{
    const layer_shape *s = &l->m->shape;
    enum packing packing = l->naming->packing;
    char what[64], name[128];
    const tensor *t;
    float *values;
    int64_t rows = packing == SEPARATE ? s->kv_width : ((int64_t)s->heads + 2 * s->kv_heads) * s->head_dim;
    const int64_t shape[2] = {rows, inner};
    snprintf(what, sizeof what, "%s.%s",
             packing != SEPARATE ? l->naming->fused
             : value             ? "v_proj"
                                 : "k_proj",
             suffix);
    tensor_name(l, what, name, sizeof name);
    if (safetensors_need(l->m->weights, name, &t, err) != XQ_OK ||
        tensor_expect_shape(t, strcmp(suffix, "bias") == 0 ? 1 : 2, shape, err) != XQ_OK ||
        tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    float *w = malloc(sizeof *w * (size_t)inner * (size_t)s->kv_width);
    if (!w)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory for tensor %s", name);
    for (int c = 0; w && c < s->kv_width; c++) {
        size_t row = (size_t)(first_row(s, packing, value, c / s->head_dim) + c % s->head_dim);
        for (int i = 0; i < inner; i++)
            w[(size_t)i * (size_t)s->kv_width + (size_t)c] = values[row * (size_t)inner + (size_t)i];
    }
    free(values);
    *out = w;
    return err->status;
}

static xq_status take_vector(const struct layer_name *l, const char *what, int count, bool plus_one,
                             float **out, error *err)
{
    char name[128];
    const tensor *t;
    const int64_t shape[1] = {count};
    tensor_name(l, what, name, sizeof name);
    if (safetensors_need(l->m->weights, name, &t, err) != XQ_OK ||
        tensor_expect_shape(t, 1, shape, err) != XQ_OK || tensor_to_floats(t, 1, out, err) != XQ_OK)
        return err->status;
    for (int i = 0; plus_one && i < count; i++)
        (*out)[i] += 1;
    return XQ_OK;
}

/* What the files have and the configuration does not say would be left out, and the result be wrong. */
static xq_status refuse_extras(const struct layer_name *l, error *err)
{
    const layer_shape *s = &l->m->shape;
    const struct {
        const char *what;
        bool announced;
    } extras[] = {
        {"k_proj.bias", s->bias},          {"v_proj.bias", s->bias}, {"qkv_proj.bias", s->bias},
        {"query_key_value.bias", s->bias}, {"Wqkv.bias", s->bias},   {"k_norm.weight", s->k_norm > 0},
        {"k_layernorm.weight", false},     {"k_norm.bias", false},   {"sinks", s->sinks}};
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        const tensor *t = extras[i].announced ? NULL : find(l, extras[i].what);
        if (t) {
            error_set(err, XQ_ERROR_UNSUPPORTED, "file",
                      "%s: tensor %s: the configuration says nothing of it, so that it would be left out",
                      t->file, t->name);
            error_at(err, t->file, 0);
            return error_field(err, t->name);
        }
    }
    return XQ_OK;
}

xq_status model_layer(const model *m, int layer, layer_weights *out, error *err)
{
    const layer_shape *s = &m->shape;
    const struct layer_name l = {m, naming_of(m), layer};
    layer_weights w = {0};
    if (layer < 0 || layer >= m->layers)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "layer %d; the model has layers 0 .. %d",
                         layer, m->layers - 1);
    if (refuse_extras(&l, err) == XQ_OK && take(&l, "weight", false, s->hidden_size, &w.wk, err) == XQ_OK &&
        take(&l, "weight", true, s->hidden_size, &w.wv, err) == XQ_OK &&
        (!s->bias || (take(&l, "bias", false, 1, &w.bk, err) == XQ_OK &&
                      take(&l, "bias", true, 1, &w.bv, err) == XQ_OK)) &&
        (!s->k_norm ||
         take_vector(&l, "k_norm.weight", s->k_norm, m->norm_plus_one, &w.k_norm, err) == XQ_OK) &&
        s->sinks)
        take_vector(&l, "sinks", s->heads, false, &w.sinks, err);
    if (err->status == XQ_OK)
        *out = w;
    else
        layer_weights_free(&w);
    return err->status;
}

/* ------------------------------------------------------------------- hash */

static void hash_tensor(XXH3_state_t *state, const tensor *t)
{
    int64_t rank = t->rank;
    XXH3_64bits_update(state, t->name, strlen(t->name) + 1);
    XXH3_64bits_update(state, t->type_name, strlen(t->type_name) + 1);
    XXH3_64bits_update(state, &rank, sizeof rank);
    XXH3_64bits_update(state, t->shape, sizeof t->shape[0] * (size_t)t->rank);
    XXH3_64bits_update(state, t->data, t->bytes);
}

xq_status model_hash(const model *m, const int *layers, int count, uint64_t *hash, error *err)
{
    struct layer_name l = {m, naming_of(m), 0};
    const char *fused = l.naming->fused ? l.naming->fused : "qkv_proj";
    const char *const projections[] = {"k_proj", "v_proj", fused}, *const others[] = {"k_norm.weight",
                                                                                      "sinks"};
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    XXH3_64bits_reset(state);
    for (int i = 0; i < count; i++) {
        l.layer = layers[i];
        for (int j = 0; j < 3 * 2 + 2; j++) {
            char what[64];
            snprintf(what, sizeof what, "%s%s", j < 6 ? projections[j / 2] : others[j - 6],
                     j >= 6  ? ""
                     : j % 2 ? ".bias"
                             : ".weight");
            const tensor *t = find(&l, what);
            if (t)
                hash_tensor(state, t);
        }
    }
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return XQ_OK;
}
