#include "file_set.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cli_file_set_has(const struct cli_file_set *set, const char *name)
{
    for (int i = 0; i < set->count; i++)
        if (strcmp(set->files[i].name, name) == 0)
            return true;
    return false;
}

static xq_status add(struct cli_file_set *set, char *name, const void *data, size_t size, error *err)
{
    if (set->count == CLI_MOST_FILES)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "more than %d files to write", CLI_MOST_FILES);
    if (cli_file_set_has(set, name))
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "two files to write have the same name, %s",
                         name);
    void *copy = malloc(size ? size : 1);
    if (!copy)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    memcpy(copy, data, size);
    set->files[set->count++] = (struct cli_file){.name = name, .data = copy, .size = size};
    return XQ_OK;
}

xq_status cli_file_set_add(struct cli_file_set *set, const void *data, size_t size, error *err,
                           const char *format, ...)
{
    char *name = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&name, format, args);
    va_end(args);
    if (length < 0)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    if (add(set, name, data, size, err) != XQ_OK)
        free(name);
    return err->status;
}

/* Makes the folders of a path that lie below its first `from` bytes. */
static xq_status make_folders(char *path, size_t from, error *err)
{
    for (char *slash = path + from; err->status == XQ_OK && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        cli_begin_folder(path, err);
        *slash = '/';
    }
    return err->status;
}

static xq_status begin(struct cli_file *f, const char *option, const char *folder, error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, f->name) >= (int)sizeof path)
        return error_set(err, XQ_ERROR_IO, "file", "%s: the path is too long", option);
    if (make_folders(path, strlen(folder), err) == XQ_OK &&
        cli_begin_output(option, path, &f->file, err) == XQ_OK &&
        publish_write(f->file, f->data, f->size, err) == XQ_OK)
        publish_flush(f->file, err);
    return err->status;
}

xq_status cli_file_set_begin(struct cli_file_set *set, const char *option, const char *folder, error *err)
{
    for (int i = 0; i < set->count && err->status == XQ_OK; i++)
        begin(&set->files[i], option, folder, err);
    return err->status;
}

xq_status cli_file_set_commit(struct cli_file_set *set, error *err)
{
    for (int i = 0; i < set->count && err->status == XQ_OK; i++)
        cli_commit_output(set->files[i].file, err);
    return err->status;
}

void cli_file_set_free(struct cli_file_set *set)
{
    for (int i = 0; i < set->count; i++) {
        free(set->files[i].name);
        free(set->files[i].data);
    }
    set->count = 0;
}
