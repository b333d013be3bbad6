/* The folder of a bundle: what may be replaced in it, and writing it. */
#include "emit.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bundle.json of a folder, parsed; NULL: there is none of xq emit. */
static cJSON *read_manifest(const char *folder)
{
    char path[PATH_MAX], *text = NULL;
    size_t size = 0;
    error ignored = ERROR_INIT; /* what cannot be read is no bundle */
    struct stat st;
    cJSON *manifest = NULL;
    if (snprintf(path, sizeof path, "%s/bundle.json", folder) < (int)sizeof path && stat(path, &st) == 0 &&
        S_ISREG(st.st_mode) && cli_read_file(path, &text, &size, &ignored) == XQ_OK)
        manifest = cJSON_Parse(text);
    free(text);
    error_clear(&ignored);
    if (cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(manifest, "files")) &&
        cJSON_HasObjectItem(manifest, "plans"))
        return manifest;
    cJSON_Delete(manifest);
    return NULL;
}

static bool is_listed(const cJSON *manifest, const char *name)
{
    const cJSON *file;
    cJSON_ArrayForEach(file, cJSON_GetObjectItemCaseSensitive(manifest, "files"))
    {
        if (cJSON_IsString(file) && strcmp(file->valuestring, name) == 0)
            return true;
    }
    return false;
}

static bool is_written(const struct cli_file_set *set, const char *name)
{
    for (int i = 0; i < set->count; i++)
        if (strcmp(set->files[i].name, name) == 0)
            return true;
    return false;
}

/* A file of the folder that is not "." or ".."; NULL: there is none, or no folder. */
static char *any_entry(const char *folder)
{
    DIR *d = opendir(folder);
    char *found = NULL;
    for (struct dirent *entry = d ? readdir(d) : NULL; entry && !found; entry = readdir(d))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            found = strdup(entry->d_name);
    if (d)
        closedir(d);
    return found;
}

xq_status emit_check_folder(const char *folder, error *err)
{
    cJSON *manifest = read_manifest(folder);
    char *entry = manifest ? NULL : any_entry(folder);
    if (entry) {
        error_set(
            err, XQ_ERROR_ARGUMENT, "file",
            "--out: the folder %s holds %s and is no bundle of xq emit; valid: a new or empty folder, or "
            "that of an earlier bundle",
            folder, entry);
        error_at(err, folder, 0);
    }
    free(entry);
    cJSON_Delete(manifest);
    return err->status;
}

/* A file that has the name of one of ours, and that no bundle wrote, is somebody's. */
static xq_status check_strangers(const struct emitting *e, const cJSON *earlier, error *err)
{
    for (int i = 0; i < e->files.count && err->status == XQ_OK; i++) {
        char path[PATH_MAX];
        struct stat st;
        const char *name = e->files.files[i].name;
        if (snprintf(path, sizeof path, "%s/%s", e->o->out, name) < (int)sizeof path &&
            strcmp(name, "bundle.json") != 0 && !is_listed(earlier, name) && lstat(path, &st) == 0) {
            error_set(
                err, XQ_ERROR_ARGUMENT, "file",
                "--out: %s was not written by xq emit, and would be replaced; move it, or give another "
                "folder",
                path);
            error_at(err, path, 0);
        }
    }
    return err->status;
}

/* Whether a name of a manifest leads nowhere else than into the folder. */
static bool is_within(const char *name)
{
    return *name && *name != '/' && strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0 &&
           !strstr(name, "/../");
}

/* Removes the files that the earlier bundle had and this one has not, and folders that are empty then. */
static void remove_stale(const struct emitting *e, const cJSON *earlier)
{
    const cJSON *file;
    cJSON_ArrayForEach(file, cJSON_GetObjectItemCaseSensitive(earlier, "files"))
    {
        char path[PATH_MAX];
        if (!cJSON_IsString(file) || !is_within(file->valuestring) ||
            is_written(&e->files, file->valuestring) ||
            snprintf(path, sizeof path, "%s/%s", e->o->out, file->valuestring) >= (int)sizeof path)
            continue;
        unlink(path);
        for (char *slash; (slash = strrchr(path, '/')) && slash > path + strlen(e->o->out);) {
            *slash = 0;
            if (rmdir(path) != 0)
                break;
        }
    }
}

xq_status emit_write_folder(struct emitting *e, error *err)
{
    cJSON *earlier = read_manifest(e->o->out);
    if (check_strangers(e, earlier, err) == XQ_OK &&
        cli_file_set_write(&e->files, "--out", e->o->out, err) == XQ_OK)
        remove_stale(e, earlier);
    cJSON_Delete(earlier);
    return err->status;
}
