#include "prepared_head.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xq_status prepared_bad(const char *path, const char *field, error *err, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s", path, what);
    error_at(err, path, 0);
    return field ? error_field(err, field) : err->status;
}

char *prepared_digits(char *text, size_t size, const char *key)
{
    char pattern[64];
    size_t length = (size_t)snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
    char *found = memmem(text, size, pattern, length);
    return found && size - (size_t)(found - text) >= length + PREPARED_DIGITS ? found + length : NULL;
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* Returns a JSON number that is a whole number from 0 to 2^31 - 2, else -1. */
static int whole(const cJSON *item)
{
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return value >= 0 && value < INT32_MAX && value == (double)(int)value ? (int)value : -1;
}

/* ---------------------------------------------------------------- methods */

static const char *const spec_keys[] = {"spec", "plain_spec"};
static const char *const packing_keys[] = {"packing", "plain_packing"};

static xq_status read_packing(const char *path, const char *key, const char *text, prepared_method *m,
                              const char **weights, error *err)
{
    cJSON *packing = cJSON_Parse(text);
    const cJSON *layout = cJSON_GetObjectItemCaseSensitive(packing, "weights_layout"),
                *bytes = cJSON_GetObjectItemCaseSensitive(layout, "bytes");
    cJSON_AddItemToObject(m->entry, "packing", packing);
    *weights = text_of(packing, "weights");
    if (!*weights || !cJSON_IsNumber(bytes) || !(bytes->valuedouble >= 1) || bytes->valuedouble > 1e15)
        return prepared_bad(path, key, err, "__metadata__.%s has no \"weights\" or no \"weights_layout\"",
                            key);
    m->packed_bytes = (size_t)bytes->valuedouble;
    return XQ_OK;
}

static xq_status read_method(const char *path, const cJSON *metadata, prepared_head *h, error *err)
{
    int i = h->method_count;
    prepared_method *m = &h->methods[i];
    const char *packing = text_of(metadata, packing_keys[i]), *weights = NULL;
    error unusable = ERROR_INIT;
    m->spec = text_of(metadata, spec_keys[i]);
    m->entry = m->spec ? cJSON_Parse(m->spec) : NULL;
    h->method_count++;
    if (!m->entry || layer_shape_read(m->spec, &m->shape, &unusable) != XQ_OK)
        return prepared_bad(path, spec_keys[i], err, "__metadata__.%s is %s", spec_keys[i],
                            m->spec ? "no usable spec" : "missing");
    if (packing)
        read_packing(path, packing_keys[i], packing, m, &weights, err);
    if (err->status == XQ_OK && i > 0 && !weights != !h->weights)
        prepared_bad(path, packing_keys[i], err, "__metadata__ has only one of packing and plain_packing");
    h->weights = weights;
    return err->status;
}

static xq_status read_methods(const char *path, const cJSON *metadata, prepared_head *h, error *err)
{
    const char *base = text_of(metadata, "base_layer");
    cJSON *number = base ? cJSON_Parse(base) : NULL;
    if (base && (h->base_layer = whole(number)) < 0)
        prepared_bad(path, "base_layer", err, "__metadata__.base_layer is no layer of the model");
    cJSON_Delete(number);
    if (err->status == XQ_OK && read_method(path, metadata, h, err) == XQ_OK && base)
        read_method(path, metadata, h, err);
    return err->status;
}

/* ----------------------------------------------------------------- layers */

static xq_status read_numbers(const char *path, const cJSON *list, prepared_head *h, error *err)
{
    const cJSON *item;
    h->layers = malloc(sizeof *h->layers * ((size_t)cJSON_GetArraySize(list) + 1));
    if (!h->layers)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    cJSON_ArrayForEach(item, list)
    {
        int number = whole(item);
        if (number < 0 || (h->layer_count && number <= h->layers[h->layer_count - 1]))
            return prepared_bad(path, "layers", err, "__metadata__.layers has numbers that do not ascend");
        h->layers[h->layer_count++] = number;
    }
    if (h->layer_count == 0)
        return prepared_bad(path, "layers", err, "__metadata__.layers lists no layers");
    return XQ_OK;
}

static xq_status read_layers(const char *path, const cJSON *metadata, prepared_head *h, error *err)
{
    const char *text = text_of(metadata, "layers");
    cJSON *list = text ? cJSON_Parse(text) : NULL;
    if (!cJSON_IsArray(list))
        prepared_bad(path, "layers", err, "__metadata__.layers is %s", text ? "no list" : "missing");
    else
        read_numbers(path, list, h, err);
    cJSON_Delete(list);
    if (err->status != XQ_OK)
        return err->status;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(h->methods[0].entry, "model");
    int last = h->layers[h->layer_count - 1],
        all = whole(cJSON_GetObjectItemCaseSensitive(model, "num_hidden_layers"));
    h->model_layers = all > last ? all : last + 1;
    return XQ_OK;
}

/* ------------------------------------------------------------------- head */

xq_status prepared_head_read(const char *path, const cJSON *metadata, prepared_head *out, error *err)
{
    prepared_head h = {.store = text_of(metadata, "store")};
    tensor_type type;
    if (read_methods(path, metadata, &h, err) == XQ_OK)
        read_layers(path, metadata, &h, err);
    if (err->status == XQ_OK && h.store && (!tensor_type_size(h.store, &type) || type > TENSOR_BF16))
        prepared_bad(path, "store", err, "__metadata__.store is '%.40s'; valid: F32, F16, BF16", h.store);
    if (err->status == XQ_OK && !h.store && !h.weights)
        prepared_bad(path, "store", err, "__metadata__ has neither store nor packing");
    if (err->status == XQ_OK)
        *out = h;
    else
        prepared_head_free(&h);
    return err->status;
}

void prepared_head_free(prepared_head *h)
{
    for (int i = 0; i < h->method_count; i++)
        cJSON_Delete(h->methods[i].entry);
    free(h->layers);
    *h = (prepared_head){0};
}

const prepared_method *prepared_method_of(const prepared_head *h, int layer)
{
    return &h->methods[h->method_count == 2 && layer < h->base_layer];
}

/* ---------------------------------------------------------------- tensors */

static void add(prepared_tensor *out, int *count, int layer, int which, const char *what, tensor form)
{
    prepared_tensor *t = &out[(*count)++];
    *t = (prepared_tensor){.form = form,
                           .which = which,
                           .align = which == PREPARED_PACKED ? PREPARED_PACKED_ALIGN : PREPARED_ALIGN};
    t->form.bytes = tensor_count(&form) * tensor_type_size(form.type_name, &t->form.type);
    snprintf(t->name, sizeof t->name, "layers.%d.%s", layer, what);
    snprintf(t->key, sizeof t->key, "layers.%d.%s.xxh3", layer, what);
}

int prepared_tensors(const prepared_head *h, int layer, prepared_tensor out[PREPARED_MOST_TENSORS])
{
    const prepared_method *m = prepared_method_of(h, layer);
    layer_part parts[LAYER_MOST_PARTS];
    int count = 0, part_count = h->store ? layer_parts(&m->shape, parts) : 0;
    for (int i = 0; i < part_count; i++) {
        const layer_part *p = &parts[i];
        const char *type = p->keep_f32 ? "F32" : h->store;
        const tensor vector = {.type_name = type, .rank = 1, .shape = {p->cols}},
                     matrix = {.type_name = type, .rank = 2, .shape = {p->rows, p->cols}};
        add(out, &count, layer, i, p->name, p->is_vector ? vector : matrix);
    }
    const tensor packed = {.type_name = "U8", .rank = 1, .shape = {(int64_t)m->packed_bytes}},
                 lost = {.type_name = "F64", .rank = 1, .shape = {2}};
    if (m->packed_bytes)
        add(out, &count, layer, PREPARED_PACKED, "packed", packed);
    add(out, &count, layer, PREPARED_LOST, "lost", lost);
    return count;
}
