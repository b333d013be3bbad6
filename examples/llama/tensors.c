#include "tensors.h"
#include "arithmetic.h"
#include "fail.h"

#include <cjson/cJSON.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREFIX = 8 }; /* a safetensors file: u64 header size, JSON header, data */

typedef struct shard {
    char *path;
    const uint8_t *map, *data;
    size_t size, data_size;
    cJSON *header;
} shard;

struct tensors {
    int count;
    shard *shards;
};

/* ------------------------------------------------------------------- files */

static const uint8_t *map_file(const char *path, size_t *size)
{
    struct stat st;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0)
        fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
    *size = (size_t)st.st_size;
    void *map = *size > 0 ? mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        fail(EXIT_INPUT, "%s: %s", path, *size > 0 ? strerror(errno) : "the file is empty");
    close(file);
    return map;
}

static void open_shard(shard *s, const char *directory, const char *name)
{
    uint64_t header = 0;
    s->path = room(strlen(directory) + strlen(name) + 2, 1);
    sprintf(s->path, "%s/%s", directory, name);
    s->map = map_file(s->path, &s->size);
    for (int i = 0; i < PREFIX && s->size >= PREFIX; i++)
        header |= (uint64_t)s->map[i] << 8 * i;
    if (s->size < PREFIX || header > s->size - PREFIX)
        fail(EXIT_INPUT, "%s: not a safetensors file, or a truncated one", s->path);
    s->header = cJSON_ParseWithLength((const char *)s->map + PREFIX, header);
    if (!cJSON_IsObject(s->header))
        fail(EXIT_INPUT, "%s: its header is no JSON object", s->path);
    s->data = s->map + PREFIX + header;
    s->data_size = s->size - PREFIX - header;
}

static cJSON *read_index(const char *path)
{
    size_t size;
    const uint8_t *map = map_file(path, &size);
    cJSON *index = cJSON_ParseWithLength((const char *)map, size);
    munmap((void *)map, size);
    cJSON *files = cJSON_DetachItemFromObjectCaseSensitive(index, "weight_map");
    cJSON_Delete(index);
    if (!cJSON_IsObject(files))
        fail(EXIT_INPUT, "%s: no JSON object with a \"weight_map\"", path);
    return files;
}

/* The shards that the index names, each once. */
static void open_shards(tensors *t, const char *directory, const cJSON *files)
{
    const cJSON *file;
    t->shards = room((size_t)cJSON_GetArraySize(files), sizeof *t->shards);
    cJSON_ArrayForEach(file, files)
    {
        const char *name = cJSON_GetStringValue(file);
        bool known = false;
        if (!name || strchr(name, '/'))
            fail(EXIT_INPUT, "%s/model.safetensors.index.json: %s is in no file of this directory",
                 directory, file->string);
        for (int i = 0; i < t->count && !known; i++)
            known = strcmp(strrchr(t->shards[i].path, '/') + 1, name) == 0;
        if (!known)
            open_shard(&t->shards[t->count++], directory, name);
    }
}

tensors *tensors_open(const char *directory)
{
    tensors *t = room(1, sizeof *t);
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", directory);
    if (access(path, F_OK) == 0) {
        cJSON *files = read_index(path);
        open_shards(t, directory, files);
        cJSON_Delete(files);
        return t;
    }
    t->count = 1;
    t->shards = room(1, sizeof *t->shards);
    open_shard(t->shards, directory, "model.safetensors");
    return t;
}

void tensors_close(tensors *t)
{
    for (int i = 0; i < t->count; i++) {
        cJSON_Delete(t->shards[i].header);
        munmap((void *)t->shards[i].map, t->shards[i].size);
        free(t->shards[i].path);
    }
    free(t->shards);
    free(t);
}

/* ------------------------------------------------------------------ reading */

static const cJSON *find(const tensors *t, const char *name, const shard **where)
{
    for (int i = 0; i < t->count; i++) {
        const cJSON *entry = cJSON_GetObjectItemCaseSensitive(t->shards[i].header, name);
        *where = &t->shards[i];
        if (entry)
            return entry;
    }
    return NULL;
}

static double number(const cJSON *list, int i)
{
    const cJSON *item = cJSON_GetArrayItem(list, i);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static void check_shape(const char *path, const char *name, const cJSON *shape, int64_t rows, int64_t cols)
{
    int rank = cJSON_GetArraySize(shape), wanted = rows > 0 ? 2 : 1;
    if (rank == wanted && number(shape, rank - 1) == (double)cols &&
        (rank == 1 || number(shape, 0) == (double)rows))
        return;
    char *text = cJSON_PrintUnformatted(shape);
    if (rows > 0)
        fail(EXIT_INPUT, "%s: %s has the shape %s; expected [%lld,%lld]", path, name,
             text ? text : "(none)", (long long)rows, (long long)cols);
    fail(EXIT_INPUT, "%s: %s has the shape %s; expected [%lld]", path, name, text ? text : "(none)",
         (long long)cols);
}

static float from_bfloat(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* A table makes f16 as fast as bf16. */
static void widen_halves(const uint8_t *data, size_t count, float *values)
{
    static float table[65536];
    uint16_t bits;
    if (table[1] == 0)
        for (int i = 0; i < 65536; i++)
            table[i] = half_value((uint16_t)i);
    for (size_t i = 0; i < count; i++) {
        memcpy(&bits, data + 2 * i, 2);
        values[i] = table[bits];
    }
}

static void widen(const char *type, const uint8_t *data, size_t count, float *values)
{
    uint16_t bits;
    if (strcmp(type, "F32") == 0) {
        memcpy(values, data, 4 * count);
    } else if (strcmp(type, "F16") == 0) {
        widen_halves(data, count, values);
    } else {
        for (size_t i = 0; i < count; i++) {
            memcpy(&bits, data + 2 * i, 2);
            values[i] = from_bfloat(bits);
        }
    }
}

float *tensors_read(const tensors *t, const char *name, int64_t rows, int64_t cols)
{
    const shard *s;
    const cJSON *entry = find(t, name, &s);
    if (!entry)
        fail(EXIT_INPUT, "%s: the tensor %s is missing", t->shards[0].path, name);
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "dtype"));
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    if (!type || (strcmp(type, "F32") != 0 && strcmp(type, "F16") != 0 && strcmp(type, "BF16") != 0))
        fail(EXIT_INPUT, "%s: %s has the type %s; valid are F32, F16 and BF16", s->path, name,
             type ? type : "(none)");
    check_shape(s->path, name, cJSON_GetObjectItemCaseSensitive(entry, "shape"), rows, cols);
    size_t count = (size_t)((rows > 0 ? rows : 1) * cols),
           bytes = count * (strcmp(type, "F32") == 0 ? 4 : 2);
    double begin = number(offsets, 0), end = number(offsets, 1);
    if (!(begin >= 0) || end - begin != (double)bytes || end > (double)s->data_size)
        fail(EXIT_INPUT, "%s: %s lies at bytes %.0f to %.0f of %zu, and should have %zu", s->path, name,
             begin, end, s->data_size, bytes);
    float *values = room(count, sizeof *values);
    widen(type, s->data + (size_t)begin, count, values);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            fail(EXIT_INPUT, "%s: %s holds %g at element %zu", s->path, name, (double)values[i], i);
    return values;
}

/* ------------------------------------------------------------------ writing */

struct tensor_writer {
    FILE *file;
    char *path, *temporary;
    int64_t rows, cols, written;
};

tensor_writer *tensor_writer_open(const char *path, const char *name, int64_t rows, int64_t cols)
{
    tensor_writer *w = room(1, sizeof *w);
    char header[512];
    w->path = strdup(path);
    w->temporary = room(strlen(path) + 32, 1);
    sprintf(w->temporary, "%s.%ld.tmp", path, (long)getpid());
    w->rows = rows;
    w->cols = cols;
    int length = snprintf(header, sizeof header,
                          "{\"%s\":{\"dtype\":\"F32\",\"shape\":[%lld,%lld],\"data_offsets\":[0,%lld]}}",
                          name, (long long)rows, (long long)cols, (long long)(4 * rows * cols));
    for (; length % 8 != 0; length++)
        header[length] = ' ';
    uint8_t size[PREFIX] = {(uint8_t)length, (uint8_t)(length >> 8)};
    w->file = fopen(w->temporary, "wb");
    if (!w->file || fwrite(size, 1, PREFIX, w->file) != PREFIX ||
        fwrite(header, 1, (size_t)length, w->file) != (size_t)length)
        fail(EXIT_INPUT, "%s: %s", w->temporary, strerror(errno));
    return w;
}

static void give_up(const tensor_writer *w)
{
    int why = errno;
    unlink(w->temporary);
    fail(EXIT_INPUT, "%s: %s", w->path, strerror(why));
}

void tensor_writer_add(tensor_writer *w, const float *values, int64_t rows)
{
    size_t count = (size_t)(rows * w->cols);
    if (fwrite(values, sizeof *values, count, w->file) != count)
        give_up(w);
    w->written += rows;
}

void tensor_writer_close(tensor_writer *w)
{
    bool whole = w->written == w->rows && fflush(w->file) == 0 && fsync(fileno(w->file)) == 0;
    whole = fclose(w->file) == 0 && whole;
    if (!whole || rename(w->temporary, w->path) != 0)
        give_up(w);
    free(w->path);
    free(w->temporary);
    free(w);
}
