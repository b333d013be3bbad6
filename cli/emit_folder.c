/* The folder of a bundle: checks which of its files may be replaced, and writes it. */
#include "emit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bundle.json of a folder, parsed; NULL where the folder has none that xq emit wrote. */
static cJSON *read_manifest(const char *folder)
{
    char path[PATH_MAX], *text = NULL;
    size_t size = 0;
    error ignored = ERROR_INIT; /* a folder whose manifest cannot be read is no bundle */
    struct stat st;
    cJSON *manifest = NULL;
    if (snprintf(path, sizeof path, "%s/bundle.json", folder) < (int)sizeof path && lstat(path, &st) == 0 &&
        S_ISREG(st.st_mode) && cli_read_file(path, &text, &size, &ignored) == XQ_OK)
        manifest = cJSON_Parse(text);
    free(text);
    error_clear(&ignored);
    if (cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(manifest, "files")) &&
        cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(manifest, "plans")) > 0 &&
        cJSON_IsString(cJSON_GetObjectItemCaseSensitive(manifest, "version")) &&
        cJSON_IsString(cJSON_GetObjectItemCaseSensitive(manifest, "prefix")))
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

/* Any entry of the folder except "." and ".."; NULL where there is none, or no folder. */
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
        error_set(err, XQ_ERROR_ARGUMENT, "file",
                  "--out: the folder %s holds %s, and is no bundle that xq emit wrote; valid: a new "
                  "folder, an empty one, or an earlier bundle",
                  folder, entry);
        error_at(err, folder, 0);
    }
    free(entry);
    cJSON_Delete(manifest);
    return err->status;
}

/* The kind of thing that stands at a name within the folder. A link in its place, or on the way to it,
 * leads out of the folder, and counts as PLACE_OTHER. */
enum place { PLACE_FREE, PLACE_FILE, PLACE_OTHER };

static enum place look_at(const char *folder, const char *name, char path[PATH_MAX])
{
    struct stat st;
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        return PLACE_OTHER;
    for (char *slash = path + strlen(folder); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        const bool exists = lstat(path, &st) == 0;
        if (exists && !S_ISDIR(st.st_mode))
            return PLACE_OTHER; /* `path` names the obstacle */
        *slash = '/';
        if (!exists)
            return PLACE_FREE;
    }
    if (lstat(path, &st) != 0)
        return PLACE_FREE;
    return S_ISREG(st.st_mode) ? PLACE_FILE : PLACE_OTHER;
}

/* Refuses to replace anything that the earlier bundle does not list, because it belongs to somebody
 * else. */
static xq_status check_strangers(const struct emitting *e, const cJSON *earlier, error *err)
{
    for (int i = 0; i < e->files.count && err->status == XQ_OK; i++) {
        char path[PATH_MAX];
        const char *name = e->files.files[i].name;
        const enum place place = look_at(e->o->out, name, path);
        const bool own = strcmp(name, "bundle.json") == 0 || is_listed(earlier, name);
        if (place == PLACE_FREE || (place == PLACE_FILE && own))
            continue;
        error_set(err, XQ_ERROR_ARGUMENT, "file",
                  "--out: xq emit did not write %s, and would replace it; move it, or give another folder",
                  path);
        error_at(err, path, 0);
    }
    return err->status;
}

/* Whether a name from a manifest cannot lead out of the folder. */
static bool is_within(const char *name)
{
    return *name && *name != '/' && strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0 &&
           !strstr(name, "/../");
}

/* Removes the files that the earlier bundle had and this one has not, and folders that are then empty. */
static void remove_stale(const struct emitting *e, const cJSON *earlier)
{
    const cJSON *file;
    cJSON_ArrayForEach(file, cJSON_GetObjectItemCaseSensitive(earlier, "files"))
    {
        char path[PATH_MAX];
        if (!cJSON_IsString(file) || !is_within(file->valuestring) ||
            cli_file_set_has(&e->files, file->valuestring) ||
            look_at(e->o->out, file->valuestring, path) != PLACE_FILE)
            continue;
        unlink(path);
        for (char *slash; (slash = strrchr(path, '/')) && slash > path + strlen(e->o->out);) {
            *slash = 0;
            if (rmdir(path) != 0)
                break;
        }
    }
}

/* ----------------------------------------------------------------- writing */

xq_status emit_lock_folder(const char *folder, error *err)
{
    /* The folder stays locked until the process ends. */
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0)
        return XQ_OK;
    if (errno == EWOULDBLOCK)
        error_set(err, XQ_ERROR_IO, "file",
                  "--out: another xq emit is writing into %s; wait until it has ended", folder);
    else /* the file system has no locks */
        return XQ_OK;
    return error_at(err, folder, 0);
}

/* Writes the manifest for the time in which files of both bundles are there: this bundle's manifest, but
 * listing the files of both. If the process is killed now, the next emit still recognizes the folder. */
static xq_status write_transition(const struct emitting *e, const cJSON *earlier, error *err)
{
    const struct cli_file *last = &e->files.files[e->files.count - 1];
    char path[PATH_MAX];
    publication *file = NULL;
    cJSON *manifest = cJSON_ParseWithLength(last->data, last->size);
    cJSON *files = cJSON_GetObjectItemCaseSensitive(manifest, "files");
    const cJSON *name;
    cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(earlier, "files"))
    {
        if (cJSON_IsString(name))
            cJSON_AddItemToArray(files, cJSON_CreateString(name->valuestring));
    }
    char *text = cJSON_PrintUnformatted(manifest);
    snprintf(path, sizeof path, "%s/%s", e->o->out, last->name);
    if (!text)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    else if (publish_begin(path, &file, err) == XQ_OK) {
        if (publish_write(file, text, strlen(text), err) == XQ_OK)
            publish_commit(file, err);
        else
            publish_keep(file);
    }
    cJSON_free(text);
    cJSON_Delete(manifest);
    return err->status;
}

xq_status emit_write_folder(struct emitting *e, error *err)
{
    cJSON *earlier = read_manifest(e->o->out);
    if (check_strangers(e, earlier, err) == XQ_OK &&
        cli_file_set_begin(&e->files, "--out", e->o->out, err) == XQ_OK) {
        cli_hold_signals();
        if (write_transition(e, earlier, err) == XQ_OK && cli_file_set_commit(&e->files, err) == XQ_OK)
            remove_stale(e, earlier);
        cli_release_signals();
    }
    cJSON_Delete(earlier);
    return err->status;
}
