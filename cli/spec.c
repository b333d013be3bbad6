/* The spec that the options describe, as the JSON that the generator takes. */
#include "../gen/gen.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static char model_file[4096]; /* of this program's one --model */

const char *cli_model_file(void)
{
    return model_file;
}

/* config.json → the `model` object. */
static xq_status model_from_file(const char *path, const struct cli_common *common, cJSON **model,
                                 error *err)
{
    char *text = NULL, *json = NULL;
    gen *g = NULL;
    xq_status status = cli_read_file(path, &text, NULL, err);
    if (status == XQ_OK)
        status = gen_create(common->templates, &g, err);
    if (status == XQ_OK)
        status = gen_model_from_config(g, text, path, &json, err);
    if (status == XQ_OK && !(*model = cJSON_Parse(json)))
        status = error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
    if (status == XQ_OK)
        snprintf(model_file, sizeof model_file, "%s", path);
    gen_destroy(g);
    free(json);
    free(text);
    return status;
}

/* --model: a directory with a config.json, such a file, or else the name of a preset. */
static xq_status add_model(cJSON *root, const char *name, const struct cli_common *common, error *err)
{
    struct stat st;
    bool exists = stat(name, &st) == 0;
    cJSON *model = NULL;
    if (exists && S_ISDIR(st.st_mode)) {
        char path[4096];
        snprintf(path, sizeof path, "%s/config.json", name);
        if (model_from_file(path, common, &model, err) != XQ_OK)
            return err->status;
    } else if (exists || ends_with(name, ".json")) {
        if (model_from_file(name, common, &model, err) != XQ_OK)
            return err->status;
    } else {
        model = cJSON_CreateString(name);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(root, "model");
    cJSON_AddItemToObject(root, "model", model);
    return XQ_OK;
}

static void set_string(cJSON *object, const char *key, const char *value)
{
    if (!value)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddStringToObject(object, key, value);
}

static void set_number(cJSON *object, const char *key, double value)
{
    if (value == 0)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddNumberToObject(object, key, value);
}

static void set_false(cJSON *object, const char *key)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddFalseToObject(object, key);
}

/* A number where the text is one, else the text: the generator names the valid values. */
static void set_number_or_string(cJSON *object, const char *key, const char *value)
{
    if (!value)
        return;
    char *end;
    double number = strtod(value, &end);
    if (end != value && !*end && number != 0)
        set_number(object, key, number);
    else
        set_string(object, key, value);
}

/* --rank N, or K,V. */
static xq_status set_rank(cJSON *cache, const char *rank, error *err)
{
    if (!rank)
        return XQ_OK;
    int k = 0, v = 0, used = 0;
    if (sscanf(rank, "%d,%d%n", &k, &v, &used) == 2 && !rank[used] && k > 0 && v > 0) {
        set_number(cache, "rank_k", k);
        set_number(cache, "rank_v", v);
        return XQ_OK;
    }
    if (sscanf(rank, "%d%n", &k, &used) == 1 && !rank[used] && k > 0) {
        const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cache, "method"));
        set_number(cache, "rank_k", k);
        if (!method || strcmp(method, "latent-cl") != 0) /* which has one latent */
            set_number(cache, "rank_v", k);
        return XQ_OK;
    }
    error_set(err, XQ_ERROR_SPEC, "spec", "--rank: '%s' is neither N nor K,V with positive integers", rank);
    return error_field(err, "cache.rank_k");
}

static xq_status read_spec(const char *path, cJSON **root, error *err)
{
    char *text = NULL;
    if (cli_read_file(path, &text, NULL, err) != XQ_OK)
        return err->status;
    *root = cJSON_ParseWithOpts(text, NULL, 1);
    free(text);
    if (cJSON_IsObject(*root))
        return XQ_OK;
    cJSON_Delete(*root);
    *root = NULL;
    error_set(err, XQ_ERROR_FORMAT, "file", "%s is not a JSON object", path);
    return error_at(err, path, 0);
}

static void set_flag(cJSON *object, const char *key, bool value)
{
    if (!value)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddTrueToObject(object, key);
}

/* A preset's name becomes an object, to hold the kind; what a completed spec chose for another kind goes.
 */
void cli_spec_set_kind(cJSON *root, const char *kind)
{
    cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    if (cJSON_IsString(model)) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "preset", model->valuestring);
        cJSON_ReplaceItemInObjectCaseSensitive(root, "model", object);
        model = object;
    }
    if (!cJSON_IsObject(model))
        return; /* the generator names the fault */
    if (cJSON_HasObjectItem(model, "layer_kinds")) {
        cJSON_DeleteItemFromObjectCaseSensitive(model, "rope");
        cJSON_DeleteItemFromObjectCaseSensitive(model, "sliding_window");
    }
    set_string(model, "layer_kind", kind);
}

static xq_status fill(cJSON *root, const struct cli_spec *s, const struct cli_common *common,
                      const char *arch, error *err)
{
    if (s->model && add_model(root, s->model, common, err) != XQ_OK)
        return err->status;
    if (s->layer_kind)
        cli_spec_set_kind(root, s->layer_kind);
    cJSON *cache = cJSON_GetObjectItemCaseSensitive(root, "cache");
    if (!cache)
        cache = cJSON_AddObjectToObject(root, "cache");
    if (cJSON_IsObject(cache)) {
        set_string(cache, "method", s->method);
        set_number(cache, "bits", (double)s->bits);
        set_number_or_string(cache, "group", s->group);
        set_string(cache, "axis_k", s->axis_k);
        set_string(cache, "axis_v", s->axis_v);
        set_string(cache, "zero_point", s->zero_point);
        set_number_or_string(cache, "clip", s->clip);
        set_number(cache, "groups", (double)s->groups);
        set_flag(cache, "rotation", s->rotation);
        if (s->no_rotation)
            set_false(cache, "rotation");
        set_flag(cache, "feedback", s->feedback);
        set_flag(cache, "base", s->base);
        set_number(cache, "accumulator_bits", (double)s->accumulator_bits);
        set_number(cache, "page", (double)s->page);
        if (set_rank(cache, s->rank, err) != XQ_OK)
            return err->status;
    }
    set_string(root, "dtype", s->dtype);
    set_string(root, "weights", s->weights);
    set_string(root, "queries", s->queries);
    set_string(root, "arch", arch);
    return XQ_OK;
}

xq_status cli_spec_json(const struct cli_spec *spec, const struct cli_common *common, const char *arch,
                        char **json, error *err)
{
    cJSON *root = NULL;
    if (!spec->spec_file && !spec->model)
        return error_set(err, XQ_ERROR_SPEC, "spec",
                         "no model given; use --model NAME|DIR|config.json, or --spec FILE");
    if (spec->spec_file) {
        if (read_spec(spec->spec_file, &root, err) != XQ_OK)
            return err->status;
    } else {
        root = cJSON_CreateObject();
    }
    if (fill(root, spec, common, arch, err) == XQ_OK && !(*json = cJSON_PrintUnformatted(root)))
        error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
    cJSON_Delete(root);
    return err->status;
}
