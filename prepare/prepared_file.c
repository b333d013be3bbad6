#include "prepared_file.h"

#include "packing.h"
#include "safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* A tensor of the file and its checksum. */
struct entry {
    const tensor *t;
    uint64_t hash;
};

struct prepared_file {
    char *path;
    mapping file;
    cJSON *json;           /* the header */
    const cJSON *metadata; /* the header's __metadata__ */
    prepared_head head;
    tensor *tensors; /* all tensors of the file, sorted by name */
    int tensor_count;
    struct entry (*entries)[PREPARED_MOST_TENSORS]; /* by the layer's index and prepared_tensor.which */
};

/* ----------------------------------------------------------------- header */

/* Refuses .xqw files, which xq wrote before prepared weights were safetensors files. */
static xq_status refuse_xqw(const prepared_file *f, error *err)
{
    if (f->file.size < 8 || memcmp(f->file.data, "XQWEIGHT", 8) != 0)
        return XQ_OK;
    return prepared_bad(f->path, NULL, err,
                        "it is an .xqw file, which this xq does not read; prepare the model again: `xq "
                        "prepare MODEL_DIR --out "
                        "FILE.safetensors`");
}

static xq_status check_version(const prepared_file *f, error *err)
{
    const char *version = prepared_file_metadata(f, "xq_prepared");
    if (!version)
        return prepared_bad(f->path, "xq_prepared", err,
                            "xq did not prepare this safetensors file (its __metadata__ has no "
                            "xq_prepared); valid: files that `xq prepare` writes");
    if (strcmp(version, PREPARED_VERSION) != 0)
        return prepared_bad(f->path, "xq_prepared", err,
                            "__metadata__.xq_prepared is version %.20s, and this xq reads version %s; run "
                            "`xq prepare` again",
                            version, PREPARED_VERSION);
    return XQ_OK;
}

/* Reads the 16 digits of a key; false if there are none. */
static bool read_digits(const prepared_file *f, const char *key, uint64_t *hash)
{
    const char *text = prepared_file_metadata(f, key);
    if (!text || strlen(text) != PREPARED_DIGITS || strspn(text, "0123456789abcdef") != PREPARED_DIGITS)
        return false;
    *hash = strtoull(text, NULL, 16);
    return true;
}

/* Checks the header, which is the first `size` bytes of the file. */
static xq_status check_header(const prepared_file *f, size_t size, error *err)
{
    uint64_t expected = 0, found = 0;
    char *text = malloc(size);
    if (!text)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", f->path);
    char *digits = prepared_digits(memcpy(text, f->file.data, size), size, PREPARED_CHECKSUM);
    if (digits) {
        memset(digits, '0', PREPARED_DIGITS);
        found = XXH3_64bits(text, size);
    }
    free(text);
    if (!digits || !read_digits(f, PREPARED_CHECKSUM, &expected))
        prepared_bad(f->path, PREPARED_CHECKSUM, err,
                     "damaged, or written by another program: there is no checksum in __metadata__.%s",
                     PREPARED_CHECKSUM);
    else if (expected == 0)
        prepared_bad(f->path, NULL, err, "unfinished; run the same `xq prepare` command to complete it");
    else if (found != expected)
        prepared_bad(f->path, PREPARED_CHECKSUM, err,
                     "damaged: the checksum in __metadata__.%s does not match the header",
                     PREPARED_CHECKSUM);
    return err->status;
}

/* ---------------------------------------------------------------- tensors */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

static xq_status find_entry(const prepared_file *f, const prepared_tensor *needed, struct entry *out,
                            error *err)
{
    const char *key = needed->key;
    const tensor wanted = {.name = needed->name},
                 *t = bsearch(&wanted, f->tensors, (size_t)f->tensor_count, sizeof wanted, by_name);
    if (!t)
        return prepared_bad(f->path, needed->name, err, "there is no tensor %s, which its spec needs",
                            needed->name);
    if (strcmp(t->type_name, needed->form.type_name) != 0)
        return prepared_bad(f->path, t->name, err, "tensor %s has type %.20s, needs %s", t->name,
                            t->type_name, needed->form.type_name);
    if (tensor_expect_shape(t, needed->form.rank, needed->form.shape, err) != XQ_OK)
        return err->status;
    size_t at = (size_t)((const uint8_t *)t->data - f->file.data);
    if (at % needed->align)
        return prepared_bad(f->path, t->name, err,
                            "tensor %s begins at byte %zu of the file, needs a multiple of %zu", t->name,
                            at, needed->align);
    if (!read_digits(f, key, &out->hash))
        return prepared_bad(f->path, key, err, "__metadata__.%s is no checksum of 16 digits", key);
    out->t = t;
    return XQ_OK;
}

/* Finds all tensors of all layers. Any other tensor, except padding, is refused, because it would be
 * ignored. */
static xq_status find_entries(prepared_file *f, bool *used, error *err)
{
    for (int i = 0; i < f->head.layer_count; i++) {
        prepared_tensor needed[PREPARED_MOST_TENSORS];
        int count = prepared_tensors(&f->head, f->head.layers[i], needed);
        for (int j = 0; j < count; j++) {
            struct entry *e = &f->entries[i][needed[j].which];
            if (find_entry(f, &needed[j], e, err) != XQ_OK)
                return err->status;
            used[e->t - f->tensors] = true;
        }
    }
    for (int i = 0; i < f->tensor_count; i++) {
        const char *name = f->tensors[i].name;
        if (!used[i] && strncmp(name, PREPARED_PADDING, strlen(PREPARED_PADDING)) != 0)
            return prepared_bad(f->path, name, err, "the spec in __metadata__ does not use tensor %.80s",
                                name);
    }
    return XQ_OK;
}

static xq_status read_layers(prepared_file *f, error *err)
{
    bool *used = calloc((size_t)f->tensor_count + 1, sizeof *used);
    f->entries = calloc((size_t)f->head.layer_count, sizeof *f->entries);
    if (used && f->entries)
        find_entries(f, used, err);
    else
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", f->path);
    free(used);
    return err->status;
}

/* ---------------------------------------------------------------- opening */

static xq_status open_file(prepared_file *f, error *err)
{
    uint64_t data_at = 0;
    if (mapping_open(f->path, &f->file, err) != XQ_OK || refuse_xqw(f, err) != XQ_OK ||
        safetensors_read_header(f->path, &f->file, &f->json, &data_at, err) != XQ_OK)
        return err->status;
    f->metadata = cJSON_GetObjectItemCaseSensitive(f->json, "__metadata__");
    if (check_version(f, err) == XQ_OK && check_header(f, (size_t)data_at, err) == XQ_OK &&
        safetensors_read_tensors(f->path, &f->file, f->json, data_at, &f->tensors, &f->tensor_count, err) ==
            XQ_OK &&
        prepared_head_read(f->path, f->metadata, &f->head, err) == XQ_OK)
        read_layers(f, err);
    return err->status;
}

xq_status prepared_file_open(const char *path, prepared_file **out, error *err)
{
    prepared_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path))) {
        free(f);
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    }
    if (open_file(f, err) == XQ_OK)
        *out = f;
    else
        prepared_file_close(f);
    return err->status;
}

void prepared_file_close(prepared_file *f)
{
    if (!f)
        return;
    prepared_head_free(&f->head);
    cJSON_Delete(f->json);
    mapping_close(&f->file);
    free(f->tensors);
    free(f->entries);
    free(f->path);
    free(f);
}

/* -------------------------------------------------------------- questions */

const prepared_head *prepared_file_head(const prepared_file *f)
{
    return &f->head;
}

const char *prepared_file_metadata(const prepared_file *f, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(f->metadata, key));
}

int prepared_file_place(const prepared_file *f, int layer, error *err)
{
    int count = f->head.layer_count;
    for (int i = 0; i < count; i++)
        if (f->head.layers[i] == layer)
            return i;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "%s: the file has no layer %d; it has %d layer%s of %d (`xq prepare --layers`)", f->path,
              layer, count, count == 1 ? "" : "s", f->head.model_layers);
    error_field(err, "layer");
    return -1;
}

xq_status prepared_file_expect(const prepared_file *f, int layer, const layer_shape *needed, error *err)
{
    if (prepared_file_place(f, layer, err) < 0)
        return err->status;
    const layer_shape *s = &prepared_method_of(&f->head, layer)->shape, *n = needed;
    const struct {
        const char *name;
        int found, needed;
    } sizes[] = {
        {"hidden_size", s->hidden_size, n->hidden_size},
        {"num_attention_heads", s->heads, n->heads},
        {"num_key_value_heads", s->kv_heads, n->kv_heads},
        {"head_dim", s->head_dim, n->head_dim},
        {"groups_k", s->groups_k, n->groups_k},
        {"groups_v", s->groups_v, n->groups_v},
        {"rank_k", s->rank_k, n->rank_k},
        {"rank_v", s->rank_v, n->rank_v},
        {"rotation", s->rotation, n->rotation},
        {"feedback", s->feedback, n->feedback},
        {"attention_bias", s->bias, n->bias},
        {"qk_norm factors", s->k_norm, n->k_norm},
        {"attention_sinks", s->sinks, n->sinks},
    };
    if (s->method != n->method)
        return prepared_bad(f->path, NULL, err,
                            "layer %d is prepared for method %s, not %s; run `xq prepare` for it", layer,
                            layer_method_name(s->method), layer_method_name(n->method));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].found != sizes[i].needed)
            return prepared_bad(f->path, NULL, err,
                                "layer %d is prepared for %s %d, not %d; run `xq prepare` for it", layer,
                                sizes[i].name, sizes[i].found, sizes[i].needed);
    return XQ_OK;
}

/* ---------------------------------------------------------------- weights */

static xq_status verify(const prepared_file *f, const struct entry *e, error *err)
{
    if (XXH3_64bits(e->t->data, e->t->bytes) == e->hash)
        return XQ_OK;
    return prepared_bad(f->path, e->t->name, err, "damaged: the checksum of tensor %s does not match",
                        e->t->name);
}

xq_status prepared_file_layer(const prepared_file *f, int layer, layer_weights *out, error *err)
{
    int place = prepared_file_place(f, layer, err);
    layer_part parts[LAYER_MOST_PARTS];
    layer_weights all = {0};
    if (place < 0)
        return err->status;
    if (!f->head.store)
        return error_set(
            err, XQ_ERROR_ARGUMENT, "argument",
            "%s: the file has only packed weights, no matrices (`xq prepare --store` adds them)", f->path);
    int count = layer_parts(&prepared_method_of(&f->head, layer)->shape, parts);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        if (verify(f, &f->entries[place][i], err) == XQ_OK)
            tensor_to_floats(f->entries[place][i].t, 1, layer_member(&all, &parts[i]), err);
    if (err->status == XQ_OK)
        *out = all;
    else
        layer_weights_free(&all);
    return err->status;
}

xq_status prepared_file_packed(const prepared_file *f, int layer, const char *completed_json, bool check,
                               const void **data, size_t *bytes, error *err)
{
    int place = prepared_file_place(f, layer, err);
    if (place < 0)
        return err->status;
    if (!f->head.weights)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "%s: the file has no packed weights (`xq prepare --pack` adds them)", f->path);
    const struct entry *packed = &f->entries[place][PREPARED_PACKED];
    if (packing_expect(f->path, prepared_method_of(&f->head, layer)->entry, completed_json, err) != XQ_OK ||
        (check && verify(f, packed, err) != XQ_OK))
        return err->status;
    *data = packed->t->data;
    *bytes = packed->t->bytes;
    return XQ_OK;
}

xq_status prepared_file_tensor(const prepared_file *f, int place, int which, const tensor **out,
                               uint64_t *offset, error *err)
{
    const struct entry *e = &f->entries[place][which];
    if (verify(f, e, err) == XQ_OK) {
        *out = e->t;
        *offset = (uint64_t)((const uint8_t *)e->t->data - f->file.data);
    }
    return err->status;
}
