#include "format.h"
#include "fail.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check(xq_context *context, xq_status status, const char *what)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    if (status == XQ_OK)
        return;
    if (context)
        xq_last_error(context, &detail);
    bool device = status == XQ_ERROR_NO_DEVICE || status == XQ_ERROR_NO_TOOLCHAIN;
    fail(device ? EXIT_DEVICE : EXIT_INPUT, "%s: %s: %s", what, xq_status_name(status),
         detail.message ? detail.message : "out of memory");
}

/* ------------------------------------------------------------------- specs */

/* A spec's model: the keys that it shares with config.json, and keys for Gemma's QK-norm and windows. */
static cJSON *model_object(const config *c, int layer)
{
    static const char *const keys[] = {
        "hidden_size",  "num_attention_heads",    "num_key_value_heads",  "num_hidden_layers",
        "rope_theta",   "rope_scaling",           "rope_local_base_freq", "query_pre_attn_scalar",
        "rms_norm_eps", "max_position_embeddings"};
    cJSON *model = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(c->json, keys[i]);
        if (value && !cJSON_IsNull(value))
            cJSON_AddItemToObject(model, keys[i], cJSON_Duplicate(value, 1));
    }
    cJSON_AddNumberToObject(model, "head_dim", c->head_dim);
    if (!c->gemma)
        return model;
    cJSON_AddTrueToObject(model, "qk_norm");
    cJSON *types = cJSON_AddArrayToObject(model, "layer_types");
    bool kinds[2] = {false, false};
    for (int l = 0; l < c->layers; l++) {
        cJSON_AddItemToArray(types,
                             cJSON_CreateString(c->sliding[l] ? "sliding_attention" : "full_attention"));
        kinds[c->sliding[l]] = true;
    }
    if (kinds[1])
        cJSON_AddNumberToObject(model, "sliding_window", c->window);
    if (kinds[0] && kinds[1])
        cJSON_AddStringToObject(model, "layer_kind", c->sliding[layer] ? "sliding" : "full");
    return model;
}

static char *complete(xq_context *context, cJSON *spec)
{
    char *json = cJSON_PrintUnformatted(spec), *completed = NULL;
    cJSON_Delete(spec);
    check(context, xq_spec_complete(context, json, &completed), "xq_spec_complete");
    free(json);
    return completed;
}

/* A layer's cache keys. Options are given once for all layers, so keys that this layer's method does not
 * take are removed. */
static cJSON *cache_object(const choice *wanted, const format *f, int bits)
{
    static const char *const latent_only[] = {"rank_k",   "rank_v",   "rotation", "groups",
                                              "groups_k", "groups_v", "axis_v"};
    cJSON *cache = cJSON_Duplicate(wanted->cache, 1);
    cJSON_AddStringToObject(cache, "method", method_name(f->method));
    cJSON_AddNumberToObject(cache, "bits", bits);
    if (f->base)
        cJSON_AddTrueToObject(cache, "base");
    if (f->method == wanted->method)
        return cache;
    cJSON_DeleteItemFromObjectCaseSensitive(cache, "accumulator_bits");
    cJSON_DeleteItemFromObjectCaseSensitive(cache, "rank_k"); /* it is the rank of the joint latent */
    for (size_t i = 0; !f->latent && i < sizeof latent_only / sizeof latent_only[0]; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(cache, latent_only[i]);
    if (!cJSON_HasObjectItem(cache, "rotation")) /* false, as in the cross-layer layers that follow */
        cJSON_AddFalseToObject(cache, "rotation");
    return cache;
}

/* Takes from a prepared layer the keys that its matrices depend on. Keys that the command line gives must
 * agree with them. */
static void adopt_prepared(cJSON *cache, const choice *wanted, const char *layer_spec, int layer)
{
    static const char *const keys[] = {"method", "groups_k", "groups_v", "rank_k",
                                       "rank_v", "rotation", "feedback"};
    if (!layer_spec)
        fail(EXIT_INPUT, "%s: the file has no layer %d", wanted->prepared, layer);
    cJSON *spec = cJSON_Parse(layer_spec);
    const cJSON *theirs = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(theirs, keys[i]);
        const cJSON *ours = cJSON_GetObjectItemCaseSensitive(cache, keys[i]);
        if (!value)
            continue;
        if (!ours)
            cJSON_AddItemToObject(cache, keys[i], cJSON_Duplicate(value, 1));
        else if (ours && !cJSON_Compare(ours, value, 1)) {
            char *got = cJSON_PrintUnformatted(value), *want = cJSON_PrintUnformatted(ours);
            fail(EXIT_INPUT, "%s: layer %d is prepared with %s %s; the cache needs %s%s", wanted->prepared,
                 layer, keys[i], got, want, i == 0 ? " (--cache, --first-layers)" : "");
        }
    }
    cJSON_Delete(spec);
}

static char *layer_spec(const config *c, const choice *wanted, const format *f, int layer,
                        xq_context *context, const xq_prepared *prepared)
{
    cJSON *spec = cJSON_CreateObject();
    cJSON *cache = f->method == CACHE_FP16 ? cJSON_CreateObject()
                                           : cache_object(wanted, f, choice_bits(wanted, c->layers, layer));
    if (prepared)
        adopt_prepared(cache, wanted, xq_prepared_layer_spec(prepared, layer), layer);
    cJSON_AddItemToObject(spec, "model", model_object(c, layer));
    cJSON_AddItemToObject(spec, "cache", cache);
    /* By default the layers before a base layer have f16 weights, as those after it have. */
    const char *weights = wanted->weights ? wanted->weights : f->method != wanted->method ? "f16" : NULL;
    if (weights)
        cJSON_AddStringToObject(spec, "weights", weights);
    cJSON_AddStringToObject(spec, "queries", "many");
    return complete(context, spec);
}

/* ---------------------------------------------------------- completed specs */

static int number(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(value))
        fail(EXIT_INPUT, "the completed spec has no number %s", key);
    return (int)value->valuedouble;
}

static bool says(const cJSON *object, const char *key, const char *text)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return value && strcmp(value, text) == 0;
}

/* The accumulator is not clipped: its codes span the whole range of a group. */
static xq_quantizer read_quantizer(const cJSON *cache, const cJSON *stream, bool accumulates)
{
    xq_quantizer q = XQ_QUANTIZER_INIT;
    const cJSON *clip = accumulates ? NULL : cJSON_GetObjectItemCaseSensitive(cache, "clip");
    q.bits = number(stream, "bits");
    q.group = number(stream, "group");
    q.by_channel = says(stream, "axis", "channel");
    q.integer_zero = says(cache, "zero_point", "integer");
    q.latents = number(stream, "latents");
    q.clip = clip ? (float)clip->valuedouble : 1;
    return q;
}

/* Sizes of one layer, from its completed spec. */
typedef struct sizes {
    double page_bytes, page_tokens, tail_bytes, accumulator_page_bytes, kv_page_bytes;
} sizes;

static void read_spec(format *f, sizes *s)
{
    cJSON *spec = cJSON_Parse(f->spec);
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache"), *item;
    const cJSON *layout = cJSON_GetObjectItemCaseSensitive(spec, "layout");
    const cJSON *accumulator = cJSON_GetObjectItemCaseSensitive(spec, "accumulator");
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(layout, "streams"))
    {
        format_stream *to = &f->stream[f->streams++];
        to->quantizer = read_quantizer(cache, item, false);
        to->width = number(item, "latents") * number(item, "rank");
    }
    snprintf(f->weights, sizeof f->weights, "%s",
             cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "weights")));
    f->feedback = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(cache, "feedback"));
    f->rotated = f->method == CACHE_X && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(cache, "rotation"));
    *s = (sizes){.page_bytes = number(layout, "page_bytes"),
                 .page_tokens = number(cache, "page"),
                 .tail_bytes = number(layout, "tail_bytes"),
                 .kv_page_bytes = number(layout, "kv_page_bytes")};
    if (f->cross) {
        const cJSON *streams = cJSON_GetObjectItemCaseSensitive(accumulator, "streams");
        f->accumulator = read_quantizer(cache, cJSON_GetArrayItem(streams, 0), true);
        f->accumulator.by_channel = 0;
        s->accumulator_page_bytes = number(accumulator, "page_bytes");
    }
    cJSON_Delete(spec);
}

/* --------------------------------------------------------- keys and values */

/* KIVI*: keys are quantized per channel, before RoPE, and values per token. */
static void make_kivi(format *f, const config *c, const choice *wanted, int bits)
{
    const cJSON *group = cJSON_GetObjectItemCaseSensitive(wanted->cache, "group");
    const cJSON *zero = cJSON_GetObjectItemCaseSensitive(wanted->cache, "zero_point"), *item;
    cJSON_ArrayForEach(item, wanted->cache) if (item != group && item != zero) fail(
        EXIT_USAGE, "--cache kivi: has no option '%s'; valid: --bits, --group, --zero-point", item->string);
    if (group && (!cJSON_IsNumber(group) || group->valuedouble < 1 || group->valuedouble > 4096))
        fail(EXIT_INPUT, "--group: valid with --cache kivi: 1 to 4096");
    if (zero && !says(wanted->cache, "zero_point", "float") &&
        !says(wanted->cache, "zero_point", "integer"))
        fail(EXIT_INPUT, "--zero-point: valid with --cache kivi: float, integer");
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        fail(EXIT_INPUT, "--bits: valid with --cache kivi: 2, 3, 4, 8");
    f->streams = 2;
    for (int i = 0; i < 2; i++) {
        f->stream[i].width = c->kv_heads * c->head_dim;
        f->stream[i].quantizer =
            (xq_quantizer){.struct_size = sizeof(xq_quantizer),
                           .bits = bits,
                           .group = group ? (int)group->valuedouble : 128,
                           .by_channel = i == 0,
                           .integer_zero = says(wanted->cache, "zero_point", "integer")};
    }
}

static double params_bytes(const xq_quantizer *q)
{
    return q->integer_zero ? 2 + q->bits / 8.0 : 4;
}

/* Bytes of a KIVI* layer: whole groups of keys, an f16 tail with room for one group of keys, and all
 * values. */
static double kivi_bytes(const format *f, int tokens)
{
    const xq_quantizer *k = &f->stream[0].quantizer;
    const double width = f->stream[0].width, grouped = tokens / k->group * k->group;
    double keys =
        width * (grouped * k->bits / 8 + grouped / k->group * params_bytes(k)) + 2 * width * k->group;
    return keys + tokens * (width * k->bits / 8 + ceil(width / k->group) * params_bytes(k));
}

/* --------------------------------------------------------------- all layers */

static void make_format(format *f, const config *c, const choice *wanted, int layer)
{
    f->method = wanted->method;
    if (f->method == CACHE_X_CL && layer < wanted->first_layers - 1)
        f->method = CACHE_X;
    if (f->method == CACHE_LATENT_CL && layer < wanted->first_layers - 1)
        f->method = CACHE_LATENT;
    f->cross = f->method == CACHE_X_CL || f->method == CACHE_LATENT_CL;
    f->base = f->cross && layer == wanted->first_layers - 1;
    f->latent = f->method == CACHE_LATENT || f->method == CACHE_LATENT_CL;
    if (f->method == CACHE_KIVI)
        make_kivi(f, c, wanted, choice_bits(wanted, c->layers, layer));
}

/* Bits per token as the paper counts them: each element costs its code and its share of the group's two
 * parameters. */
static double paper_bits(const format *f)
{
    double bits = 0;
    for (int i = 0; i < f->streams; i++) {
        const xq_quantizer *q = &f->stream[i].quantizer;
        bits += f->stream[i].width * (q->bits + 8 * params_bytes(q) / q->group);
    }
    return bits;
}

static void count_layer(formats *all, const format *f, const sizes *s, const config *c, int tokens,
                        double *accumulator)
{
    const double plain = 2.0 * c->kv_heads * c->head_dim; /* elements in a token's keys and values */
    const bool paged = f->method >= CACHE_X;
    double pages = paged ? ceil(tokens / s->page_tokens) : 0;
    all->fp16_bytes += 2 * plain * tokens;
    if (paged)
        all->bytes += pages * s->page_bytes + s->tail_bytes;
    else
        all->bytes += f->method == CACHE_KIVI  ? kivi_bytes(f, tokens)
                      : f->method == CACHE_F32 ? 4 * plain * tokens
                                               : 2 * plain * tokens;
    if (f->cross)
        *accumulator = pages * s->accumulator_page_bytes;
    double paper = f->streams > 0 ? paper_bits(f) : plain * (f->method == CACHE_F32 ? 32 : 16);
    all->memory_paper += paper / (16 * plain) / all->layers;
}

formats *formats_make(const config *c, const choice *wanted, xq_context *context,
                      const xq_prepared *prepared, int tokens)
{
    formats *all = room(1, sizeof *all);
    double accumulator = 0;
    bool cross = wanted->method == CACHE_X_CL || wanted->method == CACHE_LATENT_CL;
    if (wanted->first_layers < (cross ? 1 : 0) || wanted->first_layers > c->layers)
        fail(EXIT_INPUT, "--first-layers: %d is not valid; valid: %d to %d", wanted->first_layers,
             cross ? 1 : 0, c->layers);
    all->layers = c->layers;
    all->layer = room((size_t)c->layers, sizeof *all->layer);
    for (int l = 0; l < c->layers; l++) {
        format *f = &all->layer[l];
        sizes s = {0};
        make_format(f, c, wanted, l);
        if (f->method == CACHE_FP16 || f->method >= CACHE_X)
            f->spec = layer_spec(c, wanted, f, l, context, prepared);
        if (f->method >= CACHE_X)
            read_spec(f, &s);
        count_layer(all, f, &s, c, tokens, &accumulator);
    }
    all->bytes += accumulator;
    all->memory = all->bytes / all->fp16_bytes;
    return all;
}

void formats_free(formats *f)
{
    for (int l = 0; l < f->layers; l++)
        xq_string_free(f->layer[l].spec);
    free(f->layer);
    free(f);
}
