#include "command_json.h"
#include "files.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

cJSON *command_json_of(const struct command_result *result)
{
    cr_assert_eq(result->status, 0, "%s", result->err);
    cJSON *json = cJSON_Parse(result->out);
    cr_assert_not_null(json, "%s", result->out);
    return json;
}

cJSON *command_json(const char *format, ...)
{
    char arguments[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    const struct command_result r = command_run("%s", arguments);
    return command_json_of(&r);
}

cJSON *command_json_file(const char *path)
{
    size_t size;
    char *text = files_read(path, &size);
    cJSON *json = cJSON_Parse(text);
    cr_assert_not_null(json, "%s: %s", path, text);
    free(text);
    return json;
}
