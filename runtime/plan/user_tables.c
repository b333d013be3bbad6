#include "user_tables.h"

#include "../base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds one file. `variable` is the setting that names the file; NULL for the file in the configuration
 * folder, which may be absent. */
static xq_status add_file(gen *g, const char *variable, const char *path, error *err)
{
    char *text = NULL;
    size_t size = 0;
    if (files_read_at(AT_FDCWD, path, &text, &size) == 0) {
        gen_add_table(g, path, text, size, err);
        free(text);
        return err->status;
    }
    if (!variable && (errno == ENOENT || errno == ENOTDIR))
        return XQ_OK;
    error_set(err, XQ_ERROR_IO, "file", "%s%stable of tuned parameters %s: %s", variable ? variable : "",
              variable ? ": " : "", path, errno == EINVAL ? "is no regular file" : strerror(errno));
    error_at(err, path, 0);
    return variable ? error_field(err, variable) : err->status;
}

xq_status user_tables_add(gen *g, const char *first, error *err)
{
    const char *named = getenv("XQ_TUNED"), *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char path[PATH_MAX];
    if (named && !*named && first)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "the table %s would not be used, because XQ_TUNED is empty, which turns off all "
                         "tables; unset XQ_TUNED",
                         first);
    if (named && !*named)
        return gen_ignore_tables(g, err);
    if (first && add_file(g, "--table", first, err) != XQ_OK)
        return err->status;
    if (named && add_file(g, "XQ_TUNED", named, err) != XQ_OK)
        return err->status;
    bool has_folder = folder && *folder == '/'; /* as the XDG specification demands */
    if (!has_folder && (!home || !*home))
        return XQ_OK;
    int length = snprintf(path, sizeof path, "%s%s/xq/tuned.json", has_folder ? folder : home,
                          has_folder ? "" : "/.config");
    return length < (int)sizeof path ? add_file(g, NULL, path, err) : XQ_OK;
}
