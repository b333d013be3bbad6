#include "xqw_write.h"

#include "../runtime/shape.h"
#include "packing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct xqw_writer {
    char *path;
    publication *file;
    tensor_type store;
    bool packed;
    struct writer_method {
        layer_shape shape;
        struct shape packing;
    } methods[XQW_MOST_METHODS];
    int base_layer; /* 0: all layers have the first method */
    int *layers, layer_count, done;
    double (*lost)[2];
    char note[1200];
};

static xq_status no_memory(const char *path, error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
}

/* ------------------------------------------------------------------- head */

/* The model of a completed spec; where layers are of several kinds, without what the spec chose for one of
 * them; and without a choice of LongRoPE's table. */
static cJSON *describe_model(const char *completed_json)
{
    static const char *const chosen[] = {"layer_kind", "rope", "sliding_window"};
    cJSON *spec = cJSON_Parse(completed_json),
          *model = cJSON_DetachItemFromObjectCaseSensitive(spec, "model");
    for (size_t i = 0; i < sizeof chosen / sizeof chosen[0] && cJSON_HasObjectItem(model, "layer_kinds");
         i++)
        cJSON_DeleteItemFromObjectCaseSensitive(model, chosen[i]);
    cJSON *rope = cJSON_GetObjectItemCaseSensitive(model, "rope");
    cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(rope, "scaling"), "table");
    cJSON_Delete(spec);
    return model;
}

/* The text by which unfinished files are known: it holds everything that decides what the file will be. */
static char *head_text(const xqw_contents *c)
{
    char hash[20];
    cJSON *head = cJSON_CreateObject(), *methods, *layers;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)c->source);
    cJSON_AddStringToObject(head, "xq", xq_version());
    cJSON_AddStringToObject(head, "source", hash);
    cJSON_AddItemToObject(head, "model", describe_model(c->specs[0]));
    methods = cJSON_AddArrayToObject(head, "methods");
    for (int i = 0; i < XQW_MOST_METHODS && c->specs[i]; i++)
        cJSON_AddItemToArray(methods, packing_describe(c->specs[i], c->packed));
    if (c->specs[1])
        cJSON_AddNumberToObject(head, "base_layer", c->base_layer);
    if (c->store != TENSOR_OTHER)
        cJSON_AddStringToObject(head, "store", xqw_type_name(c->store));
    layers = cJSON_AddArrayToObject(head, "layers");
    for (int i = 0; i < c->layer_count; i++)
        cJSON_AddItemToArray(layers, cJSON_CreateNumber(c->layers[i]));
    char *text = cJSON_PrintUnformatted(head);
    cJSON_Delete(head);
    return text;
}

static void put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static void make_prefix(uint8_t prefix[XQW_PREFIX_BYTES], uint64_t bytes)
{
    memset(prefix, 0, XQW_PREFIX_BYTES);
    memcpy(prefix, XQW_MAGIC, 8);
    put(prefix + XQW_AT_VERSION, XQW_VERSION, 4);
    put(prefix + XQW_AT_BYTES, bytes, 8);
    put(prefix + XQW_AT_HASH, XXH3_64bits(prefix, XQW_AT_HASH), 8);
}

/* At the next multiple of 256. */
static xq_status write_record(xqw_writer *w, const char *text, error *err)
{
    uint8_t start[XQW_RECORD_BYTES];
    size_t size = strlen(text);
    put(start, size, 8);
    put(start + 8, XXH3_64bits(text, size), 8);
    publish_pad(w->file, xqw_align(publish_position(w->file)), err);
    if (err->status == XQ_OK && publish_write(w->file, start, sizeof start, err) == XQ_OK)
        publish_write(w->file, text, size, err);
    return err->status;
}

/* --------------------------------------------------------------- beginning */

static xq_status begin_anew(xqw_writer *w, const char *text, error *err)
{
    uint8_t prefix[XQW_PREFIX_BYTES];
    make_prefix(prefix, 0);
    if (publish_cut(w->file, 0, err) == XQ_OK &&
        publish_write(w->file, prefix, sizeof prefix, err) == XQ_OK)
        write_record(w, text, err);
    return err->status;
}

static xq_status begin(xqw_writer *w, const char *text, error *err)
{
    char why[1024];
    uint64_t end;
    if (!publish_resumes(w->file))
        snprintf(w->note, sizeof w->note, "%s: another process prepares it now; this one cannot be resumed",
                 w->path);
    if (publish_position(w->file) == 0)
        return begin_anew(w, text, err);
    int done = xqw_resume(publish_temporary(w->file), text, w->lost, &end, why, sizeof why);
    if (done < 0) {
        snprintf(w->note, sizeof w->note, "%s; starting anew", why);
        return begin_anew(w, text, err);
    }
    snprintf(w->note, sizeof w->note, "%s: %d of %d layers are done", publish_temporary(w->file), done,
             w->layer_count);
    w->done = done;
    return publish_cut(w->file, end, err);
}

static xq_status read_methods(xqw_writer *w, const xqw_contents *c, error *err)
{
    for (int i = 0; i < XQW_MOST_METHODS && c->specs[i]; i++)
        if (layer_shape_read(c->specs[i], &w->methods[i].shape, err) != XQ_OK ||
            (c->packed && shape_read(c->specs[i], &w->methods[i].packing, err) != XQ_OK))
            return err->status;
    return XQ_OK;
}

xq_status xqw_create_in(publication *file, const xqw_contents *c, xqw_writer **out, error *err)
{
    const char *path = publish_path(file);
    xqw_writer *w = calloc(1, sizeof *w);
    char *text = head_text(c);
    if (w) {
        w->file = file;
        w->path = strdup(path);
        w->store = c->store;
        w->packed = c->packed;
        w->base_layer = c->specs[1] ? c->base_layer : 0;
        w->layer_count = c->layer_count;
        w->layers = malloc(sizeof *w->layers * (size_t)(c->layer_count + 1));
        w->lost = calloc((size_t)c->layer_count + 1, sizeof *w->lost);
    }
    bool begun = false; /* before that, what an earlier writer left is not judged */
    if (!w || !text || !w->path || !w->layers || !w->lost) {
        no_memory(path, err);
    } else {
        memcpy(w->layers, c->layers, sizeof *w->layers * (size_t)c->layer_count);
        begun = read_methods(w, c, err) == XQ_OK;
        if (begun)
            begin(w, text, err);
    }
    free(text);
    if (err->status == XQ_OK)
        *out = w;
    else if (!w)
        publish_keep(file);
    else if (begun && w->done == 0)
        xqw_abandon(w);
    else
        xqw_keep(w);
    return err->status;
}

xq_status xqw_create(const char *path, const xqw_contents *c, xqw_writer **out, error *err)
{
    publication *file;
    return publish_resume(path, &file, err) == XQ_OK ? xqw_create_in(file, c, out, err) : err->status;
}

int xqw_done(const xqw_writer *w)
{
    return w->done;
}

const char *xqw_note(const xqw_writer *w)
{
    return w->note;
}

void xqw_lost(const xqw_writer *w, int index, double lost[2])
{
    memcpy(lost, w->lost[index], sizeof w->lost[index]);
}

/* ----------------------------------------------------------------- layers */

static cJSON *describe_blob(const xqw_blob *blob, uint64_t offset)
{
    char hash[20];
    cJSON *entry = cJSON_CreateObject();
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)blob->hash);
    if (blob->name) {
        cJSON_AddStringToObject(entry, "name", blob->name);
        cJSON_AddNumberToObject(entry, "rows", blob->rows);
        cJSON_AddNumberToObject(entry, "cols", blob->cols);
        cJSON_AddStringToObject(entry, "type", blob->type);
    }
    cJSON_AddNumberToObject(entry, "offset", (double)offset);
    cJSON_AddStringToObject(entry, "xxh3", hash);
    return entry;
}

/* The record's text with its blobs from `at` on. */
static char *describe_layer(const xqw_writer *w, const xqw_blob *blobs, int count, const double lost[2],
                            uint64_t at)
{
    cJSON *entry = cJSON_CreateObject(), *matrices;
    uint64_t end = at;
    cJSON_AddNumberToObject(entry, "layer", w->layers[w->done]);
    cJSON_AddNumberToObject(entry, "lost_k", lost[0]);
    cJSON_AddNumberToObject(entry, "lost_v", lost[1]);
    matrices = cJSON_AddArrayToObject(entry, "matrices");
    for (int i = 0; i < count; i++) {
        uint64_t offset = xqw_align(end);
        cJSON *blob = describe_blob(&blobs[i], offset);
        if (blobs[i].name)
            cJSON_AddItemToArray(matrices, blob);
        else
            cJSON_AddItemToObject(entry, "packed", blob);
        end = offset + blobs[i].bytes;
    }
    cJSON_AddNumberToObject(entry, "end", (double)end);
    char *text = cJSON_PrintUnformatted(entry);
    cJSON_Delete(entry);
    return text;
}

/* Where blobs begin depends on the text's size, and the text on where they begin: the first place behind
 * it. */
static char *place_layer(const xqw_writer *w, const xqw_blob *blobs, int count, const double lost[2])
{
    uint64_t record = xqw_align(publish_position(w->file)) + XQW_RECORD_BYTES;
    for (uint64_t at = xqw_align(record);; at += XQW_ALIGN) {
        char *text = describe_layer(w, blobs, count, lost, at);
        if (!text || record + strlen(text) <= at)
            return text;
        free(text);
    }
}

static xq_status write_layer(xqw_writer *w, const xqw_blob *blobs, int count, const double lost[2],
                             error *err)
{
    char *text = place_layer(w, blobs, count, lost);
    if (!text)
        return no_memory(w->path, err);
    write_record(w, text, err);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        if (publish_pad(w->file, xqw_align(publish_position(w->file)), err) == XQ_OK)
            publish_write(w->file, blobs[i].data, blobs[i].bytes, err);
    free(text);
    return err->status == XQ_OK ? publish_flush(w->file, err) : err->status;
}

xq_status xqw_add_layer(xqw_writer *w, const layer_weights *given, const double lost[2], error *err)
{
    xqw_blob blobs[XQW_MOST_BLOBS];
    int count = 0, layer = w->layers[w->done];
    const struct writer_method *m = &w->methods[layer < w->base_layer];
    if (xqw_encode(w->path, layer, &m->shape, w->store, w->packed ? &m->packing : NULL, given, blobs,
                   &count, err) == XQ_OK &&
        write_layer(w, blobs, count, lost, err) == XQ_OK)
        memcpy(w->lost[w->done++], lost, sizeof w->lost[0]);
    xqw_blobs_free(blobs, count);
    return err->status;
}

/* ------------------------------------------------------------------- ends */

static void release(xqw_writer *w)
{
    free(w->path);
    free(w->layers);
    free(w->lost);
    free(w);
}

xq_status xqw_commit(xqw_writer *w, error *err)
{
    uint8_t prefix[XQW_PREFIX_BYTES];
    make_prefix(prefix, publish_position(w->file));
    if (w->done < w->layer_count)
        error_set(err, XQ_ERROR_INTERNAL, "file", "%s: %d of %d layers", w->path, w->done, w->layer_count);
    if (err->status == XQ_OK && publish_patch(w->file, 0, prefix, sizeof prefix, err) == XQ_OK)
        publish_commit(w->file, err);
    else
        publish_keep(w->file);
    release(w);
    return err->status;
}

void xqw_abandon(xqw_writer *w)
{
    if (!w)
        return;
    publish_abandon(w->file);
    release(w);
}

void xqw_keep(xqw_writer *w)
{
    if (!w)
        return;
    publish_keep(w->file);
    release(w);
}
