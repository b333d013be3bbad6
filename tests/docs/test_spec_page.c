/* Tests that docs/spec.md has every key that a spec may have, and every type of config.json. */
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls `check` with a name from each line of the file that begins with `opening`. The name follows, up to
 * the next quote, space or equals sign. Returns the number of names. */
static int each_name(const char *path, const char *opening, const char *page,
                     void (*check)(const char *, const char *))
{
    size_t size;
    char *text = files_read(path, &size), *rest = text;
    int count = 0;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, opening, strlen(opening)) != 0)
            continue;
        char *name = line + strlen(opening);
        name[strcspn(name, "\" =")] = 0;
        check(name, page);
        count++;
    }
    free(text);
    return count;
}

static void is_named(const char *name, const char *page)
{
    char quoted[80];
    snprintf(quoted, sizeof quoted, "`%s`", name);
    char dotted[80], in_object[80]; /* layout's members follow a dot, those of objects are in quotes */
    snprintf(dotted, sizeof dotted, ".%s`", name);
    snprintf(in_object, sizeof in_object, "\"%s\"", name);
    cr_assert(strstr(page, quoted) || strstr(page, dotted) || strstr(page, in_object),
              "docs/spec.md lacks %s", quoted);
}

Test(spec_page, every_key_of_the_schema_is_explained)
{
    size_t size;
    char *page = files_read("docs/spec.md", &size);
    int keys = each_name("gen/schema.lua", "  { \"", page, is_named) +
               each_name("gen/schema.lua", "    { \"", page, is_named);
    cr_assert_gt(keys, 70);
    free(page);
}

Test(spec_page, every_type_of_config_json_is_listed)
{
    size_t size;
    char *page = files_read("docs/spec.md", &size);
    error err = ERROR_INIT;
    char *model = NULL;
    gen_model_from_config(generator(), "{\"model_type\": \"none of them\"}", NULL, &model, &err);
    char *list = strstr(err.message, "valid: ");
    cr_assert_not_null(list, "%s", err.message);
    int types = 0;
    for (char *rest = list + 7, *name; (name = strsep(&rest, ", ")); types += *name != 0)
        if (*name)
            is_named(name, page);
    cr_assert_geq(types, 20);
    error_clear(&err);
    free(page);
}
