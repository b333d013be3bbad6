/* xq gen --list-parameters: lists the parameters of each kernel family with their values, defaults and
 * meaning. */
#include "gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static void print_value(const cJSON *value)
{
    char *shown = cJSON_PrintUnformatted(value);
    fputs(shown ? shown : "?", stdout);
    free(shown);
}

static void print_parameter(const cJSON *parameter)
{
    const cJSON *values = cJSON_GetObjectItemCaseSensitive(parameter, "values"), *value;
    const cJSON *chosen = cJSON_GetObjectItemCaseSensitive(parameter, "chosen");
    const char *depends = text(parameter, "depends_on"), *meaning = text(parameter, "meaning");
    printf("  %-14s %s\n%17svalues ", text(parameter, "name"), meaning ? meaning : "", "");
    cJSON_ArrayForEach(value, values)
    {
        print_value(value);
        fputs(value->next ? ", " : "; default ", stdout);
    }
    print_value(cJSON_GetObjectItemCaseSensitive(parameter, "default"));
    if (chosen) {
        fputs("; for this spec ", stdout);
        print_value(chosen);
    }
    putchar('\n');
    if (depends)
        printf("%17sthe default depends on %s\n", "", depends);
}

static int number(const cJSON *object, const char *name)
{
    return (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

void gen_print_combinations(const cJSON *combinations)
{
    const cJSON *removed = cJSON_GetObjectItemCaseSensitive(combinations, "removed"), *item;
    printf("  %d of %d combinations are valid for this spec\n", number(combinations, "valid"),
           number(combinations, "all"));
    cJSON_ArrayForEach(item, removed)
    {
        printf("  %7d ruled out: %s\n", number(item, "combinations"), text(item, "constraint"));
    }
}

static void print_family(const cJSON *family)
{
    const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(family, "parameters"), *item;
    const char *summary = text(family, "summary"), *refused = text(family, "refused");
    printf("\n%s: %s\n", text(family, "family"), summary ? summary : "");
    if (refused)
        printf("  cannot serve this spec: %s\n", refused);
    if (!parameters->child)
        printf("  (nothing to tune)\n");
    cJSON_ArrayForEach(item, parameters)
    {
        print_parameter(item);
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(family, "constraints"))
    {
        printf("  must hold: %s\n", item->valuestring);
    }
    const cJSON *combinations = cJSON_GetObjectItemCaseSensitive(family, "combinations");
    if (combinations && parameters->child)
        gen_print_combinations(combinations);
}

static void print_all(const cJSON *families, bool of_spec)
{
    const cJSON *family;
    printf("A spec chooses values by family, for example {\"tuning\": {\"attend\": {\"warps\": 4}}}. "
           "Parameters that it leaves\n"
           "out have their defaults.\n"
           "%s",
           of_spec ? "" : "If a default depends on the spec, --model or --spec shows the value.\n");
    cJSON_ArrayForEach(family, families)
    {
        print_family(family);
    }
}

xq_status gen_list_parameters(gen *g, const struct cli_list *families, const char *spec_json,
                              const struct cli_common *common, error *err)
{
    char *json = NULL;
    if (gen_parameters(g, (const char *const *)families->items, families->count, spec_json, &json, err) !=
        XQ_OK)
        return err->status;
    cJSON *root = cJSON_CreateObject(), *list = cJSON_Parse(json);
    free(json);
    if (!root || !list) {
        cJSON_Delete(list);
        cJSON_Delete(root);
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    }
    cJSON_AddItemToObject(root, "families", list);
    if (!cli_json_to_stdout(common))
        print_all(list, spec_json != NULL);
    cli_write_json(common, root, err);
    cJSON_Delete(root);
    return err->status;
}
