#include "tables.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

static xq_status add(table_list *t, const char *name, cJSON *document, bool is_built_in, error *err)
{
    table *grown = realloc(t->list, sizeof *grown * ((size_t)t->count + 1));
    if (grown) {
        t->list = grown;
        grown[t->count] = (table){strdup(name), document, is_built_in};
        if (grown[t->count].name) {
            t->count++;
            return XQ_OK;
        }
    }
    cJSON_Delete(document);
    return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
}

xq_status tables_add(table_list *t, const char *name, cJSON *document, error *err)
{
    return add(t, name, document, false, err);
}

xq_status tables_add_built_in(table_list *t, const source *files, error *err)
{
    static const char folder[] = "autotune/tuned/";
    if (t->has_built_in)
        return XQ_OK;
    t->has_built_in = true;
    for (size_t i = 0; i < files->count && err->status == XQ_OK; i++) {
        const struct embed_file *file = &files->files[i];
        if (strncmp(file->name, folder, sizeof folder - 1) != 0)
            continue;
        cJSON *document =
            json_parse(file->text, file->size, file->name, JSON_STRICT, XQ_ERROR_INTERNAL, err);
        if (document)
            add(t, "built in", document, true, err);
    }
    return err->status;
}

void tables_close(table_list *t)
{
    for (int i = 0; i < t->count; i++) {
        free(t->list[i].name);
        cJSON_Delete(t->list[i].document);
    }
    free(t->list);
    *t = (table_list){0};
}
