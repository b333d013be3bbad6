/* Listing, checking, pruning and clearing the kernel cache. */
#include "../base/files.h"
#include "cache.h"
#include "cache_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare_items(const void *a, const void *b)
{
    return strcmp(((const cache_item *)a)->key, ((const cache_item *)b)->key);
}

/* options.txt holds "NAME VALUE" lines first: name and arch are two of them. */
static void describe(int folder, cache_item *item)
{
    char *text = NULL;
    size_t bytes;
    if (files_read_at(folder, "options.txt", &text, &bytes) != 0)
        return;
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        sscanf(line, "name %63s", item->name);
        sscanf(line, "arch %31s", item->arch);
    }
    free(text);
}

static void measure(const cache *c, cache_item *item)
{
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", c->kernels, item->key);
    if (stat(path, &st) == 0)
        item->created = item->used = st.st_mtime;
    DIR *folder = opendir(path);
    if (!folder)
        return;
    if (fstatat(dirfd(folder), CACHE_MANIFEST, &st, 0) == 0)
        item->created = st.st_mtime;
    for (struct dirent *e = readdir(folder); e; e = readdir(folder))
        if (fstatat(dirfd(folder), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            item->bytes += (size_t)st.st_size;
    describe(dirfd(folder), item);
    closedir(folder);
}

static xq_status open_failed(const cache *c, error *err)
{
    error_set(err, XQ_ERROR_IO, "cache", "cannot read the kernel cache %s: %s", c->kernels,
              strerror(errno));
    return error_at(err, c->kernels, 0);
}

xq_status cache_list(const cache *c, bool check, cache_item **items, int *count, error *err)
{
    cache_item *list = NULL;
    int n = 0, capacity = 0;
    DIR *folder = c->kernels ? opendir(c->kernels) : NULL;
    if (!folder && c->kernels && errno != ENOENT)
        return open_failed(c, err);
    for (struct dirent *e = folder ? readdir(folder) : NULL; e; e = readdir(folder)) {
        if (!cache_is_key(e->d_name))
            continue;
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            cache_item *larger = realloc(list, sizeof *list * (size_t)capacity);
            if (!larger) {
                free(list);
                closedir(folder);
                return error_set(err, XQ_ERROR_MEMORY, "cache", "out of memory");
            }
            list = larger;
        }
        list[n] = (cache_item){0};
        memcpy(list[n].key, e->d_name, strlen(e->d_name) + 1); /* a key fits */
        n++;
    }
    if (folder)
        closedir(folder);
    if (n > 0)
        qsort(list, (size_t)n, sizeof *list, compare_items);
    for (int i = 0; i < n; i++) {
        cache_entry entry = {0};
        measure(c, &list[i]);
        if (check)
            list[i].damaged = cache_read(c, list[i].key, &entry) != CACHE_WHOLE;
        cache_entry_free(&entry);
    }
    *items = list;
    *count = n;
    return XQ_OK;
}

int cache_count(const cache *c)
{
    int count = 0;
    DIR *folder = c->kernels ? opendir(c->kernels) : NULL;
    for (struct dirent *e = folder ? readdir(folder) : NULL; e; e = readdir(folder))
        count += cache_is_key(e->d_name);
    if (folder)
        closedir(folder);
    return count;
}

/* Gives an entry another name, so that readers see all of it or nothing while its files are removed. A
 * network file system keeps a file that another process has open in the folder, under the name .nfsXXXX,
 * until the file is closed; the next sweep after that removes it. False: the entry cannot be renamed, or
 * is gone. */
static bool take_away(const cache *c, const char *path)
{
    char reserved[4400], aside[4500];
    snprintf(reserved, sizeof reserved, "%s/" CACHE_TEMPORARY "XXXXXX", c->kernels);
    if (!mkdtemp(reserved))
        return false;
    snprintf(aside, sizeof aside, "%s.old", reserved);
    bool taken = rename(path, aside) == 0;
    if (taken)
        files_remove(aside);
    rmdir(reserved);
    return taken;
}

static xq_status remove_entry(const cache *c, const char *name, int *removed, error *err)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", c->kernels, name);
    if (!take_away(c, path) && files_remove(path) != 0 && errno != ENOENT) {
        error_set(err, XQ_ERROR_IO, "cache", "cannot remove %s: %s", path, strerror(errno));
        return error_at(err, path, 0);
    }
    (*removed)++;
    return XQ_OK;
}

/* Removes an entry that was not finished, or the remains of one that was taken away. */
static bool remove_leftover(const cache *c, const char *name)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", c->kernels, name);
    return files_remove(path) == 0;
}

static bool is_temporary(const char *name)
{
    return strncmp(name, CACHE_TEMPORARY, strlen(CACHE_TEMPORARY)) == 0;
}

xq_status cache_clear(const cache *c, const char *key, int *removed, error *err)
{
    *removed = 0;
    if (!c->kernels)
        return XQ_OK;
    if (key)
        return remove_entry(c, key, removed, err);
    DIR *folder = opendir(c->kernels);
    if (!folder)
        return errno == ENOENT ? XQ_OK : open_failed(c, err);
    for (struct dirent *e = readdir(folder); e && err->status == XQ_OK; e = readdir(folder)) {
        if (cache_is_key(e->d_name))
            remove_entry(c, e->d_name, removed, err);
        else if (is_temporary(e->d_name))
            remove_leftover(c, e->d_name);
    }
    closedir(folder);
    return err->status;
}

/* ---------------------------------------------------------------- pruning */

int cache_sweep(const cache *c, time_t now)
{
    enum { LONGEST_WRITE = 3600 }; /* seconds; writing an entry takes a fraction of a second */
    int removed = 0;
    DIR *folder = opendir(c->kernels);
    for (struct dirent *e = folder ? readdir(folder) : NULL; e; e = readdir(folder)) {
        struct stat st;
        if (is_temporary(e->d_name) && fstatat(dirfd(folder), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_mtime < now - LONGEST_WRITE)
            removed += remove_leftover(c, e->d_name);
    }
    if (folder)
        closedir(folder);
    return removed;
}

/* Returns the time of the file system that holds the entries, or this machine's time if the folder cannot
 * be written. */
static time_t clock_of(const cache *c)
{
    char made[4400];
    struct stat st;
    time_t now = time(NULL);
    snprintf(made, sizeof made, "%s/" CACHE_TEMPORARY "XXXXXX", c->kernels);
    if (!mkdtemp(made))
        return now;
    if (stat(made, &st) == 0)
        now = st.st_mtime;
    rmdir(made);
    return now;
}

static int compare_use(const void *a, const void *b)
{
    time_t x = ((const cache_item *)a)->used, y = ((const cache_item *)b)->used;
    return x == y ? compare_items(a, b) : x < y ? -1 : 1;
}

xq_status cache_prune(const cache *c, const cache_limits *limits, cache_pruned *out, error *err)
{
    cache_item *items = NULL;
    int count = 0;
    *out = (cache_pruned){0};
    if (cache_list(c, false, &items, &count, err) != XQ_OK)
        return err->status;
    const time_t now = c->kernels ? clock_of(c) : 0;
    out->leftovers = c->kernels ? cache_sweep(c, now) : 0;
    for (int i = 0; i < count; i++)
        out->bytes_left += items[i].bytes;
    if (count > 0)
        qsort(items, (size_t)count, sizeof *items, compare_use);
    for (int i = 0; i < count && err->status == XQ_OK; i++) {
        bool old = limits->by_age && (double)(now - items[i].used) > limits->most_seconds;
        bool much = limits->by_size && (double)out->bytes_left > limits->most_bytes;
        if ((old || much) && remove_entry(c, items[i].key, &out->removed, err) == XQ_OK) {
            out->bytes_removed += items[i].bytes;
            out->bytes_left -= items[i].bytes;
        }
    }
    free(items);
    return err->status;
}
