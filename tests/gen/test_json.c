/* Reading JSON (gen/json.h): text that RFC 8259 allows is accepted, and all other text is refused with line
 * and column. */
#include "../../gen/json.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static cJSON *parse_sized(const char *text, size_t size, enum json_syntax syntax)
{
    error err = ERROR_INIT;
    cJSON *value = json_parse(text, size, "here", syntax, XQ_ERROR_SPEC, &err);
    cr_assert_not_null(value, "%s: %s", text, err.message);
    return value;
}

static cJSON *parse(const char *text)
{
    return parse_sized(text, strlen(text), JSON_STRICT);
}

static void refuses_sized(const char *text, size_t size, enum json_syntax syntax, const char *message)
{
    error err = ERROR_INIT;
    cJSON *value = json_parse(text, size, "here", syntax, XQ_ERROR_SPEC, &err);
    cr_assert_null(value, "%s was taken", text);
    cr_assert_eq(err.status, XQ_ERROR_SPEC);
    cr_assert_str_eq(err.stage, "spec");
    cr_assert_str_eq(err.file, "here");
    cr_assert(strstr(err.message, message), "%s: '%s' is not in '%s'", text, message, err.message);
}

static void refuses(const char *text, const char *message)
{
    refuses_sized(text, strlen(text), JSON_STRICT, message);
}

static void prints_as(const char *text, const char *expected)
{
    cJSON *value = parse(text);
    char *printed = cJSON_PrintUnformatted(value);
    cr_assert_str_eq(printed, expected, "%s", text);
    cJSON_free(printed);
    cJSON_Delete(value);
}

Test(json, what_the_standard_allows_is_taken)
{
    prints_as(" {\"a\" : [1, -2.5, 1e2, 0, -0.5E-1] ,\t\"b\":{}\r\n} ",
              "{\"a\":[1,-2.5,100,0,-0.05],\"b\":{}}");
    prints_as("[true, false, null, \"\", []]", "[true,false,null,\"\",[]]");
    prints_as("7", "7");
    prints_as("\xEF\xBB\xBF{}", "{}"); /* a byte order mark */
    prints_as("{\"a\": 1, \"A\": 2}", "{\"a\":1,\"A\":2}");
}

static void decodes_to(const char *text, const char *expected)
{
    cJSON *value = parse(text);
    cr_assert_str_eq(cJSON_GetStringValue(value), expected, "%s", text);
    cJSON_Delete(value);
}

Test(json, strings_are_decoded)
{
    decodes_to("\"\\\" \\\\ \\/ \\b\\f\\n\\r\\t\"", "\" \\ / \b\f\n\r\t");
    decodes_to("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    decodes_to("\"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \x7f\"",
               "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \x7f");
}

Test(json, bad_syntax_is_refused_with_line_and_column)
{
    refuses("", "here:1:1: malformed JSON: it ends too early, where a value is expected");
    refuses("{\"a\": 1,\n \"b\" 2}", "here:2:6: malformed JSON: ':' is expected, not '2}'");
    refuses("{\"a\": 1,}", "here:1:9: malformed JSON: a name in double quotes is expected, not '}'");
    refuses("{'a': 1}", "here:1:2: ");
    refuses("{\"a\": 1} x", "here:1:10: malformed JSON: nothing more is expected, not 'x'");
    refuses("{} {}", "here:1:4: ");
    refuses("[1, 2", "ends too early, where ',' or ']' is expected");
    refuses("[1,]", "here:1:4: ");
    refuses("{\"a\": // why\n 1}", "here:1:7: malformed JSON: a value is expected, not '// why'");
    refuses("\"\xC3\xA9\xC3\xA9\" x", "here:1:6: "); /* columns are characters */
    refuses("[\x01]", "control character (1)");
    refuses("\"a\nb\"", "here:1:3: malformed JSON: a string has a control character (10)");
    refuses("\"abc", "ends too early, where the end of a string is expected");
    refuses("\"\\x\"", "here:1:3: malformed JSON: one of ");
    refuses("\"\\u12g4\"", "a hexadecimal digit");
    refuses("truth", "here:1:1: ");
}

Test(json, numbers_are_those_of_the_standard)
{
    static const char *const bad[] = {"01",  "+1",    ".5",  "1.",       "1e",        "1e+", "-",  "0x10",
                                      "--1", "1_000", "NaN", "Infinity", "-Infinity", "nan", "inf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses(bad[i], "here:1:");
    refuses("[1e-400]", "here:1:2: 1e-400 is too small to be told from zero");
    refuses("1234567890123456789012345678901234567890123456789012345678901234567890",
            "more than 60 characters");
    cJSON *value = parse("[1e400, -1e400, 0e-999]");
    cr_assert_eq(cJSON_GetArrayItem(value, 0)->valuedouble, HUGE_VAL);
    cr_assert_eq(cJSON_GetArrayItem(value, 1)->valuedouble, -HUGE_VAL);
    cr_assert_eq(cJSON_GetArrayItem(value, 2)->valuedouble, 0);
    cJSON_Delete(value);
}

Test(json, the_names_that_python_writes_are_taken_where_they_may_be)
{
    const char *text = "[NaN, Infinity, -Infinity]";
    cJSON *value = parse_sized(text, strlen(text), JSON_PYTHON);
    cr_assert(isnan(cJSON_GetArrayItem(value, 0)->valuedouble));
    cr_assert_eq(cJSON_GetArrayItem(value, 1)->valuedouble, HUGE_VAL);
    cr_assert_eq(cJSON_GetArrayItem(value, 2)->valuedouble, -HUGE_VAL);
    cJSON_Delete(value);
    refuses_sized("-Inf", 4, JSON_PYTHON, "here:1:2: ");
}

Test(json, characters_that_c_would_lose_are_refused)
{
    refuses("{\"a\": \"x\\u0000y\"}", "here:1:9: a string has a NUL character (\\u0000)");
    refuses("{\"a\\u0000\": 1}", "here:1:4: a string has a NUL character");
    refuses_sized("[1]\0[2]", 7, JSON_STRICT, "here:1:4: ");
    refuses_sized("\"a\0b\"", 5, JSON_STRICT, "here:1:3: ");
    error err = ERROR_INIT;
    cr_assert_eq(json_refuse_nul("{\n\0}", 4, "here", XQ_ERROR_SPEC, &err), XQ_ERROR_SPEC);
    cr_assert_str_eq(err.message, "here:2:1: malformed JSON: a NUL byte");
}

Test(json, what_is_not_utf8_is_refused)
{
    static const char *const bad[] = {"\"\xFF\"",         "\"\xC0\x80\"",         "\"\xE0\x80\x80\"",
                                      "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xC3\"",
                                      "\"\x80\"",         "\"\xE2\x82\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses(bad[i], "here:1:2: byte ");
    refuses("\"\\ud83d\"", "is one half of a surrogate pair");
    refuses("\"\\ud83d\\u0041\"", "is one half of a surrogate pair");
    refuses("\"\\ude00\"", "is one half of a surrogate pair");
}

Test(json, a_name_given_twice_is_refused)
{
    error err = ERROR_INIT;
    const char *text = "{\"c\": {\"b\": 1, \"a\": 2,\n \"\\u0062\": 3, \"a\": 4}}";
    cr_assert_null(json_parse(text, strlen(text), "here", JSON_STRICT, XQ_ERROR_SPEC, &err));
    cr_assert_str_eq(err.message, "here:2:2: b: given twice in one JSON object");
    cr_assert_str_eq(err.field, "b");
    cr_assert_eq(err.line, 2);
    cJSON_Delete(parse("[{\"a\": 1}, {\"a\": 1}]"));
}

Test(json, deep_nesting_is_refused)
{
    char text[2 * 33 + 1] = "";
    for (int i = 0; i < 32; i++)
        strcat(text, "[");
    for (int i = 0; i < 32; i++)
        strcat(text, "]");
    cJSON_Delete(parse(text));
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    refuses(text, "here:1:33: the JSON is nested more than 32 levels deep");
}
