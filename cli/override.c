/* Builds overrides of a spec, a JSON merge patch for the generator. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
}

/* Sets the error of two options that give different values to the same key. */
static xq_status contradiction(const char *key, const cJSON *old, const cJSON *value, error *err)
{
    char *one = cJSON_PrintUnformatted(old), *other = cJSON_PrintUnformatted(value);
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s: given twice, as %.200s and as %.200s; give it once",
              key, one ? one : "?", other ? other : "?");
    free(one);
    free(other);
    return error_field(err, key);
}

/* Merges `value` into the member, so that values of both are kept. */
static xq_status join(cJSON *object, const char *name, const char *key, cJSON *value, error *err)
{
    cJSON *old = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!value || (!old && !cJSON_AddItemToObject(object, name, value)))
        no_memory(err);
    if (!old && err->status == XQ_OK)
        return XQ_OK;
    if (cJSON_IsObject(old) && cJSON_IsObject(value)) {
        while (value->child && err->status == XQ_OK) {
            cJSON *member = cJSON_DetachItemViaPointer(value, value->child);
            char longer[512];
            snprintf(longer, sizeof longer, "%s.%s", key, member->string);
            join(old, member->string, longer, member, err);
        }
    } else if (old && !cJSON_Compare(old, value, 1)) {
        contradiction(key, old, value, err);
    }
    cJSON_Delete(value);
    return err->status;
}

xq_status cli_override(cJSON *overrides, const char *key, cJSON *value, error *err)
{
    cJSON *object = overrides;
    const char *rest = key, *dot;
    char name[256];
    for (; err->status == XQ_OK && (dot = strchr(rest, '.')); rest = dot + 1) {
        snprintf(name, sizeof name, "%.*s", (int)(dot - rest), rest);
        cJSON *next = cJSON_GetObjectItemCaseSensitive(object, name);
        if (!next && !(next = cJSON_AddObjectToObject(object, name)))
            no_memory(err);
        else if (!cJSON_IsObject(next))
            contradiction(key, next, value, err);
        object = next;
    }
    if (err->status == XQ_OK)
        return join(object, rest, key, value, err);
    cJSON_Delete(value);
    return err->status;
}

xq_status cli_spec_override(gen *g, const char *spec_json, cJSON *overrides, char **out, error *err)
{
    char *text = cJSON_PrintUnformatted(overrides);
    cJSON_Delete(overrides);
    const gen_overrides o = {.spec_json = spec_json, .overrides_json = text};
    if (!text)
        no_memory(err);
    else
        gen_override(g, &o, out, err);
    free(text);
    return err->status;
}
