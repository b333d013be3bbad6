/* JSON texts into Lua values. Objects and arrays become tables (arrays with the metatable host.array),
 * whole numbers become integers, null members are left out or become host.null (a light userdata). (Lua
 * values become JSON in gen/json.lua.) */
#ifndef GEN_JSON_H
#define GEN_JSON_H

#include "../runtime/base/error.h"

#include <cjson/cJSON.h>
#include <lua.h>
#include <stddef.h>

/* JSON as RFC 8259 has it; or also the names NaN, Infinity and -Infinity, which Python's json module
 * writes. */
enum json_syntax { JSON_STRICT, JSON_PYTHON };

/* Parses a text of `size` bytes, and nothing else may follow the value. Refused, with `status`, stage
 * "spec" ("file" for XQ_ERROR_FORMAT), the `source` and line and column: bad syntax, bad UTF-8, a NUL
 * character, a name given twice in an object (the field), nesting beyond 32 levels, and a number that would
 * become zero. A number beyond the range of a double becomes infinity, for those who know the valid values
 * to refuse. */
cJSON *json_parse(const char *text, size_t size, const char *source, enum json_syntax syntax,
                  xq_status status, error *err);

/* Refuses a text with a NUL byte, as json_parse does: for those who hand it on as a C string. */
xq_status json_refuse_nul(const char *text, size_t size, const char *source, xq_status status, error *err);

/* Bytes at the beginning of a text that are well-formed UTF-8: all, or those before the first that is not.
 */
size_t json_utf8_bytes(const char *text);

/* The metatable of arrays; pushes it. */
void json_push_array_mark(lua_State *L);

/* Pushes a parsed value. Raises a Lua error when memory runs out. */
void json_push(lua_State *L, const cJSON *value, int keep_null);

#endif
