/* Tables of tuned parameters, as a generator holds them (docs/tuning.md, Tuned tables): the user's tables,
 * in the order in which they were added, then the built-in ones. gen/tuned.lua describes a table. Private
 * to gen/. */
#ifndef GEN_TABLES_H
#define GEN_TABLES_H

#include "source.h"

#include <cjson/cJSON.h>

typedef struct table {
    char *name; /* name of the user's file, or "built in" */
    cJSON *document;
    bool is_built_in;
} table;

typedef struct table_list {
    table *list;
    int count;
    bool has_built_in; /* the built-in tables are parsed when results are first looked for */
} table_list;

/* Adds a table; must be called before tables_add_built_in. Takes `document`, also on failure. Errors:
 * XQ_ERROR_MEMORY. */
xq_status tables_add(table_list *t, const char *name, cJSON *document, error *err);

/* Adds the built-in tables among `files`; later calls add nothing. Errors: those of json_parse. */
xq_status tables_add_built_in(table_list *t, const source *files, error *err);

void tables_close(table_list *t);

#endif
