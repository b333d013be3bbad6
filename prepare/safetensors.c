#include "safetensors.h"

#include "../gen/json.h"
#include "../runtime/base/lfs_pointer.h"
#include "safetensors_header.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct shard {
    char *path;
    mapping file;
    cJSON *header;
};

struct safetensors {
    char *path; /* the path that was opened */
    struct shard *shards;
    int shard_count;
    tensor *tensors; /* sorted by name */
    int count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

/* ---------------------------------------------------------------- opening */

/* Opens one file, and adds its tensors behind the others. */
static xq_status add_shard(safetensors *s, const char *path, error *err)
{
    tensor *tensors = NULL;
    int count = 0;
    struct shard *shards = realloc(s->shards, sizeof *shards * (size_t)(s->shard_count + 1));
    if (!shards)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    s->shards = shards;
    struct shard *shard = &s->shards[s->shard_count];
    *shard = (struct shard){.path = strdup(path)};
    s->shard_count++;
    if (!shard->path)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    if (mapping_open(path, &shard->file, err) != XQ_OK ||
        safetensors_parse(shard->path, &shard->file, &shard->header, &tensors, &count, err) != XQ_OK)
        return err->status;
    tensor *all = realloc(s->tensors, sizeof *all * (size_t)(s->count + count + 1));
    if (all) {
        memcpy(all + s->count, tensors, sizeof *all * (size_t)count);
        s->tensors = all;
        s->count += count;
    } else {
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    }
    free(tensors);
    return err->status;
}

static xq_status bad_index(const char *path, error *err, const char *what, const char *name)
{
    error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s%s%.80s", path, what, name ? " " : "", name ? name : "");
    return error_at(err, path, 0);
}

/* Refuses model.safetensors beside an index that does not list it, because one of the two would be
 * ignored. */
static xq_status refuse_beside(const char *single, const char *index_path, const cJSON *map, error *err)
{
    const cJSON *entry;
    cJSON_ArrayForEach(entry, map)
    {
        const char *file = cJSON_GetStringValue(entry);
        if (file && strcmp(file, "model.safetensors") == 0)
            return XQ_OK;
    }
    error_set(err, XQ_ERROR_FORMAT, "file",
              "%s and %s are different checkpoints, because the index does not list the file; remove the "
              "one that is not the model's",
              single, index_path);
    return error_at(err, index_path, 0);
}

/* Opens each file that the index names once, and then checks that each tensor is in the file that the index
 * says. */
static xq_status add_shards(safetensors *s, const char *directory, const char *index_path,
                            const cJSON *index, error *err)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map"), *entry;
    char path[4096];
    if (!cJSON_IsObject(map))
        return bad_index(index_path, err, "needs a \"weight_map\" object", NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    if (access(path, F_OK) == 0 && refuse_beside(path, index_path, map, err) != XQ_OK)
        return err->status;
    cJSON_ArrayForEach(entry, map)
    {
        const char *file = cJSON_GetStringValue(entry);
        if (!file || !*file || strchr(file, '/') || file[0] == '.')
            return bad_index(index_path, err, "weight_map names no file of its folder for tensor",
                             entry->string);
        snprintf(path, sizeof path, "%s/%s", directory, file);
        bool known = false;
        for (int i = 0; i < s->shard_count && !known; i++)
            known = strcmp(s->shards[i].path, path) == 0;
        if (!known && add_shard(s, path, err) != XQ_OK)
            return err->status;
    }
    if (s->count > 0)
        qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
    for (int i = 1; i < s->count; i++)
        if (strcmp(s->tensors[i].name, s->tensors[i - 1].name) == 0)
            return bad_index(index_path, err, "two shards hold tensor", s->tensors[i].name);
    cJSON_ArrayForEach(entry, map)
    {
        const tensor *t = safetensors_find(s, entry->string);
        snprintf(path, sizeof path, "%s/%s", directory, entry->valuestring);
        if (!t || strcmp(t->file, path) != 0)
            return bad_index(
                path, err, "missing tensor that model.safetensors.index.json places here:", entry->string);
    }
    return XQ_OK;
}

static xq_status open_directory(safetensors *s, const char *directory, error *err)
{
    char single[4096], index_path[4096];
    snprintf(single, sizeof single, "%s/model.safetensors", directory);
    snprintf(index_path, sizeof index_path, "%s/model.safetensors.index.json", directory);
    if (access(index_path, F_OK) != 0) {
        if (access(single, F_OK) == 0)
            return add_shard(s, single, err);
        error_set(err, XQ_ERROR_IO, "file",
                  "%s holds neither model.safetensors nor model.safetensors.index.json", directory);
        return error_at(err, directory, 0);
    }
    mapping file;
    if (mapping_open(index_path, &file, err) != XQ_OK)
        return err->status;
    cJSON *index = NULL;
    if (lfs_pointer_refuse(index_path, file.data, file.size, err) == XQ_OK)
        index = json_parse(file.data ? (const char *)file.data : "", file.size, index_path, JSON_STRICT,
                           XQ_ERROR_FORMAT, err);
    mapping_close(&file);
    if (index && !cJSON_IsObject(index))
        bad_index(index_path, err, "is not a JSON object", NULL);
    else if (index)
        add_shards(s, directory, index_path, index, err);
    cJSON_Delete(index);
    return err->status;
}

xq_status safetensors_open(const char *path, safetensors **out, error *err)
{
    struct stat st;
    safetensors *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path)))
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        open_directory(s, path, err);
    else
        add_shard(s, path, err);
    if (err->status == XQ_OK)
        *out = s;
    else
        safetensors_close(s);
    return err->status;
}

void safetensors_close(safetensors *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->shard_count; i++) {
        mapping_close(&s->shards[i].file);
        cJSON_Delete(s->shards[i].header);
        free(s->shards[i].path);
    }
    free(s->shards);
    free(s->tensors);
    free(s->path);
    free(s);
}

/* ---------------------------------------------------------------- reading */

int safetensors_count(const safetensors *s)
{
    return s->count;
}

const tensor *safetensors_at(const safetensors *s, int index)
{
    return &s->tensors[index];
}

const tensor *safetensors_find(const safetensors *s, const char *name)
{
    tensor key = {.name = name};
    return s->count ? bsearch(&key, s->tensors, (size_t)s->count, sizeof key, by_name) : NULL;
}

xq_status safetensors_need(const safetensors *s, const char *name, const tensor **out, error *err)
{
    const tensor *t = safetensors_find(s, name);
    if (!t) {
        error_set(err, XQ_ERROR_FORMAT, "file", "%s: there is no tensor %s among its %d", s->path, name,
                  s->count);
        error_at(err, s->path, 0);
        return error_field(err, name);
    }
    *out = t;
    return XQ_OK;
}
