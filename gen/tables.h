/* Tables of tuned parameters, as a generator holds them (docs/tuning.md, Tuned tables): the user's, in the
 * order in which they were added, then those built in. gen/tuned.lua says what a table is. Private to gen/.
 */
#ifndef GEN_TABLES_H
#define GEN_TABLES_H

#include "source.h"

#include <cjson/cJSON.h>

typedef struct table {
    char *name; /* of the user's file; "built in" */
    cJSON *document;
    bool is_built_in;
} table;

typedef struct table_list {
    table *list;
    int count;
    bool has_built_in; /* they are parsed when results are first looked for */
} table_list;

/* Adds a table, before tables_add_built_in. Takes `document`, also on failure. Errors: XQ_ERROR_MEMORY. */
xq_status tables_add(table_list *t, const char *name, cJSON *document, error *err);

/* Adds the tables among `files`, once. Errors: those of json_parse. */
xq_status tables_add_built_in(table_list *t, const source *files, error *err);

void tables_close(table_list *t);

#endif
