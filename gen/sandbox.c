#include "sandbox.h"

#include "json.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TEXT(x)    TEXT_OF(x)
#define TEXT_OF(x) #x
#define VERSION    TEXT(XQ_VERSION_MAJOR) "." TEXT(XQ_VERSION_MINOR) "." TEXT(XQ_VERSION_PATCH)

enum { HOOK_INTERVAL = 1000, SOFT_MEMORY = SANDBOX_MEMORY / 4 * 3 };

static sandbox *self(lua_State *L)
{
    return *(sandbox **)lua_getextraspace(L);
}

/* ---------------------------------------------------------------- limits */

static void *limited_alloc(void *user, void *memory, size_t old_size, size_t new_size)
{
    sandbox *s = user;
    if (!memory)
        old_size = 0; /* Lua then passes the kind of object instead of a size */
    if (new_size == 0) {
        free(memory);
        s->memory_used -= old_size;
        return NULL;
    }
    if (new_size > old_size && s->memory_used + (new_size - old_size) > s->memory_limit) {
        s->memory_exceeded = s->memory_exceeded ? s->memory_exceeded : 1;
        return NULL;
    }
    void *moved = realloc(memory, new_size);
    if (!moved)
        s->memory_exceeded = 2;
    else
        s->memory_used = s->memory_used - old_size + new_size;
    return moved;
}

/* Once a limit is reached the hook fires at every instruction, so that Lua code cannot catch the error and
 * go on. */
static void limit_hook(lua_State *L, lua_Debug *event)
{
    (void)event;
    sandbox *s = self(L);
    s->instructions_left -= HOOK_INTERVAL;
    int spent = s->instructions_left <= 0;
    if (!spent && s->memory_used > SOFT_MEMORY)
        lua_gc(L, LUA_GCCOLLECT, 0);
    if (!spent && s->memory_used <= SOFT_MEMORY)
        return;
    s->instructions_left = 0;
    lua_sethook(L, limit_hook, LUA_MASKCOUNT, 1);
    if (spent)
        luaL_error(L, "runs too long: more than %d million Lua instructions",
                   SANDBOX_INSTRUCTIONS / 1000000);
    luaL_error(L, "uses too much memory: more than %d MiB", SOFT_MEMORY >> 20);
}

/* ------------------------------------------- the host table of gen/sandbox.lua */

static int host_read(lua_State *L)
{
    const struct embed_file *file = source_find(self(L)->files, luaL_checkstring(L, 1));
    if (file)
        lua_pushlstring(L, file->text, file->size);
    else
        lua_pushnil(L);
    return 1;
}

/* names(prefix, ending): finds the files whose names begin and end so, and returns the sorted list of the
 * parts between. */
static int host_names(lua_State *L)
{
    size_t before, after;
    const char *prefix = luaL_checklstring(L, 1, &before), *ending = luaL_checklstring(L, 2, &after);
    const source *files = self(L)->files;
    lua_newtable(L);
    lua_Integer n = 0;
    for (size_t i = 0; i < files->count; i++) {
        const char *name = files->files[i].name;
        size_t length = strlen(name);
        if (length > before + after && !strncmp(name, prefix, before) &&
            !strcmp(name + length - after, ending)) {
            lua_pushlstring(L, name + before, length - before - after);
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

/* load(text, file, environment or nil): returns a function, or nil and a message. It loads texts only, no
 * bytecode. */
static int host_load(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    lua_settop(L, 3);
    const char *name = lua_pushfstring(L, "@%s", luaL_checkstring(L, 2));
    int outcome = luaL_loadbufferx(L, text, size, name, "t");
    if (outcome == LUA_ERRMEM)
        lua_newuserdatauv(L, 2 * (size_t)SANDBOX_MEMORY, 0); /* raises the memory error again, because this
                                                                is too large to allocate */
    if (outcome != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (!lua_isnoneornil(L, 3)) {
        lua_pushvalue(L, 3);
        lua_setupvalue(L, -2, 1);
    }
    return 1;
}

static void push_hash(lua_State *L, uint64_t hash)
{
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    lua_pushstring(L, hex);
}

/* hash(text): 16 hexadecimal digits. */
static int host_hash(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    push_hash(L, XXH3_64bits(text, size));
    return 1;
}

/* family_source(name): the hash of gen_family_source; nil where there is no such family. */
static int host_family_source(lua_State *L)
{
    uint64_t hash;
    if (source_hash_family(self(L)->files, luaL_checkstring(L, 1), &hash))
        push_hash(L, hash);
    else
        lua_pushnil(L);
    return 1;
}

/* ------------------------------------------------- tables of tuned parameters */

static table_list *all_tables(lua_State *L)
{
    error err = ERROR_INIT;
    if (tables_add_built_in(self(L)->tables, self(L)->files, &err) != XQ_OK) {
        lua_pushstring(L, err.message);
        error_clear(&err);
        lua_error(L);
    }
    return self(L)->tables;
}

static const cJSON *results_of(const table *t)
{
    return cJSON_GetObjectItemCaseSensitive(t->document, "results");
}

static bool has_text(const cJSON *result, const char *name, const char *text)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(result, name);
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

static void push_found(lua_State *L, const table *t, int order, int place, const cJSON *result)
{
    lua_createtable(L, 0, 5);
    lua_pushstring(L, t->name);
    lua_setfield(L, -2, "table");
    lua_pushboolean(L, t->is_built_in);
    lua_setfield(L, -2, "is_built_in");
    lua_pushinteger(L, order);
    lua_setfield(L, -2, "order");
    lua_pushinteger(L, place);
    lua_setfield(L, -2, "place");
    json_push(L, result, 0);
    lua_setfield(L, -2, "result");
}

/* tuned(shape): the results of all tables for this shape, as a list of {table, is_built_in, result, order,
 * place}. `order` is the position of the table among all tables, and `place` that of the result within its
 * table. */
static int host_tuned(lua_State *L)
{
    const char *shape = luaL_checkstring(L, 1);
    const table_list *all = all_tables(L);
    lua_Integer found = 0;
    lua_newtable(L);
    for (int i = 0; i < all->count; i++) {
        int place = 0;
        const cJSON *result;
        cJSON_ArrayForEach(result, results_of(&all->list[i]))
        {
            place++;
            if (!has_text(result, "shape", shape))
                continue;
            push_found(L, &all->list[i], i, place, result);
            lua_rawseti(L, -2, ++found);
        }
    }
    return 1;
}

/* tuned_tables(): all tables, as a list of {table, results}. */
static int host_tuned_tables(lua_State *L)
{
    const table_list *all = all_tables(L);
    lua_newtable(L);
    for (int i = 0; i < all->count; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, all->list[i].name);
        lua_setfield(L, -2, "table");
        json_push(L, results_of(&all->list[i]), 0);
        lua_setfield(L, -2, "results");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg host_functions[] = {{"read", host_read},
                                          {"names", host_names},
                                          {"load", host_load},
                                          {"hash", host_hash},
                                          {"family_source", host_family_source},
                                          {"tuned", host_tuned},
                                          {"tuned_tables", host_tuned_tables},
                                          {NULL, NULL}};

/* ---------------------------------------------------------------- opening */

static void open_library(lua_State *L, const char *name, lua_CFunction open)
{
    luaL_requiref(L, name, open, 1);
    lua_pop(L, 1);
}

/* gen/sandbox.lua removes everything unsafe, and leaves `require`. */
static int open_state(lua_State *L)
{
    open_library(L, LUA_GNAME, luaopen_base);
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    const struct embed_file *prelude = source_find(self(L)->files, "gen/sandbox.lua");
    if (!prelude)
        return luaL_error(L, "gen/sandbox.lua is missing");
    if (luaL_loadbufferx(L, prelude->text, prelude->size, "@gen/sandbox.lua", "t") != LUA_OK)
        return lua_error(L);
    luaL_newlib(L, host_functions);
    lua_pushliteral(L, VERSION);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, SANDBOX_MEMORY);
    lua_setfield(L, -2, "memory");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    json_push_array_mark(L);
    lua_setfield(L, -2, "array");
    lua_call(L, 1, 0);
    return 0;
}

xq_status sandbox_open(sandbox *s, const source *files, table_list *tables, error *err)
{
    memset(s, 0, sizeof *s);
    s->files = files;
    s->tables = tables;
    s->memory_limit = SANDBOX_MEMORY;
    s->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    s->L = s->locale ? lua_newstate(limited_alloc, s) : NULL;
    if (!s->L) {
        sandbox_close(s);
        return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory creating a generator");
    }
    *(sandbox **)lua_getextraspace(s->L) = s;
    if (sandbox_run(s, open_state, NULL, 0, err) != XQ_OK)
        sandbox_close(s);
    return err->status;
}

void sandbox_close(sandbox *s)
{
    if (s->L)
        lua_close(s->L);
    if (s->locale)
        freelocale(s->locale);
    memset(s, 0, sizeof *s);
}

void sandbox_require(lua_State *L, const char *name)
{
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

/* ---------------------------------------------------------------- failures */

static int is_template(const char *chunk)
{
    return !strncmp(chunk, "@templates/", 11);
}

/* Message handler: turns a message into the table of gen/fail.lua, with the innermost template line (or the
 * innermost line of any file, where no template is involved). */
static int locate(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TTABLE)
        return 1;
    const char *text = lua_tostring(L, 1);
    lua_Debug frame, found = {0};
    int have = 0;
    for (int level = 1; lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "Sl", &frame);
        if (frame.currentline <= 0)
            continue;
        if (!have || is_template(frame.source)) {
            found = frame;
            have = 1;
        }
        if (is_template(frame.source))
            break;
    }
    lua_newtable(L);
    if (have) {
        const char *place = lua_pushfstring(L, "%s:%d: ", found.source + 1, found.currentline);
        if (text && !strncmp(text, place, strlen(place)))
            text += strlen(place);
        lua_pop(L, 1);
        lua_pushstring(L, found.source + 1);
        lua_setfield(L, -2, "file");
        lua_pushinteger(L, found.currentline);
        lua_setfield(L, -2, "line");
    }
    lua_pushstring(L, text ? text : "an error that is no text");
    lua_setfield(L, -2, "message");
    return 1;
}

static const struct {
    const char *name;
    xq_status status;
} statuses[] = {
    {"spec", XQ_ERROR_SPEC},         {"unsupported", XQ_ERROR_UNSUPPORTED}, {"template", XQ_ERROR_TEMPLATE},
    {"argument", XQ_ERROR_ARGUMENT}, {"format", XQ_ERROR_FORMAT},
};

static const char *text_field(lua_State *L, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1); /* the table keeps the string alive */
    return text;
}

static xq_status status_of(const char *name, const char *file)
{
    for (size_t i = 0; name && i < sizeof statuses / sizeof *statuses; i++)
        if (!strcmp(name, statuses[i].name))
            return statuses[i].status;
    return file && !strncmp(file, "templates/", 10) ? XQ_ERROR_TEMPLATE : XQ_ERROR_INTERNAL;
}

/* Puts the failure on top of the stack, a table, into `err`. */
static int read_failure(lua_State *L)
{
    error *err = lua_touserdata(L, 1);
    lua_settop(L, 2);
    const char *message = text_field(L, "message"), *field = text_field(L, "field");
    const char *file = text_field(L, "file");
    lua_pushstring(L, "line");
    lua_rawget(L, 2);
    int line = (int)lua_tointeger(L, -1);
    lua_settop(L, 2);
    xq_status status = status_of(text_field(L, "status"), file);
    const char *stage = status == XQ_ERROR_TEMPLATE || status == XQ_ERROR_INTERNAL ? "template" : "spec";
    message = message ? message : "unknown failure";
    const struct embed_file *text = file ? source_find(self(L)->files, file) : NULL;
    if (text && line > 0) {
        char code[160];
        source_line(text->text, line, code, sizeof code);
        error_set(err, status, stage, "%s:%d: %s | %s", file, line, message, code);
    } else if (file) {
        error_set(err, status, stage, "%s: %s", file, message);
    } else {
        error_set(err, status, stage, "%s", message);
    }
    if (file)
        error_at(err, file, line);
    if (field)
        error_field(err, field);
    return 0;
}

static xq_status report(sandbox *s, int outcome, error *err)
{
    lua_State *L = s->L;
    if (outcome == LUA_ERRMEM || lua_type(L, -1) != LUA_TTABLE) {
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "unknown failure";
        if (outcome == LUA_ERRMEM && s->memory_exceeded == 2)
            error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
        else if (outcome == LUA_ERRMEM)
            error_set(err, XQ_ERROR_TEMPLATE, "template", "%s: uses too much memory: more than %d MiB",
                      s->subject ? s->subject : "generator", SANDBOX_MEMORY >> 20);
        else
            error_set(err, XQ_ERROR_TEMPLATE, "template", "%s", text);
        return err->status;
    }
    lua_pushcfunction(L, read_failure);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, err);
    lua_insert(L, -2);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    return err->status;
}

xq_status sandbox_run(sandbox *s, lua_CFunction function, void *data, int results, error *err)
{
    lua_State *L = s->L;
    locale_t before = uselocale(s->locale);
    int base = lua_gettop(L);
    s->instructions_left = SANDBOX_INSTRUCTIONS;
    s->memory_exceeded = 0;
    lua_pushcfunction(L, locate);
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, data);
    lua_sethook(L, limit_hook, LUA_MASKCOUNT, HOOK_INTERVAL);
    int outcome = lua_pcall(L, 1, results, base + 1);
    lua_sethook(L, NULL, 0, 0);
    if (outcome == LUA_OK) {
        lua_remove(L, base + 1);
    } else {
        report(s, outcome, err);
        lua_settop(L, base);
        lua_gc(L, LUA_GCCOLLECT, 0);
    }
    uselocale(before);
    return err->status;
}
