#include "config.h"
#include "fail.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ values */

static const cJSON *item(const config *c, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(c->json, key);
    return cJSON_IsNull(value) ? NULL : value;
}

static double real_of(const cJSON *object, const char *key, double otherwise)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!value || cJSON_IsNull(value)) {
        if (isnan(otherwise))
            fail(EXIT_INPUT, "config.json: %s is missing", key);
        return otherwise;
    }
    if (!cJSON_IsNumber(value) || !(value->valuedouble > 0) || !isfinite(value->valuedouble))
        fail(EXIT_INPUT, "config.json: %s must be a positive number", key);
    return value->valuedouble;
}

static int whole(const config *c, const char *key, double otherwise)
{
    double value = real_of(c->json, key, otherwise);
    if (value != floor(value) || value > 1 << 24)
        fail(EXIT_INPUT, "config.json: %s is %g; it must be a whole number up to %d", key, value, 1 << 24);
    return (int)value;
}

static void refuse_if_true(const config *c, const char *key)
{
    if (cJSON_IsTrue(item(c, key)))
        fail(EXIT_INPUT, "config.json: %s is true; this example has no biases", key);
}

static void expect_text(const config *c, const char *key, const char *otherwise, const char *only)
{
    const char *text = cJSON_GetStringValue(item(c, key));
    if (strcmp(text ? text : otherwise, only) != 0)
        fail(EXIT_INPUT, "config.json: %s is '%s'; valid: %s", key, text ? text : otherwise, only);
}

/* -------------------------------------------------------------------- rope */

static void read_scaling(const config *c, rope_config *rope)
{
    const cJSON *scaling = item(c, "rope_scaling"),
                *type = cJSON_GetObjectItemCaseSensitive(scaling, "rope_type");
    const char *name =
        cJSON_GetStringValue(type ? type : cJSON_GetObjectItemCaseSensitive(scaling, "type"));
    if (!scaling || (name && strcmp(name, "default") == 0))
        return;
    if (!name || (strcmp(name, "linear") != 0 && strcmp(name, "llama3") != 0))
        fail(EXIT_INPUT, "config.json: the type of rope_scaling is '%s'; valid: default, linear, llama3",
             name ? name : "(none)");
    rope->factor = real_of(scaling, "factor", NAN);
    if (strcmp(name, "llama3") == 0) {
        rope->by_frequency = true;
        rope->low_factor = real_of(scaling, "low_freq_factor", NAN);
        rope->high_factor = real_of(scaling, "high_freq_factor", NAN);
        rope->original_length = real_of(scaling, "original_max_position_embeddings", NAN);
    }
}

static void read_rope(config *c)
{
    if (item(c, "rope_parameters"))
        fail(EXIT_INPUT, "config.json: rope_parameters is not supported by this example; it reads "
                         "rope_theta and rope_scaling");
    c->rope[0] = (rope_config){.theta = real_of(c->json, "rope_theta", c->gemma ? 1e6 : 1e4), .factor = 1};
    c->rope[1] = (rope_config){.theta = real_of(c->json, "rope_local_base_freq", 1e4), .factor = 1};
    read_scaling(c, &c->rope[0]);
}

/* ------------------------------------------------------------------- kinds */

static void read_kinds(config *c)
{
    const cJSON *types = item(c, "layer_types");
    c->sliding = room((size_t)c->layers, sizeof *c->sliding);
    if (!c->gemma)
        return;
    c->window = whole(c, "sliding_window", 4096);
    int pattern = whole(c, "sliding_window_pattern", 6);
    if (types && cJSON_GetArraySize(types) != c->layers)
        fail(EXIT_INPUT, "config.json: layer_types has %d entries for %d layers", cJSON_GetArraySize(types),
             c->layers);
    for (int l = 0; l < c->layers; l++) {
        const char *type = cJSON_GetStringValue(cJSON_GetArrayItem(types, l));
        if (types &&
            (!type || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0)))
            fail(EXIT_INPUT, "config.json: layer_types[%d] must be full_attention or sliding_attention", l);
        c->sliding[l] = types ? strcmp(type, "sliding_attention") == 0 : (l + 1) % pattern != 0;
    }
}

/* -------------------------------------------------------------------- file */

static cJSON *parse_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = room(1 << 20, 1);
    if (!file)
        fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
    size_t size = fread(text, 1, (1 << 20) - 1, file);
    if (ferror(file))
        fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
    fclose(file);
    cJSON *json = cJSON_ParseWithLength(text, size);
    if (!cJSON_IsObject(json))
        fail(EXIT_INPUT, "%s: the file is no JSON object", path);
    free(text);
    return json;
}

void config_read(const char *directory, config *c)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", directory);
    *c = (config){.json = parse_file(path)};
    const char *type = cJSON_GetStringValue(item(c, "model_type"));
    c->type = strdup(type ? type : "(none)");
    c->gemma = strcmp(c->type, "gemma3_text") == 0;
    if (!c->gemma && strcmp(c->type, "llama") != 0)
        fail(EXIT_INPUT, "%s: model_type is '%s'; valid: llama, gemma3_text", path, c->type);
    c->hidden = whole(c, "hidden_size", NAN);
    c->intermediate = whole(c, "intermediate_size", NAN);
    c->layers = whole(c, "num_hidden_layers", NAN);
    c->heads = whole(c, "num_attention_heads", NAN);
    c->kv_heads = whole(c, "num_key_value_heads", c->heads);
    c->head_dim = whole(c, "head_dim", (double)c->hidden / c->heads);
    c->vocabulary = whole(c, "vocab_size", NAN);
    c->longest = whole(c, "max_position_embeddings", c->gemma ? 131072 : 2048);
    c->epsilon = real_of(c->json, "rms_norm_eps", 1e-6);
    double scalar = c->gemma ? real_of(c->json, "query_pre_attn_scalar", 256) : c->head_dim;
    c->attention_scale = 1 / sqrt(scalar);
    c->tied = item(c, "tie_word_embeddings") ? cJSON_IsTrue(item(c, "tie_word_embeddings")) : c->gemma;
    if (c->heads % c->kv_heads != 0 || c->head_dim % 2 != 0)
        fail(EXIT_INPUT, "config.json: %d heads of %d dimensions over %d key/value heads", c->heads,
             c->head_dim, c->kv_heads);
    refuse_if_true(c, "attention_bias");
    refuse_if_true(c, "mlp_bias");
    if (item(c, "final_logit_softcapping") || item(c, "attn_logit_softcapping"))
        fail(EXIT_INPUT, "config.json: soft-capping is not supported by this example");
    if (c->gemma)
        expect_text(c, "hidden_activation", "gelu_pytorch_tanh", "gelu_pytorch_tanh");
    else
        expect_text(c, "hidden_act", "silu", "silu");
    read_rope(c);
    read_kinds(c);
}

void config_free(config *c)
{
    free(c->type);
    free(c->sliding);
    cJSON_Delete(c->json);
}
