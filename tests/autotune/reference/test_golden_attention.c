/* Attention in double precision, from a config.json and its checkpoint, compared with the results of
 * transformers' modules for the same tensors (tests/golden/make_attention.py). This covers what each key
 * means, what a missing key means, what a model's code fixes, how files store projections, and what each
 * kind of layer has of its own. */
#include "../../../autotune/reference/reference.h"
#include "../../../prepare/model.h"
#include "../../../prepare/safetensors.h"
#include "../../../runtime/base/half.h"
#include "../../support/files.h"
#include "../../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 256, HEADS = 4, KV = 2, DH = 64, DKV = KV * DH, TOKENS = 40, KEPT = 4, MOST_TENSORS = 8 };
enum tag { TAG_K = 1, TAG_V, TAG_K_BIAS, TAG_V_BIAS, TAG_NORM, TAG_SINKS, TAG_X, TAG_Q };

static float value_of(enum tag tag, int layer, int row, int column)
{
    static const float scale[] = {0, 0.5F, 0.5F, 1, 1, 1, 4, 4, 2};
    uint32_t h = (uint32_t)(tag + 16 * layer) * 0x9e3779b1U + (uint32_t)row * 2654435761U +
                 (uint32_t)column * 2246822519U;
    h = (h ^ h >> 15) * 2654435761U;
    h = (h ^ h >> 13) * 2246822519U;
    float number = ((float)(h >> 16) / 65536 - 0.5F) * scale[tag];
    return half_round(number + (tag == TAG_NORM ? 1 : 0));
}

/* ---------------------------------------------------------------- the checkpoint */

struct checkpoint {
    tensor tensors[MOST_TENSORS];
    char names[MOST_TENSORS][64];
    uint16_t *data[MOST_TENSORS];
    int count;
};

/* Adds a tensor with rows of keys, of values, or of both, after `zeros` rows of zeros, which stand for the
 * queries. If `columns` is 0, the tensor is a vector. */
static void add(struct checkpoint *c, int layer, const char *what, int zeros, const enum tag *tags,
                int rows, int columns)
{
    int width = columns ? columns : 1, total = zeros + rows * (tags[1] ? 2 : 1), i = c->count++;
    c->data[i] = calloc((size_t)total * (size_t)width, sizeof *c->data[i]);
    for (int row = zeros; row < total; row++)
        for (int column = 0; column < width; column++)
            c->data[i][row * width + column] =
                half_from_float(value_of(tags[(row - zeros) / rows], layer, (row - zeros) % rows, column));
    snprintf(c->names[i], sizeof c->names[i], "model.layers.%d.self_attn.%s", layer, what);
    c->tensors[i] = (tensor){.name = c->names[i],
                             .type = TENSOR_F16,
                             .rank = columns ? 2 : 1,
                             .shape = {total, columns},
                             .data = (const uint8_t *)c->data[i],
                             .bytes = sizeof *c->data[i] * (size_t)total * (size_t)width};
}

static void fill_checkpoint(struct checkpoint *c, const layer_shape *s, const char *type, int layer)
{
    static const enum tag k[] = {TAG_K, 0}, v[] = {TAG_V, 0}, kv[] = {TAG_K, TAG_V}, bk[] = {TAG_K_BIAS, 0},
                          bv[] = {TAG_V_BIAS, 0}, norm[] = {TAG_NORM, 0}, sinks[] = {TAG_SINKS, 0};
    if (strcmp(type, "phi3") == 0) {
        add(c, layer, "qkv_proj.weight", HEADS * DH, kv, DKV, D);
    } else {
        add(c, layer, "k_proj.weight", 0, k, DKV, D);
        add(c, layer, "v_proj.weight", 0, v, DKV, D);
    }
    if (s->bias) {
        add(c, layer, "k_proj.bias", 0, bk, DKV, 0);
        add(c, layer, "v_proj.bias", 0, bv, DKV, 0);
    }
    if (s->k_norm)
        add(c, layer, "k_norm.weight", 0, norm, s->k_norm, 0);
    if (s->sinks)
        add(c, layer, "sinks", 0, sinks, HEADS, 0);
}

/* ---------------------------------------------------------------- one case */

struct golden {
    const char *name, *type, *table;
    const cJSON *config, *out;
    int layer;
};

/* The completed spec of the case's layer. */
static char *complete(const struct golden *g)
{
    error err = ERROR_INIT;
    char *config = cJSON_PrintUnformatted(g->config), *kind = NULL;
    cJSON *spec = generator_config(config), *object = cJSON_GetObjectItem(spec, "model");
    if (g->table)
        cJSON_AddStringToObject(cJSON_GetObjectItem(object, "rope_scaling"), "table", g->table);
    char *text = cJSON_PrintUnformatted(spec);
    gen_layer_kind(generator(), text, g->layer, &kind, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", g->name, err.message);
    if (*kind)
        cJSON_AddStringToObject(object, "layer_kind", kind);
    free(text);
    text = cJSON_PrintUnformatted(spec);
    char *completed = generator_complete(text);
    free(text);
    free(kind);
    free(config);
    cJSON_Delete(spec);
    return completed;
}

/* Reads the layer's weights from a model directory. */
static layer_weights read_weights(const struct golden *g, const char *completed)
{
    struct checkpoint c = {.count = 0};
    layer_shape shape = {0};
    layer_weights weights = {0};
    model *m = NULL;
    error err = ERROR_INIT;
    const char *directory = files_directory();
    char *config = cJSON_PrintUnformatted(g->config);
    layer_shape_read(completed, &shape, &err);
    fill_checkpoint(&c, &shape, g->type, g->layer);
    safetensors_write(files_path(directory, "model.safetensors"), c.tensors, c.count, &err);
    files_write(files_path(directory, "config.json"), config, strlen(config));
    if (model_open(generator(), directory, &m, &err) == XQ_OK)
        model_layer(m, g->layer, &weights, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", g->name, err.message);
    model_close(m);
    for (int i = 0; i < c.count; i++)
        free(c.data[i]);
    free(config);
    return weights;
}

static double *doubles(const float *values, size_t count)
{
    double *result = malloc(sizeof *result * (count + 1));
    for (size_t i = 0; i < count; i++)
        result[i] = values[i];
    return result;
}

static double *doubles_of(enum tag tag, int layer, int first, int rows, int columns)
{
    double *result = malloc(sizeof *result * (size_t)rows * (size_t)columns);
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++)
            result[row * columns + column] = value_of(tag, layer, first + row, column);
    return result;
}

/* Computes the output for the query of the last token. */
static void attend(const struct golden *g, const char *completed, double out[HEADS * DH])
{
    reference_model attention;
    error err = ERROR_INIT;
    double lse[HEADS];
    layer_weights w = read_weights(g, completed);
    cr_assert_eq(reference_model_read(completed, &attention, &err), XQ_OK, "%s", err.message);
    double *x = doubles_of(TAG_X, g->layer, 0, TOKENS, D),
           *q = doubles_of(TAG_Q, g->layer, TOKENS - 1, 1, HEADS * DH);
    double *wk = doubles(w.wk, (size_t)D * DKV), *wv = doubles(w.wv, (size_t)D * DKV),
           *bk = w.bk ? doubles(w.bk, DKV) : NULL, *bv = w.bv ? doubles(w.bv, DKV) : NULL,
           *norm = w.k_norm ? doubles(w.k_norm, attention.norm == REFERENCE_NORM_ROW ? DKV : DH) : NULL,
           *sinks = w.sinks ? doubles(w.sinks, HEADS) : NULL;
    const reference_layer layer = {wk, wv, D, D, 1, 1, bk, bv, norm, sinks};
    const reference_queries queries = {.count = 1, .q = q};
    reference_attend_layer(&attention, &layer, TOKENS, x, x, &queries, out, lse, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    double *all[] = {x, q, wk, wv, bk, bv, norm, sinks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    layer_weights_free(&w);
}

static void check_case(const struct golden *g)
{
    double out[HEADS * DH], expected[HEADS * DH / KEPT], got[HEADS * DH / KEPT];
    char *completed = complete(g);
    attend(g, completed, out);
    cr_assert_eq(cJSON_GetArraySize(g->out), HEADS * DH / KEPT);
    for (int i = 0; i < HEADS * DH / KEPT; i++) {
        expected[i] = cJSON_GetArrayItem(g->out, i)->valuedouble;
        got[i] = out[i * KEPT];
    }
    double difference = reference_error(expected, got, HEADS * DH / KEPT);
    /* transformers computes angles and norms in f32. A wrong frequency, factor or row causes an error of
     * 0.1 and more. */
    cr_expect_lt(difference, 2e-5, "%s, layer %d: off by %g", g->name, g->layer, difference);
    free(completed);
}

/* Checks every second case, from number `first` on. */
static void check_cases(int first)
{
    size_t size;
    char *text = files_read("tests/golden/attention.json", &size);
    cJSON *cases = cJSON_Parse(text), *entry;
    int count = 0;
    cJSON_ArrayForEach(entry, cases)
    {
        const struct golden g = {.name = generator_string(entry, "name"),
                                 .type = generator_string(entry, "config.model_type"),
                                 .table = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "table")),
                                 .config = generator_member(entry, "config"),
                                 .out = generator_member(entry, "out"),
                                 .layer = (int)generator_number(entry, "layer")};
        if (count++ % 2 == first)
            check_case(&g);
    }
    cr_assert_gt(count, 20);
    cJSON_Delete(cases);
    free(text);
}

Test(golden_attention, of_the_first_half_is_that_of_transformers, .timeout = 60)
{
    check_cases(0);
}

Test(golden_attention, of_the_second_half_is_that_of_transformers, .timeout = 60)
{
    check_cases(1);
}
