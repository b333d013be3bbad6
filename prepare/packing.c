#include "packing.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- describing */

static void copy(cJSON *to, const cJSON *from, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);
    if (item)
        cJSON_AddItemToObject(to, name, cJSON_Duplicate(item, 1));
}

/* Copies the members that say how latents are padded. */
static void copy_streams(cJSON *to, const cJSON *layout)
{
    static const char *const kept[] = {"latents", "rank", "latent_width"};
    const cJSON *stream;
    cJSON *list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(to, "layout"), "streams");
    cJSON_ArrayForEach(stream, cJSON_GetObjectItemCaseSensitive(layout, "streams"))
    {
        cJSON *out = cJSON_CreateObject();
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            copy(out, stream, kept[i]);
        cJSON_AddItemToArray(list, out);
    }
}

cJSON *packing_describe(const char *completed_json, bool packed)
{
    static const char *const kept[] = {"method", "groups_k", "groups_v", "rank_k",
                                       "rank_v", "rotation", "feedback"};
    cJSON *spec = cJSON_Parse(completed_json), *out = spec ? cJSON_CreateObject() : NULL;
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    cJSON *cache = cJSON_AddObjectToObject(out, "cache");
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        copy(cache, from, kept[i]);
    if (cJSON_HasObjectItem(from, "feedback")) /* feedback acts between the channels of a group */
        copy(cache, from, "group");
    if (packed) {
        cJSON *packing = cJSON_AddObjectToObject(out, "packing");
        copy(packing, spec, "weights");
        copy_streams(packing, cJSON_GetObjectItemCaseSensitive(spec, "layout"));
        copy(packing, spec, "keys");
        copy(packing, spec, "weights_layout");
    }
    cJSON_Delete(spec);
    return out;
}

/* ----------------------------------------------------------------- comparing */

struct difference {
    char field[96];
    char found[48], needed[48]; /* texts of the values; "" where there is no value */
};

static void print_value(const cJSON *item, char *text, size_t size)
{
    if (cJSON_IsString(item))
        snprintf(text, size, "%s", item->valuestring);
    else if (cJSON_IsNumber(item))
        snprintf(text, size, "%.15g", item->valuedouble);
    else if (cJSON_IsBool(item))
        snprintf(text, size, "%s", cJSON_IsTrue(item) ? "true" : "false");
    else
        snprintf(text, size, "%s", item ? "something else" : "nothing");
}

static bool differ(const cJSON *found, const cJSON *needed, struct difference *d);

static bool items_differ(const cJSON *found, const cJSON *needed, struct difference *d)
{
    size_t length = strlen(d->field);
    const cJSON *a = found->child, *b = needed->child;
    for (int i = 0; a || b; i++) {
        snprintf(d->field + length, sizeof d->field - length, "[%d]", i);
        if (differ(a, b, d))
            return true;
        a = a ? a->next : NULL;
        b = b ? b->next : NULL;
    }
    d->field[length] = 0;
    return false;
}

static bool member_differs(const cJSON *found, const cJSON *needed, const char *name, struct difference *d)
{
    size_t length = strlen(d->field);
    snprintf(d->field + length, sizeof d->field - length, "%s%s", length ? "." : "", name);
    if (differ(cJSON_GetObjectItemCaseSensitive(found, name),
               cJSON_GetObjectItemCaseSensitive(needed, name), d))
        return true;
    d->field[length] = 0;
    return false;
}

static bool members_differ(const cJSON *found, const cJSON *needed, struct difference *d)
{
    for (const cJSON *item = found->child; item; item = item->next)
        if (member_differs(found, needed, item->string, d))
            return true;
    for (const cJSON *item = needed->child; item; item = item->next)
        if (!cJSON_GetObjectItemCaseSensitive(found, item->string) &&
            member_differs(found, needed, item->string, d))
            return true;
    return false;
}

/* Returns true unless both are equal; then `field` is extended to the first place where they differ. */
static bool differ(const cJSON *found, const cJSON *needed, struct difference *d)
{
    if (cJSON_IsArray(found) && cJSON_IsArray(needed))
        return items_differ(found, needed, d);
    if (cJSON_IsObject(found) && cJSON_IsObject(needed))
        return members_differ(found, needed, d);
    print_value(found, d->found, sizeof d->found);
    print_value(needed, d->needed, sizeof d->needed);
    return !found || !needed || !cJSON_Compare(found, needed, 1);
}

xq_status packing_expect(const char *path, const cJSON *entry, const char *completed_json, error *err)
{
    struct difference d = {0};
    cJSON *needed = packing_describe(completed_json, true);
    if (!needed)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    bool differs = false;
    const char *const parts[] = {"cache", "packing"};
    for (int i = 0; i < 2 && !differs; i++) {
        /* Fields are named as in the spec: members of "packing" are members of the spec itself. */
        snprintf(d.field, sizeof d.field, "%s", i ? "" : parts[i]);
        differs = differ(cJSON_GetObjectItemCaseSensitive(entry, parts[i]),
                         cJSON_GetObjectItemCaseSensitive(needed, parts[i]), &d);
    }
    cJSON_Delete(needed);
    if (!differs)
        return XQ_OK;
    error_set(
        err, XQ_ERROR_ARGUMENT, "argument",
        "%s: the weights are packed for %s %s, and the plan has %s; run `xq prepare` for the plan's spec",
        path, d.field, d.found, d.needed);
    return error_field(err, d.field);
}
