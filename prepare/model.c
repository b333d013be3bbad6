#include "model.h"

#include "../gen/json.h"
#include "../runtime/base/lfs_pointer.h"
#include "mapping.h"
#include "model_names.h"

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

/* Completes a spec of the model, so that config.json's defaults are filled in. For a model that mixes kinds
 * of layers it completes the spec of any one kind, because all kinds have the same sizes. Scaling of rotary
 * frequencies does not matter here, and is left out. */
static xq_status complete_spec(gen *g, const model *m, char **completed, error *err)
{
    char *kind = NULL, *text = NULL;
    cJSON *spec = cJSON_CreateObject(), *json = cJSON_Parse(m->json);
    cJSON_DeleteItemFromObjectCaseSensitive(json, "rope_scaling");
    cJSON_AddItemToObject(spec, "model", json);
    text = cJSON_PrintUnformatted(spec);
    if (text && gen_any_layer_kind(g, text, &kind, err) == XQ_OK && *kind) {
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

/* Reads which layers keep keys and values: all of them, if the completed model has no list of layer
 * types. */
static xq_status read_attending(model *m, const char *completed, error *err)
{
    m->attends = malloc(sizeof *m->attends * (size_t)(m->layers + 1));
    if (!m->attends)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *json = cJSON_GetObjectItemCaseSensitive(spec, "model"),
                *types = cJSON_GetObjectItemCaseSensitive(json, "layer_types");
    for (int i = 0; i < m->layers; i++) {
        const char *type = cJSON_GetStringValue(cJSON_GetArrayItem(types, i));
        m->attends[i] = !type || strcmp(type, "linear_attention") != 0;
    }
    cJSON_Delete(spec);
    return XQ_OK;
}

static xq_status read_sizes(gen *g, model *m, const char *path, error *err)
{
    char *completed = NULL;
    if (complete_spec(g, m, &completed, err) != XQ_OK)
        return err->file[0] ? err->status : error_at(err, path, 0);
    struct spec_view view;
    if (spec_view_read(completed, &view, err) == XQ_OK) {
        m->layers = view.layers;
        m->norm_plus_one =
            strncmp(view.model_type, "gemma", 5) == 0 || strcmp(view.model_type, "qwen3_next") == 0;
        m->shape = view.layer;
        read_attending(m, completed, err);
    }
    free(completed);
    if (m->layers || err->status != XQ_OK)
        return err->status;
    error_set(err, XQ_ERROR_FORMAT, "spec",
              "%s: num_hidden_layers is missing; it must be a whole number from 1 to %d", path,
              LAYER_MOST_LAYERS);
    error_at(err, path, 0);
    return error_field(err, "num_hidden_layers");
}

/* Reads quantization_config, which does not concern attention's shape. */
static void read_method(model *m, const char *text)
{
    error unread = ERROR_INIT; /* gen_model_from_config has read the same text, and reports its errors */
    cJSON *config = json_parse(text, strlen(text), "config.json", JSON_PYTHON, XQ_ERROR_FORMAT, &unread);
    const cJSON *options = cJSON_GetObjectItemCaseSensitive(config, "quantization_config");
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(options, "quant_method"));
    if (cJSON_IsObject(options))
        snprintf(m->method, sizeof m->method, "%s", method ? method : "quantization_config");
    cJSON_Delete(config);
    error_clear(&unread);
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
        read_sizes(g, m, path, err) == XQ_OK && safetensors_open(directory, &m->weights, err) == XQ_OK) {
        read_method(m, text);
        model_check_names(m, err);
    }
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
    free(m->attends);
    free(m->json);
    free(m);
}

xq_status model_differs(const char *field, error *err)
{
    error_set(err, XQ_ERROR_SPEC, "spec",
              "%s: differs from the model directory's, whose weights are read; leave it out", field);
    return error_field(err, field);
}

xq_status model_expect(const model *m, const layer_shape *shape, error *err)
{
    const layer_shape *own = &m->shape;
    const struct {
        const char *field;
        int given, own;
    } sizes[] = {{"model.hidden_size", shape->hidden_size, own->hidden_size},
                 {"model.num_attention_heads", shape->heads, own->heads},
                 {"model.num_key_value_heads", shape->kv_heads, own->kv_heads},
                 {"model.head_dim", shape->head_dim, own->head_dim},
                 {"model.attention_bias", shape->bias, own->bias},
                 {"model.qk_norm", shape->k_norm, own->k_norm},
                 {"model.attention_sinks", shape->sinks, own->sinks}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].given != sizes[i].own)
            return model_differs(sizes[i].field, err);
    return XQ_OK;
}

/* ----------------------------------------------------------------- layers */

/* The row at which a KV head's keys (or values) begin in the tensor that holds them. */
static int first_row(const layer_shape *s, packing_order packing, bool value, int head)
{
    int per_kv = s->heads / s->kv_heads;
    if (packing == SEPARATE)
        return head * s->head_dim;
    if (packing == IN_BLOCKS)
        return (s->heads + (value ? s->kv_heads : 0) + head) * s->head_dim;
    return (head * (per_kv + 2) + per_kv + value) * s->head_dim;
}

/* Makes a name such as "k_proj.weight". */
static void projection(const naming *n, bool value, const char *suffix, char *what, size_t size)
{
    snprintf(what, size, "%s.%s", n->packing != SEPARATE ? n->fused : value ? "v_proj" : "k_proj", suffix);
}

const tensor *model_projection(const model *m, int layer, bool value)
{
    const layer_name l = {m, model_naming(m), layer};
    char what[64];
    projection(l.naming, value, "weight", what, sizeof what);
    return model_find(&l, what);
}

/* Returns K's (V's) rows of a tensor [rows, inner] as columns [inner, dkv]; a bias has inner 1. */
static xq_status take(const layer_name *l, const char *suffix, bool value, int inner, float **out,
                      error *err)
{
    const layer_shape *s = &l->m->shape;
    packing_order packing = l->naming->packing;
    char what[64], name[128];
    const tensor *t;
    float *values;
    int64_t rows = packing == SEPARATE ? s->kv_width : ((int64_t)s->heads + 2 * s->kv_heads) * s->head_dim;
    const int64_t shape[2] = {rows, inner};
    projection(l->naming, value, suffix, what, sizeof what);
    model_tensor_name(l, what, name, sizeof name);
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

static xq_status take_vector(const layer_name *l, const char *what, int count, bool plus_one, float **out,
                             error *err)
{
    char name[128];
    const tensor *t;
    const int64_t shape[1] = {count};
    model_tensor_name(l, what, name, sizeof name);
    if (safetensors_need(l->m->weights, name, &t, err) != XQ_OK ||
        tensor_expect_shape(t, 1, shape, err) != XQ_OK || tensor_to_floats(t, 1, out, err) != XQ_OK)
        return err->status;
    for (int i = 0; plus_one && i < count; i++)
        (*out)[i] += 1;
    return XQ_OK;
}

/* Refuses tensors that config.json does not announce: leaving them out would give wrong results. */
static xq_status refuse_extras(const layer_name *l, error *err)
{
    const layer_shape *s = &l->m->shape;
    const struct {
        const char *what;
        bool announced;
    } extras[] = {{"k_proj.bias", s->bias},         {"v_proj.bias", s->bias},
                  {"qkv_proj.bias", s->bias},       {"query_key_value.bias", s->bias},
                  {"Wqkv.bias", s->bias},           {"wqkv.bias", s->bias},
                  {"k_norm.weight", s->k_norm > 0}, {"k_layernorm.weight", false},
                  {"k_norm.bias", false},           {"sinks", s->sinks}};
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        const tensor *t = extras[i].announced ? NULL : model_find(l, extras[i].what);
        if (t) {
            error_set(err, XQ_ERROR_UNSUPPORTED, "file",
                      "%s: tensor %s would be ignored, because the configuration does not mention it",
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
    const layer_name l = {m, model_naming(m), layer};
    layer_weights w = {0};
    if (layer < 0 || layer >= m->layers)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "layer %d is not in the model; valid: 0 to %d",
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
    layer_name l = {m, model_naming(m), 0};
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
            const tensor *t = model_find(&l, what);
            if (t)
                hash_tensor(state, t);
        }
    }
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return XQ_OK;
}
