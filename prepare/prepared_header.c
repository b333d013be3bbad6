/* Makes the beginning of a file of prepared weights, and the offsets of its tensors. */
#include "packing.h"
#include "prepared_write.h"
#include "safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char no_checksum[] = "0000000000000000";

void prepared_put_digits(char *digits, uint64_t hash)
{
    char text[PREPARED_DIGITS + 1];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    memcpy(digits, text, PREPARED_DIGITS);
}

/* --------------------------------------------------------------- metadata */

/* The model of a completed spec, without the members that depend on choices: the choice of one kind of
 * layer, where there are several kinds, and the choice of LongRoPE's table. */
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

/* Adds the value's JSON text, and deletes the value. */
static void add_text(cJSON *metadata, const char *key, cJSON *value)
{
    char *text = value ? cJSON_PrintUnformatted(value) : NULL;
    if (text)
        cJSON_AddStringToObject(metadata, key, text);
    cJSON_Delete(value);
    free(text);
}

static void add_method(cJSON *metadata, const prepared_contents *c, const char *completed_json,
                       const char *spec_key, const char *packing_key)
{
    cJSON *kept = packing_describe(completed_json, c->packed), *spec = cJSON_CreateObject();
    cJSON_AddItemToObject(spec, "model", describe_model(c->specs[0]));
    cJSON_AddItemToObject(spec, "cache", cJSON_DetachItemFromObjectCaseSensitive(kept, "cache"));
    add_text(metadata, spec_key, spec);
    add_text(metadata, packing_key, cJSON_DetachItemFromObjectCaseSensitive(kept, "packing"));
    cJSON_Delete(kept);
}

/* Describes everything that determines the contents of the file. */
static cJSON *describe(const prepared_contents *c)
{
    static const char *const stores[] = {"F32", "F16", "BF16"};
    char hash[PREPARED_DIGITS + 1] = "";
    cJSON *metadata = cJSON_CreateObject();
    prepared_put_digits(hash, c->source);
    cJSON_AddStringToObject(metadata, "xq_prepared", PREPARED_VERSION);
    cJSON_AddStringToObject(metadata, PREPARED_CHECKSUM, no_checksum);
    cJSON_AddStringToObject(metadata, "xq", xq_version());
    cJSON_AddStringToObject(metadata, "source", hash);
    add_method(metadata, c, c->specs[0], "spec", "packing");
    if (c->specs[1]) {
        add_method(metadata, c, c->specs[1], "plain_spec", "plain_packing");
        add_text(metadata, "base_layer", cJSON_CreateNumber(c->base_layer));
    }
    if (c->store != TENSOR_OTHER)
        cJSON_AddStringToObject(metadata, "store", stores[c->store]);
    add_text(metadata, "layers", cJSON_CreateIntArray(c->layers, c->layer_count));
    return metadata;
}

/* ----------------------------------------------------------------- places */

/* Places a tensor at the next offset that is aligned for it, relative to the first tensor, and moves *end
 * behind it. */
static void place(prepared_header *h, const prepared_tensor *t, int index, int *paddings, uint64_t *end)
{
    size_t gap = (t->align - *end % t->align) % t->align;
    if (gap) {
        struct prepared_placed *p = &h->tensors[h->count++];
        *p = (struct prepared_placed){.at = *end, .index = index};
        p->tensor.form = (tensor){
            .type = TENSOR_OTHER, .type_name = "U8", .rank = 1, .shape = {(int64_t)gap}, .bytes = gap};
        snprintf(p->tensor.name, sizeof p->tensor.name, PREPARED_PADDING "%d", (*paddings)++);
        *end += gap;
    }
    h->tensors[h->count++] = (struct prepared_placed){.tensor = *t, .at = *end, .index = index};
    *end += t->form.bytes;
}

static bool place_all(prepared_header *h)
{
    uint64_t end = 0;
    int paddings = 0;
    h->tensors = calloc((size_t)h->head.layer_count * 2 * PREPARED_MOST_TENSORS, sizeof *h->tensors);
    for (int i = 0; h->tensors && i < h->head.layer_count; i++) {
        prepared_tensor own[PREPARED_MOST_TENSORS];
        int count = prepared_tensors(&h->head, h->head.layers[i], own);
        for (int j = 0; j < count; j++)
            place(h, &own[j], i, &paddings, &end);
    }
    return h->tensors != NULL;
}

/* Writes the header's text, with zeros in place of the checksums. */
static bool write_text(prepared_header *h)
{
    tensor *all = calloc((size_t)h->count, sizeof *all);
    for (int i = 0; all && i < h->count; i++) {
        const prepared_tensor *t = &h->tensors[i].tensor;
        all[i] = t->form;
        all[i].name = t->name;
        if (*t->key)
            cJSON_AddStringToObject(h->metadata, t->key, no_checksum);
    }
    if (all)
        h->text = safetensors_make_header(all, h->count, h->metadata, PREPARED_PACKED_ALIGN, &h->bytes);
    free(all);
    if (!h->text || !(h->checksum = prepared_digits(h->text, h->bytes, PREPARED_CHECKSUM)))
        return false;
    char *from = h->checksum, *end = h->text + h->bytes;
    for (int i = 0; i < h->count; i++) {
        struct prepared_placed *p = &h->tensors[i];
        p->at += h->bytes;
        if (*p->tensor.key &&
            !(from = p->checksum = prepared_digits(from, (size_t)(end - from), p->tensor.key)))
            return false;
    }
    return true;
}

xq_status prepared_header_make(const char *path, const prepared_contents *c, prepared_header *out,
                               error *err)
{
    prepared_header h = {.metadata = describe(c)};
    if (prepared_head_read(path, h.metadata, &h.head, err) == XQ_OK && (!place_all(&h) || !write_text(&h)))
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    if (err->status == XQ_OK)
        *out = h;
    else
        prepared_header_free(&h);
    return err->status;
}

void prepared_header_free(prepared_header *h)
{
    prepared_head_free(&h->head);
    cJSON_Delete(h->metadata);
    free(h->tensors);
    free(h->text);
    *h = (prepared_header){0};
}
