#include "canonical.h"
#include "../../gen/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static xq_status out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
}

static int compare_names(const void *a, const void *b)
{
    const cJSON *const *x = a, *const *y = b;
    return strcmp((*x)->string, (*y)->string);
}

static xq_status sort_members(cJSON *object, error *err)
{
    size_t count = (size_t)cJSON_GetArraySize(object);
    if (count < 2)
        return XQ_OK;
    cJSON **members = malloc(sizeof(cJSON *) * count);
    if (!members)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++)
        members[i] = cJSON_DetachItemViaPointer(object, object->child);
    qsort(members, count, sizeof(cJSON *), compare_names);
    for (size_t i = 0; i < count; i++)
        cJSON_AddItemToArray(object, members[i]); /* keeps the members' names */
    free(members);
    return XQ_OK;
}

/* Prints the shortest text that gives the same double. cJSON cannot be used for this: it treats doubles
 * that are close as equal, and writes -0. */
static void print_number(char *text, size_t size, double value)
{
    static const int digits[] = {15, 16, 17};
    for (int i = 0; i < 3; i++) {
        snprintf(text, size, "%.*g", digits[i], value == 0 ? 0 : value);
        if (strtod(text, NULL) == value)
            break;
    }
    char *comma = strchr(text, ','); /* the decimal point of some locales */
    if (comma)
        *comma = '.';
}

/* Changes a number of a parsed text so that cJSON prints its canonical text. */
static xq_status fix_number(cJSON *number, const char *field, error *err)
{
    char text[40];
    if (!isfinite(number->valuedouble))
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s holds a number beyond a double's range",
                         field);
    print_number(text, sizeof text, number->valuedouble);
    number->valuestring = strdup(text);
    if (!number->valuestring)
        return out_of_memory(err);
    number->type = cJSON_Raw;
    return XQ_OK;
}

static xq_status make_canonical(cJSON *value, const char *field, error *err)
{
    if (cJSON_IsNumber(value))
        return fix_number(value, field, err);
    for (cJSON *child = value->child; child; child = child->next)
        if (make_canonical(child, field, err) != XQ_OK)
            return err->status;
    return cJSON_IsObject(value) ? sort_members(value, err) : XQ_OK;
}

xq_status canonical_object(const char *json, const char *field, char **out, error *err)
{
    cJSON *value = json_parse(json, strlen(json), field, JSON_STRICT, XQ_ERROR_ARGUMENT, err);
    if (value && !cJSON_IsObject(value))
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s must be a JSON object", field);
    if (value && err->status == XQ_OK && make_canonical(value, field, err) == XQ_OK) {
        *out = cJSON_PrintUnformatted(value);
        if (!*out)
            out_of_memory(err);
    }
    cJSON_Delete(value);
    return err->status == XQ_OK ? XQ_OK : error_field(err, field);
}
