#include "json.h"

#include <lauxlib.h>
#include <math.h>

void json_push_array_mark(lua_State *L)
{
    luaL_newmetatable(L, "array");
}

static void push_number(lua_State *L, double number)
{
    if (number == floor(number) && fabs(number) <= 9007199254740992.0)
        lua_pushinteger(L, (lua_Integer)number);
    else
        lua_pushnumber(L, number);
}

static void push_object(lua_State *L, const cJSON *value, int keep_null)
{
    lua_newtable(L);
    for (const cJSON *child = value->child; child; child = child->next) {
        if (cJSON_IsNull(child) && !keep_null)
            continue;
        lua_pushstring(L, child->string);
        json_push(L, child, keep_null);
        lua_rawset(L, -3);
    }
}

static void push_array(lua_State *L, const cJSON *value, int keep_null)
{
    lua_Integer index = 0;
    lua_newtable(L);
    for (const cJSON *child = value->child; child; child = child->next) {
        json_push(L, child, keep_null);
        lua_rawseti(L, -2, ++index);
    }
    json_push_array_mark(L);
    lua_setmetatable(L, -2);
}

void json_push(lua_State *L, const cJSON *value, int keep_null)
{
    luaL_checkstack(L, 8, "JSON");
    if (cJSON_IsString(value))
        lua_pushstring(L, value->valuestring);
    else if (cJSON_IsNumber(value))
        push_number(L, value->valuedouble);
    else if (cJSON_IsBool(value))
        lua_pushboolean(L, cJSON_IsTrue(value));
    else if (cJSON_IsObject(value))
        push_object(L, value, keep_null);
    else if (cJSON_IsArray(value))
        push_array(L, value, keep_null);
    else
        lua_pushlightuserdata(L, NULL); /* host.null */
}
