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

static char *joined(const char *directory, const char *name)
{
    char *path = room(strlen(directory) + strlen(name) + 2, 1);
    sprintf(path, "%s/%s", directory, name);
    return path;
}

/* Takes ownership of `path`. */
static void open_shard(shard *s, char *path)
{
    uint64_t header = 0;
    s->path = path;
    s->map = map_file(s->path, &s->size);
    for (int i = 0; i < PREFIX && s->size >= PREFIX; i++)
        header |= (uint64_t)s->map[i] << 8 * i;
    if (s->size < PREFIX || header > s->size - PREFIX)
        fail(EXIT_INPUT, "%s: this is no safetensors file, or it is truncated", s->path);
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
        fail(EXIT_INPUT, "%s: this is no JSON object with a \"weight_map\"", path);
    return files;
}

/* Opens each shard that the index names, once. */
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
            open_shard(&t->shards[t->count++], joined(directory, name));
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
    open_shard(t->shards, joined(directory, "model.safetensors"));
    return t;
}

tensors *tensors_open_file(const char *path)
{
    tensors *t = room(1, sizeof *t);
    t->count = 1;
    t->shards = room(1, sizeof *t->shards);
    open_shard(t->shards, strdup(path));
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

/* ---------------------------------------------------------------- checksum */

enum { LANES = 8, STEP = LANES * (int)sizeof(uint64_t) };

/* FNV-1a over 64-bit words, in eight independent lanes: within a lane each product has to wait for the
 * product before it. */
static uint64_t checksum_of(uint64_t seed, const uint8_t *bytes, size_t count)
{
    const uint64_t prime = 0x100000001b3;
    uint64_t lane[LANES], word, sum = seed ^ count;
    size_t i = 0;
    for (int j = 0; j < LANES; j++)
        lane[j] = 0xcbf29ce484222325 + (uint64_t)j;
    for (; i + STEP <= count; i += STEP)
        for (int j = 0; j < LANES; j++) {
            memcpy(&word, bytes + i + (size_t)j * sizeof word, sizeof word);
            lane[j] = (lane[j] ^ word) * prime;
        }
    for (; i < count; i++)
        sum = (sum ^ bytes[i]) * prime;
    for (int j = 0; j < LANES; j++) {
        sum = (sum ^ lane[j]) * prime;
        sum ^= sum >> 32; /* products only carry upwards, so high bits are folded into low ones */
    }
    return sum;
}

uint64_t tensors_checksum(const tensors *t)
{
    uint64_t sum = 0;
    for (int i = 0; i < t->count; i++)
        sum = checksum_of(sum, t->shards[i].map, t->shards[i].size);
    return sum;
}

/* ------------------------------------------------------------------ reading */

const char *tensors_note(const tensors *t, const char *name)
{
    const cJSON *notes = cJSON_GetObjectItemCaseSensitive(t->shards[0].header, "__metadata__");
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(notes, name));
}

static const cJSON *find(const tensors *t, const char *name, const shard **where)
{
    for (int i = 0; i < t->count; i++) {
        const cJSON *entry = cJSON_GetObjectItemCaseSensitive(t->shards[i].header, name);
        *where = &t->shards[i];
        if (entry)
            return entry;
    }
    fail(EXIT_INPUT, "%s: the tensor %s is missing", t->shards[0].path, name);
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

/* A table of all 65536 values makes converting f16 as fast as bf16. */
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

/* The entry's type. It must be one of `types`. */
static const char *type_of(const shard *s, const cJSON *entry, const char *const *types, const char *valid)
{
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "dtype"));
    for (; type && *types; types++)
        if (strcmp(type, *types) == 0)
            return type;
    fail(EXIT_INPUT, "%s: %s has the type %s; valid: %s", s->path, entry->string, type ? type : "(none)",
         valid);
}

/* The address of the entry's elements, of `width` bytes each. */
static const uint8_t *data_of(const shard *s, const cJSON *entry, int width, int64_t rows, int64_t cols)
{
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    check_shape(s->path, entry->string, cJSON_GetObjectItemCaseSensitive(entry, "shape"), rows, cols);
    size_t bytes = (size_t)((rows > 0 ? rows : 1) * cols * width);
    double begin = number(offsets, 0), end = number(offsets, 1);
    if (!(begin >= 0) || end - begin != (double)bytes || end > (double)s->data_size)
        fail(EXIT_INPUT, "%s: %s lies at bytes %.0f to %.0f of %zu, and should have %zu bytes", s->path,
             entry->string, begin, end, s->data_size, bytes);
    return s->data + (size_t)begin;
}

float *tensors_read(const tensors *t, const char *name, int64_t rows, int64_t cols)
{
    const shard *s;
    const cJSON *entry = find(t, name, &s);
    const char *type =
        type_of(s, entry, (const char *const[]){"F32", "F16", "BF16", NULL}, "F32, F16 and BF16");
    const uint8_t *data = data_of(s, entry, strcmp(type, "F32") == 0 ? 4 : 2, rows, cols);
    const size_t count = (size_t)((rows > 0 ? rows : 1) * cols);
    float *values = room(count, sizeof *values);
    widen(type, data, count, values);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            fail(EXIT_INPUT, "%s: %s holds %g at element %zu; every value must be finite", s->path, name,
                 (double)values[i], i);
    return values;
}

const void *tensors_view(const tensors *t, const char *name, const char *type, int64_t rows, int64_t cols)
{
    const shard *s;
    const cJSON *entry = find(t, name, &s);
    type_of(s, entry, (const char *const[]){type, NULL}, type);
    return data_of(s, entry, 4, rows, cols);
}
