/* Reads a reference_model from a completed spec: RoPE frequencies and ALiBi slopes are computed as in their
 * papers. */
#include "reference.h"

#include <cjson/cJSON.h>
#include <math.h>
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

static bool flag(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* ---------------------------------------------------------------- frequencies */

/* Frequencies are long double, because at position 2^31 an angle already has 31 bits before the point. */
static const long double PI = 3.14159265358979323846264338327950288L;

/* Llama-3 stretches slow frequencies, as Hugging Face's rope_type "llama3" defines it. */
static long double llama3(const cJSON *scaling, long double frequency)
{
    double factor = number(scaling, "factor", 1), low = number(scaling, "low_freq_factor", 1);
    double high = number(scaling, "high_freq_factor", 4);
    double original = number(scaling, "original_max_position_embeddings", 8192);
    long double wavelength = 2 * PI / frequency;
    if (wavelength < original / high)
        return frequency;
    if (wavelength > original / low)
        return frequency / factor;
    long double smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

/* YaRN (arXiv 2309.00071, §3.2). A pair makes r = L / wavelength turns over the original context of L
 * positions. Depending on r, its frequency is interpolated (divided by `factor`), kept, or between both.
 * The ramp between them is linear in the pair's number, as in the authors' code. */
static long double yarn(const cJSON *scaling, double theta, int pairs, int i)
{
    double original = number(scaling, "original_max_position_embeddings", 0);
    double fast = number(scaling, "beta_fast", 32), slow = number(scaling, "beta_slow", 1);
    /* pair i makes L * theta^(-i / pairs) / 2π turns; these are the pairs i of beta_fast and beta_slow
     * turns */
    long double begin = pairs * logl(original / (2 * PI * fast)) / logl(theta);
    long double end = pairs * logl(original / (2 * PI * slow)) / logl(theta);
    const cJSON *truncate = cJSON_GetObjectItemCaseSensitive(scaling, "truncate");
    if (!cJSON_IsFalse(truncate)) {
        begin = floorl(begin);
        end = ceill(end);
    }
    begin = fmaxl(begin, 0);
    end = fminl(end, 2 * pairs - 1);
    if (begin == end)
        end += 1e-3L;
    long double interpolated = fminl(fmaxl((i - begin) / (end - begin), 0), 1);
    long double frequency = powl(theta, -(long double)i / pairs);
    return frequency * (1 - interpolated) + frequency / number(scaling, "factor", 1) * interpolated;
}

/* LongRoPE (arXiv 2402.13753): each pair has its own factor, from the table that the spec names. */
static long double longrope(const cJSON *scaling, long double frequency, int i)
{
    const char *list = strcmp(text(scaling, "table"), "long") ? "short_factor" : "long_factor";
    const cJSON *factor = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(scaling, list), i);
    return frequency / (cJSON_IsNumber(factor) ? factor->valuedouble : 1);
}

static long double stretched(const cJSON *scaling, const char *kind, double theta, int pairs, int i)
{
    long double frequency = powl(theta, -(long double)i / pairs);
    if (!strcmp(kind, "linear"))
        return frequency / number(scaling, "factor", 1);
    if (!strcmp(kind, "llama3"))
        return llama3(scaling, frequency);
    if (!strcmp(kind, "longrope"))
        return longrope(scaling, frequency, i);
    return !strcmp(kind, "yarn") ? yarn(scaling, theta, pairs, i) : frequency;
}

/* YaRN's attention factor, where the spec does not give it. */
static double yarn_factor(const cJSON *scaling)
{
    double factor = number(scaling, "factor", 1);
    double mscale = number(scaling, "mscale", 0), all = number(scaling, "mscale_all_dim", 0);
    if (factor <= 1)
        return 1;
    if (mscale > 0 && all > 0)
        return (0.1 * mscale * log(factor) + 1) / (0.1 * all * log(factor) + 1);
    return 0.1 * log(factor) + 1;
}

static xq_status read_rope(const cJSON *rope, reference_model *model, error *err)
{
    const char *type = text(rope, "type");
    if (!strcmp(type, "none"))
        return XQ_OK;
    if (strcmp(type, "neox") && strcmp(type, "interleaved"))
        return error_set(err, XQ_ERROR_UNSUPPORTED, "spec",
                         "model.rope.type is \"%s\"; the reference knows neox, interleaved, none", type);
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(rope, "scaling");
    const char *kind = cJSON_IsObject(scaling) ? text(scaling, "type") : "default";
    if (strcmp(kind, "default") && strcmp(kind, "linear") && strcmp(kind, "llama3") &&
        strcmp(kind, "yarn") && strcmp(kind, "longrope"))
        return error_set(
            err, XQ_ERROR_UNSUPPORTED, "spec",
            "model.rope.scaling.type is \"%s\"; the reference knows linear, llama3, yarn, longrope", kind);
    double theta = number(rope, "theta", 0);
    int rotary_dim = (int)number(rope, "rotary_dim", model->head_dim);
    if (!(theta > 0) || rotary_dim < 2 || rotary_dim % 2 || rotary_dim > model->head_dim)
        return error_set(err, XQ_ERROR_SPEC, "spec",
                         "model.rope.theta must be positive, and rotary_dim even and at most head_dim");
    model->interleaved = !strcmp(type, "interleaved");
    model->pairs = rotary_dim / 2;
    model->attention_factor =
        number(rope, "attention_factor", strcmp(kind, "yarn") ? 1 : yarn_factor(scaling));
    for (int i = 0; i < model->pairs; i++)
        model->frequencies[i] = stretched(scaling, kind, theta, model->pairs, i);
    return XQ_OK;
}

/* ---------------------------------------------------------------- other features */

/* ALiBi (arXiv 2108.12409, §3): if the number n of heads is a power of two, the slopes are 2^(-8 i / n), i
 * = 1 .. n. Otherwise they are the slopes of the next lower power of two, followed by every other slope of
 * the next higher one. */
static void read_slopes(reference_model *model, double scale)
{
    int whole = 1, heads = model->heads;
    while (2 * whole <= heads)
        whole *= 2;
    for (int h = 0; h < heads; h++)
        model->slopes[h] = scale * (h < whole ? exp2(-8.0 * (h + 1) / whole)
                                              : exp2(-8.0 * (2 * (h - whole) + 1) / (2 * whole)));
}

static xq_status read_features(const cJSON *json, reference_model *model, error *err)
{
    const char *norm = text(json, "qk_norm");
    model->scale = number(json, "attention_scale", 1 / sqrt(model->head_dim));
    model->softcap = number(json, "attn_logit_softcapping", 0);
    model->window = (int64_t)number(json, "sliding_window", 0);
    model->bias = flag(json, "attention_bias");
    model->sinks = flag(json, "attention_sinks");
    model->alibi = flag(json, "alibi");
    model->norm_epsilon = number(json, "rms_norm_eps", 1e-6);
    if (flag(json, "qk_norm") || !strcmp(norm, "head"))
        model->norm = REFERENCE_NORM_HEAD;
    else if (!strcmp(norm, "row"))
        model->norm = REFERENCE_NORM_ROW;
    else if (*norm)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "spec",
                         "model.qk_norm is \"%s\"; the reference knows head, row", norm);
    if (model->alibi)
        read_slopes(model, number(json, "alibi_scale", 1));
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
    if (model.hidden_size < 1 || model.heads < 1 || model.heads > REFERENCE_MAX_HEADS ||
        model.kv_heads < 1 || model.heads % model.kv_heads || model.head_dim < 2 ||
        model.head_dim > 2 * REFERENCE_MAX_PAIRS)
        error_set(err, XQ_ERROR_SPEC, "spec",
                  "the spec is not completed: it has no usable \"model\" object");
    else if (read_features(json, &model, err) == XQ_OK)
        read_rope(cJSON_GetObjectItemCaseSensitive(json, "rope"), &model, err);
    cJSON_Delete(spec);
    if (err->status == XQ_OK)
        *out = model;
    return err->status;
}
