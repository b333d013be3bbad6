/* Tests prepared weights as an engine reads them: through the public API, with plans. */
#include "../../prepare/safetensors.h"
#include "../support/command.h"
#include "../support/files.h"
#include "../support/plan_fixture.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 256, HEADS = 4, KV_HEADS = 2, DH = 64, KV = KV_HEADS * DH, MODEL_LAYERS = 3 };

#define PREPARED_TEST(...) Test(prepared, __VA_ARGS__, .init = plan_open_stubs)

/* ------------------------------------------------------------------ models */

/* A model directory of 3 layers: the members of config.json other than sizes, and the vectors that the
 * model has. */
struct model_kind {
    const char *config;
    bool bias, norm, sinks;
};
static const struct model_kind llama = {.config = "\"model_type\": \"llama\""};
/* RoPE turns half of a head, in pairs of neighbours. So the keys of the fused plan have their own order,
 * and some are absorbed. */
static const struct model_kind glm = {.config = "\"model_type\": \"glm4\", \"head_dim\": 64", .bias = true};
static const struct model_kind qwen = {.config = "\"model_type\": \"qwen3\", \"head_dim\": 64",
                                       .norm = true};
static const struct model_kind gpt_oss = {
    .config =
        "\"model_type\": \"gpt_oss\", \"head_dim\": 64, \"sliding_window\": 128, \"rope_scaling\": null",
    .bias = true,
    .sinks = true};

struct writing {
    tensor tensors[MODEL_LAYERS * 6];
    char names[MODEL_LAYERS * 6][64];
    int count;
};

static void add(struct writing *w, int layer, const char *what, int rows, int cols)
{
    size_t count = (size_t)rows * (size_t)(cols ? cols : 1);
    float *values = malloc(sizeof *values * count);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)drand48() - 0.5f;
    snprintf(w->names[w->count], sizeof w->names[0], "model.layers.%d.self_attn.%s", layer, what);
    w->tensors[w->count] = (tensor){.name = w->names[w->count],
                                    .type = TENSOR_F32,
                                    .rank = cols ? 2 : 1,
                                    .shape = {rows, cols},
                                    .data = values,
                                    .bytes = sizeof *values * count};
    w->count++;
}

static const char *model_directory(const struct model_kind *kind)
{
    struct writing w = {.count = 0};
    const char *directory = files_directory();
    char config[512];
    error err = ERROR_INIT;
    srand48(1);
    for (int layer = 0; layer < MODEL_LAYERS; layer++) {
        add(&w, layer, "k_proj.weight", KV, D);
        add(&w, layer, "v_proj.weight", KV, D);
        if (kind->bias) {
            add(&w, layer, "k_proj.bias", KV, 0);
            add(&w, layer, "v_proj.bias", KV, 0);
        }
        if (kind->norm)
            add(&w, layer, "k_norm.weight", DH, 0);
        if (kind->sinks)
            add(&w, layer, "sinks", HEADS, 0);
    }
    cr_assert_eq(safetensors_write(files_path(directory, "model.safetensors"), w.tensors, w.count, &err),
                 XQ_OK, "%s", err.message);
    for (int i = 0; i < w.count; i++)
        free((void *)w.tensors[i].data);
    snprintf(config, sizeof config,
             "{%s, \"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"num_hidden_layers\": %d}",
             kind->config, D, HEADS, KV_HEADS, MODEL_LAYERS);
    files_write(files_path(directory, "config.json"), config, strlen(config));
    return directory;
}

/* The returned path stays valid until the eighth call after this one. */
static const char *prepare(const struct model_kind *kind, const char *options)
{
    static char paths[8][512];
    static int next;
    const char *directory = model_directory(kind);
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/w.safetensors", directory);
    struct command_result r = command_run("prepare %s -o %s %s", directory, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    return path;
}

static xq_prepared *opened(const char *path)
{
    xq_prepared *p;
    cr_assert_eq(xq_prepared_open(context, path, &p), XQ_OK, "%s", plan_error()->message);
    return p;
}

static xq_prepared_info info_of(const xq_prepared *p)
{
    xq_prepared_info info = XQ_PREPARED_INFO_INIT;
    cr_assert_eq(xq_prepared_query(p, &info), XQ_OK);
    return info;
}

/* ---------------------------------------------------------------- matrices */

PREPARED_TEST(an_engine_reads_what_was_prepared)
{
    xq_prepared *p = opened(prepare(&llama, "--method latent --store f32"));
    xq_prepared_info info = info_of(p);
    xq_weights w = XQ_WEIGHTS_INIT, again = XQ_WEIGHTS_INIT;
    cr_assert(info.layers == MODEL_LAYERS && !info.weights && info.base_layer == 0);
    cr_assert(strstr(info.spec_json, "\"hidden_size\":256") &&
              strstr(info.spec_json, "\"method\":\"latent\""));
    cr_assert_str_eq(xq_prepared_layer_spec(p, 1), info.spec_json);
    cr_assert_null(xq_prepared_layer_spec(p, MODEL_LAYERS));
    cr_assert_eq(xq_prepared_layer(p, 1, &w), XQ_OK, "%s", plan_error()->message);
    cr_assert(w.uk && w.ak && w.uv && w.av && !w.wk && !w.wv && !w.ukv && !w.bk && !w.sinks);
    for (int column = 0; column < KV; column += 7) { /* U has orthonormal columns */
        double square = 0;
        for (int i = 0; i < D; i++)
            square += (double)w.uk[i * KV + column] * w.uk[i * KV + column];
        cr_assert_float_eq(square, 1, 1e-5);
    }
    cr_assert_eq(xq_prepared_layer(p, 1, &again), XQ_OK);
    cr_assert_eq(again.uk, w.uk, "a layer's matrices moved");
    xq_prepared_close(p);
}

PREPARED_TEST(each_layer_says_what_it_is_prepared_for)
{
    xq_prepared *p = opened(prepare(&llama, "--method latent-cl --base-layer 1"));
    xq_weights plain = XQ_WEIGHTS_INIT, base = XQ_WEIGHTS_INIT;
    cr_assert_eq(info_of(p).base_layer, 1);
    cr_assert(strstr(info_of(p).spec_json, "\"latent-cl\""));
    cr_assert(strstr(xq_prepared_layer_spec(p, 0), "\"latent\""));
    cr_assert_str_eq(xq_prepared_layer_spec(p, 1), info_of(p).spec_json);
    cr_assert_eq(xq_prepared_layer(p, 0, &plain), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(xq_prepared_layer(p, 1, &base), XQ_OK, "%s", plan_error()->message);
    cr_assert(plain.uk && plain.av && !plain.wk && !plain.ukv);
    cr_assert(base.ukv && base.wk && base.wv && !base.uk);
    xq_prepared_close(p);
}

PREPARED_TEST(it_may_be_closed_after_its_context)
{
    xq_prepared *p = opened(prepare(&llama, "--method x --layers 1"));
    xq_weights w = XQ_WEIGHTS_INIT;
    xq_context_destroy(context);
    context = NULL;
    cr_assert_eq(xq_prepared_layer(p, 0, &w), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_prepared_layer(p, 1, &w), XQ_OK);
    cr_assert_eq(fake->retained, 1);
    xq_prepared_close(p);
    cr_assert_eq(fake->retained, 0);
}

PREPARED_TEST(absent_layers_and_files_are_named)
{
    const char *path = prepare(&llama, "--method x --layers 1");
    xq_prepared *p = opened(path);
    xq_weights w = XQ_WEIGHTS_INIT;
    char expected[512];
    cr_assert_eq(xq_prepared_layer(p, 0, &w), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected,
             "%s: the file has no layer 0; it has 1 layer of 3 (`xq prepare --layers`)", path);
    cr_assert_str_eq(plan_error()->message, expected);
    cr_assert_str_eq(plan_error()->field, "layer");
    cr_assert_null(w.wk);
    xq_prepared_close(p);
    cr_assert_eq(xq_prepared_open(context, "/nonexistent.safetensors", &p), XQ_ERROR_IO);
    cr_assert_str_eq(plan_error()->message,
                     "cannot read /nonexistent.safetensors: No such file or directory");
    cr_assert_eq(xq_prepared_open(context, NULL, &p), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "path");
    cr_assert_eq(xq_prepared_open(context, path, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "prepared");
    files_write(path, "XQWEIGHT and then nothing", 20);
    cr_assert_eq(xq_prepared_open(context, path, &p), XQ_ERROR_FORMAT);
    cr_assert_str_eq(plan_error()->stage, "file");
    cr_assert(strstr(plan_error()->message, "`xq prepare MODEL_DIR --out FILE.safetensors`"), "%s",
              plan_error()->message);
    cr_assert_eq(xq_prepared_query(NULL, NULL), XQ_ERROR_ARGUMENT);
    xq_prepared_close(NULL);
}

/* ----------------------------------------------------------------- packing */

/* Returns the spec of a plan for a prepared layer: with bits, these weights, a kind of layers if there are
 * two, and these members of "cache" (as text, each "name": value). */
static const char *plan_spec(const xq_prepared *p, int layer, const char *weights,
                             const char *cache_members)
{
    static char *text;
    char members[256];
    cJSON *spec = cJSON_Parse(xq_prepared_layer_spec(p, layer)), *item;
    cJSON *model = cJSON_GetObjectItem(spec, "model"), *of_cache = cJSON_GetObjectItem(spec, "cache");
    cJSON_AddNumberToObject(of_cache, "bits", 4);
    if (weights) /* else their default */
        cJSON_AddStringToObject(spec, "weights", weights);
    if (cJSON_HasObjectItem(model, "layer_kinds"))
        cJSON_AddStringToObject(model, "layer_kind", layer % 2 ? "full" : "sliding");
    snprintf(members, sizeof members, "{%s}", cache_members ? cache_members : "");
    cJSON *others = cJSON_Parse(members);
    while ((item = cJSON_DetachItemFromArray(others, 0))) {
        cJSON_DeleteItemFromObject(of_cache, item->string);
        cJSON_AddItemToObject(of_cache, item->string, item);
    }
    cJSON_Delete(others);
    free(text);
    text = cJSON_PrintUnformatted(spec);
    cJSON_Delete(spec);
    return text;
}

/* Checks that the packed bytes of every layer are those that a plan makes from its matrices. */
static void check_packed(const struct model_kind *kind, const char *method, const char *weights,
                         const char *store)
{
    char options[256];
    snprintf(options, sizeof options, "--method %s --pack --weights %s --store %s", method, weights, store);
    xq_prepared *p = opened(prepare(kind, options));
    cr_assert_str_eq(info_of(p).weights, weights);
    for (int layer = 0; layer < MODEL_LAYERS; layer++) {
        xq_plan *plan = plan_make(plan_spec(p, layer, weights, NULL), XQ_FUSED);
        size_t needed = plan_info(plan).weights_bytes, bytes = 0;
        unsigned char *expected = malloc(needed);
        const void *packed = NULL;
        xq_weights w = XQ_WEIGHTS_INIT;
        cr_assert_eq(xq_prepared_layer(p, layer, &w), XQ_OK, "%s", plan_error()->message);
        cr_assert_eq(xq_plan_pack_weights(plan, &w, expected, needed), XQ_OK, "%s", plan_error()->message);
        cr_assert_eq(xq_prepared_packed(p, plan, layer, &packed, &bytes), XQ_OK, "%s",
                     plan_error()->message);
        cr_assert_eq(bytes, needed);
        cr_assert_eq((uintptr_t)packed % 256, 0);
        cr_assert_eq(memcmp(packed, expected, needed), 0, "%s: layer %d", options, layer);
        free(expected);
        xq_plan_destroy(plan);
    }
    xq_prepared_close(p);
}

PREPARED_TEST(packed_weights_are_the_plans_bit_for_bit, .timeout = 120)
{
    check_packed(&llama, "latent --groups 2 --rank 80,128", "f16", "f16");
    check_packed(&llama, "latent --rotation", "int8", "f16");
    check_packed(&glm, "latent", "e4m3", "bf16");
    check_packed(&glm, "x", "bf16", "f32");
    check_packed(&glm, "x --rotation", "int8", "f16");
    check_packed(&llama, "latent --feedback --groups 2", "int8", "f16");
    check_packed(&glm, "x --feedback --group 64", "f16", "f16");
}

PREPARED_TEST(packed_weights_of_cross_layer_methods_are_the_plans_bit_for_bit, .timeout = 120)
{
    check_packed(&gpt_oss, "latent-cl --base-layer 1", "int8", "f16");
    check_packed(&qwen, "x-cl --base-layer 0", "f16", "f16");
    check_packed(&glm, "latent-cl --rank 200", "f16", "f16");
}

/* If no matrices are stored, the packed weights are made from the matrices in f32. */
PREPARED_TEST(packed_weights_can_stand_alone)
{
    xq_prepared *whole = opened(prepare(&llama, "--method latent --pack --weights int8 --store f32"));
    const char *path = prepare(&llama, "--method latent --pack --weights int8 --store none");
    xq_prepared *alone = opened(path);
    xq_plan *plan = plan_make(plan_spec(alone, 0, "int8", NULL), XQ_FUSED);
    xq_weights w = XQ_WEIGHTS_INIT;
    const void *packed, *expected;
    size_t bytes, expected_bytes;
    char message[512];
    cr_assert_eq(xq_prepared_packed(whole, plan, 2, &expected, &expected_bytes), XQ_OK);
    cr_assert_eq(xq_prepared_packed(alone, plan, 2, &packed, &bytes), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(bytes, expected_bytes);
    cr_assert_eq(memcmp(packed, expected, bytes), 0);
    cr_assert_eq(xq_prepared_layer(alone, 2, &w), XQ_ERROR_ARGUMENT);
    snprintf(message, sizeof message,
             "%s: the file has only packed weights, no matrices (`xq prepare --store` adds them)", path);
    cr_assert_str_eq(plan_error()->message, message);
    xq_prepared_close(whole);
    xq_prepared_close(alone);
    plan_close(plan);
}

/* The file is packed for `latent` in f16. A plan that differs is refused, and the error names the field
 * that differs. */
static void refuses_plan(const xq_prepared *p, const char *spec, const char *field, const char *text)
{
    xq_plan *plan = plan_make(spec, XQ_FUSED);
    const void *packed = NULL;
    size_t bytes = 0;
    cr_assert_eq(xq_prepared_packed((xq_prepared *)p, plan, 0, &packed, &bytes), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, field);
    cr_assert(strstr(plan_error()->message, text), "%s", plan_error()->message);
    cr_assert(!packed && !bytes);
    xq_plan_destroy(plan);
}

/* The type of packed weights, and the channels that their sums go over, follow from the group and the axis
 * of keys. */
PREPARED_TEST(the_same_options_pack_weights_and_make_their_plan, .timeout = 120)
{
    static const char *const same[][3] = {{"", "", "int8"},
                                          {"--groups 1 --group 64", "\"group\": 64", "f16"},
                                          {"--axis-k channel", "\"axis_k\": \"channel\"", "f16"},
                                          {"--set cache.group=32", "\"group\": 32", "f16"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char options[128];
        const void *packed = NULL;
        size_t bytes = 0;
        snprintf(options, sizeof options, "--method latent --pack %s", same[i][0]);
        xq_prepared *p = opened(prepare(&llama, options));
        xq_prepared_info info = XQ_PREPARED_INFO_INIT;
        cr_assert_eq(xq_prepared_query(p, &info), XQ_OK);
        cr_expect_str_eq(info.weights, same[i][2], "%s", options);
        xq_plan *plan = plan_make(plan_spec(p, 0, NULL, same[i][1]), XQ_FUSED);
        cr_expect_eq(xq_prepared_packed(p, plan, 0, &packed, &bytes), XQ_OK, "%s: %s", options,
                     plan_error()->message);
        xq_plan_destroy(plan);
        xq_prepared_close(p);
    }
    plan_close(NULL);
}

PREPARED_TEST(a_plan_with_feedback_has_the_files_groups)
{
    xq_prepared *p = opened(prepare(&llama, "--method latent --pack --feedback --group 32"));
    refuses_plan(p, plan_spec(p, 0, "f16", "\"group\": 64"), "cache.group",
                 ": the weights are packed for cache.group 32, and the plan has 64;");
    xq_prepared_close(p);
}

PREPARED_TEST(a_plan_with_other_weights_is_refused_by_field, .timeout = 120)
{
    const char *path = prepare(&llama, "--method latent --groups 1 --pack --weights f16");
    xq_prepared *p = opened(path);
    refuses_plan(p, plan_spec(p, 0, "int8", NULL), "weights",
                 ": the weights are packed for weights f16, and the plan has int8;");
    refuses_plan(p, plan_spec(p, 0, "f16", "\"rank_v\": 64"), "cache.rank_v",
                 ": the weights are packed for cache.rank_v 128, and the plan has 64;");
    refuses_plan(p, plan_spec(p, 0, "f16", "\"groups_v\": 2"), "cache.groups_v", "the plan has 2;");
    refuses_plan(p, plan_spec(p, 0, "f16", "\"rotation\": false"), "cache.rotation",
                 ": the weights are packed for cache.rotation true, and the plan has false;");
    refuses_plan(p, plan_spec(p, 0, "f16", "\"feedback\": true"), "cache.feedback",
                 ": the weights are packed for cache.feedback nothing, and the plan has true;");
    refuses_plan(
        p,
        plan_spec(p, 0, "f16",
                  "\"method\": \"latent-cl\", \"groups_k\": null, \"rank_k\": null, \"rank_v\": null"),
        "cache.method", ": the weights are packed for cache.method latent, and the plan has latent-cl;");
    refuses_plan(
        p,
        "{\"model\": {\"hidden_size\": 320, \"num_attention_heads\": 5, \"num_key_value_heads\": 1, "
        "\"head_dim\": 128}, \"cache\": {\"method\": \"latent\"}, \"weights\": \"f16\"}",
        "keys.pairs", ": the weights are packed for keys.pairs 32, and the plan has 64;");
    refuses_plan(
        p,
        "{\"model\": {\"hidden_size\": 320, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"groups\": 1}, \"weights\": \"f16\"}",
        "weights_layout.bytes", ": the weights are packed for weights_layout.bytes ");
    refuses_plan(
        p,
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64, \"rope\": {\"type\": \"interleaved\", \"theta\": 10000, \"rotary_dim\": 64}}, "
        "\"cache\": {\"method\": \"latent\", \"groups\": 1}, \"weights\": \"f16\"}",
        "keys.rematerialized[1]",
        ": the weights are packed for keys.rematerialized[1] 1, and the plan has 2;");
    xq_prepared_close(p);
}

PREPARED_TEST(plans_that_take_no_packed_weights_are_told)
{
    const char *plain = prepare(&llama, "--method latent");
    xq_prepared *p = opened(prepare(&llama, "--method latent --pack")), *unpacked = opened(plain);
    const char *spec = plan_spec(p, 0, "f16", NULL);
    xq_plan *plan = plan_make(spec, XQ_FUSED), *unfused = plan_make(spec, XQ_UNFUSED);
    const void *packed = NULL;
    size_t bytes = 0;
    char message[512];
    cr_assert_eq(xq_prepared_packed(p, unfused, 0, &packed, &bytes), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "plan");
    cr_assert_eq(xq_prepared_packed(unpacked, plan, 0, &packed, &bytes), XQ_ERROR_ARGUMENT);
    snprintf(message, sizeof message, "%s: the file has no packed weights (`xq prepare --pack` adds them)",
             plain);
    cr_assert_str_eq(plan_error()->message, message);
    cr_assert_eq(xq_prepared_packed(p, plan, 3, &packed, &bytes), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "layer");
    cr_assert_eq(xq_prepared_packed(p, NULL, 0, &packed, &bytes), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "plan");
    cr_assert_eq(xq_prepared_packed(p, plan, 0, NULL, &bytes), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "packed");
    cr_assert_eq(xq_prepared_packed(p, plan, 0, &packed, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "bytes");
    xq_prepared_close(p);
    xq_prepared_close(unpacked);
    xq_plan_destroy(unfused);
    plan_close(plan);
}

PREPARED_TEST(damage_is_named_by_layer)
{
    const char *path = prepare(&llama, "--method latent --pack --weights f16"),
               *directory = files_directory();
    size_t size, bytes = 0;
    char *data = files_read(path, &size), message[1024], bad[512];
    const void *packed = NULL;
    xq_weights w = XQ_WEIGHTS_INIT;
    snprintf(bad, sizeof bad, "%s/bad.safetensors", directory);
    data[size - 16 - 9] ^= 32; /* the packed weights end 16 bytes before the end, where the losses begin */
    files_write(bad, data, size);
    xq_prepared *p = opened(bad);
    xq_plan *plan = plan_make(plan_spec(p, 0, "f16", NULL), XQ_FUSED);
    cr_assert_eq(xq_prepared_packed(p, plan, 1, &packed, &bytes), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(xq_prepared_packed(p, plan, 2, &packed, &bytes), XQ_ERROR_FORMAT);
    snprintf(message, sizeof message, "%s: damaged: the checksum of tensor layers.2.packed does not match",
             bad);
    cr_assert_str_eq(plan_error()->message, message);
    cr_assert_str_eq(plan_error()->field, "layers.2.packed");
    cr_assert_eq(xq_prepared_layer(p, 2, &w), XQ_OK, "its matrices are undamaged");
    xq_prepared_close(p);
    plan_close(plan);
    free(data);
}
