/* JSON texts into Lua values. Objects and arrays become tables, whole numbers become integers, null
 * members are left out or become host.null (a light userdata). (Lua values become JSON in gen/json.lua.) */
#ifndef GEN_JSON_H
#define GEN_JSON_H

#include "error.h"

#include <cjson/cJSON.h>
#include <lua.h>

/* Parses a text. A malformed one fails with `status` and stage "spec", and names `source` and the line;
 * so does one nested beyond 32 levels. */
cJSON *json_parse(const char *text, const char *source, xq_status status, error *err);

/* Pushes a parsed value. Raises a Lua error when memory runs out or an object names a member twice. */
void json_push(lua_State *L, const cJSON *value, int keep_null);

#endif
