#include "model.h"

#include "mapping.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- opening */

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= 1e9
               ? (int)item->valuedouble
               : 0;
}

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

/* Sizes come from the completed spec, which has what config.json leaves to its defaults. */
static xq_status read_sizes(gen *g, model *m, const char *path, error *err)
{
    char *completed = NULL;
    cJSON *spec = cJSON_CreateObject();
    cJSON_AddItemToObject(spec, "model", cJSON_Parse(m->json));
    char *text = cJSON_PrintUnformatted(spec);
    cJSON_Delete(spec);
    if (!text)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    if (gen_complete(g, text, &completed, err) != XQ_OK && !err->file[0])
        error_at(err, path, 0);
    free(text);
    if (err->status != XQ_OK)
        return err->status;
    spec = cJSON_Parse(completed);
    const cJSON *json = cJSON_GetObjectItemCaseSensitive(spec, "model");
    m->hidden_size = integer(json, "hidden_size");
    m->kv_heads = integer(json, "num_key_value_heads");
    m->head_dim = integer(json, "head_dim");
    m->layers = integer(json, "num_hidden_layers");
    cJSON_Delete(spec);
    free(completed);
    if (m->layers)
        return XQ_OK;
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

/* ----------------------------------------------------------------- layers */

/* The names that Hugging Face gives a decoder layer, by model class. */
static const char *const prefixes[] = {"model.layers.", "model.language_model.layers.", "layers.",
                                       "transformer.h."};

/* Writes the prefix under which this model keeps its layers; the first one when none fits, for errors. */
static const char *prefix_of(const model *m)
{
    char name[128];
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(name, sizeof name, "%s0.self_attn.k_proj.weight", prefixes[i]);
        if (safetensors_find(m->weights, name))
            return prefixes[i];
    }
    return prefixes[0];
}

static xq_status refuse_extras(const model *m, const char *prefix, int layer, error *err)
{
    static const char *const extras[] = {"k_proj.bias", "v_proj.bias", "k_norm.weight", "q_norm.weight",
                                         "sinks"};
    char name[128];
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        snprintf(name, sizeof name, "%s%d.self_attn.%s", prefix, layer, extras[i]);
        const tensor *t = safetensors_find(m->weights, name);
        if (t) {
            error_set(err, XQ_ERROR_UNSUPPORTED, "file", "%s: tensor %s: no kernel supports %s yet",
                      t->file, name,
                      strstr(name, "bias")   ? "projections with a bias"
                      : strstr(name, "norm") ? "QK-norm"
                                             : "sinks");
            error_at(err, t->file, 0);
            return error_field(err, name);
        }
    }
    return XQ_OK;
}

/* [out, in] → [in, out] */
static float *transposed(const float *w, size_t out, size_t in)
{
    float *result = malloc(sizeof *result * out * in);
    for (size_t i = 0; result && i < in; i++)
        for (size_t o = 0; o < out; o++)
            result[i * out + o] = w[o * in + i];
    return result;
}

static xq_status projection(const model *m, const char *prefix, int layer, const char *which, float **out,
                            error *err)
{
    char name[128];
    const tensor *t;
    float *values;
    int64_t dkv = (int64_t)m->kv_heads * m->head_dim, shape[2] = {dkv, m->hidden_size};
    snprintf(name, sizeof name, "%s%d.self_attn.%s.weight", prefix, layer, which);
    if (safetensors_need(m->weights, name, &t, err) != XQ_OK ||
        tensor_expect_shape(t, 2, shape, err) != XQ_OK || tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    float *w = transposed(values, (size_t)dkv, (size_t)m->hidden_size);
    free(values);
    if (!w)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory for tensor %s", name);
    *out = w;
    return XQ_OK;
}

xq_status model_layer(const model *m, int layer, float **wk, float **wv, error *err)
{
    float *k = NULL, *v = NULL;
    if (layer < 0 || layer >= m->layers)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "layer %d; the model has layers 0 .. %d",
                         layer, m->layers - 1);
    const char *prefix = prefix_of(m);
    if (refuse_extras(m, prefix, layer, err) == XQ_OK &&
        projection(m, prefix, layer, "k_proj", &k, err) == XQ_OK)
        projection(m, prefix, layer, "v_proj", &v, err);
    if (err->status != XQ_OK) {
        free(k);
        return err->status;
    }
    *wk = k;
    *wv = v;
    return XQ_OK;
}
