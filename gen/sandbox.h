/* A Lua state in which generator modules and templates run. They have no files, no processes, no clock and
 * no bytecode, their memory and instructions are limited, and no result can depend on addresses or on the
 * machine. Private to gen/. */
#ifndef GEN_SANDBOX_H
#define GEN_SANDBOX_H

#include "tables.h"

#include <locale.h>
#include <lua.h>

enum {
    SANDBOX_MEMORY = 64 << 20,        /* bytes that one generator may hold */
    SANDBOX_INSTRUCTIONS = 100000000, /* Lua instructions of one call */
};

typedef struct sandbox {
    lua_State *L;
    const source *files;
    table_list *tables;
    size_t memory_used, memory_limit;
    long instructions_left;
    const char *subject; /* the file at work, for failures without a line; may be NULL */
    int memory_exceeded; /* 1: the limit refused an allocation; 2: the system did */
    locale_t locale;     /* "C": numbers are written with a point whatever the program's locale */
} sandbox;

/* `files` and `tables` must outlive the sandbox. */
xq_status sandbox_open(sandbox *s, const source *files, table_list *tables, error *err);
void sandbox_close(sandbox *s);

/* Runs function(L, data) protected, within the limits. On success its results are on the stack. On failure
 * the stack is as before, and `err` says what happened and where. A failure that gen/fail.lua raised keeps
 * its form; any other becomes a template error at the innermost template line. */
xq_status sandbox_run(sandbox *s, lua_CFunction function, void *data, int results, error *err);

/* Pushes the module gen/NAME.lua; for use inside sandbox_run. */
void sandbox_require(lua_State *L, const char *name);

#endif
