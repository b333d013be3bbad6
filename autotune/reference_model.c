/* Reading a reference_model from a completed spec. */
#include "reference.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

static double number(const cJSON *object, const char *name, double missing)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : missing;
}

static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return value ? value : "";
}

/* Llama-3's stretch of slow frequencies, as Hugging Face's rope_type "llama3" defines it. */
static double llama3(const cJSON *scaling, double frequency)
{
    double factor = number(scaling, "factor", 1), low = number(scaling, "low_freq_factor", 1);
    double high = number(scaling, "high_freq_factor", 4);
    double original = number(scaling, "original_max_position_embeddings", 8192);
    double wavelength = 2 * M_PI / frequency;
    if (wavelength < original / high)
        return frequency;
    if (wavelength > original / low)
        return frequency / factor;
    double smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

static xq_status read_rope(const cJSON *rope, reference_model *model, error *err)
{
    if (!strcmp(text(rope, "type"), "none"))
        return XQ_OK;
    if (strcmp(text(rope, "type"), "neox"))
        return error_set(err, XQ_ERROR_UNSUPPORTED, "spec",
                         "model.rope.type is \"%s\"; the reference knows neox, none", text(rope, "type"));
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(rope, "scaling");
    const char *kind = text(scaling, "type");
    bool scaled = cJSON_IsObject(scaling) && strcmp(kind, "default") != 0;
    if (scaled && strcmp(kind, "llama3"))
        return error_set(err, XQ_ERROR_UNSUPPORTED, "spec",
                         "model.rope.scaling.type is \"%s\"; the reference knows llama3", kind);
    double theta = number(rope, "theta", 0);
    if (!(theta > 0))
        return error_set(err, XQ_ERROR_SPEC, "spec", "model.rope.theta must be positive");
    model->pairs = model->head_dim / 2;
    for (int i = 0; i < model->pairs; i++) {
        double frequency = pow(theta, -2.0 * i / model->head_dim);
        model->frequencies[i] = scaled ? llama3(scaling, frequency) : frequency;
    }
    return XQ_OK;
}

xq_status reference_model_read(const char *completed_json, reference_model *out, error *err)
{
    cJSON *spec = cJSON_Parse(completed_json);
    const cJSON *json = cJSON_GetObjectItemCaseSensitive(spec, "model");
    reference_model model = {
        .hidden_size = (int)number(json, "hidden_size", 0),
        .heads = (int)number(json, "num_attention_heads", 0),
        .kv_heads = (int)number(json, "num_key_value_heads", 0),
        .head_dim = (int)number(json, "head_dim", 0),
    };
    xq_status status = XQ_OK;
    if (model.hidden_size < 1 || model.heads < 1 || model.kv_heads < 1 || model.heads % model.kv_heads ||
        model.head_dim < 2 || model.head_dim > 2 * REFERENCE_MAX_PAIRS)
        status = error_set(err, XQ_ERROR_SPEC, "spec", "not a completed spec: no usable \"model\" object");
    else
        status = read_rope(cJSON_GetObjectItemCaseSensitive(json, "rope"), &model, err);
    model.scale = 1 / sqrt(model.head_dim);
    cJSON_Delete(spec);
    if (status == XQ_OK)
        *out = model;
    return status;
}
