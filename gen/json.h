/* Converts JSON texts to Lua values. Objects and arrays become tables (arrays with the metatable
 * host.array), and whole numbers become integers. Null members are left out or become host.null, a light
 * userdata. gen/json.lua converts Lua values to JSON. */
#ifndef GEN_JSON_H
#define GEN_JSON_H

#include "../runtime/base/error.h"

#include <cjson/cJSON.h>
#include <lua.h>
#include <stddef.h>

/* JSON_STRICT accepts JSON of RFC 8259. JSON_PYTHON also accepts the names NaN, Infinity and -Infinity,
 * which Python's json module writes. */
enum json_syntax { JSON_STRICT, JSON_PYTHON };

/* Parses a text of `size` bytes; only white space may follow the value. These are refused: bad syntax, bad
 * UTF-8, a NUL character, a name given twice in an object (the error's field), nesting beyond 32 levels, a
 * number of more than 60 characters, and a number other than zero that would become zero. Such an error has
 * `status`, the stage "spec" ("file" for XQ_ERROR_FORMAT), the `source`, and the line and column. A number
 * beyond the range of a double becomes infinity, so that code which knows the valid values can refuse
 * it. */
cJSON *json_parse(const char *text, size_t size, const char *source, enum json_syntax syntax,
                  xq_status status, error *err);

/* Refuses a text with a NUL byte, as json_parse does. It is for callers that pass the text on as a C
 * string. */
xq_status json_refuse_nul(const char *text, size_t size, const char *source, xq_status status, error *err);

/* The number of bytes at the beginning of a text that are well-formed UTF-8: all of them, or those before
 * the first byte that is not. */
size_t json_utf8_bytes(const char *text);

/* Pushes the metatable of arrays. */
void json_push_array_mark(lua_State *L);

/* Pushes a parsed value. Raises a Lua error when memory runs out. */
void json_push(lua_State *L, const cJSON *value, int keep_null);

#endif
