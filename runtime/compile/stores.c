#include "stores.h"

#include <stdlib.h>
#include <string.h>

struct stores {
    int count;
    cache *list[]; /* room for as many as there are names */
};

static int count_names(const char *list)
{
    int count = 1;
    for (; *list; list++)
        count += *list == ':';
    return count;
}

/* Adds the store of that name. False when memory ran out. */
static bool add(stores *s, const char *name, size_t length, const logger *log)
{
    error why = ERROR_INIT;
    char *dir = strndup(name, length);
    cache *c = dir ? cache_open_store(dir, log, &why) : NULL;
    bool memory = dir && why.status != XQ_ERROR_MEMORY;
    if (c)
        s->list[s->count++] = c;
    else if (memory)
        log_message(log, XQ_LOG_WARNING, "%s; it is left out", why.message);
    error_clear(&why);
    free(dir);
    return memory;
}

stores *stores_open(const char *list, const logger *log)
{
    list = list ? list : getenv("XQ_KERNELS");
    list = list ? list : "";
    stores *s = calloc(1, sizeof *s + sizeof(cache *) * (size_t)count_names(list));
    while (s && *list) {
        size_t length = strcspn(list, ":");
        if (length > 0 && !add(s, list, length, log)) {
            stores_close(s);
            return NULL;
        }
        list += length + (list[length] == ':');
    }
    return s;
}

void stores_close(stores *s)
{
    for (int i = 0; s && i < s->count; i++)
        cache_close(s->list[i]);
    free(s);
}

int stores_count(const stores *s)
{
    return s->count;
}

cache *stores_at(const stores *s, int index)
{
    return s->list[index];
}
