#include "generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gen *shared;

static void destroy_shared(void)
{
    gen_destroy(shared);
}

gen *generator(void)
{
    if (!shared) {
        error err = ERROR_INIT;
        if (gen_create(NULL, &shared, &err) == XQ_OK)
            gen_ignore_tables(shared, &err);
        cr_assert_eq(err.status, XQ_OK, "%s", err.message);
        atexit(destroy_shared);
    }
    return shared;
}

char *generator_complete(const char *spec_json)
{
    error err = ERROR_INIT;
    char *completed = NULL;
    gen_complete(generator(), spec_json, &completed, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", spec_json, err.message);
    return completed;
}

char *generator_complete_values(const char *spec_json)
{
    char *text = generator_complete(spec_json), *choices = strstr(text, ",\"choices\":");
    cr_assert_not_null(choices, "%s", text);
    strcpy(choices, "}"); /* `choices` is the last member */
    return text;
}

cJSON *generator_complete_parsed(const char *spec_json)
{
    char *text = generator_complete(spec_json);
    cJSON *parsed = cJSON_Parse(text);
    cr_assert_not_null(parsed, "%s", text);
    free(text);
    return parsed;
}

cJSON *generator_config(const char *config)
{
    error err = ERROR_INIT;
    char *model = NULL;
    gen_model_from_config(generator(), config, "dir/config.json", &model, &err);
    cr_assert_eq(err.status, XQ_OK, "%s: %s", config, err.message);
    cJSON *spec = cJSON_CreateObject();
    cJSON_AddItemToObject(spec, "model", cJSON_Parse(model));
    free(model);
    return spec;
}

cJSON *generator_complete_config(const char *config, const char *kind)
{
    cJSON *spec = generator_config(config);
    if (kind)
        cJSON_AddStringToObject(cJSON_GetObjectItem(spec, "model"), "layer_kind", kind);
    char *text = cJSON_PrintUnformatted(spec);
    cJSON *completed = generator_complete_parsed(text);
    free(text);
    cJSON_Delete(spec);
    return completed;
}

void generator_refuses(const char *spec_json, xq_status status, const char *field, const char *text)
{
    error err = ERROR_INIT;
    char *completed = NULL;
    gen_complete(generator(), spec_json, &completed, &err);
    cr_assert_null(completed, "%s was accepted: %s", spec_json, completed);
    cr_assert_eq(err.status, status, "%s: %s", spec_json, err.message);
    cr_assert_str_eq(err.field, field, "%s: %s", spec_json, err.message);
    cr_assert_str_eq(err.stage, "spec");
    cr_assert(strstr(err.message, field), "%s: %s", spec_json, err.message);
    cr_assert(strstr(err.message, text), "%s: '%s' is not in '%s'", spec_json, text, err.message);
}

void generator_refuses_config(const char *config, xq_status status, const char *field, const char *text)
{
    error err = ERROR_INIT;
    char *model = NULL, *completed = NULL;
    if (gen_model_from_config(generator(), config, "dir/config.json", &model, &err) == XQ_OK) {
        char *spec = malloc(strlen(model) + 32);
        sprintf(spec, "{\"model\": %s}", model);
        gen_complete(generator(), spec, &completed, &err);
        free(spec);
    } else {
        cr_assert_null(model);
        cr_assert_str_eq(err.file, "dir/config.json", "%s", err.message);
        cr_assert(strstr(err.message, "dir/config.json"), "%s", err.message);
    }
    cr_assert_eq(err.status, status, "%s: %s", config, err.message);
    cr_assert_str_eq(err.field, field, "%s: %s", config, err.message);
    cr_assert(strstr(err.message, text), "%s", err.message);
    cr_assert_null(completed);
    free(model);
}

const cJSON *generator_member(const cJSON *root, const char *path)
{
    char copy[256];
    cr_assert_lt(strlen(path), sizeof copy);
    strcpy(copy, path);
    const cJSON *at = root;
    for (char *rest = copy, *name; at && (name = strsep(&rest, "."));)
        at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(name))
                               : cJSON_GetObjectItemCaseSensitive(at, name);
    cr_assert_not_null(at, "no %s", path);
    return at;
}

double generator_number(const cJSON *root, const char *path)
{
    const cJSON *value = generator_member(root, path);
    cr_assert(cJSON_IsNumber(value), "%s is no number", path);
    return value->valuedouble;
}

const char *generator_string(const cJSON *root, const char *path)
{
    const cJSON *value = generator_member(root, path);
    cr_assert(cJSON_IsString(value), "%s is no string", path);
    return value->valuestring;
}
