#include "json.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

enum { DEEPEST = 32 };

static int line_of(const char *text, const char *end)
{
    int line = 1;
    for (; text < end; text++)
        line += *text == '\n';
    return line;
}

static int too_deep(const cJSON *value, int depth)
{
    if (depth > DEEPEST)
        return 1;
    for (const cJSON *child = value->child; child; child = child->next)
        if (too_deep(child, depth + 1))
            return 1;
    return 0;
}

cJSON *json_parse(const char *text, const char *source, xq_status status, error *err)
{
    const char *end = NULL;
    cJSON *value = cJSON_ParseWithOpts(text, &end, 1);
    if (!value) {
        int line = end ? line_of(text, end) : 1;
        if (end && !*end)
            error_set(err, status, "spec", "%s:%d: malformed JSON: it ends too early", source, line);
        else
            error_set(err, status, "spec", "%s:%d: malformed JSON at '%.20s'", source, line,
                      end ? end : "");
        error_at(err, source, line);
        return NULL;
    }
    if (too_deep(value, 1)) {
        error_set(err, status, "spec", "%s: JSON nested more than %d levels deep", source, DEEPEST);
        error_at(err, source, 0);
        cJSON_Delete(value);
        return NULL;
    }
    return value;
}

static void push_number(lua_State *L, double number)
{
    if (number == floor(number) && fabs(number) <= 9007199254740992.0)
        lua_pushinteger(L, (lua_Integer)number);
    else
        lua_pushnumber(L, number);
}

/* Fails as gen/fail.lua does. */
static void given_twice(lua_State *L, const char *name)
{
    lua_newtable(L);
    lua_pushliteral(L, "spec");
    lua_setfield(L, -2, "status");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "field");
    lua_pushfstring(L, "%s: given twice in one JSON object", name);
    lua_setfield(L, -2, "message");
    lua_error(L);
}

static void push_object(lua_State *L, const cJSON *value, int keep_null)
{
    lua_newtable(L);
    for (const cJSON *child = value->child; child; child = child->next) {
        if (cJSON_IsNull(child) && !keep_null)
            continue;
        lua_pushstring(L, child->string);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) != LUA_TNIL)
            given_twice(L, child->string);
        lua_pop(L, 1);
        json_push(L, child, keep_null);
        lua_rawset(L, -3);
    }
}

void json_push(lua_State *L, const cJSON *value, int keep_null)
{
    luaL_checkstack(L, 8, "JSON");
    if (cJSON_IsString(value)) {
        lua_pushstring(L, value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        push_number(L, value->valuedouble);
    } else if (cJSON_IsBool(value)) {
        lua_pushboolean(L, cJSON_IsTrue(value));
    } else if (cJSON_IsObject(value)) {
        push_object(L, value, keep_null);
    } else if (cJSON_IsArray(value)) {
        lua_newtable(L);
        lua_Integer index = 0;
        for (const cJSON *child = value->child; child; child = child->next) {
            json_push(L, child, keep_null);
            lua_rawseti(L, -2, ++index);
        }
    } else {
        lua_pushlightuserdata(L, NULL); /* host.null */
    }
}
